"""Training of the base model: the denoising loss on channels under the symmetries of their law.

The loop, its checkpoints and its exact resume are compressors.harness_training's. A base may begin
with the weights of another, for a new scenario with few users.
"""

from copy import deepcopy
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from channels.channel_set import ChannelSet
from channels.shuffled import training_users, validation_users
from channels.support import CsiAuditError
from channels.symmetry import flip_array, random_symmetry
from channels.unions import FILE_LABEL, JoinedSource
from compressors.harness_training import Training, train
from compressors.plans import Plan
from csi_audit.base import (
    Base,
    build_denoiser,
    coefficient_variance,
    load_base,
    save_base,
    ten_top_deviations,
)
from csi_audit.base_sizes import choose_sizes
from csi_audit.configs import BASE_PLAN
from csi_audit.contrast_choice import STEPS as CONTRAST_STEPS
from csi_audit.contrast_choice import ContrastChoice, choose_contrast
from csi_audit.denoising_training import DenoisingModule, NoiseRange
from csi_audit.devices import is_writing_process, torch_device, wait_for_all
from csi_audit.diffusion import Contrast, PreconditionedDenoiser
from csi_audit.error_forecast import ErrorForecast, Weighting
from csi_audit.networks import NetworkSpec
from csi_audit.quick_fidelity import STEPS, QuickFidelity

PATIENCE = 6
"""Blocks of a risen validation loss after which a training is stopped, unless said otherwise."""
CONTRAST_SAMPLES = 1000
"""Base samples that each contrast is judged by, unless said otherwise."""
CONTRAST_USERS = 200
"""Validation users below which no contrast is chosen: their KS distances would tell nothing."""
FIDELITY_FIGURES = 8
"""How often in a training, at most, the fidelity of the averaged weights is looked at."""
VALIDATION_LEVELS = (0.02, 0.05, 0.1, 0.2, 0.4, 0.7, 1.2, 2.0, 3.5, 6.0, 12.0)


