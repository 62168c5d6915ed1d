"""Failure modes and strata of an audit: channels, losses and reconstructions to reports' functions.

Adds them to a result and to the arrays of its figures. The modes of a compressor are found on the
base samples, or on a sample of the failure law where there is one, at one threshold; the real
channels then confirm them or not. The arithmetic is reports'.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.channel_domain import ChannelDomain
from channels.channel_set import Grid
from compressors.audit_space import AuditedCompressor, in_audit_space
from compressors.loading import NamedCompressor
from csi_audit.deeper import FailureSample
from csi_audit.losses import NmseLoss, in_blocks
from csi_audit.measuring import Measured
from csi_audit.summary import Evidence
from reports.failure_modes import FoundModes, WeightedChannels, failure_cases, found_modes
from reports.figure_data import Exemplar, ModeMaps, ReportArrays
from reports.mode_description import describe_modes
from reports.mode_schema import ModeReport, Stratum
from reports.mode_space import Axes, described_channels, mode_labels
from reports.schema import CompressorRow, Result, Tail
from reports.strata import failure_strata

Array = npt.NDArray[np.float64]

ENOUGH = 20
"""Failing base samples, or independent failure samples, from which a threshold will do."""

EXEMPLARS = 3
_BLOCK = 250  # channels in memory with their reconstructions


@dataclass(frozen=True, kw_only=True)
class ModesFound:
    """What was found for one compressor, and what its figures are drawn from."""

    report: ModeReport
    strata: tuple[Stratum, ...]
    maps: tuple[ModeMaps, ...]
    error: Array
    exemplars: tuple[Exemplar, ...]


def with_failure_modes(
    result: Result,
    arrays: ReportArrays,
    evidence: Evidence,
    *,
    failures: Mapping[str, FailureSample] | None = None,
) -> tuple[Result, ReportArrays]:
    """The result and the arrays of its figures with modes and strata of every compressor.

    Args:
        result: Without modes.
        arrays: Of its figures.
        evidence: What was drawn and measured.
        failures: By compressor, channels weighted to p(x | L > tau) with their tau (linear NMSE),
            at unit power, as subset simulation gives them. Where such a sample is worth more than
            the failing base samples, its tau is the threshold looked at.
    """
    given = {} if failures is None else failures
    found = {
        named.name: _modes_of_row(named, row, evidence, given.get(named.name), result.seed or 0)
        for named, row in zip(evidence.compressors, result.compressors, strict=True)
        if row.estimates.tails
    }
    rows = tuple(
        replace(row, modes=found[row.name].report, strata=found[row.name].strata)
        if row.name in found
        else row
        for row in result.compressors
    )
    return replace(result, compressors=rows), replace(
        arrays,
        exemplars=arrays.exemplars + tuple(e for one in found.values() for e in one.exemplars),
        mode_maps=tuple(maps for one in found.values() for maps in one.maps),
        error_base={name: one.error for name, one in found.items()},
    )


def _modes_of_row(
    named: NamedCompressor,
    row: CompressorRow,
    evidence: Evidence,
    given: FailureSample | None,
    seed: int,
) -> ModesFound:
    """Modes at the threshold, and on the sample, that tell most."""
    tau = None if given is None else given.samples.tau
    if given is not None and tau is not None:
        counted = float((evidence.base.nmse(named.name) > tau).sum())
        if given.effective_runs >= max(ENOUGH, counted):
            tail = min(row.estimates.tails, key=lambda t: abs(t.tau_db - 10 * math.log10(tau)))
            return modes_of_compressor(named, tail, evidence, failures=given, seed=seed)
    return modes_of_compressor(named, _chosen_tail(row), evidence, seed=seed)


def modes_of_compressor(
    named: NamedCompressor,
    tail: Tail,
    evidence: Evidence,
    *,
    failures: FailureSample | None = None,
    seed: int = 0,
) -> ModesFound:
    """Modes and strata of one compressor at one threshold.

    Args:
        named: The compressor.
        tail: The threshold with what was found at it.
        evidence: Base samples and real channels.
        failures: A sample of the failure law; None takes the failing base samples.
        seed: Of the resamples that stability is judged by.
    """
    channels, audited = evidence.channels, in_audit_space(named.compressor)
    tau = 10 ** (tail.tau_db / 10)
    axes = mode_axes(channels.grid, channels.n_tx)
    log_w = evidence.base_samples.log_w.numpy()
    base = _weighted(evidence.base, named.name, tau, axes, log_w)
    real = _weighted(evidence.real, named.name, tau, axes, np.zeros(len(channels)))
    x, other = evidence.base.x, None
    if failures is not None:
        other = _of_failures(failures, audited, tau, axes, ChannelDomain.of(channels))
        x = torch.cat([x, failures.samples.x])
    rate = None if tail.base is None else tail.base.value
    modes = found_modes(failure_cases(base, other, rate=rate), seed=seed)
    numbers = range(len(modes.rules))
    weights = [modes.cases.population, *(modes.weight(k) for k in numbers)]
    everyone, *maps = mean_maps(audited, x, weights, named.name)
    report = describe_modes(
        modes,
        base=base,
        real=real,
        failures=other,
        maps=maps,
        population=everyone,
        axes=axes,
        delay_known=channels.grid.bandwidth_hz is not None,
        threshold=tail.threshold,
        nmse_db=tail.tau_db,
    )
    is_los = channels.labels.get("is_los")
    return ModesFound(
        report=report,
        strata=failure_strata(
            base,
            real,
            threshold=tail.threshold,
            is_los=None if is_los is None else is_los.numpy(),
        ),
        maps=tuple(maps),
        error=everyone.error,
        exemplars=tuple(
            e for k in numbers for e in _exemplars(k, modes, real, evidence, named.name, audited, x)
        ),
    )


def mode_axes(grid: Grid, n_tx: int) -> Axes:
    """Delay and angle axes of the maps of a grid."""
    delays = grid.delays_s()
    taps = np.arange(grid.n_sub, dtype=np.float64)
    columns = grid.panel_of(n_tx)[2]
    return Axes(
        delay_s=taps if delays is None else delays.numpy(),
        sin_azimuth=grid.sin_azimuth(n_tx).numpy()[:columns],
    )


@torch.inference_mode()
def mean_maps(
    audited: AuditedCompressor, x: Tensor, weights: Sequence[Array], compressor: str
) -> list[ModeMaps]:
    """Weighted mean power of channels x (n, 2 n_rx, n_tx, n_delay) and of their error.

        power = sum_i w_i |x_i|^2,   error = sum_i w_i |x_hat_i - x_i|^2   over receive antennas

    Args:
        audited: The compressor in audit space.
        x: Channels at unit power.
        weights: Each (n,), sum 1; the first is the population's, then one for each mode.
        compressor: Its name.
    Returns:
        Maps [n_tx, n_delay] for each of the weights, numbered from -1.
    """
    w = torch.from_numpy(np.stack(weights))  # (k, n)
    power, error = (torch.zeros(len(w), *x.shape[2:], dtype=torch.float64) for _ in range(2))
    for start in range(0, len(x), _BLOCK):
        part = slice(start, start + _BLOCK)
        if not w[:, part].any():
            continue
        lost = audited(x[part]) - x[part]
        for total, maps in ((power, x[part]), (error, lost)):
            total += torch.einsum("kn,nad->kad", w[:, part], maps.double().square().sum(1))
    return [
        ModeMaps(compressor=compressor, mode=k - 1, power=power[k].numpy(), error=error[k].numpy())
        for k in range(len(w))
    ]


def _chosen_tail(row: CompressorRow) -> Tail:
    """The rarest threshold that `ENOUGH` base samples exceed, or, where none is, the one that most
    do."""
    tails = row.estimates.tails
    enough = [tail for tail in tails if _failing(tail) >= ENOUGH]
    return min(enough, key=_failing) if enough else max(tails, key=_failing)


def _failing(tail: Tail) -> float:
    """Base samples beyond a threshold."""
    counted = tail.base if tail.counted is None else tail.counted
    return 0.0 if counted is None else counted.value * (counted.ess or counted.n)


def _weighted(
    measured: Measured, name: str, tau: float, axes: Axes, log_w: Array
) -> WeightedChannels:
    return WeightedChannels(
        channels=described_channels(measured.x.numpy(), measured.features, axes),
        fails=measured.nmse(name) > tau,
        log_w=log_w,
    )


def _of_failures(
    failures: FailureSample,
    audited: AuditedCompressor,
    tau: float,
    axes: Axes,
    domain: ChannelDomain,
) -> WeightedChannels:
    """The failure sample as rules see it; what descends from one draw is one cluster."""
    x = failures.samples.x
    features = {name: value.double().numpy() for name, value in domain.features(x).items()}
    return WeightedChannels(
        channels=described_channels(x.numpy(), features, axes),
        fails=in_blocks(NmseLoss(audited), x).numpy() > tau,
        log_w=failures.samples.log_w.numpy(),
        clusters=failures.run,
    )


def _exemplars(
    mode: int,
    modes: FoundModes,
    real: WeightedChannels,
    evidence: Evidence,
    name: str,
    audited: AuditedCompressor,
    x: Tensor,
) -> list[Exemplar]:
    """Failing channels of a mode at the quartiles of their NMSE: real ones where there are enough.

    Otherwise of the sample that the modes were found on.
    """
    inside = (mode_labels(modes.rules, real.channels) == mode) & real.fails
    source: Literal["real", "base"] = "real"
    rows = np.flatnonzero(inside)
    x_of, nmse = evidence.real.x, evidence.real.nmse(name)
    if len(rows) < EXEMPLARS:
        source, x_of = "base", x
        rows = np.flatnonzero(modes.weight(mode))
        nmse = np.full(len(x), np.nan)
        nmse[rows] = in_blocks(NmseLoss(audited), x[torch.from_numpy(rows)]).numpy()
    return [
        _exemplar(int(row), x_of, float(nmse[row]), audited, name, source, mode)
        for row in _quartiles(rows, nmse[rows])
    ]


def _quartiles(rows: npt.NDArray[Any], nmse: Array) -> npt.NDArray[Any]:
    """Up to `EXEMPLARS` different rows at equally spaced ranks of their NMSE, lowest first."""
    order = rows[np.argsort(nmse, kind="stable")]
    ranks = (np.arange(1, EXEMPLARS + 1) / (EXEMPLARS + 1) * len(order)).astype(int)
    return order[np.unique(np.minimum(ranks, len(order) - 1))]


@torch.inference_mode()
def _exemplar(
    row: int,
    x: Tensor,
    nmse: float,
    audited: AuditedCompressor,
    name: str,
    source: Literal["real", "base"],
    mode: int,
) -> Exemplar:
    one = x[row : row + 1]
    return Exemplar(
        compressor=name, source=source, side="high", index=row, nmse=nmse,
        x=one[0].numpy(), x_hat=audited(one)[0].numpy(), mode=mode,
    )  # fmt: skip
