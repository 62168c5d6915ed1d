"""Published sets of channels, told by the names and shapes of their arrays: COST2100 as CsiNet and
its successors use it, OPPO's H_4T4R, the UT Austin set. DeepMIMO and Sionna, which are tools, have
modules of their own; `PUBLIC_LAYOUTS` is the order in which all are tried.

Each layout returns None for a file that is not its own.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np

from channels.axes import AxisOrder, axis_order
from channels.layouts_deepmimo import deepmimo_layout
from channels.layouts_sionna import sionna_layout
from channels.opened import Opened, ReadOptions
from channels.row_views import Rows, reshaped
from channels.support import CsiAuditError
from channels.workspace import Array, Workspace

__all__ = ["PUBLIC_LAYOUTS", "cost2100_layout", "oppo_layout", "ut_austin_layout"]

Layout = Callable[[Workspace, ReadOptions], Opened | None]

_HT, _HF = (2, 32, 32), (32, 125)  # what a row of 2048 and one of 4000 numbers holds
_OPPO = (24, 4, 4, 2)


def _wanted(options: ReadOptions, name: str) -> bool:
    return options.variable in (None, name)


def _order(
    workspace: Workspace, name: str, array: Array, default: str, options: ReadOptions
) -> AxisOrder:
    """The published order of axes, or the user's own for the same shape."""
    axes = default if options.axes is None else options.axes
    is_complex = array.dtype.kind == "c"
    return axis_order(workspace.path, name, array.shape, axes, is_complex=is_complex)


# --- COST2100 -------------------------------------------------------------------------------------


def cost2100_layout(workspace: Workspace, options: ReadOptions) -> Opened | None:
    """COST2100 sets of CsiNet: `HT` or `HF_all`.

    `HT`, real [N, 2048] in [0, 1], is [2 (re, im), 32 beams, 32 delay taps] about 0.5. `HF_all`,
    complex [N, 4000], is [32, 125 subcarriers]; the published code compares it with HT, FFT over
    zero-padded taps, without a transform over the antennas, so its 32 are beams too.

    Raises:
        CsiAuditError: a width that CsiNet's sets do not have, both arrays in one file.
    Source: C.-K. Wen, W.-T. Shih, S. Jin, "Deep Learning for Massive MIMO CSI Feedback", IEEE
        Wireless Commun. Lett. 7(5), 2018; github.com/sydney222/Python_CsiNet, CsiNet_train.py;
        github.com/Kylin9511/CRNet, dataset/cost2100.py and utils/statics.py.
    """
    here = [
        name
        for name in ("HT", "HF_all")
        if len(workspace.shape(name) or ()) == 2 and _wanted(options, name)
    ]
    if not here:
        return None
    if len(here) > 1:
        raise CsiAuditError(
            f"{workspace.path} holds both sets of COST2100; choose one with --variable: "
            f"{workspace.listed(here)}."
        )
    return _cost2100_taps(workspace, options) if here == ["HT"] else _cost2100_f(workspace, options)


def _cost2100_taps(workspace: Workspace, options: ReadOptions) -> Opened:
    array = _rows_of(workspace, "HT", _HT, "2048 = [re/im 2, beams 32, delay taps 32]")
    order = _order(workspace, "HT", array, "user,reim,beam,delay", options)
    return Opened(
        shape=order.shape(array.shape),
        read=lambda start, stop: order.read(array, start, stop),
        format="COST2100 HT (CsiNet)",
        domain=order.domain,
        notices=(
            "Beams are taken in the order of an FFT over the antennas; the set does not say which "
            "way its own transform ran.",
            "The 32 delay taps are the first of a longer axis, cut when the set was made; n_sub= "
            "pads them with zeros.",
            "Carrier and bandwidth are not in the file.",
        ),
    )


def _cost2100_f(workspace: Workspace, options: ReadOptions) -> Opened:
    array = _rows_of(workspace, "HF_all", _HF, "4000 = [32, subcarriers 125]")
    order = _order(workspace, "HF_all", array, "user,beam,sub", options)
    return Opened(
        shape=order.shape(array.shape),
        read=lambda start, stop: order.read(array, start, stop),
        format="COST2100 HF_all (CsiNet)",
        domain=order.domain,
        scaling="raw",
        notices=(
            "The 32 are taken as beams, in the order of an FFT over the antennas: published code "
            "compares them with the beams of HT directly. If yours are antennas: "
            "--axes user,tx,sub.",
            "125 subcarriers are part of a longer grid; carrier and bandwidth are not in the file.",
        ),
    )


