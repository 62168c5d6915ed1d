"""Namesakes of channels, compressors and reports elsewhere on the import path."""

import os
import re
import subprocess
import sys
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import pytest

from csi_audit._guard import SIBLINGS, check_siblings

pytestmark = pytest.mark.unit


def make_package(folder: Path, name: str) -> Path:
    """A package whose import would be noticed at once."""
    package = folder / name
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('executed')\n")
    return package


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder first on the import path that holds all three packages, none of them loaded."""
    for name in SIBLINGS:
        make_package(tmp_path / "home", name)
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path / "home")
    return tmp_path / "home"


def test_packages_side_by_side_pass_and_nothing_runs(home: Path) -> None:
    check_siblings(home)
    assert not set(SIBLINGS) & set(sys.modules)


def test_the_repository_passes(repository_root: Path) -> None:
    check_siblings(repository_root)


def test_a_folder_reached_by_a_link_passes(home: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(home)
    check_siblings(tmp_path / "link")


@pytest.mark.parametrize("kind", ["file", "package", "bare folder"])
def test_namesake_is_named(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    other = tmp_path / "other"
    if kind == "file":
        other.mkdir()
        shadow = other / "reports.py"
        shadow.write_text("raise RuntimeError('executed')\n")
    elif kind == "package":
        shadow = make_package(other, "reports")
    else:
        shadow = other / "reports"
        shadow.mkdir(parents=True)
        (home / "reports" / "__init__.py").unlink()
    monkeypatch.setattr(sys, "path", [str(other), str(home)])
    place = re.escape(str(shadow))
    message = rf"needs its own package `reports` from .*; Python finds {place} first\. Rename"
    with pytest.raises(ImportError, match=message) as caught:
        check_siblings(home)
    assert caught.value.path == str(shadow)


@pytest.mark.parametrize("has_spec", [True, False])
def test_a_module_put_in_place_by_hand_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch, has_spec: bool
) -> None:
    module = ModuleType("channels")
    if not has_spec:
        del module.__spec__
    monkeypatch.setitem(sys.modules, "channels", module)
    with pytest.raises(ImportError, match=r"needs its package `channels` in .*none was found"):
        check_siblings(home)


def test_missing_package_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [str(home)])
    monkeypatch.setattr(sys, "meta_path", [PathFinder])  # without an editable installation's finder
    (home / "compressors" / "__init__.py").unlink()
    (home / "compressors").rmdir()
    with pytest.raises(ImportError, match=r"`compressors` in .*; none was found.*Install"):
        check_siblings(home)


def test_a_users_channels_file_stops_the_import(tmp_path: Path, repository_root: Path) -> None:
    shadow = tmp_path / "channels.py"
    shadow.write_text("raise RuntimeError('executed')\n")
    done = subprocess.run(
        [sys.executable, "-c", "import csi_audit"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(repository_root)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    last_line = done.stderr.strip().splitlines()[-1]
    assert last_line.startswith("ImportError: csi_audit needs its own package `channels` from")
    assert f"Python finds {shadow} first" in last_line
