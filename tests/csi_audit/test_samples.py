"""Weighted samples: one weight a sample, no NaN, and -inf legal."""

import pytest
import torch

from csi_audit.samples import WeightedSamples


def make(log_w: list[float], n: int = 3) -> WeightedSamples:
    return WeightedSamples(
        x=torch.zeros(n, 2),
        log_w=torch.tensor(log_w, dtype=torch.float64),
        law="target",
        chain="by hand",
        n_evaluations=7,
    )


@pytest.mark.unit
def test_particles_of_no_weight_are_legal() -> None:
    samples = make([0.0, -float("inf"), 1.0])
    assert len(samples) == 3
    assert (samples.tau, samples.log_z) == (None, None)


@pytest.mark.unit
def test_moved_keeps_all_but_x() -> None:
    samples = make([0.0, 1.0, 2.0])
    moved = samples.moved(samples.x + 1)
    assert torch.equal(moved.x, torch.ones(3, 2))
    assert torch.equal(moved.log_w, samples.log_w)
    assert (moved.law, moved.chain, moved.n_evaluations) == ("target", "by hand", 7)
    with pytest.raises(ValueError, match=r"log_w must be \(2,\), one weight a sample; got \(3,\)"):
        samples.moved(samples.x[:2])


@pytest.mark.unit
def test_weights_that_are_refused() -> None:
    with pytest.raises(ValueError, match=r"log_w must not be NaN; sample 1 is\. -inf is legal"):
        make([0.0, float("nan"), float("nan")])
    with pytest.raises(ValueError, match=r"log_w must be \(3,\), one weight a sample; got \(2,\)"):
        make([0.0, 0.0])
