"""Paired differences, their tests and the order they allow, against closed forms."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import special, stats

from reports.comparison_estimates import (
    DECIBELS,
    mcnemar_p,
    paired_cvar,
    paired_cvar_db,
    paired_mean,
    paired_mean_db,
    paired_probability,
    paired_quantiles,
    paired_quantiles_db,
    probability_difference,
    unpaired_ratio_db,
)
from reports.comparison_tests import Drops, Paired, drop_scatter
from reports.estimates import Estimate, mean_estimate

Array = npt.NDArray[np.float64]
ALPHA = 1e-6
SHIFT = 0.2  # of the logarithm of b: every figure of a lies SHIFT * DECIBELS below that of b


def pair(seed: int, n: int = 1500, rho: float = 0.9) -> tuple[Array, Array]:
    """Lognormal figures of one channel under two compressors, alike but for the shift."""
    rng = np.random.default_rng(seed)
    common, own = rng.standard_normal((2, n))
    return np.exp(0.5 * common), np.exp(SHIFT + 0.5 * (rho * common + math.sqrt(1 - rho**2) * own))


def covers(estimate: Estimate, truth: float) -> bool:
    assert estimate.interval is not None
    return estimate.interval[0] <= truth <= estimate.interval[1]


def enough(hits: list[bool], least: float) -> None:
    """Coverage is no less than `least`, up to chance of ALPHA."""
    assert stats.binomtest(sum(hits), len(hits), least, alternative="less").pvalue > ALPHA


@pytest.mark.statistical
def test_paired_intervals_cover_the_shift_and_gain_by_pairing() -> None:
    hits: dict[str, list[bool]] = {"mean": [], "quantile": [], "cvar": []}
    widths: dict[str, list[float]] = {name: [] for name in (*hits, "unpaired")}
    unshifted = []
    for seed in range(80):
        a, b = pair(seed)
        found = {
            "mean": paired_mean_db(a, b),
            "quantile": paired_quantiles_db({"a": a, "b": b}, 0.95)["a", "b"],
            "cvar": paired_cvar_db(a, b, 0.95),
        }
        for name, estimate in found.items():
            hits[name].append(covers(estimate, -SHIFT * DECIBELS))
            assert estimate.interval is not None
            widths[name].append(estimate.interval[1] - estimate.interval[0])
        unshifted.append(covers(found["mean"], 0.0))
        loose = paired_mean_db(a, np.roll(b, 1)).interval  # the mutant: other channels
        assert loose is not None
        widths["unpaired"].append(loose[1] - loose[0])
    for name, kept in hits.items():
        enough(kept, 0.93)
        assert np.mean(widths[name]) < SHIFT * DECIBELS  # narrow enough to see the shift
    assert not any(unshifted)
    assert np.mean(widths["mean"]) < 0.6 * np.mean(widths["unpaired"])


@pytest.mark.statistical
def test_equal_tails_are_called_different_no_more_often_than_asked() -> None:
    """Six channels in a tail: Student's p-values keep 0.5 %, those of a normal law do not."""
    rng = np.random.default_rng(4)
    told, by_normal = 0, 0
    replicates, limit = 1200, 0.005
    for _ in range(replicates):
        common, own = rng.standard_normal((2, 600))
        both = np.exp(0.5 * common), np.exp(0.5 * (0.9 * common + math.sqrt(0.19) * own))
        found, p_value, _ = paired_cvar(*both, 0.99)
        assert p_value is not None
        assert found.std_error is not None
        told += p_value < limit
        by_normal += 2 * special.ndtr(-abs(found.value) / found.std_error) < limit
    assert stats.binomtest(told, replicates, limit, alternative="greater").pvalue > ALPHA
    assert stats.binomtest(by_normal, replicates, limit, alternative="greater").pvalue < ALPHA


def in_drops(seed: int, effect: float) -> tuple[Array, Array, Drops]:
    """600 users in 12 drops, each of which shifts b alone by a factor of its own."""
    rng = np.random.default_rng(seed)
    drops = np.repeat(np.arange(12), 50)
    common, own = rng.standard_normal((2, 600))
    drop = effect * rng.standard_normal(12)[drops]
    return np.exp(0.5 * common), np.exp(drop + 0.5 * common + 0.2 * own), drops


def differences(a: Array, b: Array, drops: Drops | None) -> dict[str, Paired]:
    return {
        "mean": paired_mean(a, b, drops=drops),
        "cvar": paired_cvar(a, b, 0.9, drops=drops),
        "probability": paired_probability(a > 1.5, b > 1.5, drops=drops),
    }


