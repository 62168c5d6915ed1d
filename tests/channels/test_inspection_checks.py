"""Each check against sets in which the truth is known: what must be told and what must not."""

import re

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels import ChannelSet, Grid, to_angular_delay, to_spatial_frequency, unit_power
from channels.convention import Domain
from channels.domains import Panel
from channels.inspection_checks import (
    DelayTails,
    Saturation,
    Sparsity,
    bad_user_warning,
    channel_keys,
    delay_warning,
    share_in_words,
    swapped_warning,
)
from channels.paths import frequency_response
from channels.randomness import seeded_generator

unit = pytest.mark.unit
GRID = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=32)


@unit
@pytest.mark.parametrize(
    ("share", "words"),
    [
        (1.0, "100 %"),
        (0.996, "100 %"),
        (0.312, "31 %"),
        (0.0312, "3.1 %"),
        (2e-4, "0.02 %"),
        (1e-7, "below 0.001 %"),
        (0.0, "0 %"),
    ],
)
def test_shares_in_words(share: float, words: str) -> None:
    assert share_in_words(share) == words


@unit
def test_no_bad_users_no_words() -> None:
    nobody = torch.zeros(5, dtype=torch.bool)
    assert bad_user_warning(nobody, nobody) is None
    one = nobody.clone()
    one[4] = True
    words = bad_user_warning(nobody, one)
    assert words is not None
    assert words.startswith("Of 5 users, 1 holds zeros alone (first: user 4). ")


# --- Keys -----------------------------------------------------------------------------------------


@unit
def test_real_users_have_keys_of_their_own(sample: ChannelSet) -> None:
    assert len(channel_keys(sample.h[:]).unique()) == 2000


@unit
def test_keys_survive_float16(sample: ChannelSet) -> None:
    """Rounding at another scale and phase moves a few users in a hundred across a cell's edge."""
    h = torch.view_as_real(sample.h[:] * (3.1 + 1.2j))
    rounded, _ = unit_power(torch.view_as_complex(h.half().float()))
    same = (channel_keys(rounded) == channel_keys(sample.h[:])).double().mean()
    assert 0.9 < float(same) < 1


@pytest.mark.property
@given(st.integers(0, 2**32), st.floats(0.01, 3.0))
def test_keys_know_no_phase(seed: int, phase: float) -> None:
    """Rounding moves a few in a thousand across the edge of a cell."""
    generator = torch.Generator().manual_seed(seed)
    h, _ = unit_power(torch.randn(200, 1, 8, 8, dtype=torch.complex64, generator=generator))
    turned = h * torch.polar(torch.tensor(1.0), torch.tensor(phase))
    keys = channel_keys(h)
    assert torch.equal(keys, channel_keys(h.clone()))
    assert len(keys.unique()) == 200
    assert int((channel_keys(turned) == keys).sum()) >= 197
    other = turned + 0.3 * h.roll(1, -1)
    assert not (channel_keys(unit_power(other)[0]) == keys).any()


# --- Saturation -----------------------------------------------------------------------------------


def planes(sample: ChannelSet, n: int = 400) -> np.ndarray:
    """Users as they stand, complex (n, 1, 32, 32) at unit power."""
    return np.asarray(sample.h[:n].numpy())


def peaked(h: np.ndarray) -> np.ndarray:
    """Each user divided by its own largest |re| or |im|."""
    return h / np.maximum(np.abs(h.real), np.abs(h.imag)).max((1, 2, 3), keepdims=True)


def rounded(h: np.ndarray) -> np.ndarray:
    return np.round(h.real) + 1j * np.round(h.imag)


def clipped(h: np.ndarray, level: float) -> np.ndarray:
    return h.real.clip(-level, level) + 1j * h.imag.clip(-level, level)


def said(*blocks: np.ndarray, shifted: bool = False) -> list[str]:
    saturation = Saturation()
    for block in blocks:
        saturation.add(block)
    return saturation.warnings(shifted=shifted)


