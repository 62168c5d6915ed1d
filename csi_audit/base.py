"""The base model p of channels: a denoiser with what is needed to sample it, as one file.

Training lives in csi_audit.base_training, samplers in csi_audit.sampling.
"""

from dataclasses import asdict, dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels.channel_set import Grid
from channels.support import CsiAuditError, did_you_mean, file_sha256
from compressors.weights_file import read_weights, refused_if_damaged, write_weights
from csi_audit.diffusion import Denoiser, PreconditionedDenoiser
from csi_audit.networks import NetworkSpec

_KIND = "csi-audit base model 1"


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base law p, ready to sample.

    Attributes:
        denoiser: D(x, sigma) in audit space.
        variance: Variance of each coefficient in the training data, event_shape.
        sigma_min: Noise level of the last denoising step.
        sigma_max: Noise level of the start, about ten top eigen-deviations of the data.
        grid: Carrier, bandwidth and subcarriers of the training data.
        sha256: Hash of the file, "" for a base that never was in one.
        card: How it was made and its validation figures.
    """

    denoiser: Denoiser
    variance: Tensor
    sigma_min: float
    sigma_max: float
    grid: Grid
    sha256: str = ""
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def event_shape(self) -> tuple[int, ...]:
        return self.denoiser.event_shape

    def require(self, shape: tuple[int, ...], *, name: str) -> None:
        """Refuse channels this base knows nothing of.

        Raises:
            CsiAuditError: `shape` (without the batch axis) is not the base's.
        """
        if tuple(shape) != self.event_shape:
            raise CsiAuditError(
                f"{name} holds channels of {_words(shape)}, the base model is for "
                f"{_words(self.event_shape)}. Train a base on such channels: csi-audit fit-base."
            )


def _words(shape: tuple[int, ...]) -> str:
    if len(shape) != 3:
        return str(shape)
    return f"{shape[0] // 2} receive x {shape[1]} transmit antennas x {shape[2]} delay taps"


def build_denoiser(network: NetworkSpec, variance: Tensor) -> PreconditionedDenoiser:
    """A fresh preconditioned denoiser; variance is (2 n_rx, n_tx, n_delay)."""
    pairs, n_tx, n_delay = variance.shape[0] // 2, variance.shape[1], variance.shape[2]
    return PreconditionedDenoiser(network.build(5 * pairs, 3 * pairs, n_tx, n_delay), variance)


def save_base(
    path: str | Path,
    weights: dict[str, Tensor],
    *,
    network: NetworkSpec,
    sigma_min: float,
    sigma_max: float,
    grid: Grid,
    card: dict[str, Any],
) -> str:
    """Write one safetensors file, weights rounded to float16, whole or not at all.

    Returns:
        SHA-256 of the file.
    """
    described = {
        "network": {"name": network.name, "options": dict(network.options)},
        "sigma_min": sigma_min,
        "sigma_max": sigma_max,
        "grid": asdict(grid),
    }
    halves = {
        name: value if name == "variance" else value.half() for name, value in weights.items()
    }
    return write_weights(path, halves, kind=_KIND, described=described, card=card)


def bundled_base() -> Path:
    """Path of the base model the package carries."""
    return Path(str(resources.files("csi_audit") / "pretrained" / "base_umi.safetensors"))


def load_base(path: str | Path | None = None) -> Base:
    """A base model from its file; the bundled one without a path.

    Raises:
        CsiAuditError: the file is missing, truncated or no base model.
    """
    path = bundled_base() if path is None else Path(path)
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
        raise CsiAuditError(f"base model {path} does not exist.{did_you_mean(path.name, near)}")
    halves, described = read_weights(
        path, kind=_KIND, otherwise="Train one with csi-audit fit-base."
    )
    weights = {name: value.float() for name, value in halves.items()}
    # Fresh weights are drawn, then overwritten.
    with refused_if_damaged(path), torch.random.fork_rng(devices=[]):
        spec = described["network"]
        network = NetworkSpec(name=spec["name"], options=tuple(spec["options"].items()))
        denoiser = build_denoiser(network, weights["variance"])
        denoiser.load_state_dict(weights)
    denoiser.eval().requires_grad_(False)
    return Base(
        denoiser=denoiser,
        variance=denoiser.variance,
        sigma_min=described["sigma_min"],
        sigma_max=described["sigma_max"],
        grid=Grid(**described["grid"]),
        sha256=file_sha256(path),
        card=described["card"],
    )


def ten_top_deviations(x: Tensor, *, iterations: int = 100) -> float:
    """Ten times the largest principal standard deviation of x (N, ...): where noise drowns data.

    Power iteration on the second-moment matrix, from the largest row.
    """
    rows = x.flatten(1)
    v = rows[rows.square().sum(1).argmax()]
    value = torch.zeros(())
    for _ in range(iterations):
        v = v / v.norm()
        v = (rows @ v) @ rows / len(rows)
        value = v.norm()
    return 10.0 * float(value.sqrt())
