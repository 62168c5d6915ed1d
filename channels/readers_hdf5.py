"""HDF5: the container, the compact layout of this project, and MATLAB v7.3 and Octave's HDF5 as
workspaces.

Only data inside the file is read: external links, external raw storage and virtual datasets, which
would open other files of the machine, are refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from channels.axes import complex_of
from channels.labels import column, labels_of, left_out
from channels.opened import (
    COMPACT_GRID,
    COMPACT_SCALE,
    Opened,
    ReadOptions,
    as_number,
    damaged,
)
from channels.readers_matlab import refuse_objects
from channels.support import CsiAuditError
from channels.workspace import Array, Workspace, check_declared, listed

__all__ = ["compact_layout", "hdf5_workspace", "opened_hdf5"]

_DEEPEST, _MOST_ARRAYS, _MOST_GROUPS = 8, 4096, 16384  # groups within groups, a file's arrays, ...
_MOST_TEXT = 4096  # characters
_EMPTY = "MATLAB_empty"  # said of an array without numbers, in whose place its sizes lie
_MARKS = {"MATLAB_class": "MATLAB v7.3", "OCTAVE_NEW_FORMAT": "Octave HDF5"}


@contextmanager
def opened_hdf5(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; whatever h5py raises on a damaged one becomes a CsiAuditError."""
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CsiAuditError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise damaged(path, error) from error


class _Stored:
    """A dataset of a file that is open only while it is read, so that rows may be fetched at any
    time, in any process.

    The axes of MATLAB and Octave run the other way and their complex numbers are pairs
    {real, imag}.
    """

    def __init__(self, path: Path, dataset: h5py.Dataset, *, reverse: bool) -> None:
        self._path, self._name, self._reverse = path, dataset.name, reverse
        self._pair = dataset.dtype.names == ("real", "imag")
        self.shape = tuple(dataset.shape[::-1] if reverse else dataset.shape)
        self.dtype = dataset.dtype
        if self._pair:
            self.dtype = np.result_type(dataset.dtype["real"], np.complex64)
        stored = min(dataset.id.get_storage_size(), path.stat().st_size)
        self._declared = (dataset.dtype.itemsize, stored)

    def __getitem__(self, key: Any) -> Any:
        check_declared(self._path, self._name, self.shape, *self._declared)
        if self._reverse:
            given = key if isinstance(key, tuple) else (key,)
            rest = len(self.shape) - len(given)
            key = (slice(None),) * rest + given[::-1]
        with opened_hdf5(self._path) as file:
            value = file[self._name][key]
        if self._pair:
            value = complex_of(value["real"], value["imag"])
        return np.asarray(value).T if self._reverse else value


def _own(group: h5py.Group, name: str) -> h5py.Dataset | h5py.Group | None:
    """What lies under a name, None if its bytes are elsewhere: no soft or external link is
    followed, no virtual dataset or raw storage opened."""
    if not isinstance(group.get(name, getlink=True), h5py.HardLink):
        return None
    item = group.get(name)
    if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external is not None):
        return None
    return item


def _own_datasets(
    group: h5py.Group, seen: set[tuple[int, int]], deepest: int = _DEEPEST
) -> Iterator[h5py.Dataset]:
    """Datasets whose bytes lie in this file.

    Groups may be linked to each other and to themselves: each is entered once.

    Args:
        group: Where to begin.
        seen: Places of the groups that were entered.
        deepest: Groups within groups.
    """
    place = h5py.h5o.get_info(group.id)
    if (place.fileno, place.addr) in seen:
        return
    seen.add((place.fileno, place.addr))
    if len(seen) > _MOST_GROUPS:
        raise CsiAuditError(f"{group.file.filename} holds more than {_MOST_GROUPS:,} groups.")
    for name in group:
        item = _own(group, name) if name != "#refs#" else None
        if isinstance(item, h5py.Dataset):
            yield item
        elif isinstance(item, h5py.Group) and deepest > 0:
            yield from _own_datasets(item, seen, deepest - 1)


