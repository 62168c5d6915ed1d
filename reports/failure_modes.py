"""Failure modes of weighted channels: found, and found again in resamples.

A mode is a rule on the channel alone (mode_space.py), found where failures concentrate
(mode_search.py). Here weighted samples become the cases that are searched, and modes are found anew
in resamples. What a report says of a mode is put together in mode_description.py.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from reports.estimates import Estimate, proportion
from reports.mode_search import CHANCE, CandidateTable, Cases, find_rules
from reports.mode_space import Array, Bool, Described, Rule, mode_labels
from reports.reweighting import normalised_weights, weighted_proportion

LEAST_FAILURES = 10
"""Effective failures below which no modes are looked for."""

_RESAMPLES = 5

CRITERION = (
    f"a rule is a mode where failures concentrate so much that chance would do it with a "
    f"probability below {100 * CHANCE:g} % over all rules tried (Chernoff's bound), against the "
    "population near the modes found before"
)


@dataclass(frozen=True, kw_only=True)
class WeightedChannels:
    """Channels that stand for a law by their weights.

    Attributes:
        channels: As rules see them, n of them.
        fails: Whether L > tau, (n,).
        log_w: Log weights (n,); zeros for draws of the law itself, -inf is legal.
        clusters: What is independent only as a whole, (n,); None where each is its own.
    """

    channels: Described
    fails: Bool
    log_w: Array
    clusters: npt.NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.fails)

    def share(self, inside: Bool, among: Bool, *, method: str) -> Estimate | None:
        """P(inside | among) with its interval; None where nothing of weight is among."""
        log_w = self.log_w[among]
        if len(log_w) == 0 or np.isneginf(log_w).all():
            return None
        hits = inside[among]
        if self.clusters is None and (log_w == log_w[0]).all():
            return proportion(int(hits.sum()), len(hits), method=method)
        clusters = None if self.clusters is None else self.clusters[among]
        return weighted_proportion(hits, log_w, clusters=clusters, method=method)


@dataclass(frozen=True, kw_only=True)
class FoundModes:
    """Rules with what they were found among.

    Attributes:
        cases: Population and failures.
        rules: Of the modes.
        labels: Mode of each case, -1 for none, (n,).
        stability: Mean adjusted Rand index with the modes of resamples; None without modes.
        found: Modes found in each resample.
        kept: Share of the failures in the modes that is left when the choice of their rules is
            allowed for, in [0, 1]; see `found_modes`.
    """

    cases: Cases
    rules: tuple[Rule, ...]
    labels: npt.NDArray[np.int64]
    stability: float | None = None
    found: tuple[int, ...] = ()
    kept: float = 1.0

    def weight(self, mode: int) -> Array:
        """Weight of each case among the failures of a mode, sum 1, (n,)."""
        w = self.cases.failures * (self.labels == mode)
        return w / w.sum()


def failure_cases(
    base: WeightedChannels,
    failures: WeightedChannels | None = None,
    *,
    rate: float | None = None,
) -> Cases:
    """Population and failures, in the form rules are searched in.

        population: w_i / sum w,   failures: w_i 1{L_i > tau} / sum

    Other failures have their part in the population, p = (1 - P) p(x | L <= tau) + P p(x | L > tau)
    with the first term from `base`: else a rule could hold failures and no population at all, which
    any small box around a few of them does, and nothing concentrates more.

    Args:
        base: Channels weighted to the base law.
        failures: Other channels weighted to p(x | L > tau), such as those of subset simulation or
            of the target law (w 1{L > tau} / l); those that do not fail count nothing. Without
            them the failures are those of `base`.
        rate: P; None takes the share of `base` that fails.
    """
    if failures is None:
        w = normalised_weights(base.log_w)
        failing = w * base.fails
        total = float(failing.sum())
        return Cases(channels=base.channels, population=w,
                     failures=failing / total if total > 0 else failing,
                     n_failures=_effective(failing, base.clusters))  # fmt: skip
    other = normalised_weights(np.where(failures.fails, failures.log_w, -np.inf))
    w = normalised_weights(base.log_w)
    fine = w * ~base.fails
    calm = float(fine.sum())
    p = 1 - calm if rate is None or calm == 0 else rate
    count = _effective(other, failures.clusters)
    held = _effective(w, base.clusters)
    return Cases(
        channels=base.channels.with_rows(failures.channels),
        population=np.concatenate([(1 - p) * fine / (calm or 1.0), p * other]),
        failures=np.concatenate([np.zeros(len(base)), other]),
        n_failures=count * held / (count + held),  # of two samples, the shares of both are unsure
    )


def found_modes(
    cases: Cases, *, seed: int = 0, resamples: int = _RESAMPLES, least_share: float = 0.0
) -> FoundModes:
    """Modes of the cases and how far resampled cases give the same; none below `LEAST_FAILURES`.

    Stability is the mean adjusted Rand index, all cases weighed alike, between the modes and those
    found after drawing the cases anew with replacement: 1 is the same division of the channels, 0
    no more than chance.

    Rules chosen on failures hold too many of them. By how much is told by resamples: `kept` is the
    share of the failures they leave out, over that of the failures they hold, that lies in the
    modes found in them, on average.

    Args:
        cases: Population and failures.
        seed: Of the resamples.
        resamples: How many.
        least_share: Of all failures that a mode must hold, see `find_rules`.
    Source: Hubert and Arabie 1985, Journal of Classification 2:193, 10.1007/BF01908075.
    """
    nowhere = np.full(len(cases.population), -1, dtype=np.int64)
    if cases.n_failures < LEAST_FAILURES:
        return FoundModes(cases=cases, rules=(), labels=nowhere)
    table = CandidateTable.of(cases)
    rules = tuple(find_rules(cases, table=table, least_share=least_share))
    labels = mode_labels(rules, cases.channels)
    indices, counts, held, left = [], [], [], []
    random, n = np.random.default_rng(seed), len(nowhere)
    for _ in range(resamples):
        times = np.bincount(random.integers(n, size=n), minlength=n)
        redrawn = cases.redrawn(times)
        other = find_rules(redrawn, table=table, least_share=least_share)
        division = mode_labels(other, cases.channels)
        indices.append(rand_index(labels, division))
        counts.append(len(other))
        out = cases.failures * (times == 0)
        if out.any():
            held.append(float(redrawn.failures[division >= 0].sum()))
            left.append(float(out[division >= 0].sum() / out.sum()))
    return FoundModes(
        cases=cases, rules=rules, labels=labels, found=tuple(counts),
        stability=float(np.mean(indices)) if rules and indices else None,
        kept=_kept(held, left) if resamples else 1.0,
    )  # fmt: skip


def _kept(held: list[float], left: list[float]) -> float:
    """Mean share left out over mean share held; 0 where no resample has a mode."""
    total = sum(held)
    return min(sum(left) / total, 1.0) if total > 0 else 0.0


def rand_index(first: npt.NDArray[np.int64], second: npt.NDArray[np.int64]) -> float:
    """Adjusted Rand index of two divisions of the same channels, at most 1."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(first, second))


def _effective(weight: Array, clusters: npt.NDArray[np.int64] | None) -> float:
    """(sum w)^2 / sum w^2 over samples or clusters; 0 where no weight is left."""
    w = weight
    if clusters is not None:
        unit = np.unique(clusters, return_inverse=True)[1]
        w = np.bincount(unit, weights=weight).astype(np.float64)
    square = float(np.square(w).sum())
    return float(w.sum()) ** 2 / square if square > 0 else 0.0
