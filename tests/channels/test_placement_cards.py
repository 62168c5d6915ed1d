"""Network cards: what they may say, defaults, and a line for every wrong one."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from channels.network import CellNetwork
from channels.placement_cards import PLACEMENT_LAWS, NetworkCard, read_network_card
from channels.placements import HotspotUsers, StreetUsers, UniformUsers
from channels.propagation import SectorPattern, Shadowing
from channels.support import CsiAuditError

pytestmark = pytest.mark.unit


def written(folder: Path, text: str) -> Path:
    path = folder / "card.yaml"
    path.write_text(text)
    return path


def test_the_default_is_three_stations_and_five_uniform_users() -> None:
    card = read_network_card("default")
    assert card == NetworkCard(law=UniformUsers(n_users=5), network=CellNetwork())
    assert (card.n_users, card.network.n_stations) == (5, 3)


def test_users_are_all_a_card_must_say(tmp_path: Path) -> None:
    card = read_network_card(written(tmp_path, "users: 7"))
    assert card == NetworkCard(law=UniformUsers(n_users=7))


def test_a_card_says_everything(tmp_path: Path) -> None:
    text = """
users: 4
law: {name: hotspot, hotspots: 2, spread: 0.1}
stations_m: [[0, 0], [200, 0]]
area_m: [200, 50]
exponent: 3
noise_w: 1e-9
threshold_db: -2.5
scale: linear
load: [1, 0.5]
shadowing: {spread_db: 6, seed: 3}
pattern: {boresight_deg: [45, 135]}
"""
    card = read_network_card(written(tmp_path, text))
    assert card.law == HotspotUsers(n_users=4, hotspots=2.0, spread=0.1)
    assert card.network == CellNetwork(
        stations_m=((0.0, 0.0), (200.0, 0.0)),
        area_m=(200.0, 50.0),
        exponent=3.0,
        noise_w=1e-9,
        threshold_db=-2.5,
        scale="linear",
        load=(1.0, 0.5),
        shadowing=Shadowing(spread_db=6.0, seed=3),
        pattern=SectorPattern(boresight_deg=(45.0, 135.0)),
    )


def test_plain_values_tell_cards_apart_and_survive_yaml(tmp_path: Path) -> None:
    plain = NetworkCard().plain()
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain
    assert plain["network"]["stations_m"][1] == [100.0, 0.0]
    assert plain["law"] == {"name": "uniform", "n_users": 5}
    for text in ("users: 6", "users: 5\nlaw: street", "users: 5\nexponent: 3.6"):
        assert read_network_card(written(tmp_path, text)).plain() != plain
    assert read_network_card(written(tmp_path, "users: 5\nexponent: 3.5")).plain() == plain


@pytest.mark.property
@given(
    n_users=st.integers(1, 30),
    streets=st.integers(1, 8),
    exponent=st.floats(2, 6),
    threshold_db=st.floats(-10, 10),
)
def test_what_a_card_says_is_what_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    n_users: int,
    streets: int,
    exponent: float,
    threshold_db: float,
) -> None:
    said = {
        "users": n_users,
        "law": {"name": "street", "streets": streets, "half_width": 0.05},
        "exponent": exponent,
        "threshold_db": threshold_db,
    }
    path = tmp_path_factory.mktemp("card") / "card.yaml"
    path.write_text(yaml.safe_dump(said))
    card = read_network_card(path)
    assert card.law == StreetUsers(n_users=n_users, streets=streets, half_width=0.05)
    changed = {"exponent": exponent, "threshold_db": threshold_db}
    assert asdict(card.network) == {**asdict(CellNetwork()), **changed}


@pytest.mark.parametrize("name", PLACEMENT_LAWS)
def test_every_law_goes_by_its_name_alone(name: str, tmp_path: Path) -> None:
    card = read_network_card(written(tmp_path, f"users: 3\nlaw: {name}"))
    assert (card.law.name, card.n_users) == (name, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("law: street", "card.yaml must say how many users there are, such as users: 5."),
        ("users: many", "card.yaml: users must be a whole number; got 'many'."),
        ("users: true", "card.yaml: users must be a whole number; got True."),
        ("users: 0", "card.yaml: n_users must be at least 1; got 0."),
        ("users: 5\nlaw: hotspots", "law must be a known one; got 'hotspots'. Did you mean 'hotsp"),
        ("users: 5\nlaw: 3", "law must be uniform, hotspot, street, or such a name with options"),
        (
            "users: 5\nlaw: {name: hotspot, sprad: 0.1}",
            "there is no field 'sprad'. Did you mean 'spread'?",
        ),
        (
            "users: 5\nlaw: {name: street, n_users: 4}",
            "law must leave the number of users to users; it has n_users.",
        ),
        (
            "users: 5\nthreshold: 3",
            "card.yaml: there is no field 'threshold'. Did you mean 'threshold_db'?",
        ),
        ("users: 5\nuser: 5", "there is no field 'user'. Did you mean 'users'?"),
        ("users: 5\nexponent: steep", "exponent must be a number; got 'steep'."),
        ("users: 5\nexponent: 1", "exponent must be at least 2, that of free space; got 1.0."),
        ("users: 5\narea_m: 100", "area_m must be 2 numbers; got 100."),
        ("users: 5\nstations_m: 7", "stations_m must be a list of pairs [x, y]; got 7."),
        ("users: 5\nload: [1, 1]", "load must be in [0, 1], one number or one for each of 3 stati"),
        ("users: 5\nshadowing: 4", "shadowing must be its fields in braces (spread_db, "),
        ("users: 5\nscale: dB", "scale must be 'db' or 'linear'; got 'dB'. Did you mean 'db'?"),
        ("- 5", "card.yaml must hold fields of a network card, such as users: 5."),
        ("users: [", "card.yaml is no readable YAML (while parsing"),
    ],
)
def test_wrong_cards_are_refused_in_a_line(text: str, message: str, tmp_path: Path) -> None:
    path = written(tmp_path, text)
    with pytest.raises(CsiAuditError) as refused:
        read_network_card(path)
    words = str(refused.value)
    assert message in words
    assert words.startswith(str(path))
    assert "\n" not in words


def test_a_card_that_is_not_there(tmp_path: Path) -> None:
    written(tmp_path, "users: 5")
    with pytest.raises(CsiAuditError, match=r"carf\.yaml does not exist\. Did you mean 'card\.ya"):
        read_network_card(tmp_path / "carf.yaml")
    with pytest.raises(CsiAuditError, match="The word default takes three stations and five us"):
        read_network_card("defaults")
