"""What an audit holds beyond its base samples: decisions, rare tails, guided samples, other chains.

Made by csi_audit.deepening, put into words of a result by csi_audit.tail_summary.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from csi_audit.islands import IslandSamples
from csi_audit.tail import ReplicatedTail
from reports.schema import Threshold
from reports.tail_schema import Decision

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GuidedRun:
    """Guided samples of one compressor.

    Attributes:
        samples: With absolute weights, at unit power, compared with E_p[l] of plain draws.
        nmse: Of each, (N,).
        steps: Of the chain.
        r2: Share of the variance of l that the twist explains, by noise level.
    """

    samples: IslandSamples
    nmse: Array
    steps: int
    r2: Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class ChainDraws:
    """Plain draws of a chain that is not the audited one.

    Attributes:
        kind: "guided chain", or "doubled steps" from the same noise as the base samples.
        chain: In words.
        nmse: By compressor, (N,).
        n_evaluations: Spent.
    """

    kind: Literal["guided chain", "doubled steps"]
    chain: str
    nmse: Mapping[str, Array]
    n_evaluations: int


@dataclass(frozen=True, kw_only=True)
class Deeper:
    """All of it; mappings are by compressor, and hold those for which something was done.

    Attributes:
        curves: Whether tail curves are shown.
        levels: NMSE of each threshold, by its label.
        decisions: The first is of E_q[NMSE], then one for each threshold.
        tails: Runs of subset simulation.
        doubled_tails: The same with twice the steps.
        guided: Guided samples.
        chains: Draws of other chains.
        spent: Denoiser evaluations by step of the audit.
    """

    curves: bool = False
    levels: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    decisions: Mapping[str, tuple[Decision, ...]] = field(default_factory=dict)
    tails: Mapping[str, ReplicatedTail] = field(default_factory=dict)
    doubled_tails: Mapping[str, ReplicatedTail] = field(default_factory=dict)
    guided: Mapping[str, GuidedRun] = field(default_factory=dict)
    chains: Sequence[ChainDraws] = ()
    spent: Mapping[str, int] = field(default_factory=dict)


def threshold_levels(
    tau: Sequence[Threshold], nmse_real: Array, tau_quantile: float
) -> dict[str, float]:
    """Linear NMSE of every threshold for one compressor, by label.

    Args:
        tau: Thresholds; one without a level is the quantile of the compressor's own NMSE.
        nmse_real: On the real channels, (N,).
        tau_quantile: That quantile.
    """
    own = float(np.quantile(nmse_real, tau_quantile))
    return {t.label: own if t.nmse_db is None else 10 ** (t.nmse_db / 10) for t in tau}
