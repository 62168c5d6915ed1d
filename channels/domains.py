"""The two domains of a channel, the real form the networks see, and unit power.

Angular-delay and spatial-frequency are one unitary transform apart, so energy, NMSE and SGCS may be
taken on either side. Nothing here knows files, labels or units of delay.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from channels.support import CsiAuditError

__all__ = [
    "Panel",
    "crop_delay",
    "onto_sphere",
    "stack_real",
    "to_angular_delay",
    "to_complex",
    "to_spatial_frequency",
    "unit_power",
]

Panel = tuple[int, int, int]  # polarisations, rows, columns of an antenna axis, row-major

_BLOCK = 1024  # users a pass: bounds the float64 copies


def _check_complex(x: Tensor, name: str) -> None:
    if not x.is_complex() or x.ndim < 2:
        raise CsiAuditError(
            f"{name} must be complex (..., antenna, bin); got {x.dtype} {tuple(x.shape)}. "
            "Real audit-space tensors go through channels.to_complex first."
        )


def to_angular_delay(h: Tensor, panel: Panel | None = None) -> Tensor:
    """Angular-delay form of spatial-frequency channels.

        x[b, d] = 1/sqrt(n_tx n_sub) sum_{a,k} h[a, k] exp(-j 2 pi a b/n_tx) exp(+j 2 pi k d/n_sub)

    Unitary. A path of delay tau falls on tap tau * bandwidth, one at u = sin(az) cos(el) on beam
    u n_tx / 2 of a half-wavelength array; negative u wrap to the upper bins (FFT storage order).
    A panel has the transform over rows and over columns, each polarisation on its own.

    Args:
        h: Channels, complex (..., n_tx, n_sub), any scale.
        panel: (n_pol, n_rows, n_columns) of the antenna axis, row-major; None is one row.
    Returns:
        Complex (..., n_tx, n_delay), n_delay = n_sub.
    Raises:
        CsiAuditError: h is real, has fewer than two axes, or another number of antennas.
    """
    _check_complex(h, "h")
    shaped, axes = _as_panel(h, panel, "h")
    beams = torch.fft.fftn(shaped, dim=axes, norm="ortho").reshape(h.shape)
    x: Tensor = torch.fft.ifft(beams, dim=-1, norm="ortho")
    return x


def to_spatial_frequency(x: Tensor, panel: Panel | None = None) -> Tensor:
    """Spatial-frequency form of angular-delay channels: exact inverse of `to_angular_delay`.

    Args:
        x: Complex (..., n_tx, n_delay).
        panel: As in `to_angular_delay`.
    Returns:
        Complex (..., n_tx, n_sub), n_sub = n_delay.
    Raises:
        CsiAuditError: x is real, has fewer than two axes, or another number of antennas.
    """
    _check_complex(x, "x")
    shaped, axes = _as_panel(torch.fft.fft(x, dim=-1, norm="ortho"), panel, "x")
    h: Tensor = torch.fft.ifftn(shaped, dim=axes, norm="ortho").reshape(x.shape)
    return h


def _as_panel(h: Tensor, panel: Panel | None, name: str) -> tuple[Tensor, tuple[int, ...]]:
    """h with its antenna axis unfolded into the panel, and the axes the array transform runs on."""
    if panel is None:
        return h, (-2,)
    if math.prod(panel) != h.shape[-2]:
        raise CsiAuditError(
            f"{name} must have {' x '.join(map(str, panel))} antennas (pol x rows x columns); "
            f"got {h.shape[-2]} in {tuple(h.shape)}."
        )
    return h.unflatten(-2, panel), (-3, -2)


def crop_delay(x: Tensor, n: int) -> tuple[Tensor, Tensor]:
    """First n delay taps, and what that costs.

        lost_i = 1 - sum_{d < n} |x_i[., d]|^2 / sum_d |x_i[., d]|^2

    The last taps hold DFT leakage of delays near 0, so a crop loses a little of every early path.

    Args:
        x: Angular-delay channels, real or complex (N, ..., n_delay).
        n: Taps to keep, 1..n_delay.
    Returns:
        The view x[..., :n] and the share of energy lost per user [1], float64 (N,).
    Raises:
        CsiAuditError: n is out of range, or a user is not finite or has no energy.
    """
    if x.ndim < 2 or not 1 <= n <= x.shape[-1]:
        raise CsiAuditError(
            f"n must lie in 1..{x.shape[-1]}, the delay taps of x {tuple(x.shape)}; got {n}."
        )
    energy = x.abs().double().square().reshape(x.shape[0], -1, x.shape[-1]).sum(1)  # (N, n_delay)
    total = energy.sum(1)
    check_power(~torch.isfinite(total), total == 0, name="x")
    return x[..., :n], energy[:, n:].sum(1) / total


def stack_real(h: Tensor) -> Tensor:
    """Real form (N, 2 n_rx, n_tx, n) of complex (N, n_rx, n_tx, n); order re rx0, im rx0, re rx1.

    Raises:
        CsiAuditError: h is not complex with four axes.
    """
    if not h.is_complex() or h.ndim != 4:
        raise CsiAuditError(
            f"h must be complex (N, n_rx, n_tx, n); got {h.dtype} {tuple(h.shape)}."
        )
    return torch.stack((h.real, h.imag), dim=2).flatten(1, 2)


def to_complex(x: Tensor) -> Tensor:
    """Complex form (N, n_rx, n_tx, n) of real (N, 2 n_rx, n_tx, n): inverse of `stack_real`.

    Raises:
        CsiAuditError: x is complex, or its second axis is odd, or it has not four axes.
    """
    if x.is_complex() or x.ndim != 4 or x.shape[1] % 2:
        raise CsiAuditError(
            f"x must be real (N, 2 n_rx, n_tx, n_delay); got {x.dtype} {tuple(x.shape)}."
        )
    pair = x if x.is_floating_point() and x.dtype.itemsize >= 4 else x.float()
    return torch.complex(pair[:, 0::2].contiguous(), pair[:, 1::2].contiguous())


def _first(bad: Tensor, n: int = 5) -> str:
    """`3 of 100 users (index 4, 17, 30)`."""
    index = bad.nonzero().flatten().tolist()
    shown = ", ".join(str(i) for i in index[:n]) + (", ..." if len(index) > n else "")
    return f"{len(index)} of {bad.numel()} users (index {shown})"


def check_power(non_finite: Tensor, zero: Tensor, *, name: str = "h") -> None:
    """Raise for the users that cannot be scaled to unit power.

    Args:
        non_finite: Users that hold NaN or Inf, bool (N,).
        zero: Users without power, bool (N,).
        name: Argument, for the message.
    Raises:
        CsiAuditError: any flag is set; names count and first indices.
    """
    if non_finite.any():
        raise CsiAuditError(
            f"{name} must be finite; {_first(non_finite)} hold NaN or Inf. Remove these users."
        )
    if zero.any():
        raise CsiAuditError(
            f"{name} must have power in every user; {_first(zero)} are all zero. Remove them: "
            "NMSE is undefined for them."
        )


def scale_users(h: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`unit_power` without the errors: (h_unit, power_db, non_finite, zero), bad users left as 0.

    The peak (largest |re| or |im|) is divided out first, in float64: squares of |h| = 1e-30 are
    representable there, and dividing first keeps even |h| = 1e-200 away from underflow.
    """
    wide = torch.view_as_real(h.to(torch.complex128)).flatten(1)  # (N, 2 n)
    peak = wide.abs().amax(1)
    non_finite = ~torch.isfinite(peak)  # amax propagates NaN
    zero = peak == 0
    bad = non_finite | zero
    wide = torch.where(bad[:, None], 0.0, wide) / torch.where(bad, 1.0, peak)[:, None]
    power = wide.square().sum(1) * (2.0 / wide.shape[1])  # of h/peak; n = wide.shape[1]/2
    power = torch.where(bad, 1.0, power)
    wide = wide / power.sqrt()[:, None]
    power_db = 20 * torch.where(bad, 1.0, peak).log10() + 10 * power.log10()
    unit = torch.view_as_complex(wide.view(*h.shape, 2))
    return unit.to(torch.complex64), power_db.float(), non_finite, zero


