"""Twisted sequential Monte Carlo: guided particles with exact weights, on independent islands.

Whatever the twist h, the weighted particles have the law l(x) p(x) / Z and the mean weight is an
unbiased estimate of Z = E_p[l], with p the law of the unguided chain at the same steps. The twist
decides how far the weights scatter. A high effective sample size is no evidence: with a poor twist
Z can lie low by half in nearly every run. Compare Z with E_p[l] of plain draws.
"""

import math
from collections.abc import Iterator
from itertools import pairwise
from typing import Literal, get_args

import torch
from torch import Tensor

from channels.support import CsiAuditError, did_you_mean
from csi_audit.base import Base
from csi_audit.evaluating import CountedDenoiser, Progress
from csi_audit.islands import Islands, IslandSamples, IslandWeights, log_mean
from csi_audit.sampling import CHAINS, sigma_grid, start
from csi_audit.twists import GradientName, Guidance, GuidedDenoiser, Twist
from csi_audit.weights import Weight, log_l_in_blocks

StochasticChain = Literal["sde_2m", "ancestral"]
Step = tuple[float, float, float]
"""sigma, the next sigma, and the share r of the multistep slope."""


class TwistedSmcSampler:
    """Particles of q = l p / Z under a stochastic chain, weighted and resampled.

        log w = log h(x, sigma_max) at the start
        x' = step of the chain + q [S + r (S - S_previous)],  S = s^2 grad log h,  q = 1 - (s'/s)^2
        log w += log N(x'; unguided) - log N(x'; guided) + log h(x', s') - log h(x, s)
        log w += log l(x0) - log h at the end, x0 = D(x, sigma_min)

    Within an island, systematic resampling sets the weights to their mean whenever
    ESS < `resample_below` of it. Islands share nothing, and each has a stream of random numbers
    of its own.

    Args:
        base: Base model.
        weight: l(x0), the one that counts: defined on samples, no gradient needed.
        twist: h(x, sigma), about E[l(x0) | x_sigma].
        steps: Noise levels, as for the unguided chain whose law is p.
        chain: "sde_2m" or "ancestral".
        island: Particles an island; n particles make n // island of them, as even as can be.
        resample_below: ESS over island size, in [0, 1].
        gradient: See `GuidedDenoiser`; the weights are exact for either.
        device, batch_size, progress: See `CountedDenoiser`. A guided step counts as two
            evaluations, the last as one.
    Source: Guarniero, Johansen, Lee, 2017, 10.1080/01621459.2016.1222291; Wu et al., 2023,
        arXiv:2306.17775.
    """

    def __init__(
        self,
        base: Base,
        weight: Weight,
        twist: Twist,
        *,
        steps: int = 40,
        chain: StochasticChain = "sde_2m",
        island: int = 250,
        resample_below: float = 0.5,
        gradient: GradientName = "backward",
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> None:
        if chain not in get_args(StochasticChain):
            hint = did_you_mean(chain, get_args(StochasticChain))
            raise CsiAuditError(f"chain must be a stochastic one; got {chain!r}.{hint}")
        if island < 2:
            raise CsiAuditError(f"island must be at least 2 particles; got {island}.")
        if not 0 <= resample_below <= 1:
            raise CsiAuditError(f"resample_below must lie in [0, 1]; got {resample_below}.")
        self.base, self.weight, self.twist = base, weight, twist
        self.chain, self.island, self.resample_below = chain, island, resample_below
        self.sigmas = sigma_grid(base.sigma_max, base.sigma_min, steps)
        self.denoiser = CountedDenoiser(
            base.denoiser, device=device, batch_size=batch_size, progress=progress
        )
        self.guided = GuidedDenoiser(self.denoiser, twist, gradient=gradient)

    @property
    def name(self) -> str:
        """The chain in words, for reports."""
        return (
            f"twisted SMC on the {CHAINS[self.chain]}, {len(self.sigmas)} steps, "
            f"{self.twist.name}, islands of {self.island}"
        )

    def __call__(self, n: int, *, generator: torch.Generator) -> IslandSamples:
        before = self.denoiser.evaluations
        islands = Islands(n, self.island, generator=generator)
        x, weights = self._run(islands)
        log_w = weights.absolute()
        return IslandSamples(
            x=x,
            log_w=log_w,
            law="target",
            chain=self.name,
            log_z=float(log_mean(log_w)),
            n_evaluations=self.denoiser.evaluations - before,
            island=islands.index,
            ancestor=weights.ancestor,
        )

    def _run(self, islands: Islands) -> tuple[Tensor, IslandWeights]:
        """Samples of all islands and their weights."""
        x = islands.draw(self._start)
        now = self.guided.guidance(x, float(self.sigmas[0]))
        previous = now
        weights = IslandWeights(islands, self._first_weight(now))
        *steps, last = self._steps()
        for step in steps:
            x, log_ratio = self._move(x, now, previous, step, islands)
            after = self.guided.guidance(x, step[1])
            weights.add(log_ratio + _log_h(after) - _log_h(now))
            previous, now = now, after
            kept = weights.resample(self.resample_below)
            if kept is not None:
                x = x[kept]
                previous, now = (Guidance(*(part[kept] for part in g)) for g in (previous, now))
        x, log_ratio = self._move(x, now, previous, last, islands)
        x0 = self.denoiser(x, last[1])
        weights.add(log_ratio + log_l_in_blocks(self.weight, x0) - _log_h(now))
        return x0, weights

    def _start(self, n: int, generator: torch.Generator) -> Tensor:
        return start(self.base.variance, self.base.sigma_max, n, generator=generator)

    def _first_weight(self, guidance: Guidance) -> Tensor:
        """Without log h of the start Z comes out near 1 instead of E_p[l]."""
        return _log_h(guidance)

    def _steps(self) -> Iterator[Step]:
        """Every step with the share of its multistep slope; 0 on the first and for "ancestral"."""
        h_previous = math.inf
        for s, s_next in pairwise(self.sigmas.tolist()):
            h = math.log(s / s_next)
            yield s, s_next, h / (2 * h_previous) if self.chain == "sde_2m" else 0.0
            h_previous = h

    def _move(
        self, x: Tensor, now: Guidance, previous: Guidance, step: Step, islands: Islands
    ) -> tuple[Tensor, Tensor]:
        """One guided step and log N(x'; unguided step) - log N(x'; guided step), (N,).

        With x' = mean + d u + d eps, d = s' sqrt(q), that is -(u . eps + |u|^2 / 2).
        """
        s, s_next, r = step
        q = 1 - (s_next / s) ** 2
        d = s_next * math.sqrt(q)
        mean = (1 - q) * x + q * (now.x0_hat + r * (now.x0_hat - previous.x0_hat))
        u = q / d * (now.shift + r * (now.shift - previous.shift))
        eps = islands.draw(lambda n, g: torch.randn(n, *x.shape[1:], generator=g, dtype=x.dtype))
        log_ratio = -(u * (eps + u / 2)).flatten(1).double().sum(1)
        return mean + d * (u + eps), log_ratio


def _log_h(guidance: Guidance) -> Tensor:
    return guidance.log_h.double().cpu()
