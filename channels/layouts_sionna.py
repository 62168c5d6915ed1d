"""Sionna's tensors of channels: frequency responses and impulse responses, from its link-level
models and its ray tracer, saved by the user as .npz, .pt or HDF5.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from channels.axes import axis_order
from channels.labels import labels_of
from channels.layouts_plain import fact
from channels.opened import Opened, ReadOptions
from channels.row_views import Rows, Sampled, sampled
from channels.support import CsiAuditError
from channels.workspace import Array, Workspace

__all__ = ["sionna_layout"]

_NAMES = ("h_freq", "h_f", "cfr", "h", "H")  # of responses without a batch axis, which are 6-D
_FULL, _BATCHLESS = 7, 6  # axes with and without the batch
_CARRIER = ("carrier_hz", "fc_hz", "carrier_frequency")
_SPACING = ("subcarrier_spacing", "subcarrier_spacing_hz")
_SIZE = ("fft_size", "num_subcarriers")
_FACTS = (*_CARRIER, *_SPACING, *_SIZE, "bandwidth_hz", "bandwidth")


@dataclass(frozen=True)
class _Links:
    """Users of a tensor [batch, num_rx, num_rx_ant, num_tx, num_tx_ant, ...], the batch optional.

    A user is a receiver of a batch example, counted batch by batch.
    """

    array: Array

    @property
    def shape(self) -> tuple[int, ...]:
        shape = tuple(self.array.shape)
        return shape if len(shape) == _FULL else (1, *shape)

    @property
    def n_rx(self) -> int:
        """Receivers of a batch example."""
        return self.shape[1]

    @property
    def n(self) -> int:
        """Users."""
        return self.shape[0] * self.n_rx

    def rows(
        self, array: Array, start: int, stop: int, others: tuple[slice, ...] = ()
    ) -> np.ndarray:
        """Users start..stop-1 of a tensor of these links, (n, ...) without batch and receiver.

        Args:
            array: The tensor itself or one that shares its first axes, as the delays do.
            start, stop: Users.
            others: Slices of the axes after the receiver.
        """
        first, last = start // self.n_rx, max(start, stop - 1) // self.n_rx
        whole = (
            slice(None) if last > first else slice(start % self.n_rx, (stop - 1) % self.n_rx + 1)
        )
        batch = (slice(first, last + 1),) if len(self.array.shape) == _FULL else ()
        part = np.asarray(array[(*batch, whole, *others)])
        part = part.reshape(-1, *part.shape[len(batch) + 1 :])
        skipped = start - first * self.n_rx if last > first else 0
        return part[skipped : skipped + stop - start]


def sionna_layout(workspace: Workspace, options: ReadOptions) -> Opened | None:
    """Sionna: `h_freq` [batch, num_rx, num_rx_ant, num_tx, num_tx_ant, num_ofdm_symbols, fft_size],
    or `a` [..., num_paths, num_time_steps] and `tau` [batch, num_rx, num_tx, num_paths], with a
    delay for each antenna pair where it has six axes.

    The ray tracer's tensors lack the batch. Receivers are users; of several times the first is
    read. Its grid is centred, f_k = (k - n/2) spacing: that turns the phase of each path and moves
    no delay, so nothing is shifted. Impulse responses are sampled on ours, from the carrier up.

    Raises:
        CsiAuditError: several transmitters, several tensors, more receive than transmit antennas.
    Source: github.com/NVlabs/sionna, src/sionna/phy/channel/utils.py (subcarrier_frequencies,
        cir_to_ofdm_channel); nvlabs.github.io/sionna/rt/api/paths.html (Paths.cir, Paths.cfr).
    """
    if options.axes is not None and len(_names(options)) in (_FULL, _BATCHLESS):
        return None  # the user names every axis: a plain array
    name = _tensor(workspace, options)
    if name is None:
        return None
    links, delays = _Links(workspace.arrays[name]), _delays(workspace, name)
    _check_transmitters(workspace, name, links)
    notices: list[str] = []
    times = links.shape[6 if delays else 5]
    if times > 1:
        notices.append(f"Of {times} times of each link the first is read.")
    if links.n_rx > 1:
        notices.append(f"Its {links.n_rx} receivers a batch example are users of their own.")
    cautions: tuple[str, ...] = ()
    near, taken = workspace.beside(name), {_last(name), *_FACTS, _last(delays or name)}
    array: Array
    bandwidth_hz = _bandwidth(near, links.shape[6])
    if delays:
        found = _impulse(near, links, workspace.arrays[delays], options)
        array, bandwidth_hz, cautions = found.rows, found.bandwidth_hz, found.cautions
        notices.extend(found.notices)
    else:
        array = _response(links)
    order = axis_order(
        workspace.path, name, array.shape, _axes(workspace, name, links, options), is_complex=True
    )
    return Opened(
        shape=order.shape(array.shape),
        read=lambda start, stop: order.read(array, start, stop),
        labels=_labels(near, links, taken),
        format=f"Sionna {'impulse' if delays else 'frequency'} responses ({workspace.container})",
        carrier_hz=fact(near, _CARRIER),
        bandwidth_hz=bandwidth_hz,
        scaling="raw",
        notices=tuple(notices),
        cautions=cautions,
    )


def _names(options: ReadOptions) -> list[str]:
    axes = options.axes or ()
    return axes.split(",") if isinstance(axes, str) else list(axes)


def _last(name: str) -> str:
    """Of `outer/inner` the inner name."""
    return name.rpartition("/")[2]


# --- Which tensor ---------------------------------------------------------------------------------


def _delays(workspace: Workspace, name: str) -> str | None:
    """Name of the delays that belong to path coefficients; None for a frequency response."""
    folder, slash, last = name.rpartition("/")
    theirs = f"{folder}{slash}{last.removesuffix('a')}tau" if last.endswith("a") else ""
    shape, own = workspace.shape(theirs), workspace.arrays[name].shape
    batch = len(own) - _BATCHLESS
    if shape is None or len(shape) not in (batch + 3, batch + 5):
        if last == "a" or last.endswith("_a"):
            raise CsiAuditError(
                f"{workspace.path}: {name} {tuple(own)} looks like Sionna's path coefficients, but "
                f"their delays {theirs} are {'missing' if shape is None else shape}. Save both."
            )
        return None
    full = tuple(own[: batch + 5])
    link = (*full[: batch + 1], full[batch + 2], full[batch + 4])
    if shape not in (full, link):
        raise CsiAuditError(
            f"{workspace.path}: {theirs} must be {link}, one delay a path, or {full}, one an "
            f"antenna pair and path, to fit {name} {tuple(own)}; got {shape}."
        )
    return theirs


def _tensor(workspace: Workspace, options: ReadOptions) -> str | None:
    """Name of the channels; None if there are none of Sionna's shape."""
    here = []
    for name, array in workspace.arrays.items():
        n_axes, last = len(array.shape), _last(name)
        if n_axes == _FULL or (
            n_axes == _BATCHLESS and (last in _NAMES or _delays(workspace, name) is not None)
        ):
            here.append(name)
    if options.variable is not None:
        return options.variable if options.variable in here else None
    here = [name for name in here if workspace.arrays[name].dtype.kind == "c"]
    if len(here) > 1:
        raise CsiAuditError(
            f"{workspace.path} has several arrays; choose one with --variable: "
            f"{workspace.listed(here)}."
        )
    return here[0] if here else None


