"""Paths of QuaDRiGa and quadriga-lib: their channel HDF5, sampled into subcarriers as it is read.

Read by plain h5py, without quadriga-lib. The file is an index into groups, one a link between
transmitter and receiver; here is what they mean. The transform itself is in `paths`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from channels.hdf5_groups import OwnGroup, read_all
from channels.opened import LABELS, Opened, ReadOptions, as_number
from channels.paths import (
    DEFAULT_SUBCARRIERS,
    LOOKED_AT,
    check_sampling,
    energy_beyond_window,
    frequency_response,
    window_caution,
)
from channels.readers_hdf5 import opened_hdf5
from channels.support import CsiAuditError
from channels.workspace import listed

__all__ = ["is_quadriga_paths", "open_quadriga_paths"]

_BLOCK_VALUES = 1 << 21  # path coefficients a pass
_MOST_LABEL = 1024  # numbers a user that a label may hold
_KNOWN_VERSION = 2
_PLACES = ("CenterFrequency", "rx_position", "tx_position")  # attributes, or a row a snapshot
_AXES = "xyzw"  # of the storage layout


@dataclass(frozen=True, kw_only=True)
class _User:
    """One user: a snapshot of a link.

    Attributes:
        link: Number of its group, channel_<link>.
        place: In the storage layout, 0-based, first axis fastest.
        snapshot: Number of its group Snap_<snapshot>; None if the link's own group holds it.
        shape: (n_rx, n_tx, P).
        facts: What the file says of it, by the file's names, parameters with their "par_".
    """

    link: int
    place: int
    snapshot: int | None
    shape: tuple[int, int, int]
    facts: Mapping[str, np.ndarray]


def is_quadriga_paths(file: h5py.File) -> bool:
    """Whether an open HDF5 file is an index of QuaDRiGa channels. No link is followed."""
    root = OwnGroup(Path(file.filename), file.id, file_size=0)
    return root.has("ChannelDims") and root.has("Order")


def open_quadriga_paths(path: Path, options: ReadOptions) -> Opened:
    """`Opened` of a QuaDRiGa or quadriga-lib channel file: one user a snapshot of a link.

    The layout: `Order`, of the shape `ChannelDims` with the first axis fastest, holds at each place
    the number of a group channel_<number>, 0 for none; groups that it does not name are overwritten
    data. A group holds `coeff_re`, `coeff_im` [path, tx, rx] and `delay` [s], of that shape or
    [path, 1, 1], in itself or in Snap_<i>; the carrier and the positions as attributes, or as
    datasets of a row a snapshot; parameters as Data/par_<name>. The receiver is the user.

    Parameters become labels, those with a row for each snapshot row by row. Labels added:
    `ue_pos_m`, `tx_pos_m`, `path_gain_db` (sum of `path_gain`), `n_path`; `link` and `snapshot` if
    links have several snapshots; `link_x` ... `link_w`, places in a layout of several axes. What
    has a value a path (angles, lengths, interactions) is no label.

    Args:
        options: n_sub (default 32); bandwidth_hz (default: the file's own par_bandwidth_hz).
    Raises:
        CsiAuditError: no bandwidth, no coefficients, parts that are missing, foreign or of
            different shapes; each names file and group.
    Source: quadriga-lib 0.12 (quadriga-lib.org), storage of channels, version 2 of the layout.
    """
    _refuse_names(path, options)
    n_sub = DEFAULT_SUBCARRIERS if options.n_sub is None else options.n_sub
    with opened_hdf5(path) as file:
        root = OwnGroup(path, file.id)
        dims, order = _index(root)
        users, notices = _users(root, order)
        columns = _columns(users, notices)
        bandwidth_hz = _bandwidth(path, columns, options.bandwidth_hz, notices)
        check_sampling(bandwidth_hz, n_sub)
        sampler = _Sampler(path, users, bandwidth_hz, int(n_sub))
        if options.n_sub is None:
            notices.append(f"Sampled at {n_sub} subcarriers (default); choose with n_sub=.")
        cautions = sampler.wrapped(root)
    labels = _labels(columns, users, dims)
    return Opened(
        shape=(len(users), *users[0].shape[:2], int(n_sub)),
        read=sampler.read,
        carrier_hz=_carrier(columns, labels, notices),
        bandwidth_hz=bandwidth_hz,
        scenario=_scenario(columns),
        labels=labels,
        format="QuaDRiGa paths (HDF5)",
        scaling="raw",
        notices=tuple(notices),
        cautions=cautions,
    )


def _refuse_names(path: Path, options: ReadOptions) -> None:
    for name, value in (("variable", options.variable), ("axes", options.axes)):
        if value is not None:
            raise CsiAuditError(
                f"{name} must be left out for {path}: QuaDRiGa's paths have fixed names and axes; "
                f"got {value!r}."
            )


def _index(root: OwnGroup) -> tuple[tuple[int, ...], np.ndarray]:
    """Shape of the storage layout and the number of the group at each place, int64."""
    dims, order = root.values("ChannelDims"), root.values("Order")
    if dims.dtype.kind not in "ui" or order.dtype.kind not in "ui" or dims.ndim != 1:
        raise root.error("ChannelDims and Order must hold whole numbers. Save the file again.")
    shape = tuple(int(n) for n in dims)
    if math.prod(shape) != order.size or not 1 <= len(shape) <= len(_AXES):
        raise root.error(
            f"ChannelDims {shape} must multiply to the {order.size} places of Order. "
            "Was the file written to its end?"
        )
    order = order.reshape(-1).astype(np.int64)
    used, times = np.unique(order[order != 0], return_counts=True)
    if (times > 1).any():
        raise root.error(f"Order names channel_{used[times > 1][0]} twice. Save the file again.")
    return shape, order


def _users(root: OwnGroup, order: np.ndarray) -> tuple[list[_User], list[str]]:
    """Every snapshot that holds coefficients, in storage order, and what to say of the others."""
    users: list[_User] = []
    missing = 0
    for place in np.flatnonzero(order):
        found, n_missing = _link_users(root, int(order[place]), int(place))
        users += found
        missing += n_missing
    if not users:
        raise root.error(
            "no channel in it holds path coefficients (coeff_re, coeff_im, delay). Were only its "
            "parameters saved, or rays without antennas?"
        )
    other = next((user for user in users if user.shape[:2] != users[0].shape[:2]), None)
    if other is not None:
        got = (f"{u.shape[0]} x {u.shape[1]} in channel_{u.link}" for u in (users[0], other))
        raise root.error(
            f"all channels must have the same antennas (rx x tx); got {' and '.join(got)}. "
            "Write one file for each pair of arrays."
        )
    notices = []
    version = as_number(root.values("Version")) if root.has("Version") else None
    if version is not None and version > _KNOWN_VERSION:
        notices.append(f"Written as version {version:g} of the layout, read as version 2.")
    if missing:
        notices.append(f"{missing} channels or snapshots without coefficients were left out.")
    return users, notices


def _link_users(root: OwnGroup, number: int, place: int) -> tuple[list[_User], int]:
    """Users of one link, and how many of its snapshots hold no coefficients."""
    link = root.group(f"channel_{number}")
    held = sorted(int(n[5:]) for n in link.names() if re.fullmatch(r"Snap_\d{1,9}", n))
    declared = link.attribute("NumSnap")
    n_snap = max([1 if declared is None else int(declared.max(initial=0)), *(s + 1 for s in held)])
    own = link.has("coeff_re") or not held
    snapshots: Sequence[int | None] = [None] if own else held
    facts = _facts(link, n_snap)
    users = []
    for snapshot in snapshots:
        group = link if snapshot is None else link.group(f"Snap_{snapshot}")
        shape = _path_shape(group)
        if shape is not None:
            row = {k: v[(snapshot or 0) if len(v) > 1 else 0] for k, v in facts.items()}
            if group.has("path_gain"):
                row["path_gain"] = group.values("path_gain").sum(dtype=np.float64)
            users.append(_User(link=number, place=place, snapshot=snapshot, shape=shape, facts=row))
    return users, (1 if own else n_snap) - len(users)


def _path_shape(group: OwnGroup) -> tuple[int, int, int] | None:
    """(n_rx, n_tx, P) of a snapshot; None if it holds no coefficients.

    Raises:
        CsiAuditError: a part is missing, or the parts do not fit each other.
    """
    if not group.has("coeff_re") and not group.has("coeff_im"):
        return None
    parts = {name: group.dataset(name) for name in ("coeff_re", "coeff_im", "delay")}
    shapes = {name: tuple(part.shape or ()) for name, part in parts.items()}
    shape = shapes["coeff_re"]
    for name, part in parts.items():
        if part.dtype.kind != "f":
            raise group.error(f"{name} must be real float; got {part.dtype}.")
        one_a_path = name == "delay" and shapes[name] == (*shape[:1], 1, 1)
        if len(shape) != 3 or not (one_a_path or shapes[name] == shape):
            raise group.error(
                f"{name} must be [path, tx, rx] like coeff_re {shape}"
                f"{' or [path, 1, 1]' if name == 'delay' else ''}; got {shapes[name]}."
            )
    return None if 0 in shape else (shape[2], shape[1], shape[0])


def _facts(link: OwnGroup, n_snap: int) -> dict[str, np.ndarray]:
    """What a link says of itself: arrays whose first axis is 1 or the snapshots."""
    facts = {}
    for name in _PLACES:
        value = link.attribute(name)
        if link.has(name):
            found = link.dataset(name)
            shape = tuple(found.shape or ())
            short = found.dtype.kind in "biuf" and math.prod(shape[1:]) <= _MOST_LABEL
            if not short or shape[:1] != (n_snap,):
                raise link.error(
                    f"{name} must be {n_snap} rows of a few numbers, one a snapshot; got {shape}."
                )
            facts[name] = read_all(found)
        elif value is not None:
            facts[name] = value[None]
    if link.has("Data"):
        data = link.group("Data")
        for name in data.names():
            if name.startswith("par_"):
                facts[name] = _parameter(data, name, n_snap)
    return facts


def _parameter(data: OwnGroup, name: str, n_snap: int) -> np.ndarray:
    """A parameter with a first axis of 1 or the snapshots; "" if it is no small array."""
    found = data.dataset(name)
    shape, dtype = tuple(found.shape or ()), found.dtype
    if dtype.kind not in "biufS" or dtype.itemsize > _MOST_LABEL:
        return np.zeros(1, "S1")
    if not 0 < math.prod(shape) <= n_snap * _MOST_LABEL:
        return np.zeros(1, "S1")
    value = read_all(found)
    if n_snap > 1 and shape[:1] == (n_snap,):
        return value
    return value.reshape(1) if value.size == 1 else value[None]


def _columns(users: Sequence[_User], notices: list[str]) -> dict[str, np.ndarray]:
    """Facts that every user has, one row each; says which parameters can be no labels."""
    columns, left_out = {}, []
    for name in dict.fromkeys(name for user in users for name in user.facts):
        values = [np.asarray(user.facts[name]) for user in users if name in user.facts]
        kinds = {(value.shape, value.dtype.kind == "S") for value in values}
        if len(values) == len(users) and len(kinds) == 1:
            columns[name] = np.stack(values)
        text = any(is_text for _, is_text in kinds)
        if name.startswith("par_") and name != "par_scenario" and (text or name not in columns):
            left_out.append(name)
    if left_out:
        notices.append(
            f"Not taken as labels: {listed(left_out)} (text, or not of one size everywhere)."
        )
    return columns


def _bandwidth(
    path: Path, columns: Mapping[str, np.ndarray], wanted: float | None, notices: list[str]
) -> float:
    """Bandwidth [Hz] to sample over: the user's, else the file's own."""
    own = columns.get("par_bandwidth_hz", np.empty(0))
    own = np.unique(own[np.isfinite(own) & (own > 0)]) if own.dtype.kind in "iuf" else np.empty(0)
    if wanted is not None:
        if own.size and own.tolist() != [wanted]:
            stated = ", ".join(f"{1e-6 * float(hz):g}" for hz in own[:4])
            notices.append(
                f"Sampled over {1e-6 * wanted:g} MHz as asked; the file states {stated} MHz."
            )
        return float(wanted)
    if own.size == 1:
        return float(own[0])
    raise CsiAuditError(
        f"{path} holds paths and {'several bandwidths' if own.size else 'no bandwidth'} to sample "
        "them over. Give one in hertz: bandwidth_hz=10e6 (--bandwidth_hz 10e6)."
    )


def _carrier(
    columns: Mapping[str, np.ndarray], labels: dict[str, np.ndarray], notices: list[str]
) -> float | None:
    """Carrier [Hz] of all users; several become the label carrier_hz."""
    stored = columns.get("CenterFrequency", np.empty(0))
    # The shortest decimals of the file's float32: 2.655e9, not 2655000064.
    carrier_hz = np.array([float(str(hz)) for hz in stored.ravel()]).reshape(stored.shape)
    known = np.unique(carrier_hz[carrier_hz > 0])  # NaN is unknown
    if known.size > 1:
        notices.append(f"The users have {known.size} carriers: see the label carrier_hz.")
        labels["carrier_hz"] = carrier_hz
    return float(known[0]) if known.size == 1 else None


def _scenario(columns: Mapping[str, np.ndarray]) -> str | None:
    """Names of the scenarios, from par_scenario."""
    column = columns.get("par_scenario", np.empty(0))
    if column.dtype.kind != "S":
        return None
    names = {name.decode(errors="replace").strip("\0 ") for name in column.ravel().tolist()}
    return ", ".join(sorted(names - {""})) or None


def _labels(
    columns: Mapping[str, np.ndarray], users: Sequence[_User], dims: tuple[int, ...]
) -> dict[str, np.ndarray]:
    """One row a user; parameters under the compact names where these are known."""
    ours = {theirs: name for name, names in LABELS.items() for theirs in names}
    labels: dict[str, np.ndarray] = {"n_path": np.array([user.shape[2] for user in users])}
    for name, column in columns.items():
        bare = name.removeprefix("par_")
        of_all = bare == "bandwidth_hz" and len(np.unique(column)) == 1
        if name.startswith("par_") and column.dtype.kind != "S" and not of_all:
            labels[ours.get(bare, bare)] = column
    for name, theirs in (("ue_pos_m", "rx_position"), ("tx_pos_m", "tx_position")):
        if theirs in columns and np.isfinite(columns[theirs]).all():
            labels.setdefault(name, columns[theirs])
    if "path_gain" in columns and (columns["path_gain"] > 0).all():
        labels.setdefault("path_gain_db", 10 * np.log10(columns["path_gain"]))
    return labels | _places(users, dims)


def _places(users: Sequence[_User], dims: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Link, snapshot and place in the layout, where they tell more than the row number."""
    place, labels = np.array([user.place for user in users]), {}
    several = [axis for axis, n in enumerate(dims) if n > 1]
    if len(several) > 1 or len(np.unique(place)) < len(users):
        labels["link"] = place
        labels["snapshot"] = np.array([user.snapshot or 0 for user in users])
    if len(several) > 1:
        index = np.unravel_index(place, dims, order="F")
        labels |= {f"link_{_AXES[axis]}": index[axis] for axis in several}
    return labels


class _Sampler:
    """Users of a file as frequency responses; the file is open only while it is read."""

    def __init__(self, path: Path, users: Sequence[_User], bandwidth_hz: float, n_sub: int) -> None:
        self._path, self._bandwidth_hz, self._n_sub = path, bandwidth_hz, n_sub
        self._antennas = users[0].shape[:2]
        self._users = [(user.link, user.snapshot, user.shape[2]) for user in users]

    def read(self, start: int, stop: int) -> np.ndarray:
        """Users start..stop-1, complex64 (n, n_rx, n_tx, n_sub)."""
        n, hz, n_sub = len(self._users[start:stop]), self._bandwidth_hz, self._n_sub
        h = np.empty((n, *self._antennas, n_sub), np.complex64)
        with opened_hdf5(self._path) as file:
            for part, coeff, delay_s in self._blocks(OwnGroup(self._path, file.id), start, stop):
                h[part] = frequency_response(coeff, delay_s, bandwidth_hz=hz, n_sub=n_sub).numpy()
        return h

    def wrapped(self, root: OwnGroup) -> tuple[str, ...]:
        """A sentence if the first users have energy beyond the delay window, else none."""
        hz, n = self._bandwidth_hz, self._n_sub
        share = partial(energy_beyond_window, bandwidth_hz=hz, n_sub=n)
        shares = [share(coeff, delay_s) for _, coeff, delay_s in self._blocks(root, 0, LOOKED_AT)]
        return window_caution(torch.cat(shares), bandwidth_hz=hz, n_sub=n)

    def _blocks(
        self, root: OwnGroup, start: int, stop: int
    ) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Blocks of the users asked for: where they go, coefficients and delays."""
        users = self._users[start:stop]
        longest = max((n_path for *_, n_path in users), default=1)
        size = max(1, _BLOCK_VALUES // (math.prod(self._antennas) * longest))
        for first in range(0, len(users), size):
            part = slice(first, min(first + size, len(users)))
            yield part, *self._paths(root, users[part])

    def _paths(
        self, root: OwnGroup, users: Sequence[tuple[int, int | None, int]]
    ) -> tuple[Tensor, Tensor]:
        """coeff complex64 and delay_s float64, both (n, n_rx, n_tx, P), fewer paths zero-padded."""
        shape = (len(users), *self._antennas, max(n_path for *_, n_path in users))
        coeff, delay_s = np.zeros(shape, np.complex64), np.zeros(shape)
        for i, (link, snapshot, n_path) in enumerate(users):
            group = root.group(f"channel_{link}")
            group = group if snapshot is None else group.group(f"Snap_{snapshot}")
            coeff.real[i, ..., :n_path] = group.values("coeff_re").T  # [path, tx, rx] in the file
            coeff.imag[i, ..., :n_path] = group.values("coeff_im").T
            delay_s[i, ..., :n_path] = group.values("delay").T
            if not np.isfinite(delay_s[i]).all():
                raise group.error("delay must be finite; it holds NaN or Inf. Remove this channel.")
        return torch.from_numpy(coeff), torch.from_numpy(delay_s)
