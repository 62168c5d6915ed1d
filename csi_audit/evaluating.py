"""Evaluating denoisers: in batches on their device, counted, and with a gradient where asked for.

A guided chain needs grad f(x, sigma, D(x, sigma)) in x alone: one evaluation forward, one backward.
"""

from collections.abc import Callable
from typing import NamedTuple, Protocol, TypeVar, runtime_checkable

import torch
from torch import Tensor

from csi_audit.diffusion import Denoiser


class WithGradient(NamedTuple):
    """D(x, sigma), the value f (N,) at it, and the gradient of f in x, the shape of x."""

    x0_hat: Tensor
    value: Tensor
    gradient: Tensor


Functional = Callable[[Tensor, Tensor | float, Tensor], Tensor]
"""f(x, sigma, x0_hat) -> (N,), differentiable in x and in x0_hat."""


@runtime_checkable
class GradientDenoiser(Denoiser, Protocol):
    """A denoiser that knows how to differentiate itself: in batches, on its device, counted."""

    def value_and_gradient(
        self, x: Tensor, sigma: Tensor | float, f: Functional
    ) -> WithGradient: ...


def value_and_gradient(
    denoiser: Denoiser,
    x: Tensor,
    sigma: Tensor | float,
    f: Functional,
    *,
    device: torch.device | str | None = None,
) -> WithGradient:
    """f and its gradient through the denoiser: one evaluation forward and one backward.

        grad_x f(x, sigma, D(x, sigma)) = f_x + J^T g,    g = f_x0_hat,  J = dD / dx

    f is evaluated where x lies and in the precision of x, whatever autocast the denoiser runs
    under; no gradient of a parameter is taken.

    Args:
        denoiser: Asked for its own way where it has one (`GradientDenoiser`).
        x: (N, *event_shape).
        sigma: A number or (N,).
        f: See `Functional`.
        device: Where the denoiser is evaluated; None where x lies.
    """
    if isinstance(denoiser, GradientDenoiser):
        return denoiser.value_and_gradient(x, sigma, f)
    where = x.device if device is None else device
    with torch.inference_mode(False), torch.enable_grad():
        level = sigma.clone() if isinstance(sigma, Tensor) else sigma
        leaf = x.detach().to(where, copy=True).requires_grad_(True)
        x0_hat = denoiser(leaf, level.to(where) if isinstance(level, Tensor) else level)
        at = x0_hat.detach().to(x, copy=True).requires_grad_(True)
        point = x.detach().clone().requires_grad_(True)
        with torch.autocast(x.device.type, enabled=False):
            value = f(point, level, at)
            f_x, g = gradients(value, point, at)
        gradient = torch.zeros_like(x) if f_x is None else f_x
        if g is not None:
            (pulled,) = torch.autograd.grad(x0_hat, leaf, g.to(x0_hat))
            gradient = gradient + pulled.to(x)
    return WithGradient(at.detach(), value.detach(), gradient)


def gradients(value: Tensor, *points: Tensor) -> tuple[Tensor | None, ...]:
    """Gradient of sum(value) in each point; None where it does not depend on one."""
    if not value.requires_grad:
        return (None,) * len(points)
    return torch.autograd.grad(value.sum(), points, allow_unused=True)


Part = TypeVar("Part")
Progress = Callable[[int], None]
"""Called with the number of denoiser evaluations just made."""


class CountedDenoiser:
    """A denoiser in batches that fit the memory, on its device, with its evaluations counted.

    Args:
        denoiser: What is evaluated.
        device: Where; samples live on the CPU.
        batch_size: Samples a call at most; halved where the memory of the device does not hold as
            many. Changes nothing but rounding.
        progress: Told of every batch.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> None:
        self.inner = denoiser.to(device) if isinstance(denoiser, torch.nn.Module) else denoiser
        self.event_shape = denoiser.event_shape
        self.device, self.batch_size, self.progress = device, batch_size, progress
        self.evaluations = 0

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        def evaluate(batch: Tensor, s: Tensor) -> Tensor:
            with torch.inference_mode():
                return self.inner(batch.to(self.device), s.to(self.device)).to(x.device)

        # joined outside inference mode: an ordinary tensor
        return torch.cat(self._in_batches(evaluate, x, sigma, price=1))

    def value_and_gradient(self, x: Tensor, sigma: Tensor | float, f: Functional) -> WithGradient:
        """f and its gradient through the denoiser; the backward pass counts as an evaluation."""

        def evaluate(batch: Tensor, s: Tensor) -> WithGradient:
            return value_and_gradient(self.inner, batch, s, f, device=self.device)

        parts = self._in_batches(evaluate, x, sigma, price=2)
        return WithGradient(*(torch.cat(column) for column in zip(*parts, strict=True)))

    def _in_batches(
        self,
        evaluate: Callable[[Tensor, Tensor], Part],
        x: Tensor,
        sigma: Tensor | float,
        *,
        price: int,
    ) -> list[Part]:
        """Each batch evaluated and counted; where one does not fit, this and all later are halved.

        No samples make one empty batch.
        """
        level = torch.as_tensor(sigma, dtype=x.dtype).expand(len(x))
        parts: list[Part] = []
        done = 0
        while done < len(x) or not parts:
            size = self.batch_size
            batch, s = x[done : done + size], level[done : done + size]
            made = _if_it_fits(evaluate, batch, s)
            if made is None:
                self.batch_size = len(batch) // 2
                continue
            parts.append(made)
            self._count(price * len(batch))
            done += size
        return parts

    def _count(self, evaluations: int) -> None:
        self.evaluations += evaluations
        if self.progress is not None:
            self.progress(evaluations)


def _if_it_fits(
    evaluate: Callable[[Tensor, Tensor], Part], batch: Tensor, s: Tensor
) -> Part | None:
    """evaluate(batch, s); None where the device's memory ran out and the batch can be smaller."""
    try:
        return evaluate(batch, s)
    except torch.OutOfMemoryError:
        if len(batch) < 2:
            raise
    # outside the handler, so that the failed batch is let go first
    if torch.accelerator.is_available():
        torch.accelerator.empty_cache()
    return None
