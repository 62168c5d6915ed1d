"""The cell network: SINRs worked out by hand, gradients, symmetries, and what is refused."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels.network import CellNetwork, simulate_users
from channels.propagation import SectorPattern, Shadowing
from channels.support import CsiAuditError

FULL = CellNetwork(
    load=(1.0, 0.5, 0.2),
    shadowing=Shadowing(spread_db=6.0),
    pattern=SectorPattern(boresight_deg=(45.0, 135.0, 270.0)),
)


def at(*points: tuple[float, float], network: CellNetwork | None = None) -> Tensor:
    """One placement of users at these metres, float64 (1, n, 2)."""
    network = CellNetwork() if network is None else network
    return network.to_square(torch.tensor([points], dtype=torch.float64))


@pytest.mark.unit
def test_sinr_worked_out_by_hand() -> None:
    """Users at (30, 40) and (100, 50): distances 50, 80.6, 63.2 and 111.8, 50, 70.7 m."""
    network = CellNetwork(noise_w=2e-7, power_w=2.0, epsilon=3.0, exponent=3.0)
    distances = (
        (50.0, math.sqrt(6500), math.sqrt(4000)),
        (math.sqrt(12500), 50.0, math.sqrt(5000)),
    )
    found = network.sinr_db(at((30, 40), (100, 50)))[0]
    for i, (d, serving) in enumerate(zip(distances, (0, 1), strict=True)):
        power = [2 / (v**3 + 3) for v in d]
        signal = power.pop(serving)
        assert float(found[i]) == pytest.approx(10 * math.log10(signal / (2e-7 + sum(power))))
    assert network.serving_station(at((30, 40), (100, 50))).tolist() == [[0, 1]]


@pytest.mark.unit
def test_load_scales_the_interference_alone() -> None:
    x = at((30, 40))
    power = [1 / (v**3.5 + 1) for v in (50.0, math.sqrt(6500), math.sqrt(4000))]
    expected = power[0] / (1e-7 + 0.5 * power[1] + 0.25 * power[2])
    found = CellNetwork(load=(0.1, 0.5, 0.25)).sinr_db(x)
    assert float(found) == pytest.approx(10 * math.log10(expected))
    idle = CellNetwork(load=(1.0, 0.0, 0.0)).sinr_db(x)
    assert float(idle) == pytest.approx(10 * math.log10(power[0] / 1e-7))


@pytest.mark.unit
def test_equal_distances_give_one_value_whoever_serves() -> None:
    """Half way between two stations, and at the one place as far from all three."""
    quiet = CellNetwork(noise_w=0.0)
    worst = float(quiet.sinr_db(at((50, 37.5))))
    assert worst == pytest.approx(10 * math.log10(0.5), abs=1e-9)
    side = torch.linspace(-1, 1, 101, dtype=torch.float64)
    grid = torch.cartesian_prod(side, side)[None]
    assert float(quiet.sinr_db(grid).min()) >= worst - 1e-9
    x = at((50, 10), (50 - 1e-7, 10), (50 + 1e-7, 10))
    found = CellNetwork().sinr_db(x)[0]
    assert torch.allclose(found, found[0].expand(3), atol=1e-6)
    assert set(CellNetwork().serving_station(x)[0].tolist()) == {0, 1}


@pytest.mark.unit
@pytest.mark.parametrize("network", [CellNetwork(), FULL, CellNetwork(exponent=2.0)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_user_on_top_of_a_station(network: CellNetwork, dtype: torch.dtype) -> None:
    x = at((0, 0), (50, 100), (50, 50)).to(dtype).requires_grad_(True)
    found = network.sinr_db(x)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    assert bool(found.isfinite().all() and gradient.isfinite().all())
    found = found.detach()
    assert float(found[0, 0]) > 25
    if network.shadowing is None:
        others = sum(1 / (d**network.exponent + 1) for d in (100.0, math.hypot(50, 100)))
        assert float(found[0, 0]) == pytest.approx(-10 * math.log10(1e-7 + others), rel=1e-5)


@pytest.mark.unit
@pytest.mark.parametrize("network", [CellNetwork(), CellNetwork(scale="linear"), FULL])
def test_gradients_against_finite_differences(network: CellNetwork) -> None:
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.rand(3, 4, 2, generator=generator, dtype=torch.float64) - 1
    x = x.requires_grad_(True)
    for function in (network.sinr_db, network.served, network.log_outage):
        assert torch.autograd.gradcheck(function, x)


@pytest.mark.unit
def test_defined_far_outside_the_square() -> None:
    """Particles come from 40 deviations away: finite value and gradient, in float32."""
    x = torch.tensor([[[1e4, -3e4], [0.0, 50.0]]], requires_grad=True)
    value = CellNetwork().log_outage(x)
    (gradient,) = torch.autograd.grad(value.sum(), x)
    assert bool(value.isfinite().all() and gradient.isfinite().all())


@pytest.mark.unit
def test_indicator_in_db_and_on_the_ratio() -> None:
    x = at((30, 40), (50, 37.5), (1, 1))
    sinr_db = CellNetwork().sinr_db(x)
    ratio = 10 ** (sinr_db / 10)
    soft = CellNetwork(threshold_db=3.0, steepness=2.0)
    linear = CellNetwork(threshold_db=3.0, steepness=2.0, scale="linear")
    assert torch.allclose(soft.served(x), torch.sigmoid(2 * (sinr_db - 3)))
    assert torch.allclose(linear.served(x), torch.sigmoid(2 * (ratio - 10**0.3)))
    assert torch.allclose(soft.log_outage(x).exp(), 1 - soft.served(x))
    step = CellNetwork(threshold_db=3.0, steepness=1e6).served(x)
    assert torch.equal(step, (sinr_db > 3).double())


@pytest.mark.unit
def test_a_share_of_a_uniform_law_is_in_outage_by_default() -> None:
    side = torch.linspace(-0.995, 0.995, 200, dtype=torch.float64)
    outage = (CellNetwork().sinr_db(torch.cartesian_prod(side, side)[None]) < 0).double().mean()
    assert 0.05 < float(outage) < 0.2


@pytest.mark.property
@given(seed=st.integers(0, 2**31), n_users=st.integers(1, 6), batch=st.integers(1, 4))
def test_order_of_users_and_batches_change_nothing(seed: int, n_users: int, batch: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    x = 2 * torch.rand(batch, n_users, 2, generator=generator, dtype=torch.float64) - 1
    order = torch.randperm(n_users, generator=generator)
    for network in (CellNetwork(), FULL):
        sinr_db = network.sinr_db(x)
        assert torch.allclose(network.sinr_db(x[:, order]), sinr_db[:, order])
        assert torch.allclose(network.sinr_db(x[:1]), sinr_db[:1])


@pytest.mark.property
@given(seed=st.integers(0, 2**31))
def test_metres_and_square_are_inverse(seed: int) -> None:
    network = CellNetwork(area_m=(200.0, 50.0))
    u = torch.rand(3, 2, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    u = u * torch.tensor([200.0, 50.0])
    assert torch.allclose(network.to_metres(network.to_square(u)), u)
    assert float(network.to_square(u).abs().max()) <= 1


@pytest.mark.unit
def test_simulate_users_is_the_network_in_the_square() -> None:
    x = at((30, 40), (100, 50)).float()
    found = simulate_users(x)
    assert torch.equal(found.sinr_db, CellNetwork().sinr_db(x))
    assert found.station.tolist() == [[0, 1]]
    assert torch.equal(found.served, CellNetwork().served(x))


@pytest.mark.unit
def test_what_simulate_users_refuses() -> None:
    with pytest.raises(CsiAuditError, match=r"user 1 of sample 0 is at \(30, 40\). Are these met"):
        simulate_users(torch.tensor([[[0.0, 0.0], [30.0, 40.0]]]))
    with pytest.raises(CsiAuditError, match=r"user 0 of sample 0 is at \(nan, 0\)"):
        simulate_users(torch.tensor([[[math.nan, 0.0]]]))
    for shape in ((4, 6), (2, 3, 3), (2, 0, 2)):
        with pytest.raises(CsiAuditError, match=r"must be \(N, n_users, 2\), x and y of every"):
            simulate_users(torch.zeros(shape))
    with pytest.raises(TypeError, match=r"must be a real floating-point tensor; got torch.int64"):
        simulate_users(torch.zeros(1, 1, 2, dtype=torch.int64))
    with pytest.raises(TypeError, match="got list"):
        simulate_users([[0.0, 0.0]])  # type: ignore[arg-type]


@pytest.mark.unit
def test_lists_are_as_good_as_tuples() -> None:
    """As YAML and JSON give them."""
    values: dict[str, Any] = {
        "stations_m": [[0, 0], [100, 0]],
        "area_m": [100, 50],
        "load": [1, 0.5],
    }
    listed = CellNetwork(**values)
    assert listed == CellNetwork(stations_m=((0, 0), (100, 0)), area_m=(100, 50), load=(1, 0.5))
    assert hash(listed) == hash(CellNetwork(**values))
    assert bool(listed.sinr_db(at((30, 40))).isfinite().all())
    with pytest.raises(CsiAuditError, match="stations_m must be one or more finite pairs"):
        CellNetwork(stations_m=[])  # type: ignore[arg-type]


@pytest.mark.unit
@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ({"stations_m": ()}, "stations_m must be one or more finite pairs"),
        ({"stations_m": ((0.0, 0.0), (0.0, 0.0))}, "stations_m must be at different places"),
        ({"area_m": (100.0, 0.0)}, "area_m must be finite and above 0; got 0.0"),
        ({"exponent": 1.5}, "exponent must be at least 2, that of free space; got 1.5"),
        ({"power_w": 0.0}, "power_w must be finite and above 0"),
        ({"epsilon": -1.0}, "epsilon must be finite and above 0"),
        ({"noise_w": -1e-9}, "noise_w must be finite and not negative"),
        ({"threshold_db": math.inf}, "threshold_db must be finite"),
        ({"steepness": math.nan}, "steepness must be finite and above 0"),
        ({"scale": "dB"}, "scale must be 'db' or 'linear'; got 'dB'"),
        ({"load": 1.5}, r"load must be in \[0, 1\], one number or one for each of 3"),
        ({"load": (1.0, 1.0)}, "for each of 3 stations"),
        ({"noise_w": 0.0, "load": (1.0, 0.0, 0.0)}, "noise_w must be above 0 where fewer than two"),
        ({"pattern": SectorPattern(boresight_deg=(0.0,))}, "a boresight for each of 3 stations"),
    ],
)
def test_what_a_network_refuses(bad: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        CellNetwork(**bad)
