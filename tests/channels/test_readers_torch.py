"""`torch_workspace`: tensors in dicts and lists, mapped; objects refused unexecuted."""

import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from channels import readers_torch
from channels.readers_torch import torch_workspace
from channels.support import CsiAuditError
from channels.workspace import Workspace

pytestmark = pytest.mark.unit

H = torch.arange(60, dtype=torch.float32).reshape(5, 3, 4) * (1 - 0.5j)


class Trap:
    """A pickle of it would create a file when it is loaded."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.target,)


def saved(tmp_path: Path, content: Any) -> Workspace:
    torch.save(content, tmp_path / "h.pt")
    return torch_workspace(tmp_path / "h.pt")


# --- Good files -----------------------------------------------------------------------------------


def test_one_tensor(tmp_path: Path) -> None:
    workspace = saved(tmp_path, H)
    assert workspace.container == "PyTorch"
    found = workspace.arrays["array"]
    assert found.shape == (5, 3, 4)
    assert found.dtype == np.complex64
    part = found[1:3, :, 2:]
    assert isinstance(part, np.ndarray)
    assert part.flags.writeable
    np.testing.assert_array_equal(part, H[1:3, :, 2:].numpy())
    np.testing.assert_array_equal(workspace.value("array"), H.numpy())


def test_nested_names(tmp_path: Path) -> None:
    content: dict[Any, Any] = OrderedDict(
        channels={"h": H, "deep": {"x": H.real.clone()}},
        splits=[H, (H.imag.clone(), torch.ones(2))],
        is_los=[True, False, True, False, True],
        bandwidth_hz=1e7,
        n=5,
        scenario="UMi",
        nothing=None,
        gains=(1.5, 2.5),
    )
    content[3] = torch.zeros(2)
    workspace = saved(tmp_path, content)
    shapes = {name: array.shape for name, array in workspace.arrays.items()}
    assert shapes == {
        "channels/h": (5, 3, 4),
        "channels/deep/x": (5, 3, 4),
        "splits/0": (5, 3, 4),
        "splits/1/0": (5, 3, 4),
        "splits/1/1": (2,),
        "is_los": (5,),
        "bandwidth_hz": (),
        "n": (),
        "gains": (2,),
        "3": (2,),
    }
    assert workspace.texts == {"scenario": "UMi"}
    assert workspace.value("bandwidth_hz") == 1e7
    assert workspace.value("is_los").tolist() == [True, False, True, False, True]
    assert workspace.value("gains").tolist() == [1.5, 2.5]
    np.testing.assert_array_equal(workspace.value("channels/deep/x"), H.real.numpy())


@pytest.mark.parametrize(
    ("dtype", "kind"),
    [
        (torch.float16, np.float16),
        (torch.bfloat16, np.float32),
        (torch.float8_e5m2, np.float32),
        (torch.complex32, np.complex64),
        (torch.complex128, np.complex128),
        (torch.bool, np.bool_),
        (torch.int16, np.int16),
    ],
)
@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental:UserWarning")
def test_kinds_of_numbers(tmp_path: Path, dtype: torch.dtype, kind: type) -> None:
    values = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
    found = saved(tmp_path, {"x": values.to(dtype)}).arrays["x"]
    assert found.dtype == found[0:1].dtype == kind
    np.testing.assert_array_equal(found[0:2], values.numpy().astype(kind))


def test_views_parameters_and_conjugates(tmp_path: Path) -> None:
    content = {
        "t": H.transpose(0, 2),
        "p": torch.nn.Parameter(H),
        "c": H.conj(),
        "i": (H * 2).conj().imag,
    }
    workspace = saved(tmp_path, content)
    for name, tensor in content.items():
        expected = tensor.detach().resolve_conj().resolve_neg().numpy()
        np.testing.assert_array_equal(workspace.value(name), expected)


# --- Hostile and damaged files --------------------------------------------------------------------


@pytest.mark.parametrize("nested", [False, True])
def test_objects_are_refused_unexecuted(tmp_path: Path, nested: bool) -> None:
    trap = Trap(tmp_path / "sprung")
    with pytest.raises(CsiAuditError, match=r"Python objects beside tensors.*never loaded"):
        saved(tmp_path, {"h": H, "outer": {"inner": [trap]}} if nested else trap)
    assert not (tmp_path / "sprung").exists()
    torch.load(tmp_path / "h.pt", weights_only=False)  # the trap is real
    assert (tmp_path / "sprung").exists()


@pytest.mark.usefixtures("seeded_torch")
def test_modules_and_numpy_arrays_are_refused(tmp_path: Path) -> None:
    for content in (torch.nn.Linear(2, 2), {"h": H.numpy()}):
        with pytest.raises(CsiAuditError, match=r"Save plain tensors: torch\.save"):
            saved(tmp_path, content)


def test_old_format_and_bare_pickles_are_refused_unexecuted(tmp_path: Path) -> None:
    torch.save(H, tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    (tmp_path / "bare.pt").write_bytes(pickle.dumps(Trap(tmp_path / "sprung")))
    for name in ("old.pt", "bare.pt"):
        message = r"Python pickle, which is never loaded.*before 1\.6.*save again with torch\.save"
        with pytest.raises(CsiAuditError, match=message):
            torch_workspace(tmp_path / name)
    assert not (tmp_path / "sprung").exists()


def test_another_container_is_no_file_of_torch(tmp_path: Path) -> None:
    np.savez(tmp_path / "h.npz", h=H.numpy())
    with pytest.raises(CsiAuditError, match=r"h\.npz is no file of torch\.save"):
        torch_workspace(tmp_path / "h.npz")


def test_the_message_names_labels_as_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r'torch\.save\({"h": h, "is_los": is_los}, file\)'):
        saved(tmp_path, {"h": np.ones(3)})


def test_absurd_shapes(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"h declares \(12500000, 32, 32\), 102.4 GB"):
        saved(tmp_path, {"h": torch.ones(1, dtype=torch.complex64).expand(12_500_000, 32, 32)})


def test_sparse_tensors(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"layout torch\.sparse_coo"):
        saved(tmp_path, {"h": torch.eye(3).to_sparse()})


def test_too_deep_or_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cycle: dict[str, Any] = {"h": H}
    cycle["again"] = cycle
    with pytest.raises(CsiAuditError, match="more than 8 dicts deep"):
        saved(tmp_path, cycle)
    monkeypatch.setattr(readers_torch, "_MOST_ENTRIES", 3)
    with pytest.raises(CsiAuditError, match="more than 3 tensors"):
        saved(tmp_path, [H, H, H, H])


def test_compressed_archive(tmp_path: Path) -> None:
    torch.save(H, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as archive,
        zipfile.ZipFile(tmp_path / "b.pt", "w", zipfile.ZIP_DEFLATED) as packed,
    ):
        for info in archive.infolist():
            packed.writestr(info.filename, archive.read(info))
    with pytest.raises(CsiAuditError, match=r"member \S+ is compressed"):
        torch_workspace(tmp_path / "b.pt")


def test_large_index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readers_torch, "_MOST_PICKLE", 10)
    with pytest.raises(CsiAuditError, match=r"index \S+ has \S+ bytes"):
        saved(tmp_path, H)


@pytest.mark.parametrize("keep", [10, -100])
def test_truncated(tmp_path: Path, keep: int) -> None:
    torch.save({"h": H}, tmp_path / "h.pt")
    (tmp_path / "h.pt").write_bytes((tmp_path / "h.pt").read_bytes()[:keep])
    with pytest.raises(
        CsiAuditError, match=r"no known format|cannot be opened as one: .*Truncated"
    ):
        torch_workspace(tmp_path / "h.pt")


def test_missing_storage(tmp_path: Path) -> None:
    torch.save({"h": H}, tmp_path / "a.pt")
    with (
        zipfile.ZipFile(tmp_path / "a.pt") as archive,
        zipfile.ZipFile(tmp_path / "b.pt", "w") as copy,
    ):
        for info in archive.infolist():
            if "/data/" not in info.filename:
                copy.writestr(info.filename.replace("a/", "b/", 1), archive.read(info))
    with pytest.raises(CsiAuditError, match="cannot be read to its end"):
        torch_workspace(tmp_path / "b.pt")
