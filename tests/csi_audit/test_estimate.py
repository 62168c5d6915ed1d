"""Estimates from weighted samples of a Gaussian p with l = exp(a x_0), where everything is known.

q = N(a e_0, I), E_q[x_0] = a, P_q(x_0 > t) = Phi(a - t), E_q[l^s] = exp(a^2 s + a^2 s^2 / 2).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from csi_audit.estimate import (
    Array,
    cvar,
    exceedance,
    expectation,
    quantile,
    weighted_expectation,
)
from csi_audit.islands import IslandSamples, island_cvar, island_quantile
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import reweighted
from reports.estimates import Estimate, mean_estimate, proportion, quantile_estimate
from reports.reweighting import weighted_mean, weighted_proportion
from reports.tail_estimates import cvar_estimate, weighted_cvar_estimate, weighted_quantile_estimate

unit = pytest.mark.unit
statistical = pytest.mark.statistical
Gate = Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]

A = 0.6
ALPHA = 1e-6


class Tilt:
    """l(x) = exp(power a x_0)."""

    def __init__(self, power: float = 1.0) -> None:
        self.power = power

    def log_l(self, x: Tensor) -> Tensor:
        return self.power * A * x.flatten(1)[:, 0]


def drawn(n: int, seed: int) -> WeightedSamples:
    """Equally weighted draws of p, (n, 2, 1, 1)."""
    x = torch.randn(n, 2, 1, 1, generator=torch.Generator().manual_seed(seed))
    return WeightedSamples(
        x=x, log_w=torch.zeros(n, dtype=torch.float64), law="base", chain="exact", n_evaluations=n
    )


def first(samples: WeightedSamples) -> Array:
    """x_0 of each sample, (N,)."""
    return samples.x[:, 0, 0, 0].double().numpy()


def forgotten(samples: WeightedSamples) -> WeightedSamples:
    """Mutant: the weights are dropped."""
    return replace(samples, log_w=torch.zeros_like(samples.log_w))


def values(of: Callable[[WeightedSamples], Estimate], made: list[WeightedSamples]) -> Tensor:
    return torch.tensor([of(samples).value for samples in made], dtype=torch.float64)


# --- Exact truth ----------------------------------------------------------------------------------


@statistical
def test_expectation_under_the_target_law(gate: Gate) -> None:
    base = [drawn(5000, seed) for seed in range(300)]
    target = [reweighted(samples, Tilt()) for samples in base]

    def mean(samples: WeightedSamples) -> Estimate:
        return expectation(samples, first(samples))

    mutants = {
        "l^0.95": values(mean, [reweighted(samples, Tilt(0.95)) for samples in base]),
        "weights dropped": values(mean, [forgotten(samples) for samples in target]),
        "weights squared": values(mean, [reweighted(s, Tilt(2.0)) for s in base]),
    }
    gate(values(mean, target), A, mutants)


@statistical
def test_exceedance_under_the_target_law(gate: Gate) -> None:
    base = [drawn(5000, seed) for seed in range(300)]
    target = [reweighted(samples, Tilt()) for samples in base]

    def tail(samples: WeightedSamples) -> Estimate:
        return exceedance(samples, first(samples), 1.0)

    mutants = {
        "l^0.95": values(tail, [reweighted(samples, Tilt(0.95)) for samples in base]),
        "weights dropped": values(tail, [forgotten(samples) for samples in target]),
        "other side": 1 - values(tail, target),
    }
    gate(values(tail, target), float(stats.norm.sf(1.0 - A)), mutants)


@statistical
def test_exceedance_under_the_base_law(gate: Gate) -> None:
    base = [drawn(5000, seed) for seed in range(100)]

    def tail(level: float) -> Tensor:
        return values(lambda samples: exceedance(samples, first(samples), level), base)

    gate(tail(1.5), float(stats.norm.sf(1.5)), {"1.45": tail(1.45), "beyond -1.5": 1 - tail(-1.4)})


@statistical
def test_weighted_expectation_is_that_of_the_tilted_law(gate: Gate) -> None:
    """E_q[l]; the mutants forget the square, the normaliser, or a twentieth of the exponent."""
    base = [drawn(10_000, seed) for seed in range(200)]

    def of(power: float) -> Tensor:
        return values(lambda s: weighted_expectation(s, np.exp(power * A * first(s))), base)

    plain = values(lambda s: expectation(s, np.exp(A * first(s))), base)
    square = values(lambda s: expectation(s, np.exp(2 * A * first(s))), base)
    truth = math.exp(1.5 * A**2)
    gate(of(1.0), truth, {"l^0.95": of(0.95), "E_p[l]": plain, "E_p[l^2]": square})


@statistical
def test_quantile_and_worst_share_under_the_target_law(gate: Gate) -> None:
    """The 80 % quantile of x_0 under q = N(a, 1), and the mean beyond it."""
    base = [drawn(3000, seed) for seed in range(60)]
    target = [reweighted(samples, Tilt()) for samples in base]
    squared = [reweighted(samples, Tilt(2.0)) for samples in base]
    z = float(stats.norm.ppf(0.8))
    rules = ((quantile, A + z), (cvar, A + float(stats.norm.pdf(z)) / 0.2))
    for rule, truth in rules:

        def of(made: list[WeightedSamples], prob: float, rule: Any = rule) -> Tensor:
            return values(lambda s: rule(s, first(s), prob), made)

        mutants = {
            "weights squared": of(squared, 0.8),
            "weights dropped": of([forgotten(samples) for samples in target], 0.8),
            "other side": of(target, 0.2),
        }
        gate(of(target, 0.8), truth, mutants)
        gate(of(base, 0.8), truth - A, {"75 %": of(base, 0.75), "of q": of(target, 0.8)})


@statistical
@pytest.mark.parametrize("level", [0.0, 2.0])
def test_intervals_cover(level: float) -> None:
    """Mean and tail under q, 300 samples a replicate; the mutant drops the weights."""
    replicates = 400
    target = [reweighted(drawn(300, seed), Tilt()) for seed in range(replicates)]
    truths = (A, float(stats.norm.sf(level - A)))
    least = float(stats.binom.ppf(ALPHA, replicates, 0.95))

    def covered(made: list[WeightedSamples]) -> list[int]:
        found = [(expectation(s, first(s)), exceedance(s, first(s), level)) for s in made]
        return [
            sum(e.interval is not None and e.interval[0] <= truth <= e.interval[1] for e in column)
            for column, truth in zip(zip(*found, strict=True), truths, strict=True)
        ]

    assert min(covered(target)) >= least
    assert max(covered([forgotten(samples) for samples in target])) < least


# --- Which arithmetic -----------------------------------------------------------------------------


@unit
def test_equal_weights_are_counted() -> None:
    samples = drawn(50, 0)
    moved = replace(samples, log_w=samples.log_w - 700.0)  # a constant means nothing
    x = first(samples)
    for each in (samples, moved):
        assert expectation(each, x) == replace(mean_estimate(x, method="exact"), n_evaluations=50)
        counted = proportion(int((x > 1).sum()), 50, method="exact, counted")
        assert exceedance(each, x, 1.0) == replace(counted, n_evaluations=50)


@unit
def test_unequal_weights_are_used() -> None:
    samples = reweighted(drawn(50, 0), Tilt())
    x, log_w = first(samples), samples.log_w.numpy()
    name = "exact, reweighted"
    mean = replace(weighted_mean(x, log_w, method=name), n_evaluations=50)
    tail = replace(weighted_proportion(x > 1, log_w, method=name), n_evaluations=50)
    assert expectation(samples, x) == mean
    assert exceedance(samples, x, 1.0) == tail


@unit
def test_quantiles_and_worst_shares() -> None:
    """Order statistics, weights or islands by the samples; the chain's name and cost in each."""
    base = drawn(200, 0)
    target, x = reweighted(base, Tilt()), first(base)
    log_w, cost = target.log_w.numpy(), 200
    islands = IslandSamples(
        x=base.x, log_w=target.log_w, law="target", chain="c", island=torch.arange(200) // 20
    )
    expected = {
        ("exact, order statistics", quantile(base, x, 0.8)): quantile_estimate(x, 0.8),
        ("exact, worst 20 %", cvar(base, x, 0.8)): cvar_estimate(x, 0.8),
        ("exact, worst 20 %", cvar(base, x, 0.8, worse="low")): cvar_estimate(x, 0.8, worse="low"),
        ("exact, reweighted", quantile(target, x, 0.8)): weighted_quantile_estimate(x, log_w, 0.8),
        ("exact, reweighted, worst 20 %", cvar(target, x, 0.8)): weighted_cvar_estimate(
            x, log_w, 0.8
        ),
    }
    for (method, found), plain in expected.items():
        assert found == replace(plain, method=method, n_evaluations=cost)
    low = cvar(target, x, 0.9, worse="low")
    assert low.value == weighted_cvar_estimate(x, log_w, 0.9, worse="low").value < 0
    assert quantile(islands, x, 0.5) == island_quantile(islands, x, 0.5)
    assert cvar(islands, x, 0.5) == island_cvar(islands, x, 0.5)
    assert cvar(islands, x, 0.5, worse="low") == island_cvar(islands, x, 0.5, worse="low")


