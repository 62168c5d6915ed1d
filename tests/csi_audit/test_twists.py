"""Twists and guidance: the published form, exact gradients, where a twist is exact or wrong."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from channels import Convention, CsiAuditError, onto_sphere
from compressors import Klt, in_audit_space
from csi_audit.base import build_denoiser
from csi_audit.diffusion import Denoiser, GaussianDenoiser, MixtureDenoiser
from csi_audit.evaluating import CountedDenoiser
from csi_audit.losses import SquaredErrorLoss
from csi_audit.networks import NetworkSpec
from csi_audit.toy_laws import ExactTwist, MixtureLaw
from csi_audit.toy_weights import QuadraticWeight
from csi_audit.twists import (
    GuidedDenoiser,
    SmoothedTwist,
    TweedieTwist,
    Twist,
    gradient_log_l,
)
from csi_audit.weights import LinearWeight, LossWeight, Weight

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


def by_difference(denoiser: Denoiser, twist: Twist, difference: float = 0.005) -> GuidedDenoiser:
    """The paper's gradient."""
    return GuidedDenoiser(denoiser, twist, gradient="finite_difference", difference=difference)


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
    guided = score(big_x, by_difference(MIXTURE, TweedieTwist(weight), 0.005))
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
    for guide in (GuidedDenoiser, by_difference):
        assert torch.allclose(guide(base, TweedieTwist(Tilt(a)))(x, sigma), exact, atol=1e-9)
        mutant = guide(base, TweedieTwist(Tilt(0.95 * a)))
        assert not torch.allclose(mutant(x, sigma), exact, atol=1e-2)
    assert not torch.allclose(base(x, sigma), exact, atol=0.1)


AXIS = torch.linspace(-7, 7, 561, dtype=torch.float64)
GRID = torch.cartesian_prod(AXIS, AXIS)
X = torch.tensor([[0.0, 0.0], [-1.2, 0.9], [2.5, -1.5]], dtype=torch.float64)


def target_mean(weight: Weight, sigma: float) -> Tensor:
    """E_q[x0 | x_sigma = X] under the mixture, on a fine grid."""
    gap = (GRID[:, None] - MIXTURE.means).square().sum(2) / MIXTURE.deviations**2
    log_p = torch.logsumexp(MIXTURE.weights.log() - 0.5 * gap - 2 * MIXTURE.deviations.log(), 1)
    log_joint = log_p + weight.log_l(GRID) - 0.5 * torch.cdist(X, GRID).square() / sigma**2
    return log_joint.softmax(1) @ GRID


def error(guided: Denoiser, weight: Weight, sigma: float) -> float:
    """Largest gap to the target's denoiser, relative to what guidance has to move."""
    exact = target_mean(weight, sigma)
    moved = (exact - MIXTURE(X, sigma)).norm(dim=1)
    return float(((guided(X, sigma) - exact).norm(dim=1) / moved).max())


@pytest.mark.unit
@pytest.mark.parametrize("sigma", [0.2, 1.0, 4.0])
def test_linear_weights_are_exact_on_a_mixture(sigma: float) -> None:
    """E[l(x0) | x] = l(E[x0 | x]) for a linear l: D_q is the posterior mean under q. What is left
    is the finite difference's, and falls with its step; the backward pass leaves nothing."""
    weight = LinearWeight(torch.tensor([0.12, -0.05]).double(), 0.0)
    twist = TweedieTwist(weight)
    assert error(GuidedDenoiser(MIXTURE, twist), weight, sigma) < 1e-6
    for difference in (0.005, 0.0005):
        assert error(by_difference(MIXTURE, twist, difference), weight, sigma) < 4 * difference


@pytest.mark.unit
@pytest.mark.parametrize("sigma", [0.2, 1.0, 4.0])
def test_the_exact_twist_is_exact_where_the_plug_in_is_not(sigma: float) -> None:
    """A convex weight: E[l(x0) | x] itself gives the target's denoiser, l at the mean does not."""
    weight = QuadraticWeight(torch.zeros(2, dtype=torch.float64), 2.0, 0.0)
    law = MixtureLaw(
        name="two",
        probabilities=MIXTURE.weights,
        means=MIXTURE.means,
        deviations=MIXTURE.deviations,
    )
    exact = ExactTwist(law, weight)
    assert error(GuidedDenoiser(MIXTURE, exact), weight, sigma) < 1e-6
    assert error(by_difference(MIXTURE, exact), weight, sigma) < 1e-6  # it uses x, not D(x)
    plug_in = error(GuidedDenoiser(MIXTURE, TweedieTwist(weight)), weight, sigma)
    smooth = SmoothedTwist(weight, law.variance, generator=seeded(0))
    smoothed = error(GuidedDenoiser(MIXTURE, smooth), weight, sigma)
    assert plug_in > (0.01 if sigma < 1 else 0.2)
    assert smoothed < 0.5 * plug_in


