"""`csi-audit harden`: the way back from failures to a better compressor.

Draws importance samples of the channels a compressor does badly on, fine-tunes it on a mix, and
measures before and after on users that neither training nor selection saw.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from channels.channel_set import ChannelSet, audit_space
from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from compressors.loading import NamedCompressor, load_compressor
from compressors.neural import CompressorNetwork
from compressors.plans import Plan
from compressors.weight_mixing import own_nmse
from csi_audit.auditing import SAMPLES_NAME
from csi_audit.base import load_base
from csi_audit.comparison_runs import finished_run
from csi_audit.devices import set_threads, torch_device
from csi_audit.hardening_settings import HardenConfig
from csi_audit.hardening_variants import VariantDraw, draw_variants, kept_badness
from csi_audit.kept_out import drops_kept_out
from csi_audit.printing import say, show_table
from csi_audit.run_state import read_arrays
from reports.hardening import HardeningResult, hardening_changes, hardening_verdict
from reports.words import number

LEAST_KEPT = 0.5
"""Of what makes users bad; variants that keep less are told of."""


def harden(settings: HardenConfig) -> None:
    """Harden a compressor and show what it changed."""
    set_threads(settings.threads)
    console = Console()
    result = hardened(settings, console=console)
    show_table(console, hardening_table(result))
    for note in result.notes:
        say(console, f"Note: {note}")
    say(console, result.sentence)
    say(console, f"Compressor: {(hardening_folder(settings) / 'compressor.safetensors').resolve()}")


def hardening_folder(settings: HardenConfig) -> Path:
    """Training directory: `out`, or runs/<compressor>-hardened."""
    if settings.out is not None:
        return Path(settings.out)
    stem = Path(settings.compressor).stem
    name = Path(settings.compressor).parent.name if stem == "compressor" else stem
    return Path("runs") / f"{name}-hardened"


def hardened(settings: HardenConfig, *, console: Console | None = None) -> HardeningResult:
    """Fine-tune, measure on held-out users, write weights and `harden.json`.

    Raises:
        CsiAuditError: no network of the zoo, channels of another shape, or bad settings.
    """
    from compressors.hardening_training import HardeningRecipe, harden_network, zoo_network

    torch_device(settings.device)
    folder = hardening_folder(settings)
    training, validation, holdout = _users(settings)
    x = audit_space(training)
    named = load_compressor(settings.compressor, channels=x)
    before, _ = zoo_network(named)
    _same_shape(named, x)
    recipe = HardeningRecipe(
        plan=_plan(settings),
        power=settings.power,
        mix=settings.mix,
        flip=training.grid.is_ula,
        most_lost_db=settings.most_lost_db,
    )
    generated = _generated(settings, x, before, f"{training.source.sha256} {named.sha256}", console)
    path = harden_network(
        named,
        x,
        audit_space(validation),
        x_q=generated.x,
        folder=folder,
        recipe=recipe,
        described=_described(training, validation, holdout, generated.described),
        device=settings.device,
    )
    after = load_compressor(str(path)).compressor
    if not isinstance(after, CompressorNetwork):
        raise TypeError("weights of csi-audit load as a CompressorNetwork")
    x_holdout = audit_space(holdout)
    changes = hardening_changes(
        *(np.asarray(own_nmse(network, x_holdout)) for network in (before, after))
    )
    verdict, sentence = hardening_verdict(changes)
    result = HardeningResult(
        compressor=named.name,
        users=f"{len(holdout):,} users of {Path(holdout.source.path).name} kept out of training",
        n=len(holdout),
        n_trained=len(x),
        n_importance=recipe.importance_samples(len(x)),
        changes=changes,
        verdict=verdict,
        sentence=sentence,
        notes=_notes(settings, named, training, validation, holdout) + generated.notes,
    )
    result.save(folder)
    return result


def hardening_table(result: HardeningResult) -> Table:
    """Before and after [dB] with paired intervals."""
    table = Table(
        title=Text(f"{result.compressor} on {result.users}, NMSE [dB]"), title_justify="left"
    )
    for head in ("figure", "before", "after", "change", "95 % interval"):
        table.add_column(head, justify="left" if head == "figure" else "right")
    for item in result.changes:
        ends = item.change.interval
        shown = item.change.status if ends is None else f"[{ends[0]:+.3f}, {ends[1]:+.3f}]"
        table.add_row(
            item.quantity,
            number(item.before_db),
            number(item.after_db),
            Text(f"{item.change.value:+.3f}"),
            Text(shown),
        )
    return table


# --- Channels -------------------------------------------------------------------------------------


def _users(settings: HardenConfig) -> tuple[ChannelSet, ChannelSet, ChannelSet]:
    """Training users, those that select weights, those that before and after are measured on."""
    channels = settings.read(settings.data, lazy=False)
    if settings.holdout is not None:
        holdout = settings.read(settings.holdout, lazy=False)
    else:
        channels, holdout = drops_kept_out(channels, seed=settings.seed + 1)
    if settings.validation is not None:
        return channels, settings.read(settings.validation, lazy=False), holdout
    training, validation = drops_kept_out(channels, seed=settings.seed)
    return training, validation, holdout


def _same_shape(named: NamedCompressor, x: Tensor) -> None:
    shape = tuple(named.compressor.convention.event_shape)
    if tuple(x.shape[1:]) != shape:
        raise CsiAuditError(
            f"{named.name} takes channels of {shape}; the data has {tuple(x.shape[1:])}."
        )


@dataclass(frozen=True, kw_only=True)
class _Generated:
    """Importance samples that a base model made: channels, what they are, what to mind."""

    x: Tensor | None = None
    described: Mapping[str, Any] = field(default_factory=lambda: {"importance_samples": None})
    notes: tuple[str, ...] = ()


def _generated(
    settings: HardenConfig,
    x: Tensor,
    before: CompressorNetwork,
    known_by: str,
    console: Console | None,
) -> _Generated:
    """Weighted base samples of a finished run, or new variants of the worst training users."""
    if settings.mix == 0:
        return _Generated()
    if settings.run is not None:
        return _of_run(settings, x, before)
    if settings.variants == 0:
        return _Generated()
    base = load_base(settings.base)
    if tuple(base.event_shape) != tuple(x.shape[1:]):
        raise CsiAuditError(
            f"the base model is for channels of {tuple(base.event_shape)}, the data has "
            f"{tuple(x.shape[1:])}. Train one on such channels (csi-audit fit-base), or take "
            "training users alone: --variants 0."
        )
    draw = VariantDraw(
        n=settings.variants,
        sigma=settings.variant_sigma,
        steps=settings.variant_steps,
        power=settings.power,
        seed=settings.seed,
    )
    if console is not None:
        say(console, f"Making {draw.n:,} variants: {draw.evaluations:,} evaluations")
    error = own_nmse(before, x)
    made = draw_variants(
        base,
        x,
        error,
        draw,
        parent=hardening_folder(settings).parent,
        known_by=known_by,
        device=torch_device(settings.device),
    )
    kept = kept_badness(error, own_nmse(before, made), settings.power)
    note = (
        f"Variants keep only {max(kept, 0.0):.0%} of what makes the drawn users bad: lower "
        "--variant_sigma, or use a base model of these channels (--base)."
    )
    return _Generated(
        x=made,
        described={"importance_samples": {**asdict(draw), "base_sha256": base.sha256}},
        notes=(note,) if kept < LEAST_KEPT else (),
    )


def _of_run(settings: HardenConfig, x: Tensor, before: CompressorNetwork) -> _Generated:
    """As many of a run's base samples as it has, drawn by NMSE^power."""
    run = finished_run(str(settings.run))
    stored = read_arrays(run.folder / SAMPLES_NAME)
    rows = torch.from_numpy(stored["x"][stored["law"] == b"base"].astype(np.float32))
    _fits(rows, x, str(settings.run))
    weight = own_nmse(before, rows).pow(settings.power)
    generator = seeded_generator(settings.seed, "harden", "run")
    drawn = rows[torch.multinomial(weight, len(rows), True, generator=generator)]
    said = {"n": len(rows), "base_sha256": run.result.base.sha256, "seed": run.result.seed}
    return _Generated(x=drawn, described={"importance_samples": said})