class BaseModule(DenoisingModule):
    """Denoising score matching on channels, under random phases and mirrored arrays.

    Args:
        network: Sizes of a fresh network, or the denoiser to begin with.
        variance: Of each coefficient of the data: the scale of the loss, and of a fresh network.
        plan, noise: See `BaseRecipe`.
        sigma_max: Highest noise level.
        flip: Whether the array may be mirrored.
        weighting: See `BaseRecipe`.
        fidelity: Taken of the averaged weights after up to `FIDELITY_FIGURES` blocks, evenly
            spread, the last of the plan among them; None takes none.
    """

    def __init__(
        self,
        network: NetworkSpec | PreconditionedDenoiser,
        variance: Tensor,
        plan: Plan,
        noise: NoiseRange,
        sigma_max: float,
        *,
        flip: bool = True,
        weighting: Weighting = "forecast",
        fidelity: QuickFidelity | None = None,
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            if isinstance(network, NetworkSpec):
                network = build_denoiser(network, variance)
            forecast = ErrorForecast() if weighting == "forecast" else None
        super().__init__(
            network, variance, plan, noise, sigma_max, VALIDATION_LEVELS, forecast=forecast
        )
        self.flip, self.fidelity = flip, fidelity

    def augmented(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        return random_symmetry(x, generator=generator, flip=self.flip)

    def block_figures(self, network: nn.Module, step: int) -> dict[str, float]:
        blocks, done = self.plan.steps // self.plan.block_steps, step // self.plan.block_steps
        due = FIDELITY_FIGURES * done // blocks > FIDELITY_FIGURES * (done - 1) // blocks
        if self.fidelity is None or not due:
            return {}
        found = self.fidelity(network)
        return {"ks_distortion": found.distortion, "ks_features": found.features}


@dataclass(frozen=True, kw_only=True)
class BaseRecipe:
    """Everything that fixes a base model besides its data.

    Attributes:
        network: Sizes; of a base that begins with another the other's.
        noise: Noise levels.
        plan: Steps, rates, seed.
        weighting: "forecast" lets channels with small and with large errors count alike; "even"
            takes the plain mean.
        patience: Blocks with a risen validation loss after which to stop; None stops at the end.
        fidelity_samples: Base samples that the figures on the way are taken from; 0 takes none.
        contrast_samples: Base samples that each contrast is judged by after the training, see
            `csi_audit.diffusion.Contrast`; with 0, or under 200 validation users, none is chosen
            and a base that begins with another keeps the other's.
    """

    network: NetworkSpec = field(default_factory=NetworkSpec)
    noise: NoiseRange = field(default_factory=NoiseRange)
    plan: Plan = BASE_PLAN
    weighting: Weighting = "forecast"
    patience: int | None = None
    fidelity_samples: int = 0
    contrast_samples: int = 0


def fit_base(
    channels: ChannelSet,
    validation: ChannelSet,
    *,
    folder: str | Path,
    recipe: BaseRecipe | None = None,
    start: Base | None = None,
    device: str = "auto",
    devices: int = 1,
    progress: bool = True,
) -> Base:
    """Train a base model; resumes from `folder` if a training was interrupted there.

    A base that begins with another keeps the variances which the other's network was trained
    with: fresh ones would hand it inputs it has never seen. Its loss is taken on the scale of the
    new users all the same, so that it can be held against a training from scratch.

    Args:
        channels: Training users.
        validation: Other users, for the selection of weights; same antennas and subcarriers.
        folder: Training state and the result, `base.safetensors`.
        recipe: Network, noise levels, steps; None chooses them by the number of users.
        start: Base to begin with, one of our own; its network goes before the recipe's.
        device: "auto", "cpu" or "cuda".
        devices: Number of devices, each with a batch of its own.
        progress: Whether to show a progress bar.
    Returns:
        The base as it was written, weights rounded to float16.
    Raises:
        CsiAuditError: the sets disagree in shape, the folder belongs to another recipe, or `start`
            is for other channels or no model of ours.
    """
    seed = 0 if recipe is None else recipe.plan.seed
    users, x = training_users(channels, seed=seed)
    x_validation = validation_users(validation, like=x, seed=seed)
    if recipe is None:
        shape = tuple(x.shape[1:])
        sizes = choose_sizes(len(channels), shape, default=BASE_PLAN, devices=devices)
        recipe = BaseRecipe(
            network=sizes.network,
            plan=sizes.plan,
            patience=PATIENCE,
            fidelity_samples=256,
            contrast_samples=CONTRAST_SAMPLES,
        )
    if start is not None:
        recipe = replace(recipe, network=_network_of(start, x, channels.source.path))
    module = base_module(recipe, channels, x, x_validation, start)
    described = _describe(recipe, channels, validation, start, devices)
    training = train(
        module,
        users,
        x_validation,
        folder=folder,
        recipe=described,
        device=device,
        devices=devices,
        progress=progress,
        patience=recipe.patience,
    )
    path = Path(folder) / "base.safetensors"
    if is_writing_process():
        chosen = _contrast(recipe, training, channels, x_validation, module, device)
        save_base(
            path,
            training.weights,
            network=recipe.network,
            sigma_min=recipe.noise.sigma_min,
            sigma_max=module.sigma_max,
            grid=channels.grid,
            card=_card(described, training, channels, x_validation, module) | _said(recipe, chosen),
            variance=None if start is None else module.scale.cpu(),
            contrast=_kept_contrast(start) if chosen is None else chosen.contrast,
        )
    wait_for_all()
    return load_base(path)


def base_module(
    recipe: BaseRecipe, channels: ChannelSet, x: Tensor, x_validation: Tensor, start: Base | None
) -> BaseModule:
    """Everything to train on some users, x those of `channels` that variances are taken from."""
    flip = channels.grid.is_ula  # the mirror image of a panel is no user of the same law
    sigma_max = round(ten_top_deviations(torch.cat([x, flip_array(x)]) if flip else x), 1)
    variance = coefficient_variance(x, flip=flip)
    fidelity = None
    if recipe.fidelity_samples:
        fidelity = QuickFidelity(
            x_validation,
            channels.grid,
            variance,
            sigma_min=recipe.noise.sigma_min,
            sigma_max=sigma_max,
            samples=recipe.fidelity_samples,
            seed=recipe.plan.seed,
        )
    network: NetworkSpec | PreconditionedDenoiser = recipe.network
    if start is not None:
        network = _trainable(start)
    return BaseModule(
        network,
        variance,
        recipe.plan,
        recipe.noise,
        sigma_max,
        flip=flip,
        weighting=recipe.weighting,
        fidelity=fidelity,
    )


def _contrast(
    recipe: BaseRecipe,
    training: Training,
    channels: ChannelSet,
    x_validation: Tensor,
    module: BaseModule,
    device: str,
) -> ContrastChoice | None:
    """The contrast of the trained weights as they will be written; None if none is looked for."""
    if not recipe.contrast_samples or len(x_validation) < CONTRAST_USERS:
        return None
    fidelity = QuickFidelity(
        x_validation,
        channels.grid,
        module.scale.cpu(),
        sigma_min=recipe.noise.sigma_min,
        sigma_max=module.sigma_max,
        samples=recipe.contrast_samples,
        seed=recipe.plan.seed,
        steps=CONTRAST_STEPS,
    )
    weights = {k: v.half().float() if k != "variance" else v for k, v in training.weights.items()}
    with torch.random.fork_rng(devices=[]):  # fresh weights are drawn, then overwritten
        denoiser = build_denoiser(recipe.network, weights["variance"])
    denoiser.load_state_dict(weights)
    return choose_contrast(denoiser.to(torch_device(device)).eval(), fidelity)


def _kept_contrast(start: Base | None) -> Contrast | None:
    """That of the base begun with."""
    denoiser = None if start is None else start.denoiser
    return denoiser.contrast if isinstance(denoiser, PreconditionedDenoiser) else None


def _said(recipe: BaseRecipe, chosen: ContrastChoice | None) -> dict[str, Any]:
    """What the card says of the contrast."""
    if chosen is None:
        return {}
    return {
        "contrast": {
            "what": "KS distance to the validation users by amount: distortion, mean feature",
            "samples": recipe.contrast_samples,
            "steps": CONTRAST_STEPS,
            "chosen": 0.0 if chosen.contrast is None else chosen.contrast.amount,
            "tried": [[amount, f.distortion, f.features] for amount, f in chosen.tried],
        }
    }


def _trainable(start: Base) -> PreconditionedDenoiser:
    """A copy of a base's denoiser that may be trained."""
    if not isinstance(start.denoiser, PreconditionedDenoiser):
        raise CsiAuditError(
            f"a base to begin with must be one that fit-base made; got a "
            f"{type(start.denoiser).__name__}. Train the foreign network where it came from."
        )
    copy = deepcopy(start.denoiser)
    copy.contrast = None  # the posterior mean is what is trained
    copy.train().requires_grad_(True)
    return copy


def _network_of(start: Base, x: Tensor, name: str) -> NetworkSpec:
    start.require(tuple(x.shape[1:]), name=name)
    if start.network is None:
        _trainable(start)  # says what is wrong with it
        raise CsiAuditError("a base to begin with must know its network. Load it from its file.")
    return start.network


def _describe(
    recipe: BaseRecipe, data: ChannelSet, validation: ChannelSet, start: Base | None, devices: int
) -> dict[str, Any]:
    described: dict[str, Any] = {
        "what": "base model",
        "data": data.source.identity(),
        "validation": validation.source.identity(),
        "read_as": data.read_as(),
        "network": {"name": recipe.network.name, "options": dict(recipe.network.options)},
        "noise": asdict(recipe.noise),
        "plan": asdict(recipe.plan),
        "weighting": recipe.weighting,
        "patience": recipe.patience,
        "fidelity_samples": recipe.fidelity_samples,
    }
    if devices != 1:  # each draws its own batches: another number is another training
        described["devices"] = devices
    if isinstance(data.source, JoinedSource):
        described["sources"] = _sources(data, data.source)
    if start is not None:
        described["adapted_from"] = {"sha256": start.sha256, "data": start.card.get("data")}
    return described


def _sources(data: ChannelSet, source: JoinedSource) -> list[dict[str, Any]]:
    """The files of a joined set: how each was read, and its users that are trained on."""
    number = data.label(FILE_LABEL)
    return [
        {
            **part.identity(),
            "format": part.format,
            "variable": part.variable,
            "convention": "" if part.convention is None else part.convention.describe(),
            "users": int((number == i).sum()),
        }
        for i, part in enumerate(source.parts)
    ]


def _card(
    described: dict[str, Any],
    training: Training,
    channels: ChannelSet,
    x_validation: Tensor,
    module: BaseModule,
) -> dict[str, Any]:
    last = int(training.curve[-1]["step"])
    users_a_step = described["plan"]["batch_size"] * described.get("devices", 1)
    card = {
        **described,
        "users": {"train": len(channels), "validation": len(x_validation)},
        "validation_loss": training.best["val_loss"],
        "selected_step": int(training.best["step"]),
        "last_step": last,
        "samples_seen": int(training.best["step"]) * users_a_step,
        "curve": [[int(row["step"]), round(row["val_loss"], 5)] for row in training.curve],
    }
    if module.fidelity is not None:
        card["fidelity"] = {
            "what": "KS distance to the validation users after a step: distortion, mean feature",
            "samples": module.fidelity.samples,
            "steps": STEPS,
            "perfect": round(module.fidelity.floor, 4),
            "curve": [
                [int(row["step"]), row["ks_distortion"], row["ks_features"]]
                for row in training.curve
                if "ks_features" in row
            ],
        }
    return card
