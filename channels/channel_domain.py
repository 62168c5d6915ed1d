"""`ChannelDomain`: all that the engine, which knows no channels, asks about them.

Samplers, twists and reports see `event_shape`, features, maps and axes through this object; a
network placement has its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from channels.channel_set import ChannelSet, Grid
from channels.domains import onto_sphere, to_complex, to_spatial_frequency
from channels.physical_features import FEATURES, FeatureInfo, features_of_maps
from channels.support import CsiAuditError

__all__ = ["ChannelDomain", "MapAxis"]


@dataclass(frozen=True, kw_only=True)
class MapAxis:
    """One axis of a map.

    Attributes:
        label: Name for figures.
        unit: Unit of `extent`.
        extent: Outer edges of the first and last bin, as displayed.
        roll: Bins to roll the stored axis by, so that values ascend.
    """

    label: str
    unit: str
    extent: tuple[float, float]
    roll: int


@dataclass(frozen=True, kw_only=True)
class ChannelDomain:
    """Channels as the engine sees them: audit-space tensors of one grid and antenna count.

    Attributes:
        grid: Carrier, bandwidth, subcarriers.
        n_rx: Receive antennas.
        n_tx: Transmit antennas.
    """

    grid: Grid
    n_rx: int
    n_tx: int

    def __post_init__(self) -> None:
        for name in ("n_rx", "n_tx"):
            if getattr(self, name) < 1:
                raise CsiAuditError(f"{name} must be at least 1; got {getattr(self, name)}.")

    @classmethod
    def of(cls, channels: ChannelSet) -> ChannelDomain:
        """Domain of a channel set."""
        return cls(grid=channels.grid, n_rx=channels.n_rx, n_tx=channels.n_tx)

    @property
    def event_shape(self) -> tuple[int, int, int]:
        """(2 n_rx, n_tx, n_delay) of one user."""
        return 2 * self.n_rx, self.n_tx, self.grid.n_sub

    @property
    def feature_info(self) -> Mapping[str, FeatureInfo]:
        """Label, unit and display scale of every feature."""
        return FEATURES

    @property
    def axes(self) -> tuple[MapAxis, MapAxis]:
        """Axes of `power_map`: sin azimuth, then delay in ns (in taps if no bandwidth is known)."""
        n_tx, n_delay, tap_s = self.n_tx, self.grid.n_sub, self.grid.tap_s
        low = -2.0 * (n_tx // 2) / n_tx - 1.0 / n_tx
        beams = MapAxis(label="sin azimuth", unit="1", extent=(low, low + 2.0), roll=n_tx // 2)
        step, unit = (1.0, "taps") if tap_s is None else (tap_s * 1e9, "ns")
        span = (-0.5 * step, (n_delay - 0.5) * step)
        return beams, MapAxis(label="delay", unit=unit, extent=span, roll=0)

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.event_shape:
            raise CsiAuditError(
                f"x must be (N, {', '.join(map(str, self.event_shape))}) angular-delay; "
                f"got {tuple(x.shape)}. Is this another array or number of subcarriers?"
            )

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Features float32 (N,) by name of x (N, 2 n_rx, n_tx, n_delay)."""
        self._check(x)
        return features_of_maps(x, self.grid)

    def onto_law(self, x: Tensor) -> Tensor:
        """x at unit mean power per user: the support of the audited law."""
        self._check(x)
        return onto_sphere(x)

    def power_map(self, x: Tensor) -> Tensor:
        """Coefficient power summed over receive antennas, (N, n_tx, n_delay), storage order."""
        self._check(x)
        return x.square().sum(1)

    def spatial_frequency(self, x: Tensor) -> Tensor:
        """Spatial-frequency channels, complex (N, n_rx, n_tx, n_sub)."""
        self._check(x)
        return to_spatial_frequency(to_complex(x))
