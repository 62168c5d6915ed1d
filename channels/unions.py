"""Several channel files as one set: what a model of more than one scenario is trained on.

Every user counts alike, so a file weighs as much as it has users. Nothing is resampled or rescaled.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce

import torch
from torch import Tensor

from channels.channel_set import ChannelSet, Grid, Source
from channels.lazy_rows import LazyRows
from channels.support import CsiAuditError

__all__ = ["FILE_LABEL", "JoinedSource", "join_channels"]

FILE_LABEL = "file_number"
"""Label of a joined set: which file a user is from, 0, 1, ..."""


@dataclass(frozen=True, kw_only=True)
class JoinedSource(Source):
    """Where a joined set came from.

    Attributes:
        parts: Sources of the files, in order.
    """

    parts: tuple[Source, ...]

    def identity(self) -> dict[str, str | None]:
        """The names of the files joined by " + ", and the hash of their hashes."""
        names = (str(part.identity()["name"]) for part in self.parts)
        return {"name": " + ".join(names), "sha256": self.sha256}


def join_channels(sets: Sequence[ChannelSet]) -> ChannelSet:
    """All users of some sets, one after the other; one set is given back as it is.

    Drops stay apart even where two files number them alike; users of a file without drops become a
    drop each, if another file has drops. Only labels that all files have are kept. A bandwidth
    that only some files know is taken for the others, which a notice says.

    Args:
        sets: In memory or lazy; if one is lazy, the joined set is.
    Raises:
        CsiAuditError: none at all, or two sets of other antennas, subcarriers or bandwidth.
    """
    if not sets:
        raise CsiAuditError("sets must hold at least one set of channels; got none.")
    if len(sets) == 1:
        return sets[0]
    for other in sets[1:]:
        _refuse_unlike(sets[0], other)
    grid = reduce(_joined_grid, sets[1:], sets[0].grid)
    return ChannelSet(
        h=_joined_rows(sets),
        power_db=torch.cat([part.power_db for part in sets]),
        grid=grid,
        labels=_joined_labels(sets),
        source=_joined_source([part.source for part in sets], _bandwidth_notices(sets, grid)),
    )


def _refuse_unlike(one: ChannelSet, other: ChannelSet) -> None:
    for name, axis in (("receive antennas", 1), ("transmit antennas", 2), ("subcarriers", 3)):
        mine, its = one.h.shape[axis], other.h.shape[axis]
        if mine != its:
            raise CsiAuditError(
                f"{one.source.path} has {mine} {name} and {other.source.path} has {its}: one model "
                "is for one array and one number of subcarriers. Train one for each."
            )
    panels = [part.grid.panel_of(part.n_tx) for part in (one, other)]
    if panels[0] != panels[1]:
        shown = [" x ".join(map(str, panel)) for panel in panels]
        raise CsiAuditError(
            f"{one.source.path} has a panel of {shown[0]} and {other.source.path} of {shown[1]} "
            "(pol x rows x columns): their beams are not the same. Train a model for each."
        )


def _joined_grid(grid: Grid, other: ChannelSet) -> Grid:
    """What both know alike, and a bandwidth that only one knows (`_bandwidth_notices`).

    Another bandwidth is refused, since a tap is then another delay.
    """
    its = other.grid
    known = grid.bandwidth_hz, its.bandwidth_hz
    if known[0] is not None and known[1] is not None and abs(known[0] / known[1] - 1) > 1e-6:
        raise CsiAuditError(
            f"{other.source.path} has a bandwidth of {known[1] / 1e6:g} MHz, the files before it "
            f"{known[0] / 1e6:g} MHz: their delay taps are not the same. Train a model for each."
        )
    return replace(
        grid,
        bandwidth_hz=known[1] if known[0] is None else known[0],
        carrier_hz=grid.carrier_hz if grid.carrier_hz == its.carrier_hz else None,
        array=grid.array if grid.array == its.array else None,
    )


def _bandwidth_notices(sets: Sequence[ChannelSet], grid: Grid) -> list[str]:
    """A sentence on each file that is given the bandwidth of others."""
    if grid.bandwidth_hz is None:
        return []
    return [
        f"{part.source.path}: knows no bandwidth; taken to be the {grid.bandwidth_hz / 1e6:g} MHz "
        "of the files it is joined with."
        for part in sets
        if part.grid.bandwidth_hz is None
    ]


def _joined_rows(sets: Sequence[ChannelSet]) -> Tensor:
    if not any(part.is_lazy for part in sets):
        return torch.cat([part.h for part in sets])
    ends = torch.tensor([len(part) for part in sets]).cumsum(0).tolist()

    def read(start: int, stop: int) -> Tensor:
        """Users start..stop-1, from each file those that lie in it."""
        found = []
        for part, end in zip(sets, ends, strict=True):
            first = end - len(part)
            low, high = max(start, first), min(stop, end)
            if low < high:
                found.append(part.h[low - first : high - first])
        return torch.cat(found) if found else sets[0].h[:0]

    _, n_rx, n_tx, n_sub = sets[0].h.shape
    rows: Tensor = LazyRows(read, (ends[-1], n_rx, n_tx, n_sub))  # type: ignore[assignment]
    return rows


def _joined_labels(sets: Sequence[ChannelSet]) -> dict[str, Tensor]:
    shapes = [
        {name: (v.shape[1:], v.is_floating_point()) for name, v in part.labels.items()}
        for part in sets
    ]
    common = [n for n in shapes[0] if all(shape.get(n) == shapes[0][n] for shape in shapes)]
    labels = {n: torch.cat([part.labels[n] for part in sets]) for n in common if n != "drop_seed"}
    number = [torch.full((len(part),), i) for i, part in enumerate(sets)]
    labels[FILE_LABEL] = torch.cat(number)
    if any(part.drops is not None for part in sets):
        labels["drop_seed"] = _drops_apart(sets)
    return labels


def _drops_apart(sets: Sequence[ChannelSet]) -> Tensor:
    """Drops numbered through all files, int64 (N,)."""
    found, first = [], 0
    for part in sets:
        own = torch.arange(len(part)) if part.drops is None else part.drops
        kinds, number = own.unique(return_inverse=True)
        found.append(number + first)
        first += len(kinds)
    return torch.cat(found)


def _joined_source(sources: Sequence[Source], notices: Sequence[str]) -> JoinedSource:
    digest = hashlib.sha256("".join(str(source.sha256) for source in sources).encode())
    scenarios = {source.scenario for source in sources}
    return JoinedSource(
        path=" + ".join(source.path for source in sources),
        sha256=digest.hexdigest() if all(source.sha256 for source in sources) else None,
        format="joined",
        scenario=scenarios.pop() if len(scenarios) == 1 else None,
        notices=(*(f"{s.path}: {notice}" for s in sources for notice in s.notices), *notices),
        parts=tuple(sources),
    )
