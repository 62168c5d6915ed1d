"""Simulated channels: settings and drops always, Sionna itself where the extra is installed."""

import importlib.util
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from channels import ChannelSet, CsiAuditError, features, load_channels, write_channels
from channels.domains import to_angular_delay
from channels.generation import MODELS, SimulatedCell, generate_channels, generate_drops
from channels.sionna_paths import SCENARIOS, Sionna, SionnaPaths, _element_order, _places

needs_sionna = pytest.mark.skipif(
    importlib.util.find_spec("sionna") is None,
    reason='Sionna is not installed here: pip install "csi-audit[sim]"',
)


# --- Settings -------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"model": "umo"}, "got 'umo'. Did you mean 'umi'?"),
        ({"model": "TDL-C"}, "model 'TDL-C' has no angles"),
        ({"carrier_hz": 2.655}, "carrier_hz must lie in 0.5e9..100e9 Hz, .* got 2.655"),
        ({"bandwidth_hz": -1.0}, "bandwidth_hz must be a positive number of hertz; got -1.0"),
        ({"n_sub": 0}, "n_sub must be a whole number of at least 1; got 0"),
        ({"delay_spread_s": 100.0}, "delay_spread_s must lie in .* got 100.0. Nominal is 100e-9"),
        ({"n_rx": 0}, "n_rx must be at least 1; got 0"),
        ({"users_per_drop": 0}, "users_per_drop must be at least 1; got 0"),
        ({"n_tx": 0}, "n_tx must be at least 1; got 0"),
        ({"n_tx": 32, "panel": (2, 4, 8)}, "panel must multiply to the 32 .* got 2 x 4 x 8"),
        ({"panel": (3, 2, 2)}, r"panel must have 1 or 2 polarisations; got \(3, 2, 2\)"),
        ({"panel": (1, 0, 2)}, "panel must be .* three whole numbers of at least 1"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        SimulatedCell(**({"model": "umi"} | wrong))


@pytest.mark.unit
def test_settings_resolve_array_and_scenario() -> None:
    assert SimulatedCell(model="UMi").scenario == "3GPP_38.901_UMi"
    assert SimulatedCell(model="cdl-c").scenario == "3GPP_38.901_CDL-C"
    line, panel = SimulatedCell(model="umi"), SimulatedCell(model="umi", panel=(2, 4, 8))
    assert (line.antennas, line.grid.panel_of(32)) == (32, (1, 1, 32))
    assert (panel.antennas, panel.grid.panel) == (64, (2, 4, 8))
    assert line.grid.array == "32-element half-wavelength ULA"  # as the QuaDRiGa files say


@pytest.mark.unit
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"n": 0}, "n must be at least 1; got 0"),
        ({"device": "gpu"}, "device must be cpu, cuda or cuda:N; got 'gpu'"),
        ({"device": "meta"}, "device must be cpu, cuda or cuda:N; got 'meta'"),
        ({"device": "cuda:99"}, "device 'cuda:99' is not here: torch sees .* Take cpu"),
    ],
)
def test_wrong_requests_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        generate_drops(SimulatedCell(model="umi"), **({"n": 1, "seed": 0} | wrong))


@pytest.mark.unit
def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def without_sionna(name: str) -> ModuleType:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr("channels.sionna_paths.importlib.import_module", without_sionna)
    message = r"""No module named 'sionna'\): pip install --upgrade "csi-audit\[sim\]"$"""
    with pytest.raises(CsiAuditError, match=message):
        generate_channels(SimulatedCell(model="umi"), n=1, seed=0)


