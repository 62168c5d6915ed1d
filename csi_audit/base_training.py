"""Training of the base model: the denoising loss on channels under the symmetries of their law.

The loop, its checkpoints and its exact resume are compressors.harness_training's.
"""

import math
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels.channel_set import ChannelSet
from channels.shuffled import training_users, validation_users
from channels.symmetry import flip_array, random_symmetry
from compressors.harness_training import TrainedModule, Training, train
from compressors.plans import Plan
from csi_audit.base import Base, build_denoiser, load_base, save_base, ten_top_deviations
from csi_audit.configs import BASE_PLAN
from csi_audit.diffusion import PreconditionedDenoiser
from csi_audit.networks import NetworkSpec

VALIDATION_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.2, 2.0, 3.5, 6.0, 12.0)


@dataclass(frozen=True, kw_only=True)
class NoiseRange:
    """Which noise levels a base is trained on: log sigma ~ N(mean, deviation^2), clipped.

    Attributes:
        mean: Mean of log sigma, sigma in the units of unit-power channels.
        deviation: Its standard deviation.
        sigma_min: Lowest level, also where sampling ends.
    """

    mean: float = 0.0
    deviation: float = 1.7
    sigma_min: float = 0.01


def coefficient_variance(x: Tensor, *, flip: bool = True) -> Tensor:
    """Variance of each coefficient under phase rotation and, with `flip`, the array flip,
    (2 n_rx, n_tx, n_delay)."""
    power = x.square().unflatten(1, (-1, 2)).mean((0, 2))  # (n_rx, n_tx, n_delay), re and im alike
    if flip:
        power = 0.5 * (power + torch.roll(power.flip(1), shifts=1, dims=1))
    return power.clamp_min(1e-6).repeat_interleave(2, dim=0)


class BaseModule(TrainedModule):
    """Denoising score matching, each noise level on the scale of its Wiener filter.

        loss = mean_n ||D(x0 + sigma eps, sigma) - x0||^2 / E||Wiener(x) - x0||^2

    One is what the best linear denoiser of independent coefficients reaches, at every level.
    """

    network: PreconditionedDenoiser

    def __init__(
        self,
        network: NetworkSpec,
        variance: Tensor,
        plan: Plan,
        noise: NoiseRange,
        sigma_max: float,
        *,
        flip: bool = True,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            denoiser = build_denoiser(network, variance)
        super().__init__(denoiser, plan)
        self.noise, self.sigma_max, self.flip = noise, sigma_max, flip

    def _relative_error(self, x0: Tensor, sigma: Tensor, generator: torch.Generator) -> Tensor:
        eps = torch.randn(x0.shape, generator=generator).to(x0.device)
        sigma = sigma.to(x0.device)
        x = x0 + sigma.view(-1, 1, 1, 1) * eps
        error = (self.network(x, sigma) - x0).square().flatten(1).mean(1)
        return error / self.network.wiener_error(sigma, x0)

    def loss(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        n = len(x)
        x = random_symmetry(x, generator=generator, flip=self.flip)
        u = (torch.arange(n) + torch.rand(n, generator=generator)) / n  # stratified
        normal = math.sqrt(2) * torch.erfinv((2 * u - 1).clamp(-0.9999, 0.9999))
        log_sigma = self.noise.mean + self.noise.deviation * normal
        sigma = log_sigma.exp().clamp(0.8 * self.noise.sigma_min, 1.2 * self.sigma_max)
        return self._relative_error(x, sigma, generator).mean()

    def validation_loss(self, x: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        levels = torch.tensor(VALIDATION_LEVELS)
        sigma = levels[torch.arange(len(x)) % len(levels)]
        return {"loss": self._relative_error(x, sigma, generator)}


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """Everything that fixes a base model besides its data."""

    network: NetworkSpec = field(default_factory=NetworkSpec)
    noise: NoiseRange = field(default_factory=NoiseRange)
    plan: Plan = BASE_PLAN


def fit_base(
    channels: ChannelSet,
    validation: ChannelSet,
    *,
    folder: str | Path,
    recipe: BaseRecipe | None = None,
    device: str = "auto",
    devices: int = 1,
    progress: bool = True,
) -> Base:
    """Train a base model; resumes from `folder` if a training was interrupted there.

    Args:
        channels: Training users.
        validation: Other users, for the selection of weights; same antennas and subcarriers.
        folder: Training state and the result, `base.safetensors`.
        recipe: Network, noise levels, steps.
        device: "auto", "cpu" or "cuda".
        devices: Number of devices.
        progress: Whether to show a progress bar.
    Returns:
        The base as it was written, weights rounded to float16.
    Raises:
        CsiAuditError: the sets disagree in shape, or the folder belongs to another recipe.
    """
    recipe = BaseRecipe() if recipe is None else recipe
    users, x = training_users(channels, seed=recipe.plan.seed)
    x_validation = validation_users(validation, like=x, seed=recipe.plan.seed)
    flip = channels.grid.is_ula  # the mirror image of a panel is no user of the same law
    sigma_max = round(ten_top_deviations(torch.cat([x, flip_array(x)]) if flip else x), 1)
    module = BaseModule(
        recipe.network,
        coefficient_variance(x, flip=flip),
        recipe.plan,
        recipe.noise,
        sigma_max,
        flip=flip,
    )
    described = _describe(recipe, channels, validation)
    training = train(
        module,
        users,
        x_validation,
        folder=folder,
        recipe=described,
        device=device,
        devices=devices,
        progress=progress,
    )
    path = Path(folder) / "base.safetensors"
    save_base(
        path,
        training.weights,
        network=recipe.network,
        sigma_min=recipe.noise.sigma_min,
        sigma_max=sigma_max,
        grid=channels.grid,
        card=_card(described, training, len(channels), len(x_validation)),
    )
    return load_base(path)


def _describe(recipe: BaseRecipe, data: ChannelSet, validation: ChannelSet) -> dict[str, Any]:
    return {
        "what": "base model",
        "data": data.source.identity(),
        "validation": validation.source.identity(),
        "read_as": data.read_as(),
        "network": {"name": recipe.network.name, "options": dict(recipe.network.options)},
        "noise": asdict(recipe.noise),
        "plan": asdict(recipe.plan),
    }


def _card(
    described: dict[str, Any], training: Training, n_train: int, n_validation: int
) -> dict[str, Any]:
    return {
        **described,
        "users": {"train": n_train, "validation": n_validation},
        "validation_loss": training.best["val_loss"],
        "selected_step": int(training.best["step"]),
        "samples_seen": int(training.best["step"]) * described["plan"]["batch_size"],
        "curve": [[int(row["step"]), round(row["val_loss"], 5)] for row in training.curve],
    }
