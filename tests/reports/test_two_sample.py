"""The classifier test: known areas under the curve, folds that keep drops whole."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.estimates import Estimate
from reports.two_sample import (
    auc_estimate,
    classifier_test,
    fold_numbers,
    limit_verdict,
    perfect_auc,
)

ALPHA = 1e-6
unit, statistical = pytest.mark.unit, pytest.mark.statistical


@unit
def test_ties_count_half_and_folds_are_not_mixed() -> None:
    assert auc_estimate([1.0, 2.0, 3.0], [0.0, 2.0, 2.5]).value == pytest.approx(5.5 / 9)
    apart = auc_estimate(
        [1.0, 11.0, 2.0, 12.0], [0.0, 10.0, 0.5, 10.5], fold_base=[0, 1, 0, 1],
        fold_real=[0, 1, 0, 1],
    )  # fmt: skip
    assert (apart.value, apart.status, apart.interval) == (1.0, "no scatter", None)


@statistical
def test_the_interval_covers_a_known_area() -> None:
    """Normal scores a distance d apart: AUC = Phi(d / sqrt 2)."""
    random, truth, runs = np.random.default_rng(0), stats.norm.cdf(0.5 / math.sqrt(2)), 800
    found = [auc_estimate(random.normal(0.5, 1, 60), random.normal(0, 1, 90)) for _ in range(runs)]
    values = np.array([estimate.value for estimate in found])
    half = stats.t.ppf(1 - ALPHA / 2, runs - 1) * values.std(ddof=1) / math.sqrt(runs)
    assert half < 0.02
    assert abs(values.mean() - truth) < half
    assert abs(1 - values.mean() - truth) > half  # the two sides exchanged
    ends = [estimate.interval or (0.0, 1.0) for estimate in found]
    hits = sum(lo <= truth <= hi for lo, hi in ends)
    assert stats.binom.ppf(ALPHA, runs, 0.93) <= hits <= stats.binom.ppf(1 - ALPHA, runs, 0.97)
    scatter = np.mean([estimate.std_error for estimate in found])
    assert scatter == pytest.approx(values.std(ddof=1), rel=0.1)


@statistical
def test_drops_with_scores_of_their_own_widen_the_interval() -> None:
    random, runs, hits, naive = np.random.default_rng(1), 500, 0, 0
    drops = np.repeat(np.arange(25), 20)
    for _ in range(runs):
        real = random.normal(size=500) + random.normal(size=25)[drops]
        base = random.normal(0, math.sqrt(2), 500)
        for labels in (drops, None):
            lo, hi = auc_estimate(base, real, drops=labels).interval or (0.0, 1.0)
            inside = lo <= 0.5 <= hi
            hits, naive = (hits + inside, naive) if labels is not None else (hits, naive + inside)
    assert hits >= stats.binom.ppf(ALPHA, runs, 0.93)
    assert naive < stats.binom.ppf(ALPHA, runs, 0.93)


@statistical
def test_a_perfect_model_stays_below_its_quantile() -> None:
    random, runs = np.random.default_rng(2), 2000
    values = [
        auc_estimate(random.normal(size=50), random.normal(size=80)).value for _ in range(runs)
    ]
    limit = perfect_auc(50, 80)
    beyond = int((np.array(values) > limit).sum())
    assert stats.binom.ppf(ALPHA, runs, 0.04) <= beyond <= stats.binom.ppf(1 - ALPHA, runs, 0.06)


@unit
def test_folds_keep_groups_whole_and_are_even() -> None:
    groups = np.repeat(np.arange(10), 7)
    folds = fold_numbers(70, 5, np.random.default_rng(0), groups=groups)
    assert all(len(set(folds[groups == group])) == 1 for group in range(10))
    assert np.bincount(folds).tolist() == [14] * 5
    single = fold_numbers(13, 5, np.random.default_rng(0))
    assert sorted(np.bincount(single).tolist()) == [2, 2, 3, 3, 3]


@unit
@pytest.mark.parametrize(
    ("interval", "verdict"),
    [
        ((0.5, 0.6), "pass"),
        ((0.6, 0.7), "cannot tell"),
        ((0.66, 0.9), "off"),
        (None, "cannot tell"),
    ],
)
def test_the_limit(interval: tuple[float, float] | None, verdict: str) -> None:
    value = 0.6 if interval is None else interval[0]
    assert limit_verdict(Estimate(value=value, interval=interval, n=9, method=""), 0.65) == verdict


@pytest.mark.slow
@unit
def test_equal_laws_are_not_told_apart_and_shifted_ones_are() -> None:
    random = np.random.default_rng(3)
    real, drops = random.normal(size=(400, 4)), np.arange(400) // 50
    same = classifier_test(random.normal(size=(300, 4)), real, drops=drops)
    assert abs(same.auc.value - 0.5) < 0.12
    assert (same.verdict, same.n_columns, same.folds) == ("pass", 4, 5)
    assert same.perfect_95 == pytest.approx(0.536, abs=0.001)
    apart = classifier_test(random.normal(1.2, 1, size=(300, 4)), real, drops=drops)
    assert apart.auc.value > 0.9
    assert apart.verdict == "off"
    again = classifier_test(random.normal(size=(300, 4)), real, drops=drops[:1].repeat(400))
    assert again.folds == 5  # one drop only: users are put into folds one by one


@unit
def test_a_drop_cannot_be_learned_by_heart() -> None:
    """Each drop has a value of its own: who has seen half of it knows the other half."""
    random = np.random.default_rng(4)
    drops = np.repeat(np.arange(10), 40)
    places = random.random(10)[drops]
    real = np.stack([places, random.random(400)], axis=1)
    base = random.random((400, 2))
    whole = classifier_test(base, real, drops=drops).auc.value
    split = classifier_test(base, real).auc.value
    assert split > 0.95
    assert whole < 0.8


@unit
@pytest.mark.parametrize(
    ("base", "real", "message"),
    [
        ((9, 2), (9, 3), r"base and real must have equal columns; got \(9, 2\), \(9, 3\)"),
        ((3, 2), (9, 2), r"base and real must have at least 5 rows; got 3, 9"),
    ],
)
def test_bad_shapes_are_refused(base: tuple[int, int], real: tuple[int, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        classifier_test(np.zeros(base), np.zeros(real))
