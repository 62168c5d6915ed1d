"""What a report says of failure modes: shares, rates, ranges, the place of the error, confirmation.

Takes the modes that failure_modes.py found and gives the `ModeReport` that `result.json` stores.
Reconstructions are made elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.estimates import Estimate
from reports.failure_modes import FoundModes, WeightedChannels
from reports.figure_data import ModeMaps
from reports.mode_names import ModeFacts, condition_words, mode_name, rule_words
from reports.mode_schema import FailureMode, ModeReport, RuleCondition
from reports.mode_space import STRETCH, Array, Axes, Bool, Condition, shortest_stretch
from reports.mode_telling import RuleTeller, confirmation
from reports.reweighting import normalised_weights

__all__ = ["LOS_DB", "confirmation", "describe_modes"]

LOS_DB = 3.0
"""K-factor estimate from which a channel counts as line of sight, where no label says so."""


def describe_modes(
    modes: FoundModes,
    *,
    base: WeightedChannels,
    real: WeightedChannels | None,
    failures: WeightedChannels | None = None,
    maps: Sequence[ModeMaps],
    population: ModeMaps,
    axes: Axes,
    delay_known: bool = True,
    threshold: str,
    nmse_db: float,
) -> ModeReport:
    """Everything a report says of the modes.

    Args:
        modes: From `found_modes`.
        base: The base samples.
        real: The real channels, unweighted; None without any.
        failures: The failure sample, where the modes were found on one.
        maps: Of each mode.
        population: The same of all base samples.
        axes: Of the maps.
        delay_known: Whether delays are in seconds; taps otherwise.
        threshold: Label of the threshold.
        nmse_db: The threshold.
    """
    teller = _Teller(modes=modes, base=base, real=real, source=failures or base,
                     population=population, axes=axes, delay_known=delay_known)  # fmt: skip
    told = [teller.mode(k, maps[k]) for k in range(len(modes.rules))]
    return teller.report(
        [mode for mode, _ in told],
        conditions=[conditions for _, conditions in told],
        threshold=threshold,
        nmse_db=nmse_db,
        delay_known=delay_known,
    )


@dataclass(frozen=True, kw_only=True)
class _Teller(RuleTeller):
    """What it takes to tell of modes of channels."""

    population: ModeMaps
    axes: Axes
    delay_known: bool

    def mode(self, k: int, maps: ModeMaps) -> tuple[FailureMode, list[str]]:
        """Mode k of the report, and the conditions of its rule in words."""
        rule = self.modes.rules[k]
        found = self.bare_mode(
            k,
            rule=[_stored(condition, self.axes) for condition in rule],
            rule_text=rule_words(rule, self.axes, self.delay_known),
        )
        los, los_all = self.sight(self.failing(k))
        excess = (maps.power - self.population.power, maps.error - self.population.error)
        power, error = (_profiles(values, self.axes) for values in excess)
        facts = ModeFacts(
            rule=rule,
            usual=self.usual(k),
            features=found.features, los=los, los_population=los_all,
            excess_delay=power[0], excess_beam=power[1], axes=self.axes,
            usual_delay=_profiles(self.population.power, self.axes)[0],
            delay_known=self.delay_known,
        )  # fmt: skip
        mode = replace(
            found,
            name=mode_name(facts),
            delay_range=_range(error[0], self.axes.delay_edges(), circular=False),
            beam_range=_range(error[1], self.axes.beam_edges(), circular=True),
            los=los,
            los_population=los_all,
        )
        return mode, condition_words(facts)

    def sight(self, failing: Bool) -> tuple[Estimate | None, float | None]:
        """Share of line of sight by the K-factor, of the failures marked and of all."""
        k = self.source.channels.features.get("k_factor_db")
        if k is None:
            return None, None
        everyone = self.base.channels.features["k_factor_db"] >= LOS_DB
        share = self.source.share(k >= LOS_DB, failing, method=f"K-factor at least {LOS_DB:g} dB")
        return share, float(normalised_weights(self.base.log_w) @ everyone)


def _range(profile: Array, edges: Array, *, circular: bool) -> tuple[float, float] | None:
    """Ends of the stretch that holds the excess error; None for half of the axis or more."""
    found = shortest_stretch(np.maximum(profile, 0.0), STRETCH, circular=circular)
    n = len(profile)
    if found is None or 2 * found[1] >= n:
        return None
    start, count = found
    stop = start + count
    return float(edges[start]), float(edges[stop if stop <= n else stop - n])


def _profiles(power: Array, axes: Axes) -> tuple[Array, Array]:
    """A map [n_tx, n_delay] over rising delay [n_delay] and over rising angle [n_columns]."""
    columns = power.reshape(-1, len(axes.sin_azimuth), power.shape[-1]).sum(0)
    return columns.sum(0)[axes.delay_order], columns.sum(1)[axes.beam_order]


def _stored(condition: Condition, axes: Axes) -> RuleCondition:
    window = None
    if condition.kind != "feature":
        edges = axes.delay_edges() if condition.kind == "delay" else axes.beam_edges()
        start, n = condition.bins[0], len(edges) - 1
        stop = start + condition.bins[1]
        window = (float(edges[start]), float(edges[stop if stop <= n else stop - n]))
    return RuleCondition(kind=condition.kind, feature=condition.feature, window=window,
                         side=condition.side, limit=condition.limit)  # fmt: skip
