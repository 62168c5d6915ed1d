"""Several scenarios in one file: what can be told from users' features, gains and labels.

Line of sight is no sign, since one scenario has users of both kinds. Limits lie well above what
sets of one scenario show; where two causes look alike, the warning names both.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from channels.inspection_checks import share_in_words
from channels.physical_features import FEATURES

__all__ = ["mixture_warnings"]

_PLACES = 16  # of the file, between which a change is looked for
_LEAST_KS, _TIMES_CHANCE = 0.15, 2.0  # UMi sets stay within 1.3 times the 95 % bound of chance
_LEAST_BETWEEN = 0.1  # of the variance between drops; UMi sets have 0.01
_LEAST_DROPS, _LEAST_IN_DROP = 4, 10
_GAP_DB, _LEAST_GROUP = 15.0, 20


def mixture_warnings(
    values: Mapping[str, np.ndarray], power_db: np.ndarray, labels: Mapping[str, np.ndarray]
) -> list[str]:
    """Sentences on signs of several scenarios in one file.

    Args:
        values: Features by name, (N,) each, in the file's order.
        power_db: Gain of each user [dB], (N,).
        labels: Per-user labels, (N, ...).
    """
    found = [_label_warning(name, label) for name, label in labels.items() if "scenario" in name]
    both = {**values, "power_db": np.round(power_db, 1)}  # rounding of the storage is no law
    found.append(_law_warning(both, labels.get("drop_seed")))
    found.append(_gap_warning(power_db))
    return [sentence for sentence in found if sentence is not None]


def _label_warning(name: str, label: np.ndarray) -> str | None:
    kinds = np.unique(label)
    if label.ndim != 1 or len(kinds) < 2:
        return None
    return (
        f"Label {name} has {len(kinds):,} values: {len(kinds):,} scenarios in one file. An audit "
        "mixes them; split the file by it to keep them apart."
    )


@dataclass(frozen=True, order=True)
class _Change:
    """A feature that has another law from user `place` on: its KS distance, and that in units of
    the 95 % bound of chance."""

    times: float
    ks: float
    place: int
    name: str


def _law_warning(values: Mapping[str, np.ndarray], drops: np.ndarray | None) -> str | None:
    """Whether some feature changes its law along the file or from drop to drop.

    Two scenarios one after the other differ from drop to drop too; so drops are judged on either
    side of the change.
    """
    change = max((_change(name, value) for name, value in values.items()), default=None)
    if change is not None and (change.times < _TIMES_CHANCE or change.ks < _LEAST_KS):
        change = None
    parts = [slice(None)] if change is None else [slice(change.place), slice(change.place, None)]
    if drops is not None:
        share, name = max(_most_between(values, drops, part) for part in parts)
        if share >= _LEAST_BETWEEN:
            return _drop_sentence(share, name)
    return None if change is None else _change_sentence(change, values[change.name])


def _change_sentence(change: _Change, value: np.ndarray) -> str:
    label, unit, scale = _display(change.name)
    one, other = (scale * float(np.median(v)) for v in np.split(value, [change.place]))
    return (
        f"Users before and after about number {change.place:,} look like different scenarios: "
        f"median {label} {one:.3g} and {other:.3g}{unit and ' '}{unit}, KS distance "
        f"{change.ks:.2f}, by chance up to {change.ks / change.times:.2f}. Or the users are in an "
        "order (sorted, along a track)."
    )


def _change(name: str, value: np.ndarray) -> _Change:
    """The place in the file before and after which a feature differs most.

        KS_k = max_v |F(v | user < k) - F(v | user >= k)|,  bound_k = 1.36 sqrt(n / (k (n - k)))

    k runs over sixteenths of the file and is then moved to where the share of values below that v
    changes most.
    """
    n = len(value)
    order = np.argsort(value, kind="stable")
    ranked = value[order]
    last = np.append(ranked[1:] != ranked[:-1], True)  # of a run of ties
    rank = np.arange(1, n + 1)
    times, ks, at = 0.0, 0.0, -1
    for k in {n * i // _PLACES for i in range(1, _PLACES)} - {0}:
        before = np.cumsum(order < k)
        gap = np.abs(before / k - (rank - before) / (n - k)) * last
        bound = 1.358 * np.sqrt(n / (k * (n - k)))
        if gap.max() / bound > times:
            times, ks, at = float(gap.max() / bound), float(gap.max()), int(gap.argmax())
    if at < 0:
        return _Change(0.0, 0.0, 0, name)
    below = np.cumsum(value <= ranked[at])
    drift = np.abs(below[:-1] - below[-1] * rank[:-1] / n)
    return _Change(times, ks, int(drift.argmax()) + 1, name)


def _most_between(
    values: Mapping[str, np.ndarray], drops: np.ndarray, part: slice
) -> tuple[float, str]:
    """Largest share of a feature's variance that lies between drops, and the feature."""
    return max((_between(value[part], drops[part]), name) for name, value in values.items())


def _drop_sentence(share: float, name: str) -> str:
    return (
        f"{share_in_words(share)} of the variance of the {_display(name)[0]} lies between drops; "
        "drops of one scenario hardly differ. Several scenarios, or a place of its own for each "
        "drop?"
    )


def _between(value: np.ndarray, drops: np.ndarray) -> float:
    """Share of the variance that lies between drops, 0 where chance may explain it.

        F = MS_between / MS_within,   rho = (F - 1) / (F - 1 + n_0),   n_0 users a drop

    Source: one-way random-effects analysis of variance, Searle, Casella and McCulloch, Variance
    Components, 1992, chapter 3.
    """
    _, group, count = np.unique(drops, return_inverse=True, return_counts=True)
    n, g = len(value), len(count)
    if g < _LEAST_DROPS or n < _LEAST_IN_DROP * g:
        return 0.0
    z = special.ndtri((stats.rankdata(value) - 0.5) / n)
    mean = np.bincount(group, z) / count
    between = float(count @ (mean - z.mean()) ** 2) / (g - 1)
    within = float(((z - mean[group]) ** 2).sum()) / (n - g)
    if within == 0:
        return 1.0 if between > 0 else 0.0
    f = between / within
    if stats.f.sf(f, g - 1, n - g) > 1e-6:
        return 0.0
    users = (n - float(count @ count) / n) / (g - 1)
    return (f - 1) / (f - 1 + users)


def _gap_warning(power_db: np.ndarray) -> str | None:
    """Whether user gains fall into two groups with nobody in between."""
    group = max(_LEAST_GROUP, len(power_db) // 50)
    middle = np.sort(power_db)[group - 1 : len(power_db) - group + 1]
    if len(middle) < 2:
        return None
    gaps = np.diff(middle)
    at = int(gaps.argmax())
    if gaps[at] < _GAP_DB:
        return None
    return (
        f"User gains fall into two groups, with nobody between {middle[at]:.0f} and "
        f"{middle[at + 1]:.0f} dB: several scenarios, or two units in one file?"
    )


def _display(name: str) -> tuple[str, str, float]:
    """Label, unit and factor of a feature or of the gain."""
    if name not in FEATURES:
        return "gain", "dB", 1.0
    info = FEATURES[name]
    return info.label, "" if info.unit == "1" else info.unit, info.scale
