"""Names of modes of placements, their rules in words, and where unserved users stand."""

from typing import Any

import numpy as np
import pytest

from channels.network import CellNetwork
from reports.mode_schema import OutagePlace
from reports.mode_space import Condition, Rule, Side
from reports.placement_names import (
    PlacementFacts,
    corner_stations,
    outage_places,
    placement_condition_words,
    placement_mode_name,
    placement_rule_words,
    rule_of_stored,
    stored_rule,
)
from reports.placement_space import Place, StandingUsers, feature_words

pytestmark = pytest.mark.unit

NETWORK = CellNetwork()
EDGE = Place(kind="edge", stations=(0, 1), size=2.0)
NARROW = Place(kind="edge", stations=(0, 1), size=1.0)
FAR = Place(kind="far", stations=(2,), size=60.0)
CELL = Place(kind="cell", stations=(2,))


def bound(feature: str, limit: float, side: Side = "at least") -> Condition:
    return Condition(kind="feature", feature=feature, side=side, limit=limit)


def facts_of(
    *rule: Condition,
    usual: float = 0.0,
    corners: tuple[int, ...] = (),
    places: tuple[OutagePlace, ...] = (),
) -> PlacementFacts:
    return PlacementFacts(
        rule=rule, usual=[usual] * len(rule), n_users=5, corners=frozenset(corners), places=places
    )


def name(*rule: Condition, **known: Any) -> str:
    return placement_mode_name(facts_of(*rule, **known))


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ((bound(EDGE.name, 1),), "A user at the cell edge between stations 1 and 2"),
        ((bound(EDGE.name, 3),), "3 or more users at the cell edge between stations 1 and 2"),
        ((bound(EDGE.name, 5),), "All 5 users at the cell edge between stations 1 and 2"),
        ((bound(CELL.name, 4),), "Users crowd cell 3"),
        ((bound(CELL.name, 1),), "A user in cell 3"),
        ((bound("edge_users", 2),), "2 or more users at cell edges"),
        ((bound("farthest_user_m", 61.7),), "A user 62 m or more from its station"),
        ((bound("user_spread_m", 12.0),), "Users spread over the area"),
        ((bound("busiest_cell", 0.8),), "Users crowd one cell"),
        ((bound("unheard_of", 0.8),), "Unheard_of at least 0.8"),
        (
            (bound(EDGE.name, 2), bound(NARROW.name, 1)),
            "2 or more users at the cell edge between stations 1 and 2",
        ),
        (
            (bound("station_distance_m", 40), bound("edge_users", 2), bound(CELL.name, 3)),
            "Users far from their stations, 2 or more users at cell edges, and users crowd cell 3",
        ),
    ],
)
def test_names_say_what_the_rule_asks(rule: Rule, words: str) -> None:
    assert name(*rule) == words


@pytest.mark.parametrize(
    ("feature", "words"),
    [
        (CELL.name, "No user in cell 3"),
        ("edge_users", "No user at a cell edge"),
        ("closest_pair_m", "Two users close together"),
        ("user_spread_m", "Users close together"),
        ("farthest_user_m", "No user far from a station"),
    ],
)
def test_upper_bounds_have_words_of_their_own(feature: str, words: str) -> None:
    assert name(bound(feature, 0.4, "at most"), usual=9) == words


def test_far_users_are_corner_users_where_they_stand_in_one() -> None:
    rule = (bound(FAR.name, 2),)
    assert name(*rule) == "Far users of cell 3, 60 m or more from their station"
    assert name(*rule, corners=(2,)) == (
        "Far corner users of cell 3, 60 m or more from their station"
    )
    assert name(bound(FAR.name, 1)) == "A far user of cell 3, 60 m or more from its station"


def test_bounds_that_are_usual_are_not_named() -> None:
    rule = (bound("station_distance_m", 40), bound(EDGE.name, 2))
    facts = PlacementFacts(rule=rule, usual=[45, 0], n_users=5, corners=frozenset(), places=())
    assert placement_mode_name(facts) == "2 or more users at the cell edge between stations 1 and 2"


