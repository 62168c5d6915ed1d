"""Rows and targets of benchmarks.base_fidelity: figures of every law side by side."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.checks import Check, Verdict, check
from csi_audit.base_sides import LawFigures, Side
from reports.check_schema import BaseCheck
from reports.estimates import Estimate, ks_distance
from reports.fidelity_items import TailRatio

Array = npt.NDArray[np.float64]
Row = dict[str, Any]

BOOTSTRAP = 300
POWER = 0.9
"""AUC that the classifier must reach on the Gaussian of the same covariance."""
_VERDICTS: Mapping[str, Verdict] = {"pass": "pass", "off": "short", "cannot tell": "cannot tell"}


# --- Rows -----------------------------------------------------------------------------------------


def figure_rows(beside: Mapping[str, LawFigures]) -> list[Row]:
    """One row a figure, a column a law; `base` comes first and says what a perfect model shows.

    `<law>_over_base` says how many times farther off that law is: in the distance itself, in the
    logarithm of a tail ratio, in the AUC above one half, in the coverage that is missing.
    """
    tables = {law: dict(_figures(found)) for law, found in beside.items()}
    rows = []
    for key, row in tables["base"].items():
        mine = {"quantity": key[0], "figure": key[1], "base": row.pop("value"), **row}
        off = mine.pop("off")
        for law in list(beside)[1:]:
            other = tables[law][key]
            mine[law] = other["value"]
            mine[f"{law}_over_base"] = _times(other["off"], off)
        rows.append(mine)
    return rows


def _figures(found: LawFigures) -> Iterator[tuple[tuple[str, str], Row]]:
    """((quantity, figure), value and what goes with it); `off` says how far off it is."""
    for item in found.realism:
        yield (
            (item.label, "KS"),
            {"value": item.ks, "off": item.ks, "perfect": item.floor_mean,
             "perfect_95": item.floor_95, "limit": item.limit},
        )  # fmt: skip
    for moved in found.wasserstein:
        figure = f"W1 [{moved.unit}]" if moved.unit else "W1"
        yield (
            (moved.label, figure),
            {"value": moved.distance, "off": moved.distance, "perfect": moved.floor_mean,
             "perfect_95": moved.floor_95},
        )  # fmt: skip
    for ratio in found.tail_ratios:
        value = None if ratio.ratio is None else ratio.ratio.value
        off = None if not value else abs(float(np.log(value)))
        yield (
            (ratio.label, f"tail ratio at {100 * ratio.share:g} %"),
            {"value": value, "off": off, "interval": _ends(ratio.ratio), "perfect": 1.0,
             "perfect_95": ratio.perfect, "limit": ratio.limits, "verdict": ratio.verdict,
             "design_effect": ratio.design_effect},
        )  # fmt: skip
    if found.classifier is not None:
        auc = found.classifier.auc
        yield (
            ("classifier", "AUC"),
            {"value": auc.value, "off": max(0.0, auc.value - 0.5), "interval": _ends(auc),
             "perfect": 0.5, "perfect_95": found.classifier.perfect_95,
             "limit": found.classifier.limit},
        )  # fmt: skip
    if found.neighbours is not None:
        near = found.neighbours
        missing = max(0.0, near.perfect_coverage - near.coverage.value)
        yield (
            ("features", "coverage"),
            {"value": near.coverage.value, "off": missing, "interval": _ends(near.coverage),
             "perfect": near.perfect_coverage},
        )  # fmt: skip
        off = abs(1 - near.density)
        yield (("features", "density"), {"value": near.density, "off": off, "perfect": 1.0})


def own_rows(found: BaseCheck) -> list[Row]:
    """Figures that only the base has: memory, training users, twice the steps, seeds, raw power."""
    rows = [*_memory_rows(found), *_train_rows(found)]
    for moved in found.doubling:
        rows.append(
            {"quantity": moved.label, "figure": "KS moved by twice the steps", "base": moved.ks,
             "limit": moved.limit, "verdict": moved.verdict, "ks_real": moved.ks_real,
             "ks_real_doubled": moved.ks_real_doubled, "beyond": moved.beyond,
             "beyond_doubled": moved.beyond_doubled}
        )  # fmt: skip
    for seed in found.seeds:
        rows.append(
            {"quantity": f"NMSE of {seed.name}", "figure": "spread of the mean over seeds [dB]",
             "base": max(seed.mean_db) - min(seed.mean_db), "verdict": seed.verdict,
             "p_value": seed.p_value}
        )  # fmt: skip
    names = ("1 % quantile", "median", "99 % quantile")
    return rows + [
        {"quantity": "raw power", "figure": name, "base": value, "perfect": 1.0}
        for name, value in zip(names, found.raw_power, strict=True)
    ]


def _memory_rows(found: BaseCheck) -> list[Row]:
    memory = found.memorisation
    if memory is None:
        return []
    ratio = memory.closer.ratio
    label = "distance to the nearest training user"
    return [
        {"quantity": label, "figure": "median", "base": memory.median_base,
         "perfect": memory.median_held_out},
        {"quantity": label, "figure": "smallest", "base": memory.nearest_base,
         "perfect": memory.nearest_held_out},
        {"quantity": label, "figure": "closest 1 %: base over held-out",
         "base": None if ratio is None else ratio.value, "interval": _ends(ratio), "perfect": 1.0,
         "perfect_95": memory.closer.perfect, "verdict": memory.verdict},
    ]  # fmt: skip


def _train_rows(found: BaseCheck) -> list[Row]:
    return [
        {"quantity": f"NMSE of {row.name}", "figure": figure, "base": value, "verdict": row.verdict}
        for row in found.train_distortion
        for figure, value in (
            ("mean [dB]", row.base_db),
            ("mean on training users [dB]", row.train_db),
            ("mean on held-out users [dB]", row.held_out_db),
            ("KS to training users", row.ks_train),
        )
    ]


def _times(off: float | None, base: float | None) -> float | None:
    return None if off is None or not base else off / base


def _ends(estimate: Estimate | None) -> tuple[float, float] | None:
    return None if estimate is None else estimate.interval


# --- Targets --------------------------------------------------------------------------------------


def distance_checks(found: BaseCheck, base: Side, real: Side, seed: int) -> list[Check]:
    """KS distance of every distortion and every feature against its limit."""
    checks = []
    for item in found.realism:
        of = "nmse" if item.kind == "distortion" else "features"
        ends = ks_interval(getattr(base, of)[item.name], getattr(real, of)[item.name], seed)
        checks.append(
            check(f"KS {item.label}", item.ks, relation="<=", limit=item.limit or 0.0,
                  interval=ends, floor=item.floor_95)
        )  # fmt: skip
    return checks


def ks_interval(a: Array, b: Array, seed: int) -> tuple[float, float]:
    """Basic bootstrap 95 % interval of the KS distance, 2 D - D*(97.5 %), 2 D - D*(2.5 %).

    Resampling adds noise of its own to a KS distance; the basic interval reflects it back.
    """
    random, found = np.random.default_rng(seed), ks_distance(a, b)
    redrawn = [
        ks_distance(random.choice(a, len(a)), random.choice(b, len(b))) for _ in range(BOOTSTRAP)
    ]
    low, high = np.quantile(redrawn, [0.025, 0.975])
    return max(0.0, 2 * found - float(high)), max(found, 2 * found - float(low))


def ratio_checks(found: BaseCheck) -> list[Check]:
    """Tail ratios at 1 and 0.1 %: within their limits, by an interval that is narrow enough."""
    return [_ratio_check(ratio) for ratio in found.tail_ratios if ratio.share <= 0.01]


def _ratio_check(ratio: TailRatio) -> Check:
    lo, hi = ratio.limits
    return Check(
        id=f"tail ratio of {ratio.label} at {100 * ratio.share:g} % in [{lo:g}, {hi:g}], known "
        f"within a factor {ratio.factor:g}",
        value=None if ratio.ratio is None else ratio.ratio.value,
        interval=_ends(ratio.ratio),
        relation="<=",
        limit=hi,
        floor=None if ratio.perfect is None else ratio.perfect[1],
        verdict=_VERDICTS[ratio.verdict],
    )


def auc_checks(beside: Mapping[str, LawFigures]) -> list[Check]:
    """The classifier on base samples, and on the Gaussian of the same covariance: its power."""
    wanted: Sequence[tuple[str, str, Any]] = (
        ("base", "classifier: AUC of base samples", "<="),
        ("gaussian", "classifier: AUC of the Gaussian of the same covariance", ">="),
    )
    checks = []
    for law, name, relation in wanted:
        test = None if law not in beside else beside[law].classifier
        if test is None:
            continue
        own = law == "base"
        checks.append(
            check(name, test.auc.value, relation=relation, limit=test.limit if own else POWER,
                  interval=test.auc.interval, floor=test.perfect_95 if own else None)
        )  # fmt: skip
    return checks
