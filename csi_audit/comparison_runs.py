"""A comparison from finished run directories: nothing is drawn or run again.

Runs pair where they share channels, and on base samples where they share base model, chain, sizes
and seed as well: sample i is then the same in all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from channels.channel_set import ChannelSet, Grid, Source
from channels.run_folder import CONFIG_NAME
from channels.support import CsiAuditError, file_sha256
from compressors.loading import load_compressor
from csi_audit.auditing import SAMPLES_NAME
from csi_audit.comparison_findings import Gathered, SetFound
from csi_audit.comparison_measuring import failure_levels, own_label
from csi_audit.comparison_settings import CompareConfig
from csi_audit.configs import ReadingConfig
from csi_audit.generalisation import (
    TrainingChannels,
    declared_trainings,
    generalisation_case,
    training_of,
)
from csi_audit.run_state import read_arrays
from reports.comparison import ComparedLosses
from reports.comparison_schema import Case, ComparedCompressor
from reports.figure_data import ReportArrays
from reports.schema import Result, load_result

READ_BY = ("data_sha256", "variable", "axes", "n_sub", "bandwidth_hz", "panel", "offset")
DRAWN_BY = ("base_sha256", "seed", "steps", "n_base", "block")


@dataclass(frozen=True, kw_only=True)
class FinishedRun:
    """A finished run directory.

    Attributes:
        folder: Where it lies.
        config: What fixed it, as `config.yaml` says.
        result: Its figures.
        arrays: What its figures were drawn from.
    """

    folder: Path
    config: Mapping[str, Any]
    result: Result
    arrays: ReportArrays

    def differing(self, other: "FinishedRun", keys: Sequence[str]) -> list[str]:
        """Settings among `keys` in which two runs differ."""
        return [key for key in keys if self.config.get(key) != other.config.get(key)]


def finished_run(folder: str | Path) -> FinishedRun:
    """A finished run directory, read.

    Raises:
        CsiAuditError: it holds no finished run.
    """
    path = Path(folder)
    if not path.is_dir():
        raise CsiAuditError(
            f"{path} is no folder. Name a finished run directory, such as runs/demo."
        )
    result = load_result(path)
    if result.network is not None:
        raise CsiAuditError(
            f"{path} is the audit of a cell network; compare sets compressors side by side. Its "
            "losses stand beside each other in its own report."
        )
    arrays = ReportArrays.from_flat(read_arrays(path / SAMPLES_NAME, group="report"))
    try:
        config = yaml.safe_load((path / CONFIG_NAME).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CsiAuditError(f"{path / CONFIG_NAME} cannot be read ({reason}).") from error
    if not isinstance(config, dict):
        raise CsiAuditError(f"{path / CONFIG_NAME} holds no settings. Run the audit again.")
    return FinishedRun(folder=path, config=config, result=result, arrays=arrays)


def runs_fixing(folders: Sequence[str]) -> dict[str, object]:
    """Hashes of the results that a comparison is made of."""
    files = [Path(folder) / "result.json" for folder in folders]
    return {"result_sha256": [file_sha256(f) if f.is_file() else None for f in files]}


def gathered_of_runs(config: CompareConfig) -> Gathered:
    """What finished runs measured, put together.

    Raises:
        CsiAuditError: a folder holds no finished run, or the runs share no channels.
    """
    runs = [finished_run(folder) for folder in config.runs]
    _refuse_other_channels(runs)
    members = _members(runs)
    names = list(members)
    declared = declared_trainings(config.trained_on, names)
    training = {
        name: training_of(_card(run, own), declared.get(name))
        for name, (run, own) in members.items()
    }
    warnings = [f"{run.folder}: {w}" for run in runs for w in run.result.warnings]
    channels = _channels_again(runs[0])
    if channels is None:
        warnings.append(
            f"{runs[0].result.data.path} is not at hand any more, or has changed: which users "
            "share a drop, and of which scenario they are, is not known here."
        )
    real = _real_set(config, runs[0], members, training, channels)
    sets = [real]
    unlike = [(run, run.differing(runs[0], DRAWN_BY)) for run in runs[1:]]
    differing = [(run, keys) for run, keys in unlike if keys or not _same_samples(run, runs[0])]
    if differing:
        run, keys = differing[0]
        what = ", ".join(keys) or "samples"
        warnings.append(
            f"Base samples of {runs[0].folder} and {run.folder} are not the same ({what} differ), "
            "so they do not pair: compared on real channels alone."
        )
    else:
        sets.append(_base_set(runs[0], members, real))
    return Gathered(
        compressors=tuple(
            ComparedCompressor(
                name=name,
                spec=_row(run, own).spec,
                sha256=_sha256(run, own),
                n_code=_row(run, own).n_code,
                trained_on=training[name].words(),
                n_side=_row(run, own).n_side,
                bits_mean=_row(run, own).bits_mean,
            )
            for name, (run, own) in members.items()
        ),
        sets=tuple(sets),
        warnings=tuple(warnings),
    )


Members = Mapping[str, tuple[FinishedRun, str]]
"""Name in the comparison -> run, and name in that run."""


def _refuse_other_channels(runs: Sequence[FinishedRun]) -> None:
    first = runs[0]
    for run in runs[1:]:
        keys = run.differing(first, READ_BY)
        if keys:
            raise CsiAuditError(
                f"{first.folder} and {run.folder} audited other channels ({', '.join(keys)} "
                f"differ; {keys[0]}: {first.config.get(keys[0])!r} and "
                f"{run.config.get(keys[0])!r}), so nothing pairs. Compare the compressors on both "
                "files: csi-audit compare --data A --data B --compressor ..."
            )


def _members(runs: Sequence[FinishedRun]) -> dict[str, tuple[FinishedRun, str]]:
    """Every compressor once; those that share a name but not their files are told apart."""
    found: dict[str, tuple[FinishedRun, str]] = {}
    for run in runs:
        for row in run.result.compressors:
            name = row.name
            if name in found:
                known = _sha256(*found[name])
                if known is not None and known == _sha256(run, row.name):
                    continue
                name = f"{row.name} ({run.folder.name})"
                if name in found:
                    name = f"{row.name} ({run.folder})"
            found[name] = (run, row.name)
    return found


def _row(run: FinishedRun, name: str) -> Any:
    return next(row for row in run.result.compressors if row.name == name)


def _sha256(run: FinishedRun, name: str) -> str | None:
    order = [row.name for row in run.result.compressors]
    hashes = run.config.get("compressor_sha256") or []
    index = order.index(name)
    return hashes[index] if index < len(hashes) else None


def _card(run: FinishedRun, name: str) -> Mapping[str, Any]:
    """The compressor's card, if it still loads as the one audited; no code of a user's is run."""
    spec = _row(run, name).spec
    if ":" in spec:
        return {}
    try:
        named = load_compressor(spec)
    except CsiAuditError:
        return {}
    return named.card if named.sha256 == _sha256(run, name) else {}


def _channels_again(run: FinishedRun) -> ChannelSet | None:
    """The real channels of a run, if their file is still the same; no code of a user's is run."""
    path, settings = run.result.data.path, {key: run.config.get(key) for key in READ_BY[1:]}
    if ":" in path or run.result.data.sha256 is None:
        return None
    reading: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v
                               for k, v in settings.items()}  # fmt: skip
    try:
        channels = ReadingConfig(**reading).read(path)
    except (CsiAuditError, TypeError):  # moved, damaged, or settings that are none
        return None
    return channels if channels.source.sha256 == run.result.data.sha256 else None


