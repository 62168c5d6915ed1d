"""What `.ci/run` says of the checks that need a browser."""

import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.end_to_end


def said(root: Path, folder: Path, *, browser: str | None, make: str = "exit 0") -> tuple[int, str]:
    """Exit code and output of `.ci/run` where make is a stub and nothing else is on the path."""
    stubs = {"make": f"#!/bin/sh\necho made: $@\n{make}\n"}
    if browser is not None:
        stubs[browser] = "#!/bin/sh\n"
    for name, text in stubs.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    for name in ("dirname", "sh"):
        (folder / name).symlink_to(str(shutil.which(name)))
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    done = subprocess.run(
        [bash, str(root / ".ci" / "run")], env={"PATH": str(folder)}, capture_output=True, text=True
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("browser", ["chromium", "chromium-browser", "google-chrome"])
def test_a_browser_is_named(repository_root: Path, tmp_path: Path, browser: str) -> None:
    code, text = said(repository_root, tmp_path, browser=browser)
    assert code == 0
    assert text.splitlines()[0] == "made: test PYTEST_FLAGS=--require-shared-data -rs"
    assert text.splitlines()[1] == "made: lint"
    assert f"was checked in {tmp_path / browser}" in text
    assert "SKIPPED" not in text


def test_without_one_the_skipped_check_is_named(repository_root: Path, tmp_path: Path) -> None:
    code, text = said(repository_root, tmp_path, browser=None)
    assert code == 0
    assert "SKIPPED: the layout of the pages (tests/reports/test_*layout.py)" in text
    layouts = {file.name for file in (repository_root / "tests" / "reports").glob("*layout*.py")}
    assert layouts == {
        file.name for file in (repository_root / "tests" / "reports").glob("test_*layout.py")
    }
    assert "test_page_layout.py" in layouts


def test_a_failure_stays_one(repository_root: Path, tmp_path: Path) -> None:
    assert said(repository_root, tmp_path, browser=None, make="exit 3")[0] != 0