def test_one_place_of_all_unserved_users_is_named_unless_the_rule_does() -> None:
    place = OutagePlace(name=EDGE.words, share=0.9, centre_m=(50.0, 10.0))
    assert name(bound("edge_users", 2), places=(place,)) == (
        "2 or more users at cell edges, and the unserved ones at the cell edge between stations 1 "
        "and 2"
    )
    assert "unserved" not in name(bound(EDGE.name, 2), places=(place,))


@pytest.mark.parametrize(
    ("rule", "usual", "words"),
    [
        (
            (bound(EDGE.name, 3), bound(NARROW.name, 2)), 0,
            ["at least 3 where path losses differ by 2 dB or less",
             "at least 2 where path losses differ by 1 dB or less"],
        ),
        (  # below what is usual, so last
            (bound(NARROW.name, 1), bound(EDGE.name, 3)), 2,
            ["at least 3 where path losses differ by 2 dB or less",
             "at least 1 where path losses differ by 1 dB or less"],
        ),
        (  # the name speaks of more than this edge
            (bound(EDGE.name, 3), bound(CELL.name, 4)), 0,
            ["at least 3 users at the cell edge between stations 1 and 2, at most 2 dB apart in "
             "path loss", "at least 4 users in cell 3"],
        ),
        (
            (bound(FAR.name, 2),), 0,
            ["at least 2 users far from station 3, 60 m or more from it and at no cell edge"],
        ),
    ],
)  # fmt: skip
def test_conditions_beside_a_name_say_a_place_once(
    rule: Rule, usual: float, words: list[str]
) -> None:
    info = feature_words([EDGE, NARROW, FAR, CELL])
    assert placement_condition_words(facts_of(*rule, usual=usual), info) == words


def test_rules_in_words() -> None:
    rule = (bound(EDGE.name, 2), bound("busiest_cell", 0.6, "at most"), bound(FAR.name, 1))
    assert placement_rule_words(rule, feature_words([EDGE, FAR])) == (
        "at least 2 users at the cell edge between stations 1 and 2, at most 2 dB apart in path "
        "loss and users in the busiest cell at most 60 % and at least 1 user far from station 3, "
        "60 m or more from it and at no cell edge"
    )
    assert rule_of_stored(stored_rule(rule)) == rule


def standing(*placements: list[tuple[float, float]]) -> StandingUsers:
    return StandingUsers(network=NETWORK, x=(np.array(placements) / 50 - 1).astype(np.float32))


def test_unserved_users_are_placed_and_weighed() -> None:
    users = standing(
        [(50, 10), (50, 20), (5, 5)],  # two at the edge of 1 and 2
        [(50, 38), (95, 5), (5, 5)],  # one in the middle
    )
    assert users.unserved.tolist() == [[True, True, False], [True, False, False]]
    found = outage_places(users, np.array([0.5, 0.5]))
    assert [p.name for p in found] == [EDGE.words, "in the middle between stations 1, 2 and 3"]
    assert [p.share for p in found] == pytest.approx([2 / 3, 1 / 3])
    assert found[0].centre_m == pytest.approx((50, 15), abs=1e-3)
    assert outage_places(users, np.array([0.0, 1.0]))[0].share == 1
    assert outage_places(standing([(5, 5), (6, 6)]), np.ones(1)) == ()


def test_unserved_users_off_the_edges_are_in_their_cell() -> None:
    noisy = CellNetwork(noise_w=1e-5)
    users = StandingUsers(network=noisy, x=(np.array([[(2, 98)]]) / 50 - 1).astype(np.float32))
    (place,) = outage_places(users, np.ones(1))
    assert place.name == "inside cell 3, 48 m from its station on average"


def test_corners_are_told_from_where_far_users_stand() -> None:
    corner, middle = standing([(2, 96), (60, 95)]), standing([(50, 62), (60, 95)])
    place = Place(kind="far", stations=(2,), size=30.0)
    assert corner_stations(corner, np.ones(1), [place, EDGE]) == {2}
    assert corner_stations(middle, np.ones(1), [place]) == frozenset()
