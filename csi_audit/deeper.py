"""What an audit holds beyond its base samples: decisions, rare tails, guided samples, other chains.

Made by csi_audit.deepening, put into words of a result by csi_audit.tail_summary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from csi_audit.islands import IslandSamples
from csi_audit.samples import WeightedSamples
from csi_audit.tail import ReplicatedTail
from reports.schema import Threshold
from reports.tail_schema import Decision

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GuidedRun:
    """Guided samples of one loss.

    Attributes:
        samples: With absolute weights, on the audited law, compared with E_p[l] of plain draws.
        weights: Importance weight l of each, (N,).
        steps: Of the chain.
        r2: Share of the variance of l that the twist explains, by noise level.
    """

    samples: IslandSamples
    weights: Array
    steps: int
    r2: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ChainDraws:
    """Plain draws of a chain that is not the audited one.

    Attributes:
        kind: "guided chain", or "doubled steps" from the same noise as the base samples.
        chain: In words.
        values: Of each loss, (N,).
        n_evaluations: Spent.
        weights: Importance weight l of each, (N,), for losses that are not their own.
    """

    kind: Literal["guided chain", "doubled steps"]
    chain: str
    values: Mapping[str, Array]
    n_evaluations: int
    weights: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class FailureSample:
    """Samples of p(x | L > tau) that subset simulation handed back.

    Attributes:
        samples: Weighted; the weights of a run add up to its P(L > tau).
        run: That each came from, (N,): particles of a run share ancestors, runs share nothing.
    """

    samples: WeightedSamples
    run: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        if self.run.shape != (len(self.samples),):
            raise ValueError(f"run must be ({len(self.samples)},); got {self.run.shape}.")

    def __len__(self) -> int:
        return len(self.samples)

    @property
    def effective_runs(self) -> float:
        """(sum P_r)^2 / sum P_r^2 over the runs; 0 without samples."""
        if not len(self):
            return 0.0
        p = np.bincount(self.run, weights=np.exp(self.samples.log_w.numpy()))
        return float(p.sum() ** 2 / np.square(p).sum())


@dataclass(frozen=True, kw_only=True)
class Deeper:
    """All of it; mappings are by compressor or loss, and hold those for which something was done.

    Attributes:
        curves: Whether tail curves are shown.
        levels: Loss at each threshold, by its label.
        decisions: The first is of E_q[l], then one for each threshold.
        tails: Runs of subset simulation.
        failures: Samples beyond the rarest threshold that these found.
        doubled_tails: The same runs with twice the steps.
        guided: Guided samples.
        chains: Draws of other chains.
        spent: Denoiser evaluations by step of the audit.
    """

    curves: bool = False
    levels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    decisions: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)
    tails: Mapping[str, ReplicatedTail] = field(default_factory=dict)
    failures: Mapping[str, FailureSample] = field(default_factory=dict)
    doubled_tails: Mapping[str, ReplicatedTail] = field(default_factory=dict)
    guided: Mapping[str, GuidedRun] = field(default_factory=dict)
    chains: Sequence[ChainDraws] = ()
    spent: Mapping[str, int] = field(default_factory=dict)


def threshold_levels(
    tau: Sequence[Threshold], real: Array, tau_quantile: float
) -> dict[str, float]:
    """The loss at every threshold of one compressor (linear NMSE) or other loss, by label.

    Args:
        tau: Thresholds; one without a level is the quantile of the loss itself.
        real: The loss on the real side, (N,).
        tau_quantile: That quantile.
    """
    own = float(np.quantile(real, tau_quantile))
    return {t.label: _level(t, own) for t in tau}


def _level(tau: Threshold, own: float) -> float:
    if tau.level is not None:
        return tau.level
    return own if tau.nmse_db is None else 10 ** (tau.nmse_db / 10)
