"""QuaDRiGa's path files: every documented variant written by hand, and files made to do harm."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from channels import CsiAuditError, load_channels, readers_paths
from channels.hdf5_groups import OwnGroup
from channels.opened import Opened, ReadOptions
from channels.paths import frequency_response
from channels.readers_paths import is_quadriga_paths, open_quadriga_paths

pytestmark = pytest.mark.unit

N_RX, N_TX = 2, 3
BANDWIDTH_HZ = 20e6
DEFAULTED = "Sampled at 32 subcarriers (default); choose with n_sub=."
HARM = "which is never followed. Copy its data into this file."


@dataclass
class Link:
    """A transmitter and a receiver, in quadriga-lib's axis order [rx, tx, path]."""

    coeff: list[np.ndarray]  # one a snapshot; an empty one is not written
    delay: list[np.ndarray]
    attributes: dict[str, Any] = field(default_factory=dict)
    rows: dict[str, np.ndarray] = field(default_factory=dict)  # a row a snapshot
    par: dict[str, Any] = field(default_factory=dict)
    more: dict[str, list[np.ndarray]] = field(default_factory=dict)  # fields of each snapshot


def draw(
    *n_paths: int,
    seed: int = 0,
    n_rx: int = N_RX,
    n_tx: int = N_TX,
    per_path: bool = False,
    **facts: Any,
) -> Link:
    """A link of one snapshot for each number of paths."""
    rng = np.random.default_rng(seed)
    coeff, delay = [], []
    for n_path in n_paths:
        shape = (n_rx, n_tx, n_path)
        coeff.append(1e-6 * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)))
        delay.append(rng.exponential(1e-7, (1, 1, n_path) if per_path else shape))
    return Link(coeff, delay, **facts)


def write_paths(
    path: Path, links: dict[int, Link], dims: Sequence[int] = (), version: int = 2
) -> Path:
    """The file that quadriga-lib writes: `links` by their place in the layout, first axis fastest.

    Groups are numbered in the order of `links`, as they are when written one after the other.
    """
    shape = [*(dims or [max(links, default=0) + 1]), 1, 1, 1][:4]
    order = np.zeros(np.prod(shape), np.uint32)
    with h5py.File(path, "w") as file:
        for number, (place, link) in enumerate(links.items(), start=1):
            order[place] = number
            _write_link(file.create_group(f"channel_{number}"), link)
        file["ChannelDims"], file["Order"] = np.array(shape, np.uint32), order
        file["Version"] = np.uint32(version)
    return path


def _write_link(group: h5py.Group, link: Link) -> None:
    nowhere = {"CenterFrequency": np.float32(np.nan), "rx_position": np.full(3, np.nan, np.float32)}
    group.attrs.update({"NumSnap": np.uint32(len(link.coeff)), **nowhere, **link.attributes})
    for name, value in link.rows.items():
        group[name] = value
    for i, (coeff, delay) in enumerate(zip(link.coeff, link.delay, strict=True)):
        if coeff.size:
            snapshot = group if len(link.coeff) == 1 else group.create_group(f"Snap_{i}")
            snapshot["coeff_re"] = coeff.real.T.astype(np.float32)
            snapshot["coeff_im"] = coeff.imag.T.astype(np.float32)
            snapshot["delay"] = delay.T.astype(np.float32)
            for name, values in link.more.items():
                snapshot[name] = values[i]
    if link.par:
        for name, value in link.par.items():
            group[f"Data/par_{name}"] = np.bytes_(value) if isinstance(value, str) else value


def respond(coeff: np.ndarray, delay: np.ndarray, n_sub: int, bandwidth_hz: float) -> np.ndarray:
    """The double sum, in float64, of one snapshot: (n_rx, n_tx, n_sub)."""
    frequency_hz = np.arange(n_sub) * bandwidth_hz / n_sub
    stored_s = delay.astype(np.float32).astype(np.float64)
    phase = 2 * np.pi * stored_s[..., None] * frequency_hz
    response: np.ndarray = (coeff.astype(np.complex64)[..., None] * np.exp(-1j * phase)).sum(-2)
    return response


