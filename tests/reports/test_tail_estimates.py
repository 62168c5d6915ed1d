"""Quantiles and the worst share: against definitions, and by coverage of exact truth."""

import math
import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

from reports.estimates import Estimate, quantile_estimate, skewed_student, student
from reports.reweighting import weighted_mean
from reports.tail_estimates import cvar_estimate, weighted_cvar_estimate, weighted_quantile_estimate

unit = pytest.mark.unit
statistical = pytest.mark.statistical
PROPERTY = pytest.mark.property
untimed = settings(deadline=None)  # a busy machine fails no test
ALPHA = 1e-6
Array = npt.NDArray[np.float64]
A = 0.7  # q = N(A, 1) from draws of N(0, 1) with weights exp(A x)

figures = st.lists(st.integers(-50, 50), min_size=1, max_size=60)


def low_count(replicates: int, level: float = 0.95) -> int:
    """Hits that a rule of coverage `level` undercuts once in a million."""
    return int(stats.binom.ppf(ALPHA, replicates, level))


def covered(estimates: list[Estimate], truth: float) -> int:
    """Runs without a wrong interval: one that is not given misleads nobody."""
    pairs = [estimate.interval for estimate in estimates]
    return sum(pair is None or pair[0] <= truth <= pair[1] for pair in pairs)


def given_share(estimates: list[Estimate]) -> float:
    return float(np.mean([estimate.interval is not None for estimate in estimates]))


def cvar_of_normal(prob: float, shift: float = 0.0) -> float:
    return shift + float(stats.norm.pdf(stats.norm.ppf(prob))) / (1 - prob)


# --- Definitions ----------------------------------------------------------------------------------


@PROPERTY
@untimed
@given(
    values=figures,
    prob=st.sampled_from([0.03, 0.2, 0.5, 0.9, 0.97]),
    level=st.sampled_from([0.5, 0.9, 0.95]),
)
def test_equal_weights_give_the_order_statistics(
    values: list[int], prob: float, level: float
) -> None:
    """Ranks l, the largest with P(B < l) <= a/2, and u, the smallest with P(B >= u) <= a/2, where B
    is binomial; no interval where either does not exist, as in `quantile_estimate`."""
    x, n = np.sort(np.array(values, dtype=np.float64)), len(values)
    found = weighted_quantile_estimate(x[::-1], np.full(n, -300.0), prob, level=level)
    below = stats.binom.cdf(np.arange(n), n, prob)  # P(B < l) at l - 1
    low = int((below <= (1 - level) / 2).sum())
    high = n + 1 - int((1 - below <= (1 - level) / 2).sum())
    assert found.value == np.quantile(x, prob, method="inverted_cdf")
    assert (found.interval is None) == (low < 1 or high > n)
    assert (found.interval is None) == (quantile_estimate(x, prob, level=level).interval is None)
    if found.interval is None:
        assert found.status == "no two-sided interval: too few samples beyond the quantile"
    else:
        assert found.interval == (min(found.value, x[low - 1]), max(found.value, x[high - 1]))
        assert found.status == "ok"


@PROPERTY
@untimed
@given(
    counts=st.lists(st.integers(0, 5), min_size=3, max_size=40).filter(lambda c: sum(c) > 2),
    prob=st.sampled_from([0.1, 0.5, 0.8, 0.95]),
    seed=st.integers(0, 99),
)
def test_whole_weights_are_copies(counts: list[int], prob: float, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=len(counts))
    copies = np.repeat(x, counts)
    with np.errstate(divide="ignore"):
        log_w = np.log(np.array(counts)) + 500
    order = rng.permutation(len(x))
    for worse in ("high", "low"):
        made = weighted_cvar_estimate(x[order], log_w[order], prob, worse=worse)
        whole = cvar_estimate(copies, prob, worse=worse)
        assert made.value == pytest.approx(whole.value)
    quantile = weighted_quantile_estimate(x[order], log_w[order], prob)
    assert quantile.value == np.quantile(copies, prob, method="inverted_cdf")


