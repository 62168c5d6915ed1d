"""The calibrated twist: regressions known in closed form, R^2 on samples left out, refusals."""

import math
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from channels import CsiAuditError
from csi_audit.calibration import (
    FEATURE_SETS,
    CalibratedTwist,
    DenoisedMeans,
    Features,
    fit_calibrated_twist,
    resolved_features,
    tweedie_features,
    whole_features,
)
from csi_audit.diffusion import GaussianDenoiser
from csi_audit.evaluating import CountedDenoiser
from csi_audit.twists import GuidedDenoiser
from csi_audit.weights import LinearWeight, NormalisedWeight

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

    def noise(means: DenoisedMeans) -> Tensor:
        return torch.randn(len(means.x0_hat), 60, generator=seeded(4), dtype=torch.float64)

    twist = fitted(n=300, features=noise)
    assert float(twist.r2.max()) < 0.05
    weak = fitted(n=300, features=noise, penalties=(1e-6,))
    assert float(weak.r2.max()) < -0.05


@pytest.mark.unit
def test_a_level_that_explains_nothing_does_not_guide() -> None:
    """At sigma 1e6 only the noise is left: h is the mean of l there, and is what it was below."""

    def half_noise(means: DenoisedMeans) -> Tensor:
        return torch.stack([means.l_hat, 1e-5 * means.x0_hat.double().sin().sum(1)], dim=1)

    twist = fit_calibrated_twist(
        DENOISER,
        LINEAR,
        pilot(),
        torch.tensor([0.1, 1e6]),
        generator=seeded(1),
        features=half_noise,
    )
    low, high = twist.r2.tolist()
    assert low > 0.9
    assert high <= 0
    assert torch.count_nonzero(twist.slope[1]) == 0
    assert torch.count_nonzero(twist.slope[0]) == 2
    x = noised(1e6, 20)
    found = GuidedDenoiser(DENOISER, twist).guidance(x, 1e6)
    assert torch.count_nonzero(found.shift) == 0
    assert torch.allclose(found.log_h.exp(), LINEAR.log_l(pilot()).exp().mean())


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


