"""Figures of failure modes and strata. Each takes what it draws and returns a matplotlib Figure.

Imports matplotlib, so this module is loaded when figures are drawn. One look with the report: see
plotting.py.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter

from channels.physical_features import FEATURES, FeatureInfo
from reports.estimates import Estimate
from reports.figure_data import Exemplar, ModeMaps, ReportArrays, map_power, to_spatial_map
from reports.mode_schema import FailureMode, Stratum
from reports.nouns import CHANNELS, Nouns
from reports.plotting import (
    BASE,
    FLOOR_DB,
    NORMAL,
    REAL,
    SMALL,
    TILTED,
    WIDTH,
    Array,
    angular_axes,
    angular_image,
    colour_bar,
    delay_label,
    empty,
    finish,
    frequency_label,
    side_legend,
    spatial_axes,
    to_db,
)
from reports.strata import by_label
from reports.stratify import feature_display
from reports.survival import Survival
from reports.words import decibel


def mode_figure(arrays: ReportArrays, mode: FailureMode, maps: ModeMaps) -> Figure:
    """Where the failures of a mode have their power, where it is lost, and what sets them apart.

    Above: mean power of the mode's failures, their mean reconstruction error on the same scale, and
    their power over that of all base samples [dB]. Below: 10 to 90 % of each feature among them as
    percentiles of all base samples.
    """
    figure = Figure(figsize=(WIDTH, 5.0), layout="constrained")
    above, below = np.ravel(figure.subfigures(2, 1, height_ratios=(1.15, 1)))  # type: ignore[arg-type]
    axes = above.subplots(1, 3, sharey=True)
    power, error = (arrays.over_columns(m) for m in (maps.power, maps.error))
    level = angular_axes(axes[0], arrays, power, float(power.max()))
    angular_axes(axes[1], arrays, error, float(power.max()))
    change = None
    if arrays.power_base is not None:
        difference = _difference(power, arrays.over_columns(arrays.power_base))
        change = angular_image(axes[2], arrays, difference, cmap="RdBu_r", vmin=-12, vmax=12)
        axes[2].set_facecolor("#c8c8c8")  # cells without power
    titles = ("its failures", "their error", "failures − all")
    for axis, title in zip(axes, titles, strict=True):
        axis.set_title(title, fontsize=NORMAL)
        axis.set_xlabel(delay_label(arrays))
    axes[0].set_ylabel("sin(azimuth)")
    colour_bar(above, level, axes[:2], "power [dB re peak]")
    colour_bar(above, change, axes[2:], "difference [dB]")
    draw_ranges(below.subplots(), mode, arrays.features_base)
    return finish(figure)


def mode_exemplar_figure(arrays: ReportArrays, exemplars: Sequence[Exemplar]) -> Figure:
    """Up to three failing channels of a mode, a column each, in both domains.

    Rows: the channel and its reconstruction over antennas and subcarriers, then over angle and
    delay, each pair on one scale [dB re the channel's own peak].
    """
    figure = Figure(figsize=(WIDTH, 6.9), layout="constrained")
    if not exemplars:
        return empty(figure, "no failing channel to show")
    axes = figure.subplots(4, len(exemplars), squeeze=False, sharey="row", sharex="row")
    image = None
    for column, exemplar in enumerate(exemplars):
        image = _exemplar_column(axes[:, column], arrays, exemplar)
        level = decibel(float(to_db(exemplar.nmse)), 1)
        who = f"{exemplar.source} {exemplar.index:,}\nNMSE {level}"
        axes[0, column].set_title(who, fontsize=SMALL)
    for row, text in enumerate(("channel", "rebuilt", "channel", "rebuilt")):
        what = "antenna" if row < 2 else "sin(azimuth)"
        axes[row, 0].set_ylabel(f"{text}\n{what}")
    middle = len(exemplars) // 2
    axes[1, middle].set_xlabel(frequency_label(arrays))
    axes[3, middle].set_xlabel(delay_label(arrays))
    for row in (0, 2):
        for axis in axes[row]:
            axis.tick_params(labelbottom=False)
    colour_bar(figure, image, axes, "power [dB re the channel's peak]")
    return finish(figure)


def strata_figure(strata: Sequence[Stratum], nouns: Nouns = CHANNELS) -> Figure:
    """Failure probability within ranges of each feature, base samples beside real channels."""
    groups = by_label(strata)
    rows = max(1, math.ceil(len(groups) / 2))
    figure = Figure(figsize=(WIDTH, 0.5 + 1.9 * rows), layout="constrained")
    if not groups:
        return empty(figure, "no strata to show")
    axes = figure.subplots(rows, 2, sharey=True, squeeze=False).ravel()
    for axis, (label, group) in zip(axes, groups.items(), strict=False):
        _strata_axes(axis, label, group)
    for axis in axes[len(groups) :]:
        axis.set_axis_off()
    for axis in axes[::2]:
        axis.set_ylabel("fail [%]")
    axes[0].set_ylim(bottom=-0.04 * axes[0].get_ylim()[1])  # room for a mark at 0
    side_legend(figure, axes[0], nouns.real)
    return finish(figure)


def draw_survival(
    axis: Axes,
    curve: Survival,
    *,
    color: str,
    line: str,
    band: bool,
    decibel_of: bool = True,
    label: str = "",
) -> None:
    """P(L >= level) of one law on an axis of share against the level, with its band if asked.

    Args:
        axis: To draw on.
        curve: Of the law.
        color, line: Its look.
        band: Whether to draw the limits.
        decibel_of: Whether levels are linear and shown in dB; as they are otherwise.
        label: For a legend.
    """
    level = to_db(curve.level) if decibel_of else curve.level
    if band and curve.low is not None and curve.high is not None:
        axis.fill_between(level, curve.low, curve.high, step="pre", color=color, alpha=0.25,
                          linewidth=0)  # fmt: skip
    axis.step(level, curve.share, where="pre", color=color, linestyle=line, linewidth=1.4,
              label=label or None)  # fmt: skip


def _exemplar_column(column: Array, arrays: ReportArrays, exemplar: Exemplar) -> AxesImage | None:
    """Four maps of one channel, from above: spatial, rebuilt, angular, rebuilt."""
    image = None
    spatial = [
        to_spatial_map(x, len(arrays.frequency_hz), arrays.panel)
        for x in (exemplar.x, exemplar.x_hat)
    ]
    angular = [arrays.over_columns(map_power(x)) for x in (exemplar.x, exemplar.x_hat)]
    for axis, power in zip(column[:2], spatial, strict=True):
        spatial_axes(axis, arrays, power, peak=float(spatial[0].max()))
    for axis, power in zip(column[2:], angular, strict=True):
        image = angular_axes(axis, arrays, power, float(angular[0].max()))
    return image


def draw_ranges(
    axis: Axes,
    mode: FailureMode,
    known: Mapping[str, Array],
    info: Mapping[str, FeatureInfo] = FEATURES,
) -> None:
    """10 to 90 % of each feature of the mode as percentiles of the population.

    Args:
        axis: To draw on.
        mode: The mode.
        known: Values of the population by feature; others are left out.
        info: Display scale by feature.
    """
    rows = [row for row in mode.features if row.feature in known]
    axis.axvspan(10, 90, color="#e8e8e8", zorder=0)
    axis.axvline(50, color="#999999", linewidth=0.8, zorder=1)
    for place, row in enumerate(rows):
        values = np.sort(np.asarray(known[row.feature], dtype=np.float64))
        scale = feature_display(row.feature, info)[2]
        low, median, high = (
            100 * float(np.searchsorted(values, v / scale)) / len(values) for v in row.mode
        )
        axis.plot([low, high], [place, place], color=TILTED, linewidth=2.2)
        axis.plot([median], [place], marker="o", color=TILTED, markersize=4)
    axis.set_yticks(range(len(rows)), [row.label for row in rows])
    bottom = max(len(rows), 1) - 0.5
    axis.set(xlim=(-2, 102), ylim=(bottom, -0.5), xlabel="percentile of all base samples")


def _difference(power: Array, everything: Array) -> Array:
    """10 log10 of one mean power over another; NaN where both lie below the maps' floor."""
    floor = float(everything.max()) * 10 ** (FLOOR_DB / 10)
    ratio = np.maximum(power, 1e-12) / np.maximum(everything, 1e-12)
    return np.where(np.maximum(power, everything) >= floor, 10 * np.log10(ratio), np.nan)


def _strata_axes(axis: Axes, label: str, group: Sequence[Stratum]) -> None:
    """One feature: a place for each stratum, the ends between them."""
    for place, stratum in enumerate(group):
        _upright(axis, stratum.base, place - 0.12, BASE, "o", BASE)
        _upright(axis, stratum.real, place + 0.12, REAL, "s", "white")
    unit = f" [{group[0].unit}]" if group[0].unit else ""
    if group[0].name:
        axis.set_xticks(range(len(group)), [stratum.name for stratum in group])
    else:
        ends = [stratum.high for stratum in group[:-1] if stratum.high is not None]
        axis.set_xticks([i + 0.5 for i in range(len(ends))], [f"{end:.3g}" for end in ends])
    axis.set(xlim=(-0.6, len(group) - 0.4), xlabel=f"{label}{unit}")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(axis="y", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def _upright(
    axis: Axes, estimate: Estimate | None, x: float, color: str, marker: str, face: str
) -> None:
    """A probability [%] with its interval, upright."""
    if estimate is None:
        return
    low, high = (100 * v for v in estimate.interval or (estimate.value, estimate.value))
    axis.plot([x, x], [low, high], color=color, linewidth=1.4)
    axis.plot([x], [100 * estimate.value], marker=marker, color=color, markerfacecolor=face,
              markersize=4.5)  # fmt: skip
