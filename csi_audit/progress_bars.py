"""Bars of denoiser evaluations, a part of the work each, for commands."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from csi_audit.printing import say


@contextmanager
def denoising_bars(console: Console, opening: str) -> Iterator[Callable[[str, int, int], None]]:
    """What is told (part, evaluations made, total) and shows it.

    The first call prints `opening` and starts the bars: until then bad input may be refused, in a
    line of its own.
    """
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} denoiser evaluations"),
        TimeRemainingColumn(),
    )
    bar, tasks = Progress(*columns, console=console), dict[str, TaskID]()

    def told(what: str, made: int, total: int) -> None:
        if not tasks:
            say(console, opening)
            bar.start()
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=made, total=total)

    try:
        yield told
    finally:
        if bar.live.is_started:
            bar.stop()