@pytest.mark.unit
@pytest.mark.parametrize("version", ["1.2.1", "2.0.1"])
def test_old_sionna_is_refused(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    old = SimpleNamespace(__version__=version, config=None)
    monkeypatch.setattr("channels.sionna_paths.importlib.import_module", lambda name: old)
    with pytest.raises(CsiAuditError, match=rf"Sionna must be 2.1 or newer; got {version}: pip"):
        generate_channels(SimulatedCell(model="umi"), n=1, seed=0)


# --- Drops, with stand-in paths -------------------------------------------------------------------


def stand_in_paths(
    sionna: Any, cell: SimulatedCell, places: torch.Generator, device: str
) -> SionnaPaths:
    """Two paths a user, the second a full delay window late in every tenth user."""
    n = cell.users_per_drop
    shape = (n, cell.n_rx, cell.antennas, 2)
    delay_s = torch.rand(n, 2, generator=places) * 1e-6
    delay_s[::10, 1] += cell.n_sub / cell.bandwidth_hz
    gain = torch.randn(shape, dtype=torch.complex64, generator=sionna.generator)
    position = torch.arange(n)[:, None] + torch.zeros(n, 3)
    return SionnaPaths(gain=gain, delay_s=delay_s, labels={"ue_pos_m": position})


class StandIn:
    """Takes Sionna's place: a generator that `seeded` seeds."""

    version = "0.0 (stand-in)"

    def __init__(self) -> None:
        self.generator = torch.Generator()

    @contextmanager
    def seeded(self, seed: int, device: str) -> Iterator[None]:
        self.generator.manual_seed(seed)
        yield


@contextmanager
def standing_in() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Sionna, "load", StandIn)
        patch.setattr("channels.generation.simulate_paths", stand_in_paths)
        yield


@pytest.fixture
def stand_in() -> Iterator[None]:
    with standing_in():
        yield


@pytest.mark.property
@given(n=st.integers(1, 40), more=st.integers(0, 40), size=st.integers(1, 16))
def test_fewer_users_are_the_first_of_more(n: int, more: int, size: int) -> None:
    cell = SimulatedCell(model="umi", n_tx=2, n_sub=4, users_per_drop=size)
    with standing_in():
        few = generate_channels(cell, n=n, seed=5)
        many = generate_channels(cell, n=n + more, seed=5)
    assert len(few) == n
    assert torch.equal(few.h[:], many.h[:n])
    assert all(torch.equal(few.labels[name], many.labels[name][:n]) for name in few.labels)


@pytest.mark.unit
def test_drops_stream_what_generate_channels_joins(stand_in: None) -> None:
    cell = SimulatedCell(model="umi", n_tx=2, n_sub=4, users_per_drop=4)
    told: list[tuple[int, int]] = []
    whole = generate_channels(cell, n=10, seed=1, progress=lambda made, n: told.append((made, n)))
    drops = list(generate_drops(cell, n=10, seed=1))
    assert [len(drop) for drop in drops] == [4, 4, 2]
    assert told == [(4, 10), (8, 10), (10, 10)]
    assert torch.equal(whole.h[:], torch.cat([drop.h[:] for drop in drops]))
    assert whole.drops is not None
    assert whole.drops.unique_consecutive(return_counts=True)[1].tolist() == [4, 4, 2]


@pytest.mark.unit
def test_seeds_and_drops_differ(stand_in: None) -> None:
    cell = SimulatedCell(model="umi", n_tx=2, n_sub=4, users_per_drop=4)
    first, second = (generate_channels(cell, n=8, seed=seed) for seed in (0, 1))
    assert not torch.isclose(first.h[:], second.h[:]).any()
    assert not torch.isclose(first.h[:4], first.h[4:]).any()


@pytest.mark.unit
def test_grid_source_and_notices(stand_in: None) -> None:
    cell = SimulatedCell(model="cdl-b", n_tx=2, n_sub=4, bandwidth_hz=1e6, carrier_hz=28e9)
    channels = generate_channels(cell, n=100, seed=3)
    assert channels.grid == cell.grid
    assert channels.drops is None  # users of a CDL share no environment
    assert (channels.source.path, channels.source.scenario) == (
        "cdl-b, seed 3",
        "3GPP_38.901_CDL-B",
    )
    simulated, beyond = channels.source.notices
    assert "TR 38.901 V16.1" in simulated
    assert "beyond the delay window n_sub/bandwidth = 4 us" in beyond


