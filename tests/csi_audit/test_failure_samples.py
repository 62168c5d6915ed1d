"""Samples of the failure law out of the levels of subset simulation, against an exact tail."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch
from scipy import special, stats
from torch import Tensor

from channels import CsiAuditError
from csi_audit.deeper import FailureSample
from csi_audit.failure_samples import _descended, _thinned, failure_sample
from csi_audit.noise_map import IdentityMap
from csi_audit.run_state import BlockStore
from csi_audit.subset_simulation import SubsetSimulation
from csi_audit.tail import Budget, ReplicatedTail, Worse

A = torch.tensor([0.6, 0.8])
RUNS = 4


class Plane:
    """A linear loss of white noise in two dimensions, one deviation a unit."""

    name, unit = "plane", "1"

    def __init__(self, worse: Literal["high", "low"] = "high") -> None:
        self.worse = worse

    def __call__(self, x: Tensor) -> Tensor:
        return x @ A


def level(p: float) -> float:
    """Loss that a plane exceeds with probability p."""
    return -float(special.ndtri(p))


def made(
    folder: Path, seed: int, *, worse: Worse = "high", particles: int = 200
) -> tuple[BlockStore, ReplicatedTail]:
    store = BlockStore(folder / f"{worse}-{seed}")
    method = SubsetSimulation(IdentityMap((2,)), particles=particles, deepest=1e-3, kept=0)
    curve, _ = method.tail(Plane(worse), budget=Budget(runs=RUNS), seed=seed, name="s", store=store)
    return store, curve


def taken(store: BlockStore, p: float, *, worse: Worse = "high", most: int = 400) -> FailureSample:
    tau = level(p) if worse == "high" else -level(p)
    return failure_sample(
        store, RUNS, tau=tau, worse=worse, name="s", seed=0, noise_map=IdentityMap((2,)), most=most
    )


@pytest.mark.statistical
def test_weighted_samples_have_the_mean_loss_of_the_failure_law(tmp_path: Path) -> None:
    """P = 3 %, so two levels share it; without their weights the deeper one counts too much."""
    p, found, unweighted, across, p_found = 0.03, [], [], [], []
    tau = level(p)
    truth = float(stats.norm.pdf(tau)) / p
    aside = torch.tensor([0.8, -0.6])
    for seed in range(40):
        store, _ = made(tmp_path, seed)
        sample = taken(store, p)
        loss = Plane()(sample.samples.x).double()
        assert bool((loss > tau).all())
        w = sample.samples.log_w.exp()
        found.append(float((w @ loss) / w.sum()))
        unweighted.append(float(loss.mean()))
        across.append(float((w @ (sample.samples.x @ aside).double()) / w.sum()))
        p_found.append(float(w.sum()) / RUNS)
    t = stats.t.isf(5e-7, len(found) - 1)
    for values, exact in ((found, truth), (across, 0.0), (p_found, p)):
        error = t * np.std(values, ddof=1) / math.sqrt(len(values))
        assert abs(np.mean(values) - exact) < error
    shift = abs(np.mean(unweighted) - truth)
    assert t * np.std(found, ddof=1) / math.sqrt(len(found)) < shift / 3
    assert shift > t * np.std(unweighted, ddof=1) / math.sqrt(len(found))  # the mutant


@pytest.mark.unit
def test_low_losses_may_be_the_bad_ones(tmp_path: Path) -> None:
    store, _ = made(tmp_path, 0, worse="low")
    sample = taken(store, 0.01, worse="low")
    assert len(sample) > 20
    assert float(Plane()(sample.samples.x).max()) < -level(0.01)
    assert sample.samples.tau == -level(0.01)


@pytest.mark.unit
def test_families_are_first_draws(tmp_path: Path) -> None:
    store, _ = made(tmp_path, 1)
    deep = taken(store, 2e-3)
    assert deep.run.max() < RUNS * 200
    assert 5 < len(np.unique(deep.run)) < len(deep)
    assert deep.effective_runs <= len(np.unique(deep.run)) + 1e-9
    with pytest.raises(CsiAuditError, match="holds samples beyond another threshold than 2"):
        taken(store, 0.01)


@pytest.mark.unit
def test_descent_follows_the_chains() -> None:
    """Seeds 30, 10, 20 begin chains 0, 1, 2 of a level of seven particles."""
    found = _descended(np.array([7, 8, 9]), np.array([10.0, 20.0, 30.0]),
                       np.array([30.0, 10.0, 20.0, 31.0, 10.0, 25.0, 32.0]))  # fmt: skip
    assert found.tolist() == [9, 7, 8, 9, 7, 8, 9]


@pytest.mark.unit
def test_thinning_keeps_the_mass(tmp_path: Path) -> None:
    mass = np.concatenate([np.full(50, 1.0), np.full(50, 0.1)])
    rows, times = _thinned(mass, 20, torch.Generator().manual_seed(0))
    assert times.sum() == 20
    assert (rows < 50).sum() == pytest.approx(18, abs=1)  # 50 of 55
    store, _ = made(tmp_path, 2)
    whole, few = taken(store, 0.02), taken(made(tmp_path, 3)[0], 0.02, most=15)
    assert len(few) <= 15 < len(whole)
    assert few.samples.n_evaluations == len(few)
    sums = [float(s.samples.log_w.exp().sum()) / RUNS for s in (whole, few)]
    assert sums == pytest.approx([0.02, 0.02], rel=0.5)


@pytest.mark.unit
def test_what_no_level_kept_gives_no_sample(tmp_path: Path) -> None:
    """Below the first level's end not all of what lies beyond was kept; beyond all, none is."""
    for number, p in enumerate((0.5, 1e-9)):
        store, _ = made(tmp_path, 10 + number)
        sample = taken(store, p)
        assert len(sample) == 0
        assert sample.effective_runs == 0


@pytest.mark.unit
def test_a_second_call_reads_what_the_first_made(tmp_path: Path) -> None:
    store, _ = made(tmp_path, 4)
    first = taken(store, 0.01)
    again = failure_sample(store, RUNS, tau=level(0.01), worse="high", name="s", seed=5,
                           noise_map=IdentityMap((3,)))  # fmt: skip
    assert torch.equal(first.samples.x, again.samples.x)
    store.path("s-000", 1).unlink()
    store.path("s-failures", 0).unlink()
    with pytest.raises(CsiAuditError, match=r"s-000-0001\.npz is missing: the run did not finish"):
        taken(store, 0.01)
