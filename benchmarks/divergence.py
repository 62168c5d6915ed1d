"""How far samples are from a law in the plane: histograms, their divergence, means over replicates.

A Jensen-Shannon figure says little without its binning and without its floor, the same figure
between two sets of true samples; so both live here, beside each other.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

Array = npt.NDArray[np.float64]

BINS = 25
"""Of each coordinate."""
BINNING = f"{BINS} x {BINS} bins over the stated box, edge bins open; square root, natural log"


@dataclass(frozen=True, kw_only=True)
class Box:
    """A rectangle cut into `BINS` x `BINS` bins; what lies outside joins the edge.

    Attributes:
        low, high: Corners.
    """

    low: tuple[float, float]
    high: tuple[float, float]

    def histogram(self, x: Tensor, log_w: Tensor | None = None) -> Array:
        """Share of the weight of the samples (N, 2) in each bin, (BINS^2,); sums to one."""
        w = np.ones(len(x)) if log_w is None else (log_w - log_w.max()).exp().numpy()
        low, high = np.array(self.low), np.array(self.high)
        at = (x.double().numpy() - low) * (BINS / (high - low))
        row, column = np.clip(np.floor(at), 0, BINS - 1).astype(int).T
        counts = np.bincount(BINS * row + column, weights=w, minlength=BINS**2)
        shares: Array = counts / counts.sum()
        return shares


def js_distance(a: Array, b: Array) -> float:
    """Root of the Jensen-Shannon divergence of two histograms, nats; 0 to sqrt(log 2).

        JSD = KL(a | m) / 2 + KL(b | m) / 2,   m = (a + b) / 2

    Args:
        a, b: Shares of each bin, (K,), each summing to one.
    """
    m = (a + b) / 2
    return math.sqrt(max(0.0, 0.5 * _kl(a, m) + 0.5 * _kl(b, m)))


def _kl(a: Array, m: Array) -> float:
    seen = a > 0
    return float((a[seen] * np.log(a[seen] / m[seen])).sum())


def mean_and_error(values: npt.ArrayLike) -> tuple[float, float | None]:
    """Mean of replicates and its standard error, None for a single one."""
    v = np.asarray(values, dtype=np.float64)
    return float(v.mean()), float(v.std(ddof=1) / math.sqrt(len(v))) if len(v) > 1 else None
