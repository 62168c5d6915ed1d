"""Flows and scores that learn a known law, effective numbers, and a run at toy size."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import toy_densities as benchmark
from benchmarks.toy_cells import CELLS, RARE, WEIBULL, cell
from benchmarks.toy_evolution import SIGMAS, conditional_means
from benchmarks.toy_flows import fit_flow
from benchmarks.toy_scores import PlaneDenoiser, fit_denoiser, parameter_vector, restored
from csi_audit.diffusion import GaussianDenoiser
from csi_audit.samples import WeightedSamples
from csi_audit.toy_laws import toy_law


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def gaussian(n: int, generator: torch.Generator) -> Tensor:
    return torch.tensor([1.0, -2.0]) + 0.5 * torch.randn(n, 2, generator=generator)


class Tilt:
    """l = exp(2 x_1): N(m, v) becomes N(m + 2 v e_1, v)."""

    def log_l(self, x: Tensor) -> Tensor:
        return 2 * x[:, 0]


@pytest.mark.statistical
def test_a_flow_finds_a_tilted_gaussian() -> None:
    """Weighted maximum likelihood reaches N((1.5, -2), 0.25 I); without weights it would be 0.5
    off, two hundred times the tolerance's share that draws explain."""
    flow = fit_flow("MAF", gaussian, Tilt(), seed=0, steps=250)
    x = flow.draw(20_000, generator=seeded(1))
    assert torch.allclose(x.mean(0), torch.tensor([1.5, -2.0]), atol=0.06)
    assert torch.allclose(x.std(0), torch.tensor([0.5, 0.5]), atol=0.05)
    exact = torch.distributions.Normal(torch.tensor([1.5, -2.0]), 0.5)
    gap = (flow.log_density(x) - exact.log_prob(x).sum(1)).mean()
    assert abs(float(gap)) < 0.05
    again = fit_flow("MAF", gaussian, Tilt(), seed=0, steps=2)
    twin = fit_flow("MAF", gaussian, Tilt(), seed=0, steps=2)
    assert torch.equal(again.draw(5, generator=seeded(1)), twin.draw(5, generator=seeded(1)))


@pytest.mark.statistical
def test_a_network_finds_the_denoiser_of_a_gaussian() -> None:
    net = fit_denoiser(gaussian, seed=0, steps=250, batch=256, width=32)
    exact = GaussianDenoiser(torch.tensor([1.0, -2.0]), torch.tensor([0.25, 0.25]))
    for sigma in (0.1, 0.5, 1.5):
        x = gaussian(2000, seeded(2)) + sigma * torch.randn(2000, 2, generator=seeded(3))
        gap = (net(x, sigma) - exact(x, sigma)).square().mean().sqrt()
        assert float(gap) < 0.06


@pytest.mark.unit
def test_parameters_there_and_back(seeded_torch: None) -> None:
    net = PlaneDenoiser(torch.tensor([1.0, 2.0]), 0.7, width=8)
    x = torch.randn(5, 2)
    before = torch.get_rng_state()
    back = restored(parameter_vector(net), width=8)
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(net(x, 0.3), back(x, 0.3))


@pytest.mark.unit
def test_topped_up_to_the_effective_number() -> None:
    asked: list[int] = []

    def sampler(n: int, *, generator: torch.Generator) -> WeightedSamples:
        asked.append(n)
        log_w = torch.where(torch.arange(n) % 4 == 0, 0.0, -torch.inf).double()
        return WeightedSamples(
            x=torch.zeros(n, 2), log_w=log_w, law="target", chain="c", n_evaluations=7 * n
        )

    found = benchmark.topped_up(sampler, 1000, seeded(0))
    assert asked in ([1000, 3000], [1000, 3001])
    assert benchmark.effective(found.log_w) == pytest.approx(1000, abs=1)
    assert found.n_evaluations == 7 * len(found)


@pytest.mark.unit
@pytest.mark.parametrize("name", CELLS)
def test_cells(name: str) -> None:
    """True samples have the stated E_q[l], and at most a hundredth of them lies outside the box."""
    for placement in ("centred", "unit square"):
        here = cell(name, placement)
        x = here.draw_target(40_000, seeded(0)).double()
        l = here.weight.log_l(x).exp()
        se = float(l.std()) / 200
        assert abs(float(l.mean()) - here.e_q) < 5 * se < 0.05 * here.e_q
        low, high = torch.tensor(here.box.low), torch.tensor(here.box.high)
        assert float(((x < low) | (x > high)).any(1).double().mean()) < 0.01
        if name in (WEIBULL, RARE):
            break


