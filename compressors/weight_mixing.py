"""Weights between those before and after a fine-tuning: as much of it as the mean allows.

    theta_a = (1 - a) theta_0 + a theta_1,   a in 0, 0.1, ..., 1

Along that line the mean often falls first, since an average of weights generalises better than
either end, and rises later, while the tail falls all the way; so a is chosen on users kept out, by
the tail under a bound on the mean. a = 0 is always allowed: then fine-tuning found nothing.

Source: Wortsman et al., "Robust fine-tuning of zero-shot models", 2022, arXiv:2109.01903.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from compressors.audit_space import in_audit_space
from compressors.metrics import nmse
from compressors.neural import CompressorNetwork

SHARES = tuple(i / 10 for i in range(11))
WORST = 0.05
"""Share of the users whose mean NMSE stands for the tail: of the worst 1 % there are too few."""

_BLOCK = 500
_DECIBELS = 10 / math.log(10)


@dataclass(frozen=True, kw_only=True)
class MixedWeights:
    """What one share a of the trained weights does to users kept out, after minus before.

    Attributes:
        share: a.
        mean_db: Mean NMSE [dB].
        most_db: Its upper end, two standard errors above [dB].
        worst_db: Mean of each one's own worst 5 % [dB].
        allowed: Whether the mean loses no more than it may.
    """

    share: float
    mean_db: float
    most_db: float
    worst_db: float
    allowed: bool


@torch.inference_mode()
def own_nmse(network: CompressorNetwork, x: Tensor) -> Tensor:
    """NMSE of each audit-space channel x (N, ...) under a network, float64 (N,)."""
    network.eval()
    audited = in_audit_space(network)
    return torch.cat([nmse(part, audited(part)) for part in x.split(_BLOCK)])


def between(
    before: Mapping[str, Tensor], after: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """theta_0 + a (theta_1 - theta_0) of two state dicts; exactly either end at a = 0 and 1.

    Whole numbers are those of the nearer end.
    """
    nearer = after if share > 0.5 else before
    if share in (0.0, 1.0):
        return dict(nearer)
    return {
        name: value.lerp(after[name].to(value), share)
        if value.is_floating_point()
        else nearer[name]
        for name, value in before.items()
    }


def mixed_weights(
    network: CompressorNetwork,
    before: CompressorNetwork,
    after: Mapping[str, Tensor],
    x: Tensor,
    most_lost_db: float,
) -> list[MixedWeights]:
    """Every share a of `SHARES` measured on the same users.

    Args:
        network: Built like `before`; its weights are overwritten.
        before: The compressor as it came.
        after: Weights that the fine-tuning ended with.
        x: Audit-space channels of users kept out of the fine-tuning, (N, ...).
        most_lost_db: What the mean may lose [dB], at its upper end.
    """
    old = own_nmse(before, x)
    found = []
    for share in SHARES:
        network.load_state_dict(between(before.state_dict(), after, share))
        new = old if share == 0 else own_nmse(network, x)
        found.append(_compared(share, old, new, most_lost_db))
    return found


def chosen_share(steps: Sequence[MixedWeights]) -> float:
    """The allowed share with the best tail."""
    return min((s for s in steps if s.allowed), key=lambda s: s.worst_db).share


def _compared(share: float, old: Tensor, new: Tensor, most_lost_db: float) -> MixedWeights:
    """Mean [dB] with its upper end by the delta method, and mean of each one's own worst users."""
    n = len(old)
    scatter = new / new.mean() - old / old.mean()
    error = float(scatter.std()) / math.sqrt(n) if n > 1 else 0.0
    mean_db = _ratio_db(new.mean(), old.mean())
    most_db = mean_db + 2 * _DECIBELS * error
    worst = max(1, round(WORST * n))
    return MixedWeights(
        share=share,
        mean_db=mean_db,
        most_db=most_db,
        worst_db=_ratio_db(new.topk(worst).values.mean(), old.topk(worst).values.mean()),
        allowed=share == 0 or most_db <= most_lost_db,
    )


def _ratio_db(new: Tensor, old: Tensor) -> float:
    return 10 * math.log10(float(new) / float(old))
