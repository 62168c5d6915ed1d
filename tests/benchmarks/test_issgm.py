"""The benchmark of the paper's sampler: its two reference methods, and a run at toy size.

L ~ Beta(1/2, 1) under p and l = L^s: E_q[L] = E[L^(s+1)] / E[L^s] = (1/2 + s) / (3/2 + s).
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from benchmarks import issgm
from benchmarks.issgm import MUTANT_POWER, _halves, _Method, _z
from channels.support import CsiAuditError
from csi_audit.base import load_base
from csi_audit.losses import NmseLoss
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import BaseSampler
from reports.estimates import Estimate

ALPHA = 1e-6


class FirstNumber:
    """L(x) = x_0: a loss whose law is that of the samples."""

    name, unit = "first", "1"
    worse: Literal["high", "low"] = "high"

    def __call__(self, x: Tensor) -> Tensor:
        return x[:, 0]


def method(name: str, n: int, seed: int, *, largest: float = 1.0) -> _Method:
    values = stats.beta.rvs(0.5, 1.0, size=n, random_state=np.random.default_rng(seed))
    samples = WeightedSamples(
        x=torch.from_numpy(largest * values)[:, None],
        log_w=torch.zeros(n, dtype=torch.float64),
        law="base",
        chain="exact",
    )
    return _Method(name, samples, cast(NmseLoss, FirstNumber()), seed)


def truth(power: float) -> float:
    return (0.5 + power) / (1.5 + power)


SHIFT = truth(1.0) - truth(MUTANT_POWER)


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["rejection", "reweighting"])
def test_methods_hit_the_truth_and_the_mutant_does_not(name: str) -> None:
    replicates = 100
    methods = [method(name, 20_000, seed) for seed in range(replicates)]

    def mean(power: float) -> tuple[float, float]:
        values = [each.estimate(power).value for each in methods]
        t = stats.t.ppf(1 - ALPHA / 2, replicates - 1)
        return float(np.mean(values)), float(t * np.std(values, ddof=1) / replicates**0.5)

    value, tolerance = mean(1.0)
    assert tolerance <= SHIFT / 3, "too few samples"
    assert abs(value - truth(1.0)) <= tolerance
    wrong, _ = mean(MUTANT_POWER)
    assert abs(wrong - truth(1.0)) > tolerance
    assert abs(wrong - truth(MUTANT_POWER)) <= 2 * tolerance


@pytest.mark.statistical
@pytest.mark.parametrize("name", ["rejection", "reweighting"])
def test_shift_of_the_mutant_and_its_error(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The bootstrap's standard error is that of replicates; the shift is the known one."""
    monkeypatch.setattr(issgm, "BOOTSTRAP", 60)
    replicates = 150
    found = np.array([method(name, 2000, seed).mutant_shift() for seed in range(replicates)])
    shifts, errors = found.T
    tolerance = stats.t.ppf(1 - ALPHA / 2, replicates - 1) * shifts.std(ddof=1) / replicates**0.5
    assert tolerance <= SHIFT / 3, "too few samples"
    assert abs(shifts.mean() - SHIFT) <= tolerance
    # Variance ratio of 150 replicates by chi^2; mutants: half and twice the error.
    low, high = stats.chi2.ppf([ALPHA / 2, 1 - ALPHA / 2], replicates - 1) / (replicates - 1)
    ratio = shifts.var(ddof=1) / np.mean(errors**2)
    assert 0.9 * low < ratio < 1.1 * high
    assert not 0.9 * low < 4 * ratio < 1.1 * high
    assert not 0.9 * low < ratio / 4 < 1.1 * high


@pytest.mark.unit
@pytest.mark.parametrize(("name", "tolerance"), [("reweighting", 1e-9), ("rejection", 0.02)])
def test_shift_is_the_difference_of_the_estimates(name: str, tolerance: float) -> None:
    """Of the same samples; rejection averages passes, so one pass only comes near."""
    made = method(name, 3000, 1)
    both = made.estimate(1.0).value - made.estimate(MUTANT_POWER).value
    shift, error = made.mutant_shift()
    assert shift == pytest.approx(both, abs=tolerance)
    assert error > 0
    assert made.mutant_shift() == (shift, error)


