"""An inspection as a page: one HTML file with its pictures inside, written whole or not at all.

Words and rows come from inspection_words.py, pictures from inspection_figures.py. Strings are
escaped by the template engine, nothing is fetched from a network.
"""

import base64
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2

from channels.inspection import Inspection
from channels.physical_features import FEATURES
from channels.support import CsiAuditError, write_text_atomic
from reports.inspection_words import (
    TONES,
    display,
    facts,
    feature_rows,
    figure_text,
    file_names,
    pair_warnings,
    quantities,
    shift_sentence,
    shifts,
)
from reports.realism import KS_LIMIT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PANELS = 6  # distributions a figure
_MANY = 4  # files from which figures are drawn coarser, to keep the page small


def write_inspection(inspections: Sequence[Inspection], path: str | Path) -> Path:
    """Write what inspections found as one HTML page; several files are compared with the first.

    Args:
        inspections: At least one.
        path: HTML file; its folder must exist.
    Returns:
        The path.
    Raises:
        CsiAuditError: no inspection, or the file cannot be written.
    """
    if not inspections:
        raise CsiAuditError("inspections must hold at least one; got none.")
    target = Path(path)
    write_text_atomic(target, render_inspection(inspections))
    return target


def render_inspection(inspections: Sequence[Inspection]) -> str:
    """The HTML text of the page."""
    loader = jinja2.FileSystemLoader(Path(__file__).parent / "templates")
    environment = jinja2.Environment(
        loader=loader, autoescape=True, undefined=jinja2.StrictUndefined,
        trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.filters["figure"] = figure_text
    names = file_names(inspections)
    return environment.get_template("inspection.html.j2").render(
        files=[
            {
                "name": name,
                "inspection": inspection,
                "summary": inspection_sentence(name, inspection),
                "pictures": _map_pictures(inspection, name, len(inspections)),
            }
            for name, inspection in zip(names, inspections, strict=True)
        ],
        fact_rows=_fact_rows(inspections),
        feature_table=_feature_table(inspections),
        pairs=[
            _pair((names[0], name), inspections[0], inspection)
            for name, inspection in zip(names[1:], inspections[1:], strict=True)
        ],
        tones=TONES,
        limit=KS_LIMIT,
        pictures=_histogram_pictures(inspections, names),
    )


def inspection_sentence(name: str, inspection: Inspection) -> str:
    """`umi.h5: 2,000 users, 1 x 32 antennas, 32 subcarriers. Nothing looks wrong.`"""
    n, n_rx, n_tx, n_sub = inspection.shape
    users, bins = ("user" if n == 1 else "users"), ("subcarrier" if n_sub == 1 else "subcarriers")
    count = len(inspection.warnings)
    end = f"{count} warning{'s' if count > 1 else ''}" if count else "Nothing looks wrong"
    return f"{name}: {n:,} {users}, {n_rx} x {n_tx} antennas, {n_sub:,} {bins}. {end}."


def _fact_rows(inspections: Sequence[Inspection]) -> list[tuple[str, list[str]]]:
    """A row a fact, a cell a file; crops that only some files allow leave the others empty."""
    tables = [dict(facts(inspection)) for inspection in inspections]
    order = list(dict.fromkeys(name for table in tables for name in table))
    return [(name, [table.get(name, "") for table in tables]) for name in order]


def _feature_table(inspections: Sequence[Inspection]) -> list[dict[str, object]]:
    """A row a quantity: what it is called, what it means, and a row of quantiles for each file."""
    tables = [{row.name: row for row in feature_rows(i)} for i in inspections]
    table: list[dict[str, object]] = []
    for name in dict.fromkeys(name for held in tables for name in held):
        label, unit, _ = display(name)
        meaning = FEATURES[name].definition if name in FEATURES else "Mean |h|² of the user."
        cells = [held.get(name) for held in tables]
        table.append({"label": label, "unit": unit, "meaning": meaning, "cells": cells})
    return table


def _pair(names: tuple[str, str], first: Inspection, other: Inspection) -> dict[str, object]:
    rows = shifts(first, other)
    return {
        "names": names,
        "sentence": shift_sentence(names, rows),
        "warnings": pair_warnings(names, first, other),
        "rows": rows,
        "sizes": (first.n_good, other.n_good),
    }


def _histogram_pictures(
    inspections: Sequence[Inspection], names: Sequence[str]
) -> list[dict[str, str]]:
    from reports.inspection_figures import histogram_figure

    shown = list(dict.fromkeys(name for i in inspections for name in quantities(i)))
    pictures = []
    for start in range(0, len(shown), _PANELS):
        part = shown[start : start + _PANELS]
        labels = ", ".join(display(name)[0] for name in part)
        filled = f"; filled: {names[0]}" if len(names) > 1 else ""
        figure = histogram_figure(inspections, names, part)
        pictures.append(_picture(figure, f"Users by {labels}{filled}.", len(inspections)))
    return pictures


def _map_pictures(inspection: Inspection, name: str, n_files: int) -> list[dict[str, str]]:
    from reports.inspection_figures import mean_figure, sample_figure

    if inspection.mean_power is None:
        return []
    by = next((user.feature for user in inspection.samples if user.quantile is not None), None)
    how = (
        "Drawn at random."
        if by is None
        else f"Left: at 1, 50 and 99 % of the {display(by)[0]}. Right: drawn at random."
    )
    several = not inspection.grid.is_ula
    panel = " Rows and polarisations of the panel are summed." if several else ""
    return [
        _picture(
            mean_figure(inspection),
            f"{name}: mean power of all users. Early delays lie at the left; the last taps hold "
            f"leakage of delays near 0.{panel}",
            n_files,
        ),
        _picture(
            sample_figure(inspection), f"{name}: single users, counted from 0. {how}", n_files
        ),
    ]


def _picture(figure: "Figure", caption: str, n_files: int) -> dict[str, str]:
    from reports.figures import png_bytes

    data = base64.b64encode(png_bytes(figure, 170 if n_files < _MANY else 110)).decode("ascii")
    return {"caption": caption, "alt": caption, "uri": f"data:image/png;base64,{data}"}
