"""Symmetries of the law of channels, for augmentation: global phase and the array flip.

Both act on audit-space tensors inside training loops, so they stay in real arithmetic. They leave
the law unchanged for a uniform linear array with an environment of no preferred side; they are not
symmetries of single users.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from channels.support import CsiAuditError

__all__ = ["flip_array", "random_symmetry", "rotate_phase"]


def _check(x: Tensor) -> None:
    if x.is_complex() or x.ndim != 4 or x.shape[1] % 2:
        raise CsiAuditError(
            f"x must be real (N, 2 n_rx, n_tx, n_delay); got {x.dtype} {tuple(x.shape)}."
        )


def _turn(x: Tensor, angle: Tensor) -> Tensor:
    """exp(j angle) x on interleaved pairs; angle broadcasts to (N, n_rx, n_tx, n_delay)."""
    cos, sin = angle.cos().to(x.dtype), angle.sin().to(x.dtype)
    re, im = x[:, 0::2], x[:, 1::2]  # (N, n_rx, n_tx, n_delay)
    return torch.stack((cos * re - sin * im, sin * re + cos * im), dim=2).flatten(1, 2)


def _reflect(x: Tensor) -> Tensor:
    """Beam b -> (-b) mod n_tx, without the ramp: half of the flip, a symmetry of nothing."""
    return torch.roll(x.flip(2), shifts=1, dims=2)


def _ramp(x: Tensor) -> Tensor:
    """Angle 2 pi b / n_tx of the flip's phase ramp, (1, 1, n_tx, 1)."""
    n_tx = x.shape[2]
    beam = torch.arange(n_tx, device=x.device, dtype=torch.float64)
    return (2 * math.pi / n_tx * beam).view(1, 1, n_tx, 1)


def rotate_phase(x: Tensor, phase: Tensor) -> Tensor:
    """Channels times exp(j phase).

    Args:
        x: Real (N, 2 n_rx, n_tx, n_delay), channel axis re rx0, im rx0, re rx1, ...
        phase: Radians, (N,).
    Returns:
        Same shape.
    Raises:
        CsiAuditError: x or phase has the wrong shape.
    """
    _check(x)
    if phase.shape != x.shape[:1]:
        raise CsiAuditError(
            f"phase must be ({x.shape[0]},), one angle a user; got {tuple(phase.shape)}."
        )
    return _turn(x, phase.to(x.device).view(-1, 1, 1, 1))


def flip_array(x: Tensor, mask: Tensor | None = None) -> Tensor:
    """Transmit array read from its other end: spatial a -> n_tx - 1 - a.

        x'[b, d] = exp(+j 2 pi b / n_tx) x[(-b) mod n_tx, d]

    The ramp belongs to it: without it one antenna is torn off the array, and magnitudes show
    nothing.

    Args:
        x: Real (N, 2 n_rx, n_tx, n_delay).
        mask: Users to flip, bool (N,); None flips all.
    Returns:
        Same shape.
    Raises:
        CsiAuditError: x or mask has the wrong shape.
    """
    _check(x)
    flipped = _turn(_reflect(x), _ramp(x))
    if mask is None:
        return flipped
    if mask.shape != x.shape[:1] or mask.dtype != torch.bool:
        raise CsiAuditError(
            f"mask must be bool ({x.shape[0]},); got {mask.dtype} {tuple(mask.shape)}."
        )
    return torch.where(mask.to(x.device).view(-1, 1, 1, 1), flipped, x)


def random_symmetry(x: Tensor, *, generator: torch.Generator, flip: bool = True) -> Tensor:
    """Each user under its own random global phase, and flipped with probability 1/2.

    Args:
        x: Real (N, 2 n_rx, n_tx, n_delay).
        generator: Source of the draws (its own device; draws move to x's).
        flip: False for panels, whose mirror image is another array.
    Returns:
        Same shape; one pass over x for both symmetries.
    Raises:
        CsiAuditError: x has the wrong shape.
    """
    _check(x)
    draw = torch.rand(2, x.shape[0], generator=generator, device=generator.device).to(x.device)
    phase = 2 * math.pi * draw[0].double().view(-1, 1, 1, 1)
    if not flip:
        return _turn(x, phase)
    flipped = (draw[1] < 0.5).view(-1, 1, 1, 1)
    return _turn(torch.where(flipped, _reflect(x), x), phase + _ramp(x) * flipped)
