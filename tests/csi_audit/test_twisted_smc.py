"""Twisted SMC against laws known in closed form: Z, E_q[l] and the mutants that must fail.

The truth is that of the discretised chain itself, so every twist must reach it at any number of
steps; what a twist decides is the scatter.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from channels import CsiAuditError
from csi_audit.base import load_base
from csi_audit.calibration import fit_calibrated_twist
from csi_audit.islands import Islands, IslandSamples, IslandWeights
from csi_audit.sampling import BaseSampler, GuidedSampler, sigma_grid
from csi_audit.toy_laws import ExactTwist, MixtureLaw, toy_base, toy_law
from csi_audit.toy_weights import ProbitWeight, QuadraticWeight, l1
from csi_audit.twisted_smc import StochasticChain, TwistedSmcSampler
from csi_audit.twists import Guidance, SmoothedTwist, TweedieTwist, Twist
from csi_audit.weights import LinearWeight, Weight

Gate = Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]
R, STEPS = 40, 12
WEIGHT = LinearWeight(torch.tensor([0.8, -0.6]).double(), 4.0)
RESAMPLE = IslandWeights.resample


@dataclass(frozen=True)
class Power:
    """l^gamma of another weight: the mutant at 0.95."""

    weight: Weight
    gamma: float

    def log_l(self, x: Tensor) -> Tensor:
        return self.gamma * self.weight.log_l(x)


class NoTwist:
    """h = 1: reweighting, with resampling left idle."""

    name = "no twist"

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        return torch.zeros(len(x))


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def law(gaussian: Any) -> Any:
    """Two coordinates, off centre: l has no zero and is never clamped (see test_importance)."""
    return type(gaussian)(
        mean=torch.tensor([0.5, -0.3]), variance=torch.tensor([1.0, 1.2]), sigma_max=11.0
    )


def truth(law: Any, chain: StochasticChain) -> tuple[float, float]:
    """E_p[l] and E_q[l] of l = 1 + a.x + b |x|^2 / 2 under the discretised chain, a Gaussian."""
    mean, v = law.chain_moments(STEPS, second_order=chain == "sde_2m")
    a, b = WEIGHT.linear, WEIGHT.square / 2
    e_p = 1 + a @ mean + b * (mean**2 + v).sum()
    variance = ((a + 2 * b * mean) ** 2 * v + 2 * b**2 * v**2).sum()
    return float(e_p), float(e_p + variance / e_p)


def sampler(
    law: Any,
    twist: Twist,
    weight: Weight = WEIGHT,
    *,
    island: int = 250,
    kind: type[TwistedSmcSampler] = TwistedSmcSampler,
    **options: Any,
) -> TwistedSmcSampler:
    base = law.base if hasattr(law, "base") else toy_base(law)
    options = {"steps": STEPS, "batch_size": 20_000, **options}
    return kind(base, weight, twist, island=island, **options)


def z_of(samples: IslandSamples) -> Tensor:
    """Z by R groups of islands, (R,)."""
    return samples.log_z_islands().exp().unflatten(0, (R, -1)).mean(1)


def e_q_of(samples: IslandSamples, weight: Weight = WEIGHT, *, weighted: bool = True) -> Tensor:
    """E_q[l] by R groups of islands, (R,)."""
    w = samples.log_w.exp() if weighted else torch.ones(len(samples), dtype=torch.float64)
    w, l = (t.unflatten(0, (R, -1)) for t in (w, weight.log_l(samples.x.double()).exp()))
    return (w * l).sum(1) / w.sum(1)


# --- Unbiased with any twist ----------------------------------------------------------------------


class FirstWeightDropped(TwistedSmcSampler):
    def _first_weight(self, guidance: Guidance) -> Tensor:
        return torch.zeros_like(guidance.log_h, dtype=torch.float64)


def without_reset(weights: IslandWeights, below: float) -> Tensor | None:
    """Resampling that keeps the weights of the copies."""
    before = weights.log_w
    kept = RESAMPLE(weights, below)
    weights.log_w = before if kept is None else before[kept]
    weights.log_z.zero_()
    return kept


@pytest.mark.statistical
@pytest.mark.parametrize("chain", ["sde_2m", "ancestral"])
def test_z_with_a_rough_twist(
    gate: Gate, law: Any, chain: StochasticChain, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A twist of l^0.3 at the mean, islands resampled again and again: Z is that of l."""
    n, twist = R * 2000, TweedieTwist(Power(WEIGHT, 0.3))
    resampled = []

    def watched(weights: IslandWeights, below: float) -> Tensor | None:
        kept = RESAMPLE(weights, below)
        resampled.append(kept is not None)
        return kept

    def z(seed: int, weight: Weight = WEIGHT, **options: Any) -> Tensor:
        smc = sampler(law, twist, weight, chain=chain, resample_below=0.97, **options)
        return z_of(smc(n, generator=seeded(seed)))

    monkeypatch.setattr(IslandWeights, "resample", watched)
    found = z(0)
    assert sum(resampled) > 5
    mutants = {
        "first weight dropped": z(1, kind=FirstWeightDropped),
        "l^0.95": z(2, Power(WEIGHT, 0.95)),
    }
    monkeypatch.setattr(IslandWeights, "resample", without_reset)
    mutants["weights not reset"] = z(3)
    gate(found, truth(law, chain)[0], mutants)


