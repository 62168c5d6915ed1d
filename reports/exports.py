"""A report in other forms: rows of samples as CSV, single figures as SVG or PNG in journal size.

Markdown is tables.py's, the page report.py's. matplotlib is imported when figures are drawn.
"""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from channels.support import CsiAuditError
from reports.figure_data import ReportArrays
from reports.placement_arrays import PlacementArrays

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
FigureFormat = Literal["svg", "png"]
Columns = Mapping[str, Array]

COLUMN_IN = 3.5
"""Width of a journal's column [in]; a page of two is 7.16."""

_NARROWEST, _WIDEST = 2.5, 12.0
_DPI = 600
_SIZE = re.compile(r'width="([0-9.]+)pt" height="([0-9.]+)pt"')


def sample_rows(arrays: ReportArrays) -> str:
    """Every base sample and real channel as a CSV row: source, row number, NMSE, features.

    NMSE is linear, features in the units of `channels.features`; what a side lacks stays empty.
    """
    return _csv_rows(
        "nmse",
        base=(arrays.nmse_base, arrays.features_base),
        real=(arrays.nmse_real, arrays.features_real),
    )


def placement_rows(arrays: PlacementArrays) -> str:
    """Every base sample and placement of the real side as a CSV row: source, row number, losses,
    features.

    Losses are in their own units, features as `PlacementDomain.features` gives them.
    """
    return _csv_rows(
        "loss",
        base=(arrays.losses_base, arrays.features_base),
        real=(arrays.losses_real, arrays.features_real),
    )


def _csv_rows(measure: str, **sides: tuple[Columns, Columns]) -> str:
    """The rows of each side: what is measured, then features, in one order for all sides."""
    names = list(dict.fromkeys(name for measured, _ in sides.values() for name in measured))
    features = list(dict.fromkeys(name for _, known in sides.values() for name in known))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["source", "index", *(f"{measure}/{name}" for name in names), *features])
    for source, (measured, known) in sides.items():
        for row, values in enumerate(_rows(measured, names, known, features)):
            writer.writerow([source, row, *values])
    return buffer.getvalue()


def _rows(
    measured: Columns, names: list[str], known: Columns, features: list[str]
) -> Iterator[list[str]]:
    columns = [measured.get(name) for name in names] + [known.get(name) for name in features]
    lengths = {len(column) for column in columns if column is not None}
    for row in range(min(lengths, default=0)):
        yield ["" if column is None else f"{float(column[row]):.8g}" for column in columns]


def single_figures(
    figures: "Iterable[tuple[str, Figure]]", form: FigureFormat, *, width_in: float = COLUMN_IN
) -> Iterator[tuple[str, bytes]]:
    """Every figure of a report scaled to another width: its file name and bytes.

    Text is 8 to 9 points at the 4.8 in of the page and 6 to 6.5 in a journal's column. Equal input
    gives equal bytes: no date is stored.

    Args:
        figures: By file name without ending, as `named_figures` gives them.
        form: "svg", or "png" at 600 dots an inch.
        width_in: Width [in].
    Raises:
        CsiAuditError: a width that no figure reads at.
    """
    if not _NARROWEST <= width_in <= _WIDEST:
        raise CsiAuditError(
            f"width_in must lie in [{_NARROWEST}, {_WIDEST}] in; got {width_in}. A journal's "
            f"column is {COLUMN_IN}, its page 7.16."
        )
    for name, figure in figures:
        yield f"{name}.{form}", figure_bytes(figure, form, width_in=width_in)


def figure_bytes(figure: "Figure", form: FigureFormat, *, width_in: float) -> bytes:
    """One figure scaled to a width [in]: its layout stays, so nothing comes to overlap."""
    from reports.plotting import foreign_letters

    scale = width_in / float(figure.get_size_inches()[0])
    buffer = io.BytesIO()
    metadata: dict[str, Any] = {"Date": None} if form == "svg" else {"Software": None}
    with _same_names(), foreign_letters():
        figure.savefig(buffer, format=form, dpi=_DPI * scale, facecolor="white", metadata=metadata)
    return _scaled(buffer.getvalue(), scale) if form == "svg" else buffer.getvalue()


def _scaled(svg: bytes, scale: float) -> bytes:
    """The drawing at another size: its outer width and height, the view box as it was."""
    return _SIZE.sub(
        lambda found: f'width="{_points(found[1], scale)}" height="{_points(found[2], scale)}"',
        svg.decode("utf-8"),
        count=1,
    ).encode("utf-8")


def _points(text: str, scale: float) -> str:
    return f"{float(text) * scale:.6g}pt"


@contextmanager
def _same_names() -> Iterator[None]:
    """Names inside an SVG that are the same each time; rc_context would choose a backend too."""
    from matplotlib import rcParams

    before = rcParams["svg.hashsalt"]
    rcParams["svg.hashsalt"] = "csi-audit"
    try:
        yield
    finally:
        rcParams["svg.hashsalt"] = before
