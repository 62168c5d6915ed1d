"""Differences between two compressors on the same channels, each with its interval and its test.

Common random numbers: figure i of either compressor is of channel i, so what makes a channel easy
or hard for both cancels. Numbers in, numbers and words out, like estimates.py; the quantile is
resampled with a generator of its own, so equal input gives equal output. Channels count as
independent unless the differences themselves show that those of one drop are alike
(comparison_tests.py); then drops are what counts.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from scipy import special

from reports.comparison_tests import (
    Drops,
    DropScatter,
    Paired,
    by_drop,
    drop_scatter,
    student_p,
)
from reports.estimates import JUDGED, Array, Estimate, check_level, finite_vector, student
from reports.pareto import MIN_TAIL, combined_status, tail_shape, uneven_status

Fails = npt.NDArray[np.bool_]

DECIBELS = 10 / math.log(10)
RESAMPLES = 1000
"""Bootstrap resamples behind the interval of a difference of quantiles."""


# --- Means, quantiles, worst shares ---------------------------------------------------------------


def paired_mean(
    a: npt.ArrayLike, b: npt.ArrayLike, *, drops: Drops | None = None, level: float = 0.95
) -> Paired:
    """Ratio of two means over the same channels [dB], with its test.

        G = 10 log10(mean a / mean b),   g_i = a_i / mean a - b_i / mean b
        SE = 10/ln 10 s(g) / sqrt(n),    interval G -+ t_{n-1} SE

    By the delta method: d log(mean a / mean b) = mean g to first order. The status judges the tails
    of g, from `JUDGED` channels on.

    Args:
        a, b: Linear figures of the same channels with positive means, [n].
        drops: Drop of each channel, see `drop_scatter`; None counts channels one by one.
        level: Confidence level.
    Raises:
        ValueError: lengths differ, or a mean is not positive.
    """
    x, y = _pair(a, b)
    return _ratio_db(x, y, len(x) - 1, level, "ratio of means", drops, tails=(x, y))


def paired_mean_db(a: npt.ArrayLike, b: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """The difference of `paired_mean`, channels counted one by one."""
    return paired_mean(a, b, level=level).difference


def paired_cvar(
    a: npt.ArrayLike,
    b: npt.ArrayLike,
    prob: float,
    *,
    drops: Drops | None = None,
    level: float = 0.95,
) -> Paired:
    """Ratio of the means of the worst share 1 - prob, each compressor's own worst [dB].

        c = q + mean e,  e_i = max(x_i - q, 0) / (1 - prob),  q the quantile of x

    for a and b, then as `paired_mean` with a_i -> q + e_i; q minimises c, so its own error counts
    to second order only. Student's law with as many degrees of freedom as channels lie in either
    tail, less one, for interval and test alike (the normal law would call equal tails different
    several times too often where Holm's limits are small); neither below 5 in each tail.

    Source: Rockafellar and Uryasev 2000, Journal of Risk 2:21, 10.21314/JOR.2000.038.
    """
    x, y = _pair(a, b)
    (ex, in_x), (ey, in_y) = _excess(x, prob), _excess(y, prob)
    name = f"ratio of the means of the worst {100 * (1 - prob):.3g} %"
    df = int((in_x | in_y).sum()) - 1
    found = _ratio_db(ex, ey, df, level, name, drops, tails=(x, y))
    if min(int(in_x.sum()), int(in_y.sum())) >= MIN_TAIL:
        return found
    few = Estimate(
        value=found.difference.value, level=level, n=len(x), method=found.difference.method,
        status=f"fewer than {MIN_TAIL} channels in the worst share: no interval",
    )  # fmt: skip
    return Paired(few, student_p(few, df), found.alike)


def paired_cvar_db(
    a: npt.ArrayLike, b: npt.ArrayLike, prob: float, *, level: float = 0.95
) -> Estimate:
    """The difference of `paired_cvar`, channels counted one by one."""
    return paired_cvar(a, b, prob, level=level).difference


def paired_quantiles(
    values: Mapping[str, npt.ArrayLike],
    prob: float,
    *,
    drops: Drops | None = None,
    level: float = 0.95,
    seed: int = 0,
) -> dict[tuple[str, str], Paired]:
    """Difference of quantiles in dB of every pair of names, first before second, with its test.

        D = 10 log10(q_a / q_b),   q = inf {t: share of x <= t is at least prob}

    Interval: quantiles of D over `RESAMPLES` bootstrap resamples of channels, the same for all;
    none where fewer than 5 channels lie beyond. The standard error is the spread over resamples;
    the test is normal with it. Drops are judged on 1{a_i > q_a} - 1{b_i > q_b}.

    Args:
        values: Linear figures of the same channels, positive, [n] each.
        prob: 0.99 for the level that 1 % exceed.
        drops: Drop of each channel, see `drop_scatter`; None counts channels one by one.
        level: Confidence level.
        seed: Of the resamples.
    Source: Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.
    """
    check_level(level)
    _check_prob(prob)
    x = {name: finite_vector(name, v) for name, v in values.items()}
    sizes = {len(v) for v in x.values()}
    if len(sizes) != 1:
        raise ValueError(f"values must be of the same channels; got lengths {sorted(sizes)}.")
    n = sizes.pop()
    drawn = _resampled_quantiles(x, prob, n, seed)
    beyond = round(n * (1 - prob), 9)
    over = {name: (v > drawn[name][0]).astype(np.float64) for name, v in x.items()}
    names, found = list(x), {}
    for i, a in enumerate(names):
        for b in names[i + 1 :]:
            values_db = _to_db(drawn[a]) - _to_db(drawn[b])
            alike = drop_scatter(over[a] - over[b], drops)
            found[a, b] = _of_resamples(values_db, n, beyond, level, alike)
    return found


def paired_quantiles_db(
    values: Mapping[str, npt.ArrayLike], prob: float, *, level: float = 0.95, seed: int = 0
) -> dict[tuple[str, str], Estimate]:
    """The differences of `paired_quantiles`, channels counted one by one."""
    found = paired_quantiles(values, prob, level=level, seed=seed)
    return {pair: paired.difference for pair, paired in found.items()}


def _of_resamples(
    d: Array, n: int, beyond: float, level: float, alike: DropScatter | None
) -> Paired:
    """Estimate from resamples d; the first entry is the figure itself."""
    value, rest = float(d[0]), d[1:]
    half = (1 - level) / 2
    lo, hi = (float(np.quantile(rest, p)) for p in (half, 1 - half))
    enough, spread = beyond >= MIN_TAIL, float(rest.std(ddof=1))
    status = "ok" if enough and spread > 0 else (
        "no scatter, no interval" if enough
        else f"fewer than {MIN_TAIL} channels beyond the quantile: no interval"
    )  # fmt: skip
    df, wider = math.inf, 1.0
    if alike is not None:
        df, spread = alike.df, spread * math.sqrt(alike.effect)
        wider = math.sqrt(alike.effect) * _t_quantile(df, level) / _t_quantile(math.inf, level)
    lo, hi = (value + wider * (end - value) for end in (min(lo, value), max(hi, value)))
    found = Estimate(
        value=value, std_error=spread if enough and spread > 0 else None,
        interval=(lo, hi) if status == "ok" else None,
        level=level, n=n, ess=float(n), status=status,
        method=f"difference of quantiles in dB, {RESAMPLES} resamples of channels{by_drop(alike)}",
    )  # fmt: skip
    return Paired(found, student_p(found, df), alike)


def _resampled_quantiles(
    x: Mapping[str, Array], prob: float, n: int, seed: int
) -> dict[str, Array]:
    """Quantile of each name: of the values themselves first, then of every resample."""
    rng = np.random.default_rng(seed)
    # From the top: the quantile is the first value with more than n (1 - prob) at or above it.
    top = min(n, math.ceil(n * (1 - prob) + 10 * math.sqrt(n * (1 - prob)) + 20))
    order = {name: np.argsort(-v, kind="stable")[:top] for name, v in x.items()}
    drawn = {name: np.empty(RESAMPLES + 1) for name in x}
    for k in range(RESAMPLES + 1):
        counts = np.ones(n, np.int64) if k == 0 else np.bincount(rng.integers(n, size=n), None, n)
        for name, rows in order.items():
            above = counts[rows].cumsum()
            rank = int(np.searchsorted(above, n * (1 - prob) + 1e-9, side="right"))
            drawn[name][k] = x[name][rows[min(rank, top - 1)]]
    return drawn


def _excess(x: Array, prob: float) -> tuple[Array, Fails]:
    """q + max(x - q, 0) / (1 - prob) of each value, whose mean is the CVaR, and who lies beyond."""
    _check_prob(prob)
    q = float(np.quantile(x, prob, method="inverted_cdf"))
    return q + np.maximum(x - q, 0.0) / (1 - prob), x > q


def _ratio_db(
    x: Array,
    y: Array,
    df: int,
    level: float,
    name: str,
    drops: Drops | None,
    *,
    tails: tuple[Array, Array],
) -> Paired:
    """Ratio of the means of x and y, positive; `tails` are the figures whose tails are judged."""
    check_level(level)
    mean_x, mean_y = float(x.mean()), float(y.mean())
    if min(mean_x, mean_y) <= 0:
        raise ValueError(f"means must be positive to stand in dB; got {mean_x:.3g}, {mean_y:.3g}.")
    g, n = x / mean_x - y / mean_y, len(x)
    value = DECIBELS * math.log(mean_x / mean_y)
    se = DECIBELS * float(g.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    alike = drop_scatter(g, drops)
    if alike is not None:
        df, se = min(df, alike.df), se * math.sqrt(alike.effect)
    usable = se > 0 and df >= 1
    found = Estimate(
        value=value, std_error=se if usable else None,
        interval=student(value, se, df, level) if usable else None,
        level=level, n=n, ess=float(n),
        status=_tails_status(*tails) if usable else "no scatter, no interval",
        method=f"{name} over the same channels [dB], delta method{by_drop(alike)}",
    )  # fmt: skip
    return Paired(found, student_p(found, df), alike)


def _tails_status(x: Array, y: Array) -> str:
    """Whether the tails of x / mean x - y / mean y allow Student's interval."""
    if len(x) < JUDGED:
        return "ok"
    g = x / x.mean() - y / y.mean()
    shapes = {" above": tail_shape(g), " below": tail_shape(-g)}
    return uneven_status("differences", len(x), shapes, remedy="compare quantiles")


def _t_quantile(df: float, level: float) -> float:
    prob = 1 - (1 - level) / 2
    return float(special.ndtri(prob) if math.isinf(df) else special.stdtrit(df, prob))


def unpaired_ratio_db(a: Estimate, b: Estimate, *, level: float = 0.95) -> Estimate:
    """Ratio of two means over different channels [dB].

        G = 10 log10(a / b),   SE = 10/ln 10 sqrt((s_a / a)^2 + (s_b / b)^2)

    s their standard errors; Student's interval at Welch's degrees of freedom.

    Args:
        a, b: Positive means; the status of either is kept.
        level: Confidence level.
    """
    check_level(level)
    value = DECIBELS * math.log(a.value / b.value)
    parts = [DECIBELS * (e.std_error or 0.0) / e.value for e in (a, b)]
    se, known = math.hypot(*parts), all(e.std_error for e in (a, b))
    df = se**4 / sum(p**4 / (e.n - 1) for p, e in zip(parts, (a, b), strict=True)) if known else 1.0
    status = combined_status(a.status, b.status)
    return Estimate(
        value=value, std_error=se if known else None,
        interval=student(value, se, df, level) if known else None, level=level, n=min(a.n, b.n),
        method="ratio of means over different channels [dB], delta method",
        status="no scatter, no interval" if status == "ok" and not known else status,
    )  # fmt: skip


# --- Probabilities --------------------------------------------------------------------------------


def paired_probability(
    fails_a: npt.ArrayLike,
    fails_b: npt.ArrayLike,
    *,
    drops: Drops | None = None,
    level: float = 0.95,
) -> Paired:
    """P(a fails) - P(b fails) over the same channels, with its test.

    The interval is that of `probability_difference`, the test exact (`mcnemar_p`). Where users of a
    drop fail alike, both are Student's over drops instead.

    Args:
        fails_a, fails_b: Of the same channels, [n].
        drops: Drop of each channel, see `drop_scatter`; None counts channels one by one.
        level: Confidence level.
    """
    found = probability_difference(fails_a, fails_b, level=level)
    apart = np.asarray(fails_a, dtype=np.float64) - np.asarray(fails_b, dtype=np.float64)
    alike = drop_scatter(apart, drops)
    if alike is None or found.std_error is None:
        return Paired(found, mcnemar_p(fails_a, fails_b))
    se = found.std_error * math.sqrt(alike.effect)
    lo, hi = student(found.value, se, alike.df, level)
    wider = replace(
        found, std_error=se, interval=(max(lo, -1.0), min(hi, 1.0)),
        method=f"difference of paired proportions, Student t{by_drop(alike)}",
    )  # fmt: skip
    return Paired(wider, student_p(wider, alike.df), alike)


def probability_difference(
    fails_a: npt.ArrayLike, fails_b: npt.ArrayLike, *, level: float = 0.95
) -> Estimate:
    """P(a fails) - P(b fails) over the same channels, Tango's score interval.

        d = (n10 - n01) / n,  limits: |z(D)| = z_level with
        z(D) = (n10 - n01 - n D) / sqrt(n (2 q + D (1 - D))),
        q = (sqrt(B^2 - 8 n C) - B) / (4 n),  B = (2n - n10 + n01) D - n10 - n01,
        C = -n01 D (1 - D)

    n10 channels fail under a alone, n01 under b alone. It holds its level with few failures, and
    without any is no point.

    Source: Tango 1998, Statistics in Medicine 17:891,
        10.1002/(SICI)1097-0258(19980430)17:8<891::AID-SIM780>3.0.CO;2-B.
    """
    check_level(level)
    only_a, only_b, n = _discordant(fails_a, fails_b)
    d = (only_a - only_b) / n
    z = float(special.ndtri(1 - (1 - level) / 2))

    def score(delta: float) -> float:
        b = (2 * n - only_a + only_b) * delta - only_a - only_b
        c = -only_b * delta * (1 - delta)
        q = (math.sqrt(max(b * b - 8 * n * c, 0.0)) - b) / (4 * n)
        spread = math.sqrt(max(n * (2 * q + delta * (1 - delta)), 1e-300))
        return (only_a - only_b - n * delta) / spread

    lo = _crossing(lambda delta: score(delta) > z, -1.0, d)
    hi = _crossing(lambda delta: score(delta) > -z, d, 1.0)
    se = math.sqrt(max(only_a + only_b - n * d * d, 0.0)) / n
    return Estimate(
        value=d, std_error=se or None, interval=(min(lo, d), max(hi, d)), level=level, n=n,
        ess=float(n), method="difference of paired proportions, score interval",
    )  # fmt: skip


def mcnemar_p(fails_a: npt.ArrayLike, fails_b: npt.ArrayLike) -> float:
    """Two-sided p-value of equal failure probabilities: n10 ~ Binomial(n10 + n01, 1/2), exact.

    1 where no channel tells the two apart.

    Source: McNemar 1947, Psychometrika 12:153, 10.1007/BF02295996, with exact tails.
    """
    only_a, only_b, _ = _discordant(fails_a, fails_b)
    return min(1.0, 2 * float(special.bdtr(min(only_a, only_b), only_a + only_b, 0.5)))


def _discordant(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[int, int, int]:
    x, y = np.asarray(a, dtype=bool), np.asarray(b, dtype=bool)
    if x.ndim != 1 or x.shape != y.shape or not len(x):
        raise ValueError(f"a and b must be of the same channels; got {x.shape} and {y.shape}.")
    return int((x & ~y).sum()), int((y & ~x).sum()), len(x)


def _crossing(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Where a statement that holds at `low` alone of the two ends stops holding, by bisection."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return (low + high) / 2


def _pair(a: npt.ArrayLike, b: npt.ArrayLike) -> tuple[Array, Array]:
    x, y = finite_vector("a", a), finite_vector("b", b)
    if x.shape != y.shape:
        raise ValueError(f"a and b must be of the same channels; got {len(x)} and {len(y)}.")
    return x, y


def _check_prob(prob: float) -> None:
    if not 0 < prob < 1:
        raise ValueError(f"prob must lie in (0, 1); got {prob}. Is this a percentage?")


def _to_db(x: Array) -> Array:
    return DECIBELS * np.log(np.maximum(x, 1e-30))
