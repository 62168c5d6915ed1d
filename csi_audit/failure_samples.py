"""Samples of the failure law p(x | L > tau), from the levels that subset simulation has left.

A level keeps the noise of its worst particles, since the next one begins with them. Together they
hold all that lies beyond a threshold, at the price of one more map each, so runs need not end at
the threshold and nothing is moved again.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from csi_audit.deeper import FailureSample
from csi_audit.noise_map import NoiseMap
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples
from csi_audit.tail import Worse, sign_of

Level = Mapping[str, npt.NDArray[Any]]

MOST = 400
"""Samples that are mapped at most."""


@dataclass(frozen=True, kw_only=True)
class _Kept:
    """Noise beyond a threshold, the mass of each and the first draw that it descends from."""

    z: npt.NDArray[np.float32]
    mass: npt.NDArray[np.float64]
    family: npt.NDArray[np.int64]


def failure_sample(
    store: BlockStore,
    runs: int,
    *,
    tau: float,
    worse: Worse,
    name: str,
    seed: int,
    noise_map: NoiseMap,
    most: int = MOST,
) -> FailureSample:
    """Samples beyond tau from the levels of finished runs, weighted to the failure law.

        level j stands for t_j < L <= t_{j+1}, each of its particles for P_j / N

    t_j is the lower end of what level j handed on, P_j its probability. Particles that descend from
    one first draw are alike, others as good as independent: `run` of the result counts first draws,
    over all runs. More than `most` particles are thinned by systematic resampling, which keeps the
    weights right. What was mapped is kept as a block, beside the levels.

    Args:
        store: Holds the levels.
        runs: Of subset simulation.
        tau: Threshold, in the unit of the loss.
        worse: Its side that is bad.
        name: Of the files: `SubsetSimulation.tail`'s.
        seed: Of the thinning.
        noise_map: G, that of the runs.
        most: Samples at most.
    Returns:
        Samples with `tau`; none where no level has handed on anything beyond it.
    Raises:
        CsiAuditError: a level is missing, or the block is of another threshold.
    """
    levels = [_levels(store, f"{name}-{number:03d}") for number in range(runs)]
    make = partial(_mapped, levels, sign_of(worse) * tau, noise_map, most, seed, name)
    found = store.get(f"{name}-failures", 0, make)
    if float(found["tau"]) != sign_of(worse) * tau:
        raise CsiAuditError(
            f"{store.path(f'{name}-failures', 0)} holds samples beyond another threshold than "
            f"{tau:g}. Remove that file to make them again."
        )
    samples = WeightedSamples(
        x=torch.from_numpy(found["x"]),
        log_w=torch.from_numpy(found["log_w"]),
        law="failure",
        chain=f"subset simulation, {runs} runs, {noise_map.name}",
        tau=tau,
        n_evaluations=int(found["evaluations"]),
    )
    return FailureSample(samples=samples, run=found["family"])


def _levels(store: BlockStore, name: str) -> list[Level]:
    """The levels of one run."""
    found: list[Level] = []
    while not found or not bool(found[-1]["last"]):
        found.append(store.get(name, len(found), partial(_missing, store, name, len(found))))
    return found


def _missing(store: BlockStore, name: str, level: int) -> Level:
    raise CsiAuditError(f"{store.path(name, level)} is missing: the run did not finish.")


def _mapped(
    levels: list[list[Level]], t: float, noise_map: NoiseMap, most: int, seed: int, name: str
) -> dict[str, npt.NDArray[Any]]:
    """The block: samples, their log weights, families, and what the maps cost."""
    runs = [_kept(run, t) for run in levels]
    offsets = np.cumsum([0, *(len(run[0]["values"]) for run in levels)])
    z, mass = (np.concatenate([getattr(k, key) for k in runs]) for key in ("z", "mass"))
    family = np.concatenate([k.family + o for k, o in zip(runs, offsets[:-1], strict=True)])
    if len(z) > most:
        rows, times = _thinned(mass, most, seeded_generator(seed, name, "thinning"))
        z, family, mass = z[rows], family[rows], mass.sum() / most * times
    before = noise_map.evaluations
    x = noise_map(torch.from_numpy(z)).numpy() if len(z) else z
    return {
        "x": x,
        "log_w": np.log(mass),
        "family": family,
        "tau": np.array(t),
        "evaluations": np.array(noise_map.evaluations - before),
    }


def _kept(levels: list[Level], t: float) -> _Kept:
    """What one run handed on that lies beyond t, each by the deepest level that stands for it."""
    handed = [level for level in levels if len(level["z"])]
    covered = bool(handed) and float(handed[0]["cut"]) <= t  # else some beyond t was not kept
    family = np.arange(len(levels[0]["values"]))
    z, mass, families = [levels[0]["z"][:0]], [], []
    for j, level in enumerate(handed if covered else ()):
        values, deepest = level["z_values"], j + 1 == len(handed)
        family = family[np.flatnonzero(level["values"] > level["cut"])]
        end = math.inf if deepest else float(handed[j + 1]["cut"])
        mine = (values > t) & (values <= end)
        z.append(level["z"][mine])
        mass.append(np.full(int(mine.sum()), float(level["probability"]) / len(level["values"])))
        families.append(family[mine])
        if not deepest:
            family = _descended(family, values, handed[j + 1]["values"])
    return _Kept(
        z=np.concatenate(z),
        mass=np.concatenate([*mass, np.empty(0)]),
        family=np.concatenate([*families, np.empty(0, np.int64)]).astype(np.int64),
    )


def _descended(
    family: npt.NDArray[np.int64], seeds: npt.NDArray[Any], values: npt.NDArray[Any]
) -> npt.NDArray[np.int64]:
    """Family of each particle of a level that chains from seeds fill, side by side.

    The level begins with its seeds in random order, which their values tell.
    """
    order = np.argsort(seeds, kind="stable")
    begun = values[: len(seeds)]
    place = np.minimum(np.searchsorted(seeds[order], begun), len(seeds) - 1)
    return family[order[place]][np.arange(len(values)) % len(seeds)]


def _thinned(
    mass: npt.NDArray[np.float64], most: int, generator: torch.Generator
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Rows kept of `most` equal shares of the mass, systematically, and how often each.

    Source: Douc, Cappe, Moulines, 2005, arXiv:cs/0507025.
    """
    start = float(torch.rand((), generator=generator, dtype=torch.float64))
    places = (start + np.arange(most)) / most * mass.sum()
    rows = np.minimum(np.searchsorted(mass.cumsum(), places, side="right"), len(mass) - 1)
    kept, times = np.unique(rows, return_counts=True)
    return kept, times