@PROPERTY
@untimed
@given(values=figures, prob=st.sampled_from([0.05, 0.3, 0.8, 0.99]), seed=st.integers(0, 99))
def test_cvar_is_the_least_bound(values: list[int], prob: float, seed: int) -> None:
    """min over q of q + E[max(x - q, 0)] / (1 - prob), the minimum at one of the values."""
    x = np.array(values, dtype=np.float64)
    log_w = np.random.default_rng(seed).normal(size=len(x))
    w = special.softmax(log_w)
    least = min(q + w @ np.maximum(x - q, 0) / (1 - prob) for q in x)
    high, low = (
        weighted_cvar_estimate(x, log_w, prob),
        weighted_cvar_estimate(-x, log_w, prob, worse="low"),
    )
    assert high.value == pytest.approx(least, abs=1e-9)
    assert low.value == -high.value
    assert (low.interval is None) == (high.interval is None)
    if low.interval is not None and high.interval is not None:
        assert low.interval == (-high.interval[1], -high.interval[0])


@unit
def test_cvar_is_the_mean_of_the_worst() -> None:
    x = np.random.default_rng(0).normal(size=1000)
    found = cvar_estimate(x, 0.99)
    assert found.value == pytest.approx(np.sort(x)[-10:].mean())
    assert found.interval is not None
    assert found.interval[1] - found.value > found.value - found.interval[0]  # the long tail
    assert (found.n, found.status) == (1000, "ok")
    assert found.ess == pytest.approx(1000)
    assert found.method == "mean of the worst 1 %"
    excess = np.maximum(x - np.sort(x)[989], 0) / 0.01
    assert found.std_error == pytest.approx(excess.std(ddof=1) / math.sqrt(1000))
    skew = float(stats.skew(excess)) / math.sqrt(1000)
    expected = skewed_student(found.value, found.std_error or 0, skew, 10 - 1, 0.95)
    assert found.interval == pytest.approx(expected)
    lowest = cvar_estimate(x, 0.9, worse="low")
    assert lowest.value == pytest.approx(np.sort(x)[:100].mean())
    fraction = cvar_estimate([1.0, 2.0, 3.0, 4.0], 0.625)  # the worst one and a half
    assert fraction.value == pytest.approx((4 + 0.5 * 3) / 1.5)


@unit
def test_too_little_beyond_is_said() -> None:
    x = np.arange(400.0)
    found = cvar_estimate(x, 0.99)
    assert found.value == pytest.approx(397.5)
    assert found.interval is None
    assert found.status == "fewer than 5 effective samples in the worst share: no interval"
    assert cvar_estimate(x, 0.9875).interval is not None
    assert cvar_estimate(np.ones(100), 0.5).status.startswith("fewer than 5 effective samples")
    x = np.random.default_rng(1).normal(size=400)
    few, quantile = weighted_cvar_estimate(x, A * x, 0.9), weighted_quantile_estimate(x, A * x, 0.9)
    for found in (few, quantile):
        assert found.interval is not None
        words = r"only \d\.\d effective samples beyond the quantile: interval may be off$"
        assert re.search(words, found.status)
    assert "beyond the quantile" not in weighted_quantile_estimate(x, A * x, 0.5).status


@unit
def test_few_clusters_beyond_are_said() -> None:
    """All of the worst tenth in four clusters of forty, then the worst 5 % in two."""
    x, clusters = np.random.default_rng(2).normal(size=2000), np.arange(2000) // 50
    x[:200] += 100.0
    found = weighted_cvar_estimate(x, np.zeros(2000), 0.9, clusters=clusters)
    assert found.status == "only 4.0 effective clusters beyond the quantile: interval may be off"
    assert (found.n, found.ess) == (40, None)
    assert found.interval is not None
    x[100:200] -= 100.0
    found = weighted_cvar_estimate(x, np.zeros(2000), 0.95, clusters=clusters)
    assert found.interval is None
    assert found.status == "fewer than 3 effective clusters in the worst share: no interval"
    assert weighted_quantile_estimate(x, np.zeros(2000), 0.95, clusters=clusters).interval is None
    assert weighted_quantile_estimate(x, np.zeros(2000), 0.5, clusters=clusters).status == "ok"


