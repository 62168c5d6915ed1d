"""MATLAB workspaces of channels: v5/v7 `.mat` through scipy, and the meaning v7.3 shares.

The container gives names, shapes and values; `open_matlab` decides what they mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import scipy.io

from channels.file_checks import AXES, axis_order, check_shape, choose_variable
from channels.opened import BLOCK, LABELS, Opened, as_number, damaged
from channels.support import CsiAuditError

__all__ = ["open_mat5", "open_matlab"]


def _user_blocks(array: np.ndarray, order: Sequence[str]) -> Iterator[np.ndarray]:
    """Blocks (n, n_rx, n_tx, n_sub) of an array in memory whose axes are named `order`."""
    moved = array.transpose([order.index(name) for name in AXES if name in order])
    moved = moved if "rx" in order else moved[:, None]
    for start in range(0, moved.shape[0], BLOCK):
        yield np.ascontiguousarray(moved[start : start + BLOCK])


def _four_axes(shape: Sequence[int], order: Sequence[str]) -> tuple[int, int, int, int]:
    """(N, n_rx, n_tx, n_sub) of an array whose axes are named `order`; no rx counts as 1."""
    size = dict(zip(order, shape, strict=True))
    return size["user"], size.get("rx", 1), size["tx"], size["sub"]


def _describe_array(positions: np.ndarray, carrier_hz: float | None) -> str | None:
    """ "32-element half-wavelength ULA" if antenna positions [m] (n, 3) say so, else None."""
    if carrier_hz is None or positions.ndim != 2 or positions.shape[0] < 2:
        return None
    step = np.diff(positions, axis=0)
    length = np.linalg.norm(step, axis=1)
    half_wave = 299_792_458.0 / carrier_hz / 2
    straight = np.allclose(step, step[0], rtol=0, atol=1e-3 * half_wave)
    if straight and np.allclose(length, half_wave, rtol=0.01):
        return f"{positions.shape[0]}-element half-wavelength ULA"
    return None


def open_matlab(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    load: Callable[[str], np.ndarray | str],
    *,
    variable: str | None,
    axes: str | Sequence[str] | None,
    format: str,
) -> Opened:
    """`Opened` from a MATLAB workspace, whichever container holds it.

    Args:
        path: For messages.
        shapes: Variables of the file and their MATLAB shapes.
        load: Reads one variable.
        variable, axes: As in `load_channels`.
        format: Name for reports.
    Raises:
        CsiAuditError: no or several candidates, wrong shape, real channels.
    """
    numeric = {k: v for k, v in shapes.items() if k not in ("scenario", "quadriga_version")}
    name = choose_variable(path, numeric, variable, ("H", "h"))
    check_shape(path, name, shapes[name])
    order = axis_order(path, name, shapes[name], axes)
    h = np.asarray(load(name))
    if not np.iscomplexobj(h):
        raise CsiAuditError(
            f"{path}: {name} must be complex; got {h.dtype} {h.shape}. "
            "Was only its magnitude or real part saved?"
        )
    carrier_hz, bandwidth_hz = (
        as_number(load(key)) if key in shapes else None for key in ("fc_hz", "bandwidth_hz")
    )
    scenario = str(load("scenario")) if "scenario" in shapes else None
    positions = np.asarray(load("ant_pos_m")) if "ant_pos_m" in shapes else np.empty(0)
    labels = {
        ours: np.asarray(load(theirs))
        for ours, names in LABELS.items()
        for theirs in names
        if theirs in shapes
    }
    return Opened(
        shape=_four_axes(h.shape, order),
        blocks=_user_blocks(h, order),
        power_db=None,
        labels=labels,
        carrier_hz=carrier_hz,
        bandwidth_hz=bandwidth_hz,
        array=_describe_array(positions, carrier_hz),
        scenario=scenario,
        format=format,
    )


def open_mat5(path: Path, variable: str | None, axes: str | Sequence[str] | None) -> Opened:
    """MATLAB v5/v7 file: what QuaDRiGa under Octave or MATLAB writes with `save -v7`."""
    wanted = {n for names in LABELS.values() for n in names}
    wanted |= {"fc_hz", "bandwidth_hz", "scenario", "ant_pos_m"}
    try:
        found = {name: tuple(shape) for name, shape, _ in scipy.io.whosmat(path)}
    except Exception as error:  # scipy raises a dozen kinds on damaged files
        raise damaged(path, error) from error
    cache: dict[str, Any] = {}

    def load(name: str) -> np.ndarray | str:
        try:
            if name not in cache:
                cache.update(scipy.io.loadmat(path, variable_names=[name, *wanted]))
            value = cache[name]
        except Exception as error:
            raise damaged(path, error) from error
        return str(value[0]) if value.dtype.kind == "U" and value.size else np.asarray(value)

    return open_matlab(path, found, load, variable=variable, axes=axes, format="MATLAB v5")
