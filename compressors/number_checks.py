"""Checks on numbers: whether a compressor gets and returns those it was made for.

Ranges, clipping, crop, power, and what is lost. Functions of a `Trial` that return a `Finding`, as
in `compressors.preflight_checks`, which has the order of all checks.
"""

import torch
from torch import Tensor

from channels.convention import Convention
from compressors.metrics import nmse, nmse_db
from compressors.trial import Trial
from compressors.verdicts import Finding

_ENOUGH = 20  # channels below which a share of them says nothing
_FEW = 5  # a linear code has a few answers at the ends of its range, at the largest peaks
_END = 1e-3  # of a range: how near its end counts as at the end


def declared_range(convention: Convention) -> tuple[float, float] | None:
    """Smallest and largest number that a compressor's convention means to give it; None if none.

    Peak scalings have [offset - scale, offset + scale]; a global one with an offset is meant to
    fill [0, 2 offset].
    """
    if convention.scaling in ("sample_peak", "sample_modulus"):
        half = convention.scale or 1.0
    elif convention.scaling == "global" and convention.offset > 0:
        half = convention.offset
    else:
        return None
    return convention.offset - half, convention.offset + half


def find_input_range(trial: Trial) -> Finding:
    """The channels lie in the range that the convention means."""
    bounds = declared_range(trial.convention)
    if bounds is None:
        return Finding("not applicable", "its convention bounds nothing")
    low, high = bounds
    y, slack = _real(trial.first.y), 1e-5 * (high - low)
    outside = (y < low - slack) | (y > high + slack)
    energy = (y - (low + high) / 2).square()
    share = 100 * float((energy * outside).sum() / energy.sum().clamp_min(1e-30))
    words = f"{share:.3g} % of the energy lies outside [{low:g}, {high:g}]"
    if share > 50:
        return Finding(
            "fail",
            f"compressor {trial.name} is given numbers that its convention does not mean: {words}. "
            "Set its scale by Convention.unit_interval on its training channels.",
            share,
            "%",
        )
    return Finding("warn" if share > 1 else "pass", words, share, "%")


def find_output_range(trial: Trial) -> Finding:
    """The answers can take the signs that the channels take.

    A net that ends in a sigmoid returns [0, 1]; of raw channels half the numbers are negative.
    Weak answers alone are no fault: they fall short on both sides alike.
    """
    y, y_hat = _real(trial.first.y), _real(trial.first.y_hat)
    low, high = float(y_hat.min()), float(y_hat.max())
    below, above = float((y < low).float().mean()), float((y > high).float().mean())
    share = 100 * max(below, above)
    if abs(below - above) > 0.25:
        return Finding(
            "fail",
            f"compressor {trial.name} answers between {low:.3g} and {high:.3g}, but {share:.0f} % "
            f"of its input lies {'below' if below > above else 'above'}. "
            + _range_hint(trial.convention.offset),
            share,
            "%",
        )
    return Finding("pass", f"answers between {low:.3g} and {high:.3g}", share, "%")


def _range_hint(offset: float) -> str:
    """What may be wrong with a range of answers, by whether the convention moves zero already."""
    if offset == 0:
        return (
            "Does it expect [0, 1]? Set scaling 'sample_peak', scale 0.5, offset 0.5, or "
            "Convention.unit_interval."
        )
    return (
        f"Its convention has offset {offset:g} already: are these its trained weights, and does "
        "decode answer about that offset? If it answers about zero, set offset 0."
    )


def find_parts(trial: Trial) -> Finding:
    """Both real and imaginary parts come back."""
    x, x_hat = trial.x, trial.first.x_hat
    kept = [
        float(x_hat[:, i::2].square().sum() / x[:, i::2].square().sum().clamp_min(1e-30))
        for i in (0, 1)
    ]
    weaker = min(kept) / max(*kept, 1e-30)
    if weaker < 1e-3 < max(kept):
        part = "imaginary" if kept[1] < kept[0] else "real"
        return Finding(
            "fail",
            f"compressor {trial.name} returns no {part} part. Does it take complex numbers for "
            "real ones? Check layout: 'planes' stacks real and imaginary parts.",
            weaker,
        )
    return Finding("pass", "real and imaginary parts come back", weaker)


