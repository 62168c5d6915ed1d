"""Figures of a cell network: what they show, and that equal input gives equal bytes."""

import numpy as np
import pytest
import torch

from channels.network import CellNetwork
from reports.figures import png_bytes
from reports.placement_figures import placement_maps_figure, sinr_grid

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
