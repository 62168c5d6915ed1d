"""Weights as safetensors with a description inside, byte for byte the same for the same content."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from channels.support import CsiAuditError, atomic_write, file_sha256, write_text_atomic


def write_weights(
    path: str | Path,
    weights: Mapping[str, Tensor],
    *,
    kind: str,
    described: Mapping[str, Any],
    card: Mapping[str, Any],
    circumstances: Mapping[str, Any] | None = None,
) -> str:
    """Write one safetensors file, whole or not at all, and its card readable beside it.

    The file carries kind, description and card in its metadata; `<stem>.card.json` repeats the
    card for people. `circumstances`, which no two trainings share (time spent), stand in that
    alone, so that a training repeated gives the same file.

    safetensors itself puts the metadata in a random order, so equal weights gave unequal files;
    here the keys are sorted.

    Returns:
        SHA-256 of the file.
    """
    metadata = {"json": json.dumps({**described, "card": card}), "kind": kind}
    plain = {name: value.contiguous() for name, value in weights.items()}
    data = safetensors.torch.save(plain, metadata)
    length = int.from_bytes(data[:8], "little")
    contents = json.loads(data[8 : 8 + length])
    contents["__metadata__"] = dict(sorted(metadata.items()))
    header = json.dumps(contents, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
    with atomic_write(path) as temporary:
        temporary.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    text = json.dumps({**card, **(circumstances or {})}, indent=1, ensure_ascii=False) + "\n"
    write_text_atomic(Path(path).with_suffix(".card.json"), text)
    return file_sha256(path)


def read_weights(path: Path, *, kind: str, otherwise: str) -> tuple[dict[str, Tensor], Any]:
    """Weights and description of a file that `write_weights` wrote.

    Args:
        path: The file.
        kind: What it must be.
        otherwise: The way out where it is something else.
    Raises:
        CsiAuditError: unreadable, or of another kind.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        weights = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise CsiAuditError(
            f"{path} is no readable safetensors file ({error}). Is it complete?"
        ) from error
    if metadata.get("kind") != kind:
        words = kind.removeprefix("csi-audit ").rstrip(" 0123456789")
        raise CsiAuditError(
            f"{path} is not a {words} of csi-audit (kind {metadata.get('kind')!r}). {otherwise}"
        )
    with refused_if_damaged(path):
        return weights, json.loads(metadata["json"])


@contextmanager
def refused_if_damaged(path: Path) -> Iterator[None]:
    """Turn what a half-right file breaks while a network is built of it into one clear line."""
    try:
        yield
    except CsiAuditError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise CsiAuditError(f"{path} is damaged: {reason}. Make it again.") from error