def _check_foreign(path: Path, file: h5py.File, variable: str | None) -> None:
    """Say so when the wanted variable is there, but its bytes are elsewhere."""
    item: h5py.Dataset | h5py.Group | None = file
    for part in filter(None, (variable or "").split("/")):
        if item is None:
            break
        if not isinstance(item, h5py.Group) or item.get(part, getlink=True) is None:
            return  # not there: the link was asked for, not its end
        item = _own(item, part)
    if item is None:
        raise _foreign(path, [str(variable)])
    if variable and isinstance(item, h5py.Group) and "OCTAVE_NEW_FORMAT" not in item.attrs:
        inside = listed(item.keys())
        raise CsiAuditError(f"{path}: {variable!r} is a group ({inside}), not an array.")


def _foreign(path: Path, names: list[str]) -> CsiAuditError:
    return CsiAuditError(
        f"{path}: {listed(map(repr, names))} points into another file, which is never "
        "followed. Copy its data into this file."
    )


def hdf5_workspace(path: Path, variable: str | None = None) -> Workspace:
    """Workspace of any HDF5 file; MATLAB v7.3 and Octave's in their own axis order and types.

    A variable H of Octave's `save -hdf5` is a group H of `type` and `value`; a struct's value holds
    its fields as such groups.

    Args:
        path: The file.
        variable: The array that is wanted: links into other files are refused by its name.
    Raises:
        CsiAuditError: truncated, foreign data, objects alone, more arrays than channels ever need.
    Source: MathWorks, "MAT-File Versions" (7.3); Octave, libinterp/corefcn/ls-hdf5.cc.
    """
    arrays: dict[str, Array] = {}
    texts: dict[str, str] = {}
    with opened_hdf5(path) as file:
        _check_foreign(path, file, variable)
        attributes = {name: file.attrs[name] for name in file.attrs}
        owned = {name: _own(file, name) for name in file}
        container = _container(owned.values())
        for dataset in _own_datasets(file, set()):
            name, kind = _named(dataset, container)
            if name is None:
                continue
            if len(arrays) == _MOST_ARRAYS:
                raise CsiAuditError(f"{path} holds more than {_MOST_ARRAYS:,} arrays.")
            if kind == "char" or dataset.dtype.kind == "O":
                texts |= _small_text(name, dataset, kind)
            elif _is_numeric(dataset):
                arrays[name] = _Stored(path, dataset, reverse=container != "HDF5")
        foreign = [name for name, item in owned.items() if item is None]
        if foreign and not any(len(array.shape) > 2 for array in arrays.values()):
            raise _foreign(path, foreign)
        if container == "MATLAB v7.3" and not arrays:
            refuse_objects(path, list(file))
    return Workspace(
        path=path, container=container, arrays=arrays, texts=texts, attributes=attributes
    )


def _container(items: Iterable[h5py.Dataset | h5py.Group | None]) -> str:
    """ "MATLAB v7.3", "Octave HDF5" or "HDF5", by the attributes of what lies in the root."""
    held = [item for item in items if item is not None]
    found = (said for mark, said in _MARKS.items() if any(mark in item.attrs for item in held))
    return next(found, "HDF5")


def _named(dataset: h5py.Dataset, container: str) -> tuple[str | None, str | None]:
    """A dataset's name in the workspace, None for no variable, and its class if it states one."""
    name = dataset.name.lstrip("/")
    if container != "Octave HDF5":
        return name, _text(dataset.attrs.get("MATLAB_class"))
    parts = name.split("/")  # H/value, s/value/H/value
    if set(parts[1::2]) != {"value"} or len(parts) % 2 or "OCTAVE_EMPTY_MATRIX" in dataset.attrs:
        return None, None
    stated = _own(dataset.parent, "type")
    kind = None
    if isinstance(stated, h5py.Dataset) and stated.shape == () and stated.dtype.kind == "S":
        kind = bytes(stated[()]) if stated.dtype.itemsize <= _MOST_TEXT else None
    return "/".join(parts[0::2]), "char" if kind in (b"string", b"sq_string") else None


def _is_numeric(dataset: h5py.Dataset) -> bool:
    """Whether it holds numbers that are no object's insides and not the sizes of an empty array."""
    pair = dataset.dtype.names == ("real", "imag")
    numbers = pair or dataset.dtype.kind in "biufc"
    return numbers and not {"MATLAB_object_decode", _EMPTY} & dataset.attrs.keys()


