"""Twists: how a chain on noisy samples is led towards l(x0).

Exactly, grad log q_sigma = grad log p_sigma + grad log E[l(x0) | x_sigma]. A twist h approximates
that expectation; a `GuidedDenoiser` turns it into a denoiser of the target law.
"""

import torch
from torch import Tensor

from csi_audit.diffusion import Denoiser, per_sample
from csi_audit.weights import Weight


class GuidedDenoiser:
    """The paper's twist: l at the Tweedie mean, its Hessian product by a finite difference.

        D_q = D + sigma^2 [D(x + eps g) - D(x)] / eps,    g = grad log l at x0_hat = D(x, sigma)

    with eps ||g|| = difference * sigma. In variance-preserving variables X = alpha x this is the
    published score s + g/sqrt(abar) + (1 - abar) [s(X + eps' g) - s(X)] / (eps' sqrt(abar)) with
    eps' = alpha eps: the bare g cancels against the identity in grad D = I + sigma^2 grad s.

    Args:
        denoiser: D of the base law; two evaluations a call.
        weight: l, differentiable.
        difference: Step of the finite difference in units of sigma.
    Source: Kim, Lee, Kim, de Veciana, "Importance Sampling via Score-based Generative Models",
        algorithm 1; the finite difference approximates J g where J^T g is meant.
    """

    def __init__(self, denoiser: Denoiser, weight: Weight, *, difference: float = 0.005) -> None:
        if not 0 < difference < 1:
            raise ValueError(f"difference must lie in (0, 1), in units of sigma; got {difference}.")
        self.denoiser, self.weight, self.difference = denoiser, weight, difference
        self.event_shape = denoiser.event_shape

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        x0_hat = self.denoiser(x, sigma)
        g = gradient_log_l(self.weight, x0_hat)
        level = per_sample(sigma, x)
        norm = g.flatten(1).norm(dim=1).clamp_min(1e-30).view_as(level)
        eps = self.difference * level / norm
        difference = (self.denoiser(x + eps * g, sigma) - x0_hat) / eps
        return x0_hat + level**2 * difference


def gradient_log_l(weight: Weight, x: Tensor) -> Tensor:
    """grad log l at each sample, the shape of x.

    Raises:
        ValueError: some gradient is not finite (names the sample).
    """
    with torch.inference_mode(False), torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        (g,) = torch.autograd.grad(weight.log_l(leaf).sum(), leaf)
    bad = ~torch.isfinite(g.flatten(1)).all(1)
    if bool(bad.any()):
        index = int(torch.nonzero(bad)[0])
        raise ValueError(
            f"the gradient of log l must be finite; sample {index} has NaN or infinity. "
            "Does the weight divide by the power of a nearly empty channel?"
        )
    return g
