"""Laws of where the users of a cell network stand: uniform, hotspots, streets.

Each is a frozen description with `draw`, which gives placements float32 (n, n_users, 2) in the
square [-1, 1]^2; all are exchangeable in the users. What a network makes of a placement is
channels.network's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import pad

from channels.support import CsiAuditError

__all__ = [
    "HotspotUsers",
    "PlacementLaw",
    "StreetUsers",
    "UniformUsers",
    "fold_into_square",
]

_MARGIN = 4.0  # spreads around the square in which clusters that reach into it may lie
_AT_ONCE = 20_000  # placements in memory with all their centres


class PlacementLaw(Protocol):
    """A law of placements; draws are float32 (n, n_users, 2), a function of the generator."""

    @property
    def n_users(self) -> int: ...
    @property
    def name(self) -> str: ...
    def draw(self, n: int, *, generator: torch.Generator) -> Tensor: ...


def fold_into_square(x: Tensor) -> Tensor:
    """x (..., 2) reflected at the edges of [-1, 1]^2 until it lies within.

        1.2 -> 0.8,   -1.1 -> -0.9,   3.3 -> -0.7

    A uniform law blurred by any symmetric noise and then folded is uniform again, where clamping
    would pile its rim up on the edge: what a model of a law with sharp edges spills over them goes
    back to where it came from.
    """
    folded = 1 - ((x + 1).remainder(4) - 2).abs()
    return torch.where(x.abs() <= 1, x, folded)  # within: not one bit changed


@dataclass(frozen=True, kw_only=True)
class UniformUsers:
    """Users independent and uniform on the square.

    Attributes:
        n_users: N.
    """

    n_users: int

    def __post_init__(self) -> None:
        _check_users(self.n_users)

    @property
    def name(self) -> str:
        return "uniform"

    def draw(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n placements."""
        return 2 * torch.rand(n, self.n_users, 2, generator=generator) - 1


