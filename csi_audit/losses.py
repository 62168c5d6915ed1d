"""Losses L(x) of a channel under a compressor, in audit space, one number a sample."""

from typing import Literal, Protocol

import torch
from torch import Tensor

from channels.domains import to_complex, to_spatial_frequency
from compressors.audit_space import AuditedCompressor
from compressors.metrics import nmse, sgcs


class Loss(Protocol):
    """A figure of each sample (N,), with its unit and the side that is bad."""

    name: str
    unit: str
    worse: Literal["high", "low"]

    def __call__(self, x: Tensor) -> Tensor: ...


class NmseLoss:
    """||x - x_hat||^2 / ||x||^2, linear: the true loss of a channel."""

    name, unit = "nmse", "1"
    worse: Literal["high", "low"] = "high"

    def __init__(self, compressor: AuditedCompressor) -> None:
        self.compressor = compressor

    def __call__(self, x: Tensor) -> Tensor:
        return nmse(x, self.compressor(x))


class SquaredErrorLoss:
    """||x - x_hat||^2 / (n/2), n/2 the number of complex coefficients: NMSE on unit-power channels.

    Defined everywhere: a denoised mean at high noise is nearly zero, where NMSE would be 0/0. This
    is the form that guides a chain; the true loss enters at its end.
    """

    name, unit = "squared_error", "1"
    worse: Literal["high", "low"] = "high"

    def __init__(self, compressor: AuditedCompressor) -> None:
        self.compressor = compressor

    def __call__(self, x: Tensor) -> Tensor:
        return 2 * (x - self.compressor(x)).square().flatten(1).mean(1)


class OwnMseLoss:
    """Mean squared error in the compressor's own scale, as its authors train it."""

    name, unit = "own_mse", "own scale squared"
    worse: Literal["high", "low"] = "high"

    def __init__(self, compressor: AuditedCompressor) -> None:
        self.compressor = compressor

    def __call__(self, x: Tensor) -> Tensor:
        return self.compressor.own_mse(x)


class SgcsLoss:
    """Squared generalised cosine similarity a subcarrier; low is bad."""

    name, unit = "sgcs", "1"
    worse: Literal["high", "low"] = "low"

    def __init__(self, compressor: AuditedCompressor) -> None:
        self.compressor = compressor

    def __call__(self, x: Tensor) -> Tensor:
        return sgcs(_spatial(x), _spatial(self.compressor(x)))


def _spatial(x: Tensor) -> Tensor:
    return to_spatial_frequency(to_complex(x))


@torch.inference_mode()
def in_blocks(loss: Loss, x: Tensor, *, block: int = 500) -> Tensor:
    """Loss of many samples without gradients, float64 (N,)."""
    return torch.cat([loss(part).double() for part in x.split(block)])
