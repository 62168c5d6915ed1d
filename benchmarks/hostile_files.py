"""How long does a hostile file keep a reader busy, and does anything of it run or appear?

Every file of `benchmarks.hostile` is given to `load_channels` in this process. The named
alternative is a good file of 300 users.

    python -m benchmarks.hostile_files
"""

import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import check, parse_arguments, write_result
from benchmarks.hostile import HOSTILE, TRAP
from channels import CsiAuditError, load_channels, write_channels
from channels.sample import sample_path

LIMIT_SECONDS = 1.0


def _refused(path: Path) -> tuple[float, str]:
    """Seconds until the refusal, and its words."""
    began = time.perf_counter()
    try:
        load_channels(path)
    except CsiAuditError as error:
        return time.perf_counter() - began, str(error).replace(str(path.parent), "...")
    return time.perf_counter() - began, ""


def main() -> None:
    options = parse_arguments("hostile_files", description=__doc__)
    rows: list[dict[str, Any]] = []
    executed, written = 0, 0
    for name, (make, _) in HOSTILE.items():
        with tempfile.TemporaryDirectory() as place:
            path = make(Path(place))
            before = sorted(p.name for p in path.parent.iterdir())
            seconds, words = _refused(path)
            executed += (path.parent / TRAP).exists()
            written += sorted(p.name for p in path.parent.iterdir()) != before
        rows.append({"file": name, "seconds": round(seconds, 4), "refusal": words})
    with tempfile.TemporaryDirectory() as place:
        good = Path(place) / "good.h5"
        write_channels(good, load_channels(sample_path()).subset(slice(0, 300)))
        began = time.perf_counter()
        load_channels(good)
        rows.append({"file": "good, 300 users", "seconds": round(time.perf_counter() - began, 4)})
    slowest = max(row["seconds"] for row in rows[:-1])
    accepted = sum(not row["refusal"] for row in rows[:-1])
    checks = [
        check("slowest_refusal_s", slowest, relation="<=", limit=LIMIT_SECONDS),
        check("files_accepted", accepted, relation="<=", limit=0),
        check("files_that_ran_code", executed, relation="<=", limit=0),
        check("files_that_wrote_something", written, relation="<=", limit=0),
    ]
    write_result(options, sizes={"files": len(HOSTILE)}, rows=rows, checks=checks, data="hostile")


if __name__ == "__main__":
    main()
