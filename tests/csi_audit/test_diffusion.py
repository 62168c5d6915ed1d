"""Denoisers: the trained one starts as the Wiener filter, the closed forms are posterior means."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from csi_audit.base import build_denoiser
from csi_audit.diffusion import (
    Denoiser,
    GaussianDenoiser,
    MixtureDenoiser,
    PreconditionedDenoiser,
    per_sample,
    wiener_error,
)
from csi_audit.networks import NetworkSpec

SHAPE = (2, 8, 8)
SMALL = NetworkSpec(options=(("channels", 4), ("hidden", 16), ("depth", 2)))


def variance() -> Tensor:
    return torch.exp(-0.4 * torch.arange(8)).expand(SHAPE) * torch.linspace(0.1, 2, 8)[:, None]


def noisy(n: int = 6, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x at n noise levels from 0.01 to 50."""
    generator = torch.Generator().manual_seed(seed)
    sigma = torch.logspace(-2, math.log10(50), n)
    spread = (variance() + sigma.view(-1, 1, 1, 1) ** 2).sqrt()
    return spread * torch.randn(n, *SHAPE, generator=generator), sigma


@pytest.fixture
def awake(seeded_torch: None) -> PreconditionedDenoiser:
    """A denoiser none of whose weights is zero."""
    denoiser = build_denoiser(SMALL, variance())
    with torch.no_grad():
        for weight in denoiser.parameters():
            weight.add_(0.05 * torch.randn(weight.shape))
    return denoiser.eval().requires_grad_(False)


# --- The trained form -----------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("name", ["axial_mixer", "tap_transformer", "unet"])
def test_starts_as_the_wiener_filter(name: str, seeded_torch: None) -> None:
    denoiser = build_denoiser(NetworkSpec(name=name), variance())
    wiener = GaussianDenoiser(torch.zeros(SHAPE), variance())
    x, sigma = noisy()
    assert denoiser.event_shape == wiener.event_shape == SHAPE
    assert torch.allclose(denoiser(x, sigma), wiener(x, sigma), rtol=1e-5, atol=1e-6)
    assert torch.allclose(denoiser(x, 0.7), wiener(x, 0.7), rtol=1e-5, atol=1e-6)


class Constant(torch.nn.Module):
    """A network that answers f and g everywhere."""

    def __init__(self, f: float, g: float) -> None:
        super().__init__()
        self.f, self.g = f, g

    def forward(self, maps: Tensor, log_sigma: Tensor) -> Tensor:
        out = torch.full((len(maps), 3, 8, 8), self.f, dtype=maps.dtype)
        out[:, 2] = self.g
        return out


@pytest.mark.unit
def test_what_the_network_s_answers_mean() -> None:
    """D = [c_skip + (1 - c_skip) g] x + c_out f: g = 1 is the identity, f counts in deviations of
    the posterior of a Gaussian coefficient, c_out^2 = v sigma^2 / (v + sigma^2)."""
    x, sigma = noisy()
    v, level = variance(), sigma.view(-1, 1, 1, 1)
    wiener = GaussianDenoiser(torch.zeros(SHAPE), v)(x, sigma)
    posterior = (v * level**2 / (v + level**2)).sqrt()
    assert torch.allclose(PreconditionedDenoiser(Constant(0, 1), v)(x, sigma), x)
    half = PreconditionedDenoiser(Constant(0, 0.5), v)(x, sigma)
    assert torch.allclose(half, 0.5 * (x + wiener), rtol=1e-4, atol=1e-5)
    moved = PreconditionedDenoiser(Constant(2, 0), v)(x, sigma)
    assert torch.allclose(moved, wiener + 2 * posterior, rtol=1e-4, atol=1e-5)


@pytest.mark.unit
def test_wiener_error_is_what_the_filter_leaves(seeded_torch: None) -> None:
    """E||D(x0 + sigma eps) - x0||^2 / n for x0 ~ N(0, v), by simulation."""
    denoiser = build_denoiser(SMALL, variance()).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    x0 = variance().sqrt() * torch.randn(4000, *SHAPE, generator=generator)
    for sigma in (0.1, 1.0, 20.0):
        x = x0 + sigma * torch.randn(x0.shape, generator=generator)
        found = float((denoiser(x, sigma) - x0).square().mean())
        assert found == pytest.approx(float(wiener_error(variance(), sigma, x0)[0]), rel=0.02)


@pytest.mark.unit
def test_a_channel_knows_no_neighbours(awake: PreconditionedDenoiser) -> None:
    x, sigma = noisy()
    whole = awake(x, sigma)
    alone = torch.cat([awake(x[i : i + 1], float(sigma[i])) for i in range(len(x))])
    assert torch.allclose(alone, whole, rtol=1e-4, atol=1e-5)
    order = torch.tensor([3, 1, 5, 0, 2, 4])
    assert torch.allclose(awake(x[order], sigma[order]), whole[order], rtol=1e-4, atol=1e-5)