@pytest.mark.statistical
@pytest.mark.parametrize("chain", ["sde_2m", "ancestral"])
def test_target_with_a_rough_twist(gate: Gate, law: Any, chain: StochasticChain) -> None:
    """E_q[l]: the last weights are what turns the twist's law into the target's."""
    twist = TweedieTwist(Power(WEIGHT, 0.3))

    def draw(weight: Weight, n: int) -> IslandSamples:
        smc = sampler(law, twist, weight, chain=chain, island=1000)
        return smc(n, generator=seeded(4))

    samples = draw(WEIGHT, R * 18_000)
    mutants = {
        "last weights dropped": e_q_of(samples, weighted=False),
        "l^0.95": e_q_of(draw(Power(WEIGHT, 0.95), R * 4000)),
    }
    gate(e_q_of(samples), truth(law, chain)[1], mutants)


# --- What a twist decides -------------------------------------------------------------------------


def calibrated_for(law: MixtureLaw, weight: QuadraticWeight, steps: int) -> Twist:
    base, generator = toy_base(law), seeded(5)
    levels = sigma_grid(base.sigma_max, base.sigma_min, steps)
    x0 = law.draw(500, generator=generator)
    return fit_calibrated_twist(law.denoiser, weight, x0, levels, generator=generator)


@pytest.mark.statistical
def test_twists_on_a_convex_weight(gate: Gate) -> None:
    """l = |x|^2 on centred data, 30 steps, the truth by 160,000 draws of the unguided chain.

    Calibrated, Z is right to 1 %. The plug-in is the trap: three quarters of its particles seem
    to count, and its Z is less than half of E_p[l] in nearly every island.
    """
    law, weight, steps = toy_law("8-gaussians"), l1(), 30
    plain = BaseSampler(toy_base(law), steps=steps, chain="sde_2m", batch_size=20_000)
    l = weight.log_l(plain(160_000, generator=seeded(6)).x.double()).exp()
    e_p, e_q = float(l.mean()), float(l.square().mean() / l.mean())
    assert e_p == pytest.approx(law.e_p(weight), rel=0.02)  # what the steps cost
    twists: dict[str, Twist] = {
        "Tweedie": TweedieTwist(weight),
        "smoothed": SmoothedTwist(weight, law.variance, generator=seeded(12)),
        "calibrated": calibrated_for(law, weight, steps),
        "exact": ExactTwist(law, weight),
    }

    def draw(name: str, **options: Any) -> IslandSamples:
        smc = sampler(law, twists[name], weight, steps=steps, **options)
        return smc(20_000, generator=seeded(7))

    found = {name: draw(name) for name in twists}
    z = {name: samples.log_z_islands().exp() / e_p for name, samples in found.items()}
    spread = {name: float(value.std() / value.mean()) for name, value in z.items()}
    ess = {
        name: float(1 / (250 * s.log_w.unflatten(0, (-1, 250)).softmax(1).square().sum(1)).mean())
        for name, s in found.items()
    }
    assert spread["exact"] < 0.01 < spread["smoothed"] < 0.2
    assert spread["calibrated"] < 0.1
    assert min(ess["exact"], ess["calibrated"]) > 0.9
    assert ess["Tweedie"] > 0.6
    assert float((z["Tweedie"] < 0.5).double().mean()) > 0.8
    no_start = draw("calibrated", kind=FirstWeightDropped)
    for name in ("calibrated", "exact"):
        gate(z_of(found[name]) / e_p, 1.0, {"first weight dropped": z_of(no_start) / e_p})
        gate(e_q_of(found[name], weight) / e_q, 1.0, {"of p": e_p / e_q * torch.ones(R)})


