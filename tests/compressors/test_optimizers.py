"""The optimizers of the harness: who moves what, and a resume that changes nothing."""

import io

import pytest
import torch
from torch import Tensor, nn

from channels.randomness import seeded_generator
from compressors.optimizers import (
    ADAMW_SHARE,
    MuonWithAdamW,
    OptimizerName,
    build_optimizer,
)

WIDE = 2  # of the parameters: the one matrix both sides of which are wide


@pytest.fixture
def network(seeded_torch: None) -> nn.Module:
    return nn.Sequential(
        nn.Linear(8, 64), nn.SiLU(), nn.Linear(64, 96), nn.SiLU(), nn.Linear(96, 2)
    )


def trained(
    network: nn.Module, optimizer: torch.optim.Optimizer, steps: range, *, halve_from: int = 99
) -> list[float]:
    """Fit a fixed map; batches belong to steps. The rate halves at one step, as schedules do."""
    losses = []
    for step in steps:
        if step == halve_from:
            for group in optimizer.param_groups:
                group["lr"] *= 0.5
        x = torch.randn(32, 8, generator=seeded_generator(0, "batch", step))
        loss = (network(x) - x[:, :2].sin()).square().mean()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    return losses


def weights(network: nn.Module) -> list[Tensor]:
    return [p.detach().clone() for p in network.parameters()]


@pytest.mark.unit
def test_muon_moves_the_wide_matrices_alone(network: nn.Module) -> None:
    optimizer = MuonWithAdamW(network, 0.01)
    muon, adamw = optimizer.parts
    assert [p.shape for p in muon.param_groups[0]["params"]] == [(96, 64)]
    assert len(adamw.param_groups[0]["params"]) == 5
    rates = [group["lr"] for group in optimizer.param_groups]
    assert rates == [0.01, ADAMW_SHARE * 0.01]


@pytest.mark.unit
def test_a_step_of_muon_is_along_an_orthogonal_matrix(network: nn.Module) -> None:
    """The leading singular values of the step are alike; those of AdamW's are not."""
    spreads = {}
    names: list[OptimizerName] = ["muon", "adamw"]
    for name in names:
        before = weights(network)[WIDE]
        trained(network, build_optimizer(name, network, 1e-3), range(1))
        singular = torch.linalg.svdvals(weights(network)[WIDE] - before)
        spreads[name] = float(singular[0] / singular[4])
    assert spreads["muon"] < 2 < spreads["adamw"]


@pytest.mark.unit
def test_all_parameters_move_and_the_loss_falls(network: nn.Module) -> None:
    before = weights(network)
    losses = trained(network, MuonWithAdamW(network, 0.01), range(60))
    assert losses[-1] < 0.3 * losses[0]
    assert not any(torch.equal(a, b) for a, b in zip(before, weights(network), strict=True))


@pytest.mark.unit
def test_a_rate_written_into_the_groups_reaches_both_parts(network: nn.Module) -> None:
    optimizer = MuonWithAdamW(network, 0.01)
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    before = weights(network)
    trained(network, optimizer, range(1))
    assert all(torch.equal(a, b) for a, b in zip(before, weights(network), strict=True))


@pytest.mark.unit
@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_resume_ends_equal(name: OptimizerName, network: nn.Module) -> None:
    start = {key: value.clone() for key, value in network.state_dict().items()}
    whole = build_optimizer(name, network, 0.01)
    trained(network, whole, range(8), halve_from=6)
    wanted = weights(network)

    network.load_state_dict(start)
    first = build_optimizer(name, network, 0.01)
    trained(network, first, range(4))
    kept = io.BytesIO()
    torch.save(first.state_dict(), kept)
    kept.seek(0)
    resumed = build_optimizer(name, network, 0.01)
    resumed.load_state_dict(torch.load(kept, weights_only=True))
    trained(network, resumed, range(4, 8), halve_from=6)
    assert all(torch.equal(a, b) for a, b in zip(wanted, weights(network), strict=True))


@pytest.mark.unit
def test_a_network_without_wide_matrices_is_adamw_s(seeded_torch: None) -> None:
    optimizer = MuonWithAdamW(nn.Conv2d(2, 2, 3), 0.01)
    assert [type(part) for part in optimizer.parts] == [torch.optim.AdamW]
