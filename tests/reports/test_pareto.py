"""The shape of a tail: against maximum likelihood, against known shapes, and in words."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports.pareto import (
    K_HOPELESS,
    combined_status,
    interval_limit,
    k_limit,
    pareto_fit,
    tail_shape,
    uneven_status,
)
from reports.reweighting import pareto_k

unit = pytest.mark.unit
statistical = pytest.mark.statistical
PROPERTY = pytest.mark.property
untimed = settings(deadline=None)  # a busy machine fails no test
ALPHA = 1e-6
Array = npt.NDArray[np.float64]


def draws(k: float, n: int, seed: int) -> Array:
    """n draws of the generalised Pareto law of shape k, scale 1."""
    u = np.random.default_rng(seed).random(n)
    return np.asarray(-np.log(u) if k == 0 else (u**-k - 1) / k)


def shape(values: Array) -> float:
    found = tail_shape(values)
    assert found is not None
    return found


# --- The fit --------------------------------------------------------------------------------------


@unit
@pytest.mark.parametrize("k", [-0.3, 0.0, 0.4, 0.9, 1.5])
def test_fit_is_nearly_that_of_maximum_likelihood(k: float) -> None:
    """Both are efficient, so on the same draws they lie far closer than to the truth."""
    x = np.sort(draws(k, 20_000, seed=1))
    oracle, _, _ = stats.genpareto.fit(x, floc=0)
    assert pareto_fit(x) == pytest.approx(oracle, abs=0.004)
    assert pareto_fit(x) == pytest.approx(k, abs=6 * (1 + k) / math.sqrt(len(x)))


@statistical
@pytest.mark.parametrize("k", [0.2, 0.5, 0.9])
def test_shape_of_known_tails(k: float) -> None:
    """The tail of a Pareto law has its shape; ten prior values of 1/2 pull a little, known pull."""
    n, replicates = 10_000, 100
    m = math.ceil(3 * math.sqrt(n))
    truth = (m * k + 5) / (m + 10)
    samples = [draws(k, n, seed) for seed in range(replicates)]
    found = np.array([shape(x) for x in samples])
    tolerance = stats.t.ppf(1 - ALPHA / 2, replicates - 1) * found.std(ddof=1) / 10
    roots = np.array([shape(np.sqrt(x)) for x in samples])  # mutant: of the root, half as heavy
    no_prior = np.array([((m + 10) * each - 5) / m for each in found])
    assert tolerance <= 0.25 * truth
    assert abs(found.mean() - truth) <= tolerance
    assert abs(roots.mean() - truth) > tolerance
    assert np.abs(no_prior - k).mean() < np.abs(roots - k).mean()


@PROPERTY
@untimed
@given(
    seed=st.integers(0, 50), scale=st.floats(1e-6, 1e6), offset=st.floats(-1e3, 1e3),
    n=st.integers(30, 400),
)  # fmt: skip
def test_units_and_order_change_nothing(seed: int, scale: float, offset: float, n: int) -> None:
    x = draws(0.4, n, seed)
    again = np.random.default_rng(seed).permutation(scale * (x + offset))
    assert shape(again) == pytest.approx(shape(x), rel=1e-5, abs=1e-6)
    assert pareto_k(np.log(x) + 700) == pytest.approx(shape(x), rel=1e-9)


@unit
def test_values_below_the_tail_do_not_matter() -> None:
    x = np.sort(draws(0.5, 1000, seed=0))
    assert shape(np.concatenate([np.zeros(880), x[880:]])) == shape(x)


@unit
def test_ten_prior_values_steady_a_short_tail() -> None:
    """Five values stand out of 25: a third of the shape is theirs, two thirds the prior's 1/2."""
    tail = np.array([0.1, 0.2, 0.4, 0.8, 3.0])
    found = shape(np.concatenate([np.zeros(20), tail]))
    assert found == pytest.approx((5 * pareto_fit(tail / 3) + 10 * 0.5) / 15)


