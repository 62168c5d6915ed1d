"""`Workspace`: named arrays of a file, whatever container holds them, and none read before it is
sliced.

Containers (MATLAB, HDF5, numpy, PyTorch) fill it; layouts (COST2100, DeepMIMO, Sionna ...) decide
what its arrays mean. So a layout is recognised in every container.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from channels.support import CsiAuditError, did_you_mean

__all__ = ["Array", "LazyArray", "Workspace", "check_declared", "listed"]

_MOST_COMPRESSED = 1100  # deflate cannot pass 1032 : 1
_SMALL = 1 << 24  # bytes that need no proof
_MOST_LISTED = 12  # names in a message
_Held = TypeVar("_Held")


def listed(names: Iterable[str]) -> str:
    """The first names of a long list, for messages.

    >>> listed(["a", "b"])
    'a, b'
    >>> listed(map(str, range(20)))
    '0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11 and 8 more'
    """
    held = list(names)
    more = len(held) - _MOST_LISTED
    return ", ".join(held[:_MOST_LISTED]) + (f" and {more:,} more" if more > 0 else "")


class Array(Protocol):
    """What a workspace holds under a name: numpy and HDF5 arrays do."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, key: Any) -> Any: ...


class LazyArray:
    """An array that a container can only read whole: read at the first need, then kept.

    Args:
        shape: As the container declares it.
        load: Reads it.
    """

    def __init__(self, shape: tuple[int, ...], load: Callable[[], np.ndarray]) -> None:
        self.shape, self._load = shape, load
        self._value: np.ndarray | None = None

    @property
    def value(self) -> np.ndarray:
        """The array itself."""
        if self._value is None:
            self._value = self._load()
        return self._value

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.value.dtype

    def __getitem__(self, key: Any) -> Any:
        return self.value[key]


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """Named arrays and facts of one file.

    Attributes:
        path: The file.
        container: Name for people: "MATLAB v5", "MATLAB v7.3", "Octave HDF5", "HDF5", "npz",
            "npy", "PyTorch".
        arrays: Numeric arrays by name; nested ones by "outer/inner". MATLAB's in MATLAB's axis
            order.
        texts: Character arrays and strings.
        attributes: Attributes of the file.
    """

    path: Path
    container: str
    arrays: Mapping[str, Array]
    texts: Mapping[str, str] = field(default_factory=dict)
    attributes: Mapping[str, Any] = field(default_factory=dict)

    def shape(self, name: str) -> tuple[int, ...] | None:
        """Shape of an array, None if there is none of this name."""
        return tuple(self.arrays[name].shape) if name in self.arrays else None

    def first(self, names: Iterable[str]) -> str | None:
        """The first of `names` that is here."""
        return next((name for name in names if name in self.arrays), None)

    def value(self, name: str) -> np.ndarray:
        """A small array, read whole."""
        return np.asarray(self.arrays[name][()])

    def listed(self, names: Iterable[str] | None = None) -> str:
        """Names and shapes, by default of all arrays, for messages."""
        held = self.arrays if names is None else names
        return listed(f"{name} {self.shape(name)}" for name in held) or "no arrays"

    def beside(self, name: str) -> Workspace:
        """What lies around an array, under plain names: of `a/b/h` the arrays and texts of a/b,
        then those of a, then those of the top level; of one name the nearest."""
        folders = name.split("/")[:-1]
        places = ["/".join([*folders[:depth], ""]) for depth in range(len(folders) + 1)]
        return replace(self, arrays=_near(self.arrays, places), texts=_near(self.texts, places))

    def choose(self, wanted: str | None, defaults: Iterable[str]) -> str:
        """Name of the array that holds the channels.

        Args:
            wanted: The user's choice, or None.
            defaults: Names to take unasked, first match wins.
        Returns:
            `wanted`; else the first default present; else the only array with 3 or more axes.
        Raises:
            CsiAuditError: unknown name, no candidate, or several; lists the candidates.
        """
        candidates = [name for name, array in self.arrays.items() if len(array.shape) >= 3]
        if wanted is not None:
            if wanted in self.arrays:
                return wanted
            raise CsiAuditError(
                f"{self.path} has no variable {wanted!r}."
                f"{did_you_mean(wanted, candidates or self.arrays)}"
            )
        default = self.first(defaults)
        if default is not None:
            return default
        if len(candidates) == 1:
            return candidates[0]
        if not candidates:
            raise CsiAuditError(
                f"{self.path} has no array of 3 or 4 axes, [user, antenna, subcarrier] or "
                f"[user, rx, tx, subcarrier]; it has: {self.listed()}."
            )
        raise CsiAuditError(
            f"{self.path} has several arrays; choose one with --variable: "
            f"{self.listed(candidates)}."
        )


def _near(held: Mapping[str, _Held], places: Iterable[str]) -> dict[str, _Held]:
    """What lies in folders, each "" or "outer/", by its last name; of one name the last one's."""
    return {
        name.removeprefix(place): value
        for place in places
        for name, value in held.items()
        if name.startswith(place) and "/" not in name.removeprefix(place)
    }


def check_declared(path: Path, name: str, shape: tuple[int, ...], width: int, stored: int) -> None:
    """Refuse an array whose declared size its stored bytes cannot hold: memory is not taken for it.

    Args:
        path, name: For the message.
        shape: Declared.
        width: Bytes a number.
        stored: Bytes that the file spends on it, compressed.
    Raises:
        CsiAuditError: more than deflate could ever unpack.
    """
    declared = math.prod(shape) * width
    if declared > _SMALL and declared > _MOST_COMPRESSED * stored:
        raise CsiAuditError(
            f"{path}: {name} declares {shape}, {declared / 1e9:,.1f} GB, but the file holds only "
            f"{stored:,} bytes of it. Truncated or damaged? Copy or save it again."
        )
