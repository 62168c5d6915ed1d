"""`hdf5_output`: an HDF5 file that appears whole or not at all, on a full disk too.

When the disk refuses a write, the HDF5 library cannot close its file and brings the whole process
down. So it never learns of the refusal: the bytes go nowhere, and the error is raised when the
library is done.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import FileIO

import h5py

from channels.support import atomic_write

__all__ = ["hdf5_output"]


class _Sink:
    """A file for h5py's `fileobj` driver that remembers its first error and goes on.

    Args:
        file: Where the bytes go, unbuffered.
    Attributes:
        error: What the system refused, None as long as it refused nothing.
    """

    def __init__(self, file: FileIO) -> None:
        self._file = file
        self.error: OSError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size) or b""

    def readinto(self, buffer: memoryview) -> int:
        return self._file.readinto(buffer) or 0

    def write(self, data: memoryview) -> int:
        left = memoryview(data)
        try:
            while left and self.error is None:
                left = left[self._file.write(left) :]
        except OSError as error:
            self.error = error
        return len(data)

    def truncate(self, size: int) -> int:
        try:
            return self._file.truncate(size)
        except OSError as error:
            self.error = self.error or error
            return size

    def flush(self) -> None:
        self._file.flush()


@contextmanager
def hdf5_output(path: str | os.PathLike[str], *, head: bytes = b"") -> Iterator[h5py.File]:
    """HDF5 file for writing; it takes the place of an older one only when it is whole.

    Args:
        path: Target file.
        head: What stands before the HDF5 data, 512 bytes as in MATLAB files; none by default.
    Yields:
        The open file.
    Raises:
        CsiAuditError: the folder is missing or not writable, or the disk refuses.
    """
    with atomic_write(path) as temporary, open(temporary, "w+b", buffering=0) as raw:
        sink = _Sink(raw)
        try:
            with h5py.File(sink, "w", userblock_size=len(head)) as file:
                yield file
            if head:
                sink.seek(0)
                sink.write(memoryview(head))
        finally:
            if sink.error is not None:
                raise sink.error
