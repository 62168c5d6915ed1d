"""The wheel holds every module and every data file of the four packages, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path
from zipfile import ZipFile

import pytest

import csi_audit

PACKAGES = ("channels", "compressors", "reports", "csi_audit")
BUILD = "import sys; from setuptools import build_meta; build_meta.build_wheel(sys.argv[1])"

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]


@pytest.fixture(scope="module")
def wheel(
    repository_root: Path, repository_files: list[Path], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The wheel, built offline from a copy so that the working tree stays clean."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for file in repository_files:
        (copy / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(repository_root / file, copy / file)
    done = subprocess.run(
        [sys.executable, "-c", BUILD, str(out)], cwd=copy, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return next(out.glob("*.whl"))


def test_wheel_holds_the_packages_and_nothing_else(
    wheel: Path, repository_files: list[Path]
) -> None:
    ours = {file.as_posix() for file in repository_files if file.parts[0] in PACKAGES}
    metadata = f"csi_audit-{csi_audit.__version__}.dist-info"
    packed = {name for name in ZipFile(wheel).namelist() if not name.startswith(metadata)}
    assert packed == ours
    assert {f"{package}/py.typed" for package in PACKAGES} <= packed


def test_wheel_carries_licence_and_command(wheel: Path) -> None:
    metadata = f"csi_audit-{csi_audit.__version__}.dist-info"
    with ZipFile(wheel) as archive:
        assert f"{metadata}/licenses/LICENSE" in archive.namelist()
        assert "License-Expression: Apache-2.0" in archive.read(f"{metadata}/METADATA").decode()
        commands = archive.read(f"{metadata}/entry_points.txt").decode()
    assert "csi-audit = csi_audit.command_line:main" in commands
