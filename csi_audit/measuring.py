"""What is measured on channels: each compressor's losses and bits, and the channels' features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.channel_domain import ChannelDomain
from channels.support import CsiAuditError
from compressors.audit_space import AuditedCompressor, in_audit_space
from compressors.loading import NamedCompressor
from compressors.metrics import feedback_bits
from csi_audit.losses import NmseLoss, OwnMseLoss, SgcsLoss, in_blocks

Array = npt.NDArray[np.float64]

LOSSES: Mapping[str, type[NmseLoss] | type[OwnMseLoss] | type[SgcsLoss]] = {
    "nmse": NmseLoss,
    "own_mse": OwnMseLoss,
    "sgcs": SgcsLoss,
}


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Channels with everything that was measured on them.

    Attributes:
        x: Audit-space channels (N, *event_shape), unit power.
        losses: losses[compressor][loss], (N,).
        features: By feature name, (N,).
        bits: By compressor, (N,); None where its code is not quantised.
    """

    x: Tensor
    losses: Mapping[str, Mapping[str, Array]]
    features: Mapping[str, Array]
    bits: Mapping[str, Array | None] = field(default_factory=dict)

    def nmse(self, compressor: str) -> Array:
        return self.losses[compressor]["nmse"]


def measure(x: Tensor, compressors: Sequence[NamedCompressor], domain: ChannelDomain) -> Measured:
    """Losses and bits of every compressor, features of channels x (N, *event_shape), unit power.

    Raises:
        CsiAuditError: a compressor fails on some channel, or returns NaN or no bits (names it).
    """
    losses: dict[str, dict[str, Array]] = {}
    bits: dict[str, Array | None] = {}
    for named in compressors:
        audited = in_audit_space(named.compressor)
        try:
            losses[named.name] = {
                name: in_blocks(loss(audited), x).numpy() for name, loss in LOSSES.items()
            }
            bits[named.name] = _bits(audited, x)
        except (ValueError, RuntimeError) as error:
            raise CsiAuditError(f"compressor {named.name}: {error}") from error
    features = {name: value.double().numpy() for name, value in domain.features(x).items()}
    return Measured(x=x, losses=losses, features=features, bits=bits)


@torch.inference_mode()
def _bits(audited: AuditedCompressor, x: Tensor, *, block: int = 500) -> Array | None:
    """Bits of each codeword; an unquantised code is encoded for one block only."""
    counts = []
    for part in x.split(block):
        found = feedback_bits(audited.compressor, audited.codeword(part))
        if found is None:
            return None
        counts.append(found)
    return torch.cat(counts).numpy()