# --- Geometry -------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("panel", [(1, 1, 5), (1, 4, 1), (2, 3, 4)])
def test_element_order_turns_columns_of_rows_into_rows_upwards(
    panel: tuple[int, int, int],
) -> None:
    n_pol, n_rows, n_columns = panel
    theirs = [
        (pol, -row, column)  # Sionna counts down the rows of each column
        for pol in range(n_pol)
        for column in range(n_columns)
        for row in range(n_rows)
    ]
    assert [theirs[i] for i in _element_order(panel)] == sorted(theirs)


@pytest.mark.statistical
@pytest.mark.parametrize("model", sorted(SCENARIOS))
def test_users_stand_uniformly_in_area_on_the_ring(model: str) -> None:
    ring = SCENARIOS[model]
    position, heading = _places(ring, 20_000, torch.Generator().manual_seed(0))
    r = position[:, :2].norm(dim=1).double()
    assert (r.min() >= ring.nearest_m - 1e-3) & (r.max() <= ring.farthest_m + 1e-3)
    assert (position[:, 2] == 1.5).all()
    area = (r**2 - ring.nearest_m**2) / (ring.farthest_m**2 - ring.nearest_m**2)
    angle = torch.atan2(position[:, 1], position[:, 0]).double() / (2 * torch.pi) % 1
    turn = heading[:, 0].double() / (2 * torch.pi)
    for uniform in (area, angle, turn):
        expected = (torch.arange(20_000) + 0.5) / 20_000
        distance = (uniform.sort().values - expected).abs().max()  # Kolmogorov-Smirnov
        assert distance < 2.7 / 20_000**0.5  # exceeded with probability 1e-6


# --- Sionna itself --------------------------------------------------------------------------------


UMI = SimulatedCell(model="umi", users_per_drop=50)


@pytest.fixture(scope="module")
def umi() -> ChannelSet:
    """300 users of 6 UMi drops on 32 x 32."""
    return generate_channels(UMI, n=300, seed=7)


def direction(channels: ChannelSet, height_m: float = 10.0) -> tuple[Tensor, Tensor]:
    """sin(az) sin(ze) and cos(ze) of each user, seen from the base station."""
    to_user = channels.label("ue_pos_m") - torch.tensor([0.0, 0.0, height_m])
    unit = to_user / to_user.norm(dim=1, keepdim=True)
    return unit[:, 1], unit[:, 2]


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Distance on the circle of half-wavelength phase steps, where -1 is 1."""
    return ((a - b + 1) % 2 - 1).abs()


def strong_line_of_sight(channels: ChannelSet) -> ChannelSet:
    strong = channels.label("k_factor_db") > 10
    assert int(strong.sum()) >= 8
    return channels.subset(strong)


def phase_step(h: Tensor, dim: int) -> Tensor:
    """Phase from one element to the next along an antenna axis over pi [1], (N,)."""
    n = h.shape[dim]
    step = h.narrow(dim, 1, n - 1) * h.narrow(dim, 0, n - 1).conj()
    return step.flatten(1).sum(1).angle() / torch.pi


@needs_sionna
@pytest.mark.unit
def test_same_seed_same_channels_and_no_global_state(umi: ChannelSet) -> None:
    sionna = Sionna.load()
    theirs = sionna.config.torch_rng("cpu")
    before, seed = theirs.get_state(), sionna.config.seed
    torch_before = torch.get_rng_state()
    torch.rand(3, generator=theirs)  # neither what Sionna did before ...
    again = generate_channels(UMI, n=70, seed=7)
    assert torch.equal(again.h[:], umi.h[:70])
    assert not torch.isclose(umi.h[:50], umi.h[50:100]).all((1, 2, 3)).any()
    assert not torch.isclose(umi.label("ue_pos_m")[:50], umi.label("ue_pos_m")[50:100])[:, 0].any()
    assert all(torch.equal(again.labels[k], umi.labels[k][:70]) for k in umi.labels)
    theirs.set_state(before)
    other = generate_channels(UMI, n=1, seed=8)
    assert not torch.isclose(other.h[:], umi.h[:1]).any()
    assert torch.equal(theirs.get_state(), before)  # ... nor what it does afterwards
    assert sionna.config.seed == seed
    assert torch.equal(torch.get_rng_state(), torch_before)


LOAD = """
import random, sys
import numpy, torch
import channels.generation
from channels.sionna_paths import Sionna

