"""The example of a foreign base does what it says: a dozen lines, and an audit of its own."""

import inspect
import math
from pathlib import Path
from typing import Any

import pytest
import torch

import reports.report
from channels import ChannelSet, load_object, write_channels
from csi_audit.base import load_base
from reports.schema import load_result


@pytest.fixture(scope="module")
def example(repository_root: Path) -> str:
    return str(repository_root / "examples" / "foreign_base.py")


@pytest.mark.unit
def test_the_adapter_takes_less_than_fifteen_lines(example: str) -> None:
    source = inspect.getsource(load_object(f"{example}:base"))
    assert sum(bool(line.strip()) for line in source.splitlines()) < 15


@pytest.mark.unit
def test_its_denoiser_is_the_wiener_filter(example: str) -> None:
    """Exact at the noise levels of the table, near them in between."""
    base = load_base(f"{example}:base")
    assert base.event_shape == (2, 32, 32)
    abar = load_object(f"{example}:ALPHA_BAR")
    variance = 4 * base.denoiser.network.variance  # type: ignore[attr-defined]
    x = torch.randn(2, 2, 32, 32, generator=torch.Generator().manual_seed(0))

    def gap(sigma: float, own: float) -> float:
        """From the denoiser at noise sigma to the filter of noise `own`, relative."""
        wiener = variance / (variance + own**2) * x
        return float((base.denoiser(x, sigma) - wiener).norm() / wiener.norm())

    for step in (100, 400, 700):
        sigma = 2 * math.sqrt(1 / float(abar[step]) - 1)  # in units of x, twice those of y
        assert gap(sigma, sigma) < 1e-4
        assert gap(1.002 * sigma, 1.002 * sigma) < 0.02
        assert gap(sigma, 0.5 * sigma) > 0.05  # as if the scaling were left out


@pytest.mark.end_to_end
def test_the_audit_of_the_example(
    example: str,
    tmp_path: Path,
    sample: ChannelSet,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(reports.report, "draw_gallery", lambda result, arrays: [])
    write_channels(tmp_path / "few.h5", sample.subset(slice(0, 2000, 50)))
    run: Any = load_object(f"{example}:main")
    run(str(tmp_path / "few.h5"), str(tmp_path / "run"), n_base=4)
    lines = capsys.readouterr().out.splitlines()
    result = load_result(tmp_path / "run")
    assert result.base.name == "foreign_base.py:base"
    assert result.base.sha256 == load_base(f"{example}:base").sha256
    assert lines[-2].startswith("foreign_base.py:base: ")
    assert (tmp_path / "run" / "report.html").is_file()