def exact_differences() -> dict[str, float]:
    """Of `in_drops` with effect 0.25: lognormal laws of both."""
    z, s, t = special.ndtri(0.9), 0.5, math.sqrt(0.25 + 0.04 + 0.0625)
    worst = special.ndtr(s - z) / special.ndtr(t - z)
    mean = (s**2 - t**2) / 2
    return {
        "mean": DECIBELS * mean,
        "quantile": DECIBELS * z * (s - t),
        "cvar": DECIBELS * (mean + math.log(worst)),
        "probability": float(np.diff(special.ndtr(math.log(1.5) / np.array([s, t])))[0]),
    }


@pytest.mark.statistical
def test_intervals_cover_where_users_of_a_drop_are_alike() -> None:
    """Counted one by one such users give intervals that miss: the mutant."""
    exact = exact_differences()
    hits: dict[str, list[bool]] = {name: [] for name in exact}
    one_by_one: dict[str, list[bool]] = {name: [] for name in exact}
    for seed in range(70):
        x, y, drops = in_drops(seed, 0.25)
        found = differences(x, y, drops)
        found["quantile"] = paired_quantiles({"a": x, "b": y}, 0.9, drops=drops)["a", "b"]
        for kept, some in ((hits, found), (one_by_one, differences(x, y, None))):
            for name, paired in some.items():
                kept[name].append(covers(paired.difference, exact[name]))
    for held in hits.values():
        enough(held, 0.93)
    for name in ("mean", "cvar", "probability"):
        missed = stats.binomtest(sum(one_by_one[name]), 70, 0.93, alternative="less")
        assert missed.pvalue < ALPHA, name


@pytest.mark.statistical
def test_independent_users_are_taken_for_alike_as_rarely_as_asked() -> None:
    """One time in twenty; then the interval is wider, never narrower."""
    alike = 0
    for seed in range(400):
        a, b, drops = in_drops(seed, 0.0)
        found = paired_mean(a, b, drops=drops)
        alone = paired_mean(a, b)
        assert found.difference.std_error is not None
        assert alone.difference.std_error is not None
        assert found.difference.std_error >= alone.difference.std_error
        alike += found.alike is not None
    assert stats.binomtest(alike, 400, 0.05).pvalue > ALPHA


@pytest.mark.unit
def test_drops_are_alike_only_where_chance_does_not_explain_it() -> None:
    g, drops = np.arange(40.0), np.repeat(np.arange(4), 10)
    found = drop_scatter(g, drops)
    assert found is not None
    assert found.df == 3
    assert found.effect > 5
    assert drop_scatter(g, None) is None
    assert drop_scatter(g, np.zeros(40)) is None  # one drop: nobody can say
    assert drop_scatter(np.tile([0.0, 1.0], 20), drops) is None  # less than chance
    method = paired_mean(1 + g, 40.0 - g + (g % 3), drops=drops).difference.method
    assert method.endswith("of 4 drops)")
    assert "users of a drop alike (design effect" in method


@pytest.mark.unit
def test_heavy_tails_of_a_difference_are_said() -> None:
    rng = np.random.default_rng(0)
    a, b = pair(0)
    assert paired_mean_db(a, b).status == "ok"
    heavy = a + rng.pareto(0.8, len(a))
    found = paired_mean_db(heavy, b)
    assert found.status.startswith("differences too uneven (Pareto k-hat above")
    assert "compare quantiles" in found.status
    assert paired_cvar_db(b, heavy, 0.95).status.startswith("differences too uneven")


@pytest.mark.statistical
def test_ratio_over_different_channels_covers() -> None:
    hits, widths, paired = [], [], []
    for seed in range(200):
        a, _ = pair(seed, n=300)
        _, b = pair(seed + 1000, n=500)
        found = unpaired_ratio_db(mean_estimate(a), mean_estimate(b))
        hits.append(covers(found, -SHIFT * DECIBELS))
        assert found.std_error is not None
        paired.append(abs(found.value + SHIFT * DECIBELS) <= found.std_error / 2)  # the mutant
        widths.append(found.std_error)
    enough(hits, 0.94)
    assert np.mean(widths) < 0.5 * SHIFT * DECIBELS
    assert stats.binomtest(sum(paired), 200, 0.94, alternative="less").pvalue < ALPHA
    one = Estimate(value=0.1, n=1, method="made up", status="one value, no interval")
    assert unpaired_ratio_db(one, mean_estimate([0.1, 0.2])).interval is None


