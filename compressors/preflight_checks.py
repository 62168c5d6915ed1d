"""The checks of a preflight, each a function of a `Trial` that returns a `Finding`.

What a check refuses makes every later figure meaningless; its words are then a whole message. The
others warn. `CHECKS` is their order; `compressors.preflight` runs them.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor

from channels.channel_set import Grid
from channels.convention import Convention, Layout
from channels.support import CsiAuditError
from compressors.number_checks import (
    find_code_saturation,
    find_crop,
    find_distortion,
    find_input_range,
    find_output_range,
    find_output_saturation,
    find_parts,
    find_scale,
)
from compressors.trial import Trial
from compressors.verdicts import Finding

# Agreement of two reconstructions of unit-power channels: far above what the order of a float32
# sum changes, far below any distortion.
_SAME = 1e-3


@dataclass(frozen=True, kw_only=True)
class Check:
    """A check and what it stands on.

    Attributes:
        name: In tables.
        find: What it does; a CsiAuditError counts as its failure.
        refuses: Whether it can make an audit meaningless; otherwise it warns.
        needs: Checks that must not have failed.
    """

    name: str
    find: Callable[[Trial], Finding]
    refuses: bool = False
    needs: tuple[str, ...] = ()


# --- What it returns ------------------------------------------------------------------------------


def find_running(trial: Trial) -> Finding:
    """It takes the channels and returns reconstructions, both in its convention's layout."""
    try:
        stages = trial.first
    except CsiAuditError as error:
        hint = _other_layout(trial) or _other_dtype(trial)
        if not hint:
            raise
        raise CsiAuditError(f"{error} {hint}") from error.__cause__
    return Finding("pass", f"{tuple(stages.y.shape)} in, {tuple(stages.y_hat.shape)} out")


def _other_layout(trial: Trial) -> str:
    """The layout it runs with instead, for example complex against stacked real numbers."""
    if not isinstance(trial.convention, Convention):
        return ""
    for layout in get_args(Layout):
        try:
            trial.run(trial.x[:2], replace(trial.convention, layout=layout))
        except CsiAuditError:
            continue
        return f"It runs with layout {layout!r}: set Convention(layout={layout!r})."
    return ""


def _other_dtype(trial: Trial) -> str:
    kinds = {w.dtype for m in trial.modules for w in m.parameters() if w.is_floating_point()}
    kinds.discard(trial.x.dtype)
    if not kinds:
        return ""
    had, wanted = str(min(kinds, key=str)), str(trial.x.dtype)
    return f"Its weights are {had} and the channels {wanted}: convert the weights."


def find_code_length(trial: Trial) -> Finding:
    """A codeword has the length that every comparison at equal length relies on."""
    if getattr(trial.compressor, "hides_code", False):
        return Finding("not applicable", "the model hides its code; n_code is as declared")
    z, declared = trial.first.z, _whole(trial.compressor.n_code)
    numbers = z.shape[1:].numel() * (2 if z.is_complex() else 1)
    if z.shape[:1] != trial.x.shape[:1] or numbers != declared:
        return Finding(
            "fail",
            f"compressor {trial.name} says n_code = {declared}, but encode returns "
            f"{tuple(z.shape)} for {len(trial.x)} channels: {numbers} real numbers each. "
            "Set n_code to what is fed back.",
            numbers,
        )
    kind = "complex counted twice" if z.is_complex() else "real"
    return Finding("pass", f"{numbers} numbers a codeword ({kind}), as declared", numbers)


def _whole(n_code: object) -> int | None:
    """A declared code length; None for what is no number."""
    try:
        return int(n_code)  # type: ignore[call-overload]
    except (TypeError, ValueError):
        return None


def find_shape(trial: Trial) -> Finding:
    """Reconstructions have the shape of the channels."""
    x, x_hat = trial.x, trial.first.x_hat
    if x_hat.shape != x.shape:
        return Finding(
            "fail",
            f"compressor {trial.name} returns {tuple(x_hat.shape)} for channels {tuple(x.shape)}. "
            "Check its convention (domain, crop, layout).",
        )
    return Finding("pass", f"{tuple(x.shape[1:])} for each channel")


def find_finite(trial: Trial) -> Finding:
    """No NaN and no infinity, in codewords and reconstructions."""
    both = (trial.first.z, trial.first.x_hat)
    bad = sum(int((~torch.isfinite(part)).sum()) for part in both)
    if bad:
        words = f"compressor {trial.name} returns NaN or infinity. Check its scaling."
        return Finding("fail", words, bad, "numbers")
    return Finding("pass", "codewords and reconstructions are finite", 0, "numbers")


def find_precision(trial: Trial) -> Finding:
    """It computes in single precision at least."""
    kind = trial.first.y_hat.dtype
    if kind.itemsize // (2 if kind.is_complex else 1) < 4:
        return Finding("warn", f"answers in {kind}: rounding counts as its distortion")
    return Finding("pass", f"answers in {kind}")


