"""Failure modes and failure probabilities by stratum as they are stored in `result.json`.

What the keys mean stands in mode_keys.py; the rest of the schema is in schema.py.
"""

from dataclasses import dataclass
from typing import Literal

from reports.estimates import Estimate

Confirmation = Literal["confirmed", "not confirmed", "cannot tell", "no real channels"]


@dataclass(frozen=True, kw_only=True)
class RuleCondition:
    """One bound of a mode's rule, see `reports.mode_space.Condition`.

    `window` holds its ends: seconds (taps where the bandwidth is unknown) for "delay",
    sin(azimuth) for "beam", where a first end above the second wraps round through +-1.
    """

    kind: Literal["feature", "delay", "beam"]
    feature: str
    window: tuple[float, float] | None
    side: Literal["at least", "at most"]
    limit: float


@dataclass(frozen=True, kw_only=True)
class FeatureRange:
    """10, 50 and 90 % of one feature among the failures of a mode and in the population.

    In `unit`, "" for a pure number. `above` is the share of the mode's failures above the median of
    the population.
    """

    feature: str
    label: str
    unit: str
    mode: tuple[float, float, float]
    population: tuple[float, float, float]
    above: Estimate


@dataclass(frozen=True, kw_only=True)
class OutagePlace:
    """Where users without service stand among the failures of a mode, of placements of users.

    `share` is their share of all such users, `centre_m` the mean of their positions.
    """

    name: str
    share: float
    centre_m: tuple[float, float]


@dataclass(frozen=True, kw_only=True)
class FailureMode:
    """One region of channels in which failures concentrate.

    `delay_range` and `beam_range` hold the shortest stretch with 80 % of the error that the mode
    has above the population's; None where that is half of the axis or more. `population` is the
    share of base samples inside, failing or not. `los` is the share of the mode's failures with
    line of sight by the K-factor estimate, `los_population` that of all. `places` holds where the
    unserved users stand, in modes of placements, which have no range of delay or beam.
    """

    name: str
    rule_text: str
    rule: tuple[RuleCondition, ...]
    share: Estimate
    population: Estimate
    rate_base: Estimate | None
    share_real: Estimate | None
    rate_real: Estimate | None
    confirmation: Confirmation
    delay_range: tuple[float, float] | None
    beam_range: tuple[float, float] | None
    los: Estimate | None
    los_population: float | None
    features: tuple[FeatureRange, ...]
    places: tuple[OutagePlace, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModeReport:
    """The failure modes of one compressor at one threshold, the most telling first.

    Of another loss than the NMSE the threshold is `level`, in its own unit, and `nmse_db` is None.
    `n_failures` is the effective number of failures behind them; `stability` the mean adjusted
    Rand index between them and those of resamples, `found` the numbers of modes in these.
    `elsewhere` is the share of failures outside all modes. `note` says why there are none.
    """

    threshold: str
    nmse_db: float | None
    rate_base: Estimate | None
    rate_real: Estimate | None
    n_failures: float
    delay_unit: Literal["s", "taps"]
    criterion: str
    stability: float | None
    found: tuple[int, ...]
    elsewhere: Estimate | None
    modes: tuple[FailureMode, ...]
    note: str = ""
    level: float | None = None


@dataclass(frozen=True, kw_only=True)
class Stratum:
    """P(NMSE > tau) among the channels with a feature between `low` and `high` (in `unit`).

    None is an open end. Line of sight has `name` "LOS" or "NLOS" and no ends; `how` says what it
    was told by on either side. Strata of a count have their numbers as `name`, besides their ends.
    """

    threshold: str
    feature: str
    label: str
    unit: str
    low: float | None
    high: float | None
    base: Estimate | None
    real: Estimate | None
    name: str = ""
    how: str = ""
