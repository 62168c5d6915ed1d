"""The strongest taps: which are kept, what that costs, and what an oracle would not pay."""

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels import CsiAuditError, rotate_phase, to_complex
from compressors import check_compressor, nmse
from compressors.preflight import check_gradient
from compressors.top_taps import TopTaps, _most_taps, position_bits

Draw = Callable[..., Tensor]


def error(network: TopTaps, x: Tensor) -> float:
    return float((network(x) - x).double().square().mean())


# --- Which taps, and what their positions cost ----------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(("shape", "k"), [((2, 8, 8), 5), ((4, 4, 8), 9), ((2, 8, 8), 64)])
def test_the_largest_are_kept_as_they_are(
    shape: tuple[int, int, int], k: int, draw_x: Draw
) -> None:
    """Without a quantiser: a hard threshold, whose loss is the energy beneath it."""
    x = draw_x(20, shape)
    network = TopTaps(k, n_rx=shape[0] // 2, n_tx=shape[1], n_delay=shape[2])
    z = network.encode(x)
    assert z.shape == (20, network.n_code) == (20, 3 * k)
    assert network.bits(z) is None
    taps = to_complex(x).flatten(1).numpy()
    order = np.argsort(-np.abs(taps), axis=1)[:, :k]
    expected = np.zeros_like(taps)
    np.put_along_axis(expected, order, np.take_along_axis(taps, order, 1), 1)
    x_hat = network(x)
    assert np.array_equal(to_complex(x_hat).flatten(1).numpy(), expected)
    assert np.array_equal(np.sort(order, axis=1), z[:, 2 * k :].numpy())
    lost = 1 - np.square(np.abs(expected)).sum(1) / np.square(np.abs(taps)).sum(1)
    assert nmse(x, x_hat).tolist() == pytest.approx(lost.tolist(), abs=1e-6)


@pytest.mark.property
@given(st.integers(1, 1100).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_position_bits_number_all_sets(case: tuple[int, int]) -> None:
    k, n = case
    bits = position_bits(k, n)
    assert 2**bits >= math.comb(n, k)
    assert bits == 0 or 2 ** (bits - 1) < math.comb(n, k)
    assert bits == position_bits(n - k, n)


@pytest.mark.unit
def test_known_bits(draw_x: Draw) -> None:
    """C(64, 5) = 7,624,512 takes 23 bits, each value 3 + 4."""
    x = draw_x(20)
    paying = TopTaps(5, amplitude_bits=3, phase_bits=4, n_tx=8, n_delay=8).fit(x)
    oracle = TopTaps(5, amplitude_bits=3, phase_bits=4, oracle=True, n_tx=8, n_delay=8).fit(x)
    z = paying.encode(x)
    bits = paying.bits(z)
    assert bits is not None
    assert bits.tolist() == [5 * 7 + 23] * 20
    free = oracle.bits(z)
    assert free is not None
    assert free.tolist() == [5 * 7] * 20
    assert torch.equal(oracle(x), paying(x))


# --- Values ---------------------------------------------------------------------------------------


@pytest.mark.unit
def test_values_are_the_nearest_that_can_be_sent(draw_x: Draw) -> None:
    """Nearest phase first, then the radius nearest to what is left along it."""
    x = draw_x(40)
    network = TopTaps(6, amplitude_bits=2, phase_bits=3, n_tx=8, n_delay=8).fit(x)
    z = network.encode(x)
    sent = torch.complex(z[:, :6], z[:, 6:12])
    kept = to_complex(x).flatten(1).gather(1, z[:, 12:].long())
    angle = 2 * torch.pi * torch.arange(8) / 8
    points = torch.polar(torch.ones(8), angle)
    phase = points[(kept / kept.abs() - points[:, None, None]).abs().argmin(0)]
    assert torch.allclose(sent / sent.abs(), phase, atol=1e-5)
    along = (kept * phase.conj()).real
    radius = network.radii[(along - network.radii[:, None, None]).abs().argmin(0)]
    assert torch.allclose(sent.abs(), radius, atol=1e-5)


@pytest.mark.unit
def test_trained_radii_suit_the_kept_values(draw_x: Draw) -> None:
    """Radii 10 % off, or those of another law, lose more on the training channels."""
    x = draw_x(200)
    network = TopTaps(8, amplitude_bits=2, phase_bits=4, n_tx=8, n_delay=8).fit(x)
    best = error(network, x)
    radii = network.radii.clone()
    for wrong in (0.9 * radii, 1.1 * radii, torch.linspace(0, float(radii.max()), 4)):
        network.radii.copy_(wrong)
        assert error(network, x) > best


@pytest.mark.unit
def test_a_turn_by_a_phase_of_the_code_turns_the_answer(draw_x: Draw) -> None:
    x = draw_x(30)
    network = TopTaps(6, amplitude_bits=2, phase_bits=3, n_tx=8, n_delay=8).fit(x)
    turn = torch.full((30,), 2 * torch.pi * 3 / 8)
    assert torch.allclose(network(rotate_phase(x, turn)), rotate_phase(network(x), turn), atol=1e-4)


# --- Budgets --------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("oracle", [False, True])
def test_the_best_within_a_budget(oracle: bool, draw_x: Draw) -> None:
    """Of the precisions, each with as many taps as it leaves room for."""
    x = draw_x(100)
    errors = []
    for budget in (12, 40, 100, 250):
        network = TopTaps.for_bits(x, budget, oracle=oracle)
        bits = network.bits(network.encode(x))
        assert bits is not None
        assert int(bits.max()) <= budget
        errors.append(error(network, x))
        for a, p in ((1, 2), (2, 2), (3, 4), (5, 5)):
            cost = [k * (a + p) + (0 if oracle else position_bits(k, 64)) for k in range(65)]
            k = next((k for k in range(64, 0, -1) if cost[k] <= budget), 0)
            if k:
                other = TopTaps(k, amplitude_bits=a, phase_bits=p, n_tx=8, n_delay=8).fit(x)
                assert errors[-1] <= error(other, x)
    assert all(b < a for a, b in itertools.pairwise(errors))


@pytest.mark.unit
def test_all_taps_are_cheaper_than_all_but_two() -> None:
    """All 64 of 2 bits take 128 bits; 62 of them 124, and 11 for which two are missing."""
    assert position_bits(62, 64) == 11
    assert _most_taps(128, 64, 2, oracle=False) == 64
    assert _most_taps(127, 64, 2, oracle=False) < 62


@pytest.mark.property
@given(st.integers(1, 400), st.integers(2, 9), st.booleans())
def test_no_number_of_taps_beyond_fits(bits: int, value_bits: int, oracle: bool) -> None:
    cost = [k * value_bits + (0 if oracle else position_bits(k, 64)) for k in range(65)]
    fitting = [k for k in range(65) if cost[k] <= bits]
    assert _most_taps(bits, 64, value_bits, oracle=oracle) == max(fitting)


@pytest.mark.unit
@pytest.mark.parametrize("budget", [20, 60, 120])
def test_free_positions_are_worth_something(budget: int, draw_x: Draw) -> None:
    x = draw_x(100)
    paying, oracle = TopTaps.for_bits(x, budget), TopTaps.for_bits(x, budget, oracle=True)
    assert error(oracle, x) < error(paying, x)
    assert oracle.n_taps > paying.n_taps


# --- As a compressor ------------------------------------------------------------------------------


@pytest.mark.unit
def test_it_passes_the_preflight(draw_x: Draw) -> None:
    x = draw_x(64)
    network = TopTaps.for_bits(x, 80)
    check_compressor(network, x, name="taps")
    check_gradient(network, x, name="taps")
    assert torch.equal(torch.cat([network.encode(row) for row in x.split(1)]), network.encode(x))


@pytest.mark.unit
def test_the_gradient_passes_the_kept_taps(draw_x: Draw) -> None:
    x = draw_x(10).requires_grad_(True)
    network = TopTaps(6, amplitude_bits=2, phase_bits=3, n_tx=8, n_delay=8).fit(x.detach())
    x_hat = network(x)
    direction = draw_x(10, seed=4)
    (slope,) = torch.autograd.grad((x_hat * direction).sum(), x)
    kept = to_complex(x_hat.detach()) != 0
    assert int(kept.sum()) == 60
    assert torch.allclose(to_complex(slope), to_complex(direction) * kept, atol=1e-6)


@pytest.mark.unit
def test_options_build_it_again(draw_x: Draw) -> None:
    network = TopTaps.for_bits(draw_x(50), 60)
    again = TopTaps(**network.options, n_tx=8, n_delay=8)
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(draw_x(5)), network(draw_x(5)))
    assert again.options == network.options


@pytest.mark.unit
@pytest.mark.parametrize(
    ("n_taps", "amplitude_bits", "phase_bits", "message"),
    [
        (0, None, None, r"n_taps must lie in 1\.\.64, the coefficients; got 0\."),
        (65, 3, 4, r"n_taps must lie in 1\.\.64, the coefficients; got 65\."),
        (4, 3, None, r"amplitude_bits and phase_bits must be given together .* got 3 and None\."),
        (4, 9, 4, r"amplitude_bits must lie in 0\.\.8 and phase_bits in 1\.\.12; got 9 and 4\."),
        (4, 3, 0, r"amplitude_bits must lie in 0\.\.8 and phase_bits in 1\.\.12; got 3 and 0\."),
    ],
)
def test_counts_out_of_range(
    n_taps: int, amplitude_bits: int | None, phase_bits: int | None, message: str
) -> None:
    with pytest.raises(CsiAuditError, match=message):
        TopTaps(n_taps, amplitude_bits=amplitude_bits, phase_bits=phase_bits, n_tx=8, n_delay=8)


@pytest.mark.unit
def test_a_budget_for_nothing(draw_x: Draw) -> None:
    with pytest.raises(CsiAuditError, match=r"bits must pay for one tap of 64 .*; got 7\."):
        TopTaps.for_bits(draw_x(), 7)
    assert TopTaps.for_bits(draw_x(), 8).n_taps == 1
