"""Compressors by architecture: describe one, build one, write its weights."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from torch import nn

from channels.convention import Convention
from channels.support import CsiAuditError, did_you_mean
from compressors.acrnet import ACRNet
from compressors.bit_matched import BIT_MATCHED, build_bit_matched
from compressors.clnet import CLNet
from compressors.crnet import CRNet
from compressors.csinet import CsiNet
from compressors.klt import Klt
from compressors.linear_start import Variant
from compressors.neural import CompressorNetwork
from compressors.quantised_autoencoder import QuantisedAutoencoder
from compressors.transnet import TransNet
from compressors.weights_file import write_weights

WEIGHTS_KIND = "csi-audit compressor 1"

_ARCHITECTURES: dict[str, Callable[..., CompressorNetwork]] = {
    "csinet": CsiNet,
    "crnet": CRNet,
    "clnet": CLNet,
    "acrnet": ACRNet,
    "transnet": TransNet,
    "conv-fsq": QuantisedAutoencoder,
    "klt": Klt,
}
_OF_ONE_FORM = ("conv-fsq", "klt")  # not of a paper, so without a published variant
# Keyword arguments beside the common ones, with what they are where none is given.
_OPTIONS: dict[str, dict[str, Any]] = {"acrnet": {"expansion": 1}, "conv-fsq": {"levels": 8}}


@dataclass(frozen=True, kw_only=True)
class CompressorSpec:
    """All that is needed to build a compressor again beside its weights.

    Attributes:
        arch: Name of the architecture.
        n_code: Real code numbers M.
        event_shape: (2 n_rx, n_tx, n_delay) of the channels.
        variant: Of the neural nets, "published" or "linear_trunk" (compressors.linear_start).
        convention: Keyword arguments of channels.convention.Convention.
        options: Keyword arguments of the architecture's own: expansion of acrnet, levels of
            conv-fsq; what is not given is filled in. Of those in `BIT_MATCHED`, what their fit
            found.
    """

    arch: str
    n_code: int
    event_shape: tuple[int, int, int] = (2, 32, 32)
    variant: Variant = "published"
    convention: tuple[tuple[str, Any], ...] = ()
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.arch in BIT_MATCHED:
            return  # its own class checks the options when it is built
        if self.arch not in _ARCHITECTURES:
            hint = did_you_mean(self.arch, (*_ARCHITECTURES, *BIT_MATCHED))
            raise CsiAuditError(f"arch must be a known architecture; got {self.arch!r}.{hint}")
        if self.arch != "klt" and self.event_shape[0] != 2:
            raise CsiAuditError(
                f"{self.arch} reads one receive antenna; got channels with "
                f"{self.event_shape[0] // 2}. Split the antennas into users, or use the KLT."
            )
        known = _OPTIONS.get(self.arch, {})
        for name, _ in self.options:
            if name not in known:
                raise CsiAuditError(
                    f"options of {self.arch} must be known ones; got {name!r}."
                    f"{did_you_mean(name, known) or ' It has none.'}"
                )
        object.__setattr__(self, "options", tuple({**known, **dict(self.options)}.items()))

    @classmethod
    def for_ratio(
        cls,
        arch: str,
        ratio: int,
        *,
        event_shape: tuple[int, int, int] = (2, 32, 32),
        options: Mapping[str, Any] | None = None,
    ) -> "CompressorSpec":
        """The form that csi-audit trains: linear trunk, unit-power channels as they are.

        Raises:
            CsiAuditError: unknown architecture, one that is fitted to bits and knows no ratio, or
                a ratio that does not divide the channel.
        """
        if arch in BIT_MATCHED:
            raise CsiAuditError(f"{arch} is fitted to a number of bits and has no ratio.")
        size = event_shape[0] * event_shape[1] * event_shape[2]
        if ratio < 1 or size % ratio:
            raise CsiAuditError(
                f"ratio must divide the {size} real numbers of a channel; got {ratio}. "
                "Usual ratios are 4, 8, 16, 32, 64."
            )
        return cls(
            arch=arch,
            n_code=size // ratio,
            event_shape=event_shape,
            variant="linear_trunk",
            options=tuple((options or {}).items()),
        )

    def build(self) -> CompressorNetwork:
        """The compressor with fresh weights."""
        if self.arch in BIT_MATCHED:
            return build_bit_matched(self.arch, dict(self.options), event_shape=self.event_shape)
        channels, n_tx, n_delay = self.event_shape
        options: dict[str, Any] = {
            "n_tx": n_tx,
            "n_delay": n_delay,
            "convention": Convention(event_shape=self.event_shape, **dict(self.convention)),
            **dict(self.options),
        }
        if self.arch == "klt":
            options["n_rx"] = channels // 2
        if self.arch not in _OF_ONE_FORM:
            options["variant"] = self.variant
        return _ARCHITECTURES[self.arch](self.n_code, **options)

    def to_dict(self) -> dict[str, Any]:
        """Plain values; `options` only where there are any, as in files older than they are."""
        described = {
            **asdict(self),
            "event_shape": list(self.event_shape),
            "convention": dict(self.convention),
            "options": dict(self.options),
        }
        return described if self.options else {k: v for k, v in described.items() if k != "options"}

    @classmethod
    def from_dict(cls, described: dict[str, Any]) -> "CompressorSpec":
        return cls(
            **{
                **described,
                "event_shape": tuple(described["event_shape"]),
                "convention": tuple(described["convention"].items()),
                "options": tuple(described.get("options", {}).items()),
            }
        )


def build_compressor(arch: str, *, ratio: int = 16, **options: Any) -> CompressorNetwork:
    """A published architecture for 32 x 32 channels with fresh weights, exactly as published.

    Args:
        arch: "csinet", "crnet", "clnet", "acrnet", "transnet", "conv-fsq" or "klt".
        ratio: Compression ratio 2048 / n_code.
        options: Of the architecture: expansion of acrnet, levels of conv-fsq.
    Raises:
        CsiAuditError: unknown architecture or option, or a ratio that does not divide the channel.
    """
    linear = CompressorSpec.for_ratio(arch, ratio, options=options)
    return replace(linear, variant="published").build()


def save_compressor(
    path: str | Path,
    network: nn.Module,
    spec: CompressorSpec,
    *,
    card: dict[str, Any],
    circumstances: dict[str, Any] | None = None,
    half: bool = False,
) -> str:
    """Write weights with their spec and card; returns the SHA-256 of the file.

    Args:
        path: The file; `<stem>.card.json` is written beside it.
        network: Whose weights.
        spec: What builds it.
        card: How it was made.
        circumstances: See `weights_file.write_weights`.
        half: Whether to store floating-point numbers as float16; they are read as float32 again.
    """
    weights = network.state_dict()
    if half:
        weights = {k: w.half() if w.is_floating_point() else w for k, w in weights.items()}
    return write_weights(
        path,
        weights,
        kind=WEIGHTS_KIND,
        described={"compressor": spec.to_dict()},
        card=card,
        circumstances=circumstances,
    )
