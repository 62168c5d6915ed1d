"""Normalising flows fitted to q = l p / Z by weighted maximum likelihood: the trained baselines.

    maximise E_p[l(x) log q_phi(x)]

over fresh samples of p in every step, so no baseline overfits and none lacks data. The flows are
zuko's; it offers masked autoregressive (affine) and rational-quadratic spline flows, and neither
piecewise-quadratic nor piecewise-cubic couplings, so these two rows of the paper's table are not
remade. In the plane a coupling and an autoregressive transform are one: the first coordinate is
mapped alone, the second given the first. The plain autoregressive model is one such step with many
bins, q(x_1) q(x_2 | x_1), in place of the paper's transformer.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import torch
import zuko
from torch import Tensor

from channels.randomness import seeded_generator
from csi_audit.weights import Weight

FlowName = Literal["MAF", "NSF", "autoregressive"]
Draw = Callable[[int, torch.Generator], Tensor]
"""draw(n, generator) -> samples of p, (n, 2)."""

PILOT = 20_000


def build_flow(name: FlowName, *, seed: int) -> Any:
    """An untrained flow of two dimensions."""
    builders: dict[FlowName, Callable[[], Any]] = {
        "MAF": lambda: zuko.flows.MAF(2, transforms=3, hidden_features=(64, 64)),
        "NSF": lambda: zuko.flows.NSF(2, transforms=3, bins=16, hidden_features=(64, 64)),
        "autoregressive": lambda: zuko.flows.NSF(
            2, transforms=1, bins=64, hidden_features=(128, 128)
        ),
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)  # zuko draws its first parameters from the global generator
        return builders[name]()


@dataclass(frozen=True)
class FittedFlow:
    """A flow of standardised samples y = (x - mean) / deviation.

    Attributes:
        flow: Of y.
        mean, deviation: Of p, (2,).
    """

    flow: Any
    mean: Tensor
    deviation: Tensor

    @torch.no_grad()
    def draw(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n samples of the flow, float32 (n, 2)."""
        z = torch.randn(n, 2, generator=generator)
        return self.mean + self.deviation * self.flow().transform.inv(z)

    @torch.no_grad()
    def log_density(self, x: Tensor) -> Tensor:
        """log q_phi(x), (N,)."""
        y = (x - self.mean) / self.deviation
        found: Tensor = self.flow().log_prob(y) - self.deviation.log().sum()
        return found


def fit_flow(
    name: FlowName,
    draw: Draw,
    weight: Weight,
    *,
    seed: int,
    steps: int = 1000,
    batch: int = 512,
    learning_rate: float = 5e-3,
) -> FittedFlow:
    """Fit by Adam on a cosine schedule; a function of its arguments alone.

    Args:
        name: Which flow.
        draw: Samples of p.
        weight: l; only its values count, up to a factor.
        seed: Of the first parameters and of every batch.
        steps, batch, learning_rate: Of the fit.
    """
    generator = seeded_generator(seed, "flow", name)
    pilot = draw(PILOT, generator)
    mean, deviation = pilot.mean(0), pilot.std(0)
    log_scale = weight.log_l(pilot.double()).logsumexp(0) - math.log(PILOT)
    flow = build_flow(name, seed=int(torch.randint(2**31, (), generator=generator)))
    optimiser = torch.optim.Adam(flow.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for _ in range(steps):
        x = draw(batch, generator)
        w = (weight.log_l(x.double()) - log_scale).exp().to(x)
        loss = -(w * flow().log_prob((x - mean) / deviation)).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(flow.parameters(), 5.0)
        optimiser.step()
        schedule.step()
    return FittedFlow(flow, mean, deviation)
