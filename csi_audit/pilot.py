"""Speeds that decide between methods, measured on a few base samples before anything dear is begun.

What a method needs is forecast in denoiser evaluations by csi_audit.dispatch; here is what one
costs, with the compressor's share and, where it has one, its gradient.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from channels.support import CsiAuditError
from compressors.audit_space import in_audit_space
from compressors.loading import NamedCompressor
from compressors.preflight import check_gradient
from csi_audit.base import Base
from csi_audit.dispatch import Prices
from csi_audit.evaluating import CountedDenoiser
from csi_audit.losses import NmseLoss, SquaredErrorLoss, in_blocks
from csi_audit.run_state import BlockStore
from csi_audit.twists import GuidedDenoiser, TweedieTwist
from csi_audit.weights import LossWeight

TIMED = 32
"""Samples of a timed round."""
ROUNDS = 3
"""Rounds; the fastest counts, the first one warms up."""


def gradient_refusal(named: NamedCompressor, x: Tensor) -> str:
    """Why guided sampling of this compressor is impossible, in words; "" where it is not.

    Args:
        named: Audited.
        x: A few channels at unit power (N, *event_shape).
    """
    try:
        check_gradient(named.compressor, x, name=named.name)
    except CsiAuditError:
        return f"{named.name} has no usable gradient"
    return ""


def measured_prices(
    base: Base,
    named: NamedCompressor,
    x: Tensor,
    *,
    gradient: bool,
    name: str,
    device: torch.device | str,
    batch_size: int,
    store: BlockStore,
) -> tuple[Prices, int]:
    """Seconds a sample of each step, measured once and kept, and the evaluations that took.

    Args:
        base: The base model.
        named: The compressor.
        x: Base samples at unit power (N, *event_shape); the first ones are used.
        gradient: Whether the compressor has one.
        name: Of the file.
        device, batch_size: Of the denoiser.
        store: Where they are kept, so that a resumed audit decides as the first did.
    """

    def measure() -> dict[str, np.ndarray]:
        denoiser = CountedDenoiser(base.denoiser, device=device, batch_size=batch_size)
        seconds = _measured(denoiser, named, x[:TIMED], gradient)
        return {"seconds": np.array(seconds), "evaluations": np.array(denoiser.evaluations)}

    found = store.get(name, 0, measure)
    evaluation, guided, loss = found["seconds"].tolist()
    prices = Prices(evaluation=evaluation, guided=guided if gradient else None, loss=loss)
    return prices, int(found["evaluations"])


def _measured(
    denoiser: CountedDenoiser, named: NamedCompressor, x: Tensor, gradient: bool
) -> tuple[float, float, float]:
    """Seconds a sample of an evaluation, a guided step (0 without gradient) and a loss."""
    audited, sigma = in_audit_space(named.compressor), float(x.std())
    guided = 0.0
    if gradient:
        twist = TweedieTwist(LossWeight(SquaredErrorLoss(audited)))
        led = GuidedDenoiser(denoiser, twist)
        guided = _fastest(lambda: led.guidance(x, sigma)) / len(x)
    evaluation = _fastest(lambda: denoiser(x, sigma)) / len(x)
    loss = _fastest(lambda: in_blocks(NmseLoss(audited), x)) / len(x)
    return evaluation, guided, loss


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest round."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)
