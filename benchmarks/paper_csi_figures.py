"""The figure of benchmarks.paper_csi: l under p and q, and where the power lies in either law."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from channels import Grid
from channels.support import atomic_write
from reports.figure_data import ReportArrays
from reports.figures import png_bytes
from reports.plotting import (
    BASE,
    ISSGM,
    REAL,
    SMALL,
    TILTED,
    angular_axes,
    colour_bar,
    delay_label,
    finish,
)

Array = npt.NDArray[np.float64]

COLOURS = (BASE, TILTED, REAL, ISSGM)
BINS = 40


@dataclass(frozen=True)
class Law:
    """l of the samples of one law (N,), their weights (N,) of sum 1, and the style of its line."""

    label: str
    l: Array
    weights: Array
    line: str


def laws_figure(
    grid: Grid, laws: Sequence[Law], maps: Mapping[str, Array], *, tau: float
) -> Figure:
    """Densities of l above, mean angular-delay power of each map below.

    Args:
        grid: Of the channels.
        laws: At most four; the first is filled.
        maps: Mean power (n_tx, n_delay) in FFT order by title; the first sets the scale [dB].
        tau: Marked in the histogram.
    """
    figure = Figure(figsize=(9.6, 6.0), layout="constrained")
    top, *below = figure.subplot_mosaic(
        [["l"] * len(maps), [f"map {i}" for i in range(len(maps))]]
    ).values()
    edges = np.linspace(0, max(float(law.l.max()) for law in laws), BINS + 1)
    for law, colour in zip(laws, COLOURS, strict=False):
        density = np.histogram(law.l, edges, weights=law.weights)[0] / np.diff(edges)
        if law is laws[0]:
            top.stairs(density, edges, fill=True, color=colour, alpha=0.35)
        top.stairs(density, edges, color=colour, linestyle=law.line, linewidth=1.4,
                   label=law.label)  # fmt: skip
    top.axvline(tau, color="#555555", linewidth=1.0, linestyle=(0, (5, 2)), label="τ")
    top.set(xlabel="l: squared error over the channel's power", ylabel="density",
            xlim=(0, edges[-1]), yscale="log")  # fmt: skip
    top.legend(fontsize=SMALL, frameon=False, ncols=5, loc="lower center", bbox_to_anchor=(0.5, 1))
    n_tx, n_delay = next(iter(maps.values())).shape
    arrays = _axes(grid, n_tx, n_delay)
    peak = max(float(arrays.over_columns(next(iter(maps.values()))).max()), 1e-30)
    image = None
    for axis, (title, power) in zip(below, maps.items(), strict=True):
        image = angular_axes(axis, arrays, arrays.over_columns(power), peak)
        axis.set_title(title, fontsize=SMALL)
        axis.set_xlabel(delay_label(arrays))
    below[0].set_ylabel("sin(azimuth)")
    colour_bar(figure, image, below, "mean power [dB re the peak under p]")
    return finish(figure)


def save_laws(
    path: Path, grid: Grid, laws: Sequence[Law], maps: Mapping[str, Array], *, tau: float
) -> None:
    """Write `laws_figure` as PNG, whole or not at all."""
    picture = png_bytes(laws_figure(grid, laws, maps, tau=tau), dpi=120)
    with atomic_write(path) as temporary:
        temporary.write_bytes(picture)


def _axes(grid: Grid, n_tx: int, n_delay: int) -> ReportArrays:
    """The axes that maps of this grid are drawn over."""
    taps = grid.delays_s(n_delay)
    return ReportArrays(
        delay_s=np.arange(n_delay, dtype=np.float64) if taps is None else taps.numpy(),
        sin_azimuth=grid.sin_azimuth(n_tx).numpy(),
        frequency_hz=np.arange(grid.n_sub, dtype=np.float64),
        bandwidth_known=taps is not None,
        panel=grid.panel,
    )