def _same_samples(run: FinishedRun, first: FinishedRun) -> bool:
    mine, its = run.arrays.power_base, first.arrays.power_base
    if mine is None or its is None or mine.shape != its.shape:
        return False
    return bool(np.allclose(mine, its, rtol=1e-4, atol=1e-6))


def _real_set(
    config: CompareConfig,
    first: FinishedRun,
    members: Members,
    training: Mapping[str, TrainingChannels],
    channels: ChannelSet | None,
) -> SetFound:
    data = first.result.data
    nmse = {name: np.asarray(run.arrays.nmse_real[own]) for name, (run, own) in members.items()}
    drops = None if channels is None else channels.drops
    unknown = Source(path=data.path, sha256=data.sha256, format="", scenario=None)
    source = unknown if channels is None else channels.source
    grid = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=len(first.arrays.frequency_hz))
    grid = grid if channels is None else channels.grid
    return SetFound(
        losses=ComparedLosses(
            name=Path(data.path).stem,
            kind="real",
            nmse=nmse,
            levels=failure_levels(nmse, config.tau_db, config.tau_quantile),
            drops=None if drops is None else drops.numpy(),
            set_here=(own_label(config.tau_quantile),),
            sha256=data.sha256,
            description=data.description,
        ),
        cases={name: generalisation_case(t, source, grid) for name, t in training.items()},
    )


def _base_set(first: FinishedRun, members: Members, real: SetFound) -> SetFound:
    nmse = {name: np.asarray(run.arrays.nmse_base[own]) for name, (run, own) in members.items()}
    error = {
        name: np.asarray(run.arrays.error_base[own])
        for name, (run, own) in members.items()
        if own in run.arrays.error_base
    }
    told: tuple[Case, str] = ("base law", "samples of a model, no file")
    whole = len(error) == len(members) and first.arrays.power_base is not None
    return SetFound(
        losses=ComparedLosses(
            name=first.result.base.name or "base samples",
            kind="base",
            nmse=nmse,
            levels=real.losses.levels,
            sha256=first.result.base.sha256,
            description=first.result.audited_law,
        ),
        cases=dict.fromkeys(members, told),
        axes=first.arrays if whole else None,
        power=first.arrays.power_base,
        error=error if whole else {},
    )
