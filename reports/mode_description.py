"""What a report says of failure modes: shares, rates, ranges, the place of the error, confirmation.

Takes the modes that failure_modes.py found and gives the `ModeReport` that `result.json` stores.
Reconstructions are made elsewhere.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from reports.estimates import Estimate, proportion
from reports.failure_modes import CRITERION, LEAST_FAILURES, FoundModes, WeightedChannels
from reports.figure_data import ModeMaps
from reports.mode_names import ModeFacts, mode_name, rule_words
from reports.mode_schema import (
    Confirmation,
    FailureMode,
    FeatureRange,
    ModeReport,
    RuleCondition,
)
from reports.mode_space import (
    STRETCH,
    Array,
    Axes,
    Bool,
    Condition,
    mode_labels,
    shortest_stretch,
)
from reports.reweighting import normalised_weights
from reports.stratify import feature_display, weighted_quantile

LEAST_USERS = 10
"""Real channels inside a mode below which nothing is said of its failure rate."""

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
    everyone = np.ones(len(base), dtype=bool)
    rate = base.share(base.fails, everyone, method="base samples")
    teller = _Teller(modes=modes, base=base, real=real, source=failures or base,
                     population=population, axes=axes, delay_known=delay_known)  # fmt: skip
    source = failures or base
    outside = mode_labels(modes.rules, source.channels) == -1
    n = modes.cases.n_failures
    return ModeReport(
        threshold=threshold,
        nmse_db=nmse_db,
        rate_base=rate,
        rate_real=None if real is None else _real_rate(real, np.ones(len(real), dtype=bool)),
        n_failures=n,
        delay_unit="s" if delay_known else "taps",
        criterion=CRITERION,
        stability=modes.stability,
        found=modes.found,
        elsewhere=_elsewhere(source, outside, modes.kept) if modes.rules else None,
        modes=tuple(teller.mode(k, maps[k]) for k in range(len(modes.rules))),
        note=_note(n, len(modes.rules), rate),
    )


def _note(n: float, found: int, rate: Estimate | None) -> str:
    if n <= 0:
        return "No base sample fails at this threshold."
    if n < LEAST_FAILURES:
        return (
            f"Only {n:.3g} base samples fail at this threshold: too few to tell modes "
            f"({LEAST_FAILURES} at least). Draw more base samples."
        )
    if rate is not None and rate.value >= 1:
        return "Every base sample fails at this threshold, so failures concentrate nowhere."
    if not found:
        return f"The {n:,.0f} failures are spread like the population: no rule stands out."
    return ""


@dataclass(frozen=True, kw_only=True)
class _Teller:
    """What it takes to tell of one mode."""

    modes: FoundModes
    base: WeightedChannels
    real: WeightedChannels | None
    source: WeightedChannels
    population: ModeMaps
    axes: Axes
    delay_known: bool

    def mode(self, k: int, maps: ModeMaps) -> FailureMode:
        """Mode k of the report."""
        rules = self.modes.rules
        inside = mode_labels(rules, self.source.channels) == k
        base_inside = mode_labels(rules, self.base.channels) == k
        share = self.source.share(inside, self.source.fails, method="failures inside the mode")
        of_all = self.base.share(base_inside, np.ones(len(self.base), bool), method="base samples")
        inner = self.base.share(self.base.fails, base_inside, method="base samples inside")
        if share is None or of_all is None:
            raise ValueError(f"mode {k} holds no failure of any weight.")
        features = self.features(inside & self.source.fails)
        los, los_all = self.sight(inside & self.source.fails)
        excess = (maps.power - self.population.power, maps.error - self.population.error)
        power, error = (_profiles(values, self.axes) for values in excess)
        weight = normalised_weights(self.base.log_w)
        facts = ModeFacts(
            rule=rules[k],
            usual=[weighted_quantile(c.values(self.base.channels), weight, 0.5) for c in rules[k]],
            features=features, los=los, los_population=los_all,
            excess_delay=power[0], excess_beam=power[1], axes=self.axes,
            usual_delay=_profiles(self.population.power, self.axes)[0],
            delay_known=self.delay_known,
        )  # fmt: skip
        real = self.real_figures(k)
        return FailureMode(
            name=mode_name(facts),
            rule_text=rule_words(rules[k], self.axes, self.delay_known),
            rule=tuple(_stored(condition, self.axes) for condition in rules[k]),
            share=_allowing(share, self.modes.kept),
            population=of_all,
            rate_base=None if inner is None else _allowing(inner, self.modes.kept),
            share_real=real[0],
            rate_real=real[1],
            confirmation=real[2],
            delay_range=_range(error[0], self.axes.delay_edges(), circular=False),
            beam_range=_range(error[1], self.axes.beam_edges(), circular=True),
            los=los,
            los_population=los_all,
            features=features,
        )

    def real_figures(self, k: int) -> tuple[Estimate | None, Estimate | None, Confirmation]:
        """Share of the real failures, failure rate inside, and whether it is confirmed."""
        if self.real is None:
            return None, None, "no real channels"
        inside = mode_labels(self.modes.rules, self.real.channels) == k
        share = self.real.share(inside, self.real.fails, method="real channels, counted")
        rate = _real_rate(self.real, inside)
        return share, rate, confirmation(rate, float(self.real.fails.mean()))

    def features(self, failing: Bool) -> tuple[FeatureRange, ...]:
        """Ranges of every feature of the failures marked, beside the population's."""
        population = normalised_weights(self.base.log_w)
        mine = normalised_weights(self.source.log_w[failing])
        rows = []
        for name, values in self.source.channels.features.items():
            label, unit, scale = feature_display(name)
            everyone = self.base.channels.features[name]
            above = self.source.share(
                values > weighted_quantile(everyone, population, 0.5), failing, method="failures"
            )
            if above is None:
                continue
            rows.append(
                FeatureRange(
                    feature=name, label=label, unit=unit, above=above,
                    mode=_three(scale * values[failing], mine),
                    population=_three(scale * everyone, population),
                )
            )  # fmt: skip
        return tuple(rows)

    def sight(self, failing: Bool) -> tuple[Estimate | None, float | None]:
        """Share of line of sight by the K-factor, of the failures marked and of all."""
        k = self.source.channels.features.get("k_factor_db")
        if k is None:
            return None, None
        everyone = self.base.channels.features["k_factor_db"] >= LOS_DB
        share = self.source.share(k >= LOS_DB, failing, method=f"K-factor at least {LOS_DB:g} dB")
        return share, float(normalised_weights(self.base.log_w) @ everyone)


