"""Figures of a cell network: SINR with cells, and where users stand under each law.

Each function takes what it draws and returns a matplotlib Figure, as in reports.figures.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from channels.network import CellNetwork
from reports.plotting import SMALL, WIDTH, as_text, colour_bar, empty, finish

Array = npt.NDArray[Any]

_POINTS = 201  # of the SINR map along each side
_SINR_RANGE_DB = (-6.0, 24.0)


def sinr_grid(network: CellNetwork, *, points: int = _POINTS) -> tuple[Array, Array]:
    """SINR [dB] and serving station over the area, (points, points) each as (y, x)."""
    side = torch.linspace(-1, 1, points)
    y, x = torch.meshgrid(side, side, indexing="ij")
    users = torch.stack([x, y], dim=-1).view(1, -1, 2)
    sinr_db, station = network.sinr_db(users), network.serving_station(users)
    return (
        np.asarray(sinr_db.view(points, points).numpy()),
        np.asarray(station.view(points, points).numpy()),
    )


def placement_maps_figure(maps: Mapping[str, npt.ArrayLike], network: CellNetwork) -> Figure:
    """The SINR of a user at each place with the cells, and the density of users under each law.

    Args:
        maps: Law in words -> density relative to uniform, (bins, bins) as (y, x), of
            `PlacementDomain.maps`; one colour scale for all.
        network: Of the placements.
    """
    panel = 0.55 * WIDTH
    figure = Figure(figsize=(panel * (1 + len(maps)), 1.4 * panel), layout="constrained")
    if not maps:
        return empty(figure, "no placements to show")
    first, *others = figure.subplots(1, 1 + len(maps), sharey=True)
    colour_bar(figure, _sinr_axes(first, network), [first], "SINR [dB]")
    densities = {label: np.asarray(values, dtype=np.float64) for label, values in maps.items()}
    top = max(float(values.max()) for values in densities.values())
    for axis, (label, values) in zip(others, densities.items(), strict=True):
        image = _density_axes(axis, network, as_text(label), values, top)
    colour_bar(figure, image, others, "density of users over uniform [1]")
    first.set_ylabel("y [m]")
    return finish(figure)


def _sinr_axes(axis: Axes, network: CellNetwork) -> AxesImage:
    values, station = sinr_grid(network)
    extent = (0.0, network.area_m[0], 0.0, network.area_m[1])
    low, high = _SINR_RANGE_DB
    image = axis.imshow(values, origin="lower", extent=extent, vmin=low, vmax=high,
                        cmap="viridis")  # fmt: skip
    for j in range(network.n_stations):
        if 0 < (station == j).mean() < 1:
            axis.contour(station == j, levels=[0.5], extent=extent, colors="white", linewidths=0.6)
    gamma = network.threshold_db
    if values.min() < gamma < values.max():
        axis.contour(values, levels=[gamma], extent=extent, colors="#D55E00", linewidths=0.9)
    axis.set_title(as_text(f"SINR, outage below {gamma:g} dB"), fontsize=SMALL)
    _stations(axis, network)
    return image


def _density_axes(
    axis: Axes, network: CellNetwork, label: str, values: Array, top: float
) -> AxesImage:
    extent = (0.0, network.area_m[0], 0.0, network.area_m[1])
    image = axis.imshow(values, origin="lower", extent=extent, vmin=0, vmax=top,
                        cmap="magma")  # fmt: skip
    axis.set_title(label, fontsize=SMALL)
    _stations(axis, network)
    return image


def _stations(axis: Axes, network: CellNetwork) -> None:
    width, height = network.area_m
    x, y = zip(*network.stations_m, strict=True)
    axis.plot(x, y, "^", color="white", markeredgecolor="black", markersize=5, clip_on=False)
    axis.set(xlim=(0, width), ylim=(0, height), xlabel="x [m]")
