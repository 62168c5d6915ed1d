"""Physical features of channels: what a report stratifies failures by.

Each is computed from the channel itself, so real and generated channels are measured alike; the
simulator's labels serve to check them. The module is not called `features`, since that is the
function.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from channels.channel_set import ChannelSet, Grid, audit_space
from channels.domains import check_power, to_complex
from channels.support import CsiAuditError

__all__ = ["FEATURES", "FeatureInfo", "features", "features_of_maps"]

_BLOCK = 2048  # users a pass: bounds the complex copies
_MIN_COS = 0.3  # beyond 72 deg from broadside the array no longer resolves azimuth


@dataclass(frozen=True, kw_only=True)
class FeatureInfo:
    """How to show a feature.

    Attributes:
        label: Name for tables and axes.
        unit: Unit shown.
        scale: Shown value = scale * stored value.
        definition: One sentence for a report.
    """

    label: str
    unit: str
    scale: float
    definition: str


FEATURES: Mapping[str, FeatureInfo] = MappingProxyType(
    {
        "delay_spread_s": FeatureInfo(
            label="delay spread",
            unit="ns",
            scale=1e9,
            definition="RMS width of the power delay profile, window leakage taken out.",
        ),
        "azimuth_spread_deg": FeatureInfo(
            label="azimuth spread",
            unit="deg",
            scale=1.0,
            definition="Circular spread of the departure angles as the array resolves them.",
        ),
        "effective_paths": FeatureInfo(
            label="effective paths",
            unit="1",
            scale=1.0,
            definition="Participation ratio of the angular-delay coefficient powers.",
        ),
        "peak_to_average_db": FeatureInfo(
            label="peak to average",
            unit="dB",
            scale=1.0,
            definition="Largest angular-delay coefficient power over the mean.",
        ),
    }
)


def _delay_spread_s(x: Tensor, tap_s: float) -> Tensor:
    """RMS delay spread [s], (N,), of complex angular-delay x (N, n_rx, n_tx, n_delay).

        g[d] = x[d]/2 - (x[d-1] + x[d+1])/4,   p[d] = sum_{rx,b} |g[b, d]|^2 / sum p
        DS = tap sqrt(max(sum_d p (d - d_mean)^2 - 1/3, 0)),   last eighth of the taps: d - n_delay

    g is x under a periodic Hann window over the subcarriers. Without it, the 1/d^2 leakage of a
    delay between taps has a second moment that grows with n_delay and hides the spread (rank
    correlation with the simulator's label 0.7; with it 0.99). 1/3 tap^2 is the window's own second
    moment. The axis is a circle: what leaks below delay 0 sits on the last taps.

    Source: RMS delay spread as in 3GPP TR 38.901 V17 section 7.7.3 / Annex A, on a tapped profile.
    """
    n = x.shape[-1]
    g = x / 2 - (x.roll(1, -1) + x.roll(-1, -1)) / 4
    p = g.abs().double().square().sum((1, 2))  # (N, n_delay)
    p = p / p.sum(1, keepdim=True)
    d = torch.arange(n, dtype=torch.float64, device=x.device)
    d = torch.where(d >= n - n // 8, d - n, d)
    mean = (p * d).sum(1, keepdim=True)
    variance = (p * (d - mean).square()).sum(1) - 1 / 3
    return tap_s * variance.clamp_min(0).sqrt()


def _azimuth_spread_deg(x: Tensor) -> Tensor:
    """Azimuth spread [deg], (N,), of complex angular-delay x (N, n_rx, n_tx, n_delay).

        rho = sum_{rx,a,d} s[a+1, d] conj s[a, d] / mean power of the two ends,  s = IFFT over beams
        AS = 180/pi sqrt(-2 ln |rho|) / (pi max(cos az_mean, 0.3)),   sin az_mean = arg(rho)/pi

    sqrt(-2 ln |sum_p P_p e^{j theta_p}|) is the circular spread of TR 38.901 Annex A, taken at the
    electrical angle theta = pi u, u = sin az, where |rho| is that very sum and free of the leakage
    that beams carry; 1/cos turns a spread of u into one of azimuth. A linear array cannot tell
    front from back and folds angles at its axis.

    Source: 3GPP TR 38.901 V17 Annex A.1 (circular spread); half-wavelength linear array.
    """
    s = torch.fft.ifft(x.to(torch.complex128), dim=-2, norm="ortho")
    upper, lower = s[:, :, 1:], s[:, :, :-1]
    power = (upper.abs().square() + lower.abs().square()).sum((1, 2, 3)) / 2
    rho = (upper * lower.conj()).sum((1, 2, 3)) / power
    spread_u = (-2 * rho.abs().clamp(1e-12, 1.0).log()).sqrt() / math.pi
    sin_az = rho.angle() / math.pi
    cos_az = (1 - sin_az.square()).clamp_min(_MIN_COS**2).sqrt()
    return torch.rad2deg(spread_u / cos_az)


def _effective_paths(x: Tensor) -> Tensor:
    """Participation ratio (sum p)^2 / sum p^2 [1], (N,), of all coefficient powers p = |x|^2.

    1 for a single coefficient, n for n equal ones; leakage counts, as it does for a compressor.
    """
    p = x.abs().double().square().flatten(1)
    return p.sum(1).square() / p.square().sum(1)


def _peak_to_average_db(x: Tensor) -> Tensor:
    """10 log10(max p / mean p) [dB], (N,), of all coefficient powers p = |x|^2."""
    p = x.abs().double().square().flatten(1)
    return 10 * (p.amax(1) / p.mean(1)).log10()


def _of_block(x: Tensor, grid: Grid) -> dict[str, Tensor]:
    """Features of complex angular-delay x with all taps."""
    found = {}
    if grid.tap_s is not None and x.shape[-1] >= 8:
        found["delay_spread_s"] = _delay_spread_s(x, grid.tap_s)
    if x.shape[-2] >= 2:
        found["azimuth_spread_deg"] = _azimuth_spread_deg(x)
    found["effective_paths"] = _effective_paths(x)
    found["peak_to_average_db"] = _peak_to_average_db(x)
    return {name: value.float() for name, value in found.items()}


def features_of_maps(x: Tensor, grid: Grid) -> dict[str, Tensor]:
    """Features of audit-space channels.

    Args:
        x: Real (N, 2 n_rx, n_tx, n_delay), any scale; taps cropped away count as 0.
        grid: Gives the delay axis its unit.
    Returns:
        float32 (N,) by the names of `FEATURES`. What cannot be known is left out: the delay spread
        without a bandwidth or below 8 subcarriers, the azimuth spread of a single antenna.
    Raises:
        CsiAuditError: wrong shape, or users that are all zero or not finite.
    """
    late = grid.n_sub - x.shape[-1]
    if late < 0 or len(x) == 0:
        raise CsiAuditError(
            f"x must hold users with at most grid.n_sub = {grid.n_sub} delay taps; "
            f"got {tuple(x.shape)}."
        )
    norm = torch.linalg.vector_norm(x.flatten(1), dim=1, dtype=torch.float64)
    check_power(~torch.isfinite(norm), norm == 0, name="x")
    blocks = [
        _of_block(torch.nn.functional.pad(to_complex(part), (0, late)), grid)
        for part in torch.split(x, _BLOCK)
    ]
    return {name: torch.cat([block[name] for block in blocks]) for name in blocks[0]}


def features(channels: ChannelSet) -> dict[str, Tensor]:
    """Features of a channel set: see `features_of_maps` for names, units and what is left out."""
    return features_of_maps(audit_space(channels), channels.grid)
