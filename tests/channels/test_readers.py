"""`load_channels` on real files, on tiny ones made on the fly, and on every kind of bad file."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io
import torch

from channels import ChannelSet, CsiAuditError, load_channels, write_channels
from channels.opened import COMPACT_GRID, COMPACT_SCALE
from channels.sample import sample_path

pytestmark = pytest.mark.unit

N, N_TX, N_SUB = 5, 4, 8


def draw(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    h = rng.standard_normal(shape) + 1j * rng.standard_normal(shape)
    return 1e-6 * h.astype(np.complex64)


def workspace(**extra: Any) -> dict[str, Any]:
    """What QuaDRiGa's scripts save, small."""
    return {
        "H": draw(N, N_TX, N_SUB),
        "fc_hz": 2.655e9,
        "bandwidth_hz": 1e7,
        "scenario": "3GPP_38.901_UMi",
        "is_los": np.array([[True], [False], [True], [False], [False]]),
        "delay_spread_s": np.full((N, 1), 1e-7),
        "ue_pos": np.arange(3.0 * N).reshape(N, 3),
        "drop_seed": np.full((1, N), 2001.0),
        "shadow_fading_db": np.zeros((N, 1)),
        "ant_pos_m": 299_792_458.0 / 2.655e9 / 2 * np.array([[0.0, a, 0.0] for a in range(N_TX)]),
        **extra,
    }


@pytest.fixture
def mat(tmp_path: Path) -> Callable[..., Path]:
    """A MATLAB v5 file of `workspace`, some variables replaced (None drops one)."""

    def write(**extra: Any) -> Path:
        variables = {k: v for k, v in workspace(**extra).items() if v is not None}
        scipy.io.savemat(tmp_path / "channels.mat", variables, do_compression=True)
        return tmp_path / "channels.mat"

    return write


@pytest.fixture
def compact(tmp_path: Path) -> Callable[..., Path]:
    """A compact HDF5 file, some datasets replaced (None drops one)."""

    def write(attributes: dict[str, Any] | None = None, **extra: Any) -> Path:
        h = draw(N, 2, N_TX, N_SUB).real * 1e6
        datasets = {"h": h.astype(np.float16), "power_db": np.full(N, -90.0), **extra}
        with h5py.File(tmp_path / "channels.h5", "w") as file:
            for name, value in datasets.items():
                if value is not None:
                    file[name] = value
            file.attrs.update({"bandwidth_hz": 1e7, "scale": COMPACT_SCALE, **(attributes or {})})
        return tmp_path / "channels.h5"

    return write


