"""Weights between two ends: the line, its figures, and what is chosen on it."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from channels import audit_space, load_channels
from channels.sample import sample_path
from compressors import load_compressor, nmse
from compressors.audit_space import in_audit_space
from compressors.neural import CompressorNetwork
from compressors.weight_mixing import (
    SHARES,
    MixedWeights,
    between,
    chosen_share,
    mixed_weights,
    own_nmse,
)
from reports.comparison_estimates import paired_mean_db

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def x() -> Tensor:
    return audit_space(load_channels(sample_path()).subset(slice(0, 40)))


@pytest.fixture(scope="module")
def net() -> CompressorNetwork:
    found = load_compressor("crnet-64").compressor
    assert isinstance(found, CompressorNetwork)
    return found


def damaged(net: CompressorNetwork, by: float) -> CompressorNetwork:
    """A copy with noise on every weight matrix, `by` times its deviation."""
    copy, generator = deepcopy(net), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in copy.parameters():
            if p.ndim == 2:
                p.add_(by * p.std() * torch.randn(p.shape, generator=generator))
    return copy


def step(share: float, worst_db: float, *, allowed: bool = True) -> MixedWeights:
    return MixedWeights(share=share, mean_db=0.0, most_db=0.0, worst_db=worst_db, allowed=allowed)


def test_ends_are_exact_and_the_middle_is_between() -> None:
    before = {"w": torch.tensor([1.0, 2.0]), "n": torch.tensor(3)}
    after = {"w": torch.tensor([2.0, -2.0]), "n": torch.tensor(5)}
    assert torch.equal(between(before, after, 0.0)["w"], before["w"])
    assert torch.equal(between(before, after, 1.0)["w"], after["w"])
    assert between(before, after, 0.25)["w"].tolist() == [1.25, 1.0]
    assert [int(between(before, after, a)["n"]) for a in (0.0, 0.4, 0.6, 1.0)] == [3, 3, 5, 5]


def test_figures_are_those_of_the_mixed_network(net: CompressorNetwork, x: Tensor) -> None:
    before, after = damaged(net, 0.2), net.state_dict()
    steps = mixed_weights(deepcopy(net), before, after, x, 0.1)
    assert [s.share for s in steps] == list(SHARES)
    assert (steps[0].mean_db, steps[0].most_db, steps[0].worst_db) == (0.0, 0.0, 0.0)
    old, new = own_nmse(before, x), own_nmse(net, x)
    paired = paired_mean_db(new.numpy(), old.numpy())
    assert paired.std_error is not None
    assert steps[-1].mean_db == pytest.approx(paired.value, abs=1e-6)
    assert steps[-1].most_db == pytest.approx(paired.value + 2 * paired.std_error, abs=1e-6)
    worst = old.sort().values[-2:].mean(), new.sort().values[-2:].mean()
    assert steps[-1].worst_db == pytest.approx(float(10 * (worst[1] / worst[0]).log10()), abs=1e-6)


def test_a_better_end_is_taken_and_a_worse_one_is_not(net: CompressorNetwork, x: Tensor) -> None:
    """Both ways, so that a rule that always takes one end fails."""
    worse = damaged(net, 0.5)
    repaired = mixed_weights(deepcopy(net), worse, net.state_dict(), x, 0.1)
    assert chosen_share(repaired) >= 0.8
    ruined = mixed_weights(deepcopy(net), net, worse.state_dict(), x, 0.1)
    assert chosen_share(ruined) == 0.0
    assert not ruined[-1].allowed


def test_the_bound_on_the_mean_decides(net: CompressorNetwork, x: Tensor) -> None:
    """The same weights under two bounds; a rule that looks at the tail alone would not move."""
    tail = own_nmse(net, x).topk(8).indices
    copy = damaged(net, 0.05)
    tight = mixed_weights(deepcopy(net), net, copy.state_dict(), x[tail], 0.0)
    loose = mixed_weights(deepcopy(net), net, copy.state_dict(), x[tail], 3.0)
    assert [s.mean_db for s in tight] == [s.mean_db for s in loose]
    assert [s.allowed for s in tight] == [s.share == 0 or s.most_db <= 0.0 for s in tight]
    assert all(s.allowed for s in loose)
    assert not all(s.allowed for s in tight)


def test_the_best_allowed_tail_is_chosen() -> None:
    steps = [step(0.0, 0.0), step(0.5, -0.2), step(0.8, -0.3), step(1.0, -0.9, allowed=False)]
    assert chosen_share(steps) == 0.8
    assert chosen_share([step(0.0, 0.0), step(1.0, 0.1)]) == 0.0


def test_own_nmse_is_the_metric_of_the_audit(net: CompressorNetwork, x: Tensor) -> None:
    with torch.inference_mode():
        expected = nmse(x, in_audit_space(net.eval())(x))
    assert torch.allclose(own_nmse(net, x), expected)
