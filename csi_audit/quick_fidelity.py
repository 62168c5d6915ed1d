"""Is a base under training getting there? A few samples against validation users, in seconds.

The full suite is `csi-audit check-base`; here is what can be shown in a progress line.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from channels.channel_set import Grid
from channels.domains import onto_sphere
from channels.physical_features import features_of_maps
from channels.randomness import seeded_generator
from csi_audit.sampling import ode_2m, sigma_grid, start
from reports.estimates import ks_distance, ks_floor

STEPS = 20
"""Steps of the 2M ODE: fewer than an audit takes, so the law is a little another."""
_MOST_REAL = 2048  # validation users looked at
_BATCH = 128
_KEPT = 16  # the linear code keeps this part of the coefficients

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class FidelityFigures:
    """Kolmogorov-Smirnov distances between base samples and validation users.

    Attributes:
        distortion: Of the power that a fixed linear code loses: the sixteenth of the coefficients
            with the largest variance is kept.
        features: Mean over the physical features.
    """

    distortion: float
    features: float


class QuickFidelity:
    """A few samples of a denoiser against validation users.

    The noise is the same at each call, so that what changes from call to call is the denoiser.

    Args:
        real: Validation users, audit space (N, 2 n_rx, n_tx, n_delay).
        grid: Theirs.
        variance: Of each coefficient of the training users, event_shape.
        sigma_min, sigma_max: Where sampling ends and starts.
        samples: Base samples a call.
        seed: Fixes the noise.
        steps: Of the 2M ODE.
    """

    def __init__(
        self,
        real: Tensor,
        grid: Grid,
        variance: Tensor,
        *,
        sigma_min: float,
        sigma_max: float,
        samples: int,
        seed: int,
        steps: int = STEPS,
    ) -> None:
        self.grid, self.variance = grid, variance
        self.sigmas = sigma_grid(sigma_max, sigma_min, steps)
        self.samples, self.seed = samples, seed
        self.kept = variance.flatten().topk(max(1, variance.numel() // _KEPT)).indices
        self.real = self._measure(real[:_MOST_REAL])
        self.floor = ks_floor(samples, min(len(real), _MOST_REAL)).mean

    def __call__(self, denoiser: nn.Module) -> FidelityFigures:
        """The figures of D(x, sigma) as it stands; 1 where its samples are not finite."""
        found = self._draw(denoiser)
        if not bool(found.isfinite().all()):
            return FidelityFigures(distortion=1.0, features=1.0)
        base = self._measure(onto_sphere(found))
        ks = {name: ks_distance(base[name], self.real[name]) for name in base}
        distortion = ks.pop("distortion")
        return FidelityFigures(
            distortion=round(distortion, 4),
            features=round(math.fsum(ks.values()) / max(1, len(ks)), 4),
        )

    def _draw(self, denoiser: nn.Module) -> Tensor:
        """Samples of the 2M ODE, (samples, *event_shape), on the CPU."""
        generator = seeded_generator(self.seed, "quick fidelity")
        device = next(iter(denoiser.parameters())).device
        x = start(self.variance.cpu(), float(self.sigmas[0]), self.samples, generator=generator)
        with torch.inference_mode():
            parts = [ode_2m(denoiser, b.to(device), self.sigmas).cpu() for b in x.split(_BATCH)]  # type: ignore[arg-type]
            return torch.cat(parts)

    def _measure(self, x: Tensor) -> dict[str, Array]:
        flat = x.flatten(1).square()
        lost = 1 - flat[:, self.kept].sum(1) / flat.sum(1)
        found = {"distortion": lost, **features_of_maps(x, self.grid)}
        return {name: value.double().numpy() for name, value in found.items()}