def write_v73(path: Path, variables: dict[str, np.ndarray | str]) -> None:
    """MATLAB v7.3 by hand: user block, reversed axes, {real, imag}, text as uint16."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            if isinstance(value, str):
                file[name] = np.array([[ord(letter)] for letter in value], dtype=np.uint16)
                file[name].attrs["MATLAB_class"] = np.bytes_("char")
                continue
            array = np.atleast_2d(value).T
            if np.iscomplexobj(array):
                pair = np.empty(array.shape, dtype=[("real", "<f4"), ("imag", "<f4")])
                pair["real"], pair["imag"] = array.real, array.imag
                array = pair
            file[name] = array
            file[name].attrs["MATLAB_class"] = np.bytes_("double")
    with open(path, "r+b") as raw:
        raw.write(b"MATLAB 7.3 MAT-file, written by hand".ljust(124))


def same_up_to_scale(channels: ChannelSet, h: np.ndarray) -> bool:
    """Whether h (N, n_rx, n_tx, n_sub) is what power_db restores."""
    gain = 10 ** (channels.power_db.double().numpy() / 20)
    restored = channels.h.numpy() * gain[:, None, None, None]
    return np.allclose(restored, h, rtol=1e-4, atol=1e-5 * np.abs(h).max())


# --- Good files -----------------------------------------------------------------------------------


def test_mat_v5(mat: Callable[..., Path]) -> None:
    channels = load_channels(mat())
    assert channels.h.shape == (N, 1, N_TX, N_SUB)
    assert same_up_to_scale(channels, workspace()["H"][:, None])
    assert channels.grid.carrier_hz == 2.655e9
    assert channels.grid.bandwidth_hz == 1e7
    assert channels.grid.array == "4-element half-wavelength ULA"
    assert channels.source.format == "MATLAB v5, [user, tx, sub]"
    assert channels.source.scenario == "3GPP_38.901_UMi"
    known = {"is_los", "delay_spread_s", "ue_pos_m", "drop_seed"}
    assert set(channels.labels) == known | {"shadow_fading_db"}
    assert channels.label("is_los").tolist() == [True, False, True, False, False]
    assert channels.label("ue_pos_m").shape == (N, 3)
    assert channels.label("drop_seed").dtype == torch.int64
    assert channels.label("delay_spread_s").shape == (N,)


def test_unknown_facts_are_none(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"anything": draw(N, N_TX, N_SUB)})
    channels = load_channels(tmp_path / "a.mat", axes="user,tx,sub")
    assert channels.grid.carrier_hz is None
    assert channels.grid.bandwidth_hz is None
    assert channels.grid.array is None
    assert channels.source.scenario is None
    assert channels.drops is None


def test_array_of_another_spacing_is_not_called_half_wavelength(mat: Callable[..., Path]) -> None:
    wide = 2 * workspace()["ant_pos_m"]
    assert load_channels(mat(ant_pos_m=wide)).grid.array is None


def test_content_decides_and_not_the_extension(mat: Callable[..., Path]) -> None:
    file = mat()
    renamed = file.rename(file.with_suffix(".h5"))
    assert load_channels(renamed).source.format.startswith("MATLAB v5")


def test_one_user(mat: Callable[..., Path]) -> None:
    labels = {"is_los": 1, "delay_spread_s": 1e-7, "drop_seed": 3.0, "shadow_fading_db": None}
    file = mat(H=draw(1, 1, N_TX, N_SUB), ue_pos=np.ones((1, 3)), **labels)
    channels = load_channels(file)
    assert len(channels) == 1
    assert channels.label("ue_pos_m").shape == (1, 3)


def test_axes_name_the_order(mat: Callable[..., Path]) -> None:
    """QuaDRiGa's own order: rx, tx, carrier, snapshot."""
    h = draw(2, N_TX, N_SUB, N)
    for axes in ("rx,tx,sub,user", ["rx", "antenna", "carrier", "snapshot"]):
        channels = load_channels(mat(H=h), axes=axes)
        assert same_up_to_scale(channels, h.transpose(3, 0, 1, 2))


def test_variable_chooses_among_several(mat: Callable[..., Path]) -> None:
    other = 2 * draw(N, N_TX, N_SUB)
    channels = load_channels(mat(G=other), variable="G")
    assert same_up_to_scale(channels, other[:, None])


def test_bandwidth_overrides_and_n_sub_is_checked(mat: Callable[..., Path]) -> None:
    assert load_channels(mat(), bandwidth_hz=2e7, n_sub=N_SUB).grid.tap_s == 5e-8
    with pytest.raises(CsiAuditError, match=r"n_sub must be 8, the subcarriers in .*; got 64"):
        load_channels(mat(), n_sub=64)
    with pytest.raises(CsiAuditError, match="bandwidth_hz must be positive"):
        load_channels(mat(), bandwidth_hz=0.0)


def test_mat_v73(tmp_path: Path) -> None:
    variables = {k: v if isinstance(v, str) else np.asarray(v) for k, v in workspace().items()}
    write_v73(tmp_path / "a.mat", variables)
    scipy.io.savemat(tmp_path / "b.mat", workspace())
    new, old = load_channels(tmp_path / "a.mat"), load_channels(tmp_path / "b.mat")
    assert new.source.format == "MATLAB v7.3, [user, tx, sub]"
    assert new.source.scenario == "3GPP_38.901_UMi"
    assert new.grid == old.grid
    assert torch.equal(new.h, old.h)
    assert new.labels.keys() == old.labels.keys()
    for name, label in new.labels.items():
        assert torch.equal(label, old.label(name))


