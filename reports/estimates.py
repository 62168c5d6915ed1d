"""The Estimate and every interval in the package.

Proportions, means, quantiles, drop means, Kolmogorov-Smirnov distances and the rule that says
whether two estimates agree; weighted samples are in reweighting.py. Numbers in, numbers and words
out: nothing here knows what a channel is, and nothing draws random numbers.
"""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import special

from reports.pareto import tail_shape, uneven_status

Array = npt.NDArray[np.float64]

JUDGED = 100
"""Values from which on the tails of an unweighted mean are judged."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A number with its uncertainty and its provenance.

    Attributes:
        value: Point estimate, in the unit of the quantity (probabilities in [0, 1]).
        std_error: Standard error, same unit; None when unknown.
        interval: Two-sided confidence interval (lo, hi); None when none can be given.
        level: Confidence level of the interval, in (0, 1).
        n: Samples behind the value.
        ess: Effective sample size, in [1, n]; None when it has no meaning.
        status: "ok", or in words why the figure must be read with care.
        method: How the value was computed, in words.
        n_evaluations: Denoiser evaluations spent on it; None when not counted.
    """

    value: float
    std_error: float | None = None
    interval: tuple[float, float] | None = None
    level: float = 0.95
    n: int
    ess: float | None = None
    status: str = "ok"
    method: str
    n_evaluations: int | None = None

    def __post_init__(self) -> None:
        """Refuse NaN, infinite and reversed figures: unknown is None, never a NaN."""
        if not math.isfinite(self.value):
            raise ValueError(f"value must be finite; got {self.value}. Unknown is None.")
        if self.std_error is not None and not 0 <= self.std_error < math.inf:
            raise ValueError(f"std_error must be finite and >= 0; got {self.std_error}.")
        check_level(self.level)
        if self.n < 1:
            raise ValueError(f"n must be at least 1; got {self.n}.")
        if self.interval is not None:
            lo, hi = self.interval
            if not (math.isfinite(lo) and math.isfinite(hi) and lo <= self.value <= hi):
                raise ValueError(f"interval must hold the value {self.value}; got [{lo}, {hi}].")

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON types; the interval becomes a list."""
        plain = asdict(self)
        plain["interval"] = None if self.interval is None else list(self.interval)
        return plain

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Estimate":
        """Inverse of `to_dict`.

        Raises:
            ValueError: a key is unknown or missing, or a figure is not finite.
        """
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(plain) - known)
        missing = sorted({"value", "n", "method"} - set(plain))
        if unknown or missing:
            raise ValueError(f"estimate has unknown keys {unknown} and lacks {missing}.")
        interval = plain.get("interval")
        pair = None if interval is None else (float(interval[0]), float(interval[1]))
        return cls(**{**plain, "interval": pair})


def proportion(k: int, n: int, *, level: float = 0.95, method: str = "counted") -> Estimate:
    """Probability from k events in n independent trials.

        lo = B^-1(a/2; k, n-k+1),  hi = B^-1(1-a/2; k+1, n-k),  a = 1 - level

    Covers at least `level` for every p. With k = 0 the interval is [0, 1 - (a/2)^(1/n)].

    Raises:
        ValueError: n < 1 or k outside [0, n].
    Source: Clopper and Pearson 1934, Biometrika 26:404, 10.1093/biomet/26.4.404.
    """
    check_level(level)
    if n < 1 or not 0 <= k <= n:
        raise ValueError(f"k must lie in [0, n] with n >= 1; got k={k}, n={n}.")
    p = k / n
    inside = 0 < k < n
    return Estimate(
        value=p,
        std_error=math.sqrt(p * (1 - p) / n) if inside else None,
        interval=clopper_pearson(float(k), float(n), level),
        level=level,
        n=n,
        ess=float(n),
        status="ok"
        if inside
        else ("none seen: upper bound only" if k == 0 else "all: lower bound only"),
        method=method,
    )


def mean_estimate(
    values: npt.ArrayLike, *, level: float = 0.95, method: str = "sample mean"
) -> Estimate:
    """Mean of independent values with Student's interval m -+ t_{n-1} s / sqrt(n).

    One value, or equal values, give no interval and say so in the status; so do tails, from
    `JUDGED` values on, that are too heavy for the interval (see `tail_shape`).

    Raises:
        ValueError: `values` is empty, not one-dimensional, or holds NaN or infinity.
    """
    check_level(level)
    x = finite_vector("values", values)
    n = len(x)
    m = float(x.mean())
    se = float(x.std(ddof=1)) / math.sqrt(n) if n > 1 else None
    usable = se is not None and se > 0
    status = "one value, no interval" if n == 1 else "all values equal"
    interval = student(m, se or 0.0, n - 1, level) if usable else None
    return Estimate(
        value=m, std_error=se if usable else None, interval=interval, level=level, n=n,
        ess=float(n), status=_tails_status(x) if usable else status, method=method,
    )  # fmt: skip


def _tails_status(x: Array) -> str:
    """Whether the tails of x allow Student's interval; below `JUDGED` values nobody can say."""
    if len(x) < JUDGED:
        return "ok"
    shapes = {" above": tail_shape(x), " below": tail_shape(-x)}
    return uneven_status("values", len(x), shapes, remedy="use quantiles")


