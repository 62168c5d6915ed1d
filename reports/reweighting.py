"""Means and proportions from weighted samples: self-normalised importance sampling.

Log weights in, an Estimate out, with the effective sample size and a status that says when the
weights are too uneven to be trusted. Samples that are not independent come with the cluster each
belongs to; intervals then count clusters. Quantiles and the worst share live in tail_estimates.py.
What the weights mean is the engine's business.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from reports.estimates import (
    JUDGED,
    Array,
    Estimate,
    check_level,
    clopper_pearson,
    finite_vector,
    skewed_student,
    student,
)
from reports.pareto import combined_status, tail_shape, uneven_status

CV2_LIMIT = 2.0
"""Squared coefficient of variation of the weights above which reweighting is not trusted."""

SNIS = "self-normalised importance sampling"


def normalised_weights(log_w: npt.ArrayLike) -> Array:
    """Weights w_i / sum w, computed after subtracting the largest log weight.

    Raises:
        ValueError: a log weight is NaN or +inf, or all are -inf (-inf alone is legal: weight 0).
    """
    lw = np.asarray(log_w, dtype=np.float64)
    if lw.ndim != 1 or lw.size == 0:
        raise ValueError(f"log_w must be a non-empty vector; got shape {lw.shape}.")
    if np.isnan(lw).any() or np.isposinf(lw).any():
        i = int(np.flatnonzero(np.isnan(lw) | np.isposinf(lw))[0])
        raise ValueError(f"log_w must be finite or -inf; got {lw[i]} at index {i}.")
    top = lw.max()
    if np.isneginf(top):
        raise ValueError(
            "log_w must not be -inf everywhere. Does the weight vanish on all samples?"
        )
    w = np.exp(lw - top)
    return np.asarray(w / w.sum())


def effective_sample_size(log_w: npt.ArrayLike) -> float:
    """ESS = (sum w)^2 / sum w^2, in [1, n] (Kong 1992)."""
    w = normalised_weights(log_w)
    return float(1.0 / np.square(w).sum())


def pareto_k(log_w: npt.ArrayLike) -> float | None:
    """Shape k of the weights' tail: what the effective sample size cannot see.

    Weighted means want k < `reports.pareto.k_limit(n)`, their intervals k < 1/2. The tail that
    decides a mean of f is that of w |f|: `pareto_k(log_w + log|f|)`.

    Returns:
        k; -inf where the largest weights are equal; None where too few stand out to judge.
    Source: Vehtari et al., 2024, arXiv:1507.02646.
    """
    return tail_shape(normalised_weights(log_w))


@dataclass(frozen=True, kw_only=True)
class WeightedDraws:
    """Samples with their normalised weights, and what among them is independent.

    Attributes:
        w: Weights, sum 1, [n].
        unit: Independent unit of each sample, 0..J-1 [n]; None where each is its own.
        totals: Weight of every unit, sum 1, [J].
    """

    w: Array
    unit: npt.NDArray[np.intp] | None
    totals: Array

    @classmethod
    def of(cls, n: int, log_w: npt.ArrayLike, clusters: npt.ArrayLike | None) -> "WeightedDraws":
        """Of n values; ValueError where weights or clusters are not one a value."""
        w = normalised_weights(log_w)
        if len(w) != n:
            raise ValueError(f"values and log_w must have one length; got {n} and {len(w)}.")
        if clusters is None:
            return cls(w=w, unit=None, totals=w)
        labels = np.asarray(clusters)
        if labels.shape != w.shape:
            raise ValueError(f"clusters must have one label a value; got {labels.shape}, ({n},).")
        _, unit = np.unique(labels, return_inverse=True)
        return cls(w=w, unit=unit, totals=_unit_sums(w, unit))

    @property
    def equal(self) -> bool:
        """Whether all weights are the same, to rounding."""
        return float(np.ptp(self.w)) <= 1e-12 * float(self.w.max())

    @property
    def ess(self) -> float:
        """(sum w)^2 / sum w^2 over samples."""
        return float(1.0 / np.square(self.w).sum())

    def taken(self, order: npt.NDArray[np.intp]) -> "WeightedDraws":
        """The same samples in another order."""
        unit = None if self.unit is None else self.unit[order]
        return replace(self, w=self.w[order], unit=unit)

    def effective(self, inside: npt.NDArray[np.bool_]) -> float:
        """(sum w)^2 / sum w^2 over the units that have samples inside; 0 without any."""
        w = _unit_sums(self.w * inside, self.unit)
        square = float(np.square(w).sum())
        return float(w.sum()) ** 2 / square if square > 0 else 0.0

    def error(self, deviation: Array) -> tuple[float | None, float]:
        """Standard error and skewness of a weighted mean whose deviations f - m are given.

            D_j = sum of W_i (f_i - m) over unit j
            SE^2 = J / (J - 1) sum_j D_j^2,   skew = sum_j D_j^3 / (sum_j D_j^2)^(3/2)

        None for a single unit, or without scatter.
        """
        d = _unit_sums(self.w * deviation, self.unit)
        top = float(np.abs(d).max())
        if len(d) < 2 or top == 0:
            return None, 0.0
        d = d / top
        square = float(np.square(d).sum())
        skew = float((d**3).sum()) / square**1.5
        return top * math.sqrt(square * len(d) / (len(d) - 1)), skew

    def share_error(self, below: int) -> float | None:
        """Standard error of the weight of the first `below` samples, as `error` would find it."""
        first, share = self.w[:below], float(self.w[:below].sum())
        if self.unit is None:
            rest = self.w[below:]
            square = float(first @ first) * (1 - share) ** 2 + float(rest @ rest) * share**2
        else:
            count = len(self.totals)
            within = np.bincount(self.unit[:below], weights=first, minlength=count)
            square = float(np.square(within - share * self.totals).sum())
        j = len(self.totals)
        return math.sqrt(square * j / (j - 1)) if j > 1 and square > 0 else None

    def degrees(self) -> float:
        """Degrees of freedom: effective samples, or clusters, less one."""
        found = self.ess if self.unit is None else float(len(self.totals))
        return max(found - 1, 1.0)

    def proportion_limits(
        self, p: float, std_error: float | None, level: float
    ) -> tuple[float, float]:
        """Clopper-Pearson limits at the effective counts n' and p n'.

            n' = min(p (1 - p) / SE^2, n),  with J clusters times (t_{n-1} / t_{J-1})^2
            n' = 1 / (largest weight of a unit) where p is 0 or 1 or no error is known

        The latter and not the effective sample size: what was not seen may be as heavy as the
        heaviest that was.

        Source: Korn and Graubard 1998, Survey Methodology 24:193.
        """
        count = 1 / float(self.totals.max())
        if std_error is not None and 0 < p < 1:
            n = len(self.w)
            count = p * (1 - p) / std_error**2
            if self.unit is None:  # a count's own variance has no n - 1 in it
                count *= n / (n - 1)
            count = min(count, float(n)) * self._student_share(level)
        return clopper_pearson(p * count, count, level)

    def unseen_count(self, side: Array, level: float) -> float:
        """Effective samples behind "none further out" on one side of a value.

            n' = 1 / (largest weight on the side) / max(SE_clusters^2 / SE_singles^2, 1)

        with the standard errors of the share on that side, and Student's factor of
        `proportion_limits`.

        Args:
            side: 1 for the samples on that side, else 0, [n].
            level: Confidence level.
        """
        largest = float((self.w * side).max())
        if self.unit is None or largest == 0:
            return 1 / largest if largest > 0 else 0.0
        among, _ = self.error(side - self.w @ side)
        single, _ = replace(self, unit=None, totals=self.w).error(side - self.w @ side)
        if among is None or single is None:
            return 1 / float(self.totals.max())
        effect = max((among / single) ** 2, 1.0)
        return self._student_share(level) / effect / largest

    def _student_share(self, level: float) -> float:
        """(t_{n-1} / t_{J-1})^2: what few clusters take off a count."""
        if self.unit is None:
            return 1.0
        among = student(0, 1, self.degrees(), level)[1]
        return (student(0, 1, max(len(self.w) - 1, 1), level)[1] / among) ** 2

    def status(self, f: Array | None = None) -> str:
        """Whether the weights, and the weights times |f|, are even enough; clusters are not judged.

        Equal weights are, and then |f| itself is judged, from `JUDGED` samples on.
        """
        if self.unit is not None:
            return "ok"
        n, shapes, besides, equal = len(self.w), {}, "", self.equal
        if not equal:
            cv2 = n / self.ess - 1
            besides = f"CV^2 = {cv2:.1f}, limit {CV2_LIMIT:g}" if cv2 > CV2_LIMIT else ""
            shapes[""] = tail_shape(self.w)
        if f is not None and (not equal or n >= JUDGED):
            size = np.abs(f) / max(float(np.abs(f).max()), 1e-300)
            shapes["" if equal else " of weight times value"] = tail_shape(self.w * size)
        remedy = "use quantiles" if equal else "sample closer to where the weight is"
        what = "values" if equal else "weights"
        return uneven_status(what, n, shapes, remedy=remedy, besides=besides)


def _unit_sums(x: Array, unit: npt.NDArray[np.intp] | None) -> Array:
    """Sum of x over each unit, [J]; x itself where each sample is its own."""
    return x if unit is None else np.bincount(unit, weights=x).astype(np.float64)


def weighted_mean(
    values: npt.ArrayLike,
    log_w: npt.ArrayLike,
    *,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    method: str = SNIS,
) -> Estimate:
    """Self-normalised importance-sampling mean with its delta-method standard error.

        m = sum_i W_i f_i,  W_i = w_i / sum_j w_j,  SE^2 = n/(n-1) sum_i W_i^2 (f_i - m)^2

    Student's interval at ESS - 1 degrees of freedom with Hall's correction for skewness. With
    clusters the sums over a cluster take the place of single samples, and J - 1 that of ESS - 1.
    The status warns when CV^2(w) = n/ESS - 1 exceeds `CV2_LIMIT`, or when the tail of w or of
    w |f| is too heavy (`pareto_k`).

    Args:
        values: f_i, [n].
        log_w: log target - log proposal up to a constant, [n]; -inf is legal.
        clusters: Label of what is independent only as a whole, [n]; the estimate's n is then their
            number. Clusters are not judged by the status.
        level: Confidence level.
        method: For the estimate.
    Raises:
        ValueError: shapes differ, a value is not finite, a log weight is NaN or +inf.
    Source: Owen, Monte Carlo theory, methods and examples, 2013, section 9.2.
    """
    check_level(level)
    f = finite_vector("values", values)
    draws = WeightedDraws.of(len(f), log_w, clusters)
    m = float(np.clip(draws.w @ f, f.min(), f.max()))
    se, skew = draws.error(f - m)
    usable = se is not None and se > 0
    return Estimate(
        value=m,
        std_error=se if usable else None,
        interval=skewed_student(m, se, skew, draws.degrees(), level) if se else None,
        level=level, n=len(draws.totals), ess=draws.ess if clusters is None else None,
        method=method, status=draws.status(f) if usable else "no spread among the weighted values",
    )  # fmt: skip


def weighted_proportion(
    hits: npt.ArrayLike,
    log_w: npt.ArrayLike,
    *,
    clusters: npt.ArrayLike | None = None,
    level: float = 0.95,
    method: str = SNIS,
) -> Estimate:
    """Probability of an event under the law that the weights point to.

    Clopper-Pearson limits at effective counts, see `WeightedDraws.proportion_limits`. The status
    is that of the weights: f is bounded by 1.

    Args:
        hits: Whether each sample is an event, bool [n].
        log_w: Log weights [n]; -inf is legal.
        clusters: See `weighted_mean`.
        level: Confidence level.
        method: For the estimate.
    Source: Korn and Graubard 1998, Survey Methodology 24:193.
    """
    check_level(level)
    f = finite_vector("hits", np.asarray(hits, dtype=bool).astype(np.float64))
    draws = WeightedDraws.of(len(f), log_w, clusters)
    p = float(np.clip(draws.w @ f, f.min(), f.max()))
    inside = 0 < p < 1
    se, _ = draws.error(f - p)
    seen = "ok" if inside else "none seen: upper bound only" if p == 0 else "all: lower bound only"
    return Estimate(
        value=p, std_error=se if inside else None,
        interval=draws.proportion_limits(p, se, level),
        level=level, n=len(draws.totals), ess=draws.ess if clusters is None else None,
        status=combined_status(draws.status(), seen), method=method,
    )  # fmt: skip


def tilted_mean(
    weight: npt.ArrayLike, *, level: float = 0.95, method: str = "reweighted base samples"
) -> Estimate:
    """Mean of the weight l under q = l p / Z, from samples of p alone.

        E_q[l] = E_p[l^2] / E_p[l] = E_p[l] (1 + CV_p(l)^2),   ESS/n = 1 / (1 + CV^2)

    Equals `weighted_mean(l, log l)`. What decides is the tail of l^2, twice as heavy as that of l:
    the status judges it by its Pareto shape, besides CV^2(l) > `CV2_LIMIT`.

    Args:
        weight: l(x_i) >= 0 of independent base samples, any unit, [n].
        level: Confidence level.
        method: For the estimate.
    Raises:
        ValueError: some l is negative or not finite, or all are 0.
    """
    x = finite_vector("weight", weight)
    if (x < 0).any():
        raise ValueError(f"weight must be >= 0; got {x.min()}. Is this a loss in dB?")
    with np.errstate(divide="ignore"):
        log_l = np.log(x)
    return weighted_mean(x, log_l, level=level, method=method)
