"""Figures of the losses of a cell network: how they are distributed, and how often each fails.

Each function takes what it draws and returns a matplotlib Figure, as in reports.figures.
"""

import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from reports.estimates import Estimate
from reports.mode_figures import draw_survival
from reports.network_schema import OutageRow
from reports.nouns import PLACEMENTS, Nouns
from reports.placement_arrays import PlacementArrays
from reports.plotting import (
    BASE,
    NORMAL,
    REAL,
    SMALL,
    TILTED,
    WIDTH,
    dot,
    empty,
    finish,
    histogram_axes,
    mark_levels,
    percent_axis,
    short_name,
    side_legend,
    value_edges,
)
from reports.reweighting import normalised_weights
from reports.survival import survival_curve
from reports.tail_figures import draw_tail

Array = npt.NDArray[Any]
_Law = tuple[str, Array, Array, dict[str, str]]

_LETTERS = 24  # of a line of a name
_LEVELS = 400  # of a curve: more than can be told apart


def outage_loss_figure(
    row: OutageRow, arrays: PlacementArrays, nouns: Nouns = PLACEMENTS
) -> Figure:
    """Distribution of one loss under p and q, the real side as outline.

    Above the densities, below the share of placements beyond each level on a log axis, down to
    where 10 effective samples lie beyond, with a pointwise 95 % band of the real side and the
    points of the tail curve.

    Args:
        row: The loss, with its thresholds and its curve.
        arrays: Values of the loss.
        nouns: What the samples are called.
    """
    laws = _laws(row.name, arrays, nouns)
    figure = Figure(figsize=(WIDTH, 4.9), layout="constrained")
    if not laws:
        return empty(figure, "no values of this loss to show")
    top, bottom = figure.subplots(2, 1, sharex=True)
    edges = value_edges([values for _, values, _, _ in laws])
    for label, values, weight, style in laws:
        histogram_axes(top, edges, values, weight, label, style)
        even = float(np.ptp(weight)) == 0.0
        curve = survival_curve(values, None if even else weight, most=_LEVELS)
        draw_survival(bottom, curve, color=style["color"], line=style["line"],
                      band=style["color"] == REAL, decibel_of=False)  # fmt: skip
    unit = "" if row.unit == "1" else f" [{row.unit}]"
    most = max(len(values) for _, values, _, _ in laws)
    bottom.set(yscale="log", ylim=(0.5 / most, 1.3), xlim=(edges[0], edges[-1]),
               ylabel="share beyond")  # fmt: skip
    bottom.set_xlabel(f"{row.label}{unit}", parse_math=False)
    reach = None if row.estimates.curve is None else draw_tail(bottom, row.estimates.curve)
    if reach is not None:
        bottom.set(ylim=(min(0.5 / most, 0.5 * reach[1]), 1.3),
                   xlim=(edges[0], max(edges[-1], reach[0])))  # fmt: skip
    top.set(ylabel=f"density [1/{row.unit}]" if unit else "density")
    top.legend(fontsize=SMALL, frameon=False)
    levels = {t.threshold: t.level for t in row.estimates.tails if t.level is not None}
    mark_levels((top, bottom), {short_name(k, 40): v for k, v in levels.items()})
    if levels or reach:
        bottom.legend(fontsize=SMALL, edgecolor="none", loc="lower left")  # lines may cross it
    return finish(figure)


def outage_overview_figure(rows: Sequence[OutageRow], nouns: Nouns = PLACEMENTS) -> Figure:
    """P(L beyond tau) with its interval, base samples beside the real side, of every loss."""
    pairs = [(row, tail) for row in rows for tail in row.estimates.tails]
    figure = Figure(figsize=(WIDTH, 1.1 + 0.62 * max(1, len(pairs))), layout="constrained")
    if not pairs:
        return empty(figure, "no outage probability to show")
    axis = figure.subplots()
    for i, (_, tail) in enumerate(pairs):
        dot(axis, _drawable(tail.base), i - 0.13, BASE, "o", BASE)
        dot(axis, _drawable(tail.real), i + 0.13, REAL, "s", "white")
    percent_axis(axis)
    names = [_row_name(row.label, tail.threshold) for row, tail in pairs]
    axis.set_yticks(range(len(pairs)), names, fontsize=SMALL, parse_math=False)
    axis.set_ylim(len(pairs) - 0.4, -0.6)
    axis.set_xlabel("probability [%]; arrow: none seen, upper bound")
    side_legend(figure, axis, nouns.real)
    axis.yaxis.label.set_fontsize(NORMAL)
    return finish(figure)


def _row_name(label: str, threshold: str) -> str:
    """A loss in one or two short lines and its threshold in another."""
    lines = textwrap.wrap(label, _LETTERS, max_lines=2, placeholder="…")
    return "\n".join([*lines, short_name(f"beyond {threshold}", _LETTERS)])


def _drawable(estimate: Estimate | None) -> Estimate | None:
    """None for a zero without an upper bound, which a log axis cannot show."""
    if estimate is None or estimate.value > 0 or estimate.interval is not None:
        return estimate
    return None


def _laws(name: str, arrays: PlacementArrays, nouns: Nouns) -> list[_Law]:
    """(label, L, weights of sum 1, style) of every law there is."""
    found: list[_Law] = []
    base, real = arrays.losses_base.get(name), arrays.losses_real.get(name)
    if base is not None:
        plain = normalised_weights(arrays.log_w)
        found.append(("base law p", base, plain, {"color": BASE, "line": "-"}))
        if name in arrays.log_l:
            tilted = normalised_weights(arrays.log_w + arrays.log_l[name])
            style = {"color": TILTED, "line": "-"}
            found.append(("failure-weighted law q", base, tilted, style))
    if real is not None and len(real):
        even = np.full(len(real), 1 / len(real))
        found.append((nouns.real, real, even, {"color": REAL, "line": "--"}))
    return found
