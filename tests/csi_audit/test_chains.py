"""Chains against laws known in closed form: means, covariances, mode weights, and the mutants."""

from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from channels import CsiAuditError
from csi_audit.diffusion import Denoiser, GaussianDenoiser, MixtureDenoiser
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import (
    BaseSampler,
    VpTimes,
    ancestral,
    euler_maruyama,
    ode_2m,
    sigma_grid,
    start,
)

Gate = Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]
R, SIGMA_MIN = 40, 0.01


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def first_order(denoiser: Denoiser, x: Tensor, sigmas: Tensor) -> Tensor:
    """Euler's rule in sigma, also known as DDIM: a mutant."""
    for s, s_next in pairwise(sigmas.tolist()):
        x = s_next / s * x + (1 - s_next / s) * denoiser(x, s)
    return denoiser(x, float(sigmas[-1]))


# --- The deterministic part -----------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("steps", [20, 40])
def test_ode_gain_is_exact_to_second_order(steps: int, gaussian: Any) -> None:
    """On a Gaussian the ODE is linear: the start's deviation goes to sqrt(v + sigma_min^2), and
    the last denoising takes v / (v + sigma_min^2) of that.

    Twice the steps leave a quarter of the error; the first-order rule is a mutant.
    """
    v = gaussian.variance.double()
    denoiser = GaussianDenoiser(torch.zeros(6, dtype=torch.float64), v)
    x = (gaussian.sigma_max**2 + v).sqrt()[None]
    truth = v / (v + SIGMA_MIN**2).sqrt()

    def error(rule: Callable[[Denoiser, Tensor, Tensor], Tensor], steps: int) -> float:
        out = rule(denoiser, x, sigma_grid(gaussian.sigma_max, SIGMA_MIN, steps))
        return float((out / truth - 1).abs().max())

    assert error(ode_2m, steps) < 4.5 * steps**-2
    assert error(first_order, steps) > 1.5 * steps**-1
    assert 3.5 < error(ode_2m, steps) / error(ode_2m, 2 * steps) < 5


@pytest.mark.unit
def test_stochastic_chains_step_as_their_formulas(gaussian: Any) -> None:
    """Variance of each chain on a Gaussian by its own recursion, against the law itself."""
    v, s_max = gaussian.variance.double(), gaussian.sigma_max
    ancestral_variance = gaussian.chain_moments(300, second_order=False)[1]
    assert torch.allclose(ancestral_variance, v, rtol=0.03)
    w = v + s_max**2
    times = VpTimes(steps=300, sigma_max=s_max, sigma_min=SIGMA_MIN)
    schedule = times.schedule
    for t, t_next in times.pairs():
        abar, rate = schedule.alpha(t) ** 2, schedule.beta(t) * (t - t_next)
        vp = abar * v + 1 - abar  # variance of X at t: the score is -X / vp
        gain = 1 + (0.5 - 1 / vp) * rate
        w = (gain**2 * w * abar + rate) / schedule.alpha(t_next) ** 2
    assert torch.allclose(w, v + SIGMA_MIN**2, rtol=0.01)


@pytest.mark.unit
def test_the_multistep_slope_saves_steps(gaussian: Any) -> None:
    """Error of the stochastic chains' variances: first order, and far less with the slope."""
    v = gaussian.variance.double()

    def error(steps: int, *, second_order: bool) -> float:
        w = gaussian.chain_moments(steps, second_order=second_order)[1]
        return float((w / v - 1).abs().max())

    assert error(60, second_order=True) < 0.2 * error(60, second_order=False)
    assert error(120, second_order=True) < error(60, second_order=True) / 3


# --- A Gaussian -----------------------------------------------------------------------------------


def standard(x: Tensor, law: Any) -> Tensor:
    """Replicates (R, n / R, 6) in deviations from the mean."""
    return ((x - law.mean) / law.variance.sqrt()).unflatten(0, (R, -1))


def means(x: Tensor, law: Any) -> Tensor:
    """Mean of each coordinate in deviations, (R, 6); the law's is 0.3."""
    return 0.3 + standard(x, law).mean(1)


def squares(x: Tensor, law: Any) -> Tensor:
    """Second moment of each coordinate about the law's mean over its variance, (R, 6)."""
    return standard(x, law).square().mean(1)


