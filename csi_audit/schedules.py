"""Schedules: the time of a formalism to (alpha, sigma).

x_t = alpha_t x_sigma, x_sigma = x0 + sigma eps. Samplers step in sigma alone; a schedule only says
which sigmas a formalism visits and how its own variable is scaled.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Schedule(Protocol):
    """Maps time t in [0, 1] to alpha(t) and sigma(t) = sigma_t / alpha_t; t = 1 is most noise."""

    def alpha(self, t: Tensor) -> Tensor: ...
    def sigma(self, t: Tensor) -> Tensor: ...


@dataclass(frozen=True, kw_only=True)
class VpLinear:
    """Variance preserving with beta(t) = beta_min + t (beta_max - beta_min).

        abar(t) = exp(-int_0^t beta), alpha = sqrt(abar), sigma = sqrt(1/abar - 1)

    Source: Ho et al., 2020, arXiv:2006.11239; Song et al., 2021, arXiv:2011.13456 (0.1 and 20).
    """

    beta_min: float = 0.1
    beta_max: float = 20.0

    def beta(self, t: Tensor) -> Tensor:
        return self.beta_min + t * (self.beta_max - self.beta_min)

    def _integral(self, t: Tensor) -> Tensor:
        return t * self.beta_min + 0.5 * t**2 * (self.beta_max - self.beta_min)

    def alpha(self, t: Tensor) -> Tensor:
        return torch.exp(-0.5 * self._integral(t))

    def sigma(self, t: Tensor) -> Tensor:
        return torch.expm1(self._integral(t)).sqrt()


@dataclass(frozen=True, kw_only=True)
class VpCosine:
    """Variance preserving with alpha(t) = cos(pi/2 (t + s)/(1 + s)) / cos(pi/2 s/(1 + s)).

    The end is clipped at t = 0.999 as its authors do, so sigma stays finite.

    Source: Nichol, Dhariwal, 2021, arXiv:2102.09672.
    """

    s: float = 0.008

    def alpha(self, t: Tensor) -> Tensor:
        start = math.cos(0.5 * math.pi * self.s / (1 + self.s))
        turn = 0.5 * math.pi * (t.clamp(max=0.999) + self.s) / (1 + self.s)
        return (turn.cos() / start).clamp(max=1.0)

    def sigma(self, t: Tensor) -> Tensor:
        return (self.alpha(t) ** -2 - 1).clamp(min=0.0).sqrt()


@dataclass(frozen=True, kw_only=True)
class VeGeometric:
    """Variance exploding, sigma = sigma_min (sigma_max / sigma_min)^t: uniform in log sigma.

    Source: Song et al., 2021, arXiv:2011.13456.
    """

    sigma_min: float
    sigma_max: float

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t


@dataclass(frozen=True, kw_only=True)
class Edm:
    """sigma = (sigma_min^(1/rho) + t (sigma_max^(1/rho) - sigma_min^(1/rho)))^rho.

    Source: Karras et al., 2022, arXiv:2206.00364, equation 5.
    """

    sigma_min: float
    sigma_max: float
    rho: float = 7.0

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (low + t * (high - low)) ** self.rho
