"""Importance sampling against a Gaussian p with l = exp(a x), where everything is known.

q = N(a, 1), E_p[l^s] = exp(a^2 s^2 / 2), E_q[l] = exp(3 a^2 / 2), CV(l)^2 = exp(a^2) - 1.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports import (
    Estimate,
    effective_sample_size,
    mean_estimate,
    normalised_weights,
    tilted_mean,
    weighted_mean,
    weighted_proportion,
)

unit = pytest.mark.unit
statistical = pytest.mark.statistical
PROPERTY = pytest.mark.property
ALPHA = 1e-6
Array = npt.NDArray[np.float64]
A = 0.7


def gaussian(replicates: int, n: int, seed: int) -> Array:
    """Base samples [replicates, n]."""
    return np.random.default_rng(seed).normal(size=(replicates, n))


def gate(values: list[float], truth: float, shift: float) -> tuple[float, float]:
    """Error of the mean and its tolerance t SE, after the precision gate of STYLE.md."""
    r = len(values)
    se = float(np.std(values, ddof=1)) / math.sqrt(r)
    tolerance = float(stats.t.ppf(1 - ALPHA / 2, r - 1)) * se
    assert tolerance <= min(shift / 3, 0.2 * abs(truth)), "the test is too coarse: more samples"
    return abs(float(np.mean(values)) - truth), tolerance


# --- Weights --------------------------------------------------------------------------------------

log_weights = st.lists(
    st.one_of(st.floats(-800, 800), st.just(-math.inf)), min_size=1, max_size=40
).filter(lambda values: max(values) > -math.inf)


@PROPERTY
@given(log_w=log_weights, shift=st.floats(-5000, 5000))
def test_effective_sample_size_lies_between_one_and_n(log_w: list[float], shift: float) -> None:
    ess = effective_sample_size(log_w)
    assert 1 - 1e-9 <= ess <= len(log_w) * (1 + 1e-9)
    moved = effective_sample_size(np.array(log_w) + shift)
    assert moved == pytest.approx(ess, rel=1e-6)
    assert normalised_weights(log_w).sum() == pytest.approx(1)


@PROPERTY
@given(log_w=log_weights, seed=st.integers(0, 1000))
def test_weighted_mean_ignores_scale_and_order(log_w: list[float], seed: int) -> None:
    rng = np.random.default_rng(seed)
    lw, x = np.array(log_w), rng.normal(size=len(log_w))
    order = rng.permutation(len(x))
    found, again = weighted_mean(x, lw), weighted_mean(x[order], lw[order] + 1e3)
    assert again.value == pytest.approx(found.value, rel=1e-6, abs=1e-9)


@unit
@pytest.mark.parametrize(
    ("log_w", "message"),
    [
        ([0.0, math.nan], "log_w must be finite or -inf; got nan at index 1"),
        ([math.inf, 0.0], "log_w must be finite or -inf; got inf at index 0"),
        ([-math.inf, -math.inf], "log_w must not be -inf everywhere"),
        ([], "log_w must be a non-empty vector"),
    ],
)
def test_bad_weights_raise(log_w: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        weighted_mean([1.0, 2.0], log_w)


@unit
def test_minus_infinity_is_a_weight_of_zero() -> None:
    found = weighted_mean([1.0, 2.0, 4.0], [0.0, -math.inf, 0.0])
    assert found.value == 2.5
    assert found.ess == pytest.approx(2)


@unit
def test_equal_weights_are_the_plain_mean() -> None:
    x = [1.0, 2.0, 4.0, 9.0]
    found, plain = weighted_mean(x, [-1000.0] * 4), mean_estimate(x)
    assert found.value == pytest.approx(plain.value)
    assert found.std_error == pytest.approx(plain.std_error)
    assert found.interval == pytest.approx(plain.interval)


@unit
def test_one_weight_alone_has_no_interval() -> None:
    found = weighted_mean([1.0, 2.0], [0.0, -math.inf])
    assert (found.value, found.interval) == (1.0, None)
    assert found.status == "no spread among the weighted values"
    with pytest.raises(ValueError, match="values and log_w must have one length; got 3 and 2"):
        weighted_mean([1.0, 2.0, 3.0], [0.0, 0.0])


@unit
def test_uneven_weights_are_named() -> None:
    found = weighted_proportion(np.arange(100) < 10, np.log([11.0] + [1.0] * 99))
    cv2 = 100 * (11**2 + 99) / (11 + 99) ** 2 - 1
    assert cv2 == pytest.approx(0.818, abs=1e-3)
    assert found.status == "ok"
    found = weighted_proportion(np.arange(100) < 10, np.log([101.0] + [1.0] * 99))
    cv2 = 100 * (101**2 + 99) / 200**2 - 1  # 24.75
    text = f"weights too uneven (CV^2 = {cv2:.1f}, limit 2): interval may be too short"
    assert found.status == text
    assert weighted_proportion([True, False], [0.0, 0.0]).status == "ok"


@unit
def test_weighted_proportion_without_hits_is_bounded_by_its_sample_size() -> None:
    even = weighted_proportion([False] * 50, np.zeros(50))
    assert even.interval == pytest.approx((0.0, 1 - 0.025 ** (1 / 50)))
    assert even.status == "none seen: upper bound only"
    uneven = weighted_proportion([False] * 50, np.linspace(0, 1, 50))
    assert uneven.interval is not None
    assert uneven.interval[1] > even.interval[1]  # type: ignore[index]


# --- The tilted mean ------------------------------------------------------------------------------


@unit
def test_tilted_mean_is_the_ratio_of_moments() -> None:
    rng = np.random.default_rng(0)
    weight = rng.gamma(2.0, 1e-160, size=500)  # squares underflow in float64
    found = tilted_mean(weight)
    scaled = weight * 1e160
    cv2 = float(scaled.var() / scaled.mean() ** 2)
    assert found.value == pytest.approx(np.mean(scaled**2) / np.mean(scaled) * 1e-160)
    assert found.ess == pytest.approx(500 / (1 + cv2))
    assert found.status == "ok"
    assert tilted_mean([0.0, 0.0, 1.0, 0.0]).status.startswith("no spread")
    heavy = tilted_mean(np.exp(1.3 * rng.normal(size=4000)))
    assert heavy.status.startswith("weights too uneven (CV^2 = ")


@unit
def test_tilted_mean_refuses_decibels() -> None:
    with pytest.raises(ValueError, match=r"weight must be >= 0; got -3.0. Is this a loss in dB\?"):
        tilted_mean([1.0, -3.0])
    with pytest.raises(ValueError, match="log_w must not be -inf everywhere"):
        tilted_mean([0.0, 0.0])


def _power(x: Array) -> float:
    """Mutant: the weight's exponent is 0.95."""
    return weighted_mean(np.exp(A * x), 0.95 * A * x).value


