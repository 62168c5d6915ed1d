"""Measured comparisons, one script a question: `python -m benchmarks.NAME`."""
