"""Coverage and density: exact means for equal laws, and what missing modes do to them."""

import math

import numpy as np
import pytest
from scipy import stats

from reports.neighbours import neighbour_coverage, perfect_coverage

ALPHA = 1e-6
unit, statistical = pytest.mark.unit, pytest.mark.statistical


@statistical
def test_equal_laws_show_the_exact_means() -> None:
    random, runs = np.random.default_rng(0), 300
    found = [
        neighbour_coverage(random.normal(size=(40, 2)), random.normal(size=(60, 2)), k=3)
        for _ in range(runs)
    ]
    pairs = (
        ([item.coverage.value for item in found], perfect_coverage(40, 60, k=3), 0.9),
        ([item.density for item in found], 1.0, 4 / 3),  # mutants: k off by one
    )
    for values, truth, wrong in pairs:
        half = stats.t.ppf(1 - ALPHA / 2, runs - 1) * np.std(values, ddof=1) / math.sqrt(runs)
        assert half < abs(wrong - 1 if wrong > 1 else 1 - wrong) * truth / 1.5
        assert abs(np.mean(values) - truth) < half
        assert abs(np.mean(values) * wrong - truth) > half


@unit
def test_known_values() -> None:
    real = np.array([[0.0], [1.0], [2.0], [10.0]])
    found = neighbour_coverage(np.array([[0.5], [1.4]]), real, k=1)
    # balls around 0, 1, 2 reach 1 far, that around 10 reaches 8: which hold 1, 2, 1 and 0 samples
    assert found.coverage.value == 0.75
    assert found.density == pytest.approx(4 / 2)
    assert perfect_coverage(1, 3, k=1) == pytest.approx(1 - 2 / 3)


@unit
def test_a_missing_mode_is_seen_and_scales_do_not_matter() -> None:
    random = np.random.default_rng(1)
    real = np.concatenate([random.normal(0, 1, (150, 2)), random.normal(20, 1, (150, 2))])
    base = random.normal(0, 1, (300, 2))
    drops = np.arange(300) // 30
    one = neighbour_coverage(base, real, drops=drops)
    assert one.coverage.value < 0.55 < one.perfect_coverage
    scale = np.array([1.0, 1e6])
    far = neighbour_coverage(base * scale, real * scale, drops=drops)
    assert far.coverage.value == one.coverage.value
    constant = np.ones((300, 1))
    wide = neighbour_coverage(np.hstack([base, constant]), np.hstack([real, constant]))
    assert (wide.n_columns, wide.coverage.value) == (2, one.coverage.value)


@unit
def test_bad_shapes_are_refused() -> None:
    with pytest.raises(ValueError, match=r"equal columns; got \(5, 2\), \(9, 3\)"):
        neighbour_coverage(np.zeros((5, 2)), np.zeros((9, 3)))
    with pytest.raises(ValueError, match=r"real must have more than k = 5 rows; got 5"):
        neighbour_coverage(np.zeros((9, 2)), np.zeros((5, 2)))
