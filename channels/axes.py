"""The axes of an array of channels: their names, the orders in which tools write them, and the way
to (user, rx, tx, bin). Knows sizes and names, no file format.

An order is never guessed from data: sizes, and what the file says of its users, antennas and
subcarriers, must leave one; otherwise the error lists what remains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from channels.domains import Panel
from channels.support import CsiAuditError, did_you_mean

__all__ = ["AXES", "AxisOrder", "axis_order", "complex_of"]

AXES = ("user", "rx", "pol", "row", "tx", "beam", "sub", "delay", "reim", "one")
_ALIASES = {
    **dict.fromkeys(("snapshot", "sample", "batch", "ue"), "user"),
    **dict.fromkeys(("antenna", "tx_ant", "column", "col"), "tx"),
    **dict.fromkeys(("rx_ant",), "rx"),
    **dict.fromkeys(("subcarrier", "carrier", "frequency", "freq"), "sub"),
    **dict.fromkeys(("angle",), "beam"),
    **dict.fromkeys(("tap",), "delay"),
    **dict.fromkeys(("re/im", "ri", "iq"), "reim"),
}
_KINDS = {"user": "users", "tx": "antennas", "sub": "subcarriers"}
_TRANSMIT = ("pol", "row", "tx", "beam")  # row-major within the transmit axis
_MOST_RX = 16  # more receive antennas than this are users read as antennas

# Orders that tools write complex channels in, by number of axes.
_USUAL = {
    3: (("user", "tx", "sub"), ("rx", "tx", "sub")),
    4: (("user", "rx", "tx", "sub"), ("rx", "tx", "sub", "user")),
}
_SQUEEZED = ("tx", "sub", "user")  # channel.fr without its receive axis of 1


def complex_of(re: np.ndarray, im: np.ndarray) -> np.ndarray:
    """re + j im, complex64 or complex128; Inf and NaN stay where they are."""
    z = np.empty(re.shape, np.result_type(re.dtype, np.complex64))
    z.real, z.imag = re, im
    return z


@dataclass(frozen=True)
class AxisOrder:
    """Names of an array's axes in the order they are stored.

    `user`, `rx`, `tx` or `beam`, `sub` or `delay`, `reim` (real and imaginary part), `pol` and
    `row` of a panel, `one` for an axis of length 1 that means nothing here.
    """

    names: tuple[str, ...]

    @property
    def domain(self) -> Literal["spatial-frequency", "angular-delay"]:
        """Of what `read` gives."""
        angular = "beam" in self.names and "delay" in self.names
        return "angular-delay" if angular else "spatial-frequency"

    @property
    def mixed(self) -> bool:
        """Whether one of the last two axes must be transformed to reach a domain."""
        return ("beam" in self.names) != ("delay" in self.names)

    def sizes(self, shape: Sequence[int]) -> dict[str, int]:
        """Length of each named axis; axes that are not there count 1."""
        return dict.fromkeys(AXES, 1) | dict(zip(self.names, shape, strict=True))

    def shape(self, shape: Sequence[int]) -> tuple[int, int, int, int]:
        """(N, n_rx, n_tx, n) of an array of this order."""
        size = self.sizes(shape)
        n_tx = math.prod(size[name] for name in _TRANSMIT)
        return size["user"], size["rx"], n_tx, size["sub"] * size["delay"]

    def panel(self, shape: Sequence[int]) -> Panel | None:
        """(n_pol, n_rows, n_columns) if the order names polarisations or rows."""
        if not {"pol", "row"} & set(self.names):
            return None
        size = self.sizes(shape)
        return size["pol"], size["row"], size["tx"] * size["beam"]

    def read(self, array: Any, start: int, stop: int) -> np.ndarray:
        """Users start..stop-1 in `domain`: `stored`, then `unmixed`."""
        return self.unmixed(self.stored(array, start, stop), array.shape)

    def stored(self, array: Any, start: int, stop: int) -> np.ndarray:
        """Users start..stop-1 of an array (numpy or HDF5), complex (n, n_rx, n_tx, n).

        Real and imaginary parts are joined; nothing is transformed.
        """
        at: list[slice] = [slice(None)] * len(self.names)
        if "user" in self.names:
            at[self.names.index("user")] = slice(start, stop)
        part = np.asarray(array[tuple(at)])
        target = [name for name in ("user", "rx", *_TRANSMIT, "sub", "delay") if name in self.names]
        order = [self.names.index(name) for name in target]
        ones = [i for i, name in enumerate(self.names) if name == "one"]
        if "reim" in self.names:
            part = part.transpose([*order, *ones, self.names.index("reim")])
            part = complex_of(part[..., 0], part[..., 1])
        else:
            part = part.transpose([*order, *ones])
        size = self.sizes(array.shape) | {"user": len(range(start, stop))}
        n_tx = math.prod(size[name] for name in _TRANSMIT)
        full = (size["user"], size["rx"], n_tx, size["sub"] * size["delay"])
        return np.ascontiguousarray(part.reshape(full))

    def unmixed(self, h: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Users (n, n_rx, n_tx, n), a mixed domain taken to spatial-frequency; `shape` is that of
        the whole array."""
        if not self.mixed:
            return h
        if "delay" in self.names:
            return np.fft.fft(h, axis=-1, norm="ortho").astype(h.dtype, copy=False)
        panel = self.panel(shape) or (1, 1, h.shape[2])
        beams = h.reshape(*h.shape[:2], *panel, h.shape[3])
        spatial = np.fft.ifftn(beams, axes=(3, 4), norm="ortho").reshape(h.shape)
        return spatial.astype(h.dtype, copy=False)

    def describe(self, shape: Sequence[int]) -> str:
        """`--axes user,tx,sub: 300 users, 1 x 32 antennas, 32 subcarriers`."""
        n, n_rx, n_tx, n_bin = self.shape(shape)
        bins = "delay taps" if "delay" in self.names else "subcarriers"
        users = "1 user" if n == 1 else f"{n:,} users"
        return f"--axes {','.join(self.names)}: {users}, {n_rx} x {n_tx} antennas, {n_bin} {bins}"


