"""Variants of users: their law in closed form, who is drawn, and that blocks are kept."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from scipy import stats
from torch import Tensor

from channels.support import CsiAuditError
from csi_audit.hardening_variants import (
    VariantDraw,
    VariantSampler,
    draw_variants,
    kept_badness,
    varied,
)
from csi_audit.sampling import ode_2m, sigma_grid

if TYPE_CHECKING:
    from .conftest import GaussianLaw

Gate = Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]
TILT = 1.5  # of the weight exp(TILT x / deviation)


@pytest.mark.statistical
def test_law_of_variants_is_the_base_times_the_smoothed_weight(
    gaussian: "GaussianLaw", gate: Gate
) -> None:
    """p = N(m, v) under exp(a x): variants are N(m + a v sqrt(v / (v + s^2)), v).

    x_s of q is N(m + a v, v + s^2), which the exact ODE shrinks by sqrt(v / (v + s^2)).
    """
    v, sigma, n = gaussian.variance, 1.0, 2000
    shift = TILT * v.sqrt()  # a v, a = TILT / sqrt(v)
    generator = torch.Generator().manual_seed(0)

    def users(moved: Tensor) -> Tensor:
        return gaussian.mean + moved + v.sqrt() * torch.randn(n, len(v), generator=generator)

    def variants(moved: Tensor) -> Tensor:
        return varied(
            gaussian.base.denoiser, users(moved), sigma=sigma, sigma_min=0.005, steps=60,
            generator=generator,
        )  # fmt: skip

    def half_the_noise() -> Tensor:
        x = users(shift) + 0.5 * sigma * torch.randn(n, len(v), generator=generator)
        return ode_2m(gaussian.base.denoiser, x, sigma_grid(sigma, 0.005, 60))

    def replicates(draw: Callable[[], Tensor]) -> list[Tensor]:
        return [draw()[:, 2:5] for _ in range(24)]  # where every mutant is far off

    found = replicates(lambda: variants(shift))
    means = {
        "users themselves": torch.stack([x.mean(0) for x in replicates(lambda: users(shift))]),
        "no weight": torch.stack([x.mean(0) for x in replicates(lambda: variants(0 * shift))]),
    }
    truth = gaussian.mean + (v / (v + sigma**2)).sqrt() * shift
    gate(torch.stack([x.mean(0) for x in found]), truth[2:5], means)
    spreads = {"half the noise": torch.stack([x.var(0) for x in replicates(half_the_noise)])}
    gate(torch.stack([x.var(0) for x in found]), v[2:5], spreads)


@pytest.mark.unit
def test_a_little_noise_gives_the_users_back(gaussian: "GaussianLaw") -> None:
    generator = torch.Generator().manual_seed(0)
    x = gaussian.mean + gaussian.variance.sqrt() * torch.randn(50, 6, generator=generator)
    found = varied(
        gaussian.base.denoiser, x, sigma=0.02, sigma_min=0.01, steps=5, generator=generator
    )
    assert float((found - x).abs().max()) < 0.15
    assert not torch.equal(found, x)


@pytest.mark.statistical
def test_users_are_drawn_by_their_weight(gaussian: "GaussianLaw") -> None:
    """Counts of 4 users far apart against NMSE^2, which the mutant of even draws fails."""
    x = 40.0 * torch.eye(6)[:4]
    nmse = torch.tensor([0.1, 0.2, 0.3, 0.4])
    draw = VariantDraw(n=1, sigma=0.02, steps=2, power=2.0)
    sampler = VariantSampler(gaussian.base, x, nmse, draw)
    found = sampler(2000, generator=torch.Generator().manual_seed(0))
    counts = torch.bincount(found.x[:, :4].argmax(1), minlength=4).numpy()
    share = nmse.square() / nmse.square().sum()
    assert stats.chisquare(counts, (share.double() / share.double().sum() * 2000)).pvalue > 1e-6
    assert stats.chisquare(counts, [500.0] * 4).pvalue < 1e-6
    assert found.law == "target"
    assert found.n_evaluations == draw.steps * 2000


@pytest.mark.unit
def test_variants_are_kept_and_lie_on_the_sphere(gaussian: "GaussianLaw", tmp_path: Path) -> None:
    x = torch.randn(8, 2, 1, 3, generator=torch.Generator().manual_seed(0))
    base = type(gaussian)(mean=torch.zeros(2, 1, 3), variance=torch.ones(2, 1, 3)).base
    draw = VariantDraw(n=7, sigma=1.0, steps=3)
    made = draw_variants(base, x, torch.ones(8), draw, parent=tmp_path, known_by="a")
    assert made.shape == (7, 2, 1, 3)
    assert torch.allclose(made.square().flatten(1).sum(1), torch.full((7,), 3.0))
    (block,) = (tmp_path / ".variants").rglob("*.npz")
    stamp = block.stat().st_mtime_ns
    again = draw_variants(base, x, torch.ones(8), draw, parent=tmp_path, known_by="a")
    assert torch.equal(made, again)
    assert block.stat().st_mtime_ns == stamp
    draw_variants(base, x, torch.ones(8), draw, parent=tmp_path, known_by="b")
    assert len(list((tmp_path / ".variants").rglob("*.npz"))) == 2


@pytest.mark.unit
def test_kept_badness() -> None:
    users = torch.tensor([0.1, 0.1, 0.1, 0.9], dtype=torch.float64)
    drawn = float((users**3).sum() / (users**2).sum())
    mean = float(users.mean())
    for share in (1.0, 0.5, 0.0):
        variants = torch.tensor([mean + share * (drawn - mean)], dtype=torch.float64)
        assert kept_badness(users, variants, 2.0) == pytest.approx(share)
    assert kept_badness(torch.ones(3), torch.ones(2), 2.0) == 1.0


@pytest.mark.unit
@pytest.mark.parametrize("sigma", [0.001, 1e4, math.nan])
def test_noise_the_base_does_not_know_is_refused(gaussian: "GaussianLaw", sigma: float) -> None:
    with pytest.raises(CsiAuditError, match=r"variant_sigma must lie between 0\.01 and 25"):
        VariantSampler(
            gaussian.base, torch.zeros(2, 6), torch.ones(2), VariantDraw(n=2, sigma=sigma)
        )
