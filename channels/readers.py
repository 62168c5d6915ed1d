"""`load_channels`: a channel file in, a `ChannelSet` out, told by content and not by name.

Each reader turns its format into an `opened.Opened`. Scaling to unit power, overrides and the
errors of bad users are common to all formats and live here.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from channels.channel_set import ChannelSet, Grid, Source
from channels.domains import check_power, scale_users
from channels.file_checks import check_file, numbers, recognise
from channels.opened import LABELS, Opened
from channels.readers_hdf5 import open_hdf5
from channels.readers_matlab import open_mat5
from channels.support import CsiAuditError, file_sha256

__all__ = ["load_channels"]

OPENERS = {"hdf5": open_hdf5, "mat5": open_mat5}
ROUNDING_DB = 0.01  # how far float16 storage moves a user's power


def _label_tensors(path: Path, found: Mapping[str, np.ndarray], n: int) -> dict[str, Tensor]:
    """Labels as tensors: bool `is_los`, int64 `drop_seed`, float32 the other known ones.

    Labels of other names keep their kind: bool, int64, float32 or float64.
    """
    kinds = dict.fromkeys(LABELS, torch.float32) | {"is_los": torch.bool, "drop_seed": torch.int64}
    labels = {}
    for name, value in found.items():
        if value.dtype.kind not in "biuf":
            raise CsiAuditError(f"{path}: label {name} must hold numbers; got {value.dtype}.")
        row = torch.from_numpy(_plain(numbers(path, name, value, n)))
        labels[name] = row.to(kinds.get(name, row.dtype))
    return labels


def _plain(array: np.ndarray) -> np.ndarray:
    """Numbers of any width and byte order as bool, int64, float32 or float64."""
    real = np.float64 if array.dtype.itemsize > 4 else np.float32
    return array.astype({"b": np.bool_, "i": np.int64, "u": np.int64}.get(array.dtype.kind, real))


def _scaled(path: Path, opened: Opened) -> tuple[Tensor, Tensor]:
    """Stream the users into unit power: (h complex64, power_db), or the error that names them."""
    n = opened.shape[0]
    h = torch.empty(opened.shape, dtype=torch.complex64)
    power_db = torch.empty(n)
    non_finite, zero = torch.zeros(2, n, dtype=torch.bool)
    start = 0
    for block in opened.blocks:
        part = slice(start, start + len(block))
        unit = scale_users(torch.from_numpy(block))
        h[part], power_db[part], non_finite[part], zero[part] = unit
        start += len(block)
    try:
        check_power(non_finite, zero)
    except CsiAuditError as error:
        raise CsiAuditError(f"{path}: {error}") from None
    if opened.power_db is not None:
        rounding = power_db.abs() < ROUNDING_DB
        stored_db = torch.from_numpy(numbers(path, "power_db", opened.power_db, n)).float()
        power_db = stored_db + torch.where(rounding, 0.0, power_db)
    return h, power_db


def _grid(path: Path, opened: Opened, bandwidth_hz: float | None) -> Grid:
    try:
        return Grid(
            carrier_hz=opened.carrier_hz,
            bandwidth_hz=opened.bandwidth_hz if bandwidth_hz is None else float(bandwidth_hz),
            n_sub=opened.shape[3],
            array=opened.array,
        )
    except CsiAuditError as error:
        raise CsiAuditError(f"{path}: {error}") from None


def load_channels(
    path: str | os.PathLike[str],
    *,
    variable: str | None = None,
    axes: str | Sequence[str] | None = None,
    n_sub: int | None = None,
    bandwidth_hz: float | None = None,
) -> ChannelSet:
    """Channels of a file, each user at unit mean power, with labels and grid.

    Formats: compact HDF5 (`channels.write_channels`), MATLAB v5/v7 and v7.3 `.mat` with complex
    [user, antenna, subcarrier] or [user, rx, tx, subcarrier]. QuaDRiGa's `fr` gives [rx, tx,
    carrier, snapshot]: permute before saving, or name the order in `axes`.

    Args:
        path: File; its content decides, not its extension.
        variable: Array to read. Default: `h` (compact); `H`, or the only array of 3 or 4 axes
            (.mat).
        axes: Axis names of that array in the file's order (MATLAB's for .mat): "rx,tx,sub,user"
            for QuaDRiGa's `fr` as it is. Compact HDF5 has fixed axes and takes none.
        n_sub: Subcarriers you expect; files of sampled channels must hold just as many.
        bandwidth_hz: Bandwidth [Hz], in place of the file's own or of a missing one. It scales the
            delay axis; no channel changes.
    Returns:
        ChannelSet with h complex64 (N, n_rx, n_tx, n_sub).
    Raises:
        CsiAuditError: one line with file, value and way out.
    """
    file = Path(path)
    check_file(file)
    opened = OPENERS[recognise(file)](file, variable, axes)
    if n_sub is not None and n_sub != opened.shape[3]:
        raise CsiAuditError(
            f"n_sub must be {opened.shape[3]}, the subcarriers in {file}; got {n_sub}. "
            "Only files of paths can be sampled at another count."
        )
    h, power_db = _scaled(file, opened)
    grid = _grid(file, opened, bandwidth_hz)
    source = Source(
        path=str(path),
        sha256=file_sha256(file),
        format=opened.format,
        scenario=opened.scenario,
    )
    labels = _label_tensors(file, opened.labels, opened.shape[0])
    return ChannelSet(h=h, power_db=power_db, grid=grid, labels=labels, source=source)
