"""The paper's guidance: its published form, where it is exact, where it is known to be wrong."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from channels import Convention, onto_sphere
from compressors import Klt, in_audit_space
from csi_audit.diffusion import Denoiser, GaussianDenoiser, MixtureDenoiser
from csi_audit.losses import SquaredErrorLoss
from csi_audit.sampling import IssgmSampler
from csi_audit.twists import GuidedDenoiser, gradient_log_l
from csi_audit.weights import LinearWeight, LossWeight, Weight

Gate = Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]
MIXTURE = MixtureDenoiser(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [1.5, 0.0]], dtype=torch.float64),
    torch.tensor([0.4, 0.7], dtype=torch.float64),
)


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


@dataclass(frozen=True)
class Inverse:
    """l(x) = 1 / |x|: no gradient at 0."""

    def log_l(self, x: Tensor) -> Tensor:
        return -x.norm(dim=1).log()


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int = 8, seed: int = 0) -> tuple[Tensor, Tensor]:
    """x (n, 2) at noise levels from 0.05 to 20."""
    sigma = torch.logspace(-1.3, 1.3, n, dtype=torch.float64)
    x = torch.randn(n, 2, generator=seeded(seed), dtype=torch.float64)
    return (1 + sigma[:, None] ** 2).sqrt() * x, sigma


# --- The form -------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    "weight", [Tilt(torch.tensor([0.7, -0.4]).double()), Square()], ids=["tilt", "square"]
)
def test_the_published_score(weight: Weight) -> None:
    """s_q = s(X) + g/sqrt(abar) + (1 - abar) [s(X + eps g) - s(X)] / (eps sqrt(abar)).

    Word for word in variance-preserving variables, X = alpha x, abar = alpha^2 and
    s = (D - x) / (alpha sigma^2), against the guided denoiser's score in the same variables.
    """
    x, sigma = points()
    alpha = (1 / (1 + sigma**2).sqrt())[:, None]  # of any variance-preserving schedule
    abar, level = alpha**2, sigma[:, None]

    def score(big_x: Tensor, denoiser: Denoiser = MIXTURE) -> Tensor:
        return (denoiser(big_x / alpha, sigma) - big_x / alpha) / (alpha * level**2)

    big_x = alpha * x
    x0_hat = (big_x + (1 - abar) * score(big_x)) / alpha
    assert torch.allclose(x0_hat, MIXTURE(x, sigma))
    g = gradient_log_l(weight, x0_hat)
    eps = alpha * 0.005 * level / g.norm(dim=1, keepdim=True)
    published = score(big_x) + g / alpha
    published += (1 - abar) * (score(big_x + eps * g) - score(big_x)) / (eps * alpha)
    guided = score(big_x, GuidedDenoiser(MIXTURE, weight, difference=0.005))
    assert torch.allclose(guided, published, rtol=1e-6, atol=1e-9)
    assert not torch.allclose(guided, published - g / alpha, rtol=1e-2)  # that term is not idle


@pytest.mark.unit
def test_exponential_weights_are_exact_on_a_gaussian() -> None:
    """The guided denoiser is the denoiser of N(mu + v a, v); mutants: exponent x 0.95, no guide."""
    mean, v = torch.tensor([0.3, -1.0]).double(), torch.tensor([0.5, 3.0]).double()
    a = torch.tensor([1.0, -0.5]).double()
    base, tilted = GaussianDenoiser(mean, v), GaussianDenoiser(mean + v * a, v)
    x, sigma = points()
    exact = tilted(x, sigma)
    assert torch.allclose(GuidedDenoiser(base, Tilt(a))(x, sigma), exact, atol=1e-9)
    assert not torch.allclose(GuidedDenoiser(base, Tilt(0.95 * a))(x, sigma), exact, atol=1e-2)
    assert not torch.allclose(base(x, sigma), exact, atol=0.1)


@pytest.mark.unit
@pytest.mark.parametrize("sigma", [0.2, 1.0, 4.0])
def test_linear_weights_are_exact_on_a_mixture(sigma: float) -> None:
    """E[l(x0) | x] = l(E[x0 | x]) for a linear l: D_q is the posterior mean under q, found here on
    a fine grid. What is left is the finite difference's, and falls with its step."""
    weight = LinearWeight(torch.tensor([0.12, -0.05]).double(), 0.0)
    axis = torch.linspace(-7, 7, 561, dtype=torch.float64)
    x0 = torch.cartesian_prod(axis, axis)
    gap = (x0[:, None] - MIXTURE.means).square().sum(2) / MIXTURE.deviations**2
    log_p = torch.logsumexp(MIXTURE.weights.log() - 0.5 * gap - 2 * MIXTURE.deviations.log(), 1)
    x = torch.tensor([[0.0, 0.0], [-1.2, 0.9], [2.5, -1.5]], dtype=torch.float64)
    log_joint = log_p + weight.log_l(x0) - 0.5 * torch.cdist(x, x0).square() / sigma**2
    exact = log_joint.softmax(1) @ x0
    moved = exact - MIXTURE(x, sigma)
    for difference in (0.005, 0.0005):
        guided = GuidedDenoiser(MIXTURE, weight, difference=difference)
        error = (guided(x, sigma) - exact).norm(dim=1) / moved.norm(dim=1)
        assert float(error.max()) < 4 * difference