def axis_order(
    path: Path,
    name: str,
    shape: tuple[int, ...],
    axes: str | Sequence[str] | None,
    *,
    is_complex: bool = True,
    known: Mapping[str, int] | None = None,
) -> AxisOrder:
    """Order of an array's axes: as the user says, else the only usual one that fits.

    Usual orders of complex arrays are [user, tx, sub] and [user, rx, tx, sub], and QuaDRiGa's
    [rx, tx, carrier, snapshot] of `channel.fr`, where a trailing snapshot of 1 is dropped, or the
    receive axis by squeeze.

    Args:
        path: For messages.
        name: Array, for messages.
        shape: Its shape.
        axes: What the user said: "rx,tx,sub,user" or a sequence; None if nothing.
        is_complex: Whether its numbers are complex.
        known: Sizes that the file states elsewhere: of "user" (rows of its labels), "tx", "sub".
    Raises:
        CsiAuditError: unknown, repeated or missing names, a wrong count, no usual order that fits,
            or several (lists them).
    """
    if 0 in shape:
        raise CsiAuditError(
            f"{path}: {name} is empty, shape {shape}. An audit needs at least one user."
        )
    if axes is not None:
        return _named(path, name, shape, axes, is_complex)
    if not is_complex:
        raise CsiAuditError(_real_message(path, name, shape))
    if len(shape) not in _USUAL:
        raise CsiAuditError(
            f"{path}: {name} must be [user, antenna, subcarrier] or [user, rx, tx, subcarrier]; "
            f"got {shape}. Was it flattened or squeezed? Name its axes with --axes, choosing from: "
            f"{', '.join(AXES)}."
        )
    fitting = _fitting(shape, known or {})
    if len(fitting) == 1:
        return fitting[0]
    said = ", ".join(f"{n} {_KINDS[kind]}" for kind, n in (known or {}).items())
    if not fitting:
        beside = f" with the {said} that the file speaks of beside it" if said else ""
        raise CsiAuditError(
            f"{path}: {name} {shape} fits no usual order of axes{beside}. "
            f"Name them with --axes, choosing from: {', '.join(AXES)}."
        )
    listed = "; ".join(order.describe(shape) for order in fitting)
    raise CsiAuditError(f"{path}: {name} {shape} can be read in several ways. Choose: {listed}.")


