"""Rows, gains and checks of the tails of real compressors, and a run at toy size."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import special

from benchmarks import csi_tail as benchmark
from reports.estimates import Estimate, mean_estimate


@pytest.mark.unit
def test_gain() -> None:
    """Ten runs that scatter by 30 %, 4,000 evaluations each of a chain of 10 steps."""
    runs = 1e-3 * (1 + 0.3 * np.array([-1, 1] * 5) / math.sqrt(10 / 9))
    rare = mean_estimate(runs)
    assert rare.std_error == pytest.approx(3e-4 / math.sqrt(10))
    found = benchmark.gain_of(rare, 40_000, 10)
    assert found is not None
    value, (low, high) = found
    assert value == pytest.approx(1e-3 * (1 - 1e-3) / 4000 / (3e-4) ** 2 * 10)
    assert low < value < high
    wild = mean_estimate(1e-3 * np.array([0, 0, 0, 0, 5.0]))
    assert benchmark.gain_of(wild, 40_000, 10) is None
    nothing = Estimate(value=0.0, interval=(0.0, 1e-3), n=5, method="runs")
    assert benchmark.gain_of(nothing, 40_000, 10) is None


@pytest.mark.statistical
def test_the_interval_of_the_gain_covers() -> None:
    """Gaussian runs, five a gain: 95 % of intervals hold it, in binomial bounds at 1e-6.

    The mutant takes the degrees of freedom of ten runs.
    """
    rng, n, p, held, mutant = np.random.default_rng(0), 2000, 1e-3, 0, 0
    narrow = [special.chdtri(9, 1 - q) / 9 for q in (0.025, 0.975)]
    true = p * (1 - p) / (40_000 / 10) / ((0.2 * p) ** 2 / 5)
    for _ in range(n):
        found = benchmark.gain_of(mean_estimate(p * (1 + 0.2 * rng.normal(size=5))), 40_000, 10)
        assert found is not None
        held += found[1][0] <= true <= found[1][1]
        mutant += found[0] * narrow[0] <= true <= found[0] * narrow[1]
    bound = 4.9 * math.sqrt(0.95 * 0.05 / n) + 0.005  # P itself scatters
    assert abs(held / n - 0.95) < bound < abs(mutant / n - 0.95)


@pytest.mark.unit
def test_fold() -> None:
    row = {"subset": 0.02, "subset_interval": (0.015, 0.025), "users": 0.01,
           "users_interval": (0.008, 0.0125)}  # fmt: skip
    found = benchmark.fold_of(row)
    assert found is not None
    assert found[0] == pytest.approx(2.0)
    assert found[1] == pytest.approx((1.2, 0.025 / 0.008))
    turned = benchmark.fold_of({**row, "subset": 0.005, "subset_interval": (0.004, 0.02)})
    assert turned is not None
    assert turned[0] == pytest.approx(2.0)
    assert turned[1] == pytest.approx((1.0, 0.0125 / 0.004))
    assert benchmark.fold_of({**row, "users": 0.0, "users_interval": (0.0, 0.01)}) is None


@pytest.mark.unit
def test_a_compressor_without_a_gain_counts_as_none() -> None:
    """Else the median would be over those that did well."""
    gains: list[tuple[float | None, tuple[float, float] | None]] = [
        (9.0, (1.0, 30.0)),
        (3.0, (0.5, 9.0)),
        (None, None),
    ]
    rows = [
        {"steps": 30, "p_train": 1e-3, "gain": gain, "gain_interval": span, "compressor": "c"}
        for gain, span in gains
    ]
    (found,) = benchmark.checks_of(rows, 30)
    assert (found.value, found.interval) == (3.0, (0.5, 9.0))
    assert found.verdict == "cannot tell"
    (none,) = benchmark.checks_of([], 30)
    assert none.value is None


@pytest.mark.unit
def test_thresholds() -> None:
    nmse = np.arange(1, 501) / 500
    found = benchmark.thresholds_of(nmse, 1e-3)
    assert list(found) == pytest.approx([0.1, 0.01])  # half a user is no threshold
    assert [float((nmse > tau).mean()) for tau in found.values()] == pytest.approx([0.1, 0.01])
    assert benchmark.probabilities(1e-4) == pytest.approx([0.1, 0.01, 1e-3, 1e-4])


@pytest.mark.end_to_end
def test_a_toy_run_and_what_it_keeps(
    start: Callable[..., dict[str, Any]], toy_files: dict[str, Path], tmp_path: Path
) -> None:
    words = ["--compressors", "klt-16", "--base", str(toy_files["base"]), "--particles", "20",
             "--runs", "2", "--steps", "2", "3", "--deepest", "0.01", "--draws", "30",
             "--state", str(tmp_path / "state"), "--out",
             str(tmp_path / "results" / "csi_tail.json")]  # fmt: skip
    record = start(benchmark.main, "csi_tail", *words)
    rows = record["rows"]
    assert [(r["compressor"], r["steps"], r["data"]) for r in rows[::1]] == [
        (name, steps, "val") for steps in (2, 3) for name in ("klt-16", "klt-4")
    ]
    for row in rows:
        assert (row["p_train"], row["estimates"]["users"]["n"]) == (0.1, 60)
        assert row["counted_evaluations"] == 30 * row["steps"]
        assert row["subset_evaluations"] >= 2 * 20 * row["steps"]
        assert row["users_interval"][0] <= row["users"] <= row["users_interval"][1]
        assert row["subset_seconds"] > 0
        assert row["trusted"] == (row["estimates"]["subset"]["status"] == "ok")
    assert [c["verdict"] for c in record["checks"]] == ["cannot tell"]
    blocks = sorted((tmp_path / "state").rglob("*.npz"))
    stamps = [path.stat().st_mtime_ns for path in blocks]
    again = start(benchmark.main, "csi_tail", *words)
    assert again["rows"] == rows
    assert [path.stat().st_mtime_ns for path in blocks] == stamps
