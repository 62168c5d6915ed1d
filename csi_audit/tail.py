"""The tail of a loss: P(L beyond tau), its inverse and the mean beyond it, with intervals and with
words where they cannot be trusted.

A run of subset simulation is kept as its particles' losses with the mass of the base law that each
stands for; counted draws are kept as their losses. Both answer the same questions. Who makes them:
csi_audit.subset_simulation and csi_audit.plain_monte_carlo, where the counted ones live too.
"""

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from channels.support import CsiAuditError
from csi_audit.losses import Loss
from csi_audit.samples import WeightedSamples
from reports.estimates import (
    Estimate,
    check_level,
    mean_estimate,
    proportion,
)

Array = npt.NDArray[np.float64]
Worse = Literal["high", "low"]

RUNS_NEEDED = 10
"""Independent runs below which Student's interval is not trusted."""
COEF_VAR_LIMIT = 0.5
"""Coefficient of variation of one run above which runs disagree."""
ACCEPTANCE_LIMIT = 0.05
"""Share of accepted moves below which the chains of a level are stuck."""
SEEDS_NEEDED = 20
"""Distinct seeds of a level below which its particles are too much alike."""
BEYOND_NEEDED = 10
"""Particles beyond the threshold below which a run's share of them means little."""
PARTICLES_NEEDED = 1000
"""Particles a level below which a failure mode that the first draws rarely meet may be missed."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """When to stop; what is met first ends the work.

    Attributes:
        evaluations: Denoiser evaluations at most; None sets no limit.
        seconds: Wall-clock time at most [s], looked at between runs or blocks; None sets no limit.
        coef_var: Wanted standard error over value; met is enough. None asks for none.
        runs: Independent runs wanted before anything but a limit ends the work; without
            `coef_var` they are all that is made.
    """

    evaluations: int | None = None
    seconds: float | None = None
    coef_var: float | None = None
    runs: int = RUNS_NEEDED

    def __post_init__(self) -> None:
        for name in ("evaluations", "seconds", "coef_var"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise CsiAuditError(f"{name} must be above 0; got {value}. None sets no limit.")
        if self.runs < 1:
            raise CsiAuditError(
                f"runs must be at least 1; got {self.runs}. {RUNS_NEEDED} give an interval."
            )

    def clock(self) -> Callable[[], bool]:
        """Starts now; the function returned tells whether the time is up."""
        began, limit = time.monotonic(), self.seconds
        return lambda: limit is not None and time.monotonic() - began >= limit


class TailEstimator(Protocol):
    """P(L beyond tau) of a law, and samples of that law given it."""

    def __call__(
        self, loss: Loss, tau: float, *, budget: Budget, generator: torch.Generator
    ) -> tuple[Estimate, WeightedSamples]: ...


class TailCurve(Protocol):
    """All that one computation says about the tail of a loss.

    exceedance(tau): P(L beyond tau); quantile(p): the loss exceeded with probability p;
    cvar(p): the mean loss of the worst share p. "Beyond" is above, or below where low is bad.
    """

    @property
    def worse(self) -> Worse: ...
    def exceedance(self, tau: float) -> Estimate: ...
    def quantile(self, p: float) -> Estimate: ...
    def cvar(self, p: float) -> Estimate: ...


class CurveEstimator(ABC):
    """A `TailEstimator` that makes the whole curve and reads P(L beyond tau) off it."""

    @abstractmethod
    def tail(
        self, loss: Loss, *, tau: float, budget: Budget, seed: int
    ) -> tuple[TailCurve, WeightedSamples]:
        """The whole curve, and samples beyond tau."""

    def __call__(
        self, loss: Loss, tau: float, *, budget: Budget, generator: torch.Generator
    ) -> tuple[Estimate, WeightedSamples]:
        """P(L beyond tau) and samples beyond it; a function of the generator's next number."""
        seed = int(torch.randint(2**62, (), generator=generator))
        curve, failures = self.tail(loss, tau=tau, budget=budget, seed=seed)
        return curve.exceedance(tau), failures


