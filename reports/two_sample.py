"""Can a classifier tell base samples from real channels? Its AUC, with an interval over drops.

Columns of numbers in, an AUC out; what the columns are is the caller's.
"""

import math

import numpy as np
import numpy.typing as npt
from scipy import special

from reports.estimates import Array, Estimate, by_drop_mean, check_level
from reports.fidelity_items import ClassifierTest

AUC_LIMIT = 0.65
"""Largest area under the curve at which a base law passes."""
FOLDS = 5


def classifier_test(
    base: Array,
    real: Array,
    *,
    drops: npt.ArrayLike | None = None,
    seed: int = 0,
    folds: int = FOLDS,
    limit: float = AUC_LIMIT,
) -> ClassifierTest:
    """Gradient boosting tells base samples from real channels; each fold is scored by the others.

    Real channels of a drop stay in one fold, so that a drop cannot be learned by heart.

    Args:
        base: Columns on base samples [n_base, p].
        real: The same on real channels [n_real, p].
        drops: Drop of each real channel [n_real]; None puts channels into folds one by one.
        seed: Fixes folds and training.
        folds: At most so many; fewer where there are fewer drops.
        limit: Largest AUC accepted.
    Raises:
        ValueError: the columns differ, or a side has fewer rows than folds.
    """
    if base.ndim != 2 or real.ndim != 2 or base.shape[1] != real.shape[1]:
        raise ValueError(f"base and real must have equal columns; got {base.shape}, {real.shape}.")
    random = np.random.default_rng(seed)
    n_folds = folds if drops is None else min(folds, len(np.unique(np.asarray(drops))))
    n_folds = n_folds if n_folds > 1 else folds  # of one drop, channels are all there is
    if min(len(base), len(real)) < n_folds:
        raise ValueError(
            f"base and real must have at least {n_folds} rows; got {len(base)}, {len(real)}."
        )
    whole = drops if drops is not None and len(np.unique(np.asarray(drops))) > 1 else None
    fold_base, fold_real = (
        fold_numbers(len(base), n_folds, random),
        fold_numbers(len(real), n_folds, random, groups=whole),
    )
    score_base, score_real = _scores(base, real, fold_base, fold_real, seed)
    auc = auc_estimate(
        score_base, score_real, drops=whole, fold_base=fold_base, fold_real=fold_real
    )
    return ClassifierTest(
        auc=auc, perfect_95=perfect_auc(len(base), len(real)), limit=limit,
        n_columns=base.shape[1], folds=n_folds, verdict=limit_verdict(auc, limit),
    )  # fmt: skip


def limit_verdict(estimate: Estimate, limit: float) -> str:
    """ "pass" when the whole interval keeps the limit, "off" when it breaks it."""
    lo, hi = estimate.interval or (-math.inf, math.inf)
    return "pass" if hi <= limit else "off" if lo > limit else "cannot tell"


def auc_estimate(
    base: npt.ArrayLike,
    real: npt.ArrayLike,
    *,
    drops: npt.ArrayLike | None = None,
    fold_base: npt.ArrayLike | None = None,
    fold_real: npt.ArrayLike | None = None,
    level: float = 0.95,
) -> Estimate:
    """Chance that a base sample scores higher than a real channel, compared within folds.

        AUC = mean_j V_j,   V_j = P(s_base > s_j) + P(s_base = s_j)/2
        SE^2 = SE_drops(V)^2 + var(V_base) / n_base

    For classifiers as they were trained: how they vary with their training is not in the interval.

    Args:
        base, real: Scores [n_base] and [n_real]; higher means more like a base sample.
        drops: Drop of each real channel; None counts them as independent.
        fold_base, fold_real: Fold of each; scores of different folds are not compared.
        level: Of the interval.
    Source: DeLong, DeLong and Clarke-Pearson 1988, 10.2307/2531595; clusters as in Obuchowski
        1997, 10.2307/2533958.
    """
    check_level(level)
    x, y = np.asarray(base, dtype=np.float64), np.asarray(real, dtype=np.float64)
    folds_x = np.zeros(len(x), int) if fold_base is None else np.asarray(fold_base)
    folds_y = np.zeros(len(y), int) if fold_real is None else np.asarray(fold_real)
    of_real, of_base = np.empty(len(y)), np.empty(len(x))
    for fold in np.unique(folds_y):
        mine, theirs = folds_x == fold, folds_y == fold
        of_real[theirs] = 1 - _share_below(x[mine], y[theirs])
        of_base[mine] = _share_below(y[theirs], x[mine])
    by_drop = by_drop_mean(of_real, np.arange(len(y)) if drops is None else drops, level=level)
    j = len(y) if drops is None else len(np.unique(np.asarray(drops)))
    parts = (by_drop.std_error or 0.0) ** 2, float(of_base.var(ddof=1)) / len(x)
    se, value = math.sqrt(sum(parts)), by_drop.value
    if se == 0:  # told apart without an error, or not at all
        return Estimate(value=value, n=len(x) + len(y), method="AUC", status="no scatter")
    df = sum(parts) ** 2 / (parts[0] ** 2 / max(j - 1, 1) + parts[1] ** 2 / (len(x) - 1))
    t = float(special.stdtrit(df, (1 + level) / 2))
    return Estimate(
        value=value, std_error=se, level=level, n=len(x) + len(y), method="AUC, DeLong over drops",
        interval=(max(0.0, value - t * se), min(1.0, value + t * se)),
    )  # fmt: skip


def perfect_auc(n: int, m: int, *, level: float = 0.95) -> float:
    """One-sided `level` quantile of the AUC between n and m scores of one law.

    0.5 + z sqrt((n + m + 1) / (12 n m))
    """
    check_level(level)
    return 0.5 + float(special.ndtri(level)) * math.sqrt((n + m + 1) / (12 * n * m))


def fold_numbers(
    n: int, folds: int, random: np.random.Generator, *, groups: npt.ArrayLike | None = None
) -> npt.NDArray[np.int64]:
    """Fold of each of n rows [n], of about equal size; rows of one group share theirs."""
    labels = (
        np.arange(n) if groups is None else np.unique(np.asarray(groups), return_inverse=True)[1]
    )
    count = int(labels.max()) + 1
    return random.permutation(np.arange(count) % folds)[labels]


def _share_below(x: Array, y: Array) -> Array:
    """P(X < y) + P(X = y)/2 for each of y."""
    ordered = np.sort(x)
    ends = (np.searchsorted(ordered, y, side=side) for side in ("left", "right"))
    return np.asarray(sum(ends) / (2 * len(x)))


def _scores(
    base: Array,
    real: Array,
    fold_base: npt.NDArray[np.int64],
    fold_real: npt.NDArray[np.int64],
    seed: int,
) -> tuple[Array, Array]:
    """Score of every row by a classifier that was trained on the other folds."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    score_base, score_real = np.empty(len(base)), np.empty(len(real))
    for fold in np.unique(fold_real):
        out_base, out_real = fold_base == fold, fold_real == fold
        rows = np.concatenate([base[~out_base], real[~out_real]])
        truth = np.repeat([1, 0], [int((~out_base).sum()), int((~out_real).sum())])
        trained = HistGradientBoostingClassifier(random_state=seed, early_stopping=False)
        trained.fit(rows, truth)
        score_base[out_base] = trained.decision_function(base[out_base])
        score_real[out_real] = trained.decision_function(real[out_real])
    return score_base, score_real
