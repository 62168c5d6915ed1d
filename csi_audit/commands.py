"""What each command does once its settings are read: it calls the library and prints.

Heavy modules are imported inside the commands that need them.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from channels.channel_set import ChannelSet
from channels.run_folder import AnotherConfigError
from channels.sample import sample_path
from channels.support import CsiAuditError
from compressors.linear_reference import klt_beside
from compressors.loading import bundled_compressors
from compressors.plans import COMPRESSOR_PLAN, Plan
from compressors.zoo import CompressorSpec
from csi_audit.auditing import audit, run_directory
from csi_audit.base import Base, base_name, load_base
from csi_audit.base_drawing import Progress as AuditProgress
from csi_audit.base_users import BaseDraw, draw_base_users, tenth_kept_out
from csi_audit.configs import (
    DemoConfig,
    FitCompressorConfig,
    ReportConfig,
    RunConfig,
    TrainingForm,
)
from csi_audit.devices import set_threads, torch_device
from csi_audit.kept_out import drops_kept_out
from csi_audit.network_audit import TRAINING, audit_network, network_run_directory
from csi_audit.network_printing import show_network
from csi_audit.network_settings import NetworkRunConfig
from csi_audit.printing import say, say_both, show_table
from csi_audit.report_formats import write_formats, write_report_again
from reports.mode_words import mode_line
from reports.schema import Result
from reports.tables import summary_table
from reports.words import answer

DEMO_ISSGM = "klt-16"
DEMO_SIZE = "-16"  # of one code length, so that they may be compared


def demo(settings: DemoConfig) -> None:
    """Audit the bundled compressors of ratio 16 on the bundled real channels."""
    config = RunConfig(
        data=str(sample_path()),
        compressor=tuple(n for n in bundled_compressors() if n.endswith(DEMO_SIZE)),
        out=settings.out,
        issgm=DEMO_ISSGM,
        tail_method="counting",  # minutes on a laptop, whatever the base samples show
        mean_method="reweighting",
        seed=settings.seed,
        device=settings.device,
        threads=settings.threads,
    )
    try:
        run(config)
    except AnotherConfigError:
        aside = _set_aside(Path(settings.out))
        print(f"{settings.out} is of another version or seed: moved to {aside}.")
        run(config)


def _set_aside(folder: Path) -> Path:
    """Rename a run directory by the time of its last change, so that nothing in it is lost."""
    stamp = datetime.fromtimestamp(folder.stat().st_mtime, UTC).strftime("%Y%m%dT%H%M%SZ")
    return folder.rename(folder.with_name(f"{folder.name}-{stamp}"))


def run(settings: RunConfig | NetworkRunConfig) -> None:
    """Audit compressors on a channel file, or a cell network, and show the summary."""
    set_threads(settings.threads)
    console = Console()
    folder = _folder(settings)
    finished = (folder / "report.html").is_file()
    began = time.monotonic()
    with _progress(console) as bar:
        told = _teller(console, bar, folder)
        result = _audited(replace(settings, out=str(folder)), told)
    show = _show if result.network is None else show_network
    show(console, result)
    seconds = time.monotonic() - began
    if finished:
        say(console, f"This audit was finished before; remove {folder} to make it again.")
    else:
        say(console, f"{result.cost.denoiser_evaluations:,} denoiser evaluations; {seconds:.0f} s.")
    say(console, f"Report: {(folder / 'report.html').resolve()}")


def _teller(console: Console, bar: Progress, folder: Path) -> AuditProgress:
    """Shows the steps of an audit: where it is written, then a bar a step."""
    tasks: dict[str, TaskID] = {}
    said: set[str] = set()

    def told(what: str, made: int, total: int) -> None:
        if not said:  # bad input has been refused by now, in a line of its own
            say(console, f"Run directory {folder}; if interrupted, go on with --out {folder}")
        said.add(what)
        if what == TRAINING:
            say(console, "A base law of placements is trained first.")
            return
        if not tasks:
            bar.start()
        if what not in tasks:
            tasks[what] = bar.add_task(what, total=total)
        bar.update(tasks[what], completed=made, total=total)

    return told


def _folder(settings: RunConfig | NetworkRunConfig) -> Path:
    """The run directory, asked for once: a default one is named by the time."""
    if isinstance(settings, NetworkRunConfig):
        return network_run_directory(settings)
    return run_directory(settings)


def _audited(settings: RunConfig | NetworkRunConfig, told: AuditProgress) -> Result:
    if isinstance(settings, NetworkRunConfig):
        return audit_network(settings, progress=told)
    return audit(settings, progress=told)


def _show(console: Console, result: Result) -> None:
    for notice in result.data.notices:
        say(console, f"Note: {notice}")
    for sentence in answer(result):
        console.print(sentence, markup=False, highlight=False)
    show_table(console, summary_table(result))
    for row in result.compressors:
        if line := mode_line(row):
            say(console, line)


@contextmanager
def _progress(console: Console) -> Iterator[Progress]:
    """Bars of denoiser evaluations; started by the first of them."""
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f}/{task.total:,.0f} denoiser evaluations"),
        TimeRemainingColumn(),
    )
    bar = Progress(*columns, console=console)
    try:
        yield bar
    finally:
        if bar.live.is_started:
            bar.stop()


def fit_neural_compressor(settings: FitCompressorConfig) -> None:
    """Train compressors, one after the other; each goes on where an interrupted training was."""
    set_threads(settings.threads)
    torch_device(settings.device)
    console = Console()
    channels, validation = _compressor_users(console, settings)
    say_both(console, channels, validation)
    folders = settings.folders()
    cards: dict[str, dict[str, Any]] = {}
    failed: dict[str, Exception] = {}
    for form, folder in folders.items():
        name = form.name
        if len(folders) > 1:
            say(console, f"{name} ({len(cards) + len(failed) + 1} of {len(folders)})")
        try:
            cards[name] = _fit_one(form, folder, channels, validation, settings)
        except (CsiAuditError, RuntimeError, MemoryError) as error:
            if len(folders) == 1:
                raise
            failed[name] = error
            say(console, f"{name} failed: {error}")
    if len(folders) > 1:
        show_table(console, _compressor_table(cards, failed))
    if failed:
        raise CsiAuditError(
            f"{len(failed)} of {len(folders)} trainings failed: {', '.join(failed)}. The others "
            "are done; the same command tries these again."
        ) from next(iter(failed.values()))


def _compressor_users(
    console: Console, settings: FitCompressorConfig
) -> tuple[ChannelSet, ChannelSet]:
    """Training and validation users; a form that cannot be built of them is refused at once."""
    if not settings.on_base:
        channels, validation = _split(settings)
        _, n_rx, n_tx, n_sub = channels.h.shape
        _check_forms(settings, (2 * n_rx, n_tx, n_sub))
        return channels, validation
    base = load_base(settings.base)
    channel, n_tx, n_delay = base.event_shape
    _check_forms(settings, (channel, n_tx, n_delay))  # before minutes of drawing
    users = _drawn_users(console, settings, base)
    if settings.validation is not None:
        return users, settings.read(settings.validation)
    return tenth_kept_out(users)


def _check_forms(settings: FitCompressorConfig, event_shape: tuple[int, int, int]) -> None:
    for form in settings.folders():
        if form.ratio is not None:
            CompressorSpec.for_ratio(form.arch, form.ratio, event_shape=event_shape)


def _drawn_users(console: Console, settings: FitCompressorConfig, base: Base) -> ChannelSet:
    """Samples of the base model with a bar; those of an earlier call are read."""
    draw = BaseDraw(n=settings.base_samples, steps=settings.base_steps, seed=settings.seed)
    with _progress(console) as bar:
        task = bar.add_task("base samples", total=draw.evaluations)
        bar.start()
        users = draw_base_users(
            base,
            draw,
            parent=settings.parent,
            name=base_name(settings.base),
            device=torch_device(settings.device),
            progress=lambda made: bar.update(task, completed=made),
        )
    say(console, f"Base samples are kept in {draw.folder(settings.parent, base)}")
    return users


def _fit_one(
    form: TrainingForm,
    folder: Path,
    channels: ChannelSet,
    validation: ChannelSet,
    settings: FitCompressorConfig,
) -> dict[str, Any]:
    """Train one compressor and say what came out; returns its card."""
    from compressors.compressor_training import CompressorRecipe, fit_compressor
    from compressors.loading import load_compressor

    plan = _plan(settings)
    plan = replace(plan, precision=settings.precision, ema_decay=settings.ema_decay)
    size = {"bits": form.bits} if form.ratio is None else {"ratio": form.ratio}
    recipe = CompressorRecipe(arch=form.arch, plan=plan, **size)
    path = fit_compressor(
        channels, validation, folder=folder, recipe=recipe, device=settings.device
    )
    card = load_compressor(str(path)).card
    curve = card.get("curve", [])
    for passes, nmse_db in curve[:: max(1, len(curve) // 10)]:
        print(f"{passes:>12,} sample passes: validation NMSE {nmse_db:.2f} dB")
    beside = klt_beside(card)
    reference = "" if beside is None else f"; {beside[0]} {beside[1]:.2f} dB"
    print(f"Validation NMSE {card['validation_nmse_db']:.2f} dB{reference}.")
    print(f"Compressor: {path.resolve()}")
    return card


def _compressor_table(cards: dict[str, dict[str, Any]], failed: dict[str, Exception]) -> Table:
    """What came of each training, beside the KLT of equal code length or of equal bits."""
    table = Table(title=Text("validation NMSE [dB]"), title_justify="left")
    table.add_column("compressor", overflow="fold")
    for head in ("code numbers", "bits", "parameters", "NMSE", "KLT", "difference"):
        table.add_column(head, justify="right")
    table.add_column("compared with")
    for name, card in cards.items():
        own, beside, bits = card["validation_nmse_db"], klt_beside(card), card.get("bits")
        row = [f"{card['compressor']['n_code']:,}", "-" if bits is None else f"{bits:,}"]
        row += [f"{card['parameters']:,}", f"{own:.2f}"]
        if beside is None:
            row += ["-", "-", "-"]
        else:
            row += [f"{beside[1]:.2f}", f"{own - beside[1]:+.2f}", beside[0]]
        table.add_row(Text(name), *row)
    for name in failed:
        table.add_row(Text(name), "failed")
    return table


def _plan(settings: FitCompressorConfig) -> Plan:
    """The default plan with the command's settings."""
    return replace(
        COMPRESSOR_PLAN,
        steps=settings.steps,
        block_steps=settings.block_steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=settings.seed,
    )


def _split(settings: FitCompressorConfig) -> tuple[ChannelSet, ChannelSet]:
    """Training and validation users."""
    channels = settings.read(settings.data)
    if settings.validation is not None:
        return channels, settings.read(settings.validation)
    return drops_kept_out(channels, seed=settings.seed)


def report(settings: ReportConfig) -> None:
    """Write the report of a finished run again, and in other forms where they are asked for."""
    print(f"Report: {write_report_again(settings.run).resolve()}")
    for path in write_formats(settings.run, settings.format, width_in=settings.width_in):
        print(f"Written: {path.resolve()}")
