"""numpy's containers, .npy and .npz, as workspaces.

Headers alone are read at opening. Uncompressed arrays are mapped a slice at a time and never held
whole; compressed members of an .npz can only be unpacked whole. Nothing pickled is ever loaded.
"""

from __future__ import annotations

import math
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from channels.opened import damaged
from channels.support import CsiAuditError
from channels.workspace import Array, LazyArray, Workspace, check_declared

__all__ = ["numpy_workspace"]

_MAGIC = b"\x93NUMPY"
_MOST_MEMBERS = 4096
_MOST_TEXT = 4096  # characters
_BOMB_BYTES, _BOMB_RATIO = 1 << 30, 100  # no channels of a gigabyte shrink to a hundredth
_DAMAGED = (
    *(OSError, EOFError, ValueError, KeyError, struct.error, zipfile.BadZipFile),
    *(SyntaxError, tokenize.TokenError, RecursionError, MemoryError),  # of a header, a literal
)


@dataclass(frozen=True, kw_only=True)
class _Header:
    """What the start of an .npy says: shape, numbers, axis order, bytes of the header itself."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran: bool
    length: int

    @property
    def declared(self) -> int:
        """Bytes of the numbers."""
        return math.prod(self.shape) * self.dtype.itemsize


def numpy_workspace(path: Path) -> Workspace:
    """Workspace of an .npy (its one array is called `array`) or an .npz.

    Raises:
        CsiAuditError: neither of them, truncated, Python objects alone, or sizes that the bytes of
            the file cannot hold.
    """
    try:
        with open(path, "rb") as file:
            magic = file.read(len(_MAGIC))
        if magic == _MAGIC:
            return _workspace(path, "npy", {"array": _npy(path)})
        if magic[:2] == b"PK":
            return _workspace(path, "npz", _npz(path))
    except CsiAuditError:
        raise
    except (*_DAMAGED, RuntimeError, NotImplementedError) as error:
        raise damaged(path, error) from error
    raise CsiAuditError(f"{path} is neither .npy nor .npz (first bytes {magic!r}).")


def _workspace(path: Path, container: str, found: dict[str, Array]) -> Workspace:
    arrays = {name: array for name, array in found.items() if array.dtype.kind in "biufcO"}
    if arrays and all(array.dtype.kind == "O" for array in arrays.values()):
        raise _pickled(path, next(iter(arrays)))
    texts = {
        name: str(np.asarray(array[()]).reshape(-1)[0])
        for name, array in found.items()
        if array.dtype.kind == "U"
        and math.prod(array.shape) == 1
        and array.dtype.itemsize <= 4 * _MOST_TEXT
    }
    return Workspace(path=path, container=container, arrays=arrays, texts=texts)


def _pickled(path: Path, name: str) -> CsiAuditError:
    return CsiAuditError(
        f"{path}: {name} holds Python objects, which are stored as a pickle. Pickles are never "
        "loaded: they could run any code. Save plain arrays: numpy.savez(file, h=h, is_los=is_los)."
    )


def _header(file: IO[bytes]) -> _Header:
    """Header at the start of a file or zip member.

    Raises:
        ValueError: it is no .npy.
    """
    version = np.lib.format.read_magic(file)
    if version == (1, 0):
        shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    elif version in ((2, 0), (3, 0)):  # 3.0 differs in field names beyond ASCII only
        shape, fortran, dtype = np.lib.format.read_array_header_2_0(file)
    else:
        raise ValueError(f"unknown .npy version {version}")
    if any(n < 0 for n in shape):
        raise ValueError(f"negative size in {shape}")
    return _Header(shape=shape, dtype=dtype, fortran=fortran, length=file.tell())


def _native(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The same numbers in this machine's byte order and at most 64 bits a real."""
    if dtype.kind in "fc" and dtype.itemsize > 8 * (1 + (dtype.kind == "c")):
        return np.dtype(np.complex128 if dtype.kind == "c" else np.float64)
    return dtype.newbyteorder("=")


class _Mapped:
    """Numbers that lie uncompressed in a file, mapped only while a slice is copied out."""

    def __init__(self, path: Path, name: str, header: _Header, offset: int, stored: int) -> None:
        if header.declared > stored:
            raise CsiAuditError(
                f"{path}: {name} declares {header.shape}, {header.declared:,} bytes, but the file "
                f"holds only {max(stored, 0):,} of them. Truncated or damaged? Copy or save it "
                "again."
            )
        self._path, self._header, self._offset = path, header, offset
        self.shape, self.dtype = header.shape, _native(header.dtype)

    def __getitem__(self, key: Any) -> Any:
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)[key]
        try:
            mapped: np.ndarray = np.memmap(
                self._path,
                dtype=self._header.dtype,
                mode="r",
                offset=self._offset,
                shape=self.shape or (1,),
                order="F" if self._header.fortran else "C",
            )
        except _DAMAGED as error:
            raise damaged(self._path, error) from error
        # A copy: the map ends here.
        return np.array(mapped.reshape(self.shape)[key], dtype=self.dtype)


