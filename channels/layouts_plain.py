"""Arrays of no published layout: one is the channels, with axes that the user names or that leave
no choice, and what has a row for each user is a label. The layout of QuaDRiGa's users, who save
`channel.fr` with facts beside it, and the last resort in every container.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from channels.axes import AxisOrder, axis_order
from channels.labels import labels_of, left_out, rows_of_labels
from channels.opened import Opened, ReadOptions, as_number
from channels.reading import certain_scaling, has_offset, told_offset
from channels.row_views import Joined
from channels.support import CsiAuditError
from channels.workspace import Array, Workspace

__all__ = ["fact", "plain_layout"]

_CARRIER = ("carrier_hz", "fc_hz", "carrier_frequency_hz")
_BANDWIDTH = ("bandwidth_hz",)
_POSITIONS, _FREQUENCIES = "ant_pos_m", "subcarrier_freq_hz"
_SIZES = ("n_sub", "n_tx", "panel")
_FACTS = {*_CARRIER, *_BANDWIDTH, _POSITIONS, _FREQUENCIES, *_SIZES}
_LOOKED_AT = 1024  # users whose numbers tell an offset
_REAL_PART = re.compile(r"(?P<stem>.*?)[/_. -]?(?P<part>real|re)", re.IGNORECASE | re.DOTALL)
_IMAGINARY = {"real": "imag", "re": "im"}


def fact(workspace: Workspace, names: tuple[str, ...]) -> float | None:
    """The first of `names` that holds one number, as an array or an attribute of the file."""
    for name in names:
        array = workspace.arrays.get(name)
        if array is not None and all(n == 1 for n in array.shape):
            found = as_number(workspace.value(name))
        else:
            found = as_number(workspace.attributes.get(name, ""))
        if found is not None:
            return found
    return None


def _known_sizes(workspace: Workspace) -> dict[str, int]:
    """What the file says of its axes besides the channels themselves."""
    positions, frequencies = workspace.shape(_POSITIONS), workspace.shape(_FREQUENCIES)
    known = {
        "user": rows_of_labels(workspace),
        "tx": positions[0] if positions and positions[-1] == 3 else None,
        "sub": math.prod(frequencies) if frequencies else None,
    }
    return {kind: n for kind, n in known.items() if n is not None}


def _described(workspace: Workspace, carrier_hz: float | None) -> str | None:
    """ "32-element half-wavelength ULA" if antenna positions [m] (n, 3) say so, else None."""
    shape = workspace.shape(_POSITIONS)
    if carrier_hz is None or shape is None or len(shape) != 2 or shape[0] < 2:
        return None
    step = np.diff(workspace.value(_POSITIONS), axis=0)
    length = np.linalg.norm(step, axis=1)
    half_wave = 299_792_458.0 / carrier_hz / 2
    straight = np.allclose(step, step[0], rtol=0, atol=1e-3 * half_wave)
    if straight and np.allclose(length, half_wave, rtol=0.01):
        return f"{shape[0]}-element half-wavelength ULA"
    return None


def _spaced(workspace: Workspace, n: int) -> float | None:
    """n times the spacing of the subcarriers [Hz], if the file gives their n frequencies.

    Raises:
        CsiAuditError: they fall, or their steps differ by more than rounding.
    """
    shape = workspace.shape(_FREQUENCIES)
    if n < 2 or shape is None or math.prod(shape) != n:
        return None
    stored = workspace.value(_FREQUENCIES).reshape(-1)
    if stored.dtype.kind not in "iuf":
        return None
    f = stored.astype(np.float64)
    with np.errstate(invalid="ignore"):  # of infinite ones, which are refused below
        step, mean = np.diff(f), float(f[-1] - f[0]) / (n - 1)
    if (step < 0).all():
        raise CsiAuditError(
            f"{workspace.path}: {_FREQUENCIES} falls from {f[0]:g} to {f[-1]:g} Hz: the "
            "subcarriers are stored in reverse, which would mirror all delays. Reverse their axis "
            "and save again."
        )
    rounding = 4 * np.finfo(stored.dtype).eps * np.abs(f).max() if stored.dtype.kind == "f" else 1
    finite = bool(np.isfinite(f).all())
    if not finite or mean <= 0 or (np.abs(step - mean) > 1e-3 * mean + rounding).any():
        raise CsiAuditError(
            f"{workspace.path}: {_FREQUENCIES} must rise in equal steps; got steps of "
            f"{step.min():g}..{step.max():g} Hz. Delay taps need an even grid: resample the "
            "channels, or save one even part of them."
        )
    return mean * n


def _with_pairs(workspace: Workspace, variable: str | None) -> tuple[Workspace, dict[str, str]]:
    """The workspace with pairs of real arrays H_real and H_imag as one complex H, and a notice on
    each; pairs of which the user names one part stay as they are."""
    arrays, notices = dict(workspace.arrays), {}
    for name, re_part in workspace.arrays.items():
        match = _REAL_PART.fullmatch(name)
        if match is None:
            continue
        theirs = name[: match.start("part")] + _imaginary(match["part"])
        stem, im_part = match["stem"] or "h", workspace.arrays.get(theirs)
        fits = len(re_part.shape) >= 3 and im_part is not None and im_part.shape == re_part.shape
        if im_part is None or not fits or stem in arrays or variable in (name, theirs):
            continue
        if {re_part.dtype.kind, im_part.dtype.kind} <= set("iuf"):
            del arrays[name], arrays[theirs]
            arrays[stem] = Joined(re_part, im_part)
            notices[stem] = (
                f"{name} and {theirs} are read as the real and imaginary part of {stem}."
            )
    return replace(workspace, arrays=arrays), notices


def _imaginary(part: str) -> str:
    """Of "real" "imag", of "Re" "Im": in the same case."""
    other = _IMAGINARY[part.lower()]
    if part.islower():
        return other
    return other.upper() if part.isupper() else other.capitalize()


def plain_layout(workspace: Workspace, options: ReadOptions) -> Opened:
    """The one array that can be channels, or the one the user names, and its labels.

    Facts beside it, in its own struct or dict first: `carrier_hz` (or `fc_hz`), `bandwidth_hz`,
    antenna positions `ant_pos_m` (n_tx, 3) or the words `antenna`, `subcarrier_freq_hz` (n_sub,),
    `scenario`. Two real arrays H_real and H_imag, or H_re and H_im, are one complex H.

    Raises:
        CsiAuditError: no or several candidates, ambiguous axes, numbers that are no channels,
            subcarriers that do not rise in equal steps.
    """
    path = workspace.path
    workspace, joined = _with_pairs(workspace, options.variable)
    name = workspace.choose(options.variable, ("h", "H", "fr"))
    array, near = workspace.arrays[name], workspace.beside(name)
    if array.dtype.kind == "O":
        array[()]  # says why objects are not read
    shape = tuple(array.shape)
    order = axis_order(
        path,
        name,
        shape,
        options.axes,
        is_complex=array.dtype.kind == "c",
        known=_known_sizes(near),
    )
    full = order.shape(shape)
    carrier_hz, taken = fact(near, _CARRIER), {name.rpartition("/")[2], *_FACTS}
    spaced_hz = _spaced(near, full[3]) if "sub" in order.names else None
    stated_hz = fact(near, _BANDWIDTH)
    read: Callable[[int, int], np.ndarray] = partial(order.read, array)
    notices: tuple[str, ...] = (joined[name],) if name in joined else ()
    if order.mixed:
        read, said = _taken_out(workspace, options, array, order)
        notices = (*notices, *said)
    return Opened(
        shape=full,
        read=read,
        labels=labels_of(near, full[0], taken),
        variable=name,
        format=f"{workspace.container}, [{', '.join(order.names)}]",
        carrier_hz=carrier_hz,
        bandwidth_hz=spaced_hz if stated_hz is None else stated_hz,
        array=_described(near, carrier_hz) or near.texts.get("antenna"),
        scenario=near.texts.get("scenario"),
        panel=order.panel(shape),
        domain=order.domain,
        scaling="undone" if order.mixed else "detect",
        notices=(*notices, *left_out(near, full[0], taken)),
    )


def _taken_out(
    workspace: Workspace, options: ReadOptions, array: Array, order: AxisOrder
) -> tuple[Callable[[int, int], np.ndarray], tuple[str, ...]]:
    """Reader of users of a mixed domain, and what was found on the way.

    They are transformed as they are read, after which no offset could be told: so it is looked for
    here, in the numbers as they are stored, and taken out before the transform.
    """
    n, n_rx, n_tx, n_bin = order.shape(array.shape)
    notices: tuple[str, ...] = ()
    if options.offset is None:
        sample = torch.from_numpy(order.stored(array, 0, min(n, _LOOKED_AT)))
        found = certain_scaling(workspace.path, sample, "angular-delay")
        convention, notices = found.convention, (found.evidence,)
    else:
        convention = told_offset(options.offset, (2 * n_rx, n_tx, n_bin))

    def read(start: int, stop: int) -> np.ndarray:
        h = order.stored(array, start, stop)
        if has_offset(convention):
            h = convention.unscale(torch.from_numpy(h)).numpy()
        return order.unmixed(h, array.shape)

    return read, notices
