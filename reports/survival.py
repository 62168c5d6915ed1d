"""The share of channels beyond each level of distortion, no deeper than the sample supports."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.estimates import clopper_pearson

Array = npt.NDArray[np.float64]

LEAST_BEYOND = 10
"""Samples, or effective ones, that must lie at or beyond a level for its share to be drawn."""


@dataclass(frozen=True, kw_only=True)
class Survival:
    """P(L >= level) at rising levels.

    Attributes:
        level: Values of the loss, rising, (n,).
        share: Share of the law at or beyond each, falling, (n,).
        low, high: Pointwise limits; None where the weights are not equal.
    """

    level: Array
    share: Array
    low: Array | None
    high: Array | None


def survival_curve(
    values: npt.ArrayLike,
    weight: npt.ArrayLike | None = None,
    *,
    level: float = 0.95,
    most: int | None = None,
) -> Survival:
    """Empirical P(L >= t) down to the level that `LEAST_BEYOND` effective samples reach.

        S(t) = sum_i W_i 1{L_i >= t},   limits of Clopper and Pearson at each t alone

    All samples are kept where there are fewer.

    Args:
        values: L of each sample, (n,).
        weight: Weight of each, sum 1; None counts all alike, with limits.
        level: Confidence level of the limits.
        most: Levels to give at most, equally spaced in the logarithm of the share; None for all.
    """
    x = np.asarray(values, dtype=np.float64)
    n = len(x)
    order = np.argsort(x, kind="stable")
    w = np.full(n, 1 / n) if weight is None else np.asarray(weight, dtype=np.float64)[order]
    tail, square = (v[::-1].cumsum()[::-1] for v in (w, w**2))  # of the samples from each on
    beyond = np.where(square > 0, tail**2 / np.maximum(square, 1e-300), 0.0)
    deep = np.flatnonzero(beyond >= min(LEAST_BEYOND, n) - 1e-9)
    kept = _spaced(int(deep[-1]) + 1 if len(deep) else 1, n, most)
    if weight is not None:
        return Survival(level=x[order][kept], share=tail[kept], low=None, high=None)
    counts = (n - np.arange(n, dtype=np.float64))[kept]
    limits = np.array([clopper_pearson(k, float(n), level) for k in counts])
    return Survival(level=x[order][kept], share=counts / n, low=limits[:, 0], high=limits[:, 1])


def _spaced(count: int, n: int, most: int | None) -> npt.NDArray[np.intp]:
    """At most `most` of the first `count` ranks of n, the last among them, denser to the end."""
    if most is None or count <= most:
        return np.arange(count)
    beyond = np.geomspace(n - count + 1, n, most)  # samples at or beyond each rank
    return np.unique(n - np.round(beyond).astype(np.intp))