@unit
def test_heavy_weights_are_named() -> None:
    """E_q[l] of a lognormal l of deviation 2.4 is refused; of deviation 0.6 it is "ok"."""
    samples = drawn(2000, 1)
    l = np.exp(4 * A * first(samples))
    for found in (
        weighted_expectation(samples, l),
        expectation(reweighted(samples, Tilt(4.0)), l),
    ):
        assert found.status.startswith("weights too uneven (CV^2 = ")
        assert "rely on neither value nor interval" in found.status
    assert expectation(samples, l).status.startswith("values too uneven (Pareto k-hat above 0.")
    target = reweighted(samples, Tilt(4.0))
    for found in (quantile(target, l, 0.5), cvar(target, l, 0.5), cvar(target, l, 0.9)):
        assert found.status.startswith("weights too uneven (CV^2 = ")
    assert weighted_expectation(samples, np.exp(0.5 * A * first(samples))).status == "ok"
    assert expectation(samples, np.exp(0.5 * A * first(samples))).status == "ok"


@unit
def test_the_threshold_itself_is_no_failure() -> None:
    samples = drawn(4, 0)
    assert exceedance(samples, np.array([1.0, 2.0, 2.0, 3.0]), 2.0).value == 0.25


@unit
def test_no_failure_gives_a_bound() -> None:
    for samples in (drawn(50, 0), reweighted(drawn(50, 0), Tilt())):
        found = exceedance(samples, first(samples), 99.0)
        assert found.value == 0
        assert found.interval is not None
        assert found.interval[0] == 0 < found.interval[1] < 0.3
        assert found.status == "none seen: upper bound only"
    islands = IslandSamples(**vars(drawn(50, 0)) | {"law": "target"}, island=torch.arange(50) // 5)
    assert exceedance(islands, first(islands), 99.0).interval == pytest.approx(
        (0.0, 1 - 0.025**0.1)
    )


@unit
def test_weights_that_vanish_everywhere_are_refused() -> None:
    samples = drawn(3, 0)
    nothing = replace(samples, log_w=torch.full((3,), -math.inf, dtype=torch.float64))
    with pytest.raises(ValueError, match="log_w must not be -inf everywhere"):
        expectation(nothing, first(nothing))
    with pytest.raises(ValueError, match="log_w must not be -inf everywhere"):
        exceedance(nothing, first(nothing), 0.0)


@unit
def test_weighted_expectation_wants_draws_of_the_base() -> None:
    samples = drawn(5, 0)
    weight = np.exp(first(samples))
    assert weighted_expectation(samples, weight).method == "exact, reweighted"
    assert weighted_expectation(samples, weight).n_evaluations == 5
    message = r"samples must be equally weighted draws of the base law"
    for wrong in (reweighted(samples, Tilt()), replace(samples, law="target")):
        with pytest.raises(ValueError, match=message):
            weighted_expectation(wrong, weight)


def test_islands_are_what_the_interval_counts() -> None:
    """Particles of one island are alike: by particles the interval would be far too short."""
    generator = torch.Generator().manual_seed(0)
    island = torch.arange(8).repeat_interleave(500)
    level = torch.randn(8, generator=generator)[island]
    x = (level + 0.01 * torch.randn(4000, generator=generator)).view(-1, 1, 1, 1)
    samples = IslandSamples(
        x=x, log_w=torch.zeros(4000, dtype=torch.float64), law="target", chain="c", island=island
    )
    found = expectation(samples, first(samples))
    assert found.n == 8
    by_particle = mean_estimate(first(samples))
    assert found.value == pytest.approx(by_particle.value)
    assert found.std_error is not None
    assert by_particle.std_error is not None
    assert found.std_error > 15 * by_particle.std_error
    above = exceedance(samples, first(samples), 0.0)
    assert above.n == 8
    assert above.interval is not None
    assert 0 <= above.interval[0] < 0.5 * above.value
    assert above.value == pytest.approx(float((x > 0).float().mean()))
