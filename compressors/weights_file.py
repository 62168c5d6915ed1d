"""Weights as safetensors with a description inside, byte for byte the same for the same content."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

from channels.support import atomic_write, file_sha256


def write_weights(
    path: str | Path, weights: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> str:
    """Write one safetensors file, whole or not at all.

    safetensors itself puts the metadata in a random order, so equal weights gave unequal files;
    here the keys are sorted.

    Returns:
        SHA-256 of the file.
    """
    plain = {name: value.contiguous() for name, value in weights.items()}
    data = safetensors.torch.save(plain, dict(metadata))
    length = int.from_bytes(data[:8], "little")
    described = json.loads(data[8 : 8 + length])
    described["__metadata__"] = dict(sorted(metadata.items()))
    header = json.dumps(described, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)  # tensors begin at a multiple of eight bytes
    with atomic_write(path) as temporary:
        temporary.write_bytes(len(header).to_bytes(8, "little") + header + data[8 + length :])
    return file_sha256(path)
