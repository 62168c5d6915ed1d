"""Draws of benchmarks.paper_csi: made once, kept with their seconds, read ever after."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels import onto_sphere
from channels.randomness import seeded_generator
from csi_audit.base import Base
from csi_audit.calibration import (
    CalibratedTwist,
    Described,
    Features,
    fit_calibrated_twist,
)
from csi_audit.drawing import Tally, draw_in_blocks
from csi_audit.evaluating import CountedDenoiser
from csi_audit.losses import Loss, in_blocks
from csi_audit.run_state import BlockStore
from csi_audit.samples import Sampler, WeightedSamples
from csi_audit.sampling import BaseSampler, ChainName
from csi_audit.weights import Weight

Array = npt.NDArray[np.float64]

BLOCK = 250
SHORT: dict[ChainName, str] = {"ode_2m": "2M ODE", "sde_2m": "2M SDE", "ancestral": "ancestral"}
_TENSORS = ("log_sigmas", "intercept", "slope", "centre", "r2")


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Samples at unit power, the loss of each (N,), their chain in short and their seconds."""

    samples: WeightedSamples
    l: Array
    chain: str
    seconds: float


def shown(name: str, total: int) -> Callable[[int], None]:
    """Prints the denoiser evaluations made so far at every tenth of the total."""
    told = 0

    def show(made: int) -> None:
        nonlocal told
        if 10 * made // total > told:
            told = 10 * made // total
            print(f"{name}: {made:,} of {total:,} denoiser evaluations", flush=True)

    return show


class TimedSampler:
    """A sampler that keeps beside each block how long it took, so that resumed runs know too."""

    def __init__(self, sampler: Sampler, store: BlockStore, name: str) -> None:
        self.sampler, self.store, self.name = sampler, store, f"{name}-clock"

    def __call__(self, n: int, *, generator: torch.Generator) -> WeightedSamples:
        began = time.perf_counter()
        drawn = self.sampler(n, generator=generator)
        clock = np.array([n, time.perf_counter() - began])
        self.store.get(self.name, self._noted(), lambda: {"clock": clock})
        return drawn

    def seconds(self, n: int) -> float:
        """Of n samples at the mean rate of all that were drawn, whenever that was."""
        clocks = [self.store.get(self.name, i, dict)["clock"] for i in range(self._noted())]
        samples, seconds = np.sum(clocks, axis=0)
        return float(seconds) * n / float(samples)

    def _noted(self) -> int:
        number = 0
        while self.store.path(self.name, number).is_file():
            number += 1
        return number


@dataclass(frozen=True, kw_only=True)
class Run:
    """What every part of the benchmark draws with.

    Attributes:
        base: p.
        loss: L, of channels at unit power.
        key: Names the compressor in the files of whatever depends on it.
        store: Blocks of this base and seed.
        seed: Of every generator.
        where: Device and batch size of the denoiser.
    """

    base: Base
    loss: Loss
    key: str
    store: BlockStore
    seed: int
    where: dict[str, Any]

    def draw(
        self, sampler: Sampler, n: int, name: str, *, block: int, cost: int, chain: str
    ) -> Drawn:
        """n samples, `cost` denoiser evaluations each; blocks under `name`."""
        timed = TimedSampler(sampler, self.store, name)
        samples = draw_in_blocks(
            timed,
            n,
            name=name,
            block=block,
            seed=self.seed,
            store=self.store,
            tally=Tally(shown(name, n * cost)),
        )
        samples = samples.moved(onto_sphere(samples.x))
        l, seconds = self.loss_of(samples.x), timed.seconds(n)
        return Drawn(samples=samples, l=l, chain=chain, seconds=seconds)

    def plain(self, chain: ChainName, n: int, steps: int) -> Drawn:
        """Draws of p by that chain."""
        sampler = BaseSampler(self.base, steps=steps, chain=chain, **self.where)
        words = f"{SHORT[chain]}, {steps} steps"
        return self.draw(sampler, n, f"{chain}-{n}x{steps}", block=BLOCK, cost=steps, chain=words)

    def loss_of(self, x: Tensor) -> Array:
        """L of each sample, (N,)."""
        return np.asarray(in_blocks(self.loss, x).numpy(), dtype=np.float64)

    def generator(self, *names: str) -> torch.Generator:
        return seeded_generator(self.seed, *names)

    def twist(
        self,
        name: str,
        guiding: Weight,
        pilot: Tensor,
        sigmas: Tensor,
        *,
        features: Features,
        target: Weight,
        floor: float,
    ) -> CalibratedTwist:
        """The calibrated twist (see `fit_calibrated_twist`), fitted once to pilot samples."""

        def fit() -> dict[str, npt.NDArray[Any]]:
            found = fit_calibrated_twist(
                CountedDenoiser(self.base.denoiser, **self.where),
                guiding,
                pilot,
                sigmas,
                generator=self.generator(name),
                features=features,
                target=target,
                floor=floor,
            )
            scales = (found.described.log_scale, found.described.energy)
            tensors = {key: getattr(found, key).numpy() for key in _TENSORS}
            return tensors | {"scales": np.array(scales)}

        kept = self.store.get(name, 0, fit)
        log_scale, energy = kept["scales"].tolist()
        described = Described(weight=guiding, features=features, log_scale=log_scale, energy=energy)
        tensors = {key: torch.from_numpy(kept[key]) for key in _TENSORS}
        return CalibratedTwist(described=described, floor=floor, n_pilot=len(pilot), **tensors)