def test_compact_restores_power_and_forgives_rounding(compact: Callable[..., Path]) -> None:
    file = compact()
    with h5py.File(file) as raw:
        h = raw["h"][:].astype(float)
    power = 10 * np.log10((h**2).sum((1, 2, 3)) / (N_TX * N_SUB))
    channels = load_channels(file)
    assert np.allclose(channels.power_db, -90 + power, atol=1e-4)
    assert channels.grid.carrier_hz is None
    rounded = h / 10 ** (power[:, None, None, None] / 20)
    again = load_channels(compact(h=rounded.astype(np.float16)))
    assert torch.equal(again.power_db, torch.full((N,), -90.0))


def test_compact_of_many_blocks_and_antennas(tmp_path: Path, make_channels: Any) -> None:
    channels = make_channels(n=2500, n_rx=2, n_tx=2, n_sub=2)
    write_channels(tmp_path / "a.h5", channels)
    again = load_channels(tmp_path / "a.h5")
    assert torch.allclose(again.h, channels.h, atol=2e-3)
    assert torch.equal(again.power_db, channels.power_db)


def test_compact_labels_are_numeric_columns_of_this_file(compact: Callable[..., Path]) -> None:
    file = compact(
        zone=np.arange(N, dtype=">i2"),
        speed=np.arange(N, dtype=np.float16),
        names=np.array([b"a"] * N),
        phasor=np.ones(N, dtype=np.complex64),
        tones=np.arange(N + 1),
        scalar=np.float32(1),
    )
    with h5py.File(file, "a") as raw:
        raw["linked"] = h5py.SoftLink("/zone")
        raw["away"] = h5py.ExternalLink(str(file), "/zone")
        raw["group/zone"] = np.arange(N)
    channels = load_channels(file)
    assert set(channels.labels) == {"speed", "zone"}
    assert channels.label("zone").dtype == torch.int64
    assert channels.label("zone").tolist() == list(range(N))
    assert channels.label("speed").dtype == torch.float32


def test_a_chosen_variable_leaves_h_no_label(compact: Callable[..., Path]) -> None:
    other = np.ones((N, 2, N_TX, N_SUB))
    file = compact(g=other)
    assert load_channels(file, variable="g").labels == {}


def test_what_is_too_large_for_a_label_is_left_out_and_said(compact: Callable[..., Path]) -> None:
    channels = load_channels(compact(maps=np.ones((N, 40, 50)), zone=np.ones((N, 1024))))
    assert set(channels.labels) == {"zone"}
    assert channels.source.notices == ("Left out, too large for labels: maps (5, 40, 50).",)


@pytest.mark.parametrize("name", ["is_los", "power_db"])
def test_absurd_labels_are_refused(compact: Callable[..., Path], name: str) -> None:
    file = compact(power_db=None)
    with h5py.File(file, "a") as raw:  # declared, never written: a few bytes on the disk
        raw.create_dataset(name, (N, 10**12), "<f4", chunks=(1, 1024))
    message = (
        rf"label {name} must hold at most 1,024 numbers a user; got \(5, 1000000000000\)\. Take it"
    )
    with pytest.raises(CsiAuditError, match=message):
        load_channels(file)


@pytest.mark.parametrize(
    "said", [{"scale": COMPACT_SCALE}, {"grid": COMPACT_GRID}], ids=["scale", "grid"]
)
def test_compact_is_told_by_what_it_says(compact: Callable[..., Path], said: Any) -> None:
    file = compact({"scale": "", **said}, power_db=None)
    assert load_channels(file).source.format == "compact HDF5"


@pytest.mark.parametrize(
    "said", [{}, {"scale": "to [0, 1]"}, {"grid": "even"}, {"domain": "spatial-frequency"}]
)
def test_foreign_planes_are_not_taken_for_compact(
    compact: Callable[..., Path], said: dict[str, str]
) -> None:
    """Planes about 0.5 beside a power_db: whoever reads them as compact leaves the 0.5 in."""
    h = draw(200, 1, N_TX, N_SUB)[:, 0]
    planes, gain = np.stack((h.real, h.imag), 1), np.zeros(200)
    file = compact(
        {"scale": "", **said}, h=planes / (2 * np.abs(planes).max()) + 0.5, power_db=gain
    )
    with pytest.raises(CsiAuditError, match=r"h holds real numbers.*--axes user,reim,tx,sub"):
        load_channels(file)
    channels = load_channels(file, axes="user,reim,tx,sub")
    unit = h / np.sqrt((np.abs(h) ** 2).mean((1, 2), keepdims=True))
    np.testing.assert_allclose(channels.h[:, 0].numpy(), unit, atol=1e-5)


