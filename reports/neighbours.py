"""Do base samples lie wherever real channels lie? Coverage and density in the space of features."""

import numpy as np
import numpy.typing as npt
from scipy.spatial import cKDTree

from reports.estimates import Array, by_drop_mean, mean_estimate
from reports.fidelity_items import NeighbourCoverage


def neighbour_coverage(
    base: Array, real: Array, *, k: int = 5, drops: npt.ArrayLike | None = None
) -> NeighbourCoverage:
    """Coverage and density of base samples in balls around real channels.

        coverage = 1/N sum_i 1{some base sample lies in B_i},   B_i = ball around x_i up to its
        density  = 1/(k M) sum_i sum_j 1{y_j lies in B_i}             k-th nearest real channel

    Where the laws are equal, density has mean 1 and coverage the mean of `perfect_coverage`.
    Columns are scaled to unit deviation over the real channels; constant ones are left out.

    Args:
        base: Features of base samples [M, p].
        real: Features of real channels [N, p], N > k.
        k: Which neighbour ends a ball.
        drops: Drop of each real channel [N], for the interval of the coverage.
    Raises:
        ValueError: the columns differ, or there are too few real channels.
    Source: Naeem et al. 2020, Reliable Fidelity and Diversity Metrics, arXiv:2002.09797.
    """
    if base.ndim != 2 or real.ndim != 2 or base.shape[1] != real.shape[1]:
        raise ValueError(f"base and real must have equal columns; got {base.shape}, {real.shape}.")
    if len(real) <= k:
        raise ValueError(f"real must have more than k = {k} rows; got {len(real)}.")
    deviation = real.std(0)
    used = deviation > 0
    x, y = real[:, used] / deviation[used], base[:, used] / deviation[used]
    radius = cKDTree(x).query(x, k=k + 1)[0][:, -1]  # the nearest is the point itself
    inside = cKDTree(y).query_ball_point(x, radius, return_length=True)  # (N,)
    covered = (inside > 0).astype(np.float64)
    found = mean_estimate(covered) if drops is None else by_drop_mean(covered, drops)
    return NeighbourCoverage(
        coverage=found, perfect_coverage=perfect_coverage(len(y), len(x), k=k),
        density=float(inside.sum()) / (k * len(y)), k=k, n_columns=int(used.sum()),
    )  # fmt: skip


def perfect_coverage(n_base: int, n_real: int, *, k: int = 5) -> float:
    """Expected coverage where base samples and real channels are of one law.

    1 - prod_{i=1..k} (N - i) / (N + M - i): of the k nearest of all others one is a base sample.
    """
    i = np.arange(1, k + 1)
    return float(1 - np.prod((n_real - i) / (n_real + n_base - i)))