def _fitting(shape: tuple[int, ...], known: Mapping[str, int]) -> list[AxisOrder]:
    """Usual orders that agree with the known sizes and have a credible number of receive antennas;
    of orders that mean the same (an axis of length 1) the first."""
    usual = list(_USUAL[len(shape)])
    if len(shape) == 3 and ("user" in known or shape[2] > shape[0] > 1):
        usual.append(_SQUEEZED)
    fitting: dict[tuple[int, ...], AxisOrder] = {}
    for names in usual:
        order = AxisOrder(names)
        n, n_rx, n_tx, n_bin = meant = order.shape(shape)
        sizes = {"user": n, "tx": n_tx, "sub": n_bin}
        if n_rx <= min(n_tx, _MOST_RX) and all(sizes[kind] == m for kind, m in known.items()):
            fitting.setdefault(meant, order)
    return list(fitting.values())


def _named(
    path: Path, name: str, shape: tuple[int, ...], axes: str | Sequence[str], is_complex: bool
) -> AxisOrder:
    given = axes.split(",") if isinstance(axes, str) else list(axes)
    names = tuple(_ALIASES.get(part.strip().lower(), part.strip().lower()) for part in given)
    for part in names:
        if part not in AXES:
            raise CsiAuditError(
                f"axes must be names among {', '.join(AXES)}; got {part!r}."
                f"{did_you_mean(part, [*AXES, *_ALIASES])}"
            )
    counted = [part for part in names if part != "one"]
    if (
        len(set(counted)) != len(counted)
        or ("tx" in names) + ("beam" in names) != 1
        or ("sub" in names) + ("delay" in names) != 1
    ):
        raise CsiAuditError(
            "axes must name tx (or beam) and sub (or delay) once each, and user, rx, pol, row and "
            f"reim at most once; got {','.join(names)}."
        )
    if len(names) != len(shape):
        raise CsiAuditError(
            f"{path}: {name} has {len(shape)} axes {shape}, but axes names {len(names)}: "
            f"{','.join(names)}."
        )
    _check_lengths(path, name, shape, names, is_complex)
    return AxisOrder(names)


def _check_lengths(
    path: Path, name: str, shape: tuple[int, ...], names: tuple[str, ...], is_complex: bool
) -> None:
    size = dict(zip(names, shape, strict=True))
    if is_complex and "reim" in names:
        raise CsiAuditError(f"{path}: {name} is complex already; leave reim out of axes.")
    if not is_complex and "reim" not in names:
        raise CsiAuditError(
            f"{path}: {name} must be complex, or have an axis reim of 2; got real numbers {shape}. "
            "Was only its magnitude or real part saved?"
        )
    if size.get("reim", 2) != 2:
        raise CsiAuditError(f"{path}: axis reim of {name} must have length 2; got {size['reim']}.")
    if any(n != 1 for n, kind in zip(shape, names, strict=True) if kind == "one"):
        raise CsiAuditError(
            f"{path}: axis one of {name} must have length 1; got {shape} for {','.join(names)}. "
            "Several base stations, symbols or time steps? Save one of them, or read them as users."
        )


def _real_message(path: Path, name: str, shape: tuple[int, ...]) -> str:
    """Error for real numbers without named axes, with the orders that shape allows."""
    start = f"{path}: {name} holds real numbers {shape}. "
    if 2 not in shape:
        return start + "It must be complex. Was only its magnitude or real part saved?"
    usual = {
        3: ("user,reim,tx,sub",),
        4: ("user,reim,tx,sub", "user,tx,sub,reim", "user,reim,beam,delay", "user,beam,delay,reim"),
        5: ("user,rx,reim,tx,sub", "user,rx,tx,sub,reim", "user,rx,tx,delay,reim"),
    }.get(len(shape), ())
    fit = [o for o in usual if dict(zip(o.split(","), shape, strict=False)).get("reim") == 2]
    ways = "; ".join(f"--axes {order}" for order in fit) or f"choose from {', '.join(AXES)}"
    return start + f"Name its axes, real and imaginary part as reim: {ways}."
