"""A base law of placements as one file: a `Base` whose denoiser knows no order of users.

Training lives in csi_audit.placement_training.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels.channel_set import Grid
from channels.support import CsiAuditError, file_sha256
from compressors.weights_file import read_weights, refused_if_damaged, write_weights
from csi_audit.base import Base
from csi_audit.placement_network import PlacementDenoiser, UserNetworkSpec, UserTransformer

_KIND = "csi-audit placement base 1"
NO_GRID = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=1)
"""Placements have no subcarriers."""


def build_placement_denoiser(network: UserNetworkSpec, variance: Tensor) -> PlacementDenoiser:
    """A fresh denoiser; variance is (n_users, 2)."""
    return PlacementDenoiser(UserTransformer(network), variance, network.around)


def save_placement_base(
    path: str | Path,
    weights: dict[str, Tensor],
    *,
    network: UserNetworkSpec,
    sigma_min: float,
    sigma_max: float,
    card: dict[str, Any],
) -> str:
    """Write one safetensors file, whole or not at all.

    Returns:
        SHA-256 of the file.
    """
    described = {"network": asdict(network), "sigma_min": sigma_min, "sigma_max": sigma_max}
    return write_weights(path, weights, kind=_KIND, described=described, card=card)


def load_placement_base(path: str | Path) -> Base:
    """A base law of placements from its file.

    Raises:
        CsiAuditError: the file is missing, truncated or no base law of placements.
    """
    path = Path(path)
    if not path.is_file():
        raise CsiAuditError(
            f"placement base {path} does not exist. Train one: csi_audit.placement_training."
        )
    weights, described = read_weights(
        path,
        kind=_KIND,
        otherwise="Leave --base out of csi-audit run --network, which then trains one.",
    )
    # Fresh weights are drawn, then overwritten.
    with refused_if_damaged(path), torch.random.fork_rng(devices=[]):
        network = UserNetworkSpec(**described["network"])
        denoiser = build_placement_denoiser(network, weights["variance"])
        denoiser.load_state_dict(weights)
    denoiser.eval().requires_grad_(False)
    return Base(
        denoiser=denoiser,
        variance=denoiser.variance,
        sigma_min=described["sigma_min"],
        sigma_max=described["sigma_max"],
        grid=NO_GRID,
        sha256=file_sha256(path),
        card=described["card"],
    )
