"""Chains that turn noise into samples, given any denoiser, and the samplers built of them.

All chains step down a grid of noise levels sigma in x_sigma = x0 + sigma eps and end with one
unguided denoising step at the lowest level. Guidance is a denoiser too (csi_audit.twists), so each
chain runs it unchanged.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from channels.support import CsiAuditError, did_you_mean
from csi_audit.base import Base
from csi_audit.diffusion import Denoiser
from csi_audit.samples import WeightedSamples
from csi_audit.schedules import VpLinear
from csi_audit.twists import GuidedDenoiser
from csi_audit.weights import Weight

Progress = Callable[[int], None]
"""Called with the number of denoiser evaluations just made."""


class CountedDenoiser:
    """A denoiser in batches that fit the memory, on its device, with its evaluations counted.

    Args:
        denoiser: What is evaluated.
        device: Where; samples live on the CPU.
        batch_size: Samples a call; changes nothing but rounding.
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
        level = torch.as_tensor(sigma, dtype=x.dtype).expand(len(x))
        parts = []
        for batch, s in zip(x.split(self.batch_size), level.split(self.batch_size), strict=True):
            with torch.inference_mode():
                parts.append(self.inner(batch.to(self.device), s.to(self.device)).to(x.device))
            self.evaluations += len(batch)
            if self.progress is not None:
                self.progress(len(batch))
        return torch.cat(parts)  # outside inference mode: an ordinary tensor


def sigma_grid(sigma_max: float, sigma_min: float, steps: int) -> Tensor:
    """`steps` noise levels uniform in log sigma from sigma_max down to sigma_min, float64.

    Raises:
        CsiAuditError: fewer than 2 steps, or the levels are not descending and positive.
    """
    if steps < 2:
        raise CsiAuditError(f"steps must be at least 2; got {steps}. 30 to 60 are usual.")
    if not 0 < sigma_min < sigma_max:
        raise CsiAuditError(
            f"sigma_min and sigma_max must ascend from 0; got {sigma_min} and {sigma_max}."
        )
    ends = (math.log(sigma_max), math.log(sigma_min))
    return torch.linspace(*ends, steps, dtype=torch.float64).exp()


def start(variance: Tensor, sigma_max: float, n: int, *, generator: torch.Generator) -> Tensor:
    """x at sigma_max, (n, *event_shape): N(0, sigma_max^2 + v_i) in each coordinate."""
    noise = torch.randn(n, *variance.shape, generator=generator)
    return noise * (sigma_max**2 + variance.to(noise)).sqrt()


