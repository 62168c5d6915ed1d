"""Axes, maps and marks that the figures share: one look, one place for the FFT shift.

Imports matplotlib, so only figures.py imports it, and figures.py only inside functions.
"""

import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, FigureBase
from matplotlib.image import AxesImage
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from reports.estimates import Estimate
from reports.figure_data import ReportArrays

Array = npt.NDArray[Any]

BASE, TILTED, REAL, ISSGM = "#0072B2", "#D55E00", "#1a1a1a", "#009E73"  # Okabe and Ito 2008
WIDTH = 4.8  # inches
FLOOR_DB = -30.0  # of every power map
SMALL, NORMAL = 8.0, 9.0  # points


def to_db(power: npt.ArrayLike) -> Array:
    """10 log10 of a linear ratio; exact zeros are shown at -100 dB."""
    return np.asarray(10 * np.log10(np.maximum(np.asarray(power, dtype=np.float64), 1e-10)))


def as_text(text: str) -> str:
    """A name for places that would read $...$ as mathematics."""
    return text.replace("$", r"\$")


def short_name(name: str, most: int = 28) -> str:
    """A name for an axis, which a long one would push out of the figure."""
    return name if len(name) <= most else f"{name[: most - 1]}…"


@contextmanager
def foreign_letters() -> Iterator[None]:
    """Letters that the font has not are drawn as boxes; the page has the name in full."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield


def finish(figure: Figure) -> Figure:
    """One font size and thin frames on all axes."""
    for axis in figure.axes:
        axis.tick_params(labelsize=SMALL, width=0.6, length=3)
        axis.xaxis.label.set_fontsize(NORMAL)
        axis.yaxis.label.set_fontsize(NORMAL)
        for side in axis.spines.values():
            side.set_linewidth(0.6)
    return figure


def empty(figure: Figure, text: str) -> Figure:
    """A small figure that says in words why there is nothing to see."""
    figure.set_size_inches(WIDTH, 1.0)
    figure.text(0.5, 0.5, text, ha="center", va="center", fontsize=NORMAL, color="#555555")
    return figure


def delay_label(arrays: ReportArrays) -> str:
    """Title of a delay axis."""
    return "delay [ns]" if arrays.bandwidth_known else "delay [taps]"


def frequency_label(arrays: ReportArrays) -> str:
    """Title of a subcarrier axis."""
    return "subcarrier offset [MHz]" if arrays.bandwidth_known else "subcarrier"


def angular_axes(axis: Axes, arrays: ReportArrays, power: Array, peak: float) -> AxesImage:
    """Power [n_columns, n_delay] over angle and delay [dB re `peak`], angles in rising order."""
    level = to_db(np.asarray(power) / max(peak, 1e-30))
    return angular_image(axis, arrays, level, cmap="viridis", vmin=FLOOR_DB, vmax=0)


def angular_image(axis: Axes, arrays: ReportArrays, values: Array, **style: Any) -> AxesImage:
    """A map [n_columns, n_delay] in FFT order (see `ReportArrays.over_columns`), drawn over
    sin(azimuth) and ns."""
    order = np.argsort(arrays.column_sines, kind="stable")  # the FFT shift, whatever the origin
    scale = 1e9 if arrays.bandwidth_known else 1.0
    sine, delay = arrays.column_sines[order], arrays.delay_s * scale
    extent = (*_ends(delay), *_ends(sine))
    return axis.imshow(values[order], aspect="auto", origin="lower", extent=extent,
                       interpolation="nearest", **style)  # fmt: skip


def spatial_axes(
    axis: Axes, arrays: ReportArrays, power: Array, peak: float | None = None
) -> AxesImage:
    """Channel magnitude [dB re `peak`, by default its own] over antenna and subcarrier offset."""
    n_tx, scale = power.shape[0], 1e-6 if arrays.bandwidth_known else 1.0
    extent = (*_ends(arrays.frequency_hz * scale), -0.5, n_tx - 0.5)
    level = to_db(power / max(float(power.max()) if peak is None else peak, 1e-30))
    return axis.imshow(level, aspect="auto", origin="lower", extent=extent,
                       interpolation="nearest", cmap="viridis", vmin=FLOOR_DB, vmax=0)  # fmt: skip


def colour_bar(
    figure: FigureBase, image: AxesImage | None, axes: Iterable[Axes], text: str, *,
    vertical: bool = False,
) -> None:  # fmt: skip
    """One colour bar for several axes: below them, or at their right."""
    if image is None:
        return
    where = "right" if vertical else "bottom"
    bar = figure.colorbar(image, ax=list(np.ravel(np.asarray(axes, dtype=object))), location=where,
                          fraction=0.05, pad=0.02, aspect=30)  # fmt: skip
    bar.set_label(text, fontsize=NORMAL)
    bar.ax.tick_params(labelsize=SMALL)


def dot(
    axis: Axes, estimate: Estimate | None, y: float, color: str, marker: str, face: str
) -> None:
    """A probability [%] with its interval; an arrow from the upper bound when none was seen."""
    if estimate is None:
        return
    value = 100 * estimate.value
    lo, hi = (100 * x for x in estimate.interval or (estimate.value, estimate.value))
    if value <= 0:
        if hi > 0:
            axis.annotate("", (hi / 4, y), (hi, y), arrowprops={"arrowstyle": "->", "color": color})
            axis.plot([hi / 4, hi], [y, y], color=color, alpha=0)  # keeps the arrow in view
            axis.plot([hi], [y], marker="|", color=color)
        return
    axis.plot([max(lo, value / 100), hi], [y, y], color=color, linewidth=1.4)
    axis.plot([value], [y], marker=marker, color=color, markerfacecolor=face, markersize=5)


def percent_axis(axis: Axes) -> None:
    """A logarithmic x axis of probabilities [%], with a grid, once all is drawn."""
    axis.set_xscale("log")
    low, high = axis.get_xlim()
    steps = (1, 2, 5) if high < 300 * low else (1,)
    axis.xaxis.set_major_locator(LogLocator(base=10, subs=steps))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.grid(axis="x", color="#dddddd", linewidth=0.6)
    axis.set_axisbelow(True)


def side_legend(figure: Figure, axis: Axes, real: str) -> None:
    """Which mark is the base samples' and which the real side's, above the figure."""
    handles = [
        axis.plot([], [], color=BASE, marker="o", linestyle="none", label="base samples")[0],
        axis.plot([], [], color=REAL, marker="s", linestyle="none", label=real,
                  markerfacecolor="white")[0],
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper right", ncols=2, fontsize=SMALL,
                  frameon=False)  # fmt: skip


def value_edges(values: Sequence[Array]) -> Array:
    """Bins over all laws, from the 0.2 % quantile to the maximum."""
    pooled = np.concatenate(values)
    low, high = float(np.quantile(pooled, 0.002)), float(pooled.max())
    pad = 0.02 * (high - low) or 0.5
    return np.linspace(low - pad, high + pad, 41)


def histogram_axes(
    axis: Axes, edges: Array, values: Array, weight: Array, label: str, style: Mapping[str, str]
) -> None:
    """Density over the values: filled for the laws of the model, outline for everything else."""
    density = np.histogram(values, edges, weights=weight)[0] / np.diff(edges)
    if style["line"] == "-":
        axis.stairs(density, edges, fill=True, color=style["color"], alpha=0.35)
    axis.stairs(density, edges, color=style["color"], linestyle=style["line"], linewidth=1.4,
                label=label)  # fmt: skip


def mark_levels(axes: Sequence[Axes], levels: Mapping[str, float]) -> None:
    """A line through all panels for each level, told apart by dashes, named in a legend."""
    dashes = ((0, (5, 2)), (0, (1, 1.2)), (0, (5, 2, 1, 2)))
    for i, (text, level) in enumerate(levels.items()):
        for axis in axes:
            axis.axvline(level, color="#555555", linewidth=1.2, linestyle=dashes[i % len(dashes)],
                         label=as_text(text))  # fmt: skip


def _ends(centres: Array) -> tuple[float, float]:
    """Outer edges of equally spaced bins."""
    x = np.asarray(centres, dtype=np.float64)
    half = (x[-1] - x[0]) / (2 * (len(x) - 1)) if len(x) > 1 else 0.5
    return float(x[0] - half), float(x[-1] + half)
