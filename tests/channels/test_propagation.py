"""Shadowing against its law over seeds, sector patterns against the standard's parabola."""

import math

import pytest
import torch
from torch import Tensor

from channels.propagation import SectorPattern, Shadowing
from channels.support import CsiAuditError


@pytest.mark.statistical
def test_shadowing_has_its_mean_deviation_and_correlation() -> None:
    """Over 1500 maps; the fields of two seeds or stations share nothing."""
    u = torch.tensor([[0.0, 0.0], [6.0, 8.0], [500.0, 0.0]], dtype=torch.float64)
    maps = torch.stack(
        [Shadowing(spread_db=4.0, correlation_m=10.0, seed=s).field_db(u, 2) for s in range(1500)]
    )  # (seed, point, station)
    here, near, far = maps.unbind(1)
    width = 5.2 / math.sqrt(maps[:, 0].numel())  # alpha 1e-6, for figures of unit deviation
    assert abs(float(here.mean())) < 4 * width
    # the fourth moment of a sum of 64 waves is nearly a Gaussian's: deviation sqrt(2) of a square
    assert float(here.square().mean()) / 16 == pytest.approx(1, abs=math.sqrt(2) * width)
    assert float((here * near).mean()) / 16 == pytest.approx(math.exp(-1), abs=1.5 * width)
    assert abs(float((here * far).mean())) / 16 < width
    assert abs(float((here[:, 0] * here[:, 1]).mean())) / 16 < math.sqrt(2) * width


@pytest.mark.unit
def test_shadowing_is_a_smooth_function_of_its_seed() -> None:
    u = torch.rand(5, 3, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * 100
    field = Shadowing(seed=3)
    assert torch.equal(field.field_db(u, 3), Shadowing(seed=3).field_db(u, 3))
    assert torch.equal(field.field_db(u, 2), field.field_db(u, 3)[..., :2])
    assert not torch.allclose(field.field_db(u, 3), Shadowing(seed=4).field_db(u, 3))
    step = torch.tensor([1e-4, 0.0], dtype=torch.float64)
    assert float((field.field_db(u + step, 3) - field.field_db(u, 3)).abs().max()) < 1e-2


def gain_db(pattern: SectorPattern, degrees: float, metres: float = 1e3) -> float:
    angle = math.radians(degrees)
    offset: Tensor = metres * torch.tensor([[math.cos(angle), math.sin(angle)]]).double()
    return float(pattern.log_gain(offset)) * 10 / math.log(10)


@pytest.mark.unit
def test_sector_pattern_follows_the_parabola() -> None:
    pattern = SectorPattern(boresight_deg=(30.0,))
    assert gain_db(pattern, 30) == pytest.approx(0, abs=1e-3)
    assert gain_db(pattern, 30 + 32.5) == pytest.approx(-3, abs=0.15)
    assert gain_db(pattern, 30 - 32.5) == pytest.approx(gain_db(pattern, 30 + 32.5), abs=1e-4)
    assert gain_db(pattern, 40) == pytest.approx(-12 * (10 / 65) ** 2, abs=0.01)
    assert -30 <= gain_db(pattern, 210) < -29
    offset = torch.zeros(1, 2, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(pattern.log_gain(offset).sum(), offset)
    assert bool(gradient.isfinite().all())


@pytest.mark.unit
def test_what_propagation_refuses() -> None:
    with pytest.raises(CsiAuditError, match="spread_db must be finite and above 0; got 0"):
        Shadowing(spread_db=0)
    with pytest.raises(CsiAuditError, match="correlation_m must be finite and above 0; got -1"):
        Shadowing(correlation_m=-1)
    with pytest.raises(CsiAuditError, match="waves must be at least 1; got 0"):
        Shadowing(waves=0)
    with pytest.raises(CsiAuditError, match=r"width_deg must lie in \(0, 180\]; got 0"):
        SectorPattern(boresight_deg=(0.0,), width_deg=0)
    with pytest.raises(CsiAuditError, match="back_db must be finite and above 0; got 0"):
        SectorPattern(boresight_deg=(0.0,), back_db=0)
    with pytest.raises(CsiAuditError, match="boresight_deg must be finite"):
        SectorPattern(boresight_deg=(math.nan,))
