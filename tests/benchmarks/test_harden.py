"""`python -m benchmarks.harden` at toy size: rows, checks, and a second call trains nothing."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import harden


@pytest.mark.end_to_end
@pytest.mark.slow
def test_rows_and_checks(
    start: Callable[..., dict[str, Any]],
    toy_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--compressor", "crnet-64", "--base", str(toy_files["base"]), "--base-samples", "8"]
    words += ["--base-steps", "3", "--steps", "2", "--block-steps", "2"]
    words += ["--state", str(tmp_path / "state")]
    with torch.random.fork_rng(devices=[]):
        record = start(harden.main, "harden", *words)
    assert [row["change"] for row in record["rows"][::4]] == [
        "control - before",
        "hardened - before",
        "hardened - control",
    ]
    assert len(record["checks"]) == 5
    assert record["sizes"]["users"] == 60
    assert len(list((tmp_path / "state" / "val").glob("crnet-64-*"))) == 2

    def refuse(settings: object) -> None:
        raise AssertionError("trained again")

    monkeypatch.setattr(harden, "hardened", refuse)
    again = start(harden.main, "harden", *words)
    assert again["rows"] == record["rows"]


@pytest.mark.unit
def test_checks_say_what_must_hold() -> None:
    rng = np.random.default_rng(0)
    before = np.exp(rng.standard_normal(3000) - 2)
    better = before * np.where(before > np.quantile(before, 0.95), 0.8, 1.0)
    found = {"before": before, "control": before * 0.999, "hardened": better}
    checks = {item.id.partition(": ")[2]: item.verdict for item in harden.checks_of("net", found)}
    assert checks["loss of mean NMSE [dB]"] == "pass"
    assert checks["worst 1 %, after - before [dB]"] == "pass"
    worse = {**found, "hardened": before * 1.1}
    short = {item.id.partition(": ")[2]: item.verdict for item in harden.checks_of("net", worse)}
    assert short["loss of mean NMSE [dB]"] == "short"
