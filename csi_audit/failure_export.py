"""The failure channels of a finished run as a channel file with weights: p(x | L > tau), or q.

    p(x | L > tau):  w_i proportional to exp(log_w_i) 1{L_i > tau}
    q(x):            w_i proportional to exp(log_w_i) L_i^gamma

over base samples, real channels, or both, each source with weights that sum to 1. Samples of the
paper's guided run have no exact weights and stay out.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from channels.channel_set import ChannelSet, Grid, Source, from_audit_space
from channels.mat73_writing import write_mat73
from channels.support import CsiAuditError, atomic_write, check_target, did_you_mean
from channels.unions import join_channels
from channels.writers import stated_facts, write_channels
from csi_audit.auditing import SAMPLES_NAME
from csi_audit.comparison_runs import FinishedRun, finished_run
from csi_audit.configs import ReadingConfig
from csi_audit.deepening import block_key
from csi_audit.run_state import read_arrays
from reports.reweighting import effective_sample_size, normalised_weights
from reports.schema import CompressorRow
from reports.words import decibel

Array = npt.NDArray[np.float64]
ExportSource = Literal["base", "real", "both"]

WEIGHT_LABEL, NMSE_LABEL, REAL_LABEL = "log_weight", "nmse", "is_real"
_COMPACT = (".h5", ".hdf5")
SUFFIXES = (*_COMPACT, ".mat", ".npz")
_OWN_LABELS = (WEIGHT_LABEL, NMSE_LABEL, REAL_LABEL, "power_db")
"""Labels of an audited file that give way to those of the export."""


@dataclass(frozen=True, kw_only=True)
class FailureChannels:
    """Channels with log weights.

    Attributes:
        channels: With labels `log_weight` (weights of each source sum to 1), `nmse` (linear) and
            `is_real`.
        law: What the weights stand for, in words.
        ess: Effective number of channels, all together.
    """

    channels: ChannelSet
    law: str
    ess: float


def failure_channels(
    folder: str | Path,
    compressor: str,
    *,
    tau_db: float | None = None,
    power: float | None = None,
    source: ExportSource = "base",
) -> FailureChannels:
    """Failure channels of one compressor in a finished run.

    Args:
        folder: Run directory.
        compressor: Its name in the run.
        tau_db: Failure threshold [dB]; None takes the run's first common one.
        power: gamma, for samples of q(x) ~ L(x)^gamma p(x) instead of failures.
        source: Base samples, real channels (the run's file is read again), or both.
    Raises:
        CsiAuditError: no such run or compressor, no failures, or another file than was audited.
    """
    if power is not None and tau_db is not None:
        raise CsiAuditError("tau_db and power exclude each other: failures, or samples of q.")
    if power is not None and not 0 < power <= 8:
        raise CsiAuditError(f"power must lie in (0, 8]; got {power}. 1 is usual.")
    run = finished_run(folder)
    row = _row(run, compressor)
    level = None if power is not None else _level(run, row, tau_db)
    parts = []
    if source in ("base", "both"):
        parts.append(_of_base(run, compressor, level, power))
    if source in ("real", "both"):
        parts.append(_of_real(run, compressor, level, power))
    found = [part for part in parts if part is not None]
    if not found:
        raise CsiAuditError(_none_words(run, compressor, level, source))
    channels = join_channels([_without_notices(part) for part in found])
    w = normalised_weights(channels.labels[WEIGHT_LABEL].numpy())
    law = (
        f"p(x | NMSE > {decibel(10 * float(np.log10(level)))})"
        if level is not None
        else f"q(x) ~ NMSE^{power:g} p(x)"
    )
    return FailureChannels(channels=channels, law=law, ess=effective_sample_size(np.log(w)))


def _without_notices(channels: ChannelSet) -> ChannelSet:
    """With a plain source: what is joined is told by the label `is_real`."""
    return replace(channels, source=replace(channels.source, notices=()))


def write_failures(
    path: str | Path, found: FailureChannels, *, attributes: Mapping[str, str]
) -> None:
    """Write failure channels by the file's ending: compact HDF5, MATLAB v7.3 or npz.

    All three hold the same texts: `attributes` and what the channels say of themselves.

    Raises:
        CsiAuditError: another ending, or the file cannot be written.
    """
    target = Path(path)
    suffix = check_suffix(target)
    check_target(target)
    if suffix == ".mat":
        write_mat73(target, found.channels, attributes=attributes)
    elif suffix == ".npz":
        _write_npz(target, found.channels, attributes)
    else:
        write_channels(target, found.channels, attributes=attributes)


def check_suffix(target: Path) -> str:
    """The file's ending, one of `SUFFIXES`."""
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise CsiAuditError(
            f"out must end in {', '.join(SUFFIXES)}; got {str(target)!r}. .h5 is compact HDF5, "
            ".mat MATLAB v7.3."
        )
    return suffix


def panel_words(target: Path, channels: ChannelSet) -> str:
    """How to read a file back that cannot say its array is a panel; empty where nothing is lost."""
    panel = channels.grid.panel
    if target.suffix.lower() in _COMPACT or channels.grid.is_ula or panel is None:
        return ""
    return (
        f"{target.suffix} does not say that the array is a panel: read it with "
        f"--panel=[{','.join(map(str, panel))}], or write .h5, which does."
    )


def _write_npz(target: Path, channels: ChannelSet, attributes: Mapping[str, str]) -> None:
    facts = stated_facts(channels, attributes)
    arrays = {
        "h": channels.h[:].numpy(),
        "power_db": channels.power_db.numpy(),
        **{name: np.array(value) for name, value in facts.items()},
    }
    taken = sorted({*arrays, "file"} & channels.labels.keys())  # numpy's own name for its target
    if taken:
        raise CsiAuditError(
            f"labels must not be named {', '.join(taken)}: the .npz layout uses that. Write "
            "compact HDF5 (.h5) instead."
        )
    arrays |= {name: label.numpy() for name, label in channels.labels.items()}
    with atomic_write(target) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]


