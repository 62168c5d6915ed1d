"""Which method answers which question: rules on what the base samples show, and what each costs.

A decision says in words why, what every candidate would cost and why the others were not taken.
Nothing is drawn here: prices are forecasts from the pilot, seconds come from measured speeds.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from csi_audit.tail_settings import SHARE, MeanMethod, TailMethod
from reports.estimates import clopper_pearson
from reports.reweighting import CV2_LIMIT
from reports.tail_schema import Candidate, Decision

REWEIGHTING, GUIDED = "reweighting", "guided SMC"
COUNTING, SUBSET = "counting", "subset simulation"
CHOSEN = "chosen"

CV2_BREAKS = 6.25
"""Squared coefficient of variation of l beyond which the interval of reweighting breaks."""
GUIDED_SHARE = 0.9
"""Effective samples a particle of guided SMC with a calibrated twist, in closed forms."""
EFFECTIVE_SAMPLES = 1000
PRECISION = 0.1
"""Standard error over value that prices of tails are quoted for."""
LEVEL_VARIANCE = 27.0
"""Squared relative error that a level of subset simulation adds, times its particles, as
benchmarks.rare_events finds it for one failure region."""
GAIN_NEEDED = 1.5
"""How many times cheaper than counting subset simulation must be to be begun."""


@dataclass(frozen=True, kw_only=True)
class Prices:
    """Measured seconds a sample.

    Attributes:
        evaluation: Of one denoiser evaluation.
        guided: Of one guided step, forward and backward through denoiser and compressor; None where
            the compressor has no gradient.
        loss: Of one evaluation of the loss.
    """

    evaluation: float
    guided: float | None
    loss: float


@dataclass(frozen=True, kw_only=True)
class MeanQuestion:
    """E_q[L] of one compressor, and what its base samples say of l.

    Attributes:
        quantity: In words.
        cv2: CV_p(l)^2.
        n: Base samples.
        steps: Of the audited chain.
        guided_steps: Of the guided chain.
        refused: Why guided sampling is impossible; "" where it is not.
        prices: None where none were measured.
    """

    quantity: str
    cv2: float
    n: int
    steps: int
    guided_steps: int
    refused: str = ""
    prices: Prices | None = None

    @property
    def reweighting_evaluations(self) -> float:
        """Of the effective samples of q that prices are quoted for."""
        return EFFECTIVE_SAMPLES * (1 + self.cv2) * self.steps

    @property
    def guided_evaluations(self) -> float:
        """The same; a guided step counts as two evaluations, the last as one."""
        return EFFECTIVE_SAMPLES / GUIDED_SHARE * (2 * self.guided_steps - 1)

    @property
    def seconds(self) -> tuple[float | None, float | None]:
        """Of reweighting and of guided sampling."""
        p = self.prices
        if p is None:
            return None, None
        plain = EFFECTIVE_SAMPLES * (1 + self.cv2) * (self.steps * p.evaluation + p.loss)
        if p.guided is None:
            return plain, None
        step = (self.guided_steps - 1) * p.guided + p.evaluation + p.loss
        return plain, EFFECTIVE_SAMPLES / GUIDED_SHARE * step


def squared_variation(l: npt.ArrayLike) -> float:
    """CV^2 of importance weights l >= 0 of base samples: (N / ESS) - 1; 0 where all are 0."""
    values = np.asarray(l, dtype=np.float64)
    mean = float(values.mean())
    return float(values.var()) / mean**2 if mean > 0 else 0.0


def decide_mean(asked: MeanMethod, question: MeanQuestion) -> Decision:
    """How E_q[L] is found.

        reweighting where CV^2 < 2; guided SMC where CV^2 >= 6.25, and between the two where an
        effective sample of q costs less that way

    Reweighting of the base samples costs nothing more and is shown in any case.

    Args:
        asked: The user's choice.
        question: What is asked, and what the pilot says.
    """
    guided, reason = _guided_or_not(asked, question)
    plain_s, guided_s = question.seconds
    rejected = question.refused or ("not asked for" if asked == "reweighting" else reason)
    candidates = (
        Candidate(
            method=REWEIGHTING,
            evaluations=question.reweighting_evaluations,
            seconds=plain_s,
            verdict="shown beside" if guided else CHOSEN,
        ),
        Candidate(
            method=GUIDED,
            evaluations=None if question.refused else question.guided_evaluations,
            seconds=None if question.refused else guided_s,
            verdict=CHOSEN if guided else rejected,
        ),
        Candidate(
            method=SUBSET, evaluations=None, seconds=None, verdict="finds tails, not means under q"
        ),
    )
    return Decision(
        quantity=question.quantity,
        chosen=GUIDED if guided else REWEIGHTING,
        reason=reason,
        unit=f"{EFFECTIVE_SAMPLES:,} effective samples of q, pilot and plain draws not counted",
        candidates=candidates,
    )


def _guided_or_not(asked: MeanMethod, question: MeanQuestion) -> tuple[bool, str]:
    """Whether guided sampling is run, and why or why not."""
    share = 100 / (1 + question.cv2)
    seen = (
        f"CV^2 of l is {question.cv2:.2g} over {question.n:,} base samples, so reweighting makes "
        f"{share:.2g} % of them count"
    )
    if asked != "auto":
        return asked == "guided", f"asked for; {seen}"
    if question.cv2 < CV2_LIMIT:
        return False, f"{seen}; guided sampling pays from CV^2 = {CV2_LIMIT:g} on"
    if question.refused:
        return False, f"{seen}, too few, but guided sampling is impossible: {question.refused}"
    if question.cv2 >= CV2_BREAKS:
        return True, f"{seen}; beyond CV^2 = {CV2_BREAKS:g} its interval cannot be trusted"
    plain, guided = question.seconds
    if plain is None or guided is None:
        plain, guided = question.reweighting_evaluations, question.guided_evaluations
        of = "evaluations"
    else:
        of = "measured seconds"
    ratio = plain / guided
    if ratio >= 1:
        return True, f"{seen}; guided, as many cost {ratio:.2g} times less in {of}"
    return False, f"{seen}; guided, as many cost {1 / ratio:.2g} times more in {of}"


@dataclass(frozen=True, kw_only=True)
class TailQuestion:
    """P(NMSE > tau) of one compressor, and what its base samples say of it.

    Attributes:
        quantity: In words.
        k: Base samples beyond the threshold.
        n: Base samples.
        steps: Of the audited chain.
        prices: None where none were measured.
    """

    quantity: str
    k: int
    n: int
    steps: int
    prices: Prices | None = None

    @property
    def p(self) -> float:
        """What P is below with 80 % confidence: few base samples do not make a threshold rare."""
        return clopper_pearson(float(self.k), float(self.n), 0.6)[1]

    @property
    def counting_evaluations(self) -> float:
        """(1 - p) / (p c^2) draws, c the precision."""
        return self.steps * (1 - self.p) / (self.p * PRECISION**2)

    @property
    def subset_evaluations(self) -> float:
        """27 m / c^2 particles in all runs, m levels of 1 + 0.9 (m - 1) their evaluations."""
        levels = max(1.0, math.log(self.p) / math.log(SHARE))
        particles = LEVEL_VARIANCE * levels / PRECISION**2
        return self.steps * particles * (1 + (1 - SHARE) * (levels - 1))

    @property
    def gain(self) -> float:
        """How many times cheaper subset simulation is."""
        return self.counting_evaluations / self.subset_evaluations

    def seconds(self, evaluations: float) -> float | None:
        """At measured speeds."""
        if self.prices is None:
            return None
        return evaluations * (self.prices.evaluation + self.prices.loss / self.steps)


def decide_tail(asked: TailMethod, question: TailQuestion) -> Decision:
    """How P(NMSE > tau) under the base law is found.

    By subset simulation where it would be at least 1.5 times as cheap as counting, which is so
    below P of about 0.005, for a P at the upper limit that the base samples leave. Gradients are
    not needed.

    Args:
        asked: The user's choice; "off" counts.
        question: What is asked, and what the pilot says.
    """
    subset = question.gain >= GAIN_NEEDED if asked == "auto" else asked == "subset"
    reason = _tail_reason(asked, question)
    counting = Candidate(
        method=COUNTING,
        evaluations=question.counting_evaluations,
        seconds=question.seconds(question.counting_evaluations),
        verdict="shown beside" if subset else CHOSEN,
    )
    other = Candidate(
        method=SUBSET,
        evaluations=question.subset_evaluations,
        seconds=question.seconds(question.subset_evaluations),
        verdict=CHOSEN if subset else "not asked for" if asked == "counting" else reason,
    )
    rejected = "its twist explains too little of a rare event"
    guided = Candidate(method=GUIDED, evaluations=None, seconds=None, verdict=rejected)
    return Decision(
        quantity=question.quantity,
        chosen=SUBSET if subset else COUNTING,
        reason=reason,
        unit=f"a relative standard error of {100 * PRECISION:g} %",
        candidates=(counting, other, guided),
    )


def _tail_reason(asked: TailMethod, question: TailQuestion) -> str:
    seen = f"{question.k:,} of {question.n:,} base samples lie beyond"
    if asked != "auto":
        return f"asked for; {seen}" if asked != "off" else f"switched off; {seen}"
    gain = question.gain
    if question.k == question.n:
        return f"{seen}: nothing is rare about it"
    if gain >= 1:
        times = f"about {gain:.2g} times cheaper than counting"
    else:
        times = f"about {1 / gain:.2g} times dearer than counting"
    wanted = "" if gain >= GAIN_NEEDED else f", and {GAIN_NEEDED:g} times cheaper is wanted"
    return f"{seen}, so P is likely below {question.p:.2g}: subset simulation is {times}{wanted}"


def after_refusal(decision: Decision, why: str) -> Decision:
    """The decision where guided sampling was chosen and then refused itself."""
    candidates = tuple(
        replace(c, verdict=f"refused: {why}")
        if c.method == GUIDED
        else replace(c, verdict=CHOSEN)
        if c.method == REWEIGHTING
        else c
        for c in decision.candidates
    )
    return replace(
        decision,
        chosen=REWEIGHTING,
        reason=f"{decision.reason}; but guided sampling was refused: {why}",
        candidates=candidates,
    )
