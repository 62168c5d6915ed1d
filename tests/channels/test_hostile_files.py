"""Corrupt and hostile files: refused in words, nothing executed, nothing written, no memory taken.

How long a refusal takes is measured by `python -m benchmarks.hostile_files`.
"""

import tracemalloc
from pathlib import Path

import pytest

from benchmarks.hostile import HOSTILE, TRAP
from channels.readers import load_channels
from channels.support import CsiAuditError

MOST_BYTES = 64 << 20


@pytest.mark.parametrize("lazy", [False, True], ids=["in memory", "lazy"])
@pytest.mark.parametrize("name", list(HOSTILE))
def test_hostile_files_are_refused(name: str, lazy: bool, tmp_path: Path) -> None:
    make, says = HOSTILE[name]
    path = make(tmp_path)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()}
    tracemalloc.start()
    try:
        with pytest.raises(CsiAuditError, match=says) as caught:
            load_channels(path, lazy=lazy)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    message = str(caught.value)
    assert path.name in message
    assert "\n" not in message
    assert not (tmp_path / TRAP).exists()
    assert {p: p.stat().st_mtime_ns for p in tmp_path.iterdir()} == before
    assert peak < MOST_BYTES
