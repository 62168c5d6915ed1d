"""The state of a run on disk: one atomic file per block, and the samples it ends with.

A run killed at any moment goes on from the last whole block. Names and shapes only: what a block
holds is the caller's.
"""

import shutil
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from channels.hdf5_writing import hdf5_output
from channels.support import CsiAuditError, atomic_write

Array = npt.NDArray[Any]


class BlockStore:
    """Blocks of arrays in `state/<name>-<block>.npz`; made once, read ever after."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "state"
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CsiAuditError(
                f"{self.folder} cannot be made: {error.strerror or error}. Choose another folder."
            ) from error

    def path(self, name: str, block: int) -> Path:
        """File of a block."""
        return self.folder / f"{name}-{block:04d}.npz"

    def get(
        self, name: str, block: int, make: Callable[[], Mapping[str, Array]]
    ) -> dict[str, Array]:
        """The block from disk, or made and saved.

        Raises:
            CsiAuditError: the saved block is damaged (names the file), or cannot be written.
        """
        path = self.path(name, block)
        if not path.is_file():
            made = make()
            with atomic_write(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **made)  # type: ignore[arg-type]
        try:
            with path.open("rb") as opened, np.load(opened, allow_pickle=False) as found:
                return {key: found[key] for key in found.files}
        except (OSError, ValueError, EOFError, RuntimeError, zipfile.BadZipFile) as error:
            raise CsiAuditError(
                f"{path} is damaged ({error}). Remove that file to make the block again."
            ) from error

    def remove(self) -> None:
        """Drop the state of a finished run."""
        shutil.rmtree(self.folder, ignore_errors=True)


def write_arrays(path: Path, arrays: Mapping[str, Array]) -> None:
    """Write arrays by slash-separated name into one HDF5 file, whole or not at all."""
    with hdf5_output(path) as file:
        for name, value in arrays.items():
            large = value.nbytes > 4096
            file.create_dataset(name, data=value, compression="gzip" if large else None)


def read_arrays(path: Path, *, group: str = "") -> dict[str, Array]:
    """All datasets below `group` by their name relative to it.

    Raises:
        CsiAuditError: the file is missing, unreadable or has no such group.
    """
    found: dict[str, Array] = {}

    def visit(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = item[()]

    try:
        with h5py.File(path, "r") as file:
            top = file[group] if group else file
            if not isinstance(top, h5py.Group):
                raise KeyError(f"{group} is no group")
            top.visititems(visit)
    except (OSError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise CsiAuditError(
            f"{path} cannot be read ({error}). Did the run finish? Name a finished run directory."
        ) from error
    return found
