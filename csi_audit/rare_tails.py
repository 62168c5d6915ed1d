"""Rare thresholds in an audit: subset simulation in the noise of the audited law, kept by level.

The method is csi_audit.subset_simulation's; here it meets the settings, the run directory and the
progress display.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from csi_audit.base import Base
from csi_audit.deeper import FailureSample
from csi_audit.drawing import Tally
from csi_audit.failure_samples import failure_sample
from csi_audit.losses import Loss
from csi_audit.noise_map import OdeMap
from csi_audit.run_state import BlockStore
from csi_audit.subset_simulation import SubsetSimulation
from csi_audit.tail import ReplicatedTail
from csi_audit.tail_settings import SHARE, TailSettings

OntoLaw = Callable[[torch.Tensor], torch.Tensor]


class TalliedStore(BlockStore):
    """Blocks whose evaluations are told to a tally when they come from the disk.

    Args:
        folder: Run directory.
        tally: The one that whoever makes the blocks reports to.
    """

    def __init__(self, folder: Path, tally: Tally) -> None:
        super().__init__(folder)
        self.tally = tally

    def get(
        self, name: str, block: int, make: Callable[[], Mapping[str, npt.NDArray[np.generic]]]
    ) -> dict[str, npt.NDArray[np.generic]]:
        known = self.path(name, block).is_file()
        found = super().get(name, block, make)
        if known:
            self.tally(int(found["evaluations"]))
        return found


def expected_evaluations(settings: TailSettings, steps: int, rarest: float = 0.0) -> int:
    """What subset simulation of one loss is about to cost, for a progress bar.

    runs x particles x (1 + 0.9 (levels - 1)) x steps, or the budget where that is less. Levels go
    down to the deepest probability, or to `rarest` where runs end there.
    """
    levels, p = 1, SHARE
    while p > max(settings.tail_deepest, rarest) * (1 + 1e-9):
        levels, p = levels + 1, p * SHARE
    a_run = settings.tail_particles * (1 + (1 - SHARE) * (levels - 1)) * steps
    planned = round(settings.tail_runs * a_run)
    return min(planned, settings.tail_evaluations or planned)


def rare_tail(
    settings: TailSettings,
    base: Base,
    loss: Loss,
    *,
    steps: int,
    onto_law: OntoLaw,
    rarest: float,
    name: str,
    seed: int,
    device: torch.device | str,
    batch_size: int,
    folder: Path,
    tally: Tally,
    kept: int = 0,
    sampled: bool = True,
) -> tuple[ReplicatedTail, FailureSample | None]:
    """The tail of a loss under the audited law, down to the deepest probability asked for.

    With `kept` runs end at the rarest threshold and hand back samples beyond it; without, runs go
    on, and such samples come from the levels they leave (csi_audit.failure_samples).

    Args:
        settings: Runs, particles, depth and budget.
        base: The base model.
        loss: L.
        steps: Of the 2M ODE.
        onto_law: What the audit does to every sample.
        rarest: Threshold that must be known as precisely as wanted.
        name: Of the files.
        seed: The audit's.
        device, batch_size: Of the denoiser.
        folder: Run directory; one file is one level of one run.
        tally: Told of evaluations.
        kept: Samples beyond the rarest threshold that each run hands back at most.
        sampled: Whether samples are wanted at all.
    Returns:
        The tail, and samples beyond the rarest threshold, None where not wanted.
    """
    noise_map = OdeMap(
        base, steps=steps, onto_law=onto_law, device=device, batch_size=batch_size, progress=tally
    )
    method = SubsetSimulation(
        noise_map,
        particles=settings.tail_particles,
        share=SHARE,
        deepest=settings.tail_deepest,
        kept=kept,
    )
    curve, failures = method.tail(
        loss,
        tau=rarest if kept else None,
        judged=rarest,
        budget=settings.tail_budget,
        seed=seed,
        name=name,
        store=TalliedStore(folder, tally),
    )
    if not sampled:
        return curve, None
    if not kept:
        return curve, failure_sample(
            BlockStore(folder),
            len(curve.runs),
            tau=rarest,
            worse=curve.worse,
            name=name,
            seed=seed,
            noise_map=noise_map,
        )
    held = [min(kept, run.counted(rarest)) for run in curve.runs]
    return curve, FailureSample(samples=failures, run=np.repeat(np.arange(len(held)), held))
