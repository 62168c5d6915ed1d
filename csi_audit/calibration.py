"""The calibrated twist: E[l(x0) | x_sigma] as a regression, fitted to pilot samples.

What the denoiser has not yet resolved becomes error later, so on channels l at the Tweedie mean is
the wrong predictor of l(x0) at high noise; with the resolved energy beside it half the variance is
explained levels earlier. The share explained at each level is kept, measured on samples that the
fit did not see: a twist that explains little where the mass is decided is not mended by more steps.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from channels.support import CsiAuditError
from csi_audit.diffusion import Denoiser
from csi_audit.weights import Weight, log_l_in_blocks

PENALTIES = (1e-3, 1e-2, 0.1, 1.0, 10.0, 1000.0)
LEAST_EFFECTIVE = 10
"""Effective pilot samples of l, (sum l)^2 / sum l^2, below which nothing can be fitted."""
_RESOLVED_FLOOR = 0.01


# --- Features -------------------------------------------------------------------------------------


class RefusedPilotError(CsiAuditError):
    """l cannot be regressed on these pilot samples: a finding about l and the pilot."""


@dataclass(frozen=True, kw_only=True)
class DenoisedMeans:
    """Denoised means and the numbers that features are made of, each found when asked for.

    Everything is in units of the pilot, so of order one once x0 is resolved, and float64: at high
    noise the squares of what little is resolved would leave the range of float32.

    Attributes:
        x0_hat: (N, *event_shape).
        weight: l.
        log_scale: log of the pilot mean of l.
        energy: Pilot mean of ||x0||^2.
    """

    x0_hat: Tensor
    weight: Weight
    log_scale: float
    energy: float

    @cached_property
    def e(self) -> Tensor:
        """Resolved energy ||x0_hat||^2, (N,)."""
        return self.x0_hat.double().square().flatten(1).sum(1) / self.energy

    @cached_property
    def l_hat(self) -> Tensor:
        """l at the mean, (N,)."""
        return self._l(self.x0_hat)

    @cached_property
    def l_whole(self) -> Tensor:
        """l at the mean scaled up to the energy of a sample, x0_hat / sqrt(e + 0.01), (N,)."""
        short = (self.e + _RESOLVED_FLOOR).sqrt().to(self.x0_hat)
        return self._l(self.x0_hat / short.view(-1, *[1] * (self.x0_hat.ndim - 1)))

    def _l(self, x: Tensor) -> Tensor:
        return (self.weight.log_l(x).double() - self.log_scale).exp()


Features = Callable[[DenoisedMeans], Tensor]
"""f of denoised means, (N, F), differentiable and of order one on clean samples."""


def tweedie_features(means: DenoisedMeans) -> Tensor:
    """l_hat alone, (N, 1): enough where l of the mean says what l will be."""
    return means.l_hat[:, None]


def resolved_features(means: DenoisedMeans) -> Tensor:
    """l_hat, e, e^2 and l_hat / (e + 0.01), (N, 4): for the error of a compressor."""
    l_hat, e = means.l_hat, means.e
    return torch.stack([l_hat, e, e.square(), l_hat / (e + _RESOLVED_FLOOR)], dim=1)


def whole_features(means: DenoisedMeans) -> Tensor:
    """Those of `resolved_features` with l_whole and e l_whole, (N, 6): for sharp l.

    A power or a threshold of an error jumps only where nearly all energy is resolved; l of the mean
    scaled up tells it levels earlier, for one more evaluation of l.
    """
    more = torch.stack([means.l_whole, means.e * means.l_whole], dim=1)
    return torch.cat([resolved_features(means), more], dim=1)


FEATURE_SETS: tuple[Features, ...] = (tweedie_features, resolved_features, whole_features)
"""Tried by default, the simplest first."""


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
        """f of each denoised mean, float64 (N, F)."""
        return self.features(self.means(x0_hat)).double()

    def means(self, x0_hat: Tensor) -> DenoisedMeans:
        """The means in units of the pilot."""
        return DenoisedMeans(
            x0_hat=x0_hat, weight=self.weight, log_scale=self.log_scale, energy=self.energy
        )


# --- The twist ------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class CalibratedTwist:
    """E[l(x0) | x_sigma] by a regression on features f of x0_hat, a, b, m by noise level.

        r = a + b . (f - m),   h = E[l] {floor + w log(1 + exp((r - floor) / w))},  w = floor / 2

    h is r where r lies well above the floor and falls to the floor smoothly, so that guidance has
    no kink and no particle's weight grows beyond 1 / floor by a regression that went below 0. At
    the noise levels of the fit r is the regression itself; between two it is interpolated linearly
    in log sigma, beyond the ends it is that of the end. All of it is float64.

    Attributes:
        described: x0_hat to f.
        log_sigmas: Levels of the fit, (K,), ascending.
        intercept: a, (K,), in units of E[l].
        slope: b, (K, F); 0 at a level where the regression explains nothing.
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
        if found.shape[1] != self.slope.shape[1]:
            raise ValueError(
                f"features must be those of the fit, {self.slope.shape[1]} a sample; "
                f"got {found.shape[1]}."
            )
        low, share = self._position(sigma, x0_hat)
        r = (1 - share) * self._regression(found, low)
        r = r + share * self._regression(found, (low + 1).clamp_max(len(self.log_sigmas) - 1))
        w = self.floor / 2
        h = self.floor + w * F.softplus((r - self.floor) / w)
        return (h.log() + self.described.log_scale).to(x0_hat)

    def _position(self, sigma: Tensor | float, x0_hat: Tensor) -> tuple[Tensor, Tensor]:
        """Level below sigma (N,) and how far sigma lies towards the next, in [0, 1]."""
        levels = self.log_sigmas.to(x0_hat.device)
        at = torch.as_tensor(sigma).to(levels).log().expand(len(x0_hat))
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
    features: Features | Sequence[Features] = FEATURE_SETS,
    target: Weight | None = None,
    penalties: Sequence[float] = PENALTIES,
    floor: float = 0.1,
    folds: int = 5,
) -> CalibratedTwist:
    """Regress l(x0) on features of D(x0 + sigma eps), level by level.

    One noise eps a pilot sample serves all levels, so the regressions, and with them log h along a
    chain, vary smoothly. Ridge regression on standardised features; each level takes the penalty
    that explains most on samples left out, and h is constant where none explains anything. A line
    is enough: for the error of a compressor small networks and forests on the same features, and
    further features of channels, explain no more on samples left out.

    Args:
        denoiser: D of the base law; one evaluation a pilot sample and level.
        weight: l at denoised means: finite and differentiable there.
        pilot_x0: Samples of the base law (N, *event_shape), some hundreds.
        sigmas: Noise levels, best those of the chain, (K,).
        generator: Source of eps and of the split into folds.
        features: f, or several, the simplest first: one is passed over for a later one only if that
            errs less on samples left out, over all levels, by more than two standard errors. A
            feature without need adds noise to h, and that to the weights.
        target: The l that counts at the end, where it differs from `weight`, so the y of the
            regression. For channels that is l of the NMSE on the sphere of unit power, as
            `NormalisedWeight(weight, domain.onto_law)` of csi_audit.weights, which is undefined at
            denoised means near 0; `weight` is then l of the squared error.
        penalties: Tried on the squared slopes, relative to the mean squared error.
        floor: Smallest h over the pilot mean of l. Corrected weights are exact for any. On laws
            in closed form (convex, sharp, rare and channel-like l) none from 0.02 to 0.2 made Z
            scatter surely less than another; 0.1 allows a wrong h weights of 10, not of 50.
        folds: Parts of the pilot, each left out once to measure R^2.
    Raises:
        RefusedPilotError: too few pilot samples, l is not finite on them, the same on all, or
            nearly all of it on a few; or a feature is not finite.
    """
    log_l = log_l_in_blocks(weight if target is None else target, pilot_x0)
    log_scale = _log_scale(log_l, folds)
    energy = float(pilot_x0.square().flatten(1).sum(1).mean())
    candidates = (features,) if callable(features) else tuple(features)
    described = Described(weight=weight, features=candidates[0], log_scale=log_scale, energy=energy)
    y = (log_l - log_scale).exp()  # mean 1
    order = torch.randperm(len(y), generator=generator)
    eps = torch.randn(pilot_x0.shape, generator=generator, dtype=pilot_x0.dtype)
    levels = sigmas.double().sort().values
    fits: list[list[_Fit]] = [[] for _ in candidates]
    for sigma in levels.tolist():
        with torch.no_grad():
            means = described.means(denoiser(pilot_x0 + sigma * eps, sigma))
            for each, own in zip(candidates, fits, strict=True):
                f = _finite_features(each(means).double(), sigma)
                own.append(_fit(f[order], y[order], penalties, folds))
    chosen = _simplest([torch.stack([fit.error for fit in own]).sum(0) for own in fits])
    parts = [torch.stack(column) for column in zip(*fits[chosen], strict=True)]
    intercept, slope, centre, _, r2 = parts
    return CalibratedTwist(
        described=replace(described, features=candidates[chosen]),
        log_sigmas=levels.log(),
        intercept=intercept,
        slope=slope,
        centre=centre,
        floor=floor,
        r2=r2,
        n_pilot=len(y),
    )