def check(
    opened: Opened, users: Sequence[tuple[np.ndarray, np.ndarray]], bandwidth_hz: float
) -> None:
    """The users read are those given, (coeff, delay) each."""
    n_sub = opened.shape[3]
    truth = np.stack([respond(coeff, delay, n_sub, bandwidth_hz) for coeff, delay in users])
    assert opened.shape == truth.shape
    h = opened.read(0, len(users))
    assert h.dtype == np.complex64
    np.testing.assert_allclose(h, truth, rtol=0, atol=1e-6 * np.abs(truth).max())


def read(path: Path, n_sub: int | None = None, bandwidth_hz: float | None = BANDWIDTH_HZ) -> Opened:
    return open_quadriga_paths(path, ReadOptions(n_sub=n_sub, bandwidth_hz=bandwidth_hz))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "paths.hdf5"


# --- Real users -----------------------------------------------------------------------------------


@pytest.mark.golden
def test_native_file_matches_quadriga(shared_data: Path) -> None:
    opened = open_quadriga_paths(shared_data / "umi_native_300.hdf5", ReadOptions())
    truth = scipy.io.loadmat(shared_data / "umi_native_300_fr.mat")["H"]
    h = opened.read(0, 300)
    error = np.linalg.norm((h[:, 0] - truth).reshape(300, -1), axis=1)
    worst = (error / np.linalg.norm(truth.reshape(300, -1), axis=1)).max()
    print(f"300 native users against QuaDRiGa's fr: {worst:.2e} relative at worst")
    assert worst <= 1e-5
    assert opened.shape == (300, 1, 32, 32)
    assert (opened.carrier_hz, opened.bandwidth_hz) == (2.655e9, 10e6)
    assert opened.scenario == "3GPP_38.901_UMi"
    assert (opened.scaling, opened.domain) == ("raw", "spatial-frequency")
    assert opened.notices == (DEFAULTED,)


@pytest.mark.golden
def test_native_labels_are_those_of_the_matlab_file(shared_data: Path) -> None:
    opened = open_quadriga_paths(shared_data / "umi_native_300.hdf5", ReadOptions())
    names = {"is_los": "is_los", "delay_spread_s": "delay_spread_s", "asd_deg": "asd_deg"}
    theirs = scipy.io.loadmat(
        shared_data / "umi_val.mat", variable_names=[*names.values(), "ue_pos"]
    )
    for ours, name in names.items():
        np.testing.assert_allclose(opened.labels[ours], theirs[name].ravel()[:300], rtol=1e-6)
    np.testing.assert_allclose(opened.labels["ue_pos_m"], theirs["ue_pos"][:300], rtol=1e-6)
    assert set(np.unique(opened.labels["n_path"])) == {16, 24}


@pytest.mark.golden
def test_native_file_loads_whole(shared_data: Path) -> None:
    channels = load_channels(shared_data / "umi_native_300.hdf5")
    truth = scipy.io.loadmat(shared_data / "umi_native_300_fr.mat")["H"][:, None]
    gain = 10 ** (channels.power_db.numpy() / 20)
    back = channels.h[:].numpy() * gain[:, None, None, None]
    np.testing.assert_allclose(back, truth, rtol=0, atol=1e-5 * np.abs(truth).max())
    assert DEFAULTED in channels.source.notices
    assert channels.labels["is_los"].dtype == torch.bool


# --- Every variant of the layout ------------------------------------------------------------------


@pytest.mark.parametrize("per_path", [False, True])
def test_links_of_different_path_counts(target: Path, per_path: bool) -> None:
    links = {i: draw(p, seed=i, per_path=per_path) for i, p in enumerate([4, 1, 7])}
    opened = read(write_paths(target, links))
    check(opened, [(link.coeff[0], link.delay[0]) for link in links.values()], BANDWIDTH_HZ)
    assert opened.labels["n_path"].tolist() == [4, 1, 7]
    assert opened.format == "QuaDRiGa paths (HDF5)"
    assert not {"link", "snapshot", "link_x"} & opened.labels.keys()


def test_both_kinds_of_delay_in_one_file(target: Path) -> None:
    links = {0: draw(4), 1: draw(2, seed=1, per_path=True)}
    opened = read(write_paths(target, links), n_sub=5)
    check(opened, [(link.coeff[0], link.delay[0]) for link in links.values()], BANDWIDTH_HZ)


