"""The command `check-base`: its settings, and what it prints.

What prints is imported inside the command, so that settings and checks cost no terminal library.
"""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from channels.support import CsiAuditError
from csi_audit.configs import Device, ReadingConfig

EXIT_MISSES = 1
_FREE = ("out", "device", "batch_size", "threads")


@dataclass(frozen=True, kw_only=True)
class CheckBaseConfig(ReadingConfig):
    """Settings of a check of a base model against real channels.

    Attributes:
        base: Base model file, "small" for the small bundled one, or your own as file.py:attr; None
            takes the bundled one.
        data: Real channels that the base was not trained on; None takes the bundled ones, on which
            nothing may be selected.
        train: Channels that the base was trained on, to see whether it gives them back; None leaves
            that out.
        compressor: Compressors whose distortions are compared; none given takes three quick bundled
            ones where they fit. Give the flag once for each.
        out: Folder of the check; None makes runs/check-<UTC time>. An interrupted check goes on
            when its folder is named again.
        n_base: Base samples, over all seeds.
        steps: Steps of the probability-flow ODE.
        seeds: Seeds among which the samples are divided, to see what the seed changes.
        n_double: Samples of the first seed, in whole blocks, to draw again from the same noise with
            twice the steps; 0 for none.
        block: Samples between two saved states: what an interruption can cost.
        seed: The first seed; fixes every random number.
        device: Where the denoiser runs.
        batch_size: Samples a denoiser call; changes nothing but rounding.
        threads: CPU threads of the command; None leaves torch's default. From Python, set torch's.
    """

    base: str | None = None
    data: str | None = None
    train: str | None = None
    compressor: tuple[str, ...] = ()
    out: str | None = None
    n_base: int = 1000
    steps: int = 30
    seeds: int = 4
    n_double: int = 250
    block: int = 50
    seed: int = 0
    device: Device = "auto"
    batch_size: int = 128
    threads: int | None = None

    def __post_init__(self) -> None:
        for name, least in (
            ("n_base", 8),
            ("steps", 2),
            ("seeds", 1),
            ("block", 1),
            ("n_double", 0),
        ):
            if getattr(self, name) < least:
                raise CsiAuditError(f"{name} must be at least {least}; got {getattr(self, name)}.")
        if self.threads is not None and self.threads < 1:
            raise CsiAuditError(f"threads must be at least 1; got {self.threads}.")
        if self.n_base < 2 * self.seeds:
            raise CsiAuditError(
                f"n_base must be at least two samples a seed; got {self.n_base} for {self.seeds}."
            )
        if isinstance(self.compressor, str):
            raise CsiAuditError(
                f"compressor must be a tuple of names; got the string {self.compressor!r}. "
                f"Write ({self.compressor!r},)."
            )

    def folder(self) -> Path:
        """`out`, or runs/check-<UTC time>."""
        if self.out is not None:
            return Path(self.out)
        return Path("runs") / f"check-{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}"

    def fixing(self) -> dict[str, Any]:
        """The settings that fix the figures as plain values, without those that only place work."""
        plain = {key: value for key, value in asdict(self).items() if key not in _FREE}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items()}


def check_base_model(settings: CheckBaseConfig) -> int:
    """Check a base model and show tables, the verdict and its thresholds.

    Returns:
        0, or 1 where the base misses the real channels.
    """
    from rich.console import Console

    from csi_audit.base_check import check_base
    from csi_audit.printing import say, show_table
    from csi_audit.progress_bars import denoising_bars
    from reports.check_schema import CHECK_NAME
    from reports.check_tables import tables_of_check

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    console, folder = Console(), settings.folder()
    opening = f"Folder {folder}; if interrupted, go on with --out {folder}"
    with denoising_bars(console, opening) as told:
        found = check_base(replace(settings, out=str(folder)), progress=told)
    for notice in (*found.data.notices, *found.warnings):
        say(console, f"Note: {notice}")
    for table in tables_of_check(found):
        show_table(console, table)
    for sentence in found.words:
        say(console, sentence)
    say(console, f"Figures: {(folder / CHECK_NAME).resolve()}")
    return EXIT_MISSES if found.base.verdict == "misses" else 0
