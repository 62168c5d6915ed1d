"""What is told of any mode, whatever its rules speak of: shares, rates, ranges, confirmation.

Shared by the modes of channels (mode_description.py) and of placements of users
(placement_modes.py), which add names and what only they know.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from channels.physical_features import FEATURES, FeatureInfo
from reports.estimates import Estimate, proportion
from reports.failure_modes import CRITERION, LEAST_FAILURES, FoundModes, WeightedChannels
from reports.mode_names import told_apart
from reports.mode_schema import (
    Confirmation,
    FailureMode,
    FeatureRange,
    ModeReport,
    RuleCondition,
)
from reports.mode_space import Array, Bool, mode_labels
from reports.reweighting import normalised_weights
from reports.stratify import feature_display, weighted_quantile

LEAST_USERS = 10
"""Real samples inside a mode below which nothing is said of its failure rate."""


@dataclass(frozen=True, kw_only=True)
class RuleTeller:
    """What it takes to tell of modes.

    Attributes:
        modes: From `found_modes`.
        base: The base samples.
        real: The real channels, unweighted; None without any.
        source: What the modes were found on: the failure sample, or the base samples.
        info: Label, unit and display scale by feature name.
        real_words: What the real side is called in the method of an estimate.
    """

    modes: FoundModes
    base: WeightedChannels
    real: WeightedChannels | None
    source: WeightedChannels
    info: Mapping[str, FeatureInfo] = field(default_factory=lambda: FEATURES)
    real_words: str = "real channels"

    def failing(self, k: int) -> Bool:
        """Failures of mode k among the source, (n,)."""
        return np.asarray((self._labels(self.source) == k) & self.source.fails)

    def bare_mode(self, k: int, *, rule: Sequence[RuleCondition], rule_text: str) -> FailureMode:
        """Mode k with all that its figures say; its name is the rule."""
        base_inside = self._labels(self.base) == k
        share = self.source.share(
            self._labels(self.source) == k, self.source.fails, method="failures inside the mode"
        )
        of_all = self.base.share(base_inside, np.ones(len(self.base), bool), method="base samples")
        inner = self.base.share(self.base.fails, base_inside, method="base samples inside")
        if share is None or of_all is None:
            raise ValueError(f"mode {k} holds no failure of any weight.")
        real = self.real_figures(k)
        return FailureMode(
            name=rule_text,
            rule_text=rule_text,
            rule=tuple(rule),
            share=_allowing(share, self.modes.kept),
            population=of_all,
            rate_base=None if inner is None else _allowing(inner, self.modes.kept),
            share_real=real[0],
            rate_real=real[1],
            confirmation=real[2],
            delay_range=None,
            beam_range=None,
            los=None,
            los_population=None,
            features=self.features(self.failing(k)),
        )

    def real_figures(self, k: int) -> tuple[Estimate | None, Estimate | None, Confirmation]:
        """Share of the real failures, failure rate inside, and whether it is confirmed."""
        if self.real is None:
            return None, None, "no real channels"
        inside = self._labels(self.real) == k
        share = self.real.share(inside, self.real.fails, method=f"{self.real_words}, counted")
        rate = self._real_rate(inside)
        return share, rate, confirmation(rate, float(self.real.fails.mean()))

    def features(self, failing: Bool) -> tuple[FeatureRange, ...]:
        """Ranges of every feature of the failures marked, beside the population's."""
        population = normalised_weights(self.base.log_w)
        mine = normalised_weights(self.source.log_w[failing])
        rows = []
        for name, values in self.source.channels.features.items():
            label, unit, scale = feature_display(name, self.info)
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

    def usual(self, k: int) -> list[float]:
        """Median over all channels of what each condition of mode k bounds."""
        weight = normalised_weights(self.base.log_w)
        rule = self.modes.rules[k]
        return [weighted_quantile(c.values(self.base.channels), weight, 0.5) for c in rule]

    def report(
        self,
        modes: Sequence[FailureMode],
        *,
        conditions: Sequence[Sequence[str]],
        threshold: str,
        nmse_db: float | None = None,
        level: float | None = None,
        delay_known: bool = True,
        criterion: str = CRITERION,
    ) -> ModeReport:
        """The modes with what is said of all of them together.

        `conditions` tells those of one name apart, see `told_apart`.
        """
        names = told_apart([mode.name for mode in modes], conditions)
        rate = self.base.share(self.base.fails, np.ones(len(self.base), bool),
                               method="base samples")  # fmt: skip
        n = self.modes.cases.n_failures
        return ModeReport(
            threshold=threshold,
            nmse_db=nmse_db,
            level=level,
            rate_base=rate,
            rate_real=None if self.real is None else self._real_rate(np.ones(len(self.real), bool)),
            n_failures=n,
            delay_unit="s" if delay_known else "taps",
            criterion=criterion,
            stability=self.modes.stability,
            found=self.modes.found,
            elsewhere=self._elsewhere() if self.modes.rules else None,
            modes=tuple(replace(mode, name=name) for mode, name in zip(modes, names, strict=True)),
            note=_note(n, len(self.modes.rules), rate),
        )

    def _labels(self, side: WeightedChannels) -> npt.NDArray[np.int64]:
        return mode_labels(self.modes.rules, side.channels)

    def _real_rate(self, inside: Bool) -> Estimate | None:
        if self.real is None or not inside.any():
            return None
        failed = int(self.real.fails[inside].sum())
        return proportion(failed, int(inside.sum()), method=f"{self.real_words}, counted")

    def _elsewhere(self) -> Estimate | None:
        """Share of the failures outside all modes: what the modes do not hold."""
        held = self.source.share(self._labels(self.source) != -1, self.source.fails,
                                 method="failures outside all modes")  # fmt: skip
        if held is None:
            return None
        less = _allowing(held, self.modes.kept)
        low, high = less.interval or (0.0, 1.0)
        return replace(less, value=1 - less.value, interval=(1 - high, 1 - low))


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


def _three(values: Array, weight: Array) -> tuple[float, float, float]:
    low, median, high = (weighted_quantile(values, weight, prob) for prob in (0.1, 0.5, 0.9))
    return low, median, high