@unit
@pytest.mark.parametrize("rule", [weighted_quantile_estimate, weighted_cvar_estimate])
def test_refusals(rule: Callable[..., Estimate]) -> None:
    with pytest.raises(ValueError, match=r"prob must lie in \(0, 1\); got 99. Is this a percentag"):
        rule([1.0, 2.0], [0.0, 0.0], 99)
    with pytest.raises(ValueError, match="values and log_w must have one length; got 2 and 1"):
        rule([1.0, 2.0], [0.0], 0.5)
    with pytest.raises(ValueError, match="log_w must not be -inf everywhere"):
        rule([1.0, 2.0], [-math.inf, -math.inf], 0.5)
    with pytest.raises(ValueError, match="values must be finite; got nan at index 1"):
        rule([1.0, math.nan], [0.0, 0.0], 0.5)
    with pytest.raises(ValueError, match="level must lie in"):
        rule([1.0, 2.0], [0.0, 0.0], 0.5, level=95)
    with pytest.raises(ValueError, match="worse must be 'high' or 'low'; got 'bad'"):
        weighted_cvar_estimate([1.0], [0.0], 0.5, worse="bad")  # type: ignore[arg-type]


@unit
def test_one_cluster_gives_no_interval() -> None:
    x, one = np.arange(100.0), np.zeros(100)
    assert weighted_quantile_estimate(x, one, 0.5, clusters=one).interval is None
    assert weighted_cvar_estimate(x, one, 0.5, clusters=one).interval is None


# --- Truth ----------------------------------------------------------------------------------------


def gate(values: list[float], truth: float, mutants: dict[str, list[float]]) -> None:
    """Mean of replicates at the truth, within a third of what the mildest mutant is off."""
    r = len(values)

    def tolerance(found: list[float]) -> float:
        return float(stats.t.ppf(1 - ALPHA / 2, r - 1) * np.std(found, ddof=1) / math.sqrt(r))

    shift = min(abs(float(np.mean(wrong)) - truth) for wrong in mutants.values())
    assert tolerance(values) <= min(shift / 3, 0.2 * abs(truth)), "the test is too coarse"
    assert abs(float(np.mean(values)) - truth) <= tolerance(values)
    for name, wrong in mutants.items():
        assert abs(float(np.mean(wrong)) - truth) > tolerance(wrong), name


@statistical
def test_weighted_figures_hit_the_truth() -> None:
    """90 % quantile and the mean beyond it under q, from 6,000 draws of p."""
    samples = np.random.default_rng(2).normal(size=(100, 6000))
    for rule, truth in (
        (weighted_quantile_estimate, A + float(stats.norm.ppf(0.9))),
        (weighted_cvar_estimate, cvar_of_normal(0.9, A)),
    ):
        mutants = {
            "l^0.8": [rule(x, 0.8 * A * x, 0.9).value for x in samples],
            "weights dropped": [rule(x, 0 * x, 0.9).value for x in samples],
            "share 0.15": [rule(x, A * x, 0.85).value for x in samples],
        }
        gate([rule(x, A * x, 0.9).value for x in samples], truth, mutants)


# --- Coverage -------------------------------------------------------------------------------------

LAWS: dict[str, tuple[Callable[[np.random.Generator, int], Array], Callable[[float], float]]] = {
    "uniform": (lambda rng, n: rng.random(n), lambda p: (1 + p) / 2),
    "normal": (lambda rng, n: rng.normal(size=n), cvar_of_normal),
    "exponential": (lambda rng, n: rng.exponential(size=n), lambda p: 1 - math.log(1 - p)),
    "Pareto 0.3": (lambda rng, n: rng.random(n) ** -0.3, lambda p: (1 - p) ** -0.3 / 0.7),
}


@statistical
@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize(("n", "prob"), [(500, 0.99), (400, 0.9)])
def test_cvar_covers(law: str, n: int, prob: float) -> None:
    """Of the worst 5 and the worst 40; the mutant has Student's symmetrical interval, and fails
    where five values of a heavy tail must tell its mean."""
    draw, truth = LAWS[law]
    rng, replicates = np.random.default_rng(3), 400
    found = [cvar_estimate(draw(rng, n), prob) for _ in range(replicates)]
    assert given_share(found) == 1
    assert covered(found, truth(prob)) >= low_count(replicates)
    if law != "Pareto 0.3":
        assert np.mean([each.status == "ok" for each in found]) > 0.97
    elif n == 500:
        symmetrical = [
            replace(each, interval=student(each.value, each.std_error or 0, n - 1, 0.95))
            for each in found
        ]
        assert covered(symmetrical, truth(prob)) < low_count(replicates)


