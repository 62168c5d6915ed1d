"""NMSE and SGCS per sample: known values, invariances, an eigenvector found another way."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from channels import to_angular_delay
from compressors import nmse, nmse_db, sgcs

SEEDS = st.integers(0, 2**31)
BANDS = st.sampled_from([None, 1, 2, 4])


def pair(seed: int, n_rx: int = 1, n: int = 5, near: float = 1.0) -> tuple[Tensor, Tensor]:
    """Channels (n, n_rx, 4, 8) and reconstructions with errors of relative size `near`."""
    generator = torch.Generator().manual_seed(seed)
    h, e = torch.randn(2, n, n_rx, 4, 8, dtype=torch.complex128, generator=generator)
    return h, h + near * e


# --- NMSE -----------------------------------------------------------------------------------------


@pytest.mark.property
@given(SEEDS, st.sampled_from([1e-10, 1.0, 1e8]))
def test_nmse_of_nothing_is_one_and_of_all_is_zero(seed: int, scale: float) -> None:
    h, _ = pair(seed)
    h = scale * h
    assert torch.allclose(nmse(h, torch.zeros_like(h)), torch.ones(5, dtype=torch.float64))
    assert torch.count_nonzero(nmse(h, h)) == 0
    assert torch.allclose(nmse(h, 0.5 * h), torch.full((5,), 0.25, dtype=torch.float64))


@pytest.mark.property
@given(SEEDS, st.sampled_from([1e-10, 1e8]))
def test_nmse_forgets_scale_and_phase(seed: int, scale: float) -> None:
    h, h_hat = pair(seed)
    factor = scale * torch.exp(1j * torch.arange(5.0)).view(5, 1, 1, 1)
    assert torch.allclose(nmse(factor * h, factor * h_hat), nmse(h, h_hat))


@pytest.mark.property
@given(SEEDS)
def test_nmse_is_the_same_in_every_orthonormal_form(seed: int) -> None:
    h, h_hat = pair(seed)
    known = nmse(h, h_hat)
    assert torch.allclose(nmse(to_angular_delay(h), to_angular_delay(h_hat)), known)
    assert torch.allclose(nmse(torch.view_as_real(h), torch.view_as_real(h_hat)), known)


@pytest.mark.unit
def test_nmse_of_known_vectors() -> None:
    h = torch.tensor([[3.0, 4.0], [1.0, 0.0]])
    h_hat = torch.tensor([[3.0, 3.0], [0.0, 0.0]])
    assert nmse(h, h_hat).tolist() == [1 / 25, 1.0]
    assert nmse(h, h_hat).dtype == torch.float64


@pytest.mark.unit
def test_decibels_of_the_mean() -> None:
    assert nmse_db(torch.tensor([1.0, 0.1, 0.01])).tolist() == pytest.approx([0.0, -10.0, -20.0])


@pytest.mark.unit
def test_a_user_without_power_is_named() -> None:
    h, h_hat = pair(0)
    h[3] = 0
    with pytest.raises(ValueError, match=r"h must have positive power; channel 3 is all zeros"):
        nmse(h, h_hat)


# --- SGCS -----------------------------------------------------------------------------------------


@pytest.mark.property
@given(SEEDS, st.sampled_from([1, 2]), BANDS, st.sampled_from([0.01, 1.0, 100.0]))
def test_sgcs_lies_in_the_unit_interval(
    seed: int, n_rx: int, bands: int | None, near: float
) -> None:
    h, h_hat = pair(seed, n_rx, near=near)
    value = sgcs(h, h_hat, n_subbands=bands)
    assert value.shape == (5,)
    assert value.dtype == torch.float64
    assert 0 <= float(value.min()) <= float(value.max()) <= 1 + 1e-12
    assert torch.allclose(sgcs(h, h, n_subbands=bands), torch.ones(5, dtype=torch.float64))


@pytest.mark.property
@given(SEEDS, st.sampled_from([1, 2]), BANDS)
def test_sgcs_forgets_phase_and_scale(seed: int, n_rx: int, bands: int | None) -> None:
    """The scale of a user, and a phase of its own at each subcarrier."""
    h, h_hat = pair(seed, n_rx)
    generator = torch.Generator().manual_seed(seed)
    turn = torch.exp(2j * math.pi * torch.rand(5, 1, 1, 8, generator=generator)).to(h.dtype)
    scale = torch.tensor([1e-10, 0.5, 1.0, 7.0, 1e8]).view(5, 1, 1, 1)
    moved = sgcs(h, turn * scale * h_hat, n_subbands=bands)
    assert torch.allclose(moved, sgcs(h, h_hat, n_subbands=bands), atol=1e-9)


@pytest.mark.unit
@pytest.mark.parametrize(("n_rx", "bands"), [(1, 2), (2, 1), (2, 2), (2, 4), (2, 8), (3, None)])
def test_sgcs_against_singular_vectors(n_rx: int, bands: int | None) -> None:
    """The dominant eigenvector of sum_k H_k^H H_k is the right singular vector of the rows."""
    h, h_hat = pair(1, n_rx)
    size = 8 // (bands or 8)

    def dominant(user: Tensor, first: int) -> NDArray[np.complex128]:
        band = user[:, :, first : first + size].numpy()  # (n_rx, 4, size)
        rows = band.swapaxes(1, 2).reshape(-1, 4)
        return np.asarray(np.linalg.svd(rows)[2][0])

    expected = np.zeros(5)
    for n in range(5):
        for first in range(0, 8, size):
            inner = np.vdot(dominant(h[n], first), dominant(h_hat[n], first))
            expected[n] += abs(inner) ** 2 * size / 8
    assert sgcs(h, h_hat, n_subbands=bands).tolist() == pytest.approx(expected.tolist())


@pytest.mark.unit
def test_sgcs_of_orthogonal_channels_is_zero() -> None:
    h, h_hat = torch.zeros(2, 1, 1, 2, 1, dtype=torch.complex64)
    h[..., 0, :], h_hat[..., 1, :] = 1, 1
    assert sgcs(h, h_hat).tolist() == [0.0]
    assert sgcs(h, h + h_hat).tolist() == pytest.approx([0.5])


@pytest.mark.unit
@pytest.mark.parametrize(("n_rx", "bands"), [(1, None), (1, 2), (2, None), (2, 1)])
def test_sgcs_of_an_empty_reconstruction_is_zero(n_rx: int, bands: int | None) -> None:
    h, _ = pair(2, n_rx)
    assert torch.count_nonzero(sgcs(h, 0 * h, n_subbands=bands)) == 0


@pytest.mark.unit
@pytest.mark.parametrize("bands", [0, 3, 16])
def test_subbands_must_divide_the_subcarriers(bands: int) -> None:
    h, h_hat = pair(0)
    message = rf"n_subbands must divide the 8 subcarriers; got {bands}\."
    with pytest.raises(ValueError, match=message):
        sgcs(h, h_hat, n_subbands=bands)


# --- Both -----------------------------------------------------------------------------------------


@pytest.mark.property
@given(SEEDS, st.sampled_from([1, 2]), st.permutations(list(range(5))), st.integers(1, 4))
def test_metrics_know_no_batch(seed: int, n_rx: int, order: list[int], size: int) -> None:
    h, h_hat = pair(seed, n_rx)
    for metric in (nmse, sgcs):
        whole = metric(h, h_hat)
        parts = zip(h.split(size), h_hat.split(size), strict=True)
        assert torch.allclose(torch.cat([metric(*part) for part in parts]), whole, rtol=1e-12)
        assert torch.allclose(metric(h[order], h_hat[order]), whole[order], rtol=1e-12)


@pytest.mark.unit
def test_shapes_must_agree() -> None:
    h, h_hat = pair(0)
    message = r"h_hat must have the shape of h; got \(5, 1, 4, 7\) against .* same domain and uncr"
    for metric in (nmse, sgcs):
        with pytest.raises(ValueError, match=message):
            metric(h, h_hat[..., :7])


def test_nan_is_refused_by_name() -> None:
    h = torch.ones(3, 4)
    h_hat = h.clone()
    h_hat[1, 0] = float("nan")
    with pytest.raises(ValueError, match="h and h_hat must be finite; channel 1"):
        nmse(h, h_hat)
