"""Failure modes of placements, on laws whose modes are planted."""

import re
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
import torch

from channels.network import CellNetwork
from channels.placement_domain import PlacementDomain
from reports.estimates import agree, proportion
from reports.failure_modes import WeightedChannels, failure_cases
from reports.loss_schema import ImportanceEstimates, Tail
from reports.mode_schema import ModeReport
from reports.mode_search import find_rules
from reports.mode_space import Described
from reports.network_schema import OutageRow
from reports.placement_arrays import FailurePlacements, PlacementArrays
from reports.placement_modes import (
    LEAST_OF_FAILURES,
    failing_placements,
    modes_of_placements,
)
from reports.placement_space import StandingUsers

Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], Array]

NETWORK = CellNetwork(noise_w=2e-6)  # a user in the upper left corner is not served either
RANK = 3


def edge(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Between stations 1 and 2."""
    return np.stack([50 + rng.normal(0, 1, size), rng.uniform(5, 30, size)], axis=-1)


def other_edge(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """Between stations 1 and 3."""
    return np.stack([25 + rng.normal(0, 1, size), 50 + rng.normal(0, 1, size)], axis=-1)


def corner(rng: np.random.Generator, size: tuple[int, int]) -> Array:
    """The upper left corner, 42 to 51 m from station 3."""
    return np.stack([rng.uniform(0, 8, size), rng.uniform(92, 100, size)], axis=-1)


def planted(n: int, seed: int, *places: Draw, share: float = 0.03) -> npt.NDArray[np.float32]:
    """Five users near stations; with probability `share` each, three of them at a place."""
    rng = np.random.default_rng(seed)
    stations = np.array(NETWORK.stations_m)
    metres = stations[rng.integers(3, size=(n, 5))] + rng.normal(0, 12, (n, 5, 2))
    metres = 100 - np.abs(100 - np.abs(metres))  # folded at the rim
    kind = (rng.random(n) / share).astype(int)
    for k, place in enumerate(places):
        rows = np.flatnonzero(kind == k)
        metres[rows[:, None], np.arange(3)] = np.clip(place(rng, (len(rows), 3)), 0, 100)
    order = rng.permuted(np.tile(np.arange(5), (n, 1)), axis=1)
    x = np.take_along_axis(metres, order[..., None], axis=1) / 50 - 1
    return x.astype(np.float32)


def uniform(n: int, seed: int) -> npt.NDArray[np.float32]:
    return np.random.default_rng(seed).uniform(-1, 1, (n, 5, 2)).astype(np.float32)


def shortfall(x: npt.NDArray[np.float32], network: CellNetwork = NETWORK) -> Array:
    """By how much the SINR of the third worst user misses the threshold [dB]."""
    short = network.threshold_db - network.sinr_db(torch.from_numpy(x))
    return short.topk(RANK, dim=1).values[:, -1].double().numpy()


def made(
    x: npt.NDArray[np.float32],
    real: npt.NDArray[np.float32],
    *,
    tau: float = 0.0,
    network: CellNetwork = NETWORK,
    loss: Array | None = None,
) -> tuple[OutageRow, PlacementArrays]:
    """A loss and its arrays; the shortfall, unless losses of the base samples are given."""
    base = shortfall(x, network) if loss is None else loss
    domain = PlacementDomain(n_users=x.shape[1], network=network)
    arrays = PlacementArrays(
        network=network, x_base=x, log_w=np.zeros(len(x)), x_real=real,
        losses_base={"shortfall_db": base},
        losses_real={"shortfall_db": shortfall(real, network)} if len(real) else {},
        features_base={k: v.numpy() for k, v in domain.features(torch.from_numpy(x)).items()},
        tau={"shortfall_db": tau},
    )  # fmt: skip
    p = proportion(int((base > tau).sum()), len(x))
    tail = Tail(threshold="0 dB", nmse_db=None, level=tau, base=p, real=None,
                agreement=agree(p, None))  # fmt: skip
    row = OutageRow(
        name="shortfall_db", label="shortfall of the 3rd worst user", unit="dB", worse="high",
        definition="How far.", losses={},
        estimates=ImportanceEstimates(loss="L", weight="l", e_p=None, e_q=None, tails=(tail,)),
    )  # fmt: skip
    return row, arrays


def report_of(x: npt.NDArray[np.float32], real: npt.NDArray[np.float32]) -> ModeReport:
    return modes_of_placements(*made(x, real), seed=0)[0]


# --- Planted modes --------------------------------------------------------------------------------


@pytest.mark.statistical
def test_two_planted_places_are_found_and_named() -> None:
    base, real = planted(4000, 0, edge, corner), planted(8000, 1, edge, corner)
    report = report_of(base, real)
    assert len(report.modes) == 2
    far, at_edge = sorted(report.modes, key=lambda mode: not mode.name.startswith("Far"))
    beyond = re.fullmatch(r"Far corner users of cell 3, (\d+) m or more from .*", far.name)
    assert beyond is not None
    assert 20 < int(beyond[1]) < 45
    assert at_edge.name.endswith("or more users at the cell edge between stations 1 and 2")
    assert report.stability is not None
    assert report.stability > 0.9
    for mode in report.modes:
        assert mode.share_real is not None
        assert mode.share.interval is not None
        assert mode.share.interval[0] <= mode.share_real.value <= mode.share.interval[1]
        assert mode.confirmation == "confirmed"
        assert mode.places[0].share > 0.9
    assert far.places[0].centre_m == pytest.approx((4, 96), abs=1)
    assert at_edge.places[0].centre_m == pytest.approx((50, 17.5), abs=2)


@pytest.mark.statistical
def test_two_modes_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.placement_modes.placement_mode_name", lambda facts: "Alike")
    x = planted(4000, 0, edge, corner)
    names = [mode.name for mode in report_of(x, x[:0]).modes]
    assert sorted(re.sub(r"\d+", "#", name) for name in names) == [
        "Alike (at least # users far from station #, # m or more from it and at no cell edge)",
        "Alike (at least # where path losses differ by # dB or less)",
    ]


@pytest.mark.statistical
def test_two_edges_are_two_modes_and_not_edges_at_large(monkeypatch: pytest.MonkeyPatch) -> None:
    base, real = planted(4000, 2, edge, other_edge), planted(4000, 3, edge, other_edge)
    names = sorted(mode.name for mode in report_of(base, real).modes)
    assert [name.split("the ")[1] for name in names] == [
        "cell edge between stations 1 and 2", "cell edge between stations 1 and 3",
    ]  # fmt: skip
    monkeypatch.setattr("reports.placement_modes.PLACES_TELL", np.inf)  # the mutant: no preference
    assert len(report_of(base, real).modes) == 1


@pytest.mark.statistical
def test_independent_users_fail_in_one_way() -> None:
    """Uniform users are at cell edges when it fails, at any: places alone would tell less."""
    x = uniform(6000, 4)
    row, arrays = made(x, x[:0], network=CellNetwork())
    report, _ = modes_of_placements(row, arrays, seed=0)
    assert len(report.modes) == 1
    assert "users at cell edges" in report.modes[0].name
    assert report.modes[0].share.value > 0.8


@pytest.mark.statistical
def test_failures_without_a_reason_have_no_mode() -> None:
    x = planted(2000, 6, edge)
    fails = np.zeros(2000)
    fails[np.random.default_rng(6).choice(2000, 60, replace=False)] = 1
    row, arrays = made(x, x[:0], tau=0.5, loss=fails)
    report, _ = modes_of_placements(row, arrays, seed=0)
    assert (report.modes, report.stability) == ((), None)
    assert "spread like the population" in report.note


@pytest.mark.statistical
def test_a_mode_that_the_real_side_does_not_share_is_not_confirmed() -> None:
    """The base law has failures at an edge that real users never have there."""
    base, real = planted(3000, 7, edge), planted(20_000, 8, corner)
    (mode,) = report_of(base, real).modes
    assert mode.confirmation in ("cannot tell", "not confirmed")
    assert mode.share_real is not None
    assert mode.share_real.value < 0.1


# --- Where failures come from ---------------------------------------------------------------------


@pytest.mark.unit
def test_a_failure_sample_finds_what_base_samples_cannot() -> None:
    calm, failing = planted(2000, 9), planted(4000, 10, edge, share=1.0)
    row, arrays = made(calm, calm[:0], tau=0.5)
    assert not (arrays.losses_base["shortfall_db"] > 0.5).any()
    assert "No base sample fails" in modes_of_placements(row, arrays, seed=0)[0].note
    beyond = failing[shortfall(failing) > 0.5][:300]
    given = FailurePlacements(x=beyond, log_w=np.zeros(len(beyond)), clusters=np.arange(300) % 30)
    report, _ = modes_of_placements(row, replace(arrays, failures={"shortfall_db": given}), seed=0)
    assert "cell edge between stations 1 and 2" in report.modes[0].name
    assert report.n_failures <= 30
    assert report.modes[0].share.n == 30


@pytest.mark.unit
def test_weights_decide_which_place_is_seen() -> None:
    x = planted(3000, 11, edge, corner)
    row, arrays = made(x, x[:0])
    upper = (x[..., 1] > 0.8).sum(1) >= 3
    light = replace(arrays, log_w=np.where(upper, -40.0, 0.0))
    report, _ = modes_of_placements(row, light, seed=0)
    assert [mode.places[0].name.split()[0] for mode in report.modes] == ["at"]
    assert len(modes_of_placements(row, arrays, seed=0)[0].modes) == 2  # the mutant: equal weights


@pytest.mark.unit
def test_few_failures_are_told_and_strata_remain() -> None:
    x = planted(1500, 12, edge, share=0.003)
    row, arrays = made(x, x)
    report, strata = modes_of_placements(row, arrays, seed=0)
    assert report.note.startswith("Only ")
    assert report.modes == ()
    assert {stratum.feature for stratum in strata} == {
        "farthest_user_m", "station_distance_m", "edge_users", "user_spread_m",
    }  # fmt: skip


@pytest.mark.unit
def test_low_losses_fail_below_their_threshold() -> None:
    x = planted(2000, 13, edge)
    row, arrays = made(x, x[:0], tau=0.0)
    flipped = replace(arrays, losses_base={"shortfall_db": -arrays.losses_base["shortfall_db"]})
    report, _ = modes_of_placements(replace(row, worse="low"), flipped, seed=0)
    assert report == modes_of_placements(row, arrays, seed=0)[0]


@pytest.mark.unit
def test_a_rate_by_deeper_means_is_the_tail_s() -> None:
    x = planted(1000, 14, edge)
    row, arrays = made(x, x[:0])
    rare = proportion(1, 10_000, method="subset simulation")
    tail = replace(row.estimates.tails[0], base=rare, counted=proportion(20, 1000))
    deep = replace(row, estimates=replace(row.estimates, tails=(tail,)))
    assert modes_of_placements(deep, arrays, seed=0)[0].rate_base == rare


@pytest.mark.unit
def test_a_loss_without_a_threshold_is_refused() -> None:
    x = planted(20, 15)
    row, arrays = made(x, x)
    with pytest.raises(ValueError, match=r"tau must have the loss 'other'; it has \['shortfall_db"):
        modes_of_placements(replace(row, name="other"), arrays, seed=0)


# --- What is stored and drawn ---------------------------------------------------------------------


@pytest.mark.unit
def test_figures_sort_placements_by_the_stored_rules() -> None:
    base, real = planted(3000, 16, edge, corner), planted(3000, 17, edge, corner)
    row, arrays = made(base, real)
    report, strata = modes_of_placements(row, arrays, seed=0)
    told = replace(row, modes=report, strata=strata)
    found, on_real = failing_placements(told, arrays), failing_placements(told, arrays, real=True)
    assert found is not None
    assert on_real is not None
    for k, mode in enumerate(report.modes):
        share = float(found.weight[found.labels == k].sum())
        assert mode.share.value <= share <= mode.share.value + LEAST_OF_FAILURES
        assert mode.share_real is not None
        assert (on_real.labels == k).mean() == pytest.approx(mode.share_real.value)
    assert found.values is not None
    assert (found.values > 0).all()
    assert (base[found.index] == found.users.x).all()
    assert failing_placements(replace(row, name="other"), arrays) is None


@pytest.mark.unit
def test_strata_of_a_count_have_its_numbers() -> None:
    x = uniform(2000, 18)
    _, strata = modes_of_placements(*made(x, x, tau=2.0), seed=0)
    names = [s.name for s in strata if s.feature == "edge_users"]
    assert names[0] == "0"
    assert names[-1].endswith("or more")
    assert all(s.name == "" for s in strata if s.feature != "edge_users")
    counts = StandingUsers(network=NETWORK, x=x).off_edges.shape[1] - StandingUsers(
        network=NETWORK, x=x
    ).off_edges.sum(1)
    first = next(s for s in strata if s.feature == "edge_users")
    assert first.base is not None
    assert first.base.n == int((counts == 0).sum())


@pytest.mark.unit
def test_modes_too_small_to_matter_are_left_elsewhere() -> None:
    """The second place holds 3 % of the failures: a mode only where so little is enough."""
    place = np.repeat([0.0, 1.0, 2.0, 3.0], [3000, 970, 3000, 30])
    described = Described(
        features={"first": (place == 1) * 1.0, "second": (place == 3) * 1.0},
        delay_power=np.zeros((7000, 0)), beam_power=np.zeros((7000, 0)),
        ruling=("first", "second"),
    )  # fmt: skip
    fails = (place == 1) | (place == 3)
    cases = failure_cases(WeightedChannels(channels=described, fails=fails, log_w=np.zeros(7000)))
    names = [[c.feature for c in rule] for rule in find_rules(cases)]
    assert names == [["first"], ["second"]]
    assert [rule[0].feature for rule in find_rules(cases, least_share=0.05)] == ["first"]
    assert len(find_rules(cases, least_share=0.02)) == 2