@pytest.mark.statistical
@pytest.mark.parametrize("gradient", ["backward", "finite_difference"])
def test_linear_weights_need_no_better_twist(gate: Gate, law: Any, gradient: Any) -> None:
    """l = 1 + a.x: the plug-in is exact, islands agree to a per cent, with either gradient."""
    weight = LinearWeight(torch.tensor([0.15, -0.1]).double(), 0.0)
    mean, v = law.chain_moments(STEPS, second_order=True)
    e_p = float(1 + weight.linear @ mean)
    e_q = e_p + float((weight.linear**2 * v).sum()) / e_p

    def draw(final: Weight, **options: Any) -> IslandSamples:
        smc = sampler(law, TweedieTwist(weight), final, gradient=gradient, **options)
        return smc(R * 1000, generator=seeded(9))

    samples, wrong = draw(weight), draw(Power(weight, 0.95))
    assert float(samples.log_z_islands().exp().std()) < 0.02
    gate(z_of(samples), e_p, {"l^0.95": z_of(wrong)})
    unguided = BaseSampler(law.base, steps=STEPS, chain="sde_2m")(R * 1000, generator=seeded(10))
    on_p = weight.log_l(unguided.x.double()).exp().unflatten(0, (R, -1)).mean(1)
    gate(e_q_of(samples, weight), e_q, {"no guidance, no weights": on_p})


@dataclass(frozen=True)
class Beyond:
    """l(x) = 1 where a . x > t, else 0: log l is -inf for most of p."""

    direction: Tensor
    threshold: float

    def log_l(self, x: Tensor) -> Tensor:
        return torch.where(x @ self.direction.to(x) > self.threshold, 0.0, -torch.inf)


@pytest.mark.statistical
def test_a_rare_probability(gate: Gate, gaussian: Any) -> None:
    """P(a . x > t) = 1.6e-5 with 40,000 particles, guided by a soft edge; l itself has no gradient.
    Every particle that counts fails. Mutants: a threshold 1 % off, no first weight."""
    law = type(gaussian)(mean=torch.zeros(2), variance=torch.ones(2), sigma_max=12.0)
    a, t = torch.tensor([0.6, 0.8]).double(), 4.2
    twist = ExactTwist(
        MixtureLaw(
            name="one",
            probabilities=torch.ones(1, dtype=torch.float64),
            means=torch.zeros(1, 2, dtype=torch.float64),
            deviations=torch.ones(1, dtype=torch.float64),
        ),
        ProbitWeight(a, t, 0.1),
    )
    mean, v = law.chain_moments(30, second_order=True)
    truth = float(torch.special.ndtr((a @ mean - t) / (a**2 @ v).sqrt()))
    assert 1e-5 < truth < 3e-5

    def draw(threshold: float, **options: Any) -> IslandSamples:
        smc = sampler(law, twist, Beyond(a, threshold), steps=30, **options)
        return smc(R * 1000, generator=seeded(11))

    samples = draw(t)
    kept = samples.log_w.isfinite()
    assert bool((samples.x[kept].double() @ a > t).all())
    assert 0 < int((~kept).sum()) < 0.5 * len(samples)
    mutants = {
        "threshold 1 % off": z_of(draw(1.01 * t)),
        "first weight dropped": z_of(draw(t, kind=FirstWeightDropped)),
    }
    gate(z_of(samples), truth, mutants)


# --- The form -------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("chain", ["sde_2m", "ancestral"])
def test_particles_move_as_the_guided_chain_does(law: Any, chain: StochasticChain) -> None:
    """Without resampling an island is the guided sampler with the island's generator."""
    twist = TweedieTwist(WEIGHT)
    smc = sampler(law, twist, chain=chain, resample_below=0.0, island=20)
    samples = smc(20, generator=seeded(0))
    (own,) = Islands(20, 20, generator=seeded(0)).generators
    guided = GuidedSampler(law.base, twist, steps=STEPS, chain=chain)(20, generator=own)
    assert torch.allclose(samples.x, guided.x, atol=1e-5)


