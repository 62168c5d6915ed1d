"""`hdf5_workspace`: Octave's and MATLAB's HDF5 in their own axis order, groups that run in circles,
links that leave the file.
"""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from channels import CsiAuditError, load_channels, readers_hdf5
from channels.readers_hdf5 import hdf5_workspace
from channels.row_views import gathered, reshaped

pytestmark = pytest.mark.unit

N, N_TX, N_SUB = 6, 4, 8
PAIR = [("real", "<f8"), ("imag", "<f8")]


def draw(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def pairs(value: np.ndarray) -> np.ndarray:
    """Complex numbers as both programs store them, axes reversed."""
    pair = np.empty(value.shape[::-1], PAIR)
    pair["real"], pair["imag"] = value.T.real, value.T.imag
    return pair


# --- Octave ---------------------------------------------------------------------------------------


def octave(group: h5py.Group, name: str, value: Any) -> None:
    """A variable as Octave's `save -hdf5` writes it: ls-hdf5.cc and the save_hdf5 of each type."""
    new = group.create_group(name)
    new.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
    if isinstance(value, dict):
        new["type"] = np.bytes_("scalar struct")
        inside = new.create_group("value")
        for field, item in value.items():
            octave(inside, field, item)
    elif isinstance(value, str):
        new["type"] = np.bytes_("string")
        new["value"] = np.frombuffer(value.encode(), np.int8)[:, None]
    elif np.iscomplexobj(value):
        new["type"] = np.bytes_("complex matrix")
        new["value"] = pairs(value)
    elif np.ndim(value) == 0:
        new["type"], new["value"] = np.bytes_("scalar"), float(value)
    else:
        new["type"] = np.bytes_("bool matrix" if value.dtype == bool else "matrix")
        new["value"] = value.T.astype(np.uint8 if value.dtype == bool else np.float64)


def variables() -> dict[str, Any]:
    return {
        "H": draw(N, N_TX, N_SUB),
        "is_los": np.arange(N)[:, None] % 2 == 0,
        "ue_pos": np.arange(3.0 * N).reshape(N, 3),
        "fc_hz": 2.655e9,
        "bandwidth_hz": 1e7,
        "scenario": "3GPP_38.901_UMi",
    }


@pytest.mark.parametrize("nested", [False, True], ids=["variables", "struct"])
def test_octave(tmp_path: Path, nested: bool) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for name, value in ({"data": variables()} if nested else variables()).items():
            octave(file, name, value)
        empty = file.create_group("nothing")
        empty.attrs["OCTAVE_NEW_FORMAT"] = np.uint8(1)
        empty["type"], empty["value"] = np.bytes_("matrix"), np.zeros(2, np.int32)
        empty["value"].attrs["OCTAVE_EMPTY_MATRIX"] = np.uint8(1)
    channels = load_channels(tmp_path / "a.h5")
    h = variables()["H"]
    unit = h / np.sqrt((np.abs(h) ** 2).mean((1, 2), keepdims=True))
    np.testing.assert_allclose(channels.h[:, 0].numpy(), unit, atol=1e-6)
    assert channels.source.format == "Octave HDF5, [user, tx, sub]"
    assert channels.source.scenario == "3GPP_38.901_UMi"
    assert (channels.grid.carrier_hz, channels.grid.bandwidth_hz) == (2.655e9, 1e7)
    assert channels.label("is_los").tolist() == [True, False] * (N // 2)
    assert channels.label("ue_pos_m").tolist() == variables()["ue_pos"].tolist()
    assert set(channels.labels) == {"is_los", "ue_pos_m"}
    name = "data/H" if nested else "H"
    assert len(load_channels(tmp_path / "a.h5", variable=name)) == N


def test_octaves_type_is_never_followed_out_of_the_file(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        octave(file, "name", "text")
        del file["name/type"]
        file["name/type"] = h5py.ExternalLink(str(tmp_path / "b.h5"), "/type")
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["type"] = np.bytes_("string")
    assert hdf5_workspace(tmp_path / "a.h5").texts == {}


# --- Slices of MATLAB's arrays --------------------------------------------------------------------


@pytest.mark.parametrize(
    "key", [(), slice(1, 4), 2, (slice(1, 4),), (slice(0, 5, 2), slice(1, 3)), (3, slice(2))]
)
def test_keys_count_axes_from_matlabs_first(tmp_path: Path, key: Any) -> None:
    h = draw(N, N_TX, N_SUB)
    with h5py.File(tmp_path / "a.mat", "w") as file:
        file["H"] = pairs(h)
        file["H"].attrs["MATLAB_class"] = np.bytes_("double")
    stored = hdf5_workspace(tmp_path / "a.mat").arrays["H"]
    np.testing.assert_array_equal(stored[key], h[key])
    kept = np.array([0, 2, 5])
    np.testing.assert_array_equal(gathered(stored, kept)[0:3], h[kept])
    flat = reshaped(stored, (N_TX * N_SUB,))
    np.testing.assert_array_equal(flat[2:4], h[2:4].reshape(2, -1))


# --- Circles and links ----------------------------------------------------------------------------


def test_matlabs_empty_arrays_are_not_their_sizes(tmp_path: Path) -> None:
    """MATLAB stores zeros(2, 0) as [2, 0], which could be rows of two users or a short text."""
    with h5py.File(tmp_path / "a.mat", "w") as file:
        for name, kind in (("H", "double"), ("rows", "double"), ("remark", "char")):
            file[name] = pairs(draw(2, N_TX, N_SUB)) if name == "H" else np.array([2, 0], np.uint64)
            file[name].attrs["MATLAB_class"] = np.bytes_(kind)
            if name != "H":
                file[name].attrs["MATLAB_empty"] = np.uint8(1)
    found = hdf5_workspace(tmp_path / "a.mat")
    assert list(found.arrays) == ["H"]
    assert found.texts == {"remark": ""}


def test_groups_linked_in_circles_are_entered_once(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["h"] = draw(N, N_TX, N_SUB)
        file["twice"] = file["h"]
        file["inner/x"] = np.ones(3)
        for i in range(120):
            file[f"again_{i}"] = file["/"]
            file[f"inner/back_{i}"] = file["/"]
    assert set(hdf5_workspace(tmp_path / "a.h5").arrays) == {"h", "twice", "inner/x"}


def test_too_many_groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_hdf5, "_MOST_GROUPS", 3)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        for i in range(4):
            file.create_group(f"g{i}")
    with pytest.raises(CsiAuditError, match=r"a\.h5 holds more than 3 groups"):
        hdf5_workspace(tmp_path / "a.h5")


def test_a_name_through_an_external_link_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["g/h"] = draw(N, N_TX, N_SUB)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["h"] = draw(N, N_TX, N_SUB)
        file["away"] = h5py.ExternalLink(str(tmp_path / "secret.h5"), "/g")
    with pytest.raises(CsiAuditError, match=r"'away/h' points into another file, which is never"):
        load_channels(tmp_path / "a.h5", variable="away/h")
