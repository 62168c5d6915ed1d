"""Rare events whose probability is known: noise maps and losses in closed form, in any dimension.

The directions are dense random ones, so nothing is in reach of a method that moves coordinate by
coordinate and not of the others.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from scipy import integrate, optimize, special
from torch import Tensor

from channels.randomness import seeded_generator
from csi_audit.noise_map import IdentityMap

MODE_WEIGHT = 5e-4
MODE_SHIFT = 6.0
"""How far the rare mode is moved along the loss, in deviations."""


class PlaneLoss:
    """a . x: a plane is the border of every failure region."""

    name, unit = "plane", "1"
    worse: Literal["high", "low"] = "high"

    def __init__(self, a: Tensor) -> None:
        self.a = a

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.a.to(x)


class RadiusLoss:
    """|x|: a sphere is the border, curved the same way everywhere."""

    name, unit = "radius", "1"
    worse: Literal["high", "low"] = "high"

    def __call__(self, x: Tensor) -> Tensor:
        return x.norm(dim=1)


class ModeMap(IdentityMap):
    """White noise of which a half-space of small mass is moved away along the loss.

        G(z) = z + s a 1{b . z > c},   P(b . z > c) = w

    Args:
        a: Unit vector of the loss, (n,).
        b: Unit vector that the half-space is beyond, (n,).
    """

    name = "white noise with a rare mode"

    def __init__(self, a: Tensor, b: Tensor) -> None:
        super().__init__((len(a),))
        self.a, self.b = a, b
        self.c = -float(special.ndtri(MODE_WEIGHT))

    def __call__(self, z: Tensor) -> Tensor:
        x = super().__call__(z)
        moved = (z @ self.b.to(z) > self.c).to(z)
        return x + MODE_SHIFT * moved[:, None] * self.a.to(z)


@dataclass(frozen=True, kw_only=True)
class RareEvent:
    """A loss of noise with its exact tail.

    Attributes:
        name: For tables.
        new_map: Makes the map, with a counter of its own.
        loss: L.
        beyond: P(L > t).
    """

    name: str
    new_map: Callable[[], IdentityMap]
    loss: PlaneLoss | RadiusLoss
    beyond: Callable[[float], float]

    def threshold(self, p: float) -> float:
        """t with P(L > t) = p."""

        def gap(t: float) -> float:
            return math.log(self.beyond(t)) - math.log(p)

        low = high = 0.0
        while gap(high) > 0:
            low, high = high, high + 2.0
        return float(optimize.brentq(gap, low - 1.0, high, xtol=1e-10))


EVENTS = ("plane", "sphere", "oblique mode", "mode aside")
RARE_MODES = EVENTS[2:]


def rare_event(name: str, n: int) -> RareEvent:
    """The event of that name in n dimensions.

    "plane" and "sphere" have one failure region. In the other two a mode of weight `MODE_WEIGHT`
    holds all failures of the deeper levels: "oblique", where the loss rises towards it (45
    degrees), and "aside", where nothing in the body points to it.
    """
    a, b = _directions(n)
    if name == "plane":
        return RareEvent(name=name, new_map=partial(IdentityMap, (n,)), loss=PlaneLoss(a),
                         beyond=lambda t: float(special.ndtr(-t)))  # fmt: skip
    if name == "sphere":
        return RareEvent(name=name, new_map=partial(IdentityMap, (n,)), loss=RadiusLoss(),
                         beyond=lambda t: float(special.chdtrc(n, t * abs(t))))  # fmt: skip
    cosine = 0.0 if name == "mode aside" else math.sqrt(0.5)
    towards = math.sqrt(1 - cosine**2) * a + cosine * b
    return RareEvent(name=name, new_map=partial(ModeMap, towards, b), loss=PlaneLoss(towards),
                     beyond=partial(_with_mode, cosine))  # fmt: skip


def _with_mode(cosine: float, t: float) -> float:
    """P(u + s 1{v > c} > t) of standard normal u, v of that correlation.

    int phi(v) Phi((cosine v + s 1{v > c} - t) / sine) dv
    """
    c, sine = -float(special.ndtri(MODE_WEIGHT)), math.sqrt(1 - cosine**2)

    def density(v: float, shift: float) -> float:
        phi = math.exp(-v * v / 2) / math.sqrt(2 * math.pi)
        return phi * float(special.ndtr((cosine * v + shift - t) / sine))

    def area(low: float, high: float, shift: float) -> float:
        return float(integrate.quad(density, low, high, args=(shift,), epsabs=0, epsrel=1e-9)[0])

    body = area(-9.0, 0.0, 0.0) + area(0.0, c, 0.0)
    return body + area(c, c + 6.0, MODE_SHIFT)


def _directions(n: int) -> tuple[Tensor, Tensor]:
    """Two dense orthonormal vectors, float64 (n,)."""
    z = torch.randn(n, 2, generator=seeded_generator(0, "directions", n), dtype=torch.float64)
    q = torch.linalg.qr(z).Q
    return q[:, 0].contiguous(), q[:, 1].contiguous()
