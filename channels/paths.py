"""From propagation paths to subcarriers: the frequency response of rays, and what a sampling grid
cannot hold of them. Files of paths are read in `readers_paths`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from channels.support import CsiAuditError

__all__ = [
    "DEFAULT_SUBCARRIERS",
    "LOOKED_AT",
    "check_sampling",
    "energy_beyond_window",
    "frequency_response",
    "window_caution",
]

DEFAULT_SUBCARRIERS = 32  # where neither the user nor the file says how many
LOOKED_AT = 256  # users whose delays are compared with the window when a file is opened
_MOST_BEYOND = 0.01  # share of path energy beyond the window that goes unmentioned
_BLOCK_VALUES = 1 << 20  # path coefficients a pass: bounds the complex128 copies


def check_sampling(bandwidth_hz: float, n_sub: int) -> None:
    """Raise CsiAuditError unless the grid f_k = k bandwidth_hz / n_sub makes sense."""
    if not math.isfinite(bandwidth_hz) or bandwidth_hz <= 0:
        raise CsiAuditError(
            f"bandwidth_hz must be a positive number of hertz; got {bandwidth_hz}. "
            "10 MHz is bandwidth_hz=10e6."
        )
    if n_sub != int(n_sub) or n_sub < 1:
        raise CsiAuditError(f"n_sub must be a whole number of at least 1; got {n_sub}.")


def _check_paths(coeff: Tensor, delay_s: Tensor) -> None:
    """Raise unless coeff is complex (N, n_rx, n_tx, P) and delay_s fits it and is finite."""
    if not coeff.is_complex() or coeff.ndim != 4:
        raise CsiAuditError(
            f"coeff must be complex (N, n_rx, n_tx, P); got {coeff.dtype} {tuple(coeff.shape)}."
        )
    per_path = (coeff.shape[0], coeff.shape[3])
    if not delay_s.is_floating_point() or tuple(delay_s.shape) not in (per_path, coeff.shape):
        raise CsiAuditError(
            f"delay_s must be real {per_path}, one delay a path, or {tuple(coeff.shape)}, one an "
            f"antenna pair and path; got {delay_s.dtype} {tuple(delay_s.shape)}. "
            "Is the path the last axis?"
        )
    bad = ~torch.isfinite(delay_s).flatten(1).all(1)
    if bad.any():
        index = ", ".join(map(str, bad.nonzero().flatten()[:5].tolist()))
        raise CsiAuditError(
            f"delay_s must be finite; {int(bad.sum())} of {len(bad)} users (index {index}) hold "
            "NaN or Inf. Give missing paths the delay 0 and the coefficient 0."
        )


def _pairwise(coeff: Tensor, delay_s: Tensor) -> Tensor:
    """Delays that broadcast against coeff: (N, 1, 1, P) or (N, n_rx, n_tx, P)."""
    return delay_s if delay_s.ndim == coeff.ndim else delay_s[:, None, None]


def frequency_response(
    coeff: Tensor, delay_s: Tensor, *, bandwidth_hz: float, n_sub: int
) -> Tensor:
    """Channel of each antenna pair on n_sub subcarriers, from its paths.

        H[r, t, k] = sum_p coeff[r, t, p] exp(-j 2 pi f_k tau[r, t, p]),   f_k = k bandwidth / n_sub

    From the carrier upwards, not centred, as QuaDRiGa's `fr(bandwidth, n_sub)` has it; `coeff`
    already holds the phase at the carrier. Computed as sum_p coeff_p w_p^k with the one-step phasor
    w_p = exp(-j 2 pi tau_p bandwidth / n_sub) in complex128, so no large phase is ever rounded and
    float32 paths lose nothing. Differentiable in coeff and delay_s. Without gradients, memory is
    bounded by a block of users, or by one user if he is larger.

    Args:
        coeff: Path coefficients, complex (N, n_rx, n_tx, P), any scale. Users of fewer paths are
            padded with zeros.
        delay_s: Delays [s], real (N, P), or (N, n_rx, n_tx, P) where each antenna pair has its own.
            Below 0 or beyond n_sub/bandwidth_hz they wrap around (see `energy_beyond_window`).
        bandwidth_hz: n_sub times the subcarrier spacing [Hz].
        n_sub: Subcarriers.
    Returns:
        Complex (N, n_rx, n_tx, n_sub), in the precision and on the device of coeff.
    Raises:
        CsiAuditError: shapes that do not fit, delays that are not finite (names the users), or a
            grid that makes no sense.
    Source: QuaDRiGa 2.8.1 documentation, `qd_channel.fr`; S. Jaeckel et al., "QuaDRiGa: A 3-D
        multi-cell channel model with time evolution", IEEE Trans. Antennas Propag. 62 (2014).
    """
    check_sampling(bandwidth_hz, n_sub)
    _check_paths(coeff, delay_s)
    users = max(1, _BLOCK_VALUES // max(1, coeff.shape[1:].numel()))
    blocks = zip(coeff.split(users), _pairwise(coeff, delay_s).split(users), strict=True)
    return torch.cat([_response(c, tau, bandwidth_hz / n_sub, int(n_sub)) for c, tau in blocks])


def _response(coeff: Tensor, delay_s: Tensor, spacing_hz: float, n_sub: int) -> Tensor:
    """`frequency_response` of one block; delay_s broadcasts against coeff."""
    turns = delay_s.double() * spacing_hz
    turns = turns - turns.detach().round()  # a whole turn changes nothing
    step = torch.polar(torch.ones_like(turns), -2 * math.pi * turns)  # w_p
    term = coeff.to(torch.complex128)
    sums = []
    for _ in range(n_sub):
        sums.append(term.sum(-1))
        term = term * step
    return torch.stack(sums, dim=-1).to(coeff.dtype)


def energy_beyond_window(
    coeff: Tensor, delay_s: Tensor, *, bandwidth_hz: float, n_sub: int
) -> Tensor:
    """Share of each user's path energy that n_sub subcarriers cannot tell from other delays.

        share_n = sum_{p outside} |coeff_p|^2 / sum_p |coeff_p|^2

    over all antenna pairs. A path is outside if its nearest tap, round(tau bandwidth), is none of
    0..n_sub-1: delays repeat every n_sub/bandwidth, so it shows up at another tap.

    Args:
        coeff, delay_s, bandwidth_hz, n_sub: As in `frequency_response`.
    Returns:
        Shares [1], float64 (N,); 0 for a user without energy.
    Raises:
        CsiAuditError: as `frequency_response`.
    """
    check_sampling(bandwidth_hz, n_sub)
    _check_paths(coeff, delay_s)
    tap = _pairwise(coeff, delay_s).double() * bandwidth_hz
    outside = (tap < -0.5) | (tap >= n_sub - 0.5)
    energy = coeff.to(torch.complex128).abs().square()
    total = energy.flatten(1).sum(1)
    beyond = (energy * outside).flatten(1).sum(1)
    return torch.where(total == 0, 0.0, beyond / torch.where(total == 0, 1.0, total))


def window_caution(shares: Tensor, *, bandwidth_hz: float, n_sub: int) -> tuple[str, ...]:
    """A sentence if more than 1 % of the users' path energy lies beyond the delay window.

    Args:
        shares: Of `energy_beyond_window`, (N,); NaN for users that say nothing.
        bandwidth_hz, n_sub: As in `frequency_response`.
    Returns:
        The sentence alone, or nothing.
    """
    known = shares[~shares.isnan()]
    beyond = float(known.mean()) if len(known) else 0.0
    if beyond <= _MOST_BEYOND:
        return ()
    return (
        f"{100 * beyond:.1f} % of the path energy lies beyond the delay window n_sub/bandwidth = "
        f"{1e6 * n_sub / bandwidth_hz:.3g} us and wraps around; a larger n_sub holds it.",
    )
