"""Tensors that PyTorch saved, as a workspace: a tensor, or dicts and lists of them.

Read as data only (`weights_only`), mapped from the file and never held whole. A file that holds
anything else than tensors, numbers and text is refused and nothing in it is executed.
"""

from __future__ import annotations

import pickle
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from channels.file_checks import recognise
from channels.opened import damaged
from channels.support import CsiAuditError
from channels.workspace import Array, Workspace, check_declared

__all__ = ["torch_workspace"]

_DEEPEST, _MOST_ENTRIES = 8, 4096
_MOST_PICKLE = 1 << 26  # bytes of the index that names the tensors
_WIDER = {torch.bfloat16: torch.float32, torch.complex32: torch.complex64}  # numpy lacks these


def torch_workspace(path: Path) -> Workspace:
    """Workspace of a file of `torch.save`; its one tensor is called `array`, those of dicts by
    "outer/inner", those of lists by their place.

    Raises:
        CsiAuditError: no such file, truncated, or it holds objects beside tensors, numbers, text.
    """
    if recognise(path) != "torch":
        raise CsiAuditError(f"{path} is no file of torch.save. Read it by channels.load_channels.")
    _check_archive(path)
    try:
        found = torch.load(path, weights_only=True, mmap=True, map_location="cpu")
    except pickle.UnpicklingError as error:
        raise CsiAuditError(
            f"{path} holds Python objects beside tensors, which are never loaded: they could run "
            'any code. Save plain tensors: torch.save({"h": h, "is_los": is_los}, file).'
        ) from error
    except Exception as error:  # torch raises a dozen kinds on damaged archives
        raise damaged(path, error) from error
    arrays: dict[str, Array] = {}
    texts: dict[str, str] = {}
    for name, value in _entries(path, found):
        if isinstance(value, str):
            texts[name] = value
        elif (array := _array(path, name, value)) is not None:
            arrays[name] = array
        if len(arrays) + len(texts) > _MOST_ENTRIES:
            raise CsiAuditError(f"{path} holds more than {_MOST_ENTRIES:,} tensors and numbers.")
    return Workspace(path=path, container="PyTorch", arrays=arrays, texts=texts)


def _check_archive(path: Path) -> None:
    """Raise unless the members are stored plainly, as `torch.save` does, and the index is small."""
    with zipfile.ZipFile(path) as archive:
        for info in archive.infolist():
            if info.compress_type != zipfile.ZIP_STORED:
                raise CsiAuditError(
                    f"{path}: its member {info.filename} is compressed, which torch.save never "
                    "does. Save the tensors again with torch.save."
                )
            if info.filename.endswith("data.pkl") and info.file_size > _MOST_PICKLE:
                raise CsiAuditError(
                    f"{path}: its index {info.filename} has {info.file_size:,} bytes, too many for "
                    "a set of tensors. Stack the users into one tensor and save that."
                )


def _entries(path: Path, found: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Leaves of nested dicts and lists with their names; a list of numbers is a leaf."""
    if depth > _DEEPEST:
        raise CsiAuditError(
            f"{path}: {name} lies more than {_DEEPEST} dicts deep. Save a flat dict of tensors."
        )
    if isinstance(found, list | tuple) and not _is_row(found):
        found = dict(enumerate(found))
    if isinstance(found, Mapping):
        for key, value in found.items():
            yield from _entries(path, value, f"{name}/{key}".lstrip("/"), depth + 1)
    else:
        yield name or "array", found


def _is_row(value: Any) -> bool:
    """Whether a leaf is a list of numbers, such as a label."""
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(isinstance(item, bool | int | float) for item in value)


def _array(path: Path, name: str, value: Any) -> Array | None:
    """Array of a leaf; None for what is no number."""
    if isinstance(value, Tensor):
        return _Rows(path, name, value)
    if isinstance(value, bool | int | float | complex) or _is_row(value):
        array = np.asarray(value)
        return array if array.dtype.kind in "biufc" else None
    return None


class _Rows:
    """A mapped tensor whose slices are numpy arrays."""

    def __init__(self, path: Path, name: str, tensor: Tensor) -> None:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise CsiAuditError(
                f"{path}: {name} is a tensor of layout {tensor.layout} on {tensor.device}; only "
                "dense ones are read. Save name.to_dense().cpu()."
            )
        self._tensor = tensor.detach()
        self.shape = tuple(tensor.shape)
        self.dtype = self._numbers(self._tensor.new_empty(0)).dtype
        stored = tensor.untyped_storage().nbytes()
        check_declared(path, name, self.shape, tensor.dtype.itemsize, stored)

    @staticmethod
    def _numbers(tensor: Tensor) -> np.ndarray:
        tiny = tensor.dtype.is_floating_point and tensor.dtype.itemsize < 2
        kind = torch.float32 if tiny else _WIDER.get(tensor.dtype, tensor.dtype)
        return np.array(tensor.to(kind).resolve_conj().resolve_neg().numpy())

    def __getitem__(self, key: Any) -> Any:
        return self._numbers(self._tensor[key])