@unit
def test_scalings_and_storage_are_no_clipping(sample: ChannelSet) -> None:
    """Peak scaling puts one value of each user at the extreme, integers and float16 several."""
    h = planes(sample)
    plane = np.exp(1j * np.linspace(0, 40, 32 * 32)).reshape(1, 1, 32, 32)
    waves = plane * np.exp(1j * np.arange(50))[:, None, None, None]
    half = peaked(h)
    half = half.real.astype(np.float16).astype(float) + 1j * half.imag.astype(np.float16)
    for name, values in {
        "plain": h,
        "peak": peaked(h),
        "[0, 1]": 0.5 + 0.5j + 0.5 * peaked(h),
        "float16": half,
        "8 bit": rounded(127 * peaked(h)),
        "4 bit": rounded(7 * peaked(h)),
        "8 bit, one scale": rounded(127 * h / np.abs(h).max()),
        "single waves": waves,
        "single waves, 8 bit": rounded(127 * waves),
        "constant": np.full((30, 1, 4, 4), 1 + 1j),
        "one bit": np.sign(h.real) + 1j * np.sign(h.imag),
    }.items():
        assert said(values, shifted=name == "[0, 1]") == [], name


@unit
def test_clipping_is_told_from_every_storage(sample: ChannelSet) -> None:
    h = planes(sample)
    peak = peaked(h)
    for name, values, shifted, levels in (
        ("raw", clipped(h, 1.5), False, "1.5 or -1.5"),
        ("per user", clipped(peak, 0.6), False, "0.6 or -0.6"),
        ("8 bit", clipped(rounded(200 * peak), 127), False, "127 or -127"),
        ("[0, 1]", 0.5 + 0.5j + clipped(peak, 0.5), True, "1 or 0"),
    ):
        (sentence,) = said(values, shifted=shifted)
        assert f"are exactly {levels}, with next to none close by: clipped?" in sentence, name


@unit
def test_shares_of_clipped_values_are_counted() -> None:
    """40 of 1,000 values at 1 in a quarter of the users; the rest far below."""
    values = np.random.default_rng(0).normal(size=(100, 1000)).clip(-4, 4) / 6
    values[::4, :40] = 1.0
    (sentence,) = said(values[:, :500] + 1j * values[:, 500:])
    share = share_in_words(25 * 39 / 100_000)
    assert sentence.startswith(
        f"{share} of the stored values, in 25 % of the users, are exactly 1,"
    )


@unit
def test_blocks_of_saturation_may_come_in_any_order(sample: ChannelSet) -> None:
    h = clipped(planes(sample), 1.5)
    assert said(h) == said(*np.array_split(h, 7)) == said(*np.array_split(h[::-1], 5))
    assert said(h, h[:0]) == said(h)


@unit
def test_magnitudes_are_told(sample: ChannelSet) -> None:
    (sentence,) = said(np.abs(planes(sample)).astype(complex))
    assert sentence.startswith("Every imaginary part is 0: these are magnitudes")
    assert said() == []


# --- Domains and axes -----------------------------------------------------------------------------


def sparsest(h: Tensor, domain: Domain = "spatial-frequency", panel: Panel | None = None) -> str:
    """The sentence on h, two blocks of users taken for spatial-frequency; "" if there is none."""
    sparsity = Sparsity()
    for block in h.chunk(2):
        sparsity.add(block, to_angular_delay(block, panel))
    return sparsity.warning(domain) or ""


def some_forms(sample: ChannelSet) -> dict[str, Tensor]:
    """The same users over antennas or beams, subcarriers or taps."""
    h = sample.h[:300]
    return {
        "tx,sub": h,
        "beam,delay": to_angular_delay(h),
        "beam,sub": torch.fft.fft(h, dim=-2, norm="ortho"),
        "tx,delay": torch.fft.ifft(h, dim=-1, norm="ortho"),
    }


@unit
def test_clean_channels_and_noise_are_in_their_domain(sample: ChannelSet) -> None:
    h = sample.h[:300]
    noise = torch.randn(100, 1, 32, 32, dtype=torch.complex64, generator=seeded_generator(0))
    quarter = noise[..., :4, :8]
    for values in (h, h[:, :, :1], h[:, :, :4], h[..., :1], h[..., :8], h.conj(), noise, quarter):
        assert sparsest(values.resolve_conj()) == ""
    assert sparsest(h, panel=(2, 4, 4)) == ""
    assert Sparsity().warning("spatial-frequency") is None


@unit
@pytest.mark.parametrize("axes", ["beam,delay", "beam,sub", "tx,delay"])
def test_channels_that_stand_in_another_domain(sample: ChannelSet, axes: str) -> None:
    words = {"beam,delay": "beams x delay taps", "beam,sub": "beams x subcarriers",
             "tx,delay": "antennas x delay taps"}  # fmt: skip
    sentence = sparsest(some_forms(sample)[axes])
    start = f"These look like {words[axes]} already, not antennas x subcarriers: read so, a usual"
    assert sentence.startswith(start)
    assert f"--axes user,{axes} or alike" in sentence
    assert re.search(r"fills some \d+ of 1,024 beams and delay taps, otherwise \d+ \(", sentence)


