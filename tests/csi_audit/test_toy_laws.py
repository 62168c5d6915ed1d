"""Toy laws: denoisers, moments and draws of p and q against each other and against quadrature."""

import math
from collections.abc import Callable, Mapping
from typing import Any, get_args

import numpy as np
import pytest
import torch
from scipy import integrate, stats
from torch import Tensor

from channels import CsiAuditError
from csi_audit.toy_laws import (
    ExactTwist,
    ExactWeibullTwist,
    MixtureLaw,
    ToyName,
    WeibullLaw,
    toy_base,
    toy_law,
)
from csi_audit.toy_weights import ProbitWeight, QuadraticWeight, TiltingWeight, l1, l2

Gate = Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]
R, N, ALPHA = 40, 40_000, 1e-6
NAMES = get_args(ToyName)
DIRECTION = torch.tensor([0.8, 0.6], dtype=torch.float64)
WEIGHTS: dict[str, TiltingWeight] = {
    "l1": l1(),
    "l2": l2(),
    "quadratic": QuadraticWeight(torch.tensor([0.8, -0.6], dtype=torch.float64), 4.0, 1.5),
    "probit": ProbitWeight(DIRECTION, 0.7, 0.1),
}


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def values(weight: Any, x: Tensor) -> Tensor:
    """l by replicates, (R, N / R)."""
    l: Tensor = weight.log_l(x.double()).exp()
    return l.unflatten(0, (R, -1))


# --- Mixtures -------------------------------------------------------------------------------------


@pytest.mark.statistical
@pytest.mark.parametrize("weight", sorted(WEIGHTS))
@pytest.mark.parametrize("name", ["spiral", "8-gaussians"])
def test_moments_and_target_draws(gate: Gate, name: ToyName, weight: str) -> None:
    """E_p[l] by draws of p, E_q[l] by draws of q; the mutants are draws of the other law, and
    draws of p tilted by the root of l."""
    law, l = toy_law(name), WEIGHTS[weight]
    p, q = law.draw(N, generator=seeded(0)), law.draw_target(l, N, generator=seeded(1))
    assert p.dtype == q.dtype == torch.float32
    on_p, on_q = values(l, p), values(l, q)
    half = on_p.pow(1.5).mean(1) / on_p.pow(0.5).mean(1)
    gate(on_p.mean(1), law.e_p(l), {"of q": on_q.mean(1)})
    mutants = {"of p": on_p.mean(1)}
    if weight != "probit":  # rare: the root moves nearly everything
        mutants["root of l"] = half
    gate(on_q.mean(1), law.e_q(l), mutants)


@pytest.mark.statistical
@pytest.mark.parametrize("weight", sorted(WEIGHTS))
def test_target_draws_have_the_target_s_density(weight: str) -> None:
    """Draws of q against reweighted draws of p along three directions, by Kolmogorov-Smirnov.

    The mutant is p itself.
    """
    law, l = toy_law("pinwheel"), WEIGHTS[weight]
    q = law.draw_target(l, 20_000, generator=seeded(2)).double()
    p = law.draw(400_000, generator=seeded(3)).double()

    def distance(w: Tensor) -> float:
        """Largest over the directions, p weighted by w (N,)."""
        found = []
        for direction in torch.stack(
            [torch.tensor([1.0, 0.0]).double(), DIRECTION, -DIRECTION.flip(0)]
        ):
            a, b = p @ direction, q @ direction
            order = a.argsort()
            below = torch.searchsorted(b.sort().values, a[order], right=True) / len(b)
            found.append(float((w[order].cumsum(0) - below).abs().max()))
        return max(found)

    weighted = l.log_l(p).softmax(0)
    size = 1 / (1 / len(q) + float(weighted.square().sum()))
    limit = math.sqrt(-0.5 * math.log(ALPHA / 6) / size)
    assert distance(weighted) < limit < distance(torch.full((len(p),), 1 / len(p)).double())


@pytest.mark.unit
@pytest.mark.parametrize("name", NAMES)
def test_what_a_toy_law_is(name: ToyName) -> None:
    law = toy_law(name)
    assert law.name == name
    assert float(law.probabilities.sum()) == pytest.approx(1)
    assert torch.allclose(law.probabilities @ law.means, torch.zeros(2).double(), atol=1e-12)
    assert float(law.means.norm(dim=1).max()) == pytest.approx(0.9)
    x = law.draw(20_000, generator=seeded(4)).double()
    assert torch.allclose(x.var(0), law.variance, rtol=0.05)
    assert float(l2().log_l(x).exp().min()) > 1e-3  # positive: l2 is linear where p lives
    moved = toy_law(name, placement="unit square")
    assert torch.allclose(moved.means, 0.5 + 0.45 * law.means)
    assert torch.allclose(moved.variance, 0.45**2 * law.variance)
    base = toy_base(law)
    deviation = float(law.variance.max().sqrt())
    assert (base.sigma_max, base.sigma_min) == pytest.approx((40 * deviation, 0.005 * deviation))
    assert base.event_shape == (2,)


