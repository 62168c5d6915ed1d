"""What a reader is asked (`ReadOptions`) and what it hands over (`Opened`): rows of users on demand
and what the file says of itself.

Offsets, domains and unit power come later, once for all formats, in `readers.load_channels`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from channels.domains import Panel
from channels.support import CsiAuditError

__all__ = [
    "BLOCK",
    "COMPACT_GRID",
    "COMPACT_SCALE",
    "LABELS",
    "Opened",
    "ReadOptions",
    "as_number",
    "damaged",
]

BLOCK = 1024  # users a block

# What compact HDF5 says of itself, and is told by.
COMPACT_GRID = "f_k = k*bandwidth/n_sub, k = 0..n_sub-1"
COMPACT_SCALE = "unit mean |h|^2 per user; power_db restores it"

# Compact name of each known label <- the names files use.
LABELS: Mapping[str, tuple[str, ...]] = {
    "is_los": ("is_los",),
    "delay_spread_s": ("delay_spread_s",),
    "asd_deg": ("asd_deg",),
    "k_factor_db": ("k_factor_db",),
    "path_gain_db": ("path_gain_db",),
    "ue_pos_m": ("ue_pos_m", "ue_pos"),
    "drop_seed": ("drop_seed",),
}


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What the user says of a file; None leaves it to the file.

    Attributes:
        variable: Array that holds the channels.
        axes: Names of its axes in the file's order (see `channels.axes`).
        n_sub: Subcarriers.
        bandwidth_hz: Bandwidth [Hz].
        offset: What was added to every real number; 0 for nothing.
    """

    variable: str | None = None
    axes: str | Sequence[str] | None = None
    n_sub: int | None = None
    bandwidth_hz: float | None = None
    offset: float | None = None


@dataclass(frozen=True, kw_only=True)
class Opened:
    """A file as its reader sees it, before scaling.

    Attributes:
        shape: (N, n_rx, n_tx, n) of all that `read` can give.
        read: (start, stop) -> users start..stop-1 as stored, complex (stop - start, n_rx, n_tx, n);
            any order, any number of times.
        labels: Under the compact names, others under their own, one row a user.
        format: Name for reports.
        variable: Name of the array that holds the channels, where there could be others.
        power_db: Gain that the file has already taken out of h [dB], (N,); None if it has not.
        carrier_hz, bandwidth_hz, array, scenario: What the file says; None if it does not.
        panel: (n_pol, n_rows, n_columns) of the transmit axis; None for one row.
        domain: Of the last two axes of what `read` gives: (antenna, subcarrier) or (beam, delay).
        scaling: "raw" if the format rules out offsets, "unit" if unit power too, "undone" if the
            reader took offsets out, "detect" if the numbers must tell.
        notices: What the reader assumed or found, a sentence each.
        cautions: What the reader saw that looks wrong, a sentence each; `inspect` warns of them.
    """

    shape: tuple[int, int, int, int]
    read: Callable[[int, int], np.ndarray]
    labels: Mapping[str, np.ndarray] = field(default_factory=dict)
    format: str
    variable: str | None = None
    power_db: np.ndarray | None = None
    carrier_hz: float | None = None
    bandwidth_hz: float | None = None
    array: str | None = None
    scenario: str | None = None
    panel: Panel | None = None
    domain: Literal["spatial-frequency", "angular-delay"] = "spatial-frequency"
    scaling: Literal["detect", "raw", "unit", "undone"] = "detect"
    notices: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()


def as_number(value: object) -> float | None:
    """The one number that an attribute or a MATLAB scalar holds; None if it holds none."""
    array = np.asarray(value)
    return float(array.reshape(-1)[0]) if array.size == 1 and array.dtype.kind in "iuf" else None


def damaged(path: Path, error: BaseException) -> CsiAuditError:
    """The error for a file that starts well and then cannot be read."""
    reason = " ".join(str(error).split())[:160] or type(error).__name__
    return CsiAuditError(
        f"{path} cannot be read to its end: {reason}. Truncated or damaged? Copy or save it again."
    )
