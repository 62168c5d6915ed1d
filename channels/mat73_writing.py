"""`write_mat73`: channels as a MATLAB v7.3 file, which is HDF5 with a head of its own.

MATLAB's `load` gives `H` (user, rx, tx, subcarrier) complex single and a column a label. MATLAB
keeps the first axis fastest, HDF5 the last, so axes lie in the file in reverse.
"""

from __future__ import annotations

import os

import h5py
import numpy as np

from channels.channel_set import ChannelSet
from channels.hdf5_writing import hdf5_output
from channels.support import CsiAuditError

__all__ = ["write_mat73"]

_TEXT = b"MATLAB 7.3 MAT-file, Platform: any, Created by: csi-audit HDF5 schema 1.00 ."
_HEAD = 512  # bytes
_CLASSES = {"f": ("double", "<f8"), "i": ("int64", "<i8"), "u": ("int64", "<i8")}
_COMPLEX = np.dtype([("real", "<f4"), ("imag", "<f4")])


def write_mat73(path: str | os.PathLike[str], channels: ChannelSet) -> None:
    """Write channels for MATLAB, whole or not at all; `load_channels` reads them back.

    `H` [user, rx, tx, sub] at unit mean power, `power_db` and every label of one number a user
    beside it, carrier and bandwidth as `carrier_hz` and `bandwidth_hz` where they are known.

    Args:
        path: Target, .mat; its folder must exist.
        channels: Users to write, in memory.
    Raises:
        CsiAuditError: a label named like a variable of the layout or unfit for MATLAB, or no room.
    """
    _check_names(list(channels.labels))
    h = channels.h[:].cpu().numpy()
    stored = np.empty(h.shape, dtype=_COMPLEX)
    stored["real"], stored["imag"] = h.real, h.imag
    grid = channels.grid
    with hdf5_output(path, head=_head()) as file:
        _add(file, "H", stored.transpose(), "single")
        for name, value in (("carrier_hz", grid.carrier_hz), ("bandwidth_hz", grid.bandwidth_hz)):
            if value is not None:
                _add(file, name, np.full((1, 1), value), "double")
        _add(file, "n_sub", np.full((1, 1), float(grid.n_sub)), "double")
        for name, label in {"power_db": channels.power_db, **channels.labels}.items():
            values = label.cpu().numpy()
            if values.ndim > 1:
                continue
            if values.dtype == np.bool_:
                _add(file, name, values[None].astype(np.uint8), "logical").attrs.create(
                    "MATLAB_int_decode", 1, dtype=np.int32
                )
                continue
            kind, form = _CLASSES[values.dtype.kind]
            _add(file, name, values[None].astype(form), kind)


def _head() -> bytes:
    """116 bytes of text, no subsystem data, version 2.0, little endian; then nothing."""
    text = _TEXT.ljust(116, b" ") + bytes(8) + b"\x00\x02IM"
    return text.ljust(_HEAD, b"\x00")


def _add(file: h5py.File, name: str, values: np.ndarray, kind: str) -> h5py.Dataset:
    large = values.nbytes > 4096
    dataset = file.create_dataset(
        name, data=values, compression="gzip" if large else None, shuffle=large, track_times=False
    )
    dataset.attrs["MATLAB_class"] = np.bytes_(kind)
    return dataset


def _check_names(labels: list[str]) -> None:
    taken = {"H", "power_db", "carrier_hz", "bandwidth_hz", "n_sub"}
    for name in labels:
        plain = name.isascii() and name.isidentifier() and not name.startswith("_")
        if name in taken or not plain or len(name) > 63:
            raise CsiAuditError(
                f"labels must be MATLAB names other than {', '.join(sorted(taken))}; got {name!r}. "
                "Write compact HDF5 (.h5) instead."
            )