def _log_scale(log_l: Tensor, folds: int) -> float:
    """log of the mean l; RefusedPilotError unless l can be regressed on."""
    if len(log_l) < 10 * folds:
        raise RefusedPilotError(
            f"pilot_x0 must hold at least {10 * folds} samples; got {len(log_l)}. 500 are usual."
        )
    low, high = float(log_l.min()), float(log_l.max())  # NaN if any is
    if not (math.isfinite(high) and low < high):
        raise RefusedPilotError(
            "l must be finite and not the same on all pilot samples; log l runs from "
            f"{low:.4g} to {high:.4g}."
        )
    effective = float((2 * log_l.logsumexp(0) - (2 * log_l).logsumexp(0)).exp())
    if effective < LEAST_EFFECTIVE:
        raise RefusedPilotError(
            f"l must count on at least {LEAST_EFFECTIVE} effective pilot samples; got "
            f"{effective:.1f} of {len(log_l)}: a few hold nearly all of it. Draw more, soften l (a "
            "lower power, a wider threshold, a higher floor) or use an exact twist."
        )
    return float(log_l.logsumexp(0)) - math.log(len(log_l))


def _finite_features(f: Tensor, sigma: float) -> Tensor:
    """f itself; RefusedPilotError where some are not finite."""
    if not bool(f.isfinite().all()):
        raise RefusedPilotError(
            f"features must be finite; at sigma {sigma:.3g} some are not. "
            "Is l finite at denoised means, which are nearly 0 at high noise?"
        )
    return f


