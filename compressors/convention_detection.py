"""Which form of a channel a model wants, found by trying: `detect_convention`.

A model file says nothing of its scaling. The forms met in the wild are few, and a wrong one costs
far more distortion than the model itself: a form is taken where one alone fits.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from channels.convention import Convention, Layout
from channels.support import CsiAuditError
from compressors.metrics import nmse, nmse_db

Reconstruction = Callable[[Tensor], Tensor]
"""y -> y_hat in the model's own form, (N, ...)."""

N_CHANNELS = 48
"""Channels that the forms are tried on."""
MARGIN_DB = 0.5
"""By how much the best form must beat every other that reconstructs otherwise."""
_SAME = 1e-5  # forms whose reconstructions differ by less than this share of the power are one
_OCTAVES = 7  # a global scale is set by the strongest user of a whole training set
_LAYOUTS: tuple[Layout, ...] = (
    "planes",
    "planes_transposed",
    "channels_last",
    "flat",
    "complex",
)
_SAMPLE_SCALINGS: tuple[dict[str, Any], ...] = (
    {},
    {"scaling": "sample_norm"},
    {"scaling": "sample_peak"},
    {"scaling": "sample_modulus"},
    {"scaling": "sample_peak", "scale": 0.5, "offset": 0.5},
    {"scaling": "sample_modulus", "scale": 0.5, "offset": 0.5},
)


@dataclass(frozen=True, kw_only=True)
class ConventionTried:
    """One form that was tried; nmse_db is None where the model cannot run on it."""

    convention: Convention
    nmse_db: float | None

    def words(self) -> str:
        """Formula and layout, which alone differ from trial to trial, and the figure."""
        formula = self.convention.describe().partition(" taps, ")[2].partition(", one real")[0]
        figure = "does not run" if self.nmse_db is None else f"{self.nmse_db:.2f} dB"
        return f"{formula}: {figure}"


@dataclass(frozen=True, kw_only=True)
class ConventionFound:
    """What `detect_convention` concludes.

    Attributes:
        convention: The best form.
        nmse_db: Its NMSE [dB] on the channels tried, mean linear.
        margin_db: How far behind the next form lies that reconstructs otherwise [dB]; None if all
            others reconstruct the same or do not run.
        n: Channels tried.
        tried: Every form, in order of trial.
    """

    convention: Convention
    nmse_db: float
    margin_db: float | None
    n: int
    tried: tuple[ConventionTried, ...]

    def sentence(self) -> str:
        """What a report says of it."""
        ahead = "" if self.margin_db is None else f", {self.margin_db:.1f} dB ahead of the next"
        return (
            f"Its convention was detected on {self.n} channels, not declared: "
            f"{self.convention.describe()} ({self.nmse_db:.1f} dB{ahead})."
        )


@dataclass(frozen=True, kw_only=True)
class _Trial:
    """A form with what the model made of the channels in it."""

    convention: Convention
    nmse: float
    x_hat: Tensor


@dataclass(frozen=True, kw_only=True)
class _Refusal:
    """Why a form gave no trial, a sentence, and whether the model ran at all."""

    reason: str
    ran: bool


def detect_convention(model: Reconstruction, x: Tensor, *, name: str) -> ConventionFound:
    """The form of a channel that a model wants, among those met in the wild.

    Angular-delay, all taps, in every layout that the model runs on:

        y = x                  y = x / ||x||               y = x / max|x|
        y = x / (2 max|x|) + 0.5                           y = c x + 0.5

    max|x| is the largest part or the largest modulus of a channel; c, common to all, falls from
    0.5 / max over the channels in half octaves. The best form must reconstruct better than zeros
    (below 0 dB) and beat by MARGIN_DB every form that reconstructs otherwise.

    Args:
        model: y -> y_hat.
        x: Audit-space channels (N, 2 n_rx, n_tx, n_delay); N_CHANNELS of them, spread evenly, are
            used.
        name: For the message.
    Returns:
        The form with its lead.
    Raises:
        CsiAuditError: no channels, the model runs in no layout (says why), no form fits, or two fit
            alike (lists the forms and their NMSE).
    """
    x = _few(x)
    trials, tried = [], []
    for family in _families(model, x):
        best = _best(model, family, x)
        if best is None:
            tried.append(ConventionTried(convention=family[0], nmse_db=None))
        else:
            trials.append(best)
            tried.append(ConventionTried(convention=best.convention, nmse_db=_decibel(best.nmse)))
    if not trials:
        raise CsiAuditError(
            f"{name} runs on no layout of channels {tuple(x.shape)} that was tried: "
            f"{', '.join(_LAYOUTS)}. {_why(model, x, _LAYOUTS)} Was it built for another number of "
            "antennas or taps? If so declare its convention. See compressors/README.md."
        )
    winner = min(trials, key=lambda trial: trial.nmse)
    winner = next(trial for trial in trials if _same(trial, winner, x))  # the plainest of equals
    rivals = [trial.nmse for trial in trials if not _same(trial, winner, x)]
    margin = _decibel(min(rivals)) - _decibel(winner.nmse) if rivals else None
    if winner.nmse >= 1 or (margin is not None and margin < MARGIN_DB):
        raise _no_clear_form(name, tried, len(x))
    return ConventionFound(
        convention=winner.convention,
        nmse_db=_decibel(winner.nmse),
        margin_db=margin,
        n=len(x),
        tried=tuple(tried),
    )


