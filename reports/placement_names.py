"""Names of failure modes of placements in the field's words, and their rules in words.

A name says what the rule of a mode asks beyond what is usual, and where the users without service
stand if one place holds nearly all of them. Text is plain: escaping is the page's business.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from channels.physical_features import FeatureInfo
from channels.placement_domain import EDGE_DB
from reports.mode_schema import OutagePlace, RuleCondition
from reports.mode_space import Array, Condition, Rule
from reports.placement_space import Kind, Place, StandingUsers, numbered_stations
from reports.stratify import feature_display

MOST_PLACES = 4
LEAST_SHARE = 0.1  # of the unserved users, that a place must hold to be listed
NEARLY_ALL = 0.8

_CORNER = 0.3  # of a side: a place whose middle is nearer to two rims lies in a corner
_PLACE = re.compile(r"^users_(cell|edge|middle|far)((?:_\d+)+?)(?:_([\d.e+]+)(?:db|m))?$")
_KINDS: Mapping[str, Kind] = {"cell": "cell", "edge": "edge", "middle": "middle", "far": "far"}

_WHOLE = {  # feature: (at least, at most); {} is the limit
    "station_distance_m": ("users far from their stations", "users near their stations"),
    "farthest_user_m": ("a user {} m or more from its station", "no user far from a station"),
    "closest_pair_m": ("users apart from each other", "two users close together"),
    "user_spread_m": ("users spread over the area", "users close together"),
    "busiest_cell": ("users crowd one cell", "users spread over the cells"),
}


@dataclass(frozen=True, kw_only=True)
class PlacementFacts:
    """What a name is made from.

    Attributes:
        rule: Of the mode.
        usual: Median over all placements of what each of its conditions bounds.
        n_users: Users of a placement.
        corners: Stations whose far users lie in a corner of the area, numbers from 0.
        places: Where the unserved users of its failures stand, most of them first.
    """

    rule: Rule
    usual: Sequence[float]
    n_users: int
    corners: frozenset[int]
    places: Sequence[OutagePlace]


def placement_mode_name(facts: PlacementFacts) -> str:
    """`2 or more users at the cell edge between stations 1 and 2`."""
    telling = _telling(facts)
    parts = list(dict.fromkeys(_part(condition, facts) for condition in _named(facts)))
    placed = any(place_of_feature(c.feature) for c in telling)
    if facts.places and facts.places[0].share >= NEARLY_ALL and not placed:
        parts.append(f"the unserved ones {facts.places[0].name}")
    text = ", and ".join(part for part in (", ".join(parts[:-1]), parts[-1]) if part)
    return text[:1].upper() + text[1:]


def placement_condition_words(facts: PlacementFacts, info: Mapping[str, FeatureInfo]) -> list[str]:
    """Each condition of the rule in words that may stand behind the name, telling ones first.

    Where the name speaks of one place alone, its edge or middle is not said again.
    """
    families = {_family(condition) for condition in _named(facts)}
    telling = _telling(facts)
    words = []
    for condition in sorted(facts.rule, key=lambda c: c not in telling):
        place = place_of_feature(condition.feature)
        text = _bound_words(condition, info)
        if place and place.width_words and {place.family} == families:
            text = f"{condition.side} {condition.limit:g} {place.width_words}"
        words.append(text)
    return words


def placement_rule_words(rule: Rule, info: Mapping[str, FeatureInfo]) -> str:
    """The rule in full: `at least 2 users at the cell edge between stations 1 and 2, at most 3 dB
    apart in path loss`."""
    return " and ".join(_bound_words(condition, info) for condition in rule)


def place_of_feature(feature: str) -> Place | None:
    """The place whose users a feature counts, from its name; None where it counts none."""
    found = _PLACE.match(feature)
    if found is None:
        return None
    kind, numbers, size = found.groups()
    stations = tuple(int(number) - 1 for number in numbers.split("_")[1:])
    return Place(kind=_KINDS[kind], stations=stations, size=float(size) if size else 0.0)


def stored_rule(rule: Rule) -> tuple[RuleCondition, ...]:
    """A rule of features as `result.json` keeps it."""
    return tuple(
        RuleCondition(kind="feature", feature=c.feature, window=None, side=c.side, limit=c.limit)
        for c in rule
    )


def rule_of_stored(conditions: Sequence[RuleCondition]) -> Rule:
    """Inverse of `stored_rule`."""
    return tuple(
        Condition(kind="feature", feature=c.feature, side=c.side, limit=c.limit) for c in conditions
    )


def outage_places(users: StandingUsers, weight: Array) -> tuple[OutagePlace, ...]:
    """Where users without service stand, most of them first; () without any.

    Each such user counts at one place: between the stations whose path loss is less than `EDGE_DB`
    above the least (at most three), or in the cell of its station.

    Args:
        users: Of placements.
        weight: Weight of each placement, sum 1, (n,).
    """
    each = (weight[:, None] * users.unserved).ravel()
    total = float(each.sum())
    if total <= 0:
        return ()
    near = users.gap_db <= EDGE_DB
    stations = np.sort(np.where(near, users.order, -1), axis=-1)  # -1 is none
    groups, index = np.unique(stations.reshape(-1, stations.shape[-1]), axis=0, return_inverse=True)
    mass = np.bincount(index.ravel(), weights=each)
    at = users.metres.reshape(-1, 2)
    found = []
    for g in np.argsort(-mass, kind="stable")[:MOST_PLACES].tolist():
        if mass[g] < LEAST_SHARE * total:
            break
        mine = np.where(index.ravel() == g, each, 0.0) / mass[g]
        group = tuple(int(j) for j in groups[g] if j >= 0)
        found.append(
            OutagePlace(
                name=_group_words(group, users, mine),
                share=float(mass[g]) / total,
                centre_m=(float(mine @ at[:, 0]), float(mine @ at[:, 1])),
            )
        )
    return tuple(found)


def corner_stations(users: StandingUsers, weight: Array, places: Sequence[Place]) -> frozenset[int]:
    """Stations of far places whose users stand, on average, in a corner of the area."""
    width, height = users.network.area_m
    found = set()
    for place in places:
        inside = weight[:, None] * users.at(place)
        if place.kind != "far" or inside.sum() <= 0:
            continue
        x, y = np.einsum("nu,nud->d", inside / inside.sum(), users.metres)
        if min(x, width - x) < _CORNER * width and min(y, height - y) < _CORNER * height:
            found.add(place.stations[0])
    return frozenset(found)


def _telling(facts: PlacementFacts) -> list[Condition]:
    """Conditions that ask for more than is usual."""
    pairs = zip(facts.rule, facts.usual, strict=True)
    return [condition for condition, usual in pairs if _beyond(condition, usual)]


def _named(facts: PlacementFacts) -> list[Condition]:
    """Conditions that the name speaks of; all of them where none is telling."""
    return _deepest(_telling(facts) or list(facts.rule))


def _beyond(condition: Condition, usual: float) -> bool:
    """Whether a bound lies beyond the population's median, so that it sets the mode apart."""
    at_least = condition.side == "at least"
    return condition.limit > usual if at_least else condition.limit < usual