def _check_transmitters(workspace: Workspace, name: str, links: _Links) -> None:
    n_tx = links.shape[3]
    if 0 in links.shape:
        raise CsiAuditError(
            f"{workspace.path}: {name} is empty, shape {links.shape}. An audit needs at least one "
            "user."
        )
    if n_tx > 1:
        before = ":, " * (len(links.array.shape) - 4)
        raise CsiAuditError(
            f"{workspace.path}: {name} has {n_tx} transmitters, axis num_tx. Base stations: save "
            f"one, {name}[{before}i:i+1] with i in 0..{n_tx - 1}. Users of an uplink: swap rx and "
            "tx first, which reciprocity allows."
        )


def _axes(workspace: Workspace, name: str, links: _Links, options: ReadOptions) -> str:
    """Order of [user, num_rx_ant, num_tx_ant, subcarrier]: the user's, or downlink."""
    if options.axes is not None:
        return ",".join(_names(options))
    n_rx, n_tx = links.shape[2], links.shape[4]
    if n_rx > n_tx:
        raise CsiAuditError(
            f"{workspace.path}: {name} has {n_rx} receive and {n_tx} transmit antennas. Choose: "
            "--axes user,rx,tx,sub as they stand; --axes user,tx,rx,sub for an uplink, read as its "
            "downlink by reciprocity."
        )
    return "user,rx,tx,sub"