def find_crop(trial: Trial) -> Finding:
    """The crop of the delay axis keeps the channels' energy."""
    if trial.convention.crop_delay is None:
        return Finding("not applicable", "no delay tap is cropped")
    lost = 100 * float(trial.convention.energy_lost(trial.x).mean())
    words = f"{lost:.3g} % of the energy lies beyond crop_delay = {trial.convention.crop_delay}"
    if lost > 50:
        return Finding(
            "fail",
            f"compressor {trial.name} never sees most of a channel: {words}. Is the first path at "
            "tap 0, and the grid that of its training?",
            lost,
            "%",
        )
    return Finding("warn" if lost > 1 else "pass", words, lost, "%")


def find_code_saturation(trial: Trial) -> Finding:
    """Code numbers are not stuck at the ends of their range."""
    if trial.bits is not None:
        return Finding("not applicable", "a quantised code may lie at its ends")
    z = _real(trial.first.z)
    low, high = z.min(), z.max()
    slack = _END * (high - low)
    share = 100 * float(((z <= low + slack) | (z >= high - slack)).float().mean())
    words = f"{share:.3g} % of the code numbers lie at {float(low):.3g} or {float(high):.3g}"
    return Finding("warn" if share > 5 else "pass", words, share, "%")


def find_output_saturation(trial: Trial) -> Finding:
    """Answers are not clipped where the channels go on.

    Clipped is a number within 1 % of an end of all answers, where the channel lies beyond it.
    """
    if len(trial.x) < _ENOUGH:
        return Finding("not applicable", f"takes {_ENOUGH} channels")
    y, y_hat = _real(trial.first.y).flatten(1), _real(trial.first.y_hat).flatten(1)
    low, high = y_hat.min(), y_hat.max()
    slack = 1e-2 * (high - low)
    top = (y_hat >= high - slack) & (y > high + slack)
    bottom = (y_hat <= low + slack) & (y < low - slack)
    clipped = int((top | bottom).any(1).sum())
    share = 100 * clipped / len(y)
    words = f"{share:.3g} % of the channels go on beyond {float(low):.3g} or {float(high):.3g}"
    return Finding("warn" if share > 10 and clipped > _FEW else "pass", words, share, "%")


def find_scale(trial: Trial) -> Finding:
    """A convention that scales each user gives the same NMSE at any input power."""
    pooled = _pooled_db(trial.x, trial.first.x_hat)
    scaled = [c * trial.x for c in (0.5, 2.0)]
    moved = max(abs(_pooled_db(x, trial.run(x).x_hat) - pooled) for x in scaled)
    words = f"NMSE moves by {moved:.2g} dB at half or twice the amplitude"
    scaling = trial.convention.scaling
    if not trial.convention.n_side:
        return Finding("not applicable", f"{words}; scaling {scaling!r} may", moved, "dB")
    if moved > 0.01:
        return Finding("warn", f"{words}, though scaling {scaling!r} should undo it", moved, "dB")
    return Finding("pass", words, moved, "dB")


def find_distortion(trial: Trial) -> Finding:
    """It does better than an answer of all zeros, whose NMSE is 0 dB."""
    pooled = _pooled_db(trial.x, trial.first.x_hat)
    if pooled >= 0:
        return Finding(
            "warn",
            "an answer of all zeros would do as well. Is it trained, and are scaling, domain, "
            "layout and crop those of its training?",
            pooled,
            "dB",
        )
    return Finding("pass", "better than an answer of all zeros", pooled, "dB")


def _pooled_db(x: Tensor, x_hat: Tensor) -> float:
    """NMSE over all channels [dB], -200 where nothing is lost."""
    return float(nmse_db(nmse(x, x_hat).mean().clamp_min(1e-20)))


def _real(numbers: Tensor) -> Tensor:
    real = torch.view_as_real(numbers) if numbers.is_complex() else numbers
    return real if real.is_floating_point() else real.float()
