"""When two compressors may be called different: p-values, drops that are alike, Holm, an order.

Numbers in, numbers and words out. The differences themselves are comparison_estimates.py's.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from reports.estimates import Estimate, design_effect

Drops = npt.NDArray[np.int64]

_BY_CHANCE = 0.05  # of independent users, how often drops are taken for alike


class DropScatter(NamedTuple):
    """How much users of a drop are alike: the design effect of a mean, and J - 1."""

    effect: float
    df: int


class Paired(NamedTuple):
    """A difference over the same channels, and the p-value of none by the law of its interval.

    The p-value is None where there is no interval to go by, and 1 where a and b are the same.
    `alike` tells of drops where they were allowed for.
    """

    difference: Estimate
    p_value: float | None
    alike: DropScatter | None = None


def drop_scatter(g: npt.ArrayLike, drops: npt.ArrayLike | None) -> DropScatter | None:
    """The design effect of drops on the mean of g, where chance does not explain it; else None.

        (J - 1) effect ~ chi^2_{J-1} for users who are as good as independent

    taken for more than chance beyond the 95 % quantile. What is judged by drop then has an interval
    wider by the root of the effect, with Student's law of J - 1 degrees of freedom.

    Args:
        g: One figure a user, [n].
        drops: Drop of each, J of them, [n]; None if unknown.
    """
    if drops is None:
        return None
    effect, df = design_effect(g, drops), len(np.unique(drops)) - 1
    if effect is None or effect <= 1 or special.chdtrc(df, df * effect) >= _BY_CHANCE:
        return None
    return DropScatter(effect, df)


def student_p(estimate: Estimate, df: float) -> float | None:
    """Two-sided p-value of "no difference"; 1 where a and b are the same, None unknown."""
    if estimate.std_error is None:
        return 1.0 if estimate.value == 0 else None
    t = -abs(estimate.value) / estimate.std_error
    return float(2 * (special.ndtr(t) if math.isinf(df) else special.stdtr(df, t)))


def by_drop(alike: DropScatter | None) -> str:
    """What the method says of it: nothing where channels count one by one."""
    if alike is None:
        return ""
    return f", users of a drop alike (design effect {alike.effect:.2g} of {alike.df + 1} drops)"


# --- An order -------------------------------------------------------------------------------------


def holm(p_values: Sequence[float | None]) -> list[float | None]:
    """P-values adjusted so that all verdicts of a family hold together.

        adjusted_(i) = max_{j <= i} min(1, (m - j + 1) p_(j)),  p ascending, m of them

    Unknown ones stay unknown and count among the m.

    Source: Holm 1979, Scandinavian Journal of Statistics 6:65.
    """
    known = sorted((p, i) for i, p in enumerate(p_values) if p is not None)
    found: list[float | None] = [None] * len(p_values)
    largest = 0.0
    for rank, (p, i) in enumerate(known):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p))
        found[i] = largest
    return found


def rank_bounds(
    names: Sequence[str], better: Sequence[tuple[str, str]]
) -> dict[str, tuple[int, int]]:
    """Best and worst rank of each name that the verdicts leave open, 1 is best.

        best = 1 + number that are surely better,  worst = K - number that are surely worse

    Args:
        names: All K.
        better: Pairs (better, worse) that can be told.
    """
    above = {name: sum(worse == name for _, worse in better) for name in names}
    below = {name: sum(first == name for first, _ in better) for name in names}
    return {name: (1 + above[name], len(names) - below[name]) for name in names}
