"""What can be wrong with channels: bad users, the same user twice, clipped values, wrong axes,
wrapped delays.

Every limit lies well above what clean sets show, whatever their scaling and storage. Where two
causes look alike, the warning names both. Several scenarios in one file: `mixture_checks`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from channels.channel_set import Grid
from channels.convention import Domain
from channels.feature_formulas import effective_paths, hann_window
from channels.randomness import seeded_generator

__all__ = [
    "MIN_VALUES",
    "DelayTails",
    "Saturation",
    "Sparsity",
    "bad_user_warning",
    "channel_keys",
    "delay_warning",
    "power_of",
    "share_in_words",
    "swapped_warning",
]

MIN_VALUES = 32  # coefficients a user below which different channels may share a key
_CELLS = 32  # of a key, per unit of the projection
_NEAR = 0.01  # of the range below the extreme, where unclipped values would lie as well
_COARSE = 0.6  # of the range: the largest step of a code of four levels
_CLIPPED = 2.0  # times as many values at an extreme as close to it; a rounded sine has 1.4
_ALIKE = 0.45  # of a user's values at one extreme: a constant, not a clipped channel
_MIN_TAPS = 16  # subcarriers below which window leakage reaches everywhere
_MOST_LATE = 0.02  # of all energy in the last quarter of the taps; UMi over 3.2 us has 0.001
_LATE_USER, _LATE_USERS = 0.1, 0.02  # share of a user's energy, and of users with that much
_ONE_IN = 16  # users whose sparsity is measured: transforms take time
_SPARSER = 0.5  # of the coefficients in the declared domain; sets of UMi have 4 to 40 times as many
_EARLY, _LATE, _ONE_SIDED = 0.6, 0.5, 0.1  # shares of a profile that make it one of delays
_FEWEST = 10  # users whose mean profile means something


def power_of(z: Tensor) -> Tensor:
    """|z|^2, several times as fast as by way of abs or of a sum over the last axis."""
    return z.real.square() + z.imag.square()


def share_in_words(share: float) -> str:
    """A share as "31 %", "3.1 %", "0.02 %" or "below 0.001 %"."""
    percent = 100 * share
    if percent >= 9.95:
        return f"{percent:.0f} %"
    return f"{percent:.2g} %" if percent >= 1e-3 or percent == 0 else "below 0.001 %"


# --- Users that are no channels -------------------------------------------------------------------


def bad_user_warning(non_finite: Tensor, zero: Tensor) -> str | None:
    """Sentence on users that hold NaN, Inf or nothing, bool (N,) each; None if there are none."""
    kinds = ((non_finite, "NaN or Inf"), (zero, "zeros alone"))
    found = [
        f"{int(bad.sum()):,} {'holds' if bad.sum() == 1 else 'hold'} {what} "
        f"(first: user {int(bad.nonzero()[0])})"
        for bad, what in kinds
        if bad.any()
    ]
    if not found:
        return None
    return (
        f"Of {len(zero):,} users, {' and '.join(found)}. They are left out here; every other "
        "command refuses the file until they are taken out."
    )


# --- The same user twice --------------------------------------------------------------------------


def channel_keys(h: Tensor) -> Tensor:
    """A number for each channel that equal channels share and others do not.

        p_j = v_j^H h / sqrt(n),   v_j ~ CN(0, I) fixed, j = 1..8,   r the largest of p_5..p_8
        key: Re, Im of p_j conj(r) / |r|, j = 1..4, 1/32 a step

    Up to scale, since h has unit power, and up to phase, which r takes out; the largest of four is
    never so small that rounding turns it. Different channels share a key by chance in about one of
    10^16 pairs; one that was rounded to float16 misses its own key in a few per cent of the cases.

    Args:
        h: complex64 (N, ...) of n >= `MIN_VALUES` coefficients a user, unit mean power.
    Returns:
        int64 (N,).
    """
    n = h[0].numel()
    v = torch.randn(n, 8, dtype=torch.complex64, generator=seeded_generator(0, "channel keys", n))
    p, r = (h.flatten(1) @ v.conj() / n**0.5).split(4, 1)  # (N, 4) each
    r = r.gather(1, power_of(r).argmax(1, keepdim=True))
    turned = p * r.conj() / power_of(r).sqrt().clamp_min(torch.finfo(torch.float32).tiny)
    cell = ((torch.view_as_real(turned).flatten(1) * _CELLS).floor().clamp(-128, 127) + 128).to(
        torch.uint8
    )
    return cell.contiguous().view(torch.int64).squeeze(1)


# --- Clipped values -------------------------------------------------------------------------------


@dataclass
class _Extreme:
    """Values at one end of the range so far; sign -1 looks at the lower end.

        excess = sum_users max(values at the extreme - 1, 0)

    A scaling per user puts one value of each user there, a clipped set many.
    """

    sign: float
    top: float = -np.inf
    second: float = -np.inf
    excess: int = 0
    users: int = 0
    near: int = 0

    def add(self, values: np.ndarray, span: float) -> None:
        v = self.sign * values  # (n users, m)
        top = float(v.max())
        if top > self.top:
            self.second, self.top = max(self.second, self.top), top
            self.excess = self.users = self.near = 0
        at = v == self.top
        self.second = max(self.second, float(np.where(at, -np.inf, v).max()))
        count = at.sum(1)
        count[count > _ALIKE * v.shape[1]] = 0
        self.excess += int(np.maximum(count - 1, 0).sum())
        self.users += int((count > 1).sum())
        step = self.top - self.second if np.isfinite(self.second) else 0.0
        reach = max(_NEAR * span, min(1.5 * step, _COARSE * span))  # the next code of integers
        close = v >= self.top - reach
        self.near += int((close & ~at).sum())

    @property
    def clipped(self) -> bool:
        return self.excess >= 10 and self.excess >= _CLIPPED * self.near


class Saturation:
    """Clipped values among the stored ones, block by block.

    An unclipped law thins out towards its extreme, so of the values close to it few are exactly
    there; coarse integers are judged against the next code.
    """

    def __init__(self) -> None:
        self._ends = (_Extreme(1.0), _Extreme(-1.0))
        self._values = self._users = 0
        self._imaginary = False

    def add(self, stored: np.ndarray) -> None:
        """Complex (n, ...) as stored, all finite."""
        if len(stored) == 0:
            return
        self._imaginary = self._imaginary or bool(stored.imag.any())
        flat = np.ascontiguousarray(stored).reshape(len(stored), -1)
        values = flat.view(flat.real.dtype)
        self._values += values.size
        self._users += len(values)
        low, high = float(values.min()), float(values.max())
        tops = [max(end.top, bound) for end, bound in zip(self._ends, (high, -low), strict=True)]
        for end in self._ends:
            end.add(values, tops[0] + tops[1])

    def warnings(self, *, shifted: bool) -> list[str]:
        """Sentences; `shifted` says that something was added, so that 0 may be a bound."""
        if self._users and not self._imaginary:
            return [
                "Every imaginary part is 0: these are magnitudes, whose phases are lost, or one "
                "plane of two. Store complex channels."
            ]
        high, low = self._ends
        ends = [end for end in self._ends if end.clipped and (end.top != 0 or shifted)]
        if not ends or high.second <= -low.top:  # two values in all: one-bit storage
            return []
        levels = " or ".join(f"{end.sign * end.top:.4g}" for end in ends)
        share = sum(end.excess for end in ends) / self._values
        users = max(end.users for end in ends) / self._users
        return [
            f"{share_in_words(share)} of the stored values, in {share_in_words(users)} of the "
            f"users, are exactly {levels}, with next to none close by: clipped? Lower the gain, or "
            "scale by the peak of each user."
        ]


# --- Another domain, swapped axes -----------------------------------------------------------------

_AXES = {"tx": "antennas", "beam": "beams", "sub": "subcarriers", "delay": "delay taps"}
_OTHER = {"tx": "beam", "beam": "tx", "sub": "delay", "delay": "sub"}
_FORMS = (("tx", "sub"), ("beam", "sub"), ("tx", "delay"), ("beam", "delay"))


class Sparsity:
    """In which of four forms channels are the sparsest: over antennas or beams, subcarriers or
    delay taps.

        S = exp mean_users ln (sum p)^2 / sum p^2,   p = |x|^2 in that form

    A few paths are a few beams and taps, so channels taken for what they are have the smallest S in
    (beam, delay); another DFT spreads those that were there already. White noise has the same S in
    every form. What the axes are is told for those whose two axes stand in one domain.
    """

    def __init__(self) -> None:
        self._logs = torch.zeros(4, dtype=torch.float64)
        self._users = self._n_rx = self._size = 0

    def add(self, h: Tensor, x: Tensor) -> None:
        """Users of a block, some of which are looked at: spatial-frequency h and angular-delay x,
        complex (n, n_rx, n_tx, n_sub)."""
        h, x = h[::_ONE_IN], x[::_ONE_IN]
        beams, taps = torch.fft.fft(x, norm="ortho"), torch.fft.ifft(h, norm="ortho")
        self._logs += torch.stack([effective_paths(z).log().sum() for z in (h, beams, taps, x)])
        self._users += len(h)
        self._n_rx, self._size = h.shape[1], h[0].numel()

    def warning(self, domain: Domain) -> str | None:
        """Sentence on channels that look like another domain than `domain`, the declared one."""
        if not self._users:
            return None
        mean = (self._logs / self._users).exp()
        least = int(mean.argmin())
        if float(mean[least]) >= _SPARSER * float(mean[3]):
            return None
        spatial = domain == "spatial-frequency"
        meant = _FORMS[least]
        tx, sub = (_OTHER[axis] for axis in meant) if spatial else meant
        held = _FORMS[0 if spatial else 3]
        rx = "rx," if self._n_rx > 1 else ""
        return (
            f"These look like {_named(tx, sub)}{' already' if spatial else ''}, not "
            f"{_named(*held)}: read so, a usual user fills some {_about(mean[least])} of "
            f"{self._size:,} beams and delay taps, otherwise {_about(mean[3])} (participation "
            f"ratio). Name the axes in the file's order: --axes user,{rx}{tx},{sub} or alike."
        )


def _named(tx: str, sub: str) -> str:
    return f"{_AXES[tx]} x {_AXES[sub]}"


def _about(count: Tensor) -> str:
    """Two digits: "3.1", "14" or "1,200"."""
    return f"{float(f'{float(count):.2g}'):,g}"


def swapped_warning(power: Tensor, users: int) -> str | None:
    """Sentence on antennas that look like subcarriers and the other way round.

        B[b] = sum_d p[b, d],   D[d] = sum_b p[b, d],   both of sum 1

    Subcarriers transformed as antennas put early delays on the beams about 0 on one side, the first
    the strongest, and directions all round the delays. Cannot be told: fewer than 16 bins on the
    supposed antenna axis or 4 on the other, panels, users in one narrow direction, and absolute
    delays, whose first tap is empty.

    Args:
        power: Mean of |x|^2 over the users of a single row, (n_tx, n_sub), FFT order.
        users: How many these are.
    """
    if users < _FEWEST or power.shape[0] < _MIN_TAPS or power.shape[1] < 4:
        return None
    beams, taps = (power.sum(axis) / power.sum() for axis in (1, 0))
    early, mirrored = _first_quarter(beams)
    far = 1 - max(_first_quarter(taps))
    one_sided = max(early, mirrored) >= _EARLY and abs(early - mirrored) >= _ONE_SIDED
    if not one_sided or int(beams.argmax()) != 0 or far < _LATE:
        return None
    return (
        f"The beams look like delays ({share_in_words(max(early, mirrored))} of the energy on one "
        f"side of beam 0, within a quarter of them) and the delays like beams "
        f"({share_in_words(far)} of it beyond the first quarter): are antennas and subcarriers "
        "swapped? Name the axes in the file's order, for example --axes user,sub,tx."
    )


def _first_quarter(profile: Tensor) -> tuple[float, float]:
    """Shares of the first quarter of the bins, and of its mirror image about bin 0."""
    n = len(profile) // 4
    return float(profile[:n].sum()), float(profile.flip(0).roll(1)[:n].sum())


# --- Delays beyond the window ---------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class DelayTails:
    """Where energy lies along the delay axis, window leakage taken out, share of each user's.

    Attributes:
        late: In the last quarter of the taps, (N,).
        front, back: In the first and second half without the taps that delays near 0 reach, (N,).
    """

    late: Tensor
    front: Tensor
    back: Tensor

    @classmethod
    def of(cls, x: Tensor) -> DelayTails | None:
        """Of angular-delay x (N, n_rx, n_tx, n); None below 16 taps.

            p[d] = sum_{rx,b} |g[b, d]|^2 / sum,   g = `hann_window` of x

        A delay near 0 reaches taps n-2 and n-1 and no others: p[n-3] is below 1e-4.
        """
        n = x.shape[-1]
        if n < _MIN_TAPS:
            return None
        p = power_of(hann_window(x)).flatten(1, 2).sum(1)  # (N, n)
        p = p / p.sum(1, keepdim=True)
        late, front = p[:, n - n // 4 : n - 2], p[:, 2 : n // 2]
        back = p[:, n // 2 + 1 : n - 1]  # mirror image of the front
        return cls(late=late.sum(1), front=front.sum(1), back=back.sum(1))


def delay_warning(tails: DelayTails, grid: Grid) -> str | None:
    """Sentence on delays that run backwards or reach the end of the window; None if they do not."""
    late, front, back = (float(t.double().mean()) for t in (tails.late, tails.front, tails.back))
    if back > 0.01 and back > 2 * front:
        return (
            f"{share_in_words(back)} of the energy lies in the second half of the delay window, "
            f"{share_in_words(front)} in the first: do delays run backwards (conjugated channels, "
            "subcarriers in falling order), or were absolute delays left in?"
        )
    users = float((tails.late > _LATE_USER).double().mean())
    if late <= _MOST_LATE and users <= _LATE_USERS:
        return None
    window = "" if grid.tap_s is None else f" ({grid.n_sub * grid.tap_s * 1e6:.3g} us)"
    return (
        f"{share_in_words(late)} of the energy arrives in the last quarter of the delay window"
        f"{window}, and {share_in_words(users)} of the users have a tenth of theirs there. Delays "
        "beyond the window? What arrives later has wrapped round to early delays, where nothing "
        "tells it apart: sample at a finer subcarrier spacing. Are antennas and subcarriers "
        "swapped, or the channels in another domain? Name the axes (--axes). Noise looks alike."
    )
