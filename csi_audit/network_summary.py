"""From what was measured on placements to the rows of a result and the arrays of its figures.

The counterpart of csi_audit.summary for networks: bookkeeping without sampling and files.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from channels.network import CellNetwork
from channels.placement_domain import PLACEMENT_FEATURES, PlacementDomain
from csi_audit.deeper import Deeper, FailureSample, threshold_levels
from csi_audit.estimate import expectation
from csi_audit.loss_estimates import LossOnBothSides, importance_estimates
from csi_audit.measuring import Measured
from csi_audit.network_losses import OutageAsked
from csi_audit.network_measuring import RealPlacements
from csi_audit.network_settings import NetworkRunConfig
from csi_audit.samples import WeightedSamples
from reports.estimates import mean_estimate
from reports.failure_modes import LEAST_FAILURES
from reports.fidelity_items import TailRatio
from reports.network_schema import NetworkInfo, OutageRow
from reports.placement_arrays import FailurePlacements, PlacementArrays
from reports.realism import base_item
from reports.schema import LossSummary, RealismItem, Tail, Threshold
from reports.stratify import worst_features
from reports.tail_ratios import tail_ratio
from reports.words import decibel, joined

WORST_SHARE = 0.01
ENOUGH = 20
"""Failing base samples from which a threshold will do for modes."""
_ONE_LEVEL = "one level for the expected and the joint outage"


@dataclass(frozen=True, kw_only=True)
class NetworkEvidence:
    """All that was drawn and measured in one audit of a network.

    Attributes:
        domain: Placements on its network.
        asked: Losses, in order.
        tau: Thresholds of each, by its name.
        base_samples: Weighted draws of p, in the square.
        base: What was measured on them.
        real: The same on the real side.
        sides: Where that comes from.
        at_least: m of the joint outage.
        deeper: What was done beyond the base samples.
    """

    domain: PlacementDomain
    asked: Sequence[OutageAsked]
    tau: Mapping[str, tuple[Threshold, ...]]
    base_samples: WeightedSamples
    base: Measured
    real: Measured
    sides: RealPlacements
    at_least: int
    deeper: Deeper

    def on_base(self, name: str) -> npt.NDArray[np.float64]:
        """One loss of the base samples, (N,)."""
        return self.base.losses[name][name]

    def on_real(self, name: str) -> npt.NDArray[np.float64]:
        """The same on the real side."""
        return self.real.losses[name][name]


# --- Thresholds -----------------------------------------------------------------------------------


def outage_thresholds(
    config: NetworkRunConfig,
    asked: OutageAsked,
    network: CellNetwork,
    *,
    at_least: int,
    n_users: int,
    real: RealPlacements,
) -> tuple[Threshold, ...]:
    """The quantile threshold of one loss, and its fixed ones."""
    share = f"{100 * config.tau_quantile:g} %"
    own = Threshold(
        label=f"own {share} quantile",
        nmse_db=None,
        origin=f"each loss's own {share} quantile over the {len(real.x):,} {real.whose}",
    )
    if asked.unit != "dB":
        fixed = [
            Threshold(label=f"{level:g}", nmse_db=None, level=level, origin=_ONE_LEVEL)
            for level in config.tau
        ]
        return (own, *fixed)
    count = f"{at_least} or more of the {n_users} users"
    fixed = [
        Threshold(
            label=decibel(level),
            nmse_db=None,
            level=float(level),
            origin=f"{count} have an SINR below {decibel(network.threshold_db - level)}",
        )
        for level in config.tau_db
    ]
    return (own, *fixed)


def levels_of(
    tau: Mapping[str, tuple[Threshold, ...]], real: Measured, tau_quantile: float
) -> dict[str, dict[str, float]]:
    """Each loss at its thresholds, by label."""
    return {
        name: threshold_levels(own, real.losses[name][name], tau_quantile)
        for name, own in tau.items()
    }


def common_thresholds(tau: Mapping[str, tuple[Threshold, ...]]) -> tuple[Threshold, ...]:
    """Thresholds of all losses, each label once."""
    return tuple({own.label: own for thresholds in tau.values() for own in thresholds}.values())


# --- Rows -----------------------------------------------------------------------------------------


def outage_row(asked: OutageAsked, evidence: NetworkEvidence) -> OutageRow:
    """Everything the report says about one loss, without its modes."""
    name, samples = asked.name, evidence.base_samples
    base, real = evidence.on_base(name), evidence.on_real(name)
    found = LossOnBothSides(
        name=name,
        loss=asked.audited.symbol,
        weight=asked.weight,
        samples=samples,
        base=base,
        real=real,
        weights=asked.audited.weights_of(samples.x, base),
        is_nmse=False,
        whose=evidence.sides.whose,
    )
    return OutageRow(
        name=name,
        label=asked.label,
        unit=asked.unit,
        worse="high",
        definition=asked.definition,
        losses={
            name: LossSummary(
                unit=asked.unit,
                worse="high",
                base=expectation(samples, base),
                real=mean_estimate(real, method=evidence.sides.whose),
            )
        },
        estimates=importance_estimates(
            found, evidence.deeper, evidence.tau[name], evidence.deeper.levels[name]
        ),
        worst=worst_features(
            real,
            evidence.real.features,
            source="real",
            share=WORST_SHARE,
            info=PLACEMENT_FEATURES,
        ),
    )


def network_realism(evidence: NetworkEvidence) -> tuple[RealismItem, ...]:
    """KS distance of each loss and feature, base samples against the real side."""
    rows = [
        base_item(
            asked.name,
            evidence.on_base(asked.name),
            evidence.on_real(asked.name),
            kind="distortion",
            label=asked.label,
        )
        for asked in evidence.asked
    ]
    labels = evidence.domain.labels
    rows += [
        base_item(
            name, evidence.base.features[name], values, kind="feature", label=labels[name].label
        )
        for name, values in evidence.real.features.items()
    ]
    return tuple(rows)


def outage_tail_ratios(evidence: NetworkEvidence, tau_quantile: float) -> tuple[TailRatio, ...]:
    """How often base samples reach each loss's own threshold, over how often the real side does."""
    return tuple(
        tail_ratio(
            asked.name,
            evidence.on_base(asked.name),
            evidence.on_real(asked.name),
            share=1 - tau_quantile,
            label=asked.label,
        )
        for asked in evidence.asked
    )


