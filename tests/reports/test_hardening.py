"""The verdict on a hardening, from made-up distortions before and after."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from reports.estimates import Estimate
from reports.hardening import (
    HARDEN_KEYS,
    HardeningResult,
    hardening_changes,
    hardening_verdict,
)
from reports.keys import ESTIMATE_KEYS, schema_paths

pytestmark = pytest.mark.unit
Array = npt.NDArray[np.float64]
RNG = np.random.default_rng(0)
BEFORE = np.exp(RNG.standard_normal(4000) - 2)


def after(body: float, tail: float, noise: float = 0.02) -> Array:
    """Factors on the body and on the worst 5 % of BEFORE."""
    factor = np.where(np.quantile(BEFORE, 0.95) < BEFORE, tail, body)
    return BEFORE * factor * np.exp(noise * RNG.standard_normal(len(BEFORE)))


@pytest.mark.parametrize(
    ("body", "tail", "verdict", "words"),
    [
        (1.005, 0.9, "worked", "It worked: the tail improved and the mean is kept"),
        (1.10, 0.9, "did not work", "more than 0.1 dB of the mean is lost"),
        (1.0, 1.1, "did not work", "the tail is worse"),
        (1.0, 1.0, "did not work", "no gain beyond chance"),
    ],
)
def test_verdicts(body: float, tail: float, verdict: str, words: str) -> None:
    found = hardening_verdict(hardening_changes(BEFORE, after(body, tail)))
    assert found[0] == verdict
    assert words in found[1]


def test_a_compressor_as_it_came_is_told_from_too_few_users() -> None:
    verdict, words = hardening_verdict(hardening_changes(BEFORE, BEFORE))
    assert verdict == "did not work"
    assert "the compressor is as it came" in words


def test_too_few_users_are_no_verdict() -> None:
    found = hardening_verdict(hardening_changes(BEFORE[:50], after(1.0, 0.9)[:50]))
    assert found[0] == "cannot tell"
    assert "too few users" in found[1]


def test_a_mean_that_may_be_lost_is_no_verdict() -> None:
    changes = list(hardening_changes(BEFORE, after(1.0, 0.9)))
    wide = Estimate(value=0.05, std_error=0.1, interval=(-0.15, 0.25), n=100, method="made up")
    changes[0] = dataclasses.replace(changes[0], change=wide)
    verdict, words = hardening_verdict(tuple(changes))
    assert verdict == "cannot tell"
    assert "whether more than 0.1 dB of the mean is lost" in words


def test_levels_and_changes_agree() -> None:
    now = after(1.0, 0.8)
    for item in hardening_changes(BEFORE, now):
        assert item.after_db - item.before_db == pytest.approx(item.change.value)
    mean = hardening_changes(BEFORE, now)[0]
    assert mean.before_db == pytest.approx(10 * np.log10(BEFORE.mean()))
    assert mean.after_db == pytest.approx(10 * np.log10(now.mean()))


def test_file_and_keys(tmp_path: Path) -> None:
    changes = hardening_changes(BEFORE, after(1.0, 0.9))
    verdict, sentence = hardening_verdict(changes)
    result = HardeningResult(
        compressor="net",
        users="users",
        n=4000,
        n_trained=10,
        n_importance=3,
        changes=changes,
        verdict=verdict,
        sentence=sentence,
    )
    plain = json.loads(result.save(tmp_path).read_text())
    assert plain["verdict"] == verdict
    estimates = {f"changes[].change.{key}" for key in ESTIMATE_KEYS}
    assert set(schema_paths(HardeningResult)) == set(HARDEN_KEYS) | estimates
