"""What hardening changed, on users it never saw: `harden.json`, a verdict, a table.

After minus before on the same users, so negative is better. Hardening worked where the tail surely
improved and the mean surely lost no more than 0.1 dB.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from channels.support import write_text_atomic
from reports.comparison_estimates import paired_cvar_db, paired_mean_db, paired_quantiles_db
from reports.estimates import Estimate, format_estimate
from reports.plain import json_text

Array = npt.NDArray[np.float64]

MOST_LOST_DB = 0.1
"""Of the mean NMSE that hardening may cost."""

HardenVerdict = Literal["worked", "did not work", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class HardeningChange:
    """One figure before and after; `change` is after minus before [dB], paired over users."""

    quantity: str
    before_db: float
    after_db: float
    change: Estimate


@dataclass(frozen=True, kw_only=True)
class HardeningResult:
    """What hardening did to one compressor on users that it was not trained on."""

    compressor: str
    users: str
    n: int
    n_trained: int
    n_importance: int
    changes: tuple[HardeningChange, ...]
    verdict: HardenVerdict
    sentence: str
    notes: tuple[str, ...] = ()

    def save(self, folder: str | Path) -> Path:
        """Write `harden.json`, whole or not at all."""
        target = Path(folder) / "harden.json"
        write_text_atomic(target, json_text(self, "harden"))
        return target


HARDEN_KEYS: Mapping[str, str] = {
    "compressor": "Name of the compressor as it came.",
    "users": "On which users before and after were measured.",
    "n": "How many they are.",
    "n_trained": "Training channels, importance samples not counted.",
    "n_importance": "Importance samples among the training channels.",
    "changes": "Mean, quantiles and worst share of the NMSE before and after.",
    "changes[].quantity": "Which figure.",
    "changes[].before_db": "The compressor as it came [dB].",
    "changes[].after_db": "The hardened one [dB].",
    "changes[].change": "After minus before [dB], paired over users; negative is better.",
    "verdict": "'worked', 'did not work' or 'cannot tell'.",
    "sentence": "The verdict with its figures.",
    "notes": "What to mind.",
}
"""Sentence by dotted path; estimates have the keys of `keys.ESTIMATE_KEYS`."""


def hardening_changes(before: Array, after: Array) -> tuple[HardeningChange, ...]:
    """Mean, 95 % and 99 % quantile and mean of the worst 1 % of the NMSE, after minus before.

    Args:
        before, after: Linear NMSE of the same users, [n], positive means.
    """
    both = {"after": after, "before": before}
    found = [("mean NMSE", _db(before.mean()), paired_mean_db(after, before))]
    for prob in (0.95, 0.99):
        own = float(np.quantile(before, prob, method="inverted_cdf"))
        change = paired_quantiles_db(both, prob)["after", "before"]
        found.append((f"{100 * prob:g} % quantile", _db(own), change))
    change = paired_cvar_db(after, before, 0.99)
    found.append(("mean of the worst 1 %", _db(_cvar(before, 0.99)), change))
    return tuple(
        HardeningChange(
            quantity=name, before_db=level, after_db=level + estimate.value, change=estimate
        )
        for name, level, estimate in found
    )


def hardening_verdict(changes: tuple[HardeningChange, ...]) -> tuple[HardenVerdict, str]:
    """Whether the tail improved without losing more than 0.1 dB of the mean, and a sentence.

    It worked where the interval of the mean of the worst 1 % lies below 0, the 99 % quantile did
    not surely rise, and the interval of the mean ends below +0.1 dB. It did not where the mean
    surely lost more, the tail surely rose, the tail shows no gain, or nothing changed at all;
    otherwise nobody can tell.
    """
    mean, _, quantile, worst = (item.change for item in changes)
    if all(item.change.value == 0 and item.change.std_error is None for item in changes):
        return "did not work", (
            "It did not work: nothing that was learned improved the tail of the users that select "
            "without losing too much of their mean, so the compressor is as it came."
        )
    lost, gained = _ends(mean), _ends(worst)
    figures = (
        f"mean NMSE {_signed(mean)} dB, mean of the worst 1 % {_signed(worst)} dB, 99 % quantile "
        f"{_signed(quantile)} dB (after minus before)"
    )
    if lost is not None and lost[0] > MOST_LOST_DB:
        return "did not work", f"It did not work: more than 0.1 dB of the mean is lost; {figures}."
    if gained is None or lost is None:
        return "cannot tell", f"Cannot tell: too few users for an interval; {figures}."
    high = _ends(quantile)
    if gained[0] > 0 or (high is not None and high[0] > 0):
        return "did not work", f"It did not work: the tail is worse; {figures}."
    if gained[1] >= 0:
        return "did not work", f"It did not work: the tail shows no gain beyond chance; {figures}."
    if lost[1] > MOST_LOST_DB:
        return "cannot tell", (
            f"The tail improved, but whether more than 0.1 dB of the mean is lost cannot be told; "
            f"{figures}."
        )
    return "worked", f"It worked: the tail improved and the mean is kept; {figures}."


def _ends(estimate: Estimate) -> tuple[float, float] | None:
    return estimate.interval


def _signed(estimate: Estimate) -> str:
    text = format_estimate(estimate)
    return text if text.startswith("-") else f"+{text}"


def _cvar(x: Array, prob: float) -> float:
    q = float(np.quantile(x, prob, method="inverted_cdf"))
    return q + float(np.maximum(x - q, 0).mean()) / (1 - prob)


def _db(value: float) -> float:
    return 10 * float(np.log10(max(float(value), 1e-30)))
