"""What is special about the worst channels: each feature in the worst share against all.

Takes distortions and features as plain arrays. Maps of the worst channels are in figure_data.py.
"""

import math
from collections.abc import Mapping
from typing import Literal

import numpy as np
import numpy.typing as npt

from channels.physical_features import FEATURES, FeatureInfo
from reports.figure_data import worst_weight
from reports.schema import WorstFeature


def worst_features(
    nmse: npt.ArrayLike,
    features: Mapping[str, npt.ArrayLike],
    *,
    source: Literal["base", "real"],
    share: float = 0.01,
    log_w: npt.ArrayLike | None = None,
    info: Mapping[str, FeatureInfo] = FEATURES,
) -> tuple[WorstFeature, ...]:
    """Compare every feature in the worst `share` of channels with all channels.

        rank = P(F_worst > F) + P(F_worst = F)/2,   shift = (rank - 1/2) / sqrt(1/(12 n_worst))

    The strongest shift comes first. The standard error is that of a mean of `n_worst` uniform
    ranks; with unequal weights n_worst is their effective number, rounded.

    Args:
        nmse: Distortion of each channel, higher is worse, [n].
        features: Values by feature name, [n] each.
        source: Whose channels these are.
        share: Share that counts as worst.
        log_w: Log weights [n] where the channels are not draws of the law itself.
        info: Label, unit and display scale by feature name; medians come in the unit shown.
    """
    worst = worst_weight(nmse, share, log_w)
    everything = worst_weight(nmse, 1.0, log_w)
    n_worst = max(1, round(float(worst.sum() ** 2 / np.square(worst).sum())))
    rows = []
    for name, values in features.items():
        x = np.asarray(values, dtype=np.float64)
        if x.shape != worst.shape:
            raise ValueError(f"features[{name!r}] must be [{len(worst)}]; got {x.shape}.")
        label, unit, scale = feature_display(name, info)
        rank = _mean_rank(x, worst, everything)
        usual, special = (scale * weighted_quantile(x, w, 0.5) for w in (everything, worst))
        shift = (rank - 0.5) * math.sqrt(12 * n_worst)
        rows.append(
            WorstFeature(feature=name, label=label, unit=unit, source=source, share=share,
                         n_worst=n_worst, median_all=usual, median_worst=special, rank=rank,
                         shift=shift)
        )  # fmt: skip
    return tuple(sorted(rows, key=lambda row: -abs(row.shift)))


def feature_display(
    name: str, info: Mapping[str, FeatureInfo] = FEATURES
) -> tuple[str, str, float]:
    """Label, unit shown ("" for a pure number) and factor from stored to shown values."""
    known = info.get(name)
    if known is None:
        return name, "", 1.0
    return known.label, "" if known.unit in {"1", ""} else known.unit, known.scale


def weighted_quantile(values: npt.ArrayLike, weight: npt.ArrayLike, prob: float) -> float:
    """Smallest value at which the weighted distribution function reaches `prob`."""
    x, w = np.asarray(values, dtype=np.float64), np.asarray(weight, dtype=np.float64)
    order = np.argsort(x, kind="stable")
    mass = np.cumsum(w[order]) / w.sum()
    return float(x[order][min(int(np.searchsorted(mass, prob - 1e-12)), len(x) - 1)])


def _mean_rank(x: npt.NDArray[np.float64], worst: npt.ArrayLike, base: npt.ArrayLike) -> float:
    """Mean mid-rank in [0, 1] of the worst channels among all, both weighted."""
    p, q = np.asarray(base, dtype=np.float64), np.asarray(worst, dtype=np.float64)
    p, q = p / p.sum(), q / q.sum()
    distinct, index = np.unique(x, return_inverse=True)
    mass = np.bincount(index, weights=p, minlength=len(distinct))
    mid = np.cumsum(mass) - mass / 2  # P(F < x) + P(F = x)/2 at each distinct value
    return float(q @ mid[index])
