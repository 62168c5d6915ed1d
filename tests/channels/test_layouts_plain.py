"""`plain_layout` and `load_channels` of plain .npy, .npz, .pt and HDF5: axes, labels, offsets."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from channels import CsiAuditError, load_channels
from channels.layouts_plain import fact, plain_layout
from channels.opened import COMPACT_SCALE, ReadOptions
from channels.readers_numpy import numpy_workspace
from channels.workspace import Workspace

pytestmark = pytest.mark.unit

N, N_TX, N_SUB = 60, 8, 16


def rays(n: int = N, n_rx: int = 1, n_tx: int = N_TX, n_sub: int = N_SUB) -> np.ndarray:
    """Four plane waves a user with early delays: complex128 (n, n_rx, n_tx, n_sub)."""
    rng = np.random.default_rng(7)
    a, gain = rng.uniform(-1, 1, (n, 4)), rng.standard_normal((n, n_rx, 4, 2)) @ [1, 1j]
    delay = rng.uniform(0, 0.15, (n, 4))
    over_tx = np.exp(1j * np.pi * a[:, None] * np.arange(n_tx)[:, None])  # (n, n_tx, 4)
    over_sub = np.exp(-2j * np.pi * delay[:, None] * np.arange(n_sub)[:, None])
    h: np.ndarray = np.einsum("nrp,ntp,nkp->nrtk", gain, over_tx, over_sub)
    return h


def unit(h: np.ndarray) -> np.ndarray:
    return h / np.sqrt((np.abs(h) ** 2).mean((1, 2, 3), keepdims=True))


def same(found: Any, h: np.ndarray, atol: float = 2e-6) -> None:
    np.testing.assert_allclose(found.h[:].numpy(), unit(h), rtol=0, atol=atol)


def angular_delay(h: np.ndarray) -> np.ndarray:
    return np.fft.ifft(np.fft.fft(h, axis=2, norm="ortho"), axis=3, norm="ortho")


def save_npy(path: Path, h: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.save(file, h)


def save_npz(path: Path, h: np.ndarray) -> None:
    with open(path, "wb") as file:
        np.savez(file, h=h)


def save_pt(path: Path, h: np.ndarray) -> None:
    torch.save({"h": torch.from_numpy(np.ascontiguousarray(h))}, path)


def save_hdf5(path: Path, h: np.ndarray) -> None:
    with h5py.File(path, "w") as file:
        file["channels"] = h


SAVE = {"npy": save_npy, "npz": save_npz, "PyTorch": save_pt, "HDF5": save_hdf5}


# --- Whole loads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("container", SAVE)
@pytest.mark.parametrize(("dtype", "atol"), [("complex64", 2e-6), ("complex128", 2e-6)])
def test_complex_arrays_whatever_the_name(
    tmp_path: Path, container: str, dtype: str, atol: float
) -> None:
    h = 1e-5 * rays()
    SAVE[container](tmp_path / "channels.dat", h[:, 0].astype(dtype))
    channels = load_channels(tmp_path / "channels.dat", bandwidth_hz=1e7)
    same(channels, h, atol)
    gain = 10 * np.log10((np.abs(h) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(channels.power_db, gain, atol=1e-4)
    assert channels.source.format == f"{container}, [user, tx, sub]"
    assert channels.grid.bandwidth_hz == 1e7


@pytest.mark.parametrize("container", SAVE)
@pytest.mark.parametrize(
    ("axes", "permuted"),
    [
        ("rx,tx,sub,user", (1, 2, 3, 0)),
        ("sub,user,tx,rx", (3, 0, 2, 1)),
        ("user,rx,tx,sub", (0, 1, 2, 3)),
    ],
)
def test_axes_by_name(tmp_path: Path, container: str, axes: str, permuted: tuple[int, ...]) -> None:
    h = rays(n_rx=2)
    SAVE[container](tmp_path / "c.dat", h.transpose(permuted))
    same(load_channels(tmp_path / "c.dat", axes=axes), h)


@pytest.mark.parametrize("lazy", [False, True])
def test_labels_and_facts(tmp_path: Path, lazy: bool) -> None:
    h = rays()
    np.savez(
        tmp_path / "c.npz",
        h=h[:, 0].astype(np.complex64),
        is_los=np.arange(N) % 3 == 0,
        speed=np.arange(N, dtype=np.float32),
        places=np.ones((N, 3)),
        huge=np.zeros((N, 1025)),
        other=np.zeros(N + 1),
        name=np.array(["a"] * N),
        fc_hz=3.5e9,
        bandwidth_hz=np.array([2e7]),
        scenario="UMi",
    )
    channels = load_channels(tmp_path / "c.npz", lazy=lazy)
    same(channels, h)
    assert set(channels.labels) == {"is_los", "speed", "places"}
    assert channels.label("speed").tolist() == list(range(N))
    assert (channels.grid.carrier_hz, channels.grid.bandwidth_hz) == (3.5e9, 2e7)
    assert channels.source.scenario == "UMi"


def test_labels_settle_the_axes(tmp_path: Path) -> None:
    h = rays(n=3)  # (3, 8, 16): three users or one of three antennas
    np.savez(tmp_path / "a.npz", h=h[:, 0])
    with pytest.raises(CsiAuditError, match=r"several ways.*axes user,tx,sub.*axes rx,tx,sub"):
        load_channels(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", h=h[:, 0], is_los=np.ones(3, dtype=bool))
    same(load_channels(tmp_path / "b.npz"), h)


def test_several_arrays(tmp_path: Path) -> None:
    h = rays()
    np.savez(tmp_path / "c.npz", train=h[:40, 0], test=h[40:, 0])
    with pytest.raises(CsiAuditError, match=r"--variable: train \(40, 8, 16\), test \(20, 8, 16\)"):
        load_channels(tmp_path / "c.npz")
    same(load_channels(tmp_path / "c.npz", variable="test"), h[40:])
    with pytest.raises(CsiAuditError, match=r"no variable 'tset'. Did you mean 'test'"):
        load_channels(tmp_path / "c.npz", variable="tset")


def test_nested_names(tmp_path: Path) -> None:
    h = torch.from_numpy(rays())
    torch.save({"splits": {"train": h[:40], "test": h[40:]}}, tmp_path / "c.pt")
    same(load_channels(tmp_path / "c.pt", variable="splits/test"), h[40:].numpy())


def test_objects_are_refused_in_words(tmp_path: Path) -> None:
    h = rays()
    paths = np.empty((N, 1, 1), dtype=object)
    np.savez(tmp_path / "c.npz", h=h[:, 0], paths=paths)
    same(load_channels(tmp_path / "c.npz", variable="h"), h)
    with pytest.raises(CsiAuditError, match="paths holds Python objects"):
        load_channels(tmp_path / "c.npz", variable="paths")


def test_real_numbers_need_named_axes(tmp_path: Path) -> None:
    h = rays()[:, 0]
    np.save(tmp_path / "c.npy", np.stack([h.real, h.imag], 1).astype(np.float32))
    with pytest.raises(CsiAuditError, match="--axes user,reim,tx,sub"):
        load_channels(tmp_path / "c.npy")
    same(load_channels(tmp_path / "c.npy", axes="user,reim,tx,sub"), h[:, None])


def test_labels_and_facts_lie_in_the_folder_of_the_channels_first(tmp_path: Path) -> None:
    h = torch.from_numpy(rays())
    inner = {"H": h[:, 0], "is_los": torch.arange(N) % 2 == 0, "fc_hz": 3e9, "scenario": "UMa"}
    outer = {"is_los": torch.ones(N), "speed": torch.arange(N), "bandwidth_hz": 2e7, "fc_hz": 1e9}
    torch.save({"data": inner, **outer}, tmp_path / "c.pt")
    channels = load_channels(tmp_path / "c.pt")
    same(channels, h.numpy())
    assert set(channels.labels) == {"is_los", "speed"}
    assert channels.label("is_los").tolist() == [True, False] * (N // 2)
    assert (channels.grid.carrier_hz, channels.grid.bandwidth_hz) == (3e9, 2e7)
    assert channels.source.scenario == "UMa"


@pytest.mark.parametrize(
    ("names", "stem"),
    [
        (("H_real", "H_imag"), "H"),
        (("h_re", "h_im"), "h"),
        (("Hre", "Him"), "H"),
        (("G.Real", "G.Imag"), "G"),
        (("REAL", "IMAG"), "h"),
        (("data/H/re", "data/H/im"), "data/H"),
    ],
)
def test_two_real_arrays_are_one_complex(tmp_path: Path, names: tuple[str, str], stem: str) -> None:
    h = rays()
    parts: dict[str, Any] = dict(zip(names, (h.real, h.imag), strict=True))
    np.savez(tmp_path / "c.npz", **parts)
    for lazy in (False, True):
        channels = load_channels(tmp_path / "c.npz", lazy=lazy, axes="user,rx,tx,sub")
        same(channels, h)
        assert channels.labels == {}
    said = f"{names[0]} and {names[1]} are read as the real and imaginary part of {stem}."
    assert said in channels.source.notices
    with pytest.raises(CsiAuditError, match="must be complex, or have an axis reim"):
        load_channels(tmp_path / "c.npz", variable=names[0], axes="user,rx,tx,sub")


def test_two_real_arrays_that_are_no_pair(tmp_path: Path) -> None:
    h = rays()
    np.savez(tmp_path / "shape.npz", H_real=h.real, H_imag=h.imag[:9])
    np.savez(tmp_path / "taken.npz", H=h, H_real=h.real, H_imag=h.imag)
    np.savez(tmp_path / "labels.npz", h=h, gain_re=np.ones(N), gain_im=np.zeros(N))
    with pytest.raises(CsiAuditError, match="several arrays"):
        load_channels(tmp_path / "shape.npz")
    same(load_channels(tmp_path / "taken.npz"), h)
    assert set(load_channels(tmp_path / "labels.npz").labels) == {"gain_re", "gain_im"}


GRID_HZ = 2.655e9 + 312.5e3 * np.arange(N_SUB)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_bandwidth_of_the_subcarriers(tmp_path: Path, dtype: str) -> None:
    f = GRID_HZ.astype(dtype)
    np.savez(tmp_path / "a.npz", h=rays(), subcarrier_freq_hz=f)
    hz = load_channels(tmp_path / "a.npz").grid.bandwidth_hz
    assert hz == pytest.approx(312.5e3 * N_SUB, rel=1e-3)
    np.savez(tmp_path / "b.npz", h=rays(), subcarrier_freq_hz=f, bandwidth_hz=7e6)
    assert load_channels(tmp_path / "b.npz").grid.bandwidth_hz == 7e6


@pytest.mark.parametrize(
    ("f", "message"),
    [
        (GRID_HZ[::-1], r"falls from 2.65969e\+09 to 2.655e\+09 Hz: .* stored in reverse.*mirror"),
        (
            GRID_HZ + 1e5 * (np.arange(N_SUB) > 5),
            r"must rise in equal steps; got steps of 312500\.\.",
        ),
        (np.zeros(N_SUB), "must rise in equal steps"),
        (np.where(np.arange(N_SUB) == 3, np.nan, GRID_HZ), "must rise in equal steps"),
        (np.where(np.arange(N_SUB) < 13, GRID_HZ, np.inf), "must rise in equal steps"),
    ],
    ids=["falling", "uneven", "constant", "NaN", "Inf"],
)
def test_subcarriers_that_are_no_grid(tmp_path: Path, f: np.ndarray, message: str) -> None:
    np.savez(tmp_path / "c.npz", h=rays(), subcarrier_freq_hz=f, bandwidth_hz=5e6)
    with pytest.raises(CsiAuditError, match=rf"c\.npz: subcarrier_freq_hz {message}"):
        load_channels(tmp_path / "c.npz")


# --- Domains and offsets --------------------------------------------------------------------------

TO_STORED: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "tx,sub": lambda h: h,
    "beam,delay": angular_delay,
    "tx,delay": lambda h: np.fft.ifft(h, axis=3, norm="ortho"),
    "beam,sub": lambda h: np.fft.fft(h, axis=2, norm="ortho"),
}


@pytest.mark.parametrize("domain", TO_STORED)
@pytest.mark.parametrize("offset", [0.0, 0.5])
def test_domains_with_and_without_an_offset(tmp_path: Path, domain: str, offset: float) -> None:
    h = rays(n=200)
    x = TO_STORED[domain](h)[:, 0]
    x = x / (2 * np.abs(np.stack([x.real, x.imag])).max())
    stored = np.stack([x.real, x.imag], -1) + offset
    np.save(tmp_path / "c.npy", stored)
    channels = load_channels(tmp_path / "c.npy", axes=f"user,{domain},reim")
    same(channels, h, 1e-5)
    said = " ".join(channels.source.notices)
    assert ("0.5" in said) == (offset == 0.5)


def test_mixed_panel_with_an_offset(tmp_path: Path) -> None:
    h = rays(n=200)
    panel = h.reshape(200, 2, 2, 2, N_SUB)  # [user, pol, row, column, sub]
    x = np.fft.fftn(panel, axes=(2, 3), norm="ortho")
    x = x / (2 * np.abs(np.stack([x.real, x.imag])).max())
    np.save(tmp_path / "c.npy", np.stack([x.real, x.imag], 1) + 0.5)
    channels = load_channels(tmp_path / "c.npy", axes="user,reim,pol,row,beam,sub")
    same(channels, h, 1e-5)
    assert channels.grid.panel == (2, 2, 2)


# --- Opened ---------------------------------------------------------------------------------------


def test_opened_reads_any_slice_in_any_order(tmp_path: Path) -> None:
    h = rays()[:, 0]
    np.save(tmp_path / "c.npy", h)
    opened = plain_layout(numpy_workspace(tmp_path / "c.npy"), ReadOptions())
    assert opened.shape == (N, 1, N_TX, N_SUB)
    assert opened.scaling == "detect"
    for start, stop in ((50, 60), (0, 1), (20, 20), (10, 30)):
        np.testing.assert_array_equal(opened.read(start, stop), h[start:stop, None])


def test_fact() -> None:
    workspace = Workspace(
        path=Path("a.h5"),
        container="HDF5",
        arrays={"fc_hz": np.array([[2e9]]), "long": np.zeros(3)},
        attributes={"bandwidth_hz": np.float64(1e7), "text": "x"},
    )
    assert fact(workspace, ("carrier_hz", "fc_hz")) == 2e9
    assert fact(workspace, ("bandwidth_hz",)) == 1e7
    assert fact(workspace, ("long", "text", "absent")) is None


# --- Offsets that the user says -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("axes", "domain"),
    [
        ("user,rx,tx,sub,reim", "none"),
        ("user,rx,beam,delay,reim", "both"),
        ("user,rx,tx,delay,reim", "delay"),
        ("user,rx,beam,sub,reim", "beam"),
    ],
)
def test_a_told_offset_is_taken_out_before_any_transform(
    tmp_path: Path, axes: str, domain: str
) -> None:
    """0.3 is no nominal offset and ten users are few: nothing but the user's word tells."""
    h = rays(10)
    stored = h
    if domain in ("both", "beam"):
        stored = np.fft.fft(stored, axis=2, norm="ortho")
    if domain in ("both", "delay"):
        stored = np.fft.ifft(stored, axis=3, norm="ortho")
    planes = np.stack((stored.real, stored.imag), axis=-1) / 40 + 0.3
    save_npy(tmp_path / "c.npy", planes)
    told = load_channels(tmp_path / "c.npy", axes=axes, offset=0.3)
    same(told, h)
    wrong = load_channels(tmp_path / "c.npy", axes=axes, offset=0)
    assert not np.allclose(wrong.h.numpy(), unit(h), atol=1e-2)


