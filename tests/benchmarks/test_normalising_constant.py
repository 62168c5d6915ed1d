"""The figures of the benchmark of Z against known ones, and a run at toy size."""

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import normalising_constant as benchmark


@pytest.mark.statistical
def test_the_fourth_power_in_closed_form() -> None:
    """E[(|x|^2 / n)^4] of N(m, s^2 I) against draws, within 5 standard errors of 0.3 %."""
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(1, 16, generator=generator, dtype=torch.float64)
    z = torch.randn(400_000, 16, generator=generator, dtype=torch.float64)
    l = benchmark.FourthPower().log_l(mean + 0.8 * z).exp()
    exact = float(benchmark.FourthPower().log_mean(mean, torch.tensor([0.8]).double()).exp())
    se = float(l.std()) / math.sqrt(len(l))
    assert se < 0.003 * exact
    assert abs(float(l.mean()) - exact) < 5 * se


@pytest.mark.unit
@pytest.mark.parametrize("name", benchmark.CELLS)
def test_the_exact_twist_tends_to_the_mean_of_l(name: str) -> None:
    """At a noise that hides everything h is E_p[l]; at one that hides nothing it is l."""
    here = benchmark.cell(name)
    x = here.law.draw(4, generator=torch.Generator().manual_seed(0)).double()
    far, near = (here.exact.log_h(x, s, here.law.denoiser(x, s)) for s in (1e4, 1e-4))
    assert torch.allclose(far.exp(), torch.full((4,), here.e_p).double(), rtol=1e-2)
    assert torch.allclose(near, here.weight.log_l(x), rtol=1e-3, atol=1e-3)


@pytest.mark.unit
def test_figures() -> None:
    """Equal cost: 10 particles of 79 evaluations are 19.75 plain draws of 40."""
    z = np.array([0.9, 1.0, 1.1, 1.0])
    found = {"z": z, "ess": np.full(4, 0.75), "evaluations": np.array(79.0), "n": np.array(10)}
    row = benchmark.figures(found, 0.8, 0.0, 2.0, 40)
    assert row["bias_percent"] == pytest.approx(25.0)
    se = z.std(ddof=1) / 2
    assert row["bias_in_se"] == pytest.approx(0.2 / se)
    assert row["coef_var_reweighting"] == pytest.approx(2.0 / math.sqrt(19.75))
    assert row["variance_gain"] == pytest.approx((4 / 19.75) / z.var(ddof=1))
    assert row["final_ess_share"] == 0.75
    dead = benchmark.figures(found | {"z": np.zeros(4)}, 0.8, 0.01, 2.0, 40)
    assert (dead["coef_var_z"], dead["variance_gain"]) == (None, None)  # 0 gains nothing
    assert dead["bias_percent"] == -100.0
    verdicts = [c.verdict for c in benchmark._checks("x", dead)]
    assert verdicts == ["short", "short", "cannot tell"]
    assert {c.verdict for c in benchmark._checks("x", None)} == {"cannot tell"}


@pytest.mark.end_to_end
def test_a_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The exact twist is unbiased and beats reweighting, the plug-in is far off and looks well."""
    out = tmp_path / "z.json"
    words = ["normalising_constant.py", "--cells", "8-gaussians |x|^2", "--twists", "exact",
             "calibrated 1", "Tweedie", "--steps", "20", "--draws", "20000", "--repeats", "24",
             "--particles", "100", "--state", str(tmp_path / "s"), "--out", str(out)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    found = json.loads(out.read_text())
    exact, calibrated, tweedie = found["rows"]
    assert abs(exact["bias_in_se"]) < 5
    assert abs(exact["bias_percent"]) < 2
    assert exact["variance_gain"] > 2
    assert calibrated["pilot"] == 500
    assert tweedie["bias_percent"] < -40
    assert tweedie["final_ess_share"] > 0.4
    assert len(found["checks"]) == 6
    monkeypatch.setattr(benchmark, "TwistedSmcSampler", None)
    benchmark.main()
    assert json.loads(out.read_text())["rows"] == found["rows"]


@pytest.mark.end_to_end
def test_a_refusal_is_a_row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object) -> None:
        raise ValueError("no gradient here")

    monkeypatch.setattr(benchmark, "twist", refuse)
    out = tmp_path / "z.json"
    words = ["normalising_constant.py", "--cells", "8-gaussians |x|^2", "--twists", "exact",
             "--draws", "200", "--repeats", "4", "--state", str(tmp_path / "s"),
             "--out", str(out)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    found = json.loads(out.read_text())
    assert found["rows"][0]["status"] == "refused: no gradient here"
    assert {c["verdict"] for c in found["checks"]} == {"cannot tell"}
