"""The figures of a report. Each function takes what it draws and returns a matplotlib Figure.

Figure objects only: no pyplot, no change of rcParams, no state. Maps arrive in FFT storage order
and are shifted here and nowhere else. Every figure is narrow (4.8 in) so that it reads on a phone;
the page sets them side by side on a wide screen.
"""

import io
import math
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reports.figure_data import Exemplar, ReportArrays, map_power, to_spatial_map
from reports.mode_figures import draw_survival
from reports.nouns import CHANNELS, Nouns
from reports.plotting import (
    BASE,
    FLOOR_DB,
    ISSGM,
    NORMAL,
    REAL,
    SMALL,
    TILTED,
    WIDTH,
    angular_axes,
    angular_image,
    colour_bar,
    delay_label,
    dot,
    empty,
    finish,
    foreign_letters,
    frequency_label,
    histogram_axes,
    mark_levels,
    percent_axis,
    short_name,
    side_legend,
    spatial_axes,
    to_db,
    value_edges,
)
from reports.reweighting import normalised_weights
from reports.schema import RealismItem, Result, Threshold
from reports.stratify import feature_display
from reports.survival import survival_curve
from reports.tables import threshold_title
from reports.tail_figures import draw_tail
from reports.tail_schema import LossTail
from reports.words import decibel, share_text

Array = npt.NDArray[Any]

_LETTERS = 30  # of a line below one of two panels


def png_bytes(figure: Figure, dpi: int = 170) -> bytes:
    """The figure as PNG; the same input gives the same bytes (no date, no software tag)."""
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Software": None}
    with foreign_letters():
        figure.savefig(buffer, format="png", dpi=dpi, facecolor="white", metadata=metadata)
    return buffer.getvalue()


def distortion_figure(
    arrays: ReportArrays,
    name: str,
    thresholds: Mapping[str, float] | None = None,
    tail: LossTail | None = None,
) -> Figure:
    """Distribution of NMSE [dB] under p and q, real channels as outline (the paper's Figure 3).

    Above the densities, below the share of channels beyond each level on a log axis, where tails
    can be read off: down to where 10 samples lie beyond, with a pointwise 95 % band of the real
    channels.

    Args:
        arrays: Holds nmse_base and log_l, or nmse_real, of the compressor.
        name: The compressor.
        thresholds: Levels [dB] to mark, by label.
        tail: Its tail curve.
    """
    laws = _laws(arrays, name)
    figure = Figure(figsize=(WIDTH, 4.9), layout="constrained")
    if not laws:
        return empty(figure, "no distortions to show")
    top, bottom = figure.subplots(2, 1, sharex=True)
    edges = value_edges([values for _, values, _, _ in laws])
    for label, values, weight, style in laws:
        histogram_axes(top, edges, values, weight, label, style)
        even = float(np.ptp(weight)) == 0.0
        curve = survival_curve(10 ** (values / 10), None if even else weight)
        real = style["color"] == REAL
        draw_survival(bottom, curve, color=style["color"], line=style["line"], band=real)
    most = max(len(values) for _, values, _, _ in laws)
    bottom.set(yscale="log", ylim=(0.5 / most, 1.3), xlim=(edges[0], edges[-1]),
               xlabel="NMSE [dB]", ylabel="share beyond")  # fmt: skip
    reach = None if tail is None else draw_tail(bottom, tail)
    if reach is not None:
        bottom.set(ylim=(min(0.5 / most, 0.5 * reach[1]), 1.3),
                   xlim=(edges[0], max(edges[-1], reach[0] + 0.3)))  # fmt: skip
    top.set(ylabel="density [1/dB]")
    top.legend(fontsize=SMALL, frameon=False, loc="upper left")
    if thresholds:
        levels = {
            label if label == decibel(level) else f"{label}: {decibel(level)}": level
            for label, level in thresholds.items()
        }
        mark_levels((top, bottom), levels)
    if thresholds or reach:
        bottom.legend(fontsize=SMALL, frameon=False, loc="lower left")
    top.set_title(name, fontsize=NORMAL, loc="left", parse_math=False)
    return finish(figure)


