"""From what was measured to the `Result` and the arrays of its figures.

Pure bookkeeping: no sampling and no files. Thresholds, tails, agreement and realism are put
together here; their arithmetic is reports'.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.channel_set import ChannelSet
from compressors.audit_space import in_audit_space
from compressors.klt import Klt
from compressors.loading import NamedCompressor, bundled_compressors, load_compressor
from csi_audit.deeper import Deeper, threshold_levels
from csi_audit.estimate import expectation
from csi_audit.loss_estimates import LossOnBothSides, importance_estimates
from csi_audit.losses import NmseLoss, in_blocks
from csi_audit.measuring import LOSSES, Measured
from csi_audit.samples import WeightedSamples
from reports.estimates import Estimate, design_effect, mean_estimate
from reports.fidelity_items import TailRatio
from reports.figure_data import Exemplar, ReportArrays, exemplar_indices, mean_power, worst_weight
from reports.realism import base_item
from reports.schema import (
    CompressorRow,
    ImportanceEstimates,
    IssgmEntry,
    LossSummary,
    RealismItem,
    Threshold,
)
from reports.stratify import worst_features
from reports.tail_ratios import tail_ratio
from reports.words import decibel

WORST_SHARE = 0.01


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """All that was drawn and measured in one audit.

    Attributes:
        base_samples: Weighted draws of p, at unit power.
        base: What was measured on them.
        real: The same on the real channels.
        channels: The real channels.
        compressors: Under audit, in order.
        issgm: Live guided run by compressor name: its samples and what was measured on them.
        deeper: What was done beyond the base samples.
    """

    base_samples: WeightedSamples
    base: Measured
    real: Measured
    channels: ChannelSet
    compressors: Sequence[NamedCompressor]
    issgm: Mapping[str, tuple[WeightedSamples, Measured]]
    deeper: Deeper = field(default_factory=Deeper)


def thresholds(tau_quantile: float, tau_db: Sequence[float], n_real: int) -> tuple[Threshold, ...]:
    """The quantile threshold, each compressor's own, and the fixed ones."""
    own = Threshold(
        label=f"own {100 * tau_quantile:g} % quantile",
        nmse_db=None,
        origin=f"each compressor's own {100 * tau_quantile:g} % quantile of NMSE over the "
        f"{n_real:,} real channels",
    )
    fixed = [
        Threshold(
            label=decibel(level), nmse_db=float(level), origin="one level for all compressors"
        )
        for level in tau_db
    ]
    return (own, *fixed)


def compressor_row(
    named: NamedCompressor,
    evidence: Evidence,
    *,
    tau: Sequence[Threshold],
    tau_quantile: float,
    issgm: IssgmEntry | None,
) -> CompressorRow:
    """Everything the report says about one compressor."""
    real = evidence.real.nmse(named.name)
    levels = threshold_levels(tau, real, tau_quantile)
    against, sentence = against_klt(named, evidence.real, evidence.compressors)
    bits = evidence.real.bits.get(named.name)
    convention = named.compressor.convention
    worst = worst_features(real, evidence.real.features, source="real", share=WORST_SHARE)
    return CompressorRow(
        name=named.name,
        spec=named.spec,
        convention=_convention(named, evidence.real.x),
        n_code=int(named.compressor.n_code),
        losses={name: _loss(name, evidence, named.name) for name in LOSSES},
        estimates=_estimates(evidence, named.name, tau, levels, issgm),
        against_klt_db=against,
        against_klt=sentence,
        worst=worst,
        bits_mean=None if bits is None else float(bits.mean()),
        bits_max=None if bits is None else float(bits.max()),
        n_side=convention.n_side,
        n_channel=math.prod(convention.event_shape),
    )


def _estimates(
    evidence: Evidence,
    name: str,
    tau: Sequence[Threshold],
    levels: Mapping[str, float],
    issgm: IssgmEntry | None,
) -> ImportanceEstimates:
    """E_p[NMSE], E_q[NMSE] and tails of one compressor."""
    found = LossOnBothSides(
        name=name,
        loss="NMSE",
        weight="NMSE",
        samples=evidence.base_samples,
        base=evidence.base.nmse(name),
        real=evidence.real.nmse(name),
    )
    return importance_estimates(found, evidence.deeper, tau, levels, issgm=issgm)