# --- Real files -----------------------------------------------------------------------------------


def test_bundled_sample(sample: ChannelSet) -> None:
    assert sample.h.shape == (2000, 1, 32, 32)
    assert sample.grid.bandwidth_hz == 1e7
    assert sample.source.sha256 is not None
    assert len(sample.label("drop_seed").unique()) == 8


def test_real_mat_files_agree(shared_data: Path) -> None:
    old = load_channels(shared_data / "umi_val.mat")
    new = load_channels(shared_data / "umi_val_v73.mat")
    assert old.h.shape == (2000, 1, 32, 32)
    assert torch.equal(old.h[:500], new.h)
    assert torch.equal(old.power_db[:500], new.power_db)
    assert old.grid == new.grid
    assert old.grid.array == "32-element half-wavelength ULA"
    for name, label in new.labels.items():
        assert torch.equal(old.label(name)[:500], label)
    expected = {"is_los", "delay_spread_s", "asd_deg", "k_factor_db", "path_gain_db", "ue_pos_m"}
    assert set(old.labels) > expected | {"drop_seed"}


def test_first_users_of_val_are_quadrigas_own_response(shared_data: Path) -> None:
    truth = load_channels(shared_data / "umi_native_300_fr.mat")
    val = load_channels(shared_data / "umi_val.mat")
    assert torch.allclose(val.h[:300], truth.h, atol=1e-4)


def test_sample_is_the_first_drops_of_the_test_split(shared_data: Path, sample: ChannelSet) -> None:
    test = load_channels(shared_data / "umi_test.h5")
    assert torch.equal(sample.h, test.h[:2000])
    assert torch.equal(sample.power_db, test.power_db[:2000])
    assert torch.equal(sample.label("drop_seed"), test.label("drop_seed")[:2000])


def test_path_level_file_is_sampled(shared_data: Path) -> None:
    """QuaDRiGa's own paths give QuaDRiGa's own response (test_readers_paths has the precision)."""
    truth = load_channels(shared_data / "umi_native_300_fr.mat")
    paths = load_channels(shared_data / "umi_native_300.hdf5", bandwidth_hz=10e6)
    assert torch.allclose(paths.h, truth.h, atol=1e-4)
    assert any("32 subcarriers (default)" in notice for notice in paths.source.notices)


# --- Files that are not there, or not channels ----------------------------------------------------


def test_missing_file(mat: Callable[..., Path]) -> None:
    file = mat()
    with pytest.raises(CsiAuditError, match=r"chanels\.mat does not exist. Did you mean 'channels"):
        load_channels(file.with_name("chanels.mat"))
    with pytest.raises(CsiAuditError, match=r"x/a\.mat does not exist: there is no folder .*x\."):
        load_channels(file.parent / "x" / "a.mat")


def test_folder(mat: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match=r"is a folder; name a file in it \(channels\.mat\)"):
        load_channels(mat().parent)


def test_empty_file(tmp_path: Path) -> None:
    (tmp_path / "a.mat").touch()
    with pytest.raises(CsiAuditError, match=r"a\.mat is empty \(0 bytes\)"):
        load_channels(tmp_path / "a.mat")


def test_text_file(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_text("h = [1, 2, 3]")
    with pytest.raises(CsiAuditError, match=r"a\.mat is of no known format .*Known: compact HDF5"):
        load_channels(tmp_path / "a.mat")


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.97])
def test_truncated_mat(mat: Callable[..., Path], share: float) -> None:
    file = mat()
    file.write_bytes(file.read_bytes()[: max(140, int(share * file.stat().st_size))])
    with pytest.raises(CsiAuditError, match=r"channels\.mat (cannot be read to its end|has no)"):
        load_channels(file)


