"""Does the base law look like the real channels? KS distances beside what a perfect model shows.

The gate works on numbers that the caller has measured on both sides: the distortion of each
compressor above all, and physical features. Samplers and channels are not known here.
"""

from collections.abc import Iterable
from typing import Literal

import numpy.typing as npt

from reports.estimates import ks_distance, ks_floor
from reports.schema import RealismItem, Verdict
from reports.stratify import feature_display

KS_LIMIT = 0.10
"""Largest KS distance at which a base law is still called credible (issue 2)."""


def realism_item(
    name: str,
    base: npt.ArrayLike | None,
    real: npt.ArrayLike | None,
    *,
    kind: Literal["distortion", "feature"],
    label: str = "",
    limit: float = KS_LIMIT,
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
    """
    n_base, n_real = _length(base), _length(real)
    label = label or (feature_display(name)[0] if kind == "feature" else name)
    if base is None or real is None or not n_base or not n_real:
        return RealismItem(
            name=name, label=label, kind=kind, ks=None, floor_mean=None, floor_95=None,
            n_base=n_base, n_real=n_real, limit=limit, verdict="not checked",
        )  # fmt: skip
    ks, floor = ks_distance(base, real), ks_floor(n_base, n_real)
    far = "off by little" if ks <= max(limit, floor.upper) else "off"
    return RealismItem(
        name=name, label=label, kind=kind, ks=ks, floor_mean=floor.mean,
        floor_95=floor.upper, n_base=n_base, n_real=n_real, limit=limit,
        verdict="within chance" if ks <= floor.upper else far,
    )  # fmt: skip


def base_verdict(items: Iterable[RealismItem]) -> Verdict:
    """ "credible" when no distortion is off, "misses" when one is, "not checked" without any."""
    verdicts = [item.verdict for item in items if item.kind == "distortion"]
    checked = [verdict for verdict in verdicts if verdict != "not checked"]
    if not checked:
        return "not checked"
    return "misses" if "off" in checked else "credible"


def fidelity_summary(items: Iterable[RealismItem]) -> dict[str, float | None]:
    """Largest KS distance of distortions and of features, for `BaseInfo.fidelity`."""
    rows = list(items)
    kinds = ("distortion", "feature")
    found = {kind: [i.ks for i in rows if i.kind == kind and i.ks is not None] for kind in kinds}
    return {f"{kind}_ks": max(values) if values else None for kind, values in found.items()}


def _length(values: npt.ArrayLike | None) -> int:
    return 0 if values is None else len(values)  # type: ignore[arg-type]
