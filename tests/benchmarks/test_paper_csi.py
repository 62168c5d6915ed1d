"""The paper's channel experiment: its estimators against closed forms, and a run on 8 x 8 channels.

L ~ Beta(1/2, 1) under p and l = L: E_p[l] = 1/3, q is Beta(3/2, 1), E_q[l] = 3/5,
P(L > t) = 1 - sqrt(t) under p.
"""

import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats

from benchmarks import paper_csi, paper_csi_rows
from benchmarks.paper_csi_figures import Law, laws_figure
from benchmarks.paper_csi_rows import (
    AGAINST,
    absolute,
    base_mean,
    comparison_checks,
    efficiency,
    relative_difference,
    share_of_shift,
)
from benchmarks.paper_csi_runs import TimedSampler, shown
from channels import Grid
from channels.randomness import seeded_generator
from csi_audit.base import build_denoiser, save_base
from csi_audit.islands import IslandSamples
from csi_audit.networks import NetworkSpec
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import BaseSampler, IssgmSampler
from csi_audit.twisted_smc import TwistedSmcSampler
from reports.estimates import Estimate

statistical, unit = pytest.mark.statistical, pytest.mark.unit

ALPHA = 1e-6
REPLICATES = 200


def gate(values: list[float], truth: float, mutant: list[float]) -> None:
    """The mean of the replicates is the truth, could have been told from the mutant's, and is."""
    t = stats.t.ppf(1 - ALPHA / 2, len(values) - 1)
    half = t * np.std(values, ddof=1) / math.sqrt(len(values))
    assert half <= abs(np.mean(mutant) - truth) / 3, "too few samples"
    assert half <= 0.2 * abs(truth)
    assert abs(np.mean(values) - truth) <= half
    assert abs(np.mean(mutant) - truth) > half


def covers(found: list[tuple[float, float]], truth: float, level: float = 0.95) -> bool:
    """Whether as many intervals hold the truth as binomial bounds at ALPHA allow."""
    held = sum(low <= truth <= high for low, high in found)
    low, high = stats.binom.ppf([ALPHA / 2, 1 - ALPHA / 2], len(found), level)
    return bool(low <= held <= high)


# --- Estimators -----------------------------------------------------------------------------------


def islands_of_q(seed: int, islands: int = 10, size: int = 50) -> tuple[IslandSamples, Any]:
    """Samples of q whose weights are Z, as an exact twist would give them; and their l."""
    n = islands * size
    l = stats.beta.rvs(1.5, 1.0, size=n, random_state=np.random.default_rng(seed))
    samples = IslandSamples(
        x=torch.from_numpy(l)[:, None],
        log_w=torch.full((n,), math.log(1 / 3), dtype=torch.float64),
        law="target",
        chain="exact",
        n_evaluations=7,
        island=torch.arange(n) // size,
    )
    return samples, l


@statistical
def test_figures_of_p_from_samples_of_q() -> None:
    """P(L > 1/2) under p; the mutant forgets to divide by l, its figure is Z times that of q."""
    right, wrong, intervals = [], [], []
    for seed in range(REPLICATES):
        samples, l = islands_of_q(seed)
        above = (l > 0.5).astype(np.float64)
        found = base_mean(samples, torch.from_numpy(np.log(l)), above)
        right.append(found.value)
        wrong.append(base_mean(samples, torch.zeros(len(l)), above).value)
        assert found.interval is not None
        intervals.append(found.interval)
    truth = 1 - math.sqrt(0.5)
    gate(right, truth, wrong)
    assert covers(intervals, truth)
    assert (found.n, found.n_evaluations, found.ess) == (10, 7, None)


@statistical
def test_share_of_the_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    """A uniform law stands at (1/2 - 1/3) / (3/5 - 1/3) = 5/8; the mutant is one of u^0.9."""
    monkeypatch.setattr(paper_csi_rows, "BOOTSTRAP", 100)
    right, wrong, intervals = [], [], []
    for seed in range(REPLICATES):
        random = np.random.default_rng(seed)
        guided, base = random.random(1000), stats.beta.rvs(0.5, 1, size=2000, random_state=random)
        value, low, high = share_of_shift(guided, base, seed=seed)
        right.append(value)
        wrong.append(share_of_shift(guided**0.9, base, seed=seed)[0])
        intervals.append((low, high))
    gate(right, 5 / 8, wrong)
    assert covers(intervals, 5 / 8)


@statistical
def test_relative_difference_covers() -> None:
    """20 islands of mean 2, 400 draws of mean 1.6; the mutant knows no error of the draws."""
    random = np.random.default_rng(0)
    found, mutant = [], []
    for _ in range(1000):
        a, b = 2 + 0.1 * random.standard_normal(20), 1.6 + random.standard_normal(400)
        pair = [
            Estimate(value=float(v.mean()), std_error=float(v.std(ddof=1) / len(v) ** 0.5),
                     n=len(v), method="m")
            for v in (a, b)
        ]  # fmt: skip
        value, low, high = relative_difference(*pair)
        assert low < value < high
        assert value == pytest.approx(a.mean() / b.mean() - 1)
        found.append((low, high))
        sure = Estimate(value=pair[1].value, n=400, method="m")
        mutant.append(relative_difference(pair[0], sure)[1:])
    assert covers(found, 0.25)
    assert not covers(mutant, 0.25)