@pytest.mark.parametrize("share", [0.01, 0.3, 0.6, 0.97])
def test_truncated_hdf5(tmp_path: Path, share: float) -> None:
    data = sample_path().read_bytes()
    (tmp_path / "a.h5").write_bytes(data[: int(share * len(data))])
    with pytest.raises(CsiAuditError, match=r"a\.h5 cannot be read to its end: .*Truncated or dam"):
        load_channels(tmp_path / "a.h5")


def test_damaged_chunk_of_hdf5(tmp_path: Path) -> None:
    data = bytearray(sample_path().read_bytes())
    middle = len(data) // 2
    data[middle : middle + 20_000] = bytes(20_000)
    (tmp_path / "a.h5").write_bytes(data)
    with pytest.raises(CsiAuditError, match=r"a\.h5 cannot be read to its end"):
        load_channels(tmp_path / "a.h5")


def test_v73_cut_before_its_hdf5(tmp_path: Path) -> None:
    (tmp_path / "a.mat").write_bytes(b"MATLAB 7.3 MAT-file".ljust(512))
    with pytest.raises(CsiAuditError, match="begins like HDF5 but cannot be opened as such"):
        load_channels(tmp_path / "a.mat")


def test_hdf5_of_another_layout(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["weights"] = np.zeros((3, 3))
    with pytest.raises(CsiAuditError, match=r"no array of 3 or 4 axes.*it has: weights \(3, 3\)"):
        load_channels(tmp_path / "a.h5")


# --- Wrong arrays ---------------------------------------------------------------------------------


def test_wrong_variable(mat: Callable[..., Path], compact: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match=r"no variable 'HH'. Did you mean 'H'\?"):
        load_channels(mat(G=draw(N, N_TX, N_SUB)), variable="HH")
    with pytest.raises(CsiAuditError, match=r"no variable 'xyz'. Choose from: G, H\."):
        load_channels(mat(G=draw(N, N_TX, N_SUB)), variable="xyz")
    with pytest.raises(CsiAuditError, match=r"no variable 'x'. Choose from: h\."):
        load_channels(compact(), variable="x")


def test_several_candidates(mat: Callable[..., Path]) -> None:
    h = draw(N, N_TX, N_SUB)
    with pytest.raises(CsiAuditError, match=r"several arrays; choose one .*: A \(5, 4, 8\), B \(5"):
        load_channels(mat(H=None, A=h, B=h))


def test_no_candidate(mat: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match=r"no array of 3 or 4 axes.*delay_spread_s \(5, 1\)"):
        load_channels(mat(H=None))


def test_two_axes(mat: Callable[..., Path], compact: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match=r"H must be \[user, antenna.*got \(5, 32\). Was it"):
        load_channels(mat(H=draw(N, 32)))
    with pytest.raises(CsiAuditError, match=r"h must be \[user, re/im, tx, sub\].*got \(5, 64\)"):
        load_channels(compact(h=np.ones((N, 64))))
    with pytest.raises(CsiAuditError, match=r"got \(5, 1, 4, 8\). Is the imaginary part missing"):
        load_channels(compact(h=np.ones((N, 1, N_TX, N_SUB))))


def test_real_channels(mat: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match=r"H holds real numbers .*magnitude or real"):
        load_channels(mat(H=np.abs(draw(N, N_TX, N_SUB))))


def test_complex_hdf5_is_no_compact_file(compact: Callable[..., Path]) -> None:
    h = draw(N, 2, N_TX, N_SUB)
    channels = load_channels(compact(h=h, power_db=None))
    assert channels.source.format == "HDF5, [user, rx, tx, sub]"
    assert same_up_to_scale(channels, h)


def test_empty_set(mat: Callable[..., Path], compact: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match=r"H is empty, shape \(0, 4, 8\)"):
        load_channels(mat(H=draw(0, N_TX, N_SUB)))
    with pytest.raises(CsiAuditError, match=r"h is empty, shape \(0, 2, 4, 8\)"):
        load_channels(compact(h=np.ones((0, 2, N_TX, N_SUB))))


def test_angular_delay_compact(compact: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match="domain must be spatial-frequency; got 'angular"):
        load_channels(compact({"domain": "angular-delay"}))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_users_that_are_not_finite(
    mat: Callable[..., Path], compact: Callable[..., Path], value: float
) -> None:
    h = draw(N, N_TX, N_SUB)
    h[[1, 3], 2, 2] = value
    with pytest.raises(CsiAuditError, match=r"channels\.mat: h must be finite; 2 of 5 .*1, 3\)"):
        load_channels(mat(H=h))
    pairs = np.ones((N, 2, N_TX, N_SUB))
    pairs[4, 0, 0, 0] = value
    with pytest.raises(CsiAuditError, match=r"channels\.h5: h must be finite; 1 of 5 .*4\)"):
        load_channels(compact(h=pairs))


def test_users_without_power(mat: Callable[..., Path]) -> None:
    h = draw(N, N_TX, N_SUB)
    h[2] = 0
    with pytest.raises(CsiAuditError, match=r"mat: h must have power .*1 of 5 users \(index 2\)"):
        load_channels(mat(H=h))


def test_labels_of_another_length(mat: Callable[..., Path], compact: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match=r"label delay_spread_s must have one row .*\(7, 1\)"):
        load_channels(mat(delay_spread_s=np.ones((7, 1))))
    with pytest.raises(CsiAuditError, match=r"label power_db must have one row .* 5 users.*\(4,\)"):
        load_channels(compact(power_db=np.zeros(4)))


def test_labels_and_facts_of_the_wrong_kind(mat: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match=r"channels\.mat: bandwidth_hz must be positive.*got 0"):
        load_channels(mat(bandwidth_hz=0.0))
    assert load_channels(mat(fc_hz=np.zeros((0, 0)))).grid.carrier_hz is None


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        ("user,tx,subs", r"axes must be names among .*got 'subs'. Did you mean 'sub'"),
        ("user,tx,tx", "axes must name tx .*once each.*; got user,tx,tx"),
        ("user,rx,tx,sub", r"H has 3 axes \(5, 4, 8\), but axes names 4: user,rx,tx,sub"),
    ],
)
def test_wrong_axes(mat: Callable[..., Path], axes: str, message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        load_channels(mat(), axes=axes)


def test_axes_of_compact_are_fixed(compact: Callable[..., Path]) -> None:
    with pytest.raises(CsiAuditError, match=r"axes must be left out for .*compact HDF5 is always"):
        load_channels(compact(), axes="user,tx,sub")


# --- Data that lie elsewhere ----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["external link", "soft link", "raw storage", "virtual"])
def test_foreign_data_are_never_followed(
    tmp_path: Path, compact: Callable[..., Path], kind: str
) -> None:
    secret = compact()
    with h5py.File(tmp_path / "trap.h5", "w") as file:
        file["power_db"] = np.zeros(N)
        if kind == "external link":
            file["h"] = h5py.ExternalLink(str(secret), "/h")
        elif kind == "soft link":
            file["away"] = h5py.ExternalLink(str(secret), "/")
            file["h"] = h5py.SoftLink("/away/h")
        elif kind == "raw storage":
            shape = (N, 2, N_TX, N_SUB)
            file.create_dataset("h", shape, "<f4", external=[(str(secret), 0, 10**6)])
        else:
            layout = h5py.VirtualLayout((N, 2, N_TX, N_SUB), "<f2")
            layout[:] = h5py.VirtualSource(str(secret), "h", layout.shape)
            file.create_virtual_dataset("h", layout)
    for variable in (None, "h"):
        with pytest.raises(CsiAuditError, match=r"'h'.* points into another file, which is never"):
            load_channels(tmp_path / "trap.h5", variable=variable)


def test_group_instead_of_array(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["run/h"] = np.zeros((N, 2, N_TX, N_SUB))
    with pytest.raises(CsiAuditError, match=r"'run' is a group \(h\), not an array"):
        load_channels(tmp_path / "a.h5", variable="run")


def test_every_message_is_one_line(mat: Callable[..., Path]) -> None:
    file = mat()
    file.write_bytes(file.read_bytes()[:300])
    with pytest.raises(CsiAuditError) as caught:
        load_channels(file)
    assert not re.search(r"\n", str(caught.value))
