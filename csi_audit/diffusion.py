"""Denoisers D(x, sigma) = E[x0 | x0 + sigma eps = x]: the trained one and closed forms for truth.

Everything works on x_sigma = x0 + sigma eps with sigma in the units of x; csi_audit.schedules maps
the times of DDPM, score-SDE and EDM to sigma. The score of the noised law is (D - x) / sigma^2.
"""

import math
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from channels.support import CsiAuditError


class Denoiser(Protocol):
    """E[x0 | x_sigma]. x is (N, *event_shape), sigma a number or (N,); returns the shape of x."""

    event_shape: tuple[int, ...]

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor: ...


def per_sample(sigma: Tensor | float, x: Tensor) -> Tensor:
    """sigma as (N, 1, ..., 1) in the dtype and on the device of x."""
    level = torch.as_tensor(sigma, dtype=x.dtype, device=x.device).expand(len(x))
    return level.reshape(-1, *[1] * (x.ndim - 1))


def wiener_error(variance: Tensor, sigma: Tensor | float, x: Tensor) -> Tensor:
    """Mean squared error a coefficient of the best linear denoiser of independent coefficients.

    Args:
        variance: v of each coefficient, event_shape.
        sigma: Noise level, a number or (N,).
        x: (N, *event_shape); gives number, dtype and device.
    Returns:
        mean v sigma^2 / (v + sigma^2), (N,): the scale of the training loss.
    """
    square = per_sample(sigma, x) ** 2
    return (square * variance / (variance + square)).flatten(1).mean(1)


@dataclass(frozen=True, kw_only=True)
class Contrast:
    """How far a denoiser is led on, away from the best linear one.

        1 + w(sigma),      w = amount exp(-(log sigma - log centre)^2 / (2 width^2))

    A network that has not the capacity for the posterior mean learns something between it and the
    linear denoiser; its channels spread their power over too many beams. What it learnt beyond the
    linear denoiser is taken 1 + w times. That is the guidance of a model by a worse one, which here
    is known in closed form and costs nothing.

    Attributes:
        amount: Largest w.
        centre: Noise level where it is reached, in the units of x.
        width: Of the bump in log sigma.
    Raises:
        CsiAuditError: a number is out of its range.
    Source: Karras et al., 2024, arXiv:2406.02507 (a worse version of the same network); Ning et
        al., 2024, arXiv:2308.15321 (a factor on the predicted noise, for the same reason).
    """

    amount: float
    centre: float = 3.0
    width: float = 1.0

    def __post_init__(self) -> None:
        if not abs(self.amount) < 1:
            raise CsiAuditError(f"amount must lie in (-1, 1); got {self.amount}. 0.1 is usual.")
        for name in ("centre", "width"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value > 0):
                raise CsiAuditError(f"{name} must be finite and above 0; got {value}.")

    def factor(self, sigma: Tensor) -> Tensor:
        """1 + w of each noise level."""
        away = (sigma.log() - math.log(self.centre)) / self.width
        return 1 + self.amount * (-0.5 * away.square()).exp()


