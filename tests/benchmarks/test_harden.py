"""`python -m benchmarks.harden` at toy size: rows, checks, and a second call trains nothing."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import harden
from channels import load_channels
from channels.sample import sample_path


@pytest.mark.end_to_end
@pytest.mark.slow
def test_rows_and_checks(
    start: Callable[..., dict[str, Any]],
    toy_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    words = ["--compressor", "crnet-64", "--base", str(toy_files["base"]), "--variants", "8"]
    words += ["--variant-steps", "3", "--steps", "2", "--block-steps", "2"]
    words += ["--state", str(tmp_path / "state")]
    with torch.random.fork_rng(devices=[]):
        record = start(harden.main, "harden", *words)
    assert [row["change"] for row in record["rows"][::4]] == [
        "control - before",
        "hardened - before",
        "hardened - control",
    ]
    assert len(record["checks"]) == 5
    assert record["sizes"]["users"] == 30  # half of them select
    assert len(list((tmp_path / "state").glob("crnet-64-*"))) == 2

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
    assert checks["mean of the worst 1 %, after - before [dB]"] == "pass"
    assert checks["mean of the worst 1 %, hardened - control [dB]"] == "pass"
    worse = {**found, "hardened": before * 1.1}
    short = {item.id.partition(": ")[2]: item.verdict for item in harden.checks_of("net", worse)}
    assert short["loss of mean NMSE [dB]"] == "short"


@pytest.mark.unit
def test_a_compressor_as_it_came_passes_no_check_of_the_tail() -> None:
    same = np.exp(np.random.default_rng(0).standard_normal(3000) - 2)
    found = dict.fromkeys(("before", "control", "hardened"), same)
    verdicts = [item.verdict for item in harden.checks_of("net", found)]
    assert verdicts == ["pass", "short", "short", "short", "short"]


@pytest.mark.unit
def test_too_few_users_pass_no_check_of_the_tail() -> None:
    before = np.exp(np.random.default_rng(0).standard_normal(80) - 2)
    found = {"before": before, "control": before, "hardened": 0.5 * before}
    verdicts = {c.id.partition(": ")[2]: c.verdict for c in harden.checks_of("net", found)}
    assert verdicts["99 % quantile, after - before [dB]"] == "cannot tell"
    assert verdicts["mean of the worst 1 %, after - before [dB]"] == "cannot tell"


@pytest.mark.unit
def test_who_selects_does_not_measure() -> None:
    users = load_channels(sample_path()).subset(slice(0, 1000))
    first = harden.every_other_drop(users)
    assert users.drops is not None
    drops = [set(users.drops[rows].tolist()) for rows in (first, ~first)]
    assert len(drops[0]) == len(drops[1]) == 2
    assert not drops[0] & drops[1]
    alone = users.subset(slice(0, 10))
    assert harden.every_other_drop(alone).tolist() == [True, False] * 5
    unknown = dataclasses.replace(users, labels={})
    assert int(harden.every_other_drop(unknown).sum()) == 500
