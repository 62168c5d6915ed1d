"""Moves that were to beat the preconditioned Crank-Nicolson ones of csi_audit.subset_simulation.

They live here, since benchmarks.rare_events does not find them worth their evaluations.
"""

import math
from typing import Any, NamedTuple

import torch
from scipy import special
from torch import Tensor

from csi_audit.noise_map import IdentityMap, LimitState
from csi_audit.subset_simulation import SubsetSimulation, Walk


class SliceSubset(SubsetSimulation):
    """Elliptical slice moves: on a random ellipse, from a bracket that shrinks until it holds.

        z' = z cos(theta) + xi sin(theta)

    theta is uniform in a bracket of width 2 pi b about 0; where z' leaves the level the bracket
    ends there. Every move ends in the level; what is adapted, to 44 %, is moves over evaluations.

    Source: Murray, Adams, MacKay, 2010, arXiv:1001.0175, with the bracket of Neal, 2003,
        10.1214/aos/1056562461, that does not step out.
    """

    name = "subset simulation, elliptical slice moves"

    def walk(
        self,
        limit: LimitState,
        z: Tensor,
        values: Tensor,
        threshold: float,
        *,
        step: float,
        n: int,
        generator: torch.Generator,
    ) -> Walk:
        found, losses, made, asked = [z], [values], len(z), 0
        while made < n:
            active = min(len(z), n - made)
            z, values, spent = self._slice(
                limit, z[:active], values[:active], threshold, 2 * math.pi * step, generator
            )
            found.append(z)
            losses.append(values)
            made, asked = made + active, asked + spent
        moves = made - len(found[0])
        return Walk(torch.cat(found), torch.cat(losses), moves / asked)

    @staticmethod
    def _slice(
        limit: LimitState,
        z: Tensor,
        values: Tensor,
        threshold: float,
        width: float,
        generator: torch.Generator,
    ) -> tuple[Tensor, Tensor, int]:
        """One move of every chain, and the evaluations it took."""

        def uniform(k: int) -> Tensor:
            return torch.rand(k, generator=generator)

        xi = torch.randn(z.shape, generator=generator)
        low = -width * uniform(len(z))
        high = low + width
        z_new, values_new, open_, asked = z.clone(), values.clone(), torch.arange(len(z)), 0
        while len(open_):
            theta = low[open_] + (high - low)[open_] * uniform(len(open_))
            moved = z[open_] * theta.cos()[:, None] + xi[open_] * theta.sin()[:, None]
            new = limit(moved)
            inside, asked = new > threshold, asked + len(open_)
            z_new[open_[inside]], values_new[open_[inside]] = moved[inside], new[inside]
            low[open_] = torch.where(theta < 0, theta, low[open_])
            high[open_] = torch.where(theta < 0, high[open_], theta)
            open_ = open_[~inside]
        return z_new, values_new, asked


class _Steering(NamedTuple):
    """How L' = L + grad L . (z' - z) errs: by q b^2 on average, with deviation s b^2."""

    q: float
    s: float


class _Point(NamedTuple):
    """Chains with gradients: noise, loss, unit gradient, its norm, and grad L . z."""

    z: Tensor
    values: Tensor
    u: Tensor
    norm: Tensor
    along: Tensor

    def where(self, keep: Tensor, other: "_Point") -> "_Point":
        wide = keep[:, None]
        return _Point(
            *(
                torch.where(wide if a.ndim == 2 else keep, a, b)
                for a, b in zip(self, other, strict=True)
            )
        )


