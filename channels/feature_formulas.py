"""Formulas of the physical features, each on one block of channels in the form that suits it.

    x   complex (N, n_rx, n_tx, n)             angular-delay, all n taps
    h   complex (N, n_group, n_element, n)     spatial-frequency, a group being one receive antenna
                                               and one polarisation
    lines   h as complex (N, n_line, n_column, n), a line being one row of a group

n is the number of subcarriers and of taps. Every channel has ||x|| = 1, so squares keep clear of
underflow. What the features are called, their units and when they are left out lives in
`physical_features`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "azimuth_spread_deg",
    "beam_spectrum",
    "delay_profile",
    "delay_spread_taps",
    "early_share",
    "edge_share",
    "effective_paths",
    "hann_window",
    "k_factor_db",
    "neighbour_correlation",
    "peak_bin",
    "peak_to_average_db",
    "signed_delay",
]

_FINER = 8  # points of the refined spectrum for each of the spectrum that holds all lags
_MIN_COS = 0.3  # beyond 72 deg from broadside the array no longer resolves azimuth
_FLOOR_SHARE = 0.25  # of the taps are taken to hold noise only
_FLOOR_SIGMA = 4.0  # standard deviations of a noise tap from its mean to the floor
_LEAST_LEFT = 1e-9  # of the power that a window must leave to be of use
_LEAST_K, _MOST_K = 1e-2, 1e4  # less is no specular wave, more is rounding and leakage


def _power(z: Tensor) -> Tensor:
    """|z|^2 without the square root that abs takes."""
    return z.real.square() + z.imag.square()


def signed_delay(d: Tensor, n: int) -> Tensor:
    """Delay in taps, d or d - n where d lies in the last eighth of the n taps: the axis is a circle
    and what leaks below delay 0 sits there."""
    return torch.where(d >= n - n // 8, d - n, d)


def _noise_floor(p: Tensor, looks: int) -> Tensor:
    """Power that noise alone does not reach on any tap, (N, 1), of profiles p (N, taps).

        N0 = Q_25%(p) / q_25%,    floor = N0 (1 + 4 / sqrt(looks))

    The quarter of the taps with the least power is taken for noise. A noise tap pooled over `looks`
    antennas is Gamma(looks) distributed, with mean N0 and standard deviation N0/sqrt(looks); q_25%
    is the 25 % quantile of that law at mean 1 (Wilson-Hilferty). Without noise the quartile holds
    leakage far below every path, and the floor cuts nothing that counts.

    Source: the cut-off level of ITU-R P.1407 section 2.2; the rule that places it is our own.
    """
    spread = 1 / (9 * looks)
    quartile = (1 - spread - 0.6745 * math.sqrt(spread)) ** 3  # Gamma(looks) / looks
    noise = torch.quantile(p, _FLOOR_SHARE, dim=1, keepdim=True) / quartile
    return noise * (1 + _FLOOR_SIGMA / math.sqrt(looks))


def hann_window(x: Tensor) -> Tensor:
    """x (..., n), angular-delay, under a periodic Hann window over the subcarriers.

    g[d] = x[d]/2 - (x[d-1] + x[d+1])/4
    """
    return x / 2 - (x.roll(1, -1) + x.roll(-1, -1)) / 4


def delay_spread_taps(x: Tensor, kept: int) -> Tensor:
    """RMS delay spread [taps], float64 (N,), of x; only the first `kept` taps can hold noise.

        p[d] = sum_{rx,b} |g[b, d]|^2,  0 below the floor,   g = `hann_window` of x
        DS = sqrt(max(sum_d p (d - d_mean)^2 / sum_d p - 1/3, 0)),   last eighth of the taps: d - n

    Without the window, the 1/d^2 leakage of a
    delay between taps has a second moment that grows with n and hides the spread. 1/3 tap^2 is
    the window's own second moment. Noise spread evenly over n taps has a second moment of its own,
    about n^2/5 times its share of the power, hence the floor (see `_noise_floor`). Where no tap
    passes it, all count; a channel on the one subcarrier that the window takes out goes without it.

    Source: RMS delay spread of 3GPP TR 38.901 V17 section 7.7.3 and ITU-R P.1407 section 2.2.
    """
    n = x.shape[-1]
    g = hann_window(x)
    p, bare = (_power(z).sum((1, 2), dtype=torch.float64) for z in (g, x))  # (N, n)
    p = torch.where(p.sum(1, keepdim=True) > _LEAST_LEFT, p, bare)
    above = p > _noise_floor(p[:, :kept], x.shape[1] * x.shape[2])
    p = torch.where(above | ~above.any(1, keepdim=True), p, 0)
    p = p / p.sum(1, keepdim=True)
    d = signed_delay(torch.arange(n, dtype=torch.float64, device=x.device), n)
    mean = (p * d).sum(1, keepdim=True)
    return ((p * (d - mean).square()).sum(1) - 1 / 3).clamp_min(0).sqrt()


def effective_paths(x: Tensor) -> Tensor:
    """Participation ratio (sum p)^2 / sum p^2 [1], float64 (N,), of coefficient powers p = |x|^2.

    1 for a single coefficient, n for n equal ones; leakage counts, as it does for a compressor.

    Source: R. J. Bell and P. Dean, Discuss. Faraday Soc. 50 (1970) 55.
    """
    p = _power(x).flatten(1).double()
    return p.sum(1).square() / p.square().sum(1)


def peak_to_average_db(x: Tensor) -> Tensor:
    """10 log10(max p / mean p) [dB], float64 (N,), of all coefficient powers p = |x|^2."""
    p = _power(x).flatten(1).double()
    return 10 * (p.amax(1) / p.mean(1)).log10()


def early_share(x: Tensor) -> Tensor:
    """Share of the energy in the first quarter of the taps [1], float64 (N,): n/4, rounded down.

    Source: the delay crop of C.-K. Wen, W.-T. Shih and S. Jin, IEEE Wireless Commun. Lett. 7
    (2018) 748, CsiNet, which keeps the first taps and drops the rest.
    """
    p = _power(x).sum((1, 2), dtype=torch.float64)
    return p[:, : x.shape[-1] // 4].sum(1) / p.sum(1)


def edge_share(x: Tensor) -> Tensor:
    """Share of the energy in the last eighth of the taps [1], float64 (N,): n/8, rounded down.

    The far edge of the delay circle. A crop to the first taps cuts it off first, though most of it
    is leakage of delays near 0, which belongs to the earliest paths; the rest is arrivals so late
    that they nearly wrap round.
    """
    p = _power(x).sum((1, 2), dtype=torch.float64)
    return p[:, -(x.shape[-1] // 8) :].sum(1) / p.sum(1)


def delay_profile(h: Tensor) -> Tensor:
    """Power over delay in half taps, float64 (N, 2 n), pooled over antennas."""
    n = h.shape[-1]
    return _power(torch.fft.ifft(h, n=2 * n, dim=-1)).sum((1, 2), dtype=torch.float64)


def beam_spectrum(lines: Tensor) -> Tensor:
    """Power over u in half beams, float64 (N, 2 n_column), pooled over all else.

    S[b] = sum |sum_a s[a] exp(-j pi a b / n_column)|^2: with twice the beams it holds every lag of
    the array.

    Source: conventional (Bartlett) beamformer, H. L. Van Trees, Optimum Array Processing, 2002.
    """
    spectrum = torch.fft.fft(lines, n=2 * lines.shape[2], dim=2)
    return _power(spectrum).sum((1, 3), dtype=torch.float64)


def peak_bin(power: Tensor) -> Tensor:
    """Place of the highest point of a periodic spectrum, float64 (N,) in [0, n).

    `power` (N, 2 n) are samples half a bin apart of a trigonometric polynomial of n - 1 lags. It is
    drawn `_FINER` times finer through those lags, and a parabola through the highest three points
    gives the place between them.
    """
    n = power.shape[1] // 2
    points = 2 * n * _FINER
    fine = torch.fft.irfft(torch.fft.rfft(power, dim=1)[:, :n], n=points, dim=1)
    i = fine.argmax(1, keepdim=True)
    left, top, right = (fine.gather(1, (i + step) % points) for step in (-1, 0, 1))
    bend = left - 2 * top + right
    shift = torch.where(bend < 0, (left - right) / (2 * bend.clamp_max(-1e-300)), 0.0)
    place = ((i + shift.clamp(-0.5, 0.5)) / (2 * _FINER)).squeeze(1) % n
    return torch.where(place < n, place, 0.0)  # -1e-20 % n is n


def neighbour_correlation(lines: Tensor, spectrum: Tensor) -> Tensor:
    """Correlation of neighbouring columns [1], complex128 (N,).

        rho = sum_{line,a,k} s[a+1, k] conj s[a, k] / mean power of the two ends

    Args:
        lines: complex (N, n_line, n_column, n).
        spectrum: Their `beam_spectrum`: its first Fourier coefficients are the lags.
    """
    points = spectrum.shape[1]
    lag = torch.fft.ifft(spectrum, dim=1)[:, 1]
    ends = _power(lines[:, :, [0, -1]]).sum((1, 2, 3), dtype=torch.float64)
    power = spectrum.sum(1) / points - ends / 2
    return lag / power.clamp_min(torch.finfo(torch.float64).tiny)


def azimuth_spread_deg(rho: Tensor) -> Tensor:
    """Azimuth spread [deg], float64 (N,), of the correlation rho of neighbouring columns.

        AS = 180/pi sqrt(-2 ln |rho|) / (pi max(cos az_mean, 0.3)),   sin az_mean = arg(rho)/pi

    sqrt(-2 ln |sum_p P_p e^{j theta_p}|) is the circular spread of TR 38.901 Annex A, taken at the
    electrical angle theta = pi u, where |rho| is that very sum and free of the leakage that beams
    carry; 1/cos turns a spread of u into one of azimuth. A path's azimuth is not what the array
    sees, which is u = sin az cos el: front and back fall together, and angles fold at the array's
    axis. A simulator's label counts clusters around the full circle, so it is the larger of the two
    where few paths come from behind (line of sight), and the smaller where clusters are wide.

    Source: 3GPP TR 38.901 V17 Annex A.1 (circular spread); half-wavelength linear array.
    """
    spread_u = (-2 * rho.abs().clamp(1e-12, 1.0).log()).sqrt() / math.pi
    sin_az = rho.angle() / math.pi
    cos_az = (1 - sin_az.square()).clamp_min(_MIN_COS**2).sqrt()
    return torch.rad2deg(spread_u / cos_az)


def k_factor_db(h: Tensor, delay: Tensor) -> Tensor:
    """Ricean K-factor [dB], float64 (N,), of one snapshot h.

        y[a] = 1/n sum_k h[a, k] exp(+j 2 pi k delay / n),       g = |y|^2
        S = sum_groups sqrt(max(mean_a(g)^2 - var_a(g), 0)),     T = mean power of h, of all groups
        K = S / (T - S),   within -20..40 dB

    y is the channel at its strongest delay, one value an antenna. A single wave, plane or
    spherical, has one modulus over the array; what else arrives at that delay makes |y|^2 vary:
    with specular power S and diffuse power sigma^2 it has mean S + sigma^2 and variance
    2 S sigma^2 + sigma^4, so its two moments give S. All other power is diffuse, beside S at that
    delay and at all other delays. Unlike the strongest plane wave of a matched filter this needs no
    fit of the wavefront's curvature, which a large array sees from users nearby. Diffuse power from
    the direction and delay of the specular wave counts as specular: K comes out somewhat high. A
    lone antenna has no variance, and all of y counts as specular.

    Args:
        h: complex (N, n_group, n_element, n).
        delay: Strongest delay in taps, (N,).
    Source: L. J. Greenstein, D. G. Michelson and V. Erceg, "Moment-method estimation of the Ricean
        K-factor", IEEE Commun. Lett. 3 (1999) 175, over antennas in place of time.
    """
    n = h.shape[-1]
    k = torch.arange(n, dtype=torch.float64, device=h.device)
    turn = torch.exp(2j * math.pi / n * k * delay[:, None]) / n
    y = (h @ turn.to(h.dtype)[:, None, :, None]).squeeze(-1)  # (N, n_group, n_element)
    g = _power(y).double()
    mean = g.mean(2)
    specular = (mean.square() - g.var(2, correction=0)).clamp_min(0).sqrt().sum(1)
    total = _power(h).sum((1, 2, 3), dtype=torch.float64) / (h.shape[2] * n)
    ratio = specular / (total - specular).clamp_min(total / _MOST_K)
    return 10 * ratio.clamp(_LEAST_K, _MOST_K).log10()