TWISTS: dict[str, Callable[[], Twist]] = {
    "tweedie": lambda: TweedieTwist(Square(0.3)),
    "smoothed": lambda: SmoothedTwist(
        Square(0.3), torch.tensor([2.0, 0.5]).double(), generator=seeded(0)
    ),
    "both": lambda: _Both(),
}


class _Both:
    """A twist that looks at x beside x0_hat."""

    name = "both"

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        return 0.1 * x.sin().sum(1) + (1 + x0_hat.square().sum(1)).log()


@pytest.mark.unit
@pytest.mark.parametrize("name", sorted(TWISTS))
def test_guidance_is_the_gradient_of_log_h(name: str) -> None:
    """sigma^2 grad log h(x, sigma, D(x)), against central differences, and log h itself."""
    twist, (x, sigma) = TWISTS[name](), points()

    def log_h(x: Tensor) -> Tensor:
        return twist.log_h(x, sigma, MIXTURE(x, sigma))

    direction = torch.randn(x.shape, generator=seeded(1), dtype=torch.float64)
    slope = (log_h(x + 1e-5 * direction) - log_h(x - 1e-5 * direction)) / 2e-5
    found = GuidedDenoiser(MIXTURE, twist).guidance(x, sigma)
    assert torch.allclose((found.shift * direction).sum(1), sigma**2 * slope, rtol=1e-5, atol=1e-7)
    assert torch.allclose(found.log_h, log_h(x))
    assert torch.equal(found.x0_hat, MIXTURE(x, sigma))
    near = by_difference(MIXTURE, twist, 1e-5).guidance(x, sigma)
    assert torch.allclose(near.shift, found.shift, rtol=1e-3, atol=1e-6)  # this D is a gradient
    assert torch.allclose(near.log_h, found.log_h)


@pytest.mark.unit
def test_the_exact_gradient_is_not_the_finite_difference_of_a_network() -> None:
    """J^T g is meant. On a D that is no gradient, the paper's J g is something else."""
    turn = torch.tensor([[1.0, 0.5], [-0.5, 1.0]]).double()

    class Turned:
        event_shape: tuple[int, ...] = (2,)

        def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
            return 0.5 * x @ turn.T

    a = torch.tensor([1.0, 0.0]).double()
    x = torch.ones(3, 2, dtype=torch.float64)
    twist = TweedieTwist(Tilt(a))
    exact = GuidedDenoiser(Turned(), twist).guidance(x, 2.0).shift
    assert torch.allclose(exact, (4 * 0.5 * a @ turn).expand(3, 2))
    assert torch.allclose(
        by_difference(Turned(), twist).guidance(x, 2.0).shift, (4 * 0.5 * turn @ a).expand(3, 2)
    )


@pytest.mark.unit
def test_smoothing_is_exact_for_squares_on_a_gaussian() -> None:
    """E[|x0|^2 / n | x] = |D|^2 / n + mean posterior variance; the plug-in lacks the second."""
    v = torch.tensor([0.5, 3.0]).double()
    gaussian, (x, sigma) = GaussianDenoiser(torch.zeros(2).double(), v), points()
    x0_hat, level = gaussian(x, sigma), sigma[:, None]
    exact = x0_hat.square().mean(1) + (level**2 * v / (level**2 + v)).mean(1)
    for draws in (2, 8):
        twist = SmoothedTwist(Square(), v, draws=draws, generator=seeded(draws))
        assert torch.allclose(twist.log_h(x, sigma, x0_hat).exp(), exact)
        assert torch.equal(twist.log_h(x, sigma, x0_hat), twist.log_h(x, sigma, x0_hat))
    isotropic = SmoothedTwist(Square(), torch.ones(2), generator=seeded(0))
    assert not torch.allclose(isotropic.log_h(x, sigma, x0_hat).exp(), exact, rtol=0.1)
    plug_in = TweedieTwist(Square()).log_h(x, sigma, x0_hat).exp()
    assert bool((plug_in[-2:] < 0.1 * exact[-2:]).all())


