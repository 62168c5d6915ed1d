"""The KLT in bits: within its budget, never better than unquantised, with the best allocation."""

import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from channels import CsiAuditError
from compressors import Klt, check_compressor, nmse
from compressors.preflight import check_gradient
from compressors.quantised_klt import QuantisedKlt
from compressors.quantisers import ScalarQuantiser

Draw = Callable[..., Tensor]


def error(network: QuantisedKlt | Klt, x: Tensor) -> float:
    return float((network(x) - x).double().square().sum(dim=(1, 2, 3)).mean())


def mirrored(network: Klt, x: Tensor) -> list[Tensor]:
    """Training values of each real coefficient: both parts and their negatives."""
    pairs = network.encode(x).double().split(2, dim=1)
    return [torch.cat((pair, -pair)) for pair in pairs for _ in range(2)]


# --- Bits and distortion --------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("budget", [1, 2, 7, 24, 60, 200])
def test_the_budget_is_kept_and_used(budget: int, draw_x: Draw) -> None:
    x = draw_x(400)
    network = QuantisedKlt.for_bits(x, budget)
    z = network.encode(x)
    bits = network.bits(z)
    assert bits.dtype == torch.int64
    assert bits.tolist() == [budget] * len(x)
    assert int(network.depth.sum()) == budget
    assert z.shape == (400, network.n_code)
    deepest = int(network.depth.max())
    assert network.options == {"n_code": network.n_code, "budget": budget, "deepest": deepest}
    assert network.levels.shape == (network.n_code, 2**deepest)  # no table wider than it is used
    index = network.indices(z)
    assert bool((index >= 0).all())
    assert bool((index < 2**network.depth).all())
    assert torch.equal(network.levels.gather(1, index.T).T, z)


@pytest.mark.unit
def test_more_bits_lose_less(draw_x: Draw) -> None:
    x = draw_x(400)
    errors = [error(QuantisedKlt.for_bits(x, budget), x) for budget in (1, 4, 12, 30, 80, 160)]
    assert all(b < a for a, b in itertools.pairwise(errors))


@pytest.mark.unit
@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 4, 8)])
def test_a_quantiser_loses_something_in_every_channel(
    shape: tuple[int, int, int], draw_x: Draw
) -> None:
    """||x - x_hat||^2 = ||x - U c||^2 + ||c - z||^2: the residual is orthogonal to the code."""
    x = draw_x(300, shape)
    n_rx, n_tx, n_delay = shape[0] // 2, *shape[1:]
    network = QuantisedKlt(12, budget=30, n_tx=n_tx, n_delay=n_delay, n_rx=n_rx).fit(x)
    klt = network.klt
    z = network.encode(x)
    added = (klt.encode(x) - z).square().sum(1) / x.square().sum(dim=(1, 2, 3))
    assert torch.allclose(nmse(x, network(x)), nmse(x, klt(x)) + added, atol=1e-5)
    assert bool((nmse(x, network(x)) > nmse(x, klt(x))).all())


@pytest.mark.unit
def test_with_plenty_of_bits_it_is_the_klt(draw_x: Draw) -> None:
    x = draw_x(2000)
    network = QuantisedKlt(8, budget=64, n_tx=8, n_delay=8).fit(x)
    assert network.depth.tolist() == [8] * 8
    assert error(network.klt, x) < error(network, x) < 1.001 * error(network.klt, x)


@pytest.mark.unit
@pytest.mark.parametrize("budget", [1, 3, 6])
def test_no_allocation_of_real_quantisers_is_better(budget: int, draw_x: Draw) -> None:
    """Exhaustive search over all bits of four coefficients, each with its trained levels."""
    x = draw_x(200)
    network = QuantisedKlt(4, budget=budget, n_tx=8, n_delay=8).fit(x)
    klt, c = network.klt, network.klt.encode(x).double()
    values = mirrored(klt, x)
    left = [
        [float(c[:, i].square().mean())]
        + [ScalarQuantiser.fit(values[i], b).mse(c[:, i]) for b in range(1, budget + 1)]
        for i in range(4)
    ]
    choices = itertools.product(range(budget + 1), repeat=4)
    best = min(
        sum(row[b] for row, b in zip(left, choice, strict=True))
        for choice in choices
        if sum(choice) <= budget
    )
    assert error(network, x) == pytest.approx(error(klt, x) + best, rel=1e-4)


@pytest.mark.unit
def test_a_coefficient_of_few_values_leaves_its_bits_to_others() -> None:
    """Unequal laws of like variance: +-a takes 1 bit, a heavy tail the other 5, not 3 each."""
    corners = torch.tensor([1 + 1j, 1 - 1j, -1 + 1j, -1 - 1j]).repeat(200)
    u = torch.rand(200, 2, generator=torch.Generator().manual_seed(0)) - 0.5
    tail = torch.view_as_complex(-u.sign() * torch.log1p(-2 * u.abs())).repeat_interleave(4)
    x = torch.zeros(800, 2, 2, 2)
    x[:, 0, 0, 0], x[:, 1, 0, 0] = corners.real, corners.imag
    x[:, 0, 1, 1], x[:, 1, 1, 1] = 0.7 * tail.real, 0.7 * tail.imag
    network = QuantisedKlt(4, budget=12, n_tx=2, n_delay=2).fit(x)
    assert sorted(network.depth.tolist()) == [1, 1, 5, 5]
    assert torch.allclose(network(x)[:, :, 0, 0], x[:, :, 0, 0], atol=1e-4)