def test_order_decides_and_unnamed_groups_are_old(target: Path) -> None:
    links = {3: draw(4), 0: draw(2, seed=1), 2: draw(3, seed=2)}
    write_paths(target, links)
    with h5py.File(target, "a") as file:  # written once more at place 3: a new group, the old stays
        _write_link(file.create_group("channel_4"), draw(5, seed=3))
        file["Order"][3] = 4
    users = [links[0], links[2], draw(5, seed=3)]
    check(read(target), [(link.coeff[0], link.delay[0]) for link in users], BANDWIDTH_HZ)


def test_each_snapshot_is_a_user(target: Path) -> None:
    rows = {
        "rx_position": np.arange(9.0).reshape(3, 3).astype(np.float32),
        "CenterFrequency": np.array([1e9, 2e9, 2e9], np.float32),
    }
    walk = draw(4, 2, 3, rows=rows, par={"speed": np.array([1.0, 2.0, 3.0]), "drop_seed": 7})
    attributes = {"rx_position": np.ones(3, np.float32), "CenterFrequency": np.float32(3.5e9)}
    still = draw(5, seed=1, attributes=attributes, par={"speed": 0.0, "drop_seed": 8})
    opened = read(write_paths(target, {0: walk, 1: still}))
    users = [*zip(walk.coeff, walk.delay, strict=True), (still.coeff[0], still.delay[0])]
    check(opened, users, BANDWIDTH_HZ)
    assert opened.labels["link"].tolist() == [0, 0, 0, 1]
    assert opened.labels["snapshot"].tolist() == [0, 1, 2, 0]
    assert opened.labels["speed"].tolist() == [1, 2, 3, 0]
    assert opened.labels["drop_seed"].tolist() == [7, 7, 7, 8]
    assert opened.labels["ue_pos_m"].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [1, 1, 1]]
    assert opened.labels["carrier_hz"].tolist() == [1e9, 2e9, 2e9, 3.5e9]
    assert opened.carrier_hz is None
    assert opened.notices == (DEFAULTED, "The users have 3 carriers: see the label carrier_hz.")


def test_layout_of_several_axes(target: Path) -> None:
    links = {place: draw(2, seed=place) for place in (5, 1, 4)}
    opened = read(write_paths(target, links, dims=(3, 2)))
    check(opened, [(links[p].coeff[0], links[p].delay[0]) for p in (1, 4, 5)], BANDWIDTH_HZ)
    assert opened.labels["link"].tolist() == [1, 4, 5]
    assert opened.labels["link_x"].tolist() == [1, 1, 2]  # first axis fastest
    assert opened.labels["link_y"].tolist() == [0, 1, 1]
    assert "link_z" not in opened.labels


def test_links_without_coefficients_are_left_out(target: Path) -> None:
    nothing = np.zeros((N_RX, N_TX, 0))
    walk = draw(2, 2)
    gap = Link([walk.coeff[0], nothing, walk.coeff[1]], [walk.delay[0], nothing, walk.delay[1]])
    bare = Link([], [], par={"note": 1.0})
    opened = read(write_paths(target, {0: bare, 1: gap}))
    check(opened, list(zip(walk.coeff, walk.delay, strict=True)), BANDWIDTH_HZ)
    assert opened.labels["snapshot"].tolist() == [0, 2]
    assert "2 channels or snapshots without coefficients were left out." in opened.notices


def with_parameters(i: int) -> Link:
    """A link that says all sorts of things of itself."""
    par = {
        "is_los": i % 2,
        "k_factor_db": np.array([3.0 + i]),
        "ue_pos": np.array([1.0, 2.0, i]),
        "name": f"user {i}",
        "ragged": np.zeros(i + 2),
        "vast": np.zeros(2000),
        "scenario": ["UMi", "UMa", "UMi"][i],
        "bandwidth_hz": 1e7,
    }
    if i == 2:
        par["rare"] = 1.0
    places = {"rx_position": np.zeros(3, np.float32), "CenterFrequency": np.float32(3.3e9)}
    gain = np.array([0.06, 0.04], np.float32) / 10**i
    more = {"path_gain": [gain], "path_length": [np.ones(2, np.float32)]}
    return draw(2, seed=i, par=par, attributes=places, more=more)