# --- Channels and labels --------------------------------------------------------------------------


def _response(links: _Links) -> Array:
    """[user, rx, tx, subcarrier] of the first symbol."""
    every, first = slice(None), slice(0, 1)
    size = links.shape
    shape = (links.n, size[2], size[4], size[6])

    def fetch(start: int, stop: int) -> np.ndarray:
        part = links.rows(links.array, start, stop, (every, first, every, first, every))
        return part.reshape(-1, *shape[1:])

    return Rows(shape, links.array.dtype, fetch)


def _impulse(workspace: Workspace, links: _Links, tau: Array, options: ReadOptions) -> Sampled:
    """[user, rx, tx, subcarrier] sampled from the paths of the first time step."""
    every, first = slice(None), slice(0, 1)
    _, _, n_rx, _, n_tx, n_path, _ = links.shape
    paired = len(tau.shape) == len(links.array.shape) - 1

    def paths(start: int, stop: int) -> tuple[np.ndarray, np.ndarray]:
        a = links.rows(links.array, start, stop, (every, first, every, every, first))
        a = a.reshape(-1, n_rx, n_tx, n_path)
        others = (every, first, every, every) if paired else (first, every)
        tau_s = links.rows(tau, start, stop, others)
        return a, tau_s.reshape(a.shape if paired else (len(a), n_path))

    n_sub = fact(workspace, _SIZE)
    return sampled(
        workspace,
        options,
        paths,
        (links.n, n_rx, n_tx),
        bandwidth_hz=_bandwidth(workspace, n_sub),
        n_sub=None if n_sub is None else int(n_sub),
    )


def _bandwidth(workspace: Workspace, n_sub: float | None) -> float | None:
    """Bandwidth [Hz]: stated, or subcarriers times their spacing."""
    stated, spacing = fact(workspace, ("bandwidth_hz", "bandwidth")), fact(workspace, _SPACING)
    if stated is None and spacing is not None and n_sub is not None:
        return spacing * n_sub
    return stated


def _labels(workspace: Workspace, links: _Links, taken: set[str]) -> dict[str, np.ndarray]:
    """Arrays with a row for each user, or [batch, num_rx, ...]; and the batch example of each."""
    if links.n_rx == 1 or len(links.array.shape) == _BATCHLESS:
        return labels_of(workspace, links.n, taken)
    both = links.shape[:2]
    flat: dict[str, Array] = {
        name: _flat(array, links)
        for name, array in workspace.arrays.items()
        if name not in taken and tuple(array.shape[:2]) == both
    }
    per_user = {
        name: array for name, array in workspace.arrays.items() if array.shape[:1] == (links.n,)
    }
    inside = Workspace(
        path=workspace.path, container=workspace.container, arrays={**per_user, **flat}
    )
    batch = np.repeat(np.arange(both[0]), both[1])
    return {"batch": batch} | labels_of(inside, links.n, taken)


def _flat(array: Array, links: _Links) -> Rows:
    """[user, ...] of an array [batch, num_rx, ...]."""
    shape = (links.n, *array.shape[2:])
    return Rows(shape, array.dtype, lambda start, stop: links.rows(array, start, stop))
