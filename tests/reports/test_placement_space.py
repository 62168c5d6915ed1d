"""Places of a network and the users counted at them, against geometry by hand."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.network import CellNetwork
from channels.placement_domain import EDGE_DB
from reports.placement_names import place_of_feature
from reports.placement_space import (
    WHOLE_FEATURES,
    Place,
    StandingUsers,
    described_placements,
    feature_words,
    network_places,
    numbered_stations,
)

NETWORK = CellNetwork()  # stations 1 (0, 0), 2 (100, 0), 3 (50, 100)


def standing(*metres: tuple[float, float], network: CellNetwork = NETWORK) -> StandingUsers:
    """One placement of users at these positions [m]."""
    x = np.array(metres) / (np.array(network.area_m) / 2) - 1
    return StandingUsers(network=network, x=x[None].astype(np.float32))


def uniform(n: int, n_users: int = 4, seed: int = 0) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (n, n_users, 2)).astype(np.float32)


@pytest.mark.unit
def test_places_hold_whom_geometry_says() -> None:
    users = standing((50, 1), (1, 1), (50, 37), (0, 45), (99, 40))
    held: dict[Place, list[int | None]] = {
        Place(kind="edge", stations=(0, 1), size=1.0): [1, 0, 1, 0, 0],
        Place(kind="middle", stations=(0, 1, 2), size=3.0): [0, 0, 1, 0, 0],
        Place(kind="far", stations=(0,), size=40.0): [0, 0, 0, 1, 0],
        Place(kind="far", stations=(0,), size=46.0): [0, 0, 0, 0, 0],
        Place(kind="cell", stations=(1,)): [None, 0, None, 0, 1],
    }
    for place, wanted in held.items():
        found = users.at(place)[0].tolist()
        pairs = [(f, w) for f, w in zip(found, wanted, strict=True) if w is not None]
        assert all(f == bool(w) for f, w in pairs), place.name


@pytest.mark.unit
def test_who_is_at_an_edge_is_not_far() -> None:
    users = standing((50, 1), (0, 45))
    assert users.gap_db[0, 0, 1] < EDGE_DB < users.gap_db[0, 1, 1]
    assert users.off_edges[0].tolist() == [False, True]


@pytest.mark.unit
def test_stations_of_one_and_of_two_have_the_places_they_can() -> None:
    x = uniform(200)
    alone = StandingUsers(network=CellNetwork(stations_m=((0.0, 0.0),)), x=x)
    assert {p.kind for p in network_places(alone, np.full(200, 1 / 200))} == {"far"}
    pair = StandingUsers(network=CellNetwork(stations_m=((0.0, 0.0), (100.0, 0.0))), x=x)
    found = network_places(pair, np.full(200, 1 / 200))
    assert {p.kind for p in found} == {"cell", "far", "edge"}
    described = described_placements(alone, ())
    assert "edge_users" not in described.features


@pytest.mark.unit
def test_places_that_hold_nobody_are_left_out() -> None:
    near = standing((1, 1), (2, 1), (1, 2))
    found = network_places(near, np.ones(1))
    assert Place(kind="cell", stations=(0,)) in found
    assert {place.stations for place in found} == {(0,)}


@pytest.mark.property
@given(st.permutations(range(5)), st.integers(0, 10_000))
def test_the_order_of_users_changes_no_feature(order: list[int], seed: int) -> None:
    x = uniform(3, 5, seed)
    users, moved = (StandingUsers(network=NETWORK, x=v) for v in (x, x[:, order]))
    places = network_places(users, np.full(3, 1 / 3))
    assert set(places) == set(network_places(moved, np.full(3, 1 / 3)))
    first, second = (described_placements(u, places).features for u in (users, moved))
    for name, values in first.items():
        assert second[name] == pytest.approx(values, rel=1e-5, abs=1e-5)


@pytest.mark.unit
def test_stations_are_not_taken_to_be_alike() -> None:
    """A mirrored placement has other counts, which a sorted occupancy would not see."""
    places = [Place(kind="cell", stations=(j,)) for j in range(2)]
    left, right = standing((5, 5), (8, 3)), standing((95, 5), (92, 3))
    one, other = (described_placements(u, places).features for u in (left, right))
    assert [one[p.name][0] for p in places] == [2, 0]
    assert [other[p.name][0] for p in places] == [0, 2]
    assert one["busiest_cell"] == other["busiest_cell"]


@pytest.mark.unit
def test_rules_may_not_use_the_worst_sinr() -> None:
    users = StandingUsers(network=NETWORK, x=uniform(50))
    described = described_placements(users, network_places(users, np.full(50, 1 / 50)))
    assert "worst_sinr_db" in described.features
    assert "worst_sinr_db" not in described.ruling
    assert set(WHOLE_FEATURES) < set(described.ruling)
    assert described.families["users_edge_1_2_3db"] == described.families["users_edge_1_2_1db"]
    assert len(described) == len(described.rows(np.arange(50))) == 50


@pytest.mark.property
@given(
    st.sampled_from(["cell", "edge", "middle", "far"]),
    st.lists(st.integers(0, 40), min_size=3, max_size=3, unique=True),
    st.sampled_from([1.0, 2.5, 6.0, 60.0, 1500.0, 1.5e6]),
)
def test_a_feature_name_tells_its_place(kind: str, stations: list[int], size: float) -> None:
    count = {"cell": 1, "edge": 2, "middle": 3, "far": 1}[kind]
    place = Place(kind=kind, stations=tuple(sorted(stations[:count])),  # type: ignore[arg-type]
                  size=0.0 if kind == "cell" else size)  # fmt: skip
    assert place_of_feature(place.name) == place


@pytest.mark.unit
def test_words_of_places_and_features() -> None:
    edge = Place(kind="edge", stations=(0, 2), size=3.0)
    assert edge.words == "at the cell edge between stations 1 and 3"
    assert Place(kind="middle", stations=(0, 1, 2), size=3.0).words.endswith("1, 2 and 3")
    label = feature_words([edge])[edge.name].label
    assert label == (
        "users at the cell edge between stations 1 and 3, at most 3 dB apart in path loss"
    )
    assert numbered_stations([4]) == "5"
    assert place_of_feature("edge_users") is None
    assert place_of_feature("users_nowhere_1") is None
