"""Does the base law look like the real channels? The rule and its thresholds.

One rule for the audit, `check-base` and the benchmark: distances beside what a perfect model shows,
tail ratios, a verdict; words.py says it. The gate works on numbers that the caller has measured on
both sides; samplers and channels are not known here.
"""

from collections.abc import Iterable
from typing import Literal

import numpy.typing as npt

from reports.estimates import ks_distance, ks_floor
from reports.fidelity_items import TailRatio
from reports.schema import RealismItem, Verdict
from reports.stratify import feature_display

KS_LIMIT = 0.10
"""KS distance from which two sets of real channels count as shifted (`csi-audit inspect`)."""
DISTORTION_LIMIT = 0.03
"""Largest KS distance of a distortion that a base law is accepted with, chance left aside."""
FEATURE_LIMIT = 0.04
"""The same of a feature; features are shown and do not decide."""


def realism_item(
    name: str,
    base: npt.ArrayLike | None,
    real: npt.ArrayLike | None,
    *,
    kind: Literal["distortion", "feature"],
    label: str = "",
    limit: float = KS_LIMIT,
    surely: bool = False,
) -> RealismItem:
    """Compare one quantity on base samples and on real channels.

    The verdict: "within chance" up to the 95 % quantile of a perfect model, "off by little" up to
    `limit` (or that quantile, where it is larger), "off" beyond; "not checked" without both sides.

    Args:
        name: Compressor for a distortion, feature name for a feature.
        base: Values on base samples [n_base], or None.
        real: Values on real channels [n_real], or None.
        kind: Distortions decide the base verdict; features are shown beside.
        label: What a reader calls it; by default the feature's label, or `name`.
        limit: Largest acceptable KS distance.
        surely: Call "off" only what chance cannot explain: a distance beyond `limit` plus that
            quantile. By the triangle inequality the laws themselves then lie beyond `limit`, but
            for one time in twenty at most.
    """
    n_base, n_real = _length(base), _length(real)
    label = label or (feature_display(name)[0] if kind == "feature" else name)
    if base is None or real is None or not n_base or not n_real:
        return RealismItem(
            name=name, label=label, kind=kind, ks=None, floor_mean=None, floor_95=None,
            n_base=n_base, n_real=n_real, limit=limit, verdict="not checked",
        )  # fmt: skip
    ks, floor = ks_distance(base, real), ks_floor(n_base, n_real)
    reach = limit + floor.upper if surely else max(limit, floor.upper)
    far = "off by little" if ks <= reach else "off"
    return RealismItem(
        name=name, label=label, kind=kind, ks=ks, floor_mean=floor.mean,
        floor_95=floor.upper, n_base=n_base, n_real=n_real, limit=limit,
        verdict="within chance" if ks <= floor.upper else far,
    )  # fmt: skip


def base_item(
    name: str,
    base: npt.ArrayLike | None,
    real: npt.ArrayLike | None,
    *,
    kind: Literal["distortion", "feature"],
    label: str = "",
) -> RealismItem:
    """`realism_item` under the limits of a base law."""
    limit = DISTORTION_LIMIT if kind == "distortion" else FEATURE_LIMIT
    return realism_item(name, base, real, kind=kind, label=label, limit=limit, surely=True)


def base_verdict(items: Iterable[RealismItem], ratios: Iterable[TailRatio] = ()) -> Verdict:
    """What the distortions and their tail ratios say of the base law; features do not decide.

    - "not checked": no distortion was compared;
    - "misses": a distortion is off, or a tail ratio is;
    - "credible": every distortion keeps its limit, or what a perfect model shows at these sizes
      where that is more;
    - "cannot tell": between the two, where chance and a true distance look alike.
    """
    checked = [item for item in items if item.kind == "distortion" and item.ks is not None]
    if not checked:
        return "not checked"
    words = [item.verdict for item in checked] + [ratio.verdict for ratio in ratios]
    if "off" in words:
        return "misses"
    return "credible" if all(_kept(item) for item in checked) else "cannot tell"


def fidelity_summary(items: Iterable[RealismItem]) -> dict[str, float | None]:
    """Largest KS distance of distortions and of features, for `BaseInfo.fidelity`."""
    rows = list(items)
    kinds = ("distortion", "feature")
    found = {kind: [i.ks for i in rows if i.kind == kind and i.ks is not None] for kind in kinds}
    return {f"{kind}_ks": max(values) if values else None for kind, values in found.items()}


def _kept(item: RealismItem) -> bool:
    """Whether a distance keeps its limit, or what a perfect model shows where that is more."""
    return (item.ks or 0.0) <= max(item.limit or 0.0, item.floor_95 or 0.0)


def _length(values: npt.ArrayLike | None) -> int:
    return 0 if values is None else len(values)  # type: ignore[arg-type]
