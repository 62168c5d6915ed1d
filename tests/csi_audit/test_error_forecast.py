"""The forecast of a denoiser's error, and the weights made of it."""

import math

import pytest
import torch
from torch import Tensor

from channels.randomness import seeded_generator
from csi_audit.error_forecast import ErrorForecast


@pytest.fixture
def forecast(seeded_torch: None) -> ErrorForecast:
    return ErrorForecast()


def two_kinds(n: int, *, step: int) -> tuple[Tensor, Tensor, Tensor]:
    """Errors whose mean is 0.1 where x0_hat is sparse and 1 where it is full, times noise."""
    generator = seeded_generator(0, "two kinds", step)
    x0_hat = torch.randn(n, 2, 8, 8, generator=generator)
    sparse = torch.rand(n, generator=generator) < 0.5
    x0_hat[sparse, :, 1:] = 0.0
    mean = torch.where(sparse, 0.1, 1.0)
    noise = 0.5 + torch.rand(n, generator=generator)
    return mean * noise, x0_hat, torch.full((n,), 0.5)


@pytest.mark.unit
def test_before_training_all_count_alike(forecast: ErrorForecast) -> None:
    error, x0_hat, sigma = two_kinds(50, step=0)
    weighted, own = forecast.losses(error, x0_hat, sigma)
    assert torch.allclose(weighted, error.mean())
    assert torch.allclose(own, error.mean())


@pytest.mark.unit
def test_it_learns_the_mean_error_given_what_it_sees(forecast: ErrorForecast) -> None:
    optimizer = torch.optim.Adam(forecast.parameters(), lr=1e-2)
    for step in range(300):
        error, x0_hat, sigma = two_kinds(64, step=step)
        own = forecast.losses(error, x0_hat, sigma)[1]
        optimizer.zero_grad()
        own.backward()
        optimizer.step()
    error, x0_hat, sigma = two_kinds(400, step=1000)
    u = forecast(x0_hat, sigma).exp().detach()
    sparse = x0_hat[:, :, 1:].abs().sum((1, 2, 3)) == 0
    assert u[sparse].mean() == pytest.approx(0.1, rel=0.2)
    assert u[~sparse].mean() == pytest.approx(1.0, rel=0.2)
    weight = error / u  # both kinds count alike, though one errs ten times more
    assert weight[sparse].mean() == pytest.approx(float(weight[~sparse].mean()), rel=0.25)


@pytest.mark.unit
def test_the_denoiser_learns_from_the_weighted_errors_alone(forecast: ErrorForecast) -> None:
    """No gradient flows into D through the forecast, nor into the forecast through the weights."""
    _, x0_hat, sigma = two_kinds(20, step=0)
    x0_hat.requires_grad_(True)
    error = x0_hat.square().flatten(1).mean(1)
    weighted, own = forecast.losses(error, x0_hat, sigma)
    (into_d,) = torch.autograd.grad(own, x0_hat, allow_unused=True, retain_graph=True)
    assert into_d is None
    gradients = torch.autograd.grad(weighted, list(forecast.parameters()), allow_unused=True)
    assert all(gradient is None for gradient in gradients)


class Extreme(ErrorForecast):
    """Forecasts from nothing to beyond all floats."""

    def forward(self, x0_hat: Tensor, sigma: Tensor) -> Tensor:
        return torch.linspace(-100.0, 100.0, len(x0_hat))


@pytest.mark.unit
def test_an_extreme_forecast_cannot_take_the_batch(seeded_torch: None) -> None:
    """Weights sum to one, and the ratio of two is at most e^6."""
    error, x0_hat, sigma = two_kinds(50, step=0)
    error.requires_grad_(True)
    (weight,) = torch.autograd.grad(Extreme().losses(error, x0_hat, sigma)[0], error)
    assert torch.allclose(weight.sum(), torch.ones(()))
    assert float(weight.max() / weight.min()) == pytest.approx(math.exp(6), rel=1e-3)
