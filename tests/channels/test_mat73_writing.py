"""MATLAB v7.3 files: the head MATLAB asks for, classes, texts, and the way back."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from channels import ChannelSet, CsiAuditError, load_channels, write_channels
from channels.mat73_writing import write_mat73
from channels.readers_hdf5 import hdf5_workspace
from channels.sample import sample_path

pytestmark = pytest.mark.unit

TEXTS = {"law": "p(x | NMSE > -3 dB)", "failures_of": "\u00b5-Netz \U0001d6fc", "remark": ""}
"""Beyond ASCII, beyond 16 bits, and nothing at all."""


@pytest.fixture(scope="module")
def users() -> ChannelSet:
    some = load_channels(sample_path()).subset(slice(0, 40))
    return replace(some, labels={**some.labels, "log_weight": -torch.arange(40.0).double()})


def test_channels_and_labels_come_back(users: ChannelSet, tmp_path: Path) -> None:
    write_mat73(tmp_path / "a.mat", users)
    found = load_channels(tmp_path / "a.mat")
    assert torch.allclose(found.h, users.h, atol=1e-6)
    assert torch.equal(found.labels["log_weight"], users.labels["log_weight"])
    assert torch.equal(found.label("is_los"), users.label("is_los"))
    assert found.drops is not None
    assert users.drops is not None
    assert torch.equal(found.drops, users.drops)
    assert found.grid.carrier_hz == users.grid.carrier_hz
    assert found.grid.bandwidth_hz == users.grid.bandwidth_hz
    assert found.source.format == "MATLAB v7.3, [user, rx, tx, sub]"


def test_head_and_classes_are_matlabs(users: ChannelSet, tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    write_mat73(path, users)
    head = path.read_bytes()[:520]
    assert head.startswith(b"MATLAB 7.3 MAT-file")
    assert head[124:128] == b"\x00\x02IM"
    assert head[512:520] == b"\x89HDF\r\n\x1a\n"
    with h5py.File(path) as file:
        classes = {name: item.attrs["MATLAB_class"].decode() for name, item in file.items()}
        assert file["H"].shape == (32, 32, 1, 40)  # MATLAB sees 40 x 1 x 32 x 32
    assert classes["H"] == "single"
    assert classes["is_los"] == "logical"
    assert classes["drop_seed"] == "int64"
    assert classes["log_weight"] == "double"


def test_texts_are_those_of_compact_hdf5(users: ChannelSet, tmp_path: Path) -> None:
    write_mat73(tmp_path / "a.mat", users, attributes=TEXTS)
    write_channels(tmp_path / "a.h5", users, attributes=TEXTS)
    with h5py.File(tmp_path / "a.h5") as file:
        said = {name: value for name, value in file.attrs.items() if isinstance(value, str)}
    assert said.keys() >= {*TEXTS, "scale", "grid", "scenario", "antenna"}
    assert hdf5_workspace(tmp_path / "a.mat").texts == said
    found = load_channels(tmp_path / "a.mat")
    assert found.source.scenario == users.source.scenario == "3GPP_38.901_UMi"
    assert found.grid == users.grid
    assert found.labels.keys() == {*users.labels, "power_db"}


def test_texts_are_matlabs_char(users: ChannelSet, tmp_path: Path) -> None:
    """A row of UTF-16 code units; of an empty one the two sizes of 0."""
    write_mat73(tmp_path / "a.mat", users, attributes=TEXTS)
    with h5py.File(tmp_path / "a.mat") as file:
        for name, text in TEXTS.items():
            stored = file[name]
            assert stored.attrs["MATLAB_class"] == b"char"
            assert stored.attrs["MATLAB_int_decode"] == 2
            assert ("MATLAB_empty" in stored.attrs) == (text == "")
            units = stored[()].ravel()
            if text:
                assert stored.dtype == np.uint16
                assert stored.shape == (len(text.encode("utf-16-le")) // 2, 1)
                assert units.tobytes().decode("utf-16-le") == text
            else:
                assert units.tolist() == [0, 0]


def test_a_lone_user_without_known_labels_comes_back(users: ChannelSet, tmp_path: Path) -> None:
    """H (1, 1, 32, 32) could be 32 users of one antenna, but for the row of power_db."""
    alone = replace(users.subset(slice(0, 1)), labels={"log_weight": torch.tensor([-0.5]).double()})
    write_mat73(tmp_path / "a.mat", alone)
    found = load_channels(tmp_path / "a.mat")
    assert torch.allclose(found.h, alone.h, atol=1e-6)
    assert found.label("log_weight").tolist() == [-0.5]
    assert found.labels.keys() == {"log_weight", "power_db"}


def test_equal_channels_give_equal_bytes(users: ChannelSet, tmp_path: Path) -> None:
    for name in ("a.mat", "b.mat"):
        write_mat73(tmp_path / name, users, attributes=TEXTS)
    assert (tmp_path / "a.mat").read_bytes() == (tmp_path / "b.mat").read_bytes()


@pytest.mark.parametrize("name", ["H", "scale", "2nd", "über", "_a", "a" * 64])
def test_names_that_matlab_has_not_are_refused(
    users: ChannelSet, tmp_path: Path, name: str
) -> None:
    labelled = replace(users, labels={name: torch.zeros(40)})
    with pytest.raises(CsiAuditError, match=r"labels must be MATLAB names other than .*; got '"):
        write_mat73(tmp_path / "a.mat", labelled)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["H", "n_sub", "made by"])
def test_texts_never_take_the_place_of_the_channels(
    users: ChannelSet, tmp_path: Path, name: str
) -> None:
    with pytest.raises(CsiAuditError, match=rf"texts must be MATLAB names other .*; got '{name}'"):
        write_mat73(tmp_path / "a.mat", users, attributes={name: "a text"})
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_nothing(
    users: ChannelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from channels import hdf5_writing

    def refuse(self: object, data: memoryview) -> int:
        self.error = OSError(28, "No space left on device")  # type: ignore[attr-defined]
        return len(data)

    monkeypatch.setattr(hdf5_writing._Sink, "write", refuse)
    with pytest.raises(CsiAuditError, match=r"cannot be written: No space left"):
        write_mat73(tmp_path / "a.mat", users)
    assert not list(tmp_path.iterdir())
