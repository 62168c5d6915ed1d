"""What the engine knows about channels."""

import pytest
import torch

from channels import FEATURES, ChannelDomain, ChannelSet, CsiAuditError, Grid, audit_space

pytestmark = pytest.mark.unit


def test_domain_of_real_channels(sample: ChannelSet) -> None:
    part = sample.subset(slice(10))
    domain, x = ChannelDomain.of(part), audit_space(part)
    assert domain.event_shape == (2, 32, 32)
    assert domain.features(x).keys() == FEATURES.keys()
    assert torch.allclose(domain.onto_law(3 * x), x, atol=1e-4)


def test_wrong_inputs() -> None:
    grid = Grid(carrier_hz=None, bandwidth_hz=1e7, n_sub=8)
    with pytest.raises(CsiAuditError, match="n_tx must be at least 1; got 0"):
        ChannelDomain(grid=grid, n_rx=1, n_tx=0)
    domain = ChannelDomain(grid=grid, n_rx=1, n_tx=4)
    for method in (domain.features, domain.onto_law):
        with pytest.raises(CsiAuditError, match=r"x must be \(N, 2, 4, 8\) .*got \(1, 2, 4, 9\)"):
            method(torch.ones(1, 2, 4, 9))
