"""Twists: how a chain on noisy samples is led towards l(x0).

Exactly, grad log q_sigma = grad log p_sigma + grad log E[l(x0) | x_sigma]. A twist h approximates
that expectation; a `GuidedDenoiser` turns it into a denoiser of the target law. The twist that is
fitted to pilot samples lives in csi_audit.calibration.
"""

import math
from typing import Literal, NamedTuple, Protocol, get_args

import torch
from torch import Tensor

from channels.support import CsiAuditError, did_you_mean
from csi_audit.diffusion import Denoiser, per_sample
from csi_audit.evaluating import gradients, value_and_gradient
from csi_audit.weights import Weight

GradientName = Literal["backward", "finite_difference"]


class GradientError(ValueError):
    """A gradient that guides is not finite: a finding about the compressor or weight."""


class Twist(Protocol):
    """log h(x, sigma), h about E[l(x0) | x_sigma = x] up to a constant; `name` is for reports.

    Given x (N, *event_shape), sigma (a number or (N,)) and x0_hat = D(x, sigma), it returns (N,),
    finite and differentiable in x0_hat, and in x where it uses x.
    """

    @property
    def name(self) -> str: ...

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor: ...


class TweedieTwist:
    """The paper's: h = l(x0_hat). Exact for a linear l; too small where a convex l bends.

    Source: Kim, Lee, Kim, de Veciana, "Importance Sampling via Score-based Generative Models".
    """

    name = "Tweedie twist"

    def __init__(self, weight: Weight) -> None:
        self.weight = weight

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        return self.weight.log_l(x0_hat)


