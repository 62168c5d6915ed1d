"""The calibrated twist: regressions known in closed form, R^2 on samples left out, refusals."""

from typing import Any

import pytest
import torch
from torch import Tensor

from channels import CsiAuditError
from csi_audit.calibration import (
    CalibratedTwist,
    fit_calibrated_twist,
    resolved_features,
    tweedie_features,
)
from csi_audit.diffusion import GaussianDenoiser
from csi_audit.evaluating import CountedDenoiser
from csi_audit.twists import GuidedDenoiser
from csi_audit.weights import LinearWeight

V = torch.tensor([0.5, 1.0, 2.0, 4.0], dtype=torch.float64)
A = torch.tensor([0.1, -0.05, 0.1, 0.02], dtype=torch.float64)
DENOISER = GaussianDenoiser(torch.zeros(4, dtype=torch.float64), V)
SIGMAS = torch.logspace(-1, 1.3, 9, dtype=torch.float64)
LINEAR, SQUARE = LinearWeight(A, 0.0), LinearWeight(0 * A, 1.0, 0.0)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pilot(n: int = 600, seed: int = 0) -> Tensor:
    return V.sqrt() * torch.randn(n, 4, generator=seeded(seed), dtype=torch.float64)


def fitted(weight: Any = LINEAR, n: int = 600, **options: Any) -> CalibratedTwist:
    options = {"features": tweedie_features, **options}
    return fit_calibrated_twist(DENOISER, weight, pilot(n), SIGMAS, generator=seeded(1), **options)


def noised(sigma: float, n: int = 2000) -> Tensor:
    x0 = pilot(n, seed=2)
    return x0 + sigma * torch.randn(x0.shape, generator=seeded(3), dtype=x0.dtype)


def h_of(twist: CalibratedTwist, x: Tensor, sigma: float) -> Tensor:
    return twist.log_h(x, sigma, DENOISER(x, sigma)).exp()


# --- What is fitted -------------------------------------------------------------------------------


@pytest.mark.statistical
def test_finds_the_conditional_mean_of_a_linear_weight() -> None:
    """E[l(x0) | x] = l(D) = 1 + A . D, within 4 % of the spread of l at every level."""
    twist = fitted(n=20_000)
    spread = float((A**2 * V).sum().sqrt())
    for sigma in SIGMAS.tolist():
        x = noised(sigma)
        gap = h_of(twist, x, sigma) - (1 + DENOISER(x, sigma) @ A)
        assert float(gap.square().mean().sqrt()) < 0.04 * spread


@pytest.mark.statistical
def test_adds_what_a_convex_weight_has_yet_to_gain() -> None:
    """E[|x0|^2/4 | x] = |D|^2/4 + mean posterior variance, which the plug-in leaves out."""
    twist = fitted(SQUARE, n=20_000)
    for sigma in SIGMAS.tolist():
        x, left = noised(sigma), float((sigma**2 * V / (sigma**2 + V)).mean())
        plug_in = DENOISER(x, sigma).square().mean(1)
        gap = h_of(twist, x, sigma) - plug_in - left
        assert float(gap.square().mean().sqrt()) < 0.1
        assert sigma < 1 or float(plug_in.mean()) < 0.8 * float(h_of(twist, x, sigma).mean())


@pytest.mark.statistical
def test_r2_is_the_share_a_regression_explains() -> None:
    """For a linear l: sum a_i^2 v_i^2 / (v_i + sigma^2) over sum a_i^2 v_i, at every level."""
    twist = fitted(n=20_000)
    level = SIGMAS[:, None] ** 2
    share = (A**2 * V**2 / (V + level)).sum(1) / (A**2 * V).sum()
    assert torch.allclose(twist.r2, share, atol=0.03)
    assert torch.allclose(twist.log_sigmas, SIGMAS.log())


