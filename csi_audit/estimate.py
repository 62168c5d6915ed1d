"""Estimates from weighted samples: E_p[L], E_q[L], P(L > tau), quantiles and the worst share.

All interval arithmetic is reports'; this module chooses it by the samples' law. Each estimate
comes with an interval and a status that is "ok" or says in words what speaks against it.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from csi_audit.islands import (
    IslandSamples,
    island_cvar,
    island_exceedance,
    island_expectation,
    island_quantile,
)
from csi_audit.samples import WeightedSamples
from reports.estimates import Estimate, mean_estimate, proportion, quantile_estimate
from reports.reweighting import tilted_mean, weighted_mean, weighted_proportion
from reports.tail_estimates import (
    Side,
    cvar_estimate,
    weighted_cvar_estimate,
    weighted_quantile_estimate,
)

Array = npt.NDArray[np.float64]


def expectation(samples: WeightedSamples, values: Array) -> Estimate:
    """Mean of `values` (N,) under the law of the samples.

    Student's interval for equal weights, over islands where there are any, self-normalised
    importance sampling otherwise.
    """
    if isinstance(samples, IslandSamples):
        return island_expectation(samples, values)
    log_w = samples.log_w.numpy()
    if _equal(log_w):
        return _named(samples, mean_estimate(values))
    return _named(samples, weighted_mean(values, log_w))


def weighted_expectation(samples: WeightedSamples, weight: Array) -> Estimate:
    """E_q[l] of a weight l (N,) from samples of p: E_p[l^2] / E_p[l].

    Raises:
        ValueError: the samples are not equally weighted draws of the base law.
    """
    if samples.law != "base" or not _equal(samples.log_w.numpy()):
        raise ValueError("samples must be equally weighted draws of the base law.")
    return _named(samples, tilted_mean(weight), ", reweighted")


def exceedance(samples: WeightedSamples, values: Array, tau: float) -> Estimate:
    """P(L > tau) under the law of the samples; L is `values` (N,)."""
    if isinstance(samples, IslandSamples):
        return island_exceedance(samples, values, tau)
    log_w, failed = samples.log_w.numpy(), values > tau
    if _equal(log_w):
        return _named(samples, proportion(int(failed.sum()), len(failed)), ", counted")
    return _named(samples, weighted_proportion(failed, log_w))


def quantile(samples: WeightedSamples, values: Array, prob: float) -> Estimate:
    """Quantile of `values` (N,) under the law of the samples; prob 0.99 exceeds all but 1 %."""
    if isinstance(samples, IslandSamples):
        return island_quantile(samples, values, prob)
    log_w = samples.log_w.numpy()
    if _equal(log_w):
        return _named(samples, quantile_estimate(values, prob), ", order statistics")
    return _named(samples, weighted_quantile_estimate(values, log_w, prob))


def cvar(samples: WeightedSamples, values: Array, prob: float, *, worse: Side = "high") -> Estimate:
    """Mean of the worst share 1 - prob of `values` (N,) under the law of the samples.

    With prob 0.99 and worse "low" that is the mean of the lowest 1 %, as for SGCS.
    """
    if isinstance(samples, IslandSamples):
        return island_cvar(samples, values, prob, worse=worse)
    log_w, share = samples.log_w.numpy(), f", worst {100 * (1 - prob):.3g} %"
    if _equal(log_w):
        return _named(samples, cvar_estimate(values, prob, worse=worse), share)
    return _named(samples, weighted_cvar_estimate(values, log_w, prob, worse=worse), share)


def _named(samples: WeightedSamples, found: Estimate, how: str = "") -> Estimate:
    """The estimate with the chain's name and what the samples cost."""
    return replace(found, method=samples.chain + how, n_evaluations=samples.n_evaluations)


def _equal(log_w: Array) -> bool:
    return bool(np.isfinite(log_w[0]) and (log_w == log_w[0]).all())