@pytest.mark.unit
@pytest.mark.parametrize("name", NAMES)
def test_curves_are_smooth(name: ToyName) -> None:
    """Neighbouring centres along a curve lie closer than two deviations, or the law is beaded."""
    law = toy_law(name)
    gap = torch.cdist(law.means, law.means).fill_diagonal_(torch.inf).amin(1)
    near = float((gap < 2 * law.deviations).double().mean())
    assert near == 0 if name == "8-gaussians" else near > 0.9


@pytest.mark.unit
def test_tails() -> None:
    law = toy_law("8-gaussians")
    x = law.draw(200_000, generator=seeded(5)).double()
    counted = float((x @ DIRECTION > 0.9).double().mean())
    truth = law.beyond(DIRECTION, 0.9)
    assert abs(counted - truth) < 5 * math.sqrt(truth / 200_000)
    assert law.beyond(DIRECTION, -9) == pytest.approx(1)
    assert law.beyond(2 * DIRECTION, 1.8) == pytest.approx(truth)
    narrow = ProbitWeight(DIRECTION, 0.9, 1e-9)
    assert law.e_p(narrow) == pytest.approx(truth)
    assert law.e_q(narrow) == pytest.approx(1, abs=1e-6)  # an indicator: 1 throughout q


@pytest.mark.unit
@pytest.mark.parametrize("weight", sorted(WEIGHTS))
@pytest.mark.parametrize("sigma", [0.05, 0.4, 3.0])
def test_exact_twist_is_the_conditional_mean(weight: str, sigma: float) -> None:
    """E[l(x0) | x_sigma = x] on a fine grid."""
    law = MixtureLaw(
        name="two",
        probabilities=torch.tensor([0.3, 0.7], dtype=torch.float64),
        means=torch.tensor([[-0.4, 0.2], [0.5, 0.1]], dtype=torch.float64),
        deviations=torch.tensor([0.15, 0.25], dtype=torch.float64),
    )
    axis = torch.linspace(-1.8, 2.0, 761, dtype=torch.float64)
    x0 = torch.cartesian_prod(axis, axis)
    gap = (x0[:, None] - law.means).square().sum(2) / law.deviations**2
    log_p = (law.probabilities.log() - 0.5 * gap - 2 * law.deviations.log()).logsumexp(1)
    x = torch.tensor([[0.0, 0.0], [0.5, -0.3], [-0.6, 0.4]], dtype=torch.float64)
    posterior = (log_p - 0.5 * torch.cdist(x, x0).square() / sigma**2).softmax(1)
    l = WEIGHTS[weight]
    found = ExactTwist(law, l).log_h(x, sigma, law.denoiser(x, sigma)).exp()
    assert torch.allclose(found, posterior @ l.log_l(x0).exp(), rtol=2e-4)


@pytest.mark.unit
def test_unknown_toy_law() -> None:
    wrong: Any = "spirals"
    with pytest.raises(CsiAuditError, match=r"got 'spirals'\. Did you mean 'spiral'\?"):
        toy_law(wrong)


# --- Weibull --------------------------------------------------------------------------------------


def weibull_density(law: WeibullLaw, t: float) -> float:
    return float(stats.weibull_min.pdf(t, law.shape, scale=law.scale))


@pytest.mark.unit
@pytest.mark.parametrize("shape", [1, 2])
@pytest.mark.parametrize("sigma", [0.05, 0.7, 20.0])
def test_weibull_denoiser_is_a_posterior_mean(shape: int, sigma: float) -> None:
    """And the second moment of the posterior beside it, by quadrature."""
    law = WeibullLaw(shape=shape, scale=0.7, n=2)
    x = torch.tensor([[-2 * sigma, 0.3], [0.9, 2 * sigma]], dtype=torch.float64)
    found = torch.stack([law.denoiser(x, sigma), law.posterior_moments(x, sigma)[1]])
    for at, moments in zip(x.flatten().tolist(), found.flatten(1).T.tolist(), strict=True):
        low, high = max(0.0, at - 12 * sigma), min(30.0, max(at, 0) + 12 * sigma)

        def joint(t: float, order: int, at: float = at) -> float:
            return t**order * weibull_density(law, t) * math.exp(-0.5 * ((t - at) / sigma) ** 2)

        bottom, *tops = (
            integrate.quad(joint, low, high, args=(k,), limit=400, epsabs=0)[0] for k in (0, 1, 2)
        )
        assert moments == pytest.approx([top / bottom for top in tops], rel=1e-6)