def exemplar_figure(arrays: ReportArrays, low: Exemplar, high: Exemplar) -> Figure:
    """A channel of low and one of high distortion side by side.

    Rows: magnitude over antennas and subcarriers, power over angle and delay, and the power of the
    reconstruction's error on the same scale as the row above [dB re the channel's own peak].
    """
    figure = Figure(figsize=(WIDTH, 6.6), layout="constrained")
    axes = figure.subplots(3, 2, sharey="row", sharex="row")
    image = None
    for column, exemplar in enumerate((low, high)):
        power = arrays.over_columns(map_power(exemplar.x))
        own = float(power.max())
        error = arrays.over_columns(map_power(exemplar.x_hat - exemplar.x))
        spatial = to_spatial_map(exemplar.x, len(arrays.frequency_hz), arrays.panel)
        spatial_axes(axes[0, column], arrays, spatial)
        image = angular_axes(axes[1, column], arrays, power, own)
        angular_axes(axes[2, column], arrays, error, own)
        level = decibel(float(to_db(exemplar.nmse)), 1)
        title = f"{exemplar.source}, {exemplar.side} distortion: {level}"
        axes[0, column].set_title(title, fontsize=SMALL)
    titles = ("channel\nantenna", "channel\nsin(azimuth)", "error\nsin(azimuth)")
    for axis, text in zip(axes[:, 0], titles, strict=True):
        axis.set_ylabel(text)
    for row, text in enumerate((frequency_label(arrays), delay_label(arrays), delay_label(arrays))):
        for axis in axes[row]:
            axis.set_xlabel(text)
    colour_bar(figure, image, axes, "power [dB re the channel's peak]")
    return finish(figure)


def worst_figure(arrays: ReportArrays, name: str) -> Figure:
    """Mean angular-delay power of the worst share against all, and their difference [dB].

    Top: all samples and the worst ones. Bottom: the difference, on base samples and on real
    channels; where both show the same colours the failure is no artefact of the base law.
    """
    figure = Figure(figsize=(WIDTH, 4.9), layout="constrained")
    sources = _worst_sources(arrays, name)
    if not sources:
        return empty(figure, "no map of the worst channels")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    label, everything, worst = sources[0]
    titles = (f"all {label}", f"worst {share_text(arrays.worst_share)} of {label}")
    level = change = None
    for axis, power, title in zip(axes[0], (everything, worst), titles, strict=True):
        level = angular_axes(axis, arrays, power, float(everything.max()))
        axis.set_title(title, fontsize=NORMAL)
    for axis, (label, everything, worst) in zip(axes[1], sources, strict=False):
        change = angular_image(axis, arrays, _difference(worst, everything), cmap="RdBu_r",
                               vmin=-12, vmax=12)  # fmt: skip
        axis.set_facecolor("#c8c8c8")  # cells without power
        axis.set_title(f"worst − all, {label}", fontsize=NORMAL)
    if len(sources) == 1:
        axes[1, 1].set_axis_off()
        axes[0, 1].tick_params(labelbottom=True)
    colour_bar(figure, level, axes[0], "power [dB]", vertical=True)
    colour_bar(figure, change, axes[1], "difference [dB]", vertical=True)
    figure.supxlabel(delay_label(arrays), fontsize=NORMAL)
    figure.supylabel("sin(azimuth)", fontsize=NORMAL)
    return finish(figure)


def realism_figure(
    base: Mapping[str, Array],
    real: Mapping[str, Array],
    items: Sequence[RealismItem],
    *,
    nouns: Nouns = CHANNELS,
    scales: Mapping[str, tuple[float, str]] | None = None,
) -> Figure:
    """Distribution functions of base samples and real channels, a panel per quantity.

    Args:
        base: Values by name; linear NMSE of compressors, features as stored.
        real: The same on real channels.
        items: Which panels to draw, with KS for the titles.
        nouns: What the samples are called.
        scales: Factor and unit by name; None for linear NMSE in dB and features of channels.
    """
    shown = [item for item in items if item.name in base and item.name in real]
    rows = max(1, math.ceil(len(shown) / 2))
    figure = Figure(figsize=(WIDTH, 0.5 + 2.05 * rows), layout="constrained")
    if not shown:
        return empty(figure, "nothing to compare")
    axes = figure.subplots(rows, 2, sharey=True, squeeze=False).ravel()
    for axis, item in zip(axes, shown, strict=False):
        own, other = (_shown_values(item, values[item.name], scales) for values in (base, real))
        _realism_axes(axis, item, own, other, nouns)
    for axis in axes[len(shown) :]:
        axis.set_axis_off()
    for axis in axes[::2]:
        axis.set_ylabel("share below")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper right", ncols=2,
                  fontsize=SMALL, frameon=False)  # fmt: skip
    return finish(figure)


def overview_figure(result: Result) -> Figure:
    """P(NMSE > tau) with its interval, base samples beside real channels, per compressor."""
    rows = [short_name(row.name) for row in result.compressors]
    height = 0.9 + len(result.tau) * (0.55 + 0.36 * max(1, len(rows)))
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    if not rows or not result.tau:
        return empty(figure, "no failure probability to show")
    axes = figure.subplots(len(result.tau), 1, sharex=True, squeeze=False)[:, 0]
    for axis, tau in zip(axes, result.tau, strict=True):
        _overview_axes(axis, result, tau)
        axis.set_yticks(range(len(rows)), rows, fontsize=SMALL, parse_math=False)
        axis.set_ylim(len(rows) - 0.4, -0.6)
        axis.set_title(threshold_title(tau), fontsize=NORMAL, loc="left", parse_math=False)
    axes[-1].set_xlabel("probability [%], 95 % interval; arrow: none seen, upper bound")
    side_legend(figure, axes[0], "real channels")
    return finish(figure)


