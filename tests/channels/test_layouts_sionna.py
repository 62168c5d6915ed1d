"""Sionna: tensors built by the definitions of its channel models, and its own where installed.

Source: github.com/NVlabs/sionna, src/sionna/phy/channel/utils.py (subcarrier_frequencies,
cir_to_ofdm_channel); nvlabs.github.io/sionna/rt/api/paths.html (Paths.cir, Paths.cfr).
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from channels import ChannelSet, CsiAuditError, audit_space, load_channels
from channels.layouts_sionna import sionna_layout
from channels.opened import ReadOptions
from channels.workspace import Workspace

pytestmark = pytest.mark.unit

B, R, N_RX, N_TX, P, S, F = 7, 3, 2, 8, 5, 4, 64
SPACING = 30e3


def drawn(batch: int = B, n_rx: int = R, paired: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """a [batch, num_rx, num_rx_ant, 1, num_tx_ant, path, time] and tau, of early delays."""
    rng = np.random.default_rng(5)
    shape = (batch, n_rx, N_RX, 1, N_TX, P, S)
    a = rng.standard_normal((*shape, 2)) @ [1, 1j]
    link = (batch, n_rx, N_RX, 1, N_TX, P) if paired else (batch, n_rx, 1, P)
    return a, rng.uniform(0, 0.2 / SPACING, link)


def cir_to_ofdm(a: np.ndarray, tau: np.ndarray, *, centred: bool, n: int = F) -> np.ndarray:
    """sum_p a_p exp(-j 2 pi f tau_p): [batch, rx, rx_ant, tx, tx_ant, time, n]."""
    f = (np.arange(n) - (n // 2 if centred else 0)) * SPACING * F / n
    if tau.ndim == 4:
        tau = np.broadcast_to(tau[:, :, None, :, None], a.shape[:-1])
    h: np.ndarray = np.einsum("...ps,...pk->...sk", a, np.exp(-2j * np.pi * tau[..., None] * f))
    return h


def users(h: np.ndarray) -> np.ndarray:
    """First time, first transmitter, a receiver of a batch example a user: [user, rx, tx, n]."""
    first = h[:, :, :, 0, :, 0]
    return first.reshape(-1, *first.shape[2:])


def unit(h: np.ndarray) -> np.ndarray:
    return h / np.sqrt((np.abs(h) ** 2).mean((1, 2, 3), keepdims=True))


def same(channels: ChannelSet, h: np.ndarray, atol: float = 3e-6) -> None:
    np.testing.assert_allclose(channels.h[:].numpy(), unit(h), rtol=0, atol=atol)


def save(path: Path, **arrays: Any) -> Path:
    """By the ending: .npz, .pt or .h5."""
    if path.suffix == ".npz":
        np.savez(path, **arrays)
    elif path.suffix == ".pt":
        torch.save({k: torch.as_tensor(v) for k, v in arrays.items()}, path)
    else:
        with h5py.File(path, "w") as file:
            file.update(arrays)
    return path


# --- Frequency responses --------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["npz", "pt", "h5"])
def test_frequency_responses(tmp_path: Path, ending: str) -> None:
    h = cir_to_ofdm(*drawn(), centred=True)
    los = np.arange(B * R).reshape(B, R) % 2 == 0
    path = save(
        tmp_path / f"s.{ending}",
        h_freq=h.astype(np.complex64),
        is_los=los,
        subcarrier_spacing=SPACING,
        carrier_frequency=3.5e9,
    )
    channels = load_channels(path)
    same(channels, users(h))
    assert channels.label("batch").tolist() == [b for b in range(B) for _ in range(R)]
    assert channels.label("is_los").tolist() == los.ravel().tolist()
    assert channels.grid.bandwidth_hz == F * SPACING
    assert channels.grid.carrier_hz == 3.5e9
    assert channels.source.format.startswith("Sionna frequency responses (")
    said = " ".join(channels.source.notices)
    assert "Of 4 times of each link the first is read." in said
    assert "Its 3 receivers a batch example are users of their own." in said


def test_facts_and_labels_of_the_tensors_own_folder(tmp_path: Path) -> None:
    a, tau = drawn()
    los = np.arange(B * R).reshape(B, R) % 2 == 0
    inner = {"a": a, "tau": tau, "is_los": los, "carrier_frequency": 3.5e9, "fft_size": 16}
    about: dict[str, Any] = {f"sim/{name}": value for name, value in inner.items()}
    path = save(tmp_path / "s.npz", **about, bandwidth_hz=1e7, carrier_frequency=1e9)
    channels = load_channels(path)
    assert channels.h.shape == (B * R, N_RX, N_TX, 16)
    assert (channels.grid.carrier_hz, channels.grid.bandwidth_hz) == (3.5e9, 1e7)
    assert channels.label("is_los").tolist() == los.ravel().tolist()


def test_one_receiver_and_ray_tracer_without_batch(tmp_path: Path) -> None:
    h = cir_to_ofdm(*drawn(batch=20, n_rx=1), centred=True)
    path = save(tmp_path / "a.npz", anything=h, speed=np.arange(20.0))
    channels = load_channels(path, bandwidth_hz=1e7)
    same(channels, users(h))
    assert channels.label("speed").tolist() == list(range(20))
    assert "batch" not in channels.labels
    traced = cir_to_ofdm(*drawn(batch=1, n_rx=30), centred=True)
    path = save(tmp_path / "b.npz", h_freq=traced[0], speed=np.arange(30.0))
    channels = load_channels(path)
    same(channels, users(traced))
    assert channels.label("speed").tolist() == list(range(30))


@pytest.mark.parametrize("batchless", [False, True])
def test_any_slice_of_users(batchless: bool) -> None:
    h = cir_to_ofdm(*drawn(batch=1 if batchless else B, n_rx=R), centred=True)
    held = Workspace(
        path=Path("s.npz"), container="npz", arrays={"h_freq": h[0] if batchless else h}
    )
    opened = sionna_layout(held, ReadOptions())
    assert opened is not None
    whole = users(h)
    for start in range(len(whole)):
        for stop in range(start, len(whole) + 1):
            np.testing.assert_array_equal(opened.read(start, stop), whole[start:stop])


def test_users_of_one_example_are_read_alone() -> None:
    read = []

    class Watched:
        shape, dtype = (1, 1000, 1, 1, 4, 1, 8), np.dtype(np.complex64)

        def __getitem__(self, key: tuple[slice, ...]) -> np.ndarray:
            read.append(key[1])
            return np.zeros((1, key[1].stop - key[1].start, 1, 1, 4, 1, 8), np.complex64)

    held = Workspace(path=Path("s.h5"), container="HDF5", arrays={"h_freq": Watched()})
    opened = sionna_layout(held, ReadOptions())
    assert opened is not None
    assert opened.read(500, 510).shape == (10, 1, 4, 8)
    assert read == [slice(500, 510)]


def test_centred_grid_moves_no_delay(tmp_path: Path) -> None:
    """h(f_k - bandwidth/2) turns each path by exp(+j pi bandwidth tau): same taps, no fftshift."""
    a, tau = drawn(batch=30, n_rx=1)
    one = np.zeros_like(a)
    one[..., 0, :] = a[..., 0, :]  # a single path, off the grid of taps
    theirs, ours = (cir_to_ofdm(one, tau, centred=centred) for centred in (True, False))
    x, y = (
        audit_space(load_channels(save(tmp_path / f"{i}.npz", h_freq=h))).numpy()
        for i, h in enumerate((theirs, ours))
    )
    taps_x, taps_y = ((x[:, 0::2] ** 2 + x[:, 1::2] ** 2).sum((1, 2)) for x in (x, y))
    np.testing.assert_allclose(taps_x, taps_y, rtol=1e-3, atol=1e-3)
    expected = np.round(tau[:, 0, 0, 0] * SPACING * F).astype(int)
    assert np.abs(taps_x.argmax(1) - expected).max() <= 1
    full = cir_to_ofdm(a, tau, centred=True)
    turned = a * np.exp(1j * np.pi * F * SPACING * tau[:, :, None, :, None, :, None])
    np.testing.assert_allclose(full, cir_to_ofdm(turned, tau, centred=False), atol=1e-9)


# --- Impulse responses ----------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["npz", "pt", "h5"])
@pytest.mark.parametrize("paired", [False, True])
def test_impulse_responses(tmp_path: Path, ending: str, paired: bool) -> None:
    a, tau = drawn(paired=paired)
    path = save(
        tmp_path / f"s.{ending}",
        a=a.astype(np.complex64),
        tau=tau,
        fft_size=F,
        subcarrier_spacing=SPACING,
    )
    channels = load_channels(path)
    same(channels, users(cir_to_ofdm(a, tau, centred=False)), 1e-5)
    assert channels.grid.bandwidth_hz == F * SPACING
    assert channels.source.format.startswith("Sionna impulse responses (")


def test_impulse_responses_of_the_ray_tracer(tmp_path: Path) -> None:
    """Paths that a link lacks have coefficient 0 and delay -1."""
    a, tau = drawn(batch=1, n_rx=25)
    a[..., 3:, :], tau[..., 3:] = 0, -1
    path = save(tmp_path / "s.npz", cir_a=a[0], cir_tau=tau[0])
    channels = load_channels(path, n_sub=16, bandwidth_hz=F * SPACING)
    same(channels, users(cir_to_ofdm(a, tau, centred=False, n=16)), 1e-5)
    lazy = load_channels(path, n_sub=16, bandwidth_hz=F * SPACING, lazy=True)
    torch.testing.assert_close(lazy.h[7:19], channels.h[7:19])
    default = load_channels(path, bandwidth_hz=F * SPACING)
    assert default.grid.n_sub == 32
    assert "Sampled at 32 subcarriers (default); choose with n_sub=." in default.source.notices
    with pytest.raises(CsiAuditError, match="holds paths and no bandwidth"):
        load_channels(path)


def test_delays_that_do_not_fit(tmp_path: Path) -> None:
    a, tau = drawn()
    with pytest.raises(CsiAuditError, match=r"tau must be \(7, 3, 1, 5\), .*got \(7, 3, 1, 4\)"):
        load_channels(save(tmp_path / "a.npz", a=a, tau=tau[..., :4]))
    with pytest.raises(CsiAuditError, match=r"path coefficients, but their delays tau are missing"):
        load_channels(save(tmp_path / "b.npz", a=a))


@pytest.mark.usefixtures("seeded_torch")
def test_tensors_of_sionna_itself(tmp_path: Path) -> None:
    """UMi of the installed Sionna: CFR as it is, CIR equal to it but for the centred grid."""
    tr38901 = pytest.importorskip("sionna.phy.channel.tr38901")
    phy = pytest.importorskip("sionna.phy.channel")
    about = {"num_rows_per_panel": 1, "polarization": "single", "polarization_type": "V"}
    about |= {"antenna_pattern": "omni", "carrier_frequency": 3.5e9}
    model = tr38901.UMi(
        carrier_frequency=3.5e9,
        o2i_model="low",
        ut_array=tr38901.PanelArray(num_cols_per_panel=N_RX, **about),
        bs_array=tr38901.PanelArray(num_cols_per_panel=N_TX, **about),
        direction="downlink",
    )
    model.set_topology(*phy.gen_single_sector_topology(4, R, "umi"))
    a, tau = model(1, 1e6)
    h = phy.cir_to_ofdm_channel(phy.subcarrier_frequencies(F, SPACING), a, tau).cpu()
    response = load_channels(save(tmp_path / "h.npz", h_freq=h.numpy()))
    same(response, users(h.numpy().astype(complex)))
    turned = a * torch.exp(1j * np.pi * F * SPACING * tau)[:, :, None, :, None, :, None]
    path = save(tmp_path / "a.pt", a=turned.cpu(), tau=tau.cpu())
    impulse = load_channels(path, n_sub=F, bandwidth_hz=F * SPACING)
    torch.testing.assert_close(impulse.h[:], response.h[:], rtol=0, atol=1e-4)


# --- What must be chosen --------------------------------------------------------------------------


def test_several_transmitters(tmp_path: Path) -> None:
    h = np.concatenate([cir_to_ofdm(*drawn(), centred=True)] * 2, 3)
    with pytest.raises(
        CsiAuditError, match=r"2 transmitters.*save one, h_freq\[:, :, :, i:i\+1\] with i in 0..1"
    ):
        load_channels(save(tmp_path / "s.npz", h_freq=h))


def test_more_receive_than_transmit_antennas(tmp_path: Path) -> None:
    h = cir_to_ofdm(*drawn(), centred=True).swapaxes(2, 4)
    path = save(tmp_path / "s.npz", h_freq=h)
    with pytest.raises(CsiAuditError, match=r"8 receive and 2 transmit antennas. Choose: --axes"):
        load_channels(path)
    same(load_channels(path, axes="user,rx,tx,sub"), users(h))
    same(load_channels(path, axes="user,tx,rx,sub"), users(h).swapaxes(1, 2))


def test_every_axis_named(tmp_path: Path) -> None:
    h = cir_to_ofdm(*drawn(n_rx=1), centred=True)[..., :1, :]
    path = save(tmp_path / "s.npz", h_freq=h)
    channels = load_channels(path, axes="user,one,rx,one,tx,one,sub")
    same(channels, users(h))
    assert channels.source.format.startswith("npz, [user, one, rx")


def test_several_tensors(tmp_path: Path) -> None:
    a, tau = drawn()
    h = cir_to_ofdm(a, tau, centred=True)
    path = save(tmp_path / "s.npz", a=a, tau=tau, h_freq=h)
    with pytest.raises(CsiAuditError, match=r"several arrays; choose one with --variable: a \("):
        load_channels(path)
    same(load_channels(path, variable="h_freq"), users(h))
    sampled = load_channels(path, variable="a", n_sub=F, bandwidth_hz=F * SPACING)
    same(sampled, users(cir_to_ofdm(a, tau, centred=False)), 1e-5)


def test_empty(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"h_freq is empty, shape \(0, 1, 2, 1, 8, 4, 64\)"):
        load_channels(save(tmp_path / "s.npz", h_freq=np.zeros((0, 1, 2, 1, 8, 4, 64), complex)))


def test_others_are_left_alone() -> None:
    for arrays in (
        {"h": np.zeros((5, 1, 8, 16), complex)},
        {"x": np.zeros((5, 1, 2, 1, 8, 16), complex)},
        {"h_freq": np.zeros((5, 1, 2, 1, 8, 1, 16))},  # real
        {"tau": np.zeros((5, 1, 1, 4))},
    ):
        held = Workspace(path=Path("s.npz"), container="npz", arrays=arrays)
        assert sionna_layout(held, ReadOptions()) is None