def test_parameters_become_labels(target: Path) -> None:
    links = {i: with_parameters(i) for i in range(3)}
    opened = read(write_paths(target, links), bandwidth_hz=None)
    labels = {name: value.tolist() for name, value in opened.labels.items()}
    gain_db = labels.pop("path_gain_db")
    assert gain_db == pytest.approx([-10, -20, -30])
    assert labels == {
        "n_path": [2, 2, 2],
        "is_los": [0, 1, 0],
        "k_factor_db": [3, 4, 5],
        "ue_pos_m": [[1, 2, 0], [1, 2, 1], [1, 2, 2]],
    }
    assert (opened.scenario, opened.carrier_hz, opened.bandwidth_hz) == ("UMa, UMi", 3.3e9, 1e7)
    assert opened.notices == (
        "Not taken as labels: par_name, par_ragged, par_vast, par_rare "
        "(text, or not of one size everywhere).",
        DEFAULTED,
    )


def test_positions_that_are_not_known_are_no_labels(target: Path) -> None:
    tx = {"tx_position": np.array([0, 0, 10], np.float32)}
    opened = read(write_paths(target, {0: draw(2, attributes=tx), 1: draw(2, attributes=tx)}))
    assert "ue_pos_m" not in opened.labels
    assert opened.labels["tx_pos_m"].tolist() == [[0, 0, 10]] * 2
    assert opened.carrier_hz is None


def test_later_version_is_named(target: Path) -> None:
    opened = read(write_paths(target, {0: draw(2)}, version=3))
    assert "Written as version 3 of the layout, read as version 2." in opened.notices


