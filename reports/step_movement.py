"""Do figures move with the number of steps or with the seed? Paired and grouped samples."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from reports.estimates import Array, finite_vector, ks_distance
from reports.fidelity_items import SeedSpread, StepDoubling
from reports.tail_ratios import tail_ratio

STILL = 0.01
"""Largest KS distance between samples at twice the steps that counts as no movement."""
WORST = 0.01
SWAPS = 1000
SEED_LEVEL = 0.001


def step_doubling(
    name: str,
    once: npt.ArrayLike,
    doubled: npt.ArrayLike,
    real: npt.ArrayLike,
    *,
    kind: str,
    label: str = "",
    seed: int = 0,
) -> StepDoubling:
    """What twice the steps change in one quantity, sample by sample from the same initial noise.

    It "moves" when the KS distance of the two sets exceeds `STILL` and what pairs swapped at random
    show in 995 of 1000 cases.

    Args:
        name: Compressor or feature.
        once, doubled: Values at the stated and at twice the steps [n], pair by pair.
        real: Values on real channels.
        kind: "distortion" also counts the worst 1 % of the real channels.
        label: What a reader calls it.
        seed: Fixes the swaps.
    Raises:
        ValueError: the two sets are not of one size.
    """
    x, y = finite_vector("once", once), finite_vector("doubled", doubled)
    if len(x) != len(y):
        raise ValueError(f"once and doubled must be pairs; got {len(x)} and {len(y)} values.")
    moved = ks_distance(x, y)
    limit = max(STILL, swapped_quantile(x, y, seed=seed))
    counts = (
        [tail_ratio(name, v, real, share=WORST) for v in (x, y)] if kind == "distortion" else []
    )
    counted = counts and counts[0].tau is not None
    return StepDoubling(
        name=name, label=label or name, kind=kind, n=len(x), ks=moved,
        ks_real=ks_distance(x, real), ks_real_doubled=ks_distance(y, real),
        beyond=counts[0].base_beyond if counted else None,
        beyond_doubled=counts[1].base_beyond if counted else None,
        limit=limit, verdict="still" if moved <= limit else "moves",
    )  # fmt: skip


def swapped_quantile(
    x: Array, y: Array, *, seed: int, level: float = 0.995, swaps: int = SWAPS
) -> float:
    """`level` quantile of the KS distance when the two of each pair are swapped at random."""
    random = np.random.default_rng(seed)
    found = []
    for _ in range(swaps):
        swap = random.random(len(x)) < 0.5
        found.append(ks_distance(np.where(swap, y, x), np.where(swap, x, y)))
    return float(np.quantile(found, level))


def seed_spread(name: str, nmse: Sequence[npt.ArrayLike]) -> SeedSpread:
    """Mean NMSE under each seed, and the chance of so much spread.

    Args:
        name: Compressor.
        nmse: Linear NMSE of the samples of each seed, at least two.
    Source: Kruskal and Wallis 1952, J. Amer. Statist. Assoc. 47:583.
    """
    groups = [finite_vector(f"nmse[{i}]", values) for i, values in enumerate(nmse)]
    if len(groups) < 2:
        raise ValueError(f"nmse must hold at least two seeds; got {len(groups)}.")
    equal = len(np.unique(np.concatenate(groups))) == 1  # of which the test knows nothing
    p = 1.0 if equal else float(stats.kruskal(*groups).pvalue)
    return SeedSpread(
        name=name, mean_db=tuple(10 * float(np.log10(max(g.mean(), 1e-30))) for g in groups),
        n=min(len(group) for group in groups), p_value=p,
        verdict="within chance" if p >= SEED_LEVEL else "seeds differ",
    )  # fmt: skip
