"""Which number of steps is enough, and a run at toy size."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import steps as benchmark
from csi_audit.toy_laws import toy_base, toy_law


def noisy(mean: float, spread: float = 0.001) -> np.ndarray:
    return mean + spread * np.array([-1.0, 1.0, -0.5, 0.5])


@pytest.mark.unit
def test_smallest_number_of_steps() -> None:
    """Against a reference at 0.100: 10 is far off, 20 within 2 SE but not surely within the
    margin, 40 at the same place with little spread."""
    reference = np.full(4, 0.100)
    excess = {10: noisy(0.12), 40: noisy(0.1001, 0.0001), 20: noisy(0.104, 0.006)}
    assert benchmark.smallest(excess, reference) == 20
    assert benchmark.smallest(excess, reference, margin=0.003) == 40
    assert benchmark.smallest({10: noisy(0.12)}, reference) is None
    assert benchmark.smallest({10: noisy(0.02)}, reference) == 10  # better is as good
    assert benchmark._ratio_interval(excess, reference, 0.003, 0) == (25.0, 50.0)
    excess.pop(20)
    assert benchmark._ratio_interval(excess, reference, 0.003, 0) == (25.0, 25.0)
    assert benchmark._ratio_interval({10: noisy(0.12)}, reference, None, 0) == (0.0, 0.0)


@pytest.mark.unit
def test_threshold_and_cost() -> None:
    law = toy_law("8-gaussians")
    t = benchmark.threshold(law, 0.01)
    assert law.beyond(torch.tensor([1.0, 0.0]).double(), t) == pytest.approx(0.01, rel=1e-6)
    assert benchmark.evaluations("base", 30) == 30
    assert benchmark.evaluations("guided", 30) == 59


@pytest.mark.unit
def test_every_chain_is_asked_as_often_as_it_says() -> None:
    law = toy_law("8-gaussians")

    class Counted:
        event_shape: tuple[int, ...] = (2,)
        calls = 0

        def __call__(self, x: torch.Tensor, sigma: Any) -> torch.Tensor:
            Counted.calls += 1
            return law.denoiser(x, sigma)

    base = replace(toy_base(law), denoiser=Counted())
    for chain in ("ode_2m", "sde_2m", "ancestral", "euler_maruyama"):
        Counted.calls = 0
        generator = torch.Generator().manual_seed(0)
        x = benchmark.drawn(chain, base.denoiser, base, 7, 5, generator)
        assert (Counted.calls, x.shape) == (7, (5, 2))


@pytest.mark.end_to_end
def test_a_run_and_its_resumption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark, "LONGEST", 40)
    out = tmp_path / "steps.json"
    words = ["steps.py", "--cells", "8-gaussians:base", "8-gaussians:guided", "--steps", "5", "30",
             "--seeds", "3", "--samples", "1500", "--state", str(tmp_path / "state"), "--out",
             str(out)]  # fmt: skip
    monkeypatch.setattr(sys, "argv", words)
    benchmark.main()
    found = json.loads(out.read_text())
    rows = {(r["task"], r["chain"], r["steps"]): r for r in found["rows"] if "excess" in r}
    assert rows["base", "floor", None]["excess"] == 0.0
    for task in ("base", "guided"):
        coarse, fine = (rows[task, "ode_2m", n] for n in (5, 30))
        assert coarse["excess"] > 0.1 > 0.03 > fine["excess"]
        assert abs(fine["e_l_error_percent"]) < 5
        assert len([c for c in found["checks"] if f", {task}: " in c["id"]]) == 8
    assert {r["times_fewer"] for r in found["rows"] if r.get("against")} <= {0.0, 1.0, 40 / 30, 8.0}
    monkeypatch.setattr(benchmark, "drawn", None)  # a second call draws nothing
    benchmark.main()
    assert json.loads(out.read_text())["rows"] == found["rows"]
