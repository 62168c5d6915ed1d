"""Compressors by name: the bundled ones, files of all kinds, and a user's own code."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from channels.support import CsiAuditError, did_you_mean, file_sha256, load_object
from compressors.audit_space import Compressor
from compressors.checkpoint_reading import is_checkpoint
from compressors.compressor_cards import SUFFIXES, CompressorCard, read_card
from compressors.exported_models import model_format
from compressors.file_compressors import assemble
from compressors.weights_file import read_weights, refused_if_damaged
from compressors.zoo import WEIGHTS_KIND, CompressorSpec

_MEMBERS = ("n_code", "convention", "encode", "decode", "bits")


@dataclass(frozen=True, kw_only=True)
class NamedCompressor:
    """A loaded compressor with what a report says of it.

    Attributes:
        name: Short name, for tables.
        spec: As the user named it.
        compressor: The object under audit.
        card: How it was made, {} if unknown.
        sha256: Of its files, None for a user's object.
        notices: What was found or assumed in loading it, a sentence each.
    """

    name: str
    spec: str
    compressor: Compressor
    card: dict[str, Any]
    sha256: str | None
    notices: tuple[str, ...] = ()


def bundled_compressors() -> dict[str, Path]:
    """Name -> weights file of the compressors the package carries."""
    folder = Path(str(resources.files("compressors") / "weights"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def load_compressor(spec: str | Compressor, *, channels: Tensor | None = None) -> NamedCompressor:
    """A compressor by name, file or code.

    Args:
        spec: A bundled name ("crnet-16"); a weights file of csi-audit (.safetensors); a compressor
            card (.yaml); one exported model (TorchScript, torch.export, ONNX); a published
            checkpoint of CRNet, CLNet, ACRNet or TransNet (.pth); own code as "file.py:MyNet" or
            "package.module:attr", where a class or function is called without arguments; or the
            object itself.
        channels: Audit-space channels (N, 2 n_rx, n_tx, n_delay), of which some dozens are used
            where a file does not say its convention; None refuses such files.
    Returns:
        The compressor; `notices` tells a detected convention.
    Raises:
        CsiAuditError: nothing of that name, an unreadable file, a convention neither declared nor
            clear, or an object without the members of `Compressor`.
    """
    if not isinstance(spec, str):
        return _from_object(spec, f"{type(spec).__name__} object", type(spec).__name__)
    bundled = bundled_compressors()
    if spec in bundled:
        return _from_weights(bundled[spec], spec, spec)
    if ":" in spec and not Path(spec).exists():
        return _from_object(_made(load_object(spec)), spec, spec.rpartition(":")[2])
    path = Path(spec)
    if path.is_file():
        return _from_file(path, spec, channels)
    raise CsiAuditError(
        f"compressor {spec!r} is neither bundled nor a file.{did_you_mean(spec, bundled)}"
        " Your own code is named as file.py:Class."
    )


def _from_file(path: Path, spec: str, channels: Tensor | None) -> NamedCompressor:
    """By what the file is: card, exported model, published checkpoint, or weights of our own."""
    name = path.stem
    if path.suffix.lower() in SUFFIXES:
        card = read_card(path)
        name = card.name or name
    elif model_format(path) is not None or is_checkpoint(path):
        card = CompressorCard(path=path, model=path)
        name = path.name.removesuffix(".tar").removesuffix(".pth") if is_checkpoint(path) else name
    else:
        name = path.parent.name if name == "compressor" else name
        return _from_weights(path, name or path.stem, spec)
    made = assemble(card, channels)
    return NamedCompressor(
        name=name,
        spec=spec,
        compressor=made.compressor,
        card=made.facts,
        sha256=made.sha256,
        notices=made.notices,
    )


def _from_weights(path: Path, name: str, spec: str) -> NamedCompressor:
    weights, described = read_weights(
        path, kind=WEIGHTS_KIND, otherwise="Name your own class as file.py:Class."
    )
    # Fresh weights are drawn, then overwritten.
    with refused_if_damaged(path), torch.random.fork_rng(devices=[]):
        network = CompressorSpec.from_dict(described["compressor"]).build()
        network.load_state_dict(weights)
    network.eval().requires_grad_(False)
    return NamedCompressor(
        name=name, spec=spec, compressor=network, card=described["card"], sha256=file_sha256(path)
    )


def _made(found: Any) -> Any:
    """What a class or function makes when called without arguments; anything else as it is."""
    if isinstance(found, type):
        return found()
    makes_one = callable(found) and not isinstance(found, nn.Module)
    return found() if makes_one and not hasattr(found, "encode") else found


def _from_object(made: Any, spec: str, name: str) -> NamedCompressor:
    missing = [member for member in _MEMBERS if not hasattr(made, member)]
    if missing:
        raise CsiAuditError(
            f"{spec!r} lacks {', '.join(missing)}: a compressor has n_code, convention, encode(y), "
            "decode(z) and bits(z). See compressors/README.md."
        )
    if isinstance(made, nn.Module):
        made.eval().requires_grad_(False)
    return NamedCompressor(name=name, spec=spec, compressor=made, card={}, sha256=None)
