"""What an audit looks into, whatever it is: a named loss, and the weight that leads to where it is
bad. Here of a compressor; those of a cell network are csi_audit.network_losses'.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from torch import Tensor

from channels.support import CsiAuditError
from compressors.audit_space import in_audit_space
from compressors.loading import NamedCompressor
from compressors.preflight import check_gradient
from csi_audit.losses import Loss, NmseLoss, SquaredErrorLoss
from csi_audit.weights import LossWeight, Weight, log_l_in_blocks

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AuditedLoss:
    """A loss L of the samples with the weight l that defines q = l p / Z.

    Attributes:
        name: In figures and files: the compressor's, or the loss's own.
        symbol: What L is called in questions, such as "NMSE".
        loss: L of samples of the audited law.
        guiding: l at denoised means, finite and differentiable there.
        counting: l of samples of the audited law.
        is_weight: Whether l is L itself there.
        refusal: Why guided sampling is impossible, in words, given a few samples; "" where it is
            not.
    """

    name: str
    symbol: str
    loss: Loss
    guiding: Weight
    counting: Weight
    is_weight: bool
    refusal: Callable[[Tensor], str]

    @property
    def mean_quantity(self) -> str:
        """E_q[l] in questions."""
        return f"E_q[{self.symbol}]" if self.is_weight else f"E_q[l] of the {self.symbol}"

    def weights_of(self, x: Tensor, values: Array) -> Array:
        """l of samples x (N, *event_shape) of the audited law whose losses are `values`, (N,)."""
        if self.is_weight:
            return values
        return np.asarray(log_l_in_blocks(self.counting, x).exp().numpy())


def nmse_of(named: NamedCompressor) -> AuditedLoss:
    """The NMSE of a compressor, which is its own weight."""
    audited = in_audit_space(named.compressor)
    loss = NmseLoss(audited)
    return AuditedLoss(
        name=named.name,
        symbol="NMSE",
        loss=loss,
        guiding=LossWeight(SquaredErrorLoss(audited)),
        counting=LossWeight(loss),
        is_weight=True,
        refusal=partial(_gradient_refusal, named),
    )


def _gradient_refusal(named: NamedCompressor, x: Tensor) -> str:
    """Why guided sampling of a compressor is impossible, on a few channels at unit power."""
    try:
        check_gradient(named.compressor, x, name=named.name)
    except CsiAuditError:
        return f"{named.name} has no usable gradient"
    return ""
