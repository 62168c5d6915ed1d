"""COST2100, OPPO and UT Austin: files built by their published definitions, no original at hand."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from channels import ChannelSet, CsiAuditError, audit_space, load_channels
from channels.layouts_public import cost2100_layout, oppo_layout, ut_austin_layout
from channels.opened import ReadOptions
from channels.workspace import Workspace

pytestmark = pytest.mark.unit

N = 120


def rays(n_rx: int, n_tx: int, n_sub: int, last: float) -> np.ndarray:
    """Five plane waves a user, delays up to `last` of the window: (N, n_rx, n_tx, n_sub)."""
    rng = np.random.default_rng(3)
    u, delay = rng.uniform(-1, 1, (N, 5)), rng.uniform(0.01, last, (N, 5))
    gain = rng.standard_normal((N, n_rx, 5, 2)) @ [1, 1j] * rng.uniform(0.1, 1, (N, 1, 1))
    over_tx = np.exp(1j * np.pi * u[:, None] * np.arange(n_tx)[:, None])
    over_sub = np.exp(-2j * np.pi * delay[:, None] * np.arange(n_sub)[:, None])
    h: np.ndarray = np.einsum("nrp,ntp,nkp->nrtk", gain, over_tx, over_sub)
    return h


def into_unit_interval(x: np.ndarray, axis: int) -> np.ndarray:
    """Re and im on a new axis, one factor for all users, 0.5 added."""
    planes = np.stack([x.real, x.imag], axis)
    return planes / (2 * np.abs(planes).max()) + 0.5


def unit(h: np.ndarray) -> np.ndarray:
    return h / np.sqrt((np.abs(h) ** 2).mean((1, 2, 3), keepdims=True))


def same(channels: ChannelSet, h: np.ndarray, atol: float = 2e-5) -> None:
    np.testing.assert_allclose(channels.h[:].numpy(), unit(h), rtol=0, atol=atol)


def held(**arrays: np.ndarray) -> Workspace:
    return Workspace(path=Path("set.mat"), container="MATLAB v5", arrays=arrays)


# --- COST2100 -------------------------------------------------------------------------------------


def cost2100() -> tuple[np.ndarray, np.ndarray]:
    """Channels of 257 subcarriers: their first 32 taps (N, 32, 32) in beams, and the whole.

    As in github.com/sydney222/Python_CsiNet, CsiNet_train.py: HT holds [2, 32, 32] about 0.5, and
    the 125 first points of a 257-point FFT of its zero-padded taps are compared with HF_all.
    """
    h = rays(1, 32, 257, last=0.1)
    taps = np.fft.ifft(np.fft.fft(h[:, 0], axis=1), axis=2)
    taps[:, :, 32:] = 0
    whole = np.fft.ifft(np.fft.fft(taps, axis=2), axis=1)
    return taps[:, :, :32], whole[:, None]


def test_ht(tmp_path: Path) -> None:
    """Source: github.com/Kylin9511/CRNet, dataset/cost2100.py: HT viewed as [N, 2, 32, 32]."""
    taps, _ = cost2100()
    rows = into_unit_interval(taps, 1).reshape(N, 2048)
    scipy.io.savemat(tmp_path / "DATA_Htestin.mat", {"HT": rows})
    channels = load_channels(tmp_path / "DATA_Htestin.mat")
    expected = np.fft.ifft(np.fft.fft(taps, axis=2), axis=1)[:, None]
    same(channels, expected)
    gain = 10 * np.log10((np.abs(expected) ** 2).mean((1, 2, 3)))
    np.testing.assert_allclose(np.diff(channels.power_db), np.diff(gain), atol=1e-3)
    assert channels.source.format == "COST2100 HT (CsiNet)"
    convention = channels.source.convention
    assert convention is not None
    assert (convention.domain, convention.offset) == ("angular-delay", 0.5)
    assert any("first of a longer axis" in notice for notice in channels.source.notices)


def test_hf_all(tmp_path: Path) -> None:
    """Source: github.com/sydney222/Python_CsiNet, CsiNet_train.py: HF_all as [N, 32, 125]."""
    _, whole = cost2100()
    beams = np.fft.fft(whole[:, 0, :, :125], axis=1)
    scipy.io.savemat(tmp_path / "DATA_HtestFin_all.mat", {"HF_all": beams.reshape(N, 4000)})
    channels = load_channels(tmp_path / "DATA_HtestFin_all.mat")
    same(channels, whole[..., :125])
    assert channels.source.format == "COST2100 HF_all (CsiNet)"
    as_antennas = load_channels(tmp_path / "DATA_HtestFin_all.mat", axes="user,tx,sub")
    same(as_antennas, beams[:, None])


def test_ht_padded_to_257_agrees_with_hf_all(tmp_path: Path) -> None:
    """The comparison the published code makes; antennas, taps and signs of both must agree."""
    taps, whole = cost2100()
    rows = into_unit_interval(taps, 1).reshape(N, 2048)
    beams = np.fft.fft(whole[:, 0, :, :125], axis=1).reshape(N, 4000)
    scipy.io.savemat(tmp_path / "ht.mat", {"HT": rows})
    scipy.io.savemat(tmp_path / "hf.mat", {"HF_all": beams})
    padded = load_channels(tmp_path / "ht.mat", n_sub=257).h[:].numpy()[..., :125]
    np.testing.assert_allclose(
        unit(padded), load_channels(tmp_path / "hf.mat").h[:].numpy(), rtol=0, atol=2e-5
    )


def test_ht_in_numpy_and_its_axes_by_name(tmp_path: Path) -> None:
    taps, _ = cost2100()
    np.savez_compressed(tmp_path / "a.npz", HT=into_unit_interval(taps, 1).reshape(N, 2048))
    default = load_channels(tmp_path / "a.npz")
    same(default, np.fft.ifft(np.fft.fft(taps, axis=2), axis=1)[:, None])
    turned = load_channels(tmp_path / "a.npz", axes="user,reim,delay,beam")
    same(turned, np.fft.ifft(np.fft.fft(taps.swapaxes(1, 2), axis=2), axis=1)[:, None])


def test_cost2100_of_other_widths() -> None:
    with pytest.raises(CsiAuditError, match=r"HT must have rows of 2048 = .*got \(5, 4096\)"):
        cost2100_layout(held(HT=np.zeros((5, 4096))), ReadOptions())
    with pytest.raises(CsiAuditError, match=r"HF_all must have rows of 4000 = .*got \(5, 100\)"):
        cost2100_layout(held(HF_all=np.zeros((5, 100))), ReadOptions())
    both = held(HT=np.zeros((5, 2048)), HF_all=np.zeros((5, 4000), complex))
    with pytest.raises(CsiAuditError, match=r"--variable: HT \(5, 2048\), HF_all \(5, 4000\)"):
        cost2100_layout(both, ReadOptions())
    chosen = cost2100_layout(both, ReadOptions(variable="HF_all"))
    assert chosen is not None
    assert chosen.shape == (5, 1, 32, 125)
    with pytest.raises(CsiAuditError, match="must be complex, or have an axis reim of 2"):
        cost2100_layout(held(HF_all=np.zeros((5, 4000))), ReadOptions())


def test_others_are_left_alone() -> None:
    others: list[dict[str, Any]] = [
        {"HT": np.zeros((5, 32, 32), complex)},
        {"H": np.zeros((5, 2048))},
        {"x_train_uplink": np.zeros((5, 256, 32, 2))},
        {"my_x_train_downlink": np.zeros((5, 256, 32, 2))},
    ]
    for arrays in others:
        for layout in (cost2100_layout, oppo_layout, ut_austin_layout):
            assert layout(held(**arrays), ReadOptions()) is None
    named = held(HT=np.zeros((5, 2048)), H_4T4R=np.zeros((5, 768)), x_val_downlink=np.zeros((5, 1)))
    for layout in (cost2100_layout, oppo_layout, ut_austin_layout):
        assert layout(named, ReadOptions(variable="other")) is None


# --- OPPO -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("flat", [True, False])
def test_oppo(tmp_path: Path, flat: bool) -> None:
    """[N, 24 paths, 4 x 4 antenna pairs, re/im] in [0, 1] about 0.5.

    Source: datafountain.cn/competitions/494; github.com/JYuhao88/Channel_Compression,
    main/evaluation/modelEvalDec.py.
    """
    h = rays(4, 4, 24, last=0.4)
    taps = np.fft.ifft(h, axis=3, norm="ortho").transpose(0, 3, 1, 2)  # [N, 24, rx, tx]
    values = into_unit_interval(taps.reshape(N, 24, 16), 3).astype(np.float32)
    content = values.reshape(N, 768) if flat else values
    scipy.io.savemat(tmp_path / "H_4T4R.mat", {"H_4T4R": content})
    channels = load_channels(tmp_path / "H_4T4R.mat")
    same(channels, h)
    assert channels.source.format == "OPPO H_4T4R"
    assert any("receive antenna is taken to come first" in n for n in channels.source.notices)
    turned = load_channels(tmp_path / "H_4T4R.mat", axes="user,delay,tx,rx,reim")
    same(turned, h.swapaxes(1, 2))


def test_oppo_in_other_forms() -> None:
    with pytest.raises(CsiAuditError, match=r"must be \[user, 768\].*got \(5, 1024\)"):
        oppo_layout(held(H_4T4R=np.zeros((5, 1024))), ReadOptions())
    opened = oppo_layout(held(H_4T4R=np.full((5, 768), -0.1)), ReadOptions())
    assert opened is not None
    with pytest.raises(CsiAuditError, match=r"must lie in \[0, 1\].*users 2..3 span -0.1..-0.1"):
        opened.read(2, 4)


# --- UT Austin ------------------------------------------------------------------------------------


def test_ut_austin(tmp_path: Path) -> None:
    """[N, 256 subcarriers, 32 antennas, re/im] with 0.5 added; the recipe's map is ours.

    Source: the set's public loader (load_jscc_dataset): less 0.5, [N, 32, 256], 2-D inverse FFT,
    first 32 delays. An inverse FFT over antennas is ours with the beams the other way round.
    """
    h = rays(1, 32, 256, last=0.1)
    stored = into_unit_interval(h[:, 0].swapaxes(1, 2), 3).astype(np.float32)
    np.savez(tmp_path / "set.npz", x_test_downlink=stored)
    channels = load_channels(tmp_path / "set.npz")
    same(channels, h, 1e-4)
    assert channels.source.format == "UT Austin x_test_downlink"
    assert channels.source.convention is not None
    assert channels.source.convention.offset == 0.5
    centred = (stored - 0.5) @ np.array([1, 1j])
    recipe = np.fft.ifft2(centred.swapaxes(1, 2))
    x = audit_space(channels).numpy()
    ours = x[:, 0] + 1j * x[:, 1]
    backwards = np.concatenate([ours[:, :1], ours[:, :0:-1]], 1)
    a, b = np.abs(backwards), np.abs(recipe)
    np.testing.assert_allclose(
        a / np.linalg.norm(a, axis=(1, 2), keepdims=True),
        b / np.linalg.norm(b, axis=(1, 2), keepdims=True),
        rtol=0,
        atol=1e-4,
    )


def test_ut_austin_splits(tmp_path: Path) -> None:
    h = rays(1, 32, 256, last=0.1)
    stored = into_unit_interval(h[:, 0].swapaxes(1, 2), 3).astype(np.float32)
    np.savez(
        tmp_path / "set.npz",
        x_train_downlink=stored[:70],
        x_val_downlink=stored[70:],
        x_val_uplink=stored[70:],
    )
    with pytest.raises(
        CsiAuditError,
        match=r"--variable: x_train_downlink \(70, 256, 32, 2\), x_val_downlink \(50, 256, 32, 2\)",
    ):
        load_channels(tmp_path / "set.npz")
    same(load_channels(tmp_path / "set.npz", variable="x_val_downlink"), h[70:], 1e-4)
    with pytest.raises(CsiAuditError, match="Name its axes, real and imaginary part as reim"):
        load_channels(tmp_path / "set.npz", variable="x_val_uplink")
    with pytest.raises(CsiAuditError, match=r"must be \[user, subcarrier, antenna, re/im\]"):
        ut_austin_layout(held(x_val_downlink=np.zeros((5, 64))), ReadOptions())
