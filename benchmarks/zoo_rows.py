"""Rows and targets of benchmarks.zoo: figures of each user in, one mapping a compressor out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from benchmarks.checks import Check, check
from benchmarks.zoo_entries import Entry, Shape, described
from compressors import Compressor, flops
from compressors.complexity import ForwardCost
from compressors.neural import CompressorNetwork
from reports.estimates import Estimate, finite_vector, mean_estimate, quantile_estimate, student
from reports.tail_estimates import cvar_estimate

Array = npt.NDArray[np.float64]
Row = dict[str, Any]

DECIBELS = 10 / math.log(10)
WORST = 0.99  # quantile, and the share that is not the worst of the CVaR

MUST_GAIN = ("crnet", "clnet", "acrnet", "transnet")
GAIN_RATIO, GAIN_DB = 16, 1.0
HALF_DB = 0.01

PUBLISHED_AT_4 = {
    "csinet": 2_103_116,
    "crnet": 2_102_838,
    "clnet": 2_101_958,
    "transnet": 2_678_912,
    "acrnet": 2_102_344,
}
"""Parameters at ratio 4 of the papers; ACRNet's of expansion 1."""


# --- Estimates ------------------------------------------------------------------------------------


def ratio_of_means_db(a: npt.ArrayLike, b: npt.ArrayLike, *, level: float = 0.95) -> Estimate:
    """Ratio of two means over the same users [dB], with a paired interval.

        G = 10 log10(mean a / mean b),   g_i = a_i / mean a - b_i / mean b
        SE = 10/ln 10 s(g) / sqrt(n),    interval G -+ t_{n-1} SE

    By the delta method: d log(mean a / mean b) = sum_i g_i / n to first order. What a and b have in
    common, easy and hard users, cancels in g.

    Args:
        a, b: Positive means, one figure a user, [n].
        level: Confidence level.
    Raises:
        ValueError: lengths differ, or a mean is not positive.
    """
    x, y = finite_vector("a", a), finite_vector("b", b)
    if x.shape != y.shape or min(x.mean(), y.mean()) <= 0:
        raise ValueError(
            f"a and b must be of the same users with positive means; got {len(x)} and {len(y)} "
            f"with means {x.mean():.3g} and {y.mean():.3g}."
        )
    g, n = x / x.mean() - y / y.mean(), len(x)
    value = DECIBELS * math.log(x.mean() / y.mean())
    se = DECIBELS * float(g.std(ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Estimate(
        value=value,
        std_error=se or None,
        interval=student(value, se, n - 1, level) if se > 0 else None,
        level=level,
        n=n,
        ess=float(n),
        status="ok" if se > 0 else "no scatter, no interval",
        method="ratio of means over the same users, delta method on its logarithm",
    )


def to_decibels(value: float) -> float | None:
    """10 log10; None where that is not finite."""
    return 10 * math.log10(value) if value > 0 else None


def figure_of(estimate: Estimate, *, power: bool = False) -> Row:
    """Value, interval and status; of a power ratio in dB as well."""
    plain = estimate.to_dict()
    row = {key: plain[key] for key in ("value", "interval", "status", "method", "n")}
    if power:
        ends = [to_decibels(end) for end in estimate.interval or ()]
        row["db"] = to_decibels(estimate.value)
        row["interval_db"] = ends if ends and None not in ends else None
    return row


def quality(found: Mapping[str, Array]) -> dict[str, Row]:
    """Mean, quantiles and worst share of NMSE, and mean SGCS, with intervals."""
    nmse = found["nmse"]
    powers = {
        "nmse": mean_estimate(nmse),
        "nmse_q95": quantile_estimate(nmse, 0.95),
        "nmse_q99": quantile_estimate(nmse, WORST),
        "nmse_cvar99": cvar_estimate(nmse, WORST),
    }
    rows = {name: figure_of(estimate, power=True) for name, estimate in powers.items()}
    return rows | {"sgcs": figure_of(mean_estimate(found["sgcs"]))}


def ratio_rows(entry: Entry, measured: Mapping[str, Mapping[str, Array]]) -> dict[str, Row]:
    """NMSE against the KLT of equal length, of equal bits, and against its own float16 weights."""
    own = measured[entry.name]
    pairs = {
        "gain": (measured[entry.klt]["nmse"] if entry.klt else None, own["nmse"]),
        "gain_in_bits": (
            measured[entry.klt_in_bits]["nmse"] if entry.klt_in_bits else None,
            own["nmse"],
        ),
        "float16_change": (own.get("nmse_float16"), own["nmse"]),
    }
    itself = {"gain": entry.klt, "gain_in_bits": entry.klt_in_bits}
    return {
        name: figure_of(ratio_of_means_db(a, b))
        for name, (a, b) in pairs.items()
        if a is not None and itself.get(name) != entry.name and min(a.mean(), b.mean()) > 0
    }


# --- Facts ----------------------------------------------------------------------------------------


def stored_numbers(compressor: Compressor) -> int | None:
    """Parameters as the papers count them; of what has none the finite numbers it stores."""
    if not isinstance(compressor, nn.Module):
        return None
    trained = sum(p.numel() for p in compressor.parameters())
    stored = [b for b in compressor.buffers() if b.is_floating_point()]
    return trained or sum(int(torch.isfinite(b).sum()) for b in stored)


def published_parameters(entry: Entry, shape: Shape) -> int | None:
    """Parameters of the paper's net; None where it gives none.

    Only the two linear layers, to the code and from it, depend on the code length M:
    2048 M + M and 2048 M + 2048 numbers, so that M numbers less are 4097 M parameters less.
    """
    expansion = dict(described(entry.card).get("options", {})).get("expansion", 1)
    if entry.arch not in PUBLISHED_AT_4 or shape != (2, 32, 32) or expansion != 1:
        return None
    return PUBLISHED_AT_4[entry.arch] - (2048 // 4 - int(entry.compressor.n_code)) * 4097


def cost_of(compressor: Compressor, shape: Shape) -> ForwardCost | None:
    """Multiply-accumulates of one channel; None where torch does not see the work."""
    try:
        found = flops(compressor, shape)
    except RuntimeError:  # an exported model may run what the counter refuses
        return None
    return found if found.total > 0 or isinstance(compressor, CompressorNetwork) else None


def about(entry: Entry, shape: Shape) -> Row:
    """What it is, what it stands beside, and what its training took; None where nobody says."""
    card, curve = entry.card, entry.card.get("curve")
    return {
        "role": entry.role,
        "arch": entry.arch,
        "klt": entry.klt,
        "klt_in_bits": entry.klt_in_bits,
        "key": entry.key,
        "free_side_numbers": entry.compressor.convention.n_side,
        "published_parameters": published_parameters(entry, shape),
        "has_weights": isinstance(entry.compressor, CompressorNetwork),
        "sample_passes": int(curve[-1][0]) if curve else None,
        "selected_step": card.get("selected_step"),
        "training_seconds": card.get("training_seconds", entry.fit_seconds),
    }


def time_figures(seconds: Array, klt_seconds: Array | None, users: int) -> dict[str, Row]:
    """Time of 1,000 channels [s], and over the KLT's of the same round: median and extremes.

    Args:
        seconds: Of each round, (R,).
        klt_seconds: Of the KLT in these rounds, (R,).
        users: Channels a round.
    """
    pairs = {"seconds_per_1000": seconds * 1000 / users}
    if klt_seconds is not None:
        pairs["time_over_klt"] = seconds / klt_seconds
    return {
        name: {"value": float(np.median(v)), "interval": [float(v.min()), float(v.max())],
               "method": f"median of {len(v)} rounds with the fastest and the slowest"}
        for name, v in pairs.items()
    }  # fmt: skip


def row_of(
    entry: Entry,
    measured: Mapping[str, Mapping[str, Array]],
    seconds: Mapping[str, Array],
    *,
    timed_users: int,
    shape: Shape,
) -> Row:
    """All figures of one compressor: the main ones flat, all with intervals in `figures`, what it
    is and cost to make in `about`.

    Args:
        entry: The compressor.
        measured: Figures of each user, by name of the entry.
        seconds: Of each timed round, by name of the entry.
        timed_users: Channels a timed round.
        shape: (2 n_rx, n_tx, n_delay).
    """
    own, ratio = measured[entry.name], math.prod(shape) / entry.length
    klt_seconds = seconds[entry.klt] if entry.klt else None
    figures = quality(own) | ratio_rows(entry, measured)
    figures |= time_figures(seconds[entry.name], klt_seconds, timed_users)
    bits, cost = own.get("bits"), cost_of(entry.compressor, shape)

    def main(name: str, key: str = "value") -> Any:
        return figures.get(name, {}).get(key)

    return {
        "compressor": entry.name,
        "ratio": int(ratio) if ratio.is_integer() else ratio,
        "code": int(entry.compressor.n_code),
        "bits": None if bits is None else float(bits.mean()),
        "parameters": stored_numbers(entry.compressor),
        "macs": None if cost is None else cost.total,
        "nmse_db": main("nmse", "db"),
        "gain_db": main("gain"),
        "in_bits_db": main("gain_in_bits"),
        "sgcs": main("sgcs"),
        "q99_db": main("nmse_q99", "db"),
        "cvar99_db": main("nmse_cvar99", "db"),
        "s_per_1000": main("seconds_per_1000"),
        "over_klt": main("time_over_klt"),
        "figures": figures,
        "about": about(entry, shape)
        | {
            "most_bits": None if bits is None else float(bits.max()),
            "encoder_macs": None if cost is None else cost.encoder,
            "decoder_macs": None if cost is None else cost.decoder,
        },
    }


# --- Targets --------------------------------------------------------------------------------------


def checks_of(rows: Sequence[Row]) -> list[Check]:
    """Gains over the KLT, parameters as published, and what float16 weights would change."""
    named = [row for row in rows if row["about"]["role"] == "named"]
    return [*_gain_checks(named), *_parameter_checks(named), *_float16_checks(named)]


def _gain_checks(rows: Sequence[Row]) -> list[Check]:
    """Of the first net of each architecture at that ratio; undecided where there is none."""
    checks = []
    for arch in MUST_GAIN:
        gains = [
            row["figures"]["gain"]
            for row in rows
            if (row["about"]["arch"], row["ratio"]) == (arch, GAIN_RATIO)
            and "gain" in row["figures"]
        ]
        gain = gains[0] if gains else {"value": None, "interval": None}
        name = f"{arch} at ratio {GAIN_RATIO}: gain over the KLT [dB]"
        checks.append(
            check(name, gain["value"], interval=gain["interval"], relation=">=", limit=GAIN_DB)
        )
    return checks


def _parameter_checks(rows: Sequence[Row]) -> list[Check]:
    known = [row for row in rows if row["about"]["published_parameters"] is not None]
    return [
        check(
            f"{row['compressor']}: parameters off the published count",
            abs(row["parameters"] - row["about"]["published_parameters"]),
            relation="<=",
            limit=0,
        )
        for row in known
    ]


def _float16_checks(rows: Sequence[Row]) -> list[Check]:
    """Undecided where a weight is too large for float16."""
    checks = []
    for row in (row for row in rows if row["about"]["has_weights"]):
        change = row["figures"].get("float16_change", {"value": None, "interval": None})
        name = f"{row['compressor']}: NMSE by float16 weights [dB]"
        checks.append(
            check(name, change["value"], interval=change["interval"], relation="<=", limit=HALF_DB)
        )
    return checks
