"""Which scaling stored channels have been through, and what shows it: `detect_scaling`.

Scales are harmless, since every user ends at unit power. Offsets are not: one left in gives every
user the same false component, one taken out of ordinary channels takes a true one. So an offset is
removed on evidence alone, and where another fits as well it is named.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import Tensor

from channels.convention import Convention, Domain
from channels.stored_figures import FEW, StoredFigures, measure_stored
from channels.support import CsiAuditError

__all__ = ["ScalingFound", "detect_scaling"]

Kind = Literal[
    "raw",
    "unit_power",
    "sample_norm",
    "sample_peak",
    "sample_modulus",
    "global_offset",
    "zscore",
    "retargeted",
    "sample_range",
]

_NO_OFFSET = "no offset (ordinary channels whose phases agree)"
_TOLD = 256  # real numbers below which no offset is suspected but on exact evidence
_SHARP = 0.02  # largest standard error of a centre that tells 0.5 from its surroundings


@dataclass(frozen=True, kw_only=True)
class ScalingFound:
    """What `detect_scaling` concludes.

        unit_power(convention.unscale(values)) = unit_power(channels before scaling)

    Attributes:
        kind: "raw" (gains of their own), "unit_power" (mean |h|^2 = 1 a user), "sample_norm" (equal
            norms), "sample_peak" (equal largest |re| or |im|), "sample_modulus" (equal largest
            |h|), "global_offset" (0.5 added), "zscore" (mean 0, deviation 1 over the set),
            "retargeted" (other mean, deviation or range: offset estimated), "sample_range" (each
            user's own minimum and maximum put to 0 and 1: offsets lost, none removed).
        convention: Undoes it. Layout "complex", event_shape that of the values.
        evidence: What decided, in plain sentences with the figures.
        certain: The evidence suffices; False for up to 10 users unless it is exact.
        alternatives: Scalings of another offset that the values allow too, in words; () if none.
        offset_error: Standard error of an estimated offset, in units of the values; 0 for a nominal
            one.
    """

    kind: Kind
    convention: Convention
    evidence: str
    certain: bool
    alternatives: tuple[str, ...] = ()
    offset_error: float = 0.0


@dataclass(frozen=True, kw_only=True)
class _Decision:
    """An offset, and the kind where the scale of the users says no more."""

    kind: Kind
    reason: str
    certain: bool
    offset: tuple[float, float] = (0.0, 0.0)  # of re and im
    error: float = 0.0
    alternatives: tuple[str, ...] = ()


def detect_scaling(values: Tensor, domain: Domain) -> ScalingFound:
    """Scaling that a set of channels has been through, from the stored numbers alone.

        y_n = c_n x_n + offset (1 + j)

    Phases are random from user to user, so a value that all users share is an offset:

        angular-delay      weighted mean over users of the median, since most coefficients are
                           near 0; weights 1 / (mean |y - median|)^2
        spatial-frequency  weighted mean over users of the mean; weights 1 / power of the neighbours
                           of the (0, 0) coefficient, which an offset leaves alone

    A set is judged as a whole, or by its first 2,048 users.

    Args:
        values: Complex (N, n_rx, n_tx, n_bins), as stored.
        domain: "angular-delay" or "spatial-frequency".
    Returns:
        The scaling, the Convention that undoes it, and the evidence.
    Raises:
        CsiAuditError: values are not complex with four axes, or the domain is unknown.
    """
    if not values.is_complex() or values.ndim != 4 or 0 in values.shape:
        raise CsiAuditError(
            "values must be complex (N, n_rx, n_tx, n_bins) with no empty axis; got "
            f"{values.dtype} {tuple(values.shape)}."
        )
    if domain not in get_args(Domain):
        raise CsiAuditError(f"domain must be {' or '.join(get_args(Domain))}; got {domain!r}.")
    figures = measure_stored(values, domain)
    if figures is None:
        shape = (2 * values.shape[1], values.shape[2], values.shape[3])
        plain = Convention(domain=domain, layout="complex", event_shape=shape)
        reason = "No user varies over antennas and bins: nothing tells an offset, none is removed."
        return ScalingFound(kind="raw", convention=plain, evidence=reason, certain=False)
    for rule in (_sample_range, _exact_peaks, _exact_mean, _exact_range, _nominal_centre):
        decision = rule(figures)
        if decision is not None:
            return _conclude(figures, decision)
    return _conclude(figures, _other_centre(figures))


# --- Rules: the first that speaks decides the offset ----------------------------------------------


def _sample_range(f: StoredFigures) -> _Decision | None:
    """Every user reaches from exactly 0 to exactly 1."""
    if not bool(((f.lowest.amin(1) == 0) & (f.highest.amax(1) == 1)).all()):
        return None
    return _Decision(
        kind="sample_range",
        reason=f"{_users(f)}, each reaching from exactly 0 to exactly 1: each has an offset of its "
        "own, which is lost.",
        certain=False,
        alternatives=("an offset of its own for each user (minimum to 0, maximum to 1), lost",),
    )


def _exact_peaks(f: StoredFigures) -> _Decision | None:
    """Every user's largest part, or modulus, is equally large about 0.5, or about 0."""
    reach = float(f.peaks(0.5).max())
    about_half = f.is_half() and reach < 0.51 and _equal_peaks(f, 0.5)
    about_zero = _equal_peaks(f, 0.0)
    if about_half and (not about_zero or f.fits(0.5)):
        reason = f"{_users(f)}, all reaching exactly as far from 0.5, with the centre {_centre(f)}."
        certain = not about_zero or f.n > FEW
        return _Decision(kind="global_offset", reason=reason, certain=certain, offset=(0.5, 0.5))
    if about_zero and not about_half:
        reason = f"{_users(f)}, all reaching exactly as far from 0."
        return _Decision(kind="raw", reason=reason, certain=True)
    return None


def _exact_mean(f: StoredFigures) -> _Decision | None:
    """The mean of the whole set is a round number, closer than chance: z-score or retargeting."""
    nominal = f.set_mean()
    if nominal is None:
        return None
    unit = abs(f.root / math.sqrt(2) - 1) < 1e-3 or (abs(f.root - 1) < 1e-3 and not _equal_norms(f))
    zero = nominal == 0 and f.fits(0)
    if (zero and not unit) or (nominal == 0 and not zero and not f.symmetric()):
        return None
    reason = (
        f"The mean of all numbers is {nominal:g} to {abs(float(f.mean.mean()) - nominal):.0e}, "
        f"where chance leaves {f.chance:.0e}; their deviation is {f.root / math.sqrt(2):.4g}."
    )
    kind: Kind = "zscore" if nominal == 0 and unit else "retargeted"
    certain = f.n > FEW
    if zero:
        reason += (
            " What was taken out is unknown, and small since phases are random: nothing is put "
            f"back, which leaves an offset of about {f.chance:.1g}, {_level(f, f.chance)}."
        )
        return _Decision(kind=kind, reason=reason, certain=certain, error=f.chance)
    if _error(f) >= f.chance:  # the mean of the set is the better estimate
        pair = (nominal, nominal)
        reason = f"{reason} {_estimate(f, pair, f.chance)}"
        return _Decision(kind=kind, reason=reason, certain=certain, offset=pair, error=f.chance)
    apart = bool(((f.mean.mean(0) - nominal).abs() < 0.005 * f.chance).all())  # re and im by itself
    return _estimated(f, kind=kind, reason=reason, certain=certain, pooled=not apart)


def _exact_range(f: StoredFigures) -> _Decision | None:
    """The set as a whole reaches from exactly 0 to exactly 1, with a common centre between."""
    if f.n == 1 or not f.fills_unit() or f.fits(0) or not f.balanced():
        return None
    reason = "The numbers of the set reach from exactly 0 to exactly 1."
    return _estimated(f, kind="retargeted", reason=reason, certain=f.n > FEW, pooled=True)


def _nominal_centre(f: StoredFigures) -> _Decision | None:
    """The users' common centre is 0, or 0.5 and not 0."""
    reason = f"The centre of {_users(f)} is {_centre(f)}"
    if f.fits(0):
        return _Decision(kind="raw", reason=f"{reason}: no offset.", certain=f.n > FEW)
    if not f.fits(0.5):
        return None
    within, error = f.within_unit(), _error(f)
    sharp = error <= _SHARP
    if not f.sparse:  # line of sight at broadside, always of one phase, looks the same
        fair = (f.n > 2 and error <= _SHARP) if within else (f.n > FEW and error <= _SHARP / 4)
        sharp = fair and f.symmetric()
    if sharp:
        reason += ": 0.5 and not 0."
        certain = f.n > FEW and (within or f.sparse)
        return _Decision(kind="global_offset", reason=reason, certain=certain, offset=(0.5, 0.5))
    likely = error <= 2 * _SHARP and f.planes.numel() >= _TOLD and (within or f.n > 2)
    return _Decision(
        kind="raw",
        reason=f"{reason}, where an offset of 0.5 and channels of one phase look alike: none is "
        "removed.",
        certain=False,
        alternatives=("an offset of 0.5",) if likely else (),
    )


def _other_centre(f: StoredFigures) -> _Decision:
    """The users' common centre is neither 0 nor 0.5: ordinary channels, or an unknown offset."""
    size = float(f.centre.norm())
    deviation = float(f.deviation.median())
    reason = f"The centre of {_users(f)} is {_centre(f)}"
    near = (f.user_centre - f.centre).norm(dim=1) < 0.3 * size
    shared = float(near.double().mean()) >= 0.9
    shared = shared and _error(f) < 0.05 * size and f.planes.numel() >= _TOLD
    large = size > max(0.05, max(0.1, 4 / math.sqrt(f.size)) * deviation)
    large = large and bool((f.highest > f.lowest).any(0).all())  # real numbers are no channels
    regular = f.balanced() and f.symmetric()
    if not (shared and large) or (not f.sparse and (not regular or f.n < 3)):
        reason += ", which channels may have whose phases are not random: no offset is removed."
        return _Decision(kind="raw", reason=reason, certain=f.n > FEW and not (shared and large))
    if f.sparse and regular:
        reason += ", shared by the users, where most coefficients of a channel are near 0."
        return _estimated(f, kind="retargeted", reason=reason, certain=f.n > FEW, pooled=True)
    if f.sparse and float((f.centre - 0.5).abs().max()) < 0.05 * deviation:
        reason += ": 0.5 but for phases that are not random."
        return _Decision(kind="global_offset", reason=reason, certain=False, offset=(0.5, 0.5))
    re, im = f.centre.tolist()
    other = (f"an offset of about {re:.4g} in re and {im:.4g} in im",)
    return _Decision(kind="raw", reason=reason + ".", certain=False, alternatives=other)


def _estimated(
    f: StoredFigures, *, kind: Kind, reason: str, certain: bool, pooled: bool
) -> _Decision:
    pair = _pair(f, pooled=pooled)
    error = _error(f)
    return _Decision(
        kind=kind,
        reason=f"{reason} {_estimate(f, pair, error)}",
        certain=certain,
        offset=pair,
        error=error,
    )


def _pair(f: StoredFigures, *, pooled: bool) -> tuple[float, float]:
    re, im = f.centre.tolist()
    return (0.5 * (re + im),) * 2 if pooled else (re, im)


def _error(f: StoredFigures) -> float:
    return float(f.error.max())


# --- Conclusion -----------------------------------------------------------------------------------


def _conclude(f: StoredFigures, decision: _Decision) -> ScalingFound:
    """The scale of the users about the offset, and all of it as a Convention."""
    kind, scaled, sentence = decision.kind, dict[str, Any](), ""
    re, im = decision.offset
    if kind in ("raw", "global_offset"):
        kind, scaled, sentence = _scale(f, kind, re)
    if not scaled and (re != im or kind == "zscore"):
        mean = (-re, -im) * f.n_rx if re or im else (0.0,)
        scaled = {"scaling": "zscore", "mean": mean, "std": (1.0,)}
    elif not scaled and (kind != "raw" or re):
        scaled = {"scaling": "global", "scale": 1.0}
    if scaled.get("scaling") not in (None, "zscore"):
        scaled["offset"] = re
    shape = f.event_shape
    return ScalingFound(
        kind=kind,
        convention=Convention(domain=f.domain, layout="complex", event_shape=shape, **scaled),
        evidence=" ".join(filter(None, (decision.reason, sentence, _lost_users(f, re)))),
        certain=decision.certain,
        alternatives=decision.alternatives,
        offset_error=decision.error,
    )


def _scale(f: StoredFigures, kind: Kind, offset: float) -> tuple[Kind, dict[str, Any], str]:
    """What all users share about the offset: kind, fields of a Convention, and a sentence."""
    norms = f.norms(offset)
    shared = float(norms.median())
    if _equal_norms(f, offset):
        power = shared**2 / f.size
        sentence = f"Every user has mean power {power:.4g} and norm {shared:.4g}."
        scaled = {"scaling": "sample_norm", "scale": shared}
        unit = abs(power - 1) < 0.01 and not offset
        return "unit_power" if unit else "sample_norm", scaled, sentence
    if _equal(f, f.peaks(offset), offset):
        shared = float(f.peaks(offset).median())
        sentence = f"The largest |re| or |im| of every user is {shared:.4g}."
        return "sample_peak", {"scaling": "sample_peak", "scale": shared}, sentence
    if _equal(f, f.moduli(offset), offset):
        shared = float(f.moduli(offset).median())
        sentence = f"The largest modulus of every user is {shared:.4g}."
        return "sample_modulus", {"scaling": "sample_modulus", "scale": shared}, sentence
    if f.n == 1:
        return kind, {}, ""
    spread = 20 * math.log10(float(norms.max() / norms.min()))
    return kind, {}, f"The users' powers lie within {spread:.1f} dB."


def _equal_norms(f: StoredFigures, offset: float = 0.0) -> bool:
    norms = f.norms(offset)
    shared = float(norms.median())
    noise = f.rounding * offset / shared  # of the storage, at the offset
    slack = 1e-5 + 2 * f.rounding + 6 * noise + noise**2 * f.size
    if f.n > 1:
        return float(norms.max() - norms.min()) <= slack * shared
    return any(abs(shared / unit - 1) <= slack for unit in (1.0, math.sqrt(f.size)))


def _equal_peaks(f: StoredFigures, offset: float) -> bool:
    return _equal(f, f.peaks(offset), offset) or _equal(f, f.moduli(offset), offset)


def _equal(f: StoredFigures, figures: Tensor, offset: float) -> bool:
    """The users' figures (n,) agree to rounding; one user's must fill [0, 1] or [-1, 1]."""
    largest = float(figures.max())
    slack = 4 * f.rounding * (offset + largest) + 1e-6 * largest
    if f.n > 1:
        return largest - float(figures.min()) <= slack
    return abs(largest - (0.5 if offset else 1.0)) <= slack


# --- Words ----------------------------------------------------------------------------------------


def _users(f: StoredFigures) -> str:
    return f"{f.n} user{'s' * (f.n > 1)}"


def _centre(f: StoredFigures) -> str:
    re, im = f.centre.tolist()
    return f"{re:.4g} {'+' if im >= 0 else '-'} {abs(im):.4g}j (standard error {_error(f):.1g})"


def _estimate(f: StoredFigures, pair: tuple[float, float], error: float) -> str:
    shown = f"{pair[0]:.6g}" if pair[0] == pair[1] else f"{pair[0]:.6g} and {pair[1]:.6g}j"
    return f"Offset estimated as {shown}, standard error {error:.1g}: {_level(f, error)}."


def _level(f: StoredFigures, error: float) -> str:
    """An error of the offset as a share of a user's power."""
    share = 2 * (error / float(f.deviation.median())) ** 2
    return f"{10 * math.log10(max(share, 1e-20)):.0f} dB of a usual user's power"


def _lost_users(f: StoredFigures, offset: float) -> str:
    """Users so weak beside the offset that storage has rounded their channels away."""
    n = int((f.deviation < 8 * f.rounding * offset).sum())
    return f"Users that vary by a few rounding steps only, their channels lost: {n}." if n else ""
