"""What the benchmark of adaptation compares, and a run of a few steps."""

import json
import math
import sys
from pathlib import Path

import pytest
import torch

from benchmarks import harness
from benchmarks.adaptation import figure_rows, gain_checks, main
from channels import Grid
from csi_audit.adaptation_training import HeldFigures
from csi_audit.base import build_denoiser, save_base
from csi_audit.networks import NetworkSpec
from csi_audit.quick_fidelity import FidelityFigures


def figures(**losses: torch.Tensor) -> list[HeldFigures]:
    fidelity = FidelityFigures(distortion=0.1, features=0.2)
    names = {"was": "as it was", "adapted": "adapted", "scratch": "from scratch"}
    return [
        HeldFigures(name=names[key], losses=values, fidelity=fidelity)
        for key, values in losses.items()
    ]


@pytest.mark.unit
def test_gains_are_paired_over_users() -> None:
    """Users differ by far more than the bases do; the paired interval sees through that."""
    generator = torch.Generator().manual_seed(0)
    users = 0.5 + 0.3 * torch.randn(400, generator=generator)
    near = users + 0.01 * torch.randn(400, generator=generator)
    worse = near + 0.02
    alone = torch.arange(400)  # a drop each
    found = gain_checks(figures(was=worse, adapted=users, scratch=near), alone)
    assert [item.verdict for item in found] == ["pass", "cannot tell"]
    assert found[0].value == pytest.approx(float((worse - users).mean()), abs=1e-6)
    turned = gain_checks(figures(was=users, adapted=worse, scratch=users), alone)
    assert [item.verdict for item in turned] == ["short", "short"]
    row = figure_rows(figures(was=worse), alone)[0]
    assert (row["base"], row["ks_distortion"], row["ks_features"]) == ("as it was", 0.1, 0.2)
    low, high = row["loss_interval"]
    half = 1.966 * float(worse.std()) / 20
    assert high - low == pytest.approx(2 * half, rel=0.02)
    assert low < row["loss"] < high


@pytest.mark.unit
def test_users_of_a_drop_are_no_independent_ones() -> None:
    """What a drop shares widens the intervals; one drop decides nothing."""
    generator = torch.Generator().manual_seed(1)
    drops = torch.arange(20).repeat_interleave(50)
    shared = 0.02 * torch.randn(20, generator=generator)[drops]
    users = 0.5 + 0.02 * torch.randn(1000, generator=generator)
    found = figures(was=users + shared, adapted=users, scratch=users + 0.1)
    gain, sure = gain_checks(found, drops)
    assert gain.interval is not None
    half = (gain.interval[1] - gain.interval[0]) / 2
    by_hand = 2.093 * float(shared.view(20, 50).mean(1).std()) / math.sqrt(20)  # t_19
    assert half == pytest.approx(by_hand, rel=1e-3)
    assert sure.verdict == "pass"
    low, high = figure_rows(found, drops)[0]["loss_interval"]
    assert high - low > 3 * 2 * 1.96 * 0.02 * math.sqrt(2) / math.sqrt(1000)
    one = torch.zeros(1000)
    assert [item.verdict for item in gain_checks(found, one)] == ["cannot tell"] * 2
    assert figure_rows(found, one)[0]["loss_interval"] is None


@pytest.fixture
def small_base(tmp_path: Path, seeded_torch: None) -> Path:
    """An untrained base of 32 antennas and 8 subcarriers."""
    network = NetworkSpec(options=(("channels", 2), ("hidden", 8), ("depth", 2)))
    variance = torch.exp(-0.5 * torch.arange(8.0)).expand(2, 32, 8).contiguous()
    weights = build_denoiser(network, variance).state_dict()
    grid = Grid(carrier_hz=None, bandwidth_hz=1e7, n_sub=8)
    path = tmp_path / "base.safetensors"
    save_base(path, weights, network=network, sigma_min=0.01, sigma_max=60.0, grid=grid, card={})
    return path


@pytest.mark.end_to_end
def test_a_run_of_a_few_steps(
    small_base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seeded_torch: None
) -> None:
    """Asked for again it is read, not repeated."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    words = ["--users", "100", "--held", "60", "--steps", "4", "--samples", "8"]
    words += ["--base", str(small_base), "--state", str(tmp_path / "state")]
    monkeypatch.setattr(sys, "argv", ["adaptation.py", *words])
    found = []
    for _ in range(2):
        main()
        found.append(json.loads((tmp_path / "results" / "adaptation.json").read_text()))
    record, again = found
    assert [row["base"] for row in record["rows"]] == ["as it was", "adapted", "from scratch"]
    assert {row["data"] for row in record["rows"]} == {"3GPP_38.901_UMa, simulated"}
    assert [row["steps"] for row in record["rows"]] == [None, 4, 4]
    assert record["sizes"]["held_drops"] == 2
    assert len(record["checks"]) == 2
    assert record["sizes"]["train"] + record["sizes"]["validation"] == 100
    assert again["rows"] == record["rows"]
    assert again["sizes"]["adapted_sha256"] == record["sizes"]["adapted_sha256"]
