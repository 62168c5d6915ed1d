"""Compressors by name: the bundled ones, weights files, and a user's own code."""

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import nn

from channels.support import CsiAuditError, did_you_mean, file_sha256, load_object
from compressors.audit_space import Compressor
from compressors.weights_file import read_weights, refused_if_damaged
from compressors.zoo import WEIGHTS_KIND, CompressorSpec


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
