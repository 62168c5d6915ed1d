"""`compare`: several compressors on the same channels, drawn or read once for all of them.

Loads and measures; what is said of the figures is reports'. Finished run directories go through
comparison_runs.py instead.
"""

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import numpy.typing as npt

from channels.channel_domain import ChannelDomain
from channels.channel_set import ChannelSet, audit_space
from channels.run_folder import claim_folder
from channels.support import CsiAuditError
from compressors.loading import NamedCompressor, load_compressor
from compressors.preflight import check_panel
from csi_audit import __version__
from csi_audit.admitting import preflight_cautions
from csi_audit.base import Base, base_name, load_base
from csi_audit.base_drawing import audited_samples
from csi_audit.comparison_findings import Gathered, SetFound
from csi_audit.comparison_measuring import (
    failure_levels,
    map_axes,
    mean_bits,
    measured_together,
    own_label,
)
from csi_audit.comparison_runs import gathered_of_runs, runs_fixing
from csi_audit.comparison_settings import CompareConfig
from csi_audit.compressor_hash import code_sha256
from csi_audit.generalisation import (
    TrainingChannels,
    declared_trainings,
    generalisation_case,
    training_of,
)
from csi_audit.provenance import program_versions
from csi_audit.run_state import BlockStore
from reports.comparison import ComparedLosses, compared_set, matrix_cell
from reports.comparison_page import PAGE_NAME, ComparisonArrays, write_comparison
from reports.comparison_schema import (
    ComparedCompressor,
    ComparisonResult,
    load_comparison,
)
from reports.words import decibel

Array = npt.NDArray[np.float64]
Progress = Callable[[str, int, int], None]


def compare(config: CompareConfig, *, progress: Progress | None = None) -> ComparisonResult:
    """Compare compressors on common channels; writes comparison.html and comparison.json.

    Args:
        config: Files and compressors, or finished runs.
        progress: Told of the step and of denoiser evaluations as they are made.
    Returns:
        The comparison, as written.
    Raises:
        CsiAuditError: bad input, or runs that share no channels; the message names the way out.
    """
    folder = comparison_folder(config)
    if config.runs:
        gathered = gathered_of_runs(config)  # first: what is refused leaves no folder behind
        claim_folder(folder, {**config.fixing(), **runs_fixing(config.runs)})
        return written(config, gathered, folder)
    sets = [(name, config.read(path, lazy=False)) for name, path in _named(config.data)]
    _refuse_twins(sets)
    base = None if config.n_base == 0 else load_base(config.base)
    compressors = _loaded(config.compressor, sets)
    claim_folder(folder, _fixing(config, sets, base, compressors))
    if (folder / PAGE_NAME).is_file():
        return load_comparison(folder)
    store = BlockStore(folder)
    gathered = _gather(config, sets, base, compressors, store, progress)
    result = written(config, gathered, folder)
    store.remove()
    return result


def comparison_folder(config: CompareConfig) -> Path:
    """Where a comparison is written: `out`, or runs/<UTC time>-compare."""
    if config.out is not None:
        return Path(config.out)
    return Path("runs") / f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-compare"


def written(config: CompareConfig, gathered: Gathered, folder: Path) -> ComparisonResult:
    """The comparison of what was gathered, with its page and figures in `folder`."""
    result = comparison_of(config, gathered)
    common = [level for level in config.tau_db if decibel(level) in result.thresholds]
    known = [found for found in gathered.sets if found.axes is not None and found.error]
    arrays = ComparisonArrays(
        nmse={found.losses.name: found.losses.nmse for found in gathered.sets},
        axes={found.losses.name: found.axes for found in known if found.axes is not None},
        power={found.losses.name: found.power for found in known if found.power is not None},
        error={found.losses.name: found.error for found in known},
        level_db=common[0] if common else None,
    )
    write_comparison(result, arrays, folder)
    return result


def comparison_of(config: CompareConfig, gathered: Gathered) -> ComparisonResult:
    """All figures of a comparison."""
    prob = config.tau_quantile
    cells = []
    for found in gathered.sets:
        for name in found.losses.names:
            case, reason = found.cases[name]
            cell = matrix_cell(found.losses, name, prob=prob)
            cells.append(cell.told(case, reason))
    return ComparisonResult(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=program_versions(),
        seed=config.seed,
        prob=prob,
        thresholds=tuple(gathered.sets[0].losses.levels),
        compressors=gathered.compressors,
        sets=tuple(
            compared_set(
                found.losses,
                prob=prob,
                real=gathered.sets[0].losses if found.losses.kind == "base" else None,
            )
            for found in gathered.sets
        ),
        matrix=tuple(cells),
        notes=_NOTES,
        warnings=gathered.warnings,
    )


_NOTES = (
    "Every compressor saw the same channels, so differences are paired: what makes a channel hard "
    "for all of them cancels.",
    "A verdict needs a difference beyond chance at 5 % after Holm's adjustment for all pairs of a "
    "set in one quantity; without it the page says cannot tell. Quantities are not adjusted for "
    "each other.",
    "Means, quantiles and worst shares are compared in dB of the linear figure. Tests: Student's "
    "law of the delta method (means, worst shares), normal law of resamples (quantiles), exact "
    "McNemar test (probabilities); by drop where users of a drop are more alike than chance "
    "explains. Intervals of single compressors count per user.",
)


# --- Loading --------------------------------------------------------------------------------------


def _named(paths: Sequence[str]) -> list[tuple[str, str]]:
    """Each file with a short name of its own."""
    stems = [Path(path.partition(":")[0]).stem for path in paths]
    return [
        (stem if stems.count(stem) == 1 else path, path)
        for stem, path in zip(stems, paths, strict=True)
    ]


