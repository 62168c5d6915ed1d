"""Maps from white noise to samples, and what a loss makes of them: L(G(z)), z ~ N(0, I).

Under a deterministic chain the base law is the law of G(z), so a rare loss is a rare region of
noise, where moves are simple. How such a region is found is csi_audit.subset_simulation's.
"""

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor

from channels.support import CsiAuditError
from csi_audit.base import Base
from csi_audit.evaluating import CountedDenoiser, Progress
from csi_audit.losses import Loss, in_blocks
from csi_audit.sampling import CHAINS, ode_2m, sigma_grid


class NoiseMap(Protocol):
    """G: standard normal z (N, *event_shape) -> x0 of the same shape, one law.

    Attributes:
        event_shape: Shape of one z.
        name: In words, for reports.
        price: Evaluations that one sample costs.
        evaluations: Evaluations made so far.
    """

    event_shape: tuple[int, ...]
    price: int

    @property
    def name(self) -> str: ...
    @property
    def evaluations(self) -> int: ...
    def __call__(self, z: Tensor) -> Tensor: ...


class OdeMap:
    """The audited law as a map: the start of the 2M ODE, the ODE, and what normalises its samples.

        x_i = sqrt(sigma_max^2 + v_i) z_i at sigma_max,   x0 = onto_law(ode_2m(x))

    Args:
        base: Its denoiser, start and noise levels.
        steps: Noise levels visited, so denoiser evaluations a sample.
        onto_law: What the audit does to every sample, for channels `ChannelDomain.onto_law`; None
            leaves samples as they are.
        device, batch_size, progress: See `CountedDenoiser`.
    """

    def __init__(
        self,
        base: Base,
        *,
        steps: int = 30,
        onto_law: Callable[[Tensor], Tensor] | None = None,
        device: torch.device | str = "cpu",
        batch_size: int = 256,
        progress: Progress | None = None,
    ) -> None:
        self.sigmas = sigma_grid(base.sigma_max, base.sigma_min, steps)
        self.start_deviation = (base.sigma_max**2 + base.variance.cpu()).sqrt()
        self.event_shape, self.price, self.onto_law = base.event_shape, steps, onto_law
        self.denoiser = CountedDenoiser(
            base.denoiser, device=device, batch_size=batch_size, progress=progress
        )

    @property
    def name(self) -> str:
        return f"{CHAINS['ode_2m']}, {self.price} steps"

    @property
    def evaluations(self) -> int:
        return self.denoiser.evaluations

    def __call__(self, z: Tensor) -> Tensor:
        x = ode_2m(self.denoiser, z * self.start_deviation.to(z), self.sigmas)
        return x if self.onto_law is None else self.onto_law(x)


class IdentityMap:
    """G(z) = z: the law is white noise, one evaluation a sample; for losses in closed form."""

    name, price = "white noise", 1

    def __init__(self, event_shape: tuple[int, ...]) -> None:
        self.event_shape, self.evaluations = event_shape, 0

    def __call__(self, z: Tensor) -> Tensor:
        self.evaluations += len(z)
        return z


class LimitState:
    """How bad the sample of each noise is: L(G(z)), with its sign turned where low is bad.

    Args:
        noise_map: G.
        loss: L.
    """

    def __init__(self, noise_map: NoiseMap, loss: Loss) -> None:
        self.noise_map, self.loss = noise_map, loss
        self.sign = 1.0 if loss.worse == "high" else -1.0

    @property
    def evaluations(self) -> int:
        """Made so far by the map."""
        return self.noise_map.evaluations

    def noise(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n draws of z, float32 (n, *event_shape)."""
        return torch.randn(n, *self.noise_map.event_shape, generator=generator)

    def __call__(self, z: Tensor) -> Tensor:
        """Of each noise, float64 (N,); high is bad."""
        return self.with_samples(z)[1]

    def with_samples(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """The samples G(z) and how bad they are, (N, *event_shape) and float64 (N,).

        Raises:
            CsiAuditError: the loss of a sample is NaN or infinite.
        """
        x = self.noise_map(z)
        values = self.sign * in_blocks(self.loss, x).clone()  # clone: out of inference mode
        if not bool(values.isfinite().all()):
            index = int(torch.nonzero(~values.isfinite())[0])
            raise CsiAuditError(
                f"{self.loss.name} must be finite on every sample of the base model; sample "
                f"{index} has {self.sign * float(values[index])}. Is the loss divided by a power "
                "that can vanish?"
            )
        return x, values
