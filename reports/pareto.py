"""How heavy a tail is: the shape k of a generalised Pareto law fitted to the largest values.

Moments of order 1/k and above do not exist: a mean needs k < 1, its variance k < 1/2. An effective
sample size cannot tell, since it is computed from the weights that were seen. Numbers in, numbers
and words out.
"""

import math

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]

K_HOPELESS = 0.7
"""Shape above which no practical number of samples makes a mean reliable."""

K_INTERVAL = 0.5
"""Shape above which the variance is infinite, so that intervals built on it are too short."""

MIN_TAIL = 5
"""Values a tail must hold for a fit."""


def tail_shape(values: Array) -> float | None:
    """Shape k of the upper tail; negative where it is bounded, 0 where it falls exponentially.

        tail: the M values above the (M+1)-th largest, M = min(n / 5, 3 sqrt(n))
        k = (M k_ZS + 5) / (M + 10)

    k_ZS is the estimate of Zhang and Stephens; ten prior values of k = 1/2 steady a short tail.

    Args:
        values: [n], finite, on any scale: only differences from the cutoff count.
    Returns:
        k; -inf where the largest values are equal; None where fewer than `MIN_TAIL` of them stand
        out.
    Source: Vehtari, Simpson, Gelman, Yao, Gabry, 2024, JMLR 25(72), arXiv:1507.02646.
    """
    m = math.ceil(min(len(values) / 5, 3 * math.sqrt(len(values))))
    kept = min(m + 1, len(values))
    largest = np.sort(np.partition(values, len(values) - kept)[-kept:])
    cutoff, top = float(largest[0]), float(largest[-1])
    if top - cutoff <= 1e-9 * max(abs(top), abs(cutoff)):  # rounding, no tail
        return -math.inf
    tail = (largest[largest > cutoff] - cutoff) / (top - cutoff)
    if len(tail) < MIN_TAIL:
        return None
    return (len(tail) * pareto_fit(tail) + 5) / (len(tail) + 10)


def pareto_fit(tail: Array) -> float:
    """Shape k of a generalised Pareto law 1 - (1 + k x / s)^(-1/k) from draws above 0.

        b_j = 1/x_max + (1 - sqrt(m / (j - 1/2))) / (3 x_quartile),   j = 1..m,  m = 30 + sqrt(M)
        k(b) = mean log(1 - b x),   l(b) = M [log(-b / k(b)) - k(b) - 1]
        k = k(sum_j b_j exp(l_j) / sum_j exp(l_j))

    Args:
        tail: Ascending, above 0, [M].
    Source: Zhang and Stephens 2009, Technometrics 51:316, 10.1198/tech.2009.08017, whose k has the
        other sign; m as in Vehtari et al., 2024.
    """
    size = len(tail)
    quartile = max(tail[int(size / 4 + 0.5) - 1], 1e-100 * tail[-1])  # its inverse is finite
    m = 30 + math.isqrt(size)
    j = np.arange(1, m + 1)
    b = 1 / tail[-1] + (1 - np.sqrt(m / (j - 0.5))) / (3 * quartile)
    b = b[np.abs(b) > 1e-12 / tail[-1]]  # at 0 the law is exponential and l a 0/0
    k = np.log1p(-np.outer(b, tail)).mean(1)
    log_l = size * (np.log(-b / k) - k - 1)
    share = np.exp(log_l - log_l.max())
    return float(np.log1p(-(share @ b / share.sum()) * tail).mean())


def k_limit(n: int) -> float:
    """Largest shape at which a mean of n smoothed weights is reliable, min(1 - 1/log10 n, 0.7).

    Source: Vehtari et al., 2024, arXiv:1507.02646, equation 13.
    """
    return min(1 - 1 / math.log10(n), K_HOPELESS) if n > 10 else 0.0


def interval_limit(n: int) -> float:
    """Largest shape at which an interval from the variance is trusted: `k_limit`, and 1/2."""
    return min(k_limit(n), K_INTERVAL)


def uneven_status(
    what: str, n: int, shapes: dict[str, float | None], *, remedy: str, besides: str = ""
) -> str:
    """What the tails say of an estimate, in words; "ok" where they say nothing against it.

    Args:
        what: What is averaged: "weights", "values".
        n: Samples.
        shapes: k by name of what it belongs to; None is a tail that cannot be judged.
        remedy: What to do where no number of samples helps.
        besides: What else speaks against the estimate.
    """
    limit = interval_limit(n)
    heavy = {name: k for name, k in shapes.items() if k is not None and k > limit}
    said = [besides] if besides else []
    said += [f"Pareto k-hat{name} {k:.2f}, limit {limit:.2f}" for name, k in heavy.items()]
    outcome = "interval may be too short"
    if max(heavy.values(), default=0.0) > K_HOPELESS:
        outcome = f"rely on neither value nor interval, {remedy}"
    elif heavy:
        outcome += ", draw more samples"
    found = [f"{what} too uneven ({'; '.join(said)}): {outcome}"] if said else []
    if None in shapes.values():
        found.append(f"tail of the {what} unknown: fewer than {MIN_TAIL} of {n} stand out")
    return combined_status(*found)


def combined_status(*found: str) -> str:
    """Several statuses as one: "ok", or all that are not, each once."""
    return "; ".join(dict.fromkeys(part for part in found if part not in ("", "ok"))) or "ok"
