"""The autoencoder with a quantised codeword: its levels, its bits, its start and its gradient."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels import Convention
from compressors import Klt, check_compressor, nmse
from compressors.linear_start import LinearStart
from compressors.quantised_autoencoder import QuantisedAutoencoder, companded

pytestmark = pytest.mark.usefixtures("seeded_torch")


def small(levels: int, n_code: int = 16) -> QuantisedAutoencoder:
    convention = Convention(event_shape=(2, 8, 8))
    return QuantisedAutoencoder(n_code, n_tx=8, n_delay=8, levels=levels, convention=convention)


@pytest.fixture
def started(
    draw_x: Callable[..., Tensor], linear_start: Callable[..., tuple[Klt, LinearStart]]
) -> Callable[..., tuple[Klt, QuantisedAutoencoder]]:
    """The KLT of some channels, and a net that starts there."""

    def start(levels: int) -> tuple[Klt, QuantisedAutoencoder]:
        x = draw_x(64)
        klt, begin = linear_start(x, 16)
        deviation = klt.encode(x).square().mean(0).sqrt()
        net = small(levels)
        net.start_from(LinearStart(basis=begin.basis, deviation=deviation))
        return klt, net

    return start


# --- Levels ---------------------------------------------------------------------------------------


@pytest.mark.property
@given(levels=st.integers(2, 40), scale=st.floats(1e-3, 1e3), seed=st.integers(0, 99))
def test_companded_values_are_few_odd_and_nearest(levels: int, scale: float, seed: int) -> None:
    u = scale * torch.randn(500, generator=torch.Generator().manual_seed(seed))
    cell = (torch.tanh(u / 2) + 1) * levels / 2
    u = u[(cell - cell.round()).abs() > 1e-4]  # on an edge the last bit decides
    u_hat = companded(u, levels)
    assert u_hat.unique().numel() <= levels
    assert torch.allclose(companded(-u, levels), -u_hat, atol=1e-4)
    assert torch.equal(companded(u_hat, levels), u_hat)  # a level is its own nearest
    assert torch.all((u_hat[u.argsort()].diff()) >= 0)
    squashed = (torch.tanh(u_hat / 2) - torch.tanh(u / 2)).abs()
    assert float(squashed.max()) <= 1 / levels + 1e-5


@pytest.mark.unit
def test_a_number_that_is_none_is_told() -> None:
    """Not quietly sent as the lowest level."""
    u_hat = companded(torch.tensor([float("nan"), float("inf"), 0.3]), 4)
    assert torch.equal(u_hat.isnan(), torch.tensor([True, False, False]))
    assert float(u_hat[1]) == pytest.approx(2 * math.atanh(0.75))


@pytest.mark.unit
def test_the_gradient_passes_the_rounding() -> None:
    """That of 2 atanh(q + tanh(u/2) - c) in u, with c held at tanh(u/2): finite everywhere."""
    u = torch.linspace(-6, 6, 41, requires_grad=True)
    u_hat = companded(u, 8)
    (slope,) = torch.autograd.grad(u_hat.sum(), u)
    expected = torch.cosh(u_hat / 2).square() / torch.cosh(u / 2).square()
    assert torch.allclose(slope, expected, rtol=1e-4)
    (far,) = torch.autograd.grad(
        companded(edge := torch.tensor([60.0], requires_grad=True), 8), edge
    )
    assert float(far) == pytest.approx(0.0, abs=1e-6)


# --- The code -------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("levels", [2, 3, 8])
def test_what_is_fed_back_is_one_of_the_declared_codewords(
    levels: int,
    started: Callable[..., tuple[Klt, QuantisedAutoencoder]],
    draw_x: Callable[..., Tensor],
) -> None:
    """Decode needs no more than it: bits count all the codewords there are."""
    _, net = started(levels)
    x = draw_x(200, seed=5)
    z = net.encode(x)
    assert max(column.unique().numel() for column in z.T) == levels
    assert torch.equal(net.decode(z), net(x))
    bits = net.bits(z)
    assert (bits.shape, bits.dtype) == ((200,), torch.int64)
    assert 2.0 ** (int(bits[0]) - 1) < levels**16 <= 2 ** int(bits[0])


@pytest.mark.unit
@pytest.mark.parametrize(
    ("levels", "n_code", "bits"), [(2, 16, 16), (8, 128, 384), (3, 16, 26), (5, 512, 1189)]
)
def test_bits_are_rounded_up_once(levels: int, n_code: int, bits: int) -> None:
    """ceil(n_code log2 levels): powers of two exactly, others packed together."""
    z = torch.zeros(3, n_code)
    assert small(levels, n_code).bits(z).tolist() == [bits] * 3
    assert bits == math.ceil(n_code * math.log2(levels))


@pytest.mark.unit
def test_the_start_is_the_quantised_klt(
    started: Callable[..., tuple[Klt, QuantisedAutoencoder]], draw_x: Callable[..., Tensor]
) -> None:
    """Exactly, in training as in evaluation; with ever more levels it is the KLT itself."""
    x = draw_x(64)
    klt, net = started(8)
    for mode in (True, False):
        net.train(mode)
        assert torch.allclose(net.encode(x), net.quantised(klt.encode(x)), atol=1e-4)
        assert torch.allclose(net(x), klt.decode(net.quantised(klt.encode(x))), atol=1e-4)
    apart = []
    for levels in (2, 4, 16, 256, 4096):
        klt, net = started(levels)
        apart.append(float(nmse(klt(x), net(x).detach()).mean()))
    assert apart == sorted(apart, reverse=True)
    assert apart[-1] < 1e-4
    assert apart[0] > 0.1


@pytest.mark.unit
def test_levels_fit_each_code_number(
    started: Callable[..., tuple[Klt, QuantisedAutoencoder]],
    linear_start: Callable[..., tuple[Klt, LinearStart]],
    draw_x: Callable[..., Tensor],
) -> None:
    """Laid over one common deviation, the same levels lose more."""
    x = draw_x(64)
    klt, net = started(8)
    common = small(8)
    common.start_from(LinearStart(basis=linear_start(x, 16)[1].basis))
    error = [float(nmse(klt(x), one(x).detach()).mean()) for one in (net, common)]
    assert error[0] < error[1] / 1.5


@pytest.mark.unit
def test_every_weight_learns_from_the_start(
    started: Callable[..., tuple[Klt, QuantisedAutoencoder]], draw_x: Callable[..., Tensor]
) -> None:
    x, net = draw_x(64), started(8)[1]
    first = float(nmse(x, net(x).detach()).mean())
    before = {name: weight.detach().clone() for name, weight in net.named_parameters()}
    optimizer = torch.optim.Adam(net.parameters(), lr=2e-3)
    for _ in range(12):
        optimizer.zero_grad()
        nmse(x, net(x)).mean().backward()
        optimizer.step()
    for name, weight in net.named_parameters():
        assert not torch.equal(weight, before[name]), name
    assert float(nmse(x, net(x).detach()).mean()) < 0.95 * first


@pytest.mark.unit
def test_half_precision_keeps_the_levels(
    started: Callable[..., tuple[Klt, QuantisedAutoencoder]], draw_x: Callable[..., Tensor]
) -> None:
    _, net = started(16)
    with torch.autocast("cpu", torch.bfloat16):
        z = net.encode(draw_x(200))
    assert z.dtype == torch.float32
    assert max(column.unique().numel() for column in z.T) <= 16


@pytest.mark.unit
@pytest.mark.parametrize("train", [False, True])
def test_it_passes_the_preflight_and_knows_no_neighbours(
    train: bool,
    started: Callable[..., tuple[Klt, QuantisedAutoencoder]],
    draw_x: Callable[..., Tensor],
) -> None:
    x = draw_x(9)
    net: Any = started(8)[1].train(train)
    if not train:
        check_compressor(net, x, name="conv-fsq")
    parts = torch.cat([net(part) for part in x.split(4)])
    assert torch.allclose(parts, net(x), atol=1e-4)
