"""What the engine knows about channels."""

import pytest
import torch

from channels import FEATURES, ChannelDomain, ChannelSet, CsiAuditError, Grid, audit_space

pytestmark = pytest.mark.unit


def test_domain_of_real_channels(sample: ChannelSet) -> None:
    part = sample.subset(slice(10))
    domain, x = ChannelDomain.of(part), audit_space(part)
    assert domain.event_shape == (2, 32, 32)
    assert domain.feature_info is FEATURES
    assert domain.features(x).keys() == FEATURES.keys()
    assert torch.allclose(domain.onto_law(3 * x), x, atol=1e-4)
    assert torch.allclose(domain.spatial_frequency(x), part.h, atol=1e-5)
    power = domain.power_map(x)
    assert power.shape == (10, 32, 32)
    assert torch.allclose(power.sum((1, 2)), torch.full((10,), 1024.0), rtol=1e-4)


def test_axes_in_physical_units() -> None:
    domain = ChannelDomain(grid=Grid(carrier_hz=None, bandwidth_hz=1e7, n_sub=8), n_rx=1, n_tx=4)
    beams, delay = domain.axes
    rolled = torch.roll(domain.grid.sin_azimuth(4), beams.roll)
    assert rolled.tolist() == [-1.0, -0.5, 0.0, 0.5]
    assert beams.extent == (-1.25, 0.75)
    assert (delay.unit, delay.roll) == ("ns", 0)
    assert delay.extent == pytest.approx((-50.0, 750.0))


def test_axes_of_an_odd_array_and_unknown_bandwidth() -> None:
    grid = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=8)
    beams, delay = ChannelDomain(grid=grid, n_rx=1, n_tx=5).axes
    rolled = torch.roll(grid.sin_azimuth(5), beams.roll)
    assert torch.equal(rolled, rolled.sort().values)
    assert beams.extent == pytest.approx((float(rolled[0]) - 0.2, float(rolled[-1]) + 0.2))
    assert (delay.unit, delay.extent) == ("taps", (-0.5, 7.5))


def test_wrong_inputs() -> None:
    grid = Grid(carrier_hz=None, bandwidth_hz=1e7, n_sub=8)
    with pytest.raises(CsiAuditError, match="n_tx must be at least 1; got 0"):
        ChannelDomain(grid=grid, n_rx=1, n_tx=0)
    domain = ChannelDomain(grid=grid, n_rx=1, n_tx=4)
    for method in (domain.features, domain.onto_law, domain.power_map, domain.spatial_frequency):
        with pytest.raises(CsiAuditError, match=r"x must be \(N, 2, 4, 8\) .*got \(1, 2, 4, 9\)"):
            method(torch.ones(1, 2, 4, 9))