def _realism_axes(
    axis: Axes,
    item: RealismItem,
    base: tuple[Array, str],
    real: tuple[Array, str],
    nouns: Nouns,
) -> None:
    """Both distribution functions of one quantity, its KS distance in the title."""
    (base_x, unit), (real_x, _) = base, real
    for values, label, color, line in (
        (base_x, "base samples", BASE, "-"),
        (real_x, nouns.real, REAL, "--"),
    ):
        x = np.sort(values)
        axis.step(x, np.arange(1, len(x) + 1) / len(x), where="post", color=color,
                  linestyle=line, linewidth=1.4, label=label)  # fmt: skip
    low, high = np.quantile(np.concatenate([base_x, real_x]), [0.001, 0.995])
    pad = 0.03 * (high - low) or 1.0
    axis.set_xlim(low - pad, high + pad)
    label = f"{item.label} [{unit}]" if unit else item.label
    axis.set_xlabel(_two_lines(label), parse_math=False)
    axis.set_title(_ks_title(item), fontsize=SMALL)


def _worst_sources(arrays: ReportArrays, name: str) -> list[tuple[str, Array, Array]]:
    """(whose, mean power of all, mean power of the worst) for each side that has both."""
    sides = (
        ("base samples", arrays.power_base, arrays.worst_base.get(name)),
        ("real channels", arrays.power_real, arrays.worst_real.get(name)),
    )
    return [
        (who, arrays.over_columns(p), arrays.over_columns(q))
        for who, p, q in sides
        if p is not None and q is not None
    ]


def _difference(worst: Array, everything: Array) -> Array:
    """10 log10 of worst over all; NaN where both lie below the floor of the power maps."""
    floor = float(everything.max()) * 10 ** (FLOOR_DB / 10)
    seen = np.maximum(worst, everything) >= floor
    ratio = np.maximum(worst, 1e-12) / np.maximum(everything, 1e-12)
    return np.where(seen, 10 * np.log10(ratio), np.nan)


def _overview_axes(axis: Axes, result: Result, tau: Threshold) -> None:
    """Dots and intervals of one threshold; base a little above, real a little below the row."""
    for i, row in enumerate(result.compressors):
        tail = next((t for t in row.estimates.tails if t.threshold == tau.label), None)
        if tail is not None:
            dot(axis, tail.base, i - 0.13, BASE, "o", BASE)
            dot(axis, tail.real, i + 0.13, REAL, "s", "white")
    percent_axis(axis)


def _laws(arrays: ReportArrays, name: str) -> list[tuple[str, Array, Array, dict[str, str]]]:
    """(label, NMSE [dB], weights of sum 1, style) of every law there is."""
    found = []
    base = arrays.nmse_base.get(name)
    if base is not None:
        even = np.full(len(base), 1 / len(base))
        found.append(("base law p", to_db(base), even, {"color": BASE, "line": "-"}))
        if name in arrays.log_l:
            tilted = normalised_weights(arrays.log_l[name])
            style = {"color": TILTED, "line": "-"}
            found.append(("failure-weighted law q", to_db(base), tilted, style))
    for label, values, style in (
        ("real channels", arrays.nmse_real.get(name), {"color": REAL, "line": "--"}),
        ("issgm samples", arrays.nmse_issgm.get(name), {"color": ISSGM, "line": ":"}),
    ):
        if values is not None and len(values):
            found.append((label, to_db(values), np.full(len(values), 1 / len(values)), style))
    return found


def _shown_values(
    item: RealismItem, values: Array, scales: Mapping[str, tuple[float, str]] | None
) -> tuple[Array, str]:
    """Values as a reader sees them, and their unit: distortions in dB, features scaled."""
    if scales is not None:
        scale, unit = scales[item.name]
        return np.asarray(values, dtype=np.float64) * scale, unit
    if item.kind == "distortion":
        return to_db(values), "dB"
    _, unit, scale = feature_display(item.name)
    return np.asarray(values, dtype=np.float64) * scale, unit


def _two_lines(label: str) -> str:
    """A label no wider than its panel."""
    return textwrap.fill(label, _LETTERS, max_lines=2, placeholder="…")


def _ks_title(item: RealismItem) -> str:
    if item.ks is None or item.floor_95 is None:
        return "not checked"
    return f"KS {item.ks:.3f}, by chance up to {item.floor_95:.3f}"
