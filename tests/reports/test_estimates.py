"""Intervals against closed forms, exact coverage, and the rule that compares two estimates."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from reports import (
    Estimate,
    agree,
    by_drop_mean,
    design_effect,
    format_estimate,
    ks_distance,
    ks_floor,
    mean_estimate,
    proportion,
    quantile_estimate,
)
from reports.estimates import skewed_student, student
from reports.pareto import tail_shape

unit = pytest.mark.unit
statistical = pytest.mark.statistical
PROPERTY = pytest.mark.property
untimed = settings(deadline=None)  # a busy machine fails no test
ALPHA = 1e-6


def low_count(replicates: int, level: float) -> float:
    """Hits that a rule of coverage `level` undercuts once in a million."""
    return float(stats.binom.ppf(ALPHA, replicates, level))


def held(estimate: Estimate, truth: float) -> bool:
    """Whether the interval holds the truth."""
    assert estimate.interval is not None
    return estimate.interval[0] <= truth <= estimate.interval[1]


# --- Estimate -------------------------------------------------------------------------------------


@unit
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": math.nan}, "value must be finite; got nan. Unknown is None."),
        ({"std_error": -1.0}, "std_error must be finite and >= 0; got -1.0."),
        ({"level": 95.0}, "level must lie in .0, 1.; got 95.0. 95 % is written 0.95."),
        ({"n": 0}, "n must be at least 1; got 0."),
        ({"interval": (2.0, 3.0)}, r"interval must hold the value 1.0; got \[2.0, 3.0\]."),
        ({"interval": (0.0, math.inf)}, r"interval must hold the value 1.0; got \[0.0, inf\]."),
    ],
)
def test_estimate_refuses_bad_figures(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Estimate(**({"value": 1.0, "n": 5, "method": "by hand"} | change))  # type: ignore[arg-type]


@unit
def test_estimate_survives_its_dictionary() -> None:
    estimate = proportion(3, 40)
    assert Estimate.from_dict(estimate.to_dict()) == estimate
    with pytest.raises(ValueError, match=r"unknown keys \['mean'\] and lacks \['method'\]"):
        Estimate.from_dict({"value": 1.0, "n": 2, "mean": 3})


@unit
@pytest.mark.parametrize(
    ("estimate", "percent", "text"),
    [
        (None, True, "unknown"),
        (proportion(10, 800), True, "1.25 % [0.60, 2.29]"),
        (proportion(0, 800), True, "none seen, below 0.46 %"),
        (mean_estimate([3.0]), False, "3"),
        (mean_estimate([2.9e-4, 3.1e-4, 3.2e-4]), False, "0.000307 [0.000269, 0.000345]"),
        (proportion(300, 1000), False, "0.300 [0.272, 0.329]"),
    ],
)
def test_format_keeps_two_digits_of_the_interval(
    estimate: Estimate | None, percent: bool, text: str
) -> None:
    assert format_estimate(estimate, percent=percent) == text


# --- Proportions ----------------------------------------------------------------------------------


@unit
def test_zero_failures_give_an_upper_bound() -> None:
    none, every = proportion(0, 800), proportion(800, 800)
    assert none.interval == pytest.approx((0.0, 1 - 0.025 ** (1 / 800)))
    assert every.interval == pytest.approx((0.025 ** (1 / 800), 1.0))
    assert none.status == "none seen: upper bound only"
    assert every.status == "all: lower bound only"
    assert none.std_error is None


@unit
def test_proportion_matches_scipy() -> None:
    expected = stats.binomtest(7, 53).proportion_ci(0.9, method="exact")
    assert proportion(7, 53, level=0.9).interval == pytest.approx((expected.low, expected.high))


@unit
@pytest.mark.parametrize(("k", "n"), [(-1, 5), (6, 5), (0, 0)])
def test_impossible_counts_are_refused(k: int, n: int) -> None:
    with pytest.raises(ValueError, match=rf"k must lie in \[0, n\] with n >= 1; got k={k}, n={n}"):
        proportion(k, n)


@statistical
@pytest.mark.parametrize("p", [0.001, 0.01, 0.2, 0.5])
def test_proportion_covers_exactly(p: float) -> None:
    """Coverage summed over all outcomes, no sampling; intervals a tenth narrower do not cover."""
    n = 300
    k = np.arange(n + 1)
    mass = stats.binom.pmf(k, n, p)
    estimates = [proportion(int(i), n) for i in k]
    assert mass[[held(e, p) for e in estimates]].sum() >= 0.95
    shrunk = [proportion(int(i), n, level=0.85) for i in k]
    if p >= 0.01:  # at 0.001 the interval of a single failure still covers nearly always
        assert mass[[held(e, p) for e in shrunk]].sum() < 0.95


# --- Means, drops, quantiles ----------------------------------------------------------------------


@unit
def test_mean_matches_scipy_and_says_when_it_has_no_interval() -> None:
    x = [1.0, 2.0, 4.0, 9.0]
    expected = stats.t.interval(0.95, 3, loc=np.mean(x), scale=stats.sem(x))
    assert mean_estimate(x).interval == pytest.approx(expected)
    assert mean_estimate([5.0]).status == "one value, no interval"
    constant = mean_estimate([5.0, 5.0])
    assert (constant.status, constant.interval) == ("all values equal", None)


@unit
@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([], r"values must be a non-empty vector; got shape \(0,\)"),
        ([1.0, math.nan], "values must be finite; got nan at index 1"),
        ([[1.0]], r"values must be a non-empty vector; got shape \(1, 1\)"),
    ],
)
def test_mean_refuses_what_is_no_sample(values: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mean_estimate(values)


@unit
def test_mean_says_when_its_tails_are_heavy() -> None:
    """Either tail, from 100 values on."""
    x = np.random.default_rng(0).random(1000) ** -0.6
    for sign, side in ((1.0, "above"), (-1.0, "below")):
        text = f"values too uneven (Pareto k-hat {side} {tail_shape(x):.2f}, limit 0.50): "
        assert mean_estimate(sign * x).status.startswith(text)
    assert mean_estimate(x[:99]).status == "ok"
    assert mean_estimate(np.random.default_rng(0).random(1000)).status == "ok"


@unit
def test_interval_for_a_skewed_mean() -> None:
    """Hall's transformation g(T) = T + s T^2/3 + s^2 T^3/27 + s/6 takes the limits back to t."""
    m, se, df = 2.0, 0.3, 17.5
    t = float(stats.t.ppf(0.975, df))
    for skew in (-0.9, -0.1, 1e-9, 0.4, 1.0):
        for limit, expected in zip(skewed_student(m, se, skew, df, 0.95), (t, -t), strict=True):
            ratio = (m - limit) / se
            back = ratio + skew * ratio**2 / 3 + skew**2 * ratio**3 / 27 + skew / 6
            assert back == pytest.approx(expected, rel=1e-6)
    assert skewed_student(m, se, 0.0, df, 0.95) == pytest.approx(student(m, se, df, 0.95))