@unit
@pytest.mark.parametrize(
    ("ends", "expected"), [((-0.1, 0.3), (0, 0.3)), ((-0.4, -0.1), (0.1, 0.4)), ((1, 2), (1, 2))]
)
def test_absolute(ends: tuple[float, float], expected: tuple[float, float]) -> None:
    assert absolute(*ends) == expected


@unit
def test_efficiency() -> None:
    """CV(l) = 2 and 400 evaluations at 40 a draw: reweighting scatters by 2 / sqrt(10)."""
    z = np.array([0.9, 1.0, 1.1, 1.0])
    weight = np.tile([-1.0, 3.0], 50_000)  # mean 1, deviation 2
    found = efficiency(z, weight, evaluations=400, pilot=1200, steps=40)
    own = z.std(ddof=1) / 2
    assert found["cv_ratio"] == pytest.approx(own / (2 / math.sqrt(10)), rel=1e-4)
    assert found["cv_ratio_with_pilot"] == pytest.approx(2 * found["cv_ratio"])
    assert found["ess_share_reweighting"] == pytest.approx(0.2, rel=1e-4)
    low, high = found["cv_ratio_interval"]
    assert low < found["cv_ratio"] < high


@statistical
def test_interval_of_the_scatter_covers() -> None:
    """Gaussian Z with a CV of 0.1; the mutant takes the quantiles of twice the islands."""
    random = np.random.default_rng(0)
    weight = np.tile([0.0, 2.0], 500_000)  # CV 1
    truth = 0.1 / math.sqrt(20) * math.sqrt(100)
    found = []
    for _ in range(1000):
        row = efficiency(1 + 0.1 * random.standard_normal(20), weight[:1000], evaluations=4000,
                         pilot=0, steps=40)  # fmt: skip
        found.append(tuple(row["cv_ratio_interval"]))
    assert covers(found, truth)
    assert not covers([(v * 1.15, w * 1.15) for v, w in found], truth)


@unit
def test_checks_of_a_comparison() -> None:
    """Close and surely so, far, and too uncertain; nothing measured decides nothing."""
    truth = Estimate(value=1.0, std_error=1e-3, n=1000, method="m")
    close, far, vague = (
        Estimate(value=v, std_error=e, n=20, method="m")
        for v, e in ((1.02, 5e-3), (0.8, 1e-2), (1.0, 0.1))
    )
    pairs = {name: (own, truth) for name, own in zip(AGAINST, (close, far, vague), strict=True)}
    worth = {"cv_ratio_with_pilot": 0.5, "cv_ratio_with_pilot_interval": [0.3, 0.9]}
    found = comparison_checks("l", pairs, worth)
    assert [item.verdict for item in found] == ["pass", "short", "cannot tell", "pass"]
    refused = comparison_checks("l", {}, None)
    assert [item.id for item in refused] == [item.id for item in found]
    assert {item.verdict for item in refused} == {"cannot tell"}


# --- Drawing and showing --------------------------------------------------------------------------


@unit
def test_seconds_outlive_the_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two blocks in one process and one in the next: the mean rate of all three."""
    clock = iter([0.0, 4.0, 10.0, 12.0, 50.0, 56.0])
    monkeypatch.setattr("benchmarks.paper_csi_runs.time.perf_counter", lambda: next(clock))

    def draw(n: int, *, generator: torch.Generator) -> WeightedSamples:
        x = torch.zeros(n, 1)
        return WeightedSamples(x=x, log_w=torch.zeros(n).double(), law="base", chain="none")

    store = BlockStore(tmp_path)
    first = TimedSampler(draw, store, "a")
    for n in (2, 1):
        first(n, generator=seeded_generator(0))
    second = TimedSampler(draw, store, "a")
    second(1, generator=seeded_generator(0))
    assert second.seconds(8) == pytest.approx(8 * 12 / 4)
    assert first.seconds(4) == pytest.approx(12)


@unit
def test_progress_is_told_in_tenths(capsys: pytest.CaptureFixture[str]) -> None:
    show = shown("a", 1000)
    for made in range(1, 1001):
        show(made)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "a: 1,000 of 1,000 denoiser evaluations"


@unit
def test_figure_shows_laws_and_maps() -> None:
    """A law has area 1, and power in the beam next to broadside stands next to the middle."""
    grid = Grid(carrier_hz=None, bandwidth_hz=1e7, n_sub=8)
    law = Law("p", np.linspace(0, 1, 50), np.full(50, 1 / 50), "-")
    power = np.zeros((8, 8))
    power[1, 3] = 1.0
    figure = laws_figure(grid, [law], {"p": power, "q": power / 10}, tau=0.8)
    top, p, q = figure.axes[:3]
    values, edges, _ = top.patches[-1].get_data()  # type: ignore[attr-defined]
    assert float((values * np.diff(edges)).sum()) == pytest.approx(1.0)
    shown_p, shown_q = (axis.images[0].get_array() for axis in (p, q))
    assert shown_p is not None
    assert shown_q is not None
    assert int(np.argmax(shown_p)) == 5 * 8 + 3
    assert float(shown_p.max()) == pytest.approx(0.0)
    assert float(shown_q.max()) == pytest.approx(-10.0)
    assert [axis.get_title() for axis in (p, q)] == ["p", "q"]


# --- A run ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def small_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained base of 8 x 8 channels: the Wiener filter of few strong taps and beams."""
    network = NetworkSpec(options=(("channels", 2), ("hidden", 8), ("depth", 2)))
    fall = torch.exp(-0.7 * torch.arange(8.0))
    variance = (fall[:, None] * fall).expand(2, 8, 8) * 4 + 1e-3
    with torch.random.fork_rng(devices=[]):
        weights = build_denoiser(network, variance).state_dict()
    path = tmp_path_factory.mktemp("base") / "small.safetensors"
    grid = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=8)
    save_base(path, weights, network=network, sigma_min=0.01, sigma_max=20.0, grid=grid, card={})
    return path


