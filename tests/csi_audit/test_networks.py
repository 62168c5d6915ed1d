"""Candidate networks: sizes, zero at the start, every weight in use, no sample sees another."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from channels import CsiAuditError
from csi_audit.networks import NetworkSpec

pytestmark = pytest.mark.usefixtures("seeded_torch")

TINY: dict[str, dict[str, int]] = {
    "axial_mixer": {"channels": 4, "hidden": 16, "depth": 2},
    "tap_transformer": {"width": 16, "hidden": 24, "depth": 2, "heads": 2},
    "unet": {"width": 8},
}
NAMES = sorted(TINY)


def build(name: str, *, n_rx: int = 1, n_tx: int = 8, n_delay: int = 12) -> Any:
    spec = NetworkSpec(name=name, options=tuple(TINY[name].items()))
    return spec.build(5 * n_rx, 3 * n_rx, n_tx, n_delay)


def awake(net: nn.Module) -> nn.Module:
    """Weights as after some training: none is zero."""
    with torch.no_grad():
        for weight in net.parameters():
            weight.add_(0.1 * torch.randn(weight.shape))
    return net


def inputs(n: int = 3, n_rx: int = 1, n_tx: int = 8, n_delay: int = 12) -> tuple[Tensor, Tensor]:
    return torch.randn(n, 5 * n_rx, n_tx, n_delay), torch.linspace(-3, 3, n)


@pytest.mark.unit
@pytest.mark.parametrize("n_rx", [1, 2])
@pytest.mark.parametrize("name", NAMES)
def test_maps_in_maps_out_and_zero_at_the_start(name: str, n_rx: int) -> None:
    maps, log_sigma = inputs(n_rx=n_rx)
    out = build(name, n_rx=n_rx)(maps, log_sigma)
    assert out.shape == (3, 3 * n_rx, 8, 12)
    assert torch.count_nonzero(out) == 0
    out = awake(build(name, n_rx=n_rx))(maps, log_sigma)
    assert bool(torch.isfinite(out).all())
    assert float(out.detach().abs().amin((0, 2, 3)).max()) > 0


@pytest.mark.unit
@pytest.mark.parametrize("name", NAMES)
def test_default_sizes(name: str) -> None:
    """What is trained on 32 x 32 channels stays within the 5 MB of a bundled base in float16."""
    with torch.device("meta"):
        net = NetworkSpec(name=name).build(5, 3, 32, 32)
    n = sum(p.numel() for p in net.parameters())
    assert 3e5 < n < 2.5e6


@pytest.mark.unit
@pytest.mark.parametrize("name", NAMES)
def test_every_weight_has_a_gradient(name: str) -> None:
    net = awake(build(name))
    net(*inputs()).square().sum().backward()
    for label, weight in net.named_parameters():
        assert weight.grad is not None, label
        assert bool(torch.isfinite(weight.grad).all()), label
        assert torch.count_nonzero(weight.grad) > 0, label


@pytest.mark.unit
@pytest.mark.parametrize("name", ["axial_mixer", "tap_transformer"])
def test_every_output_sees_the_whole_map(name: str) -> None:
    net = awake(build(name))
    maps, log_sigma = inputs(n=1)
    maps.requires_grad_()
    (seen,) = torch.autograd.grad(net(maps, log_sigma)[0, 0, 3, 5], maps)
    assert float(seen.abs().min()) > 0


@pytest.mark.unit
@pytest.mark.parametrize("name", NAMES)
def test_the_noise_level_matters(name: str) -> None:
    net = awake(build(name))
    maps, _ = inputs(n=1)
    both = net(maps.expand(2, -1, -1, -1), torch.tensor([-2.0, 2.0]))
    assert not torch.allclose(both[0], both[1], atol=1e-3)


@pytest.mark.unit
@pytest.mark.parametrize("name", NAMES)
def test_a_map_knows_no_neighbours(name: str) -> None:
    net = awake(build(name)).eval()
    maps, log_sigma = inputs(n=5)
    whole = net(maps, log_sigma)
    alone = torch.cat([net(*one) for one in zip(maps.split(1), log_sigma.split(1), strict=True)])
    assert torch.allclose(alone, whole, atol=1e-4)
    order = torch.tensor([3, 1, 4, 0, 2])
    assert torch.allclose(net(maps[order], log_sigma[order]), whole[order], atol=1e-4)


@pytest.mark.unit
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_under_autocast(name: str) -> None:
    net = awake(build(name))
    maps, log_sigma = inputs()
    exact = net(maps, log_sigma)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = net(maps, log_sigma)
    assert exact.dtype == torch.float32
    assert rounded.dtype == torch.bfloat16
    error = (rounded.float() - exact).square().mean() / exact.square().mean()
    assert float(error.detach()) < 1e-3


@pytest.mark.unit
@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (
            NetworkSpec(name="axial_mixr"),
            r"network must be .*'axial_mixr'\. Did you mean 'axial_mi",
        ),
        (NetworkSpec(name="xyz"), r"got 'xyz'\. Choose from: axial_mixer, tap_transformer, unet"),
        (
            NetworkSpec(name="unet", options=(("depth", 3),)),
            r"network 'unet': .*unexpected keyword argument 'depth'\. Remove that option",
        ),
    ],
)
def test_unknown_names(spec: NetworkSpec, message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        spec.build(5, 3, 8, 8)


@pytest.mark.unit
def test_a_unet_halves_twice() -> None:
    message = r"a UNet needs n_tx and n_delay that 4 divides; got 8 x 6\. Choose the axial_mixer"
    with pytest.raises(CsiAuditError, match=message):
        build("unet", n_delay=6)
    assert build("axial_mixer", n_tx=5, n_delay=7)(*inputs(2, 1, 5, 7)).shape == (2, 3, 5, 7)
