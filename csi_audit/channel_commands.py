"""Commands on channel files alone: they call `channels` and `reports`, and print.

Those that audit or train are in `commands`.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from channels.channel_set import ChannelSet
from channels.generation import SimulatedCell, generate_channels
from channels.inspection import Inspection, inspect_channels
from channels.opened import ReadOptions
from channels.run_folder import leftovers
from channels.support import CsiAuditError, check_target
from channels.writers import write_channels
from csi_audit.configs import ConvertConfig, GenerateConfig, InspectConfig
from csi_audit.devices import torch_device
from csi_audit.printing import say, say_notices
from reports.inspection_page import inspection_sentence, write_inspection
from reports.inspection_words import (
    TONES,
    facts,
    feature_rows,
    figure_text,
    file_names,
    pair_warnings,
    shift_sentence,
    shifts,
)
from reports.tables import Tone

_STYLES: Mapping[Tone, str] = {"": "", "good": "green", "bad": "red", "unsure": "yellow"}


def inspect(settings: InspectConfig) -> None:
    """Say what channel files hold, what looks wrong, and how far they lie from the first."""
    _check_page(settings)
    console = Console()
    found = [_inspected(console, path, settings) for path in settings.data]
    names = file_names(found)
    for name, inspection in zip(names, found, strict=True):
        _show(console, name, inspection)
    for name, inspection in zip(names[1:], found[1:], strict=True):
        _compare(console, (names[0], name), found[0], inspection)
    if settings.html is None:
        say(console, "Maps and distributions come as a page with --html inspection.html")
    else:
        say(console, f"Page: {write_inspection(found, settings.html).resolve()}")


def _check_page(settings: InspectConfig) -> None:
    """Refuse, before any work, a page that could not be written or would replace its own data."""
    if settings.html is None:
        return
    page = Path(settings.html)
    check_target(page)
    if any(page.resolve() == Path(path).resolve() for path in settings.data):
        raise CsiAuditError(f"html must not be one of the channel files; got {page}.")


def _inspected(console: Console, path: str, settings: InspectConfig) -> Inspection:
    """One file, with a bar on a terminal."""
    names = [field.name for field in fields(ReadOptions)]
    told = {name: getattr(settings, name) for name in names if hasattr(settings, name)}
    with _bar_of_users(console, Path(path).name) as progress:
        return inspect_channels(
            path,
            options=ReadOptions(**told),
            panel=settings.panel,
            seed=settings.seed,
            progress=progress,
        )


@contextmanager
def _bar_of_users(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar to tell of users done and users in all; shown on a terminal alone."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} users"),
        TimeRemainingColumn(),
    )
    silent = not console.is_terminal
    with Progress(*columns, console=console, transient=True, disable=silent) as bar:
        task = bar.add_task(what, total=None, visible=False)
        yield lambda done, n: bar.update(task, completed=done, total=n, visible=True)


def _show(console: Console, name: str, inspection: Inspection) -> None:
    table = Table(title=Text(inspection.source.path), show_header=False, title_justify="left")
    table.add_column()
    table.add_column(overflow="fold")
    for fact, value in facts(inspection):
        table.add_row(fact, Text(value))
    console.print(table)
    shown = Table("feature", "unit", "1 %", "median", "99 %")
    for row in feature_rows(inspection):
        ranks = (figure_text(value) for value in (row.low, row.median, row.high))
        shown.add_row(row.label, row.unit or "1", *ranks)
    console.print(shown)
    for notice in inspection.source.notices:
        say(console, f"Note: {notice}")
    say(console, inspection_sentence(name, inspection))
    _warn(console, inspection.warnings)
    speed = f"{inspection.users_per_second:,.0f} users/s"
    say(console, f"{inspection.n:,} users in {inspection.seconds:.1f} s, {speed}.")


def _compare(
    console: Console, names: tuple[str, str], first: Inspection, other: Inspection
) -> None:
    rows = shifts(first, other)
    table = Table(title=Text(f"{names[1]} against {names[0]}"), title_justify="left")
    heads = ("quantity", "unit", "median", "there", "KS", "chance: mean", "95 %", "verdict")
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if 2 <= i < 7 else "left")
    for row in rows:
        table.add_row(
            row.label,
            row.unit or "1",
            figure_text(row.first),
            figure_text(row.second),
            *(f"{value:.3f}" for value in (row.ks, row.floor_mean, row.floor_95)),
            Text(row.verdict, style=_STYLES[TONES[row.verdict]]),
        )
    console.print(table)
    say(console, shift_sentence(names, rows))
    _warn(console, pair_warnings(names, first, other))


def _warn(console: Console, warnings: Sequence[str]) -> None:
    for warning in warnings:
        console.print(Text(f"Warning: {warning}", style="yellow"), soft_wrap=True)


def convert(settings: ConvertConfig) -> None:
    """Write the channels of any readable file as compact HDF5."""
    console, out = Console(), _target(settings.out)
    if out.exists() and Path(settings.data).exists() and out.samefile(settings.data):
        raise CsiAuditError(f"out must not be the file that is read; got {out} for both.")
    channels = settings.read(settings.data)
    say_notices(console, channels)
    source = channels.source
    origin = {f"converted_from_{k}": v for k, v in source.identity().items() if v}
    origin["converted_as"] = source.format
    origin["converted_notices"] = " ".join(source.notices)
    with _bar_of_users(console, out.name) as progress:
        write_channels(
            out,
            channels,
            attributes=origin,
            gzip_level=settings.gzip_level,
            precision=settings.precision,
            progress=progress,
        )
    _wrote(console, out, channels)


def generate(settings: GenerateConfig) -> None:
    """Simulate channels by TR 38.901 and write them as compact HDF5."""
    console, out = Console(), _target(settings.out)
    with _bar_of_users(console, settings.model) as progress:
        channels = generate_channels(
            settings,
            n=settings.n,
            seed=settings.seed,
            device=torch_device(settings.device),
            progress=progress,
        )
    say_notices(console, channels)
    made = {f"generated_{f.name}": str(getattr(settings, f.name)) for f in fields(SimulatedCell)}
    made |= {"generator": channels.source.format, "generated_seed": str(settings.seed)}
    write_channels(out, channels, attributes=made)
    _wrote(console, out, channels)


def _target(path: str) -> Path:
    """The file to write, refused before the work if it cannot be; what killed processes left of
    it goes."""
    out = Path(path)
    check_target(out)
    for leftover in leftovers(out.parent):
        if leftover.name.startswith(f".{out.name}."):
            leftover.unlink(missing_ok=True)
    return out


def _wrote(console: Console, out: Path, channels: ChannelSet) -> None:
    size = out.stat().st_size / 1e6
    say(
        console,
        f"{len(channels):,} users, {channels.n_rx} x {channels.n_tx} antennas, {channels.n_sub} "
        f"subcarriers, {size:.1f} MB: {out.resolve()}",
    )
