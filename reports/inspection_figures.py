"""The figures of an inspection: distributions of features, angular-delay maps of users.

Imports matplotlib, so only functions of inspection_page.py import it. One look with the report:
see plotting.py.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from channels.inspection import Inspection, SampleUser
from reports.figure_data import ReportArrays
from reports.inspection_words import display, figure_text, quantities
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
    as_text,
    colour_bar,
    delay_label,
    empty,
    finish,
    to_db,
)

Array = npt.NDArray[np.float64]

_COLOURS = (BASE, TILTED, ISSGM, REAL)
_MOST_BINS, _LEAST_BINS = 40, 8
_LONGEST = 34  # letters of a file name in a legend


def histogram_figure(
    inspections: Sequence[Inspection], files: Sequence[str], names: Sequence[str]
) -> Figure:
    """Share of the users over each quantity, the first file filled, the others as outlines.

    Args:
        inspections: The files.
        files: Their names.
        names: Quantities, a panel each.
    """
    rows = math.ceil(len(names) / 2)
    figure = Figure(figsize=(WIDTH, 0.4 + 1.75 * rows), layout="constrained")
    axes = figure.subplots(rows, 2, squeeze=False).ravel()
    held = [quantities(inspection) for inspection in inspections]
    for axis, name in zip(axes, names, strict=False):
        label, unit, scale = display(name)
        values = [scale * q[name].astype(np.float64) if name in q else None for q in held]
        _histograms(axis, files, values)
        axis.set_xlabel(f"{label} [{unit}]" if unit else label)
    for axis in axes[len(names) :]:
        axis.set_axis_off()
    for axis in axes[::2]:
        axis.set_ylabel("users [%]")
    if len(files) > 1:
        handles = [axes[0].plot([], [], color=_colour(i), label=_short(file))[0]
                   for i, file in enumerate(files)]  # fmt: skip
        figure.legend(handles=handles, loc="outside upper left", fontsize=SMALL, frameon=False)
    return finish(figure)


def mean_figure(inspection: Inspection) -> Figure:
    """Mean power of all users over angle and delay [dB re its peak]."""
    figure = Figure(figsize=(WIDTH, 2.9), layout="constrained")
    if inspection.mean_power is None:
        return empty(figure, "no user that is a channel")
    arrays, axis = _axes_of(inspection), figure.subplots()
    image = _map(axis, arrays, inspection.mean_power.numpy())
    axis.set_xlabel(delay_label(arrays))
    axis.set_ylabel(_angle_label(inspection))
    colour_bar(figure, image, [axis], "mean power [dB re its peak]", vertical=True)
    return finish(figure)


def sample_figure(inspection: Inspection) -> Figure:
    """Power of single users over angle and delay [dB re each user's peak].

    Left: users at the quantiles of a feature. Right: users drawn at random.
    """
    ranked = [user for user in inspection.samples if user.quantile is not None]
    drawn = [user for user in inspection.samples if user.quantile is None]
    columns = [column for column in (ranked, drawn) if column]
    rows = max(map(len, columns), default=0)
    figure = Figure(figsize=(WIDTH, 0.6 + 1.9 * max(rows, 1)), layout="constrained")
    if not columns:
        return empty(figure, "no user that is a channel")
    arrays, image = _axes_of(inspection), None
    axes = figure.subplots(rows, len(columns), squeeze=False, sharex=True, sharey=True)
    for place, users in enumerate(columns):
        for axis, user in zip(axes[:, place], users, strict=False):
            image = _map(axis, arrays, user.power.numpy())
            axis.set_title(_title(user), fontsize=SMALL)
        for axis in axes[len(users) :, place]:
            axis.set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel(delay_label(arrays))
    figure.supylabel(_angle_label(inspection), fontsize=NORMAL)
    colour_bar(figure, image, axes, "power [dB re the user's peak]")
    return finish(figure)


def _histograms(axis: Axes, files: Sequence[str], values: Sequence[Array | None]) -> None:
    """Shares [%] in common bins between the 0.2 and 99.8 % quantiles of all files."""
    known = [v for v in values if v is not None]
    ends = np.array([np.quantile(v, [0.002, 0.998]) for v in known])
    low, high = float(ends[:, 0].min()), float(ends[:, 1].max())
    pad = 0.5 * max(abs(low), 1e-3) if high <= low else 0.0
    bins = round(2.5 * max(map(len, known)) ** (1 / 3))
    edges = np.linspace(low - pad, high + pad, min(max(bins, _LEAST_BINS), _MOST_BINS) + 1)
    for i, value in enumerate(values):
        if value is None:
            continue
        share = 100 * np.histogram(value, edges)[0] / len(value)
        if i == 0:
            axis.stairs(share, edges, fill=True, color=_colour(i), alpha=0.35)
        axis.stairs(share, edges, color=_colour(i), linewidth=1.2)


def _colour(i: int) -> str:
    return _COLOURS[i % len(_COLOURS)]


def _short(file: str) -> str:
    """A name that fits a legend: long ones lose their middle."""
    if len(file) > _LONGEST:
        file = f"{file[: _LONGEST // 2]}…{file[-_LONGEST // 2 + 1 :]}"
    return as_text(file)


def _title(user: SampleUser) -> str:
    """`1 % of users: delay spread 12.3 ns (user 42)`."""
    who = f"user {user.index:,}"
    if user.feature is None or user.value is None:
        return who
    label, unit, scale = display(user.feature)
    value = f"{label} {figure_text(scale * user.value)} {unit}".strip()
    where = "drawn" if user.quantile is None else f"{100 * user.quantile:g} %"
    return f"{where}, {who}:\n{value}"


def _angle_label(inspection: Inspection) -> str:
    n_columns = inspection.grid.panel_of(inspection.shape[2])[2]
    return "power [dB]" if n_columns == 1 else "sin(azimuth)"


def _axes_of(inspection: Inspection) -> ReportArrays:
    """Delays and angles of the maps."""
    grid = inspection.grid
    delay_s = grid.delays_s()
    taps = np.arange(grid.n_sub, dtype=np.float64)
    return ReportArrays(
        delay_s=taps if delay_s is None else delay_s.numpy(),
        sin_azimuth=grid.sin_azimuth(inspection.shape[2]).numpy(),
        frequency_hz=taps,
        bandwidth_known=delay_s is not None,
        panel=grid.panel,
    )


def _map(axis: Axes, arrays: ReportArrays, power: npt.NDArray[np.floating]) -> AxesImage | None:
    """Power (n_tx, n_delay) over angle and delay; over delay alone for a single column."""
    columns = arrays.over_columns(power)
    peak = float(columns.max())
    if len(columns) > 1:
        return angular_axes(axis, arrays, columns, peak)
    scale = 1e9 if arrays.bandwidth_known else 1.0
    axis.plot(scale * arrays.delay_s, to_db(columns[0] / peak), color=BASE, linewidth=1.2)
    axis.set_ylim(FLOOR_DB, 1)
    return None
