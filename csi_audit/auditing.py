"""The audit: channels and compressors in, a run directory with its report out.

Draws base samples once for all compressors, measures them and the real channels, and hands
everything to csi_audit.summary and reports. Each block of samples is saved as it is made, so a run
killed at any moment goes on where it was.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from channels.channel_domain import ChannelDomain
from channels.channel_set import ChannelSet, audit_space
from channels.run_folder import claim_folder
from compressors.audit_space import in_audit_space
from compressors.loading import NamedCompressor, load_compressor
from compressors.preflight import check_panel
from csi_audit import __version__, summary
from csi_audit.admitting import preflight_cautions
from csi_audit.audited_losses import nmse_of
from csi_audit.base import Base, base_name, load_base
from csi_audit.base_drawing import Progress, audited_samples, step_tally
from csi_audit.compressor_hash import code_sha256
from csi_audit.configs import RunConfig
from csi_audit.deepening import Deepening, block_key
from csi_audit.deeper import threshold_levels
from csi_audit.devices import torch_device
from csi_audit.drawing import draw_in_blocks
from csi_audit.failure_modes_of_run import with_failure_modes
from csi_audit.losses import SquaredErrorLoss
from csi_audit.measuring import Measured, measure
from csi_audit.provenance import (
    base_info,
    base_mismatch,
    cost_of,
    data_info,
    program_versions,
)
from csi_audit.run_state import BlockStore, write_arrays
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import IssgmSampler
from csi_audit.weights import LossWeight
from reports.figure_data import ReportArrays
from reports.report import write_report
from reports.schema import IssgmEntry, Result, Threshold, load_result

SAMPLES_NAME = "samples.h5"


def audit(config: RunConfig, *, progress: Progress | None = None) -> Result:
    """Audit compressors on the channels of a file.

    Writes `config.yaml` first, then blocks of samples, and at the end `samples.h5`, `result.json`,
    `report.html` and `figures/` into the run directory. A finished directory of the same settings
    is returned as it is.

    Args:
        config: Everything that fixes the audit, and where it is written.
        progress: Told of denoiser evaluations as they are made.
    Returns:
        The result, as written.
    Raises:
        CsiAuditError: bad input; the message names file, value and way out.
    """
    began = time.monotonic()
    channels = config.read(config.data, lazy=False)
    base = load_base(config.base)
    x_real = audit_space(channels)
    base.require(tuple(x_real.shape[1:]), name=config.data)
    compressors = _load_all(config.compressor, x_real, config.issgm, config.mean_method == "guided")
    for named in compressors:
        check_panel(named.compressor.convention, channels.grid, name=named.name)
    folder = claim_folder(run_directory(config), _fixing(config, channels, base, compressors))
    store = BlockStore(folder)
    if (folder / "report.html").is_file():
        store.remove()  # left over where a kill came between the report and this line
        return load_result(folder)
    evidence = _gather(config, channels, x_real, base, compressors, store, progress)
    result, arrays = with_failure_modes(
        _result(config, evidence, base),
        summary.arrays(evidence),
        evidence,
        failures={n: found for n, found in evidence.deeper.failures.items() if len(found)},
    )
    columns = _samples(config, evidence, arrays)
    return finish_run(
        result, columns, store, began=began, page=lambda done: write_report(done, arrays, folder)
    )


def finish_run(
    result: Result,
    columns: Mapping[str, np.ndarray],
    store: BlockStore,
    *,
    began: float,
    page: Callable[[Result], object],
) -> Result:
    """Write the end of an audit and drop its blocks; returns the result as written.

    Args:
        result: All but the seconds it took.
        columns: Of samples.h5.
        store: Blocks of the run directory.
        began: On the monotonic clock [s].
        page: Writes `report.html`, the last file, by which a finished run is known.
    """
    folder = store.folder.parent
    cost = replace(result.cost, seconds=round(time.monotonic() - began, 1))
    result = replace(result, cost=cost)
    write_arrays(folder / SAMPLES_NAME, columns)
    result.save(folder)
    page(result)
    store.remove()
    return result


def run_directory(config: RunConfig) -> Path:
    """The run directory: `out`, or runs/<UTC time>-<data name>."""
    return stamped_directory(config.out, Path(config.data).stem)


def stamped_directory(out: str | None, name: str) -> Path:
    """`out`, or runs/<UTC time>-<name>."""
    if out is not None:
        return Path(out)
    return Path("runs") / f"{datetime.now(UTC).strftime('%Y%m%dT%H%M%SZ')}-{name}"


def _load_all(
    specs: Sequence[str], x: Tensor, guided: str | None, all_guided: bool
) -> list[NamedCompressor]:
    """Load, name apart and check every compressor; the guided ones need a gradient too.

    x is all channels under audit: a file that does not say its convention is tried on some.
    """
    found: list[NamedCompressor] = []
    for spec in specs:
        named = load_compressor(spec, channels=x)
        taken = {other.name for other in found}
        if named.name in taken:
            named = replace(named, name=f"{named.name} ({spec})")
        sha256 = named.sha256 or code_sha256(named.compressor)  # before it runs and keeps anything
        cautions = preflight_cautions(named, x, guided=all_guided or spec == guided)
        found.append(replace(named, sha256=sha256, notices=named.notices + cautions))
    return found


def _fixing(
    config: RunConfig, channels: ChannelSet, base: Base, compressors: Sequence[NamedCompressor]
) -> dict[str, Any]:
    """Settings and file hashes: what a resumed run must share with the one it continues."""
    return {
        **config.fixing(),
        "version": __version__,
        "data_sha256": channels.source.sha256,
        "base_sha256": base.sha256,
        "compressor_sha256": [named.sha256 for named in compressors],
    }


def _gather(
    config: RunConfig,
    channels: ChannelSet,
    x_real: Tensor,
    base: Base,
    compressors: Sequence[NamedCompressor],
    store: BlockStore,
    progress: Progress | None,
) -> summary.Evidence:
    domain = ChannelDomain.of(channels)
    real = measure(x_real, compressors, domain)  # first: a compressor may fail on some channel
    samples = audited_samples(config, base, domain, store=store, progress=progress)
    measured = measure(samples.x, compressors, domain)
    guided = _issgm(config, base, compressors, domain, store, progress)
    names, tau = [named.name for named in compressors], _thresholds(config, channels)
    further = Deepening(
        config=config,
        base=base,
        domain=domain,
        losses=[nmse_of(named) for named in compressors],
        samples=samples,
        values={name: measured.nmse(name) for name in names},
        levels={n: threshold_levels(tau, real.nmse(n), config.tau_quantile) for n in names},
        folder=store.folder.parent,
        progress=progress,
    )
    return summary.Evidence(
        base_samples=samples,
        base=measured,
        real=real,
        channels=channels,
        compressors=compressors,
        issgm=guided,
        deeper=further.run(),
    )


def _thresholds(config: RunConfig, channels: ChannelSet) -> tuple[Threshold, ...]:
    return summary.thresholds(config.tau_quantile, config.tau_db, len(channels))


def _issgm(
    config: RunConfig,
    base: Base,
    compressors: Sequence[NamedCompressor],
    domain: ChannelDomain,
    store: BlockStore,
    progress: Progress | None,
) -> dict[str, tuple[WeightedSamples, Measured]]:
    """The paper's guided run for the compressor the settings name."""
    if config.issgm is None:
        return {}
    named = compressors[config.compressor.index(config.issgm)]
    audited = in_audit_space(named.compressor)
    total = config.n_issgm * (2 * config.issgm_steps + 1)
    tally = step_tally(progress, f"issgm for {named.name}", total)
    sampler = IssgmSampler(
        base,
        LossWeight(SquaredErrorLoss(audited)),
        steps=config.issgm_steps,
        device=torch_device(config.device),
        batch_size=config.batch_size,
        progress=tally,
    )
    name = f"issgm-{block_key(named.name)}"
    samples = draw_in_blocks(
        sampler,
        config.n_issgm,
        name=name,
        block=config.block,
        seed=config.seed,
        store=store,
        tally=tally,
    )
    samples = samples.moved(domain.onto_law(samples.x))
    return {named.name: (samples, measure(samples.x, compressors, domain))}


