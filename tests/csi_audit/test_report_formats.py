"""`csi-audit report RUN --format ...`: Markdown, CSV and single figures beside the page."""

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from channels.support import CsiAuditError
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from csi_audit.configs import RunConfig
from csi_audit.report_formats import FIGURES, write_formats

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def run(tiny: "object", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of one compressor, without its page."""
    import csi_audit
    from csi_audit import auditing

    folder = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auditing, "write_report", lambda result, arrays, where: None)
        csi_audit.audit(
            RunConfig(
                data=str(tiny.data),  # type: ignore[attr-defined]
                compressor=(tiny.half,),  # type: ignore[attr-defined]
                base=str(tiny.base),  # type: ignore[attr-defined]
                out=str(folder),
                n_base=20,
                steps=3,
                block=20,
                tail_method="counting",
                mean_method="reweighting",
            )
        )
    return folder


def test_markdown_rows_and_figures_are_written(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["report", str(run), "--format", "md", "--format=csv", "--format", "svg"]
    assert main(words) == EXIT_OK
    assert "Written: " in capsys.readouterr().out
    assert (run / "report.html").is_file()
    assert "| Compressor |" in (run / "report.md").read_text()
    rows = list(csv.DictReader(io.StringIO((run / "samples.csv").read_text())))
    assert [row["source"] for row in rows] == ["base"] * 20 + ["real"] * 100
    assert np.isfinite([float(row["nmse/Half"]) for row in rows]).all()
    figures = {file.name for file in (run / FIGURES).iterdir()}
    assert "overview.svg" in figures
    assert {name.rpartition(".")[2] for name in figures} == {"svg"}


def test_unknown_forms_and_widths_are_refused(
    run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(run), "--format", "docx"]) == EXIT_BAD_INPUT
    assert "--format must be several values, each one of md, csv, svg, png" in (
        capsys.readouterr().err
    )
    with pytest.raises(CsiAuditError, match="width_in must lie in"):
        list(write_formats(run, ("svg",), width_in=1.0))


def test_figures_that_have_no_folder_are_one_line(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns(FIGURES))
    (folder / FIGURES).write_text("in the way")
    with pytest.raises(CsiAuditError, match=f"{FIGURES} cannot be made: File exists"):
        list(write_formats(folder, ("svg",)))


def test_no_run_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"result\.json does not exist"):
        list(write_formats(tmp_path, ("md",)))
