"""Figures of a cell network: what they show, and that equal input gives equal bytes."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from channels.network import CellNetwork
from reports.estimates import Estimate, proportion
from reports.figures import png_bytes
from reports.loss_schema import ImportanceEstimates, Tail
from reports.mode_schema import FailureMode, FeatureRange
from reports.network_schema import OutageRow
from reports.placement_arrays import PlacementArrays
from reports.placement_figures import (
    density_figure,
    exemplar_placements_figure,
    mode_places_figure,
    placement_maps_figure,
    sinr_figure,
    sinr_grid,
    user_map,
)
from reports.placement_loss_figures import outage_loss_figure, outage_overview_figure
from reports.placement_space import StandingUsers
from reports.plotting import BASE, REAL, TILTED
from reports.survival import survival_curve
from reports.tail_schema import LossTail, TailPoint

NETWORK = CellNetwork()


@pytest.mark.unit
def test_sinr_grid_is_the_network_as_y_x() -> None:
    sinr_db, station = sinr_grid(NETWORK, points=5)
    at = torch.tensor([[[0.5, -1.0]]])  # column 3 of row 0
    assert sinr_db[0, 3] == pytest.approx(float(NETWORK.sinr_db(at)), rel=1e-5)
    assert station[0].tolist()[0] == 0
    assert station[0].tolist()[-1] == 1
    assert station[4].tolist()[2] == 2


@pytest.mark.unit
def test_maps_share_one_colour_scale() -> None:
    maps = {"p": np.ones((4, 4)), "q $x$": 3 * np.eye(4)}
    figure = placement_maps_figure(maps, NETWORK)
    images = [axis.images[0] for axis in figure.axes[:3]]
    assert [image.get_clim() for image in images[1:]] == [(0, 3), (0, 3)]
    assert [axis.get_title() for axis in figure.axes[1:3]] == ["p", r"q \$x\$"]
    assert tuple(images[0].get_extent()) == (0.0, 100.0, 0.0, 100.0)
    assert figure.axes[0].get_title() == "SINR, outage below 0 dB"
    assert png_bytes(figure) == png_bytes(placement_maps_figure(maps, NETWORK))


@pytest.mark.unit
def test_nothing_to_show_says_so() -> None:
    figure = placement_maps_figure({}, NETWORK)
    assert [text.get_text() for text in figure.texts] == ["no placements to show"]


@pytest.mark.unit
def test_one_station_has_no_cell_borders() -> None:
    alone = CellNetwork(stations_m=((50.0, 50.0),), noise_w=1e-12)
    figure = placement_maps_figure({"p": np.ones((2, 2))}, alone)
    assert len(figure.axes[0].collections) == 0


# --- Maps -----------------------------------------------------------------------------------------


def standing(n: int, seed: int = 0, network: CellNetwork = NETWORK) -> StandingUsers:
    x = np.random.default_rng(seed).uniform(-1, 1, (n, 5, 2)).astype(np.float32)
    return StandingUsers(network=network, x=x)


@pytest.mark.unit
def test_user_map_is_a_density_as_y_x() -> None:
    users = StandingUsers(network=NETWORK, x=np.array([[[0.99, -0.99], [0.99, -0.99]]] * 4))
    values = user_map(users, np.ones(4) / 4)
    assert values.shape == (8, 8)  # eight users fill no more
    assert values[0, -1] == 64
    assert values.mean() == pytest.approx(1)
    assert user_map(standing(4000), np.ones(4000)).shape == (25, 25)
    assert not user_map(users, np.zeros((4, 2))).any()


@pytest.mark.unit
def test_weights_move_the_map() -> None:
    users = standing(2000)
    right = (users.metres[..., 0] > 50).all(1)
    values = user_map(users, right / right.sum())
    half = values.shape[1] // 2
    assert values[:, :half].sum() == 0
    assert values[:, half + 1 :].mean() > 1.5


@pytest.mark.unit
def test_every_map_names_its_stations_and_axes() -> None:
    maps = {"p": np.ones((4, 4)), "q": np.eye(4)}
    for figure in (sinr_figure(NETWORK), density_figure(maps, NETWORK)):
        panels = [axis for axis in figure.axes if axis.images and axis.get_xlabel() == "x [m]"]
        assert panels
        for axis in panels:
            assert {"1", "2", "3"} <= {text.get_text() for text in axis.texts}
        assert panels[0].get_ylabel() == "y [m]"
        assert png_bytes(figure, 40)
    assert png_bytes(density_figure({}, NETWORK), 40)


@pytest.mark.unit
def test_a_mode_shows_all_users_and_those_without_service() -> None:
    users = standing(60)
    row = FeatureRange(feature="farthest_user_m", label="farthest user", unit="m",
                       mode=(50.0, 55.0, 60.0), population=(40.0, 50.0, 60.0),
                       above=proportion(9, 10))  # fmt: skip
    mode = FailureMode(
        name="m", rule_text="r", rule=(), share=proportion(5, 10), population=proportion(1, 10),
        rate_base=None, share_real=None, rate_real=None, confirmation="no real channels",
        delay_range=None, beam_range=None, los=None, los_population=None, features=(row,),
    )  # fmt: skip
    known = {"farthest_user_m": np.linspace(30, 70, 50)}
    figure = mode_places_figure(users, np.full(60, 1 / 60), mode, known)
    every, without = (np.asarray(axis.images[0].get_array()) for axis in figure.axes[:2])
    assert [axis.get_title() for axis in figure.axes[:2]] == ["all users", "users without service"]
    assert (without > 0).sum() < (every > 0).sum()
    assert png_bytes(figure, 40)


@pytest.mark.unit
@pytest.mark.parametrize("count", [0, 1, 3])
def test_exemplars_mark_served_and_unserved(count: int) -> None:
    users = standing(count)
    figure = exemplar_placements_figure(users, [f"number {i} $x$" for i in range(count)])
    for i, axis in enumerate(figure.axes[:count]):
        drawn = [line for line in axis.lines if line.get_marker() in ("o", "X")]
        assert [len(line.get_xdata()) for line in drawn] == [  # type: ignore[arg-type]
            int((~users.unserved[i]).sum()), int(users.unserved[i].sum()),
        ]  # fmt: skip
        others = [text.zorder for text in axis.texts]  # numbers of stations
        assert min(line.zorder for line in drawn) > max(others)
    assert png_bytes(figure, 40)


# --- Losses ---------------------------------------------------------------------------------------


def loss_row(*levels: float, curve: LossTail | None = None) -> OutageRow:
    tails = tuple(
        Tail(threshold=f"{v:g} dB", nmse_db=None, level=v, base=proportion(3, 100),
             real=proportion(0, 100), agreement="cannot tell") for v in levels
    )  # fmt: skip
    return OutageRow(
        name="a", label="shortfall of the 3rd worst user, a long name", unit="dB", worse="high",
        definition="", losses={},
        estimates=ImportanceEstimates(loss="L", weight="l", e_p=None, e_q=None, tails=tails,
                                      curve=curve),
    )  # fmt: skip


def loss_arrays(n_base: int, n_real: int) -> PlacementArrays:
    random = np.random.default_rng(0)
    base, real = random.normal(size=n_base), random.normal(size=n_real)
    x = np.zeros((max(n_base, n_real), 1, 2), dtype=np.float32)
    return PlacementArrays(
        network=NETWORK, x_base=x[:n_base], log_w=np.zeros(n_base), x_real=x[:n_real],
        losses_base={"a": base}, losses_real={"a": real} if n_real else {}, log_l={"a": base},
    )  # fmt: skip


@pytest.mark.unit
def test_a_tail_is_drawn_no_deeper_than_ten_samples() -> None:
    arrays = loss_arrays(2000, 500)
    figure = outage_loss_figure(loss_row(0.0, 1.0), arrays)
    bottom = figure.axes[1]
    steps = {line.get_color(): np.asarray(line.get_ydata(), dtype=np.float64)
             for line in bottom.lines if line.get_drawstyle() == "steps-pre"}  # fmt: skip
    assert steps[BASE].min() == pytest.approx(10 / 2000)
    assert steps[REAL].min() == pytest.approx(10 / 500)
    w = np.sort(np.exp(arrays.losses_base["a"]))[::-1]
    deepest = float(steps[TILTED].min())
    beyond = int(np.searchsorted(np.cumsum(w / w.sum()), deepest)) + 1
    assert w[:beyond].sum() ** 2 / np.square(w[:beyond]).sum() >= 10 - 1e-6
    assert bottom.collections, "the band of the real side"
    assert bottom.get_xlabel() == "shortfall of the 3rd worst user, a long name [dB]"
    legend = bottom.get_legend()
    assert legend is not None
    assert legend.get_frame_on(), "its ground keeps lines of levels off the words"


@pytest.mark.unit
def test_points_of_a_tail_curve_go_deeper() -> None:
    point = TailPoint(probability=1e-6, real=None, base=Estimate(
        value=7.0, interval=(6.5, 7.4), n=10, method="subset simulation"))  # fmt: skip
    curve = LossTail(method="subset simulation", runs=10, n_evaluations=1, points=(point,))
    bottom = outage_loss_figure(loss_row(0.0, curve=curve), loss_arrays(300, 0)).axes[1]
    assert bottom.get_ylim()[0] <= 1e-6
    assert bottom.get_xlim()[1] >= 7.4


@pytest.mark.unit
def test_losses_without_values_or_tails_are_small_figures() -> None:
    empty = replace(loss_arrays(5, 0), losses_base={}, log_l={})
    assert png_bytes(outage_loss_figure(loss_row(), empty), 40)
    assert png_bytes(outage_overview_figure([loss_row()]), 40)
    figure = outage_overview_figure([loss_row(0.0, 1.0)])
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[0] == "shortfall of the 3rd\nworst user, a long name\nbeyond 0 dB"
    assert png_bytes(figure, 40)


@pytest.mark.unit
def test_a_thinned_curve_is_part_of_the_whole_one_and_as_deep() -> None:
    values = np.random.default_rng(1).normal(size=3000)
    whole, thin = survival_curve(values), survival_curve(values, most=50)
    assert len(thin.level) <= 50 < len(whole.level)
    assert set(thin.level) <= set(whole.level)
    assert (thin.level[-1], thin.share[-1]) == (whole.level[-1], whole.share[-1])
    assert whole.low is not None
    assert thin.low is not None
    assert thin.low[-1] == whole.low[-1]
    assert (np.diff(thin.level) >= 0).all()
