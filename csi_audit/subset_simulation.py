"""Subset simulation in noise space: rare losses reached through a ladder of less rare ones.

    P(L > tau) = P(L > l_1) P(L > l_2 | L > l_1) ... P(L > tau | L > l_K)

Each level is the share p0 of worst particles of the one before; from them, chains that keep white
noise invariant and never leave the level fill it up again. Independent runs give the interval. No
gradient is used. What the runs say about the tail is csi_audit.tail's.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from csi_audit.chain_steps import (
    ACCEPTANCE,
    ADAPTATION,
    PILOT_MOVES,
    PILOT_RANGE,
    PILOT_TRIALS,
    gaussian_step,
)
from csi_audit.losses import Loss
from csi_audit.noise_map import LimitState, NoiseMap
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples
from csi_audit.tail import Budget, CurveEstimator, ReplicatedTail, TailRun, check_threshold

Array = npt.NDArray[np.float64]


class Walk(NamedTuple):
    """Particles of a level.

    Attributes:
        z: Noise, (N, *event_shape).
        values: How bad, float64 (N,).
        acceptance: Share of accepted moves.
    """

    z: Tensor
    values: Tensor
    acceptance: float


def next_threshold(values: Tensor, share: float) -> float | None:
    """The loss that the worst particles of a level exceed, the lower end of the next level.

    With k = round(share N), at least 1, it is the (k + 1)-th largest value, so without ties the
    next level begins with exactly the k worst, all strictly above. Ties at that value do not count
    as above, so there may be fewer seeds than k. If the largest value itself has more than k
    particles, it is the next smaller one, and the seeds are the particles at the largest.

    Args:
        values: (N,), high is bad.
        share: p0.
    Returns:
        None where all values are equal: nothing lies above.
    """
    k = max(1, round(share * len(values)))
    ordered = values.sort(descending=True).values
    top, cut = float(ordered[0]), float(ordered[min(k, len(ordered) - 1)])
    if cut < top:
        return cut
    below = ordered[ordered < top]
    return float(below[0]) if len(below) else None


@dataclass(frozen=True, kw_only=True)
class _Level:
    """A level to fill: its lower end, its seeds, its step and its probability so far."""

    threshold: float
    z: Tensor
    values: Tensor
    probability: float
    factor: float

    @property
    def step(self) -> float:
        return min(1.0, self.factor * gaussian_step(self.probability))


class SubsetSimulation(CurveEstimator):
    """Subset simulation of a noise map: P(L beyond tau), the whole tail, and failure samples.

    One run draws N particles, then fills level after level to N particles again, and so estimates
    all probabilities down to the deepest level at once. Its estimate is consistent and close to
    unbiased; the interval comes from independent runs, since the formula within one run covers too
    rarely. The step of the moves is a function of what earlier levels and a pilot accepted, whose
    moves are thrown away; never of moves that are kept, which would break reversibility.

    Args:
        noise_map: G.
        particles: N of a level.
        share: p0, the share of a level that begins the next.
        deepest: Probability below which no run goes on.
        kept: Failure samples that a run hands back at most, each one more evaluation of the map.
    Source: Au and Beck, 2001, 10.1016/S0266-8920(01)00019-4; the moves are those of Cotter,
        Roberts, Stuart, White, 2013, arXiv:1202.0709.
    """

    name = "subset simulation"

    def __init__(
        self,
        noise_map: NoiseMap,
        *,
        particles: int = 2000,
        share: float = 0.1,
        deepest: float = 1e-9,
        kept: int = 100,
    ) -> None:
        if not 0 < share <= 0.5:
            raise CsiAuditError(f"share must lie in (0, 0.5]; got {share}. 0.1 is usual.")
        if share * particles < 2:
            raise CsiAuditError(
                f"particles must leave at least 2 seeds a level; got {particles} x {share:g}. "
                "2000 are usual."
            )
        if not 0 < deepest < 1:
            raise CsiAuditError(f"deepest must lie in (0, 1); got {deepest}.")
        self.noise_map, self.particles, self.share = noise_map, particles, share
        self.deepest, self.kept = deepest, kept

    def tail(
        self,
        loss: Loss,
        *,
        tau: float | None = None,
        judged: float | None = None,
        budget: Budget,
        seed: int,
        name: str = "subset",
        store: BlockStore | None = None,
    ) -> tuple[ReplicatedTail, WeightedSamples]:
        """Independent runs until the budget ends them: the whole curve, and samples beyond tau.

        One block on the disk is one level of one run.

        Args:
            loss: L.
            tau: Where runs end, besides `deepest`; None goes to `deepest` and keeps no samples.
            judged: Threshold whose P must meet `budget.coef_var`; None takes tau.
            budget: A run but the first is begun only if one of the mean cost so far still fits.
            seed: Of every random number, with `name`, run and level.
            name: Of the files and of the random streams.
            store: Where levels are kept; those it holds are not made again. None keeps none.
        Raises:
            CsiAuditError: the budget does not allow one level, or a saved level is damaged or of
                other settings.
        """
        if tau is not None:
            check_threshold(tau)
        least = self.particles * self.noise_map.price
        if budget.evaluations is not None and budget.evaluations < least:
            raise CsiAuditError(
                f"budget must allow the {least:,} evaluations of a run's first level; got "
                f"{budget.evaluations:,}. Take fewer particles, or count: PlainMonteCarlo."
            )
        limit, time_is_up = LimitState(self.noise_map, loss), budget.clock()
        t = math.inf if tau is None else limit.sign * tau
        wanted = t if judged is None else limit.sign * judged
        runs: list[TailRun] = []
        failed: list[Array] = []
        while not (runs and (time_is_up() or _finished(runs, wanted, budget))):
            levels = self._run(limit, t, f"{name}-{len(runs):03d}", seed, store)
            runs.append(_tail_run(levels, self.share, self.particles))
            failed.append(levels[-1]["x"])
        curve = ReplicatedTail(runs=tuple(runs), worse=loss.worse, method=self._method(len(runs)))
        return curve, _failures(curve, failed, t, tau)

    def walk(
        self,
        limit: LimitState,
        z: Tensor,
        values: Tensor,
        threshold: float,
        *,
        step: float,
        n: int,
        generator: torch.Generator,
    ) -> Walk:
        """n particles beyond a threshold: the seeds, and where chains go from them side by side.

            z' = sqrt(1 - b^2) z + b xi,   xi ~ N(0, I);   z <- z' if L(G(z')) > threshold

        Args:
            limit: L(G(z)).
            z: Seeds in random order, (K, *event_shape), all beyond the threshold.
            values: Of the seeds, (K,).
            threshold: Lower end of the level.
            step: b.
            n: Particles wanted, seeds included; the first chains are longer where K does not
                divide n.
            generator: Source of xi.
        """
        z, values = z[:n], values[:n]
        found, losses, made, accepted = [z], [values], len(z), 0
        while made < n:
            active = min(len(z), n - made)
            z, values = z[:active], values[:active]
            xi = torch.randn(z.shape, generator=generator)
            moved = xi.mul_(step).add_(z, alpha=math.sqrt(1 - step**2))
            new = limit(moved)
            inside = new > threshold
            z = torch.where(inside.view(-1, *[1] * (z.ndim - 1)), moved, z)
            values = torch.where(inside, new, values)
            found.append(z)
            losses.append(values)
            accepted, made = accepted + int(inside.sum()), made + active
        moves = made - len(found[0])
        return Walk(torch.cat(found), torch.cat(losses), accepted / moves if moves else 1.0)

    def _tried(self, here: _Level, limit: LimitState, generator: torch.Generator) -> _Level:
        """The level with a step that its seeds accept about often enough."""
        low, high = PILOT_RANGE
        z, values = here.z[:PILOT_MOVES], here.values[:PILOT_MOVES]
        for _ in range(PILOT_TRIALS):
            walk = self.walk(limit, z, values, here.threshold, step=here.step, n=2 * len(z),
                             generator=generator)  # fmt: skip
            if low <= walk.acceptance <= high or (walk.acceptance > high and here.step == 1.0):
                return here
            change = 0.5 if walk.acceptance < low else 2.0
            here = replace(here, factor=here.factor * change)
        return here

    def _method(self, runs: int) -> str:
        return (
            f"{self.name}, {runs} runs of {self.particles} particles a level, share "
            f"{self.share:g}, {self.noise_map.name}"
        )

    def _run(
        self,
        limit: LimitState,
        t: float,
        name: str,
        seed: int,
        store: BlockStore | None,
    ) -> list[dict[str, Array]]:
        """The levels of one run, each made or from the disk."""
        levels: list[dict[str, Array]] = []
        while not levels or not bool(levels[-1]["last"]):
            streams = [seeded_generator(seed, name, len(levels), *s) for s in ((), ("pilot",))]
            make = partial(self._level, limit, t, levels[-1] if levels else None, *streams)
            if store is None:
                levels.append(make())
                continue
            levels.append(store.get(name, len(levels), make))
            found = (len(levels[-1]["values"]), float(levels[-1]["tau"]))
            if found != (self.particles, t):
                raise CsiAuditError(
                    f"{store.path(name, len(levels) - 1)} holds a level of {found[0]} particles "
                    f"towards {found[1]:g}; {self.particles} towards {t:g} are due. Remove that "
                    "file to make the level again."
                )
        return levels

    def _level(
        self,
        limit: LimitState,
        t: float,
        before: Mapping[str, Array] | None,
        generator: torch.Generator,
        pilot: torch.Generator,
    ) -> dict[str, Array]:
        """One level: what is told of it, and what the next one needs."""
        spent = limit.evaluations
        if before is None:
            z = limit.noise(self.particles, generator=generator)
            here = _Level(threshold=-math.inf, z=z, values=limit(z), probability=1.0, factor=1.0)
            walk, factor = Walk(here.z, here.values, 1.0), 1.0
        else:
            here = _seeded(before, generator)
            here = self._tried(here, limit, pilot)
            walk = self.walk(limit, here.z, here.values, here.threshold,
                             step=here.step, n=self.particles, generator=generator)  # fmt: skip
            factor = here.factor * math.exp(ADAPTATION * (walk.acceptance - ACCEPTANCE))
            factor = min(factor, 1 / gaussian_step(here.probability))
        cut = next_threshold(walk.values, self.share)
        deep = here.probability * self.share <= self.deepest * (1 + 1e-9)
        last = cut is None or cut >= t or deep
        beyond = walk.values > (t if last or cut is None else cut)
        chosen = torch.nonzero(beyond)[:, 0]
        x = np.empty((0, *walk.z.shape[1:]), np.float32)
        if last:
            order = torch.randperm(len(chosen), generator=generator)[: self.kept]
            x = limit.noise_map(walk.z[chosen[order]]).numpy() if len(order) else x
            chosen = chosen[:0]
        return {
            "values": walk.values.numpy(),
            "tau": np.array(t),
            "threshold": np.array(here.threshold),
            "cut": np.array(math.inf if cut is None else cut),
            "seeds": np.array(0 if before is None else _distinct(here.z)),
            "z": walk.z[chosen].numpy(),
            "z_values": walk.values[chosen].numpy(),
            "probability": np.array(here.probability),
            "acceptance": np.array(walk.acceptance),
            "factor": np.array(factor),
            "evaluations": np.array(limit.evaluations - spent),
            "last": np.array(last),
            "x": x,
        }


def _distinct(z: Tensor) -> int:
    """Distinct noises, told by their first coordinate: losses may tie."""
    return len(z.flatten(1)[:, 0].unique())


def _seeded(before: Mapping[str, Array], generator: torch.Generator) -> _Level:
    """The level that the worst particles of the one before begin, in random order."""
    order = torch.randperm(len(before["z"]), generator=generator)
    share = len(before["z"]) / len(before["values"])
    return _Level(
        threshold=float(before["cut"]),
        z=torch.from_numpy(before["z"])[order],
        values=torch.from_numpy(before["z_values"])[order],
        probability=float(before["probability"]) * share,
        factor=float(before["factor"]),
    )


def _tail_run(levels: list[dict[str, Array]], share: float, particles: int) -> TailRun:
    """Every particle that no deeper level replaces, with the mass of its level over N."""
    values, mass = [], []
    for number, level in enumerate(levels):
        kept = level["values"]
        each = float(level["probability"]) / len(kept)
        if number + 1 < len(levels):
            kept = kept[kept <= float(level["cut"])]
        values.append(kept)
        mass.append(np.full(len(kept), each))
    ends = levels[1:]
    saturated = math.isinf(float(levels[-1]["cut"]))
    return TailRun(
        values=np.concatenate(values),
        mass=np.concatenate(mass),
        thresholds=np.array([float(level["threshold"]) for level in ends]),
        acceptance=np.array([float(level["acceptance"]) for level in ends]),
        seeds=np.array([float(level["seeds"]) for level in ends]),
        reach=0.0 if saturated else share * float(levels[-1]["probability"]),
        particles=particles,
        spent=np.array([float(level["evaluations"]) for level in levels]),
    )


def _finished(runs: list[TailRun], t: float, budget: Budget) -> bool:
    """Whether a limit forbids another run, or enough are made and the mean is precise enough."""
    if budget.evaluations is not None:
        spent = sum(run.evaluations for run in runs)
        if spent * (1 + 1 / len(runs)) > budget.evaluations:
            return True
    if len(runs) < budget.runs:
        return False
    if budget.coef_var is None or math.isinf(t):
        return True
    found = np.array([run.beyond(t) for run in runs])
    mean, n = float(found.mean()), len(found)
    return n > 1 and mean > 0 and float(found.std(ddof=1)) / math.sqrt(n) <= budget.coef_var * mean


def _failures(
    curve: ReplicatedTail, failed: list[Array], t: float, tau: float | None
) -> WeightedSamples:
    """The kept samples of all runs; the weights of a run's add up to its P(L > tau)."""
    log_w = [
        np.full(len(x), math.log(run.beyond(t) / len(x)) if len(x) else 0.0)
        for run, x in zip(curve.runs, failed, strict=True)
    ]
    p = float(np.mean([run.beyond(t) for run in curve.runs]))
    return WeightedSamples(
        x=torch.from_numpy(np.concatenate(failed)),
        log_w=torch.from_numpy(np.concatenate(log_w)),
        law="failure",
        chain=curve.method,
        tau=tau,
        log_z=math.log(p) if p > 0 else None,
        n_evaluations=curve.evaluations,
    )
