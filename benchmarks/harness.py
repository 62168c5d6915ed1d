"""What every benchmark shares: its options, its verdicts, and `benchmarks/results/NAME.json`.

A benchmark reads its options with `parse_arguments`, measures, states each target as a `check`, and
hands rows and checks to `write_result`. Nothing here measures anything.
"""

import argparse
import csv
import json
import shlex
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from benchmarks.checks import Check, check
from benchmarks.surroundings import ROOT, commit, machine, versions
from channels.sample import sample_path
from channels.support import write_text_atomic
from reports.plain import to_plain

__all__ = [
    "Options",
    "check",
    "machine",
    "parse_arguments",
    "print_result",
    "versions",
    "write_result",
]

RESULTS = ROOT / "benchmarks" / "results"
LEDGER = "test_ledger.csv"
SPLIT_FILES = {"train": "umi_train.h5", "val": "umi_val.mat", "test": "umi_test.h5"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of one benchmark run, as `parse_arguments` read them.

    Args:
        name: Name of the benchmark and of its result file.
        command: The command line that repeats the run.
        data_dir: Folder of the real channels; None means the bundled sample.
        split: Split that the figures are computed on, "val" or "test".
        seed: Seed of every generator.
        threads: Torch threads.
        out: Result file.
        own: The benchmark's own options.
        started: Clock at the start, `time.perf_counter()` [s].
    """

    name: str
    command: str
    data_dir: Path | None
    split: str
    seed: int
    threads: int
    out: Path
    own: argparse.Namespace = field(default_factory=argparse.Namespace)
    started: float = field(default_factory=time.perf_counter)

    @property
    def data_label(self) -> str:
        """What the rows were computed on: the split, or "bundled sample"."""
        return "bundled sample" if self.data_dir is None else self.split

    def channels_path(self, split: str | None = None) -> Path:
        """File of real channels: that of `split`, by default the split of this run.

        Without a data folder it is the bundled sample, but never to train on.

        Raises:
            ValueError: the split is unknown, "test" outside a run with `--split test`, or "train"
                without a data folder.
        """
        wanted = self.split if split is None else split
        if wanted not in SPLIT_FILES:
            raise ValueError(f"split must be one of {sorted(SPLIT_FILES)}; got {wanted!r}.")
        if wanted == "test" and self.split != "test":
            raise ValueError(
                "split must be 'train' or 'val' here; got 'test'. "
                "Runs on the test split are entered in the ledger: start with --split test."
            )
        if self.data_dir is None and wanted == "train":
            raise ValueError(
                "training needs --data-dir: the bundled sample is of the test split, "
                "for reporting only."
            )
        if self.data_dir is None:
            return sample_path()
        return self.data_dir / SPLIT_FILES[wanted]


def parse_arguments(
    name: str,
    *,
    description: str | None = None,
    add_own: Callable[[argparse.ArgumentParser], object] | None = None,
    argv: Sequence[str] | None = None,
) -> Options:
    """Read the options every benchmark has, and its own; set the number of torch threads.

    A run on the test split is entered in the ledger at once, finished or not.

    Args:
        name: Name of the benchmark, as in `python -m benchmarks.NAME`.
        description: A line for `--help`.
        add_own: Adds the benchmark's own options to the parser.
        argv: Arguments; by default those of the process.
    """
    parser = _parser(name, description)
    if add_own is not None:
        add_own(parser)
    arguments = list(sys.argv[1:] if argv is None else argv)
    values = vars(parser.parse_args(arguments))
    data_dir, out = values.pop("data_dir"), values.pop("out")
    if data_dir is None:
        data_dir = _default_data_dir()
    elif not data_dir.is_dir():
        parser.error(f"--data-dir must be a folder; got {data_dir}. Leave it out for the sample.")
    shared = {key: values.pop(key) for key in ("split", "seed", "threads")}
    options = Options(
        name=name,
        command=shlex.join(["python", "-m", f"benchmarks.{name}", *arguments]),
        data_dir=data_dir,
        out=out or RESULTS / f"{name}.json",
        own=argparse.Namespace(**values),
        **shared,
    )
    torch.set_num_threads(options.threads)
    if data_dir is None:
        print("No real channels at hand: every row comes from the bundled sample and says so.")
    if options.split == "test":
        _enter_in_ledger(options)
    return options


def write_result(
    options: Options,
    *,
    sizes: Mapping[str, Any],
    rows: Sequence[Mapping[str, Any]],
    checks: Sequence[Check],
    data: str | None = None,
) -> Path:
    """Write the result file, whole or not at all, and print its rows and verdicts.

    Every row gets a key `data`: the split, or "bundled sample", or what the benchmark made itself.

    Args:
        options: Options of this run.
        sizes: Sample sizes and step counts, by name.
        rows: The figures, one mapping a row.
        checks: The targets.
        data: What the rows were computed on, if not on the channels of the options.
    Returns:
        The path of the file.
    Raises:
        ValueError: two checks share an id, or a figure is NaN, infinite or no JSON type.
        channels.CsiAuditError: the file cannot be written.
    """
    ids = [item.id for item in checks]
    if len(set(ids)) < len(ids):
        raise ValueError(f"checks must have ids of their own; got {ids}.")
    label = {"data": options.data_label if data is None else data}
    labelled = [{**label, **row, **label} for row in rows]  # first in order, and no row's own
    record = {
        "name": options.name,
        "command": options.command,
        "seed": options.seed,
        "sizes": sizes,
        "machine": machine(),
        "versions": versions(),
        "seconds": round(time.perf_counter() - options.started, 1),
        "rows": labelled,
        "checks": checks,
    }
    text = json.dumps(to_plain(record, options.name), indent=1, ensure_ascii=False) + "\n"
    options.out.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomic(options.out, text)
    print_result(options.name, rows=labelled, checks=checks)
    return options.out


def print_result(title: str, *, rows: Sequence[Mapping[str, Any]], checks: Sequence[Check]) -> None:
    """Print rows and verdicts as tables: one of the targets, one of each "part" that rows name."""
    console = Console()
    if not console.is_terminal:  # a log file has no width that a table must keep
        console = Console(width=200)
    for part in dict.fromkeys(row.get("part") for row in rows):
        mine = [{k: v for k, v in row.items() if k != "part"}
                for row in rows if row.get("part") == part]  # fmt: skip
        console.print(_table(title if part is None else f"{title}: {part}", mine))
    if checks:
        console.print(_table("targets", [_check_row(item) for item in checks]))


def _parser(name: str, description: str | None) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=f"python -m benchmarks.{name}", description=description)
    parser.add_argument(
        "--data-dir",
        type=Path,
        help="folder of the real channels (default: ../shared/data beside the repository; "
        "without it the bundled sample)",
    )
    parser.add_argument(
        "--split",
        choices=("val", "test"),
        default="val",
        help="test is for reporting only and is entered in the ledger (default: val)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of every generator (default: 0)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (default: 1)")
    parser.add_argument(
        "--out", type=Path, help=f"result file (default: benchmarks/results/{name}.json)"
    )
    return parser


def _default_data_dir() -> Path | None:
    folder = ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def _enter_in_ledger(options: Options) -> None:
    """Append date, benchmark, commit and command to the ledger beside the bundled results."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    ledger = RESULTS / LEDGER
    is_new = not ledger.exists()
    now = datetime.now(UTC).isoformat(timespec="seconds")
    with ledger.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        if is_new:
            writer.writerow(["utc", "benchmark", "commit", "command"])
        writer.writerow([now, options.name, commit(), options.command])


def _table(title: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    """Table whose columns are the keys of all rows in order of appearance, nested ones left out."""
    table = Table(title=title, title_justify="left")
    nested = {key for row in rows for key, value in row.items() if isinstance(value, Mapping)}
    columns = [key for key in dict.fromkeys(k for row in rows for k in row) if key not in nested]
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text(_shown(row.get(column))) for column in columns))
    return table


def _check_row(item: Check) -> dict[str, Any]:
    return {
        "target": item.id,
        "value": item.value,
        "interval": item.interval,
        "wanted": f"{item.relation} {item.limit:.4g}",
        "perfect model": item.floor,
        "verdict": item.verdict,
    }


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    return str(value)
