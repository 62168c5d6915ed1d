"""Histograms in the plane and their divergence."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.divergence import BINS, Box, js_distance, mean_and_error

BOX = Box(low=(0.0, -1.0), high=(5.0, 1.0))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.unit
def test_bins_are_counted_by_row_and_column() -> None:
    width, height = 5.0 / BINS, 2.0 / BINS
    x = torch.tensor(
        [[2.5 * width, -1 + 4.5 * height], [2.5 * width, -1 + 4.5 * height], [4.9, 0.99]]
    )
    shares = BOX.histogram(x)
    assert shares[2 * BINS + 4] == pytest.approx(2 / 3)
    assert shares[24 * BINS + 24] == pytest.approx(1 / 3)
    assert np.count_nonzero(shares) == 2


@pytest.mark.unit
def test_what_lies_outside_joins_the_edge() -> None:
    shares = BOX.histogram(torch.tensor([[-9.0, -9.0], [9.0, 9.0], [9.0, -9.0], [9.0, -9.0]]))
    assert shares[0] == shares[-1] == 0.25
    assert shares[24 * BINS] == 0.5


@pytest.mark.unit
def test_weights_count_up_to_a_factor() -> None:
    x = torch.tensor([[0.1, 0.0], [4.9, 0.0]])
    log_w = torch.tensor([-1000.0, -1000.0 + math.log(3)], dtype=torch.float64)
    assert sorted(BOX.histogram(x, log_w)[[12, 24 * BINS + 12]]) == pytest.approx([0.25, 0.75])
    nothing = torch.tensor([0.0, -torch.inf], dtype=torch.float64)
    assert BOX.histogram(x, nothing)[12] == 1.0


@pytest.mark.unit
def test_known_distances() -> None:
    a, b = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])
    assert js_distance(a, a) == 0.0
    assert js_distance(a, b) == pytest.approx(math.sqrt(math.log(2)))
    half = np.array([0.5, 0.5, 0.0])
    known = 0.5 * math.log(4 / 3) + 0.5 * (0.5 * math.log(2 / 3) + 0.5 * math.log(2))
    assert js_distance(a, half) == pytest.approx(math.sqrt(known))


@pytest.mark.property
@given(st.lists(st.floats(0, 1), min_size=6, max_size=6), st.integers(0, 5))
def test_symmetric_and_bounded(values: list[float], one: int) -> None:
    a, b = np.array(values[:3]) + 1e-9, np.array(values[3:]) + 1e-9
    a, b = a / a.sum(), b / b.sum()
    d = js_distance(a, b)
    assert d == js_distance(b, a)
    assert 0 <= d <= math.sqrt(math.log(2)) + 1e-12


@pytest.mark.statistical
def test_two_sets_of_one_law_are_at_the_floor() -> None:
    """E[JSD] of two sets of n about K/(8 n) * 2 / 2 for K full bins: far below what a shift shows,
    and a law of another scale is told apart."""

    def shares(n: int, seed: int, scale: float = 1.0) -> np.ndarray:
        u = torch.rand(n, 2, generator=seeded(seed), dtype=torch.float64)
        return BOX.histogram(u * torch.tensor([5.0 * scale, 2.0]) - torch.tensor([0.0, 1.0]))

    n = 20_000
    floors = [js_distance(shares(n, 2 * s), shares(n, 2 * s + 1)) for s in range(10)]
    expected = math.sqrt((BINS**2 - 1) / (4 * n))  # JSD about chi2 / 8, chi2 = (K - 1) 2 / n
    mean, se = mean_and_error(floors)
    assert se is not None
    assert abs(mean - expected) < 6 * se + 0.01 * expected
    assert js_distance(shares(n, 90, 0.9), shares(n, 91)) > 1.5 * expected


@pytest.mark.unit
def test_mean_and_error() -> None:
    assert mean_and_error([2.0]) == (2.0, None)
    assert list(mean_and_error([1.0, 3.0])) == pytest.approx([2.0, 1.0])