def _convention(named: NamedCompressor, real: Tensor) -> str:
    """The compressor's convention, and what its crop costs on the real channels."""
    convention = named.compressor.convention
    said = convention.describe()
    if convention.crop_delay is None or convention.crop_delay == convention.event_shape[2]:
        return said
    lost = convention.energy_lost(real)
    return (
        f"{said}; the crop loses {100 * float(lost.mean()):.2g} % of the real channels' energy "
        f"(worst user {100 * float(lost.max()):.2g} %)"
    )


def _loss(name: str, evidence: Evidence, compressor: str) -> LossSummary:
    return LossSummary(
        unit=LOSSES[name].unit,
        worse=LOSSES[name].worse,
        base=expectation(evidence.base_samples, evidence.base.losses[compressor][name]),
        real=mean_estimate(evidence.real.losses[compressor][name], method="real channels"),
    )


def against_klt(
    named: NamedCompressor, real: Measured, audited: Sequence[NamedCompressor] = ()
) -> tuple[float | None, str]:
    """NMSE of a KLT of equal code length minus this one's [dB], on the real channels.

    The KLT is one under audit, else a bundled one. None where neither has that code length and
    shape, or where the code is quantised: a KLT's numbers are not. The sentence is "" where the
    report's own says it all.
    """
    name, n_code = named.name, int(named.compressor.n_code)
    if isinstance(named.compressor, Klt):
        return None, f"{name} is a KLT itself, the best linear code of the data it fits."
    if real.bits.get(name) is not None:
        return None, (
            f"{name} is not compared with a KLT: its code is quantised, the numbers of a KLT are "
            "not."
        )
    linear = _klt_nmse(n_code, real, audited)
    if linear is not None:
        return 10 * math.log10(linear / float(real.nmse(name).mean())), ""
    size = real.x[0].numel()
    if size % n_code or n_code % 2:  # fit-compressor makes none of that length
        return None, f"{name} is not compared: csi-audit fits no KLT of {n_code} real numbers."
    return None, (
        f"{name}: no KLT of {n_code} real numbers is bundled. Fit one to your channels (csi-audit "
        f"fit-compressor --arch klt --ratio {size // n_code}) and audit it beside."
    )


def _klt_nmse(n_code: int, real: Measured, audited: Sequence[NamedCompressor]) -> float | None:
    """Mean NMSE of a KLT of that code length, one under audit before a bundled one."""
    for named in audited:
        if isinstance(named.compressor, Klt) and named.compressor.n_code == n_code:
            return float(real.nmse(named.name).mean())
    for klt in bundled_klts():
        if klt.n_code == n_code and klt.convention.event_shape == tuple(real.x.shape[1:]):
            return float(in_blocks(NmseLoss(in_audit_space(klt)), real.x).mean())
    return None


@cache
def bundled_klts() -> tuple[Klt, ...]:
    """The KLTs the package carries."""
    found = (load_compressor(name).compressor for name in bundled_compressors() if "klt" in name)
    return tuple(klt for klt in found if isinstance(klt, Klt))


def realism(evidence: Evidence) -> tuple[RealismItem, ...]:
    """KS distance of each distortion and feature, base samples against real channels."""
    names = [named.name for named in evidence.compressors]
    rows = [
        base_item(
            n, evidence.base.nmse(n), evidence.real.nmse(n), kind="distortion", label=f"NMSE of {n}"
        )
        for n in names
    ]
    shared = evidence.base.features.keys() & evidence.real.features.keys()
    rows += [
        base_item(name, evidence.base.features[name], values, kind="feature")
        for name, values in evidence.real.features.items()
        if name in shared
    ]
    return tuple(rows)


def tail_ratios(evidence: Evidence, tau_quantile: float) -> tuple[TailRatio, ...]:
    """How often base samples reach each compressor's own threshold, over how often users do."""
    drops = evidence.channels.drops
    return tuple(
        tail_ratio(
            named.name,
            evidence.base.nmse(named.name),
            evidence.real.nmse(named.name),
            share=1 - tau_quantile,
            drops=None if drops is None else drops.numpy(),
            label=f"NMSE of {named.name}",
        )
        for named in evidence.compressors
    )


