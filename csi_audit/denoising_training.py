"""Denoising score matching for any denoiser on any event shape, over the one training harness.

What is trained, the symmetries of its law and its data come from a subclass or the caller.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from compressors.harness_training import TrainedModule
from compressors.plans import Plan
from csi_audit.diffusion import per_sample, wiener_error
from csi_audit.error_forecast import ErrorForecast


@dataclass(frozen=True, kw_only=True)
class NoiseRange:
    """Which noise levels a base is trained on: log sigma ~ N(mean, deviation^2), clipped.

    Attributes:
        mean: Mean of log sigma, sigma in the units of x: unit-power channels, half squares.
        deviation: Its standard deviation.
        sigma_min: Lowest level, also where sampling ends.
    """

    mean: float = 0.0
    deviation: float = 1.7
    sigma_min: float = 0.01


def training_levels(
    n: int, noise: NoiseRange, sigma_max: float, *, generator: torch.Generator
) -> Tensor:
    """n noise levels, log sigma ~ N(mean, deviation^2), stratified and clipped, (n,)."""
    u = (torch.arange(n) + torch.rand(n, generator=generator)) / n
    normal = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-0.9999, 0.9999))
    log_sigma = noise.mean + noise.deviation * normal
    return log_sigma.exp().clamp(0.8 * noise.sigma_min, 1.2 * sigma_max)


class DenoisingModule(TrainedModule):
    """Denoising score matching, each noise level on the scale of its Wiener filter.

        loss = mean_n ||D(x0 + sigma eps, sigma) - x0||^2 / E||Wiener(x) - x0||^2

    One is what the best linear denoiser of independent coefficients reaches, at every level. In
    training each sample may count by the forecast of its error (csi_audit.error_forecast), in
    validation all count alike. Subclasses add the symmetries of their law.

    Args:
        denoiser: What is trained.
        variance: v of each coefficient of the data, event_shape: the scale of the loss.
        plan: Steps, rates, seed.
        noise: Which levels it is trained on.
        sigma_max: Highest level.
        validation_levels: Levels the validation loss is averaged over.
        forecast: Trained beside the denoiser; None counts all samples alike.
    """

    scale: Tensor

    def __init__(
        self,
        denoiser: nn.Module,
        variance: Tensor,
        plan: Plan,
        noise: NoiseRange,
        sigma_max: float,
        validation_levels: Sequence[float],
        *,
        forecast: ErrorForecast | None = None,
    ) -> None:
        super().__init__(denoiser, plan)
        self.noise, self.sigma_max = noise, sigma_max
        self.validation_levels = tuple(validation_levels)
        self.forecast = forecast
        self.register_buffer("scale", variance.clone(), persistent=False)

    def augmented(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        """The batch under a random symmetry of its law each; here as it is."""
        return x

    def loss(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        x = self.augmented(x, generator=generator)
        sigma = training_levels(len(x), self.noise, self.sigma_max, generator=generator)
        sigma = sigma.to(x.device)
        x0_hat, error = self.denoised(x, sigma, generator=generator)
        if self.forecast is None:
            return error.mean()
        weighted, own = self.forecast.losses(error, x0_hat, sigma)
        return weighted + own

    def validation_loss(self, x: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        levels = torch.tensor(self.validation_levels)
        sigma = levels[torch.arange(len(x)) % len(levels)].to(x.device)
        return {"loss": self.denoised(x, sigma, generator=generator)[1]}

    def denoised(
        self, x0: Tensor, sigma: Tensor, *, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """D at a noised x0, and its error over the Wiener filter's, (N,)."""
        eps = torch.randn(x0.shape, generator=generator).to(x0.device)
        x0_hat = self.network(x0 + per_sample(sigma, x0) * eps, sigma)
        error = (x0_hat - x0).square().flatten(1).mean(1)
        return x0_hat, error / wiener_error(self.scale, sigma, x0)
