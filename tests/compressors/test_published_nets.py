"""CsiNet and CRNet as published, their linear start, and what no per-sample figure survives:
a sample that depends on its neighbours."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from channels import Convention
from compressors import Compressor, CompressorSpec, Klt, build_compressor, nmse
from compressors.crnet import CRNet
from compressors.csinet import CsiNet
from compressors.linear_start import LinearStart, Variant, delta_, pass_through_

pytestmark = pytest.mark.usefixtures("seeded_torch")

PARAMETERS = {
    "csinet": {4: 2_103_116, 8: 1_054_284, 16: 529_868, 32: 267_660, 64: 136_556},
    "crnet": {4: 2_102_838, 8: 1_054_006, 16: 529_590, 32: 267_382, 64: 136_278},
}
NETS: dict[str, type[CsiNet] | type[CRNet]] = {"csinet": CsiNet, "crnet": CRNet}


def small(arch: str, variant: Variant, n_code: int = 16) -> Any:
    """An 8 x 8 net in eval mode."""
    convention = Convention(event_shape=(2, 8, 8))
    net = NETS[arch](n_code, n_tx=8, n_delay=8, variant=variant, convention=convention)
    return net.eval()


def scramble(net: nn.Module) -> None:
    """Random statistics in every batch norm, as after a training."""
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None
            assert module.running_var is not None
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)


@pytest.mark.unit
@pytest.mark.parametrize("ratio", [4, 8, 16, 32, 64])
@pytest.mark.parametrize("arch", sorted(PARAMETERS))
def test_published_parameter_counts(arch: str, ratio: int) -> None:
    """Weights alone, as the papers count: on the meta device, where nothing is drawn."""
    with torch.device("meta"):
        published = build_compressor(arch, ratio=ratio)
        trained = CompressorSpec.for_ratio(arch, ratio).build()
    for net in (published, trained):
        assert sum(p.numel() for p in net.parameters()) == PARAMETERS[arch][ratio]
        assert net.n_code == 2048 // ratio


@pytest.mark.unit
@pytest.mark.parametrize("arch", ["csinet", "crnet", "klt"])
def test_every_net_is_a_compressor(arch: str) -> None:
    net = build_compressor(arch, ratio=64).eval()
    assert isinstance(net, Compressor)
    y = torch.rand(3, 2, 32, 32)
    z = net.encode(y)
    assert z.shape == (3, 32)
    assert net.decode(z).shape == y.shape
    assert torch.equal(net.decode(z), net(y))
    assert net.bits(z) is None


@pytest.mark.unit
@pytest.mark.parametrize("arch", sorted(NETS))
def test_published_nets_answer_in_the_unit_interval(
    arch: str, draw_x: Callable[..., Tensor]
) -> None:
    own = 10 * draw_x()
    published = small(arch, "published")(own).detach()
    assert 0 <= float(published.min()) < float(published.max()) <= 1
    assert float(small(arch, "linear_trunk")(own).detach().min()) < 0


@pytest.mark.unit
@pytest.mark.parametrize("arch", sorted(NETS))
def test_the_linear_start_is_the_klt(
    arch: str,
    draw_x: Callable[..., Tensor],
    linear_start: Callable[..., tuple[Klt, LinearStart]],
) -> None:
    """Exactly in the linear trunk; the published activations and sigmoid destroy it."""
    x = draw_x(64)
    klt, start = linear_start(x, 16)
    net, mutant = small(arch, "linear_trunk"), small(arch, "published")
    for one in (net, mutant):
        one.start_from(start)
    assert torch.allclose(net.encode(x), klt.encode(x), atol=1e-4)
    assert torch.allclose(net(x), klt(x), atol=1e-4)
    assert float(nmse(klt(x), mutant(x).detach()).mean()) > 0.1


@pytest.mark.unit
@pytest.mark.parametrize("arch", sorted(NETS))
def test_every_weight_learns_from_the_linear_start(
    arch: str,
    draw_x: Callable[..., Tensor],
    linear_start: Callable[..., tuple[Klt, LinearStart]],
) -> None:
    """Zeros of the start are no dead ends: after two steps each weight has a gradient."""
    x = draw_x(64)
    net = small(arch, "linear_trunk").train()
    net.start_from(linear_start(x, 16)[1])
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        nmse(x, net(x)).mean().backward()
        optimizer.step()
    for name, weight in net.named_parameters():
        if weight.ndim > 1:  # the next batch norm takes a bias out again
            assert weight.grad is not None
            assert float(weight.grad.abs().max()) > 0, name


@pytest.mark.unit
@pytest.mark.parametrize("arch", ["csinet", "crnet", "klt"])
@pytest.mark.parametrize("variant", ["published", "linear_trunk"])
def test_a_sample_knows_no_neighbours(
    arch: str, variant: Variant, draw_x: Callable[..., Tensor]
) -> None:
    """In eval mode; batch norm on batch statistics is the mutant."""
    x = draw_x(9)
    spec = CompressorSpec(arch=arch, n_code=16, event_shape=(2, 8, 8), variant=variant)
    net = spec.build()
    if isinstance(net, Klt):
        net.fit(x)
    scramble(net)
    net.eval()
    whole = net(x)
    order = torch.tensor([4, 0, 8, 2, 6, 1, 3, 7, 5])
    for size in (1, 4):
        parts = torch.cat([net(part) for part in x.split(size)])
        assert torch.allclose(parts, whole, atol=1e-5)
    assert torch.allclose(net(x[order]), whole[order], atol=1e-5)
    if arch != "klt":
        net.train()
        assert not torch.allclose(net(x)[:4], net(x[:4]), atol=1e-3)


@pytest.mark.unit
def test_the_start_needs_its_layers() -> None:
    with pytest.raises(TypeError, match=r"conv must be a Conv2d; got Linear\."):
        delta_(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"norm must be a BatchNorm2d; got Conv2d\."):
        pass_through_(nn.Conv2d(2, 2, 3), variance=0.5)
