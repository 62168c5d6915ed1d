"""Particles with their weights: what every sampler returns and every estimate starts from."""

from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

Law = Literal["base", "target", "failure"]


@dataclass(frozen=True, kw_only=True)
class WeightedSamples:
    """Samples of one law, never without weights.

    Attributes:
        x: Samples (N, *event_shape).
        log_w: log target - log proposal up to a constant, float64 (N,); zeros for direct draws.
        law: "base" for p, "target" for q, "failure" for p given L beyond tau.
        chain: What moved the particles, with its number of steps.
        tau: Threshold of the failure law, else None.
        log_z: Log of the normalising constant where the chain gives one, else None.
        n_evaluations: Denoiser evaluations spent.
    """

    x: Tensor
    log_w: Tensor
    law: Law
    chain: str
    tau: float | None = None
    log_z: float | None = None
    n_evaluations: int = 0

    def __post_init__(self) -> None:
        if self.log_w.shape != (len(self.x),):
            raise ValueError(
                f"log_w must be ({len(self.x)},), one weight a sample; "
                f"got {tuple(self.log_w.shape)}."
            )
        if bool(self.log_w.isnan().any()):
            index = int(torch.nonzero(self.log_w.isnan())[0])
            raise ValueError(f"log_w must not be NaN; sample {index} is. -inf is legal.")

    def __len__(self) -> int:
        return len(self.x)

    def moved(self, x: Tensor) -> "WeightedSamples":
        """The same particles after a map of each sample, such as normalisation to unit power."""
        return replace(self, x=x)


class Sampler(Protocol):
    """Draws n weighted samples; a function of the generator alone."""

    def __call__(self, n: int, *, generator: torch.Generator) -> WeightedSamples: ...
