"""Users of a channel file a block at a time, bad ones and stored numbers included: what
`inspect_channels` runs over, where `load_channels` would refuse the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from channels.channel_set import ChannelSet, Grid, Source
from channels.domains import Panel, scale_users
from channels.labels import label_tensors
from channels.opened import Opened, ReadOptions
from channels.readers import load_channels, names_code, open_channels
from channels.reading import Reading, has_offset
from channels.support import file_sha256

__all__ = ["UserBlock", "UserBlocks", "open_users"]


@dataclass(frozen=True, kw_only=True)
class UserBlock:
    """Some users, n of them.

    Attributes:
        stored: As the reader gives them, raw scale and offset still in, complex (n, n_rx, n_tx,
            n_bins): the file's own numbers, but for formats of paths and for axes that had to be
            transformed. None from a loader.
        unit: At unit mean power, complex64 (n, n_rx, n_tx, n_sub), spatial-frequency; bad ones 0.
        power_db: What that took out [dB], (n,).
        non_finite, zero: Users that are no channels, bool (n,).
    """

    stored: np.ndarray | None
    unit: Tensor
    power_db: Tensor
    non_finite: Tensor
    zero: Tensor


@dataclass(frozen=True, kw_only=True)
class UserBlocks:
    """All users of a file, and what it says of them.

    Attributes:
        source, grid, labels: As in a `ChannelSet`.
        shape: (N, n_rx, n_tx, n_sub).
        read: (start, stop) -> users start..stop-1.
        gain_db: Of the power that scaling took out, (N,), the gain of the user.
        shifted: Whether something was added to the stored numbers.
        doubt: Why their scaling is not certain; None if it is.
        cautions: What the reader saw that looks wrong, a sentence each; not in `source.notices`.
    """

    source: Source
    shape: tuple[int, int, int, int]
    grid: Grid
    labels: Mapping[str, Tensor]
    read: Callable[[int, int], UserBlock]
    gain_db: Callable[[Tensor], Tensor]
    shifted: bool = False
    doubt: str | None = None
    cautions: tuple[str, ...] = ()


def open_users(spec: str, options: ReadOptions, panel: Panel | None) -> UserBlocks:
    """Users of a file or of a loader `file.py:function`.

    Raises:
        CsiAuditError: the file cannot be opened, its panel does not fit, or the scaling of its
            numbers is ambiguous.
    """
    if names_code(spec):
        return _of_loader(load_channels(spec, panel=panel, **vars(options)))
    path = Path(spec)
    opened = open_channels(path, options)
    opened = opened if panel is None else replace(opened, panel=panel)
    opened = replace(opened, read=_Last(opened.read))
    return _of_file(path, opened, Reading(path, opened, options))


def _of_file(path: Path, opened: Opened, reading: Reading) -> UserBlocks:
    found, source = reading.found, reading.source(file_sha256(path))
    said = tuple(notice for notice in source.notices if notice not in opened.cautions)
    return UserBlocks(
        source=replace(source, notices=said),
        shape=(*opened.shape[:3], reading.n_sub),
        grid=reading.grid,
        labels=label_tensors(path, opened.labels, opened.shape[0]),
        read=lambda start, stop: _file_block(opened, reading, start, stop),
        gain_db=reading.gain_db,
        shifted=has_offset(reading.convention),
        doubt=None if found is None or found.certain else found.evidence,
        cautions=opened.cautions,
    )


def _file_block(opened: Opened, reading: Reading, start: int, stop: int) -> UserBlock:
    unit, power_db, non_finite, zero = scale_users(reading.spatial(start, stop))
    return UserBlock(
        stored=opened.read(start, stop),
        unit=unit,
        power_db=power_db,
        non_finite=non_finite,
        zero=zero,
    )


def _of_loader(channels: ChannelSet) -> UserBlocks:
    def read(start: int, stop: int) -> UserBlock:
        good = torch.zeros(stop - start, dtype=torch.bool)  # a ChannelSet holds no bad users
        power_db = channels.power_db[start:stop]
        return UserBlock(
            stored=None, unit=channels.h[start:stop], power_db=power_db, non_finite=good, zero=good
        )

    n, n_rx, n_tx, n_sub = channels.h.shape
    return UserBlocks(
        source=channels.source,
        shape=(n, n_rx, n_tx, n_sub),
        grid=channels.grid,
        labels=channels.labels,
        read=read,
        gain_db=lambda power_db: power_db,
    )


class _Last:
    """Reads users and keeps the last ones, for those who ask again."""

    def __init__(self, read: Callable[[int, int], np.ndarray]) -> None:
        self._read = read
        self._held: tuple[tuple[int, int], np.ndarray] | None = None

    def __call__(self, start: int, stop: int) -> np.ndarray:
        if self._held is None or self._held[0] != (start, stop):
            self._held = None  # let go of the old ones before the new ones are read
            with np.errstate(
                invalid="ignore", over="ignore"
            ):  # bad users are counted, not warned of
                self._held = (start, stop), self._read(start, stop)
        return self._held[1]
