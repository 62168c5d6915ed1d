"""Figures per sample: known values, invariances, eigenvectors found another way."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from channels import Convention, CsiAuditError, to_angular_delay
from compressors.metrics import (
    crnet_nmse_db,
    feedback_bits,
    layer_sgcs,
    mse,
    nmse,
    nmse_db,
    rate_loss,
    rho,
    sgcs,
)

SEEDS = st.integers(0, 2**31)
BANDS = st.sampled_from([None, 1, 2, 4])
METRICS: list[Callable[[Tensor, Tensor], Tensor]] = [
    nmse,
    mse,
    rho,
    sgcs,
    partial(layer_sgcs, n_subbands=2, n_layers=2),
    partial(rate_loss, snr_db=10.0),
]


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


# --- All ------------------------------------------------------------------------------------------


@pytest.mark.property
@given(SEEDS, st.sampled_from([1, 2]), st.permutations(list(range(5))), st.integers(1, 4))
def test_metrics_know_no_batch(seed: int, n_rx: int, order: list[int], size: int) -> None:
    h, h_hat = pair(seed, n_rx)
    for metric in METRICS:
        whole = metric(h, h_hat)
        parts = zip(h.split(size), h_hat.split(size), strict=True)
        assert torch.allclose(torch.cat([metric(*part) for part in parts]), whole, rtol=1e-12)
        assert torch.allclose(metric(h[order], h_hat[order]), whole[order], rtol=1e-12)


@pytest.mark.unit
def test_shapes_must_agree() -> None:
    h, h_hat = pair(0)
    message = r"h_hat must have the shape of h; got \(5, 1, 4, 7\) against .* same domain and uncr"
    for metric in METRICS:
        with pytest.raises(ValueError, match=message):
            metric(h, h_hat[..., :7])


def test_nan_is_refused_by_name() -> None:
    h = torch.ones(3, 4)
    h_hat = h.clone()
    h_hat[1, 0] = float("nan")
    with pytest.raises(ValueError, match="h and h_hat must be finite; channel 1"):
        nmse(h, h_hat)


# --- In a compressor's own scale, and as published ------------------------------------------------


@pytest.mark.unit
def test_mse_counts_real_numbers() -> None:
    y, y_hat = torch.tensor([[3.0, 4.0], [1.0, 0.0]]), torch.tensor([[3.0, 3.0], [0.0, 2.0]])
    assert mse(y, y_hat).tolist() == [0.5, 2.5]
    assert mse(y, y_hat).dtype == torch.float64
    pairs = torch.view_as_complex(y), torch.view_as_complex(y_hat)
    assert mse(*(part[:, None] for part in pairs)).tolist() == [0.5, 2.5]


@pytest.mark.unit
def test_crnet_nmse_is_a_mean_of_decibels_over_batches() -> None:
    """Channels about 0.5; the last batch is short and counts as much as the others."""
    h = 0.5 + torch.tensor([[0.3, 0.4], [0.0, 0.5], [0.5, 0.0], [0.4, 0.3], [0.1, 0.0]])
    share = torch.tensor([0.1, 0.3, 0.01, 0.03, 0.4])  # NMSE of each
    h_hat = h + (h - 0.5) * share.sqrt()[:, None]
    expected = [10 * math.log10(0.2), 10 * math.log10(0.02), 10 * math.log10(0.4)]
    assert crnet_nmse_db(h, h_hat, batch_size=2) == pytest.approx(sum(expected) / 3, rel=1e-5)
    raw = crnet_nmse_db(h - 0.5, h_hat - 0.5, batch_size=2, offset=0.0)
    assert raw == pytest.approx(sum(expected) / 3, rel=1e-5)
    assert crnet_nmse_db(h, h_hat) == pytest.approx(10 * math.log10(0.168), rel=1e-5)
    with pytest.raises(ValueError, match="batch_size must be at least 1; got 0"):
        crnet_nmse_db(h, h_hat, batch_size=0)


@pytest.mark.property
@given(SEEDS, st.sampled_from([1, 2, 4, 8]))
def test_crnet_nmse_flatters_by_small_batches(seed: int, size: int) -> None:
    """Jensen: equal batches can only lower the mean of decibels."""
    h, h_hat = pair(seed, n=8)
    true = float(nmse_db(nmse(h, h_hat).mean()))
    small = crnet_nmse_db(h, h_hat, batch_size=size, offset=0.0)
    large = crnet_nmse_db(h, h_hat, batch_size=8, offset=0.0)
    assert small <= true + 1e-9
    assert large == pytest.approx(true)


# --- Precoding ------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("n_rx", [1, 2])
def test_rho_is_the_mean_cosine(n_rx: int) -> None:
    h, h_hat = pair(3, n_rx)
    a, b = h.numpy(), h_hat.numpy()
    expected = [
        np.mean(
            [
                abs(np.vdot(a[n, r, :, k], b[n, r, :, k]))
                / np.linalg.norm(a[n, r, :, k])
                / np.linalg.norm(b[n, r, :, k])
                for r in range(n_rx)
                for k in range(8)
            ]
        )
        for n in range(5)
    ]
    assert rho(h, h_hat).tolist() == pytest.approx(expected)
    assert rho(h, 0 * h).tolist() == [0.0] * 5


@pytest.mark.property
@given(SEEDS, st.sampled_from([0.01, 1.0, 100.0]))
def test_sgcs_is_the_square_of_each_cosine(seed: int, near: float) -> None:
    """For one receive antenna: rho^2 <= SGCS <= rho, by Jensen and cosines below 1."""
    h, h_hat = pair(seed, near=near)
    cosine, squared = rho(h, h_hat), sgcs(h, h_hat)
    assert bool((cosine.square() <= squared + 1e-12).all())
    assert bool((squared <= cosine + 1e-12).all())


@pytest.mark.unit
@pytest.mark.parametrize(("n_rx", "bands", "layers"), [(1, 2, 4), (2, None, 2), (2, 4, 3)])
def test_layers_against_singular_vectors(n_rx: int, bands: int | None, layers: int) -> None:
    h, h_hat = pair(4, n_rx)
    size = 8 // (bands or 8)
    found = layer_sgcs(h, h_hat, n_subbands=bands, n_layers=layers)
    assert found.shape == (5, bands or 8, layers)

    def directions(user: Tensor, first: int) -> NDArray[np.complex128]:
        band = user[:, :, first : first + size].numpy()  # (n_rx, 4, size)
        return np.asarray(np.linalg.svd(band.swapaxes(1, 2).reshape(-1, 4))[2])

    for n in range(5):
        for s, first in enumerate(range(0, 8, size)):
            w, w_hat = directions(h[n], first), directions(h_hat[n], first)
            expected = [abs(np.vdot(w[i], w_hat[i])) ** 2 for i in range(layers)]
            assert found[n, s].tolist() == pytest.approx(expected)
    mean = sgcs(h, h_hat, n_subbands=bands, n_layers=layers)
    assert torch.allclose(mean, found.mean((1, 2)))


@pytest.mark.unit
def test_a_layer_without_power_has_no_direction() -> None:
    """Two receive antennas that see one path: rank 1."""
    h, _ = pair(5)
    h = torch.cat([h, 2 * h], dim=1)
    found = layer_sgcs(h, h, n_layers=2)
    assert torch.allclose(found[..., 0], torch.ones(5, 8, dtype=torch.float64))
    assert torch.count_nonzero(found[..., 1]) == 0


@pytest.mark.unit
@pytest.mark.parametrize(("bands", "layers", "most"), [(None, 2, 1), (2, 5, 4), (None, 0, 1)])
def test_a_subband_has_as_many_layers_as_its_rank(
    bands: int | None, layers: int, most: int
) -> None:
    h, h_hat = pair(0)
    message = rf"n_layers must lie in 1\.\.{most}, the rank of a subband.*got {layers}\. Take wider"
    with pytest.raises(ValueError, match=message):
        layer_sgcs(h, h_hat, n_subbands=bands, n_layers=layers)


@pytest.mark.unit
def test_rate_loss_of_known_vectors() -> None:
    """At 0 dB, |h|^2 = 3 gives 2 bit/s/Hz; half of it seen by the precoder log2(2.5)."""
    h = torch.zeros(3, 1, 2, 1, dtype=torch.complex64)
    h[..., 0, 0] = 3**0.5
    h_hat = torch.tensor([[2j, 0], [1, 1j], [0, 5]]).view(3, 1, 2, 1)
    expected = [0.0, 2 - math.log2(2.5), 2.0]
    assert rate_loss(h, h_hat, snr_db=0).tolist() == pytest.approx(expected, abs=1e-6)
    assert rate_loss(h, 0 * h, snr_db=0).tolist() == pytest.approx([2.0] * 3)
    lost = math.log2(31) - math.log2(16)
    assert float(rate_loss(h, h_hat, snr_db=10)[1]) == pytest.approx(lost, rel=1e-6)


@pytest.mark.property
@given(SEEDS, st.sampled_from([1, 2]), st.sampled_from([-20.0, 10.0, 40.0]))
def test_rate_loss_lies_between_nothing_and_the_rate(seed: int, n_rx: int, snr_db: float) -> None:
    h, h_hat = pair(seed, n_rx)
    lost = rate_loss(h, h_hat, snr_db=snr_db)
    rate = rate_loss(h, 0 * h, snr_db=snr_db)
    assert bool((lost > 0).all())
    assert bool((lost < rate).all())
    assert torch.allclose(rate_loss(h, 3j * h, snr_db=snr_db), 0 * rate, atol=1e-9)
    gains = torch.linalg.matrix_norm(h.permute(0, 3, 1, 2), ord=2).square()  # (N, n_sub)
    assert torch.allclose(rate, torch.log2(1 + 10 ** (snr_db / 10) * gains).mean(1))


@pytest.mark.unit
def test_bits_are_checked() -> None:
    class Said:
        n_code = 4
        convention = Convention()

        def __init__(self, bits: Any) -> None:
            self.said = bits

        def encode(self, y: Tensor) -> Tensor:
            return y

        def decode(self, z: Tensor) -> Tensor:
            return z

        def bits(self, z: Tensor) -> Any:
            return self.said

    z = torch.zeros(2, 4)
    assert feedback_bits(Said(None), z) is None
    counted = feedback_bits(Said(torch.tensor([8, 16])), z)
    assert counted is not None
    assert (counted.tolist(), counted.dtype) == ([8.0, 16.0], torch.float64)
    for wrong, message in (
        (8, r"bits must return a number a codeword \(2,\), or None; got int\."),
        (torch.ones(2, 4), r"or None; got \(2, 4\)\."),
        (torch.tensor([8.0, -1.0]), r"bits must be positive and finite; got -1\.0 to 8\.0\."),
        (torch.tensor([8.0, float("nan")]), "bits must be positive and finite"),
    ):
        with pytest.raises(CsiAuditError, match=message):
            feedback_bits(Said(wrong), z)