def _fits(rows: Tensor, x: Tensor, run: str) -> None:
    if tuple(rows.shape[1:]) != tuple(x.shape[1:]):
        raise CsiAuditError(
            f"{run} holds samples of {tuple(rows.shape[1:])}, the data has {tuple(x.shape[1:])}."
        )


def _plan(settings: HardenConfig) -> Plan:
    return Plan(
        steps=settings.steps,
        block_steps=settings.block_steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        optimizer=settings.optimizer,
        warmup_steps=min(50, settings.steps),
        ema_decay=settings.ema_decay,
        seed=settings.seed,
        precision=settings.precision,
    )


def _described(
    training: ChannelSet,
    validation: ChannelSet,
    holdout: ChannelSet,
    generated: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "data": training.source.identity(),
        "validation": validation.source.identity(),
        "holdout": holdout.source.identity(),
        "users": {
            "train": len(training), "validation": len(validation), "holdout": len(holdout)
        },
        "read_as": training.read_as(),
        **generated,
    }  # fmt: skip


def _notes(
    settings: HardenConfig,
    named: NamedCompressor,
    training: ChannelSet,
    validation: ChannelSet,
    holdout: ChannelSet,
) -> tuple[str, ...]:
    """Where the figures flatter, and where the selection had a poor view."""
    known = {
        sha256
        for use in ("data", "validation")
        if (sha256 := (named.card.get(use) or {}).get("sha256")) is not None
    }
    trained_on = (named.card.get("data") or {}).get("sha256")
    notes = []
    if trained_on is not None and trained_on == training.source.sha256 and not settings.holdout:
        notes.append(
            f"{named.name} was trained on this file, so the users kept out here are known to it: "
            "figures before are flattered. Name other users with --holdout."
        )
    elif holdout.source.sha256 in known:
        notes.append(
            f"{named.name} was trained or selected on {Path(holdout.source.path).name}: figures "
            "before are flattered. Name other users with --holdout."
        )
    if trained_on is not None and trained_on == validation.source.sha256:
        notes.append(
            f"The users that selected weights are known to {named.name}, so little change was "
            "selected. Name other users with --validation."
        )
    if settings.holdout is not None and validation.source.sha256 == holdout.source.sha256:
        notes.append(
            "The same users selected weights and measured them: figures after are flattered. Name "
            "other users with --holdout or --validation."
        )
    return tuple(notes)