def _rows_of(workspace: Workspace, name: str, row: tuple[int, ...], meaning: str) -> Rows:
    """Array of flat rows in its published shape.

    Raises:
        CsiAuditError: rows of another length.
    """
    array = workspace.arrays[name]
    if array.shape[1] != int(np.prod(row)):
        raise CsiAuditError(
            f"{workspace.path}: {name} must have rows of {meaning}; got {tuple(array.shape)}. "
            "Another set under this name: reshape it to [user, ...] and name its axes with --axes."
        )
    return reshaped(array, row)


# --- OPPO -----------------------------------------------------------------------------------------


def oppo_layout(workspace: Workspace, options: ReadOptions) -> Opened | None:
    """OPPO's set of the DataFountain competition 494: `H_4T4R`.

    Real [N, 768] or [N, 24, 16, 2] in [0, 1]: 24 paths (taken as delay taps), 4 x 4 antenna pairs,
    re and im, about 0.5. The 0.5 is taken out here, before the taps are transformed.

    Raises:
        CsiAuditError: another shape; values outside [0, 1] (as they are read).
    Source: datafountain.cn/competitions/494, data description; github.com/JYuhao88/
        Channel_Compression, main/evaluation/modelEvalDec.py (shape) and modelDesign.py (offset).
    """
    name = "H_4T4R"
    shape = workspace.shape(name)
    if shape is None or not _wanted(options, name):
        return None
    if shape[1:] not in ((768,), (24, 16, 2)):
        raise CsiAuditError(
            f"{workspace.path}: {name} must be [user, 768] or [user, 24, 16, 2]; got {shape}."
        )
    array = _about_half(workspace, name, reshaped(workspace.arrays[name], _OPPO))
    order = _order(workspace, name, array, "user,delay,rx,tx,reim", options)
    return Opened(
        shape=order.shape(array.shape),
        read=lambda start, stop: order.read(array, start, stop),
        format="OPPO H_4T4R",
        domain=order.domain,
        scaling="raw",
        notices=(
            "0.5 was taken out of re and im, as the competition's own NMSE does.",
            "The 24 paths are taken as taps of an even delay grid.",
            "Of the 4 x 4 antenna pairs the receive antenna is taken to come first, which the "
            "description leaves open. The other way: --axes user,delay,tx,rx,reim.",
        ),
    )


def _about_half(workspace: Workspace, name: str, array: Rows) -> Rows:
    """Values less 0.5, if they lie in [0, 1] as published."""

    def fetch(start: int, stop: int) -> np.ndarray:
        part = np.asarray(array[start:stop])
        if (part < 0).any() or (part > 1).any():
            raise CsiAuditError(
                f"{workspace.path}: {name} must lie in [0, 1] as published, with 0.5 added; users "
                f"{start}..{stop - 1} span {part.min():.3g}..{part.max():.3g}. Another form of the "
                "set: save it under another name and name its axes with --axes."
            )
        return part.astype(np.result_type(part.dtype, np.float32), copy=False) - 0.5

    return Rows(array.shape, np.result_type(array.dtype, np.float32), fetch)


# --- UT Austin ------------------------------------------------------------------------------------


def ut_austin_layout(workspace: Workspace, options: ReadOptions) -> Opened | None:
    """UT Austin's QuaDRiGa set: `x_train_downlink`, `x_val_downlink`, `x_test_downlink`.

    Real [N, 256 subcarriers, 32 antennas, 2 (re, im)] with 0.5 added. The published recipe takes
    the inverse FFT over both axes and keeps 32 delays; here it stays as stored.

    Raises:
        CsiAuditError: several of them and no choice; another shape.
    Source: public loader of the set (function load_jscc_dataset, file QuadriGa_UMi_20_20_15.npz).
    """
    here = [
        name
        for name in workspace.arrays
        if re.fullmatch(r"x_(train|val|test)_downlink", name) and _wanted(options, name)
    ]
    if not here:
        return None
    if len(here) > 1:
        raise CsiAuditError(
            f"{workspace.path} holds several splits; choose one with --variable: "
            f"{workspace.listed(here)}."
        )
    name = here[0]
    array = workspace.arrays[name]
    if len(array.shape) != 4:
        raise CsiAuditError(
            f"{workspace.path}: {name} must be [user, subcarrier, antenna, re/im]; "
            f"got {tuple(array.shape)}."
        )
    order = _order(workspace, name, array, "user,sub,tx,reim", options)
    return Opened(
        shape=order.shape(array.shape),
        read=lambda start, stop: order.read(array, start, stop),
        format=f"UT Austin {name}",
        domain=order.domain,
        notices=("Carrier and bandwidth are not in the file.",),
    )


PUBLIC_LAYOUTS: tuple[Layout, ...] = (
    cost2100_layout,
    oppo_layout,
    ut_austin_layout,
    deepmimo_layout,
    sionna_layout,
)