@pytest.mark.statistical
def test_r2_is_measured_on_samples_left_out() -> None:
    """Sixty features of pure noise explain nothing, and say so; on the samples of the fit they
    would explain a fifth of the variance."""

    def noise(x0_hat: Tensor, l_hat: Tensor, e: Tensor) -> Tensor:
        return torch.randn(len(x0_hat), 60, generator=seeded(4), dtype=x0_hat.dtype)

    twist = fitted(n=300, features=noise)
    assert float(twist.r2.max()) < 0.05
    weak = fitted(n=300, features=noise, penalties=(1e-6,))
    assert float(weak.r2.max()) < -0.05
    assert float(twist.slope.abs().max()) < 0.2 * float(weak.slope.abs().max())


@pytest.mark.unit
def test_the_scale_of_l_is_that_of_h() -> None:
    """Weights of any size: h of 1e-200 l is 1e-200 h."""

    class Tiny:
        def log_l(self, x: Tensor) -> Tensor:
            return LINEAR.log_l(x) - 460.0

    plain, tiny = fitted(), fitted(Tiny())
    x = noised(1.0, 50)
    args = (x, 1.0, DENOISER(x, 1.0))
    assert torch.allclose(tiny.log_h(*args), plain.log_h(*args) - 460)
    assert torch.allclose(tiny.r2, plain.r2)


@pytest.mark.unit
def test_the_target_may_be_another_weight() -> None:
    """Features of one l, regressed on another: l(x0) may be zero there."""

    class Half:
        def log_l(self, x: Tensor) -> Tensor:
            return torch.where(x[:, 0] > 0, 0.0, -torch.inf)

    twist = fitted(LinearWeight(torch.tensor([0.1, 0, 0, 0]).double(), 0.0), target=Half(), n=5000)
    x = noised(0.1)
    assert float(h_of(twist, x, 0.1).mean()) == pytest.approx(0.5, abs=0.05)
    assert float(h_of(twist, x[x[:, 0] > 0.5], 0.1).mean()) > 0.7


# --- What it does ---------------------------------------------------------------------------------


@pytest.mark.unit
def test_between_levels_in_log_sigma() -> None:
    twist, x0_hat = fitted(), DENOISER(noised(1.0, 30), 1.0)
    low, high = SIGMAS[3:5].tolist()

    def h(sigma: Any) -> Tensor:
        return twist.log_h(x0_hat, sigma, x0_hat).exp()

    between = float((0.75 * SIGMAS[3].log() + 0.25 * SIGMAS[4].log()).exp())
    assert torch.allclose(h(between), 0.75 * h(low) + 0.25 * h(high))
    assert torch.allclose(h(1e-4), h(float(SIGMAS[0])))
    assert torch.allclose(h(1e4), h(float(SIGMAS[-1])))
    each = torch.tensor([low, between, high, 1e4, 1e-4] * 6, dtype=torch.float64)
    alone = [twist.log_h(x0_hat, s, x0_hat)[i] for i, s in enumerate(each.tolist())]
    assert torch.allclose(twist.log_h(x0_hat, each, x0_hat), torch.stack(alone))


@pytest.mark.unit
def test_never_below_the_floor() -> None:
    twist = fitted(floor=0.3)
    far = -1e3 * A.expand(5, 4)
    h = twist.log_h(far, 0.1, far).exp()
    assert torch.allclose(h, 0.3 * LINEAR.log_l(pilot()).exp().mean().expand(5))
    assert torch.count_nonzero(GuidedDenoiser(DENOISER, twist).guidance(far, 0.1).shift) == 0


@pytest.mark.unit
def test_levels_join_smoothly() -> None:
    """One noise a pilot sample: neighbouring levels of a fine grid agree, though each is rough."""
    fine = torch.logspace(0, 0.1, 20, dtype=torch.float64)
    twist = fit_calibrated_twist(
        DENOISER, LINEAR, pilot(200), fine, generator=seeded(1), features=tweedie_features
    )
    rough = float((twist.slope - twist.slope.mean()).abs().max())
    assert float(twist.slope.diff(dim=0).abs().max()) < 0.3 * rough + 0.02


