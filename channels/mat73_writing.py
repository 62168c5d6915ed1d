"""`write_mat73`: channels as a MATLAB v7.3 file, which is HDF5 with a head of its own.

MATLAB's `load` gives `H` (user, rx, tx, subcarrier) complex single, a column a label and a char a
text. MATLAB keeps the first axis fastest, HDF5 the last, so axes lie in the file in reverse.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

import h5py
import numpy as np

from channels.channel_set import ChannelSet
from channels.hdf5_writing import hdf5_output
from channels.support import CsiAuditError
from channels.writers import stated_facts

__all__ = ["write_mat73"]

_TEXT = b"MATLAB 7.3 MAT-file, Platform: any, Created by: csi-audit HDF5 schema 1.00 ."
_HEAD = 512  # bytes
_CLASSES = {"f": ("double", "<f8"), "i": ("int64", "<i8"), "u": ("int64", "<i8")}
_COMPLEX = np.dtype([("real", "<f4"), ("imag", "<f4")])
_LAYOUT = {"H", "power_db", "carrier_hz", "bandwidth_hz", "n_sub"}


def write_mat73(
    path: str | os.PathLike[str],
    channels: ChannelSet,
    *,
    attributes: Mapping[str, str] | None = None,
) -> None:
    """Write channels for MATLAB, whole or not at all; `load_channels` reads them back.

    `H` [user, rx, tx, sub] at unit mean power, `power_db` and every label of one number a user
    beside it, carrier and bandwidth as `carrier_hz` and `bandwidth_hz` where they are known. The
    texts that compact HDF5 holds as attributes (scale, grid, scenario ...) are char variables.

    Args:
        path: Target, .mat; its folder must exist.
        channels: Users to write, in memory.
        attributes: Further texts (generator, licence), a char variable each.
    Raises:
        CsiAuditError: a label or text named like another variable of the file or unfit for MATLAB,
            or no room.
    """
    facts = stated_facts(channels, attributes)
    texts = {name: value for name, value in facts.items() if isinstance(value, str)}
    _check_names("texts", texts, _LAYOUT)
    _check_names("labels", channels.labels, _LAYOUT | texts.keys())
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
        for name, text in sorted(texts.items()):
            _add_text(file, name, text)


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


def _add_text(file: h5py.File, name: str, text: str) -> None:
    """A row of char in UTF-16 code units; an empty one is stored as its two sizes, as by MATLAB."""
    units = np.frombuffer(text.encode("utf-16-le", "surrogatepass"), dtype="<u2")
    stored = units[:, None] if text else np.zeros(2, dtype="<u8")
    dataset = _add(file, name, stored, "char")
    dataset.attrs.create("MATLAB_int_decode", 2, dtype=np.int32)
    if not text:
        dataset.attrs.create("MATLAB_empty", 1, dtype=np.uint8)


def _check_names(kind: str, names: Iterable[str], taken: set[str]) -> None:
    for name in names:
        plain = name.isascii() and name.isidentifier() and not name.startswith("_")
        if name in taken or not plain or len(name) > 63:
            raise CsiAuditError(
                f"{kind} must be MATLAB names other than {', '.join(sorted(taken))}; got {name!r}. "
                "Write compact HDF5 (.h5) instead."
            )
