"""The figure of benchmarks.zoo: learning curves, and the share of users beyond each NMSE."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.zoo_entries import Entry
from channels.support import atomic_write
from compressors.linear_reference import klt_beside
from reports.figures import png_bytes
from reports.plotting import SMALL, as_text, finish, to_db

Array = npt.NDArray[np.float64]

COLOURS = (
    "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9",
    "#7B4FA3", "#8C564B", "#555555", "#A0A000", "#1B7F7F", "#C44E52",
)  # fmt: skip
FEWEST = 0.01  # share of the users beyond the left end of the axis


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A compressor as the figure shows it.

    Attributes:
        label: Its name.
        length: Code length of its panels.
        is_named: Drawn with a solid line; baselines are dotted.
        is_klt: The KLT of that length, dashed and black.
        nmse: Of each user, linear, (N,).
        curve: (sample passes, validation NMSE [dB]) of its training, (K, 2); None without.
        klt_db: The KLT's NMSE on the same validation users [dB]; None if unknown.
        klt_words: Which KLT that is.
    """

    label: str
    length: int
    is_named: bool
    is_klt: bool
    nmse: Array
    curve: Array | None = None
    klt_db: float | None = None
    klt_words: str = "KLT of equal code length"


def shown_of(entry: Entry, nmse: Array) -> Shown:
    """What the figure needs of an entry and its users' NMSE (N,)."""
    curve, beside = entry.card.get("curve"), klt_beside(entry.card)
    words, level = beside or ("", None)
    return Shown(
        label=entry.name,
        length=entry.length,
        is_named=entry.role == "named",
        is_klt=entry.klt == entry.name,
        nmse=nmse,
        curve=np.array(curve, dtype=np.float64) if curve else None,
        klt_db=level,
        klt_words=words,
    )


def zoo_figure(shown: Sequence[Shown]) -> Figure:
    """One row of panels a code length: training on the left, users on the right.

    Left: validation NMSE of the cards over sample passes, and the KLT on the same validation users.
    Right: share of the users of this run whose NMSE is higher, on a logarithmic scale.
    """
    lengths = sorted({item.length for item in shown}, reverse=True)
    figure = Figure(figsize=(9.6, 3.4 * len(lengths)), layout="constrained")
    axes = figure.subplots(len(lengths), 2, squeeze=False)
    for (left, right), length in zip(axes, lengths, strict=True):
        group = [item for item in shown if item.length == length]
        others = sorted((s for s in group if not s.is_klt), key=lambda s: not s.is_named)
        colours = dict(zip((s.label for s in others), cycle(COLOURS), strict=False))
        _curves(left, group, colours)
        _tails(right, group, colours)
        left.set_title(f"code of {length} numbers: training", fontsize=SMALL)
        right.set_title(f"code of {length} numbers: {len(group[0].nmse):,} users", fontsize=SMALL)
    return finish(figure)


def save_zoo(path: Path, shown: Sequence[Shown]) -> None:
    """Write `zoo_figure` as PNG, whole or not at all."""
    picture = png_bytes(zoo_figure(shown), dpi=120)
    with atomic_write(path) as temporary:
        temporary.write_bytes(picture)


def _curves(axis: Axes, group: Sequence[Shown], colours: Mapping[str, str]) -> None:
    """Learning curves, and the level of the KLT as dashed line."""
    trained = [item for item in group if item.curve is not None]
    for item in trained:
        if item.curve is not None:
            axis.plot(item.curve[:, 0] / 1e3, item.curve[:, 1], color=colours.get(item.label),
                      linewidth=1.4, label=as_text(item.label))  # fmt: skip
    levels = {(item.klt_words, item.klt_db) for item in trained if item.klt_db is not None}
    for words, level in sorted(levels):
        axis.axhline(level, color="black", linewidth=1.0, linestyle="--", label=words)
    axis.set(xlabel="sample passes [thousands]", ylabel="validation NMSE [dB]")
    if trained:
        axis.legend(fontsize=SMALL, frameon=False)
    else:
        axis.text(0.5, 0.5, "no training curve in the cards", transform=axis.transAxes,
                  ha="center", fontsize=SMALL, color="#555555")  # fmt: skip


def _tails(axis: Axes, group: Sequence[Shown], colours: Mapping[str, str]) -> None:
    """P(NMSE > t) of the users: 1 - k/n beyond the k-th smallest value."""
    for item in group:
        level = np.sort(to_db(item.nmse))
        share = 1 - np.arange(1, len(level) + 1) / len(level)
        axis.step(
            level[:-1],
            share[:-1],
            where="post",
            label=as_text(item.label),
            color="black" if item.is_klt else colours[item.label],
            linewidth=1.4 if item.is_named else 1.1,
            linestyle="--" if item.is_klt else ("-" if item.is_named else ":"),
        )
    left = min(float(np.quantile(to_db(item.nmse), FEWEST)) for item in group)
    axis.set(xlabel="NMSE [dB]", ylabel="share of users above", yscale="log", ylim=(None, 1))
    axis.set_xlim(left=left)
    axis.legend(fontsize=SMALL, frameon=False, loc="lower left")
