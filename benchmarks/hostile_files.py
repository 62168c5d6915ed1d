"""How long does a hostile file keep a reader busy, what memory does it take, and does anything in
it run or appear?

Every file of `benchmarks.hostile` is given to `load_channels` and to `inspect_channels` in this
process. The named alternative is a good file of 300 users, read before all others too: memory
counts from what is resident then, to the largest that ever was, so that no peak hides another.

    python -m benchmarks.hostile_files
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.harness import check, parse_arguments, write_result
from benchmarks.hostile import HOSTILE, TRAP
from channels import CsiAuditError, load_channels, write_channels
from channels.inspection import inspect_channels
from channels.sample import sample_path

LIMIT_SECONDS, LIMIT_MIB = 1.0, 200.0


def _peak_mib() -> float:
    """Largest resident memory of this process since it began [MiB]."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def _resident_mib() -> float:
    """Memory that this process holds now [MiB]; its peak where the system does not say."""
    held = Path("/proc/self/statm")
    if not held.is_file():
        return _peak_mib()
    return int(held.read_text().split()[1]) * resource.getpagesize() / (1 << 20)


def _refused(path: Path, read: Callable[[Path], object]) -> tuple[float, str]:
    """Seconds until the refusal, and its words."""
    began = time.perf_counter()
    try:
        read(path)
    except CsiAuditError as error:
        return time.perf_counter() - began, str(error).replace(str(path.parent), "...")
    return time.perf_counter() - began, ""


def _good_seconds() -> float:
    """Seconds for a good file of 300 users, which is inspected too."""
    with tempfile.TemporaryDirectory() as place:
        good = Path(place) / "good.h5"
        write_channels(good, load_channels(sample_path()).subset(slice(0, 300)))
        began = time.perf_counter()
        load_channels(good)
        seconds = time.perf_counter() - began
        inspect_channels(good)
    return seconds


def main() -> None:
    options = parse_arguments("hostile_files", description=__doc__)
    rows: list[dict[str, Any]] = []
    executed, written, accepted = 0, 0, 0
    _good_seconds()
    first_mib = _resident_mib()
    for name, (make, _) in HOSTILE.items():
        with tempfile.TemporaryDirectory() as place:
            path = make(Path(place))
            before = sorted(p.name for p in path.parent.iterdir())
            seconds, words = _refused(path, load_channels)
            inspected, again = _refused(path, inspect_channels)
            accepted += (not words) + (not again)
            executed += (path.parent / TRAP).exists()
            written += sorted(p.name for p in path.parent.iterdir()) != before
        rows.append(
            {
                "file": name,
                "seconds": round(seconds, 4),
                "inspect_seconds": round(inspected, 4),
                "peak_mib": round(_peak_mib() - first_mib, 1),
                "refusal": words,
            }
        )
    growth = _peak_mib() - first_mib
    slowest = max(max(row["seconds"], row["inspect_seconds"]) for row in rows)
    rows.append({"file": "good, 300 users", "seconds": round(_good_seconds(), 4)})
    checks = [
        check("slowest_refusal_s", slowest, relation="<=", limit=LIMIT_SECONDS),
        check("largest_memory_growth_mib", growth, relation="<=", limit=LIMIT_MIB),
        check("files_accepted", accepted, relation="<=", limit=0),
        check("files_that_ran_code", executed, relation="<=", limit=0),
        check("files_that_wrote_something", written, relation="<=", limit=0),
    ]
    write_result(options, sizes={"files": len(HOSTILE)}, rows=rows, checks=checks, data="hostile")


if __name__ == "__main__":
    main()
