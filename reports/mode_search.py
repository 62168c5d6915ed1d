"""The search for failure modes: regions of channels where failures concentrate.

A mode is a rule of one to three bounds. Rules are found one after the other, as in scenario
discovery: the rule in which failures are most concentrated against the population, then the next
among the failures it leaves. Nothing here knows names, intervals or figures.

Source: bump hunting, Friedman and Fisher 1999, Statistics and Computing 9:123; for the failures of
a policy, Bryant and Lempert 2010, 10.1016/j.techfore.2009.08.002.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy import special

from reports.mode_space import (
    Array,
    Bool,
    Condition,
    Described,
    Rule,
    Side,
    beam_windows,
    delay_windows,
    inside_rule,
    mode_labels,
)

MOST_MODES = 4
MOST_CONDITIONS = 3
CHANCE = 0.01
"""Probability below which a rule as concentrated must come by chance, over all rules tried; and by
which factor one more condition must lower that probability."""

_STARTS = 6  # single conditions from which longer rules are grown
_PROBS = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.93, 0.95, 0.97, 0.98,
          0.99, 0.995)  # fmt: skip
Index = npt.NDArray[np.intp]
Chosen = tuple[tuple[int, int], ...]  # (column, limit) of each condition

_LEAST_POWER = 0.02  # of the energy that a bound on a window may ask for
_GROUPS = 10  # tenths of distance to the modes found, on which failures are levelled


@dataclass(frozen=True, kw_only=True)
class Cases:
    """Channels with what they stand for in the population and among the failures.

    Attributes:
        channels: n channels.
        population: Weight of each in the population, sum 1, (n,).
        failures: Weight of each among the failures, sum 1, (n,).
        n_failures: Effective number of independent failures.
    """

    channels: Described
    population: Array
    failures: Array
    n_failures: float

    def redrawn(self, counts: npt.NDArray[np.int64]) -> "Cases":
        """A resample that holds each case `counts` times, (n,)."""
        p, f = self.population * counts, self.failures * counts
        left = float(f.sum())
        return replace(
            self,
            population=p / p.sum(),
            failures=f / left if left > 0 else f,
            n_failures=self.n_failures * left,
        )


def find_rules(
    cases: Cases,
    *,
    most: int = MOST_MODES,
    table: "CandidateTable | None" = None,
    least_share: float = 0.0,
) -> list[Rule]:
    """Rules of the modes, the most telling first; [] where failures concentrate nowhere.

        score(R) = n KL(c || b) - cost(R),   KL(c || b) = c ln(c/b) + (1 - c) ln((1-c)/(1-b))

    c and b are the shares of the failures and of the population inside R, n the effective number
    of failures. By Chernoff's bound, n failures strewn like the population show such a c with a
    probability of at most exp(-n KL), and cost(R) = -ln of the prior share of R among all rules
    tried. A rule is a mode where score >= -ln `CHANCE`, and where n KL >= -ln `CHANCE` against the
    whole population too. The search ends at the first that is not.

    Channels of a mode leave the search, and the population left is weighted by the failure rate
    that nearness to the modes found explains (`levelled`): the surroundings of a mode are no mode
    of their own.

    Args:
        cases: Population and failures.
        most: Modes at most.
        table: Candidates of these cases, where they were made before.
        least_share: Of all failures that a mode must hold beside those found before, and more of
            them than of the population; 0 asks for neither.
    Source: Hoeffding 1963, J. Amer. Statist. Assoc. 58:13, 10.1080/01621459.1963.10500830; for
        levelled references, Kulldorff 1997, Commun. Statist. 26:1481.
    """
    found: list[Rule] = []
    if cases.n_failures <= 0:
        return found
    table = CandidateTable.of(cases) if table is None else table
    while len(found) < most and (rest := _rest(cases, found)) is not None:
        rule, score = _best_rule(table, rest)
        if score < -math.log(CHANCE) or not _stands_out(rule, cases):
            break
        if least_share > 0 and not _holds_enough(rule, found, cases, least_share):
            break
        found.append(rule)
    return found


def _stands_out(rule: Rule, cases: Cases) -> bool:
    """Whether failures concentrate in the rule against the whole population."""
    held = inside_rule(rule, cases.channels)
    c, b = float(cases.failures[held].sum()), float(cases.population[held].sum())
    return cases.n_failures * float(concentration(c, b)) >= -math.log(CHANCE)


def _holds_enough(rule: Rule, found: Sequence[Rule], cases: Cases, least_share: float) -> bool:
    """Whether a rule holds that share of the failures beside those of the rules found before."""
    own = mode_labels([*found, rule], cases.channels) == len(found)
    c, b = float(cases.failures[own].sum()), float(cases.population[own].sum())
    return c >= least_share and c > b


def concentration(c: npt.ArrayLike, b: npt.ArrayLike) -> Array:
    """KL(c || b) of two probabilities [nats] where c > b, else 0."""
    p = np.clip(np.asarray(c, dtype=np.float64), 0.0, 1.0)  # sums of weights are rounded
    q = np.clip(np.asarray(b, dtype=np.float64), 1e-12, 1 - 1e-12)
    found = special.rel_entr(p, q) + special.rel_entr(1 - p, 1 - q)
    return np.asarray(np.where(p > q, found, 0.0))


def levelled(cases: Cases, found: Sequence[Rule], outside: Bool) -> Array:
    """Population weights as if failures depended on the distance to the found modes alone, (n,).

    Outside the modes, the ratio of failures to population in tenths of that distance, made to fall
    with it, times the population's weight.
    """
    p = cases.population * outside
    if not found:
        return p
    far = np.min([_distance(rule, cases) for rule in found], axis=0)
    ranked = _ranks(far, p)
    group = np.minimum((ranked * _GROUPS).astype(int), _GROUPS - 1)
    mass, failed = (
        np.bincount(group, weights=w * outside, minlength=_GROUPS).astype(np.float64)
        for w in (p, cases.failures)
    )
    used = mass > 0
    rate = np.zeros(_GROUPS)
    rate[used] = falling(failed[used] / mass[used], mass[used])
    return np.asarray(p * rate[group])


def falling(values: Array, weight: Array) -> Array:
    """Weighted least-squares fit that never rises (pool adjacent violators), (n,).

    Source: Barlow, Bartholomew, Bremner, Brunk 1972, Statistical inference under order
        restrictions, chapter 1.
    """
    blocks: list[tuple[float, float, int]] = []  # mean, weight, length
    for value, w in zip(values, weight, strict=True):
        mean, total, size = float(value), float(w), 1
        while blocks and blocks[-1][0] < mean:
            m, t, s = blocks.pop()
            mean, total, size = (m * t + mean * total) / (t + total), t + total, s + size
        blocks.append((mean, total, size))
    return np.concatenate([np.full(size, mean) for mean, _, size in blocks])


@dataclass(frozen=True, kw_only=True)
class CandidateTable:
    """Every single condition that may be tried, on every case.

    Attributes:
        columns: Conditions without their limits, (m).
        limits: Limits tried of each column, rising, padded with +inf, (m, k); negated for
            "at most".
        reached: How many of its limits a case keeps in each column, (n, m).
        cost: Description length [nats] of one condition in each column, (m,).
        family: Feature or its family, "delay" or "beam" of each column.
    """

    columns: tuple[Condition, ...]
    limits: Array
    reached: npt.NDArray[np.int64]
    cost: Array
    family: npt.NDArray[np.str_]

    @classmethod
    def of(cls, cases: Cases) -> "CandidateTable":
        """The table of all cases; columns that hold one value only are left out."""
        columns, limits, reached = [], [], []
        for column in _columns(cases.channels):
            values = _signed(column) * column.values(cases.channels)
            tried = _tried(values, cases)
            if column.kind != "feature":
                tried = tried[tried >= _LEAST_POWER]
            if len(tried):
                columns.append(column)
                limits.append(tried)
                reached.append(np.searchsorted(tried, values, side="right"))
        known = cases.channels.families
        family = [known.get(c.feature, c.feature) or c.kind for c in columns]
        many = {
            name: sum(len(t) for f, t in zip(family, limits, strict=True) if f == name)
            for name in family
        }
        k = max(map(len, limits), default=0)
        return cls(
            columns=tuple(columns),
            limits=np.array([np.pad(t, (0, k - len(t)), constant_values=math.inf) for t in limits]),
            reached=np.array(reached, dtype=np.int64).reshape(len(columns), -1).T,
            cost=np.array([math.log(len(many) * many[name]) for name in family]),
            family=np.array(family),
        )

    def shares(self, weight: Array, columns: Index) -> Array:
        """Share of `weight` (n,), sum 1, that keeps some columns at each limit, (columns, k)."""
        m, k = len(columns), self.limits.shape[1]
        rows = np.flatnonzero(weight)
        place = self.reached[np.ix_(rows, columns)] + np.arange(m) * (k + 1)
        mass = np.bincount(place.ravel(), np.repeat(weight[rows], m), minlength=m * (k + 1))
        return mass.reshape(m, k + 1)[:, ::-1].cumsum(1)[:, ::-1][:, 1:]

    def of_family(self, name: str) -> Index:
        """Columns of one feature, or of windows of one kind."""
        return np.flatnonzero(self.family == name)

    def condition(self, column: int, limit: int) -> Condition:
        found = self.columns[column]
        return replace(found, limit=_signed(found) * float(self.limits[column, limit]))

    def keep(self, column: int, limit: int) -> Bool:
        """Cases that keep the condition, (n,)."""
        return np.asarray(self.reached[:, column] > limit)


def _best_rule(table: CandidateTable, cases: Cases) -> tuple[Rule, float]:
    """The rule of the highest score; one grown from each of the best single conditions."""
    grown = [_grow(table, cases, *start) for start in _starts(table, cases)]
    chosen, score = max(grown, key=lambda pair: pair[1], default=((), -math.inf))
    return tuple(table.condition(*pair) for pair in chosen), score


def _starts(table: CandidateTable, cases: Cases) -> list[tuple[Chosen, float]]:
    """The best single condition of each feature, and of windows of either kind."""
    families = dict.fromkeys(table.family)
    best = [_best(table, cases, (), table.of_family(name)) for name in families]
    return [((pair,), score) for score, pair in sorted(best, reverse=True)[:_STARTS]]


def _grow(
    table: CandidateTable, cases: Cases, chosen: Chosen, score: float
) -> tuple[Chosen, float]:
    """Add conditions while each gains -ln `CHANCE`, every limit set anew in between."""
    everything = np.arange(len(table.columns))
    while len(chosen) < MOST_CONDITIONS:
        _, added = _best(table, cases, chosen, everything)
        longer, better = _reset(table, cases, (*chosen, added))
        if better < score - math.log(CHANCE):
            break
        chosen, score = longer, better
    return chosen, score


def _reset(table: CandidateTable, cases: Cases, chosen: Chosen) -> tuple[Chosen, float]:
    """Each condition in turn at the best column of its family and limit, given the others."""
    score = -math.inf
    for i, (column, _) in enumerate(chosen):
        others = (*chosen[:i], *chosen[i + 1 :])
        score, pair = _best(table, cases, others, table.of_family(table.family[column]))
        chosen = (*chosen[:i], pair, *chosen[i + 1 :])
    return chosen, score


def _best(
    table: CandidateTable, cases: Cases, chosen: Chosen, columns: Index
) -> tuple[float, tuple[int, int]]:
    """Score of `chosen` with one more condition on one of the columns, and that condition."""
    held = np.ones(len(cases.population), dtype=bool)
    for pair in chosen:
        held &= table.keep(*pair)
    c, b = (table.shares(w * held, columns) for w in (cases.failures, cases.population))
    cost = sum(float(table.cost[column]) for column, _ in chosen) + table.cost[columns]
    score = cases.n_failures * concentration(c, b) - cost[:, None]
    score = np.where(np.isfinite(table.limits[columns]), score, -math.inf)
    column, limit = np.unravel_index(int(score.argmax()), score.shape)
    return float(score[column, limit]), (int(columns[column]), int(limit))


def _columns(channels: Described) -> list[Condition]:
    """All conditions that may be tried, without their limits."""
    sides: tuple[Side, Side] = ("at least", "at most")
    found = [
        Condition(kind="feature", feature=name, side=side, limit=0.0)
        for name in channels.ruling
        if name in channels.features
        for side in sides
    ]
    delays, beams = channels.delay_power.shape[1], channels.beam_power.shape[1]
    found += [Condition(kind="delay", bins=run, limit=0.0) for run in delay_windows(delays)]
    return found + [Condition(kind="beam", bins=run, limit=0.0) for run in beam_windows(beams)]


def _signed(column: Condition) -> float:
    return 1.0 if column.side == "at least" else -1.0


def _tried(values: Array, cases: Cases) -> Array:
    """Limits worth trying: quantiles of population and failures, to three digits, (k,)."""
    found = [_quantiles(values, w) for w in (cases.population, cases.failures)]
    limits = np.unique([float(f"{value:.3g}") for value in np.concatenate(found)])
    return limits[(limits > values.min()) & (limits <= values.max())]


def _quantiles(values: Array, weight: Array) -> Array:
    order = np.argsort(values, kind="stable")
    mass = weight[order].cumsum()
    place = np.searchsorted(mass / mass[-1], _PROBS)
    return np.asarray(values[order][np.minimum(place, len(values) - 1)])


def _rest(cases: Cases, found: Sequence[Rule]) -> Cases | None:
    """The cases outside all modes found, against the levelled population; None if none fails."""
    inside = np.zeros(len(cases.population), dtype=bool)
    for rule in found:
        inside |= inside_rule(rule, cases.channels)
    failures = cases.failures * ~inside
    population = levelled(cases, found, ~inside)
    left = float(failures.sum())
    if left <= 0 or population.sum() <= 0:
        return None
    return replace(
        cases,
        population=population / population.sum(),
        failures=failures / left,
        n_failures=cases.n_failures * left,
    )


def _distance(rule: Rule, cases: Cases) -> Array:
    """How far outside the rule each case lies: the largest gap to a limit, in shares of the
    population, (n,)."""
    gaps = [np.zeros(len(cases.population))]
    for condition in rule:
        values = _signed(condition) * condition.values(cases.channels)
        rank = _ranks(values, cases.population)
        limit = float(cases.population[values < _signed(condition) * condition.limit].sum())
        gaps.append(np.maximum(limit - rank, 0.0))
    return np.asarray(np.max(gaps, axis=0))


def _ranks(values: Array, weight: Array) -> Array:
    """Share of the weight below each value, equal values alike, in [0, 1), (n,)."""
    order = np.argsort(values, kind="stable")
    mass = np.concatenate([[0.0], weight[order].cumsum()])
    first = np.searchsorted(values[order], values, side="left")
    return np.asarray(mass[first] / max(float(mass[-1]), 1e-300))
