"""A base that begins with another: what it keeps, what it is held against, what is refused."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from channels import ChannelSet, CsiAuditError, Grid, audit_space
from compressors.plans import Plan
from csi_audit.adaptation_training import ADAPTING, Yardstick, adapt_base
from csi_audit.base import Base, coefficient_variance, load_base
from csi_audit.base_training import BaseRecipe, base_module, fit_base
from csi_audit.diffusion import GaussianDenoiser, PreconditionedDenoiser
from csi_audit.networks import NetworkSpec

pytestmark = pytest.mark.unit

SMALL = NetworkSpec(options=(("channels", 4), ("hidden", 16), ("depth", 2)))
PLAN = Plan(steps=4, block_steps=2, batch_size=16, warmup_steps=1)
RECIPE = BaseRecipe(network=SMALL, plan=PLAN, fidelity_samples=16)


@pytest.fixture
def start(tmp_path: Path, draw_users: Callable[..., ChannelSet], seeded_torch: None) -> Base:
    """A base of eight delay taps alike, from which the new law departs."""
    return fit_base(
        flatter(draw_users(60, seed=8)),
        flatter(draw_users(20, seed=9)),
        folder=tmp_path / "start",
        recipe=RECIPE,
        device="cpu",
        progress=False,
    )


def flatter(users: ChannelSet) -> ChannelSet:
    """The same array with other statistics: all subcarriers independent."""
    generator = torch.Generator().manual_seed(len(users))
    h = torch.randn(users.h.shape, dtype=torch.complex64, generator=generator)
    h = h / h.abs().square().mean((1, 2, 3), keepdim=True).sqrt()
    return replace(users, h=h)


def test_adapted_beside_scratch(
    tmp_path: Path, draw_users: Callable[..., ChannelSet], start: Base
) -> None:
    users, held = draw_users(50, seed=1), draw_users(30, seed=2)

    def go() -> tuple[Base, list[tuple[str, float]]]:
        base, figures = adapt_base(
            users,
            held,
            start=start,
            folder=tmp_path / "b",
            recipe=RECIPE,
            device="cpu",
            progress=False,
        )
        assert all(row.fidelity is not None for row in figures)
        assert [row.steps for row in figures] == [None, PLAN.steps, PLAN.steps]
        return base, [(row.name, row.validation_loss) for row in figures]

    base, figures = go()
    assert [name for name, _ in figures] == ["as it was", "adapted", "from scratch"]
    scratch = load_base(tmp_path / "b" / "scratch" / "base.safetensors")
    assert base.network == scratch.network == SMALL
    assert base.card["plan"]["learning_rate"] == ADAPTING * PLAN.learning_rate
    assert scratch.card["plan"]["learning_rate"] == PLAN.learning_rate
    assert base.card["adapted_from"]["sha256"] == start.sha256
    assert "adapted_from" not in scratch.card
    losses = dict(figures)
    for made, name in ((base, "adapted"), (scratch, "from scratch")):  # but for float16
        assert losses[name] == pytest.approx(made.card["validation_loss"], rel=1e-3)
    before = (tmp_path / "b" / "base.safetensors").read_bytes()
    assert go()[1] == figures
    assert (tmp_path / "b" / "base.safetensors").read_bytes() == before


def test_it_keeps_the_variances_of_its_network_and_samples_by_those_of_the_law(
    tmp_path: Path, draw_users: Callable[..., ChannelSet], start: Base
) -> None:
    users = draw_users(50, seed=1)
    variance = coefficient_variance(audit_space(users))
    base, figures = adapt_base(
        users,
        draw_users(30, seed=2),
        start=start,
        folder=tmp_path / "b",
        recipe=RECIPE,
        learning_rate=1e-12,  # taken as it is
        scratch=False,
        device="cpu",
        progress=False,
    )
    assert len(figures) == 2
    assert base.card["plan"]["learning_rate"] == 1e-12
    assert isinstance(base.denoiser, PreconditionedDenoiser)
    assert torch.equal(base.denoiser.variance, start.variance)
    assert torch.equal(base.variance, variance)
    assert not torch.allclose(base.variance, start.variance, rtol=0.1)
    x = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(base.denoiser(x, 0.5), start.denoiser(x, 0.5), atol=1e-5)
    assert figures[0].validation_loss == pytest.approx(figures[1].validation_loss, rel=1e-3)
    assert not any(p.requires_grad for p in start.denoiser.parameters())  # type: ignore[attr-defined]


def test_one_scale_for_all_losses(draw_users: Callable[..., ChannelSet], start: Base) -> None:
    """The loss of the filter of the NEW variances is 1 on the yardstick, not that of the old."""
    users = draw_users(400, seed=1)
    measure = Yardstick(users, draw_users(400, seed=2), RECIPE)
    module = base_module(RECIPE, users, measure.x, measure.held, None)
    assert isinstance(module.network, PreconditionedDenoiser)
    fresh = replace(start, denoiser=module.network)
    assert measure("wiener", fresh).validation_loss == pytest.approx(1.0, abs=0.1)
    assert measure("old", start).validation_loss > 1.1


def test_bases_that_cannot_be_adapted(
    tmp_path: Path, draw_users: Callable[..., ChannelSet], start: Base
) -> None:
    users = draw_users(20)
    closed = Base(
        denoiser=GaussianDenoiser(torch.zeros(2, 8, 8), torch.ones(2, 8, 8)),
        variance=torch.ones(2, 8, 8),
        sigma_min=0.01,
        sigma_max=9.0,
        grid=Grid(carrier_hz=None, bandwidth_hz=None, n_sub=8),
    )
    cases = [
        (closed, users, r"must be one that fit-base made; got a GaussianDenoiser\. Train the"),
        (replace(start, network=None), users, r"must know its network\. Load it from its file"),
        (start, draw_users(20, n_tx=4), r"holds channels of 1 receive x 4 transmit antennas"),
    ]
    for other, channels, message in cases:
        with pytest.raises(CsiAuditError, match=message):
            fit_base(
                channels, channels, folder=tmp_path / "b", recipe=RECIPE, start=other, device="cpu"
            )
    assert not (tmp_path / "b").exists()
