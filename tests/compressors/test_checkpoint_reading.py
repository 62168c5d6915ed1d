"""Other people's checkpoints: their weights come out, their code does not run."""

import os
import pickle
import sys
import types
import zipfile
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from channels import CsiAuditError
from compressors.checkpoint_reading import is_checkpoint, read_checkpoint

pytestmark = pytest.mark.unit

FORMS = pytest.mark.parametrize("legacy", [False, True], ids=["zip", "legacy"])


class Result(NamedTuple):
    """What trainers of the family keep of their best epoch; of their own module (see below)."""

    nmse: Tensor | None = None
    rho: Tensor | None = None
    epoch: int | None = None


@pytest.fixture
def their_module(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """`Result` as of a module `their_solver`, importable only while the file is written."""
    module = types.ModuleType("their_solver")
    monkeypatch.setattr(Result, "__module__", "their_solver")
    module.Result = Result  # type: ignore[attr-defined]
    sys.modules["their_solver"] = module
    yield
    sys.modules.pop("their_solver", None)


def weights() -> dict[str, Tensor]:
    return {"layer.weight": torch.arange(6.0).view(2, 3), "layer.bias": torch.tensor([0.5, -1.0])}


def write(path: Path, content: Any, *, legacy: bool) -> Path:
    torch.save(content, path, _use_new_zipfile_serialization=not legacy)
    return path


def same(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> bool:
    return found.keys() == wanted.keys() and all(torch.equal(found[k], wanted[k]) for k in wanted)


@FORMS
def test_a_trainers_checkpoint(legacy: bool, their_module: None, tmp_path: Path) -> None:
    """The layout of the CRNet family; torch's own safe loading refuses it."""
    moments = {"step": torch.tensor(5.0), "exp_avg": torch.ones(2, 3)}
    content = {
        "epoch": 7,
        "state_dict": OrderedDict(weights()),
        "optimizer": {"state": {0: moments}, "param_groups": [{"lr": 1e-3, "params": [0]}]},
        "scheduler": {"T_max": 3, "base_lrs": [1e-3]},
        "best_rho": Result(rho=torch.tensor(0.9), nmse=torch.tensor(-9.0), epoch=3),
        "best_nmse": Result(),
    }
    path = write(tmp_path / "in_04.pth", content, legacy=legacy)
    del sys.modules["their_solver"]
    with pytest.raises(pickle.UnpicklingError):
        torch.load(path, weights_only=True)
    assert is_checkpoint(path)
    assert same(read_checkpoint(path), weights())
    assert "their_solver" not in sys.modules


@FORMS
@pytest.mark.parametrize("key", [None, "state_dict", "model_state_dict", "model", "net"])
def test_where_the_weights_may_lie(key: str | None, legacy: bool, tmp_path: Path) -> None:
    content = weights() if key is None else {"epoch": 1, key: weights()}
    assert same(read_checkpoint(write(tmp_path / "a.pth.tar", content, legacy=legacy)), weights())


def test_counters_and_wrappers_go(tmp_path: Path) -> None:
    dressed = {f"module.{name}": value for name, value in weights().items()}
    for counter in ("total_ops", "layer.total_ops", "layer.total_params"):
        dressed[f"module.{counter}"] = torch.zeros(1, dtype=torch.float64)
    path = write(tmp_path / "a.pth", {"state_dict": dressed}, legacy=False)
    assert same(read_checkpoint(path), weights())
    mixed = {"module.a": torch.ones(1), "b": torch.ones(1)}
    assert same(read_checkpoint(write(tmp_path / "b.pth", mixed, legacy=False)), mixed)


class Malicious:
    """Creates a file when it is unpickled."""

    def __init__(self, call: Any, *arguments: Any) -> None:
        self.call, self.arguments = call, arguments

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return self.call, self.arguments


@FORMS
@pytest.mark.parametrize("place", ["beside", "in the weights"])
@pytest.mark.parametrize("call", [os.mkdir, os.system, exec, eval, Path])
def test_a_malicious_checkpoint_is_refused_and_not_run(
    call: Any, place: str, legacy: bool, tmp_path: Path
) -> None:
    target = tmp_path / "pwned"
    argument = {
        os.system: f"mkdir {target}",
        exec: f"import os; os.mkdir({str(target)!r})",
        eval: f"__import__('os').mkdir({str(target)!r})",
    }.get(call, str(target))
    attack = Malicious(call, argument)
    content: dict[str, Any] = {"state_dict": weights()}
    if place == "beside":
        content["best_nmse"] = attack
    else:
        content["state_dict"]["layer.extra"] = attack
    path = write(tmp_path / "evil.pth", content, legacy=legacy)
    message = r"evil\.pth asks to call [\w.]+ while it is read, .* refused, and nothing was run"
    with pytest.raises(CsiAuditError, match=message):
        read_checkpoint(path)
    assert not target.exists()
    torch.load(path, weights_only=False)  # the attack works where nobody guards
    assert target.exists() or call is Path


def test_a_function_of_a_project_is_an_empty_shell(tmp_path: Path) -> None:
    """Named like a project's own, it is never imported, let alone called."""
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "their_trap.py").write_text(f"open({str(tmp_path / 'pwned')!r}, 'w')\nrun = print\n")
    trap = types.ModuleType("their_trap")

    def run(text: str) -> None:
        raise AssertionError("called")

    run.__module__, run.__qualname__ = "their_trap", "run"
    trap.run = run  # type: ignore[attr-defined]
    sys.modules["their_trap"] = trap
    try:
        path = write(
            tmp_path / "a.pth",
            {"state_dict": weights(), "best": Malicious(run, "text")},
            legacy=False,
        )
    finally:
        del sys.modules["their_trap"]
    sys.path.insert(0, str(folder))
    try:
        assert same(read_checkpoint(path), weights())
    finally:
        sys.path.remove(str(folder))
    assert not (tmp_path / "pwned").exists()


@FORMS
@pytest.mark.usefixtures("seeded_torch")
def test_a_whole_pickled_module(legacy: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "net.pth", nn.Sequential(nn.Linear(2, 2)), legacy=legacy)
    message = r"net\.pth holds a whole pickled module \(torch\.nn\.modules\.[\w.]+\), which only"
    with pytest.raises(CsiAuditError, match=message):
        read_checkpoint(path)


@FORMS
@pytest.mark.parametrize(
    ("content", "held"),
    [
        ({"epoch": 3, "best": 1.0}, "epoch, best"),
        ([torch.ones(2)], "<class 'list'>"),
        ({"state_dict": {"a": 3.0}}, "state_dict"),
        ({}, ""),
    ],
)
def test_no_weights_inside(content: Any, held: str, legacy: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", content, legacy=legacy)
    message = rf"a\.pth must hold a dictionary of weights, at best as 'state_dict'; it holds {held}"
    with pytest.raises(CsiAuditError, match=message):
        read_checkpoint(path)


@FORMS
@pytest.mark.parametrize("share", [0.0, 0.3, 0.9])
def test_damaged_files(share: float, legacy: bool, tmp_path: Path) -> None:
    path = write(tmp_path / "a.pth", weights(), legacy=legacy)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(CsiAuditError, match=r"a\.pth is no readable checkpoint \(.*\)\. Is it com"):
        read_checkpoint(path)


def test_what_is_a_checkpoint(tmp_path: Path) -> None:
    """By name *.pth and *.pth.tar, whatever they hold; others by content."""
    for name in ("a.txt", "a.pt"):
        (tmp_path / name).write_text("weights")
        assert not is_checkpoint(tmp_path / name)
        assert is_checkpoint(write(tmp_path / name, weights(), legacy=False))
    for name in ("a.pth", "a.PTH", "a.pth.tar"):
        (tmp_path / name).write_text("weights")
        assert is_checkpoint(tmp_path / name)
        with pytest.raises(
            CsiAuditError, match=r"is no readable checkpoint \(.*\)\. Is it complete"
        ):
            read_checkpoint(tmp_path / name)


@pytest.mark.parametrize(
    ("records", "program", "suffix"),
    [
        (["a/archive_format", "a/data.pkl"], r"torch\.export", "pt2"),
        (["serialized_exported_program.json"], r"torch\.export", "pt2"),
        (["a/data.pkl", "a/constants.pkl"], "TorchScript", "ts"),
    ],
)
def test_a_program_is_no_checkpoint(
    records: list[str], program: str, suffix: str, tmp_path: Path
) -> None:
    path = tmp_path / "in_04.pth"
    with zipfile.ZipFile(path, "w") as archive:
        for name in records:
            archive.writestr(name, b"pt2")
    message = (
        rf"in_04\.pth holds an exported model \({program}\), which is a program; .* nothing was "
        rf"run\. Rename it to \*\.{suffix} if you trust it\."
    )
    with pytest.raises(CsiAuditError, match=message):
        read_checkpoint(path)
