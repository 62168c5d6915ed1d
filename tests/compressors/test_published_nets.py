"""The published nets with their parameters, their linear start, and what no per-sample figure
survives: a sample that depends on its neighbours."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from channels import Convention, CsiAuditError, onto_sphere
from compressors import (
    Compressor,
    CompressorSpec,
    Klt,
    build_compressor,
    check_compressor,
    nmse,
)
from compressors.acrnet import ACRNet
from compressors.clnet import CLNet
from compressors.crnet import CRNet
from compressors.csinet import CsiNet
from compressors.linear_start import LinearStart, Variant, delta_, linear_code_, pass_through_
from compressors.neural import CompressorNetwork
from compressors.transnet import Attention, Layer, TransNet

pytestmark = pytest.mark.usefixtures("seeded_torch")

PARAMETERS = {
    "csinet": {4: 2_103_116, 8: 1_054_284, 16: 529_868, 32: 267_660, 64: 136_556},
    "crnet": {4: 2_102_838, 8: 1_054_006, 16: 529_590, 32: 267_382, 64: 136_278},
    "clnet": {4: 2_101_958, 8: 1_053_126, 16: 528_710, 32: 266_502, 64: 135_398},
    "transnet": {4: 2_678_912, 8: 1_630_080, 16: 1_105_664, 32: 843_456, 64: 712_352},
    "acrnet": {4: 2_102_344},  # no more are published
}
COUNTS = [(arch, ratio) for arch, counts in PARAMETERS.items() for ratio in counts]
NETS: dict[str, Callable[..., CompressorNetwork]] = {
    "csinet": CsiNet,
    "crnet": CRNet,
    "clnet": CLNet,
    "acrnet": ACRNet,
    "transnet": TransNet,
}
WITH_BATCH_NORM = sorted(set(NETS) - {"transnet"})


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
@pytest.mark.parametrize(("arch", "ratio"), COUNTS)
def test_published_parameter_counts(arch: str, ratio: int) -> None:
    """Weights alone, as the papers count: on the meta device, where nothing is drawn."""
    with torch.device("meta"):
        published = build_compressor(arch, ratio=ratio)
        trained = CompressorSpec.for_ratio(arch, ratio).build()
    for net in (published, trained):
        assert sum(p.numel() for p in net.parameters()) == PARAMETERS[arch][ratio]
        assert net.n_code == 2048 // ratio


@pytest.mark.unit
@pytest.mark.parametrize("arch", [*sorted(NETS), "klt"])
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
@pytest.mark.parametrize("arch", WITH_BATCH_NORM)  # TransNet has no last activation
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
def test_the_start_is_exact_on_channels_of_few_directions(
    arch: str, linear_start: Callable[..., tuple[Klt, LinearStart]]
) -> None:
    """Unit power and a covariance of low rank, where the code keeps nearly all; drawn anew."""
    generator = torch.Generator().manual_seed(0)
    mix = torch.randn(128, 12, generator=generator)

    def draw(n: int) -> Tensor:
        few = torch.randn(n, 12, generator=generator) @ mix.T
        rest = torch.randn(n, 128, generator=generator)
        return onto_sphere((few + 0.1 * rest).unflatten(1, (2, 8, 8)))

    klt, start = linear_start(draw(256), 32)
    net = small(arch, "linear_trunk", 32)
    net.start_from(start)
    x = draw(50)
    assert float(nmse(x, klt(x)).mean()) < 0.1
    assert float(nmse(klt(x), net(x).detach()).max()) < 1e-4


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
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    for _ in range(3):
        optimizer.zero_grad()
        nmse(x, net(x)).mean().backward()
        optimizer.step()
    for name, weight in net.named_parameters():
        if weight.ndim > 1:  # the next batch norm takes a bias out again
            assert weight.grad is not None
            assert float(weight.grad.abs().max()) > 0, name
            assert not torch.equal(weight, before[name]), name


@pytest.mark.unit
@pytest.mark.parametrize("arch", [*sorted(NETS), "klt"])
@pytest.mark.parametrize("variant", ["published", "linear_trunk"])
def test_a_sample_knows_no_neighbours(
    arch: str, variant: Variant, draw_x: Callable[..., Tensor]
) -> None:
    """In eval mode; batch norm on batch statistics is the mutant, and below attention."""
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
    if arch in WITH_BATCH_NORM:
        net.train()
        assert not torch.allclose(net(x)[:4], net(x[:4]), atol=1e-3)


class AcrossTheBatch(Attention):
    """As in the public code: the batch stands where attention looks for tokens."""

    def forward(self, tokens: Tensor, memory: Tensor) -> Tensor:
        mixed: Tensor = super().forward(tokens.transpose(0, 1), memory.transpose(0, 1))
        return mixed.transpose(0, 1)


@pytest.mark.unit
def test_the_public_transnet_is_refused(draw_x: Callable[..., Tensor]) -> None:
    """The same weights attending within a channel are in order."""
    net, x = small("transnet", "published"), draw_x(24)
    check_compressor(net, x, name="per sample")
    for module in net.modules():
        if isinstance(module, Attention):
            module.__class__ = AcrossTheBatch
    assert net(x).shape == x.shape
    message = "public reconstructs a channel differently alone and in a batch.*Does it attend"
    with pytest.raises(CsiAuditError, match=message):
        check_compressor(net, x, name="public")


@pytest.mark.unit
@pytest.mark.parametrize("decoder", [False, True])
def test_published_transnet_layers_are_torchs(decoder: bool) -> None:
    """Post-norm, two heads, ReLU: the same weights in torch's own layer give the same answer."""
    torch_layer: Any = nn.TransformerDecoderLayer if decoder else nn.TransformerEncoderLayer
    reference = torch_layer(16, 2, dim_feedforward=2048, dropout=0.0, batch_first=True)
    layer = Layer(16, "published", decoder=decoder)
    pairs = [(layer.attend, reference.self_attn)]
    if layer.recall is not None:
        pairs.append((layer.recall, reference.multihead_attn))
    for own, theirs in pairs:
        own.project.weight, own.project.bias = theirs.in_proj_weight, theirs.in_proj_bias
        own.out = theirs.out_proj
    layer.feed[0], layer.feed[2] = reference.linear1, reference.linear2
    for number, norm in enumerate(layer.norms, start=1):
        norm.load_state_dict(getattr(reference, f"norm{number}").state_dict())
    y, memory = torch.randn(3, 8, 16), torch.randn(3, 8, 16)
    expected = reference(y, memory) if decoder else reference(y)
    assert torch.allclose(layer(y, memory), expected, atol=1e-5)