@pytest.mark.statistical
def test_ode_draws_a_gaussian(gate: Gate, gaussian: Any) -> None:
    """2M at 40 steps. Its start is centred, and a deterministic map keeps of that what is left:
    mean (1 - sqrt(v / (v + sigma_max^2)))."""
    n, v, s_max, denoiser = 60_000, gaussian.variance, gaussian.sigma_max, gaussian.base.denoiser
    x = BaseSampler(gaussian.base, steps=40, batch_size=n)(n, generator=seeded(0)).x
    at_start, grid = start(v, s_max, n, generator=seeded(1)), sigma_grid(s_max, SIGMA_MIN, 40)
    short, high = sigma_grid(s_max, SIGMA_MIN, 8), sigma_grid(s_max, 1.0, 40)
    lost = 0.3 * (v / (v + s_max**2)).sqrt()
    off_centre = ode_2m(denoiser, at_start + 0.1 * s_max, grid)
    gate(means(x, gaussian), 0.3 - lost, {"start off centre": means(off_centre, gaussian)})
    mutants = {
        "start a tenth too narrow": ode_2m(denoiser, 0.9 * at_start, grid),
        "first order, 8 steps": first_order(denoiser, at_start, short),
        "ends at 1.0": ode_2m(denoiser, at_start, high),
    }
    wrong = {name: squares(y, gaussian) for name, y in mutants.items()}
    gate(squares(x, gaussian), 1 + lost**2, wrong)


@pytest.mark.statistical
def test_ode_keeps_coordinates_apart(gate: Gate, gaussian: Any) -> None:
    """A Gaussian in a turned basis: the covariance is not diagonal, and comes out as it is."""
    n, grid = 60_000, sigma_grid(gaussian.sigma_max, SIGMA_MIN, 40)
    q, _ = torch.linalg.qr(torch.randn(6, 6, generator=seeded(2)))
    inner = GaussianDenoiser(torch.zeros(6), gaussian.variance)

    class Turned:
        event_shape: tuple[int, ...] = (6,)

        def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
            return inner(x @ q, sigma) @ q.T

    def correlation(x: Tensor) -> Tensor:
        """Largest covariance off the diagonal over the root of its variances, (R,)."""
        parts = x.unflatten(0, (R, -1))
        return (parts[..., i] * parts[..., j]).mean(1) / spread

    truth = q * gaussian.variance @ q.T
    off = truth.fill_diagonal_(0.0).abs()
    i, j = divmod(int(off.argmax()), 6)
    spread = float(off.max())
    at_start = start(torch.full((6,), 1.46), gaussian.sigma_max, n, generator=seeded(3))
    x, plain = ode_2m(Turned(), at_start, grid), ode_2m(inner, at_start, grid)
    sign = float(truth[i, j].sign())
    gate(sign * correlation(x), 1.0, {"coordinates alone": sign * correlation(plain)})


@pytest.mark.statistical
def test_ancestral_chain_draws_its_gaussian(gate: Gate, gaussian: Any) -> None:
    """300 steps, against the exact law of the discretised chain (within 3 % of the Gaussian)."""
    n, v, s_max = 30_000, gaussian.variance, gaussian.sigma_max
    sampler = BaseSampler(gaussian.base, steps=300, chain="ancestral", batch_size=n)
    x = sampler(n, generator=seeded(4)).x
    at_start = start(v, s_max, n, generator=seeded(5))

    def chain(denoiser: Denoiser, sigma_min: float, steps: int, seed: int) -> Tensor:
        grid = sigma_grid(s_max, sigma_min, steps)
        return ancestral(denoiser, at_start, grid, generator=seeded(seed))

    mean, w = gaussian.chain_moments(300, second_order=False)
    gap = (mean - gaussian.mean) / v.sqrt()
    shifted = GaussianDenoiser(gaussian.mean - 0.15 * v.sqrt(), v)
    off = chain(shifted, SIGMA_MIN, 100, 6)
    gate(means(x, gaussian), 0.3 + gap, {"half the mean": means(off, gaussian)})
    denoiser = gaussian.base.denoiser
    mutants = {
        "30 steps": chain(denoiser, SIGMA_MIN, 30, 7),
        "ends at 1.0": chain(denoiser, 1.0, 100, 8),
    }
    wrong = {name: squares(y, gaussian) for name, y in mutants.items()}
    gate(squares(x, gaussian), w / v + gap**2, wrong)


