"""Compressors by name: build one, save one, load one from a file, the package or a user's code."""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from channels.convention import Convention
from channels.support import (
    CsiAuditError,
    did_you_mean,
    file_sha256,
    load_object,
)
from compressors.audit_space import Compressor
from compressors.crnet import CRNet
from compressors.csinet import CsiNet
from compressors.klt import Klt
from compressors.linear_start import Variant
from compressors.neural import CompressorNetwork
from compressors.weights_file import read_weights, refused_if_damaged, write_weights

_KIND = "csi-audit compressor 1"

_ARCHITECTURES: dict[str, Callable[..., CompressorNetwork]] = {
    "csinet": CsiNet,
    "crnet": CRNet,
    "klt": Klt,
}


@dataclass(frozen=True, kw_only=True)
class CompressorSpec:
    """All that is needed to build a compressor again beside its weights.

    Attributes:
        arch: Name of the architecture.
        n_code: Real code numbers M.
        event_shape: (2 n_rx, n_tx, n_delay) of the channels.
        variant: Of the neural nets, "published" or "linear_trunk" (compressors.linear_start).
        convention: Keyword arguments of channels.convention.Convention.
    """

    arch: str
    n_code: int
    event_shape: tuple[int, int, int] = (2, 32, 32)
    variant: Variant = "published"
    convention: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.arch not in _ARCHITECTURES:
            raise CsiAuditError(
                f"arch must be a known architecture; got {self.arch!r}."
                f"{did_you_mean(self.arch, _ARCHITECTURES)}"
            )
        if self.arch != "klt" and self.event_shape[0] != 2:
            raise CsiAuditError(
                f"{self.arch} reads one receive antenna; got channels with "
                f"{self.event_shape[0] // 2}. Split the antennas into users, or use the KLT."
            )

    @classmethod
    def for_ratio(
        cls, arch: str, ratio: int, *, event_shape: tuple[int, int, int] = (2, 32, 32)
    ) -> "CompressorSpec":
        """The form that csi-audit trains: linear trunk, unit-power channels as they are.

        Raises:
            CsiAuditError: unknown architecture, or a ratio that does not divide the channel.
        """
        size = event_shape[0] * event_shape[1] * event_shape[2]
        if ratio < 1 or size % ratio:
            raise CsiAuditError(
                f"ratio must divide the {size} real numbers of a channel; got {ratio}. "
                "Usual ratios are 4, 8, 16, 32, 64."
            )
        return cls(arch=arch, n_code=size // ratio, event_shape=event_shape, variant="linear_trunk")

    def build(self) -> CompressorNetwork:
        """The compressor with fresh weights."""
        channels, n_tx, n_delay = self.event_shape
        options: dict[str, Any] = {
            "n_tx": n_tx,
            "n_delay": n_delay,
            "convention": Convention(event_shape=self.event_shape, **dict(self.convention)),
        }
        if self.arch == "klt":
            options["n_rx"] = channels // 2
        else:
            options["variant"] = self.variant
        return _ARCHITECTURES[self.arch](self.n_code, **options)

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self),
            "event_shape": list(self.event_shape),
            "convention": dict(self.convention),
        }

    @classmethod
    def from_dict(cls, described: dict[str, Any]) -> "CompressorSpec":
        return cls(
            **{
                **described,
                "event_shape": tuple(described["event_shape"]),
                "convention": tuple(described["convention"].items()),
            }
        )


def build_compressor(arch: str, *, ratio: int = 16) -> CompressorNetwork:
    """A published architecture for 32 x 32 channels with fresh weights, exactly as published.

    Args:
        arch: "csinet", "crnet" or "klt".
        ratio: Compression ratio 2048 / n_code.
    Raises:
        CsiAuditError: unknown architecture, or a ratio that does not divide the channel.
    """
    linear = CompressorSpec.for_ratio(arch, ratio)
    return CompressorSpec(arch=arch, n_code=linear.n_code).build()


@dataclass(frozen=True, kw_only=True)
class NamedCompressor:
    """A loaded compressor with what a report says of it.

    Attributes:
        name: Short name, for tables.
        spec: As the user named it.
        compressor: The object under audit.
        card: How it was made, {} if unknown.
        sha256: Of its weights file, None for a user's object.
    """

    name: str
    spec: str
    compressor: Compressor
    card: dict[str, Any]
    sha256: str | None


def save_compressor(
    path: str | Path, network: nn.Module, spec: CompressorSpec, *, card: dict[str, Any]
) -> str:
    """Write weights with their spec and card; returns the SHA-256 of the file."""
    described = {"compressor": spec.to_dict()}
    return write_weights(path, network.state_dict(), kind=_KIND, described=described, card=card)


def bundled_compressors() -> dict[str, Path]:
    """Name -> weights file of the compressors the package carries."""
    folder = Path(str(resources.files("compressors") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def load_compressor(spec: str) -> NamedCompressor:
    """A compressor by bundled name, weights file, or `file.py:attr` / `package.module:attr`.

    Args:
        spec: For example "crnet-16", "runs/crnet/compressor.safetensors", "mine.py:MyNet". A class
            or function named there is called without arguments.
    Raises:
        CsiAuditError: nothing of that name, an unreadable file, or an object without the members
            of `Compressor`.
    """
    bundled = bundled_compressors()
    if spec in bundled:
        return _from_file(bundled[spec], spec, spec)
    if ":" in spec and not Path(spec).exists():
        return _from_code(spec)
    path = Path(spec)
    if path.is_file():
        name = path.parent.name if path.stem == "compressor" else path.stem
        return _from_file(path, name or path.stem, spec)
    raise CsiAuditError(
        f"compressor {spec!r} is neither bundled nor a file.{did_you_mean(spec, bundled)}"
        " Your own code is named as file.py:Class."
    )


def _from_file(path: Path, name: str, spec: str) -> NamedCompressor:
    weights, described = read_weights(
        path, kind=_KIND, otherwise="Name your own class as file.py:Class."
    )
    # Fresh weights are drawn, then overwritten.
    with refused_if_damaged(path), torch.random.fork_rng(devices=[]):
        network = CompressorSpec.from_dict(described["compressor"]).build()
        network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    return NamedCompressor(
        name=name, spec=spec, compressor=network, card=described["card"], sha256=file_sha256(path)
    )


def _from_code(spec: str) -> NamedCompressor:
    found = load_object(spec)
    makes_one = callable(found) and not isinstance(found, nn.Module)
    made = (
        found()
        if isinstance(found, type) or (makes_one and not hasattr(found, "encode"))
        else found
    )
    missing = [
        m for m in ("n_code", "convention", "encode", "decode", "bits") if not hasattr(made, m)
    ]
    if missing:
        raise CsiAuditError(
            f"{spec!r} lacks {', '.join(missing)}: a compressor has n_code, convention, encode(y), "
            "decode(z) and bits(z). See compressors/README.md."
        )
    if isinstance(made, nn.Module):
        made.eval().requires_grad_(False)
    name = spec.rpartition(":")[2]
    return NamedCompressor(name=name, spec=spec, compressor=made, card={}, sha256=None)
