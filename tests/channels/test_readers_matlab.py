"""MATLAB v5/v7: structs and cells, texts, and what is too large to load whole."""

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.io

from channels import CsiAuditError, load_channels, mat5_elements
from channels.mat5_elements import check_nested, check_numbers, mat5_variables
from channels.readers_matlab import mat5_workspace

pytestmark = pytest.mark.unit

N, N_TX, N_SUB = 6, 4, 8


def draw(*shape: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.asarray(rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


def variables() -> dict[str, Any]:
    cells = np.empty(2, dtype=object)
    cells[:] = [np.arange(3.0), "text"]
    return {
        "H": draw(N, N_TX, N_SUB),
        "small": np.arange(5, dtype=np.int8),
        "flag": np.array([True, False]),
        "x": 1 + 2j,
        "empty": np.zeros((0, 0)),
        "text": "3GPP",
        "c": cells,
        "s": {"a": np.ones(3), "inner": {"b": np.ones((2, 2))}, "name": "UMi"},
        "f": np.float32(3),
    }


@pytest.mark.parametrize("compressed", [False, True])
def test_elements_are_as_scipy_tells_them(tmp_path: Path, compressed: bool) -> None:
    scipy.io.savemat(tmp_path / "a.mat", variables(), do_compression=compressed)
    found = mat5_variables(tmp_path / "a.mat")
    told = scipy.io.whosmat(tmp_path / "a.mat")
    assert [(v.name, v.kind) for v in found] == [(name, kind) for name, _, kind in told]
    shapes = {name: shape for name, shape, kind in told if kind != "char"}
    assert {v.name: v.shape for v in found if v.kind != "char"} == shapes
    for variable in found:
        nested = variable.kind in ("struct", "cell")
        check_nested(tmp_path / "a.mat", variable) if nested else check_numbers(
            tmp_path / "a.mat", variable
        )


@pytest.mark.parametrize("compressed", [False, True])
def test_values(tmp_path: Path, compressed: bool) -> None:
    scipy.io.savemat(tmp_path / "a.mat", variables(), do_compression=compressed)
    workspace = mat5_workspace(tmp_path / "a.mat")
    np.testing.assert_array_equal(workspace.value("H"), variables()["H"])
    np.testing.assert_array_equal(workspace.value("small"), [[0, 1, 2, 3, 4]])
    assert workspace.value("x").tolist() == [[1 + 2j]]
    assert workspace.texts == {"text": "3GPP"}
    assert set(workspace.arrays) == {"H", "small", "flag", "x", "empty", "f"}


@pytest.mark.parametrize("compressed", [False, True])
def test_a_struct_with_its_labels(tmp_path: Path, compressed: bool) -> None:
    data = {
        "H": draw(N, N_TX, N_SUB),
        "is_los": np.arange(N)[:, None] % 2 == 0,
        "bandwidth_hz": 1e7,
        "scenario": "3GPP_38.901_UMi",
    }
    whole = {"data": data, "fc_hz": 2.655e9, "speed": np.arange(N)[:, None]}
    scipy.io.savemat(tmp_path / "a.mat", whole, do_compression=compressed)
    channels = load_channels(tmp_path / "a.mat", axes="user,tx,sub")
    assert channels.h.shape == (N, 1, N_TX, N_SUB)
    assert set(channels.labels) == {"is_los", "speed"}
    assert channels.label("is_los").tolist() == [True, False] * (N // 2)
    assert (channels.grid.carrier_hz, channels.grid.bandwidth_hz) == (2.655e9, 1e7)
    assert channels.source.scenario == "3GPP_38.901_UMi"


def test_big_endian(tmp_path: Path) -> None:
    """The other byte order, by hand: a real array of two numbers."""

    def element(kind: int, data: bytes) -> bytes:
        return struct.pack(">II", kind, len(data)) + data + bytes(-len(data) % 8)

    head = element(6, struct.pack(">II", 6, 0)) + element(5, struct.pack(">2i", 1, 2))
    matrix = element(14, head + element(1, b"v") + element(9, struct.pack(">2d", 1.5, -2)))
    start = b"MATLAB 5.0 MAT-file".ljust(124) + b"\x01\x00MI"
    (tmp_path / "a.mat").write_bytes(start + matrix)
    assert mat5_workspace(tmp_path / "a.mat").value("v").tolist() == [[1.5, -2]]


def test_long_texts_are_left_out(tmp_path: Path) -> None:
    texts = {"short": "a" * 4096, "long": "a" * 4097}
    scipy.io.savemat(tmp_path / "a.mat", {"H": draw(N, N_TX, N_SUB), **texts})
    assert mat5_workspace(tmp_path / "a.mat").texts == {"short": "a" * 4096}


@pytest.mark.parametrize(
    ("limit", "value", "message"),
    [
        ("_MOST_ELEMENTS", 6, "s is a struct of more than 6 arrays"),
        ("_MOST_CHARACTERS", 3, "s is a struct of more than 3 characters"),
        ("_MOST_UNPACKED", 600, r"s is a struct of more than 0 MB in \d+ bytes of the file"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_structs_that_are_too_large(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    compressed: bool,
    limit: str,
    value: int,
    message: str,
) -> None:
    content = {"s": {"h": np.ones((4, 4, 4)), "x": {"y": "text", "z": np.ones(3)}, "e": []}}
    scipy.io.savemat(tmp_path / "a.mat", content, do_compression=compressed)
    assert set(mat5_workspace(tmp_path / "a.mat").arrays) == {"s/h", "s/x/z", "s/e"}
    monkeypatch.setattr(mat5_elements, limit, value)
    message += ", too much to load whole. Save its arrays as variables of their own"
    with pytest.raises(CsiAuditError, match=message):
        mat5_workspace(tmp_path / "a.mat")


def test_a_text_within_a_struct_that_is_longer_than_declared(tmp_path: Path) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"s": {"h": np.ones((4, 4, 4)), "x": "a" * 9000}})
    whole = (tmp_path / "a.mat").read_bytes()
    said = struct.pack("<2i", 1, 9000)
    assert whole.count(said) == 1
    (tmp_path / "a.mat").write_bytes(whole.replace(said, struct.pack("<2i", 1, 10)))
    with pytest.raises(CsiAuditError, match=r"a text of s holds 9,000 bytes, not its own"):
        mat5_workspace(tmp_path / "a.mat")


def test_too_many_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {f"v{i}": i for i in range(5)})
    monkeypatch.setattr(mat5_elements, "_MOST_VARIABLES", 4)
    with pytest.raises(CsiAuditError, match=r"a\.mat holds more than 4 variables"):
        mat5_workspace(tmp_path / "a.mat")


def test_only_the_wanted_variable_is_unpacked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scipy.io.savemat(tmp_path / "a.mat", variables(), do_compression=True)
    asked: list[list[str]] = []
    original = scipy.io.loadmat

    def counted(*args: Any, **options: Any) -> dict[str, Any]:
        found = original(*args, **options)
        asked.append([name for name in found if not name.startswith("__")])
        return found

    monkeypatch.setattr(scipy.io, "loadmat", counted)
    workspace = mat5_workspace(tmp_path / "a.mat")
    assert asked == [["text"]]
    workspace.value("H")
    assert asked == [["text"], ["H"]]
