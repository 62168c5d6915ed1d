"""Scalar quantisers against published tables, exact integrals and exhaustive search."""

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, stats
from torch import Tensor

from channels import CsiAuditError
from compressors.quantisers import (
    ScalarQuantiser,
    nearest_level,
    nearest_phase,
    straight_through,
)

# Mean squared error of the best quantiser of N(0, 1), from the tables of Max (1960), for 1..5 bits.
MAX = {1: 0.3634, 2: 0.1175, 3: 0.03454, 4: 0.009497, 5: 0.002499}
ALPHA = 1e-6
SEEDS = st.integers(0, 2**31)


def gaussian_mse(levels: Tensor) -> float:
    """Exact mean squared error on N(0, 1) with nearest levels, by closed-form moments."""
    r = levels.double().numpy()
    ends = np.concatenate(([-np.inf], (r[1:] + r[:-1]) / 2, [np.inf]))
    mass, density = np.diff(stats.norm.cdf(ends)), stats.norm.pdf(ends)
    mean = density[:-1] - density[1:]  # E[v; cell]
    return float(1 - 2 * (r * mean).sum() + (r**2 * mass).sum())


def laplacian(n: int, seed: int = 0) -> Tensor:
    """Draws of a heavy-tailed law, float64 (n,)."""
    generator = torch.Generator().manual_seed(seed)
    u = torch.rand(n, generator=generator, dtype=torch.float64) - 0.5
    return -u.sign() * torch.log1p(-2 * u.abs())


# --- Fitted to a Gaussian -------------------------------------------------------------------------


def gaussian(bits: int) -> ScalarQuantiser:
    """Fitted to the quantiles of N(0, 1): a sample without chance."""
    quantiles = (torch.arange(2**16, dtype=torch.float64) + 0.5) / 2**16
    return ScalarQuantiser.fit(torch.special.ndtri(quantiles), bits)


@pytest.mark.unit
@pytest.mark.parametrize("bits", sorted(MAX))
def test_published_distortions(bits: int) -> None:
    assert gaussian_mse(gaussian(bits).levels) == pytest.approx(MAX[bits], rel=5e-3)


@pytest.mark.unit
def test_known_levels() -> None:
    assert gaussian(0).levels.tolist() == pytest.approx([0.0], abs=1e-9)
    one = math.sqrt(2 / math.pi)
    assert gaussian(1).levels.tolist() == pytest.approx([-one, one], abs=1e-3)
    four = [-1.5104, -0.4528, 0.4528, 1.5104]
    assert gaussian(2).levels.tolist() == pytest.approx(four, abs=5e-3)


@pytest.mark.unit
@pytest.mark.parametrize("bits", [1, 3, 6])
def test_distortion_by_quadrature(bits: int) -> None:
    """The error of what `encode` and `decode` do, integrated over the density, cell by cell."""
    quantiser = gaussian(bits)

    def error(v: float) -> float:
        value = torch.tensor([v], dtype=torch.float64)
        return float((value - quantiser.decode(quantiser.encode(value))) ** 2) * stats.norm.pdf(v)

    r = quantiser.levels.numpy()
    ends = [-9.0, *((r[1:] + r[:-1]) / 2), 9.0]
    total = sum(
        integrate.fixed_quad(np.vectorize(error), a, b, n=12)[0]
        for a, b in itertools.pairwise(ends)
    )
    assert total == pytest.approx(gaussian_mse(quantiser.levels), rel=1e-4)


@pytest.mark.unit
def test_a_bit_is_worth_at_most_six_decibels() -> None:
    """Panter and Dite: D -> sqrt(3) pi / 2 * 4^-bits."""
    errors = [gaussian_mse(gaussian(bits).levels) for bits in range(9)]
    assert all(1 < a / b < 4 for a, b in itertools.pairwise(errors))
    assert errors[8] * 4**8 == pytest.approx(math.sqrt(3) * math.pi / 2, rel=0.02)


@pytest.mark.statistical
def test_measured_error_of_gaussian_draws() -> None:
    """`mse` against the exact integral; a decoder whose levels are 5 % too small must fail."""
    replicates, n = 24, 20_000
    quantiser = gaussian(4)
    generator = torch.Generator().manual_seed(1)
    draws = torch.randn(replicates, n, generator=generator, dtype=torch.float64)
    truth = gaussian_mse(quantiser.levels)

    def gap(errors: list[float]) -> tuple[float, float]:
        found = np.array(errors)
        t = stats.t.ppf(1 - ALPHA / 2, replicates - 1)
        return abs(found.mean() - truth), t * found.std(ddof=1) / math.sqrt(replicates)

    small = [0.95 * quantiser.decode(quantiser.encode(row)) for row in draws]
    right, half = gap([quantiser.mse(row) for row in draws])
    wrong, wrong_half = gap(
        [float((row - sent).square().mean()) for row, sent in zip(draws, small, strict=True)]
    )
    assert half <= min(0.2 * truth, wrong / 3)
    assert right <= half
    assert wrong > wrong_half