@pytest.mark.unit
def test_half_precision_returns_the_dtype_of_x(awake: PreconditionedDenoiser) -> None:
    x, sigma = noisy()
    exact = awake(x, sigma)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = awake(x, sigma)
    assert rounded.dtype == torch.float32
    assert float((rounded - exact).square().sum() / exact.square().sum()) < 1e-4


@pytest.mark.unit
def test_two_receive_antennas(seeded_torch: None) -> None:
    denoiser = build_denoiser(SMALL, variance().repeat(2, 1, 1))
    x = torch.randn(3, 4, 8, 8)
    assert denoiser(x, 1.0).shape == x.shape


@pytest.mark.unit
def test_sigma_of_each_sample() -> None:
    x = torch.zeros(3, 2, 4, 4, dtype=torch.float64)
    assert per_sample(2.0, x).shape == (3, 1, 1, 1)
    assert per_sample(torch.arange(3), x).flatten().tolist() == [0.0, 1.0, 2.0]
    assert per_sample(torch.tensor(2.0), x).dtype == torch.float64


# --- Closed forms against quadrature --------------------------------------------------------------


MEANS = torch.tensor([[-1.0, 0.5], [1.5, 0.0]], dtype=torch.float64)
DEVIATIONS = torch.tensor([0.4, 0.7], dtype=torch.float64)
WEIGHTS = torch.tensor([0.3, 0.7], dtype=torch.float64)
CENTRE = torch.tensor([0.3, -0.2], dtype=torch.float64)
SPREAD = torch.tensor([0.5, 2.0], dtype=torch.float64)


def log_gaussian(x0: Tensor) -> Tensor:
    return -0.5 * ((x0 - CENTRE).square() / SPREAD).sum(-1)


def log_mixture(x0: Tensor) -> Tensor:
    gap = (x0[:, None] - MEANS).square().sum(2) / DEVIATIONS**2
    return torch.logsumexp(WEIGHTS.log() - 0.5 * gap - 2 * DEVIATIONS.log(), dim=1)


LAWS: dict[str, tuple[Denoiser, Callable[[Tensor], Tensor]]] = {
    "gaussian": (GaussianDenoiser(CENTRE, SPREAD), log_gaussian),
    "mixture": (MixtureDenoiser(WEIGHTS, MEANS, DEVIATIONS), log_mixture),
}


@pytest.mark.unit
@pytest.mark.parametrize("sigma", [0.2, 1.0, 4.0])
@pytest.mark.parametrize("law", sorted(LAWS))
def test_closed_forms_are_posterior_means(law: str, sigma: float) -> None:
    """E[x0 | x] = int x0 p(x0) N(x; x0, sigma^2) / int p(x0) N(x; x0, sigma^2), on a fine grid.

    The mutant is a denoiser told a noise level 2 % off.
    """
    denoiser, log_p = LAWS[law]
    axis = torch.linspace(-9, 9, 721, dtype=torch.float64)
    x0 = torch.cartesian_prod(axis, axis)
    x = torch.tensor([[0.0, 0.0], [-1.2, 0.9], [2.5, -1.5], [0.4, 0.3]], dtype=torch.float64)
    log_joint = log_p(x0) - 0.5 * torch.cdist(x, x0).square() / sigma**2  # (4, grid)
    exact = log_joint.softmax(1) @ x0
    assert torch.allclose(denoiser(x, sigma), exact, atol=1e-6)
    assert not torch.allclose(denoiser(x, 1.02 * sigma), exact, atol=1e-4)


@pytest.mark.unit
@pytest.mark.parametrize("law", sorted(LAWS))
def test_closed_forms_at_the_ends(law: str) -> None:
    """x itself without noise, the mean of the law under nothing but noise."""
    denoiser, _ = LAWS[law]
    x = torch.tensor([[0.5, -1.0], [1.0, 2.0]], dtype=torch.float64)
    mean = CENTRE if law == "gaussian" else WEIGHTS @ MEANS
    assert torch.allclose(denoiser(x, 1e-4), x, atol=1e-6)
    assert torch.allclose(denoiser(x, 1e4), mean.expand(2, 2), atol=1e-6)
    assert denoiser.event_shape == (2,)


@pytest.mark.unit
def test_a_mixture_of_one_is_a_gaussian() -> None:
    mixture = MixtureDenoiser(torch.ones(1), MEANS[:1], DEVIATIONS[:1])
    gaussian = GaussianDenoiser(MEANS[0], DEVIATIONS[0].square().expand(2))
    x = torch.randn(5, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    sigma = torch.tensor([0.1, 0.5, 1.0, 3.0, 20.0], dtype=torch.float64)
    assert torch.allclose(mixture(x, sigma), gaussian(x, sigma))
