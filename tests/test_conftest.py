"""The ground rules themselves, tried on small test files."""

import os
import random
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

pytest_plugins = ["pytester"]
pytestmark = pytest.mark.unit

CONFTEST = Path(__file__).with_name("conftest.py")
MARKER = "markers = needs_shared_data: reads the real channels"
CHANGES = {
    "torch default dtype": "torch.set_default_dtype(torch.float64)",
    "torch random state": "torch.rand(1)",
    "torch threads": "torch.set_num_threads(2)",
    "torch gradient mode": "torch.set_grad_enabled(False)",
    "numpy random state": "np.random.rand()",
    "python random state": "random.random()",
    "working folder": "os.chdir(os.sep)",
    "os.environ": "os.environ['CSI_AUDIT_LEAK'] = '1'",
    "matplotlib rcParams": "matplotlib.rcParams['font.size'] = 3",
}


@pytest.fixture
def house(pytester: pytest.Pytester) -> pytest.Pytester:
    """An empty test folder under the same ground rules, without real channels beside it."""
    pytester.makeini(f"[pytest]\n{MARKER}")
    pytester.makeconftest(CONFTEST.read_text())
    return pytester


@pytest.fixture
def restored() -> Iterator[None]:
    """Put back what the tried test changed in this very process."""
    matplotlib = pytest.importorskip("matplotlib")
    numpy_state, python_state, folder = np.random.get_state(), random.getstate(), Path.cwd()
    with torch.random.fork_rng(), matplotlib.rc_context():
        yield
    torch.set_default_dtype(torch.float32)
    torch.set_num_threads(1)
    torch.set_grad_enabled(True)
    np.random.set_state(numpy_state)
    random.setstate(python_state)
    os.chdir(folder)
    os.environ.pop("CSI_AUDIT_LEAK", None)


@pytest.mark.usefixtures("restored")
def test_change_of_global_state_fails_the_test(house: pytest.Pytester) -> None:
    tests = [f"def test_{i}():\n    {change}" for i, change in enumerate(CHANGES.values())]
    imports = "import os, random, matplotlib, numpy as np, torch"
    house.makepyfile("\n".join([imports, *tests]))
    result = house.runpytest_inprocess()
    result.assert_outcomes(passed=len(CHANGES), errors=len(CHANGES))
    for name in CHANGES:
        result.stdout.fnmatch_lines_random([f"the test changed global state: {name}"])


def test_changes_that_are_undone_pass(house: pytest.Pytester) -> None:
    house.makepyfile(
        """
        import torch

        def test_environment(monkeypatch, tmp_path):
            monkeypatch.setenv("CSI_AUDIT_LEAK", "1")
            monkeypatch.chdir(tmp_path)

        def test_layer(seeded_torch):
            torch.nn.Linear(2, 2)
        """
    )
    house.runpytest_inprocess().assert_outcomes(passed=2)


SKIPPING = """
    import pytest

    def test_fixture(shared_data): pass

    @pytest.mark.needs_shared_data
    def test_marked(): pytest.skip("no file")

    def test_other(): pytest.skip("another reason")

    @pytest.mark.needs_shared_data
    @pytest.mark.xfail
    def test_expected(): raise ValueError
"""


def test_without_real_channels_tests_are_skipped(house: pytest.Pytester) -> None:
    house.makepyfile(SKIPPING)
    house.runpytest_inprocess().assert_outcomes(skipped=3, xfailed=1)


def test_required_real_channels_make_skips_fail(house: pytest.Pytester) -> None:
    house.makepyfile(SKIPPING)
    result = house.runpytest_inprocess("--require-shared-data")
    result.assert_outcomes(failed=1, errors=1, skipped=1, xfailed=1)
    result.stdout.fnmatch_lines(["*test_marked was skipped, which --require-shared-data forbids.*"])


def test_users_of_the_fixture_are_marked(house: pytest.Pytester) -> None:
    house.makepyfile(SKIPPING)
    result = house.runpytest_inprocess("-m", "needs_shared_data")
    result.assert_outcomes(skipped=2, xfailed=1, deselected=1)
