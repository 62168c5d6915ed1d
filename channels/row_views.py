"""Arrays in another form, made a slice of users at a time: how layouts read shapes, users and paths
that an axis order alone cannot name. Knows no format.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from channels.axes import complex_of
from channels.lazy_rows import read_runs
from channels.opened import ReadOptions
from channels.paths import (
    DEFAULT_SUBCARRIERS,
    LOOKED_AT,
    check_sampling,
    energy_beyond_window,
    frequency_response,
    window_caution,
)
from channels.support import CsiAuditError
from channels.workspace import Array, Workspace

__all__ = ["Joined", "Rows", "Sampled", "gathered", "reshaped", "sampled"]

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
    """Users `kept`, ascending numbers of rows; neighbours are read together (`read_runs`)."""

    def fetch(start: int, stop: int) -> np.ndarray:
        runs = read_runs(kept[start:stop])
        parts = [np.asarray(array[run[0] : run[-1] + 1])[run - run[0]] for run in runs]
        return np.concatenate(parts) if parts else np.asarray(array[0:0])

    return Rows((len(kept), *array.shape[1:]), array.dtype, fetch)


class Joined:
    """re + j im of two real arrays of one shape, joined when they are sliced."""

    def __init__(self, re: Array, im: Array) -> None:
        self._re, self._im = re, im
        self.shape = tuple(re.shape)
        self.dtype = np.result_type(re.dtype, im.dtype, np.complex64)

    def __getitem__(self, key: Any) -> Any:
        return complex_of(np.asarray(self._re[key]), np.asarray(self._im[key]))


@dataclass(frozen=True, kw_only=True)
class Sampled:
    """Users that are held as paths, on subcarriers.

    Attributes:
        rows: [user, rx, tx, subcarrier].
        bandwidth_hz: Over which they are sampled [Hz].
        notices, cautions: As in `Opened`.
    """

    rows: Rows
    bandwidth_hz: float
    notices: tuple[str, ...]
    cautions: tuple[str, ...]


def sampled(
    workspace: Workspace,
    options: ReadOptions,
    paths: Paths,
    antennas: tuple[int, int, int],
    *,
    bandwidth_hz: float | None,
    n_sub: int | None = None,
) -> Sampled:
    """Frequency responses of users that are held as paths (see `paths.frequency_response`).

    Args:
        workspace: For messages.
        options: The user's n_sub and bandwidth_hz, which go before the file's.
        paths: Coefficients and delays of users.
        antennas: (N, n_rx, n_tx).
        bandwidth_hz, n_sub: What the file says; None if it does not.
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
    shares = energy_beyond_window(*looked_at, bandwidth_hz=hz, n_sub=n)
    defaulted = options.n_sub is None and n_sub is None
    said = f"Sampled at {n} subcarriers (default); choose with n_sub=."
    return Sampled(
        rows=Rows((*antennas, n), np.dtype(np.complex64), fetch),
        bandwidth_hz=hz,
        notices=(said,) if defaulted else (),
        cautions=window_caution(shares, bandwidth_hz=hz, n_sub=n),
    )


def _without_absent(coeff: np.ndarray, delay_s: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Paths as tensors; those whose delay is NaN are absent and get coefficient and delay 0."""
    absent = ~np.isfinite(delay_s)
    gone = absent if delay_s.ndim == coeff.ndim else absent[:, None, None]
    return (
        torch.from_numpy(np.where(gone, 0, coeff).astype(np.complex64)),
        torch.from_numpy(np.where(absent, 0.0, delay_s).astype(np.float64)),
    )
