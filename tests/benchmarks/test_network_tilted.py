"""What `network_tilted` keeps as a finding and what it does not, and its truth and weights."""

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import network_tilted
from benchmarks.network_tilted import Tilted, method_figures, outage_weights, truth_of
from channels.network import CellNetwork
from channels.placement_domain import PlacementDomain
from channels.placements import UniformUsers
from channels.support import CsiAuditError
from csi_audit.placement_base import (
    build_placement_denoiser,
    load_placement_base,
    save_placement_base,
)
from csi_audit.placement_network import UserNetworkSpec

NETWORK = CellNetwork(threshold_db=10.0)
SPEC = UserNetworkSpec(width=8, hidden=16, depth=1, heads=2)
NO_MAP = np.ones(1)  # where nothing is drawn


@pytest.fixture
def case(tmp_path: Path) -> Tilted:
    """Two uniform users, their exact base law, the joint outage of both."""
    with torch.random.fork_rng(devices=[]):
        denoiser = build_placement_denoiser(SPEC, torch.full((2, 2), 1 / 3))
    path = tmp_path / "base.safetensors"
    save_placement_base(
        path, denoiser.state_dict(), network=SPEC, sigma_min=0.01, sigma_max=6.0, card={}
    )
    own = argparse.Namespace(steps=8, device="cpu", tilted=1000, tilted_draws=8000, pilot=100,
                             island=20, issgm_steps=4)  # fmt: skip
    return Tilted(
        law=UniformUsers(n_users=2), base=load_placement_base(path), own=own,
        domain=PlacementDomain(n_users=2, network=NETWORK),
        weight=outage_weights(NETWORK, 2)["joint outage"],
    )  # fmt: skip


@pytest.mark.unit
def test_reweighted_draws_of_the_exact_base_law_meet_the_truth(case: Tilted) -> None:
    truth = truth_of(case, torch.Generator().manual_seed(0))
    found = method_figures(case, "reweighted", truth["map"], seed=0)
    e_q, low, high = found["e_q"]
    assert str(found["status"]) == "ok"
    assert low < e_q < high
    assert e_q == pytest.approx(truth["e_q"][0], rel=0.1)
    assert high - low < 0.3 * e_q


@pytest.mark.unit
def test_a_pilot_too_small_is_a_finding(case: Tilted) -> None:
    case.own.pilot = 20
    found = method_figures(case, "calibrated SMC", NO_MAP, seed=0)
    assert set(found) == {"status"}
    assert str(found["status"]).startswith(
        "refused: pilot_x0 must hold at least 50 samples; got 20"
    )


@pytest.mark.unit
def test_other_errors_are_none(case: Tilted, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither settings out of range nor errors in the program are kept as findings."""
    case.own.island = 1
    with pytest.raises(CsiAuditError, match="island must be at least 2 particles; got 1"):
        method_figures(case, "calibrated SMC", NO_MAP, seed=0)

    def broken(*_: object, **__: object) -> Any:
        raise ValueError("shapes differ")

    monkeypatch.setattr(network_tilted, "fit_calibrated_twist", broken)
    with pytest.raises(ValueError, match="shapes differ"):
        method_figures(case, "calibrated SMC", NO_MAP, seed=0)
