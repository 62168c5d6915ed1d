"""The elements of a MATLAB v5/v7 file, walked in small pieces before anything is loaded: names,
shapes, and how much memory a variable would take. What is in them is read by scipy.

A compressed element of a few kilobytes may unpack to gigabytes, of numbers or of empty cells. So
nothing is believed that was not counted in the unpacked bytes themselves, 64 KiB at a time.
"""

from __future__ import annotations

import io
import math
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np

from channels.support import CsiAuditError

__all__ = ["Mat5Variable", "alone", "check_nested", "check_numbers", "mat5_variables"]

_HEADER = 128  # bytes

_MATRIX, _COMPRESSED = 14, 15
_CLASSES = {
    **{1: "cell", 2: "struct", 3: "object", 4: "char", 5: "sparse", 6: "double", 7: "single"},
    **{8 + i: f"{'u' if i % 2 else ''}int{8 << i // 2}" for i in range(8)},
    **{16: "function", 17: "opaque"},
}
_LOGICAL = ("uint8", "double")  # classes that MATLAB's logical arrays have
_WIDEST = 8  # bytes that a number or a character is stored in
_PIECE = 1 << 16
_MOST_NAME, _MOST_AXES, _MOST_VARIABLES = 4096, 32, 4096
_MOST_ELEMENTS = 100_000  # matrices and places for them within structs and cells
_MOST_CHARACTERS = 1 << 20  # within structs and cells
_MOST_UNPACKED = 1 << 30  # bytes of structs and cells
_UNSUSPICIOUS, _MOST_RATIO = 1 << 26, 20  # bytes, and bytes unpacked from one


@dataclass(frozen=True, kw_only=True)
class Mat5Variable:
    """A variable of the file, by the head of its element.

    Attributes:
        name: Its name; "" for what MATLAB keeps beside the variables.
        kind: MATLAB's class, "logical" for those numbers.
        shape: As declared.
        is_complex: Whether an imaginary part follows the real one.
        start, size: Of the element in the file [bytes], without its tag.
        compressed: Whether these bytes are deflated.
    """

    name: str
    kind: str
    shape: tuple[int, ...]
    is_complex: bool
    start: int
    size: int
    compressed: bool


class _Bytes:
    """Bytes of an element, unpacked in pieces; `size` of the file at most are read."""

    def __init__(self, file: IO[bytes], size: int, *, compressed: bool) -> None:
        self._file, self._left = file, size
        self._inflate = zlib.decompressobj() if compressed else None
        self._held = b""
        self.count = 0

    def _more(self) -> bytes:
        """The next piece, b"" at the end."""
        while True:
            packed = self._inflate.unconsumed_tail if self._inflate is not None else b""
            if not packed:
                packed = self._file.read(min(_PIECE, self._left))
                self._left -= len(packed)
            if self._inflate is None or not packed:
                return packed
            piece = self._inflate.decompress(packed, _PIECE)
            if piece or self._inflate.eof:
                return piece

    def read(self, n: int) -> bytes:
        """The next n bytes, n small.

        Raises:
            EOFError: there are fewer.
        """
        while len(self._held) < n:
            piece = self._more()
            if not piece:
                raise EOFError("an element ends early")
            self._held += piece
        found, self._held = self._held[:n], self._held[n:]
        self.count += n
        return found

    def skip(self, n: int) -> None:
        """Pass over n bytes, n of any size."""
        self.count += n
        while n > len(self._held):
            n -= len(self._held)
            self._held = self._more()
            if not self._held:
                raise EOFError("an element ends early")
        self._held = self._held[n:]

    @property
    def ended(self) -> bool:
        """Whether nothing is left."""
        if not self._held:
            self._held = self._more()
        return not self._held


