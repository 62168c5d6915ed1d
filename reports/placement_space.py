"""What a rule about placements of users may speak of: features of the whole placement, and how many
users stand at a place.

A place is a part of the area in the network's words: a cell, the edge between two stations, the
middle between three, what is far from a station and at no edge. All of it is geometry: neither the
order of the users nor a loss enters, and stations are not taken to be alike. The search for rules
is in mode_search.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from channels.network import CellNetwork
from channels.physical_features import FeatureInfo
from channels.placement_domain import EDGE_DB, PLACEMENT_FEATURES, PlacementDomain
from reports.mode_space import Array, Bool, Described

WIDTHS_DB = (1.0, 2.0, 3.0, 6.0)
"""Path loss [dB] by which the farther stations of an edge or a middle are weaker at most."""

WHOLE_FEATURES = tuple(name for name in PLACEMENT_FEATURES if name != "worst_sinr_db")
"""Features of a whole placement that a rule may use; the worst SINR is next to the loss itself."""

_LEAST_USERS = 0.005  # share of the users that a place must hold to be spoken of
_FAR_PROBS = (0.5, 0.75, 0.9, 0.97)  # of the distances in a cell, where "far" may begin

Kind = Literal["cell", "edge", "middle", "far"]
_STATIONS: Mapping[Kind, int] = {"cell": 1, "edge": 2, "middle": 3, "far": 1}


@dataclass(frozen=True, kw_only=True)
class Place:
    """A part of the area.

    Attributes:
        kind: A cell, the edge between two stations, the middle between three, or far from one: at
            least so far, and with every other station more than `EDGE_DB` weaker.
        stations: Numbers of the stations, from 0, rising.
        size: Width of an edge or a middle [dB], least distance of what is far [m]; 0 for a cell.
    """

    kind: Kind
    stations: tuple[int, ...]
    size: float = 0.0

    @property
    def family(self) -> str:
        """Name of the places that differ in size alone: `users_edge_1_2`, stations from 1."""
        return "_".join(["users", self.kind, *(str(j + 1) for j in self.stations)])

    @property
    def name(self) -> str:
        """Of the feature that counts its users: `users_edge_1_2_3db`, `users_far_2_60m`."""
        unit = "m" if self.kind == "far" else "db"
        return f"{self.family}_{self.size:g}{unit}" if self.size else self.family

    @property
    def words(self) -> str:
        """Where it is: `at the cell edge between stations 1 and 2`."""
        listed = numbered_stations(self.stations)
        return {
            "cell": f"in cell {listed}",
            "edge": f"at the cell edge between stations {listed}",
            "middle": f"in the middle between stations {listed}",
            "far": f"far from station {listed}",
        }[self.kind]

    @property
    def extent(self) -> str:
        """How far it reaches, in words; "" for a cell."""
        if self.kind == "far":
            return f"{self.size:g} m or more from it and at no cell edge"
        return f"at most {self.size:g} dB apart in path loss" if self.size else ""

    @property
    def width_words(self) -> str:
        """How wide an edge or a middle is, for who knows where it is; "" for others."""
        if self.kind not in ("edge", "middle"):
            return ""
        return f"where path losses differ by {self.size:g} dB or less"


@dataclass(frozen=True, kw_only=True)
class StandingUsers:
    """Users of placements with what places ask of them.

    Attributes:
        network: That they stand in.
        x: Placements (n, n_users, 2).
    """

    network: CellNetwork
    x: npt.NDArray[Any]

    @cached_property
    def order(self) -> npt.NDArray[np.int64]:
        """Stations from the nearest on, at most three, (n, n_users, k)."""
        return np.asarray(self._nearest[0])

    @cached_property
    def metres(self) -> Array:
        """Positions [m], (n, n_users, 2)."""
        half = np.asarray(self.network.area_m) / 2
        return np.asarray((self.x.astype(np.float64) + 1) * half)

    @cached_property
    def distance_m(self) -> Array:
        """Distance to the nearest station, (n, n_users)."""
        return self._nearest[1][..., 0]

    @cached_property
    def gap_db(self) -> Array:
        """By how much the path loss to each of `order` exceeds the least, (n, n_users, k)."""
        d = np.maximum(self._nearest[1], 1e-9)
        return np.asarray(10 * self.network.exponent * np.log10(d / d[..., :1]))

    @cached_property
    def off_edges(self) -> Bool:
        """Whether each user is at no cell edge, (n, n_users)."""
        return np.asarray((self.gap_db[..., 1:] > EDGE_DB).all(-1))

    @cached_property
    def unserved(self) -> Bool:
        """Whether the SINR of each user is below the network's threshold, (n, n_users)."""
        return np.asarray(self.network.sinr_db(self._tensor) < self.network.threshold_db)

    @property
    def _tensor(self) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(self.x, dtype=np.float32))

    @cached_property
    def _nearest(self) -> tuple[npt.NDArray[np.int64], Array]:
        distances = self.network.station_distances_m(self._tensor)
        found = distances.topk(min(3, self.network.n_stations), dim=-1, largest=False)
        return found.indices.numpy(), found.values.double().numpy()

    def at(self, place: Place) -> Bool:
        """Whether each user stands at the place, (n, n_users)."""
        k = _STATIONS[place.kind]
        nearest = np.sort(self.order[..., :k], axis=-1)
        inside = (nearest == np.array(place.stations)).all(-1)
        if place.kind == "far":
            return np.asarray(inside & self.off_edges & (self.distance_m >= place.size))
        return inside if k == 1 else inside & (self.gap_db[..., k - 1] <= place.size)


