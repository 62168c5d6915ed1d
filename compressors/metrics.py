"""Distortion of each channel: NMSE and SGCS per sample, never averaged over batches.

Averages and intervals are the business of reports.estimates; decibels are for display.
"""

import torch
from torch import Tensor


def nmse(h: Tensor, h_hat: Tensor) -> Tensor:
    """Normalised squared error of each reconstruction.

        nmse_n = ||h_n - h_hat_n||^2 / ||h_n||^2

    Args:
        h: Channels, real or complex (N, ...), any scale, any orthonormal domain.
        h_hat: Reconstructions, same shape and scale.
    Returns:
        Linear NMSE [1], float64 (N,). Use `nmse_db` for display.
    Raises:
        ValueError: shapes differ, some ||h_n|| is 0, or a value is not finite (names n).
    """
    _same_shape(h, h_hat)
    power = _power(h)
    if bool((power == 0).any()):
        n = int(torch.nonzero(power == 0)[0])
        raise ValueError(f"h must have positive power; channel {n} is all zeros. Remove that user.")
    error = _power(h - h_hat) / power
    if not bool(torch.isfinite(error).all()):
        n = int(torch.nonzero(~torch.isfinite(error))[0])
        raise ValueError(f"h and h_hat must be finite; channel {n} has NaN or infinity.")
    return error


def nmse_db(linear: Tensor) -> Tensor:
    """10 log10 of a linear NMSE [dB]; average first, then convert."""
    return 10.0 * torch.log10(linear)


def sgcs(h: Tensor, h_hat: Tensor, *, n_subbands: int | None = None) -> Tensor:
    """Squared generalised cosine similarity of the dominant eigenvectors, mean over subbands.

        sgcs_n = mean_s |w_ns^H w_hat_ns|^2 / (||w_ns||^2 ||w_hat_ns||^2)

    w_ns is the dominant eigenvector of sum_{k in s} H_nk^H H_nk; with one receive antenna and one
    subcarrier a subband (the default) that is the channel itself.

    Args:
        h: Spatial-frequency channels, complex (N, n_rx, n_tx, n_sub).
        h_hat: Reconstructions, same shape.
        n_subbands: Number of equal subbands; None takes one a subcarrier.
    Returns:
        SGCS in [0, 1], float64 (N,); 0 where the reconstruction is all zeros.
    Raises:
        ValueError: shapes differ, or n_sub is no multiple of n_subbands.
    Source: 3GPP TR 38.843, intermediate KPI for CSI compression.
    """
    _same_shape(h, h_hat)
    w, w_hat = _precoders(h, n_subbands), _precoders(h_hat, n_subbands)
    inner = (w.conj() * w_hat).sum(1).abs().square()
    scale = w.abs().square().sum(1) * w_hat.abs().square().sum(1)
    return torch.where(scale > 0, inner / scale.clamp_min(1e-300), 0.0).mean(-1)


def _precoders(h: Tensor, n_subbands: int | None) -> Tensor:
    """Dominant right singular vectors, complex128 (N, n_tx, n_subbands)."""
    n, n_rx, n_tx, n_sub = h.shape
    bands = n_sub if n_subbands is None else n_subbands
    if bands < 1 or n_sub % bands:
        raise ValueError(f"n_subbands must divide the {n_sub} subcarriers; got {bands}.")
    h = h.to(torch.complex128)
    if n_rx == 1 and bands == n_sub:
        return h[:, 0].conj()  # the row H_k^H is its own dominant eigenvector
    rows = h.unflatten(-1, (bands, n_sub // bands))  # (N, n_rx, n_tx, bands, per band)
    rows = rows.permute(0, 3, 1, 4, 2).reshape(n, bands, -1, n_tx)
    gram = rows.mH @ rows
    values, vectors = torch.linalg.eigh(gram)
    w = vectors[..., -1] * (values[..., -1:] > 0)  # no power, no direction
    return w.transpose(1, 2)


def _power(h: Tensor) -> Tensor:
    h = torch.view_as_real(h) if h.is_complex() else h
    return h.double().square().flatten(1).sum(1)


def _same_shape(h: Tensor, h_hat: Tensor) -> None:
    if h.shape != h_hat.shape:
        raise ValueError(
            f"h_hat must have the shape of h; got {tuple(h_hat.shape)} against {tuple(h.shape)}. "
            "Are both in the same domain and uncropped?"
        )
