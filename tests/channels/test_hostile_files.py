"""Corrupt and hostile files: refused in words, nothing executed, nothing written, no memory taken.

How long a refusal takes is measured by `python -m benchmarks.hostile_files`.
"""

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from benchmarks.hostile import HOSTILE, TRAP
from channels.inspection import inspect_channels
from channels.readers import load_channels
from channels.support import CsiAuditError

MOST_BYTES = 64 << 20


READ: dict[str, Callable[[Path], object]] = {
    "in memory": load_channels,
    "lazy": partial(load_channels, lazy=True),
    "inspect": inspect_channels,
}


@pytest.mark.parametrize("how", list(READ))
@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_files_are_refused(name: str, how: str, tmp_path: Path) -> None:
    make, says = HOSTILE[name]
    path = make(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    tracemalloc.start()
    try:
        with pytest.raises(CsiAuditError, match=says) as caught:
            READ[how](path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert not (tmp_path / TRAP).exists()
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
    assert peak < MOST_BYTES
