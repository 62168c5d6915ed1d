"""Checkpoints in the published layouts answer as the published forward passes do.

The forward passes are written out here once more, on weights by their published names, so that a
name taken for another, a path in another order or a missing activation shows in the numbers.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from channels import Convention, CsiAuditError, file_sha256
from compressors import in_audit_space, load_compressor, nmse
from compressors.published_checkpoints import load_published
from compressors.transnet import TransNet
from compressors.verification import as_published

pytestmark = pytest.mark.unit

M = 32  # code numbers, ratio 64


class Weights:
    """Random weights, drawn when a forward pass first asks for them; then what it asked for."""

    def __init__(self, seed: int = 0) -> None:
        self.drawn: dict[str, Tensor] = {}
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, name: str, *shape: int, low: float | None = None) -> Tensor:
        if name not in self.drawn:
            fan = max(1, int(torch.tensor(shape[1:]).prod()))
            normal = torch.randn(shape, generator=self.generator) / fan**0.5
            uniform = torch.rand(shape, generator=self.generator)
            self.drawn[name] = normal if low is None else low + uniform
        return self.drawn[name]

    def linear(self, name: str, y: Tensor, n_in: int, n_out: int) -> Tensor:
        return F.linear(y, self(f"{name}.weight", n_out, n_in), self(f"{name}.bias", n_out))

    def conv(
        self, name: str, y: Tensor, n: tuple[int, int], kernel: tuple[int, int], groups: int = 1
    ) -> Tensor:
        """Convolution `conv` without bias, batch norm `bn` in evaluation."""
        weight = self(f"{name}.conv.weight", n[1], n[0] // groups, *kernel)
        padding = ((kernel[0] - 1) // 2, (kernel[1] - 1) // 2)
        y = F.conv2d(y, weight, padding=padding, groups=groups)
        mean = self(f"{name}.bn.running_mean", n[1])
        variance = self(f"{name}.bn.running_var", n[1], low=0.5)
        scale, shift = self(f"{name}.bn.weight", n[1], low=0.5), self(f"{name}.bn.bias", n[1])
        return F.batch_norm(y, mean, variance, scale, shift)

    def prelu(self, name: str, y: Tensor) -> Tensor:
        return F.prelu(y, self(f"{name}.weight", y.shape[1], low=0.1))


def leaky(y: Tensor) -> Tensor:
    return F.leaky_relu(y, 0.3)


def fine_path(w: Weights, name: str, y: Tensor) -> Tensor:
    y = leaky(w.conv(f"{name}.conv3x3_bn", y, (2, 2), (3, 3)))
    y = leaky(w.conv(f"{name}.conv1x9_bn", y, (2, 2), (1, 9)))
    return w.conv(f"{name}.conv9x1_bn", y, (2, 2), (9, 1))


def cr_decoder(w: Weights, name: str, y: Tensor, reach: int) -> Tensor:
    y = leaky(w.conv(f"{name}.conv5x5_bn", y, (2, 2), (5, 5)))
    for number in (1, 2):
        block = f"{name}.CRBlock{number}"
        one = leaky(w.conv(f"{block}.path1.conv3x3", y, (2, 7), (3, 3)))
        one = leaky(w.conv(f"{block}.path1.conv1x{reach}", one, (7, 7), (1, reach)))
        one = w.conv(f"{block}.path1.conv{reach}x1", one, (7, 7), (reach, 1))
        two = leaky(w.conv(f"{block}.path2.conv1x5", y, (2, 7), (1, 5)))
        two = w.conv(f"{block}.path2.conv5x1", two, (7, 7), (5, 1))
        both = leaky(torch.cat([one, two], dim=1))
        y = leaky(y + w.conv(f"{block}.conv1x1", both, (14, 2), (1, 1)))
    return y


def crnet(w: Weights, y: Tensor) -> Tensor:
    two = w.conv("encoder2", y, (2, 2), (3, 3))
    both = leaky(torch.cat([fine_path(w, "encoder1", y), two], dim=1))
    merged = leaky(w.conv("encoder_conv.conv1x1_bn", both, (4, 2), (1, 1)))
    z = w.linear("encoder_fc", merged.flatten(1), 2048, M)
    y = w.linear("decoder_fc", z, M, 2048).view(-1, 2, 32, 32)
    return torch.sigmoid(cr_decoder(w, "decoder_feature", y, 9))


def clnet(w: Weights, y: Tensor) -> Tensor:
    one = fine_path(w, "encoder.encoder1", y)
    pooled = torch.cat([one.max(1, keepdim=True)[0], one.mean(1, keepdim=True)], dim=1)
    one = one * torch.sigmoid(w.conv("encoder.sa.spatial", pooled, (2, 1), (3, 3)))
    two = w.conv("encoder.encoder2", y, (2, 32), (1, 1))
    squeezed = torch.relu(two.mean((2, 3)) @ w("encoder.se.fc.0.weight", 2, 32).T)
    two = two * torch.sigmoid(squeezed @ w("encoder.se.fc.2.weight", 32, 2).T)[..., None, None]
    both = leaky(torch.cat([one, two], dim=1))
    merged = leaky(w.conv("encoder.encoder_conv.conv1x1_bn", both, (34, 2), (1, 1)))
    down = w("encoder.replace_efc.weight", M, 2048, 1)
    z = F.conv1d(merged.view(-1, 2048, 1), down, w("encoder.replace_efc.bias", M))
    up = w("decoder.replace_dfc.weight", M, 2048, 1)
    y = F.conv_transpose1d(z, up, w("decoder.replace_dfc.bias", 2048)).view(-1, 2, 32, 32)
    return F.relu6(cr_decoder(w, "decoder.decoder_feature", y, 3) + 3) / 6


def acrnet(w: Weights, y: Tensor, expansion: int = 3) -> Tensor:
    width = 8 * expansion
    head = "encoder_feature"
    y = w.prelu(f"{head}.prelu", w.conv(f"{head}.conv5x5_bn", y, (2, 2), (5, 5)))
    for number in (1, 2):
        block = f"{head}.ACREncoderBlock{number}"
        r = w.prelu(f"{block}.prelu1", w.conv(f"{block}.conv_bn1", y, (2, 2), (1, 9)))
        r = w.conv(f"{block}.conv_bn2", r, (2, 2), (9, 1))
        y = w.prelu(f"{block}.prelu2", y + r)
    z = w.linear("encoder_fc", y.flatten(1), 2048, M)
    y = w.linear("decoder_fc", z, M, 2048).view(-1, 2, 32, 32)
    head = "decoder_feature"
    y = w.prelu(f"{head}.prelu", w.conv(f"{head}.conv5x5_bn", y, (2, 2), (5, 5)))
    for number in (1, 2):
        block = f"{head}.ACRDecoderBlock{number}"
        r = w.prelu(f"{block}.prelu1", w.conv(f"{block}.conv1_bn", y, (2, width), (1, 9)))
        r = w.conv(f"{block}.conv2_bn", r, (width, width), (7, 7), groups=4 * expansion)
        r = w.conv(f"{block}.conv3_bn", w.prelu(f"{block}.prelu2", r), (width, 2), (9, 1))
        y = w.prelu(f"{block}.prelu3", y + r)
    return torch.sigmoid(y)


def attention(w: Weights, name: str, asks: Tensor, answers: Tensor) -> Tensor:
    """Two heads over the second axis of (N, tokens, 64)."""
    weight, bias = w(f"{name}.in_proj_weight", 192, 64), w(f"{name}.in_proj_bias", 192)
    parts = zip((asks, answers, answers), weight.chunk(3), bias.chunk(3), strict=True)
    q, k, v = (F.linear(t, a, b).unflatten(-1, (2, 32)).transpose(1, 2) for t, a, b in parts)
    mixed = torch.softmax(q @ k.mT / 32**0.5, dim=-1) @ v
    return w.linear(f"{name}.out_proj", mixed.transpose(1, 2).flatten(2), 64, 64)


def transnet(w: Weights, y: Tensor, *, across_batch: bool = False) -> Tensor:
    def turned(t: Tensor) -> Tensor:
        return t.transpose(0, 1) if across_batch else t

    def normed(name: str, t: Tensor) -> Tensor:
        return F.layer_norm(t, (64,), w(f"{name}.weight", 64, low=0.5), w(f"{name}.bias", 64))

    def layer(half: str, t: Tensor, memory: Tensor | None) -> Tensor:
        name = f"{half}.layer"
        t = normed(f"{name}.norm1", t + attention(w, f"{name}.self_attn", t, t))
        if memory is not None:
            recalled = attention(w, f"{name}.multihead_attn", t, memory)
            t = normed(f"{name}.norm2", t + recalled)
        inner = torch.relu(w.linear(f"{name}.linear1", t, 64, 2048))
        last = f"{name}.norm{2 if memory is None else 3}"
        return normed(last, t + w.linear(f"{name}.linear2", inner, 2048, 64))

    t = turned(y.reshape(-1, 32, 64))
    for _ in range(2):
        t = layer("encoder", t, None)
    z = w.linear("fc_encoder", turned(t).flatten(1), 2048, M)
    memory = turned(w.linear("fc_decoder", z, M, 2048).view(-1, 32, 64))
    t = memory
    for _ in range(2):
        t = layer("decoder", t, memory)
    return turned(normed("decoder.norm", t)).reshape(-1, 2, 32, 32)


FORWARD: dict[str, Callable[[Weights, Tensor], Tensor]] = {
    "crnet": crnet,
    "clnet": clnet,
    "acrnet": acrnet,
    "transnet": transnet,
}


def inputs(n: int = 3) -> Tensor:
    return torch.rand(n, 2, 32, 32, generator=torch.Generator().manual_seed(1))


def checkpoint(arch: str, folder: Path, **changed: Tensor | None) -> tuple[Weights, Path]:
    """A file in the published layout; `changed` replaces weights, or drops them (None)."""
    weights, path = Weights(), folder / f"{arch}_in_64.pth"
    FORWARD[arch](weights, inputs())
    drawn = {**weights.drawn, **changed}
    kept = {name: value for name, value in drawn.items() if value is not None}
    torch.save({"epoch": 1, "state_dict": kept}, path)
    return weights, path


@pytest.mark.parametrize("arch", sorted(FORWARD))
def test_a_checkpoint_answers_as_published(arch: str, tmp_path: Path) -> None:
    weights, path = checkpoint(arch, tmp_path)
    found = load_published(path)
    assert (found.arch, found.ratio, found.network.n_code) == (arch, 64, M)
    assert found.expansion == (3 if arch == "acrnet" else None)
    assert found.sha256 == file_sha256(path)
    assert not found.network.training
    y = inputs(5)
    answer = found.network(y)
    assert not answer.requires_grad
    assert torch.allclose(answer, FORWARD[arch](weights, y), atol=1e-4)
    assert float(answer.std()) > 0.01  # it depends on something


@pytest.mark.parametrize("arch", sorted(FORWARD))
def test_counters_of_batches_may_be_there(arch: str, tmp_path: Path) -> None:
    """torch keeps num_batches_tracked, which evaluation does not need."""
    counted = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(7)
        for name in checkpoint(arch, tmp_path)[0].drawn
        if name.endswith("running_mean")
    }
    _, path = checkpoint(arch, tmp_path, **counted)
    assert load_published(path).arch == arch


def test_transnet_as_published_attends_across_the_batch(tmp_path: Path) -> None:
    weights, path = checkpoint("transnet", tmp_path)
    network = load_published(path).network
    assert isinstance(network, TransNet)
    y = inputs(6)
    across = as_published(network)(y)
    assert torch.allclose(across, transnet(weights, y, across_batch=True), atol=1e-4)
    assert not torch.allclose(across, network(y), atol=1e-2)
    assert not torch.allclose(across[:3], as_published(network)(y[:3]), atol=1e-3)


def test_the_others_run_as_they_are(tmp_path: Path) -> None:
    network = load_published(checkpoint("crnet", tmp_path)[1]).network
    assert as_published(network) is network


@pytest.mark.parametrize("arch", sorted(FORWARD))
def test_missing_and_unknown_weights_are_listed(arch: str, tmp_path: Path) -> None:
    names = sorted(checkpoint(arch, tmp_path)[0].drawn)
    _, path = checkpoint(arch, tmp_path, **{names[0]: None, "extra.weight": torch.ones(2)})
    message = (
        rf"_in_64\.pth is closest to {arch}, but lacks 1 weights \({names[0]}\) and has besides "
        r"1 weights \(extra\.weight\)\. Name your own class"
    )
    with pytest.raises(CsiAuditError, match=message):
        load_published(path)


def test_another_architecture(tmp_path: Path) -> None:
    path = tmp_path / "theirs.pth"
    torch.save({"conv.weight": torch.ones(2, 2), "conv.bias": torch.ones(2)}, path)
    message = (
        r"theirs\.pth holds weights of no architecture known here \(2 weights \(conv\.bias, conv\."
        r"weight\)\)\. Known: crnet, clnet, acrnet, transnet\. Name your own class"
    )
    with pytest.raises(CsiAuditError, match=message):
        load_published(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"encoder_fc.weight": torch.ones(M, 512)}, r"encoder_fc\.weight of crnet must take 2048"),
        (
            {"decoder_fc.bias": torch.ones(9)},
            r"decoder_fc\.bias of crnet must be \(2048,\); got",
        ),
    ],
)
def test_other_channels(changed: dict[str, Tensor], message: str, tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=message):
        load_published(checkpoint("crnet", tmp_path, **changed)[1])


# --- As compressors under audit -------------------------------------------------------------------


@pytest.mark.parametrize("arch", sorted(FORWARD))
def test_its_scale_is_taken_from_the_channels(
    arch: str, tmp_path: Path, draw_x: Callable[..., Tensor]
) -> None:
    """y = c x + 0.5 with the best c, said in words, and no rival form asked."""
    _, path = checkpoint(arch, tmp_path)
    x = draw_x(4, (2, 32, 32))
    named = load_compressor(str(path), channels=x)
    convention = named.compressor.convention
    assert (named.name, named.spec) == (f"{arch}_in_64", str(path))
    assert (convention.scaling, convention.offset) == ("global", 0.5)
    assert named.sha256 == file_sha256(path)
    assert named.card["arch"] == arch
    assert named.card["convention_is"] == "detected"
    assert named.notices[0].startswith("Its convention was detected on 4 channels, not declared")
    assert len(named.notices) == (2 if arch == "transnet" else 1)
    best = float(nmse(x, in_audit_space(named.compressor)(x)).mean())
    other = load_published(path).network
    other.convention = replace(convention, scale=0.5 * (convention.scale or 0.0))
    assert float(nmse(x, in_audit_space(other)(x)).mean()) > best


def test_its_scale_may_be_declared(tmp_path: Path) -> None:
    _, path = checkpoint("crnet", tmp_path)
    card = tmp_path / "theirs.yaml"
    card.write_text(
        f"model: {path.name}\nn_code: {M}\n"
        "convention: {scaling: global, scale: 0.02, offset: 0.5}\n"
    )
    named = load_compressor(str(card))
    assert named.compressor.convention == Convention(scaling="global", scale=0.02, offset=0.5)
    assert (named.name, named.notices, named.card["convention_is"]) == ("theirs", (), "declared")
    card.write_text(card.read_text().replace(str(M), "64"))
    with pytest.raises(CsiAuditError, match=rf"declares n_code = 64, but .* has {M}"):
        load_compressor(str(card))


def test_a_scale_needs_channels_or_a_card(tmp_path: Path) -> None:
    _, path = checkpoint("crnet", tmp_path)
    with pytest.raises(CsiAuditError, match=r"does not say its convention, and there are no chan"):
        load_compressor(str(path))
