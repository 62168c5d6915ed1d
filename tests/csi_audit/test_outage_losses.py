"""Outage losses against enumeration, gradients, their hard limits, and the weights made of them."""

import itertools
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels.network import CellNetwork
from channels.support import CsiAuditError
from csi_audit.outage_losses import (
    ExpectedOutageLoss,
    JointOutageLoss,
    OutageCountLoss,
    OutageWeight,
    ShortfallLoss,
)

NETWORK = CellNetwork(steepness=0.7)


def placements(n: int, n_users: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return 2 * torch.rand(n, n_users, 2, generator=generator, dtype=torch.float64) - 1


def losses(m: int = 2) -> list[Any]:
    return [
        ExpectedOutageLoss(NETWORK),
        JointOutageLoss(NETWORK, at_least=m),
        OutageCountLoss(NETWORK),
        ShortfallLoss(NETWORK, rank=m),
    ]


@pytest.mark.unit
@pytest.mark.parametrize("m", [1, 2, 4])
def test_joint_outage_is_the_sum_over_all_outcomes(m: int) -> None:
    x = placements(6, 4)
    out = 1 - NETWORK.served(x)
    truth = torch.zeros(6, dtype=torch.float64)
    for outcome in itertools.product((0, 1), repeat=4):
        if sum(outcome) >= m:
            b = torch.tensor(outcome)
            truth += torch.where(b == 1, out, 1 - out).prod(1)
    assert torch.allclose(JointOutageLoss(NETWORK, at_least=m)(x), truth)


@pytest.mark.unit
def test_expected_outage_is_the_mean_and_all_users_out_the_product() -> None:
    x = placements(5, 3)
    out = 1 - NETWORK.served(x)
    assert torch.allclose(ExpectedOutageLoss(NETWORK)(x), out.mean(1))
    assert torch.allclose(JointOutageLoss(NETWORK, at_least=3)(x), out.prod(1))


@pytest.mark.unit
def test_a_steep_network_makes_the_soft_losses_hard() -> None:
    x = placements(300, 6)
    steep = CellNetwork(steepness=1e7)
    count = OutageCountLoss(steep)(x)
    assert float(count.max()) >= 3
    assert torch.allclose(6 * ExpectedOutageLoss(steep)(x), count)
    for m in (1, 2, 3):
        beyond = (count >= m).double()
        assert torch.allclose(JointOutageLoss(steep, at_least=m)(x), beyond)
        assert torch.equal((ShortfallLoss(steep, rank=m)(x) > 0).double(), beyond)


@pytest.mark.unit
def test_shortfall_is_an_order_statistic() -> None:
    x = placements(4, 5)
    ordered = (NETWORK.threshold_db - NETWORK.sinr_db(x)).sort(1, descending=True).values
    for m in (1, 3, 5):
        assert torch.equal(ShortfallLoss(NETWORK, rank=m)(x), ordered[:, m - 1])
    assert ShortfallLoss(NETWORK).name == "worst_user_shortfall_db"


@pytest.mark.unit
def test_gradients_against_finite_differences() -> None:
    x = placements(3, 4).requires_grad_(True)
    for function in (
        ExpectedOutageLoss(NETWORK),
        JointOutageLoss(NETWORK, at_least=2).log,
        JointOutageLoss(NETWORK, at_least=4).log,
        ShortfallLoss(NETWORK, rank=2),
        OutageWeight(JointOutageLoss(NETWORK, at_least=2), floor=0.1, power=2.0).log_l,
    ):
        assert torch.autograd.gradcheck(function, x)


@pytest.mark.unit
def test_rare_outage_keeps_its_logarithm_and_gradient() -> None:
    """At the stations nobody is out: e^-200 or so, still told from the next place in float32."""
    steep = CellNetwork(steepness=5.0)
    users = steep.to_square(torch.tensor([[[0.0, 0.0], [100.0, 0.0], [50.0, 100.0], [1.0, 0.0]]]))
    x = users.requires_grad_(True)
    log = JointOutageLoss(steep, at_least=3).log(x)
    (gradient,) = torch.autograd.grad(log.sum(), x)
    assert -1000 < float(log.detach()) < -200
    assert bool(gradient.isfinite().all())
    assert float(gradient.abs().max()) > 0


@pytest.mark.unit
def test_all_is_defined_far_outside_the_square() -> None:
    x = (100 * placements(8, 4)).float()
    for loss in losses():
        assert bool(loss(x).isfinite().all()), loss.name
    weight = OutageWeight(JointOutageLoss(NETWORK, at_least=2))
    leaf = x.requires_grad_(True)
    (gradient,) = torch.autograd.grad(weight.log_l(leaf).sum(), leaf)
    assert bool(gradient.isfinite().all())


@pytest.mark.property
@given(seed=st.integers(0, 2**31), n_users=st.integers(2, 6))
def test_order_of_users_changes_nothing(seed: int, n_users: int) -> None:
    x = placements(3, n_users, seed)
    order = torch.randperm(n_users, generator=torch.Generator().manual_seed(seed))
    for loss in losses():
        assert torch.allclose(loss(x[:, order]), loss(x), rtol=1e-9), loss.name


@pytest.mark.unit
def test_weight_has_its_floor_and_power() -> None:
    x = placements(20, 4)
    loss = JointOutageLoss(NETWORK, at_least=2)
    weight = OutageWeight(loss, floor=0.05, power=1.5)
    assert torch.allclose(weight.log_l(x).exp(), 0.05 + 0.95 * loss(x) ** 1.5)
    assert float(weight.log_l(x).max()) <= 0


@pytest.mark.unit
def test_what_is_refused() -> None:
    with pytest.raises(CsiAuditError, match="at_least must be at least 1 user; got 0"):
        JointOutageLoss(NETWORK, at_least=0)
    with pytest.raises(CsiAuditError, match="rank must be at least 1 user; got 0"):
        ShortfallLoss(NETWORK, rank=0)
    x = placements(2, 3)
    with pytest.raises(CsiAuditError, match="at_least must be at most the 3 users of a placement"):
        JointOutageLoss(NETWORK, at_least=4)(x)
    with pytest.raises(CsiAuditError, match="rank must be at most the 3 users of a placement"):
        ShortfallLoss(NETWORK, rank=4)(x)
    with pytest.raises(CsiAuditError, match=r"must be \(N, n_users, 2\)"):
        ExpectedOutageLoss(NETWORK)(torch.zeros(2, 6))
    for floor in (0.0, 1.0):
        with pytest.raises(CsiAuditError, match=r"floor must lie in \(0, 1\), the top of l"):
            OutageWeight(ExpectedOutageLoss(NETWORK), floor=floor)
    with pytest.raises(CsiAuditError, match="power must be finite and above 0; got nan"):
        OutageWeight(ExpectedOutageLoss(NETWORK), power=math.nan)
