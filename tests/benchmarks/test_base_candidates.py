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
from compressors.optimizers import OptimizerName
from compressors.plans import Plan
from csi_audit.configs import BASE_PLAN
from csi_audit.networks import NetworkSpec
from reports.estimates import ks_floor

pytestmark = pytest.mark.end_to_end


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
        assert row["evaluations_per_s_float32"] == round(3 * speeds[row["network"]])
        assert row["training_samples_per_s_bf16"] == round(speeds[row["network"]])
    assert found["checks"] == []
    assert found["sizes"] == {
        "seconds_each": 0.5,
        "base_samples": 8,
        "real_users": 60,
        "ks_of_a_perfect_model": round(ks_floor(8, 60).mean, 4),
    }


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
