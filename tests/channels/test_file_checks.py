"""Which container a file is, told by its bytes."""

import zipfile
from pathlib import Path

import numpy as np
import pytest

from channels.file_checks import recognise
from channels.support import CsiAuditError

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("members", "kind"),
    [
        (["h.npy"], "numpy"),
        (["a/data.pkl", "a/data/0"], "torch"),
        (["a/data.pkl", "a/h.npy"], "torch"),
    ],
)
def test_zips(tmp_path: Path, members: list[str], kind: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.dat", "w") as archive:
        for name in members:
            archive.writestr(name, b"")
    assert recognise(tmp_path / "a.dat") == kind


def test_other_zips_and_pickles(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(CsiAuditError, match=r"zip of readme\.txt, no \.npz and no \.pt"):
        recognise(tmp_path / "a.zip")
    (tmp_path / "a.pt").write_bytes(b"\x80\x02garbage")
    with pytest.raises(CsiAuditError, match=r"Python pickle.*PyTorch before 1\.6 wrote such files"):
        recognise(tmp_path / "a.pt")


def test_npy(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.ones(3))
    assert recognise(tmp_path / "a.npy") == "numpy"
