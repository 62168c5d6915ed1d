"""Does the base give its training channels back? Nearest training channels and their distances.

Distances are taken under the symmetries of the law, which a base that copies would copy too: global
phase and, for one row of antennas, the array flip.
"""

from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.domains import to_complex
from channels.symmetry import flip_array
from reports.estimates import ks_distance, ks_floor
from reports.fidelity_items import Memorisation, TrainDistortion
from reports.tail_ratios import TailRule, tail_ratio

Array = npt.NDArray[np.float64]

CLOSEST = 0.01
COPIES = TailRule(low=0.0, high=2.0, factor=3.0)
"""Base samples may lie among the closest 1 % up to twice as often as held-out users."""


@torch.inference_mode()
def nearest_distance(
    x: Tensor, train: Iterable[Tensor], *, flip: bool = True, block: int = 512
) -> Tensor:
    """Distance of each channel to its nearest training channel, float64 (N,), in [0, 1].

        d(x) = min_t min_phase,gain ||x - g e^(j phase) t||^2 / ||x||^2
             = 1 - max_t |<x, t>|^2 / (||x||^2 ||t||^2),   t also flipped

    Args:
        x: Audit-space channels (N, 2 n_rx, n_tx, n_delay).
        train: Training channels in parts of that form, together at least one.
        flip: Whether the law is symmetric under the array flip (`Grid.is_ula`).
        block: Channels a pass.
    """
    forms = [_unit_rows(x)] + ([_unit_rows(flip_array(x))] if flip else [])
    best = torch.zeros(len(x), dtype=torch.float32)
    for part in train:
        columns = _unit_rows(part).mH  # (n, n_part)
        for rows in forms:
            for i in range(0, len(x), block):
                found = (rows[i : i + block] @ columns).abs().amax(1)
                best[i : i + block] = torch.maximum(best[i : i + block], found)
    return (1 - best.double().square()).clamp(0, 1)


def _unit_rows(x: Tensor) -> Tensor:
    """Channels as complex rows of norm one, (N, n)."""
    rows = to_complex(x).flatten(1)
    return rows / torch.linalg.vector_norm(rows, dim=1, keepdim=True)


def training_copies(
    base: Array, held_out: Array, *, n_train: int, drops: npt.ArrayLike | None = None
) -> Memorisation:
    """Whether base samples lie nearer to training channels than users do whom the base never saw.

    "copies" when base samples are surely more than twice as often among the closest 1 % as held-out
    users are, "no sign" when surely less, "cannot tell" between. Held-out users of other drops have
    other surroundings: a base that knows the training drops, and no user of them, is nearer too.

    Args:
        base: `nearest_distance` of base samples [n_base].
        held_out: The same of held-out users [n].
        n_train: Training channels searched.
        drops: Drop of each held-out user.
    """
    closer = tail_ratio("distance", -base, -held_out, share=CLOSEST, drops=drops, rule=COPIES,
                        label="nearness to a training channel")  # fmt: skip
    lo, hi = (closer.ratio and closer.ratio.interval) or (0.0, np.inf)
    verdict = "copies" if lo > COPIES.high else "no sign" if hi < COPIES.high else "cannot tell"
    return Memorisation(
        n_train=n_train, median_base=float(np.median(base)),
        median_held_out=float(np.median(held_out)), nearest_base=float(base.min()),
        nearest_held_out=float(held_out.min()), closer=closer, verdict=verdict,
    )  # fmt: skip


def train_distortion(name: str, base: Array, train: Array, held_out: Array) -> TrainDistortion:
    """A compressor's NMSE (linear) on base samples, on training users and on held-out users.

    "alike" where training and held-out users differ no more than chance; else whom the base samples
    take after, by the smaller KS distance.
    """
    ks_train, ks_held_out = ks_distance(base, train), ks_distance(base, held_out)
    alike = ks_distance(train, held_out) <= ks_floor(len(train), len(held_out)).upper
    whom = "training" if ks_train < ks_held_out else "held-out"
    return TrainDistortion(
        name=name, base_db=_mean_db(base), train_db=_mean_db(train),
        held_out_db=_mean_db(held_out), ks_train=ks_train, ks_held_out=ks_held_out,
        n_train=len(train), verdict="alike" if alike else f"takes after the {whom} users",
    )  # fmt: skip


def spread_rows(n: int, wanted: int) -> Tensor:
    """At most `wanted` of n rows, spread evenly, so that drops are mixed."""
    return torch.linspace(0, n - 1, min(n, wanted), dtype=torch.float64).round().long().unique()


def _mean_db(nmse: Array) -> float:
    return 10 * float(np.log10(max(float(nmse.mean()), 1e-30)))