@dataclass(frozen=True, kw_only=True)
class TailRun:
    """One run of subset simulation: the law of L as weighted particles, and how its levels went.

    Attributes:
        values: L of every particle that stands for mass, high is bad, (n,).
        mass: Probability that each stands for, (n,); sums to one.
        thresholds: Lower end of each level but the first, ascending, (K,).
        acceptance: Share of accepted moves in each of these, (K,).
        seeds: Distinct seeds of each of these, (K,).
        reach: Smallest probability at which the run still has a whole share of a level beyond.
        particles: Of the first level.
        spent: Evaluations of every level, the first one too, (K + 1,).
    """

    values: Array
    mass: Array
    thresholds: Array
    acceptance: Array
    seeds: Array
    reach: float
    particles: int
    spent: Array

    @cached_property
    def _sorted(self) -> tuple[Array, Array, Array]:
        """Values ascending, and the mass and the loss-weighted mass at and after each, (n + 1,)."""
        order = np.argsort(self.values, kind="stable")
        values, mass = self.values[order], self.mass[order]
        sums = [np.append(np.cumsum(part[::-1])[::-1], 0.0) for part in (mass, mass * values)]
        return values, sums[0], sums[1]

    @property
    def first(self) -> float:
        """Lower end of the first level but one; without one, the run selects nowhere."""
        return float(self.thresholds[0]) if len(self.thresholds) else math.inf

    @property
    def depth(self) -> float:
        """Lower end of the last level; the least loss where there is but one level."""
        return float(self.thresholds[-1] if len(self.thresholds) else self.values.min())

    @property
    def evaluations(self) -> int:
        return int(self.spent.sum())

    def evaluations_to(self, t: float) -> int:
        """What P(L > t) alone would have cost: the levels that begin before t."""
        return int(self.spent[: 1 + int((self.thresholds < t).sum())].sum())

    def beyond(self, t: float) -> float:
        """P(L > t)."""
        values, above, _ = self._sorted
        return float(above[np.searchsorted(values, t, side="right")])

    def excess(self, t: float) -> float:
        """E[max(L - t, 0)]."""
        values, above, weighted = self._sorted
        index = np.searchsorted(values, t, side="right")
        return float(weighted[index] - t * above[index])

    def counted(self, t: float) -> int:
        """Particles beyond t."""
        return len(self.values) - int(np.searchsorted(self._sorted[0], t, side="right"))


