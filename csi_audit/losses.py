"""Losses L(x) of a channel under a compressor, in audit space, one number a sample.

The figures themselves are compressors.metrics'; here they meet a compressor, a name and a bad side.
"""

import math
from typing import Literal, Protocol

import torch
from torch import Tensor

from channels.domains import to_complex, to_spatial_frequency
from channels.support import CsiAuditError
from compressors.audit_space import AuditedCompressor
from compressors.metrics import nmse, rate_loss, rho, sgcs


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


class RhoLoss:
    """Cosine similarity a subcarrier; low is bad."""

    name, unit = "rho", "1"
    worse: Literal["high", "low"] = "low"

    def __init__(self, compressor: AuditedCompressor) -> None:
        self.compressor = compressor

    def __call__(self, x: Tensor) -> Tensor:
        return rho(_spatial(x), _spatial(self.compressor(x)))


class RateLoss:
    """Rate that a single-layer precoder loses by the reconstruction, for channels at unit power.

    Args:
        compressor: Under audit.
        snr_db: SNR of one transmit antenna with all the power [dB].
    Raises:
        CsiAuditError: snr_db is not finite.
    """

    name, unit = "rate_loss", "bit/s/Hz"
    worse: Literal["high", "low"] = "high"

    def __init__(self, compressor: AuditedCompressor, snr_db: float = 10.0) -> None:
        if not math.isfinite(snr_db):
            raise CsiAuditError(f"snr_db must be finite; got {snr_db}.")
        self.compressor = compressor
        self.snr_db = snr_db

    def __call__(self, x: Tensor) -> Tensor:
        return rate_loss(_spatial(x), _spatial(self.compressor(x)), snr_db=self.snr_db)


def _spatial(x: Tensor) -> Tensor:
    # Of one row of antennas; another panel's transform is a rotation of the antennas of both
    # channel and reconstruction, which leaves these figures as they are.
    return to_spatial_frequency(to_complex(x))


@torch.inference_mode()
def in_blocks(loss: Loss, x: Tensor, *, block: int = 500) -> Tensor:
    """Loss of many samples without gradients, float64 (N,)."""
    return torch.cat([loss(part).double() for part in x.split(block)])
