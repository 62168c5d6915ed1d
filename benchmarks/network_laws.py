"""True probabilities of joint outages under the laws of placements, by quadrature and no sampler.

Given what its users share (nothing, or the cluster centres) a placement's users are independent, so
a joint outage is a binomial tail of one user's outage probability, which is an integral over the
area. Where there are centres the tail is averaged over draws of them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np
import torch
from scipy import stats
from torch import Tensor

from channels.network import CellNetwork
from channels.placements import HotspotUsers, PlacementLaw, StreetUsers, UniformUsers
from channels.randomness import seeded_generator
from channels.run_folder import config_hash
from csi_audit.base import Base
from csi_audit.noise_map import IdentityMap
from reports.estimates import Estimate, mean_estimate

_THRESHOLD_CENTRES = 2_000
_BISECTIONS = 26
_AT_ONCE = 2_000  # sets of centres


def part_key(law: PlacementLaw, network: CellNetwork, base: Base | None = None) -> str:
    """Name of what is kept of one law, network and base law; another of any has another name."""
    fixed = {"law": f"{law}", "network": f"{network}", "base": base.sha256 if base else None}
    return f"{law.name}-{law.n_users}-{config_hash(fixed)[:12]}"


class SinrQuadrature:
    """Which share of each cell of a grid lies below an SINR.

    Along the middle line of each row of cells the SINR is interpolated between its values at the
    cells' borders, so an area's error falls with the square of the cells' size.

    Args:
        network: Gives the SINR.
        cells: Along each side.
    """

    def __init__(self, network: CellNetwork, *, cells: int) -> None:
        self.edges = torch.linspace(-1, 1, cells + 1, dtype=torch.float64)
        self.middles = (self.edges[1:] + self.edges[:-1]) / 2
        y, x = torch.meshgrid(self.middles, self.edges, indexing="ij")
        users = torch.stack([x, y], dim=-1)
        self.sinr_db = torch.cat([network.sinr_db(row[None]) for row in users])

    def share_below(self, gamma_db: float) -> Tensor:
        """Share of each cell with an SINR below gamma, (cells, cells) as (y, x)."""
        low = torch.minimum(self.sinr_db[:, 1:], self.sinr_db[:, :-1])
        high = torch.maximum(self.sinr_db[:, 1:], self.sinr_db[:, :-1])
        return ((gamma_db - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)


class UniformMap(IdentityMap):
    """The uniform law itself as a map of white noise, G(z) = 2 Phi(z) - 1, one evaluation a draw.

    What the engine gets wrong on it is the engine's alone.
    """

    name = "exact uniform law"

    def __call__(self, z: Tensor) -> Tensor:
        return 2 * torch.special.ndtr(super().__call__(z)) - 1


class OutageTruth(Protocol):
    """P(at least m users have an SINR below gamma) under one law of placements."""

    def below(self, gamma_db: float, *, fine: bool = True) -> Estimate: ...


@dataclass(frozen=True, kw_only=True)
class IndependentTruth:
    """Users independent and uniform on a part of the square.

    Attributes:
        grid: Of the network.
        inside: Which cells that part is made of, bool (cells, cells).
        n_users: N.
        at_least: m.
    """

    grid: SinrQuadrature
    inside: Tensor
    n_users: int
    at_least: int

    def one_user(self, gamma_db: float) -> float:
        """P(SINR < gamma) of one user."""
        return float(self.grid.share_below(gamma_db)[self.inside].mean())

    def below(self, gamma_db: float, *, fine: bool = True) -> Estimate:
        p = float(stats.binom.sf(self.at_least - 1, self.n_users, self.one_user(gamma_db)))
        return Estimate(value=p, n=1, status="ok", method="quadrature and binomial tail")


@dataclass(frozen=True, kw_only=True)
class HotspotTruth:
    """Users independent given the centres of their clusters, the tail averaged over draws of these.

    Attributes:
        grid: Of the network.
        law: Draws the centres.
        at_least: m.
        draws: Sets of centres.
        seed: Of these.
    """

    grid: SinrQuadrature
    law: HotspotUsers
    at_least: int
    draws: int
    seed: int

    @cached_property
    def _centres(self) -> tuple[Tensor, Tensor]:
        generator = seeded_generator(self.seed, "centres", self.law.n_users)
        return self.law.draw_centres(self.draws, generator=generator)

    def below(self, gamma_db: float, *, fine: bool = True) -> Estimate:
        """Without `fine` from the first few sets alone: enough to choose a threshold."""
        count = self.draws if fine else min(self.draws, _THRESHOLD_CENTRES)
        share = self.grid.share_below(gamma_db)
        parts = [part[:count].split(_AT_ONCE) for part in self._centres]
        p = torch.cat([self._one_user(c, w, share) for c, w in zip(*parts, strict=True)])
        tails = stats.binom.sf(self.at_least - 1, self.law.n_users, p.numpy())
        return mean_estimate(tails, method=f"binomial tail over {count} sets of centres")

    def _one_user(self, centres: Tensor, weight: Tensor, share: Tensor) -> Tensor:
        """P(SINR < gamma) of one user given each set of centres (K, J, 2), (K,)."""
        there = weight > 0
        mass = torch.special.ndtr((self.grid.edges - centres[there][..., None]) / self.law.spread)
        x, y = mass.diff(dim=-1).unbind(1)  # of each cell, (centres, cells)
        out = torch.zeros_like(weight)
        out[there] = ((y @ share) * x).sum(1)
        return out.sum(1) / weight.sum(1)


def outage_truth(
    law: PlacementLaw, network: CellNetwork, *, at_least: int, draws: int, seed: int, cells: int
) -> OutageTruth:
    """The truth of a law this module knows.

    Args:
        law: Uniform, street or hotspot.
        network: Gives the SINR.
        at_least: m.
        draws, seed: Sets of centres, for hotspots.
        cells: Of the quadrature along each side; hotspots take a quarter of them, being smooth.
    """
    if isinstance(law, HotspotUsers):
        grid = SinrQuadrature(network, cells=max(1, cells // 4))
        return HotspotTruth(grid=grid, law=law, at_least=at_least, draws=draws, seed=seed)
    grid = SinrQuadrature(network, cells=cells)
    y, x = torch.meshgrid(grid.middles, grid.middles, indexing="ij")
    inside = torch.ones(cells, cells, dtype=torch.bool)
    if isinstance(law, StreetUsers):
        inside = law.on_street(torch.stack([x, y], dim=-1))
    elif not isinstance(law, UniformUsers):
        raise TypeError(f"law must be uniform, street or hotspot; got {type(law).__name__}.")
    return IndependentTruth(grid=grid, inside=inside, n_users=law.n_users, at_least=at_least)


def outage_threshold(
    truth: OutageTruth, p: float, *, low: float = -20.0, high: float = 40.0
) -> float:
    """gamma [dB] below which at least m users lie with probability about p, by bisection."""

    def above(gamma: float) -> bool:
        return truth.below(gamma, fine=False).value > p

    return bisect(above, low, high)


def bisect(above: Callable[[float], bool], low: float, high: float) -> float:
    """Where a condition that holds at `high` and not at `low` begins to hold."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        low, high = (low, middle) if above(middle) else (middle, high)
    return (low + high) / 2


def relative_gain(ratio: np.ndarray, evaluations: np.ndarray, price: int, p: float) -> float | None:
    """Variance of plain counting at equal evaluations over the mean squared error of runs.

        gain = (1 - p) / (p n) / mean((P_r / p - 1)^2),   n = evaluations / price

    None where the relative RMSE is above 0.5: a run that says 0 has a fine MSE.

    Args:
        ratio: Each run's estimate over the truth, (R,).
        evaluations: Each run's, (R,).
        price: Evaluations a plain draw costs.
        p: The truth.
    """
    square = float(np.square(ratio - 1).mean())
    if not 0 < square <= 0.25 or not math.isfinite(square):
        return None
    return (1 - p) / (p * float(evaluations.mean()) / price) / square
