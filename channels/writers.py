"""`write_channels`: a `ChannelSet` into the compact HDF5 that `load_channels` reads back.

float16 of unit-power channels errs by 2e-4 of each coefficient (NMSE about -72 dB), far below what
any compressor does.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Literal

import h5py
import numpy as np
from torch import Tensor

from channels.channel_set import ChannelSet
from channels.domains import stack_real
from channels.hdf5_writing import hdf5_output
from channels.opened import COMPACT_GRID, COMPACT_SCALE, LABELS
from channels.support import CsiAuditError

__all__ = ["stated_facts", "write_channels"]

_BLOCK = 1024
_CHUNK = 64  # users a chunk of the file

Precision = Literal["float16", "float32"]
_STORED = {"float16": "<f2", "float32": "<f4"}


def stated_facts(channels: ChannelSet, extra: Mapping[str, str] | None = None) -> dict[str, object]:
    """What a file of channels says about itself, texts and numbers; unknown facts are left out.

    Args:
        channels: Users at unit power.
        extra: Further texts (generator, licence).
    """
    grid, source = channels.grid, channels.source
    facts: dict[str, object | None] = {
        "antenna": grid.array,
        "bandwidth_hz": grid.bandwidth_hz,
        "carrier_hz": grid.carrier_hz,
        "domain": "spatial-frequency",
        "grid": COMPACT_GRID,
        "n_sub": grid.n_sub,
        "n_tx": channels.n_tx,
        "panel": grid.panel,
        "scale": COMPACT_SCALE,
        "scenario": source.scenario,
        **(extra or {}),
    }
    return {name: value for name, value in facts.items() if value is not None}


def _write_h(
    file: h5py.File,
    channels: ChannelSet,
    level: int,
    precision: Precision,
    progress: Callable[[int, int], None] | None,
) -> None:
    n, n_rx, n_tx, n_sub = channels.h.shape
    dataset = file.create_dataset(
        "h",
        shape=(n, 2 * n_rx, n_tx, n_sub),
        dtype=_STORED[precision],
        chunks=(min(n, _CHUNK), 2 * n_rx, n_tx, n_sub),
        compression="gzip" if level else None,
        compression_opts=level or None,
        shuffle=level > 0,
        track_times=False,
    )
    for start in range(0, n, _BLOCK):
        part = slice(start, min(start + _BLOCK, n))
        dataset[part] = stack_real(channels.h[part].cpu()).numpy().astype(_STORED[precision])
        if progress is not None:
            progress(part.stop, n)


def _check_labels(labels: Mapping[str, Tensor]) -> None:
    taken = sorted({"h", "power_db"} & labels.keys())
    if taken:
        raise CsiAuditError(f"labels must not be named {taken}: the layout uses them.")
    for name, label in labels.items():
        if "/" in name or name in ("", "."):
            raise CsiAuditError(f"label names must be one level of a path, no '/'; got {name!r}.")
        if label.is_complex():
            raise CsiAuditError(
                f"label {name!r} must hold real numbers; got {label.dtype}. Store its real and "
                "imaginary part as two labels."
            )


def write_channels(
    path: str | os.PathLike[str],
    channels: ChannelSet,
    *,
    attributes: Mapping[str, str] | None = None,
    gzip_level: int = 4,
    precision: Precision = "float16",
    progress: Callable[[int, int], None] | None = None,
) -> None:
    """Write channels as compact HDF5, whole or not at all; equal channels give equal bytes.

    `h` [N, 2 n_rx (re rx0, im rx0, ...), n_tx, n_sub] in `precision`, `power_db` float32 [N], all
    labels beside them (`is_los` as 0 and 1), carrier, bandwidth, array and scenario as attributes.

    Args:
        path: Target; its folder must exist.
        channels: Users to write.
        attributes: Further text attributes of the file (generator, licence).
        gzip_level: 0..9; 0 stores plainly, faster to read and twice as large.
        precision: "float16", or "float32" for exact values.
        progress: Told how many users are written, and how many there are.
    Raises:
        CsiAuditError: bad level, a label that cannot be read back (its name, complex numbers), or
            no room to write.
    """
    if not 0 <= gzip_level <= 9:
        raise CsiAuditError(f"gzip_level must lie in 0..9; got {gzip_level}.")
    if precision not in _STORED:
        raise CsiAuditError(f"precision must be float16 or float32; got {precision!r}.")
    _check_labels(channels.labels)
    with hdf5_output(path) as file:
        for name, value in sorted(stated_facts(channels, attributes).items()):
            file.attrs[name] = value
        _write_h(file, channels, gzip_level, precision, progress)
        order = [name for name in LABELS if name in channels.labels]
        order += sorted(channels.labels.keys() - LABELS.keys())
        columns = {"power_db": channels.power_db, **{n: channels.labels[n] for n in order}}
        for name, column in columns.items():
            array = column.cpu().numpy()
            array = array.astype(np.uint8) if name == "is_los" else array
            file.create_dataset(name, data=array, track_times=False)
