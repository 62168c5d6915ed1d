"""Means and proportions from weighted samples: self-normalised importance sampling.

Log weights in, an Estimate out, with the effective sample size and a status that says when the
weights are too uneven to be trusted. What the weights mean is the engine's business.
"""

import math

import numpy as np
import numpy.typing as npt

from reports.estimates import (
    Array,
    Estimate,
    check_level,
    clopper_pearson,
    finite_vector,
    student,
)

CV2_LIMIT = 2.0
"""Squared coefficient of variation of the weights above which reweighting is not trusted."""


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


def weighted_mean(
    values: npt.ArrayLike,
    log_w: npt.ArrayLike,
    *,
    level: float = 0.95,
    method: str = "self-normalised importance sampling",
) -> Estimate:
    """Self-normalised importance-sampling mean with its delta-method standard error.

        m = sum_i W_i f_i,  W_i = w_i / sum_j w_j,  SE^2 = n/(n-1) sum_i W_i^2 (f_i - m)^2

    Interval m -+ t_{ESS-1} SE. The status warns when CV^2(w) = n/ESS - 1 exceeds `CV2_LIMIT`.

    Args:
        values: f_i, [n].
        log_w: log target - log proposal up to a constant, [n]; -inf is legal.
    Raises:
        ValueError: shapes differ, a value is not finite, a log weight is NaN or +inf.
    Source: Owen, Monte Carlo theory, methods and examples, 2013, section 9.2.
    """
    check_level(level)
    f = finite_vector("values", values)
    w = normalised_weights(log_w)
    if f.shape != w.shape:
        raise ValueError(f"values and log_w must have one length; got {len(f)} and {len(w)}.")
    n = len(f)
    ess = float(1.0 / np.square(w).sum())
    m = float(np.clip(w @ f, f.min(), f.max()))
    se = math.sqrt(float(np.square(w * (f - m)).sum()) * n / max(n - 1, 1))
    usable = se > 0
    return Estimate(
        value=m,
        std_error=se if usable else None,
        interval=student(m, se, max(ess - 1, 1.0), level) if usable else None,
        level=level, n=n, ess=ess, method=method,
        status=_weight_status(n / ess - 1) if usable else "no spread among the weighted values",
    )  # fmt: skip


def weighted_proportion(
    hits: npt.ArrayLike,
    log_w: npt.ArrayLike,
    *,
    level: float = 0.95,
    method: str = "self-normalised importance sampling",
) -> Estimate:
    """Probability of an event under the law that the weights point to.

    Clopper-Pearson limits at the effective counts n' = p(1-p)/SE^2 and k' = p n', with the
    delta-method SE of `weighted_mean`; at p = 0 or 1, n' is the effective sample size.

    Args:
        hits: Whether each sample is an event, bool [n].
        log_w: Log weights [n]; -inf is legal.
    Source: Korn and Graubard 1998, Survey Methodology 24:193.
    """
    mean = weighted_mean(np.asarray(hits, dtype=bool).astype(np.float64), log_w, level=level)
    p, n = mean.value, mean.n
    assert mean.ess is not None  # weighted_mean always sets it
    inside = mean.std_error is not None and 0 < p < 1
    n_eff = (
        min(p * (1 - p) / mean.std_error**2, float(n)) if inside and mean.std_error else mean.ess
    )
    status = _weight_status(n / mean.ess - 1)
    if status == "ok" and not inside:
        status = "none seen: upper bound only" if p == 0 else "all: lower bound only"
    return Estimate(
        value=p, std_error=mean.std_error if inside else None,
        interval=clopper_pearson(p * n_eff, n_eff, level),
        level=level, n=n, ess=mean.ess, status=status, method=method,
    )  # fmt: skip


def tilted_mean(
    weight: npt.ArrayLike, *, level: float = 0.95, method: str = "reweighted base samples"
) -> Estimate:
    """Mean of the weight l under q = l p / Z, from samples of p alone.

        E_q[l] = E_p[l^2] / E_p[l] = E_p[l] (1 + CV_p(l)^2),   ESS/n = 1 / (1 + CV^2)

    Equals `weighted_mean(l, log l)`. The status warns when CV^2(l) > `CV2_LIMIT`: near CV 2.5 the
    effective sample size overstates itself and the interval no longer covers.

    Args:
        weight: l(x_i) >= 0 of independent base samples, any unit, [n].
    Raises:
        ValueError: some l is negative or not finite, or all are 0.
    """
    x = finite_vector("weight", weight)
    if (x < 0).any():
        raise ValueError(f"weight must be >= 0; got {x.min()}. Is this a loss in dB?")
    with np.errstate(divide="ignore"):
        log_l = np.log(x)
    return weighted_mean(x, log_l, level=level, method=method)


def _weight_status(cv2: float) -> str:
    if cv2 <= CV2_LIMIT:
        return "ok"
    return f"weights too uneven (CV^2 = {cv2:.1f}, limit {CV2_LIMIT:g}): interval may be too short"
