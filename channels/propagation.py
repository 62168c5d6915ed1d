"""What a cell network may have besides path loss: shadowing and sector antennas, both smooth.

Both are functions of the position alone, so a network with them is still a differentiable function
of its placements; both are off unless a `CellNetwork` is given them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from channels.randomness import seeded_generator
from channels.support import CsiAuditError

__all__ = ["SectorPattern", "Shadowing"]


@dataclass(frozen=True, kw_only=True)
class Shadowing:
    """Log-normal shadowing as a fixed smooth map of each station.

        S_j(u) = spread sqrt(2/W) sum over w of cos(k_jw . u + phi_jw),   k ~ N(0, I / l^2)

    Over seeds S has mean 0, deviation `spread_db` and correlation exp(-|u - v|^2 / (2 l^2)), with
    l = correlation / sqrt(2) so that it falls to 1/e at `correlation_m`; it is Gaussian up to the
    number of waves. Stations are independent. The usual exponential correlation has no derivative.

    Attributes:
        spread_db: Deviation [dB]; 4 with and 7.8 without line of sight in urban micro cells.
        correlation_m: Distance at which the correlation is 1/e [m].
        seed: Of the map.
        waves: W.
    Source: values of 3GPP TR 38.901 tables 7.4.1-1 and 7.5-6; random waves of Rahimi and Recht,
        2007, "Random features for large-scale kernel machines".
    """

    spread_db: float = 4.0
    correlation_m: float = 10.0
    seed: int = 0
    waves: int = 64

    def __post_init__(self) -> None:
        for name in ("spread_db", "correlation_m"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise CsiAuditError(f"{name} must be finite and above 0; got {value}.")
        if self.waves < 1:
            raise CsiAuditError(f"waves must be at least 1; got {self.waves}.")

    def field_db(self, u: Tensor, n_stations: int) -> Tensor:
        """S_j(u) [dB] of positions u (..., 2) [m], (..., n_stations)."""
        parts = [self._wave(j).to(u) for j in range(n_stations)]  # (3, waves) each
        k, phase = torch.stack(parts).split([2, 1], dim=1)  # (M, 2, W), (M, 1, W)
        angle = torch.einsum("...d,mdw->...mw", u, k) + phase[:, 0]
        return self.spread_db * math.sqrt(2 / self.waves) * angle.cos().sum(-1)

    def _wave(self, station: int) -> Tensor:
        """k (2 rows) and phi (1 row) of all waves of a station, float64 (3, W)."""
        generator = seeded_generator(self.seed, "shadowing", station)
        k = torch.randn(2, self.waves, generator=generator, dtype=torch.float64)
        phi = torch.rand(1, self.waves, generator=generator, dtype=torch.float64)
        return torch.cat([k * math.sqrt(2) / self.correlation_m, 2 * math.pi * phi])


@dataclass(frozen=True, kw_only=True)
class SectorPattern:
    """Sector antennas: the 3GPP parabola in dB with its kinks smoothed away.

        A(theta) = 12 * 2 (1 - cos theta) / width^2,   g = g_min + (1 - g_min) 10^(-A / 10)

    theta is the angle off the boresight, 2 (1 - cos theta) is theta^2 to second order, g_min the
    gain behind. Within about a metre of the station, where there is no direction, cos theta fades
    to 0.

    Attributes:
        boresight_deg: Direction of each station, from the x axis counterclockwise [deg].
        width_deg: Width between the points of about half power [deg].
        back_db: Attenuation behind [dB].
    Source: 3GPP TR 38.901 table 7.3-1 (width 65 degrees, 30 dB).
    """

    boresight_deg: tuple[float, ...]
    width_deg: float = 65.0
    back_db: float = 30.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "boresight_deg", tuple(self.boresight_deg))  # of a list in YAML
        if not 0 < self.width_deg <= 180:
            raise CsiAuditError(f"width_deg must lie in (0, 180]; got {self.width_deg}.")
        if not (math.isfinite(self.back_db) and self.back_db > 0):
            raise CsiAuditError(f"back_db must be finite and above 0; got {self.back_db}.")
        if not all(math.isfinite(angle) for angle in self.boresight_deg):
            raise CsiAuditError(f"boresight_deg must be finite; got {self.boresight_deg}.")

    @cached_property
    def _directions(self) -> Tensor:
        angle = torch.tensor(self.boresight_deg, dtype=torch.float64).deg2rad()
        return torch.stack([angle.cos(), angle.sin()], dim=-1)  # (M, 2)

    def log_gain(self, offsets: Tensor) -> Tensor:
        """log g [natural], at most 0, of offsets u - s_j (..., M, 2) [m]."""
        along = (offsets * self._directions.to(offsets)).sum(-1)
        cosine = along / (offsets.square().sum(-1) + 1).sqrt()
        width, least = math.radians(self.width_deg), 10 ** (-self.back_db / 10)
        attenuation_db = 24 * (1 - cosine) / width**2
        return (least + (1 - least) * (-attenuation_db * math.log(10) / 10).exp()).log()
