"""Foreign networks as denoisers: each parametrisation under each schedule is the one closed form.

The stand-ins know a mixture's exact denoiser and speak the formalism's own formulas, written out
here once more.
"""

import math
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from channels import ChannelSet, Convention, CsiAuditError, audit_space
from csi_audit import foreign_denoisers
from csi_audit.base import Base, coefficient_variance
from csi_audit.diffusion import GaussianDenoiser, MixtureDenoiser
from csi_audit.foreign_denoisers import ForeignDenoiser, Prediction, base_of_denoiser
from csi_audit.sampling import BaseSampler, ode_2m, sigma_grid
from csi_audit.schedules import Edm, Schedule, StepTable, VeGeometric, VpCosine, VpLinear

SHAPE = (2, 4, 4)
SIGMAS = torch.tensor([0.02, 0.1, 0.5, 1.5, 6.0, 40.0], dtype=torch.float64)
PREDICTIONS: tuple[Prediction, ...] = ("noise", "v", "x0", "score")
UNIT = Convention(scaling="global", scale=0.4, offset=0.1, event_shape=SHAPE)
ABAR = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)


def vp_linear(t: Tensor) -> tuple[Tensor, Tensor]:
    """abar = exp(-0.1 t - 9.95 t^2)."""
    abar = torch.exp(-0.1 * t - 9.95 * t**2)
    return abar.sqrt(), (1 - abar).sqrt()


def vp_cosine(t: Tensor) -> tuple[Tensor, Tensor]:
    def f(at: Tensor) -> Tensor:
        return torch.cos((at + 0.008) / 1.008 * math.pi / 2)

    alpha = f(t) / f(torch.zeros_like(t))
    return alpha, (1 - alpha**2).sqrt()


def ve(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(t), 0.005 * 12_000.0**t


def edm(t: Tensor) -> tuple[Tensor, Tensor]:
    return torch.ones_like(t), (0.002 ** (1 / 7) + t * (80 ** (1 / 7) - 0.002 ** (1 / 7))) ** 7


FORMALISMS: dict[str, tuple[Schedule, Callable[[Tensor], tuple[Tensor, Tensor]]]] = {
    "vp_linear": (VpLinear(), vp_linear),
    "vp_cosine": (VpCosine(), vp_cosine),
    "ve": (VeGeometric(sigma_min=0.005, sigma_max=60.0), ve),
    "edm": (Edm(sigma_min=0.002, sigma_max=80.0), edm),
}


class Truth:
    """A mixture of three Gaussians over channels of SHAPE: D in closed form."""

    event_shape: tuple[int, ...] = SHAPE

    def __init__(self) -> None:
        generator = torch.Generator().manual_seed(3)
        means = torch.randn(3, 32, generator=generator, dtype=torch.float64)
        weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)
        deviations = torch.tensor([0.3, 0.8, 1.5], dtype=torch.float64)
        self.flat = MixtureDenoiser(weights, means, deviations)

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return self.flat(x.flatten(1), sigma).view_as(x)


class StandIn(nn.Module):
    """A network that speaks a formalism: y_t = a y + s_t eps of its own scale y and time t."""

    def __init__(
        self,
        predicts: Prediction,
        times: Callable[[Tensor], tuple[Tensor, Tensor]],
        convention: Convention = UNIT,
    ) -> None:
        super().__init__()
        self.predicts, self.times, self.convention = predicts, times, convention
        self.truth = Truth()

    def forward(self, y_t: Tensor, t: Tensor) -> Tensor:
        a, s_t = (part.view(-1, 1, 1, 1) for part in self.times(t))
        x_sigma = self.convention.from_own(y_t / a)
        sigma = (s_t / a).flatten() / (self.convention.scale or 1.0)
        y0 = self.convention.to_own(self.truth(x_sigma, sigma))[0]
        eps = (y_t - a * y0) / s_t
        return {"noise": eps, "v": a * eps - s_t * y0, "x0": y0, "score": -eps / s_t}[self.predicts]


def noisy(seed: int = 0) -> Tensor:
    """x_sigma at each of SIGMAS."""
    generator = torch.Generator().manual_seed(seed)
    x0, eps = torch.randn(2, len(SIGMAS), *SHAPE, generator=generator, dtype=torch.float64)
    return x0 + SIGMAS.view(-1, 1, 1, 1) * eps


def largest_error(denoiser: ForeignDenoiser) -> float:
    x = noisy()
    return float((denoiser(x, SIGMAS) - Truth()(x, SIGMAS)).abs().max())


