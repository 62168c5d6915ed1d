"""A finished run in other forms than its page: Markdown, CSV, single figures."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from channels.support import CsiAuditError, atomic_write, write_text_atomic
from csi_audit.auditing import SAMPLES_NAME
from csi_audit.run_state import read_arrays
from reports.exports import COLUMN_IN, sample_rows, single_figures
from reports.figure_data import ReportArrays
from reports.schema import load_result
from reports.tables import markdown_summary

ReportFormat = Literal["md", "csv", "svg", "png"]
FIGURES = "figures-journal"


def write_formats(
    folder: str | Path, formats: Sequence[ReportFormat], *, width_in: float = COLUMN_IN
) -> Iterator[Path]:
    """Write a finished run in other forms beside its page; yields each path as it is written.

    `report.md` for pull requests, `samples.csv` with a row a channel, `figures-journal/*.svg` or
    `.png`.

    Args:
        folder: Run directory.
        formats: "md", "csv", "svg", "png".
        width_in: Of single figures [in].
    Raises:
        CsiAuditError: no finished run, or a file cannot be written.
    """
    run = Path(folder)
    result = load_result(run)
    if "md" in formats:
        write_text_atomic(run / "report.md", markdown_summary(result))
        yield run / "report.md"
    if set(formats) <= {"md"}:
        return
    arrays = ReportArrays.from_flat(read_arrays(run / SAMPLES_NAME, group="report"))
    if "csv" in formats:
        write_text_atomic(run / "samples.csv", sample_rows(arrays))
        yield run / "samples.csv"
    for form in formats:
        if form in ("svg", "png"):
            target = run / FIGURES
            _make(target)
            for name, data in single_figures(result, arrays, form, width_in=width_in):
                with atomic_write(target / name) as temporary:
                    temporary.write_bytes(data)
                yield target / name


def _make(folder: Path) -> None:
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise CsiAuditError(f"{folder} cannot be made: {error.strerror or error}.") from error