@unit
def test_tails_without_a_shape() -> None:
    assert tail_shape(np.ones(1)) == -math.inf
    assert tail_shape(np.full(50, 3.0)) == -math.inf
    assert tail_shape(np.full(50, 3.0) * (1 + 1e-13 * np.arange(50))) == -math.inf  # rounding
    assert tail_shape(np.concatenate([np.zeros(60), np.ones(40)])) == -math.inf  # bounded, tied
    assert tail_shape(np.arange(20.0)) is None  # four in the tail
    assert tail_shape(np.concatenate([np.ones(96), [2.0, 3.0, 4.0, 5.0]])) is None
    assert shape(np.concatenate([np.ones(95), [2.0, 3.0, 4.0, 5.0, 6.0]])) < 0.5
    assert shape(np.arange(200.0)) < -0.5  # bounded
    assert shape(np.sort(draws(0.0, 10**5, 1))) == pytest.approx(0.0, abs=0.2)
    with np.errstate(divide="ignore"):
        assert pareto_k(np.log(np.arange(200.0))) == pytest.approx(shape(np.arange(200.0)))


@unit
def test_a_trial_slope_of_zero_is_left_out() -> None:
    """There the law is exponential and its likelihood 0/0; this tail meets it at j = 30 of 34."""
    quartile = (math.sqrt(34 / 29.5) - 1) / 3
    tail = np.concatenate([quartile * np.array([0.3, 0.5, 0.7, 1.0]), np.linspace(0.1, 1.0, 12)])
    assert math.isfinite(pareto_fit(tail))


@unit
def test_a_tail_of_all_sizes() -> None:
    """Weights of 1 and of 1e-307: heavier than any mean allows, and no overflow."""
    assert shape(10.0 ** np.linspace(-307, 0, 100)) > 10
    assert shape(np.concatenate([np.zeros(20), np.full(3, 1e-307), [1e-300, 1.0]])) > 10


# --- Limits and words -----------------------------------------------------------------------------


@unit
@pytest.mark.parametrize(
    ("n", "smoothed", "interval"),
    [(5, 0.0, 0.0), (50, 0.411, 0.411), (100, 0.5, 0.5), (1000, 0.667, 0.5), (10**5, 0.7, 0.5)],
)
def test_limits(n: int, smoothed: float, interval: float) -> None:
    assert k_limit(n) == pytest.approx(smoothed, abs=1e-3)
    assert interval_limit(n) == pytest.approx(interval, abs=1e-3)


@unit
@pytest.mark.parametrize(
    ("shapes", "besides", "words"),
    [
        ({}, "", "ok"),
        ({"": -math.inf, " twice": 0.5}, "", "ok"),
        ({"": 0.6}, "", "x too uneven (Pareto k-hat 0.60, limit 0.50): interval may be too short, "
         "draw more samples"),
        ({"": 0.1, " twice": 0.8}, "", "x too uneven (Pareto k-hat twice 0.80, limit 0.50): rely "
         "on neither value nor interval, go home"),
        ({"": 0.1}, "CV 9", "x too uneven (CV 9): interval may be too short"),
        ({"": 0.6}, "CV 9", "x too uneven (CV 9; Pareto k-hat 0.60, limit 0.50): interval may be "
         "too short, draw more samples"),
        ({"": None}, "", "tail of the x unknown: fewer than 5 of 1000 stand out"),
        ({"": None, " twice": 0.9}, "", "x too uneven (Pareto k-hat twice 0.90, limit 0.50): rely "
         "on neither value nor interval, go home; tail of the x unknown: fewer than 5 of 1000 "
         "stand out"),
    ],
)  # fmt: skip
def test_words(shapes: dict[str, float | None], besides: str, words: str) -> None:
    assert uneven_status("x", 1000, shapes, remedy="go home", besides=besides) == words


@unit
def test_statuses_are_joined_once_each() -> None:
    assert combined_status() == combined_status("ok", "") == "ok"
    assert combined_status("ok", "a", "b", "a", "") == "a; b"


@statistical
@pytest.mark.parametrize(("k", "least", "most"), [(0.0, 0.0, 0.02), (0.9, 0.9, 1.0)])
def test_what_is_flagged(k: float, least: float, most: float) -> None:
    """Of 300 samples of 1,000: nearly none with an exponential tail, nearly all without a mean."""
    found = [shape(draws(k, 1000, seed)) for seed in range(300)]
    share = float(np.mean([each > interval_limit(1000) for each in found]))
    assert least <= share <= most
    assert k_limit(1000) < K_HOPELESS