@pytest.mark.unit
def test_published_tokens_are_pairs_of_beams() -> None:
    """Of one real plane, as the public code cuts them; a beam with both parts in the trunk form."""
    plane = torch.zeros(1, 2, 8, 8)
    plane[0, 0, 2] = 1.0  # the real part of one beam
    where: dict[Variant, int] = {"published": 1, "linear_trunk": 2}
    for variant, token in where.items():
        net = small("transnet", variant)
        tokens = net._tokens_of(plane)
        expected = torch.zeros(1, 8, 16)
        expected[0, token, :8] = 1.0
        assert torch.equal(tokens, expected)
        assert torch.equal(net._channels_of(tokens), plane)


@pytest.mark.unit
def test_published_transnet_ends_in_a_layer_norm(draw_x: Callable[..., Tensor]) -> None:
    """Fresh, its tokens have mean 0 and variance 1, and no sigmoid cuts them."""
    tokens = small("transnet", "published")(draw_x(6)).detach().flatten(1).unflatten(1, (8, 16))
    assert torch.allclose(tokens.mean(-1), torch.zeros(6, 8), atol=1e-5)
    assert torch.allclose(tokens.var(-1, correction=0), torch.ones(6, 8), atol=1e-3)


@pytest.mark.unit
def test_clnet_code_layers_are_convolutions(draw_x: Callable[..., Tensor]) -> None:
    """Computed as matrix products, they answer as the published 1-D convolutions do."""
    net, z = small("clnet", "linear_trunk"), torch.randn(5, 16)
    net.blocks, net.entry = nn.Identity(), nn.Identity()
    assert torch.allclose(net.decode(z).flatten(1), net.from_code(z[..., None])[..., 0], atol=1e-5)
    same, x = nn.Identity(), draw_x(5)
    net.merge, net.excite, net.wide, net.fine = same, same, same, same
    net.to_code, both = nn.Conv1d(256, 16, 1), torch.cat([x, x], dim=1)
    code = net.to_code(both.flatten(1)[..., None])[..., 0]
    assert torch.allclose(net.encode(x), code, atol=1e-5)


@pytest.mark.unit
def test_the_start_needs_its_layers() -> None:
    with pytest.raises(TypeError, match=r"conv must be a Conv2d; got Linear\."):
        delta_(nn.Linear(2, 2))
    with pytest.raises(TypeError, match=r"norm must be a BatchNorm2d; got Conv2d\."):
        pass_through_(nn.Conv2d(2, 2, 3), variance=0.5)
    start = LinearStart(basis=torch.eye(2))
    with pytest.raises(TypeError, match=r"layer must be a Linear, Conv1d or .*; got Bilinear\."):
        linear_code_(nn.Linear(2, 2), nn.Bilinear(2, 2, 2), start)