@pytest.mark.unit
def test_evolution() -> None:
    """Under q the mean of |E[x0 | x]|^2 grows as noise falls, to E_q[|x|^2]; l at the mean
    overshoots where the noise is high."""
    means = conditional_means(toy_law("spiral"), seed=0, n=2000)
    assert list(means) == ["p", "q", "q, l at the mean"]
    power = {name: [float(x.square().sum(1).mean()) for x in m] for name, m in means.items()}
    assert len(power["p"]) == len(SIGMAS)
    assert power["p"] == sorted(power["p"])
    assert power["q"] == sorted(power["q"])
    assert power["q"][-1] == pytest.approx(0.549, rel=0.05)
    assert power["q, l at the mean"][0] > 10 * power["q"][0]


@pytest.mark.unit
def test_rows_and_checks() -> None:
    here = cell("8-gaussians-l1")

    def one(seed: int, distance: float) -> dict[str, np.ndarray]:
        figures = dict.fromkeys(benchmark._KEYS, 1.0)
        figures |= {"seed": seed, "distance": distance, "floor": 0.1, "e_l": 1.01 * here.e_q}
        return {key: np.array(value) for key, value in figures.items()}

    refused = {"refused": np.array("too few")}
    found = [one(0, 0.10), one(1, 0.12), refused]
    row = benchmark.row(here, "guided", found)
    assert (row["seeds"], row["refused"], row["refusal"]) == (2, 1, "too few")
    assert row["excess"] == pytest.approx(0.01)
    assert row["excess_se"] == pytest.approx(0.01)
    assert row["e_q_error_percent"] == pytest.approx(1.0)
    low, error = benchmark.closed_form_checks([row])
    assert [low.value, error.value] == pytest.approx([-0.01, 1.0])
    assert (low.verdict, error.verdict) == ("pass", "pass")
    nothing = benchmark.row(here, "guided", [refused])
    assert {c.verdict for c in benchmark.closed_form_checks([nothing])} == {"cannot tell"}

    flows = {("c", "MAF"): [one(0, 0.30), one(1, 0.30)], ("c", "NSF"): [one(0, 0.11), one(1, 0.11)]}
    for distances, verdict in (((0.10, 0.12), "pass"), ((0.13, 0.14), "short")):
        ours = [one(s, d) for s, d in enumerate(distances)]
        (found_check,) = benchmark.learned_checks(["c"], flows | {("c", "guided, learned"): ours})
        assert "that of NSF" in found_check.id
        assert found_check.verdict == verdict
    (single,) = benchmark.learned_checks(["c"], flows | {("c", "guided, learned"): [one(0, 0.1)]})
    assert single.verdict == "cannot tell"


@pytest.mark.end_to_end
def test_a_run_its_resumption_and_its_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "toy.json"
    methods = ["no guidance", "issgm", "reweighting", "guided", "twisted SMC",
               "twisted SMC, exact twist", "MAF", "guided, learned"]  # fmt: skip
    words = ["toy_densities.py", "--cells", "8-gaussians-l1", RARE, "--methods", *methods,
             "--seeds", "2", "--samples", "600", "--issgm-steps", "50", "--ode-steps", "20",
             "--sde-steps", "25", "--flow-steps", "5", "--score-steps", "10", "--state",
             str(tmp_path / "state"), "--out", str(out)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    assert (tmp_path / "toy_densities_spiral.png").read_bytes().startswith(b"\x89PNG")
    found = json.loads(out.read_text())
    rows = {(r["cell"], r["method"]): r for r in found["rows"]}
    assert len(rows) == 2 * len(methods) - 1  # the exact twist on the rare event alone
    assert {r["seeds"] + r["refused"] for r in rows.values()} == {2}
    ours, none = rows["8-gaussians-l1", "reweighting"], rows["8-gaussians-l1", "no guidance"]
    assert abs(ours["e_q_error_percent"]) < 3 < abs(none["e_q_error_percent"])
    exact = rows[RARE, "twisted SMC, exact twist"]
    assert exact["excess"] < 0.1 < rows[RARE, "no guidance"]["excess"]
    assert found["sizes"]["boxes"][RARE] == [[1.0, -0.5], [1.5, 0.5]]

    monkeypatch.setattr(benchmark, "by_chain", None)
    monkeypatch.setattr(benchmark, "by_flow", None)
    benchmark.main()
    assert json.loads(out.read_text())["rows"] == found["rows"]
    monkeypatch.setattr(sys, "argv", [*words, "--report", "--no-figure", "--seeds", "3"])
    benchmark.main()
    assert json.loads(out.read_text())["rows"] == found["rows"]