def _small_text(name: str, dataset: h5py.Dataset, kind: str | None) -> dict[str, str]:
    """Text of a MATLAB char array (uint16) or an HDF5 string, if there is a little of it."""
    if dataset.size is None or not 0 < dataset.size <= _MOST_TEXT:
        return {}
    if kind == "char" and dataset.dtype.kind in "ui":
        if _EMPTY in dataset.attrs:
            return {name: ""}
        codes = np.asarray(dataset[()]).ravel()
        if codes.itemsize == 1:  # Octave's bytes
            return {name: codes.tobytes().decode(errors="replace")}
        return {name: codes.astype("<u2").tobytes().decode("utf-16-le", errors="replace")}
    if h5py.check_string_dtype(dataset.dtype) is not None and dataset.size == 1:
        value = np.asarray(dataset[()]).reshape(-1)[0]
        return {name: _text(value) or ""}
    return {}


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def compact_layout(workspace: Workspace, options: ReadOptions) -> Opened | None:
    """Compact HDF5: h real [N, 2 n_rx, n_tx, n_sub], labels beside it, facts as attributes.

    Told from other HDF5 by what it says of itself: its attribute `scale` or `grid` is that of
    `write_channels`, to the letter.

    Returns:
        None if the file is none.
    Raises:
        CsiAuditError: the array is broken, or the user named axes that a compact file has not.
    """
    name = options.variable or "h"
    path, said = workspace.path, workspace.attributes
    marked = _text(said.get("scale")) == COMPACT_SCALE or _text(said.get("grid")) == COMPACT_GRID
    if workspace.container != "HDF5" or not marked or name not in workspace.arrays:
        return None
    array = workspace.arrays[name]
    if array.dtype.kind != "f":
        return None
    if options.axes is not None:
        raise CsiAuditError(
            f"axes must be left out for {path}: compact HDF5 is always [user, re/im, tx, sub]. "
            "If they are meant for another file of the command, convert that one first."
        )
    _check_compact(path, name, array)
    domain = _text(said.get("domain")) or "spatial-frequency"
    if domain != "spatial-frequency":
        raise CsiAuditError(
            f"{path}: domain must be spatial-frequency; got {domain!r}. "
            "Transform with channels.to_spatial_frequency before writing."
        )
    n, pairs, n_tx, n_sub = array.shape
    power_db = column(workspace, "power_db", n) if "power_db" in workspace.arrays else None
    panel = said.get("panel")

    def read(start: int, stop: int) -> np.ndarray:
        part = array[start:stop]
        return complex_of(part[:, 0::2], part[:, 1::2])

    return Opened(
        shape=(n, pairs // 2, n_tx, n_sub),
        read=read,
        labels=labels_of(workspace, n, {name, "h", "power_db"}),
        format="compact HDF5",
        variable=name,
        power_db=power_db,
        carrier_hz=as_number(said.get("carrier_hz")),
        bandwidth_hz=as_number(said.get("bandwidth_hz")),
        array=_text(said.get("antenna")),
        scenario=_text(said.get("scenario")),
        panel=None if panel is None else _panel(path, panel),
        scaling="unit" if _text(said.get("scale")) == COMPACT_SCALE else "raw",
        notices=(*_converted(said), *left_out(workspace, n, {name, "power_db"})),
    )


def _converted(said: Mapping[str, Any]) -> tuple[str, ...]:
    """What `csi-audit convert` noted of the file that this one was made from."""
    name, form = _text(said.get("converted_from_name")), _text(said.get("converted_as"))
    if name is None:
        return ()
    rest = _text(said.get("converted_notices")) or ""
    return (f"Converted from {name} ({form}). {rest}".strip(),)


def _panel(path: Path, value: Any) -> tuple[int, int, int]:
    numbers = [int(n) for n in np.asarray(value).ravel()]
    if len(numbers) != 3:
        raise CsiAuditError(f"{path}: panel must hold three numbers; got {numbers}.")
    return numbers[0], numbers[1], numbers[2]


def _check_compact(path: Path, name: str, array: Array) -> None:
    shape = tuple(array.shape)
    if len(shape) != 4 or shape[1] % 2:
        raise CsiAuditError(
            f"{path}: {name} must be [user, re/im, tx, sub], its second axis even (re rx0, im rx0, "
            f"...); got {shape}. Is the imaginary part missing, or is it another format? Name its "
            "axes with --axes then."
        )
    if 0 in shape:
        raise CsiAuditError(
            f"{path}: {name} is empty, shape {shape}. An audit needs at least one user."
        )
