"""A report in other forms: rows of samples as CSV, single figures as SVG or PNG in journal size.

Markdown is tables.py's, the page report.py's. matplotlib is imported when figures are drawn.
"""

import csv
import io
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy.typing as npt

from channels.support import CsiAuditError
from reports.figure_data import ReportArrays
from reports.gallery import named_figures
from reports.schema import Result

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = npt.NDArray[Any]
FigureFormat = Literal["svg", "png"]

COLUMN_IN = 3.5
"""Width of a journal's column [in]; a page of two is 7.16."""

_NARROWEST, _WIDEST = 2.5, 12.0
_DPI = 600
_SIZE = re.compile(r'width="([0-9.]+)pt" height="([0-9.]+)pt"')


def sample_rows(arrays: ReportArrays) -> str:
    """Every base sample and real channel as a CSV row: source, row number, NMSE, features.

    NMSE is linear, features in the units of `channels.features`; what a side lacks stays empty.
    """
    sides = (
        ("base", arrays.nmse_base, arrays.features_base),
        ("real", arrays.nmse_real, arrays.features_real),
    )
    names = list(dict.fromkeys(n for _, nmse, _ in sides for n in nmse))
    features = list(dict.fromkeys(n for _, _, known in sides for n in known))
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["source", "index", *(f"nmse/{n}" for n in names), *features])
    for source, nmse, known in sides:
        for row, values in enumerate(_rows(nmse, names, known, features)):
            writer.writerow([source, row, *values])
    return buffer.getvalue()


def _rows(
    nmse: Mapping[str, Array], names: list[str], known: Mapping[str, Array], features: list[str]
) -> Iterator[list[str]]:
    columns = [nmse.get(name) for name in names] + [known.get(name) for name in features]
    lengths = {len(column) for column in columns if column is not None}
    for row in range(min(lengths, default=0)):
        yield ["" if column is None else f"{float(column[row]):.8g}" for column in columns]


def single_figures(
    result: Result,
    arrays: ReportArrays | None,
    form: FigureFormat,
    *,
    width_in: float = COLUMN_IN,
) -> Iterator[tuple[str, bytes]]:
    """Every figure of the report scaled to another width: its file name and bytes.

    Text is 8 to 9 points at the 4.8 in of the page and 6 to 6.5 in a journal's column. Equal input
    gives equal bytes: no date is stored.

    Args:
        result, arrays: As `write_report` takes them.
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
    for name, figure in named_figures(result, arrays):
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
