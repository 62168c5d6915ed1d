"""Placements in metres from every container, and a line for every wrong file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
import pytest
import scipy.io
import torch

from channels.network import CellNetwork
from channels.placement_files import load_placements
from channels.support import CsiAuditError, file_sha256

pytestmark = pytest.mark.unit

WIDE = CellNetwork(area_m=(200.0, 50.0))
METRES = np.random.default_rng(0).uniform(0, 1, (12, 3, 2)) * np.array([200.0, 50.0])
Array = npt.NDArray[Any]


def _hdf5(path: Path, u: Array) -> None:
    with h5py.File(path, "w") as file:
        file["ue_pos"] = u


def _matlab73(path: Path, u: Array) -> None:
    """As `save -v7.3` writes it: axes reversed, MATLAB_class set."""
    with h5py.File(path, "w") as file:
        file["u"] = u.transpose()
        file["u"].attrs["MATLAB_class"] = np.bytes_("double")


WRITERS: dict[str, Callable[[Path, Array], object]] = {
    "u.npy": np.save,
    "u.npz": lambda path, u: np.savez(path, positions_m=u, drop=np.arange(len(u))),
    "u.h5": _hdf5,
    "u.mat": lambda path, u: scipy.io.savemat(path, {"placements": u}),
    "u73.mat": _matlab73,
    "u.csv": lambda path, u: np.savetxt(path, u.reshape(len(u), -1), delimiter=","),
    "u.pt": lambda path, u: torch.save(torch.from_numpy(u), path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_container_gives_the_same_placements(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    WRITERS[name](path, METRES)
    found = load_placements(path, network=WIDE, n_users=3)
    expected = METRES / np.array([100.0, 25.0]) - 1
    np.testing.assert_allclose(found.x.numpy(), expected, atol=1e-6)
    assert (found.x.dtype, len(found)) == (torch.float32, 12)
    assert (found.path, found.sha256) == (str(path), file_sha256(path))


def test_flat_rows_and_a_head_line(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text("x1,y1,x2,y2\n0,0,200,50\n# a remark\n100,25,50,12.5\n")
    found = load_placements(path, network=WIDE, n_users=2)
    assert found.x.tolist() == [[[-1, -1], [1, 1]], [[0, 0], [-0.5, -0.5]]]
    assert found.format == "CSV"
    np.save(tmp_path / "flat.npy", METRES.reshape(12, 6))
    whole = load_placements(tmp_path / "flat.npy", network=WIDE, n_users=3)
    np.save(tmp_path / "whole.npy", METRES)
    same = load_placements(tmp_path / "whole.npy", network=WIDE, n_users=3)
    assert torch.equal(whole.x, same.x)


def test_the_array_is_chosen_or_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "two.npz"
    np.savez(path, first=METRES, second=METRES[:5])
    with pytest.raises(CsiAuditError, match=r"several arrays; choose one with --variable: first"):
        load_placements(path, network=WIDE, n_users=3)
    assert len(load_placements(path, network=WIDE, n_users=3, variable="second")) == 5
    with pytest.raises(CsiAuditError, match=r"no variable 'secnd'\. Did you mean 'second'"):
        load_placements(path, network=WIDE, n_users=3, variable="secnd")
    np.savez(path, alone=METRES, facts=np.arange(3))
    found = load_placements(path, network=WIDE, n_users=3)
    assert found.notices == ("Placements are the array alone of two.npz.",)
    np.savez(path, facts=np.arange(3))
    with pytest.raises(CsiAuditError, match=r"no array of placements \(N, users, 2\); it has: fa"):
        load_placements(path, network=WIDE, n_users=3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (METRES[:, :2], r"must be \(N, 3, 2\).*got \(12, 2, 2\)\. It has 2 users: say so in the"),
        (METRES.reshape(12, 6)[:, :4], r"got \(12, 4\)\. It has 2 users: say so in the card"),
        (METRES.transpose(0, 2, 1), r"got \(12, 2, 3\)\. Bring its axes into this order"),
        (METRES.transpose(2, 1, 0), r"got \(2, 3, 12\)\. Bring its axes into this order"),
        (np.zeros((4, 3, 3)), r"got \(4, 3, 3\)\. Only x and y are read, no heights"),
        (METRES[:0], r"must be \(N, 3, 2\).*got \(0, 3, 2\)"),
        (METRES + 1j, r"must be real numbers, metres; got complex128"),
        (
            METRES + np.array([0.0, 60.0]),
            r"area of 200 m x 50 m; user 0 of placement 0 is at \(.*Shift the origin",
        ),
        (METRES / 1e3 - 0.1, r"All positions lie in \[-1, 1\]: metres are wanted"),
        (np.full((4, 3, 2), np.nan), r"user 0 of placement 0 is at \(nan, nan\)"),
    ],
)
def test_wrong_arrays_are_refused(values: Array, message: str, tmp_path: Path) -> None:
    path = tmp_path / "u.npy"
    np.save(path, values)
    with pytest.raises(CsiAuditError, match=message) as refused:
        load_placements(path, network=WIDE, n_users=3)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_user_on_the_rim_is_inside_and_one_beyond_is_named(tmp_path: Path) -> None:
    path, rim = tmp_path / "u.npy", METRES.copy()
    rim[3, 1] = [200.0 + 1e-4, 50.0]  # rounding of float32
    np.save(path, rim)
    assert load_placements(path, network=WIDE, n_users=3).x[3, 1].tolist() == [1.0, 1.0]
    rim[3, 1] = [200.5, 50.0]
    np.save(path, rim)
    with pytest.raises(CsiAuditError, match=r"user 1 of placement 3 is at \(200\.5, 50\)"):
        load_placements(path, network=WIDE, n_users=3)


def test_wrong_csv_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "u.csv"
    path.write_text("1,2\n3\n")
    with pytest.raises(CsiAuditError, match=r"row 2 must hold 2 numbers.*got '3'"):
        load_placements(path, network=WIDE, n_users=1)
    path.write_text("x,y\n1,2\n3,four\n")
    with pytest.raises(CsiAuditError, match=r"row 2 must hold 2 numbers.*got '3, four'"):
        load_placements(path, network=WIDE, n_users=1)
    path.write_text("x,y\n")
    with pytest.raises(CsiAuditError, match=r"must be \(N, 1, 2\)"):
        load_placements(path, network=WIDE, n_users=1)


def test_no_file_and_no_container(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match="does not exist"):
        load_placements(tmp_path / "none.npy", network=WIDE, n_users=3)
    (tmp_path / "u.npy").write_bytes(b"no placements at all")
    with pytest.raises(CsiAuditError, match="is of no known format"):
        load_placements(tmp_path / "u.npy", network=WIDE, n_users=3)