@dataclass(frozen=True)
class _Tagged:
    """Numbers of a file in its byte order, and the tags before them.

    Source: MathWorks, "MAT-File Format", sections on data elements and tags.
    """

    order: str  # "<" or ">"

    def tag(self, data: _Bytes) -> tuple[int, int, bytes | None]:
        """Type and size of the next data, and the data themselves where the tag holds them."""
        first = data.read(4)
        word = int(np.frombuffer(first, f"{self.order}u4")[0])
        kind, n = word & 0xFFFF, word >> 16
        if n:
            if n > 4:
                raise ValueError(f"{n} bytes in a tag of 4")
            return kind, n, data.read(4)[:n]
        return word, int(np.frombuffer(data.read(4), f"{self.order}u4")[0]), None

    def small(self, data: _Bytes, most: int) -> bytes:
        """Data of at most `most` bytes and their padding."""
        _, n, held = self.tag(data)
        if held is not None:
            return held
        if n > most:
            raise ValueError(f"{n:,} bytes where at most {most:,} belong")
        return data.read(n + -n % 8)[:n]

    def head(self, data: _Bytes) -> tuple[int, tuple[int, ...]]:
        """Flags and shape of a matrix whose tag was read; an opaque one has no shape."""
        flags = int(np.frombuffer(self.small(data, 8)[:4], f"{self.order}u4")[0])
        if _CLASSES.get(flags & 0xFF) == "opaque":
            return flags, ()
        shape = np.frombuffer(self.small(data, 4 * _MOST_AXES), f"{self.order}i4")
        if (shape < 0).any():
            raise ValueError(f"negative size in {tuple(shape.tolist())}")
        return flags, tuple(int(n) for n in shape)


def mat5_variables(path: Path) -> list[Mat5Variable]:
    """Variables of a file in its order; of each the head alone is unpacked.

    Raises:
        CsiAuditError: more variables than a file of channels ever has.
        ValueError, EOFError, zlib.error: truncated or damaged.
    """
    end = path.stat().st_size
    with open(path, "rb") as file:
        found = list(islice(_variables(file, _tagged(file), end), _MOST_VARIABLES + 1))
    if len(found) > _MOST_VARIABLES:
        raise CsiAuditError(f"{path} holds more than {_MOST_VARIABLES:,} variables.")
    return found


def _tagged(file: IO[bytes]) -> _Tagged:
    """Byte order of the file, whose header is read to its end."""
    file.seek(0)
    mark = file.read(_HEADER)[_HEADER - 2 :]
    if mark not in (b"IM", b"MI"):
        raise ValueError(f"no byte order in its header: {mark!r}")
    return _Tagged("<" if mark == b"IM" else ">")


def _variables(file: IO[bytes], tagged: _Tagged, end: int) -> Iterator[Mat5Variable]:
    start = _HEADER
    while start < end:
        file.seek(start)
        element, size, _ = tagged.tag(_Bytes(file, 8, compressed=False))
        start += 8
        if element not in (_MATRIX, _COMPRESSED):
            raise ValueError(f"an element of type {element} where a variable belongs")
        if start + size > end:
            raise EOFError(f"an element of {size:,} bytes, of which {end - start:,} are there")
        compressed = element == _COMPRESSED
        data = _Bytes(file, size, compressed=compressed)
        if compressed and tagged.tag(data)[0] != _MATRIX:
            raise ValueError("a compressed element that is no variable")
        flags, shape = tagged.head(data)
        name = tagged.small(data, _MOST_NAME).decode("latin1")
        kind = _CLASSES.get(flags & 0xFF, "unknown")
        yield Mat5Variable(
            name=name,
            kind="logical" if flags & 0x200 and kind in _LOGICAL else kind,
            shape=shape,
            is_complex=bool(flags & 0x800),
            start=start,
            size=size,
            compressed=compressed,
        )
        start += size


@contextmanager
def alone(path: Path, variable: Mat5Variable) -> Iterator[IO[bytes]]:
    """The file as if it held one variable.

    scipy unpacks 128 KiB of the file at a time, which may become 130 MB, to read the head of a
    variable that nobody asked for.
    """
    with open(path, "rb") as file, io.BufferedReader(_Alone(file, variable)) as view:
        yield view


class _Alone(io.RawIOBase):
    """Header of a file and one element of it, in a row."""

    def __init__(self, file: IO[bytes], variable: Mat5Variable) -> None:
        self._file, self._moved = file, variable.start - 8 - _HEADER
        self._at, self._end = 0, _HEADER + 8 + variable.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._end}[whence]
        self._at = max(0, base + offset)
        return self._at

    def readinto(self, buffer: Any) -> int:
        in_header = self._at < _HEADER
        n = min(len(buffer), max(0, (_HEADER if in_header else self._end) - self._at))
        self._file.seek(self._at + (0 if in_header else self._moved))
        found = self._file.read(n)
        buffer[: len(found)] = found
        self._at += len(found)
        return len(found)