def foreign(name: str, predicts: Prediction, convention: Convention = UNIT) -> ForeignDenoiser:
    schedule, times = FORMALISMS[name]
    network = StandIn(predicts, times, convention)
    return ForeignDenoiser(network, predicts=predicts, schedule=schedule, convention=convention)


# --- Parametrisations, schedules, scalings --------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("predicts", PREDICTIONS)
@pytest.mark.parametrize("name", FORMALISMS)
def test_every_parametrisation_is_one_denoiser(name: str, predicts: Prediction) -> None:
    denoiser = foreign(name, predicts)
    assert largest_error(denoiser) < 1e-8
    x = noisy().float()
    single = denoiser(x, SIGMAS.float())
    assert single.dtype == torch.float32
    assert torch.allclose(single.double(), Truth()(x.double(), SIGMAS), atol=2e-4)
    assert torch.allclose(denoiser(noisy(), 1.5), Truth()(noisy(), 1.5), atol=1e-9)


MUTANTS: dict[str, tuple[Prediction, Callable[..., Tensor]]] = {
    "wrong sign of v": ("v", lambda y, v, alpha, s: (y + s * v / alpha) / (1 + s**2)),
    "v without alpha": ("v", lambda y, v, alpha, s: (y - s * v) / (1 + s**2)),
    "v without its norm": ("v", lambda y, v, alpha, s: y - s * v / alpha),
    "score without alpha": ("score", lambda y, score, alpha, s: y + s**2 * score),
    "noise of y_t": ("noise", lambda y, eps, alpha, s: y - alpha * s * eps),
}


@pytest.mark.unit
@pytest.mark.parametrize("mutant", MUTANTS)
def test_mutants_are_told_apart(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    predicts, wrong = MUTANTS[mutant]
    monkeypatch.setitem(foreign_denoisers._FORMS, predicts, wrong)
    assert largest_error(foreign("vp_linear", predicts)) > 1e-3


@pytest.mark.unit
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"scaling": "zscore", "mean": (0.2, -0.3), "std": (2.0,)},
        {"scaling": "zscore", "mean": (0.1,), "std": (0.5, 0.5), "layout": "flat"},
        {"scaling": "global", "scale": 3.0, "layout": "channels_last"},
        {"domain": "spatial-frequency", "scaling": "global", "scale": 0.5},
    ],
)
def test_scaling_layout_and_domain_of_the_network(options: dict[str, Any]) -> None:
    """The stand-in holds y0 and eps of its own form, whatever that is."""
    convention = Convention(event_shape=SHAPE, **options)
    factor = (convention.scale or 1.0) / (convention.std or (1.0,))[0]
    truth = Truth()

    def network(y_t: Tensor, sigma: Tensor) -> Tensor:
        return convention.to_own(truth(convention.from_own(y_t), sigma / factor))[0]

    denoiser = ForeignDenoiser(
        network,
        predicts="x0",
        schedule=Edm(sigma_min=0.001, sigma_max=200.0),
        convention=convention,
        told="sigma",
    )
    assert denoiser.sigma_max == pytest.approx(200.0 / factor)
    assert largest_error(denoiser) < 1e-9


@pytest.mark.unit
def test_what_the_network_is_told() -> None:
    seen: list[Tensor] = []

    def network(y: Tensor, told: Tensor) -> Tensor:
        seen.append(told)
        return y

    x = torch.zeros(2, *SHAPE)
    schedule = VeGeometric(sigma_min=0.01, sigma_max=100.0)
    options: dict[str, Any] = {"predicts": "x0", "schedule": schedule, "convention": UNIT}
    for told in ("time", "sigma", "log_sigma", lambda t: 999 * t):
        ForeignDenoiser(network, told=told, **options)(x, torch.tensor([2.5, 25.0]))
    wanted = [[0.5, 0.75], [1.0, 10.0], [0.0, math.log(10)], [499.5, 749.25]]
    for found, values in zip(seen, wanted, strict=True):
        assert found.tolist() == pytest.approx(values, abs=1e-5)
        assert found.dtype == torch.float32


# --- Tables of steps ------------------------------------------------------------------------------


