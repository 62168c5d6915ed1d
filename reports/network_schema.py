"""What a result says of a cell network and of each loss of its outages.

Parts of `reports.schema.Result`; sentences for the keys are in network_keys.py.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from reports.loss_schema import ImportanceEstimates, LossSummary, WorstFeature
from reports.mode_schema import ModeReport, Stratum


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """The cell network under audit.

    Attributes:
        description: All of it in one sentence.
        area_m: Width and height of the area, whose lower left corner is the origin [m].
        stations_m: Positions of the base stations [m].
        n_users: Users of a placement.
        law: Of where they stand, in words: "uniform", "hotspots, 3 on average, ...".
        at_least: m, users below the threshold that make a joint outage.
        exponent: Of the path loss [1].
        power_w: Received at 1 m but for epsilon [W].
        epsilon: Keeps the power finite at a station [m^exponent].
        noise_w: Noise power [W].
        threshold_db: gamma, SINR below which a user is in outage [dB].
        steepness: Of the soft indicator [1/dB], or [1] on the linear ratio.
        scale: Whether that indicator sees dB or the linear ratio.
        load: Share of the time that each station transmits [1].
        propagation: Shadowing and antenna patterns in words; "" without either.
    """

    description: str
    area_m: tuple[float, float]
    stations_m: tuple[tuple[float, float], ...]
    n_users: int
    law: str
    at_least: int
    exponent: float
    power_w: float
    epsilon: float
    noise_w: float
    threshold_db: float
    steepness: float
    scale: Literal["db", "linear"]
    load: tuple[float, ...]
    propagation: str = ""


@dataclass(frozen=True, kw_only=True)
class OutageRow:
    """Everything the report says about one loss of the network.

    Attributes:
        name: Of the loss in files and rules: "expected_outage", "joint_outage", "shortfall_db".
        label: What a reader calls it.
        unit: Of the loss: "1" or "dB".
        worse: Side that is bad.
        definition: A sentence.
        losses: Mean of the loss, by `name`.
        estimates: Means and tails; levels of tails are in `unit`.
        worst: How features differ in the worst placements.
        modes: Where its failures concentrate; None where modes were not looked for.
        strata: Failure probability by stratum of a feature.
    """

    name: str
    label: str
    unit: str
    worse: Literal["high", "low"]
    definition: str
    losses: Mapping[str, LossSummary]
    estimates: ImportanceEstimates
    worst: tuple[WorstFeature, ...] = ()
    modes: ModeReport | None = None
    strata: tuple[Stratum, ...] = ()
