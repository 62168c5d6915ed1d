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
from scipy import special
from torch import Tensor

from channels.support import CsiAuditError
from csi_audit.samples import WeightedSamples
from reports.estimates import JUDGED, Estimate, finite_vector, mean_estimate
from reports.pareto import combined_status, tail_shape, uneven_status
from reports.reweighting import weighted_mean, weighted_proportion
from reports.tail_estimates import Side, weighted_cvar_estimate, weighted_quantile_estimate

RELATIVE_ERROR_LIMIT = 0.2
"""Standard error over value of Z above which a ratio to Z, and its interval, are not trusted."""

MIN_ISLANDS = 10
"""Islands below which their scatter is hardly known."""

SCORE_LIMIT = 3.0
"""Standard errors between Z and an independent E_p[l] above which the two differ."""

TELLING_ERROR = 0.1
"""Standard error of their difference over E_p[l] up to which their agreement says something."""


@dataclass(frozen=True, kw_only=True)
class IslandSamples(WeightedSamples):
    """Weighted samples of several independent runs.

    The weights are absolute: their mean over an island is that island's estimate of Z.

    Attributes:
        island: Island of each sample, int64 (N,).
        ancestor: First particle of its island that each descends from, int64 (N,); None when not
            kept.
        e_p: Independent estimate of Z, see `compared_with`; None without.
    """

    island: Tensor
    ancestor: Tensor | None = None
    e_p: Estimate | None = None

    def compared_with(self, e_p: Estimate) -> "IslandSamples":
        """The same samples, every estimate from which says whether Z agrees with this E_p[l].

        Args:
            e_p: From elsewhere: l averaged over plain draws of the same unguided chain, or a rare
                probability by another method.
        """
        return replace(self, e_p=e_p)

    def log_share(self) -> Tensor:
        """Log weights over the size of their island: sums over an island are its Z, (N,)."""
        return self.log_w - self.sizes().double().log()[self.island]

    def sizes(self) -> Tensor:
        """Particles of each island, int64 (J,)."""
        return torch.bincount(self.island)

    def log_z_islands(self) -> Tensor:
        """log Z as each island estimates it, float64 (J,)."""
        sizes = self.sizes()
        top = torch.full((len(sizes),), -math.inf, dtype=self.log_w.dtype)
        top = top.scatter_reduce(0, self.island, self.log_w, "amax").nan_to_num(neginf=0.0)
        relative = (self.log_w - top[self.island]).exp()
        sums = torch.zeros_like(top).index_add(0, self.island, relative)
        return top + sums.log() - sizes.double().log()


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
    """Log weights since the last resampling, log Z of every island up to it, and ancestors."""

    def __init__(self, islands: Islands, log_w: Tensor) -> None:
        self.islands, self.log_w = islands, log_w
        self.log_z = torch.zeros(len(islands.sizes), dtype=torch.float64)
        self.ancestor = torch.cat([torch.arange(size) for size in islands.sizes])

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
        self.ancestor = self.ancestor[torch.cat(rows)]
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
    """Z = E_p[l], the mean of the islands' own, with Student's interval over the islands.

    The status is that of `island_status`.
    """
    found = mean_estimate(_z(samples), level=level, method=samples.chain)
    own = found.status if found.interval is None else "ok"  # tails are judged by the islands'
    status = combined_status(own, island_status(samples))
    return replace(found, ess=None, n_evaluations=samples.n_evaluations, status=status)


def island_expectation(
    samples: IslandSamples, values: npt.ArrayLike, *, level: float = 0.95
) -> Estimate:
    """E_q[f] from f of each sample (N,), with an interval from the scatter of the J islands.

        m = sum_j S_j / sum_j Z_j,   SE^2 = J / (J - 1) sum_j (S_j - m Z_j)^2 / (sum_j Z_j)^2

    S_j is the mean of w f over island j, Z_j that of w. One island gives no interval.

    Raises:
        ValueError: `values` has another length than the samples, or is not finite.
    """
    f, log_w, island = _columns(samples, values)
    return _judged(samples, weighted_mean(f, log_w, clusters=island, level=level))


def island_exceedance(
    samples: IslandSamples, values: npt.ArrayLike, tau: float, *, level: float = 0.95
) -> Estimate:
    """P_q(f > tau) from f of each sample (N,); without an event an upper bound."""
    f, log_w, island = _columns(samples, values)
    return _judged(samples, weighted_proportion(f > tau, log_w, clusters=island, level=level))


def island_quantile(
    samples: IslandSamples, values: npt.ArrayLike, prob: float, *, level: float = 0.95
) -> Estimate:
    """Quantile of f under q, the interval from the islands' distribution functions."""
    f, log_w, island = _columns(samples, values)
    return _judged(
        samples, weighted_quantile_estimate(f, log_w, prob, clusters=island, level=level)
    )


