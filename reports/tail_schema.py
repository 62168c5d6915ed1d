"""What a result says of tails, of guided means and of how each figure's method was chosen.

Parts of `reports.schema.ImportanceEstimates`; sentences for the keys are in tail_keys.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from reports.estimates import Estimate


@dataclass(frozen=True, kw_only=True)
class TailPoint:
    """The NMSE [dB] that a channel exceeds with a given probability, on both sides."""

    probability: float
    base: Estimate | None
    real: Estimate | None


@dataclass(frozen=True, kw_only=True)
class LossTail:
    """The tail of one compressor's NMSE, likeliest point first.

    `method` and `n_evaluations` are those of the base side; `runs` is None where it was counted.
    """

    method: str
    runs: int | None
    n_evaluations: int | None
    points: tuple[TailPoint, ...]


@dataclass(frozen=True, kw_only=True)
class ChainFigures:
    """E_p[L] and P(NMSE > tau), by threshold label, of one compressor under one chain.

    The first entry is the audited law. Of the others, `shifts` are paired differences from it where
    both went from the same noise, by "E_p[L]" or threshold label, and `moved` names the figures
    that leave the audited law's interval.
    """

    label: str
    chain: str
    e_p: Estimate
    tails: Mapping[str, Estimate] = field(default_factory=dict)
    shifts: Mapping[str, Estimate] = field(default_factory=dict)
    moved: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class GuidedEntry:
    """E_q[L] by guided sampling with exact weights, on a chain of its own.

    `z` is that run's own E_p[L], to be compared with the chain's plain draws; `reweighted` is
    E_q[L] from these. `r2` is the share of the variance of l that the twist explains, by sigma.
    """

    e_q: Estimate
    z: Estimate
    reweighted: Estimate
    n: int
    steps: int
    r2: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A method that could answer: its price, None if unknown, and "chosen" or why it was not."""

    method: str
    evaluations: float | None
    seconds: float | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """Which method answers one question, why, and what the others would have cost.

    `unit` says what the prices of the candidates buy.
    """

    quantity: str
    chosen: str
    reason: str
    unit: str
    candidates: tuple[Candidate, ...] = ()
