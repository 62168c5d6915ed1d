"""`csi-audit gate` by its exit code and its lines."""

import json
from pathlib import Path

import pytest

from channels.support import CsiAuditError
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from csi_audit.gate_command import EXIT_FAILED, GateConfig
from reports import (
    BaseInfo,
    CompressorRow,
    DataInfo,
    ImportanceEstimates,
    LossSummary,
    Result,
    Tail,
    Threshold,
    mean_estimate,
    proportion,
)

pytestmark = pytest.mark.end_to_end
RATE = "p_fail(nmse_db>-3)"


@pytest.fixture
def stored(tmp_path: Path) -> Path:
    """A result with P(NMSE > -3 dB) of 5 in 1,000."""
    rare = proportion(5, 1000)
    tail = Tail(threshold="−3 dB", nmse_db=-3.0, base=None, real=rare, agreement="cannot tell")
    mean = mean_estimate([0.1, 0.2, 0.3])
    row = CompressorRow(
        name="net",
        spec="net",
        convention="",
        n_code=1,
        losses={"nmse": LossSummary(unit="1", worse="high", base=None, real=mean)},
        estimates=ImportanceEstimates(
            loss="NMSE", weight="NMSE", e_p=None, e_q=None, tails=(tail,)
        ),
    )
    result = Result(
        created="2026-01-02",
        versions={},
        seed=0,
        data=DataInfo(path="a.h5", sha256="aa", n=1000),
        base=BaseInfo(sha256=None),
        tau=(Threshold(label="−3 dB", nmse_db=-3.0, origin=""),),
        compressors=(row,),
    )
    return result.save(tmp_path / "result.json")


def test_exit_codes_and_lines(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", str(stored), "--max", f"{RATE}=0.02"]) == EXIT_OK
    assert capsys.readouterr().out == (
        "PASS: net: p_fail(nmse_db>-3)@real <= 0.02: 0.005 [0.001625, 0.01163]\n"
    )
    assert main(["gate", str(stored), f"--max={RATE}=0.02", f"--max={RATE}=0.01"]) == EXIT_FAILED
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == ["PASS", "CANNOT TELL"]
    lenient = ["--lenient", "true"]
    assert main(["gate", str(stored), f"--max={RATE}=0.01", *lenient]) == EXIT_OK
    assert main(["gate", str(stored), f"--max={RATE}=0.001", *lenient]) == EXIT_FAILED


def test_lines_are_written(stored: Path, tmp_path: Path) -> None:
    file = tmp_path / "lines.json"
    main(["gate", str(stored), "--max", f"{RATE}=0.02", "--json", str(file)])
    (line,) = json.loads(file.read_text())
    assert (line["verdict"], line["compressor"]) == ("pass", "net")


def test_against_itself_passes(stored: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gate", str(stored), "--against", str(stored)]) == EXIT_OK
    assert "SAME: net: p_fail(nmse_db>-3)@real since the older result" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--max", "p_fail(nmse_db>-2)=1"], "the result has no p_fail(nmse_db>-2) for net."),
        (["--max", "p_fail(nmse_db>-3)@base=1"], "under the law real alone; got @base"),
        (["--max", "e_p(nmse_db)=1", "--compressor", "nets"], "Did you mean 'net'?"),
        ([], "a gate needs a limit or an older result"),
        (["--max", "nonsense"], "max must be QUANTITY=LIMIT"),
    ],
)
def test_bad_input_is_told_apart_from_a_failed_gate(
    stored: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["gate", str(stored), *words]) == EXIT_BAD_INPUT
    assert message in capsys.readouterr().err


def test_settings_from_python() -> None:
    with pytest.raises(CsiAuditError, match="a gate needs a limit"):
        GateConfig(result="result.json")