class _Fit(NamedTuple):
    """a (), b (F,) and m (F,) at one level; squared errors on samples left out (N,), and R^2 ()."""

    intercept: Tensor
    slope: Tensor
    centre: Tensor
    error: Tensor
    r2: Tensor


def _fit(f: Tensor, y: Tensor, penalties: Sequence[float], folds: int) -> _Fit:
    """The regression of y (N,) on f (N, F) that does best on samples left out of it."""
    tried = torch.tensor(penalties, dtype=torch.float64)
    errors = torch.empty(len(y), len(tried), dtype=torch.float64)
    for part in torch.arange(len(y)).chunk(folds):
        kept = torch.ones(len(y), dtype=torch.bool)
        kept[part] = False
        a, b, m = _ridge(f[kept], y[kept], tried)
        errors[part] = (y[part, None] - a - (f[part] - m) @ b.T).square()
    best = int(errors.sum(0).argmin())
    constant = (y - y.mean()).square()
    r2 = 1 - errors[:, best].sum() / constant.sum()
    a, b, m = _ridge(f, y, tried[best : best + 1])
    if float(r2) <= 0:
        return _Fit(a, torch.zeros_like(b[0]), m, constant, r2)
    return _Fit(a, b[0], m, errors[:, best], r2)


def _ridge(f: Tensor, y: Tensor, penalties: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Intercept (), slopes (P, F) and centre (F,) of ridge regressions of y (N,) on f (N, F)."""
    centre, intercept = f.mean(0), y.mean()
    spread = f.std(0)
    dead = spread <= 1e-6 * centre.abs() + 1e-12  # rounding, no feature
    scale = torch.where(dead, torch.inf, spread)
    z = (f - centre) / scale
    values, vectors = torch.linalg.eigh(z.T @ z / len(z))
    along = vectors.T @ (z.T @ (y - intercept)) / len(z)
    return intercept, along / (values + penalties[:, None]) @ vectors.T / scale, centre


def _simplest(errors: Sequence[Tensor]) -> int:
    """The first set of squared errors (N,) that none after it beats by two standard errors."""
    chosen = 0
    for k, error in enumerate(errors):
        gain = errors[chosen] - error
        if float(gain.mean()) > 2 * float(gain.std()) / math.sqrt(len(gain)):
            chosen = k
    return chosen
