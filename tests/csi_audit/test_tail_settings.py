"""What the settings of tails refuse, and the budget they make."""

from dataclasses import replace
from typing import Any

import pytest

from channels.support import CsiAuditError
from csi_audit.configs import RunConfig
from csi_audit.tail import Budget
from csi_audit.tail_settings import TailSettings

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"tail_runs": 4}, r"tail_runs must be at least 5; got 4"),
        ({"tail_particles": 19}, r"tail_particles must be at least 20; got 19"),
        ({"guided_particles": 1}, r"guided_particles must be at least 2; got 1"),
        ({"guided_steps": 1}, r"guided_steps must be at least 2; got 1"),
        ({"tail_deepest": 0.2}, r"tail_deepest must lie in \(0, 0\.1\]; got 0\.2\. 0\.001 is"),
        ({"tail_deepest": 0.0}, r"tail_deepest must lie in \(0, 0\.1\]; got 0\.0"),
        ({"tail_evaluations": 0}, r"tail_evaluations must be above 0; got 0\."),
        ({"tail_seconds": float("inf")}, r"tail_seconds must be above 0; got inf\."),
        ({"tail_coef_var": float("nan")}, r"tail_coef_var must be above 0; got nan\."),
        ({"tail_coef_var": 0.1}, r"tail_coef_var needs tail_evaluations or tail_seconds: it may"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        TailSettings(**changes)


def test_a_budget_below_one_level_is_refused_at_once() -> None:
    config = RunConfig(data="a.h5", compressor=("klt-16",), steps=30, tail_evaluations=30_000)
    message = (
        r"tail_evaluations must allow one level, 1001 particles x 30 steps = 30,030; got 30,000\."
    )
    with pytest.raises(CsiAuditError, match=message):
        replace(config, tail_particles=1001)


def test_the_budget() -> None:
    settings = TailSettings(tail_coef_var=0.1, tail_seconds=5.0, tail_runs=7)
    assert settings.tail_budget == Budget(coef_var=0.1, seconds=5.0, runs=7)
    assert replace(settings, tail_evaluations=9, tail_coef_var=None).tail_budget == Budget(
        evaluations=9, seconds=5.0, runs=7
    )
