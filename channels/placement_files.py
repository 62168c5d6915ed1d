"""Placements of users from a file: positions in metres in, placements in the square out.

Known are .npy, .npz, HDF5, MATLAB v5/v7 and v7.3, .pt (told by content) and .csv (by its name).
"""

from __future__ import annotations

import csv
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from channels.file_checks import check_file, recognise
from channels.network import CellNetwork
from channels.opened import ReadOptions
from channels.readers import CONTAINERS
from channels.support import CsiAuditError, did_you_mean, file_sha256
from channels.workspace import Workspace

__all__ = ["PlacementSet", "load_placements"]

_NAMES = ("placements", "positions_m", "positions", "ue_pos_m", "ue_pos", "x", "u", "array")
_ROUNDING = 1e-5  # of a side, by which a position on the rim may lie outside


@dataclass(frozen=True, kw_only=True)
class PlacementSet:
    """Placements that were read.

    Attributes:
        x: In the square [-1, 1]^2, float32 (N, n_users, 2).
        path: As given.
        sha256: Of the file.
        format: Its container in words.
        notices: What was found or assumed, a sentence each.
    """

    x: Tensor
    path: str
    sha256: str
    format: str
    notices: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.x)


def load_placements(
    path: str | os.PathLike[str],
    *,
    network: CellNetwork,
    n_users: int,
    variable: str | None = None,
) -> PlacementSet:
    """Positions of users in metres, (N, n_users, 2) or (N, 2 n_users) as x1, y1, x2, y2, ...

    Args:
        path: File.
        network: Its area must hold every user; the origin is the area's lower left corner.
        n_users: Users of a placement.
        variable: Array to read, where several could be meant.
    Raises:
        CsiAuditError: one line with file, value and way out: another shape or number of users, a
            user outside the area, something that is no number.
    """
    file = Path(path)
    check_file(file)
    if file.suffix.lower() in (".csv", ".txt"):
        values, form, name = _csv(file), "CSV", None
    else:
        workspace = CONTAINERS[recognise(file)](file, ReadOptions(variable=variable))
        name = _chosen(workspace, variable)
        values, form = workspace.value(name), workspace.container
    u = _shaped(file, values, n_users)
    _check_inside(file, u, network)
    x = network.to_square(torch.from_numpy(u.astype(np.float64))).clamp(-1, 1).float()
    notices = () if name is None else (f"Placements are the array {name} of {file.name}.",)
    return PlacementSet(x=x, path=str(path), sha256=file_sha256(file), format=form, notices=notices)


def _chosen(workspace: Workspace, variable: str | None) -> str:
    """Name of the array that holds the placements."""
    if variable is not None:
        if variable not in workspace.arrays:
            hint = did_you_mean(variable, workspace.arrays)
            raise CsiAuditError(f"{workspace.path} has no variable {variable!r}.{hint}")
        return variable
    known = workspace.first(_NAMES)
    if known is not None:
        return known
    fitting = [name for name, array in workspace.arrays.items() if len(array.shape) in (2, 3)]
    if len(fitting) == 1:
        return fitting[0]
    if not fitting:
        raise CsiAuditError(
            f"{workspace.path} has no array of placements (N, users, 2); it has: "
            f"{workspace.listed()}."
        )
    raise CsiAuditError(
        f"{workspace.path} has several arrays; choose one with --variable: "
        f"{workspace.listed(fitting)}."
    )


def _csv(path: Path) -> np.ndarray:
    """Rows of numbers; one line of names at the top is passed over."""
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise CsiAuditError(f"{path} is no readable CSV ({error}).") from error
    if rows and not _is_numbers(rows[0]):
        rows = rows[1:]
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]) or not _is_numbers(row):
            raise CsiAuditError(
                f"{path}: row {number} must hold {len(rows[0])} numbers, x and y of every user in "
                f"metres; got {', '.join(row)[:60]!r}."
            )
    return np.array(rows, dtype=np.float64)


def _is_numbers(row: list[str]) -> bool:
    try:
        [float(cell) for cell in row]
    except ValueError:
        return False
    return True


def _shaped(path: Path, values: np.ndarray, n_users: int) -> np.ndarray:
    """(N, n_users, 2) of the array of a file."""
    shape: tuple[int, ...] = tuple(values.shape)
    if values.dtype.kind not in "iuf":
        raise CsiAuditError(
            f"{path}: placements must be real numbers, metres; got {values.dtype} {shape}."
        )
    if len(shape) == 2 and shape[1] == 2 * n_users:
        return values.reshape(-1, n_users, 2)
    if len(shape) == 3 and shape[1:] == (n_users, 2) and shape[0] > 0:
        return values
    raise CsiAuditError(
        f"{path}: placements must be (N, {n_users}, 2), x and y of every user in metres; got "
        f"{shape}.{_way_out(shape, n_users)}"
    )


def _way_out(shape: tuple[int, ...], n_users: int) -> str:
    """What a wrong shape was most likely meant to be."""
    if len(shape) == 3 and shape[2] == 2:
        return f" It has {shape[1]} users: say so in the card (users: {shape[1]})."
    if len(shape) == 2 and shape[1] % 2 == 0 and shape[1] > 0:
        return f" It has {shape[1] // 2} users: say so in the card (users: {shape[1] // 2})."
    if sorted(shape[-2:]) == sorted((n_users, 2)) or 2 in shape:
        return " Bring its axes into this order."
    return " Only x and y are read, no heights."


def _check_inside(path: Path, u: np.ndarray, network: CellNetwork) -> None:
    """Refuse a user that is nowhere, or outside the area."""
    sides: Any = np.array(network.area_m)
    inside = ((u >= -_ROUNDING * sides) & (u <= (1 + _ROUNDING) * sides)).all(-1)  # NaN is not
    if inside.all():
        return
    sample, user = (int(i) for i in np.argwhere(~inside)[0])
    at = ", ".join(f"{value:g}" for value in u[sample, user])
    small = np.isfinite(u).all() and float(np.abs(u).max()) <= 1
    hint = (
        " All positions lie in [-1, 1]: metres are wanted, with the origin in the lower left "
        "corner of the area."
        if small
        else " Shift the origin to the lower left corner, or give the area in the card (area_m)."
    )
    raise CsiAuditError(
        f"{path}: every user must stand in the area of {sides[0]:g} m x {sides[1]:g} m; user "
        f"{user} of placement {sample} is at ({at}).{hint}"
    )