@pytest.mark.parametrize("stacked", [False, True])
def test_written_by_quadriga_lib(tmp_path: Path, stacked: bool) -> None:
    library = pytest.importorskip("quadriga_lib").channel
    target = str(tmp_path / "library.hdf5")
    library.hdf5_create_file(target, 2, 2)
    links = {3: draw(4, 2, seed=1), 0: draw(3, 5, seed=2)}
    for place, link in links.items():
        if stacked:
            link.delay = [delay[:1, :1] for delay in link.delay]
        written = {
            "name": f"link {place}",
            "center_frequency": np.array([2.1e9]),
            "tx_position": np.zeros((3, 1)),
            "rx_position": np.arange(6.0).reshape(3, 2) + place,
            "coeff_re": [c.real.astype(np.float32) for c in link.coeff],
            "coeff_im": [c.imag.astype(np.float32) for c in link.coeff],
            "delay": [d.astype(np.float32) for d in link.delay],
        }
        library.hdf5_write_channel(target, written, {"is_los": place}, place % 2, place // 2)
    opened = read(Path(target))
    first, last = links[0], links[3]
    check(
        opened,
        list(zip(first.coeff + last.coeff, first.delay + last.delay, strict=True)),
        BANDWIDTH_HZ,
    )
    assert opened.labels["is_los"].tolist() == [0, 0, 3, 3]
    assert opened.labels["ue_pos_m"][:, 0].tolist() == [0, 1, 3, 4]
    assert opened.labels["link_y"].tolist() == [0, 0, 1, 1]
    assert opened.carrier_hz == 2.1e9


# --- Reading --------------------------------------------------------------------------------------


def test_users_in_any_order_and_in_small_blocks(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = {i: draw(3 + i % 2, seed=i) for i in range(7)}
    opened = read(write_paths(target, links), n_sub=6)
    h = opened.read(0, 7)
    monkeypatch.setattr(readers_paths, "_BLOCK_VALUES", 2 * N_RX * N_TX * 4)
    for start, stop in ((0, 7), (5, 7), (2, 3), (4, 4), (0, 99)):
        part = opened.read(start, stop)
        assert part.shape == (len(h[start:stop]), N_RX, N_TX, 6)
        np.testing.assert_allclose(part, h[start:stop], rtol=0, atol=1e-6 * np.abs(h).max())


def test_opening_reads_only_the_first_users(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counting(coeff: torch.Tensor, delay_s: torch.Tensor, **grid: Any) -> torch.Tensor:
        asked.append(len(coeff))
        return torch.zeros(len(coeff))

    monkeypatch.setattr(readers_paths, "LOOKED_AT", 2)
    monkeypatch.setattr(readers_paths, "energy_beyond_window", counting)
    read(write_paths(target, {i: draw(2, seed=i) for i in range(5)}))
    assert asked == [2]


def test_wrapped_delays_are_told(target: Path) -> None:
    link = draw(2)
    link.coeff[0][:] = [1e-6, 2e-6]
    link.delay[0][:] = [1e-7, 2e-6]
    path = write_paths(target, {0: link, 1: link})
    wraps = (
        "80.0 % of the path energy lies beyond the delay window n_sub/bandwidth = 1.6 us and wraps "
        "around; a larger n_sub holds it."
    )
    assert read(path).notices == (DEFAULTED,)
    assert read(path).cautions == (wraps,)
    assert read(path, n_sub=64).notices == ()
    assert read(path, n_sub=64).cautions == ()


def test_bandwidth_of_the_user_comes_first(target: Path) -> None:
    link = draw(3, par={"bandwidth_hz": 1e7})
    path = write_paths(target, {0: link})
    check(read(path, bandwidth_hz=None), [(link.coeff[0], link.delay[0])], 1e7)
    wide = read(path)
    check(wide, [(link.coeff[0], link.delay[0])], BANDWIDTH_HZ)
    assert wide.bandwidth_hz == BANDWIDTH_HZ
    assert "Sampled over 20 MHz as asked; the file states 10 MHz." in wide.notices
    assert read(path, bandwidth_hz=1e7, n_sub=8).notices == ()


def test_recognised_by_its_index(target: Path) -> None:
    write_paths(target, {0: draw(2)})
    with h5py.File(target, "a") as file:
        assert is_quadriga_paths(file)
        del file["Order"]
        assert not is_quadriga_paths(file)


def test_values_come_from_the_one_transform(target: Path) -> None:
    link = draw(3)
    coeff, delay = (torch.from_numpy(part[0])[None] for part in (link.coeff, link.delay))
    h = frequency_response(coeff, delay.float(), bandwidth_hz=BANDWIDTH_HZ, n_sub=4)
    opened = read(write_paths(target, {0: link}), n_sub=4)
    np.testing.assert_allclose(opened.read(0, 1), h.numpy(), rtol=1e-5, atol=1e-12)


# --- Errors ---------------------------------------------------------------------------------------


def fails(path: Path, message: str, **options: Any) -> None:
    """Opening, or else reading, raises one line with the path and the message."""
    with pytest.raises(CsiAuditError) as caught:  # noqa: PT012  either of the two may raise
        opened = open_quadriga_paths(path, ReadOptions(**{"bandwidth_hz": BANDWIDTH_HZ, **options}))
        opened.read(0, opened.shape[0])
    assert str(path) in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth_hz": None}, "Give one in hertz: bandwidth_hz=10e6 (--bandwidth_hz 10e6)."),
        ({"bandwidth_hz": None}, "holds paths and no bandwidth to sample them over."),
        ({"variable": "coeff_re"}, "variable must be left out for"),
        ({"axes": "rx,tx,sub,user"}, "fixed names and axes; got 'rx,tx,sub,user'."),
    ],
)
def test_options_that_do_not_fit(target: Path, options: dict[str, Any], message: str) -> None:
    fails(write_paths(target, {0: draw(2)}), message, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bandwidth_hz": -1.0}, "bandwidth_hz must be a positive number of hertz; got -1.0."),
        ({"n_sub": 0}, "n_sub must be a whole number of at least 1; got 0."),
    ],
)
def test_grids_that_make_no_sense(target: Path, options: dict[str, Any], message: str) -> None:
    path = write_paths(target, {0: draw(2)})
    with pytest.raises(CsiAuditError, match=re.escape(message)):
        open_quadriga_paths(path, ReadOptions(**{"bandwidth_hz": BANDWIDTH_HZ, **options}))


def test_several_bandwidths(target: Path) -> None:
    links = {i: draw(2, par={"bandwidth_hz": (i + 1) * 1e7}) for i in range(2)}
    path = write_paths(target, links)
    fails(path, "holds paths and several bandwidths to sample them over.", bandwidth_hz=None)
    assert read(path).labels["bandwidth_hz"].tolist() == [1e7, 2e7]


def replaced(name: str, value: Any) -> Callable[[h5py.File], None]:
    """Write another dataset in place of one."""

    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = value

    return change