# --- Which channels -------------------------------------------------------------------------------


def _row(run: FinishedRun, compressor: str) -> CompressorRow:
    rows = {row.name: row for row in run.result.compressors}
    if compressor not in rows:
        raise CsiAuditError(
            f"{run.folder} audited no compressor {compressor!r}.{did_you_mean(compressor, rows)}"
        )
    return rows[compressor]


def _level(run: FinishedRun, row: CompressorRow, tau_db: float | None) -> float:
    """Failure level, linear."""
    if tau_db is not None:
        if not abs(tau_db) <= 200:
            raise CsiAuditError(f"tau_db must lie in [-200, 200] dB; got {tau_db}.")
        return float(10 ** (tau_db / 10))
    common = [tau.nmse_db for tau in run.result.tau if tau.nmse_db is not None]
    own = [tail.nmse_db for tail in row.estimates.tails if tail.nmse_db is not None]
    if not common + own:
        raise CsiAuditError(f"{run.folder} has no threshold. Give one with --tau_db.")
    return float(10 ** ((common + own)[0] / 10))


def _weights(nmse: Array, log_w: Array, level: float | None, power: float | None) -> Array:
    """Log weights, -inf for channels that are left out."""
    if level is not None:
        return np.where(nmse > level, log_w, -np.inf)
    return log_w + (power or 0.0) * np.log(np.maximum(nmse, 1e-12))


def _labels(nmse: Array, log_w: Array, *, real: bool) -> dict[str, torch.Tensor]:
    return {
        WEIGHT_LABEL: torch.from_numpy(np.log(normalised_weights(log_w))),
        NMSE_LABEL: torch.from_numpy(np.asarray(nmse, dtype=np.float64)),
        REAL_LABEL: torch.full((len(nmse),), int(real)),
    }


