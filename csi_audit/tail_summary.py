"""From rare tails, guided samples and draws of other chains to the entries of a result.

Bookkeeping, like csi_audit.summary; the arithmetic of intervals is csi_audit.tail's and reports'.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from csi_audit.deeper import ChainDraws, Deeper, GuidedRun
from csi_audit.dispatch import SUBSET
from csi_audit.estimate import expectation
from csi_audit.islands import normalising_constant
from csi_audit.plain_monte_carlo import CountedTail
from csi_audit.tail import ReplicatedTail
from reports.estimates import Estimate, agree, mean_estimate, proportion
from reports.pareto import combined_status
from reports.reweighting import tilted_mean
from reports.tail_schema import ChainFigures, GuidedEntry, LossTail, TailPoint

Array = npt.NDArray[np.float64]

MEAN = "E_p[L]"
MOVED = "step doubling moves the figure"
NONE_SEEN = "none seen: upper bound only"
NOT_BELOW = 1e-12
"""NMSE that is shown as its level where it is less."""


def rare_estimate(deeper: Deeper, name: str, label: str) -> Estimate | None:
    """P(L > tau) by subset simulation; None where the threshold was decided otherwise."""
    curve = deeper.tails.get(name)
    if curve is None or not _decided_rare(deeper, name, label):
        return None
    return curve.exceedance(deeper.levels[name][label])


def rare_agreement(rare: Estimate, on_real: Estimate) -> str:
    """`agree`, where runs that cannot be trusted agree or differ with nothing."""
    trusted = rare.status == "ok" or rare.status == NONE_SEEN
    return agree(rare, on_real) if trusted else "cannot tell"


def _decided_rare(deeper: Deeper, name: str, label: str) -> bool:
    _, *tails = deeper.decisions[name]
    pairs = zip(deeper.levels[name], tails, strict=True)
    return dict(pairs)[label].chosen == SUBSET


# --- The tail curve -------------------------------------------------------------------------------


def loss_tail(
    deeper: Deeper,
    name: str,
    *,
    base: Array,
    real: Array,
    chain: str,
    n_evaluations: int,
    whose: str = "real channels",
    shown: Callable[[Estimate], Estimate] | None = None,
) -> LossTail | None:
    """The loss exceeded with probability 0.1, 0.01, ... of one compressor, or of another loss.

    Args:
        deeper: With or without runs of subset simulation for it.
        name: The compressor or loss.
        base: Linear NMSE of the base samples, or the loss, (N,).
        real: The same on the real side.
        chain: Of the base samples, in words.
        n_evaluations: Spent on these.
        whose: The real side in words.
        shown: The loss as it is shown; None shows a linear NMSE in dB.
    """
    shown = in_decibel if shown is None else shown
    if not deeper.curves:
        return None
    rare = deeper.tails.get(name)
    counted = CountedTail(
        values=base, worse="high", method=f"{chain}, counted", evaluations=n_evaluations
    )
    curve = counted if rare is None else rare
    least = 1 / len(base) if rare is None else _reach(rare)
    users = CountedTail(values=real, worse="high", method=f"{whose}, counted", evaluations=0)
    points = []
    for k in range(1, 10):
        p = 10.0**-k
        if p < 0.999 * least:
            break
        seen = replace(users.quantile(p), n_evaluations=None) if p * len(real) >= 1 else None
        points.append(
            TailPoint(
                probability=p,
                base=shown(curve.quantile(p)),
                real=None if seen is None else shown(seen),
            )
        )
    return LossTail(
        method=curve.method,
        runs=None if rare is None else len(rare.runs),
        n_evaluations=curve.evaluations,
        points=tuple(points),
    )


def _reach(curve: ReplicatedTail) -> float:
    """Smallest probability that a curve is shown at: a whole share, or 10 particles where the loss
    has a largest value, at which runs end."""
    deepest = max(run.reach for run in curve.runs)
    return deepest or 10 * max(float(run.mass.min()) for run in curve.runs)


def in_decibel(estimate: Estimate) -> Estimate:
    """A linear NMSE in dB, its interval with it; the standard error has no such form."""

    def level(value: float) -> float:
        return 10 * math.log10(max(value, NOT_BELOW))

    ends = estimate.interval
    return replace(
        estimate,
        value=level(estimate.value),
        std_error=None,
        interval=None if ends is None else (level(ends[0]), level(ends[1])),
    )


# --- Guided samples -------------------------------------------------------------------------------


def guided_entry(deeper: Deeper, name: str) -> GuidedEntry | None:
    """E_q[l] by guided sampling beside reweighting of the same chain; None where not run."""
    run: GuidedRun | None = deeper.guided.get(name)
    if run is None:
        return None
    plain = next(draws for draws in deeper.chains if draws.kind == "guided chain")
    weights = plain.weights.get(name, plain.values[name])
    beside = tilted_mean(weights, method=f"{plain.chain}, reweighted")
    return GuidedEntry(
        e_q=expectation(run.samples, run.weights),
        z=normalising_constant(run.samples),
        reweighted=replace(beside, n_evaluations=plain.n_evaluations),
        n=len(run.samples),
        steps=run.steps,
        r2=run.r2,
    )


# --- Chains side by side --------------------------------------------------------------------------


def chain_figures(
    deeper: Deeper,
    name: str,
    *,
    base: Array,
    chain: str,
    e_p: Estimate,
    tails: Mapping[str, Estimate],
) -> tuple[ChainFigures, ...]:
    """E_p[L] and P(L > tau) of one compressor or loss under every chain; () where there is one.

    Args:
        deeper: With the draws of other chains.
        name: The compressor or loss.
        base: L of the base samples, (N,).
        chain: Of the base samples, in words.
        e_p: Under the audited law.
        tails: The same, by label.
    """
    if not deeper.chains:
        return ()
    first = ChainFigures(label="audited law", chain=chain, e_p=e_p, tails=tails)
    return (first, *(_other_chain(deeper, name, draws, base, first) for draws in deeper.chains))


def _other_chain(
    deeper: Deeper, name: str, draws: ChainDraws, base: Array, audited: ChainFigures
) -> ChainFigures:
    values, doubled = draws.values[name], draws.kind == "doubled steps"
    e_p = mean_estimate(values, method=draws.chain)
    tails = {}
    shifts = {MEAN: mean_estimate(values - base, method="same noise, paired")} if doubled else {}
    moved = [MEAN] if doubled and _outside(audited.e_p, e_p) else []
    for label, level in deeper.levels[name].items():
        rare = deeper.doubled_tails.get(name) if doubled else None
        found, before = _counted(values, level, draws.chain), audited.tails[label]
        if rare is not None and _decided_rare(deeper, name, label):
            found = rare.exceedance(level)
            moves = agree(before, found) == "differ"
        else:
            moves = _outside(before, found)
            if doubled:
                d = (values > level).astype(np.float64) - (base > level)
                shifts[label] = mean_estimate(d, method="same noise, paired")
        tails[label] = found
        if doubled and moves:
            moved.append(label)
    return ChainFigures(
        label=draws.kind,
        chain=draws.chain,
        e_p=replace(e_p, n_evaluations=draws.n_evaluations),
        tails={k: replace(e, n_evaluations=e.n_evaluations or draws.n_evaluations)
               for k, e in tails.items()},
        shifts=shifts,
        moved=tuple(moved),
    )  # fmt: skip


def _counted(values: Array, level: float, chain: str) -> Estimate:
    return proportion(int((values > level).sum()), len(values), method=f"{chain}, counted")


def _outside(before: Estimate, after: Estimate) -> bool:
    """Whether a figure leaves the interval that another, from the same noise, has."""
    if before.interval is None:
        return before.value != after.value
    return not before.interval[0] <= after.value <= before.interval[1]


def step_status(estimate: Estimate, label: str, chains: tuple[ChainFigures, ...]) -> Estimate:
    """The estimate of the audited law, with a status that says whether doubled steps move it."""
    doubled = next((entry for entry in chains if entry.label == "doubled steps"), None)
    if doubled is None or label not in doubled.moved:
        return estimate
    to = doubled.e_p.value if label == MEAN else doubled.tails[label].value
    words = f"{MOVED} ({estimate.value:.3g} to {to:.3g})"
    return replace(estimate, status=combined_status(estimate.status, words))
