"""Do the physical features follow the simulator's labels?

Rank correlation and bias of each feature that has a label, for users with and without line of
sight; what white noise does to the delay spread; users per second.

    python -m benchmarks.features
"""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.stats import rankdata

from benchmarks.checks import Check, Relation
from benchmarks.harness import check, parse_arguments, write_result
from channels import FEATURES, ChannelSet, audit_space, features, features_of_maps, load_channels
from channels.randomness import seeded_generator

Array = npt.NDArray[np.float64]
Row = dict[str, Any]

BOOTSTRAP = 300
SNR_DB = 20.0
BASE_STATION_M = (0.0, 0.0, 10.0)  # of the channel data, its array along the second axis
EVERYONE, LOS, NLOS = "all", "line of sight", "no line of sight"


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A feature, the label that it should follow, and on whom.

    Args:
        feature: Name of the feature.
        label: What the row calls the label.
        truth: Label values (N,), in the unit in which the feature is stored.
        groups: Users to tell apart.
        period: Of a feature that lies on a circle: differences are taken the short way round.
    """

    feature: str
    label: str
    truth: Array
    groups: tuple[str, ...] = (EVERYONE, LOS, NLOS)
    period: float | None = None

    def difference(self, found: Array, truth: Array) -> Array:
        """found - truth."""
        gap = found - truth
        if self.period is None:
            return gap
        return (gap + self.period / 2) % self.period - self.period / 2


def rank_correlation(a: Array, b: Array) -> float:
    """Spearman's: the correlation of mid-ranks."""
    return float(np.corrcoef(rankdata(a), rankdata(b))[0, 1])


def chance_of_more(a: Array, b: Array) -> float:
    """P(a > b) + P(a = b)/2 of independent draws: the area under the ROC curve."""
    ranks = rankdata(np.concatenate([a, b]))[: len(a)].sum()
    return float((ranks - len(a) * (len(a) + 1) / 2) / (len(a) * len(b)))


def bootstrap(
    statistic: Callable[..., float], *samples: Array, seed: int, paired: bool = True
) -> tuple[float, float]:
    """Percentile bootstrap 95 % interval over users.

    Args:
        statistic: Of the samples.
        samples: One array each.
        seed: Of the draws.
        paired: Draw the same users from all samples, which then have one length.
    """
    random, drawn = np.random.default_rng(seed), []
    for _ in range(BOOTSTRAP):
        rows = [random.integers(len(s), size=len(s)) for s in samples]
        rows = rows[:1] * len(samples) if paired else rows
        drawn.append(statistic(*(s[i] for s, i in zip(samples, rows, strict=True))))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(low), float(high)


def median(a: Array) -> float:
    return float(np.median(a))


def nine_tenths(a: Array) -> float:
    """The magnitude that nine in ten stay below."""
    return float(np.quantile(np.abs(a), 0.9))


def users_of(channels: ChannelSet) -> Mapping[str, npt.NDArray[np.bool_]]:
    """Masks of the groups of users."""
    los = channels.label("is_los").bool().numpy()
    return {EVERYONE: np.ones_like(los), LOS: los, NLOS: ~los}


def pairs_of(channels: ChannelSet) -> list[Pair]:
    """What the labels of this set can tell of features."""
    truth = {name: label.double().numpy() for name, label in channels.labels.items()}
    pairs = []
    for feature, label, groups in (
        ("delay_spread_s", "delay_spread_s", (EVERYONE, LOS, NLOS)),
        ("azimuth_spread_deg", "asd_deg", (EVERYONE, LOS, NLOS)),
        ("k_factor_db", "k_factor_db", (LOS,)),  # -100 without line of sight: nothing to follow
    ):
        if label in truth:
            pairs.append(Pair(feature=feature, label=label, truth=truth[label], groups=groups))
    if "ue_pos_m" in truth:
        way = truth["ue_pos_m"] - np.array(BASE_STATION_M)
        u = way[:, 1] / np.linalg.norm(way, axis=1)  # sin az cos el of the direct path
        for feature, label, value, period in (
            ("dominant_beam", "direction of the user", u, 2.0),
            ("dominant_delay_s", "the direct path's 0", 0 * u, None),
        ):
            pairs.append(
                Pair(feature=feature, label=label, truth=value, groups=(LOS,), period=period)
            )
    return pairs


def row_of(
    feature: str,
    label: str,
    users: str,
    n: int,
    figure: str,
    value: float,
    interval: Sequence[float] | None,
    unit: str,
) -> Row:
    """One figure, with five digits."""
    return {
        "feature": feature,
        "label": label,
        "users": users,
        "n": n,
        "figure": figure,
        "value": float(f"{value:.5g}"),
        "interval": None if interval is None else [float(f"{end:.5g}") for end in interval],
        "unit": unit,
    }


def label_rows(pair: Pair, group: str, found: Array, truth: Array, seed: int) -> list[Row]:
    """Rank correlation and bias of one feature on one group of users.

    Ranks have no meaning round a circle, nor where the label is the same for all.
    """
    info, n = FEATURES[pair.feature], len(found)
    gap = info.scale * pair.difference(found, truth)
    figures = [("median bias", median(gap), bootstrap(median, gap, seed=seed), info.unit)]
    figures.append(
        (
            "90 % of errors below",
            nine_tenths(gap),
            bootstrap(nine_tenths, gap, seed=seed),
            info.unit,
        )
    )
    if np.ptp(truth) > 0 and pair.period is None:
        interval = bootstrap(rank_correlation, found, truth, seed=seed)
        figures.insert(0, ("rank correlation", rank_correlation(found, truth), interval, "1"))
    return [row_of(pair.feature, pair.label, group, n, *figure) for figure in figures]