def _of_base(
    run: FinishedRun, compressor: str, level: float | None, power: float | None
) -> ChannelSet | None:
    stored = read_arrays(run.folder / SAMPLES_NAME)
    try:
        base = stored["law"] == b"base"
        x = stored["x"][base].astype(np.float32)
        nmse = np.asarray(stored[f"loss/{block_key(compressor)}/nmse"][base], dtype=np.float64)
        log_w = np.asarray(stored["log_w"][base], dtype=np.float64)
    except (KeyError, IndexError) as error:
        raise CsiAuditError(
            f"{run.folder / SAMPLES_NAME} lacks {error}. Is the file complete? Run the audit again."
        ) from error
    log_weight = _weights(nmse, log_w, level, power)
    kept = np.isfinite(log_weight)
    if not kept.any():
        return None
    words = f"base samples of {run.folder.name}"
    return from_audit_space(
        torch.from_numpy(x[kept]),
        grid_of_run(run),
        labels=_labels(nmse[kept], log_weight[kept], real=False),
        source=Source(
            path=words, sha256=run.result.base.sha256, format="base samples", scenario=None
        ),
    )


def _of_real(
    run: FinishedRun, compressor: str, level: float | None, power: float | None
) -> ChannelSet | None:
    nmse = np.asarray(run.arrays.nmse_real[compressor], dtype=np.float64)
    log_weight = _weights(nmse, np.zeros(len(nmse)), level, power)
    kept = np.isfinite(log_weight)
    if not kept.any():
        return None
    everyone = audited_file(run)
    if len(everyone) != len(nmse):
        raise CsiAuditError(
            f"{run.result.data.path} gives {len(everyone):,} users, the run audited {len(nmse):,}. "
            "Is it a loader of your own that changed? Run the audit again."
        )
    users = everyone.subset(torch.from_numpy(kept))
    labels = {k: v for k, v in users.labels.items() if k not in _OWN_LABELS}
    labels |= _labels(nmse[kept], log_weight[kept], real=True)
    return replace(users, labels=labels)


def audited_file(run: FinishedRun) -> ChannelSet:
    """The channels that a run audited, read again as it read them.

    Raises:
        CsiAuditError: the file is gone, or is another one by now.
    """
    names = {field.name for field in fields(ReadingConfig)}
    said: dict[str, Any] = {k: v for k, v in run.config.items() if k in names and v is not None}
    if "panel" in said:
        said["panel"] = tuple(said["panel"])
    users = ReadingConfig(**said).read(run.result.data.path, lazy=False)
    if users.source.sha256 != run.result.data.sha256:
        raise CsiAuditError(
            f"{run.result.data.path} is not the file that {run.folder} audited (its SHA-256 "
            "differs). Put the old one back, or run the audit again."
        )
    return users


def grid_of_run(run: FinishedRun) -> Grid:
    """Bandwidth, subcarriers and panel, as far as a run keeps them; its carrier is not kept."""
    arrays = run.arrays
    n_sub = len(arrays.frequency_hz)
    spacing = float(arrays.frequency_hz[1] - arrays.frequency_hz[0]) if n_sub > 1 else None
    known = arrays.bandwidth_known and spacing is not None
    bandwidth = n_sub * spacing if known and spacing is not None else None
    return Grid(carrier_hz=None, bandwidth_hz=bandwidth, n_sub=n_sub, panel=arrays.panel)


def _none_words(run: FinishedRun, compressor: str, level: float | None, source: str) -> str:
    """Why nothing was found, and how far the worst channel is."""
    worst = []
    if source in ("base", "both"):
        worst.append(float(np.max(run.arrays.nmse_base[compressor])))
    if source in ("real", "both"):
        worst.append(float(np.max(run.arrays.nmse_real[compressor])))
    largest = decibel(10 * float(np.log10(max(max(worst), 1e-30))))
    shown = decibel(10 * float(np.log10(level or 1.0)))
    return (
        f"{compressor} fails on no channel of {run.folder} (NMSE above {shown}; the worst has "
        f"{largest}). Give a lower --tau_db, or --power 1 for samples weighted by their NMSE."
    )
