"""Quantiles of weighted samples, and the mean of the worst share (CVaR) of any.

The samples may be equally weighted, weighted, or in clusters that alone are independent; one
arithmetic serves all three. Numbers in, an Estimate out.
"""

from collections.abc import Callable
from typing import Literal

import numpy as np
import numpy.typing as npt

from reports.estimates import (
    Array,
    Estimate,
    check_level,
    clopper_pearson,
    finite_vector,
    skewed_student,
)
from reports.pareto import MIN_TAIL, combined_status
from reports.reweighting import SNIS, WeightedDraws

Side = Literal["high", "low"]

MIN_CLUSTERS = 3
"""Effective clusters that the worst share must hold for an interval."""

FEW = 10.0
"""Effective weighted samples beyond a quantile below which the status says so."""


def weighted_quantile_estimate(
    values: npt.ArrayLike,
    log_w: npt.ArrayLike,
    prob: float,
    *,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    method: str = SNIS,
) -> Estimate:
    """Quantile of the law that the weights point to, the interval from the scale of the CDF.

        q = inf {t: F(t) >= prob},  F(t) = sum_i W_i 1{x_i <= t}
        interval = {t: prob lies within the limits of F(t)}

    with the limits of `weighted_proportion` at each t. Equal weights give the distribution-free
    interval of `quantile_estimate`. Where samples that were not seen could still move the quantile
    there is no interval, and the status says so.

    Args:
        values: x_i, [n].
        log_w: Log weights, [n]; -inf is legal.
        prob: Share of the law below the quantile, in (0, 1).
        clusters: See `weighted_mean`.
        level: Confidence level.
        method: For the estimate.
    Source: Woodruff 1952, J. Amer. Statist. Assoc. 47:635, 10.1080/01621459.1952.10483443, with
        the proportion tested at each t.
    """
    x, draws = _sorted_draws(values, log_w, prob, clusters, level)
    n, cdf = len(x), draws.w.cumsum()
    rank = _rank(cdf, prob)

    def limits(below: int) -> tuple[float, float]:
        """Of F where that many of the smallest values lie below."""
        return draws.proportion_limits(float(cdf[below - 1]), draws.share_error(below), level)

    low = _first(1, n, lambda below: limits(below)[1] > prob)
    high = _first(1, n, lambda below: limits(below)[0] >= prob)
    # What was not seen on either side must be too little to move the quantile.
    inside = (np.arange(n) <= rank).astype(np.float64)
    found = all(
        clopper_pearson(0.0, draws.unseen_count(side, level), level)[1] <= share
        for side, share in ((inside, prob), (1 - inside, 1 - prob))
    )
    value = float(x[rank])
    missing = "no two-sided interval: too few samples beyond the quantile"
    return Estimate(
        value=value,
        interval=(min(value, float(x[low - 1])), max(value, float(x[high - 1]))) if found else None,
        level=level, n=len(draws.totals), ess=draws.ess if clusters is None else None,
        method=method,
        status=combined_status(draws.status(), _few(draws, x > value) if found else missing),
    )  # fmt: skip