def check_numbers(path: Path, variable: Mat5Variable) -> None:
    """Raise unless the data of a numeric array or a text are as long as its shape says.

    scipy takes memory for what the tags of the data say, before it compares them with the shape.

    Raises:
        ValueError, EOFError, zlib.error: longer, truncated or damaged.
    """
    most = max(8, math.prod(variable.shape) * _WIDEST)
    with open(path, "rb") as file:
        tagged, data = _data(file, variable)
        tagged.head(data)
        tagged.small(data, _MOST_NAME)
        for part in range(1 + variable.is_complex):
            _, n, held = tagged.tag(data)
            if n > most:
                raise ValueError(f"{variable.name} {variable.shape} holds {n:,} bytes")
            if held is None and part < variable.is_complex:
                data.skip(n + -n % 8)


def check_nested(path: Path, variable: Mat5Variable) -> None:
    """Refuse a struct or cell that would take more memory than channels ever need.

    A matrix is a tag and data in a row, some of which are matrices: so one follows the other.

    Raises:
        CsiAuditError: more than 1 GiB, more than 64 MiB unpacked from a twentieth, more than
            100,000 arrays or a million characters.
        ValueError, EOFError, zlib.error: truncated or damaged.
    """
    with open(path, "rb") as file:
        tagged, data = _data(file, variable)
        load = _Load(path, variable, tagged, data)
        load.matrix()
        while not data.ended:
            kind, n, held = tagged.tag(data)
            if kind == _MATRIX:
                load.matrix() if n else load.add(elements=1)
            elif held is None:
                load.data(n)


class _Load:
    """What has been counted of a struct or cell."""

    def __init__(self, path: Path, variable: Mat5Variable, tagged: _Tagged, data: _Bytes) -> None:
        self._path, self._variable, self._tagged, self._bytes = path, variable, tagged, data
        self._elements, self._characters = 0, 0
        self._widest: int | None = None  # bytes that the present matrix may hold, if it is a text

    def matrix(self) -> None:
        """The head of a matrix, whose tag was read."""
        flags, shape = self._tagged.head(self._bytes)
        kind, n = _CLASSES.get(flags & 0xFF), math.prod(shape)
        self._widest = None
        if kind == "char":
            self._widest = max(_MOST_NAME, _WIDEST * n)  # its name has the room too
            self.add(elements=1, characters=n)
        elif kind in ("struct", "object"):
            self.add(elements=1 + n)  # before its fields are known
            self.add(elements=n * self._fields(kind))
        else:
            self.add(elements=1 + (n if kind == "cell" else 0))

    def _fields(self, kind: str) -> int:
        """Fields of a struct, read up to their names."""
        for _ in range(2 if kind == "object" else 1):  # its name, its class
            self._tagged.small(self._bytes, _MOST_NAME)
        length = np.frombuffer(self._tagged.small(self._bytes, 8)[:4], f"{self._tagged.order}i4")
        if length.size != 1 or length[0] < 1:
            raise ValueError("field names without a length")
        _, n, held = self._tagged.tag(self._bytes)
        if held is None:
            self.data(n)
        return n // int(length[0])

    def data(self, n: int) -> None:
        """Pass over n bytes of numbers or characters."""
        if self._widest is not None and n > self._widest:
            raise ValueError(f"a text of {self._variable.name} holds {n:,} bytes, not its own")
        self.add(unpacked=n)
        self._bytes.skip(n + -n % 8)

    def add(self, *, elements: int = 0, characters: int = 0, unpacked: int = 0) -> None:
        """Count, and refuse what is too much."""
        self._elements += elements
        self._characters += characters
        variable, unpacked = self._variable, unpacked + self._bytes.count
        suspicious = unpacked > _UNSUSPICIOUS and unpacked > _MOST_RATIO * variable.size
        found = None
        if self._elements > _MOST_ELEMENTS:
            found = f"{_MOST_ELEMENTS:,} arrays"
        elif self._characters > _MOST_CHARACTERS:
            found = f"{_MOST_CHARACTERS:,} characters"
        elif unpacked > _MOST_UNPACKED or suspicious:
            found = f"{unpacked / 1e6:,.0f} MB in {variable.size:,} bytes of the file"
        if found is not None:
            raise CsiAuditError(
                f"{self._path}: {variable.name} is a {variable.kind} of more than {found}, too "
                "much to load whole. Save its arrays as variables of their own."
            )


def _data(file: IO[bytes], variable: Mat5Variable) -> tuple[_Tagged, _Bytes]:
    """The bytes of a variable, after the tag of its matrix."""
    tagged = _tagged(file)
    file.seek(variable.start)
    data = _Bytes(file, variable.size, compressed=variable.compressed)
    if variable.compressed:
        tagged.tag(data)
    return tagged, data
