"""Figures of benchmarks.paper_csi from samples: intervals, comparisons, rows; nothing is drawn."""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import stats
from torch import Tensor

from benchmarks.checks import Check, check
from csi_audit.islands import IslandSamples
from reports.estimates import Estimate, mean_estimate, student

Array = npt.NDArray[np.float64]

LEVEL = 0.95
BOOTSTRAP = 1000
LIMIT = 0.05  # on a relative difference
AGAINST = (
    "E_q[l] of reweighting, same chain",
    "E_q[l] of reweighting, audited law",
    "Z of plain draws, same chain",
)
"""What ours is compared with."""


def figure_row(estimate: Estimate, *, chain: str, seconds: float, **named: str) -> dict[str, Any]:
    """One figure with its interval, its chain in short and its price.

    Args:
        estimate: The figure; its method is the chain in full.
        chain, seconds: What moved the particles, and how long that took.
        named: Columns that say which figure it is.
    """
    return {
        **named,
        "value": estimate.value,
        "interval": None if estimate.interval is None else list(estimate.interval),
        "n": estimate.n,
        "ess": estimate.ess,
        "evaluations": estimate.n_evaluations,
        "seconds": round(seconds, 1),
        "chain": chain,
        "status": estimate.status,
        "estimate": estimate.to_dict(),
    }


def base_mean(samples: IslandSamples, log_l: Tensor, values: Array) -> Estimate:
    """E_p[f] from absolutely weighted samples of q = l p / Z: the mean of w f / l over an island,
    with Student's interval over islands.

    Args:
        samples: Of q.
        log_l: log l of each, (N,).
        values: f of each, (N,); f / l should not grow without bound.
    """
    terms = (samples.log_w - log_l).exp().numpy() * values
    means = np.bincount(samples.island.numpy(), weights=terms) / samples.sizes().numpy()
    found = mean_estimate(means, method=samples.chain)
    return replace(found, ess=None, n_evaluations=samples.n_evaluations)


def relative_difference(a: Estimate, b: Estimate) -> tuple[float, float, float]:
    """a / b - 1 of independent estimates, and its interval.

    SE^2 = (SE_a^2 + (a / b)^2 SE_b^2) / b^2,   Student's t on the smaller number of values
    """
    ratio = a.value / b.value
    error = math.hypot(a.std_error or 0.0, ratio * (b.std_error or 0.0)) / b.value
    low, high = student(ratio - 1, error, min(a.n, b.n) - 1, LEVEL)
    return ratio - 1, low, high


def absolute(low: float, high: float) -> tuple[float, float]:
    """The interval of |v| where v lies in [low, high]."""
    ends = sorted((abs(low), abs(high)))
    return (0.0 if low < 0 < high else ends[0]), ends[1]


def share_of_shift(guided: Array, base: Array, *, seed: int) -> tuple[float, float, float]:
    """(m - E_p[l]) / (E_q[l] - E_p[l]) and its percentile bootstrap interval.

    Args:
        guided: l of samples that should follow q = l p / Z, (M,); m is their mean.
        base: l of draws of p, (N,), which give E_p[l] and E_q[l] = E_p[l^2] / E_p[l].
        seed: Of the bootstrap.
    """

    def share(m: Array, l: Array) -> float:
        e_p = l.mean()
        return float((m.mean() - e_p) / (np.square(l).mean() / e_p - e_p))

    random = np.random.default_rng(seed)
    redrawn = [
        share(*(part[random.integers(len(part), size=len(part))] for part in (guided, base)))
        for _ in range(BOOTSTRAP)
    ]
    low, high = np.quantile(redrawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return share(guided, base), float(low), float(high)


def efficiency(
    z: Array, weight: Array, *, evaluations: int, pilot: int, steps: int
) -> dict[str, Any]:
    """Scatter of Z over islands beside that of reweighting at equal evaluations.

    Reweighting affords E / steps plain draws for E evaluations, and its mean of l has the
    coefficient of variation CV(l) sqrt(steps / E). The interval is that of the scatter of J islands
    alone: chi-square of J - 1.

    Args:
        z: Z of every island, (J,).
        weight: l of plain draws, (N,).
        evaluations: Denoiser evaluations of all islands.
        pilot: Those of the pilot and the fit of the twist, which reweighting does without.
        steps: Evaluations a plain draw.
    """
    coef_var = float(weight.std(ddof=1) / weight.mean())
    coef_var_z = float(z.std(ddof=1) / z.mean() / math.sqrt(len(z)))
    freedom = len(z) - 1
    widths = [
        math.sqrt(freedom / stats.chi2.ppf(p, freedom)) for p in ((1 + LEVEL) / 2, (1 - LEVEL) / 2)
    ]
    found: dict[str, Any] = {
        "coef_var_l": coef_var,
        "ess_share_reweighting": 1 / (1 + coef_var**2),
        "coef_var_z": coef_var_z,
        "islands": len(z),
        "evaluations": evaluations,
        "pilot_evaluations": pilot,
    }
    for name, spent in (("cv_ratio", evaluations), ("cv_ratio_with_pilot", evaluations + pilot)):
        ratio = coef_var_z / (coef_var * math.sqrt(steps / spent))
        found |= {name: ratio, f"{name}_interval": [ratio * width for width in widths]}
    return found


def r2_by_level(sigmas: Tensor, r2: Tensor) -> Mapping[str, float]:
    """Share of the variance of l(x0) that a twist explains, by noise level."""
    pairs = zip(sigmas.tolist(), r2.tolist(), strict=True)
    return {f"{sigma:.4g}": round(value, 4) for sigma, value in pairs}


def worth_rows(
    worth: Mapping[str, Any], r2: Mapping[str, float], **named: str
) -> list[dict[str, Any]]:
    """What reweighting keeps of its samples, and the scatter of Z beside it.

    Args:
        worth: Of `efficiency`.
        r2: Of `r2_by_level`.
        named: Columns that say of which weight and chain.
    """
    named = named | {"law": "q"}
    rows: list[dict[str, Any]] = [
        named
        | {"method": "reweighting", "quantity": "ESS/N", "value": worth["ess_share_reweighting"]}
    ]
    for key, words in (("cv_ratio", ""), ("cv_ratio_with_pilot", ", pilot counted")):
        quantity = f"CV of Z over reweighting's at equal evaluations{words}"
        ends = worth[f"{key}_interval"]
        rows.append(
            named | {"method": "ours", "quantity": quantity, "value": worth[key], "interval": ends}
        )
    return [*rows[:-1], rows[-1] | {"worth": worth, "r2": r2}]


def comparison_checks(
    weight: str, pairs: Mapping[str, tuple[Estimate, Estimate]], worth: Mapping[str, Any] | None
) -> list[Check]:
    """Ours within 5 % of what plain draws say, and worth its evaluations; undecided without it.

    Args:
        weight: Name of the weight.
        pairs: Ours and the other estimate by name of `AGAINST`; {} where ours refused.
        worth: Of `efficiency`, or None.
    """
    checks = []
    for name in AGAINST:
        value, interval = None, None
        if name in pairs:
            difference, low, high = relative_difference(*pairs[name])
            value, interval = abs(difference), absolute(low, high)
        label = f"{weight}: ours against {name}, |relative difference|"
        checks.append(check(label, value, interval=interval, relation="<=", limit=LIMIT))
    label = f"{weight}: CV of Z, ours over reweighting at equal evaluations, pilot counted"
    key = "cv_ratio_with_pilot"
    ratio, ends = (None, None) if worth is None else (worth[key], worth[f"{key}_interval"])
    return [*checks, check(label, ratio, interval=ends, relation="<=", limit=1.0)]
