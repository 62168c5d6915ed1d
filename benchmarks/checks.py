"""Targets of a benchmark, and how far a measurement decides them."""

import math
from dataclasses import dataclass
from typing import Literal, SupportsFloat

Relation = Literal["<=", ">="]
Verdict = Literal["pass", "short", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One target and what the measurement says about it; made by `check`."""

    id: str
    value: float | None
    interval: tuple[float, float] | None
    relation: Relation
    limit: float
    floor: float | None
    verdict: Verdict


def check(
    id: str,
    value: SupportsFloat | None,
    *,
    relation: Relation,
    limit: float,
    interval: tuple[SupportsFloat, SupportsFloat] | None = None,
    floor: float | None = None,
) -> Check:
    """State a target and judge it, no further than the measurement reaches.

    "pass" means that the whole interval keeps the limit, "short" that the whole interval breaks it.
    Between them, and where nothing was measured, the verdict is "cannot tell". Where a perfect
    model would break the limit itself at these sizes (`floor`), nothing passes, and "short" means
    worse than the perfect model.

    >>> check("ks", 0.08, relation="<=", limit=0.10, interval=(0.06, 0.11)).verdict
    'cannot tell'

    Args:
        id: Name of the target, unique in the benchmark.
        value: The measured figure; None if it could not be measured.
        relation: "<=" if the value should stay at or below the limit, ">=" for the opposite.
        limit: The target, in the value's unit.
        interval: Interval of the value; without it the value stands for itself.
        floor: What a perfect model would show at these sample sizes.
    Raises:
        ValueError: the relation is unknown, or a number is not finite.
    """
    if relation not in ("<=", ">="):
        raise ValueError(f"relation must be '<=' or '>='; got {relation!r}.")
    measured = None if value is None else _finite(id, "value", value)
    ends = None
    if interval is not None:
        low, high = (_finite(id, "interval", end) for end in interval)
        ends = (min(low, high), max(low, high))
    return Check(
        id=id,
        value=measured,
        interval=ends,
        relation=relation,
        limit=_finite(id, "limit", limit),
        floor=None if floor is None else _finite(id, "floor", floor),
        verdict=_judge(measured, ends, relation, limit, floor),
    )


def _finite(id: str, part: str, value: SupportsFloat) -> float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{part} of check {id!r} must be finite; got {number}. Unknown is None.")
    return number


def _judge(
    value: float | None,
    interval: tuple[float, float] | None,
    relation: Relation,
    limit: float,
    floor: float | None,
) -> Verdict:
    if value is None:
        return "cannot tell"
    # Turned so that small is good: for ">=" every number changes its sign.
    sign = 1.0 if relation == "<=" else -1.0
    best, worst = sorted(sign * end for end in interval or (value, value))
    if floor is not None and sign * floor > sign * limit:
        return "short" if best > sign * floor else "cannot tell"
    if worst <= sign * limit:
        return "pass"
    return "short" if best > sign * limit else "cannot tell"