def removed(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.__delitem__(name)


def declared(name: str, shape: tuple[int, ...], **storage: Any) -> Callable[[h5py.File], None]:
    """A dataset of which nothing, or next to nothing, is written."""

    def change(file: h5py.File) -> None:
        del file[name]
        dataset = file.create_dataset(name, shape, np.float32, **storage)
        if "chunks" in storage:
            dataset[0] = 1.0

    return change


def linked(name: str, link: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[name]
        file[name] = link

    return change


def external_storage(file: h5py.File) -> None:
    del file["channel_1/delay"]
    file.create_dataset(
        "channel_1/delay", (2, N_TX, N_RX), np.float32, external=[("secret.bin", 0, 48)]
    )


def virtual_storage(file: h5py.File) -> None:
    del file["channel_1/coeff_im"]
    layout = h5py.VirtualLayout((2, N_TX, N_RX), np.float32)
    layout[:] = h5py.VirtualSource("secret.h5", "x", (2, N_TX, N_RX))
    file.create_virtual_dataset("channel_1/coeff_im", layout)


SHAPE = (2, N_TX, N_RX)
HARMFUL: list[tuple[str, Callable[[h5py.File], None], str]] = [
    ("no imaginary part", removed("channel_1/coeff_im"), "channel_1: coeff_im is missing."),
    ("no real part", removed("channel_1/coeff_re"), "channel_1: coeff_re is missing."),
    ("no delay", removed("channel_1/delay"), "channel_1: delay is missing. Was the file written"),
    ("no group", removed("channel_2"), "channel_2 is missing."),
    (
        "other imaginary part",
        replaced("channel_1/coeff_im", np.zeros((2, N_RX, N_TX), np.float32)),
        f"channel_1: coeff_im must be [path, tx, rx] like coeff_re {SHAPE}; got (2, 2, 3).",
    ),
    (
        "other delay",
        replaced("channel_1/delay", np.zeros((3, 1, 1), np.float32)),
        f"delay must be [path, tx, rx] like coeff_re {SHAPE} or [path, 1, 1]; got (3, 1, 1).",
    ),
    (
        "flat coefficients",
        replaced("channel_1/coeff_re", np.zeros(12, np.float32)),
        "channel_1: coeff_re must be [path, tx, rx] like coeff_re (12,); got (12,).",
    ),
    (
        "whole numbers",
        replaced("channel_1/coeff_re", np.zeros(SHAPE, np.int16)),
        "channel_1: coeff_re must be real float; got int16.",
    ),
    (
        "delay without a value",
        replaced("channel_2/delay", np.full(SHAPE, np.nan, np.float32)),
        "channel_2: delay must be finite; it holds NaN or Inf. Remove this channel.",
    ),
    (
        "other antennas",
        lambda file: _write_link(_empty(file, "channel_2"), draw(2, n_tx=8)),
        "all channels must have the same antennas (rx x tx); got 2 x 3 in channel_1 and 2 x 8 in "
        "channel_2. Write one file for each pair of arrays.",
    ),
    (
        "a group for an array",
        lambda file: _empty(file, "channel_1/delay") and None,
        "channel_1: delay must be a dataset; got GroupID.",
    ),
    (
        "an array for a group",
        replaced("channel_1", 1.0),
        "channel_1 must be a group; got DatasetID.",
    ),
    (
        "another index",
        replaced("ChannelDims", np.array([3, 1, 1, 1], np.uint32)),
        "ChannelDims (3, 1, 1, 1) must multiply to the 2 places of Order.",
    ),
    (
        "index of more axes",
        replaced("ChannelDims", np.array([2, 1, 1, 1, 1], np.uint32)),
        "ChannelDims (2, 1, 1, 1, 1) must multiply to the 2 places of Order.",
    ),
    (
        "index in floats",
        replaced("Order", np.array([1.0, 2.0])),
        "ChannelDims and Order must hold whole numbers. Save the file again.",
    ),
    (
        "one group twice",
        replaced("Order", np.array([2, 2], np.uint32)),
        "Order names channel_2 twice. Save the file again.",
    ),
    (
        "nothing in it",
        replaced("Order", np.array([0, 0], np.uint32)),
        "no channel in it holds path coefficients (coeff_re, coeff_im, delay).",
    ),
    (
        "position of another walk",
        replaced("channel_1/rx_position", np.zeros((5, 3), np.float32)),
        "channel_1: rx_position must be 1 rows of a few numbers, one a snapshot; got (5, 3).",
    ),
    ("soft link", linked("channel_1/delay", h5py.SoftLink("/channel_2/delay")), HARM),
    ("link to a group", linked("channel_1", h5py.ExternalLink("secret.h5", "/")), HARM),
    (
        "link to an array",
        linked("channel_1/coeff_re", h5py.ExternalLink("secret.h5", "/x")),
        f"channel_1: coeff_re points elsewhere, {HARM}",
    ),
    ("link to an index", linked("Order", h5py.ExternalLink("secret.h5", "/x")), HARM),
    ("external storage", external_storage, f"channel_1: delay points elsewhere, {HARM}"),
    ("virtual storage", virtual_storage, f"channel_1: coeff_im points elsewhere, {HARM}"),
    (
        "size in words only",
        declared("channel_1/coeff_re", (10**9, 64, 64)),
        "channel_1: coeff_re (1000000000, 64, 64) was never written. Save the file again.",
    ),
    (
        "size of one chunk",
        declared("channel_1/coeff_re", (10**6, 64, 64), chunks=(1, 1, 64)),
        "channel_1/coeff_re declares (1000000, 64, 64), 16.4 GB, but the file holds only",
    ),
    (
        "index in words only",
        declared("Order", (1 << 32,), chunks=(1024,)),
        "Order declares (4294967296,), 17.2 GB, but the file holds only 4,096 bytes of it.",
    ),
]


def _empty(file: h5py.File, name: str) -> h5py.Group:
    del file[name]
    return file.create_group(name)


@pytest.mark.parametrize(
    ("change", "message"), [row[1:] for row in HARMFUL], ids=[row[0] for row in HARMFUL]
)
def test_harmful_files(target: Path, change: Callable[[h5py.File], None], message: str) -> None:
    rows = {"rx_position": np.zeros((1, 3), np.float32)}
    write_paths(target, {0: draw(2, rows=rows), 1: draw(2, seed=1)})
    with h5py.File(target.parent / "secret.h5", "w") as secret:
        secret["x"] = np.zeros(SHAPE, np.float32)
    (target.parent / "secret.bin").write_bytes(bytes(48))
    with h5py.File(target, "a") as file:
        change(file)
    with h5py.File(target) as file:
        assert is_quadriga_paths(file)
    fails(target, message)


def test_snapshot_errors_name_the_snapshot(target: Path) -> None:
    write_paths(target, {0: draw(2, 3)})
    with h5py.File(target, "a") as file:
        del file["channel_1/Snap_1/delay"]
    fails(target, "channel_1/Snap_1: delay is missing.")


def test_size_that_the_file_cannot_hold(target: Path) -> None:
    write_paths(target, {0: draw(2)})
    with h5py.File(target) as file:
        link = OwnGroup(target, file.id, file_size=40).group("channel_1")
        message = f"channel_1: delay {SHAPE} is larger than the file. Copy or save it again."
        with pytest.raises(CsiAuditError, match=re.escape(message)):
            link.dataset("delay")


def test_dimensions_changed_in_the_bytes(target: Path) -> None:
    write_paths(target, {0: draw(7)})
    sizes = np.array([7, N_TX, N_RX], "<u8").tobytes()
    vast = np.array([10**9, N_TX, N_RX], "<u8").tobytes()
    assert sizes in target.read_bytes()
    target.write_bytes(target.read_bytes().replace(sizes, vast))
    fails(target, "Copy or save it again.")


def test_truncated_file(target: Path) -> None:
    write_paths(target, {0: draw(200)})
    target.write_bytes(target.read_bytes()[:-3000])
    fails(target, "cannot be read to its end:")


def test_file_that_changes_after_opening(target: Path) -> None:
    opened = read(write_paths(target, {0: draw(2)}))
    write_paths(target, {0: draw(5)})
    with pytest.raises(CsiAuditError, match="cannot be read to its end"):
        opened.read(0, 1)
    target.unlink()
    with pytest.raises(CsiAuditError, match="cannot be read to its end"):
        opened.read(0, 1)