def _deepest(rule: Sequence[Condition]) -> list[Condition]:
    """Of conditions on places that differ in size alone, the one that asks for most."""
    best: dict[tuple[str, str], Condition] = {}
    for condition in sorted(rule, key=lambda c: c.limit if c.side == "at least" else -c.limit):
        best[_family(condition), condition.side] = condition
    return [condition for condition in rule if condition in best.values()]


def _family(condition: Condition) -> str:
    place = place_of_feature(condition.feature)
    return condition.feature if place is None else place.family


def _part(condition: Condition, facts: PlacementFacts) -> str:
    """What one condition says in a name."""
    place, at_least = place_of_feature(condition.feature), condition.side == "at least"
    limit = round(condition.limit)
    if condition.feature == "edge_users":
        return f"{_count(limit, facts.n_users)} at cell edges" if at_least else (
            "no user at a cell edge" if limit < 1 else "few users at cell edges"
        )  # fmt: skip
    if place is None:
        words = _WHOLE.get(condition.feature)
        if words is None:
            return f"{condition.feature} {condition.side} {condition.limit:.3g}"
        return words[not at_least].format(f"{condition.limit:.0f}")
    if not at_least:
        return f"{'no user' if limit < 1 else 'few users'} {place.words}"
    if place.kind == "cell" and limit > 1:
        return f"users crowd cell {place.stations[0] + 1}"
    if place.kind == "far":
        where = "corner " if place.stations[0] in facts.corners else ""
        whose = "its station" if limit < 2 else "their station"
        who = "a far {}user" if limit < 2 else "far {}users"
        return (
            f"{who.format(where)} of cell {place.stations[0] + 1}, {place.size:g} m or more from "
            f"{whose}"
        )
    return f"{_count(limit, facts.n_users)} {place.words}"


def _count(at_least: int, n_users: int) -> str:
    """`2 or more users`, `a user`, `all 5 users`."""
    if at_least >= n_users > 1:
        return f"all {n_users} users"
    return "a user" if at_least < 2 else f"{at_least} or more users"


def _bound_words(condition: Condition, info: Mapping[str, FeatureInfo]) -> str:
    label, unit, scale = feature_display(condition.feature, info)
    limit = f"{condition.side} {scale * condition.limit:.3g}"
    if place_of_feature(condition.feature) or condition.feature == "edge_users":
        return f"{limit} {label.replace('users', 'user', 1) if condition.limit == 1 else label}"
    return f"{label} {limit} {unit}".strip()


def _group_words(
    group: tuple[int, ...], users: StandingUsers, weight: npt.NDArray[np.float64]
) -> str:
    """Where the users of one group of stations stand."""
    kind: Kind = ("cell", "edge", "middle")[len(group) - 1]
    if kind != "cell":
        return Place(kind=kind, stations=group).words
    distance = float(weight @ users.distance_m.ravel())
    return f"inside cell {numbered_stations(group)}, {distance:.0f} m from its station on average"
