"""Islands: independent runs of interacting particles, and what may be said of their figures.

Particles of one island share ancestors once they are resampled; islands share nothing. So every
interval counts islands, not particles.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.support import CsiAuditError
from csi_audit.samples import WeightedSamples
from reports.estimates import Estimate, finite_vector, mean_estimate, student

RELATIVE_ERROR_LIMIT = 0.2
"""Standard error over value of Z above which a ratio to Z, and its interval, are not trusted."""


@dataclass(frozen=True, kw_only=True)
class IslandSamples(WeightedSamples):
    """Weighted samples of several independent runs.

    The weights are absolute: their mean over an island is that island's estimate of Z.

    Attributes:
        island: Island of each sample, int64 (N,).
    """

    island: Tensor

    def sizes(self) -> Tensor:
        """Particles of each island, int64 (J,)."""
        return torch.bincount(self.island)

    def log_z_islands(self) -> Tensor:
        """log Z as each island estimates it, float64 (J,)."""
        return torch.stack([log_mean(part) for part in self.log_w.split(self.sizes().tolist())])


class Islands:
    """n particles in n // size independent islands (one at least), as even as can be.

    Each island draws from a generator of its own, seeded by one draw of the caller's.
    """

    def __init__(self, n: int, size: int, *, generator: torch.Generator) -> None:
        count = max(1, n // size)
        self.sizes = [n // count + (j < n % count) for j in range(count)]
        self.index = torch.repeat_interleave(torch.arange(count), torch.tensor(self.sizes))
        seeds = torch.randint(2**62, (count,), generator=generator).tolist()
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def draw(self, rule: Callable[[int, torch.Generator], Tensor]) -> Tensor:
        """rule(size, generator) of every island, one below the other."""
        return torch.cat([rule(*pair) for pair in zip(self.sizes, self.generators, strict=True)])


class IslandWeights:
    """Log weights since the last resampling, and log Z of every island up to it."""

    def __init__(self, islands: Islands, log_w: Tensor) -> None:
        self.islands, self.log_w = islands, log_w
        self.log_z = torch.zeros(len(islands.sizes), dtype=torch.float64)

    def add(self, increment: Tensor) -> None:
        """Multiply the weights.

        Raises:
            CsiAuditError: a weight is NaN or infinite; -inf (weight 0) is legal.
        """
        self.log_w = self.log_w + increment
        bad = self.log_w.isnan() | self.log_w.isposinf()
        if bool(bad.any()):
            index = int(torch.nonzero(bad)[0])
            raise CsiAuditError(
                f"log weights must be finite or -inf; particle {index} has "
                f"{float(self.log_w[index])}. Is l finite on every sample, and h above 0?"
            )

    def resample(self, below: float) -> Tensor | None:
        """Resample the islands whose ESS is low: the rows to keep, or None when none is."""
        rows, changed, offset = [], False, 0
        log_w = self.log_w.clone()
        for j, size in enumerate(self.islands.sizes):
            part = slice(offset, offset + size)
            own = torch.arange(size)
            if _effective_size(self.log_w[part]) < below * size:
                own = systematic(self.log_w[part], generator=self.islands.generators[j])
                self.log_z[j] += log_mean(self.log_w[part])
                log_w[part], changed = 0.0, True
            rows.append(offset + own)
            offset += size
        self.log_w = log_w
        return torch.cat(rows) if changed else None

    def absolute(self) -> Tensor:
        """Log weights whose mean over an island is its Z, (N,)."""
        return self.log_w + self.log_z[self.islands.index]


def systematic(log_w: Tensor, *, generator: torch.Generator) -> Tensor:
    """Systematic resampling: N rows, row i between floor and ceiling of N W_i times, ascending.

    Source: Douc, Cappe, Moulines, 2005, arXiv:cs/0507025.
    """
    n = len(log_w)
    u = (torch.rand((), generator=generator, dtype=torch.float64) + torch.arange(n)) / n
    return torch.searchsorted(log_w.softmax(0).cumsum(0), u, right=True).clamp_max(n - 1)


def log_mean(log_w: Tensor) -> Tensor:
    """log of the mean weight, ()."""
    return log_w.logsumexp(0) - math.log(len(log_w))


def _effective_size(log_w: Tensor) -> float:
    """(sum w)^2 / sum w^2; N where all weights are 0, which no resampling mends."""
    if bool(log_w.isneginf().all()):
        return float(len(log_w))
    return float((2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp())


def normalising_constant(samples: IslandSamples, *, level: float = 0.95) -> Estimate:
    """Z = E_p[l], the mean of the islands' own, with Student's interval over the islands."""
    z = samples.log_z_islands().exp().numpy()
    found = mean_estimate(z, level=level, method=samples.chain)
    return replace(
        found,
        ess=None,
        n_evaluations=samples.n_evaluations,
        status=_status(z) if found.status == "ok" else found.status,
    )


def island_expectation(
    samples: IslandSamples, values: npt.ArrayLike, *, level: float = 0.95
) -> Estimate:
    """E_q[f] from f of each sample (N,), with an interval from the scatter of the J islands.

        m = sum_j S_j / sum_j Z_j,   SE^2 = J / (J - 1) sum_j (S_j - m Z_j)^2 / (sum_j Z_j)^2

    S_j is the mean of w f over island j, Z_j that of w. One island gives no interval.

    Raises:
        ValueError: `values` has another length than the samples, or is not finite.
    """
    f = finite_vector("values", values)
    if len(f) != len(samples):
        raise ValueError(f"values must be {len(samples)}, one a sample; got {len(f)}.")
    sizes, island = samples.sizes().numpy(), samples.island.numpy()
    w = (samples.log_w - samples.log_w.max()).exp().numpy()
    s, z = (np.bincount(island, weights=part) / sizes for part in (w * f, w))
    m, j = float(s.sum() / z.sum()), len(sizes)
    square = float(np.square(s - m * z).sum()) * j / max(j - 1, 1)
    se = math.sqrt(square) / float(z.sum()) if j > 1 else 0.0
    return Estimate(
        value=m,
        std_error=se if se > 0 else None,
        interval=student(m, se, j - 1, level) if se > 0 else None,
        level=level,
        n=j,
        status=_status(z) if se > 0 else f"{j} island(s) without spread: no interval",
        method=samples.chain,
        n_evaluations=samples.n_evaluations,
    )


def _status(z: npt.NDArray[np.float64]) -> str:
    """Whether the islands agree on Z well enough for a ratio to it."""
    relative = float(z.std(ddof=1) / math.sqrt(len(z)) / z.mean())
    if relative <= RELATIVE_ERROR_LIMIT:
        return "ok"
    return (
        f"islands disagree: the standard error of Z is {100 * relative:.0f} % of it (limit "
        f"{100 * RELATIVE_ERROR_LIMIT:g} %): interval may be too short"
    )
