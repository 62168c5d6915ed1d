"""Exact tails of the rare events, the moves that lost, the figures, and a run at toy size."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import special

from benchmarks import rare_events as benchmark
from benchmarks import rare_moves
from benchmarks.rare_maps import EVENTS, MODE_WEIGHT, RARE_MODES, ModeMap, rare_event
from benchmarks.rare_moves import SliceSubset, SteeredSubset
from csi_audit.noise_map import IdentityMap, LimitState
from csi_audit.subset_simulation import SubsetSimulation
from csi_audit.tail import Budget
from reports.estimates import clopper_pearson


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.statistical
@pytest.mark.parametrize("name", EVENTS)
def test_tails_are_exact(name: str) -> None:
    """Against 400,000 counted draws, at a confidence of 1 - 1e-6, to 4 % at 0.1."""
    event, n = rare_event(name, 6), 400_000
    values = event.loss(event.new_map()(torch.randn(n, 6, generator=seeded())))
    for p in (0.1, 1e-2, 1e-3):
        k = int((values > event.threshold(p)).sum())
        low, high = clopper_pearson(k, n, 1 - 1e-6)
        assert low <= p <= high
        assert p > 0.05 or high - low < 0.5 * p
    assert event.beyond(event.threshold(1e-6)) == pytest.approx(1e-6, rel=1e-6)


@pytest.mark.unit
@pytest.mark.parametrize("name", RARE_MODES)
def test_deep_failures_are_all_of_the_mode(name: str) -> None:
    """Beyond 1e-5 nearly nothing is left of the body: whoever misses the mode misses P."""
    event = rare_event(name, 6)
    noise_map = event.new_map()
    assert isinstance(noise_map, ModeMap)
    assert float(noise_map.a @ noise_map.b) == pytest.approx(
        0.0 if name == "mode aside" else math.sqrt(0.5), abs=1e-9
    )
    assert float(special.ndtr(-noise_map.c)) == pytest.approx(MODE_WEIGHT)
    assert float(special.ndtr(-event.threshold(1e-5))) < 1e-8


def ratios(kind: type[SubsetSimulation]) -> np.ndarray:
    """Estimates over the truth of 40 runs at 5e-3, on the third level of a sphere."""
    event, p = rare_event("sphere", 6), 5e-3
    method = kind(event.new_map(), particles=2000, deepest=1e-3, kept=0)
    curve, _ = method.tail(event.loss, budget=Budget(runs=40), seed=0)
    return np.array([run.beyond(event.threshold(p)) / p for run in curve.runs])


@pytest.mark.statistical
@pytest.mark.parametrize("kind", [SliceSubset, SteeredSubset])
def test_other_moves_are_right_too(kind: type[SubsetSimulation]) -> None:
    """Their mean is the truth, so what they lose is precision alone."""
    found = ratios(kind)
    tolerance = 5.8 * found.std(ddof=1) / math.sqrt(40)  # Student's t at alpha = 1e-6
    assert tolerance < 0.2
    assert abs(found.mean() - 1) < tolerance


@pytest.mark.statistical
def test_steering_without_its_ratio_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rare_moves, "_log_density", lambda at, *rest: torch.zeros(len(at.z)))
    found = ratios(SteeredSubset)
    assert abs(found.mean() - 1) > 5.8 * found.std(ddof=1) / math.sqrt(40)


class Watched(IdentityMap):
    """Counts rows by itself."""

    rows = 0

    def __call__(self, z: torch.Tensor) -> torch.Tensor:
        self.rows += len(z)
        return super().__call__(z)


@pytest.mark.unit
@pytest.mark.parametrize("kind", [SliceSubset, SteeredSubset])
def test_other_moves_stay_in_their_level(kind: type[SubsetSimulation]) -> None:
    """n particles, seeds first, none outside; every row that the map saw is counted."""
    event, noise_map = rare_event("plane", 4), Watched((4,))
    limit = LimitState(noise_map, event.loss)
    z = torch.randn(4000, 4, generator=seeded())
    seeds = z[limit(z) > 1.0][:4]
    walk = kind(noise_map, particles=40).walk(
        limit, seeds, limit(seeds), 1.0, step=0.5, n=38, generator=seeded()
    )
    assert walk.z.shape == (38, 4)
    assert torch.equal(walk.z[:4], seeds)
    assert torch.allclose(event.loss(walk.z).double(), walk.values, atol=1e-6)
    assert float(walk.values.min()) > 1.0
    assert 0 < walk.acceptance <= 1
    backward_of_seeds = len(seeds) if kind is SteeredSubset else 0
    assert noise_map.evaluations == noise_map.rows + backward_of_seeds


@pytest.mark.unit
def test_steered_moves_pay_for_their_gradients() -> None:
    """Seeds: forward and backward. Proposals: forward, and backward inside the level."""
    event = rare_event("plane", 4)
    noise_map = event.new_map()
    limit = LimitState(noise_map, event.loss)
    z = torch.randn(10, 4, generator=seeded())
    rare_moves._point(limit, z, limit(z))
    assert noise_map.evaluations == 10 + 20
    inside = torch.arange(10) < 3
    at = rare_moves._point(limit, z, limit(z), inside)
    assert noise_map.evaluations == 30 + 10 + 3
    a = event.loss.a.float()  # type: ignore[union-attr]
    assert torch.allclose(at.u[:3], a.expand(3, 4), atol=1e-5)
    assert not at.u[3:].any()
    assert torch.allclose(at.along[:3], (z[:3] @ a).double(), atol=1e-5)


@pytest.mark.unit
def test_figures() -> None:
    ratio, evaluations = np.array([0.9, 1.1, 1.0, 1.2]), np.full(4, 1000.0)
    square = (0.01 + 0.01 + 0.04) / 4
    assert benchmark.gain(ratio, evaluations, 1e-4) == pytest.approx((1 - 1e-4) / 0.1 / square)
    ends = benchmark.gain_interval(ratio, evaluations, 1e-4, 0)
    assert ends is not None
    assert ends[0] < (1 - 1e-4) / 0.1 / square < ends[1]
    assert benchmark.gain(np.zeros(4), evaluations, 1e-4) is None  # "gain" 10 by its MSE
    assert benchmark.gain_interval(np.zeros(4), evaluations, 1e-4, 0) is None
    assert benchmark.group_error(ratio) == pytest.approx(
        math.sqrt(0.05**2 + ratio.var(ddof=1) / 10)
    )
    n = benchmark.particles(120_000)
    assert n + 5 * 0.9 * n == pytest.approx(120_000, rel=1e-3)


@pytest.mark.unit
def test_openturns_agrees() -> None:
    """The independent implementation on the same limit state, at every probability."""
    event = rare_event("plane", 4)
    found = [benchmark.openturns_figures(event, 6000, seed) for seed in range(12)]
    ratio = np.stack([one["ratio"] for one in found])
    assert abs(ratio[:, 0].mean() - 1) < 0.15
    assert abs(ratio[:, 2].mean() - 1) < 0.5
    assert all(0 < one["coef_var"] < 1 for one in found)
    n = benchmark.particles(6000)
    assert set(found[0]["evaluations"] / n) <= {2.0, 3.0, 4.0, 5.0, 6.0, 7.0}
    plain = benchmark.plain_figures(event, 4000, 0)
    assert plain["ratio"][0] == pytest.approx(1, abs=0.6)
    assert plain["evaluations"].tolist() == [4000.0] * 5


@pytest.mark.unit
def test_budget_of_a_run_is_kept() -> None:
    event = rare_event("sphere", 4)
    found = benchmark.subset_figures(SubsetSimulation, event, 3000, 0)
    assert 2600 < found["evaluations"][-1] < 3400
    assert (np.diff(found["evaluations"]) >= 0).all()
    assert found["evaluations"][0] < 2000


@pytest.mark.end_to_end
def test_a_run_and_its_resumption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "rare.json"
    words = ["rare_events.py", "--events", "plane", "mode aside", "--dimensions", "4", "6",
             "--runs", "5", "3", "--budget", "1200", "--compared-dimension", "4",
             "--compared-budget", "600", "--compared-runs", "2", "--groups", "3",
             "--particles", "60", "--state", str(tmp_path / "state"), "--out",
             str(out)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    found = json.loads(out.read_text())
    parts = [row["part"] for row in found["rows"]]
    assert parts.count("full budget") == 2 * 2 * 5
    assert parts.count("compared") == 2 * 5 * 5
    assert (parts.count("intervals"), parts.count("missed modes")) == (6, 2)
    ids = [one["id"] for one in found["checks"]]
    assert sum(": gain at " in name for name in ids) == 3
    assert sum("coverage" in name for name in ids) == 2
    methods = {row["method"] for row in found["rows"] if row["part"] == "compared"}
    assert methods == {"plain Monte Carlo", "OpenTURNS SubsetSampling"} | {
        kind.name for kind in benchmark.MOVES
    }
    missed = [row for row in found["rows"] if row["part"] == "missed modes"]
    assert {row["far_off_but_ok"] for row in missed} == {0.0}  # too few particles: always said
    for name in ("subset_runs", "openturns_figures", "PlainMonteCarlo"):
        named = type(name, (), {"name": "plain Monte Carlo"})
        monkeypatch.setattr(benchmark, name, named)  # a second call makes nothing
    benchmark.main()
    assert json.loads(out.read_text())["rows"] == found["rows"]


@pytest.mark.unit
def test_runs_belong_to_dimensions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["rare_events.py", "--dimensions", "4", "--runs", "1", "2"])
    with pytest.raises(SystemExit, match=r"--runs takes one number for each of --dimensions"):
        benchmark.main()
