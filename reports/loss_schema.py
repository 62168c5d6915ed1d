"""What a result says of one loss: thresholds, tails, means, what the worst samples have in common.

Rows of compressors (schema.py) and of a network's losses (network_schema.py) are made of these.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from reports.estimates import Estimate
from reports.tail_schema import ChainFigures, Decision, GuidedEntry, LossTail


@dataclass(frozen=True, kw_only=True)
class Threshold:
    """A failure threshold: failure is NMSE > tau, or L > tau of another loss.

    `nmse_db` is None where every compressor has its own (a quantile of its own distortion), and of
    other losses, whose `level` is in their own unit; both are None for such a quantile. The value
    used is in each `Tail`.
    """

    label: str
    nmse_db: float | None
    origin: str
    level: float | None = None


@dataclass(frozen=True, kw_only=True)
class Tail:
    """P(L > tau) of one compressor or loss at one threshold, under the base law and on real data.

    The threshold is `nmse_db` of a compressor, `level` in its own unit of another loss; the other
    is None. `base` is the best figure there is; where it was not counted on the base samples,
    `counted` was.
    """

    threshold: str
    nmse_db: float | None
    base: Estimate | None
    real: Estimate | None
    agreement: str
    counted: Estimate | None = None
    level: float | None = None

    @property
    def tau_db(self) -> float:
        """The threshold of a compressor's NMSE [dB].

        Raises:
            ValueError: this is the tail of another loss.
        """
        if self.nmse_db is None:
            raise ValueError(f"{self.threshold} is no threshold of an NMSE; see level.")
        return self.nmse_db


@dataclass(frozen=True, kw_only=True)
class LossSummary:
    """Mean of one loss; `unit` "1" for linear NMSE and SGCS."""

    unit: str
    worse: Literal["high", "low"]
    base: Estimate | None
    real: Estimate | None


@dataclass(frozen=True, kw_only=True)
class IssgmEntry:
    """The paper's guided sampler: the live run and the benchmark's full figures, if they apply.

    `e_q.method` names the chain with its finite-difference step. `full` holds {"e_q": Estimate as
    a dict, "steps", "samples"} from the benchmark file, or None with the reason in `note`.
    """

    label: str
    e_q: Estimate
    steps: int
    n: int
    full: Mapping[str, Any] | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class ImportanceEstimates:
    """E_p[L], E_q[L] and the tails of one compressor; L is the loss named by `loss`."""

    loss: str
    weight: str
    e_p: Estimate | None
    e_q: Estimate | None
    tails: tuple[Tail, ...] = ()
    issgm: IssgmEntry | None = None
    curve: LossTail | None = None
    guided: GuidedEntry | None = None
    chains: tuple[ChainFigures, ...] = ()
    decisions: tuple[Decision, ...] = ()


@dataclass(frozen=True, kw_only=True)
class WorstFeature:
    """How one physical feature differs in the worst channels of one compressor.

    `rank` is the chance that a worst channel has a larger value than a channel drawn at random,
    0.5 = no difference; `shift` its distance from 0.5 in standard errors of pure chance. Medians
    are in `unit`, "" for a pure number.
    """

    feature: str
    label: str
    unit: str
    source: Literal["base", "real"]
    share: float
    n_worst: int
    median_all: float
    median_worst: float
    rank: float
    shift: float
