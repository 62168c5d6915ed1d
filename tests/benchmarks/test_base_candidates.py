"""The benchmark that chose the network, at toy size."""

import dataclasses
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import pytest
import torch

from benchmarks import base_candidates
from benchmarks.base_candidates import Candidate
from channels import audit_space, load_channels, stack_real
from channels.sample import sample_path
from compressors.optimizers import OptimizerName
from compressors.plans import Plan
from csi_audit.configs import BASE_PLAN
from csi_audit.networks import NetworkSpec
from reports.estimates import ks_floor


@pytest.mark.end_to_end
@pytest.mark.usefixtures("seeded_torch")
def test_each_candidate_is_trained_for_the_same_time(
    start: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches of 4, blocks of one step; the pretended speeds give 2, 3 and 4 steps."""
    speeds = {"axial_mixer": 10.0, "tap_transformer": 768.0, "unet": 1024.0}

    def rate(
        network: NetworkSpec, x: torch.Tensor, *, bf16: bool, train: OptimizerName | None = None
    ) -> float:
        return speeds[network.name] * (1 if train else 3)

    monkeypatch.setattr(base_candidates, "_rate", rate)
    monkeypatch.setattr(base_candidates, "BLOCK_STEPS", 1)
    monkeypatch.setattr(base_candidates, "Plan", partial(Plan, batch_size=4))
    sizes = ["--seconds", "0.5", "--samples", "8", "--steps", "2"]
    sizes += ["--changes", "AdamW, even weights", "tap_transformer", "unet"]
    found = start(base_candidates.main, "base_candidates", *sizes)
    rows = found["rows"]
    assert [row["network"] for row in rows] == list(speeds)
    assert [row["optimizer"] for row in rows] == ["adamw", "muon", "adamw"]
    assert [row["weighting"] for row in rows] == ["even", "forecast", "forecast"]
    assert [row["steps"] for row in rows] == [2, 3, 4]
    for row in rows:
        assert row["parameters"] > 1e5
        assert row["validation_loss"] > 0
        assert 0 < row["ks_klt_distortion"] <= 1
        assert 0 < row["ks_features"] <= 1
        assert row["evaluations_per_s_float32"] == round(3 * speeds[row["network"]])
        assert row["training_samples_per_s_bf16"] == round(speeds[row["network"]])
    assert found["checks"] == []
    assert found["sizes"] == {
        "seconds_each": 0.5,
        "base_samples": 8,
        "real_users": 60,
        "ks_of_a_perfect_model": round(ks_floor(8, 60).mean, 4),
    }


@pytest.mark.unit
@pytest.mark.usefixtures("seeded_torch")
@pytest.mark.parametrize("train", ["muon", "adamw", None])
def test_rate_counts_samples_a_second(
    train: OptimizerName | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clock that ticks once a look: five batches of 128 in four seconds."""
    ticks = count()
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(ticks)))
    x = torch.ones(128, 2, 8, 8)
    found = base_candidates._rate(NetworkSpec(), x, train=train, bf16=False)
    assert found == pytest.approx(128 * 5 / 4)


@pytest.mark.unit
def test_each_candidate_changes_something_else() -> None:
    recipes = [dataclasses.replace(c, change="") for c in base_candidates.CANDIDATES]
    assert len(set(recipes)) == len(recipes)
    first = base_candidates.CANDIDATES[0]
    assert (first.change, first.network) == ("none", NetworkSpec())
    assert (first.optimizer, first.learning_rate) == (BASE_PLAN.optimizer, BASE_PLAN.learning_rate)


@pytest.mark.unit
def test_a_candidate_sees_the_same_users_in_its_domain() -> None:
    """What it is trained on comes back as the users' audit space; only mirroring is lost."""
    users = load_channels(sample_path()).subset(slice(0, 20))
    x = audit_space(users)
    assert torch.equal(audit_space(Candidate(change="").seen(users)), x)
    for domain in ("angular-delay", "antenna-frequency"):
        candidate = Candidate(change="", mirrored=False, domain=domain)
        seen = candidate.seen(users)
        assert not seen.grid.is_ula
        torch.testing.assert_close(candidate.drawn(audit_space(seen)), x, rtol=0, atol=1e-4)
    torch.testing.assert_close(audit_space(seen), stack_real(users.h), rtol=0, atol=1e-4)


@pytest.mark.end_to_end
@pytest.mark.usefixtures("seeded_torch")
@pytest.mark.parametrize("change", ["one variance", "antenna-frequency, not mirrored"])
def test_candidates_beyond_the_network_are_trained_too(
    change: str, start: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_candidates, "_rate", lambda *_, **__: 10.0)
    monkeypatch.setattr(base_candidates, "BLOCK_STEPS", 1)
    monkeypatch.setattr(base_candidates, "Plan", partial(Plan, batch_size=4))
    sizes = ["--seconds", "0.5", "--samples", "8", "--steps", "2", "--changes", change]
    (row,) = start(base_candidates.main, "base_candidates", *sizes)["rows"]
    assert row["change"] == change
    assert 0 < row["ks_klt_distortion"] <= 1
