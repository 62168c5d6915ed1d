"""New rare channels out of known ones: variants of the users that a compressor does badly on.

    x ~ q,  q proportional to L_0(x)^gamma p(x),   x_sigma = x + sigma eps,   x' = ODE(x_sigma)

The probability-flow ODE of the base model carries p_sigma to p, one to one, so x' has the law

    q'(x') = p(x') h(x_sigma(x')) / Z,   h(x_sigma) = E[L_0(x)^gamma | x_sigma]

These are importance samples whose weight is smoothed by noise and is in their density already. A
small sigma gives the known users back, a large one forgets what is bad about them: `kept_badness`
says how much is left. Draws of the base model, weighted, would nearly all be common channels.
"""

import hashlib
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from channels.domains import onto_sphere
from channels.support import CsiAuditError
from csi_audit.base import Base
from csi_audit.diffusion import Denoiser
from csi_audit.drawing import draw_in_blocks
from csi_audit.evaluating import CountedDenoiser
from csi_audit.run_state import BlockStore
from csi_audit.samples import Law, WeightedSamples
from csi_audit.sampling import ode_2m, sigma_grid

BLOCK = 500


@dataclass(frozen=True, kw_only=True)
class VariantDraw:
    """Which variants to draw: everything that fixes them besides base model and users.

    Attributes:
        n: Variants.
        sigma: Noise that is put on a user, in units of a coefficient of mean power 1.
        steps: Steps of the ODE back, so denoiser evaluations a variant.
        power: gamma; users are drawn in proportion to the compressor's NMSE^gamma.
        seed: Fixes every random number.
    """

    n: int
    sigma: float = 2.0
    steps: int = 10
    power: float = 4.0
    seed: int = 0

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations that the variants cost."""
        return self.n * self.steps


def varied(
    denoiser: Denoiser,
    x: Tensor,
    *,
    sigma: float,
    sigma_min: float,
    steps: int,
    generator: torch.Generator,
) -> Tensor:
    """Noise put on x (N, ...) and taken off again by the probability-flow ODE (2M)."""
    x_sigma = x + sigma * torch.randn(x.shape, generator=generator)
    return ode_2m(denoiser, x_sigma, sigma_grid(sigma, sigma_min, steps))


class VariantSampler:
    """Variants of users drawn in proportion to NMSE^gamma; a Sampler of csi_audit.samples.

    Args:
        base: Base model.
        x: Users, audit space (N, ...).
        nmse: Their NMSE under the compressor as it came, (N,).
        draw: How.
        device, batch_size: See `CountedDenoiser`.
    """

    law: Law = "target"

    def __init__(
        self,
        base: Base,
        x: Tensor,
        nmse: Tensor,
        draw: VariantDraw,
        *,
        device: torch.device | str = "cpu",
        batch_size: int = 64,
    ) -> None:
        if not base.sigma_min < draw.sigma <= base.sigma_max:
            raise CsiAuditError(
                f"variant_sigma must lie between {base.sigma_min:g} and {base.sigma_max:g}, the "
                f"noise levels of the base model; got {draw.sigma:g}. 2 is usual."
            )
        self.base, self.x, self.draw = base, x, draw
        self.weight = nmse.double().pow(draw.power)
        self.denoiser = CountedDenoiser(base.denoiser, device=device, batch_size=batch_size)

    def __call__(self, n: int, *, generator: torch.Generator) -> WeightedSamples:
        before = self.denoiser.evaluations
        users = torch.multinomial(self.weight, n, True, generator=generator)
        x = varied(
            self.denoiser,
            self.x[users],
            sigma=self.draw.sigma,
            sigma_min=self.base.sigma_min,
            steps=self.draw.steps,
            generator=generator,
        )
        return WeightedSamples(
            x=x,
            log_w=torch.zeros(n, dtype=torch.float64),
            law=self.law,
            chain=f"noise {self.draw.sigma:g} and back by {self.draw.steps} steps of the ODE (2M)",
            n_evaluations=self.denoiser.evaluations - before,
        )


def draw_variants(
    base: Base,
    x: Tensor,
    nmse: Tensor,
    draw: VariantDraw,
    *,
    parent: str | Path,
    known_by: str,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Variants, each normalised to unit power, (n, ...); kept by block below `parent`.

    Args:
        base, x, nmse, draw: See `VariantSampler`.
        parent: Folder to keep blocks in, hidden; those there are not drawn again.
        known_by: What else fixes them: hashes of users and compressor.
        device: Where the denoiser runs.
    """
    key = hashlib.sha256(repr((base.sha256, known_by, asdict(draw))).encode()).hexdigest()
    samples = draw_in_blocks(
        VariantSampler(base, x, nmse, draw, device=device),
        draw.n,
        name="variants",
        block=BLOCK,
        seed=draw.seed,
        store=BlockStore(Path(parent) / ".variants" / key[:16]),
    )
    return onto_sphere(samples.x)


def kept_badness(users: Tensor, variants: Tensor, power: float) -> float:
    """How much of what makes drawn users bad their variants keep, 1 all of it.

        (mean L' - mean L) / (mean_q L - mean L),   q proportional to L^gamma over the users

    Args:
        users: NMSE of all training users, (N,).
        variants: NMSE of the variants, (n,).
        power: gamma.
    """
    drawn = float((users * users.pow(power)).sum() / users.pow(power).sum())
    mean = float(users.mean())
    return 1.0 if drawn <= mean else (float(variants.mean()) - mean) / (drawn - mean)
