"""Paired differences, their tests and the order they allow, against closed forms."""

import math

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.comparison_estimates import (
    DECIBELS,
    holm,
    mcnemar_p,
    paired_cvar_db,
    paired_mean_db,
    paired_quantiles_db,
    probability_difference,
    rank_bounds,
    two_sided_p,
)
from reports.estimates import Estimate

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
    found = paired_cvar_db(a, b, 0.99)
    assert found.interval is None
    assert found.status == "fewer than 5 channels in the worst share: no interval"


@pytest.mark.unit
def test_equal_figures_differ_by_nothing() -> None:
    a, _ = pair(2)
    found = paired_mean_db(a, a)
    assert (found.value, found.interval, found.status) == (0.0, None, "no scatter, no interval")
    assert two_sided_p(found) == 1.0


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


@pytest.mark.unit
def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, None, 0.005]) == [
        pytest.approx(0.03),
        pytest.approx(0.08),
        None,
        pytest.approx(0.02),
    ]


@pytest.mark.property
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_and_keeps_the_order(p: list[float]) -> None:
    adjusted = [q for q in holm(p) if q is not None]
    assert all(q >= raw for q, raw in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@pytest.mark.unit
def test_ranks_that_verdicts_leave_open() -> None:
    found = rank_bounds(["a", "b", "c"], [("a", "c")])
    assert found == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}
