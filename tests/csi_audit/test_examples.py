"""The examples do what they say: somebody else's codec in two files, audited in two ways."""

import inspect
from pathlib import Path
from typing import Any

import pytest
import torch

import reports.report
from channels import ChannelSet, load_object, write_channels
from channels.channel_set import audit_space
from compressors import check_compressor, in_audit_space, load_compressor, nmse
from reports.schema import load_result


@pytest.fixture(scope="module")
def example(repository_root: Path) -> str:
    return str(repository_root / "examples" / "audit_third_party.py")


@pytest.mark.unit
def test_an_adapter_takes_less_than_fifteen_lines(example: str) -> None:
    source = inspect.getsource(load_object(f"{example}:ThirdParty"))
    assert sum(bool(line.strip()) for line in source.splitlines()) < 15


@pytest.mark.unit
def test_code_and_exported_files_are_one_codec(
    example: str, tmp_path: Path, sample: ChannelSet
) -> None:
    x = audit_space(sample.subset(slice(0, 2000, 100)))
    card: Path = load_object(f"{example}:export_codec")(tmp_path / "codec")
    code, files = load_compressor(f"{example}:ThirdParty"), load_compressor(str(card))
    assert (code.name, files.name) == ("ThirdParty", "exported")
    for named in (code, files):
        check_compressor(named.compressor, x, name=named.name)
        assert named.compressor.n_code == 256
        assert float(nmse(x, in_audit_space(named.compressor)(x)).mean()) < 0.5
    by_code, by_files = (in_audit_space(named.compressor)(x) for named in (code, files))
    assert torch.allclose(by_code, by_files, atol=1e-5)
    card.write_text(card.read_text().partition("convention")[0])  # left to be detected
    assert "detected on 20 channels" in load_compressor(str(card), channels=x).notices[0]


@pytest.mark.end_to_end
def test_the_audit_of_the_example(
    example: str,
    tmp_path: Path,
    sample: ChannelSet,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The whole script, on fewer channels and without figures."""
    monkeypatch.setattr(reports.report, "draw_gallery", lambda result, arrays: [])
    write_channels(tmp_path / "few.h5", sample.subset(slice(0, 2000, 50)))
    run: Any = load_object(f"{example}:main")
    run(tmp_path / "few.h5", tmp_path / "third-party", n_base=2)
    lines = capsys.readouterr().out.splitlines()
    result = load_result(tmp_path / "third-party" / "audit")
    first, second = (row.mean_db("real") for row in result.compressors)
    assert first == pytest.approx(second, abs=1e-4)
    assert lines[-3:-1] == [
        f"{name}: mean NMSE {first:.3f} dB on real channels" for name in ("ThirdParty", "exported")
    ]
    report = tmp_path / "third-party" / "audit" / "report.html"
    assert lines[-1] == f"Report: {report}"
    assert report.is_file()
