"""What a reader hands over: `Opened`, a stream of blocks of users and what the file says of itself.

Scaling to unit power comes later, once for all formats, in `readers.load_channels`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from channels.support import CsiAuditError

__all__ = ["BLOCK", "LABELS", "Opened", "as_number", "damaged"]

BLOCK = 1024  # users a block

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
class Opened:
    """A file as its reader sees it, before scaling.

    Attributes:
        shape: (N, n_rx, n_tx, n_sub).
        blocks: Consecutive users, complex (n, n_rx, n_tx, n_sub) each, raw scale.
        power_db: Gain that the file has already taken out of h [dB], (N,); None if it has not.
        labels: Under the compact names, others under their own, one row a user.
        carrier_hz, bandwidth_hz, array, scenario: What the file says; None if it does not.
        format: Name for reports.
    """

    shape: tuple[int, int, int, int]
    blocks: Iterator[np.ndarray]
    power_db: np.ndarray | None
    labels: Mapping[str, np.ndarray]
    carrier_hz: float | None
    bandwidth_hz: float | None
    array: str | None
    scenario: str | None
    format: str


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
