"""The base model p of channels: a denoiser with what is needed to sample it, as one file.

Training lives in csi_audit.base_training, samplers in csi_audit.sampling.
"""

import hashlib
from dataclasses import asdict, dataclass, field, replace
from importlib import resources
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from channels.channel_set import Grid
from channels.support import CsiAuditError, did_you_mean, file_sha256, load_object
from compressors.weights_file import read_weights, refused_if_damaged, write_weights
from csi_audit.compressor_hash import held_numbers
from csi_audit.diffusion import Contrast, Denoiser, PreconditionedDenoiser
from csi_audit.networks import NetworkSpec

BUNDLED_BASES = {"base": "bundled UMi base", "small": "bundled small UMi base"}
"""Names of the base models the package carries, and what reports call them."""
_KIND = "csi-audit base model 1"
_LAW_VARIANCE = "law_variance"  # of an adapted base, beside that of its preconditioning


@dataclass(frozen=True, kw_only=True)
class Base:
    """A base law p, ready to sample.

    Attributes:
        denoiser: D(x, sigma) in audit space.
        variance: Variance of each coefficient in the training data, event_shape.
        sigma_min: Noise level of the last denoising step.
        sigma_max: Noise level of the start, about ten top eigen-deviations of the data.
        grid: Carrier, bandwidth and subcarriers of the training data.
        sha256: Hash of the file, or of the code and numbers of one named as file.py:attr; "" for
            a base that was in neither.
        card: How it was made and its validation figures.
        network: Its sizes; None for a denoiser that is not ours.
    """

    denoiser: Denoiser
    variance: Tensor
    sigma_min: float
    sigma_max: float
    grid: Grid
    sha256: str = ""
    card: dict[str, Any] = field(default_factory=dict)
    network: NetworkSpec | None = None

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


def build_denoiser(
    network: NetworkSpec, variance: Tensor, *, contrast: Contrast | None = None
) -> PreconditionedDenoiser:
    """A fresh preconditioned denoiser; variance is (2 n_rx, n_tx, n_delay)."""
    pairs, n_tx, n_delay = variance.shape[0] // 2, variance.shape[1], variance.shape[2]
    inner = network.build(5 * pairs, 3 * pairs, n_tx, n_delay)
    return PreconditionedDenoiser(inner, variance, contrast=contrast)


def save_base(
    path: str | Path,
    weights: dict[str, Tensor],
    *,
    network: NetworkSpec,
    sigma_min: float,
    sigma_max: float,
    grid: Grid,
    card: dict[str, Any],
    variance: Tensor | None = None,
    contrast: Contrast | None = None,
) -> str:
    """Write one safetensors file, weights rounded to float16, whole or not at all.

    Args:
        path: File to write.
        weights: Of the preconditioned denoiser.
        network, sigma_min, sigma_max, grid, card: See `Base`.
        variance: Of each coefficient of the training data, if the denoiser's own is another's.
        contrast: Of the denoiser; None has none.
    Returns:
        SHA-256 of the file.
    """
    described: dict[str, Any] = {
        "network": {"name": network.name, "options": dict(network.options)},
        "sigma_min": sigma_min,
        "sigma_max": sigma_max,
        "grid": asdict(grid),
    }
    if contrast is not None:
        described["contrast"] = asdict(contrast)
    kept = {} if variance is None else {_LAW_VARIANCE: variance}
    halves = {
        name: value if name == "variance" else value.half() for name, value in weights.items()
    } | kept
    return write_weights(path, halves, kind=_KIND, described=described, card=card)


def bundled_base(size: str = "base") -> Path:
    """Path of a base model the package carries, "base" or "small"."""
    return Path(str(resources.files("csi_audit") / "pretrained" / f"{size}_umi.safetensors"))


def base_name(spec: str | Path | None) -> str:
    """What reports call the base that `load_base` makes of `spec`."""
    if spec is None or spec in BUNDLED_BASES:
        return BUNDLED_BASES[str(spec or "base")]
    return Path(spec).name


