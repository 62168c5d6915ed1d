"""`numpy_workspace`: .npy and .npz as they come, large ones unread, hostile ones unexecuted."""

import io
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from channels import readers_numpy
from channels.readers_numpy import numpy_workspace
from channels.support import CsiAuditError

pytestmark = pytest.mark.unit

H = np.arange(60, dtype=np.complex64).reshape(5, 3, 4) * (1 - 0.5j)


def header(shape: tuple[int, ...], descr: str = "<c8") -> bytes:
    """The start of an .npy that declares `shape`."""
    file = io.BytesIO()
    about = {"descr": descr, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_2_0(file, about)
    return file.getvalue()


class Trap:
    """A pickle of it would create a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def trapped(target: Path) -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[:] = [Trap(target), 1]
    return array


# --- Good files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<c8", ">c8", "<c16", "<f2", ">f4", "<i4", "|u1", "|b1"])
def test_npy_slices(tmp_path: Path, dtype: str, order: Literal["C", "F"]) -> None:
    array = np.asarray(H.real if "c" not in dtype else H, order=order).astype(dtype)
    np.save(tmp_path / "h.npy", array)
    workspace = numpy_workspace(tmp_path / "h.npy")
    assert workspace.container == "npy"
    found = workspace.arrays["array"]
    assert found.shape == array.shape
    assert found.dtype == array.dtype.newbyteorder("=")
    part = found[1:3, :, 1:]
    assert part.flags.writeable
    assert part.dtype.isnative
    np.testing.assert_array_equal(part, array[1:3, :, 1:])
    np.testing.assert_array_equal(workspace.value("array"), array)


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz_members(tmp_path: Path, save: Any) -> None:
    facts: dict[str, Any] = {
        "bandwidth_hz": np.float64(1e7),
        "scenario": np.str_("UMi"),
        "los": np.arange(5) > 2,
    }
    save(tmp_path / "h.npz", h=H, fortran=np.asfortranarray(H), **facts)
    workspace = numpy_workspace(tmp_path / "h.npz")
    assert workspace.container == "npz"
    assert workspace.texts == {"scenario": "UMi"}
    assert set(workspace.arrays) == {"h", "fortran", "bandwidth_hz", "los"}
    assert workspace.value("bandwidth_hz") == 1e7
    np.testing.assert_array_equal(workspace.arrays["h"][2:4, 1:, :], H[2:4, 1:])
    np.testing.assert_array_equal(workspace.arrays["fortran"][2:4, :, 3:], H[2:4, :, 3:])
    np.testing.assert_array_equal(workspace.value("los"), facts["los"])


NUMBERS = st.sampled_from(["<c8", ">c16", "<f4", "<f2", "<i8"])


@given(
    array=hnp.arrays(
        NUMBERS.map(np.dtype),
        hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
        elements={"allow_nan": False},
    ),
    fortran=st.booleans(),
    compressed=st.booleans(),
    data=st.data(),
)
@pytest.mark.property
def test_any_slice_is_numpys_own(
    tmp_path_factory: pytest.TempPathFactory,
    array: np.ndarray,
    fortran: bool,
    compressed: bool,
    data: st.DataObject,
) -> None:
    stored = np.asfortranarray(array) if fortran else array
    path = tmp_path_factory.mktemp("npz") / "a.npz"
    (np.savez_compressed if compressed else np.savez)(path, first=np.zeros(3), second=stored)
    start = data.draw(st.integers(0, len(array)))
    key = slice(start, data.draw(st.integers(start, len(array))))
    np.testing.assert_array_equal(numpy_workspace(path).arrays["second"][key], array[key])


def test_long_double_is_narrowed(tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", H.astype(np.clongdouble))
    found = numpy_workspace(tmp_path / "h.npy").arrays["array"]
    assert found.dtype == found[0:1].dtype == np.complex128


def test_opening_and_one_user_of_a_large_set_take_no_memory(tmp_path: Path) -> None:
    shape = (500_000, 32, 32)  # 4 GB, sparse on the disk
    path = tmp_path / "h.npy"
    start = header(shape)
    with open(path, "wb") as file:
        file.write(start)
        file.truncate(len(start) + 8 * 500_000 * 1024)
        file.seek(-8, io.SEEK_END)
        file.write(np.complex64(3 + 4j).tobytes())
    tracemalloc.start()
    try:
        last = numpy_workspace(path).arrays["array"][499_999:500_000]
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert last.shape == (1, 32, 32)
    assert last[0, 31, 31] == 3 + 4j
    assert peak < 1 << 20


def test_compressed_members_are_unpacked_when_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "h.npz", h=H, other=H.real)
    workspace = numpy_workspace(tmp_path / "h.npz")
    unpacked: list[str] = []
    original = readers_numpy._unpacked

    def counted(path: Path, info: zipfile.ZipInfo, about: readers_numpy._Header) -> np.ndarray:
        unpacked.append(info.filename)
        return original(path, info, about)

    monkeypatch.setattr(readers_numpy, "_unpacked", counted)
    assert workspace.arrays["h"].dtype == np.complex64
    assert workspace.shape("other") == (5, 3, 4)
    assert unpacked == []
    workspace.arrays["h"][0:1]
    workspace.arrays["h"][1:2]
    assert unpacked == ["h.npy"]


def test_names_that_climb_are_only_names(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"../../escaped": H, "inside": H.real}
    np.savez(tmp_path / "a.npz", **arrays)
    before = sorted(p.name for p in tmp_path.parent.iterdir())
    workspace = numpy_workspace(tmp_path / "a.npz")
    np.testing.assert_array_equal(workspace.value("../../escaped"), H)
    assert sorted(p.name for p in tmp_path.parent.iterdir()) == before
    assert [p.name for p in tmp_path.iterdir()] == ["a.npz"]


# --- Hostile and damaged files --------------------------------------------------------------------


def test_pickled_npy_is_refused_unexecuted(tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", trapped(tmp_path / "sprung"), allow_pickle=True)
    with pytest.raises(CsiAuditError, match=r"Python objects.*never loaded.*is_los=is_los\)"):
        numpy_workspace(tmp_path / "h.npy")
    assert not (tmp_path / "sprung").exists()
    np.load(tmp_path / "h.npy", allow_pickle=True)  # the trap is real
    assert (tmp_path / "sprung").exists()


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_objects_in_npz_are_refused_unexecuted(tmp_path: Path, save: Any) -> None:
    save(tmp_path / "a.npz", h=H, paths=trapped(tmp_path / "sprung"))
    workspace = numpy_workspace(tmp_path / "a.npz")
    np.testing.assert_array_equal(workspace.value("h"), H)
    with pytest.raises(CsiAuditError, match=r"paths holds Python objects.*never loaded"):
        workspace.value("paths")
    assert not (tmp_path / "sprung").exists()


def test_npz_of_objects_alone(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", dataset=trapped(tmp_path / "sprung"))
    with pytest.raises(CsiAuditError, match="dataset holds Python objects"):
        numpy_workspace(tmp_path / "a.npz")
    assert not (tmp_path / "sprung").exists()


def test_pickle_named_npy(tmp_path: Path) -> None:
    (tmp_path / "h.npy").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    with pytest.raises(CsiAuditError, match=r"neither \.npy nor \.npz"):
        numpy_workspace(tmp_path / "h.npy")
    assert not (tmp_path / "sprung").exists()


def peak_of_refusal(path: Path, match: str) -> int:
    tracemalloc.start()
    try:
        with pytest.raises(CsiAuditError, match=match):
            numpy_workspace(path)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_absurd_shape_in_npy(tmp_path: Path) -> None:
    (tmp_path / "h.npy").write_bytes(header((12_500_000, 32, 32)) + bytes(1000))
    match = r"declares \(12500000, 32, 32\), 102,400,000,000 bytes.*holds only 1,000"
    assert peak_of_refusal(tmp_path / "h.npy", match) < 1 << 22


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_absurd_shape_in_npz(tmp_path: Path, method: int) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", method) as archive:
        archive.writestr("h.npy", header((12_500_000, 32, 32)) + bytes(1000))
    assert peak_of_refusal(tmp_path / "a.npz", r"h declares \(12500000, 32, 32\)") < 1 << 22


def test_compressed_member_shorter_than_its_header_says(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("h.npy", header((100, 32, 32)) + bytes(1000))
    with pytest.raises(CsiAuditError, match=r"declares .* but the archive holds only 1,000"):
        numpy_workspace(tmp_path / "a.npz")


def test_zip_bomb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_numpy, "_BOMB_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", h=np.zeros((4000, 32, 32), np.complex64))
    with pytest.raises(CsiAuditError, match=r"h \(4000, 32, 32\) would unpack .* to 0.0 GB"):
        numpy_workspace(tmp_path / "a.npz")


def test_too_many_members(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_numpy, "_MOST_MEMBERS", 2)
    np.savez(tmp_path / "a.npz", a=H, b=H, c=H)
    with pytest.raises(CsiAuditError, match="more than 2 arrays"):
        numpy_workspace(tmp_path / "a.npz")


@pytest.mark.parametrize("keep", [8, 30, -8])
def test_truncated_npy(tmp_path: Path, keep: int) -> None:
    np.save(tmp_path / "h.npy", H)
    whole = (tmp_path / "h.npy").read_bytes()
    (tmp_path / "h.npy").write_bytes(whole[:keep])
    with pytest.raises(CsiAuditError, match="Truncated or damaged"):
        numpy_workspace(tmp_path / "h.npy")


def test_truncated_npz(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", h=H)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:-30])
    with pytest.raises(CsiAuditError, match="cannot be read to its end"):
        numpy_workspace(tmp_path / "a.npz")


def test_file_that_shrinks_after_opening(tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", H)
    workspace = numpy_workspace(tmp_path / "h.npy")
    (tmp_path / "h.npy").write_bytes((tmp_path / "h.npy").read_bytes()[:200])
    with pytest.raises(CsiAuditError, match="cannot be read to its end"):
        workspace.value("array")


def test_damaged_compressed_member(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).standard_normal((50, 8, 8))
    np.savez_compressed(tmp_path / "a.npz", h=noise)
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    raw[len(raw) // 2] ^= 0xFF
    (tmp_path / "a.npz").write_bytes(raw)
    workspace = numpy_workspace(tmp_path / "a.npz")
    with pytest.raises(CsiAuditError, match="cannot be read to its end"):
        workspace.value("h")


def test_damaged_local_header(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", h=H)
    raw = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(b"PK\x05\x06" + raw[4:])
    with pytest.raises(CsiAuditError, match="cannot be read to its end"):
        numpy_workspace(tmp_path / "a.npz")


def test_encrypted_member(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", h=H)
    raw = bytearray((tmp_path / "a.npz").read_bytes())
    flags = raw.index(b"PK\x01\x02") + 8
    raw[flags : flags + 2] = struct.pack("<H", 1)
    (tmp_path / "a.npz").write_bytes(raw)
    with pytest.raises(CsiAuditError, match="h is encrypted"):
        numpy_workspace(tmp_path / "a.npz")


def literal(text: bytes) -> bytes:
    """The start of an .npy whose header is `text`."""
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text


@pytest.mark.parametrize(
    "start",
    [
        b"\x93NUMPY\x09\x00",
        header((-1, 2)),
        literal(b"(\n"),
        literal(b"-" * 9000 + b"1"),
        literal(b"9" * 9000),
        literal(b"{'descr': '<c8'}"),
        literal(b"__import__('os').getcwd()"),
        literal(b"x" * 20_000),
    ],
)
def test_broken_headers(tmp_path: Path, start: bytes) -> None:
    (tmp_path / "h.npy").write_bytes(start + bytes(200))
    with pytest.raises(CsiAuditError, match="cannot be read to its end"):
        numpy_workspace(tmp_path / "h.npy")