def confirmation(rate: Estimate | None, everywhere: float) -> Confirmation:
    """Whether real channels fail more often inside a mode than everywhere.

    Args:
        rate: Failure rate of the real channels inside, with its Clopper-Pearson interval.
        everywhere: Failure rate of all real channels.
    """
    if rate is None or rate.n < LEAST_USERS or rate.interval is None:
        return "cannot tell"
    low, high = rate.interval
    if low > everywhere:
        return "confirmed"
    return "not confirmed" if high <= everywhere else "cannot tell"


def _allowing(estimate: Estimate, kept: float) -> Estimate:
    """A share of failures, allowing for the rule having been chosen on them.

        value' = (0.368 + 0.632 kept) value,   lower end' = kept lower end

    Source: the .632 estimate of Efron 1983, J. Amer. Statist. Assoc. 78:316,
        10.1080/01621459.1983.10477973; that the lower end goes all the way is our caution.
    """
    low, high = estimate.interval or (0.0, 1.0)
    factor = 0.368 + 0.632 * kept
    method = f"{estimate.method}, times {factor:.2f} for the choice of the rule"
    return replace(
        estimate, value=factor * estimate.value, interval=(kept * low, high), method=method
    )


def _elsewhere(source: WeightedChannels, outside: Bool, kept: float) -> Estimate | None:
    """Share of the failures outside all modes: what the modes do not hold."""
    held = source.share(~outside, source.fails, method="failures outside all modes")
    if held is None:
        return None
    less = _allowing(held, kept)
    low, high = less.interval or (0.0, 1.0)
    return replace(less, value=1 - less.value, interval=(1 - high, 1 - low))


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


def _real_rate(real: WeightedChannels, inside: Bool) -> Estimate | None:
    count = int(inside.sum())
    if count == 0:
        return None
    failed = int(real.fails[inside].sum())
    return proportion(failed, count, method="real channels, counted")


def _three(values: Array, weight: Array) -> tuple[float, float, float]:
    low, median, high = (weighted_quantile(values, weight, prob) for prob in (0.1, 0.5, 0.9))
    return low, median, high
