"""Commands on one compressor alone: they call `compressors`, and print."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from channels.channel_set import ChannelSet, audit_space
from channels.sample import sample_path
from channels.support import CsiAuditError, check_target, write_text_atomic
from compressors.complexity import flops
from compressors.loading import NamedCompressor, load_compressor
from compressors.preflight import run_preflight
from compressors.verdicts import Outcome, Preflight, Verdict
from csi_audit.configs import ReadingConfig
from csi_audit.printing import say, say_notices, show_table

EXIT_MEANINGLESS = 1
_STYLES: Mapping[Outcome, str] = {
    "pass": "green",
    "warn": "yellow",
    "fail": "red",
    "not applicable": "dim",
}


@dataclass(frozen=True, kw_only=True)
class CheckCompressorConfig(ReadingConfig):
    """Settings of a look at a compressor before any audit.

    Attributes:
        compressor: Bundled name (klt-16), weights file, compressor card (.yaml), exported model
            (TorchScript, torch.export, ONNX), published checkpoint (.pth), or your own code as
            file.py:Class.
        data: Channel file of any known format to try it on, or your own loader as
            file.py:function; None takes the bundled channels.
        n: Channels tried, spread evenly over the file; some checks take 20.
        json: File to write the verdicts to; None writes none.
    """

    compressor: str
    data: str | None = None
    n: int = 64
    json: str | None = None

    def __post_init__(self) -> None:
        if self.n < 2:
            raise CsiAuditError(f"n must be at least 2; got {self.n}.")


def check(settings: CheckCompressorConfig) -> int:
    """Try a compressor on a few channels and show a verdict for each check.

    Returns:
        0, or 1 where an audit would be meaningless.
    """
    if settings.json is not None:
        check_target(Path(settings.json))
    console = Console()
    channels = settings.read(settings.data or str(sample_path()))
    say_notices(console, channels)
    x = _spread(channels, settings.n)
    named = load_compressor(settings.compressor, channels=x)
    for notice in named.notices:
        say(console, f"{named.name}: {notice}")
    found = run_preflight(named.compressor, x, name=named.name, grid=channels.grid)
    _show(console, found)
    if not found.meaningless:
        say(console, _described(named))
    say(console, found.sentence())
    if settings.json is not None:
        write_text_atomic(settings.json, json.dumps(found.to_dict(), indent=1) + "\n")
        say(console, f"Verdicts: {Path(settings.json).resolve()}")
    return EXIT_MEANINGLESS if found.meaningless else 0


def _spread(channels: ChannelSet, n: int) -> Tensor:
    """Audit-space channels of at most n users, evenly spread, so that drops are mixed."""
    rows = torch.linspace(0, len(channels) - 1, n, dtype=torch.float64).round().long().unique()
    return audit_space(channels.subset(rows))


def _show(console: Console, found: Preflight) -> None:
    table = Table(title=Text(found.name), title_justify="left")
    for head in ("check", "verdict", "measured"):
        table.add_column(head)
    table.add_column("in words", overflow="fold")
    for verdict in found.verdicts:
        outcome = Text(verdict.outcome, style=_STYLES[verdict.outcome])
        table.add_row(verdict.check, outcome, _measured(verdict), Text(verdict.words))
    show_table(console, table)


def _measured(verdict: Verdict) -> str:
    if verdict.measured is None:
        return ""
    return f"{verdict.measured:.3g} {verdict.unit}".strip()


def _described(named: NamedCompressor) -> str:
    """Code length, form and cost."""
    compressor = named.compressor
    cost = flops(compressor, compressor.convention.event_shape)
    millions = (f"{count / 1e6:.3g}" for count in (cost.encoder, cost.decoder))
    return (
        f"{int(compressor.n_code)} code numbers; {compressor.convention.describe()}; "
        f"{' + '.join(millions)} million multiply-accumulates (encode + decode)."
    )