@unit
@pytest.mark.parametrize("axes", ["tx,sub", "beam,sub", "tx,delay"])
def test_channels_that_are_not_angular_delay_yet(sample: ChannelSet, axes: str) -> None:
    """Taken for beams and taps, they are transformed to antennas and subcarriers once more."""
    h = to_spatial_frequency(some_forms(sample)[axes])
    sentence = sparsest(h, "angular-delay")
    assert ", not beams x delay taps: read so" in sentence
    assert f"--axes user,{axes} or alike" in sentence


@unit
def test_several_receive_antennas_have_an_axis(sample: ChannelSet) -> None:
    x = to_angular_delay(sample.h[:300])
    assert "--axes user,rx,beam,delay or alike" in sparsest(x.reshape(150, 2, 32, 32))


@unit
def test_swapped_axes_are_told(sample: ChannelSet) -> None:
    h = sample.h[:500]

    def told_of(h: Tensor) -> str | None:
        return swapped_warning(to_angular_delay(h).abs().square().sum(1).mean(0), len(h))

    for wrong in (h.mT, h.mT.conj(), h[:, :, :8].mT):
        sentence = told_of(wrong.resolve_conj())
        assert sentence is not None
        assert "are antennas and subcarriers swapped? Name the axes" in sentence
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(300, 1, 32, 32, dtype=torch.complex64, generator=generator)
    for right in (h, h.conj().resolve_conj(), h.flip(-1), h[..., :8], h[..., :1], h[:9].mT, noise):
        assert told_of(right) is None


# --- Delays ---------------------------------------------------------------------------------------


def cluster_channels(mean_taps: float, n: int = 300, n_sub: int = 32) -> Tensor:
    """x of users with eight exponential arrivals of that mean delay, (n, 1, 8, n_sub)."""
    generator = torch.Generator().manual_seed(1)
    gain = torch.randn(n, 1, 8, 8, dtype=torch.complex64, generator=generator)
    delay = -mean_taps * 1e-7 * torch.rand(n, 8, generator=generator).clamp_min(1e-6).log()
    h = frequency_response(gain, delay, bandwidth_hz=1e7, n_sub=n_sub)
    return to_angular_delay(unit_power(h)[0])


def told(x: Tensor) -> str | None:
    tails = DelayTails.of(x)
    assert tails is not None
    return delay_warning(tails, GRID)


@unit
def test_leakage_is_no_late_arrival() -> None:
    """A path at any delay within the first taps leaves the last quarter below 1e-3."""
    for delay_taps in np.linspace(0, 2, 21):
        coeff = torch.ones(1, 1, 4, 1, dtype=torch.complex64)
        delay = torch.tensor([[delay_taps * 1e-7]])
        h = frequency_response(coeff, delay, bandwidth_hz=1e7, n_sub=32)
        tails = DelayTails.of(to_angular_delay(h))
        assert tails is not None
        assert float(tails.late) < 1e-3


@unit
def test_long_delays_are_told_and_short_ones_not() -> None:
    assert told(cluster_channels(1.5)) is None
    sentence = told(cluster_channels(12.0))
    assert sentence is not None
    assert "in the last quarter of the delay window (3.2 us), and " in sentence
    assert "has wrapped round to early delays" in sentence
    assert "Are antennas and subcarriers swapped, or the channels in another domain?" in sentence


@unit
def test_few_users_with_long_delays_are_told() -> None:
    x = torch.cat((cluster_channels(1.0), cluster_channels(24.0, n=60)))
    sentence = told(x)
    assert sentence is not None
    assert "of the users have a tenth of theirs there" in sentence
    assert told(torch.cat((x[:300], x[300:302]))) is None


@unit
def test_delays_that_run_backwards(sample: ChannelSet) -> None:
    h = sample.h[:300]
    assert told(to_angular_delay(h)) is None
    for wrong in (h.conj().resolve_conj(), h.flip(-1)):
        sentence = told(to_angular_delay(wrong))
        assert sentence is not None
        assert "do delays run backwards" in sentence


@unit
def test_few_subcarriers_tell_nothing_of_the_window() -> None:
    assert DelayTails.of(cluster_channels(3.0, n=4, n_sub=15)) is None
