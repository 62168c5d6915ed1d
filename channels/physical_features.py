"""Physical features of channels: what a report stratifies failures by.

Each is computed from the channel itself, so real and generated channels are measured alike; the
simulator's labels serve to check them (`python -m benchmarks.features`). The formulas live in
`feature_formulas`. The module is not called `features`, since that is the function.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from channels import feature_formulas as formulas
from channels.channel_set import ChannelSet, Grid, audit_space
from channels.domains import check_power, to_complex, to_spatial_frequency
from channels.support import CsiAuditError

__all__ = ["FEATURES", "FeatureInfo", "features", "features_of_maps"]

_READ = 1 << 22  # coefficients of a set in memory at once, where its file is read as it is sliced
_BLOCK = 1 << 18  # coefficients a pass: keeps the complex copies within a processor's cache
_MIN_SUB = 8  # subcarriers from which there is a delay axis to speak of
_MIN_COEFFICIENTS = 8  # per receive antenna and polarisation, for a K-factor


@dataclass(frozen=True, kw_only=True)
class FeatureInfo:
    """How to show a feature, and where it comes from.

    Attributes:
        label: Name for tables and axes.
        unit: Unit shown.
        scale: Shown value = scale * stored value.
        definition: One sentence for a report.
        source: Standard or paper that defines it.
    """

    label: str
    unit: str
    scale: float
    definition: str
    source: str


FEATURES: Mapping[str, FeatureInfo] = MappingProxyType(
    {
        "delay_spread_s": FeatureInfo(
            label="delay spread",
            unit="ns",
            scale=1e9,
            definition="RMS width of the power delay profile above its noise floor, window leakage "
            "taken out.",
            source="3GPP TR 38.901 section 7.7.3; ITU-R P.1407 section 2.2",
        ),
        "azimuth_spread_deg": FeatureInfo(
            label="azimuth spread",
            unit="deg",
            scale=1.0,
            definition="Circular spread of the departure angles as the array resolves them.",
            source="3GPP TR 38.901 Annex A.1",
        ),
        "effective_paths": FeatureInfo(
            label="effective paths",
            unit="1",
            scale=1.0,
            definition="Participation ratio of the angular-delay coefficient powers.",
            source="Bell and Dean, Discuss. Faraday Soc. 50 (1970) 55",
        ),
        "peak_to_average_db": FeatureInfo(
            label="peak to average",
            unit="dB",
            scale=1.0,
            definition="Largest angular-delay coefficient power over the mean.",
            source="peak-to-average power ratio of the coefficients",
        ),
        "k_factor_db": FeatureInfo(
            label="K-factor",
            unit="dB",
            scale=1.0,
            definition="Power of the strongest wave, by the moments of the antennas' powers at the "
            "strongest delay, over all other power.",
            source="Greenstein, Michelson and Erceg, IEEE Commun. Lett. 3 (1999) 175",
        ),
        "early_energy": FeatureInfo(
            label="early energy",
            unit="%",
            scale=100.0,
            definition="Share of the energy in the first quarter of the delay taps.",
            source="delay crop of Wen, Shih and Jin, IEEE Wireless Commun. Lett. 7 (2018) 748",
        ),
        "edge_energy": FeatureInfo(
            label="edge energy",
            unit="%",
            scale=100.0,
            definition="Share of the energy in the last eighth of the delay taps: leakage below "
            "delay 0, and arrivals that nearly wrap round.",
            source="delay crop of Wen, Shih and Jin, IEEE Wireless Commun. Lett. 7 (2018) 748",
        ),
        "dominant_beam": FeatureInfo(
            label="dominant beam",
            unit="1",
            scale=1.0,
            definition="u = sin(azimuth) cos(elevation), in -1..1, at which the array finds the "
            "most power, between beams.",
            source="Bartlett beamformer, Van Trees, Optimum Array Processing (2002)",
        ),
        "dominant_delay_s": FeatureInfo(
            label="dominant delay",
            unit="ns",
            scale=1e9,
            definition="Delay with the most power over all antennas, between taps; the last eighth "
            "of the taps counts as negative.",
            source="power delay profile of ITU-R P.1407 section 2.2",
        ),
        "spatial_correlation": FeatureInfo(
            label="spatial correlation",
            unit="1",
            scale=1.0,
            definition="Magnitude of the correlation of neighbouring antennas of a row.",
            source="Salz and Winters, IEEE Trans. Veh. Technol. 43 (1994) 1049",
        ),
    }
)  # fmt: skip


def _users(coefficients: int, shape: torch.Size) -> int:
    """Users of that shape that hold about so many coefficients, at least 1."""
    return max(1, coefficients // shape.numel())


def _of_delay(x: Tensor, h: Tensor, grid: Grid, kept: int) -> dict[str, Tensor]:
    """Features along delay of x (N, n_rx, n_tx, n) and h (N, n_group, n_element, n)."""
    n, found = x.shape[-1], {}
    strongest = formulas.peak_bin(formulas.delay_profile(h))
    if h.shape[2] * n >= _MIN_COEFFICIENTS:
        found["k_factor_db"] = formulas.k_factor_db(h, strongest)
    if n >= _MIN_SUB:
        found["early_energy"] = formulas.early_share(x)
        found["edge_energy"] = formulas.edge_share(x)
        if grid.tap_s is not None:
            found["delay_spread_s"] = grid.tap_s * formulas.delay_spread_taps(x, kept)
            found["dominant_delay_s"] = grid.tap_s * formulas.signed_delay(strongest, n)
    return found


def _of_angle(lines: Tensor) -> dict[str, Tensor]:
    """Features along the columns of lines (N, n_line, n_column, n)."""
    n_column = lines.shape[2]
    if n_column < 2:
        return {}
    spectrum = formulas.beam_spectrum(lines)
    rho = formulas.neighbour_correlation(lines, spectrum)
    beam = formulas.peak_bin(spectrum)
    return {
        "azimuth_spread_deg": formulas.azimuth_spread_deg(rho),
        "dominant_beam": (2 * beam / n_column + 1) % 2 - 1,
        "spatial_correlation": rho.abs().clamp_max(1.0),
    }


def _of_block(x: Tensor, grid: Grid, kept: int) -> dict[str, Tensor]:
    """Features of angular-delay x (N, n_rx, n_tx, n), ||x_n|| = 1, in the order of `FEATURES`."""
    n_pol, n_rows, n_columns = grid.panel_of(x.shape[2])
    elements = to_spatial_frequency(x, (n_pol, n_rows, n_columns))
    h = elements.unflatten(2, (n_pol, n_rows * n_columns)).flatten(1, 2)  # (N, rx pol, element, n)
    found = {
        "effective_paths": formulas.effective_paths(x),
        "peak_to_average_db": formulas.peak_to_average_db(x),
        **_of_delay(x, h, grid, kept),
        **_of_angle(h.unflatten(2, (n_rows, n_columns)).flatten(1, 2)),
    }
    return {name: found[name].float() for name in FEATURES if name in found}


def features_of_maps(x: Tensor, grid: Grid) -> dict[str, Tensor]:
    """Features of audit-space channels.

    Several receive antennas, polarisations and rows of a panel are pooled: their powers add, and
    correlations and moments are taken within each.

    Args:
        x: Real (N, 2 n_rx, n_tx, n_delay), any scale; taps cropped away count as 0.
        grid: Gives the delay axis its unit and the antennas their panel.
    Returns:
        float32 (N,) by the names of `FEATURES`. What cannot be known is left out: all along delay
        below 8 subcarriers, delays in seconds without a bandwidth, all along azimuth with one
        column, the K-factor below 8 coefficients a receive antenna and polarisation.
    Raises:
        CsiAuditError: wrong shape, or users that are all zero or not finite.
    """
    kept = x.shape[-1]
    if kept > grid.n_sub or len(x) == 0:
        raise CsiAuditError(
            f"x must hold users with at most grid.n_sub = {grid.n_sub} delay taps; "
            f"got {tuple(x.shape)}."
        )
    blocks = torch.split(x, _users(_BLOCK, x.shape[1:]))
    norms = [torch.linalg.vector_norm(b.flatten(1), dim=1, dtype=torch.float64) for b in blocks]
    norm = torch.cat(norms)
    check_power(~torch.isfinite(norm), norm == 0, name="x")
    found = []
    for part, size in zip(blocks, norms, strict=True):
        unit = (part.double() / size.view(-1, 1, 1, 1)).float()
        padded = torch.nn.functional.pad(to_complex(unit), (0, grid.n_sub - kept))
        found.append(_of_block(padded, grid, kept))
    return {name: torch.cat([block[name] for block in found]) for name in found[0]}


def features(channels: ChannelSet) -> dict[str, Tensor]:
    """Features of a channel set: see `features_of_maps` for names, units and what is left out.

    Runs over slices of the users, so channels that stay in their file are read piece by piece.
    """
    step = _users(_READ, channels.h.shape[1:])
    found = [
        features_of_maps(audit_space(channels.subset(slice(start, start + step))), channels.grid)
        for start in range(0, len(channels), step)
    ]
    return {name: torch.cat([part[name] for part in found]) for name in found[0]}
