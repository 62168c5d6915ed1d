"""Means and tails of one loss as a result holds them, for compressors and for networks.

Bookkeeping, like csi_audit.summary; who found the figures is csi_audit.deeper's to say.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from compressors.metrics import nmse_db
from csi_audit.deeper import Deeper
from csi_audit.estimate import exceedance, expectation, weighted_expectation
from csi_audit.samples import WeightedSamples
from csi_audit.tail_summary import (
    MEAN,
    chain_figures,
    guided_entry,
    in_decibel,
    loss_tail,
    rare_agreement,
    rare_estimate,
    step_status,
)
from reports.estimates import Estimate, agree, proportion
from reports.schema import ImportanceEstimates, IssgmEntry, Tail, Threshold

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class LossOnBothSides:
    """One loss on base samples and on the real side.

    Attributes:
        name: In the mappings of what was found.
        loss: L in words, such as "NMSE".
        weight: l in words.
        samples: Base samples.
        base: L of each, (N,).
        real: L of the real side, (M,).
        weights: l of each base sample, (N,); None where it is L.
        is_nmse: Whether L is a linear NMSE, shown in dB.
        whose: The real side in words.
    """

    name: str
    loss: str
    weight: str
    samples: WeightedSamples
    base: Array
    real: Array
    weights: Array | None = None
    is_nmse: bool = True
    whose: str = "real channels"


def importance_estimates(
    found: LossOnBothSides,
    deeper: Deeper,
    tau: Sequence[Threshold],
    levels: Mapping[str, float],
    *,
    issgm: IssgmEntry | None = None,
) -> ImportanceEstimates:
    """E_p[L], E_q[l] and tails of one loss, by whichever method was decided on."""
    samples, base = found.samples, found.base
    tails = tuple(_tail(t, levels[t.label], found, deeper) for t in tau)
    e_p = expectation(samples, base)
    known = {tail.threshold: tail.base for tail in tails if tail.base is not None}
    chains = chain_figures(deeper, found.name, base=base, chain=samples.chain, e_p=e_p, tails=known)
    return ImportanceEstimates(
        loss=found.loss,
        weight=found.weight,
        e_p=step_status(e_p, MEAN, chains),
        e_q=weighted_expectation(samples, base if found.weights is None else found.weights),
        tails=tuple(
            replace(t, base=t.base and step_status(t.base, t.threshold, chains)) for t in tails
        ),
        issgm=issgm,
        curve=loss_tail(
            deeper,
            found.name,
            base=base,
            real=found.real,
            chain=samples.chain,
            n_evaluations=samples.n_evaluations,
            whose=found.whose,
            shown=in_decibel if found.is_nmse else _as_it_is,
        ),
        guided=guided_entry(deeper, found.name),
        chains=chains,
        decisions=deeper.decisions.get(found.name, ()),
    )


def _tail(threshold: Threshold, level: float, found: LossOnBothSides, deeper: Deeper) -> Tail:
    beyond = found.real > level
    counted = exceedance(found.samples, found.base, level)
    rare = rare_estimate(deeper, found.name, threshold.label)
    on_base = counted if rare is None else rare
    on_real = proportion(int(beyond.sum()), len(beyond), method=f"{found.whose}, counted")
    return Tail(
        threshold=threshold.label,
        nmse_db=float(nmse_db(torch.tensor(level, dtype=torch.float64))) if found.is_nmse else None,
        base=on_base,
        real=on_real,
        agreement=rare_agreement(rare, on_real) if rare else agree(counted, on_real),
        counted=None if rare is None else counted,
        level=None if found.is_nmse else level,
    )


def _as_it_is(estimate: Estimate) -> Estimate:
    """A loss in its own unit; like a level in dB it has no standard error."""
    return replace(estimate, std_error=None)
