"""Wasserstein-1 distances and what a perfect model would show."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.distances import wasserstein_distance, wasserstein_floor, wasserstein_item

unit, property_ = pytest.mark.unit, pytest.mark.property
statistical = pytest.mark.statistical
numbers = st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=30)


@property_
@given(a=numbers, b=numbers, shift=st.floats(-100, 100))
def test_a_distance_of_laws(a: list[float], b: list[float], shift: float) -> None:
    found = wasserstein_distance(a, b)
    assert found == pytest.approx(stats.wasserstein_distance(a, b), abs=1e-9)
    assert wasserstein_distance(b, a) == pytest.approx(found, abs=1e-9)
    moved = [value + shift for value in a]
    assert wasserstein_distance(a, moved) == pytest.approx(abs(shift), abs=1e-9)
    assert wasserstein_distance([3 * v for v in a], [3 * v for v in b]) == pytest.approx(
        3 * found, abs=1e-9
    )


@statistical
def test_the_floor_is_what_two_samples_of_one_law_show() -> None:
    random = np.random.default_rng(0)
    pairs = [(random.normal(size=80), random.normal(size=200)) for _ in range(300)]
    shown = np.array([wasserstein_distance(*pair) for pair in pairs])
    floors = np.array([wasserstein_floor(*pair, seed=i) for i, pair in enumerate(pairs[:60])])
    half = stats.t.ppf(1 - 5e-7, 299) * shown.std(ddof=1) / 300**0.5
    assert half < 0.2 * shown.mean()
    assert abs(shown.mean() - floors[:, 0].mean()) < half
    assert abs(shown.mean() - 1.5 * floors[:, 0].mean()) > half
    beyond = int((shown[:60] > floors[:, 1]).sum())
    assert beyond <= stats.binom.ppf(1 - 1e-6, 60, 0.05)


@unit
def test_an_item_stands_beside_its_floor() -> None:
    random = np.random.default_rng(1)
    item = wasserstein_item("a", random.normal(2, 1, 100), random.normal(0, 1, 100),
                            label="A", unit="dB", seed=0)  # fmt: skip
    assert (item.name, item.label, item.unit) == ("a", "A", "dB")
    assert item.distance > item.floor_95 > item.floor_mean > 0
    assert item.spread_real == pytest.approx(1, abs=0.3)


@unit
def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"b must be finite; got nan at index 0"):
        wasserstein_distance([1.0], [float("nan")])
    with pytest.raises(ValueError, match=r"level must lie in \(0, 1\); got 95"):
        wasserstein_floor([1.0], [2.0], seed=0, level=95)
