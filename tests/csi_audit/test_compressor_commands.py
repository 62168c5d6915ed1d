"""What `check-compressor` prints, writes and returns, on 8 x 8 channels."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from channels import CsiAuditError
from compressors.preflight_checks import CHECKS
from csi_audit.compressor_commands import EXIT_MEANINGLESS, CheckCompressorConfig, check
from csi_audit.configs import RunConfig

end_to_end = pytest.mark.end_to_end
unit = pytest.mark.unit

FLAWED = '''
import torch

from channels import Convention


class Nothing:
    """Answers zeros."""

    n_code = 2
    convention = Convention(event_shape=(2, 8, 8))

    def encode(self, y):
        return y[:, :, 0, 0]

    def decode(self, z):
        return z.new_zeros(len(z), 2, 8, 8)

    def bits(self, z):
        return None


class Alone(Nothing):
    """Takes no batch of one, which the count of its cost would be."""

    def __init__(self):
        self.norm = torch.nn.BatchNorm1d(2)

    def encode(self, y):
        return self.norm(super().encode(y))
'''


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as wide as their words, whatever terminal the tests run in."""
    monkeypatch.setenv("COLUMNS", "220")


@pytest.fixture
def flawed(tmp_path: Path) -> Path:
    path = tmp_path / "flawed.py"
    path.write_text(FLAWED)
    return path


def rows(text: str) -> dict[str, list[str]]:
    """Check -> verdict, figure and words of its row."""
    lines = (re.split(r"\s*[│┃]\s*", line.strip("│┃ ")) for line in text.splitlines())
    return {line[0]: line[1:] for line in lines if len(line) == 4}


@end_to_end
def test_a_sound_compressor(tiny: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "verdicts.json"
    settings = CheckCompressorConfig(compressor=tiny.half, data=str(tiny.data), json=str(file))
    assert check(settings) == 0
    lines = capsys.readouterr().out.splitlines()
    table = rows("\n".join(lines))
    assert list(table)[1:] == [row.name for row in CHECKS]
    assert {verdict for verdict, *_ in list(table.values())[1:]} == {"pass", "not applicable"}
    assert table["code length"] == ["pass", "64", "64 numbers a codeword (real), as declared"]
    passing = sum(verdict == "pass" for verdict, *_ in table.values())
    assert lines[-3:] == [
        "64 code numbers; angular-delay, 8 of 8 taps, unscaled, layout planes; 0 + 0 million "
        "multiply-accumulates (encode + decode).",
        f"Half: {passing} of {passing} checks pass on 64 channels: fit for an audit.",
        f"Verdicts: {file.resolve()}",
    ]
    plain = json.loads(file.read_text())
    assert (plain["name"], plain["n"], plain["meaningless"]) == ("Half", 64, False)
    assert [row["check"] for row in plain["verdicts"]] == [row.name for row in CHECKS]
    assert list(tmp_path.iterdir()) == [file]


@end_to_end
@pytest.mark.parametrize(
    ("name", "failing", "words"),
    [
        ("Nothing", "use of the code", "decode ignores its code"),
        ("Alone", "batch independence", "ValueError (Expected more than 1 value per channel"),
    ],
)
def test_a_meaningless_audit_exits_with_one(
    tiny: Any, flawed: Path, capsys: pytest.CaptureFixture[str], name: str, failing: str, words: str
) -> None:
    settings = CheckCompressorConfig(compressor=f"{flawed}:{name}", data=str(tiny.data), n=30)
    assert check(settings) == EXIT_MEANINGLESS == 1
    text = capsys.readouterr().out
    assert rows(text)[failing][0] == "fail"
    assert words in " ".join(text.split())
    assert text.splitlines()[-1].endswith(f"; an audit would be meaningless ({failing}).")
    assert "multiply-accumulates" not in text


@end_to_end
def test_the_bundled_channels_are_the_default(capsys: pytest.CaptureFixture[str]) -> None:
    assert check(CheckCompressorConfig(compressor="klt-16", n=20)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1].startswith("klt-16: ")
    assert lines[-1].endswith(" on 20 channels: fit for an audit.")
    assert "0.262 + 0.262 million multiply-accumulates" in lines[-2]


@end_to_end
def test_more_channels_than_there_are(tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    settings = CheckCompressorConfig(compressor=tiny.quarter, data=str(tiny.bare), n=500)
    assert check(settings) == 0
    assert "on 60 channels" in capsys.readouterr().out


@unit
@pytest.mark.parametrize("settings", [RunConfig, CheckCompressorConfig])
def test_help_names_every_kind_of_compressor_and_file(settings: type) -> None:
    words = " ".join((settings.__doc__ or "").split())
    for kind in (".yaml", "TorchScript", "ONNX", ".pth", "file.py:Class", "file.py:function"):
        assert kind in words


@unit
def test_bad_input_is_refused(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match="n must be at least 2; got 1"):
        CheckCompressorConfig(compressor="klt-16", n=1)
    with pytest.raises(CsiAuditError, match=r"'klt-1' is neither bundled.*Did you mean 'klt-16'"):
        check(CheckCompressorConfig(compressor="klt-1"))
    nowhere = str(tmp_path / "no" / "v.json")
    with pytest.raises(CsiAuditError, match=r"v\.json cannot be written: the folder"):
        check(CheckCompressorConfig(compressor=tiny.half, data=str(tiny.data), json=nowhere))
