"""Importance weight functions l(x): which channels the target law q(x) = l(x) p(x) / Z favours."""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from csi_audit.losses import Loss


class Weight(Protocol):
    """log l(x) of each sample (N,), differentiable in x where guidance is wanted."""

    def log_l(self, x: Tensor) -> Tensor: ...


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
class LinearWeight:
    """l(x) = 1 + a . x + b |x|^2 / n on plain vectors: closed-form moments, for truth in tests.

    Attributes:
        linear: a, (n,).
        square: b >= 0.
    """

    linear: Tensor
    square: float

    def log_l(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        value = 1 + flat @ self.linear + self.square * flat.square().mean(1)
        return value.clamp_min(1e-6).log()
