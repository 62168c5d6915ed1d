"""The denoiser of placements: closed forms, exchangeability, and the file it is kept in."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels.support import CsiAuditError
from csi_audit.placement_base import (
    build_placement_denoiser,
    load_placement_base,
    save_placement_base,
)
from csi_audit.placement_network import PlacementDenoiser, UserNetworkSpec, box_mean

SMALL = UserNetworkSpec(width=8, hidden=16, depth=2, heads=2)


def denoiser(n_users: int, *, live: bool = True, around: str = "box") -> PlacementDenoiser:
    """With weights that differ from zero everywhere, if live."""
    spec = UserNetworkSpec(width=8, hidden=16, depth=2, heads=2, around=around)  # type: ignore[arg-type]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = build_placement_denoiser(spec, torch.full((n_users, 2), 1 / 3))
        for p in made.parameters() if live else ():
            torch.nn.init.normal_(p, std=0.3)
    return made.requires_grad_(False)


@pytest.mark.unit
@pytest.mark.parametrize("sigma", [0.05, 0.5, 5.0])
def test_box_mean_is_the_posterior_mean_of_a_uniform_law(sigma: float) -> None:
    u = (2 * np.arange(400_000) + 1) / 400_000 - 1  # midpoints
    for x in (-1.3, -0.99, -0.2, 0.7, 1.05, 2.0):
        exponent = -0.5 * ((x - u) / sigma) ** 2
        weight = np.exp(exponent - exponent.max())
        found = float(box_mean(torch.tensor([[x]], dtype=torch.float64), sigma))
        assert found == pytest.approx(float((u * weight).sum() / weight.sum()), abs=1e-7)


@pytest.mark.unit
def test_box_mean_at_its_ends() -> None:
    """Far outside it is the edge, at no noise the place itself, at much noise the centre."""
    far = box_mean(torch.tensor([[300.0], [-300.0]]), 0.01)
    assert torch.allclose(far, torch.tensor([[1.0], [-1.0]]))
    x = torch.tensor([[0.5]], dtype=torch.float64)
    assert float(box_mean(x, 1e-3)) == pytest.approx(0.5)
    assert float(box_mean(x, 100.0)) == pytest.approx(0.5 / (3 * 100**2), rel=1e-3)
    leaf = torch.tensor([[0.3, 1.4, -2.0]], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda y: box_mean(y, 0.3), leaf)


@pytest.mark.property
@given(seed=st.integers(0, 2**31), n_users=st.integers(1, 5), sigma=st.floats(0.01, 5))
def test_denoising_commutes_with_the_order_of_users(seed: int, n_users: int, sigma: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(3, n_users, 2, generator=generator)
    order = torch.randperm(n_users, generator=generator)
    made = denoiser(n_users)
    assert torch.allclose(made(x, sigma)[:, order], made(x[:, order], sigma), atol=1e-5)


@pytest.mark.unit
def test_users_see_each_other_and_samples_do_not() -> None:
    x = torch.randn(2, 3, 2, generator=torch.Generator().manual_seed(0))
    made = denoiser(3)
    moved = x.clone()
    moved[0, 2] += 0.5
    before, after = made(x, 0.5), made(moved, 0.5)
    assert float((after[0, 0] - before[0, 0]).abs().max()) > 1e-4
    assert torch.equal(after[1], before[1])
    levels = torch.tensor([0.1, 2.0])
    each = torch.cat([made(x[i : i + 1], float(s)) for i, s in enumerate(levels)])
    assert torch.allclose(made(x, levels), each, atol=1e-6)


@pytest.mark.unit
@pytest.mark.parametrize("sigma", [0.3, 5.0])
def test_no_jump_at_the_centre_lines(sigma: float) -> None:
    """At much noise the box mean is near 0 for all, so a jump there would be met by every user."""
    made = denoiser(2)
    x = torch.tensor([[[0.0, 0.4], [-0.7, 0.0]]])
    step = 1e-3 * (x == 0)
    shift = (made(x + step, sigma) - made(x - step, sigma)).abs().max()
    aside = (made(x + 3 * step, sigma) - made(x + step, sigma)).abs().max()
    assert 0 < float(shift) < 1.5 * float(aside)


@pytest.mark.unit
def test_before_training_it_is_its_closed_form() -> None:
    x = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(denoiser(3, live=False)(x, 0.4), box_mean(x, 0.4), atol=1e-6)
    wiener = denoiser(3, live=False, around="gaussian")
    assert torch.allclose(wiener(x, 0.4), x / 3 / (1 / 3 + 0.16))


def saved(path: Path) -> Tensor:
    """A file of a live denoiser, and what it makes of some placements."""
    made = denoiser(3)
    save_placement_base(
        path, made.state_dict(), network=SMALL, sigma_min=0.01, sigma_max=6.0, card={"law": "x"}
    )
    x = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    return made(x, 0.4)


@pytest.mark.unit
def test_a_saved_base_is_the_same(tmp_path: Path) -> None:
    expected = saved(tmp_path / "base.safetensors")
    base = load_placement_base(tmp_path / "base.safetensors")
    x = torch.randn(4, 3, 2, generator=torch.Generator().manual_seed(0))
    assert torch.equal(base.denoiser(x, 0.4), expected)
    assert (base.event_shape, base.sigma_min, base.sigma_max) == ((3, 2), 0.01, 6.0)
    assert base.card == {"law": "x"}
    assert len(base.sha256) == 64


@pytest.mark.unit
def test_files_and_settings_that_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "base.safetensors"
    with pytest.raises(CsiAuditError, match=r"does not exist\. Train one: csi_audit"):
        load_placement_base(path)
    saved(path)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(CsiAuditError, match="is no readable safetensors file"):
        load_placement_base(path)
    with pytest.raises(CsiAuditError, match="heads must divide the width of 8; got 3"):
        UserNetworkSpec(width=8, heads=3)
    with pytest.raises(CsiAuditError, match="depth must be at least 1; got 0"):
        UserNetworkSpec(depth=0)
    with pytest.raises(CsiAuditError, match="around must be a known closed form; got 'bocks'"):
        UserNetworkSpec(around="bocks")  # type: ignore[arg-type]
    assert not math.isnan(float(box_mean(torch.zeros(1, 1), 1.0)))