@pytest.mark.unit
def test_features() -> None:
    x0_hat = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    l_hat, e = torch.tensor([2.0, 0.5]), torch.tensor([0.25, 0.0])
    assert tweedie_features(x0_hat, l_hat, e).tolist() == [[2.0], [0.5]]
    expected = torch.tensor([[2.0, 0.25, 0.0625, 2 / 0.26], [0.5, 0.0, 0.0, 50.0]])
    assert torch.allclose(resolved_features(x0_hat, l_hat, e), expected)
    seen: list[Tensor] = []

    def watch(x0_hat: Tensor, l_hat: Tensor, e: Tensor) -> Tensor:
        seen.extend([l_hat, e])
        return tweedie_features(x0_hat, l_hat, e)

    twist = fitted(features=watch)
    scale, energy = LINEAR.log_l(pilot()).exp().mean(), pilot().square().sum(1).mean()
    x0_hat = pilot(5)
    twist.log_h(x0_hat, 1.0, x0_hat)
    assert torch.allclose(seen[-2], LINEAR.log_l(x0_hat).exp() / scale)
    assert torch.allclose(seen[-1], x0_hat.square().sum(1) / energy)


@pytest.mark.unit
def test_a_feature_that_never_moves_is_left_out() -> None:
    def one_dead(x0_hat: Tensor, l_hat: Tensor, e: Tensor) -> Tensor:
        return torch.stack([l_hat, 7 + 1e-12 * e], dim=1)

    twist = fitted(features=one_dead)
    assert torch.count_nonzero(twist.slope[:, 1]) == 0
    assert torch.allclose(twist.slope[:, :1], fitted().slope)


@pytest.mark.unit
def test_cost_and_precision() -> None:
    counted = CountedDenoiser(DENOISER, batch_size=100)
    twist = fit_calibrated_twist(counted, LINEAR, pilot(60).float(), SIGMAS, generator=seeded(0))
    assert counted.evaluations == 60 * len(SIGMAS)
    x = noised(1.0, 4).float()
    assert twist.log_h(x, 1.0, x).dtype == torch.float32
    assert twist.n_pilot == 60


@pytest.mark.unit
def test_table() -> None:
    twist = fitted(features=resolved_features)
    assert twist.name == "calibrated twist of 4 feature(s)"
    head, columns, *rows = twist.table().splitlines()
    assert head == "calibrated twist of 4 feature(s), 600 pilot samples"
    assert columns.split() == ["sigma", "R^2"]
    assert [float(row.split()[0]) for row in rows] == pytest.approx(
        SIGMAS.flip(0).tolist(), rel=0.01
    )
    assert [float(row.split()[1]) for row in rows] == pytest.approx(
        twist.r2.flip(0).tolist(), abs=0.006
    )
    assert "-0.00" not in twist.table()


@pytest.mark.unit
def test_refusals() -> None:
    message = r"pilot_x0 must hold at least 50 samples; got 49\. 500 are usual\."
    with pytest.raises(CsiAuditError, match=message):
        fitted(n=49)

    class Fixed:
        def __init__(self, values: list[float]) -> None:
            self.values = torch.tensor(values)

        def log_l(self, x: Tensor) -> Tensor:
            return self.values.repeat(len(x))[: len(x)]

    for values, words in (
        ([1.0], r"1 to 1"),
        ([0.0, float("inf")], r"0 to inf"),
        ([0.0, float("nan")], r"nan to nan"),
        ([-float("inf")], r"-inf to -inf"),
    ):
        message = (
            r"l must be finite and not the same on all pilot samples; "
            rf"log l runs from {words}\."
        )
        with pytest.raises(CsiAuditError, match=message):
            fitted(target=Fixed(values))

    def broken(x0_hat: Tensor, l_hat: Tensor, e: Tensor) -> Tensor:
        return (l_hat / 0)[:, None]

    with pytest.raises(CsiAuditError, match=r"features must be finite; at sigma 0\.1 some are not"):
        fitted(features=broken)