def _result(config: RunConfig, evidence: summary.Evidence, base: Base) -> Result:
    channels, samples = evidence.channels, evidence.base_samples
    tau = _thresholds(config, channels)
    entries = {
        named.name: _issgm_entry(
            config,
            named,
            evidence.issgm[named.name][0],
            evidence.issgm[named.name][1].nmse(named.name),
            base,
        )
        for named in evidence.compressors
        if named.name in evidence.issgm
    }
    rows = tuple(
        summary.compressor_row(
            named,
            evidence,
            tau=tau,
            tau_quantile=config.tau_quantile,
            issgm=entries.get(named.name),
        )
        for named in evidence.compressors
    )
    checked = summary.realism(evidence)
    ratios = summary.tail_ratios(evidence, config.tau_quantile)
    spent = {"base samples": samples.n_evaluations}
    spent |= {f"issgm for {n}": drawn.n_evaluations for n, (drawn, _) in evidence.issgm.items()}
    spent |= evidence.deeper.spent
    return Result(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=program_versions(),
        seed=config.seed,
        data=data_info(channels),
        base=base_info(base, base_name(config.base), checked, ratios, n_samples=len(samples)),
        tau=tau,
        compressors=rows,
        realism=checked,
        tail_ratios=ratios,
        cost=cost_of(spent, config.device),
        audited_law=f"base model under the {samples.chain}; each sample normalised to unit power",
        warnings=base_mismatch(channels, base) + _notices(evidence.compressors),
        notes=summary.drop_notes(evidence, config.tau_quantile),
    )


