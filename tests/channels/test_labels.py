"""Labels by their number of rows, down to a lone user, whose row is easily taken for a scalar."""

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import scipy.io

from channels import CsiAuditError, load_channels
from channels.labels import labels_of, rows_of_labels, user_rows
from channels.opened import COMPACT_SCALE
from channels.workspace import Workspace

pytestmark = pytest.mark.unit

H = np.random.default_rng(0).standard_normal((1, 2, 4, 8))
"""One user of 4 antennas and 8 subcarriers, real and imaginary part."""
LABELS = {
    "drop_seed": np.array([7]),
    "is_real": np.array([1]),
    "log_weight": np.array([-0.5]),
    "pair": np.array([[1.0, 2.0]]),
}


def held(**arrays: Any) -> Workspace:
    return Workspace(path=Path("a.h5"), container="HDF5", arrays=arrays)


def compact(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.attrs["scale"] = COMPACT_SCALE
        for name, value in {
            "h": H,
            "power_db": np.zeros(1),
            "count": np.array(3),
            **LABELS,
        }.items():
            file[name] = value


def npz(path: Path) -> None:
    facts = {"carrier_hz": np.array(2e9), "n_sub": np.array([8]), "count": np.array(3)}
    np.savez(path, h=H[:, 0] + 1j * H[:, 1], **facts, **LABELS)  # type: ignore[arg-type]


def mat5(path: Path) -> None:
    """MATLAB has no fewer than two axes: every label of one number is (1, 1), as a scalar is."""
    facts = {"carrier_hz": 2e9, "bandwidth_hz": 1e7, "n_sub": 8.0, "n_tx": 4.0}
    scipy.io.savemat(path, {"H": H[:, 0] + 1j * H[:, 1], **facts, **LABELS})


@pytest.mark.parametrize(("write", "ending"), [(compact, "h5"), (npz, "npz"), (mat5, "mat")])
def test_a_lone_user_keeps_every_label(tmp_path: Path, write: Any, ending: str) -> None:
    path = tmp_path / f"a.{ending}"
    write(path)
    found = load_channels(path)
    assert len(found) == 1
    assert found.labels.keys() == LABELS.keys()
    for name, label in LABELS.items():
        assert found.label(name).tolist() == label.tolist(), name


@pytest.mark.parametrize("shape", [(1,), (1, 1), ()])
def test_one_number_is_one_users(shape: tuple[int, ...]) -> None:
    """Saved as a column, by MATLAB, squeezed."""
    value = np.full(shape, 1.5)
    assert rows_of_labels(held(asd_deg=value)) == 1
    assert labels_of(held(asd_deg=value), 1, ()) == {"asd_deg": np.array([1.5])}
    assert user_rows(Path("a.h5"), "asd_deg", value, 1).shape == (1,)


def test_a_position_is_one_user_and_not_three() -> None:
    assert rows_of_labels(held(ue_pos=np.ones((1, 3)))) == 1
    assert rows_of_labels(held(ue_pos=np.ones((5, 3)))) == 5
    assert rows_of_labels(held(asd_deg=np.ones((1, 3)))) == 3


def test_one_number_is_not_many_users() -> None:
    with pytest.raises(
        CsiAuditError, match=r"label asd_deg must have one row .* 2 users; got \(\)"
    ):
        user_rows(Path("a.h5"), "asd_deg", np.array(1.5), 2)
    assert labels_of(held(count=np.array(3), row=np.ones((1, 4))), 2, ()) == {}
