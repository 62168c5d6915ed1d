"""The calibrated twist: E[l(x0) | x_sigma] as a regression, fitted to pilot samples.

What the denoiser has not yet resolved becomes error later, so on channels l at the Tweedie mean is
the wrong predictor of l(x0) at high noise; with the resolved energy beside it half the variance is
explained levels earlier. The share explained at each level is kept, measured on samples that the
fit did not see: a twist that explains little where the mass is decided is not mended by more steps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from channels.support import CsiAuditError
from csi_audit.diffusion import Denoiser
from csi_audit.weights import Weight, log_l_in_blocks

Features = Callable[[Tensor, Tensor, Tensor], Tensor]
"""f(x0_hat, l_hat, e) -> (N, F), differentiable: l_hat (N,) is l at the denoised mean over the
pilot mean of l, e (N,) the resolved energy ||x0_hat||^2 over the pilot mean of ||x0||^2."""

PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 1000.0)


def tweedie_features(x0_hat: Tensor, l_hat: Tensor, e: Tensor) -> Tensor:
    """l_hat alone, (N, 1): enough where l of the mean says what l will be."""
    return l_hat[:, None]


def resolved_features(x0_hat: Tensor, l_hat: Tensor, e: Tensor) -> Tensor:
    """l_hat, e, e^2 and l_hat / (e + 0.01), (N, 4): for the error of a compressor."""
    return torch.stack([l_hat, e, e.square(), l_hat / (e + 0.01)], dim=1)


@dataclass(frozen=True, kw_only=True)
class Described:
    """Denoised means as numbers a regression can use.

    Attributes:
        weight: l at denoised means.
        features: f.
        log_scale: log of the pilot mean of l.
        energy: Pilot mean of ||x0||^2.
    """

    weight: Weight
    features: Features
    log_scale: float
    energy: float

    def __call__(self, x0_hat: Tensor) -> Tensor:
        """f of each denoised mean, (N, F)."""
        l_hat = (self.weight.log_l(x0_hat) - self.log_scale).exp()
        e = x0_hat.square().flatten(1).sum(1) / self.energy
        return self.features(x0_hat, l_hat, e)


@dataclass(frozen=True, kw_only=True)
class CalibratedTwist:
    """h = max(a + b . (f - m), floor) E[l], f features of x0_hat, a, b, m by noise level.

    At the noise levels of the fit h is the regression itself; between two it is interpolated
    linearly in log sigma, beyond the ends it is that of the end.

    Attributes:
        described: x0_hat to f.
        log_sigmas: Levels of the fit, (K,), ascending.
        intercept: a, (K,), in units of E[l].
        slope: b, (K, F).
        centre: m, (K, F).
        floor: In units of E[l].
        r2: Share of the variance of l(x0) explained on pilot samples left out of the fit, (K,);
            below 0 where the regression does worse than a constant.
        n_pilot: Pilot samples.
    """

    described: Described
    log_sigmas: Tensor
    intercept: Tensor
    slope: Tensor
    centre: Tensor
    floor: float
    r2: Tensor
    n_pilot: int

    @property
    def name(self) -> str:
        """With the number of features, for reports."""
        return f"calibrated twist of {self.slope.shape[1]} feature(s)"

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        found = self.described(x0_hat)
        low, share = self._position(sigma, x0_hat)
        h = (1 - share) * self._regression(found, low)
        h = h + share * self._regression(found, (low + 1).clamp_max(len(self.log_sigmas) - 1))
        return h.clamp_min(self.floor).log() + self.described.log_scale

    def _position(self, sigma: Tensor | float, x0_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Level below sigma (N,) and how far sigma lies towards the next, in [0, 1]."""
        levels = self.log_sigmas.to(x0_hat)
        at = torch.as_tensor(sigma).to(x0_hat).log().expand(len(x0_hat))
        low = (torch.searchsorted(levels, at.contiguous(), right=True) - 1).clamp(0)
        high = (low + 1).clamp_max(len(levels) - 1)
        gap = (levels[high] - levels[low]).clamp_min(1e-12)
        return low, ((at - levels[low]) / gap).clamp(0, 1)

    def _regression(self, found: Tensor, level: Tensor) -> Tensor:
        a, b, m = (t.to(found)[level] for t in (self.intercept, self.slope, self.centre))
        return a + (b * (found - m)).sum(1)

    def table(self) -> str:
        """Share of the variance of l(x0) explained at each noise level, highest first."""
        rows = [f"{self.name}, {self.n_pilot} pilot samples", "   sigma    R^2"]
        pairs = zip(self.log_sigmas.exp().tolist(), self.r2.tolist(), strict=True)
        rows += [f"{sigma:8.3g} {round(r2, 2) + 0.0:6.2f}" for sigma, r2 in reversed(list(pairs))]
        return "\n".join(rows)