def drop_notes(evidence: Evidence, tau_quantile: float) -> tuple[str, ...]:
    """The design effect of the drops on each compressor's failures, or why it is unknown."""
    drops = evidence.channels.drops
    if drops is None:
        return ("The file does not say which users share a drop: real intervals count per user.",)
    parts = []
    for named in evidence.compressors:
        nmse = evidence.real.nmse(named.name)
        failed = (nmse > np.quantile(nmse, tau_quantile)).astype(np.float64)
        effect = design_effect(failed, drops.numpy())
        parts.append(f"{named.name} " + ("unknown" if effect is None else f"{effect:.2f}"))
    return (
        f"Real intervals count per user (Clopper-Pearson). Design effect of the "
        f"{len(drops.unique())} drops on failures beyond the {100 * tau_quantile:g} % quantile: "
        f"{', '.join(parts)} (1 = users as good as independent).",
    )


def arrays(evidence: Evidence) -> ReportArrays:
    """What the figures are drawn from."""
    grid = evidence.channels.grid
    known = grid.bandwidth_hz is not None
    taps, tones = grid.delays_s(), np.arange(grid.n_sub, dtype=np.float64)
    names = [named.name for named in evidence.compressors]
    return ReportArrays(
        delay_s=tones if taps is None else taps.numpy(),
        sin_azimuth=grid.sin_azimuth(evidence.channels.n_tx).numpy(),
        frequency_hz=tones * (1.0 if grid.spacing_hz is None else grid.spacing_hz),
        nmse_base={n: evidence.base.nmse(n) for n in names},
        nmse_real={n: evidence.real.nmse(n) for n in names},
        log_l={n: np.log(np.maximum(evidence.base.nmse(n), 1e-300)) for n in names},
        nmse_issgm={n: measured.nmse(n) for n, (_, measured) in evidence.issgm.items()},
        exemplars=tuple(e for named in evidence.compressors for e in _exemplars(named, evidence)),
        power_base=mean_power(evidence.base.x),
        power_real=mean_power(evidence.real.x),
        worst_base={n: _worst_power(evidence.base, n) for n in names},
        worst_real={n: _worst_power(evidence.real, n) for n in names},
        worst_share=WORST_SHARE,
        bandwidth_known=known,
        panel=grid.panel,
        features_base=dict(evidence.base.features),
        features_real=dict(evidence.real.features),
    )


def _worst_power(measured: Measured, name: str) -> npt.NDArray[Any]:
    weight = worst_weight(measured.nmse(name), WORST_SHARE)
    rows = np.flatnonzero(weight)
    return mean_power(measured.x[torch.from_numpy(rows)], weight[rows])


@torch.inference_mode()
def _exemplars(named: NamedCompressor, evidence: Evidence) -> list[Exemplar]:
    """Lowest and highest distortion of both sources, with reconstructions."""
    audited, found = in_audit_space(named.compressor), []
    for source, measured in (("base", evidence.base), ("real", evidence.real)):
        low, high = exemplar_indices(measured.nmse(named.name))
        for side, rows in (("low", low), ("high", high)):
            index = int(rows[0])
            x: Tensor = measured.x[index : index + 1]
            found.append(
                Exemplar(
                    compressor=named.name,
                    source="base" if source == "base" else "real",
                    side="low" if side == "low" else "high",
                    index=index,
                    nmse=float(measured.nmse(named.name)[index]),
                    x=x[0].numpy(),
                    x_hat=audited(x)[0].numpy(),
                )
            )
    return found


def issgm_entry(
    samples: WeightedSamples,
    nmse: npt.NDArray[np.float64],
    *,
    steps: int,
    full: Mapping[str, Any] | None,
    note: str,
) -> IssgmEntry:
    """The live guided run of one compressor, beside the benchmark's full figures."""
    e_q: Estimate = expectation(samples, nmse)
    return IssgmEntry(label="short run", e_q=e_q, steps=steps, n=len(samples), full=full, note=note)