def numbered_stations(stations: Sequence[int]) -> str:
    """Stations from 0 as a reader counts them: `1`, `1 and 2`, `1, 2 and 3`."""
    numbers = [str(j + 1) for j in stations]
    return " and ".join(part for part in (", ".join(numbers[:-1]), numbers[-1]) if part)


def network_places(users: StandingUsers, weight: Array) -> tuple[Place, ...]:
    """Places that hold a share worth speaking of.

    Args:
        users: Users of placements.
        weight: Weight of each placement, sum 1, (n,).
    """
    each = np.repeat(weight / users.x.shape[1], users.x.shape[1])
    m = users.network.n_stations
    found = [Place(kind="cell", stations=(j,)) for j in range(m)] if m > 1 else []
    found += [far for j in range(m) for far in _far_places(users, j, each)]
    kinds: tuple[tuple[Kind, int], ...] = (("edge", 2), ("middle", 3))
    for kind, k in kinds:
        nearest = np.sort(users.order[..., :k], axis=-1).reshape(-1, min(k, m))
        groups = np.unique(nearest, axis=0).tolist() if k <= m else []
        found += [Place(kind=kind, stations=tuple(group), size=width)
                  for group in groups for width in WIDTHS_DB]  # fmt: skip
    return tuple(p for p in found if float(each @ users.at(p).ravel()) >= _LEAST_USERS)


def described_placements(
    users: StandingUsers, places: Sequence[Place], *, ruling: Sequence[str] | None = None
) -> Described:
    """Placements as rules see them: features, and the number of users at each place.

    Args:
        users: Of the placements.
        places: To count at.
        ruling: Features that rules may use; None for all but the worst SINR.
    """
    domain = PlacementDomain(n_users=users.x.shape[1], network=users.network)
    whole = {k: v.double().numpy() for k, v in domain.features(users._tensor).items()}
    counts = {place.name: users.at(place).sum(1).astype(np.float64) for place in places}
    n = len(users.x)
    usable = (*WHOLE_FEATURES, *counts)
    return Described(
        features={**whole, **counts},
        delay_power=np.zeros((n, 0)),
        beam_power=np.zeros((n, 0)),
        ruling=tuple(usable if ruling is None else ruling),
        families={place.name: place.family for place in places},
    )


def feature_words(places: Sequence[Place]) -> Mapping[str, FeatureInfo]:
    """Label, unit and definition of every feature of `described_placements`."""
    counted = {
        place.name: FeatureInfo(
            label=f"users {place.words}" + (f", {place.extent}" if place.extent else ""),
            unit="1", scale=1.0, source="geometry",
            definition=f"Number of users {place.words}.",
        )
        for place in places
    }  # fmt: skip
    return MappingProxyType({**PLACEMENT_FEATURES, **counted})


def _far_places(users: StandingUsers, station: int, weight: Array) -> list[Place]:
    """What is far in one cell: from quantiles of the distances there on, to two digits."""
    mine = ((users.order[..., 0] == station) & users.off_edges).ravel()
    if float(weight[mine].sum()) < _LEAST_USERS:
        return []
    distances, w = users.distance_m.ravel()[mine], weight[mine]
    order = np.argsort(distances, kind="stable")
    mass = w[order].cumsum() / w.sum()
    ends = [distances[order][min(int(np.searchsorted(mass, p)), len(mass) - 1)] for p in _FAR_PROBS]
    sizes = sorted({float(f"{end:.2g}") for end in ends})
    return [Place(kind="far", stations=(station,), size=size) for size in sizes if size > 0]
