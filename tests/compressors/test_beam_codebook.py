"""The beam-delay codebook against explicit steering vectors and a search written out in loops."""

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from channels import (
    Convention,
    CsiAuditError,
    rotate_phase,
    stack_real,
    to_angular_delay,
    to_complex,
    to_spatial_frequency,
)
from compressors import check_compressor, nmse, sgcs
from compressors.beam_codebook import BeamCodebook
from compressors.beam_report import BeamReport
from compressors.preflight import check_gradient

Draw = Callable[..., Tensor]
Complex = NDArray[np.complexfloating[Any, Any]]
AMPLITUDES = [2 ** (-k / 2) for k in range(8)]
SHAPES = [(8, 8), (8, 24), (6, 10)]  # antennas, delays; 24 delays are chosen within a window


def codebook(n_tx: int, n_delay: int, counts: tuple[int, int, int] = (3, 4, 7)) -> BeamCodebook:
    beams, delays, kept = counts
    return BeamCodebook.of_report(
        BeamReport(n_beams=beams, n_delays=delays, n_kept=kept, n_tx=n_tx, n_delay=n_delay)
    )


def steering(beam: float, n: int) -> Complex:
    """exp(+j 2 pi a beam / n) / sqrt(n) over the antennas."""
    return np.exp(2j * np.pi * np.arange(n) * beam / n) / np.sqrt(n)


def tones(delay: float, n: int) -> Complex:
    """exp(-j 2 pi k delay / n) / sqrt(n) over the subcarriers."""
    return np.exp(-2j * np.pi * np.arange(n) * delay / n) / np.sqrt(n)


def parts(network: BeamCodebook, z: Tensor) -> dict[str, NDArray[Any]]:
    """The fields of one codeword."""
    names = ("rotation", "strongest", "beams", "delays", "re", "im", "position")
    found = {name: part.numpy() for name, part in zip(names, network._split(z), strict=True)}
    whole = ("rotation", "strongest", "beams", "delays", "position")
    return {k: v.astype(int) if k in whole else v.astype(float) for k, v in found.items()}


