"""E_q[l] of an audit by guided sampling: a twist calibrated on a pilot, twisted SMC on islands.

The pilot is the first of the plain draws of the same chain; all of these draws say what E_p[l] of
that chain is, without which no status of guided samples is "ok". Fit and islands are kept as
blocks.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.randomness import seeded_generator
from csi_audit.audited_losses import AuditedLoss
from csi_audit.base import Base
from csi_audit.calibration import FEATURE_SETS, CalibratedTwist, Described, fit_calibrated_twist
from csi_audit.deeper import GuidedRun
from csi_audit.domain import Domain
from csi_audit.drawing import Tally, draw_in_blocks
from csi_audit.evaluating import CountedDenoiser
from csi_audit.islands import IslandSamples
from csi_audit.losses import in_blocks
from csi_audit.rare_tails import TalliedStore
from csi_audit.run_state import BlockStore
from csi_audit.sampling import sigma_grid
from csi_audit.twisted_smc import TwistedSmcSampler
from csi_audit.weights import NormalisedWeight, Weight
from reports.estimates import mean_estimate

PILOT, ISLAND = 600, 64
_TENSORS = ("log_sigmas", "intercept", "slope", "centre", "r2")


class GuidedMean:
    """Guided sampling of one loss after another, from plain draws that they share.

    Args:
        base: The base model.
        domain: Of the samples.
        plain: Plain draws of the second-order SDE as the chain gives them, (N, *event_shape).
        particles: Guided samples.
        steps: Of the chain.
        seed: The audit's.
        device, batch_size: Of the denoiser.
        folder: Run directory.
    """

    def __init__(
        self,
        base: Base,
        domain: Domain,
        plain: Tensor,
        *,
        particles: int,
        steps: int,
        seed: int,
        device: torch.device | str,
        batch_size: int,
        folder: Path,
    ) -> None:
        self.base, self.domain, self.plain = base, domain, plain
        self.particles, self.steps, self.seed, self.folder = particles, steps, seed, folder
        self.where: dict[str, Any] = {"device": device, "batch_size": batch_size}

    @property
    def evaluations(self) -> int:
        """That a run is about to make: the fit, and two a step."""
        return self.pilot * self.steps + self.particles * (2 * self.steps - 1)

    @property
    def pilot(self) -> int:
        """Plain draws that the twist is fitted to."""
        return min(PILOT, len(self.plain))

    def run(self, audited: AuditedLoss, *, name: str, tally: Tally) -> GuidedRun:
        """Guided samples of q = l p / Z.

        Args:
            audited: The loss with its weight l.
            name: Of the files.
            tally: Told of evaluations.
        Raises:
            RefusedPilotError: the twist cannot be fitted.
            GradientError: a gradient is not finite.
        """
        counting = NormalisedWeight(audited.counting, self.domain.onto_law)
        twist = self._twist(audited.guiding, counting, f"{name}-twist", tally)
        sampler = TwistedSmcSampler(
            self.base,
            counting,
            twist,
            steps=self.steps,
            island=ISLAND,
            progress=tally,
            **self.where,
        )
        drawn = draw_in_blocks(
            sampler, self.particles, name=name, block=ISLAND, seed=self.seed,
            store=BlockStore(self.folder), tally=tally,
        )  # fmt: skip
        if not isinstance(drawn, IslandSamples):
            raise TypeError(f"twisted SMC draws islands; got {type(drawn).__name__}.")
        plain = self.domain.onto_law(self.plain)
        values = in_blocks(audited.loss, plain).numpy()
        e_p = mean_estimate(audited.weights_of(plain, values))
        x = self.domain.onto_law(drawn.x)
        levels = zip(twist.log_sigmas.exp().tolist(), twist.r2.tolist(), strict=True)
        return GuidedRun(
            samples=replace(drawn.compared_with(e_p), x=x),
            weights=audited.weights_of(x, in_blocks(audited.loss, x).numpy()),
            steps=self.steps,
            r2={f"{sigma:.3g}": round(r2, 3) for sigma, r2 in reversed(list(levels))},
        )

    def _twist(
        self,
        guiding: Weight,
        counting: NormalisedWeight,
        name: str,
        tally: Tally,
    ) -> CalibratedTwist:
        """The calibrated twist, fitted once and kept."""
        denoiser = CountedDenoiser(self.base.denoiser, progress=tally, **self.where)

        def fit() -> dict[str, npt.NDArray[Any]]:
            found = fit_calibrated_twist(
                denoiser,
                guiding,
                self.plain[: self.pilot],
                sigma_grid(self.base.sigma_max, self.base.sigma_min, self.steps),
                generator=seeded_generator(self.seed, name),
                target=counting,
            )
            described = found.described
            scales = (described.log_scale, described.energy, found.floor)
            return {
                **{key: getattr(found, key).numpy() for key in _TENSORS},
                "scales": np.array(scales),
                "features": np.array(FEATURE_SETS.index(described.features)),
                "evaluations": np.array(denoiser.evaluations),
            }

        kept = TalliedStore(self.folder, tally).get(name, 0, fit)
        log_scale, energy, floor = kept["scales"].tolist()
        described = Described(
            weight=guiding,
            features=FEATURE_SETS[int(kept["features"])],
            log_scale=log_scale,
            energy=energy,
        )
        tensors = {key: torch.from_numpy(kept[key]) for key in _TENSORS}
        return CalibratedTwist(described=described, floor=floor, n_pilot=self.pilot, **tensors)
