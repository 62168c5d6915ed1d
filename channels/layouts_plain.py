"""Arrays of no published layout: one is the channels, with axes that the user names or that leave
no choice, and what has a row for each user is a label. The layout of QuaDRiGa's users, who save
`channel.fr` with facts beside it, and the last resort in every container.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from channels.axes import AxisOrder, axis_order
from channels.labels import labels_of, left_out, rows_of_labels
from channels.opened import Opened, ReadOptions, as_number
from channels.reading import certain_scaling, has_offset, told_offset
from channels.workspace import Array, Workspace

__all__ = ["fact", "plain_layout"]

_CARRIER = ("carrier_hz", "fc_hz", "carrier_frequency_hz")
_BANDWIDTH = ("bandwidth_hz",)
_POSITIONS, _FREQUENCIES = "ant_pos_m", "subcarrier_freq_hz"
_FACTS = {*_CARRIER, *_BANDWIDTH, _POSITIONS, _FREQUENCIES}
_LOOKED_AT = 1024  # users whose numbers tell an offset


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


def plain_layout(workspace: Workspace, options: ReadOptions) -> Opened:
    """The one array that can be channels, or the one the user names, and its labels.

    Facts beside it: `carrier_hz` (or `fc_hz`), `bandwidth_hz`, antenna positions `ant_pos_m`
    (n_tx, 3), `subcarrier_freq_hz`, `scenario`.

    Raises:
        CsiAuditError: no or several candidates, ambiguous axes, numbers that are no channels.
    """
    path = workspace.path
    name = workspace.choose(options.variable, ("h", "H", "fr"))
    array = workspace.arrays[name]
    if array.dtype.kind == "O":
        array[()]  # says why objects are not read
    shape = tuple(array.shape)
    order = axis_order(
        path,
        name,
        shape,
        options.axes,
        is_complex=array.dtype.kind == "c",
        known=_known_sizes(workspace),
    )
    full = order.shape(shape)
    carrier_hz, taken = fact(workspace, _CARRIER), {name, *_FACTS}
    read: Callable[[int, int], np.ndarray] = partial(order.read, array)
    notices: tuple[str, ...] = ()
    if order.mixed:
        read, notices = _taken_out(workspace, options, array, order)
    return Opened(
        shape=full,
        read=read,
        labels=labels_of(workspace, full[0], taken),
        format=f"{workspace.container}, [{', '.join(order.names)}]",
        carrier_hz=carrier_hz,
        bandwidth_hz=fact(workspace, _BANDWIDTH),
        array=_described(workspace, carrier_hz),
        scenario=workspace.texts.get("scenario"),
        panel=order.panel(shape),
        domain=order.domain,
        scaling="undone" if order.mixed else "detect",
        notices=(*notices, *left_out(workspace, full[0], taken)),
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