@unit
def test_equal_drops_give_student_t_on_drop_means() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(8, 25)) + rng.normal(size=(8, 1))
    drops = np.repeat(np.arange(8), 25)
    by_drop = by_drop_mean(x.ravel(), drops)
    assert by_drop.interval == pytest.approx(mean_estimate(x.mean(1)).interval)
    assert (design_effect(x.ravel(), drops) or 0) > 3
    assert by_drop_mean([1.0, 2.0], [0, 0]).interval is None
    assert design_effect([1.0, 2.0], ["a", "a"]) is None
    with pytest.raises(ValueError, match=r"drops must have one label a value; got \(1,\), \(2,\)"):
        by_drop_mean([1.0, 2.0], [0])


@statistical
def test_drop_intervals_cover_where_single_users_mislead() -> None:
    """Drops of unequal size with an effect of their own; the mutant counts users singly."""
    rng = np.random.default_rng(1)
    replicates, hits, mutant = 400, 0, 0
    drops = np.repeat(np.arange(12), rng.integers(15, 30, size=12))
    for _ in range(replicates):
        x = rng.normal(size=len(drops)) + rng.normal(size=12)[drops]
        hits += held(by_drop_mean(x, drops), 0.0)
        mutant += held(mean_estimate(x), 0.0)
    assert hits >= low_count(replicates, 0.95)
    assert mutant < low_count(replicates, 0.95)


@statistical
@pytest.mark.parametrize("prob", [0.5, 0.9, 0.99])
def test_quantile_interval_covers(prob: float) -> None:
    rng = np.random.default_rng(2)
    replicates = 400
    hits = sum(held(quantile_estimate(rng.random(800), prob), prob) for _ in range(replicates))
    assert hits >= low_count(replicates, 0.95)
    shifted = 0.985 if prob == 0.99 else prob - 0.05  # a rank that is off must not cover
    wrong = sum(held(quantile_estimate(rng.random(800), shifted), prob) for _ in range(replicates))
    assert wrong < low_count(replicates, 0.95)