# --- The code -------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(("n_tx", "n_delay"), SHAPES)
def test_a_codeword_is_a_sum_of_beams_and_delays(n_tx: int, n_delay: int, draw_x: Draw) -> None:
    """Decoded to the spatial-frequency domain and compared term by term."""
    network = codebook(n_tx, n_delay)
    z = network.encode(draw_x(6, (2, n_tx, n_delay)))
    h_hat = to_spatial_frequency(to_complex(network.decode(z)))[:, 0].numpy()
    assert z.shape == (6, network.n_code) == (6, 2 + 3 + 4 + 3 * 7)
    for n in range(6):
        field = {name: part[0] for name, part in parts(network, z[n : n + 1]).items()}
        expected = np.zeros((n_tx, n_delay), dtype=complex)
        for re, im, at in zip(field["re"], field["im"], field["position"], strict=True):
            beam = field["beams"][at // 4] + field["rotation"][0] / 4
            delay = field["strongest"][0] + field["delays"][at % 4]
            expected += (re + 1j * im) * np.outer(steering(beam, n_tx), tones(delay, n_delay))
        assert np.allclose(h_hat[n], expected, atol=1e-5)


@pytest.mark.unit
@pytest.mark.parametrize(("n_tx", "n_delay"), SHAPES)
def test_what_a_report_can_say(n_tx: int, n_delay: int, draw_x: Draw) -> None:
    """Amplitudes and phases of the tables; delay 0 among 2 M neighbours; each position once."""
    network = codebook(n_tx, n_delay)
    z = network.encode(draw_x(40, (2, n_tx, n_delay)))
    field = parts(network, z)
    value = field["re"] + 1j * field["im"]
    sent = value != 0
    assert sent.any(1).all()
    relative = value / np.take_along_axis(value, np.abs(value).argmax(1)[:, None], 1)
    amplitude, phase = np.abs(relative[sent]), np.angle(relative[sent]) * 16 / (2 * np.pi)
    assert np.abs(amplitude[:, None] - AMPLITUDES).min(1).max() < 1e-5
    assert np.abs(phase - phase.round()).max() < 1e-4
    assert (field["delays"][:, 0] == 0).all()
    for name, limit in (("beams", n_tx), ("delays", n_delay), ("position", 12)):
        assert (np.diff(field[name]) > 0).all()
        assert field[name].min() >= 0
        assert field[name].max() < limit
    if network.report.is_windowed:
        for row in field["delays"]:
            spans = [max((d - start) % n_delay for d in row) for start in range(n_delay)]
            assert min(spans) <= 2 * 4 - 1


@pytest.mark.unit
@pytest.mark.parametrize("rotation", range(4))
@pytest.mark.parametrize("n_delay", [8, 24])
def test_one_path_on_the_grid_is_found(rotation: int, n_delay: int) -> None:
    """What is left is the gain: half an eighth of an octave and 1/128 of a turn."""
    network = codebook(8, n_delay, (1, 1, 1))
    phases = torch.linspace(0, 6, 20)
    path = np.outer(steering(5 + rotation / 4, 8), tones(6, n_delay)) * np.sqrt(8 * n_delay)
    h = torch.polar(torch.ones(20), phases)[:, None, None, None] * torch.tensor(path)[None, None]
    x = stack_real(to_angular_delay(h.to(torch.complex64)))
    field = parts(network, network.encode(x))
    assert set(field["rotation"][:, 0]) == {rotation}
    assert set(field["beams"][:, 0]) == {5}
    assert set(field["strongest"][:, 0]) == {6}
    gain = (field["re"] + 1j * field["im"])[:, 0] / np.sqrt(8 * n_delay)
    assert np.allclose(np.abs(gain), 1, atol=1e-5)
    off = np.angle(gain * np.exp(-1j * phases.numpy()))
    assert np.abs(off).max() <= np.pi / 64 + 1e-5
    assert float(nmse(x, network(x)).max()) <= (np.pi / 64) ** 2 + 1e-5


# --- The encoder, written out ---------------------------------------------------------------------


def best_delays(power: NDArray[Any], m: int, windowed: bool) -> list[int]:
    """Delay 0 and the M - 1 strongest others that the standard lets it have."""
    n = len(power)
    starts = range(-2 * m + 1, 1) if windowed else [0]
    best: tuple[float, list[int]] = (-1.0, [])
    for start in starts:
        window = [(start + j) % n for j in range(2 * m if windowed else n)]
        others = sorted((d for d in window if d), key=lambda d: (-power[d], d))[: m - 1]
        total = float(sum(power[d] for d in others))
        if total > best[0] + 1e-12:
            best = (total, sorted([0, *others]))
    return best[1]


def written_out(network: BeamCodebook, h: Complex) -> tuple[Complex, int]:
    """Reconstruction of one channel (n_tx, n_delay) and its number of coefficients, in loops."""
    report, (n_tx, n) = network.report, h.shape
    best: tuple[float, Any] = (-1.0, None)
    for q in range(4):
        grid = np.array(
            [[steering(b + q / 4, n_tx).conj() @ h @ tones(d, n).conj() for d in range(n)]
             for b in range(n_tx)]
        )  # fmt: skip
        order = sorted(range(n_tx), key=lambda b: -float((np.abs(grid[b]) ** 2).sum()))
        beams = sorted(order[: report.n_beams])
        held = np.sort((np.abs(grid[beams]) ** 2).ravel())[::-1][: report.n_kept].sum()
        if held > best[0] * (1 + 1e-9):
            best = (float(held), (q, beams, grid[beams]))
    q, beams, rows = best[1]
    top = int(np.abs(rows).max(0).argmax())
    rows = np.roll(rows, -top, axis=1)
    delays = best_delays((np.abs(rows) ** 2).sum(0), report.n_delays, report.is_windowed)
    c = {(b, d): rows[i, d] for i, b in enumerate(beams) for d in delays}
    kept = sorted(c, key=lambda at: -abs(c[at]))[: report.n_kept]
    shape = {}
    for at in kept:
        relative = c[at] / c[kept[0]]
        amplitude = min(AMPLITUDES, key=lambda level: abs(level - abs(relative)))
        phase = np.exp(2j * np.pi * round(np.angle(relative) * 16 / (2 * np.pi)) / 16)
        if abs(relative) > AMPLITUDES[-1] / 2:
            shape[at] = amplitude * phase
    power = sum(abs(s) ** 2 for s in shape.values())
    gain = sum(np.conj(s) * c[at] for at, s in shape.items()) / power
    step = np.clip(np.round(8 * np.log2(np.sqrt(n_tx * n) / abs(gain))), 0, 63)
    turn = np.round(np.angle(gain) * 64 / (2 * np.pi)) / 64
    gain = np.sqrt(n_tx * n) * 2 ** (-step / 8) * np.exp(2j * np.pi * turn)
    terms = [
        gain * s * np.outer(steering(b + q / 4, n_tx), tones(d + top, n))
        for (b, d), s in shape.items()
    ]
    return np.sum(terms, axis=0), len(shape)


@pytest.mark.property
@given(st.integers(0, 2**31), st.integers(1, 13), st.sampled_from([8, 19, 20, 26]))
def test_delays_come_from_the_best_window(seed: int, m: int, n_delay: int) -> None:
    m = min(m, n_delay // 2)
    network = codebook(4, n_delay, (1, m, 1))
    generator = torch.Generator().manual_seed(seed)
    power = torch.rand(3, n_delay, generator=generator, dtype=torch.float64) ** 4
    expected = [best_delays(row.numpy(), m, network.report.is_windowed) for row in power]
    assert network._best_delays(power).tolist() == expected


@pytest.mark.unit
@pytest.mark.parametrize(("n_tx", "n_delay"), SHAPES)
@pytest.mark.parametrize("counts", [(3, 4, 7), (1, 2, 2), (6, 5, 9)])
def test_the_encoder_is_the_search_written_out(
    n_tx: int, n_delay: int, counts: tuple[int, int, int], draw_x: Draw
) -> None:
    network = codebook(n_tx, n_delay, counts)
    x = draw_x(6, (2, n_tx, n_delay), seed=3)
    z = network.encode(x)
    h = to_spatial_frequency(to_complex(x).to(torch.complex128))[:, 0].numpy()
    h_hat = to_spatial_frequency(to_complex(network.decode(z)))[:, 0].numpy()
    for n in range(6):
        expected, n_sent = written_out(network, h[n])
        assert np.allclose(h_hat[n], expected, atol=1e-4)
        assert int(network.bits(z)[n]) == sum(network.report.bit_items(n_sent).values())


# --- Bits, scale, phase ---------------------------------------------------------------------------


@pytest.mark.unit
def test_bits_follow_the_channel(draw_x: Draw) -> None:
    """A channel of one path reports one coefficient; of a rich one only weak ones are dropped."""
    network = codebook(8, 8, (4, 8, 32))
    rich = draw_x(30, (2, 8, 8))
    lone = torch.zeros(1, 2, 8, 8)
    lone[0, 0, 3, 2] = 8.0
    bits = network.bits(network.encode(torch.cat((rich, lone))))
    assert bits.dtype == torch.int64
    assert int(bits.max()) <= network.report.most_bits
    assert int(bits[-1]) == sum(network.report.bit_items(1).values()) < int(bits[:-1].min())
    assert len(bits.unique()) > 3


@pytest.mark.unit
def test_the_report_does_not_know_scale_and_phase(draw_x: Draw) -> None:
    """The gain alone does; SGCS, the metric of a precoder, is the same."""
    network = codebook(8, 24)
    x = draw_x(30, (2, 8, 24))
    other = 0.7 * rotate_phase(x, torch.linspace(0, 6, 30))
    first, second = parts(network, network.encode(x)), parts(network, network.encode(other))
    for name in ("rotation", "strongest", "beams", "delays", "position"):
        assert np.array_equal(first[name], second[name])
    a, b = (field["re"] + 1j * field["im"] for field in (first, second))
    strongest = np.abs(a).argmax(1)[:, None]
    first_shape, second_shape = (v / np.take_along_axis(v, strongest, 1) for v in (a, b))
    assert np.allclose(first_shape, second_shape, atol=1e-5)

    def precoder_loss(x: Tensor) -> Tensor:
        h, h_hat = (to_spatial_frequency(to_complex(part)) for part in (x, network(x)))
        return sgcs(h, h_hat)

    assert torch.allclose(precoder_loss(x), precoder_loss(other), atol=1e-5)


@pytest.mark.unit
def test_a_larger_report_loses_less(draw_x: Draw) -> None:
    x = draw_x(60, (2, 8, 8))
    errors = []
    for budget in (30, 60, 100, 160, 300):
        network = BeamCodebook.for_bits(x, budget)
        assert int(network.bits(network.encode(x)).max()) <= budget
        errors.append(float(nmse(x, network(x)).mean()))
    assert all(b < a for a, b in itertools.pairwise(errors))
    fixed = codebook(8, 8, (2, 2, 2))
    assert fixed.report.most_bits <= 60
    assert float(nmse(x, fixed(x)).mean()) >= errors[1]


@pytest.mark.unit
def test_with_all_beams_and_delays_only_coarseness_is_left(draw_x: Draw) -> None:
    """Amplitudes within a quarter of an octave, phases within 1/32 of a turn: -16 dB and better."""
    x = draw_x(60, (2, 8, 8))
    network = codebook(8, 8, (8, 8, 64))
    assert float(nmse(x, network(x)).mean()) < 10**-1.6
    assert bool((network.encode(x)[:, 0] == 0).all())  # every rotation holds the same energy


# --- As a compressor ------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("counts", [(3, 4, 7), (8, 4, 32), (8, 8, 64)])
def test_it_passes_the_preflight(counts: tuple[int, int, int], draw_x: Draw) -> None:
    x = draw_x(64)
    network = codebook(8, 8, counts)
    check_compressor(network, x, name="beams")
    check_gradient(network, x, name="beams")
    alone = torch.cat([network.encode(row) for row in x.split(1)])
    assert torch.allclose(alone, network.encode(x), rtol=1e-6, atol=1e-6)


@pytest.mark.unit
def test_the_gradient_is_that_of_the_chosen_coefficients(draw_x: Draw) -> None:
    """An orthogonal projection: applied to its own answer it gives that answer."""
    x = draw_x(20).requires_grad_(True)
    network = codebook(8, 8)
    x_hat = network(x)
    (slope,) = torch.autograd.grad((x_hat * x_hat.detach()).sum(), x)
    assert torch.allclose(slope, x_hat.detach(), atol=1e-5)
    direction = draw_x(20, seed=9)
    (slope,) = torch.autograd.grad((network(x) * direction).sum(), x)
    assert bool((slope.flatten(1).norm(dim=1) < direction.flatten(1).norm(dim=1)).all())


@pytest.mark.unit
def test_nothing_and_not_a_number(draw_x: Draw) -> None:
    network = codebook(8, 8)
    x = torch.cat((torch.zeros(1, 2, 8, 8), draw_x(2)))
    bad = x.clone()
    bad[1, 0, 0, 0] = torch.nan
    x_hat = network(bad)
    assert bool(x_hat[0].isfinite().all())
    assert bool(x_hat[1].isnan().any())
    assert torch.equal(x_hat[2], network(x)[2])


@pytest.mark.unit
def test_options_build_it_again(draw_x: Draw) -> None:
    network = BeamCodebook.for_bits(draw_x(20), 90)
    again = BeamCodebook(**network.options, n_tx=8, n_delay=8)
    assert again.options == network.options
    assert torch.equal(again(draw_x(5)), network(draw_x(5)))


@pytest.mark.unit
def test_arrays_that_are_no_row(draw_x: Draw) -> None:
    convention = Convention(event_shape=(2, 8, 8), panel=(2, 1, 4))
    message = r"reads one row of antennas of one polarisation; got the panel \(2, 1, 4\)"
    with pytest.raises(CsiAuditError, match=message):
        BeamCodebook(2, 2, 3, n_tx=8, n_delay=8, convention=convention)
    with pytest.raises(CsiAuditError, match=r"reads one receive antenna; got 2\. A precoder of"):
        BeamCodebook.for_bits(draw_x(4, (4, 4, 8)), 90)
    with pytest.raises(CsiAuditError, match=r"bits must pay for one beam and one delay; got 12\."):
        BeamCodebook.for_bits(draw_x(4), 12)
    with pytest.raises(CsiAuditError, match=r"n_kept must lie in 1\.\.4; got 5\."):
        BeamCodebook(2, 2, 5, n_tx=8, n_delay=8)
