"""`PlacementDomain`: what an audit asks about its samples where they are placements of users.

The shape of a sample, its features, the way onto the audited law and the map of where users stand;
`ChannelDomain` is the same for channels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import ClassVar

import torch
from torch import Tensor

from channels.network import CellNetwork
from channels.physical_features import FeatureInfo
from channels.placements import fold_into_square
from channels.support import CsiAuditError

__all__ = ["PLACEMENT_FEATURES", "PlacementDomain"]

EDGE_DB = 3.0
"""A user is at the cell edge where its second station is weaker by less than this."""

PLACEMENT_FEATURES: Mapping[str, FeatureInfo] = MappingProxyType(
    {
        "station_distance_m": FeatureInfo(
            label="distance to station",
            unit="m",
            scale=1.0,
            definition="Distance to the nearest station, mean over the users.",
            source="geometry",
        ),
        "farthest_user_m": FeatureInfo(
            label="farthest user",
            unit="m",
            scale=1.0,
            definition="Largest distance of a user to its nearest station.",
            source="geometry",
        ),
        "edge_users": FeatureInfo(
            label="users at a cell edge",
            unit="1",
            scale=1.0,
            definition=f"Users whose second nearest station has less than {EDGE_DB:g} dB more path "
            "loss than the nearest.",
            source="geometry and the path loss exponent",
        ),
        "closest_pair_m": FeatureInfo(
            label="closest pair",
            unit="m",
            scale=1.0,
            definition="Smallest distance between two users.",
            source="geometry",
        ),
        "user_spread_m": FeatureInfo(
            label="spread of users",
            unit="m",
            scale=1.0,
            definition="RMS distance of the users from their centre.",
            source="geometry",
        ),
        "busiest_cell": FeatureInfo(
            label="users in the busiest cell",
            unit="%",
            scale=100.0,
            definition="Largest share of the users that one station serves.",
            source="geometry",
        ),
        "worst_sinr_db": FeatureInfo(
            label="worst SINR",
            unit="dB",
            scale=1.0,
            definition="Lowest SINR of a user.",
            source="channels.network",
        ),
    }
)


@dataclass(frozen=True, kw_only=True)
class PlacementDomain:
    """Placements as the engine sees them: x (N, n_users, 2) on the square of one network.

    Attributes:
        n_users: Users of a placement.
        network: Stations, area and propagation.
        figures: Name of the function that draws placements, for whoever may import it.
    """

    n_users: int
    network: CellNetwork = field(default_factory=CellNetwork)
    figures: ClassVar[str] = "reports.placement_figures:placement_maps_figure"

    def __post_init__(self) -> None:
        if self.n_users < 1:
            raise CsiAuditError(f"n_users must be at least 1; got {self.n_users}.")

    @property
    def event_shape(self) -> tuple[int, int]:
        """(n_users, 2) of one placement."""
        return self.n_users, 2

    @property
    def labels(self) -> Mapping[str, FeatureInfo]:
        """Name, unit and definition of each feature."""
        alone = {"closest_pair_m", "user_spread_m"} if self.n_users < 2 else set()
        single = {"edge_users"} if self.network.n_stations < 2 else set()
        left_out = alone | single
        return {k: v for k, v in PLACEMENT_FEATURES.items() if k not in left_out}

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Features float32 (N,) by name of placements x (N, n_users, 2).

        What one user or one station cannot have is left out.
        """
        self._check(x)
        distances = self.network.station_distances_m(x)  # (N, n_users, M)
        nearest = distances.min(-1).values
        found = {
            "station_distance_m": nearest.mean(1),
            "farthest_user_m": nearest.max(1).values,
            "edge_users": self._at_edge(distances).sum(1),
            "closest_pair_m": self._closest_pair_m(x),
            "user_spread_m": self._spread_m(x),
            "busiest_cell": self._busiest(x),
            "worst_sinr_db": self.network.sinr_db(x).min(1).values,
        }
        return {name: found[name].float() for name in self.labels}

    def onto_law(self, x: Tensor) -> Tensor:
        """x with every user back in the square: the support of the audited law."""
        self._check(x)
        return fold_into_square(x)

    def maps(self, x: Tensor, log_w: Tensor | None = None, *, bins: int = 25) -> Tensor:
        """Density of the users over the area, 1 where uniform, float64 (bins, bins) as (y, x).

        Args:
            x: Placements in the square.
            log_w: Log weight of each, (N,); None for equal ones.
            bins: Of each side.
        """
        self._check(x)
        weight = x.new_ones(len(x)) if log_w is None else (log_w - log_w.max()).exp()
        at = ((x.double() + 1) * (bins / 2)).long().clamp(0, bins - 1)
        index = (bins * at[..., 1] + at[..., 0]).flatten()
        each = weight.double()[:, None].expand(-1, self.n_users).flatten()
        counts = torch.bincount(index, weights=each, minlength=bins**2)
        return (counts * (bins**2 / counts.sum())).view(bins, bins)

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.event_shape:
            raise CsiAuditError(
                f"x must be (N, {self.n_users}, 2) placements; got {tuple(x.shape)}. Is this "
                "another number of users?"
            )

    def _at_edge(self, distances: Tensor) -> Tensor:
        if self.network.n_stations < 2:
            return torch.zeros_like(distances[..., 0])
        first, second = distances.topk(2, largest=False).values.unbind(-1)
        ratio = 10 ** (EDGE_DB / (10 * self.network.exponent))
        return second < ratio * first

    def _closest_pair_m(self, x: Tensor) -> Tensor:
        if self.n_users < 2:
            return torch.zeros(len(x))
        u = self.network.to_metres(x)
        apart = torch.cdist(u, u, compute_mode="donot_use_mm_for_euclid_dist")
        own = torch.eye(self.n_users, dtype=torch.bool, device=x.device)
        return apart.masked_fill(own, torch.inf).amin((1, 2))

    def _spread_m(self, x: Tensor) -> Tensor:
        u = self.network.to_metres(x)
        return (u - u.mean(1, keepdim=True)).square().sum(-1).mean(1).sqrt()

    def _busiest(self, x: Tensor) -> Tensor:
        serving = self.network.serving_station(x)
        counts = torch.nn.functional.one_hot(serving, self.network.n_stations).sum(1)
        return counts.max(1).values / self.n_users