def load_base(path: str | Path | None = None) -> Base:
    """A base model from its file; the bundled one without a path.

    Args:
        path: Weights of csi-audit (.safetensors); "base" or "small", which are bundled; or your own
            as "file.py:attr" or "package.module:attr": a `Base`, or a function without arguments
            that returns one.
    Raises:
        CsiAuditError: the file is missing, truncated or no base model.
    """
    if path is None or path in BUNDLED_BASES:
        path = bundled_base(str(path or "base"))
    if isinstance(path, str) and ":" in path and not Path(path).exists():
        return _from_code(path)
    path = Path(path)
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*.safetensors")] if path.parent.is_dir() else []
        bare = path.name == str(path) and not path.suffix  # as bundled names are
        hint = did_you_mean(path.name, [*near, *(BUNDLED_BASES if bare else ())])
        raise CsiAuditError(f"base model {path} does not exist.{hint}")
    halves, described = read_weights(
        path,
        kind=_KIND,
        otherwise="Train one with csi-audit fit-base; a base law of "
        "placements goes with --network.",
    )
    weights = {name: value.float() for name, value in halves.items()}
    variance = weights.pop(_LAW_VARIANCE, None)
    # Fresh weights are drawn, then overwritten.
    with refused_if_damaged(path), torch.random.fork_rng(devices=[]):
        spec = described["network"]
        network = NetworkSpec(name=spec["name"], options=tuple(spec["options"].items()))
        told = described.get("contrast")
        contrast = None if told is None else Contrast(**told)
        denoiser = build_denoiser(network, weights["variance"], contrast=contrast)
        denoiser.load_state_dict(weights)
    denoiser.eval().requires_grad_(False)
    return Base(
        denoiser=denoiser,
        variance=denoiser.variance if variance is None else variance,
        sigma_min=described["sigma_min"],
        sigma_max=described["sigma_max"],
        grid=Grid(**described["grid"]),
        sha256=file_sha256(path),
        card=described["card"],
        network=network,
    )


def _from_code(spec: str) -> Base:
    """A user's own base model, hashed so that a finished audit is not taken for another's."""
    found = load_object(spec)
    try:
        made = found if isinstance(found, Base) or not callable(found) else found()
    except CsiAuditError:
        raise
    except Exception as error:  # the user's own code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
        raise CsiAuditError(
            f"{spec!r} is called without arguments: load your weights there. It fails ({reason})."
        ) from error
    if not isinstance(made, Base):
        raise CsiAuditError(
            f"{spec!r} must be a csi_audit.base.Base or a function that returns one; got "
            f"{type(made).__name__}. csi_audit.foreign_denoisers.base_of_denoiser makes one."
        )
    if isinstance(made.denoiser, nn.Module):
        made.denoiser.eval().requires_grad_(False)
    return replace(made, sha256=_sha256_of_code(spec, made))


def _sha256_of_code(spec: str, base: Base) -> str:
    """SHA-256 of the file that a base is named in, and of every number it holds."""
    place = spec.rpartition(":")[0]
    module = None if Path(place).is_file() else find_spec(place)
    file = Path(place) if module is None or module.origin is None else Path(module.origin)
    digest = hashlib.sha256(file.read_bytes())
    held = (base.denoiser, base.variance, base.sigma_min, base.sigma_max)
    for name, value in held_numbers(held):
        digest.update(f"{name} ".encode())
        digest.update(value)
    return digest.hexdigest()


def coefficient_variance(x: Tensor, *, flip: bool = True) -> Tensor:
    """Variance of each coefficient under phase rotation and, with `flip`, the array flip,
    (2 n_rx, n_tx, n_delay)."""
    power = x.square().unflatten(1, (-1, 2)).mean((0, 2))  # (n_rx, n_tx, n_delay), re and im alike
    if flip:
        power = 0.5 * (power + torch.roll(power.flip(1), shifts=1, dims=1))
    return power.clamp_min(1e-6).repeat_interleave(2, dim=0)


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