@pytest.mark.statistical
def test_many_samples_tell_the_mutant_apart() -> None:
    """20,000 samples put the shift of this law about 12 standard errors away from none."""
    for name in ("rejection", "reweighting"):
        shift, error = method(name, 20_000, 0).mutant_shift()
        assert shift / error > 4


@pytest.mark.unit
def test_losses_above_the_bound_are_refused() -> None:
    with pytest.raises(CsiAuditError, match="log_bound must be at least the largest log l"):
        method("rejection", 3000, 1, largest=1.5).estimate(1.0)


@pytest.mark.unit
def test_halves_share_nothing() -> None:
    samples = method("reweighting", 7, 0).samples
    first, second = _halves(samples)
    assert (len(first), len(second)) == (3, 4)
    assert torch.equal(torch.cat([first.x, second.x]), samples.x)


@pytest.mark.unit
def test_z_is_the_difference_in_joint_errors() -> None:
    a, b = (Estimate(value=v, std_error=e, n=9, method="m") for v, e in ((3.0, 0.3), (1.0, 0.4)))
    assert _z(a, b) == pytest.approx(4.0)
    assert _z(b, a) == pytest.approx(-4.0)


# --- A run ----------------------------------------------------------------------------------------


@pytest.fixture
def words(toy_files: dict[str, Path], tmp_path: Path) -> list[str]:
    sizes = ["--samples", "6", "--steps", "4", "--base-samples", "150", "--ode-steps", "3"]
    files = ["--base", str(toy_files["base"]), "--state", str(tmp_path / "state")]
    return ["--compressors", "klt-16", *sizes, "--block", "40", *files]


@pytest.mark.end_to_end
def test_toy_run(
    start: Callable[..., dict[str, Any]],
    words: list[str],
    toy_files: dict[str, Path],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = start(issgm.main, "issgm", *words)
    rows = {row["method"]: row for row in found["rows"]}
    assert list(rows) == [
        "E_p[L], base samples",
        "rejection",
        "reweighting",
        "issgm",
        "rejection, mutant l^0.95",
        "reweighting, mutant l^0.95",
    ]
    assert {row["compressor"] for row in rows.values()} == {"klt-16"}
    assert {row["base_sha256"] for row in rows.values()} == {load_base(toy_files["base"]).sha256}
    for row in rows.values():
        estimate = Estimate.from_dict(row["estimate"])
        assert (estimate.value, estimate.n) == (row["e_q"], row["n"])
    assert (rows["issgm"]["steps"], rows["issgm"]["n"]) == (4, 6)
    assert rows["issgm"]["evaluations"] == 6 * 9
    assert (rows["reweighting"]["steps"], rows["reweighting"]["n"]) == (3, 75)
    assert 0 < rows["rejection"]["n"] < 75
    assert rows["reweighting"]["e_q"] > rows["E_p[L], base samples"]["e_q"]
    assert len(found["checks"]) == 3
    assert "klt-16: issgm reaches" in capsys.readouterr().out
    # Blocks are kept: a second call draws nothing and says the same.
    monkeypatch.setattr(BaseSampler, "__call__", None)
    again = start(issgm.main, "issgm", *words)
    assert again["rows"] == found["rows"]


@pytest.mark.end_to_end
def test_another_seed_has_blocks_of_its_own(
    start: Callable[..., dict[str, Any]], words: list[str]
) -> None:
    words[words.index("--base-samples") + 1] = "60"
    first, second = (start(issgm.main, "issgm", *words, "--seed", seed) for seed in ("0", "1"))
    assert first["rows"][0]["e_q"] != second["rows"][0]["e_q"]
