"""A base for a new scenario with few users: begun with another's weights, held against none.

Both trainings take at most as many steps, of the same network on the same users: either stops
where its validation loss has risen. csi_audit.base_training does them.
"""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from channels.channel_set import ChannelSet
from channels.randomness import seeded_generator
from channels.shuffled import training_users, validation_users
from csi_audit.base import Base
from csi_audit.base_training import BaseRecipe, base_module, fit_base
from csi_audit.quick_fidelity import FidelityFigures

ADAPTING = 0.25
"""Learning rate of a training that begins with another base, in units of the one from scratch,
where none is given."""
SCRATCH_NAME = "scratch"
_PIECE = 256  # as the harness validates


@dataclass(frozen=True, kw_only=True)
class HeldFigures:
    """A base on users that it was not trained on.

    Attributes:
        name: Which base.
        losses: Squared error of each user over that of the Wiener filter of the training users, at
            a noise level and with a noise that are the same for every base, (N,).
        fidelity: KS distances of a few samples; None if none were asked for.
        steps: Steps that its training took on the new users; None if it was not trained on them.
    """

    name: str
    losses: Tensor
    fidelity: FidelityFigures | None
    steps: int | None = None

    @property
    def validation_loss(self) -> float:
        return float(self.losses.mean())


class Yardstick:
    """One measure for bases of different origin: the same users, noise and scale for all.

    Args:
        channels: Training users, for variances and noise range.
        held: Users that the figures are taken on.
        recipe: Its noise levels, seed and `fidelity_samples`.
    """

    def __init__(self, channels: ChannelSet, held: ChannelSet, recipe: BaseRecipe) -> None:
        self.channels, self.recipe = channels, recipe
        _, self.x = training_users(channels, seed=recipe.plan.seed)
        self.held = validation_users(held, like=self.x, seed=recipe.plan.seed)

    def __call__(self, name: str, base: Base, *, steps: int | None = None) -> HeldFigures:
        """The figures of a base of our own: the loss of its network, the KS distances of its law.

        Args:
            name, steps: See `HeldFigures`.
            base: What is measured.
        Raises:
            CsiAuditError: `base` is foreign or for other channels.
        """
        module = base_module(self.recipe, self.channels, self.x, self.held, base).eval()
        losses = []
        with torch.inference_mode():
            for i, piece in enumerate(self.held.split(_PIECE)):
                generator = seeded_generator(self.recipe.plan.seed, "validation", i)
                losses.append(module.validation_loss(piece, generator=generator)["loss"])
        return HeldFigures(
            name=name,
            losses=torch.cat(losses).clone(),
            fidelity=None if module.fidelity is None else module.fidelity(_network(base)),
            steps=steps,
        )


def _network(base: Base) -> nn.Module:
    """The denoiser with its contrast, which the training's copy is without."""
    if not isinstance(base.denoiser, nn.Module):
        raise TypeError("a base of our own has a module as denoiser")
    return base.denoiser


def adapt_base(
    channels: ChannelSet,
    validation: ChannelSet,
    *,
    start: Base,
    folder: str | Path,
    recipe: BaseRecipe,
    scratch: bool = True,
    learning_rate: float | None = None,
    held: ChannelSet | None = None,
    **options: Any,
) -> tuple[Base, list[HeldFigures]]:
    """Train a base from another's weights, and beside it one from scratch, at most as long.

    Both go on where an interruption left them, the second in `folder`/scratch.

    Args:
        channels: Training users of the new scenario.
        validation: Other users, for the selection of weights.
        start: Base to begin with.
        folder: As for `fit_base`.
        recipe: Of the training from scratch; both take the network of `start`.
        scratch: Whether to train from scratch too.
        learning_rate: Peak rate of the adapting; None takes a quarter of the recipe's.
        held: Users the figures are taken on; None takes `validation`, which also selected weights.
        options: device, devices, progress of `fit_base`.
    Returns:
        The adapted base, and figures of `start`, of it, and of the one from scratch.
    Raises:
        CsiAuditError: as `fit_base`.
    """
    rate = ADAPTING * recipe.plan.learning_rate if learning_rate is None else learning_rate
    adapted = fit_base(
        channels,
        validation,
        folder=folder,
        recipe=replace(recipe, plan=replace(recipe.plan, learning_rate=rate)),
        start=start,
        **options,
    )
    measure = Yardstick(channels, validation if held is None else held, recipe)
    figures = [
        measure("as it was", start),
        measure("adapted", adapted, steps=adapted.card["last_step"]),
    ]
    if scratch and adapted.network is not None:
        other = fit_base(
            channels,
            validation,
            folder=Path(folder) / SCRATCH_NAME,
            recipe=replace(recipe, network=adapted.network),
            **options,
        )
        figures.append(measure("from scratch", other, steps=other.card["last_step"]))
    return adapted, figures