def _refuse_twins(sets: Sequence[tuple[str, ChannelSet]]) -> None:
    """Refuse one file under two paths: a matrix of it would say nothing new."""
    seen: dict[str, str] = {}
    for _, channels in sets:
        path, sha256 = channels.source.path, channels.source.sha256
        if sha256 is not None and sha256 in seen:
            raise CsiAuditError(f"{path} and {seen[sha256]} hold the same channels: name one.")
        if sha256 is not None:
            seen[sha256] = path


def _loaded(specs: Sequence[str], sets: Sequence[tuple[str, ChannelSet]]) -> list[NamedCompressor]:
    """Compressors, each tried on every file."""
    found: list[NamedCompressor] = []
    audited = [(name, channels, audit_space(channels)) for name, channels in sets]
    for spec in specs:
        named = load_compressor(spec, channels=audited[0][2])
        if named.name in {other.name for other in found}:
            named = NamedCompressor(**{**vars(named), "name": f"{named.name} ({spec})"})
        sha256 = named.sha256 or code_sha256(named.compressor)
        notices = named.notices
        for where, channels, x in audited:
            check_panel(named.compressor.convention, channels.grid, name=named.name)
            cautions = preflight_cautions(named, x, guided=False)
            notices += tuple(f"on {where}: {words}" for words in cautions)
        found.append(NamedCompressor(**{**vars(named), "sha256": sha256, "notices": notices}))
    return found


def _fixing(
    config: CompareConfig,
    sets: Sequence[tuple[str, ChannelSet]],
    base: Base | None,
    compressors: Sequence[NamedCompressor],
) -> dict[str, object]:
    return {
        **config.fixing(),
        "version": __version__,
        "data_sha256": [channels.source.sha256 for _, channels in sets],
        "base_sha256": None if base is None else base.sha256,
        "compressor_sha256": [named.sha256 for named in compressors],
    }


# --- Measuring ------------------------------------------------------------------------------------


def _gather(
    config: CompareConfig,
    sets: Sequence[tuple[str, ChannelSet]],
    base: Base | None,
    compressors: Sequence[NamedCompressor],
    store: BlockStore,
    progress: Progress | None,
) -> Gathered:
    names = [named.name for named in compressors]
    declared = declared_trainings(config.trained_on, names)
    training = {n.name: training_of(n.card, declared.get(n.name)) for n in compressors}
    found: list[SetFound] = []
    levels: Mapping[str, Mapping[str, float]] | None = None
    for name, channels in sets:
        one = _on_file(name, channels, compressors, training, config, levels)
        levels = one.losses.levels
        found.append(one)
    x = audit_space(sets[0][1])
    bits = {named.name: mean_bits(named, x) for named in compressors}
    warnings = [f"{n.name}: {notice}" for n in compressors for notice in n.notices]
    if base is not None:
        shape = tuple(x.shape[1:])
        if tuple(base.event_shape) == shape:
            found.append(_on_base(config, base, sets[0][1], compressors, levels, store, progress))
        else:
            warnings.append(
                f"The base model draws channels of {tuple(base.event_shape)}, the files hold "
                f"{shape}: compared on the files alone. Train one on them: csi-audit fit-base."
            )
    return Gathered(
        compressors=tuple(
            ComparedCompressor(
                name=named.name,
                spec=named.spec,
                sha256=named.sha256,
                n_code=int(named.compressor.n_code),
                trained_on=training[named.name].words(),
                n_side=named.compressor.convention.n_side,
                bits_mean=bits[named.name],
            )
            for named in compressors
        ),
        sets=tuple(found),
        warnings=tuple(warnings),
    )


def _on_file(
    name: str,
    channels: ChannelSet,
    compressors: Sequence[NamedCompressor],
    training: Mapping[str, TrainingChannels],
    config: CompareConfig,
    levels: Mapping[str, Mapping[str, float]] | None,
) -> SetFound:
    """All compressors on the users of one file; thresholds of their own are those of the first."""
    nmse_of, error, power = measured_together(audit_space(channels), compressors)
    source = channels.source
    known = (source.scenario, channels.grid.array, source.format)
    return SetFound(
        losses=ComparedLosses(
            name=name,
            kind="real",
            nmse=nmse_of,
            levels=levels or failure_levels(nmse_of, config.tau_db, config.tau_quantile),
            drops=None if channels.drops is None else channels.drops.numpy(),
            set_here=() if levels else (own_label(config.tau_quantile),),
            sha256=source.sha256,
            description=", ".join(str(part) for part in known if part),
        ),
        cases={n: generalisation_case(t, source, channels.grid) for n, t in training.items()},
        axes=map_axes(channels.grid, channels.n_tx),
        power=power,
        error=error,
    )


def _on_base(
    config: CompareConfig,
    base: Base,
    channels: ChannelSet,
    compressors: Sequence[NamedCompressor],
    levels: Mapping[str, Mapping[str, float]] | None,
    store: BlockStore,
    progress: Progress | None,
) -> SetFound:
    """All compressors on samples of the base law, drawn once."""
    domain = ChannelDomain.of(channels)
    samples = audited_samples(config, base, domain, store=store, progress=progress)
    nmse_of, error, power = measured_together(samples.x, compressors)
    name = base_name(config.base)
    return SetFound(
        losses=ComparedLosses(
            name=name,
            kind="base",
            nmse=nmse_of,
            levels=levels or failure_levels(nmse_of, config.tau_db, config.tau_quantile),
            sha256=base.sha256,
            description=samples.chain,
        ),
        cases={n.name: ("base law", "samples of a model, no file") for n in compressors},
        axes=map_axes(channels.grid, channels.n_tx),
        power=power,
        error=error,
    )