@pytest.mark.statistical
def test_difference_of_probabilities_covers_with_few_failures() -> None:
    """P(only a) = 1.5 %, P(only b) = 0.5 %, P(both) = 1 %, 400 channels."""
    rng = np.random.default_rng(5)
    hits, narrow = [], []
    for _ in range(400):
        kind = rng.choice(4, size=400, p=[0.015, 0.005, 0.01, 0.97])
        a, b = np.isin(kind, (0, 2)), np.isin(kind, (1, 2))
        found = probability_difference(a, b)
        hits.append(covers(found, 0.01))
        d, n = found.value, 400
        wald = 1.96 * math.sqrt(max((a ^ b).sum() - n * d * d, 0)) / n
        narrow.append(abs(d - 0.01) <= wald)
    enough(hits, 0.94)
    assert sum(narrow) < sum(hits)  # the plain normal interval would not do


@pytest.mark.unit
def test_difference_of_probabilities_meets_mcnemar_where_it_holds_zero() -> None:
    """n10 = 10, n01 = 2: z = 8/sqrt(12) = 2.309, so the 97.9 % interval ends at 0."""
    a, b = np.zeros(100, bool), np.zeros(100, bool)
    a[:10], b[10:12] = True, True
    level = 1 - 2 * stats.norm.sf(8 / math.sqrt(12))
    found = probability_difference(a, b, level=level)
    assert found.value == pytest.approx(0.08)
    assert found.interval is not None
    assert found.interval[0] == pytest.approx(0.0, abs=1e-9)
    assert mcnemar_p(a, b) == pytest.approx(2 * stats.binom.cdf(2, 12, 0.5))


@pytest.mark.unit
def test_no_channel_apart_is_a_bound_and_no_point() -> None:
    none = np.zeros(50, bool)
    found = probability_difference(none, none)
    z2 = stats.norm.ppf(0.975) ** 2
    assert found.interval == pytest.approx((-z2 / (50 + z2), z2 / (50 + z2)))
    assert mcnemar_p(none, none) == 1.0


@pytest.mark.property
@given(
    st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40),
)
def test_swapping_the_two_swaps_the_sign(fails: list[tuple[bool, bool]]) -> None:
    a, b = (np.array(column) for column in zip(*fails, strict=True))
    one, other = probability_difference(a, b), probability_difference(b, a)
    assert one.interval is not None
    assert other.interval is not None
    assert one.value == -other.value
    assert one.interval == pytest.approx((-other.interval[1], -other.interval[0]), abs=1e-9)
    assert -1 <= one.interval[0] <= one.value <= one.interval[1] <= 1


@pytest.mark.unit
def test_quantile_is_the_smallest_level_that_holds_its_share() -> None:
    a = np.arange(1.0, 101.0)
    found = paired_quantiles_db({"a": a, "b": 90.0 + 0 * a}, 0.9)["a", "b"]
    assert found.value == pytest.approx(0.0)  # 90 of 100 are no larger than 90
    same = paired_quantiles_db({"a": a, "b": a}, 0.9)["a", "b"]
    assert (same.status, same.interval) == ("no scatter, no interval", None)
    few = paired_quantiles_db({"a": a, "b": a[::-1]}, 0.99)["a", "b"]
    assert few.interval is None
    assert few.status == "fewer than 5 channels beyond the quantile: no interval"


@pytest.mark.unit
def test_worst_share_needs_channels() -> None:
    a, b = pair(1, n=100)
    found, p_value, _ = paired_cvar(a, b, 0.99)
    assert (found.interval, p_value) == (None, None)
    assert found.status == "fewer than 5 channels in the worst share: no interval"


@pytest.mark.unit
def test_equal_figures_differ_by_nothing() -> None:
    a, _ = pair(2)
    found = paired_mean_db(a, a)
    assert (found.value, found.interval, found.status) == (0.0, None, "no scatter, no interval")
    assert paired_mean(a, a).p_value == 1.0
    assert paired_mean(a, 2 * a).p_value is None  # no scatter to judge it by


@pytest.mark.unit
def test_bad_arguments_are_refused() -> None:
    a, b = pair(3, n=20)
    with pytest.raises(ValueError, match=r"same channels; got 20 and 19\."):
        paired_mean_db(a, b[1:])
    with pytest.raises(ValueError, match=r"positive to stand in dB; got 0, "):
        paired_mean_db(0 * a, b)
    with pytest.raises(ValueError, match=r"prob must lie in \(0, 1\); got 99\. Is this a percen"):
        paired_cvar_db(a, b, 99)
    with pytest.raises(ValueError, match=r"same channels; got lengths \[19, 20\]"):
        paired_quantiles_db({"a": a, "b": b[1:]}, 0.5)
    with pytest.raises(ValueError, match=r"same channels; got \(20,\) and \(19,\)"):
        mcnemar_p(a > 1, b[1:] > 1)
