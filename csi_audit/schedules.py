"""Schedules: the time of a formalism to (alpha, sigma), and back.

x_t = alpha_t x_sigma, x_sigma = x0 + sigma eps. Samplers step in sigma alone; a schedule only says
which sigmas a formalism visits and how its own variable is scaled.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from channels.support import CsiAuditError


class Schedule(Protocol):
    """Maps time t to alpha(t) and sigma(t) = sigma_t / alpha_t, and sigma back to t.

    `ends` are the times of least and of most noise: 0 and 1 but for a table of steps.
    """

    @property
    def ends(self) -> tuple[float, float]: ...
    def alpha(self, t: Tensor) -> Tensor: ...
    def sigma(self, t: Tensor) -> Tensor: ...
    def time(self, sigma: Tensor) -> Tensor: ...


class _FromZeroToOne:
    @property
    def ends(self) -> tuple[float, float]:
        return 0.0, 1.0


@dataclass(frozen=True, kw_only=True)
class VpLinear(_FromZeroToOne):
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

    def time(self, sigma: Tensor) -> Tensor:
        """t with 0.5 t^2 (beta_max - beta_min) + t beta_min = log(1 + sigma^2)."""
        span = self.beta_max - self.beta_min
        twice = 2 * torch.log1p(sigma**2)
        return twice / (self.beta_min + (self.beta_min**2 + span * twice).sqrt())


@dataclass(frozen=True, kw_only=True)
class VpCosine(_FromZeroToOne):
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

    def time(self, sigma: Tensor) -> Tensor:
        """t with cos(pi/2 (t + s)/(1 + s)) = cos(pi/2 s/(1 + s)) / sqrt(1 + sigma^2)."""
        start = math.cos(0.5 * math.pi * self.s / (1 + self.s))
        turn = torch.acos(start / (1 + sigma**2).sqrt())
        return turn * 2 * (1 + self.s) / math.pi - self.s


@dataclass(frozen=True, kw_only=True)
class VeGeometric(_FromZeroToOne):
    """Variance exploding, sigma = sigma_min (sigma_max / sigma_min)^t: uniform in log sigma.

    Source: Song et al., 2021, arXiv:2011.13456.
    """

    sigma_min: float
    sigma_max: float

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_min * (self.sigma_max / self.sigma_min) ** t

    def time(self, sigma: Tensor) -> Tensor:
        return (sigma / self.sigma_min).log() / math.log(self.sigma_max / self.sigma_min)


@dataclass(frozen=True, kw_only=True)
class Edm(_FromZeroToOne):
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

    def time(self, sigma: Tensor) -> Tensor:
        low, high = self.sigma_min ** (1 / self.rho), self.sigma_max ** (1 / self.rho)
        return (sigma ** (1 / self.rho) - low) / (high - low)


class StepTable:
    """Steps 0..K-1 of a discrete formalism; in between, linear in log sigma.

        x_k = alpha_k (x0 + sigma_k eps),   alpha_k = 1 / sqrt(1 + sigma_k^2), or 1

    Args:
        sigma: sigma_k, ascending.
        preserves_variance: Whether alpha is that of DDPM; else 1, as in VE.
    Raises:
        CsiAuditError: sigma is not finite, positive and ascending.
    """

    def __init__(self, sigma: Sequence[float] | Tensor, *, preserves_variance: bool) -> None:
        table = torch.as_tensor(sigma, dtype=torch.float64).flatten()
        fit = bool(table.isfinite().all()) and bool((table > 0).all())
        if len(table) < 2 or not fit or not bool((table.diff() > 0).all()):
            raise CsiAuditError(
                "sigma must hold at least 2 finite, positive, ascending noise levels; got "
                f"{len(table)} from {float(table[0]) if len(table) else None} to "
                f"{float(table[-1]) if len(table) else None}. Leave out a last step without any "
                "signal (alpha_bar = 0)."
            )
        self.log_sigma, self.preserves_variance = table.log(), preserves_variance

    @classmethod
    def of_alpha_bar(cls, alpha_bar: Sequence[float] | Tensor) -> "StepTable":
        """DDPM's table abar_0 > abar_1 > ...: sigma_k = sqrt(1 / abar_k - 1)."""
        table = torch.as_tensor(alpha_bar, dtype=torch.float64)
        return cls((1 / table - 1).clamp(min=0).sqrt(), preserves_variance=True)

    @property
    def ends(self) -> tuple[float, float]:
        return 0.0, len(self.log_sigma) - 1.0

    def alpha(self, t: Tensor) -> Tensor:
        if not self.preserves_variance:
            return torch.ones_like(t)
        return (1 + self.sigma(t) ** 2).rsqrt()

    def sigma(self, t: Tensor) -> Tensor:
        table = self.log_sigma.to(t)
        below = t.floor().long().clamp(0, len(table) - 2)
        return torch.lerp(table[below], table[below + 1], t - below).exp()

    def time(self, sigma: Tensor) -> Tensor:
        table, level = self.log_sigma.to(sigma), sigma.log()
        below = (torch.searchsorted(table, level, right=True) - 1).clamp(0, len(table) - 2)
        return below + (level - table[below]) / (table[below + 1] - table[below])