@statistical
def test_cvar_of_a_tail_without_variance_is_flagged() -> None:
    rng = np.random.default_rng(4)
    found = [cvar_estimate(rng.random(5000) ** -0.9, 0.9).status for _ in range(200)]
    assert np.mean([status.startswith("values too uneven (Pareto k-hat") for status in found]) > 0.9
    found = [cvar_estimate(rng.exponential(size=5000), 0.9).status for _ in range(200)]
    assert np.mean([status == "ok" for status in found]) > 0.9


@statistical
@pytest.mark.parametrize("prob", [0.05, 0.5, 0.9])
@pytest.mark.parametrize("tilt", [A, -A])
def test_weighted_quantile_covers(prob: float, tilt: float) -> None:
    """1,000 draws, towards the tail and away from it; mutants drop the weights, or are narrow."""
    rng, replicates = np.random.default_rng(5), 400
    samples = rng.normal(size=(replicates, 1000))
    truth = tilt + float(stats.norm.ppf(prob))
    found = [weighted_quantile_estimate(x, tilt * x, prob) for x in samples]
    assert given_share(found) > 0.98
    assert covered(found, truth) >= low_count(replicates)
    assert covered([weighted_quantile_estimate(x, 0 * x, prob) for x in samples[:100]], truth) < 10
    if prob == 0.5:
        narrow = [weighted_quantile_estimate(x, tilt * x, prob, level=0.8) for x in samples]
        assert covered(narrow, truth) < low_count(replicates)


@statistical
@pytest.mark.parametrize(("n", "prob"), [(300, 0.95), (300, 0.9), (2000, 0.99)])
def test_intervals_beyond_the_samples_are_withheld_or_flagged(n: int, prob: float) -> None:
    """About three draws lie beyond the quantile: intervals are rarely given, wrong ones more rarely
    than 5 % of all runs, and no status is "ok"."""
    samples = np.random.default_rng(6).normal(size=(400, n))
    tilt = 1.0 if prob == 0.9 else A
    truths = (tilt + float(stats.norm.ppf(prob)), cvar_of_normal(prob, tilt))
    for rule, truth in zip(
        (weighted_quantile_estimate, weighted_cvar_estimate), truths, strict=True
    ):
        found = [rule(x, tilt * x, prob) for x in samples]
        assert covered(found, truth) >= low_count(400)
        assert np.mean([each.status == "ok" for each in found]) < 0.01


@statistical
@pytest.mark.parametrize(("tilt", "prob"), [(A, 0.5), (A, 0.9), (-A, 0.95)])
def test_weighted_cvar_covers(tilt: float, prob: float) -> None:
    samples = np.random.default_rng(7).normal(size=(400, 1500))
    truth = cvar_of_normal(prob, tilt)
    found = [weighted_cvar_estimate(x, tilt * x, prob) for x in samples]
    assert given_share(found) > 0.98
    assert covered(found, truth) >= low_count(400)
    assert covered([weighted_cvar_estimate(x, 0 * x, prob) for x in samples[:100]], truth) < 10
    narrow = [weighted_cvar_estimate(x, tilt * x, prob, level=0.75) for x in samples]
    assert covered(narrow, truth) < low_count(400)


@statistical
@pytest.mark.parametrize("prob", [0.2, 0.9])
def test_clusters_cover_where_single_samples_mislead(prob: float) -> None:
    """Twenty clusters of 40 draws, each four times, weighted towards the tail."""
    rng, replicates = np.random.default_rng(8), 400
    clusters = np.arange(20).repeat(160)
    samples = [rng.normal(size=800).repeat(4) for _ in range(replicates)]
    truths = (A + float(stats.norm.ppf(prob)), cvar_of_normal(prob, A))
    for rule, truth in zip(
        (weighted_quantile_estimate, weighted_cvar_estimate), truths, strict=True
    ):
        found = [rule(x, A * x, prob, clusters=clusters) for x in samples]
        assert given_share(found) > 0.95
        assert covered(found, truth) >= low_count(replicates)
        singly = [rule(x, A * x, prob) for x in samples[:100]]
        assert covered(singly, truth) < low_count(100)
    means = [weighted_mean(x, A * x, clusters=clusters) for x in samples]
    assert covered(means, A) >= low_count(replicates)