def _notices(compressors: Sequence[NamedCompressor]) -> tuple[str, ...]:
    """What was found or assumed when the compressors were loaded."""
    return tuple(f"{named.name}: {notice}" for named in compressors for notice in named.notices)


def _issgm_entry(
    config: RunConfig,
    named: NamedCompressor,
    samples: WeightedSamples,
    nmse: np.ndarray,
    base: Base,
) -> IssgmEntry:
    full, note = full_issgm_figures(named, base.sha256)
    return summary.issgm_entry(samples, nmse, steps=config.issgm_steps, full=full, note=note)


def full_issgm_figures(
    named: NamedCompressor, base_sha256: str
) -> tuple[Mapping[str, Any] | None, str]:
    """The long run of benchmarks.issgm for this compressor and base, or why it cannot be shown.

    The results travel with the repository, not with the wheel.
    """
    path = Path(__file__).resolve().parents[1] / "benchmarks" / "results" / "issgm.json"
    if not path.is_file():
        return None, "The full run (python -m benchmarks.issgm) is not in this installation."
    try:
        rows = json.loads(path.read_text(encoding="utf-8"))["rows"]
        mine = [r for r in rows if r["compressor"] == named.name and r["method"] == "issgm"]
        made_of = [(row["base_sha256"], row["compressor_sha256"]) for row in mine]
    except (OSError, ValueError, KeyError, TypeError) as error:
        return None, f"{path} cannot be read ({type(error).__name__}): repeat the benchmark."
    if not mine:
        return None, f"benchmarks/results/issgm.json holds no run for {named.name}."
    row = mine[0]
    if made_of[0] != (base_sha256, named.sha256):
        return None, (
            "The full run in benchmarks/results/issgm.json belongs to another base model or other "
            "weights and is not shown: repeat python -m benchmarks.issgm."
        )
    return {"e_q": row["estimate"], "steps": row["steps"], "samples": row["estimate"]["n"]}, ""


def _samples(
    config: RunConfig, evidence: summary.Evidence, arrays: ReportArrays
) -> dict[str, np.ndarray]:
    """Columns of samples.h5: one row a base or guided sample, and the arrays of the figures."""
    drawn = [evidence.base_samples, *(samples for samples, _ in evidence.issgm.values())]
    measured = [evidence.base, *(found for _, found in evidence.issgm.values())]
    n = sum(len(part) for part in drawn)
    columns = {
        "x": torch.cat([part.x for part in drawn]).half().numpy(),
        "law": np.concatenate([np.full(len(part), part.law, dtype="S8") for part in drawn]),
        "log_w": torch.cat([part.log_w for part in drawn]).numpy(),
        "seed": np.full(n, config.seed, dtype=np.int64),
        "drop": np.full(n, -1, dtype=np.int64),  # samples of a model belong to no drop
    }
    for name, losses in evidence.base.losses.items():
        for loss in losses:
            values = [found.losses[name][loss] for found in measured]
            columns[f"loss/{block_key(name)}/{loss}"] = np.concatenate(values)
        shown = [e.x_hat for e in arrays.exemplars if e.compressor == name]
        columns[f"x_hat/{block_key(name)}"] = np.stack(shown)
    for name in evidence.base.features:
        columns[f"features/{name}"] = np.concatenate([found.features[name] for found in measured])
    columns |= {f"report/{key}": value for key, value in arrays.to_flat().items()}
    return columns
