"""`csi-audit fit-base`: reads the users, chooses sizes, trains, says what came out.

Training lives in csi_audit.base_training and csi_audit.adaptation_training, which load lightning
and so are imported here late.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text

from channels.channel_set import ChannelSet
from channels.unions import JoinedSource
from compressors.plans import Plan
from csi_audit.base import Base, load_base
from csi_audit.base_settings import FitBaseConfig
from csi_audit.base_sizes import BaseSizes, choose_sizes
from csi_audit.configs import BASE_PLAN
from csi_audit.devices import is_first_process, set_threads, torch_device
from csi_audit.kept_out import drops_kept_out
from csi_audit.printing import say, say_both, show_table

if TYPE_CHECKING:  # lightning is loaded by trainings alone
    from csi_audit.adaptation_training import HeldFigures


def fit_base_model(settings: FitBaseConfig) -> None:
    """Train a base model; goes on where an interrupted training was."""
    from csi_audit import base_training

    set_threads(settings.threads)
    torch_device(settings.device)  # refuses a device that is not here
    console = Console(quiet=not is_first_process())
    channels, validation = _users(settings)
    say_both(console, channels, validation)
    _say_split(console, channels, validation, kept_out=not settings.validation)
    start = None if settings.adapt is None else load_base(settings.adapt)
    sizes = _sizes(settings, channels, start)
    say(console, sizes.words)
    recipe = base_training.BaseRecipe(
        network=sizes.network,
        plan=_plan(settings, sizes),
        weighting=settings.weighting,
        patience=settings.patience,
        fidelity_samples=settings.fidelity_samples,
        contrast_samples=settings.contrast_samples,
    )
    where: dict[str, Any] = {"device": settings.device, "devices": settings.devices}
    if start is None:
        base = base_training.fit_base(
            channels, validation, folder=settings.out, recipe=recipe, **where
        )
    else:
        from csi_audit import adaptation_training

        base, figures = adaptation_training.adapt_base(
            channels,
            validation,
            start=start,
            folder=settings.out,
            recipe=recipe,
            scratch=settings.scratch,
            learning_rate=settings.learning_rate,
            **where,
        )
        if is_first_process():  # off a terminal a table has a console of its own
            show_table(console, adaptation_table(figures))
    _say_result(console, base)
    say(console, f"Base model: {(Path(settings.out) / 'base.safetensors').resolve()}")


def adaptation_table(figures: "Sequence[HeldFigures]") -> Table:
    """Bases side by side on the validation users, with the steps that each was trained."""
    title = Text("On the validation users, that selected the weights")
    table = Table(title=title, title_justify="left")
    ks_heads = ("KS of the distortion", "mean KS of the features")
    for head in ("base", "steps taken", "validation loss", *ks_heads):
        table.add_column(head, justify="left" if head == "base" else "right")
    for row in figures:
        ks = row.fidelity
        shown = ("-", "-") if ks is None else (f"{ks.distortion:.3f}", f"{ks.features:.3f}")
        steps = "-" if row.steps is None else f"{row.steps:,}"
        table.add_row(Text(row.name), steps, f"{row.validation_loss:.4f}", *shown)
    return table


def _users(settings: FitBaseConfig) -> tuple[ChannelSet, ChannelSet]:
    """Training and validation users."""
    channels = settings.read_all(settings.data)
    if settings.validation:
        return channels, settings.read_all(settings.validation)
    return drops_kept_out(channels, seed=settings.seed)


def _say_split(
    console: Console, channels: ChannelSet, validation: ChannelSet, *, kept_out: bool
) -> None:
    if isinstance(channels.source, JoinedSource):
        say(console, f"One model of {len(channels.source.parts)} files, each user counting alike.")
    if not kept_out:
        return
    whole = _drops_apart(channels, validation)
    drops = f", {whole} whole drop{'s' if whole > 1 else ''}," if whole else ""
    say(console, f"{len(validation):,} users{drops} are kept out for validation.")


def _drops_apart(channels: ChannelSet, validation: ChannelSet) -> int:
    """Number of drops kept out whole; 0 where users of one drop are on both sides."""
    if channels.drops is None or validation.drops is None:
        return 0
    held = validation.drops.unique()
    return 0 if bool(torch.isin(held, channels.drops).any()) else len(held)


def _sizes(settings: FitBaseConfig, channels: ChannelSet, start: Base | None) -> BaseSizes:
    _, n_rx, n_tx, n_sub = channels.h.shape
    return choose_sizes(
        len(channels),
        (2 * n_rx, n_tx, n_sub),
        default=BASE_PLAN,
        network=settings.network if start is None else start.network,
        steps=settings.steps,
        block_steps=settings.block_steps,
        batch_size=settings.batch_size,
        devices=settings.devices,
    )


def _plan(settings: FitBaseConfig, sizes: BaseSizes) -> Plan:
    """The chosen plan with the other settings of the command."""
    rate = sizes.plan.learning_rate if settings.learning_rate is None else settings.learning_rate
    return replace(
        sizes.plan,
        learning_rate=rate,
        optimizer=settings.optimizer,
        precision=settings.precision,
        seed=settings.seed,
    )


def _say_result(console: Console, base: Base) -> None:
    card = base.card
    if card["last_step"] < card["plan"]["steps"]:
        say(
            console,
            f"Stopped after step {card['last_step']:,}: the validation loss had risen for "
            f"{card['patience']} blocks. The weights are those of step {card['selected_step']:,}.",
        )
    say(console, f"Validation loss {card['validation_loss']:.4f} (1 = Wiener filter).")
    contrast = card.get("contrast")
    if contrast is not None:
        tried = {amount: (distortion + features) / 2 for amount, distortion, features in
                 contrast["tried"]}  # fmt: skip
        say(
            console,
            f"Contrast {contrast['chosen']:g}: mean KS distance {tried[contrast['chosen']]:.3f} to "
            f"the validation users, {tried[0.0]:.3f} without.",
        )
    fidelity = card.get("fidelity")
    if fidelity is not None and fidelity["curve"]:
        step, distortion, features = fidelity["curve"][-1]
        say(
            console,
            f"After step {step:,}, {fidelity['samples']} samples against the validation users: KS "
            f"distance {distortion:.3f} of the distortion, {features:.3f} of the features on "
            f"average; a perfect model {fidelity['perfect']:.3f}. csi-audit check-base says more.",
        )
