"""The laws that a base must beat: densities, samples and EM against closed forms."""

import math
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from benchmarks.gaussian_laws import GaussianMixture, fit_mixture, gaussian_of
from channels.domains import to_complex
from channels.symmetry import flip_array

unit, statistical = pytest.mark.unit, pytest.mark.statistical
SHAPE = (1, 4, 3)
N = 12


def a_mixture() -> GaussianMixture:
    """Two components of rank 2 with powers at different ends."""
    generator = torch.Generator().manual_seed(0)
    factors = torch.randn(2, N, 2, dtype=torch.complex64, generator=generator)
    slope = torch.linspace(0, 3, N)
    diagonals = torch.stack([(-slope).exp(), slope.exp() / 8]) + 0.05
    return GaussianMixture(
        weights=torch.tensor([0.3, 0.7]), diagonals=diagonals, factors=factors, shape=SHAPE,
        flip=False,
    )  # fmt: skip


def plain_draws(law: GaussianMixture, n: int, seed: int) -> Tensor:
    """Samples before they are put at unit power and turned, complex (n, N)."""
    generator = torch.Generator().manual_seed(seed)
    k = torch.multinomial(law.weights, n, replacement=True, generator=generator)
    root = torch.linalg.cholesky(covariances(law))
    z = torch.randn(n, N, dtype=torch.complex64, generator=generator)
    return torch.einsum("nij,nj->ni", root[k], z)


def covariances(law: GaussianMixture) -> Tensor:
    return torch.diag_embed(law.diagonals).to(torch.complex64) + law.factors @ law.factors.mH


def as_users(rows: Tensor) -> Tensor:
    """Complex rows as real audit-space maps."""
    h = rows.reshape(-1, *SHAPE)
    return torch.stack((h.real, h.imag), dim=2).flatten(1, 2)


@unit
def test_the_density_is_that_of_the_full_covariance() -> None:
    law = a_mixture()
    rows = plain_draws(law, 20, seed=1)
    found = law.log_joint(rows)
    for k, covariance in enumerate(covariances(law)):
        quadratic = (rows.conj() * torch.linalg.solve(covariance, rows.mT).mT).real.sum(1)
        log_det = torch.linalg.slogdet(covariance)[1]
        log_p = -N * math.log(math.pi) - log_det - quadratic + law.weights[k].log()
        assert torch.allclose(found[:, k].float(), log_p, rtol=1e-4, atol=1e-3)


@statistical
def test_samples_have_the_covariance_at_unit_power() -> None:
    law = a_mixture()
    x = law.sample(40_000, generator=torch.Generator().manual_seed(2))
    power = x.square().flatten(1).sum(1)
    assert torch.allclose(power, torch.full_like(power, N), rtol=1e-4)
    rows = plain_draws(law, 40_000, seed=3)
    rows = rows * math.sqrt(N) / torch.linalg.vector_norm(rows, dim=1, keepdim=True)
    mine = to_complex(x).flatten(1)
    moments = [part.mT @ part.conj() / len(part) for part in (mine, rows)]
    assert float((moments[0] - moments[1]).abs().max()) < 0.06
    assert float((moments[0] - moments[1].conj()).abs().max()) > 0.2  # conjugated factors
    assert float((mine.mT @ mine / len(mine)).abs().max()) < 0.05  # no phase is preferred


@unit
def test_em_climbs_to_the_likelihood_of_the_truth() -> None:
    law = a_mixture()
    x, fresh = as_users(plain_draws(law, 3000, seed=4)), plain_draws(law, 3000, seed=5)
    fitted, curve = fit_mixture(
        x, generator=torch.Generator().manual_seed(0), components=2, rank=2, steps=60, flip=False
    )
    assert all(b >= a - 1e-3 for a, b in pairwise(curve))
    truth = float(law.log_joint(fresh).logsumexp(1).mean())
    found = float(fitted.log_joint(fresh).logsumexp(1).mean())
    assert truth - 0.15 < found < truth + 0.05
    assert float(fitted.weights.min()) == pytest.approx(0.3, abs=0.04)
    (single, _) = fit_mixture(
        x, generator=torch.Generator().manual_seed(0), components=1, rank=2, steps=20, flip=False
    )
    assert float(single.log_joint(fresh).logsumexp(1).mean()) < truth - 1


@unit
def test_the_gaussian_has_the_covariance_of_users_and_their_flips() -> None:
    x = as_users(plain_draws(a_mixture(), 500, seed=6))
    law = gaussian_of(x)
    rows = to_complex(torch.cat([x, flip_array(x)])).flatten(1)
    moment = rows.mT @ rows.conj() / len(rows)
    assert torch.allclose(covariances(law)[0], moment, atol=1e-3)
    one_sided = gaussian_of(x, flip=False)
    assert not torch.allclose(covariances(one_sided)[0], moment, atol=0.1)


@unit
def test_a_component_of_nobody_is_kept_harmless() -> None:
    """More components than the data have: no NaN, and the weights still sum to one."""
    x = as_users(plain_draws(a_mixture(), 12, seed=7))
    fitted, curve = fit_mixture(
        x, generator=torch.Generator().manual_seed(0), components=6, rank=1, steps=8
    )
    assert float(fitted.weights.sum()) == pytest.approx(1)
    drawn = fitted.sample(50, generator=torch.Generator().manual_seed(1))
    assert bool(torch.isfinite(drawn).all())
    assert all(math.isfinite(value) for value in curve)
