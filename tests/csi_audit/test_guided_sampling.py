"""Samples of guided chains: where they are those of the target law, where they are known not to be.

The corrected samplers are tested in test_twisted_smc.py.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from csi_audit.diffusion import GaussianDenoiser
from csi_audit.sampling import ChainName, GuidedSampler, IssgmSampler, ancestral, ode_2m, sde_2m
from csi_audit.toy_laws import ExactTwist, toy_base, toy_law
from csi_audit.toy_weights import l1, l2
from csi_audit.twists import GuidedDenoiser, TweedieTwist, Twist, unguided

Gate = Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]


@dataclass(frozen=True)
class Tilt:
    """l(x) = exp(a . x): a Gaussian N(mu, v) becomes N(mu + v a, v)."""

    a: Tensor

    def log_l(self, x: Tensor) -> Tensor:
        return x @ self.a


@dataclass(frozen=True)
class Square:
    """l(x) = |x|^2 / n + floor: convex, with its zero where the data are centred."""

    floor: float = 1e-9

    def log_l(self, x: Tensor) -> Tensor:
        return (x.square().flatten(1).mean(1) + self.floor).log()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


R = 40


@pytest.mark.statistical
def test_issgm_draws_the_tilted_gaussian(gate: Gate, gaussian: Any) -> None:
    """300 steps, a = 1 / deviation: each coordinate moves one deviation, all else stays."""
    deviation = gaussian.variance.sqrt()

    def draw(exponent: float, n: int, seed: int) -> Tensor:
        sampler = IssgmSampler(gaussian.base, Tilt(exponent / deviation), steps=300, batch_size=n)
        x = sampler(n, generator=seeded(seed)).x
        return ((x - gaussian.mean) / deviation).unflatten(0, (R, -1))

    z, mutant = draw(1.0, 36_000, 0), draw(0.95, 12_000, 1)
    gate(z.mean((1, 2)), 1.0, {"exponent x 0.95": mutant.mean((1, 2))})
    spread = (z - 1).square().mean((0, 1))
    assert torch.allclose(spread, torch.ones(6), atol=0.05)


@pytest.mark.statistical
def test_convex_weights_on_centred_data_overshoot(gate: Gate, gaussian: Any) -> None:
    """Why corrections exist. With l = |x|^2 / 2 on N(0, I) in two dimensions E_q[l] = 2, but the
    Tweedie twist makes the score -X + 2 X / |X|^2 at every level, whose chain settles at
    |x|^4 p(x), where E[l] = 3: half too high, whatever the number of steps."""
    law = type(gaussian)(mean=torch.zeros(2), variance=torch.ones(2), sigma_max=20.0)
    n = 16_000
    x = IssgmSampler(law.base, Square(), steps=300, batch_size=n)(n, generator=seeded(2)).x
    found = x.square().mean(1).unflatten(0, (R, -1)).mean(1)
    p = torch.randn(n, 2, generator=seeded(3)).square().mean(1).unflatten(0, (R, -1))
    true_q = (p * p).mean(1) / p.mean(1)
    gate(found, 3.0, {"the target law": true_q})


@pytest.mark.unit
def test_the_sampler_says_what_it_did(gaussian: Any) -> None:
    def draw(batch_size: int) -> Any:
        weight = Tilt(0.1 / gaussian.variance.sqrt())
        sampler = IssgmSampler(gaussian.base, weight, steps=20, batch_size=batch_size)
        return sampler(6, generator=seeded(0))

    samples = draw(6)
    assert samples.law == "target"
    assert samples.chain == "issgm, 20 steps, finite difference 0.005 sigma"
    assert samples.n_evaluations == 6 * (2 * 20 + 1)
    assert torch.count_nonzero(samples.log_w) == 0
    assert torch.equal(draw(6).x, samples.x)
    assert torch.allclose(draw(4).x, samples.x, atol=1e-2)  # rounding, through 20 differences
    assert not samples.x.is_inference()
    assert not samples.x.requires_grad


@pytest.mark.statistical
@pytest.mark.parametrize("chain", ["sde_2m", "ode_2m"])
def test_guided_chains_draw_the_target(gate: Gate, chain: ChainName) -> None:
    """E_q[l] on a two-dimensional density. The exact twist reaches it under either chain; the
    plug-in overshoots for the convex l1 (the paper's bias), far more under the ODE, and is exact
    for the linear l2."""
    law, n = toy_law("8-gaussians"), 12_000

    def draw(twist: Twist, weight: Any, seed: int) -> Tensor:
        sampler = GuidedSampler(toy_base(law), twist, steps=60, chain=chain, batch_size=n)
        x = sampler(n, generator=seeded(seed)).x.double()
        return weight.log_l(x).exp().unflatten(0, (R, -1)).mean(1)

    convex, linear = l1(), l2()
    plug_in = draw(TweedieTwist(convex), convex, 0)
    exact = draw(ExactTwist(law, convex), convex, 1)
    gate(exact, law.e_q(convex), {"Tweedie": plug_in})
    off = float(plug_in.mean()) / law.e_q(convex) - 1
    assert 0.03 < off < 0.1 if chain == "sde_2m" else off > 0.1
    at_mean = draw(TweedieTwist(linear), linear, 2)
    gate(at_mean, law.e_q(linear), {"no guidance": draw(_NoTwist(), linear, 3)})


class _NoTwist:
    name = "no twist"

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        return torch.zeros(len(x))


@pytest.mark.unit
def test_the_guided_sampler_says_what_it_did(gaussian: Any) -> None:
    twist = TweedieTwist(Tilt(0.1 / gaussian.variance.sqrt()))

    def draw(batch_size: int) -> Any:
        sampler = GuidedSampler(gaussian.base, twist, steps=20, batch_size=batch_size)
        return sampler(6, generator=seeded(0))

    samples = draw(6)
    name = "second-order SDE (2M), 20 steps, guided by the Tweedie twist"
    assert (samples.law, samples.chain) == ("target", name)
    assert samples.n_evaluations == 6 * (2 * 19 + 1)  # the last step is unguided
    assert torch.count_nonzero(samples.log_w) == 0
    ode = GuidedSampler(gaussian.base, twist, steps=20, chain="ode_2m")
    assert ode(2, generator=seeded(0)).chain == (
        "probability-flow ODE (2M), 20 steps, guided by the Tweedie twist: "
        "biased by any error of the twist"
    )
    assert torch.allclose(draw(4).x, samples.x, atol=1e-5)
    assert not samples.x.is_inference()
    assert not samples.x.requires_grad


@pytest.mark.unit
def test_the_last_step_is_unguided() -> None:
    base = GaussianDenoiser(torch.zeros(2).double(), torch.tensor([0.5, 2.0]).double())
    assert unguided(base) is base
    guided = GuidedDenoiser(base, TweedieTwist(Tilt(torch.tensor([3.0, 0.0]).double())))
    assert unguided(guided) is base
    grid = torch.tensor([2.0, 1.0], dtype=torch.float64)
    x = torch.ones(1, 2, dtype=torch.float64)
    stepped = 0.5 * x + 0.5 * guided(x, 2.0)
    assert torch.allclose(ode_2m(guided, x, grid), base(stepped, 1.0))
    for chain in (ancestral, sde_2m):
        noise = torch.randn(1, 2, generator=seeded(0))
        stepped = 0.25 * x + 0.75 * guided(x, 2.0) + math.sqrt(0.75) * noise
        found = chain(guided, x, grid, generator=seeded(0))
        assert torch.allclose(found, base(stepped, 1.0))