@pytest.mark.unit
@pytest.mark.parametrize("shape", [1, 2])
def test_weibull_exact_twist(shape: int) -> None:
    """c + a . E[x0 | x] + b E[|x0|^2 | x] / n, the last above |D|^2 / n by the posterior variance;
    E[l] under nothing but noise."""
    law = WeibullLaw(shape=shape, scale=0.7, n=2)
    weight = QuadraticWeight(torch.tensor([0.5, 2.0], dtype=torch.float64), 6.0, 0.3)
    twist, x = ExactWeibullTwist(law, weight), torch.tensor([[0.1, 1.2], [-3.0, 0.4]])
    assert twist.name == "exact twist"
    for sigma in (0.05, 0.7, torch.tensor([0.3, 3.0])):
        d, second = law.posterior_moments(x, sigma)
        l = 0.3 + d @ weight.linear + 6 * second.mean(1)
        found = twist.log_h(x, sigma, law.denoiser(x, sigma))
        assert found.dtype == torch.float32
        assert torch.allclose(found.double().exp(), l, rtol=1e-5)
        assert bool((found > weight.log_l(d)).all())
    wide = twist.log_h(x.double(), 1e4, x.double()).exp()
    assert torch.allclose(wide, torch.full((2,), law.e_p(weight)).double(), rtol=1e-3)


@pytest.mark.unit
@pytest.mark.parametrize("shape", [1, 2])
def test_weibull_denoiser_at_the_ends(shape: int) -> None:
    """x itself without noise, the mean of the law under nothing but noise, finite everywhere."""
    law = WeibullLaw(shape=shape, scale=2.0)
    x = torch.tensor([[0.5], [3.0]])
    assert torch.allclose(law.denoiser(x, 1e-3), x, atol=1e-3)
    mean = 2 * math.gamma(1 + 1 / shape)
    assert torch.allclose(law.denoiser(x, 1e4), torch.full((2, 1), mean), rtol=1e-3)
    far = law.denoiser(torch.tensor([[-40.0], [900.0]]), 1.0)
    assert bool((far > 0).all())
    assert far.dtype == torch.float32


@pytest.mark.statistical
@pytest.mark.parametrize("shape", [1, 2])
def test_weibull_moments_and_draws(gate: Gate, shape: int) -> None:
    law = WeibullLaw(shape=shape, scale=0.7, n=3)
    x = law.draw(N, generator=seeded(6))
    cdf = stats.weibull_min(shape, scale=0.7).cdf
    assert float(stats.kstest(x.flatten().double().numpy(), cdf).pvalue) > 1e-6
    assert torch.allclose(x.double().var(0), law.variance, rtol=0.1)
    mixed = QuadraticWeight(torch.tensor([0.5, 0.0, 2.0], dtype=torch.float64), 6.0, 0.3)
    for weight in (l1(3), l2(3), mixed):
        n = 4 * N
        on_p = values(weight, law.draw(n, generator=seeded(7)))
        on_q = values(weight, law.draw_target(weight, n, generator=seeded(8)))
        gate(on_p.mean(1), law.e_p(weight), {"of q": on_q.mean(1)})
        gate(on_q.mean(1), law.e_q(weight), {"of p": on_p.mean(1)})


@pytest.mark.unit
def test_weibull_refusals() -> None:
    with pytest.raises(CsiAuditError, match=r"shape must be 1 or 2, .*; got 3\."):
        WeibullLaw(shape=3)
    for weight in (
        QuadraticWeight(torch.tensor([-1.0]), 1.0, 1.0),
        QuadraticWeight(torch.tensor([1.0]), -1.0, 1.0),
        QuadraticWeight(torch.tensor([1.0]), 1.0, -1.0),
    ):
        with pytest.raises(CsiAuditError, match=r"the terms of l must be >= 0 on a Weibull law"):
            WeibullLaw().e_p(weight)


@pytest.mark.unit
def test_probit_moments_against_quadrature() -> None:
    """In one dimension, down to an event of probability 1e-7."""
    mean, deviation = torch.tensor([[0.2]]).double(), torch.tensor([0.5]).double()
    for t in (0.0, 1.0, 2.8):
        weight = ProbitWeight(torch.tensor([1.0]).double(), t, 0.1)
        z = np.linspace(-12, 12, 200_001)
        l = stats.norm.cdf((0.2 + 0.5 * z - t) / 0.1)
        first, second = (np.trapezoid(l**k * stats.norm.pdf(z), z) for k in (1, 2))
        assert float(weight.log_mean(mean, deviation).exp()) == pytest.approx(first, rel=1e-6)
        assert float(weight.mean_square(mean, deviation)) == pytest.approx(second, rel=1e-6)
