"""Counting: exact intervals, blocks that are drawn once, and the same questions as of runs."""

import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from channels import CsiAuditError
from csi_audit.noise_map import IdentityMap
from csi_audit.plain_monte_carlo import CountedTail, PlainMonteCarlo
from csi_audit.run_state import BlockStore
from csi_audit.tail import Budget
from reports.estimates import clopper_pearson

pytestmark = pytest.mark.unit


class First:
    name, unit = "first", "1"

    def __init__(self, worse: Literal["high", "low"] = "high") -> None:
        self.worse = worse

    def __call__(self, x: Tensor) -> Tensor:
        return x[:, 0]


def counted(n: int, worse: Literal["high", "low"] = "high", **options: Any) -> PlainMonteCarlo:
    return PlainMonteCarlo(IdentityMap((2,)), **{"block": n, **options})


def test_estimate_and_failures() -> None:
    generator = torch.Generator().manual_seed(0)
    method = counted(300, kept=10)
    found, failures = method(First(), 1.5, budget=Budget(evaluations=1000), generator=generator)
    assert found.n == found.n_evaluations == failures.n_evaluations == 1000
    k = round(1000 * found.value)
    assert 40 < k < 95
    assert found.interval == clopper_pearson(k, 1000, 0.95)
    assert (found.status, found.method) == ("ok", "plain Monte Carlo, white noise")
    assert (failures.law, failures.tau, len(failures)) == ("failure", 1.5, 10)
    assert float(failures.x[:, 0].min()) > 1.5
    assert failures.log_z == pytest.approx(math.log(k / 1000))
    assert not failures.log_w.any()


def test_no_failures() -> None:
    generator = torch.Generator().manual_seed(0)
    budget = Budget(evaluations=100)
    found, failures = counted(50)(First(), 9.0, budget=budget, generator=generator)
    assert found.interval == clopper_pearson(0, 100, 0.95)
    assert found.status == "none seen: upper bound only"
    assert (len(failures), failures.log_z) == (0, None)


def test_low_is_bad() -> None:
    curves = []
    for side, tau in (("high", 1.0), ("low", -1.0)):
        budget = Budget(evaluations=400)
        curve, failures = counted(100).tail(First(side), tau=tau, budget=budget, seed=1)  # type: ignore[arg-type]
        assert bool((failures.x[:, 0] * tau > 1.0).all())
        curves.append(curve)
    assert curves[0].values == pytest.approx(-curves[1].values)
    below = int((curves[1].values > 1.0).sum())
    assert curves[1].exceedance(-1.0).value == below / 400


def test_the_whole_curve() -> None:
    x = np.sort(stats.expon.ppf((np.arange(10_000) + 0.5) / 10_000))
    curve = CountedTail(values=x, worse="high", method="by hand", evaluations=10_000)
    assert curve.exceedance(3.0).value == pytest.approx(math.exp(-3.0), rel=0.01)
    q, c = curve.quantile(0.01), curve.cvar(0.01)
    assert q.value == pytest.approx(-math.log(0.01), rel=0.01)
    assert c.value == pytest.approx(1 - math.log(0.01), rel=0.01)
    assert (q.status, c.status) == ("ok", "ok")
    for found in (q, c):
        assert found.interval is not None
        assert 0.1 < found.interval[1] - found.interval[0] < 1.0
    assert curve.cvar(5e-4).status == "5 draws beyond (10 needed)"
    assert curve.quantile(1e-5).status.startswith("no two-sided interval below n = ")
    low = CountedTail(values=x, worse="low", method="by hand", evaluations=10_000)
    turned = low.cvar(0.01)
    assert c.interval is not None
    assert (turned.value, turned.interval) == (-c.value, (-c.interval[1], -c.interval[0]))
    for p in (0.0, 1.0):
        with pytest.raises(CsiAuditError, match=r"p must lie in \(0, 1\)"):
            curve.quantile(p)
    with pytest.raises(CsiAuditError, match=r"tau must be finite; got inf\."):
        curve.exceedance(math.inf)


def test_blocks_are_drawn_once(tmp_path: Path) -> None:
    """A second call reads the disk; a longer one goes on; what was drawn does not depend on it."""

    def draw(n: int, folder: str = "a") -> tuple[CountedTail, Tensor, int]:
        method = counted(100)
        curve, failures = method.tail(First(), tau=1.0, budget=Budget(evaluations=n), seed=0,
                                      store=BlockStore(tmp_path / folder))  # fmt: skip
        return curve, failures.x, method.noise_map.evaluations

    short, again, longer = draw(200), draw(200), draw(400)
    assert (short[2], again[2], longer[2]) == (200, 0, 200)
    assert np.array_equal(short[0].values, again[0].values)
    assert torch.equal(short[1], again[1])
    assert np.array_equal(longer[0].values[:200], short[0].values)
    assert np.array_equal(draw(400, "b")[0].values, longer[0].values)
    assert (again[0].evaluations, longer[0].evaluations) == (200, 400)
    draw(450)
    message = r"plain-0004.npz holds 50 draws where 100 are due\. Remove that file to draw"
    with pytest.raises(CsiAuditError, match=message):
        draw(500)


def test_stops() -> None:
    """At the wanted precision, at the end of the time, but never before one block."""
    wanted = Budget(evaluations=100_000, coef_var=0.1)
    curve, _ = counted(500).tail(First(), tau=1.0, budget=wanted, seed=0)
    found = curve.exceedance(1.0)
    assert found.std_error is not None
    assert found.std_error <= 0.1 * found.value
    assert 500 <= found.n <= 1000  # CV^2 = 5.3 / n
    late, _ = counted(500).tail(First(), tau=1.0, budget=Budget(seconds=1e-9), seed=0)
    assert len(late.values) == 500


def test_refusals() -> None:
    with pytest.raises(CsiAuditError, match=r"budget must limit evaluations or seconds: counting"):
        counted(10).tail(First(), tau=1.0, budget=Budget(coef_var=0.1), seed=0)
    with pytest.raises(CsiAuditError, match=r"block must be at least 1 draw; got 0\."):
        counted(0)
    costly = counted(10)
    costly.noise_map.price = 30
    message = r"budget must allow one draw of 30 evaluations; got 29\."
    with pytest.raises(CsiAuditError, match=message):
        costly.tail(First(), tau=1.0, budget=Budget(evaluations=29), seed=0)
