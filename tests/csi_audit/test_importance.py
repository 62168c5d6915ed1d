"""Reweighting and rejection reach E_q[l] known in closed form, and tell l from l^0.95."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from channels import CsiAuditError
from csi_audit.samples import Law, WeightedSamples
from csi_audit.sampling import rejection, reweighted
from csi_audit.weights import LinearWeight, Weight

Gate = Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]
R = 40
MEAN, VARIANCE = torch.tensor([0.5, -0.3]).double(), torch.tensor([1.0, 1.2]).double()
WEIGHT = LinearWeight(torch.tensor([0.8, -0.6]).double(), 4.0)


@dataclass(frozen=True)
class Power:
    """l^gamma of another weight: the mutant at 0.95, none at all at 0."""

    weight: Weight
    gamma: float

    def log_l(self, x: Tensor) -> Tensor:
        return self.gamma * self.weight.log_l(x)


def moments_of_l() -> tuple[float, float]:
    """E_p[l] and Var_p(l) of l = 1 + a.x + b |x|^2 / n on N(mu, diag v).

    l has no zero (1 - n |a|^2 / (4 b) = 0.875), so it is never clamped. By coordinate,
    Var x^2 = 2 v^2 + 4 mu^2 v and Cov(x, x^2) = 2 mu v.
    """
    a, b, n = WEIGHT.linear, WEIGHT.square / 2, 2
    mean = 1 + a @ MEAN + b * (MEAN**2 + VARIANCE).sum()
    square = b**2 * (2 * VARIANCE**2 + 4 * MEAN**2 * VARIANCE).sum()
    both = 2 * b * (a * 2 * MEAN * VARIANCE).sum()
    assert len(a) == n
    return float(mean), float((a**2 * VARIANCE).sum() + square + both)


E_P, VAR_P = moments_of_l()
E_Q = E_P + VAR_P / E_P  # E[l^2] / E[l] = E_p[l] (1 + CV^2)


def draws(n: int, *, seed: int = 0, law: Law = "base", x: Tensor | None = None) -> WeightedSamples:
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    return WeightedSamples(
        x=MEAN + VARIANCE.sqrt() * noise if x is None else x,
        log_w=torch.zeros(n, dtype=torch.float64),
        law=law,
        chain="direct",
        n_evaluations=3 * n,
    )


def self_normalised(samples: WeightedSamples) -> Tensor:
    """E_q[l] of R parts, (R,)."""
    w = (samples.log_w - samples.log_w.max()).exp().unflatten(0, (R, -1))
    value = WEIGHT.log_l(samples.x).exp().unflatten(0, (R, -1))
    return (w * value).sum(1) / w.sum(1)


@pytest.mark.statistical
def test_the_truth_itself(gate: Gate) -> None:
    """E_p[l] and E_p[l^2] by plain averages of direct draws."""
    value = WEIGHT.log_l(draws(400_000).x).exp().unflatten(0, (R, -1))
    assert float(value.min()) > 0.8
    gate(value.mean(1), E_P, {"too small by a twentieth": 0.95 * value.mean(1)})
    second = value.square().mean(1)
    gate(second, E_P**2 + VAR_P, {"too small by a tenth": 0.9 * second})


@pytest.mark.statistical
def test_reweighting_reaches_the_target(gate: Gate) -> None:
    base = draws(1_600_000, seed=1)
    target = reweighted(base, WEIGHT)
    mutants = {
        "l^0.95": self_normalised(reweighted(base, Power(WEIGHT, 0.95))),
        "dropped weights": self_normalised(base),
    }
    gate(self_normalised(target), E_Q, mutants)


@pytest.mark.statistical
def test_the_price_of_reweighting(gate: Gate) -> None:
    """ESS / N = 1 / (1 + CV(l)^2)."""

    def ess(samples: WeightedSamples) -> Tensor:
        w = (samples.log_w - samples.log_w.max()).exp().unflatten(0, (R, -1))
        return w.sum(1) ** 2 / w.square().sum(1) / w.shape[1]

    base = draws(400_000, seed=2)
    mutant = ess(reweighted(base, Power(WEIGHT, 0.9)))
    truth = 1 / (1 + VAR_P / E_P**2)
    gate(ess(reweighted(base, WEIGHT)), truth, {"l^0.9": mutant})
    assert torch.allclose(ess(base), torch.ones(R, dtype=torch.float64))


@pytest.mark.statistical
def test_rejection_draws_the_target(gate: Gate) -> None:
    """Independent and equally weighted; the bound covers |x| < 7, which no draw leaves."""
    base = draws(6_000_000, seed=3)

    def accepted(weight: Weight, seed: int) -> Tensor:
        kept = rejection(
            base,
            weight,
            log_bound=float(torch.tensor(110.0).log()),
            generator=torch.Generator().manual_seed(seed),
        )
        value = WEIGHT.log_l(kept.x).exp()
        return value[: len(value) // R * R].unflatten(0, (R, -1)).mean(1)

    mutants = {
        "l^0.95": accepted(Power(WEIGHT, 0.95), 1),
        "all alike": accepted(Power(WEIGHT, 0.0), 2),
    }
    gate(accepted(WEIGHT, 0), E_Q, mutants)


@pytest.mark.unit
def test_what_the_samples_say_of_themselves() -> None:
    base = draws(1000)
    by_weight = reweighted(base, WEIGHT)
    assert torch.equal(by_weight.x, base.x)
    assert torch.allclose(by_weight.log_w, WEIGHT.log_l(base.x))
    assert (by_weight.law, by_weight.chain) == ("target", "direct, reweighted")
    assert by_weight.n_evaluations == 3000
    bound, generator = 8.0, torch.Generator().manual_seed(0)
    kept = rejection(base, WEIGHT, log_bound=bound, generator=generator)
    assert 0 < len(kept) < 1000
    assert torch.count_nonzero(kept.log_w) == 0
    assert (kept.law, kept.chain) == ("target", "direct, rejection")
    assert kept.n_evaluations == 3000
    again = rejection(base, WEIGHT, log_bound=bound, generator=generator.manual_seed(0))
    assert torch.equal(again.x, kept.x)


@pytest.mark.unit
def test_weights_multiply() -> None:
    """Base samples that carry weights already keep them."""
    base = draws(10)
    carried = WeightedSamples(
        x=base.x, log_w=torch.arange(10).double(), law="base", chain="by hand"
    )
    assert torch.allclose(
        reweighted(carried, WEIGHT).log_w, torch.arange(10) + WEIGHT.log_l(base.x)
    )


@pytest.mark.unit
def test_refusals() -> None:
    generator = torch.Generator().manual_seed(0)

    def reject(samples: WeightedSamples, weight: Any = WEIGHT, bound: float = 9.0) -> Any:
        return rejection(samples, weight, log_bound=bound, generator=generator)

    for law in ("target", "failure"):
        message = rf"samples must be of the base law; got '{law}'\."
        with pytest.raises(ValueError, match=message):
            reweighted(draws(5, law=law), WEIGHT)
        with pytest.raises(ValueError, match=message):
            reject(draws(5, law=law))
    x = torch.tensor([[0.0, 0.0], [3.0, 4.0]]).double()
    log_l = float(WEIGHT.log_l(x[1:]))
    message = rf"log_bound must be at least the largest log l, {log_l:.4g}; got 3\."
    with pytest.raises(CsiAuditError, match=message):
        reject(draws(2, x=x), bound=3.0)
    with pytest.raises(CsiAuditError, match=r"none of 2 samples was accepted; lower log_bound\."):
        reject(draws(2, x=x), bound=900.0)
    x[1] = float("nan")
    with pytest.raises(ValueError, match=r"log_w must not be NaN; sample 1 is\."):
        reweighted(draws(2, x=x), WEIGHT)
    with pytest.raises(CsiAuditError, match=r"log l must not be NaN; sample 1 is\."):
        reject(draws(2, x=x))