def best_unit_interval(model: Reconstruction, x: Tensor, *, name: str) -> ConventionFound:
    """The global scale of a model known to read planes y = c x + 0.5 in [0, 1].

    Of unit-power channels c is unknown where the training set had a power for each user; the best
    is taken, however it does.

    Args:
        model: y -> y_hat.
        x: Audit-space channels (N, 2 n_rx, n_tx, n_delay).
        name: For the message.
    Returns:
        The form; margin_db is None.
    Raises:
        CsiAuditError: the model does not run on these channels.
    """
    x = _few(x)
    family = _unit_intervals(x, "planes")
    best = _best(model, family, x)
    if best is None:
        raise CsiAuditError(
            f"{name} does not run on channels {tuple(x.shape)}. {_why(model, x, ('planes',))} Was "
            "it built for another number of antennas or taps?"
        )
    tried = ConventionTried(convention=best.convention, nmse_db=_decibel(best.nmse))
    return ConventionFound(
        convention=best.convention,
        nmse_db=_decibel(best.nmse),
        margin_db=None,
        n=len(x),
        tried=(tried,),
    )


def _few(x: Tensor) -> Tensor:
    """N_CHANNELS of the channels, or all if they are fewer, spread evenly over them."""
    if not len(x):
        raise CsiAuditError(
            "x must hold at least one channel to detect a convention on; got none. Declare the "
            "convention in a compressor card, or give more channels."
        )
    n = min(len(x), N_CHANNELS)
    return x[torch.linspace(0, len(x) - 1, n, dtype=torch.float64).round().long()]


def _families(model: Reconstruction, x: Tensor) -> Iterator[tuple[Convention, ...]]:
    """Forms to try, plainest first; the members of a family differ in one constant alone."""
    shape = (x.shape[1], x.shape[2], x.shape[3])
    for layout in _LAYOUTS:
        plain = Convention(layout=layout, event_shape=shape)
        if not any(isinstance(_tried(model, plain, part), _Trial) for part in (x[:1], x)):
            continue  # the layout does not fit, whatever the scaling
        for scaling in _SAMPLE_SCALINGS:
            yield (Convention(layout=layout, event_shape=shape, **scaling),)
        yield _unit_intervals(x, layout)


def _unit_intervals(x: Tensor, layout: Layout) -> tuple[Convention, ...]:
    """y = c x + 0.5 with c from 0.5 / max|x| down, in half octaves."""
    largest = Convention.unit_interval(x, layout=layout)
    top = largest.scale or 1.0
    return tuple(
        Convention(
            scaling="global",
            scale=top * 2 ** (-half / 2),
            offset=0.5,
            layout=layout,
            event_shape=largest.event_shape,
        )
        for half in range(2 * _OCTAVES + 1)
    )


def _best(model: Reconstruction, family: Sequence[Convention], x: Tensor) -> _Trial | None:
    found = (_tried(model, convention, x) for convention in family)
    trials = (trial for trial in found if isinstance(trial, _Trial))
    return min(trials, key=lambda trial: trial.nmse, default=None)


@torch.inference_mode()
def _tried(model: Reconstruction, convention: Convention, x: Tensor) -> _Trial | _Refusal:
    """What the model makes of x in this form, or why it makes nothing of it."""
    y, side = convention.to_own(x)
    try:
        y_hat = model(y)
    except Exception as error:  # a model refuses a form as it likes
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return _Refusal(reason=f"It fails ({first[:160].rstrip('.')}).", ran=False)
    if not isinstance(y_hat, Tensor):
        return _Refusal(reason=f"It returns a {type(y_hat).__name__}, no tensor.", ran=True)
    try:
        x_hat = convention.from_own(y_hat, side)
        found = float(nmse(x, x_hat).mean())
    except Exception:  # another shape, or no numbers
        return _Refusal(reason=_no_channel(y_hat, y), ran=True)
    return _Trial(convention=convention, nmse=found, x_hat=x_hat)


def _no_channel(y_hat: Tensor, y: Tensor) -> str:
    """What a model returned in place of channels y."""
    if y_hat.shape == y.shape and y_hat.is_complex() == y.is_complex():
        return "It returns NaN or infinity."
    shape = ", ".join(("N", *map(str, y_hat.shape[1:])))
    alone = " Is it an encoder alone?" if y_hat.numel() < y.numel() else ""
    return f"It returns ({shape}), no channel.{alone}"


def _why(model: Reconstruction, x: Tensor, layouts: Sequence[Layout]) -> str:
    """The most telling refusal: of a layout in which the model at least ran, else the first."""
    shape = (x.shape[1], x.shape[2], x.shape[3])
    tried = [_tried(model, Convention(layout=one, event_shape=shape), x) for one in layouts]
    refusals = [one for one in tried if isinstance(one, _Refusal)]
    return max(refusals, key=lambda one: one.ran).reason if refusals else "It returns no numbers."


def _same(first: _Trial, second: _Trial, x: Tensor) -> bool:
    """Whether two forms reconstruct the same, as all scalings do of a linear model."""
    apart = (first.x_hat - second.x_hat).double().square().sum()
    return bool(apart < _SAME * x.double().square().sum())


def _decibel(linear: float) -> float:
    return float(nmse_db(torch.tensor(linear, dtype=torch.float64).clamp_min(1e-20)))


def _no_clear_form(name: str, tried: Sequence[ConventionTried], n: int) -> CsiAuditError:
    best_first = sorted(tried, key=lambda one: math.inf if one.nmse_db is None else one.nmse_db)
    listed = "; ".join(one.words() for one in best_first)
    return CsiAuditError(
        f"{name} fits no convention clearly: the best must lie below 0 dB and {MARGIN_DB:g} dB "
        f"ahead of all others. Tried on {n} channels: {listed}. Declare its convention in a "
        "compressor card. See compressors/README.md."
    )