def island_cvar(
    samples: IslandSamples,
    values: npt.ArrayLike,
    prob: float,
    *,
    worse: Side = "high",
    level: float = 0.95,
) -> Estimate:
    """Mean of the worst share 1 - prob of f under q, with an interval over islands."""
    f, log_w, island = _columns(samples, values)
    found = weighted_cvar_estimate(f, log_w, prob, worse=worse, clusters=island, level=level)
    return _judged(samples, found)


def island_status(samples: IslandSamples) -> str:
    """Whether the islands can be believed: "ok", or in words what speaks against them.

    A poor twist gives islands that agree with each other, and effective sample sizes near the
    number of particles, while Z lies far below E_p[l] in nearly all of them; rare islands far above
    make up for it. So nothing found in the islands themselves is evidence that they are right:
    without an independent E_p[l] (`compared_with`) the status is not "ok".
    """
    log_z = samples.log_z_islands()
    count, found = len(log_z), []
    if bool(log_z.isneginf().all()):
        return "no particle has any weight"
    if count < MIN_ISLANDS:
        found.append(f"only {count} island(s), {MIN_ISLANDS} needed: interval may be too short")
    z = (log_z - log_z.max()).exp()
    error = float(z.std() / z.mean()) / math.sqrt(count) if count > 1 else 0.0
    if error > RELATIVE_ERROR_LIMIT:
        found.append(
            f"islands disagree: the standard error of Z is {100 * error:.0f} % of it (limit "
            f"{100 * RELATIVE_ERROR_LIMIT:g} %): interval may be too short"
        )
    if count >= JUDGED:
        shapes = {" of their Z": tail_shape(z.numpy())}
        found.append(uneven_status("islands", count, shapes, remedy="find a better twist"))
    if samples.e_p is None:
        found.append("Z not compared with E_p[l] of plain draws, which a poor twist may miss")
    else:
        found.append(compared(mean_estimate(_z(samples)), samples.e_p).status)
    return combined_status(*found, _descent(samples))


def compared(z: Estimate, e_p: Estimate) -> Estimate:
    """Z of a twisted sampler with a status that says whether an independent E_p[l] agrees.

        score = (z - e_p) / SE,  SE^2 = SE_z^2 + SE_p^2

    They differ where |score| exceeds what Student's law, at Welch's degrees of freedom, exceeds as
    rarely as a Gaussian does three standard errors. Agreement within a large error is none: it
    must leave SE <= 0.1 e_p.

    Args:
        z: Mean of the islands' Z.
        e_p: Mean of l over plain draws, or whatever else estimates E_p[l].
    """
    if z.n < 2 or not e_p.std_error or e_p.value <= 0:
        return replace(z, status="Z cannot be compared: no standard error, or no E_p[l] above 0")
    se_z = z.std_error or 0.0  # None where all islands are equal
    se = math.hypot(se_z, e_p.std_error)
    parts = [(se_z / se) ** 4 / (z.n - 1), (e_p.std_error / se) ** 4 / (e_p.n - 1)]
    limit = float(special.stdtrit(1 / sum(parts), special.ndtr(SCORE_LIMIT)))
    gap, score = z.value / e_p.value - 1, abs(z.value - e_p.value) / se
    status = "" if e_p.status == "ok" else f"E_p[l] to compare Z with: {e_p.status}"
    if score > limit:
        side = "below" if gap < 0 else "above"
        status = (
            f"Z lies {100 * abs(gap):.2g} % {side} E_p[l] of plain draws ({score:.1f} standard "
            "errors): the twist is poor, or the draws are of another chain"
        )
    elif se > TELLING_ERROR * e_p.value:
        status = (
            f"Z and E_p[l] of plain draws agree only to {100 * se / e_p.value:.0f} % (limit "
            f"{100 * TELLING_ERROR:g} %), which a poor twist may: draw more"
        )
    return replace(z, status=combined_status(status))


def _descent(samples: IslandSamples) -> str:
    """Whether most islands descend from one particle each."""
    if samples.ancestor is None:
        return "ok"
    alive = samples.log_w > -math.inf
    pairs = torch.stack([samples.island[alive], samples.ancestor[alive]], dim=1).unique(dim=0)
    single = int((torch.bincount(pairs[:, 0]) == 1).sum())
    if 2 * single <= len(samples.sizes()):
        return "ok"
    return f"{single} islands descend from one particle each: larger islands or a better twist"


def _z(samples: IslandSamples) -> npt.NDArray[np.float64]:
    return np.asarray(samples.log_z_islands().exp().numpy(), dtype=np.float64)


def _columns(
    samples: IslandSamples, values: npt.ArrayLike
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """f, log weights and island of each sample."""
    f = finite_vector("values", values)
    if len(f) != len(samples):
        raise ValueError(f"values must be {len(samples)}, one a sample; got {len(f)}.")
    return f, samples.log_share().numpy(), samples.island.numpy()


def _judged(samples: IslandSamples, found: Estimate) -> Estimate:
    """The estimate with the islands' name, cost and status."""
    return replace(
        found,
        method=samples.chain,
        n_evaluations=samples.n_evaluations,
        status=combined_status(found.status, island_status(samples)),
    )
