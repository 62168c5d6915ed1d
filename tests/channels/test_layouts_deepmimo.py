"""DeepMIMO: files built by the definitions of its generator, no original at hand.

Source: github.com/DeepMIMO/DeepMIMO, deepmimo/generator/channel.py and geometry.py, deepmimo/
consts.py (v4); github.com/DeepMIMO/DeepMIMO-python, src/DeepMIMOv3/construct_deepmimo.py (v3).
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from channels import ChannelSet, CsiAuditError, load_channels
from channels.layouts_deepmimo import deepmimo_layout
from channels.opened import ReadOptions
from channels.workspace import Workspace

pytestmark = pytest.mark.unit

N, N_PATH, N_SUB, BANDWIDTH = 40, 6, 48, 20e6
COLUMNS, ROWS = 4, 2  # of the base station, `shape` [4, 2]
UNREACHED = np.arange(N) % 8 == 5


@dataclass
class Scene:
    """Users as DeepMIMO computes them: absent paths NaN, unreached users all zero.

    Attributes:
        channel: [user, rx 1, tx 8, subcarrier].
        paths: Coefficients [user, rx, tx, path], 0 where absent.
        about: The arrays beside them, v4's names.
    """

    channel: np.ndarray
    paths: np.ndarray
    about: dict[str, Any]


@pytest.fixture(scope="module")
def scene() -> Scene:
    """h[k] = sum_p sqrt(P/n) exp(j phase) a_tx exp(-j 2 pi k tau B/n), the y index fastest."""
    rng = np.random.default_rng(11)
    power = rng.uniform(-120, -80, (N, N_PATH))  # dBW
    phase, delay = rng.uniform(-180, 180, (N, N_PATH)), rng.uniform(0, 1.5e-6, (N, N_PATH))
    azimuth, zenith = rng.uniform(-60, 60, (N, N_PATH)), rng.uniform(70, 110, (N, N_PATH))
    absent = np.arange(N_PATH) >= np.where(UNREACHED, 0, rng.integers(2, N_PATH + 1, N))[:, None]
    for array in (power, phase, delay, azimuth, zenith):
        array[absent] = np.nan
    theta, phi = np.deg2rad(zenith), np.deg2rad(azimuth)
    y = np.tile(np.arange(COLUMNS), ROWS)
    z = np.repeat(np.arange(ROWS), COLUMNS)
    turn_y, turn_z = np.sin(theta) * np.sin(phi), np.cos(theta)
    array_tx = np.exp(1j * np.pi * (y[:, None] * turn_y[:, None] + z[:, None] * turn_z[:, None]))
    gain = np.sqrt(10 ** (power / 10)) * np.exp(1j * np.deg2rad(phase))
    paths = np.nan_to_num(array_tx * gain[:, None])[:, None]  # [user, 1, tx, path]
    over_k = np.exp(-2j * np.pi * np.nan_to_num(delay)[:, None] * BANDWIDTH / N_SUB * K)
    channel = np.einsum("nrtp,nkp->nrtk", paths, over_k) / np.sqrt(N_SUB)
    about = {
        "power": power,
        "phase": phase,
        "delay": delay,
        "aod_az": azimuth,
        "los": np.where(UNREACHED, -1, np.arange(N) % 2).astype(np.int8),
        "rx_pos": rng.uniform(0, 100, (N, 3)),
        "pathloss": rng.uniform(80, 120, N),
        "distance": np.arange(N, dtype=float),
    }
    return Scene(channel.astype(np.complex64), paths, about)


K = np.arange(N_SUB)[:, None]
PARAMETERS: dict[str, Any] = {
    "rt_params/frequency": 3.5e9,
    "ch_params/ofdm/bandwidth": BANDWIDTH,
    "ch_params/ofdm/subcarriers": N_SUB,
    "ch_params/ofdm/selected_subcarriers": np.arange(N_SUB),
    "ch_params/bs_antenna/shape": np.array([COLUMNS, ROWS]),
}


def unit(h: np.ndarray) -> np.ndarray:
    return h / np.sqrt((np.abs(h) ** 2).mean((1, 2, 3), keepdims=True))


def same(channels: ChannelSet, h: np.ndarray, atol: float = 2e-6) -> None:
    np.testing.assert_allclose(channels.h[:].numpy(), unit(h), rtol=0, atol=atol)


def spreads(scene: Scene) -> tuple[np.ndarray, np.ndarray]:
    """Delay spread [s] and azimuth spread [deg] of each reached user, path by path."""
    delay_s, deg = [], []
    for i in np.flatnonzero(~UNREACHED):
        there = ~np.isnan(scene.about["power"][i])
        w = 10 ** (scene.about["power"][i][there] / 10)
        tau, phi = scene.about["delay"][i][there], np.deg2rad(scene.about["aod_az"][i][there])
        delay_s.append(np.sqrt(np.average((tau - np.average(tau, weights=w)) ** 2, weights=w)))
        length = abs(np.average(np.exp(1j * phi), weights=w))
        deg.append(np.rad2deg(np.sqrt(-2 * np.log(length))))
    return np.array(delay_s), np.array(deg)


# --- Whole loads ----------------------------------------------------------------------------------


def test_v4_npz(tmp_path: Path, scene: Scene) -> None:
    np.savez(tmp_path / "d.npz", channel=scene.channel, **scene.about, **PARAMETERS)
    channels = load_channels(tmp_path / "d.npz")
    reached = ~UNREACHED
    same(channels, scene.channel[reached])
    gain = 10 * np.log10((np.abs(scene.channel[reached].astype(complex)) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(channels.power_db, gain, atol=1e-4)
    known = {"is_los", "ue_pos_m", "path_gain_db", "delay_spread_s", "asd_deg"}
    assert set(channels.labels) == known | {"distance"}
    assert channels.label("is_los").tolist() == (scene.about["los"][reached] == 1).tolist()
    for name, theirs in (
        ("path_gain_db", -scene.about["pathloss"]),
        ("ue_pos_m", scene.about["rx_pos"]),
        ("distance", scene.about["distance"]),
    ):
        np.testing.assert_allclose(channels.label(name), theirs[reached], rtol=1e-6)
    delay_s, deg = spreads(scene)
    np.testing.assert_allclose(channels.label("delay_spread_s"), delay_s, rtol=1e-5)
    np.testing.assert_allclose(channels.label("asd_deg"), deg, rtol=1e-4)
    assert (channels.grid.carrier_hz, channels.grid.bandwidth_hz) == (3.5e9, BANDWIDTH)
    assert channels.grid.panel == (1, ROWS, COLUMNS)
    assert channels.source.format == "DeepMIMO (npz)"
    assert channels.source.convention is not None
    assert channels.source.convention.scaling == "none"
    said = " ".join(channels.source.notices)
    assert "5 of 40 users have no path and were left out." in said
    assert "2 rows x 4 columns" in said


def test_v3_mat_of_a_nested_dict(tmp_path: Path, scene: Scene) -> None:
    two_rx = np.concatenate([scene.channel, 0.5j * scene.channel], 1)
    user = {
        "channel": two_rx,
        "LoS": scene.about["los"],
        "location": scene.about["rx_pos"],
        "pathloss": scene.about["pathloss"],
        "distance": scene.about["distance"],
    }
    base = {"channel": np.ones((1, 1, 8, N_SUB), complex), "LoS": np.zeros(1)}
    dataset = {"user": user, "basestation": base, "location": np.zeros((1, 3))}
    scipy.io.savemat(tmp_path / "d.mat", dataset)
    channels = load_channels(tmp_path / "d.mat", bandwidth_hz=BANDWIDTH)
    same(channels, two_rx[~UNREACHED])
    assert set(channels.labels) == {"is_los", "ue_pos_m", "path_gain_db", "distance"}
    assert channels.grid.bandwidth_hz == BANDWIDTH


def test_v3_bandwidth_in_gigahertz(tmp_path: Path, scene: Scene) -> None:
    parameters: dict[str, Any] = {
        "OFDM/bandwidth": BANDWIDTH / 1e9,
        "OFDM/subcarriers": 4 * N_SUB,
        "OFDM/selected_subcarriers": 2 * np.arange(N_SUB),
    }
    arrays = {f"user/{k}": v for k, v in {"channel": scene.channel, **scene.about}.items()}
    np.savez(tmp_path / "d.npz", **arrays, **parameters)
    channels = load_channels(tmp_path / "d.npz")
    assert channels.grid.bandwidth_hz == pytest.approx(BANDWIDTH / 2)
    same(channels, scene.channel[~UNREACHED])


def test_torch_and_hdf5(tmp_path: Path, scene: Scene) -> None:
    arrays = {"channel": scene.channel, "los": scene.about["los"]}
    torch.save({k: torch.from_numpy(v) for k, v in arrays.items()}, tmp_path / "d.pt")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file.update(arrays)
    for name in ("d.pt", "d.h5"):
        channels = load_channels(tmp_path / name)
        same(channels, scene.channel[~UNREACHED])
        assert channels.source.format.startswith("DeepMIMO (")


def test_several_base_stations(tmp_path: Path, scene: Scene) -> None:
    stations: dict[str, Any] = {}
    for i in range(2):
        stations[f"bs{i}/user/channel"] = (i + 1j) * scene.channel[:, :, :: 1 + i]
        stations[f"bs{i}/user/LoS"] = scene.about["los"]
    np.savez(tmp_path / "d.npz", **stations)
    with pytest.raises(
        CsiAuditError,
        match=r"several base stations.*bs0/user/channel \(40, 1, 8, 48\), bs1/user/channel",
    ):
        load_channels(tmp_path / "d.npz")
    channels = load_channels(tmp_path / "d.npz", variable="bs1/user/channel")
    same(channels, (1 + 1j) * scene.channel[~UNREACHED][:, :, ::2])


def test_several_times_read_the_first(tmp_path: Path, scene: Scene) -> None:
    times = np.stack([scene.channel, 2j * scene.channel[::-1]], -1)
    np.savez(tmp_path / "d.npz", channel=times, los=scene.about["los"])
    channels = load_channels(tmp_path / "d.npz")
    same(channels, scene.channel[~UNREACHED])
    assert "Of 2 times of each user the first is read." in channels.source.notices


def test_num_paths_tells_who_is_reached(tmp_path: Path, scene: Scene) -> None:
    count = (~np.isnan(scene.about["power"])).sum(1)
    np.savez(tmp_path / "d.npz", channel=scene.channel, num_paths=count)
    channels = load_channels(tmp_path / "d.npz")
    same(channels, scene.channel[~UNREACHED])
    assert channels.label("num_paths").tolist() == count[~UNREACHED].tolist()


# --- Paths ----------------------------------------------------------------------------------------


def test_paths_are_sampled_as_the_generator_does(tmp_path: Path, scene: Scene) -> None:
    arrays = {"channel": scene.paths, **scene.about, **PARAMETERS, "ch_params/freq_domain": 0}
    np.savez(tmp_path / "d.npz", **arrays)
    channels = load_channels(tmp_path / "d.npz", n_sub=N_SUB)
    same(channels, scene.channel[~UNREACHED], 1e-5)
    assert channels.grid.bandwidth_hz == BANDWIDTH
    default = load_channels(tmp_path / "d.npz", bandwidth_hz=10e6)
    assert (default.grid.n_sub, default.grid.bandwidth_hz) == (32, 10e6)
    assert any("Sampled at 32 subcarriers (default)" in n for n in default.source.notices)


def test_last_axis_as_long_as_the_paths(tmp_path: Path, scene: Scene) -> None:
    np.savez(tmp_path / "d.npz", channel=scene.paths, **scene.about)
    with pytest.raises(
        CsiAuditError, match=r"as long as its 6 path delays. Choose: --axes user,rx,tx,sub if"
    ):
        load_channels(tmp_path / "d.npz")
    channels = load_channels(tmp_path / "d.npz", n_sub=N_SUB, bandwidth_hz=BANDWIDTH)
    same(channels, scene.channel[~UNREACHED], 1e-5)
    same(load_channels(tmp_path / "d.npz", axes="user,rx,tx,sub"), scene.paths[~UNREACHED])
    with pytest.raises(CsiAuditError, match="holds paths and no bandwidth"):
        load_channels(tmp_path / "d.npz", n_sub=N_SUB)


def test_flag_says_subcarriers(tmp_path: Path, scene: Scene) -> None:
    short = scene.channel[..., :N_PATH]
    np.savez(tmp_path / "d.npz", channel=short, **scene.about, freq_domain=1)
    same(load_channels(tmp_path / "d.npz"), short[~UNREACHED])


# --- Broken and foreign files ---------------------------------------------------------------------


def held(**arrays: np.ndarray) -> Workspace:
    return Workspace(path=Path("d.npz"), container="npz", arrays=arrays)


def test_paths_without_channels(scene: Scene) -> None:
    with pytest.raises(CsiAuditError, match=r"DeepMIMO's paths but no channels.*compute_channels"):
        deepmimo_layout(held(**scene.about), ReadOptions())


def test_nobody_reached(scene: Scene) -> None:
    nobody = held(channel=scene.channel, los=np.full(N, -1))
    with pytest.raises(CsiAuditError, match="none of its 40 users has a path"):
        deepmimo_layout(nobody, ReadOptions())


def test_labels_of_another_length(scene: Scene) -> None:
    with pytest.raises(CsiAuditError, match="label los must have one row for each of the 40 users"):
        deepmimo_layout(held(channel=scene.channel, los=np.ones(3)), ReadOptions())


def test_subcarriers_that_do_not_fit(scene: Scene) -> None:
    about = {"ofdm/bandwidth": np.array(1e7), "ofdm/subcarriers": np.array(512)}
    opened = deepmimo_layout(
        held(channel=scene.channel, distance=np.ones(N), **about), ReadOptions()
    )
    assert opened is not None
    assert opened.bandwidth_hz is None
    assert any("OFDM parameters do not fit" in notice for notice in opened.notices)


def test_others_are_left_alone(scene: Scene) -> None:
    for arrays in (
        {"channel": scene.channel},
        {"channel": scene.channel[:, 0], "los": scene.about["los"]},
        {"basestation/channel": scene.channel, "basestation/LoS": scene.about["los"]},
        {"h": scene.channel, "los": scene.about["los"]},
    ):
        assert deepmimo_layout(held(**arrays), ReadOptions()) is None
    both = held(channel=scene.channel, los=scene.about["los"])
    assert deepmimo_layout(both, ReadOptions(variable="los")) is None
