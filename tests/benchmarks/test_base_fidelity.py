"""The benchmark of the base model, at toy size."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import base_fidelity
from benchmarks.base_rows import ks_interval
from benchmarks.harness import parse_arguments
from channels import FEATURES
from csi_audit import base_check
from csi_audit.base import load_base
from reports.estimates import ks_distance, ks_floor

end_to_end = pytest.mark.end_to_end
SIZES = ["--samples", "60", "--doubled", "20", "--steps", "3", "--seeds", "2"]
MORE = ["--components", "2", "--rank", "2", "--train-users", "50", "--compressors", "klt-16"]


@pytest.fixture
def run(
    start: Callable[..., dict[str, Any]], toy_files: dict[str, Path], tmp_path: Path
) -> Callable[..., dict[str, Any]]:
    def made(*more: str) -> dict[str, Any]:
        state = ["--state", str(tmp_path / "state"), "--base", str(toy_files["base"])]
        return start(base_fidelity.main, "base_fidelity", *SIZES, *MORE, *state, *more)

    return made


@end_to_end
def test_every_law_is_measured_alike_and_nothing_twice(
    run: Callable[..., dict[str, Any]], toy_files: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = run()
    rows = {(row["quantity"], row["figure"]): row for row in found["rows"]}
    ks = [quantity for quantity, figure in rows if figure == "KS"]
    assert len(ks) == 1 + len(FEATURES)
    floor = ks_floor(60, 60)
    for quantity in ks:
        row = rows[quantity, "KS"]
        assert (row["perfect"], row["perfect_95"]) == (floor.mean, floor.upper)
        assert all(0 < row[law] <= 1 for law in ("base", "gaussian", "mixture"))
        assert row["gaussian_over_base"] == pytest.approx(row["gaussian"] / row["base"])
        assert row["limit"] == (0.03 if quantity.startswith("NMSE") else 0.04)
    mine = {figure for quantity, figure in rows if quantity == "NMSE of klt-16"}
    assert {"tail ratio at 1 %", "W1 [dB]", "mean on training users [dB]"} <= mine
    assert {"KS moved by twice the steps", "spread of the mean over seeds [dB]"} <= mine
    auc = rows["classifier", "AUC"]
    assert auc["gaussian"] > auc["base"] - 0.3
    assert {("raw power", "median"), ("features", "coverage"), ("features", "density"),
            ("distance to the nearest training user", "smallest")} <= rows.keys()  # fmt: skip
    ids = [check["id"] for check in found["checks"]]
    assert ids[0] == "KS NMSE of klt-16"
    assert ids[-2:] == [
        "classifier: AUC of base samples",
        "classifier: AUC of the Gaussian of the same covariance",
    ]
    verdicts = {check["id"]: check["verdict"] for check in found["checks"]}
    # At 60 samples a perfect model would break the limit itself: nothing can pass.
    assert {v for name, v in verdicts.items() if name.startswith("KS")} <= {"short", "cannot tell"}
    assert any("tail ratio of NMSE of klt-16 at 1 % in [0.8, 1.25]" in name for name in ids)
    sizes = found["sizes"]
    assert (sizes["base_samples"], sizes["real_users"], sizes["train_users"]) == (60, 60, 50)
    assert (sizes["doubled"], sizes["evaluations"]) == (30, 60 * 3 + 30 * 6)  # a whole stream
    assert sizes["base_sha256"] == load_base(toy_files["base"]).sha256

    def again(*args: object, **kwargs: object) -> None:
        raise AssertionError("drawn or fitted twice")

    monkeypatch.setattr(base_check, "BaseSampler", lambda *a, **k: again)
    monkeypatch.setattr(base_fidelity, "side_of", again)
    monkeypatch.setattr(base_fidelity, "fit_mixture", again)
    resumed = run()
    assert resumed["rows"] == found["rows"]


@pytest.mark.unit
def test_sizes_grow_on_the_test_split(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert base_fidelity.SIZES["test"][0] == 20_000
    words = ["base_fidelity.py", "--data-dir", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", words)
    options = parse_arguments("base_fidelity", add_own=base_fidelity._add_own)
    config = base_fidelity.settings_of(options)
    assert (config.n_base, config.n_double, config.steps) == (2000, 250, 30)
    assert config.train == str(tmp_path / "umi_train.h5")


@pytest.mark.statistical
def test_the_interval_of_a_distance_holds_that_of_the_laws() -> None:
    """Exp(1) shifted by log 1.25: the true distance is 0.2."""
    random, runs, hits = np.random.default_rng(0), 60, 0
    for i in range(runs):
        a, b = random.exponential(size=400) + np.log(1.25), random.exponential(size=300)
        lo, hi = ks_interval(a, b, i)
        assert lo <= ks_distance(a, b) <= hi
        hits += lo <= 0.2 <= hi
    assert hits >= 48  # 0.8 of 60, at 1e-4 below a coverage of 0.93
