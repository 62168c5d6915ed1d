"""Blocks that are made once, and arrays that come back as they were."""

from pathlib import Path

import h5py
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.support import CsiAuditError
from csi_audit.run_state import Array, BlockStore, read_arrays, write_arrays

unit = pytest.mark.unit


def block() -> dict[str, Array]:
    """What a sampler leaves."""
    x = np.arange(6, dtype=np.float32).reshape(3, 2)
    return {"x": x, "law": np.array("base"), "n_evaluations": np.array(90)}


# --- Blocks ---------------------------------------------------------------------------------------


@unit
def test_a_block_is_made_once(tmp_path: Path) -> None:
    store, made = BlockStore(tmp_path), []

    def make() -> dict[str, Array]:
        made.append(1)
        return block()

    first, second = store.get("base", 3, make), BlockStore(tmp_path).get("base", 3, make)
    assert made == [1]
    assert store.path("base", 3) == tmp_path / "state" / "base-0003.npz"
    for found in (first, second):
        assert found.keys() == block().keys()
        np.testing.assert_array_equal(found["x"], block()["x"])
        assert (str(found["law"]), int(found["n_evaluations"])) == ("base", 90)
    store.get("base", 4, make)
    store.get("issgm", 3, make)
    assert made == [1, 1, 1]


@unit
def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)

    def interrupted() -> dict[str, Array]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        store.get("base", 0, interrupted)
    assert list(store.folder.iterdir()) == []
    np.testing.assert_array_equal(store.get("base", 0, block)["x"], block()["x"])
    assert [path.name for path in store.folder.iterdir()] == ["base-0000.npz"]


@unit
def test_a_write_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: object, **arrays: Array) -> None:
        raise OSError(28, "No space left on device")

    store = BlockStore(tmp_path)
    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(CsiAuditError, match=r"base-0000.npz cannot be written: No space left"):
        store.get("base", 0, block)
    assert list(store.folder.iterdir()) == []


@unit
@pytest.mark.parametrize("damage", ["empty", "text", "cut", "pickle"])
def test_a_damaged_block_is_named(tmp_path: Path, damage: str) -> None:
    store = BlockStore(tmp_path)
    store.get("base", 0, block)
    path = store.path("base", 0)
    whole = path.read_bytes()
    if damage == "pickle":
        np.savez(path, x=np.array([{}]))
    else:
        path.write_bytes({"empty": b"", "text": b"not an archive", "cut": whole[:-40]}[damage])
    with pytest.raises(CsiAuditError, match=r"base-0000.npz is damaged \(.+\). Remove that file"):
        store.get("base", 0, block)


@pytest.mark.property
@given(place=st.floats(0, 1), bit=st.integers(0, 7))
def test_a_flipped_bit_gives_the_block_or_a_message(
    tmp_path_factory: pytest.TempPathFactory, place: float, bit: int
) -> None:
    store = BlockStore(tmp_path_factory.mktemp("flip"))
    store.get("base", 0, block)
    path = store.path("base", 0)
    data = bytearray(path.read_bytes())
    data[int(place * (len(data) - 1))] ^= 1 << bit
    path.write_bytes(data)
    try:
        found = store.get("base", 0, block)
    except CsiAuditError as error:
        assert "is damaged" in str(error)  # noqa: PT017  either outcome is right
    else:  # the bit was in no array but in a date, a flag or the list of names
        for name, value in found.items():
            np.testing.assert_array_equal(value, block()[name])


@unit
def test_state_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(CsiAuditError, match=r"state cannot be made: .+\. Choose another folder"):
        BlockStore(tmp_path / "file")


@unit
def test_removed_state_is_gone(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    store.get("base", 0, block)
    store.remove()
    assert list(tmp_path.iterdir()) == []
    store.remove()  # twice does no harm


# --- Arrays ---------------------------------------------------------------------------------------


def columns() -> dict[str, Array]:
    """Arrays of each kind that a run ends with."""
    random = np.random.default_rng(0)
    return {
        "x": random.standard_normal((40, 2, 8, 8)).astype(np.float16),
        "law": np.array([b"base", b"target"], dtype="S8"),
        "loss/mine|two (a b.py:C)/nmse": random.random(40),
        "report/nmse/0": np.arange(3),
        "report/worst_share": np.array(0.01),
        "report/known": np.array(True),
        "report/none": np.zeros(0, dtype=np.uint8),
    }


@unit
def test_arrays_come_back(tmp_path: Path) -> None:
    path = tmp_path / "samples.h5"
    write_arrays(path, columns())
    found = read_arrays(path)
    assert found.keys() == columns().keys()
    for name, value in columns().items():
        assert np.asarray(found[name]).dtype == value.dtype, name
        np.testing.assert_array_equal(found[name], value, err_msg=name)
    group = read_arrays(path, group="report")
    assert set(group) == {"nmse/0", "worst_share", "known", "none"}
    assert [entry.name for entry in tmp_path.iterdir()] == ["samples.h5"]


@unit
def test_equal_arrays_give_equal_bytes(tmp_path: Path) -> None:
    for name in ("a.h5", "b.h5"):
        write_arrays(tmp_path / name, columns())
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


@unit
def test_a_failed_write_keeps_the_older_file(tmp_path: Path) -> None:
    path = tmp_path / "samples.h5"
    write_arrays(path, {"x": np.zeros(3)})
    with pytest.raises(TypeError):
        write_arrays(path, {"x": np.ones(3), "bad": np.array([object()])})
    np.testing.assert_array_equal(read_arrays(path)["x"], np.zeros(3))
    assert [entry.name for entry in tmp_path.iterdir()] == ["samples.h5"]


@unit
@pytest.mark.parametrize("kind", ["missing", "text", "no group", "an array"])
def test_unreadable_arrays_are_named(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "samples.h5"
    if kind == "text":
        path.write_text("not HDF5")
    elif kind == "no group":
        with h5py.File(path, "w") as file:
            file["x"] = np.zeros(3)
    elif kind == "an array":
        with h5py.File(path, "w") as file:
            file["report"] = np.zeros(3)
    message = r"samples.h5 cannot be read \(.+\). Did the run finish\? Name a finished run"
    with pytest.raises(CsiAuditError, match=message):
        read_arrays(path, group="report")