@pytest.mark.unit
@pytest.mark.parametrize("difference", [0.0, 1.0, -0.1])
def test_the_difference_is_a_share_of_sigma(difference: float) -> None:
    message = rf"difference must lie in \(0, 1\), in units of sigma; got {difference}\."
    with pytest.raises(ValueError, match=message):
        GuidedDenoiser(MIXTURE, Square(), difference=difference)


@pytest.mark.unit
def test_a_sample_knows_no_neighbours() -> None:
    guided = GuidedDenoiser(MIXTURE, Square())
    assert guided.event_shape == (2,)
    x, sigma = points()
    whole = guided(x, sigma)
    alone = torch.cat([guided(x[i : i + 1], float(sigma[i])) for i in range(len(x))])
    assert torch.allclose(alone, whole)


# --- Samples --------------------------------------------------------------------------------------


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


# --- The gradient ---------------------------------------------------------------------------------


@pytest.fixture
def squared_error() -> LossWeight:
    """A compressor's squared error as a weight."""
    x = onto_sphere(torch.randn(60, 2, 8, 8, generator=seeded(0)))
    klt = Klt(16, n_tx=8, n_delay=8).fit(x)
    return LossWeight(SquaredErrorLoss(in_audit_space(_Wide(klt))))


class _Wide:
    """A KLT in double precision."""

    def __init__(self, klt: Klt) -> None:
        self.n_code, self.convention = klt.n_code, Convention(event_shape=(2, 8, 8))
        self.rows = klt.real_rows().double()

    def encode(self, y: Tensor) -> Tensor:
        return y.flatten(1) @ self.rows.T

    def decode(self, z: Tensor) -> Tensor:
        return (z @ self.rows).unflatten(1, (2, 8, 8))

    def bits(self, z: Tensor) -> None:
        return None


@pytest.mark.unit
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_against_finite_differences(mode: Any, squared_error: LossWeight) -> None:
    x = torch.randn(3, 2, 8, 8, generator=seeded(1), dtype=torch.float64)
    direction = torch.randn(x.shape, generator=seeded(2), dtype=torch.float64)
    with mode():
        g = gradient_log_l(squared_error, 1.0 * x)
    assert g.shape == x.shape
    assert not g.requires_grad
    h = 1e-5
    ahead, behind = (squared_error.log_l(x + s * h * direction) for s in (1, -1))
    slope = (ahead - behind) / (2 * h)
    assert torch.allclose((g * direction).flatten(1).sum(1), slope, rtol=1e-6)


@pytest.mark.unit
def test_gradient_leaves_the_network_alone(seeded_torch: None) -> None:
    net = torch.nn.Linear(4, 1)

    class Net:
        def log_l(self, x: Tensor) -> Tensor:
            return net(x)[:, 0]

    g = gradient_log_l(Net(), torch.randn(5, 4))
    assert torch.allclose(g, net.weight.detach().expand(5, 4))
    assert net.weight.grad is None


@pytest.mark.unit
def test_a_gradient_that_is_not_finite() -> None:
    x = torch.ones(4, 2)
    x[2] = 0
    message = (
        r"the gradient of log l must be finite; sample 2 has NaN or infinity\. "
        r"Does the weight divide by the power of a nearly empty channel\?"
    )
    with pytest.raises(ValueError, match=message):
        gradient_log_l(Inverse(), x)