# --- Whether a channel has one distortion ---------------------------------------------------------


def find_mode(trial: Trial) -> Finding:
    """Torch modules are in evaluation mode."""
    if not trial.modules:
        return Finding("not applicable", "no torch module found")
    training = sum(module.training for module in trial.modules)
    if training:
        words = f"{training} of {len(trial.modules)} modules are in training mode. Call eval()."
        return Finding("warn", words, training, "modules")
    return Finding("pass", "no module is in training mode", 0, "modules")


def find_determinism(trial: Trial) -> Finding:
    """The same channels give the same reconstructions."""
    apart = _largest(trial.again - trial.first.x_hat)
    if not torch.equal(trial.again, trial.first.x_hat):
        return Finding(
            "fail",
            f"compressor {trial.name} answers the same channels differently each time. "
            "Is dropout on? Call eval() on it.",
            apart,
        )
    return Finding("pass", "two passes agree", apart)


def find_batch_independence(trial: Trial) -> Finding:
    """A channel's reconstruction does not depend on its neighbours in the batch."""
    if len(trial.x) < 2:
        return Finding("not applicable", "takes two channels")
    alone, x_hat = trial.alone, trial.first.x_hat
    apart = _largest(alone - x_hat)
    moved = ~torch.isclose(alone, x_hat, rtol=_SAME, atol=_SAME).flatten(1).all(1)
    if not bool(moved.any()):
        return Finding("pass", "alone and in a batch agree", apart)
    if float(moved.double().mean()) <= 0.5 and trial.bits is not None:
        return Finding(
            "warn",
            f"{int(moved.sum())} of {len(moved)} channels differ alone and in a batch: a code "
            "number at a rounding tie goes either way, since sums differ in their last bit",
            apart,
        )
    across = any(getattr(module, "batch_first", True) is False for module in trial.modules)
    hint = " Torch's layers take (tokens, batch, width) unless batch_first=True." if across else ""
    return Finding(
        "fail",
        f"compressor {trial.name} reconstructs a channel differently alone and in a batch: "
        "its distortion per channel is undefined. Does it attend or normalise over the batch?"
        + hint,
        apart,
    )


# --- Whether it compresses ------------------------------------------------------------------------


def find_loss(trial: Trial) -> Finding:
    """Something is lost: a lossless compressor has nothing to audit."""
    if torch.equal(trial.first.x_hat, trial.x):
        return Finding(
            "fail",
            f"compressor {trial.name} returns every channel without error: there is nothing to "
            "audit. Does decode see the channel itself?",
        )
    return Finding("pass", "reconstructions differ from the channels")


def find_use_of_code(trial: Trial) -> Finding:
    """Exchanging codewords between users exchanges the reconstructions, and nothing else does."""
    if len(trial.x) < 2:
        return Finding("not applicable", "takes two channels")
    stages = trial.run(trial.x)  # again: a decoder that peeks sees these channels
    z, side, x_hat = stages.z.roll(1, 0), stages.side, stages.x_hat
    change = float((trial.decoded(z, side) - x_hat).norm() / x_hat.norm().clamp_min(1e-12))
    if change < _SAME:
        same = torch.equal(z, stages.z)
        why = "encode gives every channel the same codeword" if same else "decode ignores its code"
        return Finding(
            "fail",
            f"compressor {trial.name} reconstructs the same when codewords are exchanged between "
            f"users: {why}. Is it trained, and does decode use its argument?",
            change,
        )
    moved = trial.decoded(z, None if side is None else side.roll(1, 0))
    if not torch.allclose(moved, x_hat.roll(1, 0), rtol=_SAME, atol=_SAME):
        return Finding(
            "fail",
            f"compressor {trial.name} does not reconstruct from its code alone: with exchanged "
            "codewords its answers are no exchanged answers. Does decode keep something of encode?",
            _largest(moved - x_hat.roll(1, 0)),
        )
    return Finding("pass", "exchanged codewords give exchanged channels", change)


def find_bits(trial: Trial) -> Finding:
    """Declared bits are there for each codeword, and the code is as coarse as they say."""
    z, bits = trial.first.z, trial.bits
    side = " The scale of each user goes to decode uncounted." if trial.convention.n_side else ""
    if bits is None:
        return Finding("not applicable", f"not quantised: only code numbers are counted.{side}")
    each, most = float(bits.mean()), float(bits.max())
    per_number = each / int(trial.compressor.n_code)
    z = z.reshape(len(z), -1)
    distinct = len((torch.view_as_real(z).flatten(1) if z.is_complex() else z).unique(dim=0))
    if math.log2(distinct) > most:
        return Finding(
            "fail",
            f"compressor {trial.name} says at most {most:g} bits a codeword, but sends {distinct} "
            f"different ones for {len(z)} channels. Does bits count a number instead of a "
            "codeword, or leave something out that decode reads?",
            each,
            "bits",
        )
    # Rounded to 8 bits, 4 % of the values of 20 users occur twice; of floats the scaled peak alone.
    shared = float((z.sort(0).values.diff(dim=0) == 0).float().mean())
    if len(z) >= 20 and per_number <= 8 and shared < 0.02:
        return Finding(
            "warn",
            f"says {per_number:.3g} bits a code number, yet hardly any value occurs twice: the "
            f"code looks unquantised, unless decode rounds it.{side}",
            each,
            "bits",
        )
    return Finding("pass", f"{per_number:.3g} bits a code number.{side}", each, "bits")


