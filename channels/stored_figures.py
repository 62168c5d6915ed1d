"""Figures of stored channels that tell an offset from a channel: `StoredFigures`.

What to conclude from them is in `scale_detection`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from channels.convention import Domain

__all__ = ["StoredFigures", "measure_stored"]

_MAX_USERS = 2048
_MAX_VALUES = 2**22  # complex numbers looked at, beyond 64 users: bounds time and memory
_FIT = 6.0  # standard errors within which a centre counts as nominal
_ENOUGH = 1000  # real numbers whose mean can be told from chance
FEW = 10  # users up to which nothing but exact evidence is certain


@dataclass(frozen=True)
class StoredFigures:
    """Of the n users that vary at all; re and im side by side in axes of 2.

    Attributes:
        planes: (n, 2, m), m coefficients a user.
        lowest, highest, mean: (n, 2).
        user_centre: Mean or median, symmetric about the offset where phases are random, (n, 2).
        deviation: Root mean |y - mean|^2, (n,).
        centre, error: Offset that all users share and its standard error, (2,).
        chance: How far the mean of the whole set lies from the offset by chance.
        sparse: Most coefficients of a channel are near 0: nothing but an offset moves them.
        rounding: Half a step of the storage, relative.
    """

    domain: Domain
    event_shape: tuple[int, int, int]
    planes: Tensor
    lowest: Tensor
    highest: Tensor
    mean: Tensor
    user_centre: Tensor
    deviation: Tensor
    centre: Tensor
    error: Tensor
    chance: float
    sparse: bool
    rounding: float

    @property
    def n(self) -> int:
        return len(self.planes)

    @property
    def n_rx(self) -> int:
        return self.event_shape[0] // 2

    @property
    def size(self) -> int:
        return self.planes.shape[2]

    def fits(self, offset: float) -> bool:
        """The common centre may be `offset`, in re and in im."""
        return bool(((self.centre - offset).abs() <= _FIT * self.error).all())

    def peaks(self, offset: float) -> Tensor:
        """Largest |re - offset| or |im - offset| of each user, (n,)."""
        return torch.maximum(self.highest - offset, offset - self.lowest).amax(1)

    def moduli(self, offset: float) -> Tensor:
        """Largest |y - offset (1 + j)| of each user, (n,)."""
        apart = self.planes - offset
        return torch.hypot(apart[:, 0], apart[:, 1]).amax(1).double()

    def norms(self, offset: float) -> Tensor:
        """||y - offset (1 + j)|| of each user, (n,)."""
        return ((self.deviation.square() + (self.mean - offset).square().sum(1)) * self.size).sqrt()

    def fills_unit(self) -> bool:
        """The smallest number of the set is exactly 0 and the largest exactly 1."""
        return bool(self.lowest.min() == 0) and bool(self.highest.max() == 1)

    @property
    def root(self) -> float:
        """Deviation of all complex numbers of the set about their mean."""
        apart = (self.mean - self.mean.mean(0)).square().sum(1)
        return float((self.deviation.square() + apart).mean().sqrt())

    def set_mean(self) -> float | None:
        """The round number that the mean of the set meets too closely for chance; None: no such."""
        if self.planes.numel() < _ENOUGH:
            return None
        mean = float(self.mean.mean())
        nominal = round(mean, 2) + 0.0  # no -0.0
        averaged = 3 * self.rounding / math.sqrt(self.planes.numel())
        # Rounding averages out, but not where most numbers round to the offset itself.
        at_offset = 0.3 * self.rounding if self.domain == "angular-delay" else averaged
        slack = (at_offset + 3e-8) * abs(nominal) + (averaged + 1e-7) * self.root
        chance = self.chance if nominal in (0, 0.5) else min(self.chance, 5e-4)
        off = (self.centre - nominal).abs() <= _FIT * torch.hypot(
            self.error, torch.full_like(self.error, self.chance)
        )
        agreed = bool(off.all()) and (nominal == 0 or not self.fits(0))
        met = abs(mean - nominal) <= slack < 0.005 * chance
        return nominal if met and agreed else None

    def within_unit(self) -> bool:
        """At least 99 of 100 users keep within [0, 1], which is what an offset of 0.5 is for."""
        within = (self.lowest >= 0).all(1) & (self.highest <= 1).all(1)
        return float(within.double().mean()) >= 0.99

    def is_half(self) -> bool:
        """The common centre is about 0.5 in re and in im, and not 0."""
        return bool(((self.centre - 0.5).abs() < 0.1).all()) and not self.fits(0)

    def balanced(self) -> bool:
        """Re and im have the same centre."""
        slack = max(_FIT * float(self.error.norm()), 0.05 * float(self.centre.norm()))
        return bool((self.centre[0] - self.centre[1]).abs() <= slack)

    def symmetric(self) -> bool:
        """Powers above and below the centre balance over the users, as random phases make them."""
        # Float steps are finer below 0.5 than above, which tilts users of a few steps.
        clear = self.deviation > 16 * self.rounding * self.centre.norm()
        if int(clear.sum()) <= FEW:
            return True
        unit = self.deviation[clear].to(self.planes.dtype)[:, None, None]
        apart = (self.planes[clear] - self.centre.to(self.planes.dtype)[:, None]) / unit
        tilt = (apart * apart.abs()).sum(2) / apart.square().sum(2).clamp_min(1e-30)  # (n, 2)
        bound = 5 * tilt.std(0) / math.sqrt(len(tilt)) + 0.02
        return bool((tilt.mean(0).abs() <= bound).all())


def measure_stored(values: Tensor, domain: Domain) -> StoredFigures | None:
    """Figures of the users that are finite and vary; None if there is none."""
    n_rx, n_tx, n_bins = values.shape[1:]
    size = n_rx * n_tx * n_bins
    users = values[: min(_MAX_USERS, max(64, _MAX_VALUES // size))].detach()
    real = torch.view_as_real(users.resolve_conj()).flatten(1, 3).movedim(-1, 1)  # (n, 2, m)
    planes = (real if real.dtype == torch.float64 else real.float()).contiguous()
    lowest, highest = planes.amin(2), planes.amax(2)
    mean = planes.mean(2, dtype=torch.float64)
    power = (planes - mean[..., None].to(planes.dtype)).double().square().sum((1, 2)) / size
    varies = (highest > lowest).any(1) & torch.isfinite(power) & (power > 0)
    if not varies.any():
        return None
    if not varies.all():
        users, planes, mean, power = users[varies], planes[varies], mean[varies], power[varies]
        lowest, highest = lowest[varies], highest[varies]
    sparse = False
    if domain == "angular-delay":
        user_centre, apart = _medians(planes)
        variance = apart.square() / size
        # The mean absolute part is 0.8 deviations of Gaussian numbers, and about 0.3 of channels.
        sparse = size >= 64 and float((apart / power.sqrt()).median()) < 0.6 / math.sqrt(2)
    else:
        user_centre, variance = mean, _neighbour_power(users, power)
    rounding = _rounding(planes)
    centre, error = _weighted(user_centre, variance)
    spread = torch.maximum((mean - centre).square().sum(1), power / size)
    return StoredFigures(
        domain=domain,
        event_shape=(2 * n_rx, n_tx, n_bins),
        planes=planes,
        lowest=lowest.double(),
        highest=highest.double(),
        mean=mean,
        user_centre=user_centre,
        deviation=power.sqrt(),
        centre=centre,
        error=torch.hypot(error, rounding * centre.abs()),
        chance=float((spread.sum() / 4).sqrt()) / len(planes),
        sparse=sparse,
        rounding=rounding,
    )


def _medians(planes: Tensor) -> tuple[Tensor, Tensor]:
    """Median of each user, (n, 2), and the mean absolute distance from it, (n,)."""
    m = planes.shape[2]
    odd = planes[..., : m - 1 + m % 2]  # an even number has no middle, and torch takes the lower
    centre = odd.median(2).values
    apart = (planes - centre[..., None]).abs().mean((1, 2), dtype=torch.float64)
    return centre.double(), apart


def _neighbour_power(users: Tensor, power: Tensor) -> Tensor:
    """Power of the coefficients around (0, 0) of each user's two-dimensional DFT, (n,).

    Scaled as the squared mean is; of one antenna and one bin, the user's power.
    """
    plane = users.to(torch.promote_types(users.dtype, torch.complex64)).mean(1)  # (n, n_tx, n_bins)
    n_tx, n_bins = plane.shape[1:]
    near = _fourier(n_tx, plane) @ plane @ _fourier(n_bins, plane).T  # (n, <= 3, <= 3)
    energy = near.abs().double().square().flatten(1)[:, 1:]
    return energy.mean(1) if energy.shape[1] else power


def _fourier(n: int, like: Tensor) -> Tensor:
    """Rows 0, 1, -1 of the DFT over n points, divided by n; without repetition for small n."""
    row = torch.tensor(sorted({k % n for k in (0, 1, -1)}), device=like.device)
    angle = -2 * math.pi / n * torch.outer(row, torch.arange(n, device=like.device)).double()
    return torch.polar(torch.full_like(angle, 1 / n), angle).to(like.dtype)


def _weighted(user_centre: Tensor, variance: Tensor) -> tuple[Tensor, Tensor]:
    """Mean weighted by 1 / variance, and its standard error from the residuals; (2,) each."""
    n = len(variance)
    bounded = variance + 0.01 * variance.median()  # no user counts for more than 100 usual ones
    weight = bounded.max() / bounded if bool((bounded > 0).all()) else torch.ones_like(bounded)
    weight = weight / weight.sum()
    centre = (weight[:, None] * user_centre).sum(0)
    square = (weight[:, None] * (user_centre - centre)).square().sum(0) * n / max(n - 1, 1)
    if n <= 2 * FEW:  # too few residuals: not below what the users themselves lead to expect
        square = square.clamp_min(float((weight.square() * variance).sum() / 2))
    return centre, square.sqrt()


def _rounding(planes: Tensor) -> float:
    """Half a step of the narrowest float that holds the numbers exactly, relative."""
    some = planes[:64]
    for dtype, half_step in ((torch.bfloat16, 2.0**-8), (torch.float16, 2.0**-11)):
        if torch.equal(some.to(dtype).to(some.dtype), some):
            return half_step
    return 2.0**-24
