"""Importance weight functions l(x): which channels the target law q(x) = l(x) p(x) / Z favours."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from csi_audit.losses import Loss


class Weight(Protocol):
    """log l(x) of each sample (N,), differentiable in x where guidance is wanted."""

    def log_l(self, x: Tensor) -> Tensor: ...


@torch.inference_mode()
def log_l_in_blocks(weight: Weight, x: Tensor, *, block: int = 500) -> Tensor:
    """log l of many samples without gradients, float64 (N,), on the CPU."""
    return torch.cat([weight.log_l(part).double().cpu() for part in x.split(block)])


@dataclass(frozen=True)
class LossWeight:
    """l(x) = L(x)^power: channels count in proportion to their distortion.

    Attributes:
        loss: L > 0, larger is worse.
        power: gamma; 1 is the paper's choice.
        floor: Smallest L, so that log l stays finite on a channel without error.
    """

    loss: Loss
    power: float = 1.0
    floor: float = 1e-12

    def __post_init__(self) -> None:
        if self.loss.worse != "high":
            raise ValueError(
                f"loss must be worse when high to serve as a weight; {self.loss.name!r} is worse "
                "when low. Weigh 1 - L instead."
            )

    def log_l(self, x: Tensor) -> Tensor:
        value: Tensor = self.power * torch.log(self.loss(x).clamp_min(self.floor))
        return value


@dataclass(frozen=True)
class ThresholdWeight:
    """l(x) = floor + (1 - floor) / (1 + exp(-(L(x) - tau) / width)): channels beyond tau, softly.

    For a loss that is worse when low the sign in the exponent turns. With a floor near the share
    of q that should lie before tau, P(L beyond tau) can be had from samples of q.

    Attributes:
        loss: L.
        tau: Where l is half way up, in the unit of L.
        width: Over which l rises, same unit; below a tenth of tau guidance sees a cliff.
        floor: l far before tau, in (0, 1).
    """

    loss: Loss
    tau: float
    width: float
    floor: float = 1e-3

    def __post_init__(self) -> None:
        if not self.width > 0:
            raise ValueError(f"width must be positive, in the unit of the loss; got {self.width}.")
        if not 0 < self.floor < 1:
            raise ValueError(f"floor must lie in (0, 1), the top of l; got {self.floor}.")

    def log_l(self, x: Tensor) -> Tensor:
        sign = 1.0 if self.loss.worse == "high" else -1.0
        rise = F.logsigmoid(sign * (self.loss(x) - self.tau) / self.width)
        low = torch.full_like(rise, math.log(self.floor))
        return torch.logaddexp(low, rise + math.log1p(-self.floor))


@dataclass(frozen=True)
class ProductWeight:
    """l(x) = prod_j l_j(x): channels that every weight favours."""

    weights: tuple[Weight, ...]

    def log_l(self, x: Tensor) -> Tensor:
        return torch.stack([weight.log_l(x) for weight in self.weights]).sum(0)


@dataclass(frozen=True)
class SumWeight:
    """l(x) = sum_j c_j l_j(x): channels that some weight favours.

    Attributes:
        weights: l_j.
        factors: c_j > 0; with c_j = 1 / E_p[l_j] each has an equal part of q.
    """

    weights: tuple[Weight, ...]
    factors: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.factors) != len(self.weights) or not all(c > 0 for c in self.factors):
            raise ValueError(
                f"factors must be {len(self.weights)} positive numbers, one a weight; "
                f"got {self.factors}."
            )

    def log_l(self, x: Tensor) -> Tensor:
        terms = zip(self.weights, self.factors, strict=True)
        return torch.stack([w.log_l(x) + math.log(c) for w, c in terms]).logsumexp(0)


@dataclass(frozen=True)
class NormalisedWeight:
    """l of samples brought onto the audited law first, so l as it counts at the end of a chain.

        l(x) = weight(onto_law(x))

    Samples of a base model miss the sphere ||x||^2 = n of unit-power channels by a little; the
    audited law is that of the normalised ones. Denoised means lie far inside the sphere and must
    not be normalised: guide by `weight` itself.

    Attributes:
        weight: l.
        onto_law: For channels `ChannelDomain.onto_law`.
    """

    weight: Weight
    onto_law: Callable[[Tensor], Tensor]

    def log_l(self, x: Tensor) -> Tensor:
        return self.weight.log_l(self.onto_law(x))


@dataclass(frozen=True)
class LinearWeight:
    """l(x) = c + a . x + b |x|^2 / n on plain vectors: closed-form moments, for truth in tests.

    Attributes:
        linear: a, (n,).
        square: b >= 0.
        constant: c.
    """

    linear: Tensor
    square: float
    constant: float = 1.0

    def log_l(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        value = self.constant + flat @ self.linear.to(x) + self.square * flat.square().mean(1)
        return value.clamp_min(1e-6).log()
