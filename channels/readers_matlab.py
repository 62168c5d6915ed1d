"""MATLAB v5/v7 files as workspaces, through scipy: names, shapes and values; what they mean is the
layouts'.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
import scipy.io

from channels.opened import damaged
from channels.support import CsiAuditError
from channels.workspace import LazyArray, Workspace, check_declared

__all__ = ["mat5_workspace", "refuse_objects"]

_NUMERIC = {"double": 8, "single": 4, "logical": 1} | {
    f"{sign}int{bits}": bits // 8 for sign in ("", "u") for bits in (8, 16, 32, 64)
}
_DEEPEST = 6  # structs and cells within each other


def mat5_workspace(path: Path) -> Workspace:
    """MATLAB v5/v7 file: what QuaDRiGa under Octave or MATLAB writes with `save -v7`.

    Raises:
        CsiAuditError: truncated, or it holds objects alone.
    """
    try:
        found = scipy.io.whosmat(path)
    except Exception as error:  # scipy raises a dozen kinds on damaged files
        raise damaged(path, error) from error
    arrays: dict[str, LazyArray] = {}
    for name, shape, kind in found:
        if kind in _NUMERIC:
            check_declared(path, name, shape, _NUMERIC[kind], path.stat().st_size)
            arrays[name] = LazyArray(tuple(shape), partial(_loaded, path, name))
    nested = [name for name, _, kind in found if kind in ("struct", "cell")]
    if nested and not any(len(array.shape) > 2 for array in arrays.values()):
        arrays |= _fields(path, nested)
    if not arrays:
        refuse_objects(path, [f"{name} ({kind})" for name, _, kind in found])
    texts = [name for name, _, kind in found if kind == "char"]
    return Workspace(
        path=path,
        container="MATLAB v5",
        arrays=arrays,
        texts={name: _text(_loaded(path, name)) for name in texts},
    )


def _loaded(path: Path, name: str) -> np.ndarray:
    try:
        return np.asarray(scipy.io.loadmat(path, variable_names=[name])[name])
    except Exception as error:
        raise damaged(path, error) from error


def _text(value: np.ndarray) -> str:
    return str(value.reshape(-1)[0]) if value.dtype.kind == "U" and value.size else ""


def _fields(path: Path, nested: Sequence[str]) -> dict[str, LazyArray]:
    """Numeric arrays within structs and cells, by outer/inner; of several cells, outer/0 ..."""
    try:
        found = scipy.io.loadmat(path, variable_names=list(nested))
    except Exception as error:
        raise damaged(path, error) from error
    leaves = dict(leaf for name in nested for leaf in _leaves(name, found[name], _DEEPEST))
    return {
        name: LazyArray(leaves[name].shape, partial(leaves.__getitem__, name))
        for name in sorted(leaves)
    }


def _leaves(name: str, value: object, deepest: int) -> Iterator[tuple[str, np.ndarray]]:
    if not isinstance(value, np.ndarray) or deepest < 0:
        return
    if value.dtype.kind in "biufc":
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
