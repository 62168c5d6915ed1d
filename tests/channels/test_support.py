"""Whole-or-nothing writes, the loader of objects, and "did you mean"."""

import hashlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from channels import (
    CsiAuditError,
    atomic_write,
    did_you_mean,
    file_sha256,
    load_object,
    write_text_atomic,
)

pytestmark = pytest.mark.unit


@pytest.fixture(autouse=True)
def forget_user_modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("csi_audit_user_"):
            del sys.modules[name]


def test_error_is_a_value_error() -> None:
    assert issubclass(CsiAuditError, ValueError)


def test_write_appears_whole_and_leaves_no_temporary(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    with atomic_write(target) as temporary:
        assert temporary.parent == tmp_path
        assert temporary.name.startswith(".")
        assert str(os.getpid()) in temporary.name
        temporary.write_text("new")
        assert not target.exists()
    assert target.read_text() == "new"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_failed_write_keeps_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail() -> None:
        with atomic_write(target) as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["a.txt"]


def test_text_is_utf8_with_plain_line_ends(tmp_path: Path) -> None:
    write_text_atomic(tmp_path / "a.txt", "µ\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc2\xb5\n"


def test_write_into_missing_folder(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"x/a\.txt cannot be written: the folder .* does not"):
        write_text_atomic(tmp_path / "x" / "a.txt", "")


def test_write_onto_a_folder(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match="is a folder; give the name of a file"):
        write_text_atomic(tmp_path, "")


def test_write_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)  # the suite may run as root
    with pytest.raises(CsiAuditError, match=r"a\.txt cannot be written: no permission in the fold"):
        write_text_atomic(tmp_path / "a.txt", "")


def test_full_disk_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(CsiAuditError, match=r"a\.txt cannot be written: No space left.*Free some"):
        write_text_atomic(tmp_path / "a.txt", "")
    assert list(tmp_path.iterdir()) == []


def test_did_you_mean() -> None:
    assert did_you_mean("CRNET", ["csinet", "crnet"]) == " Did you mean 'crnet'?"
    assert did_you_mean("zzz", ["b", "a"]) == " Choose from: a, b."
    assert did_you_mean("zzz", []) == ""
    assert did_you_mean("zzz", [f"a{i:02}" for i in range(20)]).endswith("a11, ... (20 in all).")


def test_sha256(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"csi")
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"csi").hexdigest()
    with pytest.raises(CsiAuditError, match="b cannot be read: No such file"):
        file_sha256(tmp_path / "b")


def test_load_object_of_a_module() -> None:
    assert load_object("pathlib:Path") is Path
    assert load_object("pathlib:Path.home") == Path.home


def test_load_object_of_a_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("class Codec:\n    rate = 4\n")
    assert load_object(f"{tmp_path}/mine.py:Codec").rate == 4
    assert load_object(f"{tmp_path}/mine.py:Codec.rate") == 4


def test_load_object_runs_the_file_as_it_is_now(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("n = 1\n")
    assert load_object(f"{file}:n") == 1
    file.write_text("n = 22\n")
    assert load_object(f"{file}:n") == 22


@pytest.mark.parametrize("spec", ["pathlib", "pathlib:", ":Path", ""])
def test_load_object_needs_a_colon(spec: str) -> None:
    with pytest.raises(CsiAuditError, match=r"spec must be package\.module:attr or file\.py:attr"):
        load_object(spec)


def test_load_object_from_missing_file(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("")
    with pytest.raises(CsiAuditError, match=r"no file .*mina\.py. Did you mean 'mine\.py'\?"):
        load_object(f"{tmp_path}/mina.py:Codec")


def test_load_object_from_missing_module() -> None:
    with pytest.raises(CsiAuditError, match=r"no module 'no_such_module'. Is its folder on PYTHON"):
        load_object("no_such_module.codec:Codec")


def test_load_object_with_missing_attribute() -> None:
    with pytest.raises(CsiAuditError, match=r"pathlib has no attribute 'Pth'. Did you mean 'Path'"):
        load_object("pathlib:Pth")


def test_errors_inside_the_users_file_stay_his(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("import no_such_module\n")
    before = set(sys.modules)
    with pytest.raises(ModuleNotFoundError, match="no_such_module"):
        load_object(f"{tmp_path}/mine.py:Codec")
    assert not [name for name in set(sys.modules) - before if name.startswith("csi_audit_user")]
