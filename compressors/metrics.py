"""Distortion of each channel, one figure a sample, and the bits that were fed back for it.

Averages, quantiles and their intervals are the business of reports.estimates; decibels are for
display. Only `crnet_nmse_db` averages over batches, as the tables do that it is compared with.
"""

import torch
from torch import Tensor

from channels.support import CsiAuditError
from compressors.audit_space import Compressor


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


def mse(y: Tensor, y_hat: Tensor) -> Tensor:
    """Mean squared error of each reconstruction, a real number at a time, in the scale of y.

        mse_n = 1/m sum_i (y_ni - y_hat_ni)^2,   m real numbers a sample, a complex one counts two

    Args:
        y: Channels in a compressor's own scale, real or complex (N, ...).
        y_hat: Reconstructions, same shape and scale.
    Returns:
        MSE [scale of y, squared], float64 (N,).
    Raises:
        ValueError: shapes differ.
    """
    _same_shape(y, y_hat)
    numbers = y.shape[1:].numel() * (2 if y.is_complex() else 1)
    return _power(y - y_hat) / numbers


def crnet_nmse_db(h: Tensor, h_hat: Tensor, *, batch_size: int = 200, offset: float = 0.5) -> float:
    """NMSE as the CRNet family of repositories reports it: a mean of decibels over batches.

        mean_b 10 log10( mean_{n in b} ||h_n - h_hat_n||^2 / ||h_n - offset||^2 )

    For comparison with published tables alone: by Jensen it is at most the true 10 log10 of the
    mean, by more the smaller the batch, and a short last batch counts as much as a full one.

    Args:
        h: Channels as these repositories store them, real (N, ...) in [0, 1] about the offset.
        h_hat: Reconstructions, same shape and scale.
        batch_size: Channels a batch, in the order given; the family tests with 200.
        offset: What was added to each real number; 0 for channels in audit space.
    Returns:
        NMSE [dB].
    Raises:
        ValueError: as `nmse`, or batch_size is below 1.
    Source: Lu, Wang, Song, github.com/Kylin9511/CRNet, utils/statics.py (`evaluator`), averaged
        over batches in utils/solver.py.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1; got {batch_size}.")
    batches = nmse(h - offset, h_hat - offset).split(batch_size)
    return float(torch.stack([nmse_db(batch.mean()) for batch in batches]).mean())


def rho(h: Tensor, h_hat: Tensor) -> Tensor:
    """Cosine similarity at each subcarrier, mean over subcarriers.

        rho_n = mean_k |h_nk^H h_hat_nk| / (||h_nk|| ||h_hat_nk||)

    h_nk is the channel from all transmit antennas; several receive antennas are averaged too.

    Args:
        h: Spatial-frequency channels, complex (N, n_rx, n_tx, n_sub).
        h_hat: Reconstructions, same shape.
    Returns:
        rho in [0, 1], float64 (N,); 0 where the reconstruction is all zeros.
    Raises:
        ValueError: shapes differ.
    Source: Wen, Shih, Jin, "Deep Learning for Massive MIMO CSI Feedback", 2018, arXiv:1712.08919.
    """
    _same_shape(h, h_hat)
    a, b = _unit(h.to(torch.complex128), 2), _unit(h_hat.to(torch.complex128), 2)
    return (a.conj() * b).sum(2).abs().flatten(1).mean(1)


def sgcs(h: Tensor, h_hat: Tensor, *, n_subbands: int | None = None, n_layers: int = 1) -> Tensor:
    """Squared generalised cosine similarity, mean over subbands and layers of `layer_sgcs`.

    With one receive antenna, one subcarrier a subband and one layer (the default) the eigenvector
    is the channel itself.

    Args:
        h: Spatial-frequency channels, complex (N, n_rx, n_tx, n_sub).
        h_hat: Reconstructions, same shape.
        n_subbands: Number of equal subbands; None takes one a subcarrier.
        n_layers: Eigenvectors a subband.
    Returns:
        SGCS in [0, 1], float64 (N,); 0 where the reconstruction is all zeros.
    Raises:
        ValueError: as `layer_sgcs`.
    Source: 3GPP TR 38.843, intermediate KPI for CSI compression.
    """
    return layer_sgcs(h, h_hat, n_subbands=n_subbands, n_layers=n_layers).mean((1, 2))


def layer_sgcs(
    h: Tensor, h_hat: Tensor, *, n_subbands: int | None = None, n_layers: int = 1
) -> Tensor:
    """Squared generalised cosine similarity of each subband and layer.

        sgcs_nsl = |w_nsl^H w_hat_nsl|^2 / (||w_nsl||^2 ||w_hat_nsl||^2)

    w_nsl is the eigenvector of the l-th largest eigenvalue of sum_{k in s} H_nk^H H_nk.

    Args:
        h: Spatial-frequency channels, complex (N, n_rx, n_tx, n_sub).
        h_hat: Reconstructions, same shape.
        n_subbands: Number of equal subbands; None takes one a subcarrier.
        n_layers: Eigenvectors a subband.
    Returns:
        SGCS in [0, 1], float64 (N, n_subbands, n_layers); 0 where the channel or its
        reconstruction has no power in that layer.
    Raises:
        ValueError: shapes differ, n_sub is no multiple of n_subbands, or a subband has fewer
            layers.
    Source: 3GPP TR 38.843, intermediate KPI for CSI compression, by layer.
    """
    _same_shape(h, h_hat)
    w, w_hat = (_precoders(part, n_subbands, n_layers) for part in (h, h_hat))
    return (w.conj() * w_hat).sum(2).abs().square()


def rate_loss(h: Tensor, h_hat: Tensor, *, snr_db: float) -> Tensor:
    """Spectral efficiency that a single-layer precoder loses by the reconstruction.

        loss_n = mean_k log2(1 + SNR ||H_nk w_nk||^2) - log2(1 + SNR ||H_nk w_hat_nk||^2)

    w_nk, w_hat_nk are the unit-norm dominant eigenvectors of H_nk^H H_nk and of its reconstruction;
    for one receive antenna ||H_nk w_nk|| = ||h_nk|| and ||H_nk w_hat_nk|| = |h_nk^H w_hat_nk|.

    Args:
        h: Spatial-frequency channels, complex (N, n_rx, n_tx, n_sub), unit mean power: SNR is then
            that of one transmit antenna with all the power.
        h_hat: Reconstructions, same shape, any scale.
        snr_db: SNR [dB].
    Returns:
        Rate loss [bit/s/Hz], at least 0, float64 (N,); the whole rate where the reconstruction is
        all zeros.
    Raises:
        ValueError: shapes differ.
    """
    _same_shape(h, h_hat)
    rate, kept = (
        torch.log2(1 + 10 ** (snr_db / 10) * _gain(h, _precoders(part, None, 1)))
        for part in (h, h_hat)
    )
    return (rate - kept).mean(-1).clamp_min(0)


def feedback_bits(compressor: Compressor, z: Tensor) -> Tensor | None:
    """Bits of each codeword; a scale that the convention hands to decode comes on top.

    Args:
        compressor: That made the codewords.
        z: Codewords (N, ...).
    Returns:
        Bits [bit], float64 (N,); None where the code is not quantised.
    Raises:
        CsiAuditError: its `bits` returns another shape, or a number that is no count of bits.
    """
    bits = compressor.bits(z)
    if bits is None:
        return None
    if not isinstance(bits, Tensor) or bits.shape != z.shape[:1]:
        got = tuple(bits.shape) if isinstance(bits, Tensor) else type(bits).__name__
        raise CsiAuditError(
            f"bits must return a number a codeword ({len(z)},), or None; got {got}."
        )
    counts = bits.double()
    if not bool((torch.isfinite(counts) & (counts > 0)).all()):
        raise CsiAuditError(
            f"bits must be positive and finite; got {float(counts.min())} to "
            f"{float(counts.max())}. Return None if the code is not quantised."
        )
    return counts


def _precoders(h: Tensor, n_subbands: int | None, n_layers: int) -> Tensor:
    """Leading right singular vectors, unit or zero, complex128 (N, n_subbands, n_tx, n_layers)."""
    n, n_rx, n_tx, n_sub = h.shape
    bands = n_sub if n_subbands is None else n_subbands
    if bands < 1 or n_sub % bands:
        raise ValueError(f"n_subbands must divide the {n_sub} subcarriers; got {bands}.")
    most = min(n_tx, n_rx * n_sub // bands)
    if not 1 <= n_layers <= most:
        raise ValueError(
            f"n_layers must lie in 1..{most}, the rank of a subband of {n_sub // bands} "
            f"subcarriers at {n_rx} receive antennas; got {n_layers}. Take wider subbands."
        )
    h = h.to(torch.complex128)
    if n_rx == 1 and bands == n_sub:  # the row H_k^H is its own dominant eigenvector
        return _unit(h[:, 0].conj(), 1).transpose(1, 2)[..., None]
    rows = h.unflatten(-1, (bands, n_sub // bands))  # (N, n_rx, n_tx, bands, per band)
    rows = rows.permute(0, 3, 1, 4, 2).reshape(n, bands, -1, n_tx)
    values, vectors = torch.linalg.eigh(rows.mH @ rows)
    values, vectors = values.flip(-1)[..., :n_layers], vectors.flip(-1)[..., :n_layers]
    some = (values > 0) & (values > 1e-12 * values[..., :1])  # no power, no direction
    return vectors * some[..., None, :]


def _gain(h: Tensor, w: Tensor) -> Tensor:
    """||H_nk w_nk||^2 of precoders (N, n_sub, n_tx, 1), float64 (N, n_sub)."""
    received = h.to(torch.complex128).permute(0, 3, 1, 2) @ w  # (N, n_sub, n_rx, 1)
    return received.abs().square().sum((-2, -1))


def _unit(h: Tensor, dim: int) -> Tensor:
    """h at unit norm along an axis; zero stays zero."""
    norm = torch.linalg.vector_norm(h, dim=dim, keepdim=True)
    return torch.where(norm > 0, h / norm.clamp_min(1e-300), 0.0)


def _power(h: Tensor) -> Tensor:
    h = torch.view_as_real(h) if h.is_complex() else h
    return h.double().square().flatten(1).sum(1)


def _same_shape(h: Tensor, h_hat: Tensor) -> None:
    if h.shape != h_hat.shape:
        raise ValueError(
            f"h_hat must have the shape of h; got {tuple(h_hat.shape)} against {tuple(h.shape)}. "
            "Are both in the same domain and uncropped?"
        )
