"""Weights as safetensors with a description inside, byte for byte the same for the same content."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from channels.support import atomic_write, file_sha256, write_text_atomic


def write_weights(
    path: str | Path,
    weights: Mapping[str, Tensor],
    *,
    kind: str,
    described: Mapping[str, Any],
    card: Mapping[str, Any],
) -> str:
    """Write one safetensors file, whole or not at all, and its card readable beside it.

    The file carries kind, description and card in its metadata; `<stem>.card.json` repeats the
    card for people.

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
    text = json.dumps(card, indent=1, ensure_ascii=False) + "\n"
    write_text_atomic(Path(path).with_suffix(".card.json"), text)
    return file_sha256(path)
