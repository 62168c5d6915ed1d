"""How often base samples lie in the tail of the real channels, over how often those do.

A ratio of tail probabilities at a quantile of the real channels, its interval over drops, what a
perfect model would show at these sizes, and the rule that says pass, off or cannot tell.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from reports.estimates import Estimate, check_level, design_effect, finite_vector
from reports.fidelity_items import TailRatio

SHARES = (0.10, 0.05, 0.01, 0.001)
"""Shares of the real channels whose threshold is looked at."""
LEAST_EFFECT = 0.5
"""Smallest design effect believed: with few events a drop, an even spread is chance."""


@dataclass(frozen=True, kw_only=True)
class TailRule:
    """When a tail ratio passes.

    Attributes:
        low: A ratio surely below is off.
        high: A ratio surely above is off.
        factor: An interval whose ends lie further apart than this factor decides nothing.
    """

    low: float
    high: float
    factor: float

    def verdict(self, interval: tuple[float, float] | None) -> str:
        """ "pass", "off" or "cannot tell".

        "off" when the interval leaves out [low, high]; otherwise "pass" when it is narrower than
        `factor`.
        """
        if interval is None:
            return "cannot tell"
        lo, hi = interval
        if hi < self.low or lo > self.high:
            return "off"
        return "pass" if hi < self.factor * lo else "cannot tell"


_COMMON = TailRule(low=0.8, high=1.25, factor=1.6)
_RARE = TailRule(low=0.5, high=2.0, factor=3.0)


def tail_rule(share: float) -> TailRule:
    """The rule at a share of the real channels: a looser one for what is rarer than 1 %."""
    return _COMMON if share >= 0.01 else _RARE


def tail_ratio(
    name: str,
    base: npt.ArrayLike,
    real: npt.ArrayLike,
    *,
    share: float,
    drops: npt.ArrayLike | None = None,
    label: str = "",
    rule: TailRule | None = None,
) -> TailRatio:
    """P_base(L >= tau) / P_real(L >= tau) at the threshold that `share` of the real channels reach.

        tau = k-th largest real value,  k = round(share n),   ratio = (k_base / n_base) / (k / n)

    For equal continuous laws its mean is n / (n + 1), and n_base times P_base is beta-binomial.

    Args:
        name: What L belongs to, such as a compressor.
        base: L on base samples [n_base], higher is worse.
        real: L on real channels [n].
        share: Share of the real channels at or beyond the threshold, in (0, 1).
        drops: Drop of each real channel [n], which alone are independent; None counts channels.
        label: What a reader calls it; by default `name`.
        rule: When it passes; by default `tail_rule(share)`.
    Returns:
        The ratio; without a value where not one real channel makes up the share.
    Raises:
        ValueError: the share is no share, or values are not finite.
    """
    if not 0 < share < 1:
        raise ValueError(f"share must lie in (0, 1); got {share}. The worst 1 % is 0.01.")
    x, y = finite_vector("base", base), finite_vector("real", real)
    kept = tail_rule(share) if rule is None else rule
    k = round(share * len(y))
    found = TailRatio(
        name=name, label=label or name, share=share, tau=None, n_base=len(x), n_real=len(y),
        base_beyond=0, real_beyond=k, ratio=None, perfect=None, design_effect=None,
        limits=(kept.low, kept.high), factor=kept.factor, verdict="cannot tell",
    )  # fmt: skip
    if k < 1:
        return found
    tau = float(np.sort(y)[len(y) - k])
    beyond = y >= tau
    counts = int((x >= tau).sum()), int(beyond.sum())  # more than k where values are equal
    effect, df = _spread_over_drops(beyond, drops)
    ratio = rate_ratio(*counts, len(x), len(y), effect=effect, df=df)
    return replace(
        found, tau=tau, base_beyond=counts[0], real_beyond=counts[1], ratio=ratio,
        perfect=perfect_ratios(counts[1], len(x), len(y)), design_effect=effect,
        verdict=kept.verdict(ratio.interval),
    )  # fmt: skip


def rate_ratio(
    k_base: int,
    k_real: int,
    n_base: int,
    n_real: int,
    *,
    effect: float | None = None,
    df: float = math.inf,
    level: float = 0.95,
) -> Estimate:
    """Ratio of two small probabilities from two counts, the real one clustered in drops.

        k_base | k_base + m ~ Binomial(pi),   m = k_real / deff
        pi = n_base r / (n_base r + n_real / deff),   r the ratio

    Jeffreys limits of pi give those of r; counts are scaled by (z / t)^2 for the freedom that the
    drops leave, Welch's for log r. With k_base = 0 the lower limit is 0.

    Args:
        k_base, k_real: Counts at or beyond the threshold, k_real at least 1.
        n_base, n_real: Out of how many.
        effect: Design effect deff of the drops; None counts channels as independent.
        df: Degrees of freedom behind `effect`, drops less one.
        level: Of the interval.
    Source: Przyborowski and Wilenski 1940, Biometrika 31:313 (conditioning); Brown, Cai and
        DasGupta 2001, Statist. Sci. 16:101 (Jeffreys limits); Korn and Graubard 1998, Survey
        Methodology 24:193 (effective counts).
    """
    check_level(level)
    if k_real < 1 or not 0 <= k_base <= n_base:
        raise ValueError(
            f"k_real must be at least 1 and k_base in [0, {n_base}]; got {k_real}, {k_base}."
        )
    deff = 1.0 if effect is None else max(effect, LEAST_EFFECT)
    m, half = k_real / deff, (1 - level) / 2
    parts = np.array([1 / m, 1 / max(k_base, 0.5)])  # variance of log r
    freedom = float(parts.sum() ** 2 / (parts[0] ** 2 / df)) if math.isfinite(df) else math.inf
    z = float(special.ndtri(1 - half))
    t = z if math.isinf(freedom) else float(special.stdtrit(freedom, 1 - half))
    a, b = ((z / t) ** 2 * count + 0.5 for count in (k_base, m))
    scale = n_real / deff / n_base
    ends = (float(special.betaincinv(a, b, p)) for p in (half, 1 - half))
    lo, hi = (scale * p / (1 - p) for p in ends)
    value = (k_base / n_base) / (k_real / n_real)
    return Estimate(
        value=value, interval=(min(lo, value) if k_base else 0.0, max(hi, value)), level=level,
        n=n_base, ess=float(n_base), method="ratio of counts, conditional",
        status="ok" if k_base else "none seen: upper bound only",
    )  # fmt: skip


def perfect_ratios(k: int, n_base: int, n_real: int, *, level: float = 0.95) -> tuple[float, float]:
    """Range in which the ratio of a perfect model falls with probability `level`.

    P(L >= tau) ~ Beta(k, n - k + 1),   so k_base ~ BetaBinomial(n_base, k, n - k + 1)
    """
    check_level(level)
    i, a, b = np.arange(n_base + 1), k, n_real - k + 1
    chosen = special.gammaln(n_base + 1) - special.gammaln(i + 1) - special.gammaln(n_base - i + 1)
    mass = np.exp(chosen + special.betaln(i + a, n_base - i + b) - special.betaln(a, b))
    ends = np.searchsorted(np.cumsum(mass), [(1 - level) / 2, (1 + level) / 2])
    lo, hi = (ends * n_real / (k * n_base)).tolist()
    return lo, hi


def _spread_over_drops(
    beyond: npt.NDArray[np.bool_], drops: npt.ArrayLike | None
) -> tuple[float | None, float]:
    """Design effect of an event and the freedom behind it; (None, inf) where it is unknown."""
    if drops is None:
        return None, math.inf
    effect = design_effect(beyond.astype(np.float64), drops)
    return effect, math.inf if effect is None else len(np.unique(np.asarray(drops))) - 1.0