def by_drop_mean(values: npt.ArrayLike, drops: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Mean over users with an interval from the J drops, which alone are independent.

        m = sum_j S_j / sum_j n_j,   SE^2 = J/(J-1) sum_j (S_j - m n_j)^2 / (sum_j n_j)^2

    S_j and n_j are the sum and the count of drop j; equal drops give Student's t on drop means.
    `ess` is None: see `design_effect`.

    Args:
        values: One figure a user, [n].
        drops: Drop of each user, any labels, [n].
    Source: Cochran, Sampling Techniques, 1977, chapter 6 (ratio estimate).
    """
    check_level(level)
    x, sums, counts = _drop_sums(values, drops)
    m = float(x.mean())
    se = _drop_std_error(x, sums, counts)
    interval = student(m, se, len(sums) - 1, level) if se else None
    return Estimate(
        value=m, std_error=se, interval=interval, level=level, n=len(x),
        status="ok" if interval else f"{len(sums)} drop(s) without spread: no interval",
        method=f"mean over {len(sums)} drops, Student t",
    )  # fmt: skip


def design_effect(values: npt.ArrayLike, drops: npt.ArrayLike) -> float | None:
    """Variance of the mean with whole drops drawn, over the variance with users drawn one by one.

    About 1: users count singly. None with fewer than two drops or constant values.
    """
    x, sums, counts = _drop_sums(values, drops)
    se = _drop_std_error(x, sums, counts)
    single = float(x.var(ddof=1)) / len(x) if len(x) > 1 else 0.0
    return None if se is None or single == 0 else se**2 / single


def quantile_estimate(values: npt.ArrayLike, prob: float, *, level: float = 0.95) -> Estimate:
    """Quantile with the distribution-free order-statistic interval [X_(l), X_(u)].

    l is the largest rank with P(B <= l-1) <= a/2, u the smallest with P(B >= u) <= a/2, where
    B ~ Binomial(n, prob). Where such a rank does not exist the interval is None and the status
    gives the sample size that would be needed.

    Source: David and Nagaraja, Order Statistics, 2003, section 7.1.
    """
    check_level(level)
    if not 0 < prob < 1:
        raise ValueError(f"prob must lie in (0, 1); got {prob}. Is this a percentage?")
    x = np.sort(finite_vector("values", values))
    n, half = len(x), (1 - level) / 2
    cdf = special.bdtr(np.arange(n, dtype=np.float64), n, prob)  # P(B <= k), k = 0..n-1
    lower = int(np.searchsorted(cdf, half, side="right"))  # rank l, 0 = none
    above = np.flatnonzero(1 - cdf <= half)  # P(B >= k+1) <= a/2: rank u = k+1
    found = lower >= 1 and above.size > 0
    needed = math.ceil(math.log(half) / math.log(max(prob, 1 - prob)))
    value = float(np.quantile(x, prob))
    return Estimate(
        value=value,
        interval=(min(value, x[lower - 1]), max(value, x[above[0]])) if found else None,
        level=level, n=n, ess=float(n), method="sample quantile, order statistics",
        status="ok" if found else f"no two-sided interval below n = {needed:,}",
    )  # fmt: skip


def ks_distance(a: npt.ArrayLike, b: npt.ArrayLike) -> float:
    """Two-sample Kolmogorov-Smirnov distance sup |F_a - F_b|, in [0, 1]; ties are handled."""
    x = np.sort(finite_vector("a", a))
    y = np.sort(finite_vector("b", b))
    both = np.concatenate([x, y])
    f_x = np.searchsorted(x, both, side="right") / len(x)
    f_y = np.searchsorted(y, both, side="right") / len(y)
    return float(np.abs(f_x - f_y).max())


@dataclass(frozen=True, kw_only=True)
class KsFloor:
    """What a perfect model would show: `mean` KS distance and its `upper` quantile at `level`."""

    mean: float
    upper: float
    level: float


def ks_floor(n: int, m: int, *, level: float = 0.95) -> KsFloor:
    """KS distance between n and m samples of ONE continuous law.

        D sqrt(n m / (n + m)) -> K,   E[K] = sqrt(pi/2) ln 2,   P(K <= x) = Kolmogorov's law

    Source: Smirnov 1948, 10.1214/aoms/1177730256.
    """
    check_level(level)
    if min(n, m) < 1:
        raise ValueError(f"n and m must be at least 1; got {n} and {m}.")
    scale = math.sqrt((n + m) / (n * m))
    mean = math.sqrt(math.pi / 2) * math.log(2) * scale
    upper = float(special.kolmogi(1 - level)) * scale
    return KsFloor(mean=min(mean, 1.0), upper=min(upper, 1.0), level=level)


def agree(a: Estimate | None, b: Estimate | None, *, factor: float = 2.0) -> str:
    """Whether two estimates of one non-negative quantity tell the same story.

    The rule, on intervals of linear contrasts joined from both intervals (MOVER):

    - "differ": the interval of a - b leaves out 0;
    - "agree": it holds 0, and a - factor b < 0 < a - b/factor throughout, that is, the ratio is
      known to lie within [1/factor, factor];
    - "cannot tell": otherwise, or when either has no interval (too few failures on either side).

    Source: Zou and Donner 2008, Statistics in Medicine 27:1693, 10.1002/sim.3095.
    """
    if factor <= 1:
        raise ValueError(f"factor must exceed 1; got {factor}.")
    if a is None or b is None or a.interval is None or b.interval is None:
        return "cannot tell"
    if min(a.value, b.value) < 0:
        raise ValueError(f"agree needs values >= 0; got {a.value}, {b.value}. Is this in dB?")
    lo, hi = _contrast(a, b, 1.0)
    if lo > 0 or hi < 0:
        return "differ"
    close = _contrast(a, b, factor)[1] < 0 < _contrast(a, b, 1 / factor)[0]
    return "agree" if close else "cannot tell"


def format_estimate(estimate: Estimate | None, *, percent: bool = False) -> str:
    """Value and interval to two digits of the half-width: "1.25 % [0.60, 2.20]".

    None reads "unknown"; a proportion without events reads "none seen, below 0.46 %".
    """
    if estimate is None:
        return "unknown"
    value, interval = format_parts(estimate, percent=percent)
    return f"{value} {interval}".strip()


def format_parts(estimate: Estimate, *, percent: bool = False) -> tuple[str, str]:
    """The value and the bracketed interval ("" when there is none) as two strings."""
    scale, unit = (100.0, " %") if percent else (1.0, "")
    value = estimate.value * scale
    if estimate.interval is None:
        return f"{value:.3g}{unit}", ""
    lo, hi = estimate.interval[0] * scale, estimate.interval[1] * scale
    if value == 0 and lo == 0 and hi > 0:
        return "none seen,", f"below {hi:.2g}{unit}"
    half = (hi - lo) / 2
    if half == 0 or max(abs(lo), abs(hi)) < 1e-3:
        return f"{value:.3g}{unit}", f"[{lo:.3g}, {hi:.3g}]"
    digits = max(0, 1 - math.floor(math.log10(half)))
    return f"{value:.{digits}f}{unit}", f"[{lo:.{digits}f}, {hi:.{digits}f}]"


def check_level(level: float) -> None:
    """Raise ValueError unless the confidence level lies in (0, 1)."""
    if not 0 < level < 1:
        raise ValueError(f"level must lie in (0, 1); got {level}. 95 % is written 0.95.")


def clopper_pearson(k: float, n: float, level: float) -> tuple[float, float]:
    """Clopper-Pearson limits for k events in n trials; counts may be fractions."""
    half = (1 - level) / 2
    tiny = 1e-9 * n
    lo = 0.0 if k <= tiny else float(special.betaincinv(k, n - k + 1, half))
    hi = 1.0 if n - k <= tiny else float(special.betaincinv(k + 1, n - k, 1 - half))
    return lo, hi


def student(m: float, se: float, df: float, level: float) -> tuple[float, float]:
    """Student's interval m -+ t_df se; df may be a fraction."""
    t = float(special.stdtrit(df, 1 - (1 - level) / 2))
    return m - t * se, m + t * se


def skewed_student(
    m: float, se: float, skew: float, df: float, level: float
) -> tuple[float, float]:
    """Student's interval with Hall's cubic correction for the skewness of a mean.

        g(T) = T + s T^2 / 3 + s^2 T^3 / 27 + s / 6,  T = (m - true) / se,  s = skew
        g^-1(t) = 3/s [(1 + s (t - s/6))^(1/3) - 1];   limits m - se g^-1(+-t_df)

    Args:
        m: Estimate.
        se: Its standard error.
        skew: Its own skewness, that of one value over sqrt(n), in [-1, 1].
        df: Degrees of freedom, may be a fraction.
        level: Confidence level.
    Source: Hall 1992, J. R. Statist. Soc. B 54:221.
    """
    t = float(special.stdtrit(df, 1 - (1 - level) / 2))

    def untransformed(z: float) -> float:
        if abs(skew) < 1e-6:
            return z
        return 3 / skew * float(np.cbrt(1 + skew * (z - skew / 6)) - 1)

    return m - se * untransformed(t), m - se * untransformed(-t)


def _contrast(a: Estimate, b: Estimate, c: float) -> tuple[float, float]:
    """Limits of a - c b from the limits of a and of b (MOVER)."""
    (low_a, high_a), (low_b, high_b) = (e.interval or (-math.inf, math.inf) for e in (a, b))
    d = a.value - c * b.value
    low = math.hypot(a.value - low_a, c * (high_b - b.value))
    high = math.hypot(high_a - a.value, c * (b.value - low_b))
    return d - low, d + high


def _drop_sums(values: npt.ArrayLike, drops: npt.ArrayLike) -> tuple[Array, Array, Array]:
    """Values [n], and per drop the sum and the count, [J] each."""
    x = finite_vector("values", values)
    labels = np.asarray(drops)
    if labels.shape != x.shape:
        raise ValueError(f"drops must have one label a value; got {labels.shape}, {x.shape}.")
    _, index = np.unique(labels, return_inverse=True)
    counts = np.bincount(index).astype(np.float64)
    return x, np.bincount(index, weights=x).astype(np.float64), counts


def _drop_std_error(x: Array, sums: Array, counts: Array) -> float | None:
    """Standard error of the user mean from the scatter of drops; None without two or a scatter."""
    j = len(sums)
    if j < 2:
        return None
    residual = sums - x.mean() * counts
    se = math.sqrt(j / (j - 1) * float(np.square(residual).sum())) / len(x)
    return se if se > 0 else None


def finite_vector(name: str, values: npt.ArrayLike) -> Array:
    """`values` as float64 [n]; ValueError naming the index where it is NaN, infinite or empty."""
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or x.size == 0:
        raise ValueError(f"{name} must be a non-empty vector; got shape {x.shape}.")
    bad = np.flatnonzero(~np.isfinite(x))
    if bad.size:
        raise ValueError(f"{name} must be finite; got {x[bad[0]]} at index {bad[0]}.")
    return x
