"""Laws on which everything is known: draws, denoiser, weights, the target law and its figures.

Two-dimensional densities of the literature as mixtures of small Gaussians, and a Weibull law. Each
has a denoiser in closed form, known E_p[l] and E_q[l], and exact draws of q = l p / E_p[l], so what
a sampler gets wrong is the sampler's.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

import torch
from torch import Tensor

from channels.channel_set import Grid
from channels.support import CsiAuditError, did_you_mean
from csi_audit.base import Base
from csi_audit.diffusion import Denoiser, MixtureDenoiser, per_sample
from csi_audit.toy_weights import TiltingWeight
from csi_audit.weights import LinearWeight

# --- Laws -----------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class MixtureLaw:
    """sum_k pi_k N(mu_k, s_k^2 I), and what l makes of it. Draws are float32 (N, n).

    q is the same mixture with probabilities pi_k E_k[l] / E_p[l] and every component tilted by l.

    Attributes:
        name: For tables.
        probabilities: pi, float64 (K,).
        means: mu, (K, n).
        deviations: s, (K,).
    """

    name: str
    probabilities: Tensor
    means: Tensor
    deviations: Tensor

    @cached_property
    def denoiser(self) -> MixtureDenoiser:
        return MixtureDenoiser(self.probabilities, self.means, self.deviations)

    @property
    def variance(self) -> Tensor:
        """Of each coordinate, (n,)."""
        second = self.means.square() + self.deviations.square()[:, None]
        return self.probabilities @ second - (self.probabilities @ self.means).square()

    def draw(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of p."""
        k = torch.multinomial(self.probabilities, n, replacement=True, generator=generator)
        z = torch.randn(n, self.means.shape[1], generator=generator, dtype=torch.float64)
        return (self.means[k] + self.deviations[k, None] * z).float()

    def draw_target(self, weight: TiltingWeight, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of q."""
        tilted = self.probabilities * weight.log_mean(self.means, self.deviations).exp()
        k = torch.multinomial(tilted, n, replacement=True, generator=generator)
        return weight.tilted(self.means[k], self.deviations[k], generator=generator).float()

    def e_p(self, weight: TiltingWeight) -> float:
        """E_p[l]."""
        return float(self.probabilities @ weight.log_mean(self.means, self.deviations).exp())

    def e_q(self, weight: TiltingWeight) -> float:
        """E_q[l] = E_p[l^2] / E_p[l]."""
        square = weight.mean_square(self.means, self.deviations)
        return float(self.probabilities @ square) / self.e_p(weight)

    def beyond(self, direction: Tensor, threshold: float) -> float:
        """P(direction . x > threshold)."""
        gap = (self.means @ direction - threshold) / (self.deviations * direction.norm())
        return float(self.probabilities @ torch.special.ndtr(gap))

    def moved(self, *, scale: float, shift: float) -> "MixtureLaw":
        """The law of scale * x + shift."""
        return MixtureLaw(
            name=self.name,
            probabilities=self.probabilities,
            means=scale * self.means + shift,
            deviations=scale * self.deviations,
        )


class ExactTwist:
    """h = E[l(x0) | x_sigma] itself, under a mixture: what every other twist approximates."""

    name = "exact twist"

    def __init__(self, law: MixtureLaw, weight: TiltingWeight) -> None:
        self.law, self.weight = law, weight

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        log_r, means, deviations = self.law.denoiser.posterior(x, sigma)
        return (log_r + self.weight.log_mean(means, deviations)).logsumexp(1)


class WeibullLaw:
    """n independent Weibull coordinates, P(x > t) = exp(-(t / scale)^shape), of shape 1 or 2.

    y = (x / scale)^shape is exponential, and the law of x^j p(x) / E[x^j] is that of a Gamma
    variable y of shape 1 + j / shape, for these shapes half a chi-square. Given x_sigma, x0 is a
    Gaussian N(m, t^2) cut at 0 (shape 1), or x0 times one (shape 2):

        shape 1: m = x - sigma^2 / scale, t = sigma,           D = t (u + lam)
        shape 2: m = x t^2 / sigma^2, 1/t^2 = 2/scale^2 + 1/sigma^2,  D = t (u + 1 / (u + lam))

    with u = m / t and lam = phi(u) / Phi(u).

    Args:
        shape: 1 (exponential) or 2 (Rayleigh).
        scale: Scale of every coordinate.
        n: Coordinates.
    """

    def __init__(self, *, shape: int = 2, scale: float = 1.0, n: int = 1) -> None:
        if shape not in (1, 2):
            raise CsiAuditError(f"shape must be 1 or 2, where D is a closed form; got {shape}.")
        self.name, self.shape, self.scale, self.n = f"weibull {shape}", shape, scale, n
        self.event_shape: tuple[int, ...] = (n,)

    @property
    def denoiser(self) -> Denoiser:
        return self

    @property
    def variance(self) -> Tensor:
        """Of each coordinate, (n,)."""
        found = self._moment(2) - self._moment(1) ** 2
        return torch.full((self.n,), found, dtype=torch.float64)

    def _moment(self, order: int) -> float:
        return self.scale**order * math.gamma(1 + order / self.shape)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return self.posterior_moments(x, sigma)[0].to(x)

    def posterior_moments(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        """D and E[x0^2 | x_sigma = x] = m D + shape t^2 of each coordinate, float64 (N, n)."""
        wide, level = x.double(), per_sample(sigma, x).double()
        t = level if self.shape == 1 else (2 / self.scale**2 + level**-2) ** -0.5
        u = wide / level - level / self.scale if self.shape == 1 else wide * t / level**2
        rest = _mills_gap(u)
        mean = t * (rest if self.shape == 1 else u + 1 / rest)
        return mean, t * u * mean + self.shape * t**2

    def draw(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of p, float32 (N, n)."""
        return self._biased(torch.zeros(n, self.n, dtype=torch.int64), generator)

    def draw_target(self, weight: LinearWeight, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of q: pick a term of l, then the coordinate in it counts to that power."""
        c, a, b = self.terms(weight)
        parts = torch.cat([c, a * self._moment(1), b * self._moment(2)])
        term = torch.multinomial(parts, n, replacement=True, generator=generator) - 1
        order = torch.zeros(n, self.n, dtype=torch.int64)
        rows = torch.nonzero(term >= 0)[:, 0]
        order[rows, term[rows] % self.n] = 1 + term[rows] // self.n
        return self._biased(order, generator)

    def e_p(self, weight: LinearWeight) -> float:
        """E_p[l]."""
        c, a, b = self.terms(weight)
        return float(c + (a * self._moment(1) + b * self._moment(2)).sum())

    def e_q(self, weight: LinearWeight) -> float:
        """E_q[l] = E_p[l] + Var_p(l) / E_p[l]."""
        _, a, b = self.terms(weight)
        m1, m2, m3, m4 = (self._moment(j) for j in (1, 2, 3, 4))
        each = a**2 * (m2 - m1**2) + 2 * a * b * (m3 - m1 * m2) + b**2 * (m4 - m2**2)
        return self.e_p(weight) + float(each.sum()) / self.e_p(weight)

    def terms(self, weight: LinearWeight) -> tuple[Tensor, Tensor, Tensor]:
        """c (1,), a (n,) and b / n (n,) of l = c + a . x + b |x|^2 / n; refused if negative."""
        a = weight.linear.double()
        if min(weight.constant, weight.square, float(a.min())) < 0:
            raise CsiAuditError("the terms of l must be >= 0 on a Weibull law; some are negative.")
        c = torch.tensor([weight.constant], dtype=torch.float64)
        return c, a, torch.full_like(a, weight.square / self.n)

    def _biased(self, order: Tensor, generator: torch.Generator) -> Tensor:
        """Draws with each coordinate's law times x^order, order (N, n) in 0, 1, 2."""
        degrees = 2 + 2 * order // self.shape
        z = torch.randn(*order.shape, 6, generator=generator, dtype=torch.float64)
        used = torch.arange(6) < degrees[..., None]
        y = 0.5 * (z.square() * used).sum(-1)
        return (self.scale * y ** (1 / self.shape)).float()


class ExactWeibullTwist:
    """h = E[l(x0) | x_sigma] under a Weibull law, from the moments of each coordinate.

    h = c + a . D + b mean_i E[x0_i^2 | x_sigma],   l(x) = c + a . x + b |x|^2 / n
    """

    name = "exact twist"

    def __init__(self, law: WeibullLaw, weight: LinearWeight) -> None:
        self.law, self.weight = law, weight

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        mean, second = self.law.posterior_moments(x, sigma)
        c, a, b = self.law.terms(self.weight)
        return (c + mean @ a + second @ b).log().to(x)


def _mills_gap(u: Tensor) -> Tensor:
    """u + phi(u) / Phi(u), by its series where the two cancel."""
    near, y = u.clamp_min(-30.0), 1 / u.clamp_max(-30.0).square()
    log_phi = -0.5 * near.square() - 0.5 * math.log(2 * math.pi)
    direct = near + (log_phi - torch.special.log_ndtr(near)).exp()
    series = y.sqrt() * (1 - 2 * y + 10 * y.square() - 74 * y**3)
    return torch.where(u < -30.0, series, direct)


# --- The densities of the literature --------------------------------------------------------------


ToyName = Literal["circles", "spiral", "pinwheel", "8-gaussians"]
Placement = Literal["centred", "unit square"]


def toy_law(name: ToyName, *, placement: Placement = "centred") -> MixtureLaw:
    """A two-dimensional density as a mixture of small Gaussians along its curves.

    Args:
        name: "circles" (two rings), "spiral" (two arms), "pinwheel" (five) or "8-gaussians".
        placement: "centred" has mean 0 and its centres within radius 0.9, so that l1 has its zero
            in the middle; "unit square" is the same in [0, 1]^2, where l1 is far from its zero.
    Source: the point sets of Grathwohl et al., 2019, arXiv:1810.01367.
    """
    if name not in get_args(ToyName):
        hint = did_you_mean(name, get_args(ToyName))
        raise CsiAuditError(f"toy law must be a known one; got {name!r}.{hint}")
    curves = {"circles": _circles, "spiral": _spiral, "pinwheel": _pinwheel, "8-gaussians": _eight}
    means, deviation = curves[name]()
    means = means - means.mean(0)
    scale = 0.9 / float(means.norm(dim=1).max())
    count = len(means)
    law = MixtureLaw(
        name=name,
        probabilities=torch.full((count,), 1 / count, dtype=torch.float64),
        means=scale * means,
        deviations=torch.full((count,), scale * deviation, dtype=torch.float64),
    )
    return law if placement == "centred" else law.moved(scale=0.45, shift=0.5)


def toy_base(law: MixtureLaw | WeibullLaw) -> Base:
    """The law as a base model: from 40 deviations of noise down to a two-hundredth of one."""
    deviation = float(law.variance.max().sqrt())
    return Base(
        denoiser=law.denoiser,
        variance=law.variance,
        sigma_min=0.005 * deviation,
        sigma_max=40 * deviation,
        grid=Grid(carrier_hz=None, bandwidth_hz=None, n_sub=1),
    )


def _on_circle(angle: Tensor, radius: Tensor | float = 1.0) -> Tensor:
    return torch.stack([radius * angle.cos(), radius * angle.sin()], dim=-1)


def _turn(count: int) -> Tensor:
    return 2 * math.pi * torch.arange(count, dtype=torch.float64) / count


def _middles(count: int) -> Tensor:
    """Middles of `count` equal parts of [0, 1]."""
    return (torch.arange(count, dtype=torch.float64) + 0.5) / count


def _circles() -> tuple[Tensor, float]:
    """Rings of radius 1 and 1/2, half the mass each."""
    return torch.cat([_on_circle(_turn(64)), _on_circle(_turn(64), 0.5)]), 0.08


def _spiral() -> tuple[Tensor, float]:
    """Two arms of one and a half turns, uniform in area."""
    angle = 3 * math.pi * _middles(80).sqrt()
    arm = _on_circle(math.pi - angle, angle / 3)
    return torch.cat([arm, -arm]), 0.11


def _pinwheel() -> tuple[Tensor, float]:
    """Five bent arms, radius 1 +- 0.3."""
    radius = 1 + 0.3 * torch.special.ndtri(_middles(16))
    angle = _turn(5)[:, None] + 0.25 * radius.exp()
    return _on_circle(-angle, radius).flatten(0, 1), 0.1


def _eight() -> tuple[Tensor, float]:
    """Eight Gaussians on a circle."""
    return _on_circle(_turn(8)), 0.125