@pytest.fixture
def start(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Run the benchmark at toy size; returns what it wrote."""

    def run(*more: str) -> dict[str, Any]:
        sizes = ["--train-samples", "60", "--train-steps", "10", "--base-samples", "200"]
        sizes += ["--sde-samples", "150", "--sde-steps", "12", "--ode-steps", "8"]
        sizes += [
            "--pilot",
            "100",
            "--particles",
            "60",
            "--sharp-particles",
            "40",
            "--island",
            "20",
        ]
        sizes += ["--island", "20", "--issgm-samples", "40", "--issgm-steps", "6"]
        files = ["--base", str(small_base), "--state", str(tmp_path / "state")]
        files += ["--out", str(tmp_path / "paper.json")]
        monkeypatch.setattr(sys, "argv", ["paper_csi.py", *sizes, *files, *more])
        with torch.random.fork_rng(devices=[]):  # Lightning draws from the global generator
            paper_csi.main()
        found: dict[str, Any] = json.loads((tmp_path / "paper.json").read_text())
        return found

    return run


@pytest.mark.end_to_end
def test_a_run(
    start: Callable[..., dict[str, Any]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    found = start()
    rows = {(r["weight"], r["method"], r["law"], r["quantity"], r["chain"]): r
            for r in found["rows"]}  # fmt: skip
    ode, sde = "2M ODE, 8 steps", "2M SDE, 12 steps"
    for chain in (ode, sde):
        e_p, e_q = (
            rows["l", method, law, "E[l]", chain]
            for method, law in (("base", "p"), ("reweighting", "q"))
        )
        assert e_p["value"] < e_q["value"] < rows["l^4", "reweighting", "q", "E[l]", chain]["value"]
    for row in rows.values():
        if "estimate" in row:
            assert Estimate.from_dict(row["estimate"]).value == row["value"]
            assert row["seconds"] >= 0  # rounded
    assert rows["l", "base", "p", "E[l]", ode]["evaluations"] == 200 * 8
    assert rows["l", "ours", "q", "E[l]", sde]["evaluations"] == 60 * 23
    assert rows["l", "issgm", "q", "E[l]", "issgm, 6 steps"]["evaluations"] == 40 * 13
    assert ("l", "rejection", "q", "P(l > tau)", ode) in rows
    for weight, name, islands in (("l", "E[l]", 3), ("l^4", "E[l^4]", 2)):
        own = rows[weight, "ours", "p", name, sde]["estimate"]
        assert own["n"] == islands
        assert 0 < own["value"] < 1
    shares = [r["value"] for r in found["rows"] if r.get("quantity") == "ESS/N"]
    assert 0 < shares[1] < shares[0] < 1
    assert len(found["checks"]) == 8
    assert "issgm reaches" in capsys.readouterr().out
    assert found["sizes"]["denoiser_evaluations"] == (
        60 * 8 + 200 * 8 + 150 * 12 + 40 * 13 + 60 * 23 + 40 * 23 + 2 * 100 * 12
    )
    assert (tmp_path / "paper.png").read_bytes().startswith(b"\x89PNG")
    # Blocks are kept: a second call draws and fits nothing and says the same.
    for kind in (BaseSampler, IssgmSampler, TwistedSmcSampler):
        monkeypatch.setattr(kind, "__call__", None)
    monkeypatch.setattr("benchmarks.paper_csi_runs.fit_calibrated_twist", None)
    again = start()
    assert again["rows"] == found["rows"]


@pytest.mark.end_to_end
def test_a_refusal_is_a_row(
    start: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*values: object, **named: object) -> None:
        raise ValueError("no gradient here")

    monkeypatch.setattr("benchmarks.paper_csi_runs.fit_calibrated_twist", refuse)
    monkeypatch.setattr(paper_csi, "BOUND", 1e-3)
    found = start()
    refused = [r["status"] for r in found["rows"] if "refused" in r.get("status", "")]
    assert refused.count("refused: no gradient here") == 2
    assert sum("log_bound must be at least" in words for words in refused) == 2
    assert {item["verdict"] for item in found["checks"]} == {"cannot tell"}
