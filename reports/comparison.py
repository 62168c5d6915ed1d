"""From the distortions of several compressors on the same channels to what a comparison says.

Pairs, rankings, overlaps of failures and the cells of the matrix; the arithmetic is
comparison_estimates.py's. Nothing is loaded or drawn here.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
import numpy.typing as npt

from reports.comparison_estimates import (
    DECIBELS,
    paired_cvar,
    paired_mean,
    paired_probability,
    paired_quantiles,
)
from reports.comparison_schema import (
    ComparedPair,
    ComparedSet,
    FailureOverlap,
    MatrixCell,
    PairedFigure,
    PairVerdict,
    RankEntry,
    Ranking,
)
from reports.comparison_tests import Paired, holm, rank_bounds
from reports.estimates import Estimate, design_effect, mean_estimate, proportion, quantile_estimate
from reports.realism import base_item, base_verdict
from reports.tail_estimates import cvar_estimate
from reports.words import joined, share_text

Array = npt.NDArray[np.float64]

ALPHA = 0.05
"""Family-wise error of the verdicts on one set in one quantity."""

MEAN = "mean NMSE"
BY_DEFINITION = "by definition"


@dataclass(frozen=True, kw_only=True)
class ComparedLosses:
    """Distortions of all compressors on one set of channels.

    Attributes:
        name: Of the set.
        kind: "real" channels or "base" samples.
        nmse: Linear NMSE by compressor, [n] each, entry i of channel i.
        levels: Failure levels (linear NMSE) by threshold label and compressor.
        drops: Environment of each channel, [n]; None if unknown.
        set_here: Labels of the thresholds that are quantiles of these very channels.
        sha256: Of the file or the base model.
        description: In words.
    """

    name: str
    kind: Literal["real", "base"]
    nmse: Mapping[str, Array]
    levels: Mapping[str, Mapping[str, float]]
    drops: npt.NDArray[np.int64] | None = None
    set_here: tuple[str, ...] = ()
    sha256: str | None = None
    description: str = ""

    @property
    def names(self) -> list[str]:
        """The compressors, in order."""
        return list(self.nmse)

    def fails(self, threshold: str, name: str) -> npt.NDArray[np.bool_]:
        """Which channels a compressor fails on, [n]."""
        return self.nmse[name] > self.levels[threshold][name]

    def is_common(self, threshold: str) -> bool:
        """Whether all compressors have the same level, so that probabilities rank them."""
        return len(set(self.levels[threshold].values())) == 1


def compared_set(
    losses: ComparedLosses, *, prob: float = 0.99, real: ComparedLosses | None = None
) -> ComparedSet:
    """Everything that can be said of compressors on one set of channels.

    Args:
        losses: At least one compressor.
        prob: Quantile level of the tail figures.
        real: Real channels that samples of a base law are held against; None for real channels.
    """
    pairs = list(combinations(losses.names, 2))
    quantities = _quantities(losses, pairs, prob)
    return ComparedSet(
        name=losses.name,
        kind=losses.kind,
        n=len(next(iter(losses.nmse.values()))),
        sha256=losses.sha256,
        description=losses.description,
        pairs=tuple(
            ComparedPair(
                first=a, second=b, figures=tuple(figures[a, b] for figures in quantities.values())
            )
            for a, b in pairs
        ),
        rankings=tuple(
            _ranking(losses, quantity, figures, prob) for quantity, figures in quantities.items()
        ),
        overlaps=tuple(_overlap(losses, t, a, b) for t in losses.levels for a, b in pairs),
        notes=_drop_notes(losses, quantities) if real is None else (_realism_note(losses, real),),
    )


# --- Pairs ----------------------------------------------------------------------------------------

Pair = tuple[str, str]


def quantile_name(prob: float) -> str:
    """What the quantile is called: `99 % quantile of NMSE`."""
    return f"{share_text(round(prob, 6))} quantile of NMSE"


def cvar_name(prob: float) -> str:
    """What the mean of the worst share is called."""
    return f"mean NMSE of the worst {share_text(round(1 - prob, 6))}"


def _quantities(
    losses: ComparedLosses, pairs: Sequence[Pair], prob: float
) -> dict[str, dict[Pair, PairedFigure]]:
    """Paired figures by quantity and pair."""
    nmse, drops = losses.nmse, losses.drops
    positive = all(float(values.mean()) > 0 for values in nmse.values())
    found: dict[str, dict[Pair, Paired | None]] = {
        name: dict.fromkeys(pairs) for name in (MEAN, quantile_name(prob), cvar_name(prob))
    }
    if positive and pairs:
        found[MEAN] = {(a, b): paired_mean(nmse[a], nmse[b], drops=drops) for a, b in pairs}
        found[quantile_name(prob)] = dict(paired_quantiles(nmse, prob, drops=drops))
        found[cvar_name(prob)] = {
            (a, b): paired_cvar(nmse[a], nmse[b], prob, drops=drops) for a, b in pairs
        }
    named = {name: _figures(name, "dB", values) for name, values in found.items()}
    for threshold in filter(losses.is_common, losses.levels):
        fails = {name: losses.fails(threshold, name) for name in losses.names}
        name = f"P(NMSE > {threshold})"
        named[name] = _figures(
            name,
            "1",
            {(a, b): paired_probability(fails[a], fails[b], drops=drops) for a, b in pairs},
        )
    return named


def _figures(
    quantity: str, unit: str, found: Mapping[Pair, Paired | None]
) -> dict[Pair, PairedFigure]:
    """Differences with their tests, adjusted over all pairs."""
    p_values = [None if paired is None else paired.p_value for paired in found.values()]
    return {
        pair: PairedFigure(
            quantity=quantity,
            unit=unit,
            difference=None if paired is None else paired.difference,
            p_value=p_value,
            p_holm=adjusted,
            verdict="cannot tell" if paired is None else _verdict(paired.difference, adjusted),
            design_effect=paired.alike.effect if paired and paired.alike else None,
        )
        for (pair, paired), p_value, adjusted in zip(
            found.items(), p_values, holm(p_values), strict=True
        )
    }


def _verdict(difference: Estimate, p_holm: float | None) -> PairVerdict:
    """Lower is better; told only where the figure can be relied on and the test is clear."""
    if difference.interval is None or difference.status != "ok":
        return "cannot tell"
    lo, hi = difference.interval
    if p_holm is None or p_holm >= ALPHA or lo <= 0 <= hi:
        return "cannot tell"
    return "first is better" if difference.value < 0 else "second is better"


# --- Rankings -------------------------------------------------------------------------------------


def _ranking(
    losses: ComparedLosses, quantity: str, figures: Mapping[Pair, PairedFigure], prob: float
) -> Ranking:
    better = [
        pair if figure.verdict == "first is better" else (pair[1], pair[0])
        for pair, figure in figures.items()
        if figure.verdict != "cannot tell"
    ]
    bounds = rank_bounds(losses.names, better)
    entries = [
        RankEntry(
            name=name,
            value=_own_figure(losses, quantity, name, prob),
            best=bounds[name][0],
            worst=bounds[name][1],
        )
        for name in losses.names
    ]
    entries.sort(key=lambda entry: entry.value.value if entry.value else math.inf)
    return Ranking(
        quantity=quantity,
        unit="1",
        entries=tuple(entries),
        sentence=ranking_sentence(quantity, entries),
    )


def _own_figure(losses: ComparedLosses, quantity: str, name: str, prob: float) -> Estimate:
    nmse = losses.nmse[name]
    if quantity == MEAN:
        return mean_estimate(nmse)
    if quantity == quantile_name(prob):
        return quantile_estimate(nmse, prob)
    if quantity == cvar_name(prob):
        return cvar_estimate(nmse, prob)
    fails = losses.fails(quantity.removeprefix("P(NMSE > ").removesuffix(")"), name)
    return proportion(int(fails.sum()), len(fails))


def ranking_sentence(quantity: str, entries: Sequence[RankEntry]) -> str:
    """An order in words; entries are sorted, lowest value first."""
    if len(entries) < 2:
        return "There is one compressor, so nothing to rank."
    leaders = [entry.name for entry in entries if entry.best == 1]
    losers = [entry.name for entry in entries if entry.worst == len(entries)]
    if len(leaders) == len(entries) and len(losers) == len(entries):
        return f"Cannot tell which is better in {quantity}: no pair differs beyond chance."
    if len(leaders) == 1:
        first = f"{leaders[0]} is best in {quantity}"
    else:
        first = f"Cannot tell which of {joined(leaders)} is best in {quantity}"
    if len(losers) == 1:
        return f"{first}; {losers[0]} is worst."
    return f"{first}; cannot tell which of {joined(losers)} is worst."


# --- Failures, matrix -----------------------------------------------------------------------------


def _overlap(losses: ComparedLosses, threshold: str, a: str, b: str) -> FailureOverlap:
    x, y = losses.fails(threshold, a), losses.fails(threshold, b)
    n, both, either = len(x), int((x & y).sum()), int((x | y).sum())
    return FailureOverlap(
        first=a,
        second=b,
        threshold=threshold,
        both=proportion(both, n),
        only_first=proportion(int((x & ~y).sum()), n),
        only_second=proportion(int((y & ~x).sum()), n),
        shared=proportion(both, either, method="of channels that either fails on")
        if either
        else None,
        by_chance=float(x.mean()) * float(y.mean()),
    )


def _drop_notes(
    losses: ComparedLosses, quantities: Mapping[str, Mapping[Pair, PairedFigure]]
) -> tuple[str, ...]:
    """Whether users of a drop are alike in the differences, and what was done about it."""
    if not quantities[MEAN]:
        return ()
    if losses.drops is None:
        return ("Which users share a drop is not known: intervals count per user.",)
    nmse = losses.nmse
    effects = {
        (a, b): design_effect(nmse[a] / nmse[a].mean() - nmse[b] / nmse[b].mean(), losses.drops)
        for a, b in quantities[MEAN]
        if min(nmse[a].mean(), nmse[b].mean()) > 0
    }
    known = {pair: effect for pair, effect in effects.items() if effect is not None}
    if not known:
        return ("The design effect of drops is unknown: intervals count per user.",)
    worst = max(known, key=lambda pair: known[pair])
    figures = [figure for pairs in quantities.values() for figure in pairs.values()]
    wider = sum(figure.design_effect is not None for figure in figures)
    return (
        f"Design effect of {len(np.unique(losses.drops))} drops on the paired difference of mean "
        f"NMSE: at most {known[worst]:.2f} ({worst[0]}, {worst[1]}); 1 means users as good as "
        f"independent. Where it is more than chance explains, in {wider} of {len(figures)} "
        "differences here, interval and test go by drop; all others count per user.",
    )


def _realism_note(base: ComparedLosses, real: ComparedLosses) -> str:
    """Whether samples of the base law can stand for the real channels."""
    items = [
        base_item(name, base.nmse[name], real.nmse[name], kind="distortion") for name in base.names
    ]
    worst = max(items, key=lambda item: item.ks or 0.0)
    said = {
        "credible": "The base law is credible here",
        "misses": "The base law misses the real channels: what follows of its samples is an "
        "indication only",
        "cannot tell": "Cannot tell whether the base law is close to the real channels",
        "not checked": "The base law was not checked",
    }[base_verdict(items)]
    return (
        f"{said}. Largest Kolmogorov-Smirnov distance of a distortion to {real.name}: "
        f"{worst.ks or 0:.3f} ({worst.label}); a perfect model shows up to "
        f"{worst.floor_95 or 0:.3f} in 95 % of draws of this size. More: csi-audit check-base."
    )


def matrix_cell(losses: ComparedLosses, name: str, *, prob: float = 0.99) -> MatrixCell:
    """Figures of one compressor on one set; the case is the caller's to tell."""
    nmse = losses.nmse[name]
    mean = mean_estimate(nmse)
    fails = {t: losses.fails(t, name) for t in losses.levels}
    return MatrixCell(
        compressor=name,
        set_name=losses.name,
        case="base law" if losses.kind == "base" else "unknown",
        reason="",
        mean=mean,
        mean_db=DECIBELS * math.log(mean.value) if mean.value > 0 else None,
        p_fail={
            t: _by_definition(f) if t in losses.set_here else proportion(int(f.sum()), len(f))
            for t, f in fails.items()
        },
        quantile=quantile_estimate(nmse, prob),
        cvar=cvar_estimate(nmse, prob),
    )


def _by_definition(fails: npt.NDArray[np.bool_]) -> Estimate:
    """The share beyond a quantile of the same channels: no finding, so no interval."""
    return Estimate(
        value=float(fails.mean()), n=len(fails), status=BY_DEFINITION,
        method="share beyond a quantile of these very channels",
    )  # fmt: skip
