"""MATLAB v5/v7 files as workspaces, their values through scipy; what they mean is the layouts'."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import scipy.io

from channels.mat5_elements import (
    Mat5Variable,
    alone,
    check_nested,
    check_numbers,
    mat5_variables,
)
from channels.opened import damaged
from channels.support import CsiAuditError
from channels.workspace import LazyArray, Workspace, check_declared

__all__ = ["mat5_workspace", "refuse_objects"]

_NUMERIC = {"double": 8, "single": 4, "logical": 1} | {
    f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_MOST_TEXT = 4096  # characters
_DEEPEST = 6  # structs and cells within each other


def mat5_workspace(path: Path) -> Workspace:
    """MATLAB v5/v7 file: what QuaDRiGa under Octave or MATLAB writes with `save -v7`.

    Structs and cells are looked into where no array of its own has 3 or more axes. Texts of more
    than 4,096 characters are left out.

    Raises:
        CsiAuditError: truncated, it holds objects alone, or structs too large to load whole.
    """
    found: dict[str, Mat5Variable] = {}
    with _readable(path):
        for variable in mat5_variables(path):
            if variable.name:  # what has none is no variable
                found.setdefault(variable.name, variable)  # of one name the first, as scipy has it
    arrays: dict[str, LazyArray] = {}
    texts: dict[str, str] = {}
    for name, variable in found.items():
        if variable.kind in _NUMERIC:
            check_declared(path, name, variable.shape, _NUMERIC[variable.kind], variable.size)
            arrays[name] = LazyArray(variable.shape, partial(_loaded, path, variable))
        elif variable.kind == "char" and math.prod(variable.shape) <= _MOST_TEXT:
            texts[name] = _text(_loaded(path, variable))
    nested = [v for v in found.values() if v.kind in ("struct", "cell")]
    if nested and not any(len(array.shape) > 2 for array in arrays.values()):
        inside = _inside(path, nested)
        arrays |= {name: _held(value) for name, value in inside if value.dtype.kind != "U"}
        texts |= {name: _text(value) for name, value in inside if value.dtype.kind == "U"}
    if not arrays:
        refuse_objects(path, [f"{name} ({v.kind})" for name, v in found.items()])
    return Workspace(path=path, container="MATLAB v5", arrays=arrays, texts=texts)


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Whatever scipy raises on damaged files, a dozen kinds, becomes a CsiAuditError."""
    try:
        yield
    except CsiAuditError:
        raise
    except Exception as error:
        raise damaged(path, error) from error


def _loaded(path: Path, variable: Mat5Variable) -> np.ndarray:
    with _readable(path):
        nested = variable.kind in ("struct", "cell")
        check_nested(path, variable) if nested else check_numbers(path, variable)
        with alone(path, variable) as file:
            return np.asarray(scipy.io.loadmat(file)[variable.name])


def _held(value: np.ndarray) -> LazyArray:
    return LazyArray(value.shape, lambda: value)


def _text(value: np.ndarray) -> str:
    return str(value.reshape(-1)[0]) if value.dtype.kind == "U" and value.size else ""


def _inside(path: Path, nested: Sequence[Mat5Variable]) -> list[tuple[str, np.ndarray]]:
    """Arrays and texts within structs and cells, by outer/inner; of several cells, outer/0 ..."""
    found = ((variable.name, _loaded(path, variable)) for variable in nested)
    leaves = (leaf for name, value in found for leaf in _leaves(name, value, _DEEPEST))
    return sorted(leaves, key=lambda leaf: leaf[0])


def _leaves(name: str, value: object, deepest: int) -> Iterator[tuple[str, np.ndarray]]:
    if not isinstance(value, np.ndarray) or deepest < 0:
        return
    if value.dtype.kind in "biufcU":
        yield name, value
    elif value.dtype.names or value.dtype.kind == "O":
        for i, item in enumerate(value.reshape(-1, order="F")):
            place = f"{name}/{i}" if value.size > 1 else name
            if value.dtype.names:
                for field in value.dtype.names:
                    yield from _leaves(f"{place}/{field}", item[field], deepest - 1)
            else:
                yield from _leaves(place, item, deepest - 1)


def refuse_objects(path: Path, held: Sequence[str]) -> None:
    """Raise for a MATLAB file without any numeric array."""
    raise CsiAuditError(
        f"{path} holds no numeric array, only: {', '.join(held[:8]) or 'nothing'}. Objects are not "
        "read; of a qd_channel save H = channel.fr(bandwidth, n_sub)."
    )
