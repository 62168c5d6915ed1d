"""Figures of a cell network: SINR with cells, where users stand under each law and in each mode.

Each function takes what it draws and returns a matplotlib Figure, as in reports.figures. Figures of
losses are in placement_loss_figures.py.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke

from channels.network import CellNetwork
from channels.placement_domain import PLACEMENT_FEATURES
from reports.level_words import decibel
from reports.mode_figures import draw_ranges
from reports.mode_schema import FailureMode
from reports.placement_space import StandingUsers
from reports.plotting import BASE, NORMAL, SMALL, TILTED, WIDTH, as_text, colour_bar, empty, finish

Array = npt.NDArray[Any]

_POINTS = 201  # of the SINR map along each side
_SINR_RANGE_DB = (-6.0, 24.0)
_BINS = 25  # of a map of users along each side, at most
_LEAST_BINS, _IN_A_BIN = 8, 2.0  # at least; users that each holds on average if they are few
_OUTAGE = TILTED
_ON_TOP = 6  # users, also where a station and its number stand


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


@lru_cache(maxsize=2)
def _grid(network: CellNetwork) -> tuple[Array, Array]:
    """`sinr_grid` of the maps, which many figures of a report draw."""
    return sinr_grid(network)


def user_map(users: StandingUsers, weight: npt.ArrayLike) -> Array:
    """Density of users over the area, 1 where uniform, (bins, bins) as (y, x).

    Bins are as many along each side as the effective number of users can fill.

    Args:
        users: Of placements.
        weight: Of each user (n, n_users), or of each placement (n,), not negative.
    """
    w = np.asarray(weight, dtype=np.float64)
    each = np.broadcast_to(w if w.ndim == 2 else w[:, None], users.x.shape[:2]).ravel()
    effective = each.sum() ** 2 / max(float(np.square(each).sum()), 1e-300)
    bins = int(np.clip(np.sqrt(effective / _IN_A_BIN), _LEAST_BINS, _BINS))
    at = users.metres.reshape(-1, 2) / np.asarray(users.network.area_m) * bins
    x, y = np.clip(at.astype(np.int64), 0, bins - 1).T
    counts = np.bincount(bins * y + x, weights=each, minlength=bins**2)
    return np.asarray(counts * (bins**2 / max(counts.sum(), 1e-300))).reshape(bins, bins)


# --- Maps -----------------------------------------------------------------------------------------


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
    _densities(figure, others, maps, network)
    first.set_ylabel("y [m]")
    return finish(figure)


def sinr_figure(network: CellNetwork) -> Figure:
    """The SINR of a user at each place, the cells, and where there is no service."""
    figure = Figure(figsize=(WIDTH, 0.75 + 3.4 * _aspect(network)), layout="constrained")
    axis = figure.subplots()
    colour_bar(figure, _sinr_axes(axis, network), [axis], "SINR [dB]", vertical=True)
    axis.set_ylabel("y [m]")
    return finish(figure)


def density_figure(maps: Mapping[str, npt.ArrayLike], network: CellNetwork) -> Figure:
    """The density of users under each law side by side, stations and cells over it; arguments as of
    `placement_maps_figure`."""
    figure = Figure(figsize=(WIDTH, 1.25 + 2.0 * _aspect(network)), layout="constrained")
    if not maps:
        return empty(figure, "no placements to show")
    axes = figure.subplots(1, len(maps), sharey=True, squeeze=False)[0]
    _densities(figure, list(axes), maps, network)
    axes[0].set_ylabel("y [m]")
    return finish(figure)


def mode_places_figure(
    failures: StandingUsers,
    weight: Array,
    mode: FailureMode,
    features_base: Mapping[str, Array],
) -> Figure:
    """Where users stand in the failures of a mode, all and those without service, and its features.

    Below: 10 to 90 % of each feature among them as percentiles of all base samples.

    Args:
        failures: Failing placements of the mode.
        weight: Of each, (n,).
        mode: With its ranges.
        features_base: Features of all base samples.
    """
    known = {row.feature for row in mode.features} & set(features_base)
    heights = (1.4 + 1.9 * _aspect(failures.network), 0.6 + 0.28 * len(known))
    figure = Figure(figsize=(WIDTH, sum(heights)), layout="constrained")
    above, below = np.ravel(figure.subfigures(2, 1, height_ratios=heights))  # type: ignore[arg-type]
    axes = above.subplots(1, 2, sharey=True)
    unserved = np.asarray(weight)[:, None] * failures.unserved
    titles = ("all users", "users without service")
    for axis, w, title in zip(axes, (weight, unserved), titles, strict=True):
        values = user_map(failures, w)
        image = _density_axes(axis, failures.network, title, values, float(values.max()))
        colour_bar(above, image, [axis], "density over uniform [1]")
    axes[0].set_ylabel("y [m]")
    draw_ranges(below.subplots(), mode, features_base, PLACEMENT_FEATURES)
    return finish(figure)


def exemplar_placements_figure(users: StandingUsers, titles: Sequence[str]) -> Figure:
    """Failing placements side by side: users with and without service, cells, and what lies below
    the threshold."""
    figure = Figure(figsize=(WIDTH, 1.2 + 1.3 * _aspect(users.network)), layout="constrained")
    if not len(users.x):
        return empty(figure, "no failing placement to show")
    axes = figure.subplots(1, max(len(users.x), 3), sharey=True)
    for i, (axis, title) in enumerate(zip(axes, titles, strict=False)):
        _exemplar_axes(axis, users, i)
        axis.set_title(as_text(title), fontsize=SMALL)
    for axis in axes[len(users.x) :]:
        axis.set_axis_off()
    axes[0].set_ylabel("y [m]")
    figure.legend(handles=_user_marks(), loc="outside lower center", ncols=3, fontsize=SMALL,
                  frameon=False, handletextpad=0.4, columnspacing=1.2)  # fmt: skip
    return finish(figure)


# --- Parts ----------------------------------------------------------------------------------------


def _densities(
    figure: Figure, axes: Sequence[Axes], maps: Mapping[str, npt.ArrayLike], network: CellNetwork
) -> None:
    """A panel for each law on one colour scale."""
    densities = {label: np.asarray(values, dtype=np.float64) for label, values in maps.items()}
    top = max(float(values.max()) for values in densities.values())
    for axis, (label, values) in zip(axes, densities.items(), strict=True):
        image = _density_axes(axis, network, as_text(label), values, top)
    colour_bar(figure, image, axes, "density of users over uniform [1]")


def _sinr_axes(axis: Axes, network: CellNetwork) -> AxesImage:
    values, station = _grid(network)
    low, high = _SINR_RANGE_DB
    image = axis.imshow(values, origin="lower", extent=_extent(network), vmin=low, vmax=high,
                        cmap="viridis")  # fmt: skip
    _borders(axis, network, station, "white")
    gamma = network.threshold_db
    if values.min() < gamma < values.max():
        axis.contour(values, levels=[gamma], extent=_extent(network), colors=_OUTAGE,
                     linewidths=1.1, linestyles="solid")  # fmt: skip
    axis.set_title(f"SINR, outage below {decibel(gamma)}", fontsize=SMALL)
    _stations(axis, network)
    return image


def _density_axes(
    axis: Axes, network: CellNetwork, label: str, values: Array, top: float
) -> AxesImage:
    image = axis.imshow(values, origin="lower", extent=_extent(network), vmin=0, vmax=top or 1.0,
                        cmap="magma")  # fmt: skip
    axis.set_title(label, fontsize=SMALL)
    _borders(axis, network, _grid(network)[1], "#bbbbbb")
    _stations(axis, network)
    return image


def _exemplar_axes(axis: Axes, users: StandingUsers, i: int) -> None:
    """One placement over the cells, a thin line from each user to its station."""
    network = users.network
    values, station = _grid(network)
    axis.contourf(values < network.threshold_db, levels=[0.5, 1.5], extent=_extent(network),
                  colors=["#fbe3d3"])  # fmt: skip
    _borders(axis, network, station, "#999999")
    at, out = users.metres[i], users.unserved[i]
    for position, j in zip(at, users.order[i, :, 0], strict=True):
        axis.plot(*zip(position, network.stations_m[j], strict=True), color="#cccccc",
                  linewidth=0.6, zorder=1)  # fmt: skip
    axis.plot(*at[~out].T, "o", color=BASE, markersize=4, zorder=_ON_TOP, clip_on=False)
    axis.plot(*at[out].T, "X", color=_OUTAGE, markeredgecolor="white", markeredgewidth=0.4,
              markersize=6.5, zorder=_ON_TOP, clip_on=False)  # fmt: skip
    _stations(axis, network)
    axis.set_aspect("equal")


def _user_marks() -> list[Line2D | Patch]:
    """Legend of exemplars."""
    return [
        Line2D([], [], marker="o", color=BASE, linestyle="none", markersize=4, label="served"),
        Line2D([], [], marker="X", color=_OUTAGE, linestyle="none", markersize=6.5,
               label="without service"),
        Patch(facecolor="#fbe3d3", label="SINR below the threshold"),
    ]  # fmt: skip


def _aspect(network: CellNetwork) -> float:
    """Height of a map over its width, within what a page can bear."""
    return float(np.clip(network.area_m[1] / network.area_m[0], 0.3, 2.0))


def _extent(network: CellNetwork) -> tuple[float, float, float, float]:
    return (0.0, network.area_m[0], 0.0, network.area_m[1])


def _borders(axis: Axes, network: CellNetwork, station: Array, color: str) -> None:
    """Where one station's cell ends."""
    for j in range(network.n_stations):
        if 0 < (station == j).mean() < 1:
            axis.contour(station == j, levels=[0.5], extent=_extent(network), colors=color,
                         linewidths=0.6)  # fmt: skip


def _stations(axis: Axes, network: CellNetwork) -> None:
    """Stations with their numbers, written towards the middle of the area."""
    width, height = network.area_m
    x, y = zip(*network.stations_m, strict=True)
    axis.plot(x, y, "^", color="white", markeredgecolor="black", markersize=5, clip_on=False,
              zorder=4)  # fmt: skip
    for j, (left, bottom) in enumerate(network.stations_m):
        offset = (7 if left <= width / 2 else -7, 7 if bottom <= height / 2 else -7)
        axis.annotate(str(j + 1), (left, bottom), xytext=offset, textcoords="offset points",
                      fontsize=NORMAL, ha="center", va="center", zorder=5, annotation_clip=False,
                      path_effects=[withStroke(linewidth=2, foreground="white")])  # fmt: skip
    axis.set(xlim=(0, width), ylim=(0, height), xlabel="x [m]")