def separation_row(k: Array, los: npt.NDArray[np.bool_], seed: int) -> Row:
    """How surely the K-factor tells a user with line of sight from one without."""
    interval = bootstrap(chance_of_more, k[los], k[~los], seed=seed, paired=False)
    value = chance_of_more(k[los], k[~los])
    return row_of("k_factor_db", "is_los", EVERYONE, len(k), "area under ROC", value, interval, "1")


def noise_rows(channels: ChannelSet, clean: Array, seed: int) -> list[Row]:
    """Delay spread of the same users in white noise, over that without."""
    x = audit_space(channels)
    noise = torch.randn(x.shape, generator=seeded_generator(seed, "noise"))
    noisy = x + 10 ** (-SNR_DB / 20) * 0.5**0.5 * noise  # |x|^2 has mean 1 over (re, im) pairs
    found = features_of_maps(noisy, channels.grid)["delay_spread_s"].double().numpy()
    ratio = found[clean > 0] / clean[clean > 0]
    figures = (
        ("median ratio", median(ratio), bootstrap(median, ratio, seed=seed), "1"),
        ("90 % of ratios off 1 by", nine_tenths(ratio - 1), None, "1"),
    )
    label = f"itself, in noise at {SNR_DB:g} dB"
    return [row_of("delay_spread_s", label, EVERYONE, len(ratio), *figure) for figure in figures]


def speed_row(channels: ChannelSet, repeats: int) -> Row:
    """Users per second through all features, transforms included; slowest and fastest run."""
    rates = []
    for _ in range(repeats):
        start = time.perf_counter()
        features(channels)
        rates.append(len(channels) / (time.perf_counter() - start))
    middle, ends = float(np.median(rates)), (min(rates), max(rates))
    return row_of(
        "all features", "the clock", EVERYONE, len(channels), "speed", middle, ends, "users/s"
    )


def off(
    centre: float, value: float | None, interval: Sequence[float] | None
) -> tuple[float | None, tuple[float, float] | None]:
    """|value - centre|, and the interval of it; from 0 on where the interval holds the centre."""
    apart = None if value is None else abs(value - centre)
    if interval is None:
        return apart, None
    low, high = (end - centre for end in interval)
    nearest = 0.0 if low <= 0 <= high else min(abs(low), abs(high))
    return apart, (nearest, max(abs(low), abs(high)))


def checks_of(rows: Sequence[Row]) -> list[Check]:
    """The targets, judged on the figures of `rows`; those that no row tells stay open.

    Biases and ratios are judged by how far they are off 0 and off 1, either way.
    """
    by = {(row["feature"], row["label"], row["users"], row["figure"]): row for row in rows}
    noise = f"itself, in noise at {SNR_DB:g} dB"
    targets: tuple[tuple[str, str, str, str, Relation, float], ...] = (
        ("delay_spread_s", "delay_spread_s", EVERYONE, "rank correlation", ">=", 0.98),
        ("azimuth_spread_deg", "asd_deg", EVERYONE, "rank correlation", ">=", 0.80),
        ("k_factor_db", "k_factor_db", LOS, "rank correlation", ">=", 0.90),
        ("k_factor_db", "k_factor_db", LOS, "|median bias|", "<=", 1.5),
        ("k_factor_db", "is_los", EVERYONE, "area under ROC", ">=", 0.98),
        ("delay_spread_s", noise, EVERYONE, "|median ratio - 1|", "<=", 0.05),
        ("all features", "the clock", EVERYONE, "speed", ">=", 2000.0),
    )
    found = []
    for feature, label, group, figure, relation, limit in targets:
        name, _, centre = figure.strip("|").partition(" - ")
        row = by.get((feature, label, group, name), {})
        value, interval = row.get("value"), row.get("interval")
        if figure.startswith("|"):
            value, interval = off(float(centre or 0), value, interval)
        found.append(
            check(
                f"{feature} against {label}, {group}: {figure}",
                value,
                relation=relation,
                limit=limit,
                interval=interval,
            )
        )
    return found


def _add_own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeats", type=int, default=3, help="runs that the speed is told from (default: 3)"
    )


def main() -> None:
    """Measure, compare, write `benchmarks/results/features.json`."""
    options = parse_arguments("features", description=__doc__, add_own=_add_own)
    channels, seed = load_channels(str(options.channels_path())), options.seed
    found = {name: value.double().numpy() for name, value in features(channels).items()}
    groups = users_of(channels)
    rows = []
    for pair in pairs_of(channels):
        for group in pair.groups:
            users = groups[group]
            values, truth = found[pair.feature][users], pair.truth[users]
            rows += label_rows(pair, group, values, truth, seed)
    rows.append(separation_row(found["k_factor_db"], groups[LOS], seed))
    rows += noise_rows(channels, found["delay_spread_s"], seed)
    rows.append(speed_row(channels, options.own.repeats))
    sizes = {"users": len(channels), "bootstrap": BOOTSTRAP, "snr_db": SNR_DB}
    write_result(options, sizes=sizes, rows=rows, checks=checks_of(rows))


if __name__ == "__main__":
    main()
