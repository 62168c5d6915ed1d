"""Laws that a base model must beat: a Gaussian of the same covariance, and a mixture of Gaussians.

Both are circular (the law of channels knows no global phase) and, for one row of antennas, flipped
half of the time. A component is diagonal plus low rank in the angular-delay domain, fitted by EM.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from channels.domains import onto_sphere, stack_real, to_complex
from channels.symmetry import flip_array, random_symmetry

COMPONENTS, RANK, STEPS = 32, 16, 30
FLOOR = 1e-3  # of each coefficient's variance: the least a component leaves it
GAIN = 1e-4  # nats a coefficient and step, below which EM stops


@dataclass(frozen=True, kw_only=True)
class GaussianMixture:
    """sum_k pi_k CN(0, diag(psi_k) + W_k W_k^H) on complex rows of `shape`.

    Attributes:
        weights: pi, (K,).
        diagonals: psi, (K, n), positive.
        factors: W, complex (K, n, r).
        shape: (n_rx, n_tx, n_delay), n in all.
        flip: Whether samples are flipped half of the time.
    """

    weights: Tensor
    diagonals: Tensor
    factors: Tensor
    shape: tuple[int, int, int]
    flip: bool = True

    def sample(self, n: int, *, generator: torch.Generator) -> Tensor:
        """n channels in audit space at unit power, (n, 2 n_rx, n_tx, n_delay)."""
        k = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        parts = []
        for chosen in k.split(512):
            size, rank = self.diagonals.shape[1], self.factors.shape[2]
            noise = _circular(len(chosen), size, generator=generator)
            common = _circular(len(chosen), rank, generator=generator)
            low_rank = torch.empty_like(noise)
            for component in chosen.unique().tolist():
                mine = chosen == component
                low_rank[mine] = common[mine] @ self.factors[component].mT
            parts.append(noise * self.diagonals[chosen].sqrt() + low_rank)
        x = stack_real(torch.cat(parts).reshape(n, *self.shape))
        return onto_sphere(random_symmetry(x, generator=generator, flip=self.flip))

    def log_joint(self, rows: Tensor) -> Tensor:
        """log pi_k p_k(x) of complex rows (N, n), float64 (N, K).

        log p_k = -n log(pi) - log det M - sum log psi - x^H x / psi + |L^-1 W^H x / psi|^2
        M = I + W^H W / psi = L L^H
        """
        precision = 1 / self.diagonals
        power = rows.abs().square() @ precision.T  # (N, K)
        found = torch.empty(len(rows), len(self.weights), dtype=torch.float64)
        for k in range(len(self.weights)):
            lower, whitened = self._inner(k)
            low_rank = (rows @ whitened.conj()).abs().square().sum(1)
            log_det = 2 * lower.diagonal().real.log().sum() + self.diagonals[k].log().sum()
            found[:, k] = low_rank.double() - power[:, k] - log_det + self.weights[k].log()
        return found - rows.shape[1] * math.log(math.pi)

    def _inner(self, k: int) -> tuple[Tensor, Tensor]:
        """L of M = L L^H, and (L^-1 W^H / psi)^H, (n, r)."""
        scaled = self.factors[k] / self.diagonals[k][:, None]
        eye = torch.eye(scaled.shape[1], dtype=scaled.dtype)
        lower = torch.linalg.cholesky(eye + self.factors[k].mH @ scaled)
        return lower, torch.linalg.solve_triangular(lower, scaled.mH, upper=False).mH


def gaussian_of(x: Tensor, *, flip: bool = True) -> GaussianMixture:
    """The Gaussian with the covariance of channels x (N, 2 n_rx, n_tx, n_delay) and their flips.

    Its samples are put at unit power like those of every base law.
    """
    rows = _rows(torch.cat([x, flip_array(x)]) if flip else x)
    moment = sum((part.mT @ part.conj() for part in rows.split(4096)), start=torch.zeros(()))
    values, vectors = torch.linalg.eigh(moment.to(torch.complex64) / len(rows))
    factors = (vectors * values.clamp_min(0).sqrt())[None]
    least = float(values.clamp_min(0).mean()) * 1e-6
    return GaussianMixture(
        weights=torch.ones(1), diagonals=torch.full(factors.shape[:2], least), factors=factors,
        shape=_shape(x), flip=flip,
    )  # fmt: skip


@torch.no_grad()
def fit_mixture(
    x: Tensor,
    *,
    generator: torch.Generator,
    components: int = COMPONENTS,
    rank: int = RANK,
    steps: int = STEPS,
    flip: bool = True,
) -> tuple[GaussianMixture, list[float]]:
    """Maximum-likelihood mixture of channels x (N, 2 n_rx, n_tx, n_delay), by EM.

    Args:
        x: Channels at unit power; half of them are flipped, and so are half of the samples.
        generator: Draws flips and the start.
        components: K.
        rank: Columns of each W.
        steps: EM steps at most.
        flip: Whether the law is symmetric under the array flip.
    Returns:
        The mixture, and the mean log density of the data after each step [nats], never falling.
    Source: Ghahramani and Hinton 1996, CRG-TR-96-1 (mixtures of factor analysers), complex and
        centred.
    """
    rows = _rows(random_symmetry(x, generator=generator, flip=flip))
    floor = FLOOR * rows.abs().square().mean(0).clamp_min(1e-6)
    mixture = _first(rows, components, rank, floor, _shape(x), flip, generator)
    curve: list[float] = []
    for _ in range(steps):
        joint = mixture.log_joint(rows)
        curve.append(float(joint.logsumexp(1).mean()))
        if len(curve) > 1 and curve[-1] - curve[-2] < GAIN * rows.shape[1]:
            break
        mixture = _step(mixture, rows, joint.softmax(1).float(), floor)
    return mixture, curve


def _step(mixture: GaussianMixture, rows: Tensor, r: Tensor, floor: Tensor) -> GaussianMixture:
    """One EM step from responsibilities r (N, K).

    W <- [sum r x E[z]^H] [sum r E[z z^H]]^-1,   psi <- diag(sum r x x^H - W sum r E[z] x^H) / R
    E[z] = M^-1 W^H x / psi,   E[z z^H] = M^-1 + E[z] E[z]^H
    """
    diagonals, factors = mixture.diagonals.clone(), mixture.factors.clone()
    totals = r.sum(0)
    for k in range(len(totals)):
        mine = r[:, k] > 1e-6
        part, weight = rows[mine], r[mine, k : k + 1]
        if float(totals[k]) < 2:  # nobody's: it stays as it is, and its weight falls
            continue
        lower, whitened = mixture._inner(k)
        inverse = torch.cholesky_inverse(lower)
        z = (part @ whitened.conj()) @ torch.linalg.inv(lower).conj()  # E[z], (N_k, r)
        cross = (weight * part).mT @ z.conj()  # (n, r)
        second = totals[k] * inverse + (weight * z).mT @ z.conj()
        factors[k] = torch.linalg.solve(second.mT, cross.mT).mT
        power = (weight * part.abs().square()).sum(0) - (factors[k] * cross.conj()).real.sum(1)
        diagonals[k] = torch.maximum(power / totals[k], floor)
    return GaussianMixture(
        weights=totals / totals.sum(), diagonals=diagonals, factors=factors, shape=mixture.shape,
        flip=mixture.flip,
    )  # fmt: skip


def _first(
    rows: Tensor,
    components: int,
    rank: int,
    floor: Tensor,
    shape: tuple[int, int, int],
    flip: bool,
    generator: torch.Generator,
) -> GaussianMixture:
    """Groups of users with like log powers, and the leading directions of each."""
    group = _k_means((rows.abs().square() + floor).log(), components, generator)
    diagonals, factors, counts = [], [], torch.bincount(group, minlength=components)
    for k in range(components):
        part = rows[group == k] if int(counts[k]) > 1 else rows
        w = _leading(part, rank, generator)
        rest = part.abs().square().mean(0) - w.abs().square().sum(1)
        diagonals.append(torch.maximum(rest, floor))
        factors.append(w)
    return GaussianMixture(
        weights=(counts + 1.0) / (counts + 1.0).sum(), diagonals=torch.stack(diagonals),
        factors=torch.stack(factors), shape=shape, flip=flip,
    )  # fmt: skip


def _leading(rows: Tensor, rank: int, generator: torch.Generator, *, kept: float = 0.8) -> Tensor:
    """Leading principal directions of rows (N, n), scaled to `kept` of their variance, (n, r)."""
    basis = _circular(rows.shape[1], rank, generator=generator)
    for _ in range(3):
        basis = torch.linalg.qr(rows.mT @ (rows.conj() @ basis))[0]
    projected = rows.conj() @ basis  # (N, r)
    values, vectors = torch.linalg.eigh(projected.mH @ projected / len(rows))
    return math.sqrt(kept) * (basis @ vectors) * values.clamp_min(0).sqrt()


def _k_means(points: Tensor, k: int, generator: torch.Generator, *, passes: int = 10) -> Tensor:
    """Group of each point (N, p), (N,); starts from points far from each other."""
    first = int(torch.randint(len(points), (), generator=generator))
    centres = points[first][None]
    while len(centres) < k:
        distance = torch.cdist(points, centres).amin(1).square() + 1e-12
        chosen = torch.multinomial(distance, 1, generator=generator)
        centres = torch.cat([centres, points[chosen]])
    group = torch.zeros(len(points), dtype=torch.long)
    for _ in range(passes):
        group = torch.cdist(points, centres).argmin(1)
        counts = torch.bincount(group, minlength=k).clamp_min(1)[:, None]
        means = torch.zeros_like(centres).index_add_(0, group, points) / counts
        centres = torch.where(torch.bincount(group, minlength=k)[:, None] > 0, means, centres)
    return group


def _rows(x: Tensor) -> Tensor:
    return to_complex(x).flatten(1)


def _shape(x: Tensor) -> tuple[int, int, int]:
    return x.shape[1] // 2, x.shape[2], x.shape[3]


def _circular(*size: int, generator: torch.Generator) -> Tensor:
    """CN(0, 1) numbers: real and imaginary parts of variance 1/2."""
    return torch.view_as_complex(torch.randn(*size, 2, generator=generator) / math.sqrt(2))