def ode_2m(denoiser: Denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    """Probability-flow ODE by the second-order multistep rule in log sigma.

        h = log(s_k / s_k+1),  r = h / (2 h_previous), 0 on the first step
        x <- (s_k+1 / s_k) x + (1 - s_k+1 / s_k) [D + r (D - D_previous)]

    Source: DPM-Solver++ 2M, Lu et al., 2022, arXiv:2211.01095, in its sigma form.
    """
    previous, h_previous = None, 1.0
    for s, s_next in pairwise(sigmas.tolist()):
        d, h = denoiser(x, s), math.log(s / s_next)
        slope = d if previous is None else d + h / (2 * h_previous) * (d - previous)
        x = s_next / s * x + (1 - s_next / s) * slope
        previous, h_previous = d, h
    return denoiser(x, float(sigmas[-1]))


def ancestral(
    denoiser: Denoiser, x: Tensor, sigmas: Tensor, *, generator: torch.Generator
) -> Tensor:
    """Ancestral chain: the exact posterior step if x0 were the denoised mean.

        q = 1 - (s' / s)^2,   x <- (1 - q) x + q D + s' sqrt(q) eps

    Source: Ho et al., 2020, arXiv:2006.11239, in the sigma coordinate.
    """
    for s, s_next in pairwise(sigmas.tolist()):
        q = 1 - (s_next / s) ** 2
        noise = torch.randn(x.shape, generator=generator)
        x = (1 - q) * x + q * denoiser(x, s) + s_next * math.sqrt(q) * noise
    return denoiser(x, float(sigmas[-1]))


@dataclass(frozen=True, kw_only=True)
class VpTimes:
    """Uniform times of the DDPM schedule between the noise levels a base was trained on."""

    steps: int
    sigma_max: float
    sigma_min: float
    schedule: VpLinear = field(default_factory=VpLinear)

    def pairs(self) -> Iterator[tuple[Tensor, Tensor]]:
        """(t, t_next), descending."""
        ends = [self._time(s) for s in (self.sigma_max, self.sigma_min)]
        times = torch.linspace(ends[0], ends[1], self.steps + 1, dtype=torch.float64)
        return pairwise(times)

    def _time(self, sigma: float) -> float:
        """t with sigma(t) = sigma: 0.5 t^2 (b1 - b0) + t b0 = log(1 + sigma^2)."""
        low, span = self.schedule.beta_min, self.schedule.beta_max - self.schedule.beta_min
        return (math.sqrt(low**2 + 2 * span * math.log1p(sigma**2)) - low) / span


def euler_maruyama(
    denoiser: Denoiser, x: Tensor, times: VpTimes, *, generator: torch.Generator
) -> Tensor:
    """Reverse-time variance-preserving SDE by Euler-Maruyama, the chain of the ISSGM paper.

        X = alpha x,  s = (D(x, sigma) - x) / (alpha sigma^2)
        X <- X + [X/2 + s] beta dt + sqrt(beta dt) eps

    Args:
        denoiser: Plain or guided.
        x: Start in the sigma coordinate, at times.sigma_max.
        times: Schedule and number of steps.
        generator: Source of eps.
    """
    schedule = times.schedule
    for t, t_next in times.pairs():
        alpha, sigma = float(schedule.alpha(t)), float(schedule.sigma(t))
        rate = float(schedule.beta(t)) * float(t - t_next)
        score = (denoiser(x, sigma) - x) / (alpha * sigma**2)
        noise = torch.randn(x.shape, generator=generator)
        vp = alpha * x + (0.5 * alpha * x + score) * rate + math.sqrt(rate) * noise
        x = vp / float(schedule.alpha(t_next))
    return x


ChainName = Literal["ode_2m", "ancestral"]


class BaseSampler:
    """Draws of the base law p under one chain; all weights are equal.

    Args:
        base: Its denoiser, start and noise levels.
        steps: Noise levels visited, so denoiser evaluations a sample.
        chain: "ode_2m" (the audited law) or "ancestral".
        device, batch_size, progress: See `CountedDenoiser`.
    """

    def __init__(
        self,
        base: Base,
        *,
        steps: int = 30,
        chain: ChainName = "ode_2m",
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> None:
        if chain not in get_args(ChainName):
            hint = did_you_mean(chain, get_args(ChainName))
            raise CsiAuditError(f"chain must be a known one; got {chain!r}.{hint}")
        self.base, self.chain = base, chain
        self.sigmas = sigma_grid(base.sigma_max, base.sigma_min, steps)
        self.denoiser = CountedDenoiser(
            base.denoiser, device=device, batch_size=batch_size, progress=progress
        )

    @property
    def name(self) -> str:
        """The chain in words, for reports."""
        rule = "probability-flow ODE (2M)" if self.chain == "ode_2m" else "ancestral chain"
        return f"{rule}, {len(self.sigmas)} steps"

    def __call__(self, n: int, *, generator: torch.Generator) -> WeightedSamples:
        before = self.denoiser.evaluations
        x = start(self.base.variance, self.base.sigma_max, n, generator=generator)
        if self.chain == "ode_2m":
            x = ode_2m(self.denoiser, x, self.sigmas)
        else:
            x = ancestral(self.denoiser, x, self.sigmas, generator=generator)
        return WeightedSamples(
            x=x,
            log_w=torch.zeros(n, dtype=torch.float64),
            law="base",
            chain=self.name,
            n_evaluations=self.denoiser.evaluations - before,
        )


class IssgmSampler:
    """The paper's algorithm: Tweedie twist by finite difference, DDPM schedule, Euler-Maruyama.

    No correction: its samples follow q only approximately, and their weights are all equal.

    Args:
        base: Base model.
        weight: l(x), defined on denoised means (see csi_audit.weights).
        steps: Euler-Maruyama steps; two denoiser evaluations each.
        difference: Finite-difference step, eps ||g|| = difference * sigma.
        device, batch_size, progress: See `CountedDenoiser`.
    Source: Kim, Lee, Kim, de Veciana, "Importance Sampling via Score-based Generative Models".
    """

    def __init__(
        self,
        base: Base,
        weight: Weight,
        *,
        steps: int = 1000,
        difference: float = 0.005,
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> None:
        self.base = base
        self.denoiser = CountedDenoiser(
            base.denoiser, device=device, batch_size=batch_size, progress=progress
        )
        self.guided = GuidedDenoiser(self.denoiser, weight, difference=difference)
        self.times = VpTimes(steps=steps, sigma_max=base.sigma_max, sigma_min=base.sigma_min)

    @property
    def name(self) -> str:
        """The chain in words, for reports."""
        step = self.guided.difference
        return f"issgm, {self.times.steps} steps, finite difference {step:g} sigma"

    def __call__(self, n: int, *, generator: torch.Generator) -> WeightedSamples:
        before = self.denoiser.evaluations
        x = start(self.base.variance, self.base.sigma_max, n, generator=generator)
        x = euler_maruyama(self.guided, x, self.times, generator=generator)
        x = self.denoiser(x, self.base.sigma_min)
        return WeightedSamples(
            x=x,
            log_w=torch.zeros(n, dtype=torch.float64),
            law="target",
            chain=self.name,
            n_evaluations=self.denoiser.evaluations - before,
        )


def reweighted(samples: WeightedSamples, weight: Weight) -> WeightedSamples:
    """Samples of p as samples of q: the same particles with log_w + log l.

    ESS/N = 1 / (1 + CV(l)^2); exact as N grows.

    Raises:
        ValueError: the samples are not of the base law.
    """
    if samples.law != "base":
        raise ValueError(f"samples must be of the base law; got {samples.law!r}.")
    log_l = _log_l(weight, samples.x)
    return WeightedSamples(
        x=samples.x,
        log_w=samples.log_w + log_l,
        law="target",
        chain=f"{samples.chain}, reweighted",
        n_evaluations=samples.n_evaluations,
    )


def rejection(
    samples: WeightedSamples, weight: Weight, *, log_bound: float, generator: torch.Generator
) -> WeightedSamples:
    """Independent exact draws of q from draws of p: keep x with probability l(x) / bound.

    Args:
        samples: Equally weighted draws of p.
        weight: l(x).
        log_bound: Log of a bound on l.
        generator: Source of the acceptance draws.
    Raises:
        CsiAuditError: some l exceeds the bound or is NaN, or nothing is accepted.
        ValueError: the samples are not of the base law.
    """
    if samples.law != "base":
        raise ValueError(f"samples must be of the base law; got {samples.law!r}.")
    log_l = _log_l(weight, samples.x)
    if bool(log_l.isnan().any()):
        index = int(torch.nonzero(log_l.isnan())[0])
        raise CsiAuditError(f"log l must not be NaN; sample {index} is. -inf is legal.")
    if float(log_l.max()) > log_bound:
        raise CsiAuditError(
            f"log_bound must be at least the largest log l, {float(log_l.max()):.4g}; "
            f"got {log_bound:.4g}."
        )
    u = torch.rand(len(samples), generator=generator, dtype=torch.float64)
    kept = u.log() < log_l - log_bound
    if not bool(kept.any()):
        raise CsiAuditError(f"none of {len(samples)} samples was accepted; lower log_bound.")
    return WeightedSamples(
        x=samples.x[kept],
        log_w=torch.zeros(int(kept.sum()), dtype=torch.float64),
        law="target",
        chain=f"{samples.chain}, rejection",
        n_evaluations=samples.n_evaluations,
    )


@torch.inference_mode()
def _log_l(weight: Weight, x: Tensor, *, block: int = 500) -> Tensor:
    """log l of many samples without gradients, float64 (N,), on the CPU."""
    return torch.cat([weight.log_l(part).double().cpu() for part in x.split(block)])