def state():
    numbers = numpy.random.get_state()[1].tolist()
    return torch.get_rng_state().tolist(), numbers, random.getstate(), torch.get_num_threads()

assert "sionna" not in sys.modules, "imported with channels"
before = state()
Sionna.load()
assert state() == before, "changed global state"
"""


@needs_sionna
@pytest.mark.slow
@pytest.mark.end_to_end
def test_sionna_is_loaded_late_and_changes_nothing(repository_root: Path) -> None:
    command = [sys.executable, "-W", "error", "-c", LOAD]
    done = subprocess.run(command, cwd=repository_root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@needs_sionna
@pytest.mark.unit
def test_line_of_sight_falls_on_its_beam_and_on_delay_zero(umi: ChannelSet) -> None:
    near = strong_line_of_sight(umi)
    u, _ = direction(near)
    assert apart(phase_step(near.h[:], 2), u).max() < 0.05
    x = to_angular_delay(near.h[:])[:, 0].abs()
    beam, tap = x.flatten(1).argmax(1) // 32, x.flatten(1).argmax(1) % 32
    off = (beam - 16 * u + 16) % 32 - 16
    assert off.abs().max() < 0.6
    assert (tap == 0).all()


@needs_sionna
@pytest.mark.unit
def test_panel_axes_follow_azimuth_and_zenith() -> None:
    panel = (2, 4, 4)
    cell = replace(UMI, panel=panel)
    near = strong_line_of_sight(generate_channels(cell, n=200, seed=7))
    u, v = direction(near)
    h = near.h[:].unflatten(2, panel)  # (N, 1, pol, row, column, n_sub)
    for pol in range(2):
        assert apart(phase_step(h[:, :, pol], 3), u).max() < 0.1
        assert apart(phase_step(h[:, :, pol], 2), v).max() < 0.1
    assert v.min() < -0.4  # users far below the array tell up from down


@needs_sionna
@pytest.mark.statistical
def test_umi_is_that_of_tr_38901(umi: ChannelSet) -> None:
    """Shadowing of 4 and 7.82 dB about the path loss, and spreads, as tables 7.4.1-1 and 7.5-6."""
    is_los, gain_db = umi.label("is_los"), umi.label("path_gain_db").double()
    to_user = umi.label("ue_pos_m") - torch.tensor([0.0, 0.0, 10.0])
    d, f_ghz = to_user.norm(dim=1).double(), torch.tensor(2.655)
    los_db = 32.4 + 21 * d.log10() + 20 * f_ghz.log10()
    nlos_db = torch.maximum(los_db, 22.4 + 35.3 * d.log10() + 21.3 * f_ghz.log10())
    flat = umi.label("ue_pos_m")[:, :2].norm(dim=1)
    sighted = is_los & (flat < 4 * 9 * 0.5 * 2.655e9 / 3e8)  # before the break point
    for users, loss_db, sigma_db in ((sighted, los_db, 4.0), (~is_los, nlos_db, 7.82)):
        shadowing = (gain_db + loss_db)[users]
        n = len(shadowing)
        assert shadowing.mean().abs() < 5 * sigma_db / n**0.5
        assert 0.5 * sigma_db < shadowing.std() < 1.5 * sigma_db
    assert 0.1 < is_los.double().mean() < 0.35
    log_spread = umi.label("delay_spread_s")[~is_los].log10()
    mean = -0.24 * torch.log10(1 + f_ghz) - 6.83  # and sigma 0.16 log10(1 + f) + 0.28
    assert abs(float(log_spread.mean() - mean)) < 0.12
    assert (umi.label("k_factor_db")[~is_los] == -100).all()
    assert 5 < umi.label("k_factor_db")[is_los].mean() < 13


@needs_sionna
@pytest.mark.unit
def test_labels_describe_the_channels(umi: ChannelSet) -> None:
    fading_db = umi.power_db - umi.label("path_gain_db")
    assert abs(float(fading_db.median())) < 2
    measured = features(umi)["delay_spread_s"]
    assert rank_correlation(measured, umi.label("delay_spread_s")) > 0.9
    wide = features(umi)["azimuth_spread_deg"]
    assert rank_correlation(wide, umi.label("asd_deg")) > 0.6


def rank_correlation(a: Tensor, b: Tensor) -> float:
    ranks = torch.stack((a.argsort().argsort(), b.argsort().argsort())).double()
    return float(torch.corrcoef(ranks)[0, 1])


@needs_sionna
@pytest.mark.statistical
def test_umi_is_close_to_quadriga(umi: ChannelSet, sample: ChannelSet) -> None:
    """Log10 of the spreads has a deviation of 0.41 at most (table 7.5-6), its median 1.25 as much
    as the mean; the two simulators make spreads from rays in different ways, worth up to 15 %.
    """
    for name in ("delay_spread_s", "asd_deg"):
        for los in (False, True):
            ours, theirs = (c.label(name)[c.label("is_los") == los] for c in (umi, sample))
            shift = (ours.median() / theirs.median()).log10().abs()
            assert shift < 5 * 1.25 * 0.41 / len(ours) ** 0.5 + 0.06
    early = [
        float(to_angular_delay(c.h[:])[..., :8].abs().square().sum((1, 2, 3)).mean() / 1024)
        for c in (umi, sample)
    ]
    assert abs(early[0] - early[1]) < 0.03


@needs_sionna
@pytest.mark.unit
@pytest.mark.parametrize("model", MODELS)
def test_every_model_makes_channels(model: str) -> None:
    cell = SimulatedCell(model=model, panel=(2, 2, 2), n_rx=2, n_sub=8, users_per_drop=10)
    channels = generate_channels(cell, n=12, seed=0)
    assert channels.h.shape == (12, 2, 8, 8)
    others = {"delay_spread_s", "asd_deg", "k_factor_db", "path_gain_db", "ue_pos_m", "drop_seed"}
    assert set(channels.labels) == {"is_los"} | (others if model in SCENARIOS else set())
    assert all(label.isfinite().all() for label in channels.labels.values())
    if model not in SCENARIOS:
        assert channels.label("is_los").all() == (model in ("cdl-d", "cdl-e"))


@needs_sionna
@pytest.mark.unit
def test_cdl_keeps_gain_and_takes_its_delay_spread() -> None:
    medians = {}
    for spread_s in (50e-9, 150e-9):
        cell = SimulatedCell(model="cdl-c", delay_spread_s=spread_s)
        channels = generate_channels(cell, n=100, seed=0)
        assert abs(float((10 ** (channels.power_db / 10)).mean()) - 1) < 0.2
        medians[spread_s] = float(features(channels)["delay_spread_s"].median())
    assert 0.7 < medians[50e-9] / 50e-9 < 1.3
    assert 0.7 < medians[150e-9] / 150e-9 < 1.3


@needs_sionna
@pytest.mark.unit
def test_simulated_channels_go_through_a_file(umi: ChannelSet, tmp_path: Path) -> None:
    write_channels(tmp_path / "sim.h5", umi)
    back = load_channels(tmp_path / "sim.h5")
    assert (back.h[:] - umi.h[:]).abs().max() < 0.01
    assert torch.allclose(back.power_db, umi.power_db)
    assert set(back.labels) == set(umi.labels)
    assert torch.equal(back.label("drop_seed"), umi.label("drop_seed"))
    assert (back.source.scenario, back.grid) == (umi.source.scenario, umi.grid)
