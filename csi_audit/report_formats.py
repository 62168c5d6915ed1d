"""The report of a finished run written again: its page, Markdown, CSV, single figures.

What an audit of compressors and one of a cell network are written with is told once, in `_Kind`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeVar

from channels.support import CsiAuditError, atomic_write, write_text_atomic
from csi_audit.auditing import SAMPLES_NAME
from csi_audit.run_state import read_arrays
from reports.exports import COLUMN_IN, placement_rows, sample_rows, single_figures
from reports.figure_data import ReportArrays
from reports.gallery import named_figures
from reports.network_page import write_network_report
from reports.network_tables import network_markdown
from reports.placement_arrays import PlacementArrays
from reports.placement_gallery import named_placement_figures
from reports.report import write_report
from reports.schema import Result, load_result
from reports.tables import markdown_summary

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Arrays = TypeVar("Arrays")
ReportFormat = Literal["md", "csv", "svg", "png"]
FIGURES = "figures-journal"


@dataclass(frozen=True, kw_only=True)
class _Kind(Generic[Arrays]):
    """What one kind of audit is written with.

    Attributes:
        read: Arrays of its figures from their flat form.
        page: Writes page and figures into a folder.
        markdown: Its answer and table.
        rows: Its samples as CSV.
        figures: Its figures by file name without ending.
    """

    read: Callable[[Mapping[str, Any]], Arrays]
    page: Callable[[Result, Arrays, Path], Path]
    markdown: Callable[[Result], str]
    rows: Callable[[Arrays], str]
    figures: Callable[[Result, Arrays], "Iterator[tuple[str, Figure]]"]


COMPRESSORS = _Kind(
    read=ReportArrays.from_flat,
    page=write_report,
    markdown=markdown_summary,
    rows=sample_rows,
    figures=named_figures,
)
NETWORK = _Kind(
    read=PlacementArrays.from_flat,
    page=write_network_report,
    markdown=network_markdown,
    rows=placement_rows,
    figures=named_placement_figures,
)


def write_report_again(folder: str | Path) -> Path:
    """Write `report.html` and `figures/` of a finished run anew; returns the page's path.

    Raises:
        CsiAuditError: the folder holds no finished run.
    """
    run = Path(folder)
    result = load_result(run)
    kind = _kind(result)
    return kind.page(result, _arrays(kind, run), run)


def write_formats(
    folder: str | Path, formats: Sequence[ReportFormat], *, width_in: float = COLUMN_IN
) -> Iterator[Path]:
    """Write a finished run in other forms beside its page; yields each path as it is written.

    `report.md` for pull requests, `samples.csv` with a row a channel or placement,
    `figures-journal/*.svg` or `.png`.

    Args:
        folder: Run directory.
        formats: "md", "csv", "svg", "png".
        width_in: Of single figures [in].
    Raises:
        CsiAuditError: no finished run, or a file cannot be written.
    """
    run = Path(folder)
    result = load_result(run)
    kind = _kind(result)
    if "md" in formats:
        write_text_atomic(run / "report.md", kind.markdown(result))
        yield run / "report.md"
    if set(formats) <= {"md"}:
        return
    arrays = _arrays(kind, run)
    if "csv" in formats:
        write_text_atomic(run / "samples.csv", kind.rows(arrays))
        yield run / "samples.csv"
    for form in formats:
        if form in ("svg", "png"):
            target = run / FIGURES
            _make(target)
            figures = kind.figures(result, arrays)
            for name, data in single_figures(figures, form, width_in=width_in):
                with atomic_write(target / name) as temporary:
                    temporary.write_bytes(data)
                yield target / name


def _kind(result: Result) -> _Kind[Any]:
    """The one of the two that a result is."""
    return COMPRESSORS if result.network is None else NETWORK


def _arrays(kind: _Kind[Arrays], run: Path) -> Arrays:
    return kind.read(read_arrays(run / SAMPLES_NAME, group="report"))


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CsiAuditError(f"{folder} cannot be made: {error.strerror or error}.") from error
