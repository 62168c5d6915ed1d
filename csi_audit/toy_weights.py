"""Weights whose integrals against Gaussians are known, and the tilted Gaussians they make.

They are what csi_audit.toy_laws builds its target laws of.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from scipy import special
from torch import Tensor

from csi_audit.weights import LinearWeight, Weight


class TiltingWeight(Weight, Protocol):
    """A weight whose integrals against isotropic Gaussians N(mean, deviation^2 I) are known.

    Means are (..., n), deviations (...).
    """

    def log_mean(self, mean: Tensor, deviation: Tensor) -> Tensor:
        """log E[l], (...), differentiable."""
        ...

    def mean_square(self, mean: Tensor, deviation: Tensor) -> Tensor:
        """E[l^2], (...)."""
        ...

    def tilted(self, mean: Tensor, deviation: Tensor, *, generator: torch.Generator) -> Tensor:
        """One draw of each law l(x) N(x; mean, deviation^2 I) / E[l], (N, n)."""
        ...


@dataclass(frozen=True)
class QuadraticWeight(LinearWeight):
    """l(x) = c + a . x + b |x|^2 / n where that is positive, against Gaussians.

    At x = m + s z, with g = a + 2 b m / n the gradient at m,

        l = l(m) + s g . z + b s^2 |z|^2 / n,   E[l] = l(m) + b s^2,
        Var l = s^2 |g|^2 + 2 b^2 s^4 / n

    Draws are by rejection from the law that has the absolute value of each term.
    """

    def _at(self, mean: Tensor) -> tuple[Tensor, Tensor]:
        """l(mean) (...) and its gradient (..., n)."""
        a, b = self.linear.to(mean), self.square / mean.shape[-1]
        return self.constant + mean @ a + b * mean.square().sum(-1), a + 2 * b * mean

    def log_mean(self, mean: Tensor, deviation: Tensor) -> Tensor:
        return (self._at(mean)[0] + self.square * deviation.square()).clamp_min(1e-6).log()

    def mean_square(self, mean: Tensor, deviation: Tensor) -> Tensor:
        (value, g), s2 = self._at(mean), deviation.square()
        variance = s2 * g.square().sum(-1) + 2 * (self.square * s2) ** 2 / mean.shape[-1]
        return (value + self.square * s2).square() + variance

    def tilted(self, mean: Tensor, deviation: Tensor, *, generator: torch.Generator) -> Tensor:
        x, due = mean.clone(), torch.arange(len(mean))
        while len(due):
            z, accepted = self._propose(mean[due], deviation[due], generator)
            x[due[accepted]] += (deviation[due, None] * z)[accepted]
            due = due[~accepted]
        return x

    def _propose(
        self, mean: Tensor, deviation: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """z of l(m) + s |g . z| + b s^2 |z|^2 / n times a Gaussian, and whether l accepts it."""
        value, g = self._at(mean)
        norm = g.norm(dim=1)
        slope, bend = deviation * norm, self.square * deviation.square()
        parts = torch.stack([value, math.sqrt(2 / math.pi) * slope, bend], dim=1)
        kind = torch.multinomial(parts, 1, generator=generator)
        z = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        rayleigh2 = torch.randn(len(z), 2, generator=generator, dtype=z.dtype).square().sum(1)
        along = g / norm.clamp_min(1e-300)[:, None]
        u = (z * along).sum(1)
        signed = z + (u.sign() * rayleigh2.sqrt() - u)[:, None] * along  # |g . z| times a Gaussian
        stretch = (1 + rayleigh2 / z.square().sum(1)).sqrt()  # |z|^2 times one: two degrees more
        z = torch.where(kind == 0, z, torch.where(kind == 1, signed, stretch[:, None] * z))
        steep, bent = slope * (z * along).sum(1), bend * z.square().mean(1)
        uniform = torch.rand(len(z), generator=generator, dtype=z.dtype)
        return z, uniform * (value + steep.abs() + bent) < value + steep + bent


@dataclass(frozen=True)
class ProbitWeight:
    """l(x) = Phi((a . x - t) / w): 1 beyond a hyperplane, softly; a rare event where t is far.

    Against N(m, s^2 I), with h = (a . m - t) / sqrt(w^2 + v) and v = s^2 |a|^2,

        E[l] = Phi(h),   E[l^2] = Phi(h) - 2 T(h, w / sqrt(w^2 + 2 v)),   T Owen's function

    Attributes:
        direction: a, (n,).
        threshold: t.
        width: w > 0.
    Source: Owen 1956, 10.1214/aoms/1177728074.
    """

    direction: Tensor
    threshold: float
    width: float

    def log_l(self, x: Tensor) -> Tensor:
        found: Tensor = torch.special.log_ndtr(
            (x @ self.direction.to(x) - self.threshold) / self.width
        )
        return found

    def _h(self, mean: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
        """h and v."""
        v = deviation.square() * float(self.direction.square().sum())
        return (mean @ self.direction.to(mean) - self.threshold) / (self.width**2 + v).sqrt(), v

    def log_mean(self, mean: Tensor, deviation: Tensor) -> Tensor:
        found: Tensor = torch.special.log_ndtr(self._h(mean, deviation)[0])
        return found

    def mean_square(self, mean: Tensor, deviation: Tensor) -> Tensor:
        h, v = self._h(mean, deviation)
        slope = self.width / (self.width**2 + 2 * v).sqrt()
        both = special.ndtr(h.numpy()) - 2 * special.owens_t(h.numpy(), slope.numpy())
        return torch.as_tensor(both)

    def tilted(self, mean: Tensor, deviation: Tensor, *, generator: torch.Generator) -> Tensor:
        """By u = a . x - w xi, xi standard normal: l is P(u > t), and x given u is Gaussian."""
        (h, v), a = self._h(mean, deviation), self.direction.to(mean)
        uniform = torch.rand(len(mean), generator=generator, dtype=mean.dtype)
        standard = -torch.special.ndtri(uniform * torch.special.ndtr(h))  # beyond -h
        total = (self.width**2 + v).sqrt()
        noise = torch.randn(len(mean), generator=generator, dtype=mean.dtype)
        moved = v / total * standard + v.sqrt() * self.width / total * noise  # a . (x - mean)
        z = torch.randn(mean.shape, generator=generator, dtype=mean.dtype)
        x = mean + deviation[:, None] * z
        gap = moved - (x - mean) @ a
        return x + gap[:, None] * a / a.square().sum()


def l1(n: int = 2) -> QuadraticWeight:
    """|x|^2: convex, 0 at the origin."""
    return QuadraticWeight(torch.zeros(n, dtype=torch.float64), float(n), 0.0)


def l2(n: int = 2) -> QuadraticWeight:
    """2 + sum(x): linear."""
    return QuadraticWeight(torch.ones(n, dtype=torch.float64), 0.0, 2.0)
