"""The transform pair, real form, crop, unit power."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels import (
    ChannelSet,
    CsiAuditError,
    crop_delay,
    onto_sphere,
    stack_real,
    to_angular_delay,
    to_complex,
    to_spatial_frequency,
    unit_power,
)

shapes = st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9))
seeds = st.integers(0, 2**31)


def draw(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, dtype=torch.complex128, generator=generator)


@pytest.mark.property
@given(shapes, seeds)
def test_transform_keeps_energy_and_inverts(shape: tuple[int, ...], seed: int) -> None:
    h = draw(shape, seed)
    x = to_angular_delay(h)
    assert torch.allclose(x.abs().square().sum((-1, -2)), h.abs().square().sum((-1, -2)))
    assert torch.allclose(to_spatial_frequency(x), h)
    assert torch.allclose(to_angular_delay(to_spatial_frequency(h)), h)


@pytest.mark.unit
def test_transform_is_the_documented_one() -> None:
    h = draw((32, 32), 0)
    by_numpy = np.fft.ifft(np.fft.fft(h.numpy(), axis=0, norm="ortho"), axis=1, norm="ortho")
    assert np.allclose(to_angular_delay(h).numpy(), by_numpy)


@pytest.mark.unit
def test_path_falls_on_its_beam_and_tap() -> None:
    """A path at u = 0.25 and 300 ns: beam 16u = 4, tap 3 at 10 MHz."""
    a, k = torch.arange(32.0)[:, None], torch.arange(32.0)[None]
    phase = torch.pi * 0.25 * a - 2 * torch.pi * k * (1e7 / 32) * 300e-9
    x = to_angular_delay(torch.polar(torch.ones(32, 32), phase))
    assert int(x.abs().argmax()) == 4 * 32 + 3
    assert float(x.abs().max()) == pytest.approx(32, rel=1e-5)


@pytest.mark.property
@given(shapes, seeds)
def test_stack_and_unstack(shape: tuple[int, ...], seed: int) -> None:
    h = draw(shape, seed)
    x = stack_real(h)
    assert x.shape == (shape[0], 2 * shape[1], *shape[2:])
    assert torch.equal(x[:, 0], h[:, 0].real)
    assert torch.equal(x[:, 1], h[:, 0].imag)
    assert torch.equal(to_complex(x), h)


@pytest.mark.property
@given(shapes, seeds, st.sampled_from([1e-300, 1e-200, 1e-30, 1e-10, 1.0, 1e30, 1e150]))
def test_unit_power_at_any_scale(shape: tuple[int, ...], seed: int, scale: float) -> None:
    plain = draw(shape, seed)
    unit, power_db = unit_power(plain * scale)
    assert unit.dtype == torch.complex64
    power = unit.to(torch.complex128).abs().square().flatten(1).mean(1)
    assert torch.allclose(power, torch.ones_like(power), rtol=1e-5)
    rms = plain.abs().square().flatten(1).mean(1).sqrt()
    truth_db = 20 * rms.log10() + 20 * math.log10(scale)
    assert torch.allclose(power_db.double(), truth_db, rtol=1e-6, atol=1e-4)
    restored = unit.to(torch.complex128) * rms.view(-1, 1, 1, 1)
    assert torch.allclose(restored, plain, atol=1e-6)


@pytest.mark.unit
def test_unit_power_of_float32_denormals() -> None:
    h = torch.full((1, 1, 2, 2), 1e-40, dtype=torch.complex64)
    assert torch.allclose(unit_power(h)[0].abs(), torch.ones(1, 1, 2, 2))


@pytest.mark.unit
def test_unit_power_names_bad_users() -> None:
    h = draw((8, 1, 2, 2), 0)
    h.real[2, 0, 1, 1] = float("nan")
    h.imag[5, 0, 0, 0] = float("inf")
    with pytest.raises(CsiAuditError, match=r"2 of 8 users \(index 2, 5\) hold NaN or Inf"):
        unit_power(h)
    h[[2, 5]] = 0
    with pytest.raises(CsiAuditError, match=r"2 of 8 users \(index 2, 5\) are all zero"):
        unit_power(h)


@pytest.mark.property
@given(shapes, seeds, st.sampled_from([1e-15, 1.0, 1e15]))
def test_onto_sphere(shape: tuple[int, ...], seed: int, scale: float) -> None:
    x = onto_sphere(stack_real(draw(shape, seed)).float() * scale)
    n = x[0].numel() / 2
    assert torch.allclose(x.square().flatten(1).sum(1), torch.full((shape[0],), n), rtol=1e-5)


@pytest.mark.unit
def test_onto_sphere_names_bad_samples() -> None:
    with pytest.raises(CsiAuditError, match=r"x must have power.*1 of 2 users \(index 1\)"):
        onto_sphere(torch.stack((torch.ones(2, 2, 2), torch.zeros(2, 2, 2))))
    with pytest.raises(CsiAuditError, match=r"x must be finite; 1 of 1 users \(index 0\)"):
        onto_sphere(torch.full((1, 2, 2, 2), float("nan")))


@pytest.mark.unit
def test_crop_reports_the_energy_it_loses() -> None:
    x = torch.ones(3, 2, 4, 8)
    x[1, :, :, 6:] = 0
    kept, lost = crop_delay(x, 6)
    assert kept.shape == (3, 2, 4, 6)
    assert torch.allclose(lost, torch.tensor([0.25, 0.0, 0.25], dtype=torch.float64))
    assert torch.equal(crop_delay(x, 8)[1], torch.zeros(3, dtype=torch.float64))


@pytest.mark.unit
def test_crop_of_real_channels(sample: ChannelSet) -> None:
    """The share in the first taps that the data's README states."""
    x = to_angular_delay(sample.h)
    assert float(1 - crop_delay(x, 8)[1].mean()) == pytest.approx(0.936, abs=0.01)
    assert float(1 - crop_delay(x, 16)[1].mean()) == pytest.approx(0.965, abs=0.01)


@pytest.mark.unit
def test_wrong_inputs() -> None:
    with pytest.raises(CsiAuditError, match=r"h must be complex .*got torch\.float32"):
        to_angular_delay(torch.zeros(2, 2))
    with pytest.raises(CsiAuditError, match=r"x must be complex .*channels\.to_complex"):
        to_spatial_frequency(torch.zeros(2, 2))
    with pytest.raises(CsiAuditError, match=r"x must be real \(N, 2 n_rx.*got .*\(2, 3, 4, 4\)"):
        to_complex(torch.zeros(2, 3, 4, 4))
    with pytest.raises(CsiAuditError, match=r"h must be complex \(N, n_rx, n_tx, n\)"):
        stack_real(torch.zeros(2, 1, 4, 4))
    with pytest.raises(CsiAuditError, match=r"n must lie in 1\.\.4, the delay taps .*got 5"):
        crop_delay(torch.ones(1, 2, 2, 4), 5)
    with pytest.raises(CsiAuditError, match="x must have power in every user; 1 of 1"):
        crop_delay(torch.zeros(1, 2, 2, 4), 2)
    with pytest.raises(CsiAuditError, match="h must be complex"):
        unit_power(torch.zeros(2, 2))
