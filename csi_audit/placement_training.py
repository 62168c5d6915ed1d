"""Training of a base law of placements, by the loop and the loss of the channels' base.

Draws of a generator stand for data, or there are placements. The laws here have the symmetries of
the square, so each training sample is turned and mirrored at random; `symmetric=False` for a law
that has not.
"""

from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels.placements import PlacementLaw
from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from compressors.harness_training import Training, train
from compressors.plans import Plan
from csi_audit.base import Base, ten_top_deviations
from csi_audit.denoising_training import DenoisingModule, NoiseRange
from csi_audit.placement_base import (
    build_placement_denoiser,
    load_placement_base,
    save_placement_base,
)
from csi_audit.placement_network import UserNetworkSpec

PLACEMENT_LEVELS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Noise levels of the validation loss, in half sides of the square."""
PLACEMENT_NOISE = NoiseRange(mean=-1.5, deviation=1.4, sigma_min=0.005)
"""Most training where the edges and clusters are decided; the last level is 0.25 m of 100."""
PLACEMENT_PLAN = Plan(
    steps=3_000, block_steps=500, batch_size=128, learning_rate=3e-3, ema_decay=0.998
)


@dataclass(frozen=True, kw_only=True)
class PlacementRecipe:
    """Everything that fixes a base law of placements besides the law it is taught.

    Attributes:
        network: Sizes, and the closed form that the network is trained around.
        noise: Noise levels.
        plan: Steps, rates, seed.
        n_train: Draws trained on.
        n_validation: Other draws, for the selection of weights.
        symmetric: Whether the law has the eight symmetries of the square.
    """

    network: UserNetworkSpec = field(default_factory=UserNetworkSpec)
    noise: NoiseRange = PLACEMENT_NOISE
    plan: Plan = PLACEMENT_PLAN
    n_train: int = 100_000
    n_validation: int = 2_000
    symmetric: bool = True

    def __post_init__(self) -> None:
        for name in ("n_train", "n_validation"):
            if getattr(self, name) < 1:
                raise CsiAuditError(f"{name} must be at least 1; got {getattr(self, name)}.")


def turn_square(x: Tensor, *, generator: torch.Generator) -> Tensor:
    """Each placement x (N, n_users, 2) under a random one of the square's eight symmetries."""
    signs = 1 - 2 * torch.randint(2, (len(x), 1, 2), generator=generator).to(x)
    swapped = torch.randint(2, (len(x), 1, 1), generator=generator).to(x.device) == 1
    return signs * torch.where(swapped, x.flip(-1), x)


class PlacementModule(DenoisingModule):
    """Denoising score matching on placements, under the symmetries of the square if asked."""

    def __init__(self, recipe: PlacementRecipe, variance: Tensor, sigma_max: float) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(recipe.plan.seed)
            denoiser = build_placement_denoiser(recipe.network, variance)
        super().__init__(denoiser, variance, recipe.plan, recipe.noise, sigma_max, PLACEMENT_LEVELS)
        self.symmetric = recipe.symmetric

    def augmented(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        return turn_square(x, generator=generator) if self.symmetric else x


def user_variance(x: Tensor, *, symmetric: bool) -> Tensor:
    """Second moment of each coordinate, pooled over users, (n_users, 2).

    About the centre of the square, which is the mean of a symmetric law.
    """
    second = x.square().mean((0, 1))
    if symmetric:
        second = second.mean().expand(2)
    return second.clamp_min(1e-6).expand(x.shape[1], 2).clone()


def fit_placement_base(
    law: PlacementLaw,
    *,
    folder: str | Path,
    recipe: PlacementRecipe | None = None,
    device: str = "auto",
    progress: bool = True,
) -> Base:
    """Train a base law of placements; resumes from `folder` if a training was interrupted there.

    Args:
        law: Its draws are the data, seeded by the plan's seed.
        folder: Training state and the result, `base.safetensors`.
        recipe: Network, noise levels, steps.
        device: "auto", "cpu" or "cuda".
        progress: Whether to show a progress bar.
    Raises:
        CsiAuditError: the folder belongs to another recipe or law.
    """
    recipe = PlacementRecipe() if recipe is None else recipe
    seed = recipe.plan.seed
    x = law.draw(recipe.n_train, generator=seeded_generator(seed, "placements"))
    held = law.draw(recipe.n_validation, generator=seeded_generator(seed, "held placements"))
    described = describe_placement_recipe(law, recipe)
    return _fit(x, held, described, folder=folder, recipe=recipe, device=device, progress=progress)


def fit_to_placements(
    x: Tensor,
    held: Tensor,
    *,
    named: str,
    folder: str | Path,
    recipe: PlacementRecipe,
    device: str = "auto",
    progress: bool = True,
) -> Base:
    """The same from placements themselves.

    Args:
        x: In the square, float32 (N, n_users, 2); the recipe's numbers of draws are not looked at.
        held: Other ones, for the selection of weights.
        named: What they are: a folder begun with others is refused.
        folder, recipe, device, progress: See `fit_placement_base`.
    """
    described = {**_described(named, recipe), "n_train": len(x), "n_validation": len(held)}
    return _fit(x, held, described, folder=folder, recipe=recipe, device=device, progress=progress)


def _fit(
    x: Tensor,
    held: Tensor,
    described: dict[str, Any],
    *,
    folder: str | Path,
    recipe: PlacementRecipe,
    device: str,
    progress: bool,
) -> Base:
    sigma_max = round(ten_top_deviations(x), 2)
    module = PlacementModule(recipe, user_variance(x, symmetric=recipe.symmetric), sigma_max)
    training = train(
        module, x, held, folder=folder, recipe=described, device=device, progress=progress
    )
    path = Path(folder) / "base.safetensors"
    save_placement_base(
        path,
        training.weights,
        network=recipe.network,
        sigma_min=recipe.noise.sigma_min,
        sigma_max=sigma_max,
        card=_card(described, training),
    )
    return load_placement_base(path)


def describe_placement_recipe(law: PlacementLaw, recipe: PlacementRecipe) -> dict[str, Any]:
    """Plain values that fix the trained base."""
    return _described(_describe_law(law), recipe)


def _described(law: str, recipe: PlacementRecipe) -> dict[str, Any]:
    return {"what": "placement base", "law": law, **asdict(recipe)}


def _describe_law(law: PlacementLaw) -> str:
    """The law with its parameters; a plain class would print its place in memory."""
    if is_dataclass(law):
        return f"{law}"
    held = ", ".join(f"{name}={value!r}" for name, value in sorted(vars(law).items()))
    return f"{type(law).__name__}({held})"


def _card(described: dict[str, Any], training: Training) -> dict[str, Any]:
    return {
        **described,
        "validation_loss": training.best["val_loss"],
        "selected_step": int(training.best["step"]),
        "curve": [[int(row["step"]), round(row["val_loss"], 5)] for row in training.curve],
    }