# --- Levels from training values ------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("bits", sorted(MAX))
def test_fitted_to_gaussian_draws(bits: int) -> None:
    """Never better than the optimum on the law itself, and close to it."""
    values = torch.randn(60_000, generator=torch.Generator().manual_seed(2))
    fitted = gaussian_mse(ScalarQuantiser.fit(values, bits).levels)
    assert 0.999 * MAX[bits] <= fitted <= 1.03 * MAX[bits]  # published to four digits


@pytest.mark.unit
@pytest.mark.parametrize("bits", [1, 3, 5, 8])
def test_a_fitted_level_is_the_mean_of_its_cell(bits: int) -> None:
    values = laplacian(8000)
    quantiser = ScalarQuantiser.fit(values, bits)
    assert quantiser.bits == bits
    index = quantiser.encode(values)
    means = torch.stack([values[index == j].mean() for j in range(2**bits) if (index == j).any()])
    near = quantiser.decode(index.unique())
    assert float((means - near).abs().max()) < 0.02 * float(values.std())


@pytest.mark.unit
def test_fitted_to_a_heavy_tail() -> None:
    """Published errors of the best quantisers of a Laplacian: 0.5, 0.1762, 0.0545, 0.0154."""
    values = laplacian(100_000)
    errors = [ScalarQuantiser.fit(values, bits).mse(values) / 2 for bits in (1, 2, 3, 4)]
    assert errors == pytest.approx([0.5, 0.1762, 0.0545, 0.0154], rel=0.03)
    wrong = ScalarQuantiser(levels=math.sqrt(2) * gaussian(4).levels)
    assert wrong.mse(values) / 2 > 1.2 * errors[-1]


@pytest.mark.unit
def test_more_bits_lose_less() -> None:
    values = laplacian(5000)
    errors = [ScalarQuantiser.fit(values, bits).mse(values) for bits in range(9)]
    assert errors == sorted(errors, reverse=True)
    assert errors[0] == pytest.approx(float(values.var(correction=0)))


@pytest.mark.unit
@pytest.mark.parametrize(
    ("values", "bits"), [([3.0], 2), ([1.0, 1.0, 1.0], 3), ([0.0, 0.0, 4.0], 1), ([-1.0, 2.0], 8)]
)
def test_as_many_levels_as_values_lose_nothing(values: list[float], bits: int) -> None:
    v = torch.tensor(values)
    assert ScalarQuantiser.fit(v, bits).mse(v) == pytest.approx(0, abs=1e-20)


# --- Indices, phases, gradients -------------------------------------------------------------------


@pytest.mark.property
@given(SEEDS, st.integers(0, 4))
def test_the_index_is_of_the_nearest_level(seed: int, bits: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    levels = torch.randn(2**bits, generator=generator, dtype=torch.float64).sort().values
    values = 2 * torch.randn(3, 5, generator=generator, dtype=torch.float64)
    quantiser = ScalarQuantiser(levels=levels)
    index = quantiser.encode(values)
    assert torch.equal(index, (values[..., None] - levels).abs().argmin(-1))
    assert torch.equal(quantiser.decode(index), levels[index])
    assert torch.equal(quantiser.encode(levels), torch.arange(2**bits))


@pytest.mark.unit
def test_tables_of_unequal_length() -> None:
    inf = torch.inf
    levels = torch.tensor([[0.0, inf, inf, inf], [-1.0, 1.0, inf, inf], [-2.0, -1.0, 1.0, 2.0]])
    values = torch.tensor([[9.0, 0.1, -1.4], [-9.0, 99.0, 1.6]])
    assert nearest_level(values, levels).tolist() == [[0, 1, 1], [0, 1, 3]]


@pytest.mark.property
@given(SEEDS, st.integers(1, 8))
def test_the_nearest_phase(seed: int, bits: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    v = torch.randn(20, generator=generator, dtype=torch.complex128)
    found = nearest_phase(v, bits)
    angle = 2 * torch.pi * torch.arange(2**bits, dtype=torch.float64) / 2**bits
    points = torch.polar(torch.ones_like(angle), angle)
    best = (v / v.abs() - points[:, None]).abs().argmin(0)
    assert torch.allclose(found, points[best], atol=1e-12)


@pytest.mark.unit
def test_straight_through() -> None:
    value = torch.tensor([0.3, -1e9], requires_grad=True)
    quantised = torch.tensor([1 / 3, 0.1])
    passed = straight_through(value, quantised)
    assert torch.equal(passed, quantised)
    (slope,) = torch.autograd.grad((passed * torch.tensor([2.0, 3.0])).sum(), value)
    assert slope.tolist() == [2.0, 3.0]


@pytest.mark.unit
@pytest.mark.parametrize("bits", [-1, 9])
def test_bits_out_of_range(bits: int) -> None:
    with pytest.raises(CsiAuditError, match=rf"bits must lie in 0\.\.8; got {bits}\."):
        ScalarQuantiser.fit(torch.zeros(4), bits)


@pytest.mark.unit
def test_values_that_cannot_be_fitted() -> None:
    for values, got in ((torch.zeros(0), "0"), (torch.tensor([0.0, torch.nan]), "2 with NaN")):
        message = rf"values must be finite, and at least one; got {got}"
        with pytest.raises(CsiAuditError, match=message):
            ScalarQuantiser.fit(values, 2)
