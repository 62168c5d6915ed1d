"""Hash of a user's own compressor, so that a finished audit is not taken for that of another one.

Files of weights have their SHA-256 already; here are objects, whose code stands in a file and whose
numbers may have come from anywhere.
"""

import hashlib
import inspect
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

_NO_NUMBERS = (type, FunctionType, MethodType, BuiltinFunctionType, ModuleType)


def code_sha256(compressor: object) -> str:
    """SHA-256 of the file that the class stands in, and of every number the object holds.

    Numbers are the tensors, arrays and scalars in attributes of the object and its class, in
    lists, mappings and objects there, in the `state_dict` of modules, and in tensors and modules
    of the file itself.

    Args:
        compressor: Under audit, just loaded.
    """
    digest = hashlib.sha256()
    kind = type(compressor)
    source = inspect.getsourcefile(kind)
    if source is not None:
        digest.update(Path(source).read_bytes())
    for name, value in held_numbers((_globals(kind), compressor)):
        digest.update(f"{name} ".encode())
        digest.update(value)
    return digest.hexdigest()


def held_numbers(
    value: object, name: str = "", seen: set[int] | None = None
) -> Iterator[tuple[str, bytes]]:
    """Path and bytes of each number that a value holds, in a fixed order."""
    seen = set() if seen is None else seen
    if isinstance(value, bool | int | float | complex):
        yield name, repr(value).encode()
    elif isinstance(value, Tensor | np.ndarray | np.generic):
        yield name, _bytes(value)
    elif id(value) not in seen and not isinstance(value, _NO_NUMBERS):
        seen.add(id(value))
        for key, part in _parts(value):
            yield from held_numbers(part, f"{name}.{key}", seen)


def _parts(value: Any) -> Iterator[tuple[str, object]]:
    """What a value holds, by key: of a module also the plain attributes of it and its parts."""
    if isinstance(value, Mapping):
        yield from ((str(key), part) for key, part in value.items())
    elif isinstance(value, list | tuple):
        yield from ((str(i), part) for i, part in enumerate(value))
    elif isinstance(value, nn.Module):
        yield from value.state_dict().items()
        yield from ((key, part) for key, part in _attributes(value) if not key.startswith("_"))
        yield from value.named_children()
    else:
        yield from _attributes(value)


def _attributes(value: object) -> Iterator[tuple[str, object]]:
    """Attributes of an object, those of its own classes first."""
    for kind in reversed(type(value).__mro__):
        if kind.__module__.partition(".")[0] not in ("builtins", "torch", "abc", "typing"):
            yield from ((k, part) for k, part in vars(kind).items() if not k.startswith("__"))
    yield from getattr(value, "__dict__", {}).items()


def _globals(kind: type) -> dict[str, object]:
    """Tensors and modules at the top of the file that a class stands in."""
    encode = getattr(kind, "encode", None)
    names = getattr(inspect.unwrap(encode), "__globals__", {}) if encode else {}
    kept = (Tensor, nn.Module, np.ndarray)
    return {name: value for name, value in names.items() if isinstance(value, kept)}


def _bytes(value: "Tensor | np.ndarray[Any, Any] | np.generic") -> bytes:
    if not isinstance(value, Tensor):
        array = np.asarray(value)
        return f"{array.dtype}{array.shape}".encode() + array.tobytes()
    plain = value.detach().cpu().to_dense().resolve_conj().resolve_neg().contiguous()
    flat = plain.reshape(-1).view(torch.uint8)  # numpy knows no bfloat16
    return f"{plain.dtype}{tuple(plain.shape)}".encode() + flat.numpy().tobytes()
