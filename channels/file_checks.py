"""What every reader asks before it looks inside a file: does it exist, and which container is it.

Told by the first bytes and, of zip files, by the names of their members; nothing is unpacked here.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import h5py

from channels.support import CsiAuditError, did_you_mean

__all__ = ["check_file", "recognise"]

_KNOWN = (
    "compact HDF5, QuaDRiGa HDF5, MATLAB v5/v7 and v7.3 .mat, .npy, .npz, .pt; your own format: "
    "file.py:function"
)


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
    """Container of a file, told by its bytes: "hdf5", "mat5", "numpy" or "torch".

    Raises:
        CsiAuditError: none of them.
    """
    if h5py.is_hdf5(path):
        return "hdf5"
    with open(path, "rb") as file:
        head = file.read(128)
    if head.startswith(b"MATLAB 5.0 MAT-file"):
        return "mat5"
    if head.startswith(b"\x93NUMPY"):
        return "numpy"
    if head.startswith(b"PK"):
        return _zip_kind(path)
    if head.startswith((b"MATLAB 7.3", b"\x89HDF")):
        raise CsiAuditError(
            f"{path} begins like HDF5 but cannot be opened as such. Truncated? Copy or save it "
            "again."
        )
    hint = ""
    if head[:1] == b"\x80":
        hint = (
            " It looks like a Python pickle, which is never loaded: it could run any code. PyTorch "
            'before 1.6 wrote such files: load it yourself and save again with torch.save({"h": h},'
            " file)."
        )
    raise CsiAuditError(
        f"{path} is of no known format (first bytes {head[:12]!r}).{hint} Known: {_KNOWN}."
    )


def _zip_kind(path: Path) -> str:
    """ "numpy" for an archive of .npy files, "torch" for what torch.save writes."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise CsiAuditError(
            f"{path} begins like a zip (.npz, .pt) but cannot be opened as one: {error}. "
            "Truncated? Copy or save it again."
        ) from error
    if any(name.endswith("data.pkl") for name in names):
        return "torch"
    if any(name.endswith(".npy") for name in names):
        return "numpy"
    raise CsiAuditError(
        f"{path} is a zip of {', '.join(names[:4]) or 'nothing'}, no .npz and no .pt. Unpack it "
        "and name a file of it."
    )
