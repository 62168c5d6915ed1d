"""Chains that turn noise into samples, given any denoiser, and the samplers built of them.

All chains step down a grid of noise levels sigma in x_sigma = x0 + sigma eps and end with one
unguided denoising step at the lowest level. Guidance is a denoiser too (csi_audit.twists), so each
chain runs it unchanged.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from channels.support import CsiAuditError, did_you_mean
from csi_audit.base import Base
from csi_audit.diffusion import Denoiser
from csi_audit.evaluating import CountedDenoiser, Progress
from csi_audit.samples import Law, WeightedSamples
from csi_audit.schedules import VpLinear
from csi_audit.twists import GradientName, GuidedDenoiser, TweedieTwist, Twist, unguided
from csi_audit.weights import Weight, log_l_in_blocks


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
    return unguided(denoiser)(x, float(sigmas[-1]))


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
    return unguided(denoiser)(x, float(sigmas[-1]))


def sde_2m(denoiser: Denoiser, x: Tensor, sigmas: Tensor, *, generator: torch.Generator) -> Tensor:
    """Second-order SDE: the ancestral step with the multistep slope of `ode_2m`.

        q = 1 - (s' / s)^2,   h = log(s / s'),   r = h / (2 h_previous), 0 on the first step
        x <- (1 - q) x + q [D + r (D - D_previous)] + s' sqrt(q) eps

    Source: SDE-DPM-Solver++ 2M, Lu et al., 2022, arXiv:2211.01095, in its sigma form.
    """
    previous, h_previous = None, 1.0
    for s, s_next in pairwise(sigmas.tolist()):
        d, h, q = denoiser(x, s), math.log(s / s_next), 1 - (s_next / s) ** 2
        slope = d if previous is None else d + h / (2 * h_previous) * (d - previous)
        noise = torch.randn(x.shape, generator=generator)
        x = (1 - q) * x + q * slope + s_next * math.sqrt(q) * noise
        previous, h_previous = d, h
    return unguided(denoiser)(x, float(sigmas[-1]))


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


ChainName = Literal["ode_2m", "ancestral", "sde_2m"]
CHAINS: Mapping[ChainName, str] = {
    "ode_2m": "probability-flow ODE (2M)",
    "ancestral": "ancestral chain",
    "sde_2m": "second-order SDE (2M)",
}
"""Chains on a grid of noise levels, in words for reports."""


def run_chain(
    chain: ChainName, denoiser: Denoiser, x: Tensor, sigmas: Tensor, *, generator: torch.Generator
) -> Tensor:
    """x at sigmas[0] to samples, by the chain of that name; the ODE draws nothing."""
    if chain == "ode_2m":
        return ode_2m(denoiser, x, sigmas)
    rule = ancestral if chain == "ancestral" else sde_2m
    return rule(denoiser, x, sigmas, generator=generator)


class BaseSampler:
    """Draws of the base law p under one chain; all weights are equal.

    Args:
        base: Its denoiser, start and noise levels.
        steps: Noise levels visited, so denoiser evaluations a sample.
        chain: "ode_2m" (the audited law), "sde_2m" or "ancestral".
        device, batch_size, progress: See `CountedDenoiser`.
    """

    law: Law = "base"

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
        if chain not in CHAINS:
            hint = did_you_mean(chain, tuple(CHAINS))
            raise CsiAuditError(f"chain must be a known one; got {chain!r}.{hint}")
        self.base, self.chain = base, chain
        self.sigmas = sigma_grid(base.sigma_max, base.sigma_min, steps)
        self.denoiser = CountedDenoiser(
            base.denoiser, device=device, batch_size=batch_size, progress=progress
        )
        self.moved_by: Denoiser = self.denoiser

    @property
    def name(self) -> str:
        """The chain in words, for reports."""
        return f"{CHAINS[self.chain]}, {len(self.sigmas)} steps"

    def __call__(self, n: int, *, generator: torch.Generator) -> WeightedSamples:
        before = self.denoiser.evaluations
        x = start(self.base.variance, self.base.sigma_max, n, generator=generator)
        x = run_chain(self.chain, self.moved_by, x, self.sigmas, generator=generator)
        return WeightedSamples(
            x=x,
            log_w=torch.zeros(n, dtype=torch.float64),
            law=self.law,
            chain=self.name,
            n_evaluations=self.denoiser.evaluations - before,
        )


class GuidedSampler(BaseSampler):
    """Draws led towards q by a twist, without correction: its law is q only as far as h is exact.

    A stochastic chain forgets what it was told wrongly at high noise, where twists are rough. The
    ODE forgets nothing, so any error of h is a bias of its samples, and its `name` says so; with
    weights that repair it see csi_audit.twisted_smc.

    Args:
        base: Its denoiser, start and noise levels.
        twist: h(x, sigma), about E[l(x0) | x_sigma].
        steps: Noise levels; two denoiser evaluations each but the last.
        chain: See `BaseSampler`; "ode_2m" for twists known to be exact.
        gradient: See `GuidedDenoiser`.
        device, batch_size, progress: See `CountedDenoiser`.
    """

    law: Law = "target"

    def __init__(
        self,
        base: Base,
        twist: Twist,
        *,
        steps: int = 40,
        chain: ChainName = "sde_2m",
        gradient: GradientName = "backward",
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> None:
        super().__init__(
            base, steps=steps, chain=chain, device=device, batch_size=batch_size, progress=progress
        )
        self.twist = twist
        self.moved_by = GuidedDenoiser(self.denoiser, twist, gradient=gradient)

    @property
    def name(self) -> str:
        """The chain in words, for reports."""
        led = f"{super().name}, guided by the {self.twist.name}"
        return led if self.chain != "ode_2m" else f"{led}: biased by any error of the twist"


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
        self.guided = GuidedDenoiser(
            self.denoiser,
            TweedieTwist(weight),
            gradient="finite_difference",
            difference=difference,
        )
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
    log_l = log_l_in_blocks(weight, samples.x)
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
    log_l = log_l_in_blocks(weight, samples.x)
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