def weighted_cvar_estimate(
    values: npt.ArrayLike,
    log_w: npt.ArrayLike,
    prob: float,
    *,
    worse: Side = "high",
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    method: str = SNIS,
) -> Estimate:
    """Mean of the worst share 1 - prob (conditional value at risk, expected shortfall).

        c = q + sum_i W_i e_i,   e_i = max(x_i - q, 0) / (1 - prob),   q the quantile
        SE^2 = n/(n-1) sum_i W_i^2 (e_i - c + q)^2

    q minimises c, so its own error counts only to second order. Student's interval at T - 1
    degrees of freedom, T = (sum w)^2 / sum w^2 of the samples (or clusters) beyond q, with Hall's
    correction for skewness; none below T = 5 samples or 3 clusters. The status judges the tail of
    w max(x - median, 0), which is that of w e.

    Args:
        values: x_i, [n].
        log_w: Log weights, [n]; -inf is legal.
        prob: 0.99 for the worst 1 %, in (0, 1).
        worse: Which end is the worst.
        clusters: See `weighted_mean`.
        level: Confidence level.
        method: For the estimate.
    Source: Rockafellar and Uryasev 2000, Journal of Risk 2:21, 10.21314/JOR.2000.038.
    """
    if worse not in ("high", "low"):
        raise ValueError(f"worse must be 'high' or 'low'; got {worse!r}.")
    sign = 1.0 if worse == "high" else -1.0
    signed = sign * finite_vector("values", values)
    x, draws = _sorted_draws(signed, log_w, prob, clusters, level)
    cdf = draws.w.cumsum()
    rank = _rank(cdf, prob)
    excess = np.maximum(x - x[rank], 0.0) / (1 - prob)
    over = min(float(draws.w @ excess), float(x[-1] - x[rank]))
    se, skew = draws.error(excess - over)
    tail = draws.effective(x > x[rank])
    least, what = (MIN_TAIL, "samples") if clusters is None else (MIN_CLUSTERS, "clusters")
    usable = se is not None and tail >= least - 1e-9  # whole counts are rounded
    ends = skewed_student(over, se or 0.0, skew, max(tail - 1, 1.0), level)
    c = float(x[rank]) + over
    found = sorted(sign * (float(x[rank]) + end) for end in ends)
    missing = f"fewer than {least} effective {what} in the worst share: no interval"
    upper = np.maximum(x - x[_rank(cdf, min(prob, 0.5))], 0.0)  # as e, but with more of the tail
    return Estimate(
        value=sign * c,
        std_error=se,
        interval=(found[0], found[1]) if usable else None,
        level=level, n=len(draws.totals), ess=draws.ess if clusters is None else None,
        method=method,
        status=combined_status(draws.status(upper), _few(draws, x > x[rank])) if usable
        else combined_status(draws.status(), missing),
    )  # fmt: skip


def cvar_estimate(
    values: npt.ArrayLike, prob: float, *, worse: Side = "high", level: float = 0.95
) -> Estimate:
    """Mean of the worst share 1 - prob of independent values, see `weighted_cvar_estimate`."""
    x = finite_vector("values", values)
    share = f"mean of the worst {100 * (1 - prob):.3g} %"
    return weighted_cvar_estimate(x, np.zeros(len(x)), prob, worse=worse, level=level, method=share)


def _sorted_draws(
    values: npt.ArrayLike,
    log_w: npt.ArrayLike,
    prob: float,
    clusters: npt.ArrayLike | None,
    level: float,
) -> tuple[Array, WeightedDraws]:
    """The values in ascending order with their weights and clusters, all checked."""
    check_level(level)
    if not 0 < prob < 1:
        raise ValueError(f"prob must lie in (0, 1); got {prob}. Is this a percentage?")
    x = finite_vector("values", values)
    order = np.argsort(x, kind="stable")
    draws = WeightedDraws.of(len(x), log_w, clusters)
    return x[order], draws.taken(order)


def _few(draws: WeightedDraws, beyond: npt.NDArray[np.bool_]) -> str:
    """Whether the rarer side of a quantile holds enough; equal weights can be counted on."""
    held = min(draws.effective(beyond), draws.effective(~beyond))
    least, what = (FEW, "samples") if draws.unit is None else (MIN_TAIL, "clusters")
    if (draws.unit is None and draws.equal) or held >= least:
        return "ok"
    return f"only {held:.1f} effective {what} beyond the quantile: interval may be off"


def _rank(cdf: Array, prob: float) -> int:
    """Index of the quantile among sorted values; sums of weights are rounded."""
    return min(int(np.searchsorted(cdf, prob - 1e-12)), len(cdf) - 1)


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """Smallest count in low..high - 1 from which on `holds`, by bisection; high without any."""
    while low < high:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle + 1
    return low