@pytest.mark.statistical
def test_second_order_sde_draws_its_gaussian(gate: Gate, gaussian: Any) -> None:
    """15 steps, against the exact law of the discretised chain, which is not yet the Gaussian's.

    The mutants are the chain without the multistep slope, and with twice of it.
    """
    n, v, s_max = 60_000, gaussian.variance, gaussian.sigma_max
    sampler = BaseSampler(gaussian.base, steps=15, chain="sde_2m", batch_size=n)
    x = sampler(n, generator=seeded(13)).x
    mean, w = gaussian.chain_moments(15, second_order=True)
    gap, at_start = (mean - gaussian.mean) / v.sqrt(), start(v, s_max, n, generator=seeded(14))
    plain = ancestral(
        gaussian.base.denoiser, at_start, sigma_grid(s_max, SIGMA_MIN, 15), generator=seeded(15)
    )
    first = gaussian.chain_moments(15, second_order=False)[1]
    assert not torch.allclose(w, first, rtol=0.1)
    gate(squares(x, gaussian), w / v + gap**2, {"first order": squares(plain, gaussian)})


@pytest.mark.statistical
def test_euler_maruyama_draws_a_gaussian(gate: Gate, gaussian: Any) -> None:
    """300 steps; the chain ends at sigma_min, not denoised."""
    n, v, s_max = 30_000, gaussian.variance, gaussian.sigma_max
    at_start = start(v, s_max, n, generator=seeded(9))

    def chain(denoiser: Denoiser, sigma_min: float, steps: int, seed: int) -> Tensor:
        times = VpTimes(steps=steps, sigma_max=s_max, sigma_min=sigma_min)
        return euler_maruyama(denoiser, at_start, times, generator=seeded(seed))

    x = chain(gaussian.base.denoiser, SIGMA_MIN, 300, 10)
    off = chain(GaussianDenoiser(gaussian.mean - 0.15 * v.sqrt(), v), SIGMA_MIN, 100, 11)
    gate(means(x, gaussian), 0.3, {"half the mean": means(off, gaussian)})
    high = chain(gaussian.base.denoiser, 1.0, 100, 12)
    mutants = {"ends at 1.0": squares(high, gaussian)}
    gate(squares(x, gaussian), 1 + SIGMA_MIN**2 / v, mutants)


# --- A mixture ------------------------------------------------------------------------------------


WEIGHTS = torch.tensor([0.3, 0.7])
MEANS = torch.tensor([[-2.1, -1.4], [0.9, 0.6]])  # weighted mean 0: the start is centred
DEVIATIONS = torch.tensor([0.3, 0.5])
MIXTURE = MixtureDenoiser(WEIGHTS, MEANS, DEVIATIONS)
VARIANCE = torch.tensor([2.092, 1.042])  # of the two coordinates; covariance 1.26
TRUTH = torch.tensor([0.3, 1.0, 1.0, 2.092, 1.042, 1.26])
S_MAX = 20.0


def modes(x: Tensor) -> Tensor:
    """Replicates (R, 6): weight of mode 0, variance within each mode over its own, covariance."""
    rows = []
    for part in x.unflatten(0, (R, -1)):
        first = torch.cdist(part, MEANS).argmin(1) == 0
        within = [
            float((part[mask] - MEANS[k]).square().mean() / DEVIATIONS[k] ** 2)
            for k, mask in enumerate((first, ~first))
        ]
        c = torch.cov(part.T)
        rows.append([float(first.float().mean()), *within, c[0, 0], c[1, 1], c[0, 1]])
    return torch.tensor(rows, dtype=torch.float64)


