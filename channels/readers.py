"""`load_channels`: a channel file in, a `ChannelSet` out, told by content and not by name.

A container (HDF5, MATLAB, numpy, PyTorch) gives named arrays, the first layout that knows them
gives an `opened.Opened`, and `reading.Reading` brings every format to unit power.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import torch

from channels.channel_set import ChannelSet
from channels.domains import Panel
from channels.file_checks import check_file, recognise
from channels.labels import label_tensors
from channels.layouts_plain import plain_layout
from channels.layouts_public import PUBLIC_LAYOUTS
from channels.lazy_rows import LazyRows
from channels.opened import BLOCK, Opened, ReadOptions
from channels.readers_hdf5 import compact_layout, hdf5_workspace, opened_hdf5
from channels.readers_matlab import mat5_workspace
from channels.readers_numpy import numpy_workspace
from channels.readers_paths import is_quadriga_paths, open_quadriga_paths
from channels.readers_torch import torch_workspace
from channels.reading import Reading
from channels.support import CsiAuditError, file_sha256, load_object
from channels.workspace import Workspace

__all__ = ["load_channels", "names_code", "open_channels"]

_LARGE = 1 << 30  # bytes of channels that are rather left in their file
Container = Callable[[Path, ReadOptions], Workspace]
CONTAINERS: dict[str, Container] = {
    "hdf5": lambda path, options: hdf5_workspace(path, options.variable),
    "mat5": lambda path, _: mat5_workspace(path),
    "numpy": lambda path, _: numpy_workspace(path),
    "torch": lambda path, _: torch_workspace(path),
}


def load_channels(
    path: str | os.PathLike[str],
    *,
    variable: str | None = None,
    axes: str | Sequence[str] | None = None,
    n_sub: int | None = None,
    bandwidth_hz: float | None = None,
    panel: Panel | None = None,
    offset: float | None = None,
    lazy: bool | None = False,
) -> ChannelSet:
    """Channels of a file, each user at unit mean power, with labels and grid.

    Formats, told by content: compact HDF5 (`channels.write_channels`), QuaDRiGa matrices and
    `channel.fr` in MATLAB v5/v7 and v7.3, QuaDRiGa and quadriga-lib path-level HDF5, COST2100,
    DeepMIMO, Sionna, UT Austin, OPPO, and complex arrays in HDF5, .npy, .npz and .pt. What was
    assumed or found on the way is in `source.notices`, the file's own form in `source.convention`.

    Args:
        path: File, or your own loader as `file.py:function` or `package.module:function`, which is
            called without arguments and returns a ChannelSet or a complex array [user, tx, sub] or
            [user, rx, tx, sub].
        variable: Array to read, where several could be meant.
        axes: Names of that array's axes in the file's order (MATLAB's for .mat), where they are
            not clear: "rx,tx,sub,user" for QuaDRiGa's `fr`, "user,reim,beam,delay" for real and
            imaginary planes in the angular-delay domain. See `channels.axes`.
        n_sub: Subcarriers: at which to sample files of paths (default 32); to pad cropped
            angular-delay files to; otherwise a check.
        bandwidth_hz: Bandwidth [Hz], in place of the file's own or of a missing one. It scales the
            delay axis; only files of paths change their channels with it.
        panel: (n_pol, n_rows, n_columns) of the transmit axis, row-major, if it is no single row.
        offset: What was added to every real number of the file (0.5 puts channels into [0, 1]), 0
            for nothing. By default the numbers tell, and what fits two offsets is an error.
        lazy: Leave the channels in the file: `h` reads the users that are sliced. One pass is made
            here all the same, to refuse bad users before any work is begun. None leaves those in
            the file that would take more than 1 GiB.
    Returns:
        ChannelSet with h complex64 (N, n_rx, n_tx, n_sub).
    Raises:
        CsiAuditError: one line with file, value and way out.
    """
    options = ReadOptions(
        variable=variable, axes=axes, n_sub=n_sub, bandwidth_hz=bandwidth_hz, offset=offset
    )
    spec = os.fspath(path)
    if names_code(spec):
        return _user_channels(spec, options, panel)
    file = Path(spec)
    opened = open_channels(file, options)
    opened = opened if panel is None else replace(opened, panel=panel)
    large = 8 * math.prod(opened.shape) > _LARGE
    return _channel_set(
        opened, options, spec, file_sha256(file), lazy=large if lazy is None else lazy
    )


def open_channels(path: Path, options: ReadOptions) -> Opened:
    """A file as its reader sees it: raw scale, users on demand.

    Raises:
        CsiAuditError: no such file, no known format, or a broken one.
    """
    check_file(path)
    container = recognise(path)
    if container == "hdf5":
        with opened_hdf5(path) as file:
            paths = is_quadriga_paths(file)
        if paths:
            return open_quadriga_paths(path, options)
    workspace = CONTAINERS[container](path, options)
    for layout in (compact_layout, *PUBLIC_LAYOUTS):
        opened = layout(workspace, options)
        if opened is not None:
            return opened
    return plain_layout(workspace, options)


def _channel_set(
    opened: Opened, options: ReadOptions, spec: str, sha256: str, *, lazy: bool
) -> ChannelSet:
    path = Path(spec)
    reading = Reading(path, opened, options)
    shape = (*opened.shape[:3], reading.n_sub)
    h = None if lazy else _room(path, shape)
    scan = reading.scan(h)
    reading.require(scan)
    labels = label_tensors(path, opened.labels, opened.shape[0])
    return ChannelSet(
        h=cast(torch.Tensor, LazyRows(reading.unit, shape)) if h is None else h,
        power_db=scan.power_db,
        grid=reading.grid,
        labels=labels,
        source=reading.source(sha256),
    )


def _room(path: Path, shape: tuple[int, ...]) -> torch.Tensor:
    try:
        return torch.empty(shape, dtype=torch.complex64)
    except RuntimeError as error:
        raise CsiAuditError(
            f"{path} needs {8 * math.prod(shape) / 1e9:,.0f} GB in memory, more than there is. "
            "Leave it in its file: lazy=True."
        ) from error


def names_code(spec: str) -> bool:
    """Whether a data name means a user's loader: `file.py:attr` or `package.module:attr`."""
    place, colon, attribute = spec.rpartition(":")
    dotted = all(part.isidentifier() for part in attribute.split("."))
    if not colon or not dotted or Path(spec).exists():
        return False
    return place.endswith(".py") or all(part.isidentifier() for part in place.split("."))


def _user_channels(spec: str, options: ReadOptions, panel: Panel | None) -> ChannelSet:
    """What a user's loader returns, hashed by its numbers so that a resume knows them again."""
    loader = load_object(spec)
    if not callable(loader):
        raise CsiAuditError(f"{spec!r} must be a function; got {type(loader).__name__}.")
    found = loader()
    said = [name for name, value in {**vars(options), "panel": panel}.items() if value is not None]
    if isinstance(found, ChannelSet):
        if said:
            raise CsiAuditError(
                f"{', '.join(said)} must be left out for {spec!r}: it returns a ChannelSet, which "
                "says that itself."
            )
        return replace(found, source=replace(found.source, path=spec, sha256=_hash(found)))
    if options.variable is not None:
        raise CsiAuditError(f"variable must be left out for {spec!r}: it returns one array.")
    opened = _of_array(spec, found, options)
    opened = opened if panel is None else replace(opened, panel=panel)
    digest = hashlib.sha256(repr(opened.shape).encode())
    for start in range(0, opened.shape[0], BLOCK):
        digest.update(opened.read(start, min(start + BLOCK, opened.shape[0])).data)
    return _channel_set(opened, options, spec, digest.hexdigest(), lazy=False)


def _of_array(spec: str, found: object, options: ReadOptions) -> Opened:
    array = found.detach().cpu().numpy() if isinstance(found, torch.Tensor) else found
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fc":
        raise CsiAuditError(
            f"{spec!r} must return a ChannelSet or a complex array [user, tx, sub] or [user, rx, "
            f"tx, sub]; got {type(found).__name__}."
        )
    workspace = Workspace(path=Path(spec), container="loader", arrays={"array": array})
    usual = {3: "user,tx,sub", 4: "user,rx,tx,sub"}.get(array.ndim)
    return plain_layout(workspace, replace(options, axes=options.axes or usual))


def _hash(channels: ChannelSet) -> str:
    digest = hashlib.sha256(repr(channels.grid).encode())
    for start in range(0, len(channels), BLOCK):
        digest.update(channels.h[start : start + BLOCK].contiguous().cpu().numpy().data)
    return digest.hexdigest()