@dataclass(frozen=True, kw_only=True)
class ReplicatedTail:
    """The tail as independent runs see it; intervals come from their scatter.

    Attributes:
        runs: One or more.
        worse: Side of the loss that is bad.
        method: In words.
        level: Confidence level of the intervals.
    """

    runs: Sequence[TailRun]
    worse: Worse
    method: str
    level: float = 0.95

    def __post_init__(self) -> None:
        check_level(self.level)
        if not self.runs:
            raise ValueError("runs must be at least one; got none.")

    @property
    def evaluations(self) -> int:
        return sum(run.evaluations for run in self.runs)

    @property
    def unseen(self) -> float:
        """Mass that a region may have and still, with probability 5 %, hold no first draw."""
        return 1 - 0.05 ** (1 / sum(run.particles for run in self.runs))

    def exceedance(self, tau: float) -> Estimate:
        """P(L beyond tau): the mean of the runs' estimates, with Student's interval over runs.

        Where tau lies before the first level of every run, the first draws are counted. Where no
        run came as far as tau, the upper limit is that at the depth which all runs reached.
        """
        check_threshold(tau)
        return self._at(sign_of(self.worse) * tau)

    def quantile(self, p: float) -> Estimate:
        """The loss that is exceeded with probability p: the inverse of the mean curve.

            q = min {t : P(L > t) <= p}

        The interval holds the thresholds whose own interval of P(L > t) holds p.
        """
        check_share(p)
        q = self._inverse(lambda t: self._mean(t) <= p)
        interval = None
        if len(self.runs) > 1:
            low = self._inverse(lambda t: self._limits(t)[0] <= p)
            high = self._inverse(lambda t: self._limits(t)[1] < p)
            interval = (min(low, q), max(high, q))
        return self._of_loss(q, interval, self._status(q, p))

    def cvar(self, p: float) -> Estimate:
        """The mean loss of the worst share p: the conditional value at risk.

            c = q + E[max(L - q, 0)] / p,   q the loss exceeded with probability p

        q minimises this expression, so its own error counts in second order only, and the interval
        is Student's over the runs' c at one q.

        Source: Rockafellar and Uryasev, 2002, 10.1016/S0378-4266(02)00271-6.
        """
        check_share(p)
        q = self._inverse(lambda t: self._mean(t) <= p)
        runs = np.array([q + run.excess(q) / p for run in self.runs])
        found = mean_estimate(runs, level=self.level)
        return self._of_loss(found.value, found.interval, self._status(q, p), found.std_error)

    def _mean(self, t: float) -> float:
        return float(np.mean([run.beyond(t) for run in self.runs]))

    def _limits(self, t: float) -> tuple[float, float]:
        """The interval of P(L > t)."""
        found = self._figures(t)
        return found.interval or (found.value, found.value)

    def _inverse(self, met: Callable[[float], bool]) -> float:
        """Smallest loss of any particle at which a condition is met that stays met beyond it."""
        low, high = 0, len(self._pooled) - 1
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if met(float(self._pooled[middle])) else (middle + 1, high)
        return float(self._pooled[low])

    @cached_property
    def _pooled(self) -> Array:
        return np.unique(np.concatenate([run.values for run in self.runs]))

    def _at(self, t: float) -> Estimate:
        """P(L > t) with its status; t in the turned loss."""
        found = self._figures(t)
        if found.value == 0 and t > self._first:
            return self._bounded(found)
        problems = [] if t <= self._first else self._problems(t)
        return replace(found, status="; ".join(problems) or found.status)

    def _figures(self, t: float) -> Estimate:
        """P(L > t) with its interval, whatever may be said about it."""
        if t <= self._first:
            found = self._counted(t)
        else:
            values = [run.beyond(t) for run in self.runs]
            found = mean_estimate(values, level=self.level, method=self.method)
        ends = found.interval and (max(0.0, found.interval[0]), min(1.0, found.interval[1]))
        return replace(found, interval=ends, ess=None, n_evaluations=self.evaluations)

    @cached_property
    def _first(self) -> float:
        """No run selects below this loss, so what lies beyond it is independent first draws."""
        return min(run.first for run in self.runs)

    def _counted(self, t: float) -> Estimate:
        """First draws of all runs, counted: the mass of each is one over the run's particles."""
        n = sum(run.particles for run in self.runs)
        k = round(sum(run.beyond(t) * run.particles for run in self.runs))
        return proportion(k, n, level=self.level, method=f"{self.method}, first draws counted")

    def _bounded(self, found: Estimate) -> Estimate:
        """None seen: P is at most that of the depth that all runs reached."""
        at = self._at(min(run.depth for run in self.runs))
        bound = at.value if at.interval is None else at.interval[1]
        status = "none seen: upper bound only"
        if at.status != "ok":
            status += f", itself to be read with care ({at.status})"
        return replace(found, interval=(0.0, bound), status=status)

    def _of_loss(
        self,
        value: float,
        interval: tuple[float, float] | None,
        status: str,
        std_error: float | None = None,
    ) -> Estimate:
        """An estimate in the unit of the loss, with its sign turned back."""
        return Estimate(
            value=sign_of(self.worse) * value,
            std_error=std_error,
            interval=turned_back(interval, self.worse),
            level=self.level,
            n=len(self.runs),
            status=status,
            method=self.method,
            n_evaluations=self.evaluations,
        )

    def _status(self, q: float, p: float) -> str:
        """Of a figure at the loss q that is exceeded with probability p.

        Looked up just before q: nothing may lie beyond q itself, where a loss has a largest value.
        """
        before = self._pooled[self._pooled < q]
        status = self._at(float(before[-1])).status if len(before) else "ok"
        reach = max(run.reach for run in self.runs)
        if p >= 0.999 * reach:
            return status
        deep = f"deeper than the runs went ({reach:.2g})"
        return deep if status == "ok" else f"{status}; {deep}"

    def _problems(self, t: float) -> list[str]:
        """Why the mean of the runs' P(L > t) and its interval must be read with care."""
        found, n = [], len(self.runs)
        values = np.array([run.beyond(t) for run in self.runs])
        if n < RUNS_NEEDED:
            found.append(f"{n} independent runs ({RUNS_NEEDED} needed): interval may be too short")
        spread = float(values.std(ddof=1) / values.mean()) if n > 1 else 0.0
        if spread > COEF_VAR_LIMIT:
            found.append(
                f"runs disagree: one run scatters by {100 * spread:.0f} % (limit "
                f"{100 * COEF_VAR_LIMIT:g} %)"
            )
        levels = [(run, run.thresholds < t) for run in self.runs]
        accepted = min(float(run.acceptance[k].min(initial=1.0)) for run, k in levels)
        if accepted < ACCEPTANCE_LIMIT:
            found.append(f"chains stuck: {100 * accepted:.1f} % of the moves of a level accepted")
        seeds = int(min(run.seeds[k].min(initial=math.inf) for run, k in levels))
        if seeds < SEEDS_NEEDED:
            found.append(f"a level has {seeds} distinct seeds ({SEEDS_NEEDED} needed)")
        seen = int(np.median([run.counted(t) for run in self.runs]))
        if seen < BEYOND_NEEDED:
            found.append(f"{seen} particles of a run lie beyond ({BEYOND_NEEDED} needed)")
        particles = min(run.particles for run in self.runs)
        if particles < PARTICLES_NEEDED:
            found.append(f"{particles} particles a level ({PARTICLES_NEEDED} needed)")
        return found


def sign_of(worse: Worse) -> float:
    """What a loss is multiplied by for high to be bad."""
    return 1.0 if worse == "high" else -1.0


def turned_back(interval: tuple[float, float] | None, worse: Worse) -> tuple[float, float] | None:
    """An interval of the turned loss, high is bad, as one of the loss itself."""
    if interval is None:
        return None
    low, high = sorted(sign_of(worse) * end for end in interval)
    return low, high


def check_threshold(tau: float) -> None:
    """Refuse a threshold that is not finite."""
    if not math.isfinite(tau):
        raise CsiAuditError(f"tau must be finite; got {tau}.")


def check_share(p: float) -> None:
    """Refuse what is no probability of a tail."""
    if not 0 < p < 1:
        raise CsiAuditError(f"p must lie in (0, 1); got {p}. Is this a percentage?")
