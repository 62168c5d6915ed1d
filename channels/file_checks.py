"""What every reader asks before it looks inside a file: does it exist, what is it, how are its
axes named, which array holds the channels. Pure checks; no format is read here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import h5py
import numpy as np

from channels.support import CsiAuditError, did_you_mean

__all__ = ["axis_order", "check_file", "check_shape", "choose_variable", "numbers", "recognise"]

AXES = ("user", "rx", "tx", "sub")
_ALIASES = {"antenna": "tx", "subcarrier": "sub", "carrier": "sub", "snapshot": "user"}


def check_file(path: Path) -> None:
    """Raise CsiAuditError unless `path` is a readable, non-empty file."""
    if path.is_dir():
        inside = ", ".join(sorted(p.name for p in path.iterdir() if p.is_file())[:8])
        raise CsiAuditError(f"{path} is a folder; name a file in it ({inside or 'it has none'}).")
    if not path.exists():
        folder = path.parent
        if not folder.is_dir():
            raise CsiAuditError(f"{path} does not exist: there is no folder {folder}.")
        names = [p.name for p in folder.iterdir() if p.is_file()]
        raise CsiAuditError(f"{path} does not exist.{did_you_mean(path.name, names)}")
    if not os.access(path, os.R_OK):
        raise CsiAuditError(f"{path} cannot be read: no permission. Change the file's permissions.")
    if path.stat().st_size == 0:
        raise CsiAuditError(f"{path} is empty (0 bytes). Was its download or copy interrupted?")


def recognise(path: Path) -> str:
    """Container of a file, told by its first bytes: "hdf5" or "mat5".

    Raises:
        CsiAuditError: neither.
    """
    if h5py.is_hdf5(path):
        return "hdf5"
    with open(path, "rb") as file:
        head = file.read(128)
    if head.startswith(b"MATLAB 5.0 MAT-file"):
        return "mat5"
    if head.startswith(b"MATLAB 7.3"):
        raise CsiAuditError(
            f"{path} says it is MATLAB v7.3 but holds no HDF5. Truncated? Copy or save it again."
        )
    raise CsiAuditError(
        f"{path} is of no known format (first bytes {head[:12]!r}). "
        "Known: compact HDF5, MATLAB v5/v7 and v7.3 .mat."
    )


def choose_variable(
    path: Path, shapes: Mapping[str, tuple[int, ...]], wanted: str | None, defaults: Sequence[str]
) -> str:
    """Name of the array that holds the channels.

    Args:
        path: For messages.
        shapes: Numeric arrays of the file and their shapes.
        wanted: The user's choice, or None.
        defaults: Names to take unasked, first match wins.
    Returns:
        `wanted`; else the first default present; else the only array with 3 or 4 axes.
    Raises:
        CsiAuditError: unknown name, no candidate, or several; lists the candidates.
    """
    candidates = {name: shape for name, shape in shapes.items() if len(shape) in (3, 4)}
    if wanted is not None:
        if wanted in shapes:
            return wanted
        raise CsiAuditError(
            f"{path} has no variable {wanted!r}.{did_you_mean(wanted, candidates or shapes)}"
        )
    for name in defaults:
        if name in shapes:
            return name
    if len(candidates) == 1:
        return next(iter(candidates))
    listed = ", ".join(f"{name} {shape}" for name, shape in (candidates or shapes).items())
    if not candidates:
        raise CsiAuditError(
            f"{path} has no array of 3 or 4 axes, [user, antenna, subcarrier] or "
            f"[user, rx, tx, subcarrier]; it has: {listed or 'no arrays'}."
        )
    raise CsiAuditError(f"{path} has several arrays; choose one with variable=...: {listed}.")


def check_shape(path: Path, name: str, shape: tuple[int, ...]) -> None:
    """Raise CsiAuditError unless `shape` has 3 or 4 axes and no empty one."""
    if len(shape) not in (3, 4):
        raise CsiAuditError(
            f"{path}: {name} must be [user, antenna, subcarrier] or [user, rx, tx, subcarrier]; "
            f"got {shape}. Was it flattened or squeezed? Reshape it, or choose another variable."
        )
    if 0 in shape:
        raise CsiAuditError(
            f"{path}: {name} is empty, shape {shape}. An audit needs at least one user."
        )


def axis_order(
    path: Path, name: str, shape: tuple[int, ...], axes: str | Sequence[str] | None
) -> tuple[str, ...]:
    """Names of the array's axes, each of user, rx, tx, sub; by default in that order, rx optional.

    Args:
        path: For messages.
        name: Variable, for messages.
        shape: Its shape.
        axes: "rx,tx,sub,user" or a sequence; antenna, subcarrier/carrier and snapshot are
            understood as tx, sub and user.
    Raises:
        CsiAuditError: unknown or repeated names, wrong count, or user, tx or sub missing.
    """
    if axes is None:
        return AXES if len(shape) == 4 else ("user", "tx", "sub")
    given = axes.split(",") if isinstance(axes, str) else list(axes)
    names = tuple(_ALIASES.get(part.strip().lower(), part.strip().lower()) for part in given)
    for part in names:
        if part not in AXES:
            raise CsiAuditError(
                f"axes must be names among {', '.join(AXES)}; got {part!r}."
                f"{did_you_mean(part, [*AXES, *_ALIASES])}"
            )
    if len(set(names)) != len(names) or not {"user", "tx", "sub"} <= set(names):
        raise CsiAuditError(
            f"axes must name user, tx and sub once each, rx if there is one; got {','.join(names)}."
        )
    if len(names) != len(shape):
        raise CsiAuditError(
            f"{path}: {name} has {len(shape)} axes {shape}, but axes names {len(names)}: "
            f"{','.join(names)}."
        )
    return names


def numbers(path: Path, name: str, value: np.ndarray, n: int) -> np.ndarray:
    """Label as an array (n,) or (n, k): MATLAB's (n, 1) and (1, n) are squeezed.

    Raises:
        CsiAuditError: it has not one row for each of n users.
    """
    array = value.reshape(-1) if value.shape in ((n, 1), (1, n)) else value
    if array.ndim == 0 or array.shape[0] != n:
        raise CsiAuditError(
            f"{path}: label {name} must have one row for each of the {n} users; got {value.shape}."
        )
    return array