@unit
def test_extreme_quantile_says_how_many_samples_it_needs() -> None:
    few = quantile_estimate(np.arange(2000.0), 0.999)
    assert few.interval is None
    assert few.status == "no two-sided interval below n = 3,688"  # FACTS 5b: about 3,700
    assert quantile_estimate(np.arange(3688.0), 0.999).interval is not None
    with pytest.raises(
        ValueError, match=r"prob must lie in \(0, 1\); got 99. Is this a percentage"
    ):
        quantile_estimate([1.0, 2.0], 99)


# --- Kolmogorov-Smirnov ---------------------------------------------------------------------------


@PROPERTY
@untimed
@given(
    a=st.lists(st.integers(0, 5), min_size=1, max_size=30),
    b=st.lists(st.integers(0, 5), min_size=1, max_size=30),
)
def test_ks_is_the_largest_gap_with_ties(a: list[int], b: list[int]) -> None:
    x, y = np.array(a), np.array(b)
    gaps = [abs(float((x <= t).mean() - (y <= t).mean())) for t in range(6)]
    assert ks_distance(a, b) == pytest.approx(max(gaps))
    assert ks_distance(a, b) == ks_distance(b, a)


@unit
@pytest.mark.parametrize(
    ("n", "m", "mean", "upper"),  # measured on real channels, FACTS 5b
    [(2_000, 2_000, 0.028, 0.043), (20_000, 2_000, 0.020, 0.032), (20_000, 10_000, 0.011, 0.017)],
)
def test_ks_floor_has_the_known_figures(n: int, m: int, mean: float, upper: float) -> None:
    floor = ks_floor(n, m)
    assert floor.mean == pytest.approx(mean, abs=6e-4)
    assert floor.upper == pytest.approx(upper, abs=6e-4)


@statistical
def test_ks_floor_is_what_one_law_shows() -> None:
    rng = np.random.default_rng(3)
    replicates, floor = 600, ks_floor(300, 500)
    found = np.array([ks_distance(rng.random(300), rng.random(500)) for _ in range(replicates)])
    below = int((found <= floor.upper).sum())
    assert stats.binom.cdf(below, replicates, 0.95) > ALPHA
    # The closed form is the limit law; at these sizes it is some 2 % high, a mutant 20 % off.
    assert found.mean() == pytest.approx(floor.mean, rel=0.06)
    assert abs(found.mean() - ks_floor(150, 500).mean) > 0.06 * floor.mean


# --- Agreement ------------------------------------------------------------------------------------


@unit
@pytest.mark.parametrize(
    ("a", "b", "word"),
    [
        (proportion(300, 1000), proportion(610, 2000), "agree"),
        (proportion(300, 1000), proportion(800, 2000), "differ"),
        (proportion(8, 800), proportion(20, 2000), "cannot tell"),
        (proportion(0, 800), proportion(0, 2000), "cannot tell"),
        (proportion(0, 800), proportion(100, 2000), "differ"),
        (None, proportion(1, 10), "cannot tell"),
        (mean_estimate([1.0]), proportion(1, 10), "cannot tell"),
    ],
)
def test_agreement_by_the_stated_rule(a: Estimate | None, b: Estimate, word: str) -> None:
    assert agree(a, b) == word
    assert agree(b, a) == word


@unit
def test_agreement_refuses_decibels_and_a_factor_of_one() -> None:
    level = mean_estimate([-5.0, -6.0])
    with pytest.raises(ValueError, match=r"agree needs values >= 0; got -5.5, -5.5. Is this in dB"):
        agree(level, level)
    with pytest.raises(ValueError, match=r"factor must exceed 1; got 1.0"):
        agree(level, level, factor=1.0)


@statistical
@pytest.mark.parametrize("p", [0.01, 0.1, 0.4])
def test_one_law_rarely_differs_and_two_laws_rarely_agree(p: float) -> None:
    rng = np.random.default_rng(4)
    replicates = 500
    counts = rng.binomial([800, 2000], p, size=(replicates, 2))
    same = [agree(proportion(int(i), 800), proportion(int(j), 2000)) for i, j in counts]
    assert replicates - same.count("differ") >= low_count(replicates, 0.95)
    counts = rng.binomial([800, 2000], [2.0 * p, p], size=(replicates, 2))
    twice = [agree(proportion(int(i), 800), proportion(int(j), 2000)) for i, j in counts]
    assert replicates - twice.count("agree") >= low_count(replicates, 0.95)