def fit_calibrated_twist(
    denoiser: Denoiser,
    weight: Weight,
    pilot_x0: Tensor,
    sigmas: Tensor,
    *,
    generator: torch.Generator,
    features: Features = resolved_features,
    target: Weight | None = None,
    penalties: Sequence[float] = PENALTIES,
    floor: float = 0.02,
    folds: int = 5,
) -> CalibratedTwist:
    """Regress l(x0) on features of D(x0 + sigma eps), level by level.

    One noise eps a pilot sample serves all levels, so the regressions, and with them log h along a
    chain, vary smoothly. Ridge regression on standardised features; each level takes the penalty
    that explains most on samples left out, which keeps a level that explains nothing at the mean.

    Args:
        denoiser: D of the base law; one evaluation a pilot sample and level.
        weight: l at denoised means: finite and differentiable there.
        pilot_x0: Samples of the base law (N, *event_shape), some hundreds.
        sigmas: Noise levels, best those of the chain, (K,).
        generator: Source of eps and of the split into folds.
        features: f.
        target: The l that counts at the end, where it differs from `weight`.
        penalties: Tried on the squared slopes, relative to the mean squared error.
        floor: Smallest h over the pilot mean of l.
        folds: Parts of the pilot, each left out once to measure R^2.
    Raises:
        CsiAuditError: too few pilot samples, l is the same or not finite on them, or a feature is
            not finite.
    """
    log_l = log_l_in_blocks(weight if target is None else target, pilot_x0)
    log_scale = _log_scale(log_l, folds)
    energy = float(pilot_x0.square().flatten(1).sum(1).mean())
    described = Described(weight=weight, features=features, log_scale=log_scale, energy=energy)
    y = (log_l - log_scale).exp()  # mean 1
    order = torch.randperm(len(y), generator=generator)
    eps = torch.randn(pilot_x0.shape, generator=generator, dtype=pilot_x0.dtype)
    levels = sigmas.double().sort().values
    fits, r2 = [], []
    for sigma in levels.tolist():
        with torch.no_grad():
            f = described(denoiser(pilot_x0 + sigma * eps, sigma)).double()
        if not bool(f.isfinite().all()):
            raise CsiAuditError(f"features must be finite; at sigma {sigma:.3g} some are not.")
        explained, penalty = max((_left_out_r2(f[order], y[order], p, folds), p) for p in penalties)
        fits.append(_ridge(f, y, penalty))
        r2.append(explained)
    intercept, slope, centre = (torch.stack(column) for column in zip(*fits, strict=True))
    return CalibratedTwist(
        described=described,
        log_sigmas=levels.log(),
        intercept=intercept,
        slope=slope,
        centre=centre,
        floor=floor,
        r2=torch.tensor(r2, dtype=torch.float64),
        n_pilot=len(y),
    )


def _log_scale(log_l: Tensor, folds: int) -> float:
    """log of the mean l; CsiAuditError unless l can be regressed on."""
    if len(log_l) < 10 * folds:
        raise CsiAuditError(
            f"pilot_x0 must hold at least {10 * folds} samples; got {len(log_l)}. 500 are usual."
        )
    low, high = float(log_l.min()), float(log_l.max())  # NaN if any is
    if not (math.isfinite(high) and low < high):
        raise CsiAuditError(
            "l must be finite and not the same on all pilot samples; log l runs from "
            f"{low:.4g} to {high:.4g}."
        )
    return float(log_l.logsumexp(0)) - math.log(len(log_l))


def _ridge(f: Tensor, y: Tensor, penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    """Intercept (), slope (F,) and centre (F,) of the ridge regression of y (N,) on f (N, F)."""
    centre, intercept = f.mean(0), y.mean()
    spread = f.std(0)
    dead = spread <= 1e-6 * centre.abs()  # rounding, no feature
    scale = torch.where(dead, torch.inf, spread)
    z = (f - centre) / scale
    gram = z.T @ z / len(z) + penalty * torch.eye(z.shape[1], dtype=z.dtype)
    slope = torch.linalg.solve(gram, z.T @ (y - intercept) / len(z)) / scale
    return intercept, slope, centre


def _left_out_r2(f: Tensor, y: Tensor, penalty: float, folds: int) -> float:
    """1 - (squared error on samples left out of the fit) / (squared deviation), over all folds."""
    error = 0.0
    for part in torch.arange(len(y)).chunk(folds):
        kept = torch.ones(len(y), dtype=torch.bool)
        kept[part] = False
        a, b, m = _ridge(f[kept], y[kept], penalty)
        error += float((y[part] - a - (f[part] - m) @ b).square().sum())
    return 1 - error / float((y - y.mean()).square().sum())
