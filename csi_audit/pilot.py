"""Speeds that decide between methods, measured on a few base samples before anything dear is begun.

What a method needs is forecast in denoiser evaluations by csi_audit.dispatch; here is what one
costs, with the loss's share and, where it has one, its gradient.
"""

import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from csi_audit.audited_losses import AuditedLoss
from csi_audit.base import Base
from csi_audit.dispatch import Prices
from csi_audit.evaluating import CountedDenoiser
from csi_audit.losses import in_blocks
from csi_audit.run_state import BlockStore
from csi_audit.twists import GuidedDenoiser, TweedieTwist

TIMED = 32
"""Samples of a timed round."""
ROUNDS = 3
"""Rounds; the fastest counts, the first one warms up."""


def measured_prices(
    base: Base,
    audited: AuditedLoss,
    x: Tensor,
    *,
    gradient: bool,
    name: str,
    device: torch.device | str,
    batch_size: int,
    store: BlockStore,
    timed: int = TIMED,
) -> tuple[Prices, int]:
    """Seconds a sample of each step, measured once and kept, and the evaluations that took.

    Args:
        base: The base model.
        audited: The loss.
        x: Base samples of the audited law (N, *event_shape); the first ones are used.
        gradient: Whether the loss has one.
        name: Of the file.
        device, batch_size: Of the denoiser.
        store: Where they are kept, so that a resumed audit decides as the first did.
        timed: Samples of a timed round.
    """

    def measure() -> dict[str, np.ndarray]:
        denoiser = CountedDenoiser(base.denoiser, device=device, batch_size=batch_size)
        seconds = _measured(denoiser, audited, x[:timed], gradient)
        return {"seconds": np.array(seconds), "evaluations": np.array(denoiser.evaluations)}

    found = store.get(name, 0, measure)
    evaluation, guided, loss = found["seconds"].tolist()
    prices = Prices(evaluation=evaluation, guided=guided if gradient else None, loss=loss)
    return prices, int(found["evaluations"])


def _measured(
    denoiser: CountedDenoiser, audited: AuditedLoss, x: Tensor, gradient: bool
) -> tuple[float, float, float]:
    """Seconds a sample of an evaluation, a guided step (0 without gradient) and a loss."""
    sigma, guided = float(x.std()), 0.0
    if gradient:
        led = GuidedDenoiser(denoiser, TweedieTwist(audited.guiding))
        guided = _fastest(lambda: led.guidance(x, sigma)) / len(x)
    evaluation = _fastest(lambda: denoiser(x, sigma)) / len(x)
    loss = _fastest(lambda: in_blocks(audited.loss, x)) / len(x)
    return evaluation, guided, loss


def _fastest(work: Callable[[], object]) -> float:
    """Seconds of the fastest round."""
    found = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)