class SmoothedTwist:
    """l averaged over a Gaussian about the Tweedie mean, by a few fixed draws.

        h = 1/M sum_m l(x0_hat + r z_m),    r_i^2 = sigma^2 v_i / (sigma^2 + v_i)

    r is the posterior deviation of each coordinate if the law were Gaussian with variance v. The
    draws z_m are the same in every call, so h is a function; they come in pairs z, -z and have unit
    second moment in every coordinate, so a linear l and a sum of squares are averaged exactly.

    Args:
        weight: l, evaluated M times a sample.
        variance: v, event_shape.
        draws: M, even.
        generator: Source of z.
    Raises:
        ValueError: `draws` is odd or below 2.
    """

    def __init__(
        self, weight: Weight, variance: Tensor, *, draws: int = 8, generator: torch.Generator
    ) -> None:
        if draws < 2 or draws % 2:
            raise ValueError(f"draws must be even, in pairs z and -z, and at least 2; got {draws}.")
        z = torch.randn(draws // 2, *variance.shape, generator=generator, dtype=torch.float64)
        z = z / z.square().mean(0).sqrt()
        self.weight, self.variance, self.z = weight, variance, torch.cat([z, -z])
        self.name = f"smoothed twist of {draws} draws"

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        v, level = self.variance.to(x0_hat), per_sample(sigma, x0_hat)
        radius = level * (v / (v + level**2)).sqrt()
        around = x0_hat + radius * self.z.to(x0_hat)[:, None]  # (M, N, *event_shape)
        log_l = self.weight.log_l(around.flatten(0, 1)).unflatten(0, around.shape[:2])
        return log_l.logsumexp(0) - math.log(len(self.z))


class Guidance(NamedTuple):
    """What a twist makes of a noisy sample.

    Attributes:
        x0_hat: D(x, sigma) of the base law.
        shift: sigma^2 grad log h, the shape of x; x0_hat + shift is the guided denoiser.
        log_h: (N,).
    """

    x0_hat: Tensor
    shift: Tensor
    log_h: Tensor


class GuidedDenoiser:
    """D_q = D + sigma^2 grad log h: a denoiser of the target law, for every chain.

    "backward" is the exact gradient, by one backward pass through D. "finite_difference" is the
    paper's, with g the gradient of log h in x0_hat and eps ||g|| = difference * sigma:

        D_q = D + sigma^2 {[D(x + eps g) - D(x)] / eps + grad_x log h}

    In variance-preserving variables X = alpha x and for h = l(x0_hat) that is the published score
    s + g/sqrt(abar) + (1 - abar) [s(X + eps' g) - s(X)] / (eps' sqrt(abar)) with eps' = alpha eps:
    the bare g cancels against the identity in grad D = I + sigma^2 grad s.

    Args:
        denoiser: D of the base law; a call costs two evaluations of it with either gradient.
        twist: h.
        gradient: How grad log h is found.
        difference: Step of the finite difference in units of sigma.
    Source: Kim, Lee, Kim, de Veciana, "Importance Sampling via Score-based Generative Models",
        algorithm 1; the finite difference approximates J g where J^T g is meant.
    """

    def __init__(
        self,
        denoiser: Denoiser,
        twist: Twist,
        *,
        gradient: GradientName = "backward",
        difference: float = 0.005,
    ) -> None:
        if gradient not in get_args(GradientName):
            hint = did_you_mean(gradient, get_args(GradientName))
            raise CsiAuditError(f"gradient must be a known one; got {gradient!r}.{hint}")
        if not 0 < difference < 1:
            raise ValueError(f"difference must lie in (0, 1), in units of sigma; got {difference}.")
        self.denoiser, self.twist = denoiser, twist
        self.gradient, self.difference = gradient, difference
        self.event_shape = denoiser.event_shape

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        found = self.guidance(x, sigma)
        return found.x0_hat + found.shift

    def guidance(self, x: Tensor, sigma: Tensor | float) -> Guidance:
        """The denoised mean, the shift and log h apart, for whoever weighs the particles.

        Raises:
            GradientError: some gradient of log h is not finite (names the sample).
        """
        if self.gradient == "finite_difference":
            return self._finite_difference(x, sigma)
        found = value_and_gradient(self.denoiser, x, sigma, self.twist.log_h)
        shift = per_sample(sigma, x) ** 2 * _finite(found.gradient, "log h")
        return Guidance(found.x0_hat, shift, found.value)

    def _finite_difference(self, x: Tensor, sigma: Tensor | float) -> Guidance:
        x0_hat = self.denoiser(x, sigma)
        with torch.inference_mode(False), torch.enable_grad():
            point, at = (t.detach().clone().requires_grad_(True) for t in (x, x0_hat))
            log_h = self.twist.log_h(point, sigma, at)
            own, g = (
                torch.zeros_like(x) if part is None else _finite(part, "log h")
                for part in gradients(log_h, point, at)
            )
        level = per_sample(sigma, x)
        norm = g.flatten(1).norm(dim=1).clamp_min(1e-30).view_as(level)
        eps = self.difference * level / norm
        difference = (self.denoiser(x + eps * g, sigma) - x0_hat) / eps
        return Guidance(x0_hat, level**2 * (difference + own), log_h.detach())


def unguided(denoiser: Denoiser) -> Denoiser:
    """The denoiser of the base law under a guided one; any other as it is."""
    return denoiser.denoiser if isinstance(denoiser, GuidedDenoiser) else denoiser


def gradient_log_l(weight: Weight, x: Tensor) -> Tensor:
    """grad log l at each sample, the shape of x.

    Raises:
        GradientError: some gradient is not finite (names the sample).
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        (g,) = torch.autograd.grad(weight.log_l(leaf).sum(), leaf)
    return _finite(g, "log l")


def _finite(g: Tensor, name: str) -> Tensor:
    """g itself; GradientError that names the first sample whose gradient is not finite."""
    bad = ~torch.isfinite(g.flatten(1)).all(1)
    if bool(bad.any()):
        index = int(torch.nonzero(bad)[0])
        raise GradientError(
            f"the gradient of {name} must be finite; sample {index} has NaN or infinity. "
            "Does the weight divide by the power of a nearly empty channel?"
        )
    return g