@pytest.mark.unit
def test_a_table_of_steps_and_back() -> None:
    table = StepTable.of_alpha_bar(ABAR)
    steps = torch.tensor([0.0, 3.0, 500.0, 999.0], dtype=torch.float64)
    sigma = (1 / ABAR[steps.long()] - 1).sqrt()
    assert table.ends == (0.0, 999.0)
    assert torch.allclose(table.sigma(steps), sigma)
    assert torch.allclose(table.time(sigma), steps, atol=1e-6)
    assert torch.allclose(table.alpha(steps), ABAR[steps.long()].sqrt())
    between = table.time(torch.tensor([1.234], dtype=torch.float64))
    assert float(table.sigma(between)) == pytest.approx(1.234)
    plain = StepTable([0.1, 1.0, 10.0], preserves_variance=False)
    assert plain.alpha(steps[:2]).tolist() == [1.0, 1.0]
    assert plain.time(torch.tensor([0.1, 10.0])).tolist() == pytest.approx([0.0, 2.0])


@pytest.mark.unit
@pytest.mark.parametrize("predicts", PREDICTIONS)
def test_a_network_of_whole_steps(predicts: Prediction) -> None:
    """Exact at the table's own noise levels, close in between, where steps lie near each other."""

    def by_index(step: Tensor) -> tuple[Tensor, Tensor]:
        assert step.dtype == torch.long
        return ABAR[step].sqrt(), (1 - ABAR[step]).sqrt()

    denoiser = ForeignDenoiser(
        StandIn(predicts, by_index),
        predicts=predicts,
        schedule=StepTable.of_alpha_bar(ABAR),
        convention=UNIT,
        told="step",
    )
    steps = torch.tensor([0, 10, 200, 500, 800, 999])
    own = (1 / ABAR[steps] - 1).sqrt() / 0.4
    x = noisy()
    assert torch.allclose(denoiser(x, own), Truth()(x, own), atol=1e-8)
    between = SIGMAS[1:]
    gap = denoiser(x[1:], between) - Truth()(x[1:], between)
    assert float(gap.square().mean().sqrt()) < 0.01


@pytest.mark.unit
@pytest.mark.parametrize("table", [[1.0], [0.0, 1.0], [1.0, 0.5], [1.0, math.inf]])
def test_tables_that_are_none(table: list[float]) -> None:
    with pytest.raises(CsiAuditError, match=r"sigma must hold at least 2 finite, positive, ascend"):
        StepTable(table, preserves_variance=False)
    with pytest.raises(CsiAuditError, match=r"to inf\. Leave out a last step without any signal"):
        StepTable.of_alpha_bar([0.9, 0.5, 0.0])


# --- Outputs, refusals ----------------------------------------------------------------------------


@pytest.mark.unit
def test_outputs_of_other_libraries() -> None:
    schedule, times = FORMALISMS["vp_linear"]
    inner = StandIn("noise", times)
    wrapped: list[Callable[..., Any]] = [
        lambda y, t: SimpleNamespace(sample=inner(y, t)),
        lambda y, t: (inner(y, t), None),
    ]
    for network in wrapped:
        denoiser = ForeignDenoiser(network, predicts="noise", schedule=schedule, convention=UNIT)
        assert largest_error(denoiser) < 1e-8
    twice = ForeignDenoiser(
        lambda y, t: torch.cat([y, y], 1), predicts="noise", schedule=schedule, convention=UNIT
    )
    message = r"must return the shape \(1, 2, 4, 4\) of its input; got \(1, 4, 4, 4\)\. If it pred"
    with pytest.raises(CsiAuditError, match=message):
        twice(torch.zeros(1, *SHAPE), 1.0)
    twice.network = lambda y, t: "nothing"
    with pytest.raises(CsiAuditError, match=r"of its input; got str\."):
        twice(torch.zeros(1, *SHAPE), 1.0)


