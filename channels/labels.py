"""Per-user facts that lie beside the channels of a file, found by their number of rows."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from channels.opened import COMPACT_SCALE, LABELS
from channels.support import CsiAuditError
from channels.workspace import Workspace, listed

__all__ = ["column", "label_tensors", "labels_of", "left_out", "rows_of_labels", "user_rows"]

MOST_VALUES = 1024  # numbers a user that a label may hold
_WIDE = "ue_pos_m"  # the known label of several numbers: (1, 3) is one user, not three


def rows_of_labels(workspace: Workspace) -> int | None:
    """Number of users that the known labels of a file speak of; None if there are none.

    `power_db` is one of them where the file says that it restores the scale, as our exports do.
    """
    known = dict(LABELS)
    if workspace.texts.get("scale") == COMPACT_SCALE:
        known["power_db"] = ("power_db",)
    for ours, names in known.items():
        name = workspace.first(names)
        if name is not None:
            shape = tuple(workspace.arrays[name].shape) or (1,)
            flat = len(shape) == 2 and 1 in shape and ours != _WIDE  # MATLAB's (n, 1) and (1, n)
            return max(shape) if flat else shape[0]
    return None


def labels_of(workspace: Workspace, n: int, taken: Iterable[str]) -> dict[str, np.ndarray]:
    """Known labels under the compact names, then every other real array with n rows.

    Args:
        workspace: The file.
        n: Users.
        taken: Arrays that are no labels: the channels, facts of the file.
    Raises:
        CsiAuditError: a known label without one row for each user, or too large to be one.
    """
    found, used = {}, set(taken)
    for ours, names in LABELS.items():
        theirs = workspace.first(names)
        if theirs is not None:
            found[ours] = column(workspace, theirs, n, known_as=ours)
            used.add(theirs)
    for name in _others(workspace, n, used):
        if math.prod(workspace.arrays[name].shape) <= n * MOST_VALUES:
            found[name] = column(workspace, name, n)
    return found


def left_out(workspace: Workspace, n: int, taken: Iterable[str]) -> tuple[str, ...]:
    """Notices on arrays that have a row for each user and are too large to be labels."""
    used = set(taken) | {name for names in LABELS.values() for name in names}
    large = [
        f"{name} {tuple(workspace.arrays[name].shape)}"
        for name in _others(workspace, n, used)
        if math.prod(workspace.arrays[name].shape) > n * MOST_VALUES
    ]
    return (f"Left out, too large for labels: {listed(large)}.",) if large else ()


def _others(workspace: Workspace, n: int, used: set[str]) -> list[str]:
    """Real arrays of n rows that are not in `used`; what has no axis at all is no row."""
    return [
        name
        for name, array in sorted(workspace.arrays.items())
        if name not in used
        and "/" not in name
        and (tuple(array.shape[:1]) == (n,) or tuple(array.shape) == (1, n))
        and array.dtype.kind in "biuf"
    ]


def column(workspace: Workspace, name: str, n: int, *, known_as: str | None = None) -> np.ndarray:
    """A label of the file, (n,) or (n, k).

    Raises:
        CsiAuditError: it has not one row for each user, or more numbers than a label may have.
    """
    label, shape = known_as or name, tuple(workspace.arrays[name].shape)
    if math.prod(shape) > n * MOST_VALUES:
        raise CsiAuditError(
            f"{workspace.path}: label {label} must hold at most {MOST_VALUES:,} numbers a user; "
            f"got {shape}. Take it out of the file."
        )
    return user_rows(workspace.path, label, workspace.value(name), n)


def user_rows(path: Path, name: str, value: np.ndarray, n: int) -> np.ndarray:
    """Label as an array (n,) or (n, k): MATLAB's (n, 1) and (1, n) are squeezed.

    The one number of a lone user may come without an axis.

    Raises:
        CsiAuditError: it has not one row for each of n users.
    """
    column = value.shape in ((n, 1), (1, n)) or (value.ndim == 0 and n == 1)
    array = value.reshape(-1) if column else value
    if array.ndim == 0 or array.shape[0] != n:
        raise CsiAuditError(
            f"{path}: label {name} must have one row for each of the {n} users; got {value.shape}."
        )
    return array


def label_tensors(path: Path, found: Mapping[str, np.ndarray], n: int) -> dict[str, Tensor]:
    """Labels as tensors: bool `is_los`, int64 `drop_seed`, float32 the other known ones.

    Labels of other names keep their kind: bool, int64, float32 or float64.

    Raises:
        CsiAuditError: a label that holds no numbers, or not one row for each user.
    """
    kinds = dict.fromkeys(LABELS, torch.float32) | {"is_los": torch.bool, "drop_seed": torch.int64}
    labels = {}
    for name, value in found.items():
        if value.dtype.kind not in "biuf":
            raise CsiAuditError(f"{path}: label {name} must hold numbers; got {value.dtype}.")
        row = torch.from_numpy(_plain(user_rows(path, name, value, n)))
        labels[name] = row.to(kinds.get(name, row.dtype))
    return labels


def _plain(array: np.ndarray) -> np.ndarray:
    """Numbers of any width and byte order as bool, int64, float32 or float64."""
    real = np.float64 if array.dtype.itemsize > 4 else np.float32
    return array.astype({"b": np.bool_, "i": np.int64, "u": np.int64}.get(array.dtype.kind, real))
