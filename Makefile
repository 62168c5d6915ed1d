# Everything runs in .venv, made once: later calls find the stamp and ask no installer and no network.
PYTHON ?= python3
PYTEST_FLAGS ?=
BIN := .venv/bin
PACKAGES := channels compressors reports csi_audit

.PHONY: demo test lint clean

demo: .venv/.installed
	$(BIN)/csi-audit demo

# One thread a worker: these small networks run no faster on two.
test: .venv/.installed
	OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 $(PYTEST_FLAGS)

lint: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# Leaves .venv and runs/ alone.
clean:
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(PACKAGES) benchmarks examples tests -name __pycache__ -type d -prune -exec rm -rf {} +

.venv/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("csi-audit needs Python 3.11 or newer, for example: make PYTHON=python3.12 demo")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install torch==2.13.0
	$(BIN)/python -m pip install --editable '.[dev]'
	touch $@