def unit_power(h: Tensor) -> tuple[Tensor, Tensor]:
    """Each user scaled to unit mean power.

        power_n = mean |h_n|^2;   h_unit_n = h_n / sqrt(power_n)

    Args:
        h: Channels, complex (N, ...), any scale that float64 can hold.
    Returns:
        h_unit, complex64 of the same shape, and 10 log10 power_n [dB], float32 (N,).
    Raises:
        CsiAuditError: h is real, or some users are not finite or have no power (names them).
    """
    _check_complex(h, "h")
    unit = torch.empty(h.shape, dtype=torch.complex64, device=h.device)
    power_db = torch.empty(h.shape[0], device=h.device)
    non_finite, zero = torch.zeros(2, h.shape[0], dtype=torch.bool, device=h.device)
    for start in range(0, h.shape[0], _BLOCK):
        part = slice(start, start + _BLOCK)
        unit[part], power_db[part], non_finite[part], zero[part] = scale_users(h[part])
    check_power(non_finite, zero)
    return unit, power_db


def onto_sphere(x: Tensor) -> Tensor:
    """Real audit-space samples rescaled to unit mean power.

        x_n <- x_n sqrt(n_rx n_tx n_delay) / ||x_n||

    Args:
        x: Real (N, 2 n_rx, n_tx, n_delay).
    Returns:
        Same shape and dtype, ||x_n||^2 = n_rx n_tx n_delay.
    Raises:
        CsiAuditError: some sample is not finite or zero (names them).
    """
    norm: Tensor = torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.float64)
    check_power(~torch.isfinite(norm), norm == 0, name="x")
    scale = ((x.shape[1:].numel() / 2) ** 0.5 / norm).to(x.dtype)
    return x * scale.view(-1, *[1] * (x.ndim - 1))