@pytest.mark.statistical
def test_ode_draws_a_mixture(gate: Gate) -> None:
    """2M at 40 steps finds both modes, with their weights and shapes."""
    n, grid = 60_000, sigma_grid(S_MAX, SIGMA_MIN, 40)
    x = ode_2m(MIXTURE, start(VARIANCE, S_MAX, n, generator=seeded(8)), grid)
    narrow = 0.8 * start(VARIANCE, S_MAX, n, generator=seeded(9))
    mutants = {
        "start a fifth too narrow": ode_2m(MIXTURE, narrow, grid),
        "first order, 8 steps, narrow": first_order(
            MIXTURE, narrow, sigma_grid(S_MAX, SIGMA_MIN, 8)
        ),
    }
    gate(modes(x), TRUTH, {name: modes(y) for name, y in mutants.items()})


@pytest.mark.statistical
def test_ancestral_chain_draws_a_mixture(gate: Gate) -> None:
    """At 300 steps; 10 steps find other weights."""
    n = 24_000
    x, y = (
        ancestral(
            MIXTURE,
            start(VARIANCE, S_MAX, n, generator=seeded(10)),
            sigma_grid(S_MAX, SIGMA_MIN, steps),
            generator=seeded(11),
        )
        for steps in (300, 10)
    )
    kept = [0, 3, 4, 5]  # within the modes the chain is a little too narrow: the Gaussian test
    gate(modes(x)[:, kept], TRUTH[kept], {"10 steps": modes(y)[:, kept]})


# --- What every sampler keeps ---------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("chain", ["ode_2m", "ancestral", "sde_2m"])
def test_a_sampler_is_a_function_of_its_generator(chain: Any, gaussian: Any) -> None:
    def draw(batch_size: int, seed: int = 0) -> WeightedSamples:
        sampler = BaseSampler(gaussian.base, steps=12, chain=chain, batch_size=batch_size)
        return sampler(10, generator=seeded(seed))

    samples = draw(10)
    assert torch.allclose(draw(3).x, samples.x, atol=1e-5)
    assert torch.equal(draw(10).x, samples.x)
    assert not torch.allclose(draw(10, seed=1).x, samples.x, atol=0.1)
    assert (samples.law, samples.n_evaluations, len(samples)) == ("base", 120, 10)
    assert torch.count_nonzero(samples.log_w) == 0
    words = {
        "ode_2m": "probability-flow ODE (2M)",
        "ancestral": "ancestral chain",
        "sde_2m": "second-order SDE (2M)",
    }
    assert samples.chain == f"{words[chain]}, 12 steps"
    assert not samples.x.is_inference()


@pytest.mark.unit
def test_sigma_grid() -> None:
    grid = sigma_grid(58.0, 0.01, 30)
    assert grid.dtype == torch.float64
    assert [float(grid[0]), float(grid[-1])] == pytest.approx([58.0, 0.01])
    ratio = grid[1:] / grid[:-1]
    assert torch.allclose(ratio, ratio[:1].expand(29))
    with pytest.raises(
        CsiAuditError, match=r"steps must be at least 2; got 1\. 30 to 60 are usual"
    ):
        sigma_grid(58.0, 0.01, 1)
    for low, high in ((0.0, 1.0), (2.0, 1.0), (1.0, 1.0), (-1.0, 1.0)):
        message = rf"sigma_min and sigma_max must ascend from 0; got {low} and {high}\."
        with pytest.raises(CsiAuditError, match=message):
            sigma_grid(high, low, 10)


@pytest.mark.unit
def test_start_has_the_law_s_variance(gate: Gate) -> None:
    variance = torch.tensor([[0.5, 4.0], [9.0, 0.0]])
    x = start(variance, 2.0, 40_000, generator=seeded(12))
    assert x.shape == (40_000, 2, 2)
    found = x.square().unflatten(0, (R, -1)).mean(1).flatten(1)
    narrow = start(0.5 * variance, 1.8, 40_000, generator=seeded(17))
    mutant = narrow.square().unflatten(0, (R, -1)).mean(1).flatten(1)
    gate(found, (4.0 + variance).flatten(), {"too narrow": mutant})


@pytest.mark.unit
def test_unknown_chain(gaussian: Any) -> None:
    wrong: Any = "ode2m"
    with pytest.raises(CsiAuditError, match=r"chain must be .*'ode2m'\. Did you mean 'ode_2m'\?"):
        BaseSampler(gaussian.base, chain=wrong)
