"""Multiply-accumulates: counted by hand, as published, and blind to nothing of torch's."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from channels import Convention, CsiAuditError, to_complex
from compressors import Klt, build_compressor
from compressors.complexity import ForwardCost, flops

pytestmark = pytest.mark.unit

SHAPE = (2, 8, 8)


class Steps:
    """encode and decode are the given functions."""

    n_code = 1

    def __init__(
        self,
        encode: Callable[[Tensor], Tensor],
        decode: Callable[[Tensor], Tensor] | None = None,
        convention: Convention | None = None,
    ) -> None:
        self.encode = encode
        self.decode = decode or nn.Identity()
        self.convention = convention or Convention(event_shape=SHAPE)

    def bits(self, z: Tensor) -> Tensor | None:
        return None


# Millions, as the authors print them.
@pytest.mark.usefixtures("seeded_torch")
@pytest.mark.parametrize(
    ("ratio", "published"), [(4, 5.12), (8, 4.07), (16, 3.55), (32, 3.28), (64, 3.16)]
)
def test_crnet_costs_what_its_authors_say(ratio: int, published: float) -> None:
    """Source: github.com/Kylin9511/CRNet, the table of its README."""
    cost = flops(build_compressor("crnet", ratio=ratio), (2, 32, 32))
    assert cost.total / 1e6 == pytest.approx(published, abs=0.0075)
    dense = 2048 * 2048 // ratio
    convolutions = 2 * 2 * (9 + 9 + 9 + 9) + 4 * 2  # 3x3, 1x9, 9x1 beside 3x3, then 1x1
    assert cost.encoder == dense + 1024 * convolutions


def test_a_complex_product_is_four_real_ones() -> None:
    cost = flops(Klt(32, n_tx=8, n_delay=8, convention=Convention(event_shape=SHAPE)), SHAPE)
    assert cost == ForwardCost(encoder=4 * 64 * 16, decoder=4 * 64 * 16)
    assert cost.total == 8 * 64 * 16


@pytest.mark.usefixtures("seeded_torch")
def test_encoder_and_decoder_are_counted_apart() -> None:
    down, up = nn.Sequential(nn.Flatten(), nn.Linear(128, 10)), nn.Linear(10, 128)
    assert flops(Steps(down, up), SHAPE) == ForwardCost(encoder=1280, decoder=1280)
    grouped = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1, groups=2), nn.BatchNorm2d(4), nn.ReLU())
    assert flops(Steps(grouped.eval()), SHAPE) == ForwardCost(encoder=64 * 4 * 9, decoder=0)
    back = nn.ConvTranspose2d(2, 3, 2, stride=2)
    assert flops(Steps(nn.Identity(), back), SHAPE).decoder == 64 * 2 * 3 * 4


@pytest.mark.usefixtures("seeded_torch")
def test_attention_counts_fused_or_not() -> None:
    """One layer on 8 tokens of 16: four projections, scores and mixture, two dense layers."""
    by_hand = 4 * 8 * 16 * 16 + 2 * 8 * 8 * 16 + 2 * 8 * 16 * 32
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)

    def tokens(y: Tensor) -> Tensor:
        answer: Tensor = layer(y.reshape(-1, 8, 16))
        return answer

    fused = torch.backends.mha.get_fastpath_enabled()
    for mode in (layer.train, layer.eval):
        mode()
        assert flops(Steps(tokens), SHAPE).encoder == by_hand
    assert torch.backends.mha.get_fastpath_enabled() == fused


def test_products_with_vectors_count() -> None:
    w = torch.ones(128)
    assert flops(Steps(lambda y: y.flatten(1) @ w), SHAPE).encoder == 128
    assert flops(Steps(lambda y: y.flatten() @ w), SHAPE).encoder == 128
    one = to_complex(torch.ones(1, *SHAPE)).flatten()
    assert flops(Steps(lambda y: to_complex(y).flatten(1) @ one), SHAPE).encoder == 4 * 64


def test_the_convention_costs_nothing() -> None:
    spatial = Convention(domain="spatial-frequency", layout="complex", event_shape=SHAPE)
    cost = flops(Steps(nn.Identity(), convention=spatial), SHAPE)
    assert cost == ForwardCost(encoder=0, decoder=0)
    with pytest.raises(CsiAuditError, match=r"x must be real \(N, 2, 8, 8\) angular-delay; got"):
        flops(Steps(nn.Identity()), (2, 8, 4))