@pytest.mark.unit
@pytest.mark.parametrize("draws", [0, 1, 7])
def test_smoothing_draws_come_in_pairs(draws: int) -> None:
    message = rf"draws must be even, in pairs z and -z, and at least 2; got {draws}\."
    with pytest.raises(ValueError, match=message):
        SmoothedTwist(Square(), torch.ones(2), draws=draws, generator=seeded(0))


@pytest.mark.unit
@pytest.mark.parametrize("difference", [0.0, 1.0, -0.1])
def test_the_difference_is_a_share_of_sigma(difference: float) -> None:
    message = rf"difference must lie in \(0, 1\), in units of sigma; got {difference}\."
    with pytest.raises(ValueError, match=message):
        by_difference(MIXTURE, TweedieTwist(Square()), difference)


@pytest.mark.unit
def test_an_unknown_gradient() -> None:
    wrong: Any = "backwards"
    message = r"gradient must be a known one; got 'backwards'\. Did you mean 'backward'\?"
    with pytest.raises(CsiAuditError, match=message):
        GuidedDenoiser(MIXTURE, TweedieTwist(Square()), gradient=wrong)


@pytest.mark.unit
@pytest.mark.parametrize("gradient", ["backward", "finite_difference"])
def test_a_sample_knows_no_neighbours(gradient: Any) -> None:
    twist = SmoothedTwist(Square(), torch.ones(2), generator=seeded(0))
    guided = GuidedDenoiser(MIXTURE, twist, gradient=gradient)
    assert guided.event_shape == (2,)
    x, sigma = points()
    whole = guided(x, sigma)
    alone = torch.cat([guided(x[i : i + 1], float(sigma[i])) for i in range(len(x))])
    assert torch.allclose(alone, whole)
    counted = CountedDenoiser(MIXTURE, batch_size=3)
    split = GuidedDenoiser(counted, twist, gradient=gradient)
    assert torch.allclose(split(x, sigma), whole)
    assert counted.evaluations == 2 * len(x)  # either gradient costs two


@pytest.mark.unit
@pytest.mark.parametrize("gradient", ["backward", "finite_difference"])
def test_a_constant_twist_does_nothing(gradient: Any) -> None:
    class Constant:
        name = "constant"

        def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
            return torch.full((len(x),), -3.0, dtype=x.dtype)

    x, sigma = points()
    found = GuidedDenoiser(MIXTURE, Constant(), gradient=gradient).guidance(x, sigma)
    assert torch.count_nonzero(found.shift) == 0
    assert found.log_h.tolist() == [-3.0] * len(x)


@pytest.mark.unit
def test_half_precision_guides_as_full_does(seeded_torch: None) -> None:
    """A network under bf16: log h stays float32, the shift moves by a per cent at most."""
    denoiser = build_denoiser(NetworkSpec(), torch.rand(2, 8, 8) + 0.1)
    with torch.no_grad():
        for parameter in denoiser.parameters():
            parameter.add_(0.05 * torch.randn(parameter.shape))
    guided = GuidedDenoiser(denoiser, TweedieTwist(Square()))
    x = torch.randn(8, 2, 8, 8)
    exact = guided.guidance(x, 0.7)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = guided.guidance(x, 0.7)
    assert rounded.log_h.dtype == rounded.shift.dtype == torch.float32
    assert torch.allclose(rounded.log_h, exact.log_h, atol=1e-2)
    gap = float((rounded.shift - exact.shift).norm() / exact.shift.norm())
    assert 0 < gap < 0.01


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
        r"the gradient of log {} must be finite; sample 2 has NaN or infinity\. "
        r"Does the weight divide by the power of a nearly empty channel\?"
    )
    with pytest.raises(ValueError, match=message.format("l")):
        gradient_log_l(Inverse(), x)
    for gradient in ("backward", "finite_difference"):
        guided = GuidedDenoiser(
            GaussianDenoiser(torch.zeros(2), torch.ones(2)),
            TweedieTwist(Inverse()),
            gradient="backward" if gradient == "backward" else "finite_difference",
        )
        with pytest.raises(ValueError, match=message.format("h")):
            guided(x, 1.0)
