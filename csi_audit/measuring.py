"""What is measured on a set of channels: each compressor's losses and the channels' features."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from torch import Tensor

from channels.channel_domain import ChannelDomain
from channels.support import CsiAuditError
from compressors.audit_space import in_audit_space
from compressors.loading import NamedCompressor
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
    """

    x: Tensor
    losses: Mapping[str, Mapping[str, Array]]
    features: Mapping[str, Array]

    def nmse(self, compressor: str) -> Array:
        return self.losses[compressor]["nmse"]


def measure(x: Tensor, compressors: Sequence[NamedCompressor], domain: ChannelDomain) -> Measured:
    """Losses of every compressor and features of channels x (N, *event_shape) at unit power.

    Raises:
        CsiAuditError: a compressor fails on some channel, or returns NaN (names it).
    """
    losses: dict[str, dict[str, Array]] = {}
    for named in compressors:
        audited = in_audit_space(named.compressor)
        try:
            losses[named.name] = {
                name: in_blocks(loss(audited), x).numpy() for name, loss in LOSSES.items()
            }
        except (ValueError, RuntimeError) as error:
            raise CsiAuditError(f"compressor {named.name}: {error}") from error
    features = {name: value.double().numpy() for name, value in domain.features(x).items()}
    return Measured(x=x, losses=losses, features=features)
