"""The formulas behind the features, on profiles and arrays whose answer is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels import feature_formulas as formulas
from channels.randomness import seeded_generator

N = 32


def gaussian(*shape: int, seed: str) -> Tensor:
    """Complex Gaussian of unit power."""
    generator = seeded_generator(0, seed)
    return torch.randn(*shape, dtype=torch.complex128, generator=generator)


def wave(delay: float, u: float, n: int = N) -> Tensor:
    """One wave over n antennas and n subcarriers, complex128 (n, n); delay in taps."""
    a, k = torch.arange(float(n)).double()[:, None], torch.arange(float(n)).double()
    phase = math.pi * u * a - 2 * math.pi * k * delay / n
    return torch.polar(torch.ones_like(phase), phase)


@pytest.mark.property
@given(delay=st.floats(0, N - 0.001), u=st.floats(-1, 0.999))
def test_the_peak_of_one_wave_is_found_between_bins(delay: float, u: float) -> None:
    h = wave(delay, u)[None, None]
    found = float(formulas.peak_bin(formulas.delay_profile(h)))
    assert abs((found - delay + N / 2) % N - N / 2) < 2e-3
    beam = float(formulas.peak_bin(formulas.beam_spectrum(h)))
    assert abs((beam - 16 * u + N / 2) % N - N / 2) < 2e-3
    assert 0 <= found < N
    assert 0 <= beam < N


@pytest.mark.unit
def test_a_flat_spectrum_has_a_peak_too() -> None:
    assert formulas.peak_bin(torch.ones(2, 8, dtype=torch.float64)).isfinite().all()
    assert formulas.peak_bin(torch.ones(2, 2, dtype=torch.float64)).tolist() == [0.0, 0.0]


@pytest.mark.unit
def test_the_window_is_hanns() -> None:
    """Weights sin^2(pi k/n) over the subcarriers."""
    h = gaussian(3, 1, 4, N, seed="window")
    found = formulas.hann_window(torch.fft.ifft(h, norm="ortho"))
    weight = torch.sin(math.pi * torch.arange(N).double() / N).square()
    torch.testing.assert_close(torch.fft.fft(found, norm="ortho"), h * weight)


@pytest.mark.unit
def test_the_last_eighth_of_the_delays_is_negative() -> None:
    d = torch.tensor([0.0, 27.9, 28.0, 31.5])
    assert formulas.signed_delay(d, 32).tolist() == pytest.approx([0.0, 27.9, -4.0, -0.5])


@pytest.mark.unit
@pytest.mark.parametrize("u", [0.0, 0.3125, -0.777])
def test_neighbour_correlation_is_its_definition(u: float) -> None:
    """Against the plain sum over pairs of neighbours, for a wave in noise."""
    s = wave(3.3, u)[None, None] + gaussian(1, 3, N, N, seed="correlation")
    upper, lower = s[:, :, 1:], s[:, :, :-1]
    power = (upper.abs().square() + lower.abs().square()).sum() / 2
    found = formulas.neighbour_correlation(s, formulas.beam_spectrum(s))
    assert complex(found) == pytest.approx(complex((upper * lower.conj()).sum() / power), abs=1e-9)


@pytest.mark.statistical
@pytest.mark.parametrize("looks", [1, 4, 32])
def test_noise_seldom_passes_its_floor(looks: int) -> None:
    """Whatever the number of antennas, at most one tap in 60 of pure noise lies above the floor."""
    noise = gaussian(2000, looks, 64, seed=f"floor {looks}").abs().square().sum(1)
    passed = noise > formulas._noise_floor(noise, looks)
    assert float(passed.double().mean()) < 1 / 60
    assert float((noise / formulas._noise_floor(noise, looks)).amax(1).median()) > 0.5


@pytest.mark.unit
def test_a_profile_without_a_path_keeps_all_its_taps() -> None:
    """Flat over all taps: no tap passes the floor, and the spread is that of the whole circle."""
    x = torch.ones(1, 1, 4, 32, dtype=torch.complex64)
    d = formulas.signed_delay(torch.arange(32.0).double(), 32)
    truth = math.sqrt(float(d.var(correction=0)) - 1 / 3)
    x[..., 1::2] *= -1  # flat in power; its window leaves all of it
    assert float(formulas.delay_spread_taps(x, 32)) == pytest.approx(truth, rel=1e-3)


@pytest.mark.unit
@pytest.mark.parametrize("power", [0.5, 0.1, 0.01])
def test_k_factor_of_waves_at_two_delays(power: float) -> None:
    """All at the second delay is diffuse: K = 1 / power, exact for delays whole taps apart."""
    h = wave(2.0, 0.2) + math.sqrt(power) * wave(9.0, -0.4)
    found = formulas.k_factor_db(h[None, None], torch.tensor([2.0]).double())
    assert float(found) == pytest.approx(-10 * math.log10(power), abs=1e-3)


@pytest.mark.unit
def test_k_factor_of_waves_at_one_delay() -> None:
    """|1 + c e^{j t}|^2 over whole turns: mean 1 + P, variance 2 P, so S = sqrt(1 + P^2)."""
    for power in (0.3, 0.1):
        h = wave(2.0, 0.25) + math.sqrt(power) * wave(2.0, -0.25)
        specular = math.sqrt(1 + power**2)
        truth = 10 * math.log10(specular / (1 + power - specular))
        found = formulas.k_factor_db(h[None, None], torch.tensor([2.0]).double())
        assert float(found) == pytest.approx(truth, abs=1e-3)


@pytest.mark.unit
def test_k_factor_of_a_spherical_wave_is_the_most_it_can_be() -> None:
    """A curved wavefront costs nothing, and receive antennas of unlike gain neither."""
    a = torch.arange(float(N)).double()[:, None]
    bent = wave(5.4, 0.3) * torch.polar(torch.ones(N, 1).double(), 0.01 * (a - 15.5).square())
    h = torch.stack([bent, 0.2j * bent])[None]
    assert float(formulas.k_factor_db(h, torch.tensor([5.4]).double())) == pytest.approx(40.0)


@pytest.mark.statistical
@pytest.mark.parametrize(("k_db", "width"), [(0.0, 7.0), (6.0, 4.5), (12.0, 3.5)])
def test_k_factor_of_a_wave_in_diffuse_power(k_db: float, width: float) -> None:
    """400 draws of a wave in Gaussian power that decays over the delays: the median is K."""
    decay = torch.exp(-torch.arange(N) / 1.5).double()
    taps = gaussian(400, N, N, seed=f"diffuse {k_db}") * (decay / decay.sum()).sqrt()
    diffuse = torch.fft.fft(taps, dim=-1)
    h = wave(0.0, 0.37) + 10 ** (-k_db / 20) * diffuse
    found = formulas.k_factor_db(h[:, None], torch.zeros(400).double())
    assert float(found.median()) == pytest.approx(k_db, abs=0.35)
    assert float(found.quantile(0.95) - found.quantile(0.05)) < width