@pytest.mark.unit
@pytest.mark.parametrize("budget", [2, 24, 90])
def test_coefficients_below_the_water_level_are_rightly_left_out(budget: int, draw_x: Draw) -> None:
    """All 128 of them as candidates come to the same code."""
    x = draw_x(300)
    every = QuantisedKlt(128, budget=budget, n_tx=8, n_delay=8).fit(x)
    best = QuantisedKlt.for_bits(x, budget)
    assert best.n_code < every.n_code
    assert error(best, x) == pytest.approx(error(every, x), rel=1e-6)
    used = best.depth.unflatten(0, (-1, 2)).amax(1)
    assert bool((used > 0).all())


@pytest.mark.unit
def test_a_limit_on_the_code_length(draw_x: Draw) -> None:
    x = draw_x(300)
    short, free = QuantisedKlt.for_bits(x, 60, n_code=8), QuantisedKlt.for_bits(x, 60)
    assert short.n_code <= 8 < free.n_code
    assert error(short, x) > error(free, x)


@pytest.mark.unit
@pytest.mark.parametrize(("n", "deepest"), [(2, 1), (20, 2), (100, 4), (2000, 8)])
def test_few_users_train_few_levels(n: int, deepest: int, draw_x: Draw) -> None:
    """At least 16 values a level: both parts of each user's coefficient, mirrored."""
    network = QuantisedKlt(2, budget=100, n_tx=8, n_delay=8).fit(draw_x(n))
    assert int(network.depth.max()) == deepest


# --- As a compressor ------------------------------------------------------------------------------


@pytest.mark.unit
def test_it_passes_the_preflight(draw_x: Draw) -> None:
    x = draw_x(64)
    network = QuantisedKlt.for_bits(x, 30)
    check_compressor(network, x, name="klt")
    check_gradient(network, x, name="klt")


@pytest.mark.unit
def test_codewords_do_not_depend_on_the_batch(draw_x: Draw) -> None:
    x = draw_x(200)
    network = QuantisedKlt.for_bits(x, 60)
    z = network.encode(x)
    assert torch.equal(torch.cat([network.encode(row) for row in x.split(1)]), z)
    assert torch.equal(network.encode(x.flip(0)).flip(0), z)
    assert torch.equal(network.encode(x), z)
    assert z.dtype == torch.float32


@pytest.mark.unit
def test_the_gradient_is_that_of_the_projection(draw_x: Draw) -> None:
    """On coefficients with bits, within their levels; beyond them it is zero."""
    x = draw_x(300)
    network = QuantisedKlt.for_bits(x, 40)
    direction = draw_x(1, seed=5)
    quiet = (0.01 * x[:5]).requires_grad_(True)
    (slope,) = torch.autograd.grad((network(quiet) * direction).sum(), quiet)
    rows = network.klt.real_rows()[network.depth > 0]
    expected = (rows.T @ (rows @ direction.flatten())).view_as(direction)
    assert torch.allclose(slope, expected.expand_as(slope), atol=1e-5)
    loud = (1e4 * x[:5]).requires_grad_(True)
    (slope,) = torch.autograd.grad((network(loud) * direction).sum(), loud)
    assert torch.count_nonzero(slope) == 0


@pytest.mark.unit
def test_not_a_number_stays_one(draw_x: Draw) -> None:
    x = draw_x(60)
    network = QuantisedKlt.for_bits(x, 30)
    bad = x[:2].clone()
    bad[0, 0, 0, 0] = torch.nan
    x_hat = network(bad)
    assert bool(x_hat[0].isnan().any())
    assert torch.equal(x_hat[1], network(x[:2])[1])


@pytest.mark.unit
@pytest.mark.parametrize("deepest", [1, 3])
def test_a_limit_on_the_bits_of_a_coefficient(deepest: int, draw_x: Draw) -> None:
    x = draw_x(300)
    network = QuantisedKlt(4, budget=100, deepest=deepest, n_tx=8, n_delay=8).fit(x)
    assert network.depth.tolist() == [deepest] * 4
    with pytest.raises(CsiAuditError, match=r"deepest must lie in 0\.\.8 bits; got 9\."):
        QuantisedKlt(4, budget=100, deepest=9, n_tx=8, n_delay=8)


@pytest.mark.unit
def test_bad_input(draw_x: Draw) -> None:
    message = r"budget must be at least 1 bit; got 0\."
    with pytest.raises(CsiAuditError, match=message):
        QuantisedKlt(8, budget=0, n_tx=8, n_delay=8)
    with pytest.raises(CsiAuditError, match=message):
        QuantisedKlt.for_bits(draw_x(), 0)
    with pytest.raises(CsiAuditError, match=r"n_code of a KLT must be even .*; got 7\."):
        QuantisedKlt(7, budget=9, n_tx=8, n_delay=8)
    with pytest.raises(CsiAuditError, match=r"x must be channels of \(1, 8, 8\); got"):
        QuantisedKlt(8, budget=9, n_tx=8, n_delay=8).fit(draw_x(3, (2, 4, 8)))