@pytest.mark.unit
def test_the_target_on_its_law() -> None:
    """The l that counts is that of the normalised sample: 0/0 at a denoised mean of 0, where the
    features are those of `weight`."""

    def onto(x: Tensor) -> Tensor:
        return 2 * x / x.norm(dim=1, keepdim=True)

    target = NormalisedWeight(LINEAR, onto)
    nothing = torch.zeros(1, 4, dtype=torch.float64)
    assert bool(target.log_l(nothing).isnan())
    own, plain = fitted(target=target, features=whole_features), fitted(features=whole_features)
    assert bool(own.log_h(nothing, 1.0, nothing).isfinite())
    assert own.described.weight is LINEAR
    scales = [w.log_l(pilot()).exp().mean().log() for w in (target, LINEAR)]
    assert own.described.log_scale == pytest.approx(float(scales[0]))
    assert plain.described.log_scale == pytest.approx(float(scales[1]))
    x = noised(0.1)
    near = h_of(own, x, 0.1) - target.log_l(x).exp()
    off = h_of(plain, x, 0.1) - target.log_l(x).exp()
    assert float(near.square().mean()) < 0.2 * float(off.square().mean())


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
def test_the_floor_is_smooth_and_idle_above() -> None:
    """Along a line h leaves the floor without a jump of its slope, and is the regression above;
    mutant: the clamp of the regression at the floor, whose slope jumps by all of it."""

    def straight(means: DenoisedMeans) -> Tensor:
        return (means.x0_hat @ A)[:, None]

    def h(floor: float) -> Tensor:
        return h_of(fitted(features=straight, floor=floor), x, 0.1) / mean

    mean, t = LINEAR.log_l(pilot()).exp().mean(), torch.linspace(-18, 9, 3001).double()
    x = t[:, None] * A / A.norm() ** 2 / 9
    found, regression = h(0.2), h(1e-6)
    clamped = regression.clamp_min(0.2)
    for values, smooth in ((found, True), (clamped, False)):
        slope = values.diff()
        assert bool((values >= 0.2).all())
        assert float(values[0]) == pytest.approx(0.2, abs=2e-3)
        assert (float(slope.diff().abs().max()) < 0.05 * float(slope.max())) is smooth
    above = regression > 0.9
    assert int(above.sum()) > 500
    assert torch.allclose(found[above], regression[above], atol=1e-3)


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
    """In units of the pilot: of l and of its energy."""
    x0_hat = torch.tensor([[3.0, 4.0], [0.0, 0.0]])
    weight = LinearWeight(torch.tensor([1.0, 0.0]), 0.0)
    means = DenoisedMeans(x0_hat=x0_hat, weight=weight, log_scale=math.log(2), energy=100.0)
    assert torch.allclose(tweedie_features(means), torch.tensor([[2.0], [0.5]]).double())
    resolved = torch.tensor([[2.0, 0.25, 0.0625, 2 / 0.26], [0.5, 0.0, 0.0, 50.0]]).double()
    assert torch.allclose(resolved_features(means), resolved)
    whole = torch.tensor([(1 + 3 / 0.26**0.5) / 2, 0.5]).double()  # l at x0_hat / sqrt(e + 0.01)
    expected = torch.stack([whole, torch.tensor([0.25, 0.0]) * whole], dim=1)
    assert torch.allclose(whole_features(means), torch.cat([resolved, expected], dim=1))
    seen: list[DenoisedMeans] = []

    def watch(means: DenoisedMeans) -> Tensor:
        seen.append(means)
        return tweedie_features(means)

    twist = fitted(features=watch)
    scale, energy = LINEAR.log_l(pilot()).exp().mean(), pilot().square().sum(1).mean()
    x0_hat = pilot(5)
    twist.log_h(x0_hat, 1.0, x0_hat)
    assert torch.allclose(seen[-1].l_hat, LINEAR.log_l(x0_hat).exp() / scale)
    assert torch.allclose(seen[-1].e, x0_hat.square().sum(1) / energy)


@dataclass(frozen=True)
class Step:
    """l(x) = 0.01 + 0.99 / (1 + exp(-(s - 0.5) / 0.03)), s the share of |x|^2 / 4 beyond x_0."""

    def log_l(self, x: Tensor) -> Tensor:
        share = x[:, 1:].square().sum(1) / 4
        return (0.01 + 0.99 * ((share - 0.5) / 0.03).sigmoid()).log()


@pytest.mark.statistical
def test_l_of_the_mean_scaled_up_tells_a_threshold_earlier() -> None:
    """Points on a sphere, as channels of unit power: while a part of the energy is unresolved the
    error at the mean lies below a threshold that the sample is beyond."""

    def r2(features: Features) -> Tensor:
        return on_a_sphere(features, 2000).r2

    assert bool((r2(whole_features) - r2(resolved_features) > torch.tensor([0, 0.05, 0.1])).all())


def on_a_sphere(features: Any, n: int = 500) -> CalibratedTwist:
    x0 = torch.randn(n, 4, generator=seeded(5), dtype=torch.float64)
    x0 = 2 * x0 / x0.norm(dim=1, keepdim=True)
    denoiser = GaussianDenoiser(torch.zeros(4).double(), torch.ones(4).double())
    sigmas = torch.tensor([0.1, 0.4, 0.7], dtype=torch.float64)
    return fit_calibrated_twist(
        denoiser, Step(), x0, sigmas, generator=seeded(6), features=features
    )


@pytest.mark.statistical
def test_the_simplest_features_that_do() -> None:
    """A linear l needs l at the mean alone and is not given more; a threshold on a sphere needs
    all. What is chosen is the fit of those features alone; the first stays where none is better."""
    linear, step = fitted(features=FEATURE_SETS), on_a_sphere(FEATURE_SETS)
    assert linear.described.features is tweedie_features
    assert step.described.features is whole_features
    for found, alone in ((linear, fitted()), (step, on_a_sphere(whole_features))):
        assert torch.equal(found.slope, alone.slope)
        assert torch.equal(found.r2, alone.r2)
    assert fitted(features=FEATURE_SETS[::-1]).described.features is whole_features
    assert fitted(features=list(FEATURE_SETS)[:1]).slope.shape == (len(SIGMAS), 1)


