"""Bits among coefficients: the water level's own equation, and exhaustive search."""

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels import CsiAuditError
from compressors.bit_allocation import allocate_bits, water_level

SEEDS = st.integers(0, 2**31)


def exhaustive(distortion: Tensor, bits: int) -> float:
    """The least total distortion over all allocations within the budget."""
    options = itertools.product(range(distortion.shape[1]), repeat=len(distortion))
    return min(
        sum(float(distortion[i, b]) for i, b in enumerate(choice))
        for choice in options
        if sum(choice) <= bits
    )


def greedy(distortion: Tensor, bits: int) -> Tensor:
    """Each bit where it helps most."""
    given_bits = torch.zeros(len(distortion), dtype=torch.int64)
    for _ in range(bits):
        gains = [
            float(row[b] - row[b + 1]) if b + 1 < len(row) else -1.0
            for row, b in zip(distortion, given_bits.tolist(), strict=True)
        ]
        given_bits[int(torch.tensor(gains).argmax())] += 1
    return given_bits


def total(distortion: Tensor, allocated: Tensor) -> float:
    return float(distortion.double().gather(1, allocated[:, None]).sum())


# --- The water level ------------------------------------------------------------------------------


@pytest.mark.property
@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=12), st.floats(0.01, 60))
def test_the_rates_add_up_to_the_bits(variances: list[float], bits: float) -> None:
    v = torch.tensor(variances, dtype=torch.float64)
    theta = water_level(v, bits)
    rates = 0.5 * (v / theta).log2().clamp_min(0)
    assert float(rates.sum()) == pytest.approx(bits, rel=1e-6, abs=1e-9)
    assert theta <= float(v.max()) * (1 + 1e-12)


@pytest.mark.unit
def test_known_water_levels() -> None:
    """Cover and Thomas: equal distortion where the variance allows it."""
    assert water_level(torch.tensor([4.0]), 1) == pytest.approx(1.0)
    assert water_level(torch.tensor([16.0, 1.0, 0.0]), 1) == pytest.approx(4.0)
    assert water_level(torch.tensor([16.0, 1.0]), 4) == pytest.approx(0.25)
    assert water_level(torch.tensor([2.0, 5.0, 3.0]), 0) == pytest.approx(5.0)


@pytest.mark.unit
@pytest.mark.parametrize(("variances", "bits"), [([1.0], -1), ([0.0, 0.0], 3)])
def test_no_water_level(variances: list[float], bits: int) -> None:
    with pytest.raises(CsiAuditError, match=r"bits must be >= 0, and some variance positive; got"):
        water_level(torch.tensor(variances), bits)


# --- Whole bits -----------------------------------------------------------------------------------


@pytest.mark.property
@given(SEEDS, st.integers(1, 5), st.integers(0, 3), st.integers(0, 12))
def test_no_allocation_is_better(seed: int, n: int, deepest: int, bits: int) -> None:
    """Falling distortions of any shape, convex or not."""
    generator = torch.Generator().manual_seed(seed)
    steps = torch.rand(n, deepest + 1, generator=generator, dtype=torch.float64) ** 3
    distortion = steps.flip(1).cumsum(1).flip(1)
    found = allocate_bits(distortion, bits)
    assert int(found.sum()) <= bits
    assert bool((found >= 0).all())
    assert bool((found <= deepest).all())
    assert total(distortion, found) == pytest.approx(exhaustive(distortion, bits), rel=1e-12)


@pytest.mark.unit
def test_bits_that_help_only_together() -> None:
    """A heavy tail: the first bit is nearly worthless, the second is not."""
    distortion = torch.tensor([[1.0, 0.95, 0.10], [0.5, 0.35, 0.25]])
    assert greedy(distortion, 2).tolist() == [0, 2]
    assert allocate_bits(distortion, 2).tolist() == [2, 0]


@pytest.mark.unit
def test_without_a_quantiser_of_some_depth() -> None:
    inf = torch.inf
    distortion = torch.tensor([[9.0, 1.0, inf], [4.0, 3.0, 0.0]])
    assert allocate_bits(distortion, 4).tolist() == [1, 2]
    assert allocate_bits(distortion, 100).tolist() == [1, 2]


@pytest.mark.unit
def test_more_bits_never_hurt() -> None:
    generator = torch.Generator().manual_seed(0)
    distortion = torch.rand(6, 5, generator=generator).sort(dim=1, descending=True).values
    totals = [total(distortion, allocate_bits(distortion, bits)) for bits in range(26)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] == pytest.approx(float(distortion[:, 0].sum()))
    assert totals[24] == totals[25] == pytest.approx(float(distortion[:, -1].sum()))


@pytest.mark.unit
def test_distortions_that_are_none() -> None:
    with pytest.raises(CsiAuditError, match=r"bits must be >= 0; got -1\."):
        allocate_bits(torch.ones(2, 3), -1)
    message = r"distortion must hold no NaN, and be finite without bits; got {} NaN\. Clean"
    for value, count in ((torch.nan, 1), (torch.inf, 0)):
        with pytest.raises(CsiAuditError, match=message.format(count)):
            allocate_bits(torch.tensor([[value, 0.0]]), 1)
