"""Arrays in another form, made a slice of users at a time: how layouts read shapes, users and paths
that an axis order alone cannot name. Knows no format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from channels.opened import ReadOptions
from channels.paths import check_sampling, energy_beyond_window, frequency_response
from channels.readers_paths import DEFAULT_SUBCARRIERS, LOOKED_AT, MOST_BEYOND
from channels.support import CsiAuditError
from channels.workspace import Array, Workspace

__all__ = ["Rows", "gathered", "reshaped", "sampled"]

_GAP = 8  # users in between that are read along rather than fetched apart

# (start, stop) -> coefficients (n, n_rx, n_tx, P), delays [s] (n, P) or (n, n_rx, n_tx, P)
Paths = Callable[[int, int], tuple[np.ndarray, np.ndarray]]


class Rows:
    """Users as if they were an array (N, ...), made when they are sliced.

    Args:
        shape: (N, ...).
        dtype: Of what `fetch` gives.
        fetch: (start, stop) -> users start..stop-1, (stop - start, ...).
    """

    def __init__(
        self,
        shape: Sequence[int],
        dtype: np.dtype[Any],
        fetch: Callable[[int, int], np.ndarray],
    ) -> None:
        self.shape, self.dtype, self._fetch = tuple(shape), dtype, fetch

    def __getitem__(self, key: Any) -> Any:
        first, *others = key if isinstance(key, tuple) and key else (key or slice(None),)
        start, stop, step = first.indices(self.shape[0])
        return self._fetch(start, max(start, stop))[(slice(None, None, step), *others)]


def reshaped(array: Array, row: Sequence[int]) -> Rows:
    """(N, *row) of an array whose users hold as many numbers in another shape, row-major."""

    def fetch(start: int, stop: int) -> np.ndarray:
        return np.asarray(array[start:stop]).reshape(stop - start, *row)

    return Rows((array.shape[0], *row), array.dtype, fetch)


def gathered(array: Array, kept: np.ndarray) -> Rows:
    """Users `kept`, ascending numbers of rows; neighbours are read together."""

    def fetch(start: int, stop: int) -> np.ndarray:
        wanted = kept[start:stop]
        runs = np.split(wanted, np.flatnonzero(np.diff(wanted) > _GAP) + 1)
        parts = [np.asarray(array[r[0] : r[-1] + 1])[r - r[0]] for r in runs if len(r)]
        return np.concatenate(parts) if parts else np.asarray(array[0:0])

    return Rows((len(kept), *array.shape[1:]), array.dtype, fetch)


def sampled(
    workspace: Workspace,
    options: ReadOptions,
    paths: Paths,
    antennas: tuple[int, int, int],
    *,
    bandwidth_hz: float | None,
    n_sub: int | None = None,
) -> tuple[Rows, float, tuple[str, ...]]:
    """Frequency responses of users that are held as paths (see `paths.frequency_response`).

    Args:
        workspace: For messages.
        options: The user's n_sub and bandwidth_hz, which go before the file's.
        paths: Coefficients and delays of users.
        antennas: (N, n_rx, n_tx).
        bandwidth_hz, n_sub: What the file says; None if it does not.
    Returns:
        Array [user, rx, tx, subcarrier], the bandwidth [Hz] and notices.
    Raises:
        CsiAuditError: no bandwidth, or a grid that makes no sense.
    """
    hz = bandwidth_hz if options.bandwidth_hz is None else float(options.bandwidth_hz)
    wanted = (options.n_sub, n_sub, DEFAULT_SUBCARRIERS)
    n = next(int(count) for count in wanted if count is not None)
    if hz is None:
        raise CsiAuditError(
            f"{workspace.path} holds paths and no bandwidth to sample them over. Give one in "
            "hertz: bandwidth_hz=10e6 (--bandwidth_hz 10e6)."
        )
    check_sampling(hz, n)

    def fetch(start: int, stop: int) -> np.ndarray:
        response = frequency_response(
            *_without_absent(*paths(start, stop)), bandwidth_hz=hz, n_sub=n
        )
        return response.numpy()

    looked_at = _without_absent(*paths(0, min(antennas[0], LOOKED_AT)))
    beyond = float(energy_beyond_window(*looked_at, bandwidth_hz=hz, n_sub=n).nanmean())
    notices = []
    if options.n_sub is None and n_sub is None:
        notices.append(f"Sampled at {n} subcarriers (default); choose with n_sub=.")
    if beyond > MOST_BEYOND:
        notices.append(
            f"{100 * beyond:.1f} % of the path energy lies beyond the delay window n_sub/bandwidth "
            f"= {1e6 * n / hz:.3g} us and wraps around; a larger n_sub holds it."
        )
    return Rows((*antennas, n), np.dtype(np.complex64), fetch), hz, tuple(notices)


def _without_absent(coeff: np.ndarray, delay_s: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Paths as tensors; those whose delay is NaN are absent and get coefficient and delay 0."""
    absent = ~np.isfinite(delay_s)
    gone = absent if delay_s.ndim == coeff.ndim else absent[:, None, None]
    return (
        torch.from_numpy(np.where(gone, 0, coeff).astype(np.complex64)),
        torch.from_numpy(np.where(absent, 0.0, delay_s).astype(np.float64)),
    )
