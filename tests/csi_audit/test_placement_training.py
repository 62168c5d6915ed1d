"""Training of a base law of placements: its loss against closed forms, and exact repeats."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from channels.placements import HotspotUsers, UniformUsers
from channels.support import CsiAuditError
from compressors.plans import Plan
from csi_audit.denoising_training import NoiseRange, training_levels
from csi_audit.placement_network import UserNetworkSpec
from csi_audit.placement_training import (
    PLACEMENT_LEVELS,
    PlacementModule,
    PlacementRecipe,
    describe_placement_recipe,
    fit_placement_base,
    turn_square,
    user_variance,
)

SMALL = UserNetworkSpec(width=8, hidden=16, depth=1, heads=2)
PLAN = Plan(steps=4, block_steps=2, batch_size=16, warmup_steps=1)
RECIPE = PlacementRecipe(network=SMALL, plan=PLAN, n_train=200, n_validation=40)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.unit
def test_the_loss_of_the_wiener_filter_is_one() -> None:
    """On Gaussian coordinates it is the optimum, and the untrained network is the filter."""
    recipe = replace(RECIPE, network=replace(SMALL, around="gaussian"))
    x = 0.6 * torch.randn(4000, 3, 2, generator=seeded())
    module = PlacementModule(recipe, torch.full((3, 2), 0.36), 6.0).requires_grad_(False)
    assert float(module.loss(x, generator=seeded(1))) == pytest.approx(1, abs=0.03)
    value = module.validation_loss(x, generator=seeded(2))["loss"]
    each = torch.stack([value[i :: len(PLACEMENT_LEVELS)].mean() for i in range(9)])
    assert float((each - 1).abs().max()) < 0.15


@pytest.mark.unit
def test_the_box_is_better_than_the_filter_on_a_uniform_law() -> None:
    """It is the posterior mean, so nothing errs less; the filter errs as its formula says."""
    x = UniformUsers(n_users=2).draw(20_000, generator=seeded())
    found = {}
    for around in ("box", "gaussian"):
        recipe = replace(RECIPE, network=replace(SMALL, around=around))
        module = PlacementModule(recipe, torch.full((2, 2), 1 / 3), 6.0).requires_grad_(False)
        level = torch.full((20_000,), 0.3)
        found[around] = module.denoised(x, level, generator=seeded(1))[1].mean()
    assert float(found["gaussian"]) == pytest.approx(1, abs=0.02)
    assert float(found["box"]) < 0.95


@pytest.mark.unit
def test_training_levels_fill_their_range() -> None:
    noise = NoiseRange(mean=-1.5, deviation=1.4, sigma_min=0.01)
    sigma = training_levels(1000, noise, 2.0, generator=seeded())
    assert float(sigma.min()) >= 0.008 - 1e-6
    assert float(sigma.max()) <= 2.4 + 1e-6
    assert float(sigma.log().median()) == pytest.approx(-1.5, abs=0.01)


@pytest.mark.unit
def test_turn_square_draws_the_eight_symmetries() -> None:
    x = torch.tensor([[[0.1, 0.5], [-0.3, 0.2]]]).repeat(4000, 1, 1)
    turned = turn_square(x, generator=seeded())
    kinds, counts = turned.flatten(1).unique(dim=0, return_counts=True)
    assert len(kinds) == 8
    assert int(counts.min()) > 400
    for kind in kinds.view(-1, 2, 2):  # distances between users stay
        assert float((kind[0] - kind[1]).norm()) == pytest.approx(0.5, abs=1e-6)


@pytest.mark.unit
def test_user_variance_pools_users_and_coordinates() -> None:
    x = torch.randn(2000, 3, 2, generator=seeded()) * torch.tensor([0.2, 0.6])
    apart = user_variance(x, symmetric=False)
    assert apart.shape == (3, 2)
    assert torch.equal(apart[0], apart[2])
    assert torch.allclose(apart[0], torch.tensor([0.04, 0.36]), rtol=0.1)
    assert torch.allclose(user_variance(x, symmetric=True), torch.tensor(0.2), rtol=0.1)


@pytest.mark.unit
def test_fit_placement_base_writes_a_base_and_repeats_it(
    tmp_path: Path, seeded_torch: None
) -> None:
    law = HotspotUsers(n_users=3)
    base = fit_placement_base(
        law, folder=tmp_path / "b", recipe=RECIPE, device="cpu", progress=False
    )
    assert base.event_shape == (3, 2)
    assert "HotspotUsers(n_users=3" in base.card["law"]
    assert [row[0] for row in base.card["curve"]] == [2, 4]
    path = tmp_path / "b" / "base.safetensors"
    before = path.read_bytes()
    fit_placement_base(law, folder=tmp_path / "b", recipe=RECIPE, device="cpu", progress=False)
    assert path.read_bytes() == before
    other = HotspotUsers(n_users=3, spread=0.2)
    with pytest.raises(CsiAuditError, match=r"law.*HotspotUsers"):
        fit_placement_base(other, folder=tmp_path / "b", recipe=RECIPE, progress=False)
    with pytest.raises(CsiAuditError, match="n_train must be at least 1; got 0"):
        PlacementRecipe(n_train=0)


class OwnUsers:
    """A user's plain class: it prints its place in memory."""

    name = "own"

    def __init__(self, n_users: int, reach: float) -> None:
        self.n_users, self.reach = n_users, reach

    def draw(self, n: int, *, generator: torch.Generator) -> torch.Tensor:
        return self.reach * (2 * torch.rand(n, self.n_users, 2, generator=generator) - 1)


@pytest.mark.unit
def test_a_plain_law_is_told_by_its_name_and_values() -> None:
    """The same in another process, where it lies elsewhere; other values are another law."""
    laws = [OwnUsers(2, 0.5), OwnUsers(2, 0.5), OwnUsers(2, 0.7)]
    first, same, other = (describe_placement_recipe(law, RECIPE)["law"] for law in laws)
    assert first == same == "OwnUsers(n_users=2, reach=0.5)"
    assert first != other
    law = UniformUsers(n_users=2)
    assert describe_placement_recipe(law, RECIPE)["law"] == "UniformUsers(n_users=2)"
