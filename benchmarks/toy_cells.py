"""The cells of benchmarks.toy_densities: a law in the plane, a weight, and what is true of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.divergence import Box
from csi_audit.calibration import FEATURE_SETS, Features
from csi_audit.toy_laws import MixtureLaw, Placement, ToyName, WeibullLaw, toy_law
from csi_audit.toy_weights import ProbitWeight, QuadraticWeight, l1, l2

DENSITIES: tuple[ToyName, ...] = ("circles", "spiral", "pinwheel", "8-gaussians")
WEIBULL, RARE = "weibull-l1", "8-gaussians-rare"
CELLS = (*(f"{law}-{weight}" for law in DENSITIES for weight in ("l1", "l2")), WEIBULL, RARE)
RARE_PROBABILITY = 1e-3
RARE_WIDTH = 0.05


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A law and a weight in the plane, q known.

    Attributes:
        name: For tables.
        law_name: Shared by the cells of one law.
        law: p.
        weight: l.
        e_q: E_q[l].
        box: Of the histograms.
        features: Of the calibrated twist.
    """

    name: str
    law_name: str
    law: MixtureLaw | WeibullLaw
    weight: QuadraticWeight | ProbitWeight
    e_q: float
    box: Box
    features: Features | Sequence[Features] = FEATURE_SETS

    def draw_target(self, n: int, generator: torch.Generator) -> Tensor:
        """n true samples of q, float32 (n, 2)."""
        if isinstance(self.law, MixtureLaw):
            return self.law.draw_target(self.weight, n, generator=generator)
        if not isinstance(self.weight, QuadraticWeight):
            raise TypeError("a Weibull law takes a quadratic weight only.")
        return self.law.draw_target(self.weight, n, generator=generator)


def cell(name: str, placement: Placement = "centred") -> Cell:
    """The cell of that name; the Weibull and the rare cell know no placement."""
    if name == WEIBULL:
        weibull = WeibullLaw(shape=2, scale=1.0, n=2)
        return Cell(name=name, law_name="weibull", law=weibull, weight=l1(),
                    e_q=weibull.e_q(l1()), box=Box(low=(0.0, 0.0), high=(3.0, 3.0)))  # fmt: skip
    if name == RARE:
        law, rare = toy_law("8-gaussians"), rare_weight()
        return Cell(name=name, law_name="8-gaussians-centred", law=law, weight=rare,
                    e_q=law.e_q(rare), box=Box(low=(1.0, -0.5), high=(1.5, 0.5)))  # fmt: skip
    density, _, which = name.rpartition("-")
    law = toy_law(next(d for d in DENSITIES if d == density), placement=placement)
    weight = l1() if which == "l1" else l2()
    centre, half = (0.0, 1.25) if placement == "centred" else (0.5, 0.5625)
    low, high = centre - half, centre + half
    return Cell(name=name, law_name=f"{density}-{placement.replace(' ', '_')}", law=law,
                weight=weight, e_q=law.e_q(weight),
                box=Box(low=(low, low), high=(high, high)))  # fmt: skip


def rare_weight(probability: float = RARE_PROBABILITY, width: float = RARE_WIDTH) -> ProbitWeight:
    """A soft threshold on the first coordinate of "8-gaussians", E_p[l] = probability."""
    law, low, high = toy_law("8-gaussians"), 0.0, 10.0
    axis = torch.tensor([1.0, 0.0], dtype=torch.float64)
    for _ in range(60):
        middle = (low + high) / 2
        above = law.e_p(ProbitWeight(axis, middle, width)) > probability
        low, high = (middle, high) if above else (low, middle)
    return ProbitWeight(axis, high, width)
