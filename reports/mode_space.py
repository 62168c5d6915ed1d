"""What a rule about channels may speak of: physical features, and power within windows of delay or
angle.

Everything here is a function of the channel alone, never of a loss, so that any channel, real or
generated, can be put in or out of a mode. The search for rules is in mode_search.py. What rules
about placements of users speak of, features alone, is in placement_space.py.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]
Side = Literal["at least", "at most"]

BANDS = 16
"""Bands at most that an axis is cut into for windows."""

STRETCH = 0.8
"""Share of an excess that the stretch named for it holds."""

RULE_FEATURES = (
    "delay_spread_s",
    "azimuth_spread_deg",
    "effective_paths",
    "k_factor_db",
    "peak_to_average_db",
)
"""Features a rule may use; the others say the same as a window of delay or angle."""


@dataclass(frozen=True, kw_only=True)
class Axes:
    """Delay and angle axes of power maps.

    Attributes:
        delay_s: Delay of each tap, storage order [n_delay]; tap numbers without a bandwidth.
        sin_azimuth: sin(azimuth) of each column beam, FFT order [n_columns].
    """

    delay_s: npt.NDArray[np.floating[Any]]
    sin_azimuth: npt.NDArray[np.floating[Any]]

    @property
    def delay_order(self) -> npt.NDArray[np.intp]:
        """Taps in rising delay: the last eighth of the circle lies below delay 0."""
        n = len(self.delay_s)
        return np.roll(np.arange(n), n // 8)

    @property
    def beam_order(self) -> npt.NDArray[np.intp]:
        """Beams in rising angle."""
        return np.argsort(self.sin_azimuth, kind="stable")

    def delay_edges(self) -> Array:
        """Edges of the bins of `delay_order`, [n_delay + 1], in the unit of `delay_s`."""
        n = len(self.delay_s)
        step = float(self.delay_s[1] - self.delay_s[0]) if n > 1 else 1.0
        return (np.arange(n + 1, dtype=np.float64) - n // 8 - 0.5) * step

    def beam_edges(self) -> Array:
        """Edges of the bins of `beam_order`, [n_columns + 1], in sin(azimuth)."""
        n = len(self.sin_azimuth)
        return (np.arange(n + 1, dtype=np.float64) - n // 2 - 0.5) * (2 / n)


@dataclass(frozen=True, kw_only=True)
class Described:
    """Channels as rules see them.

    Attributes:
        features: By name, as channels.features gives them, (n,) each.
        delay_power: Share of the energy in each tap, rising delay, (n, n_delay).
        beam_power: Share of the energy in each column beam, rising angle, (n, n_columns).
        ruling: Features that a rule may use, where it has them.
        families: Features of one family, by name, say the same in several sizes, as windows do: a
            search takes the best of them. A feature without is its own.
    """

    features: Mapping[str, Array]
    delay_power: Array
    beam_power: Array
    ruling: tuple[str, ...] = RULE_FEATURES
    families: Mapping[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.delay_power)

    def rows(self, index: npt.NDArray[Any]) -> "Described":
        """The channels of `index`, integers or bool."""
        return replace(
            self,
            features={name: value[index] for name, value in self.features.items()},
            delay_power=self.delay_power[index],
            beam_power=self.beam_power[index],
        )

    def with_rows(self, other: "Described") -> "Described":
        """These channels and others after them."""
        return replace(
            self,
            features={
                name: np.concatenate([value, other.features[name]])
                for name, value in self.features.items()
            },
            delay_power=np.concatenate([self.delay_power, other.delay_power]),
            beam_power=np.concatenate([self.beam_power, other.beam_power]),
        )


def described_channels(x: npt.ArrayLike, features: Mapping[str, Array], axes: Axes) -> Described:
    """Audit-space maps (n, 2 n_rx, n_tx, n_delay) and their features, as rules see them.

    Rows and polarisations of a panel are summed: the transmit axis folds onto the column beams.
    """
    maps = np.asarray(x)
    n, n_delay, n_columns = len(maps), maps.shape[-1], len(axes.sin_azimuth)
    power = np.square(maps, dtype=np.float64).reshape(n, -1, n_columns, n_delay).sum(1)
    power /= power.sum((1, 2), keepdims=True)
    return Described(
        features={name: np.asarray(value, dtype=np.float64) for name, value in features.items()},
        delay_power=power.sum(1)[:, axes.delay_order],
        beam_power=power.sum(2)[:, axes.beam_order],
    )


@dataclass(frozen=True, kw_only=True)
class Condition:
    """One bound of a rule.

    Attributes:
        kind: A feature, or the share of the energy in a window of delay or of beams.
        feature: Name of the feature; "" for a window.
        bins: First bin and number of bins of the window, in rising order; beams wrap round.
        side: Which side of the limit is inside; the limit itself is.
        limit: In the unit the feature is stored in; a share for a window.
    """

    kind: Literal["feature", "delay", "beam"]
    feature: str = ""
    bins: tuple[int, int] = (0, 0)
    side: Side = "at least"
    limit: float

    def values(self, channels: Described) -> Array:
        """What is compared with the limit, (n,)."""
        if self.kind == "feature":
            return channels.features[self.feature]
        power = channels.delay_power if self.kind == "delay" else channels.beam_power
        start, count = self.bins
        return power[:, np.arange(start, start + count) % power.shape[1]].sum(1)

    def holds(self, channels: Described) -> Bool:
        """Whether each channel keeps the bound, (n,)."""
        values = self.values(channels)
        return values >= self.limit if self.side == "at least" else values <= self.limit


Rule = tuple[Condition, ...]


def inside_rule(rule: Rule, channels: Described) -> Bool:
    """Whether each channel keeps every condition of the rule, (n,)."""
    held = np.ones(len(channels), dtype=bool)
    for condition in rule:
        held &= condition.holds(channels)
    return held


def mode_labels(rules: Sequence[Rule], channels: Described) -> npt.NDArray[np.int64]:
    """Mode of each channel, the first whose rule it keeps, (n,); -1 where it keeps none."""
    labels = np.full(len(channels), -1, dtype=np.int64)
    for number, rule in reversed(list(enumerate(rules))):
        labels[inside_rule(rule, channels)] = number
    return labels


def delay_windows(n: int) -> list[tuple[int, int]]:
    """Runs of neighbouring bands of n taps as (first bin, bins), the whole axis left out."""
    edges = _band_edges(n)
    runs = [
        (int(edges[i]), int(edges[j] - edges[i]))
        for i in range(len(edges) - 1)
        for j in range(i + 1, len(edges))
    ]
    return [run for run in runs if run[1] < n]


def beam_windows(n: int) -> list[tuple[int, int]]:
    """Runs of neighbouring bands of n beams, up to half of the circle they lie on."""
    edges = _band_edges(n)
    bands = len(edges) - 1
    runs = []
    for i in range(bands):
        for j in range(i + 1, i + 1 + bands // 2):
            stop = edges[j] if j <= bands else edges[j - bands] + n
            runs.append((int(edges[i]), int(stop - edges[i])))
    return runs


def shortest_stretch(profile: Array, share: float, *, circular: bool) -> tuple[int, int] | None:
    """(first bin, bins) of the shortest run that holds a share of a non-negative profile.

    Of runs of equal length the one that holds most; None for a profile of zeros.
    """
    n, total = len(profile), float(profile.sum())
    if total <= 0:
        return None
    sums = np.concatenate([[0.0], np.concatenate([profile, profile]).cumsum()])
    for length in range(1, n + 1):
        starts = np.arange(n if circular and length < n else n - length + 1)
        held = sums[starts + length] - sums[starts]
        if held.max() >= share * total * (1 - 1e-12):
            return int(starts[held.argmax()]), length
    return 0, n


def _band_edges(n: int) -> npt.NDArray[np.int64]:
    """Edges of at most `BANDS` bands of nearly equal width."""
    return np.unique(np.round(np.linspace(0, n, min(n, BANDS) + 1)).astype(np.int64))
