"""Failure modes of placements: where the users of a cell network sit when it fails.

The same search, criterion, stability and confirmation as for channels (mode_search.py,
failure_modes.py, mode_telling.py); rules speak of features of a placement and of how many users
stand at places of the network (placement_space.py). From arrays to what `result.json` stores.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from reports.failure_modes import (
    CRITERION,
    FoundModes,
    WeightedChannels,
    failure_cases,
    found_modes,
)
from reports.loss_schema import Tail
from reports.mode_schema import FailureMode, ModeReport, Stratum
from reports.mode_search import Cases
from reports.mode_space import Array, Bool, Rule, mode_labels
from reports.mode_telling import RuleTeller
from reports.network_schema import OutageRow
from reports.placement_arrays import PlacementArrays
from reports.placement_names import (
    PlacementFacts,
    corner_stations,
    outage_places,
    place_of_feature,
    placement_condition_words,
    placement_mode_name,
    placement_rule_words,
    rule_of_stored,
    stored_rule,
)
from reports.placement_space import (
    WHOLE_FEATURES,
    Place,
    StandingUsers,
    described_placements,
    feature_words,
    network_places,
)
from reports.reweighting import normalised_weights
from reports.strata import failure_strata

PLACES_TELL = 0.8
"""Share of what rules on anything tell of the failures from which rules on places alone will do."""

LEAST_OF_FAILURES = 0.05
"""Share of all failures that a mode must hold."""

STRATA_FEATURES = ("farthest_user_m", "station_distance_m", "edge_users", "user_spread_m")
REAL_WORDS = "real placements"

_CRITERION = (
    f"{CRITERION}, and where it holds at least {100 * LEAST_OF_FAILURES:g} % of the failures. "
    "Rules count users at places (cells, edges, middles, far from a station) where these tell at "
    f"least {100 * PLACES_TELL:g} % of what rules on anything tell of the failures"
)
_MOST_CALM, _MOST_FAILING = 10_000, 5_000  # samples of either kind that a search looks at


@dataclass(frozen=True, kw_only=True)
class FailingPlacements:
    """Placements that fail by one loss, weighted to p(x | L > tau).

    Attributes:
        users: Of the placements.
        weight: Of each, sum 1, (n,).
        labels: Mode of each, -1 for none, (n,).
        index: Row of each among the samples it is from, (n,).
        values: L of each, (n,); None where it is only known to be beyond tau.
    """

    users: StandingUsers
    weight: Array
    labels: npt.NDArray[np.int64]
    index: npt.NDArray[np.intp]
    values: Array | None

    def taken(self, rows: npt.NDArray[Any]) -> "FailingPlacements":
        """The placements of `rows`, integers or bool, with the weights they have."""
        return FailingPlacements(
            users=StandingUsers(network=self.users.network, x=self.users.x[rows]),
            weight=self.weight[rows],
            labels=self.labels[rows],
            index=self.index[rows],
            values=None if self.values is None else self.values[rows],
        )


def modes_of_placements(
    row: OutageRow, arrays: PlacementArrays, *, seed: int
) -> tuple[ModeReport, tuple[Stratum, ...]]:
    """Modes and strata of one loss at the threshold `arrays.tau` names.

    Modes are found on the failing base samples, or on the sample of the failure law where there is
    one, and confirmed or not by the real placements.

    Args:
        row: The loss with its tails.
        arrays: Placements and losses.
        seed: Of the resamples that stability is judged by.
    Raises:
        ValueError: no threshold is known for the loss.
    """
    if row.name not in arrays.tau:
        raise ValueError(f"tau must have the loss {row.name!r}; it has {sorted(arrays.tau)}.")
    tail = _tail_at(row, arrays.tau[row.name])
    sides = _Sides.of(row, arrays)
    modes = _found(sides, seed)
    teller = _teller(modes, sides)
    told = [_told(k, teller, sides) for k in range(len(modes.rules))]
    report = teller.report(
        [mode for mode, _ in told],
        conditions=[conditions for _, conditions in told],
        threshold="" if tail is None else tail.threshold,
        level=arrays.tau[row.name],
        criterion=_CRITERION,
    )
    if tail is not None and tail.counted is not None and tail.base is not None:
        report = replace(report, rate_base=tail.base)  # deeper than the base samples can count
    return report, _strata(teller, sides, report.threshold)


def failing_placements(
    row: OutageRow, arrays: PlacementArrays, *, real: bool = False
) -> FailingPlacements | None:
    """The failures of a loss with the mode of each; None without any.

    Args:
        row: The loss with its modes.
        arrays: Placements and losses.
        real: Take the real placements, instead of what the modes were found on.
    """
    if row.name not in arrays.tau or row.name not in arrays.losses_base:
        return None
    sides = _Sides.of(row, arrays)
    side = sides.real if real else sides.source
    failing = None if side is None else side.failing
    if side is None or failing is None:
        return None
    users, weight = failing
    rules = [rule_of_stored(mode.rule) for mode in row.modes.modes] if row.modes else []
    values = arrays.losses_real if real else {} if sides.failures else arrays.losses_base
    return FailingPlacements(
        users=users,
        weight=weight,
        labels=mode_labels(rules, described_placements(users, _rule_places(rules))),
        index=np.flatnonzero(side.fails),
        values=values[row.name][side.fails] if row.name in values else None,
    )


class _Side(NamedTuple):
    """Placements of one kind: users, which placements fail, log weights, clusters."""

    users: StandingUsers
    fails: Bool
    log_w: Array
    clusters: npt.NDArray[np.int64] | None = None

    @property
    def failing(self) -> tuple[StandingUsers, Array] | None:
        """Those that fail and their weights, sum 1; None where nothing of weight does."""
        log_w = self.log_w[self.fails]
        if len(log_w) == 0 or np.isneginf(log_w).all():
            return None
        users = StandingUsers(network=self.users.network, x=self.users.x[self.fails])
        return users, normalised_weights(log_w)


@dataclass(frozen=True, kw_only=True)
class _Sides:
    """Base samples, real placements and the failure sample of one loss; None where there is none.

    `source` is what modes are found on.
    """

    base: _Side
    real: _Side | None
    failures: _Side | None

    @classmethod
    def of(cls, row: OutageRow, arrays: PlacementArrays) -> "_Sides":
        tau, sign = arrays.tau[row.name], 1.0 if row.worse == "high" else -1.0

        def standing(x: npt.NDArray[Any]) -> StandingUsers:
            return StandingUsers(network=arrays.network, x=x)

        base = _Side(
            users=standing(arrays.x_base),
            fails=sign * arrays.losses_base[row.name] > sign * tau,
            log_w=arrays.log_w.astype(np.float64),
        )
        real = failures = None
        if len(arrays.x_real) and row.name in arrays.losses_real:
            real = _Side(
                users=standing(arrays.x_real),
                fails=sign * arrays.losses_real[row.name] > sign * tau,
                log_w=np.zeros(len(arrays.x_real)),
            )
        given = arrays.failures.get(row.name)
        if given is not None and len(given):
            failures = _Side(
                users=standing(given.x),
                fails=np.ones(len(given), dtype=bool),
                log_w=given.log_w.astype(np.float64),
                clusters=given.clusters,
            )
        return cls(base=base, real=real, failures=failures)

    @property
    def source(self) -> _Side:
        return self.failures or self.base


def _tail_at(row: OutageRow, tau: float) -> Tail | None:
    """The tail of the loss whose level is nearest to tau."""
    tails = [tail for tail in row.estimates.tails if tail.level is not None]
    return min(tails, key=lambda tail: abs((tail.level or 0.0) - tau), default=None)


# --- The search -----------------------------------------------------------------------------------


def _found(sides: _Sides, seed: int) -> FoundModes:
    """Modes by rules on places alone, or by rules on anything where those tell too little.

        told = sum over modes and what is outside of c ln(c / b)

    c and b are the shares of the failures and of the population.
    """
    random = np.random.default_rng(seed)
    base = _thinned(sides.base, random)
    failures = None if sides.failures is None else _thinned(sides.failures, random)
    places = _places(base, failures)
    counts = [place.name for place in places]
    found = []
    for ruling in (counts, [*WHOLE_FEATURES, *counts]):
        weighted = _weighted(base, places, ruling)
        other = None if failures is None else _weighted(failures, places, ruling)
        cases = failure_cases(weighted, other)
        found.append(found_modes(cases, seed=seed, least_share=LEAST_OF_FAILURES))
    by_place, by_anything = found
    will_do = _told_of(by_place) >= PLACES_TELL * _told_of(by_anything)
    return by_place if will_do else by_anything


def _told_of(modes: FoundModes) -> float:
    """What a division into modes tells of the failures [nats each]; 0 without modes."""
    cases: Cases = modes.cases
    c, b = (
        np.bincount(modes.labels + 1, weights=w, minlength=len(modes.rules) + 1)
        for w in (cases.failures, cases.population)
    )
    used = c > 0
    return float(c[used] @ np.log(c[used] / np.maximum(b[used], 1e-12))) if modes.rules else 0.0


def _thinned(side: _Side, random: np.random.Generator) -> _Side:
    """At most as many placements as a search needs; those kept stand for those left out."""
    kept, raised = [], []
    for group, most in ((side.fails, _MOST_FAILING), (~side.fails, _MOST_CALM)):
        rows = np.flatnonzero(group)
        some = np.sort(random.permutation(rows)[:most]) if len(rows) > most else rows
        kept.append(some)
        raised.append(np.full(len(some), np.log(len(rows) / max(len(some), 1)) if len(rows) else 0))
    rows = np.concatenate(kept)
    return _Side(
        users=StandingUsers(network=side.users.network, x=side.users.x[rows]),
        fails=side.fails[rows],
        log_w=side.log_w[rows] + np.concatenate(raised),
        clusters=None if side.clusters is None else side.clusters[rows],
    )


def _places(base: _Side, failures: _Side | None) -> tuple[Place, ...]:
    """Places that hold enough users of the population or of the failures."""
    found = dict.fromkeys(network_places(base.users, normalised_weights(base.log_w)))
    failing = (failures or base).failing
    if failing is not None:
        found |= dict.fromkeys(network_places(*failing))
    return tuple(found)


def _weighted(
    side: _Side, places: Sequence[Place], ruling: Sequence[str] | None = None
) -> WeightedChannels:
    return WeightedChannels(
        channels=described_placements(side.users, places, ruling=ruling),
        fails=side.fails, log_w=side.log_w, clusters=side.clusters,
    )  # fmt: skip


# --- What is told ---------------------------------------------------------------------------------


def _teller(modes: FoundModes, sides: _Sides) -> RuleTeller:
    """All placements as the rules of the modes see them."""
    places = _rule_places(modes.rules)
    base = _weighted(sides.base, places)
    return RuleTeller(
        modes=modes,
        base=base,
        real=None if sides.real is None else _weighted(sides.real, places),
        source=base if sides.failures is None else _weighted(sides.failures, places),
        info=feature_words(places),
        real_words=REAL_WORDS,
    )


def _rule_places(rules: Sequence[Rule]) -> tuple[Place, ...]:
    found = (place_of_feature(condition.feature) for rule in rules for condition in rule)
    return tuple(dict.fromkeys(place for place in found if place is not None))


def _told(k: int, teller: RuleTeller, sides: _Sides) -> tuple[FailureMode, list[str]]:
    """Mode k with its name and where its unserved users stand, and its conditions in words."""
    rule = teller.modes.rules[k]
    bare = teller.bare_mode(
        k, rule=stored_rule(rule), rule_text=placement_rule_words(rule, teller.info)
    )
    source, failing = sides.source, teller.failing(k)
    mine = StandingUsers(network=source.users.network, x=source.users.x[failing])
    weight = normalised_weights(source.log_w[failing])
    facts = PlacementFacts(
        rule=rule,
        usual=teller.usual(k),
        n_users=mine.x.shape[1],
        corners=corner_stations(mine, weight, _rule_places([rule])),
        places=outage_places(mine, weight),
    )
    mode = replace(bare, name=placement_mode_name(facts), places=tuple(facts.places))
    return mode, placement_condition_words(facts, teller.info)


def _strata(teller: RuleTeller, sides: _Sides, threshold: str) -> tuple[Stratum, ...]:
    """Outage probability within ranges of the features, of counts by their numbers."""
    n_users = sides.base.users.x.shape[1]
    strata = failure_strata(
        teller.base, teller.real, threshold=threshold, names=STRATA_FEATURES, info=teller.info
    )
    return tuple(_counted(stratum, n_users) for stratum in strata)


def _counted(stratum: Stratum, n_users: int) -> Stratum:
    """A stratum of a count with its numbers as name: `2`, `3 or 4`, `3 to 5`, `5 or more`."""
    if stratum.feature != "edge_users":
        return stratum
    low = 0 if stratum.low is None else int(np.ceil(stratum.low))
    if stratum.high is None:
        return replace(stratum, name=f"{low} or more" if low < n_users else f"{low}")
    high = int(np.ceil(stratum.high)) - 1
    joint = "or" if high == low + 1 else "to"
    return replace(stratum, name=f"{low}" if high <= low else f"{low} {joint} {high}")
