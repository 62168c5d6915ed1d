"""Ground rules of every test: real channels by fixture, no change of global state, one thread."""

import os
import random
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rich.console  # noqa: F401  its first import draws from Python's generator: not within a test
import torch

# Environment variables that pytest sets, and some libraries when they are first imported.
LIBRARY_VARIABLES = {
    "KMP_DUPLICATE_LIB_OK",
    "KMP_INIT_AT_FORK",
    "PYTEST_CURRENT_TEST",
    "PYTORCH_NVML_BASED_CUDA_CHECK",
    "TORCHINDUCTOR_CACHE_DIR",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--require-shared-data",
        action="store_true",
        help="fail the tests that would be skipped for want of ../shared/data",
    )


def pytest_configure(config: pytest.Config) -> None:
    torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every user of the `shared_data` fixture, so that `-m needs_shared_data` finds it."""
    for item in items:
        if "shared_data" in getattr(item, "fixturenames", ()):
            item.add_marker("needs_shared_data")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With `--require-shared-data`, turn any skip of a marked test into a failure."""
    report = yield
    skipped = report.skipped and not hasattr(report, "wasxfail")
    marked = item.get_closest_marker("needs_shared_data") is not None
    if skipped and marked and item.config.getoption("--require-shared-data"):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} was skipped, which --require-shared-data forbids."
    return report


@pytest.fixture(scope="session")
def repository_root() -> Path:
    """Folder of the repository."""
    return Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared_data(repository_root: Path) -> Path:
    """Folder of the real channels, ../shared/data; the test is skipped where there is none."""
    folder = repository_root.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("the real channels are not at ../shared/data")
    return folder


@pytest.fixture(scope="session")
def repository_files(repository_root: Path) -> list[Path]:
    """Files of the repository that git tracks or would track, relative to its root."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=repository_root,
        capture_output=True,
        text=True,
    )
    if listing.returncode != 0:
        pytest.skip("the files of the repository are listed by git, which does not know them here")
    files = {Path(name) for name in listing.stdout.split("\0") if name}
    return sorted(file for file in files if (repository_root / file).is_file())


@pytest.fixture(scope="session")
def dead_process() -> int:
    """Number of a process that has ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@pytest.fixture
def seeded_torch() -> Iterator[None]:
    """Seed torch's global generator, from which stock layers draw, and restore it afterwards."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.fixture(autouse=True)
def unchanged_global_state() -> Iterator[None]:
    """Fail any test that leaves global state other than it found it."""
    before = global_state()
    yield
    after = global_state()
    changed = [name for name in before if name in after and before[name] != after[name]]
    if changed:
        pytest.fail(f"the test changed global state: {', '.join(changed)}", pytrace=False)


def global_state() -> dict[str, Any]:
    """What one test must not change for the next, by name; cheap enough for every test."""
    numpy_state = np.random.get_state(legacy=False)["state"]
    state = {
        "torch default dtype": torch.get_default_dtype(),
        "torch random state": torch.get_rng_state().numpy().tobytes(),
        "torch threads": torch.get_num_threads(),
        "torch gradient mode": torch.is_grad_enabled(),
        "numpy random state": (numpy_state["pos"], numpy_state["key"].tobytes()),
        "python random state": random.getstate(),
        "working folder": str(Path.cwd()),
        "os.environ": {k: v for k, v in os.environ.items() if k not in LIBRARY_VARIABLES},
    }
    if "matplotlib" in sys.modules:
        # The items as stored: reading the backend by its key would import pyplot.
        state["matplotlib rcParams"] = dict(dict.items(sys.modules["matplotlib"].rcParams))
    return state
