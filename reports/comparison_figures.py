"""The figures of a comparison. Each takes what it draws and returns a matplotlib Figure.

Imports matplotlib, so it is imported when a page is written.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from reports.comparison import MEAN
from reports.comparison_schema import ComparedSet
from reports.figure_data import ReportArrays
from reports.mode_figures import draw_survival
from reports.plotting import (
    FLOOR_DB,
    NORMAL,
    SMALL,
    WIDTH,
    angular_axes,
    angular_image,
    as_text,
    colour_bar,
    delay_label,
    empty,
    finish,
    short_name,
    to_db,
)
from reports.survival import survival_curve

Array = npt.NDArray[Any]

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#1a1a1a")
LINES = ("-", "--", ":")
GREY = "#bbbbbb"
MOST = 6  # compressors beside the leading one that are drawn by name
MOST_CLOUDS = 4


def beyond_figure(nmse: Mapping[str, Array], title: str) -> Figure:
    """Share of channels beyond each NMSE [dB], a line a compressor, down to 10 channels.

    Lines of a compressor alike would hide each other, so they differ in dashes too. Beyond the
    first `MOST` + 1 they are grey and have no name.

    Args:
        nmse: Linear NMSE by compressor, the leading one first.
        title: Above the figure.
    """
    named = list(nmse)[: MOST + 1]
    rows = math.ceil((len(named) + (len(nmse) > len(named))) / 2)
    figure = Figure(figsize=(WIDTH, 3.1 + 0.18 * rows), layout="constrained")
    axis = figure.subplots()
    for name in list(nmse)[MOST + 1 :]:
        draw_survival(axis, survival_curve(nmse[name]), color=GREY, line="-", band=False)
    for i, name in enumerate(named):
        style = (COLOURS[i % len(COLOURS)], LINES[i % len(LINES)])
        draw_survival(axis, survival_curve(nmse[name]), color=style[0], line=style[1], band=False)
        axis.plot([], [], color=style[0], linestyle=style[1], label=as_text(short_name(name)))
    if len(nmse) > len(named):
        axis.plot([], [], color=GREY, label=f"{len(nmse) - len(named)} others")
    axis.set(yscale="log", xlabel="NMSE [dB]", ylabel="share beyond", ylim=(None, 1.3))
    low = min(float(np.quantile(to_db(values), 0.02)) for values in nmse.values())
    axis.set_xlim(max(low, -60.0), None)
    axis.set_title(short_name(title, 60), fontsize=NORMAL, loc="left", parse_math=False)
    figure.legend(loc="outside lower center", ncols=2, fontsize=SMALL, frameon=False)
    return finish(figure)


def difference_figure(compared: ComparedSet, quantity: str = MEAN) -> Figure:
    """Paired differences of every compressor from the leading one, with intervals."""
    leader = compared.rankings[0].entries[0].name
    rows = []
    for pair in compared.pairs:
        figure_of = next((f for f in pair.figures if f.quantity == quantity), None)
        if figure_of is None or figure_of.difference is None:
            continue
        if leader in (pair.first, pair.second):
            sign = -1.0 if pair.first == leader else 1.0
            other = pair.second if pair.first == leader else pair.first
            lo, hi = figure_of.difference.interval or (figure_of.difference.value,) * 2
            ends = sorted((sign * lo, sign * hi))
            rows.append((other, sign * figure_of.difference.value, ends, figure_of.verdict))
    each = 0.3 if len(rows) <= 8 else 0.2
    figure = Figure(figsize=(WIDTH, 1.0 + each * max(1, len(rows))), layout="constrained")
    if not rows:
        return empty(figure, "nothing to compare")
    axis = figure.subplots()
    for i, (_, value, ends, verdict) in enumerate(rows):
        color = "#777777" if verdict == "cannot tell" else COLOURS[0]
        axis.plot(ends, [i, i], color=color, linewidth=1.4)
        axis.plot([value], [i], marker="o", color=color, markersize=5)
    axis.axvline(0, color="#999999", linewidth=0.8)
    names = [short_name(row[0]) for row in rows]
    axis.set_yticks(range(len(rows)), names, fontsize=SMALL, parse_math=False)
    axis.set_ylim(len(rows) - 0.4, -0.6)
    axis.set_xlabel(f"{quantity}: worse than the leading one by [dB]")
    axis.set_title(
        f"Leading: {short_name(leader, 50)}", fontsize=NORMAL, loc="left", parse_math=False
    )
    return finish(figure)


def cloud_figure(nmse: Mapping[str, Array], names: Sequence[str], level_db: float | None) -> Figure:
    """NMSE [dB] of each other compressor against that of the first name, a point a channel."""
    others = [name for name in names[1:] if name in nmse][:MOST_CLOUDS]
    columns = min(2, max(1, len(others)))
    rows = math.ceil(max(1, len(others)) / columns)
    figure = Figure(figsize=(WIDTH, 0.4 + 2.4 * rows), layout="constrained")
    if not others:
        return empty(figure, "one compressor: nothing to set it against")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    x = to_db(nmse[names[0]])
    size = float(np.clip(50 / math.sqrt(len(x)), 0.7, 2.5))  # points: few channels, larger dots
    for axis, other in zip(axes, others, strict=False):
        y = to_db(nmse[other])
        ends = (max(min(x.min(), y.min()), -40.0), max(x.max(), y.max()) + 0.5)
        axis.plot(ends, ends, color="#999999", linewidth=0.8)
        axis.plot(x, y, "o", color=COLOURS[0], markersize=size, markeredgewidth=0, rasterized=True)
        if level_db is not None:
            axis.axhline(level_db, color=COLOURS[1], linewidth=0.8, linestyle="--")
            axis.axvline(level_db, color=COLOURS[1], linewidth=0.8, linestyle="--")
        axis.set(xlim=ends, ylim=ends)
        axis.set_xlabel(f"{short_name(names[0], 20)} [dB]", parse_math=False)
        axis.set_ylabel(f"{short_name(other, 20)} [dB]", parse_math=False)
    for axis in axes[len(others) :]:
        axis.set_axis_off()
    return finish(figure)


def loss_figure(axes_of: ReportArrays, power: Array, error: Mapping[str, Array]) -> Figure:
    """Where each compressor loses power, and how that differs from the first one.

    Args:
        axes_of: Axes of the maps.
        power: Mean power of the channels, [n_tx, n_delay], FFT order.
        error: Mean power of the error by compressor, the leading one first, same scale.
    """
    names = list(error)[: MOST + 1]
    panels = [None, *names]
    rows = math.ceil(len(panels) / 2)
    figure = Figure(figsize=(WIDTH, 0.6 + 2.0 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, sharex=True, sharey=True, squeeze=False)
    flat, total = axes.ravel(), axes_of.over_columns(power)
    peak = float(total.max())
    level = angular_axes(flat[0], axes_of, total, peak)
    flat[0].set_title("mean power of the channels", fontsize=SMALL)
    leading = axes_of.over_columns(error[names[0]])
    angular_axes(flat[1], axes_of, leading, peak)
    flat[1].set_title(f"lost by {short_name(names[0], 20)}", fontsize=SMALL, parse_math=False)
    change = None
    for axis, name in zip(flat[2:], names[1:], strict=False):
        gap = _decibels_apart(axes_of.over_columns(error[name]), leading, peak)
        change = angular_image(axis, axes_of, gap, cmap="RdBu_r", vmin=-6, vmax=6)
        axis.set_facecolor("#c8c8c8")
        title = f"{short_name(name, 14)} − {short_name(names[0], 14)}"
        axis.set_title(title, fontsize=SMALL, parse_math=False)
    for axis in flat[len(panels) :]:
        axis.set_axis_off()
    colour_bar(figure, level, axes[0], "power [dB]", vertical=True)
    if change is not None:
        colour_bar(figure, change, axes[1:], "error [dB]", vertical=True)
    figure.supxlabel(delay_label(axes_of), fontsize=NORMAL)
    figure.supylabel("sin(azimuth)", fontsize=NORMAL)
    return finish(figure)


def _decibels_apart(error: Array, leading: Array, peak: float) -> Array:
    """10 log10 of one error map over another; NaN where both lie below the floor."""
    seen = np.maximum(error, leading) >= peak * 10 ** (FLOOR_DB / 10)
    return np.where(seen, to_db(np.maximum(error, 1e-12) / np.maximum(leading, 1e-12)), np.nan)