def network_info(evidence: NetworkEvidence) -> NetworkInfo:
    """The network as a result describes it."""
    network, n_users = evidence.domain.network, evidence.domain.n_users
    loads = network.load
    width, height = network.area_m
    return NetworkInfo(
        description=f"{network.n_stations} base stations on {width:g} m x {height:g} m, {n_users} "
        f"users ({evidence.sides.law}); a user with an SINR below "
        f"{decibel(network.threshold_db)} is in outage.",
        area_m=network.area_m,
        stations_m=network.stations_m,
        n_users=n_users,
        law=evidence.sides.law,
        at_least=evidence.at_least,
        exponent=network.exponent,
        power_w=network.power_w,
        epsilon=network.epsilon,
        noise_w=network.noise_w,
        threshold_db=network.threshold_db,
        steepness=network.steepness,
        scale=network.scale,
        load=loads if isinstance(loads, tuple) else (loads,) * network.n_stations,
        propagation=_propagation(network),
    )


def _propagation(network: CellNetwork) -> str:
    parts = []
    if network.shadowing is not None:
        own = network.shadowing
        parts.append(
            f"log-normal shadowing of {own.spread_db:g} dB, correlated over {own.correlation_m:g} m"
        )
    if network.pattern is not None:
        parts.append(f"sector antennas of {network.pattern.width_deg:g} degrees")
    return joined(parts)


# --- Arrays of the figures ------------------------------------------------------------------------


def placement_arrays(evidence: NetworkEvidence, rows: Sequence[OutageRow]) -> PlacementArrays:
    """What modes are found in and figures drawn from."""
    names, samples = [asked.name for asked in evidence.asked], evidence.base_samples
    with np.errstate(divide="ignore"):
        log_l = {
            asked.name: np.log(asked.audited.weights_of(samples.x, evidence.on_base(asked.name)))
            for asked in evidence.asked
        }
    chosen = {row.name: mode_level(row, evidence.deeper.failures.get(row.name)) for row in rows}
    failures = {
        name: FailurePlacements(
            x=found.samples.x.numpy(), log_w=found.samples.log_w.numpy(), clusters=found.run
        )
        for name, found in evidence.deeper.failures.items()
        if len(found) and chosen[name] == found.samples.tau
    }
    return PlacementArrays(
        network=evidence.domain.network,
        x_base=samples.x.numpy(),
        log_w=samples.log_w.numpy(),
        x_real=evidence.real.x.numpy(),
        losses_base={name: evidence.on_base(name) for name in names},
        losses_real={name: evidence.on_real(name) for name in names},
        log_l=log_l,
        features_base=dict(evidence.base.features),
        features_real=dict(evidence.real.features),
        failures=failures,
        tau=chosen,
    )


def mode_level(row: OutageRow, failures: FailureSample | None) -> float:
    """The threshold that modes are looked for at, in the loss's unit.

    That of the failure sample, where its runs are enough to tell modes; else the rarest that
    `ENOUGH` base samples exceed, or, where none is, the one that most do.
    """
    rarest = None if failures is None else failures.samples.tau
    if failures is not None and rarest is not None and failures.effective_runs > LEAST_FAILURES:
        return rarest
    tails = row.estimates.tails
    enough = [tail for tail in tails if _failing(tail) >= ENOUGH]
    chosen = min(enough, key=_failing) if enough else max(tails, key=_failing)
    return 0.0 if chosen.level is None else chosen.level


def _failing(tail: Tail) -> float:
    """Base samples beyond a threshold."""
    counted = tail.base if tail.counted is None else tail.counted
    return 0.0 if counted is None else counted.value * counted.n