def test_an_ambiguous_offset_lists_what_fits_and_the_way_out(tmp_path: Path) -> None:
    """Each user's own minimum and maximum put to 0 and 1: the offsets are lost."""
    h = rays(10)
    planes = np.stack((h.real, h.imag), axis=-1)
    low, high = planes.min((1, 2, 3, 4)), planes.max((1, 2, 3, 4))
    wide = (slice(None), None, None, None, None)
    save_npy(tmp_path / "c.npy", (planes - low[wide]) / (high - low)[wide])
    message = r"c\.npy: what was added .* several ways\. .*Also possible: .*offset=VALUE"
    with pytest.raises(CsiAuditError, match=message):
        load_channels(tmp_path / "c.npy", axes="user,rx,tx,sub,reim")
    told = load_channels(tmp_path / "c.npy", axes="user,rx,tx,sub,reim", offset=0.5)
    assert told.source.notices == ("An offset of 0.5 was taken out, as asked.",)
    assert told.source.convention is not None
    assert told.source.convention.offset == 0.5


def test_formats_without_offsets_take_none(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["h"] = np.random.default_rng(0).standard_normal((6, 2, 4, 8))
        file.attrs["scale"] = COMPACT_SCALE
    with pytest.raises(CsiAuditError, match=r"offset must be left out for .*compact HDF5 has none"):
        load_channels(tmp_path / "c.h5", offset=0.5)
