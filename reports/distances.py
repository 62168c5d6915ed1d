"""Wasserstein distance of two samples, beside what a perfect model would show at their sizes."""

import numpy as np
import numpy.typing as npt

from reports.estimates import Array, check_level, finite_vector
from reports.fidelity_items import WassersteinItem

PERMUTATIONS = 200


def wasserstein_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Wasserstein-1 distance, in the unit of the values.

        W1 = integral |F_a(x) - F_b(x)| dx

    >>> wasserstein_distance([0.0, 1.0], [2.0, 3.0])
    2.0
    """
    x, y = finite_vector("a", a), finite_vector("b", b)
    values, steps = _merged(x, y)
    return float(np.abs(np.cumsum(steps)[:-1]) @ np.diff(values))


def wasserstein_floor(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    *,
    seed: int,
    level: float = 0.95,
    permutations: int = PERMUTATIONS,
) -> tuple[float, float]:
    """Mean and `level` quantile of W1 between samples of one law: labels drawn anew."""
    check_level(level)
    x, y = finite_vector("a", a), finite_vector("b", b)
    values, steps = _merged(x, y)
    widths, random = np.diff(values), np.random.default_rng(seed)
    found = [
        float(np.abs(np.cumsum(random.permutation(steps))[:-1]) @ widths)
        for _ in range(permutations)
    ]
    return float(np.mean(found)), float(np.quantile(found, level))


def wasserstein_item(
    name: str, base: npt.ArrayLike, real: npt.ArrayLike, *, label: str, unit: str, seed: int
) -> WassersteinItem:
    """W1 of one quantity between base samples and real channels, in the unit given."""
    mean, upper = wasserstein_floor(base, real, seed=seed)
    return WassersteinItem(
        name=name, label=label, unit=unit, distance=wasserstein_distance(base, real),
        floor_mean=mean, floor_95=upper, spread_real=float(np.std(finite_vector("real", real))),
    )  # fmt: skip


def _merged(x: Array, y: Array) -> tuple[Array, Array]:
    """All values in order, and the step of F_x - F_y at each."""
    both = np.concatenate([x, y])
    steps = np.concatenate([np.full(len(x), 1 / len(x)), np.full(len(y), -1 / len(y))])
    order = np.argsort(both, kind="stable")
    return both[order], steps[order]