@pytest.mark.unit
def test_noise_beyond_the_schedule_is_refused() -> None:
    """In units of x: a network of scale 0.4 trained up to 60 knows noise up to 150."""
    denoiser = foreign("ve", "noise")
    x = torch.zeros(2, *SHAPE, dtype=torch.float64)
    assert (denoiser.sigma_min, denoiser.sigma_max) == pytest.approx((0.0125, 150.0))
    denoiser(x, 0.0125)
    denoiser(x, 150.00001)
    message = r"sigma must lie in \[0\.0125, 150\] for this network, .* got 200\. Give the base"
    with pytest.raises(CsiAuditError, match=message):
        denoiser(x, torch.tensor([1.0, 200.0]))
    for level, shown in ((0.012, "0.012"), (math.nan, "nan")):
        with pytest.raises(CsiAuditError, match=rf"got {shown}\."):
            denoiser(x, level)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"predicts": "nose"}, r"predicts must be a known name; got 'nose'\. Did you mean 'noise'"),
        ({"told": "steps"}, r"told must be a known name; got 'steps'\. Did you mean 'step'\?"),
        (
            {"told": "step"},
            r"schedule must be a StepTable with told='step'; got VpLinear, whose time goes from 0",
        ),
        (
            {"convention": Convention(crop_delay=2, event_shape=SHAPE)},
            r"convention must keep all 4 delay taps; got crop_delay 2\.",
        ),
        (
            {"convention": Convention(scaling="sample_norm", event_shape=SHAPE)},
            r"convention must have one factor for all users and coefficients; got .*per user",
        ),
        (
            {
                "convention": Convention(
                    scaling="zscore", mean=(0.0,), std=(1.0, 2.0), event_shape=SHAPE
                )
            },
            r"A factor that differs makes the noise differ too\.",
        ),
    ],
)
def test_what_cannot_be_a_denoiser(options: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {"predicts": "noise", "schedule": VpLinear(), "convention": UNIT}
    with pytest.raises(CsiAuditError, match=message):
        ForeignDenoiser(StandIn("noise", vp_linear), **{**usual, **options})


# --- In a chain and as a base ---------------------------------------------------------------------


@pytest.mark.unit
def test_a_chain_runs_it_and_differentiates_it() -> None:
    denoiser, truth = foreign("vp_linear", "v"), Truth()
    generator = torch.Generator().manual_seed(1)
    x = 30 * torch.randn(8, *SHAPE, generator=generator, dtype=torch.float64)
    grid = sigma_grid(30.0, 0.01, 12)
    assert torch.allclose(ode_2m(denoiser, x, grid), ode_2m(truth, x, grid), atol=1e-7)
    leaf = noisy().requires_grad_(True)
    (mine,) = torch.autograd.grad(denoiser(leaf, 1.0).square().sum(), leaf)
    (its,) = torch.autograd.grad(truth(leaf, 1.0).square().sum(), leaf)
    assert torch.allclose(mine, its, atol=1e-6)


@pytest.mark.unit
def test_a_base_of_a_denoiser(draw_users: Callable[..., ChannelSet]) -> None:
    users = draw_users(50)
    variance = coefficient_variance(audit_space(users))
    truth = GaussianDenoiser(torch.zeros(2, 8, 8), variance)
    base = base_of_denoiser(truth, users)
    assert isinstance(base, Base)
    assert torch.equal(base.variance, variance)
    assert base.grid == users.grid
    assert base.sigma_min == 0.01
    drawn = BaseSampler(base, steps=10)(20, generator=torch.Generator().manual_seed(0))
    assert drawn.x.shape == (20, 2, 8, 8)
    panel = replace(users, grid=replace(users.grid, panel=(2, 1, 4)))
    folded = coefficient_variance(audit_space(panel), flip=False)
    assert torch.equal(base_of_denoiser(truth, panel).variance, folded)
    with pytest.raises(CsiAuditError, match=r"set0\.h5 holds channels of 1 receive x 4 transmit"):
        base_of_denoiser(truth, draw_users(n_tx=4))


@pytest.mark.unit
def test_a_base_of_a_network_that_knows_too_little_noise(
    draw_users: Callable[..., ChannelSet],
) -> None:
    users, convention = draw_users(50), Convention(event_shape=(2, 8, 8))

    def of(sigma_min: float, sigma_max: float) -> ForeignDenoiser:
        schedule = VeGeometric(sigma_min=sigma_min, sigma_max=sigma_max)
        return ForeignDenoiser(
            lambda y, t: 0 * y, predicts="x0", schedule=schedule, convention=convention
        )

    message = r"sigma_max must be given: the channels want a start at [\d.]+, .* up to 5\. With"
    with pytest.raises(CsiAuditError, match=message):
        base_of_denoiser(of(0.02, 5.0), users)
    base = base_of_denoiser(of(0.02, 5.0), users, sigma_max=5.0)
    assert (base.sigma_min, base.sigma_max) == pytest.approx((0.02, 5.0))
    assert base_of_denoiser(of(0.001, 500.0), users).sigma_min == 0.01
    for given, shown in ((5.1, r"5\.1"), (math.nan, "nan")):
        with pytest.raises(CsiAuditError, match=rf"sigma_max must be at most 5, .* got {shown}\."):
            base_of_denoiser(of(0.02, 5.0), users, sigma_max=given)
