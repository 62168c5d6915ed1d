"""Failure probability by stratum: how often channels fail within ranges of a physical feature.

Base samples and real channels are counted in the same strata, with intervals. The figures are drawn
in mode_figures.py.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from channels.physical_features import FEATURES, FeatureInfo
from reports.estimates import Estimate
from reports.failure_modes import WeightedChannels
from reports.mode_description import LOS_DB
from reports.mode_schema import Stratum
from reports.mode_space import Array, Bool
from reports.reweighting import normalised_weights
from reports.stratify import feature_display, weighted_quantile

STRATA_FEATURES = ("delay_spread_s", "azimuth_spread_deg", "effective_paths", "k_factor_db")
SIGHT = "line_of_sight"
_PARTS = 5  # of the real channels, alike in size


def failure_strata(
    base: WeightedChannels,
    real: WeightedChannels | None,
    *,
    threshold: str,
    is_los: npt.ArrayLike | None = None,
    names: Sequence[str] = STRATA_FEATURES,
    info: Mapping[str, FeatureInfo] = FEATURES,
) -> tuple[Stratum, ...]:
    """P(L > tau) in fifths of the real channels by each feature, then by line of sight.

    Ends are rounded to three digits, so that anyone can cut the same strata; without real channels
    they are those of the base samples. A feature of which either side knows nothing is left out.

    Args:
        base: Base samples.
        real: Real channels; None without any.
        threshold: Label of the threshold.
        is_los: Line of sight of each real channel (n_real,), where the file says so. Otherwise, and
            on base samples, a channel has it whose K-factor estimate is at least `LOS_DB`.
        names: Features to stratify by.
        info: Label, unit and display scale by feature name.
    """
    sides = [base] if real is None else [base, real]
    rows = [
        stratum
        for name in names
        if all(name in side.channels.features for side in sides)
        for stratum in _by_feature(name, base, real, threshold, info)
    ]
    if all("k_factor_db" in side.channels.features for side in sides):
        rows += _by_sight(base, real, threshold, is_los)
    return tuple(rows)


def by_label(strata: Sequence[Stratum]) -> Mapping[str, list[Stratum]]:
    """Strata of one feature together, in order."""
    groups: dict[str, list[Stratum]] = {}
    for stratum in strata:
        groups.setdefault(stratum.label, []).append(stratum)
    return groups


def _by_feature(
    name: str,
    base: WeightedChannels,
    real: WeightedChannels | None,
    threshold: str,
    info: Mapping[str, FeatureInfo],
) -> list[Stratum]:
    lead = base if real is None else real
    ends = _ends(lead.channels.features[name], normalised_weights(lead.log_w))
    label, unit, scale = feature_display(name, info)
    bounds: list[float | None] = [None, *ends, None]
    return [
        Stratum(
            threshold=threshold, feature=name, label=label, unit=unit,
            low=None if low is None else scale * low, high=None if high is None else scale * high,
            base=_rate(base, _between(base.channels.features[name], low, high)),
            real=None if real is None
            else _rate(real, _between(real.channels.features[name], low, high)),
        )
        for low, high in pairwise(bounds)
    ]  # fmt: skip


def _by_sight(
    base: WeightedChannels,
    real: WeightedChannels | None,
    threshold: str,
    is_los: npt.ArrayLike | None,
) -> list[Stratum]:
    by_k = f"K-factor estimate of at least {LOS_DB:g} dB"
    how = f"Line of sight by a {by_k}"
    if is_los is not None:
        how = f"Line of sight of real channels by the file's label, of base samples by a {by_k}"
    rows = []
    for name, wanted in (("LOS", True), ("NLOS", False)):
        seen = None
        if real is not None:
            sight = _sight(real) if is_los is None else np.asarray(is_los, dtype=bool)
            seen = _rate(real, sight == wanted)
        rows.append(
            Stratum(
                threshold=threshold, feature=SIGHT, label="line of sight", unit="", low=None,
                high=None, base=_rate(base, _sight(base) == wanted), real=seen, name=name,
                how=f"{how}.",
            )
        )  # fmt: skip
    return rows


def _sight(side: WeightedChannels) -> Bool:
    return np.asarray(side.channels.features["k_factor_db"] >= LOS_DB)


def _rate(side: WeightedChannels, inside: Bool) -> Estimate | None:
    return side.share(side.fails, inside, method="counted in the stratum")


def _between(values: Array, low: float | None, high: float | None) -> Bool:
    inside = np.ones(len(values), dtype=bool)
    if low is not None:
        inside &= values >= low
    if high is not None:
        inside &= values < high
    return inside


def _ends(values: Array, weight: Array) -> list[float]:
    """Inner ends of the strata, rising; fewer where values repeat."""
    found = [weighted_quantile(values, weight, i / _PARTS) for i in range(1, _PARTS)]
    rounded = np.unique([float(f"{value:.3g}") for value in found])
    return [float(end) for end in rounded if values.min() < end <= values.max()]