class _Deflated(LazyArray):
    """A compressed member, whose header tells its numbers before it is unpacked."""

    def __init__(self, header: _Header, load: Callable[[], np.ndarray]) -> None:
        super().__init__(header.shape, load)
        self._dtype = _native(header.dtype)

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._dtype


class _Objects:
    """Python objects: told of, never loaded."""

    def __init__(self, path: Path, name: str, header: _Header) -> None:
        self._path, self._name = path, name
        self.shape, self.dtype = header.shape, header.dtype

    def __getitem__(self, key: Any) -> Any:
        raise _pickled(self._path, self._name)


def _npy(path: Path) -> Array:
    with open(path, "rb") as file:
        header = _header(file)
    if header.dtype.hasobject:
        return _Objects(path, "array", header)
    stored = path.stat().st_size - header.length
    return _Mapped(path, "array", header, header.length, stored)


def _npz(path: Path) -> dict[str, Array]:
    with zipfile.ZipFile(path) as archive:
        members = [info for info in archive.infolist() if info.filename.endswith(".npy")]
        if len(members) > _MOST_MEMBERS:
            raise CsiAuditError(f"{path} holds more than {_MOST_MEMBERS:,} arrays.")
        return {info.filename[:-4]: _member(path, archive, info) for info in members}


def _member(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> Array:
    """One array of an .npz; of its bytes only the header is read."""
    name = info.filename[:-4]
    if info.flag_bits & 1:
        raise CsiAuditError(f"{path}: {name} is encrypted. Save the archive without a password.")
    with archive.open(info) as file:
        header = _header(file)
    if header.dtype.hasobject:
        return _Objects(path, name, header)
    if info.compress_type == zipfile.ZIP_STORED:
        start = _data_offset(path, info)
        end = min(start + info.file_size, path.stat().st_size)
        offset = start + header.length
        return _Mapped(path, name, header, offset, end - offset)
    _check_compressed(path, name, header, info)
    return _Deflated(header, lambda: _unpacked(path, info, header))


def _data_offset(path: Path, info: zipfile.ZipInfo) -> int:
    """Where a stored member's bytes begin: after its local header, name and extra field.

    Source: PKWARE, ".ZIP File Format Specification" 6.3.10, section 4.3.7.
    """
    with open(path, "rb") as file:
        file.seek(info.header_offset)
        fields = struct.unpack("<4s5H3L2H", file.read(30))
    if fields[0] != b"PK\x03\x04":
        raise zipfile.BadZipFile(f"no local header of {info.filename}")
    name_length, extra_length = fields[-2:]
    return info.header_offset + 30 + int(name_length) + int(extra_length)


def _check_compressed(path: Path, name: str, header: _Header, info: zipfile.ZipInfo) -> None:
    """Refuse what no honest compression gives, before memory is taken for it."""
    stored = min(info.compress_size, path.stat().st_size)
    check_declared(path, name, header.shape, header.dtype.itemsize, stored)
    if header.declared > _BOMB_BYTES and header.declared > _BOMB_RATIO * stored:
        raise CsiAuditError(
            f"{path}: {name} {header.shape} would unpack {stored:,} bytes to "
            f"{header.declared / 1e9:,.1f} GB. If it really is that empty, save it uncompressed "
            "with numpy.savez."
        )
    if header.declared > info.file_size - header.length:
        raise CsiAuditError(
            f"{path}: {name} declares {header.shape}, {header.declared:,} bytes, but the archive "
            f"holds only {max(info.file_size - header.length, 0):,} of them. Truncated or "
            "damaged? Copy or save it again."
        )


def _unpacked(path: Path, info: zipfile.ZipInfo, header: _Header) -> np.ndarray:
    try:
        with zipfile.ZipFile(path) as archive, archive.open(info) as file:
            file.read(header.length)
            numbers = bytearray(file.read(header.declared))
        if len(numbers) < header.declared:
            raise EOFError(f"{info.filename} ends early")
    except (*_DAMAGED, RuntimeError, NotImplementedError, zlib.error) as error:
        raise damaged(path, error) from error
    flat = np.frombuffer(numbers, header.dtype).astype(_native(header.dtype), copy=False)
    shape = header.shape
    return flat.reshape(shape[::-1]).T if header.fortran else flat.reshape(shape)