def _dropped(x: Array) -> float:
    """Mutant: the weights are forgotten."""
    return weighted_mean(np.exp(A * x), np.zeros_like(x)).value


@statistical
def test_tilted_mean_hits_the_truth_and_mutants_do_not() -> None:
    truth = math.exp(1.5 * A**2)
    shift = truth - math.exp(1.45 * A**2)  # what the exponent 0.95 does to E_q[l]
    samples = gaussian(replicates=200, n=10_000, seed=1)
    error, tolerance = gate([tilted_mean(np.exp(A * x)).value for x in samples], truth, shift)
    assert error <= tolerance
    mutants: list[Callable[[Array], float]] = [_power, _dropped]
    for mutant in mutants:
        assert abs(np.mean([mutant(x) for x in samples]) - truth) > tolerance


def coverage(estimates: list[Estimate], truth: float) -> int:
    """How many intervals hold the truth."""
    pairs = [estimate.interval for estimate in estimates if estimate.interval is not None]
    return sum(lo <= truth <= hi for lo, hi in pairs)


@statistical
def test_tilted_mean_interval_covers() -> None:
    """CV^2 = 0.17; the mutants halve the standard error and drop the weights."""
    a, replicates = 0.4, 500
    samples = gaussian(replicates, n=800, seed=2)
    truth = math.exp(1.5 * a**2)
    least = float(stats.binom.ppf(ALPHA, replicates, 0.95))
    assert coverage([tilted_mean(np.exp(a * x)) for x in samples], truth) >= least
    narrow = [tilted_mean(np.exp(a * x), level=0.67) for x in samples]
    assert coverage(narrow, truth) < least
    forgotten = [weighted_mean(np.exp(a * x), np.zeros_like(x)) for x in samples]
    assert coverage(forgotten, truth) < least


@statistical
@pytest.mark.parametrize("level", [0.5, 2.5])
def test_weighted_proportion_covers(level: float) -> None:
    """P_q(x > level), the rarer one from a handful of hits; the mutant drops the weights."""
    replicates = 500
    samples = gaussian(replicates, n=400, seed=3)
    truth = float(stats.norm.sf(level - A))
    found = [weighted_proportion(x > level, A * x) for x in samples]
    least = float(stats.binom.ppf(ALPHA, replicates, 0.95))
    assert coverage(found, truth) >= least
    forgotten = [weighted_proportion(x > level, np.zeros_like(x)) for x in samples]
    assert coverage(forgotten, truth) < least


@statistical
def test_weighted_proportion_hits_the_truth_and_mutants_do_not() -> None:
    truth = float(stats.norm.sf(1.0 - A))
    shift = truth - float(stats.norm.sf(1.0 - 0.95 * A))  # q of the exponent 0.95 is N(0.95 a, 1)
    samples = gaussian(replicates=200, n=4000, seed=4)
    values = [weighted_proportion(x > 1.0, A * x).value for x in samples]
    error, tolerance = gate(values, truth, shift)
    assert error <= tolerance
    for factor in (0.95, 0.0):
        mutant = [weighted_proportion(x > 1.0, factor * A * x).value for x in samples]
        assert abs(np.mean(mutant) - truth) > tolerance