# --- What it was made for, and what can be done with it -------------------------------------------


def find_panel(trial: Trial) -> Finding:
    """Its transmit axis is the array of the data."""
    if trial.grid is None:
        return Finding("not applicable", "the array of the data is unknown")
    return compare_panels(trial.convention, trial.grid, name=trial.name)


def compare_panels(convention: Convention, grid: Grid, *, name: str) -> Finding:
    """Whether a compressor takes the transmit axis for the array of the data.

    The audit space has the data's own transform over rows and columns; only that leads back to
    spatial-frequency. In the angular-delay domain a compressor is given the audit space as it is.
    """
    if convention.domain != "spatial-frequency":
        return Finding("not applicable", "works on beams, as the data's own array gives them")
    row = (1, 1, convention.event_shape[1])
    own, data = convention.panel or row, grid.panel or row
    if own != data:
        return Finding(
            "fail",
            f"compressor {name} must have the data's panel {data} (pol, rows, columns), since it "
            f"works on the antennas themselves; its convention has {own}. Set "
            f"Convention(panel={data}), or give the data the panel it was made for.",
        )
    return Finding("pass", f"panel {own}, as the data")


def find_gradient(trial: Trial) -> Finding:
    """autograd sees how the reconstruction depends on the channel, at its power and near zero."""
    slope = _slope(trial, trial.x)
    usable = slope is not None and bool(torch.isfinite(slope).all()) and bool(slope.any())
    if usable:  # guidance passes through denoised means close to zero
        near = _slope(trial, 1e-3 * trial.x)
        usable = near is not None and bool(torch.isfinite(near).all())
    if not usable or slope is None:
        return Finding(
            "warn",
            f"compressor {trial.name} has no usable gradient, which guided sampling (issgm) "
            "follows. Does it round, detach or use numpy? Audit it without issgm.",
        )
    return Finding("pass", "finite and not zero", float(slope.norm() / slope.numel() ** 0.5))


def _slope(trial: Trial, x: Tensor) -> Tensor | None:
    """Gradient of ||x_hat||^2; None where autograd finds no way."""
    with torch.enable_grad():
        leaf = x.detach().clone().requires_grad_(True)
        try:
            x_hat = trial.run(leaf).x_hat
            return torch.autograd.grad(x_hat.square().sum(), leaf)[0]
        except (CsiAuditError, RuntimeError):
            return None


def _largest(apart: Tensor) -> float:
    return float(apart.abs().max())


_SHAPED = ("runs", "code length", "shape")
_SOUND = (*_SHAPED, "finite")
_STEADY = (*_SOUND, "determinism", "batch independence")
_USED = (*_SOUND, "use of the code")

CHECKS: tuple[Check, ...] = (
    Check(name="runs", find=find_running, refuses=True),
    Check(name="code length", find=find_code_length, refuses=True, needs=("runs",)),
    Check(name="shape", find=find_shape, refuses=True, needs=("runs",)),
    Check(name="finite", find=find_finite, refuses=True, needs=_SHAPED),
    Check(name="precision", find=find_precision, needs=_SHAPED),
    Check(name="evaluation mode", find=find_mode),
    Check(name="determinism", find=find_determinism, refuses=True, needs=_SOUND),
    Check(
        name="batch independence",
        find=find_batch_independence,
        refuses=True,
        needs=(*_SOUND, "determinism"),
    ),
    Check(name="something lost", find=find_loss, refuses=True, needs=_SOUND),
    Check(name="use of the code", find=find_use_of_code, refuses=True, needs=_STEADY),
    Check(name="bits", find=find_bits, refuses=True, needs=_SOUND),
    Check(name="input range", find=find_input_range, refuses=True, needs=("runs",)),
    Check(name="output range", find=find_output_range, refuses=True, needs=_SOUND),
    Check(name="real and imaginary", find=find_parts, refuses=True, needs=_SOUND),
    Check(name="delay crop", find=find_crop, refuses=True, needs=("runs",)),
    Check(name="code saturation", find=find_code_saturation, needs=(*_SOUND, "bits")),
    Check(name="output saturation", find=find_output_saturation, needs=_USED),
    Check(name="input power", find=find_scale, needs=_STEADY),
    Check(name="array", find=find_panel, refuses=True, needs=("runs",)),
    Check(name="gradient", find=find_gradient, needs=_USED),
    Check(name="distortion", find=find_distortion, needs=_SOUND),
)
