"""`csi-audit export-failures`: the failure channels of a run as a file for another tool."""

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from channels.support import check_target
from csi_audit import __version__
from csi_audit.failure_export import (
    REAL_LABEL,
    ExportSource,
    check_suffix,
    failure_channels,
    panel_words,
    write_failures,
)
from csi_audit.printing import say


@dataclass(frozen=True, kw_only=True)
class ExportConfig:
    """Settings of an export of failure channels.

    Attributes:
        run: Finished run directory.
        compressor: Whose failures, by its name in the run.
        out: File to write: .h5 (compact HDF5, which every command reads), .mat (MATLAB v7.3) or
            .npz. Weights are in `log_weight`, distortions in `nmse`.
        tau_db: Failure threshold on NMSE [dB]; None takes the run's first common one.
        power: Instead of failures, all channels weighted by NMSE^power: samples of the law q.
        source: "base" samples, "real" channels, or "both", told apart by `is_real`.
    """

    run: str
    compressor: str
    out: str
    tau_db: float | None = None
    power: float | None = None
    source: ExportSource = "base"


def export_failures(settings: ExportConfig) -> None:
    """Write the failure channels of one compressor with their weights."""
    target = Path(settings.out)
    check_suffix(target)
    check_target(target)
    found = failure_channels(
        settings.run,
        settings.compressor,
        tau_db=settings.tau_db,
        power=settings.power,
        source=settings.source,
    )
    attributes = {
        "generator": f"csi-audit {__version__} export-failures",
        "failures_of": settings.compressor,
        "law": found.law,
    }
    write_failures(target, found, attributes=attributes)
    n_real = int(found.channels.labels[REAL_LABEL].sum())
    console = Console()
    say(
        console,
        f"{len(found.channels):,} channels of {settings.compressor}, {found.law}: "
        f"{len(found.channels) - n_real:,} base samples, {n_real:,} real; effective sample size "
        f"{found.ess:,.0f}. Written to {target.resolve()}",
    )
    hint = panel_words(target, found.channels)
    if hint:
        say(console, f"Note: {hint}")