@pytest.mark.unit
def test_a_twist_knows_its_number_of_features() -> None:
    """Fitted on four features, asked about one: that would broadcast to a wrong h in silence."""
    twist = fitted(features=resolved_features)
    wrong = replace(twist, described=replace(twist.described, features=tweedie_features))
    x0_hat = pilot(3)
    with pytest.raises(ValueError, match=r"features must be those of the fit, 4 a sample; got 1\."):
        wrong.log_h(x0_hat, 1.0, x0_hat)


@pytest.mark.unit
def test_features_near_nothing_stay_finite() -> None:
    """At high noise next to nothing is resolved and slopes are immense. In float32 h and its
    gradient stay finite along the whole range, three times as far out as the pilot."""
    x0, sigmas = pilot().float(), torch.logspace(-1, 13, 8, dtype=torch.float64)
    denoiser = GaussianDenoiser(torch.zeros(4), V.float())
    for features in (tweedie_features, resolved_features, whole_features, _tiny):
        twist = fit_calibrated_twist(
            denoiser, LINEAR, x0, sigmas, generator=seeded(1), features=features, penalties=(1e-6,)
        )
        assert features is not _tiny or torch.count_nonzero(twist.slope[:, 1]) == 0
        for sigma in sigmas.tolist():
            x = x0 + sigma * torch.randn(x0.shape, generator=seeded(2))
            found = GuidedDenoiser(denoiser, twist).guidance(3 * x, sigma)
            assert found.log_h.dtype == torch.float32
            assert bool(found.log_h.isfinite().all())
            assert bool(found.shift.isfinite().all())


def _tiny(means: DenoisedMeans) -> Tensor:
    """A feature that is nothing beside the order one that features are to be of."""
    return torch.stack([means.l_hat, 1e-40 * means.x0_hat.double().sum(1)], dim=1)


@pytest.mark.unit
def test_a_feature_that_never_moves_is_left_out() -> None:
    def one_dead(means: DenoisedMeans) -> Tensor:
        rounding, zero = 7 + 1e-12 * means.e, 0 * means.e
        return torch.stack([means.l_hat, rounding, zero], dim=1)

    twist = fitted(features=one_dead)
    assert torch.count_nonzero(twist.slope[:, 1:]) == 0
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

    def broken(means: DenoisedMeans) -> Tensor:
        return (means.l_hat / 0)[:, None]

    message = (
        r"features must be finite; at sigma 0\.1 some are not\. "
        r"Is l finite at denoised means, which are nearly 0 at high noise\?"
    )
    with pytest.raises(CsiAuditError, match=message):
        fitted(features=broken)


@pytest.mark.unit
def test_a_pilot_that_hardly_saw_l_is_refused() -> None:
    """l counts on two samples of 600: nothing can be fitted to them. Twelve will do."""

    class Rare:
        def __init__(self, events: int) -> None:
            self.beyond = float(pilot()[:, 0].sort().values[-events - 1])

        def log_l(self, x: Tensor) -> Tensor:
            return torch.where(x[:, 0] > self.beyond, 0.0, -torch.inf)

    message = (
        r"l must count on at least 10 effective pilot samples; got 2\.0 of 600: a few hold nearly "
        r"all of it\. Draw more, soften l \(a lower power, a wider threshold, a higher floor\) or "
        r"use an exact twist\."
    )
    with pytest.raises(CsiAuditError, match=message):
        fitted(target=Rare(2))
    assert fitted(target=Rare(12)).n_pilot == 600

    class Sharp:
        def log_l(self, x: Tensor) -> Tensor:
            return 50 * x[:, 0]

    with pytest.raises(CsiAuditError, match=r"got 1\.\d of 600"):
        fitted(Sharp())
