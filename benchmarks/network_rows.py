"""What the figures of `benchmarks.network_truth` say: rows, coverage of intervals, targets."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.checks import Check, check
from benchmarks.divergence import mean_and_error
from benchmarks.network_laws import relative_gain
from csi_audit.tail import RUNS_NEEDED
from reports.estimates import Estimate, student

Array = npt.NDArray[np.float64]

TOLD_FROM = 5e-5
"""Probability below which plain draws of a sampler say nothing about its law."""


def outage_rows(
    label: Mapping[str, Any],
    exact: Sequence[Mapping[str, float]],
    counted: Sequence[Estimate],
    groups: Sequence[Mapping[str, Array]],
    price: int,
) -> list[dict[str, Any]]:
    """One row a probability: truth, sampler's law over it, the engine against the sampler's law."""
    rows = []
    for k, (truth, plain) in enumerate(zip(exact, counted, strict=True)):
        runs = np.concatenate([group["runs"][:, k] for group in groups])
        cost = np.concatenate([group["evaluations"][:, k] for group in groups])
        telling = known(plain, groups, k)
        reference = plain.value if telling else float(runs.mean())
        first = float(groups[0]["value"][k])
        low, high = (float(end) for end in groups[0]["interval"][k])
        gain = relative_gain(runs / reference, cost, price, reference) if reference else None
        row = {**label, "part": "outage", "p": truth["p"], "sampler_p": plain.value,
               "sampler_interval": plain.interval, "sampler_over_data": plain.value / truth["p"],
               "engine_p": first, "engine_interval": (low, high),
               "engine_over_data": first / truth["p"],
               "evaluations": float(cost.mean()) * RUNS_NEEDED, "gain": gain,
               "covers": coverage(plain, groups, k)}  # fmt: skip
        row["detail"] = {"gamma_db": truth["gamma_db"], "p_se": truth["se"], "runs": len(runs),
                         "engine_status": str(groups[0]["status"][k]),
                         "gain_against": "count" if telling else "mean of the runs"}  # fmt: skip
        rows.append(row)
    return rows


def exact_rows(
    label: Mapping[str, Any],
    exact: Sequence[Mapping[str, float]],
    groups: Sequence[Mapping[str, Array]],
) -> list[dict[str, Any]]:
    """One row a probability: bias, gain and coverage of the engine against the exact truth."""
    rows = []
    for k, truth in enumerate(exact):
        p = truth["p"]
        ratio = np.concatenate([group["runs"][:, k] for group in groups]) / p
        cost = np.concatenate([group["evaluations"][:, k] for group in groups])
        bias, se = mean_and_error(ratio)
        held = [g["interval"][k][0] <= p <= g["interval"][k][1] for g in groups]
        fine = [str(g["status"][k]) == "ok" for g in groups]
        rows.append({**label, "part": "engine on the exact law", "p": p, "engine_over_data": bias,
                     "engine_over_data_se": se, "gain": relative_gain(ratio, cost, 1, p),
                     "evaluations": float(cost.mean()) * RUNS_NEEDED,
                     "covers": float(np.mean(held)),
                     "status_ok": float(np.mean(fine))})  # fmt: skip
    return rows


def known(plain: Estimate, groups: Sequence[Mapping[str, Array]], k: int) -> bool:
    """Whether the count is sharp enough to judge intervals by: a third of their half-width."""
    half = np.mean([np.ptp(group["interval"][k]) / 2 for group in groups])
    se = math.sqrt(max(plain.value * (1 - plain.value), 0.0) / plain.n)
    return plain.value > 0 and se <= half / 3


def coverage(plain: Estimate, groups: Sequence[Mapping[str, Array]], k: int) -> float | None:
    """Share of the groups whose interval holds the counted P; None where that is not known."""
    if not known(plain, groups, k):
        return None
    return float(np.mean([holds(group, plain, k) for group in groups]))


def holds(group: Mapping[str, Array], plain: Estimate, k: int) -> bool:
    """Whether the group's interval holds the counted P."""
    low, high = group["interval"][k]
    return bool(low <= plain.value <= high)


def truth_checks(rows: Sequence[Mapping[str, Any]], groups: Sequence[float]) -> list[Check]:
    """Coverage pooled over all cells, and how far each sampler is from the data law."""
    found = []
    if groups:
        mean, se = mean_and_error(groups)
        ends = student(mean, se, len(groups) - 1, 0.95) if se else (mean, mean)
        name = f"coverage of the sampler's law by 95 % intervals, {len(groups)} groups"
        found.append(check(name, mean, interval=ends, relation=">=", limit=0.90))
    for row in rows:
        if row["part"] == "engine on the exact law":
            name = f"{row['law']}, {row['users']} users, P = {row['p']:.2g}: engine over exact law"
            value, half = row["engine_over_data"], 2 * (row["engine_over_data_se"] or 0.0)
            ends = (abs(value - 1) - half, abs(value - 1) + half)
            found.append(
                check(f"{name}, relative bias", abs(value - 1), interval=ends, relation="<=",
                      limit=0.2)
            )  # fmt: skip
        if row["part"] != "outage" or row["p"] < TOLD_FROM:
            continue
        low, high = (end / row["p"] for end in row["sampler_interval"])
        name = f"{row['law']}, {row['users']} users, P = {row['p']:.2g}: sampler over data law"
        value = row["sampler_over_data"]
        ends = (low, high)
        found += [
            check(f"{name}, at least", value, interval=ends, relation=">=", limit=0.5),
            check(f"{name}, at most", value, interval=ends, relation="<=", limit=2.0),
        ]
    return found


def group_coverage(
    group: Mapping[str, Array], counted: Sequence[Estimate], groups: Sequence[Mapping[str, Array]]
) -> float | None:
    """Share of a group's intervals that hold the counted P, where that is known.

    All groups together say where: one alone would leave out its own narrow intervals, which miss.
    """
    judged = [holds(group, plain, k) for k, plain in enumerate(counted) if known(plain, groups, k)]
    return float(np.mean(judged)) if judged else None