@pytest.mark.unit
@pytest.mark.parametrize("chain", ["sde_2m", "ancestral"])
def test_weights_are_the_densities_of_the_path(law: Any, chain: StochasticChain) -> None:
    """log w = log l(x0) + sum over steps of log N(x'; unguided step) - log N(x'; guided step), the
    path walked again with torch's own normal law; without a twist log w = log l(x0)."""
    plain = sampler(law, NoTwist(), chain=chain, island=20)(20, generator=seeded(0))
    assert torch.allclose(plain.log_w, WEIGHT.log_l(plain.x.double()), atol=1e-5)
    twist, path = TweedieTwist(WEIGHT), []

    class Walked(TwistedSmcSampler):
        def _move(
            self, x: Tensor, now: Guidance, previous: Guidance, step: Any, islands: Any
        ) -> Any:
            moved, ratio = super()._move(x, now, previous, step, islands)
            path.append((x, now, step, moved))
            return moved, ratio

    smc = sampler(law, twist, chain=chain, kind=Walked, resample_below=0.0, island=20)
    samples = smc(20, generator=seeded(0))
    log_w, before = WEIGHT.log_l(samples.x.double()), None
    for k, (x, now, (s, s_next, _), moved) in enumerate(path):
        d, guided = now.x0_hat, now.x0_hat + now.shift
        if chain == "sde_2m" and before is not None:
            (x_d, x_guided), (s_before, _, _) = before, path[k - 1][2]
            r = torch.tensor([s / s_next, s_before / s]).log()
            d, guided = (
                new + r[0] / (2 * r[1]) * (new - old) for new, old in ((d, x_d), (guided, x_guided))
            )
        before = (now.x0_hat, now.x0_hat + now.shift)
        q = 1 - (s_next / s) ** 2
        p, proposal = (
            torch.distributions.Normal(((1 - q) * x + q * slope).double(), s_next * q**0.5)
            for slope in (d, guided)
        )
        log_w = log_w + (p.log_prob(moved.double()) - proposal.log_prob(moved.double())).sum(1)
    assert torch.allclose(samples.log_w, log_w, atol=2e-3)
    assert float((samples.log_w - WEIGHT.log_l(samples.x.double())).abs().mean()) > 0.1


@pytest.mark.unit
def test_what_the_sampler_says(law: Any) -> None:
    told: list[int] = []
    smc = sampler(law, TweedieTwist(WEIGHT), island=10, progress=told.append)
    samples = smc(25, generator=seeded(0))
    assert samples.chain == (
        "twisted SMC on the second-order SDE (2M), 12 steps, Tweedie twist, islands of 10"
    )
    assert samples.law == "target"
    assert samples.n_evaluations == sum(told) == 25 * (2 * (STEPS - 1) + 1)
    assert samples.sizes().tolist() == [13, 12]
    assert samples.log_z == pytest.approx(float(samples.log_w.logsumexp(0)) - math.log(25))
    assert not samples.x.is_inference()
    assert not samples.x.requires_grad
    chain = sampler(law, TweedieTwist(WEIGHT), chain="ancestral").name
    assert chain.startswith("twisted SMC on the ancestral chain, 12 steps")


@pytest.mark.unit
def test_a_function_of_its_generator_alone(law: Any) -> None:
    """Batches change nothing, nor does how many islands there are beside one."""

    def draw(n: int, *, batch_size: int = 100, seed: int = 0) -> IslandSamples:
        smc = sampler(law, TweedieTwist(Power(WEIGHT, 0.5)), island=20, batch_size=batch_size)
        return smc(n, generator=seeded(seed))

    samples = draw(40)
    assert torch.equal(draw(40).x, samples.x)
    for other in (draw(40, batch_size=7), draw(60)):
        assert torch.allclose(other.x[:40], samples.x, atol=1e-4)
        assert torch.allclose(other.log_w[:40], samples.log_w, atol=1e-3)
    assert not torch.allclose(samples.x[:20], samples.x[20:], atol=0.1)
    assert not torch.allclose(draw(40, seed=1).x, samples.x, atol=0.1)


@pytest.mark.unit
def test_a_trained_base(tiny_base: Any, seeded_torch: None) -> None:
    """Channels through a network: shapes, counts and finite weights."""
    base = load_base(tiny_base)

    class Power1:
        def log_l(self, x: Tensor) -> Tensor:
            return (x.square().flatten(1).mean(1) + 0.01).log()

    smc = TwistedSmcSampler(base, Power1(), TweedieTwist(Power1()), steps=4, island=3, batch_size=2)
    samples = smc(6, generator=seeded(0))
    assert samples.x.shape == (6, 2, 8, 8)
    assert bool(samples.log_w.isfinite().all())
    assert samples.n_evaluations == 6 * 7


@pytest.mark.unit
def test_refusals(law: Any) -> None:
    twist = TweedieTwist(WEIGHT)
    wrong: Any = "ode_2m"
    with pytest.raises(CsiAuditError, match=r"chain must be a stochastic one; got 'ode_2m'\."):
        sampler(law, twist, chain=wrong)
    with pytest.raises(CsiAuditError, match=r"island must be at least 2 particles; got 1\."):
        sampler(law, twist, island=1)
    for share in (-0.1, 1.5):
        message = rf"resample_below must lie in \[0, 1\]; got {share}\."
        with pytest.raises(CsiAuditError, match=message):
            sampler(law, twist, resample_below=share)

    class Nothing:
        def log_l(self, x: Tensor) -> Tensor:
            return torch.full((len(x),), float("nan"))

    message = r"log weights must be finite or -inf; particle 0 has nan\. Is l finite on every"
    with pytest.raises(CsiAuditError, match=message):
        sampler(law, twist, Nothing())(4, generator=seeded(0))
