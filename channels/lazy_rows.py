"""`LazyRows`: channels that stay in their file until a slice of users is asked for.

What a large `ChannelSet` holds in place of the tensor h. The file is described by its reader; here
is only which users are meant and in what order they are fetched.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from channels.opened import BLOCK

__all__ = ["LazyRows", "read_runs"]

_GAP = 8  # from one user to the next, that are rather read along than fetched apart


def read_runs(rows: np.ndarray) -> list[np.ndarray]:
    """Ascending numbers of rows, cut into those that are fetched by one read each.

    Fewer than 8 rows between two are read along; those of a read span at most `BLOCK` rows, so that
    what is read along takes little memory.
    """
    cut = np.diff(rows) > _GAP
    runs = []
    for run in np.split(rows, np.flatnonzero(cut) + 1):
        block = (run - run[:1]) // BLOCK
        runs += np.split(run, np.flatnonzero(np.diff(block)) + 1)
    return [run for run in runs if len(run)]


class LazyRows:
    """Users of a file as if they were a tensor (N, n_rx, n_tx, n_sub), read when sliced.

    Neighbours of the file are read together (`read_runs`), so a contiguous slice of all users costs
    one read and a shuffled index as many as it has runs of neighbours.

    Args:
        read: (start, stop) -> users start..stop-1, complex64 at unit mean power.
        shape: (n, n_rx, n_tx, n_sub) of the file.
        index: Users of the file that are meant, int64 (N,); None for all.
    """

    dtype = torch.complex64
    device = torch.device("cpu")
    ndim = 4

    def __init__(
        self,
        read: Callable[[int, int], Tensor],
        shape: tuple[int, int, int, int],
        index: Tensor | None = None,
    ) -> None:
        self._read, self._file_shape, self._index = read, shape, index

    @property
    def shape(self) -> torch.Size:
        """(N, n_rx, n_tx, n_sub) of the users meant."""
        n = self._file_shape[0] if self._index is None else len(self._index)
        return torch.Size((n, *self._file_shape[1:]))

    def __len__(self) -> int:
        return self.shape[0]

    def take(self, rows: Tensor) -> LazyRows:
        """The users of `rows`, int64 positions (M,); nothing is read."""
        meant = rows if self._index is None else self._index[rows]
        return LazyRows(self._read, self._file_shape, meant)

    def __getitem__(self, rows: slice | Tensor | Sequence[int]) -> Tensor:
        """complex64 (M, n_rx, n_tx, n_sub) of a slice, integer positions or a bool mask."""
        if isinstance(rows, slice):
            start, stop, step = rows.indices(len(self))
            if self._index is None and step == 1:
                return self._read(start, max(start, stop))
            rows = torch.from_numpy(np.arange(start, stop, step))  # torch refuses empty ranges
        else:
            rows = torch.arange(len(self))[torch.as_tensor(rows)]
        return self._gather(rows if self._index is None else self._index[rows])

    def _gather(self, wanted: Tensor) -> Tensor:
        """Users of the file by their numbers, each run of neighbours in one read."""
        ordered, back = wanted.unique(return_inverse=True)
        out = torch.empty(len(ordered), *self._file_shape[1:], dtype=self.dtype)
        at = 0
        for run in read_runs(ordered.numpy()):
            first, last = int(run[0]), int(run[-1])
            out[at : at + len(run)] = self._read(first, last + 1)[torch.from_numpy(run - first)]
            at += len(run)
        return out[back]
