"""The base law of an audited network: one that is given, or one trained in the run directory."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from channels.placement_cards import NetworkCard
from channels.randomness import seeded_generator
from channels.support import CsiAuditError, atomic_write
from csi_audit.base import Base, load_base
from csi_audit.network_measuring import RealPlacements
from csi_audit.network_settings import TRAIN_BLOCK, NetworkRunConfig
from csi_audit.placement_base import load_placement_base

BASE_NAME = "base.safetensors"
TRAINING = "base"
LEAST_PLACEMENTS = 100


def given_base(spec: str | None, n_users: int) -> Base | None:
    """The base law that is named; None where none is.

    Raises:
        CsiAuditError: no base law of placements, or one of another number of users.
    """
    if spec is None:
        return None
    of_code = ":" in spec and not Path(spec).exists()
    base = load_base(spec) if of_code else load_placement_base(spec)
    if base.event_shape != (n_users, 2):
        shape = base.event_shape
        held = f"{shape[0]} users" if len(shape) == 2 else f"samples of shape {shape}"
        raise CsiAuditError(
            f"base {spec} is for {held}, the network card for {n_users}. Leave --base out, and one "
            "is trained in the run directory."
        )
    return base


def trained_base(
    config: NetworkRunConfig,
    card: NetworkCard,
    real: RealPlacements,
    folder: Path,
    *,
    progress: bool,
) -> Base:
    """The base law trained for this run: made once, kept as `base.safetensors`.

    On draws of the card's law, or on nine tenths of the file's placements, the weights being
    selected on the rest. Its checkpoints are in `state/base`, so a killed training goes on.

    Args:
        config: Training steps, draws, seed.
        card: Law and number of users.
        real: The real side.
        folder: Run directory.
        progress: Whether to show the training.
    """
    target = folder / BASE_NAME
    if not target.is_file():
        made = _fit(config, card, real, folder / "state" / TRAINING, progress=progress)
        with atomic_write(target) as temporary:
            temporary.write_bytes(made.read_bytes())
    return load_placement_base(target)


def check_trainable(real: RealPlacements) -> None:
    """Refuse a file of placements too few to train a base law on.

    Raises:
        CsiAuditError: names their number and the way out.
    """
    if real.from_file and len(real.x) < LEAST_PLACEMENTS:
        raise CsiAuditError(
            f"{real.info.path} holds {len(real.x)} placements; a base law is trained on "
            f"{LEAST_PLACEMENTS} or more. Name one with --base, or give more placements."
        )


def _fit(
    config: NetworkRunConfig,
    card: NetworkCard,
    real: RealPlacements,
    folder: Path,
    *,
    progress: bool,
) -> Path:
    from csi_audit.placement_training import (
        PLACEMENT_PLAN,
        PlacementRecipe,
        fit_placement_base,
        fit_to_placements,
    )

    blocks = math.ceil(config.train_steps / TRAIN_BLOCK)
    plan = replace(
        PLACEMENT_PLAN,
        steps=config.train_steps,
        block_steps=config.train_steps // blocks,
        seed=config.seed,
    )
    recipe = PlacementRecipe(plan=plan, n_train=config.train_draws, symmetric=not real.from_file)
    where: dict[str, Any] = {
        "folder": folder, "recipe": recipe, "device": config.device, "progress": progress,
    }  # fmt: skip
    if not real.from_file:
        fit_placement_base(card.law, **where)
    else:
        order = torch.randperm(
            len(real.x), generator=seeded_generator(config.seed, "placements kept out")
        )
        kept_out = max(1, len(order) // 10)
        named = f"placements {real.info.sha256}"
        fit_to_placements(real.x[order[kept_out:]], real.x[order[:kept_out]], named=named, **where)
    return folder / BASE_NAME
