"""Ratios of tail probabilities: exact laws, coverage, the rule."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from reports.tail_ratios import TailRule, perfect_ratios, rate_ratio, tail_ratio, tail_rule

ALPHA = 1e-6
R = 1000
unit, statistical = pytest.mark.unit, pytest.mark.statistical
Array = npt.NDArray[np.float64]


def covered(hits: int, runs: int, level: float) -> bool:
    """Whether so many hits are what a coverage of at least `level` shows."""
    return bool(hits >= stats.binom.ppf(ALPHA, runs, level))


# --- The figure itself ----------------------------------------------------------------------------


@unit
def test_counts_at_or_beyond_the_threshold() -> None:
    found = tail_ratio("a", [1.0, 9.0, 95.0, 99.5], np.arange(1, 101), share=0.1)
    assert (found.tau, found.real_beyond, found.base_beyond) == (91.0, 10, 2)
    assert found.ratio is not None
    assert found.ratio.value == pytest.approx(0.5 / 0.1)
    assert (found.label, found.limits, found.factor) == ("a", (0.8, 1.25), 1.6)
    assert found.design_effect is None


@unit
def test_a_share_of_less_than_one_channel_is_unknown() -> None:
    found = tail_ratio("a", np.arange(10.0), np.arange(100.0), share=0.001)
    assert (found.tau, found.ratio, found.perfect, found.verdict) == (
        None, None, None, "cannot tell",
    )  # fmt: skip


@unit
def test_ties_count_on_both_sides() -> None:
    found = tail_ratio("a", [0.0, 1.0], np.repeat([0.0, 1.0], 5), share=0.1)
    assert (found.real_beyond, found.base_beyond) == (5, 1)
    assert found.ratio is not None
    assert found.ratio.value == 1.0


@unit
def test_none_seen_is_an_upper_bound() -> None:
    found = tail_ratio("a", np.zeros(50), np.arange(1.0, 1001.0), share=0.01).ratio
    assert found is not None
    assert found.interval is not None
    assert (found.value, found.interval[0]) == (0.0, 0.0)
    assert found.interval[1] > 1
    assert found.status == "none seen: upper bound only"


@unit
@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.9, 1.1), "pass"),
        ((1.2, 1.8), "pass"),  # it meets the limits and is narrow
        ((0.5, 1.0), "cannot tell"),
        ((0.0, 5.0), "cannot tell"),
        ((1.26, 1.3), "off"),
        ((0.1, 0.79), "off"),
        (None, "cannot tell"),
    ],
)
def test_the_rule(interval: tuple[float, float] | None, verdict: str) -> None:
    assert TailRule(low=0.8, high=1.25, factor=1.6).verdict(interval) == verdict


@unit
def test_what_is_rarer_has_a_looser_rule() -> None:
    assert tail_rule(0.10) == tail_rule(0.01) == TailRule(low=0.8, high=1.25, factor=1.6)
    assert tail_rule(0.001) == TailRule(low=0.5, high=2.0, factor=3.0)
    assert tail_ratio("a", [1.0, 2.0], [1.0, 2.0], share=0.5, rule=tail_rule(0.001)).factor == 3.0


@unit
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([1.0], [1.0], 1.5), r"share must lie in \(0, 1\); got 1.5. The worst 1 % is 0.01."),
        (([math.nan], [1.0], 0.5), r"base must be finite; got nan at index 0"),
        (([1.0], [math.inf], 0.5), r"real must be finite; got inf at index 0"),
    ],
)
def test_bad_values_are_refused(
    arguments: tuple[list[float], list[float], float], message: str
) -> None:
    base, real, share = arguments
    with pytest.raises(ValueError, match=message):
        tail_ratio("a", base, real, share=share)


@unit
def test_bad_counts_are_refused() -> None:
    with pytest.raises(ValueError, match=r"k_real must be at least 1 and k_base in \[0, 10\]"):
        rate_ratio(1, 0, 10, 10)


@unit
def test_a_design_effect_widens_and_none_below_one_half_is_believed() -> None:
    def width(effect: float | None) -> float:
        lo, hi = rate_ratio(20, 20, 2000, 2000, effect=effect, df=39).interval or (1.0, 1.0)
        return hi / lo

    assert width(0.01) == width(0.5) < width(1.0) < width(4.0)
    few = rate_ratio(20, 20, 2000, 2000, effect=1.0, df=3).interval or (0.0, 0.0)
    many = rate_ratio(20, 20, 2000, 2000, effect=1.0).interval or (0.0, 0.0)
    assert few[0] < many[0] < many[1] < few[1]


# --- Exact laws -----------------------------------------------------------------------------------


def drawn(
    ratio: float, share: float, n: int, m: int, seed: int
) -> list[tuple[float, float, float]]:
    """Value and interval in R replicates; the base law lies `ratio` times as often in any tail."""
    random, found = np.random.default_rng(seed), []
    for _ in range(R):
        base = random.exponential(size=n) + math.log(ratio)
        ends = tail_ratio("a", base, random.exponential(size=m), share=share)
        assert ends.ratio is not None
        assert ends.ratio.interval is not None
        found.append((ends.ratio.value, *ends.ratio.interval))
    return found


@statistical
@pytest.mark.parametrize(("ratio", "share"), [(1.0, 0.01), (2.0, 0.01), (1.0, 0.1), (0.5, 0.05)])
def test_the_interval_covers_the_true_ratio(ratio: float, share: float) -> None:
    found = drawn(ratio, share, 1000, 2000, seed=1)
    hits = sum(lo <= ratio <= hi for _, lo, hi in found)
    assert covered(hits, R, 0.94)
    width = np.median([hi / max(lo, 1e-9) for _, lo, hi in found])
    events = share * 2000, ratio * share * 1000
    best = math.exp(2 * 1.96 * math.sqrt(sum(1 / k for k in events)))
    assert width < 1.25 * best  # nothing is gained by being vague
    mutant = sum(lo**0.5 * v**0.5 <= ratio <= hi**0.5 * v**0.5 for v, lo, hi in found)
    assert not covered(mutant, R, 0.94)  # half the width does not cover


@statistical
def test_the_value_has_the_exact_mean() -> None:
    """n / (n + 1) for equal laws, whatever the share: the threshold is estimated too."""
    values = np.array([value for value, _, _ in drawn(1.0, 0.005, 1000, 400, seed=2)])
    half = stats.t.ppf(1 - ALPHA / 2, R - 1) * values.std(ddof=1) / math.sqrt(R)
    assert half < 0.2
    assert abs(values.mean() - 400 / 401) < half
    mutant = values * 3 / 2  # the next lower threshold, whose share is (k + 1) / (n + 1)
    assert abs(mutant.mean() - 400 / 401) > half


@statistical
def test_what_a_perfect_model_shows() -> None:
    lo, hi = perfect_ratios(20, 1000, 2000)
    values = np.array([value for value, _, _ in drawn(1.0, 0.01, 1000, 2000, seed=3)])
    outside = int(((values < lo) | (values > hi)).sum())
    assert stats.binom.ppf(ALPHA, R, 0.02) <= outside <= stats.binom.ppf(1 - ALPHA, R, 0.05)
    exact = stats.betabinom(1000, 20, 1981).ppf([0.025, 0.975]) * 2000 / (20 * 1000)
    assert (lo, hi) == pytest.approx(tuple(exact))
    wider = int(((values < 0.7 * lo) | (values > 0.7 * hi)).sum())
    assert wider > stats.binom.ppf(1 - ALPHA, R, 0.05)


def clustered(random: np.random.Generator, drops: int, users: int) -> tuple[Array, Array]:
    """Exp(1) over all drops, of which half have 1.9 and half 0.1 times the tail."""
    bad = random.random(drops) < 0.5
    tail = np.repeat(np.where(bad, 1.9, 0.1), users) * np.exp(-2.5)
    body = random.exponential(size=drops * users) % 2.5
    beyond = random.random(drops * users) < tail
    x = np.where(beyond, 2.5 + random.exponential(size=drops * users), body)
    return x, np.repeat(np.arange(drops), users)


@statistical
def test_drops_that_fail_together_widen_the_interval() -> None:
    random, runs, hits, naive = np.random.default_rng(4), 400, 0, 0
    for _ in range(runs):
        real, drops = clustered(random, 30, 50)
        base = random.exponential(size=3000)
        for labels in (drops, None):
            ends = tail_ratio("a", base, real, share=0.04, drops=labels).ratio
            assert ends is not None
            assert ends.interval is not None
            inside = ends.interval[0] <= 1 <= ends.interval[1]
            hits, naive = (hits + inside, naive) if labels is not None else (hits, naive + inside)
    assert covered(hits, runs, 0.92)
    assert not covered(naive, runs, 0.92)