class SteeredSubset(SubsetSimulation):
    """Gradient-informed moves: the part of xi along grad L is drawn to stay in the level.

        L' ~ N(mu + k xi_u, s^2 b^4),   mu = L + (sqrt(1 - b^2) - 1) grad L . z + q b^2,
        k = b |grad L|,   xi_u = xi . grad L / |grad L|

    xi_u is drawn from its law given that this prediction is beyond the threshold, and the ratio of
    the proposals, that of the way back over that of the way out, is part of the acceptance. q and s
    are those of the level before, and the first level moves plainly. A backward pass counts as one
    evaluation; it is made where the proposal lies in the level.
    """

    name = "subset simulation, gradient-steered moves"
    steering: _Steering | None = None

    def _run(self, *arguments: Any) -> Any:
        self.steering = None
        return super()._run(*arguments)

    def walk(
        self,
        limit: LimitState,
        z: Tensor,
        values: Tensor,
        threshold: float,
        *,
        step: float,
        n: int,
        generator: torch.Generator,
    ) -> Walk:
        at = _point(limit, z, values)
        found, losses, made, accepted = [z], [values], len(z), 0
        errors: list[Tensor] = []
        while made < n:
            active = min(len(at.z), n - made)
            at = _Point(*(part[:active] for part in at))
            at, moved, error = self._step(limit, at, threshold, step, generator)
            errors.append(error)
            found.append(at.z)
            losses.append(at.values)
            accepted, made = accepted + int(moved.sum()), made + active
        error = torch.cat(errors) / step**2
        self.steering = _Steering(float(error.mean()), max(float(error.std()), 1e-6))
        return Walk(torch.cat(found), torch.cat(losses), accepted / (made - len(z)))

    def _step(
        self,
        limit: LimitState,
        at: _Point,
        threshold: float,
        b: float,
        generator: torch.Generator,
    ) -> tuple[_Point, Tensor, Tensor]:
        """One move of every chain: where it ends, whether it moved, and the prediction's error."""
        xi = torch.randn(at.z.shape, generator=generator)
        xi_u = (xi * at.u).sum(1).double()
        if self.steering is not None:
            drawn = _steered(at, threshold, b, self.steering, generator)
            xi, xi_u = xi + (drawn - xi_u).to(xi)[:, None] * at.u, drawn
        c = math.sqrt(1 - b * b)
        z_new = c * at.z + b * xi
        values_new = limit(z_new)
        error = values_new - at.values - (c - 1) * at.along - b * at.norm * xi_u
        moved = values_new > threshold
        to = _point(limit, z_new, values_new, moved)
        if self.steering is not None:
            back = ((at.z - c * z_new) * to.u).sum(1).double() / b
            log_ratio = _log_density(to, threshold, b, self.steering, back)
            log_ratio = log_ratio - _log_density(at, threshold, b, self.steering, xi_u)
            u = torch.rand(len(moved), generator=generator, dtype=torch.float64)
            moved = moved & (u.log() < log_ratio)
        return to.where(moved, at), moved, error


def _point(limit: LimitState, z: Tensor, values: Tensor, where: Tensor | None = None) -> _Point:
    """Gradients by one backward pass a sample, counted; zero outside `where`."""
    chosen = torch.arange(len(z)) if where is None else torch.nonzero(where)[:, 0]
    g = torch.zeros_like(z)
    if len(chosen):
        with torch.enable_grad():
            leaf = z[chosen].clone().requires_grad_(True)
            # the map counts these: the forward pass of the seeds is a second one in any case, that
            # of a proposal stands for the backward pass
            total = limit.loss(limit.noise_map(leaf)).sum()
            (g[chosen],) = torch.autograd.grad(total, leaf)
    if where is None and isinstance(limit.noise_map, IdentityMap):
        limit.noise_map.evaluations += len(z)
    norm = g.norm(dim=1).clamp_min(1e-12)
    along = limit.sign * (g * z).sum(1).double()
    return _Point(z, values, limit.sign * g / norm[:, None], norm.double(), along)


def _prediction(at: _Point, b: float, steering: _Steering) -> tuple[Tensor, Tensor, float]:
    """mu, k and the deviation of the prediction."""
    mu = at.values + (math.sqrt(1 - b * b) - 1) * at.along + steering.q * b**2
    return mu, b * at.norm, steering.s * b**2


def _steered(
    at: _Point, threshold: float, b: float, steering: _Steering, generator: torch.Generator
) -> Tensor:
    """xi_u given that mu + k xi_u + s b^2 e > threshold, xi_u and e standard normal."""
    mu, k, s = _prediction(at, b, steering)
    total = (k**2 + s**2).sqrt()
    tail = torch.from_numpy(special.ndtr(((mu - threshold) / total).numpy()))
    u = torch.rand(len(mu), generator=generator, dtype=torch.float64)
    w = -torch.from_numpy(special.ndtri((u * tail).clamp_min(1e-300).numpy()))
    r = k / total
    e = torch.randn(len(mu), generator=generator, dtype=torch.float64)
    return r * w + (1 - r**2).sqrt() * e


def _log_density(
    at: _Point, threshold: float, b: float, steering: _Steering, xi_u: Tensor
) -> Tensor:
    """Log of the law of `_steered` over the standard normal one."""
    mu, k, s = _prediction(at, b, steering)
    total = (k**2 + s**2).sqrt()
    up, down = (mu + k * xi_u - threshold) / s, (mu - threshold) / total
    return torch.special.log_ndtr(up) - torch.special.log_ndtr(down)