@dataclass(frozen=True, kw_only=True)
class HotspotUsers:
    """A Thomas cluster process given that N of its users are in the square.

    Cluster centres are a Poisson process of the plane, `hotspots` of them in the square on average;
    each has Poisson(N / hotspots) users, displaced from it by N(0, spread^2 I). Given the centres c
    the number of users in the square is Poisson with mean

        Lambda = (N / hotspots) sum_j P_j,   P_j = P(c_j + spread z in the square)

    and given that it is N they are independent, each of cluster j with probability P_j / sum P and
    then a Gaussian cut to the square. So centres are kept with probability
    Poisson(N; Lambda) / Poisson(N; N), and the draw is exact but for centres more than four spreads
    outside.

    Attributes:
        n_users: N.
        hotspots: Mean number of centres in the square.
        spread: Deviation of a cluster, in half sides of the square.
    Source: Thomas, 1949, 10.2307/2332526; Illian et al., 2008, "Statistical Analysis and Modelling
        of Spatial Point Patterns", section 6.3.
    """

    n_users: int
    hotspots: float = 3.0
    spread: float = 0.15

    def __post_init__(self) -> None:
        _check_users(self.n_users)
        for name in ("hotspots", "spread"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise CsiAuditError(f"{name} must be finite and above 0; got {value}.")

    @property
    def name(self) -> str:
        return "hotspot"

    @property
    def users_per_hotspot(self) -> float:
        """Mean number of users of a cluster, those outside the square too."""
        return self.n_users / self.hotspots

    def draw(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n placements."""
        found = [torch.empty(0, self.n_users, 2)]
        while n > 0:
            centres, share = self.draw_centres(min(n, _AT_ONCE), generator=generator)
            found.append(self._around(centres, share, generator))
            n -= len(centres)
        return torch.cat(found)

    def draw_centres(self, n: int, *, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Cluster centres of n placements, given that N users are in the square.

        Given them the users are independent: of cluster j with probability P_j / sum P.

        Returns:
            Centres float64 (n, J, 2), and P_j (n, J), 0 where a placement has fewer than J.
        """
        found: list[tuple[Tensor, Tensor]] = []
        wanted = n
        while wanted > 0:
            centres, share = self._kept_centres(3 * wanted + 10, generator)
            found.append((centres[:wanted], share[:wanted]))
            wanted -= len(centres)
        most = max((share.shape[1] for _, share in found), default=0)
        centres, share = (
            torch.cat([pad(part, (0, 0) * (part.ndim - 2) + (0, most - part.shape[1]))
                       for part in column])
            for column in zip(*found, strict=True)
        )  # fmt: skip
        return centres, share

    def _kept_centres(self, n: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Centres (K, J, 2) that n candidates leave, and P_j (K, J), 0 where there is none."""
        half = 1 + _MARGIN * self.spread
        rate = torch.full((n,), self.hotspots * half**2, dtype=torch.float64)
        count = torch.poisson(rate, generator=generator)
        most = max(1, int(count.max()))
        u = torch.rand(n, most, 2, generator=generator, dtype=torch.float64)
        centres = half * (2 * u - 1)
        low, high = _square_ends(centres, self.spread)
        share = (high - low).prod(-1) * (torch.arange(most) < count[:, None])
        mean = self.users_per_hotspot * share.sum(1)
        log_kept = self.n_users * (mean / self.n_users).log() - mean + self.n_users
        kept = torch.rand(n, generator=generator, dtype=torch.float64).log() < log_kept
        return centres[kept], share[kept]

    def _around(self, centres: Tensor, share: Tensor, generator: torch.Generator) -> Tensor:
        """N users about the centres of each sample, float32 (K, N, 2)."""
        index = torch.multinomial(share, self.n_users, replacement=True, generator=generator)
        mine = centres.gather(1, index[..., None].expand(-1, -1, 2))  # (K, N, 2)
        low, high = _square_ends(mine, self.spread)
        u = torch.rand(mine.shape, generator=generator, dtype=torch.float64)
        z = torch.special.ndtri(low + u * (high - low))
        return (mine + self.spread * z).clamp(-1, 1).float()  # clamp: rounding alone


@dataclass(frozen=True, kw_only=True)
class StreetUsers:
    """Users independent and uniform on the streets of a grid.

    `streets` run along each axis, equally far apart; the square's edges lie in the middle of
    blocks. A street covers the points closer than `half_width` to its middle.

    Attributes:
        n_users: N.
        streets: Of each direction.
        half_width: In half sides of the square; 0.04 makes streets of 4 m in a square of 100 m.
    """

    n_users: int
    streets: int = 4
    half_width: float = 0.04

    def __post_init__(self) -> None:
        _check_users(self.n_users)
        if self.streets < 1:
            raise CsiAuditError(f"streets must be at least 1; got {self.streets}.")
        if not 0 < self.half_width < 1 / self.streets:
            raise CsiAuditError(
                f"half_width must lie in (0, {1 / self.streets:g}), so that blocks are left "
                f"between {self.streets} streets; got {self.half_width}."
            )

    @property
    def name(self) -> str:
        return "street"

    @property
    def area_share(self) -> float:
        """Share of the square that is street."""
        return 1 - (1 - self.streets * self.half_width) ** 2

    def on_street(self, x: Tensor) -> Tensor:
        """Whether points x (..., 2) of the square lie on a street, bool (...)."""
        block = 2 / self.streets
        off = ((x + 1).remainder(block) - block / 2).abs()
        return (off <= self.half_width).any(-1)

    def draw(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n placements: uniform points of the square, kept where there is a street."""
        wanted = n * self.n_users
        found = [torch.empty(0, 2)]
        while wanted > 0:
            tried = 2 * torch.rand(int(wanted / self.area_share) + 100, 2, generator=generator) - 1
            kept = tried[self.on_street(tried)][:wanted]
            found.append(kept)
            wanted -= len(kept)
        return torch.cat(found).view(n, self.n_users, 2)


def _square_ends(centres: Tensor, spread: float) -> tuple[Tensor, Tensor]:
    """Phi at the two edges of the square seen from a centre, in spreads; per coordinate."""
    return (
        torch.special.ndtr((-1 - centres) / spread),
        torch.special.ndtr((1 - centres) / spread),
    )


def _check_users(n_users: int) -> None:
    if n_users < 1:
        raise CsiAuditError(f"n_users must be at least 1; got {n_users}.")
