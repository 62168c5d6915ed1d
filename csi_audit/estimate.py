"""Estimates from weighted samples: E_p[L], E_q[L] and P(L > tau), with intervals.

All interval arithmetic is reports.estimates'; this module chooses it by the samples' law.
"""

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from csi_audit.islands import IslandSamples, island_expectation
from csi_audit.samples import WeightedSamples
from reports.estimates import Estimate, mean_estimate, proportion
from reports.reweighting import tilted_mean, weighted_mean, weighted_proportion

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
        found = mean_estimate(values, method=samples.chain)
    else:
        found = weighted_mean(values, log_w, method=samples.chain)
    return replace(found, n_evaluations=samples.n_evaluations)


def weighted_expectation(samples: WeightedSamples, weight: Array) -> Estimate:
    """E_q[l] of a weight l (N,) from samples of p: E_p[l^2] / E_p[l].

    Raises:
        ValueError: the samples are not equally weighted draws of the base law.
    """
    if samples.law != "base" or not _equal(samples.log_w.numpy()):
        raise ValueError("samples must be equally weighted draws of the base law.")
    found = tilted_mean(weight, method=f"{samples.chain}, reweighted")
    return replace(found, n_evaluations=samples.n_evaluations)


def exceedance(samples: WeightedSamples, values: Array, tau: float) -> Estimate:
    """P(L > tau) under the law of the samples; L is `values` (N,)."""
    log_w = samples.log_w.numpy()
    failed = values > tau
    if isinstance(samples, IslandSamples):
        return island_expectation(samples, failed.astype(np.float64))
    if _equal(log_w):
        found = proportion(int(failed.sum()), len(failed), method=f"{samples.chain}, counted")
    else:
        found = weighted_proportion(failed, log_w, method=samples.chain)
    return replace(found, n_evaluations=samples.n_evaluations)


def _equal(log_w: Array) -> bool:
    return bool(np.isfinite(log_w[0]) and (log_w == log_w[0]).all())
