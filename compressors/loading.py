"""Compressors by name: the bundled ones, files of all kinds, and a user's own code."""

from dataclasses import dataclass
from importlib import resources
from numbers import Integral
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from channels.convention import Convention
from channels.support import CsiAuditError, did_you_mean, file_sha256, load_object
from compressors.audit_space import Compressor
from compressors.checkpoint_reading import is_checkpoint
from compressors.compressor_cards import SUFFIXES, CompressorCard, read_card
from compressors.exported_models import model_format
from compressors.file_compressors import assemble
from compressors.weights_file import read_weights, refused_if_damaged
from compressors.zoo import WEIGHTS_KIND, CompressorSpec

_CHANNELS = (".mat", ".h5", ".hdf5", ".npy", ".npz")
_MEMBERS = ("n_code", "convention", "encode", "decode", "bits")


@dataclass(frozen=True, kw_only=True)
class NamedCompressor:
    """A loaded compressor with what a report says of it.

    Attributes:
        name: Short name, for tables.
        spec: As the user named it.
        compressor: The object under audit.
        card: How it was made, {} if unknown.
        sha256: Of its files; None for a user's object, until an audit takes that of its code.
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
            card (.yaml); one exported model (TorchScript .pt or .ts, torch.export .pt2, .onnx); a
            published checkpoint of CRNet, CLNet, ACRNet or TransNet (.pth), of which nothing is
            run; own code as "file.py:MyNet" or
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
        return _from_object(_made(load_object(spec), spec), spec, spec.rpartition(":")[2])
    path = Path(spec)
    if path.is_file():
        return _from_file(path, spec, channels)
    raise CsiAuditError(
        f"compressor {spec!r} is neither bundled nor a file.{did_you_mean(spec, bundled)}"
        " Your own code is named as file.py:Class."
    )


def _from_file(path: Path, spec: str, channels: Tensor | None) -> NamedCompressor:
    """By the file's name: weights of our own, card, published checkpoint, or exported model."""
    name, suffix = path.stem, path.suffix.lower()
    if suffix == ".safetensors":
        name = path.parent.name if name == "compressor" else name
        return _from_weights(path, name or path.stem, spec)
    if suffix in SUFFIXES:
        card = read_card(path)
        name = card.name or name
    elif is_checkpoint(path):  # before exported models: *.pt may be either, and this runs nothing
        card = CompressorCard(path=path, model=path)
        name = name.removesuffix(".pth")  # of .pth.tar
    elif model_format(path) is not None:
        card = CompressorCard(path=path, model=path)
    else:
        raise _unknown_file(path)
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


def _unknown_file(path: Path) -> CsiAuditError:
    """What to do with a file of no known name."""
    suffix = path.suffix.lower()
    if suffix == ".py":
        return CsiAuditError(
            f"{path} is Python code: name the class in it too. Name it {path}:Class."
        )
    if suffix in _CHANNELS:
        return CsiAuditError(
            f"{path} is a file of channels by its name, not a compressor. Did you mean --data?"
        )
    return CsiAuditError(
        f"{path} is no compressor by its name: known are weights of csi-audit (.safetensors), "
        "cards (.yaml), exported models (.pt2, .pt, .ts, .onnx) and published checkpoints (.pth). "
        "Your own code is named as file.py:Class."
    )


def _made(found: Any, spec: str) -> Any:
    """What a class or function makes when called without arguments; anything else as it is."""
    is_maker = callable(found) and not isinstance(found, nn.Module) and not hasattr(found, "encode")
    if not (isinstance(found, type) or is_maker):
        return found
    try:
        return found()
    except CsiAuditError:
        raise
    except Exception as error:  # the user's own code may raise anything
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200].rstrip(".")
        raise CsiAuditError(
            f"{spec!r} is called without arguments: load your weights there. It fails ({reason})."
        ) from error


def _from_object(made: Any, spec: str, name: str) -> NamedCompressor:
    missing = [member for member in _MEMBERS if not hasattr(made, member)]
    if missing:
        raise CsiAuditError(
            f"{spec!r} lacks {', '.join(missing)}: a compressor has n_code, convention, encode(y), "
            "decode(z) and bits(z). See compressors/README.md."
        )
    n_code = made.n_code
    if not isinstance(n_code, Integral) or isinstance(n_code, bool) or n_code < 1:
        raise CsiAuditError(
            f"{spec!r}: n_code must be a positive whole number, the real numbers of a codeword; "
            f"got {n_code!r}."
        )
    if not isinstance(made.convention, Convention):
        raise CsiAuditError(
            f"{spec!r}: convention must be a channels.Convention; got {made.convention!r}."
        )
    if isinstance(made, nn.Module):
        made.eval().requires_grad_(False)
    return NamedCompressor(name=name, spec=spec, compressor=made, card={}, sha256=None)
