"""Every schedule maps time to (alpha, sigma) one way, and the identities of its formalism hold."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from csi_audit.sampling import VpTimes
from csi_audit.schedules import Edm, Schedule, VeGeometric, VpCosine, VpLinear

SCHEDULES: dict[str, Schedule] = {
    "vp_linear": VpLinear(),
    "vp_cosine": VpCosine(),
    "ve": VeGeometric(sigma_min=0.01, sigma_max=58.0),
    "edm": Edm(sigma_min=0.002, sigma_max=80.0),
}
TIMES = st.floats(0.0, 1.0)


@pytest.mark.property
@given(st.sampled_from(sorted(SCHEDULES)), TIMES, TIMES)
def test_later_is_noisier(name: str, first: float, second: float) -> None:
    schedule = SCHEDULES[name]
    t = torch.tensor([min(first, second), max(first, second)], dtype=torch.float64)
    sigma, alpha = schedule.sigma(t), schedule.alpha(t)
    assert 0 <= float(sigma[0]) <= float(sigma[1]) < math.inf
    assert 1 >= float(alpha[0]) >= float(alpha[1]) > 0


@pytest.mark.property
@given(st.sampled_from(["vp_linear", "vp_cosine"]), TIMES)
def test_variance_is_preserved(name: str, time: float) -> None:
    """alpha^2 (1 + sigma^2) = 1: x_t of unit-variance data has unit variance at every time."""
    schedule, t = SCHEDULES[name], torch.tensor(time, dtype=torch.float64)
    total = schedule.alpha(t) ** 2 * (1 + schedule.sigma(t) ** 2)
    assert float(total) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.property
@given(st.sampled_from(["ve", "edm"]), TIMES)
def test_variance_explodes(name: str, time: float) -> None:
    assert float(SCHEDULES[name].alpha(torch.tensor(time))) == 1.0


@pytest.mark.property
@given(TIMES)
def test_beta_is_the_rate_of_the_linear_schedule(time: float) -> None:
    """beta = -d log abar / dt, abar = alpha^2."""
    schedule = VpLinear(beta_min=0.3, beta_max=7.0)
    t = torch.tensor(time, dtype=torch.float64, requires_grad=True)
    (rate,) = torch.autograd.grad(-2 * schedule.alpha(t).log(), t)
    assert float(rate) == pytest.approx(float(schedule.beta(t.detach())))


@pytest.mark.property
@given(st.sampled_from(sorted(SCHEDULES)), st.floats(0.001, 0.999))
def test_time_is_the_inverse_of_sigma(name: str, time: float) -> None:
    schedule, t = SCHEDULES[name], torch.tensor(time, dtype=torch.float64)
    assert schedule.ends == (0.0, 1.0)
    assert float(schedule.time(schedule.sigma(t))) == pytest.approx(time, abs=1e-9)


@pytest.mark.unit
def test_known_values() -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    linear = SCHEDULES["vp_linear"]
    assert linear.sigma(ends).tolist() == pytest.approx([0.0, math.sqrt(math.exp(10.05) - 1)])
    assert linear.alpha(ends).tolist() == pytest.approx([1.0, math.exp(-5.025)])
    cosine = SCHEDULES["vp_cosine"]
    assert cosine.sigma(ends).tolist() == pytest.approx([0.0, 641.7], rel=1e-3)
    assert SCHEDULES["ve"].sigma(ends).tolist() == pytest.approx([0.01, 58.0])
    assert SCHEDULES["edm"].sigma(ends).tolist() == pytest.approx([0.002, 80.0])


@pytest.mark.unit
def test_geometric_is_uniform_in_log_sigma() -> None:
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    steps = SCHEDULES["ve"].sigma(t).log().diff()
    assert torch.allclose(steps, steps[:1].expand(10))


@pytest.mark.property
@given(st.floats(1e-3, 1.0), st.floats(2.0, 150.0), st.integers(1, 50))
def test_times_of_noise_levels(sigma_min: float, sigma_max: float, steps: int) -> None:
    """Uniform times from sigma(t) = sigma_max down to sigma(t) = sigma_min."""
    schedule = VpLinear()
    times = VpTimes(steps=steps, sigma_max=sigma_max, sigma_min=sigma_min)
    pairs = [(float(t), float(t_next)) for t, t_next in times.pairs()]
    assert len(pairs) == steps
    ends = torch.tensor([pairs[0][0], pairs[-1][1]], dtype=torch.float64)
    assert schedule.sigma(ends).tolist() == pytest.approx([sigma_max, sigma_min])
    length = pairs[0][0] - pairs[0][1]
    for t, t_next in pairs:
        assert t - t_next == pytest.approx(length)
    assert [t for t, _ in pairs[1:]] == pytest.approx([t_next for _, t_next in pairs[:-1]])