class PreconditionedDenoiser(nn.Module):
    """A network around the best linear denoiser of each coefficient.

        D = c_skip x + (1 + w) [(1 - c_skip) g x + c_out f]
        (f, g) = network(features(x), log sigma)
        c_skip = v / (v + sigma^2),  c_out = sigma sqrt(v / (v + sigma^2))

    v is the variance of each coefficient in the training data, so early delay taps and late ones
    are seen at one scale. With f = g = 0 this is the Wiener filter; the gate g moves a coefficient
    between that and the identity, which the heavy tails of channels need (a tap that is empty for
    most users can be strong for one).

    Args:
        network: Maps (N, 5 n_rx, n_tx, n_delay) and log sigma (N,) to (N, 3 n_rx, n_tx, n_delay).
        variance: v, (2 n_rx, n_tx, n_delay), positive.
        contrast: Gives w; None is w = 0, as in training.
    Source: the constants of Karras et al., 2022, arXiv:2206.00364, taken per coefficient.
    """

    variance: Tensor

    def __init__(
        self, network: nn.Module, variance: Tensor, *, contrast: Contrast | None = None
    ) -> None:
        super().__init__()
        self.network, self.contrast = network, contrast
        self.register_buffer("variance", variance.clone())
        self.event_shape = tuple(int(n) for n in variance.shape)

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level, v = per_sample(sigma, x), self.variance
        total = v + level**2
        maps = self.network(_features(x / total.sqrt()), level.flatten().log())
        f, gate = maps.to(x.dtype).split([x.shape[1], x.shape[1] // 2], dim=1)
        c_skip, c_out = v / total, level * (v / total).sqrt()
        more = 1.0 if self.contrast is None else self.contrast.factor(level)
        gate = more * gate.repeat_interleave(2, dim=1)
        return (c_skip + (1 - c_skip) * gate) * x + c_out * (more * f)


def _features(y: Tensor) -> Tensor:
    """Compressed and plain coefficients and log power, (N, 5 n_rx, ...): peaks reach 30 deviations
    and would drown the rest in one linear scale."""
    power = y.unflatten(1, (-1, 2)).square().sum(2)  # (N, n_rx, n_tx, n_delay)
    soft = y / (1 + power).sqrt().repeat_interleave(2, dim=1)
    return torch.cat([soft, 0.2 * y, power.log1p()], dim=1)


class GaussianDenoiser:
    """Closed form for x0 ~ N(mean, diag(variance)): the exact law for tests and baselines.

    D = mean + v / (v + sigma^2) (x - mean)
    """

    def __init__(self, mean: Tensor, variance: Tensor) -> None:
        self.mean, self.variance = mean, variance
        self.event_shape = tuple(int(n) for n in mean.shape)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level = per_sample(sigma, x)
        return self.mean + self.variance / (self.variance + level**2) * (x - self.mean)


class MixtureDenoiser:
    """Closed form for a mixture of isotropic Gaussians, sum_k pi_k N(mu_k, s_k^2 I).

        D = sum_k r_k(x) [mu_k + s_k^2 / (s_k^2 + sigma^2) (x - mu_k)]

    with r_k the posterior probability of component k given x_sigma = x.

    Args:
        weights: pi, (K,), sums to one.
        means: mu, (K, n).
        deviations: s, (K,).
    """

    def __init__(self, weights: Tensor, means: Tensor, deviations: Tensor) -> None:
        self.weights, self.means, self.deviations = weights, means, deviations
        self.event_shape: tuple[int, ...] = (int(means.shape[1]),)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        kept, log_r = self._responsibilities(x, sigma)
        r = log_r.softmax(1)
        return (r * kept).sum(1, keepdim=True) * x + (r * (1 - kept)) @ self.means.to(x)

    def posterior(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor, Tensor]:
        """The law of x0 given x_sigma = x, again a mixture.

        Returns:
            Log probabilities (N, K), means (N, K, n) and deviations (N, K) of its components.
        """
        kept, log_r = self._responsibilities(x, sigma)
        means = kept[..., None] * x[:, None] + (1 - kept)[..., None] * self.means.to(x)
        return log_r.log_softmax(1), means, per_sample(sigma, x) * kept.sqrt()

    def _responsibilities(self, x: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        """s_k^2 / (s_k^2 + sigma^2) and log r_k up to a constant, (N, K) each."""
        v = self.deviations.to(x) ** 2
        total = v + per_sample(sigma, x) ** 2
        means = self.means.to(x)
        # |x - mu|^2 by products: an (N, K, n) array of differences would be n times as large
        square = x.square().sum(1, keepdim=True) + means.square().sum(1) - 2 * x @ means.T
        log_r = self.weights.to(x).log() - 0.5 * (square / total + len(means[0]) * total.log())
        return v / total, log_r
