"""HDF5 layouts of channels: the compact file of this project and MATLAB v7.3.

Only data inside the file is read: external links, external raw storage and virtual datasets, which
would open other files of the machine, are refused.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from channels.file_checks import choose_variable
from channels.opened import BLOCK, LABELS, Opened, as_number, damaged
from channels.readers_matlab import open_matlab
from channels.support import CsiAuditError

__all__ = ["open_hdf5"]

MOST_VALUES = 1024  # numbers a user that a label may always hold


@contextmanager
def _opened(path: Path) -> Iterator[h5py.File]:
    try:
        with h5py.File(path, "r") as file:
            yield file
    except CsiAuditError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError) as error:
        raise damaged(path, error) from error


def _own_datasets(file: h5py.File) -> dict[str, h5py.Dataset]:
    """Top-level datasets whose bytes lie in this file: no soft or external link is followed."""
    found = {}
    for name in file:
        if not isinstance(file.get(name, getlink=True), h5py.HardLink):
            continue
        item = file.get(name)
        if isinstance(item, h5py.Dataset) and not item.is_virtual and item.external is None:
            found[name] = item
    return found


def _check_foreign(path: Path, file: h5py.File, variable: str | None) -> None:
    """Say so when the wanted variable is there, but its bytes are elsewhere."""
    if variable is None or variable not in file.keys() - _own_datasets(file).keys():
        return
    if isinstance(file.get(variable, getlink=True), h5py.HardLink) and isinstance(
        file[variable], h5py.Group
    ):
        inside = ", ".join(file[variable].keys())
        raise CsiAuditError(f"{path}: {variable!r} is a group ({inside}), not an array.")
    raise CsiAuditError(
        f"{path}: {variable!r} points into another file, which is never followed. "
        "Copy its data into this file."
    )


def open_hdf5(path: Path, variable: str | None, axes: str | Sequence[str] | None) -> Opened:
    """`Opened` of any HDF5 layout we know.

    Raises:
        CsiAuditError: truncated, of no known layout, or foreign data.
    """
    with _opened(path) as file:
        _check_foreign(path, file, variable)
        datasets = _own_datasets(file)
        if any("MATLAB_class" in dataset.attrs for dataset in datasets.values()):
            return _open_v73(path, datasets, variable, axes)
        if variable is None and "h" not in datasets:
            listed = ", ".join(f"{k} {v.shape}" for k, v in datasets.items())
            raise CsiAuditError(
                f"{path} is HDF5 of no known layout: no dataset 'h' and no MATLAB classes; "
                f"it has: {listed or ', '.join(file) or 'nothing'}."
            )
        return _open_compact(path, file, datasets, variable, axes)


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _open_compact(
    path: Path,
    file: h5py.File,
    datasets: dict[str, h5py.Dataset],
    variable: str | None,
    axes: str | Sequence[str] | None,
) -> Opened:
    """Compact HDF5: h real [N, 2 n_rx, n_tx, n_sub], labels beside it, facts as attributes.

    A label is any other numeric dataset of N rows.
    """
    if axes is not None:
        raise CsiAuditError(
            f"axes must be left out for {path}: compact HDF5 is always [user, re/im, tx, sub]."
        )
    shapes = {name: tuple(dataset.shape) for name, dataset in datasets.items()}
    name = choose_variable(path, shapes, variable, ("h",))
    dataset = datasets[name]
    _check_compact(path, name, dataset)
    domain = _text(file.attrs.get("domain")) or "spatial-frequency"
    if domain != "spatial-frequency":
        raise CsiAuditError(
            f"{path}: domain must be spatial-frequency; got {domain!r}. "
            "Transform with channels.to_spatial_frequency before writing."
        )
    n, pairs, n_tx, n_sub = dataset.shape
    most = n * max(MOST_VALUES, pairs * n_tx * n_sub)
    power_db = datasets.get("power_db")
    sources = _label_sources(datasets, {name, "h", "power_db"}, n)
    return Opened(
        shape=(n, pairs // 2, n_tx, n_sub),
        blocks=_compact_blocks(path, name),
        power_db=None if power_db is None else _bounded(path, "power_db", power_db, most),
        labels={ours: _bounded(path, ours, column, most) for ours, column in sources.items()},
        carrier_hz=as_number(file.attrs.get("carrier_hz")),
        bandwidth_hz=as_number(file.attrs.get("bandwidth_hz")),
        array=_text(file.attrs.get("antenna")),
        scenario=_text(file.attrs.get("scenario")),
        format="compact HDF5",
    )


def _label_sources(
    datasets: dict[str, h5py.Dataset], taken: set[str], n: int
) -> dict[str, h5py.Dataset]:
    """The known labels, whatever their length, then every other numeric dataset of n rows."""
    theirs = {
        ours: next((name for name in names if name in datasets), None)
        for ours, names in LABELS.items()
    }
    known = {ours: datasets[name] for ours, name in theirs.items() if name is not None}
    others = {
        name: item
        for name, item in sorted(datasets.items())
        if name not in taken | set(theirs.values())
        and item.dtype.kind in "biuf"
        and item.shape[:1] == (n,)
    }
    return known | others


def _bounded(path: Path, name: str, dataset: h5py.Dataset, most: int) -> np.ndarray:
    """Values of a column; a shape that was only declared must not fill the memory."""
    if dataset.size > most:
        raise CsiAuditError(
            f"{path}: label {name} must hold at most {most:,} numbers, as many as the channels or "
            f"{MOST_VALUES:,} a user; got {dataset.shape}. Take it out of the file."
        )
    return np.asarray(dataset[()])


def _check_compact(path: Path, name: str, dataset: h5py.Dataset) -> None:
    shape = tuple(dataset.shape)
    if dataset.dtype.kind != "f":
        raise CsiAuditError(
            f"{path}: {name} must be real float [user, re/im, tx, sub]; "
            f"got {dataset.dtype} {shape}."
        )
    if len(shape) != 4 or shape[1] % 2:
        raise CsiAuditError(
            f"{path}: {name} must be [user, re/im, tx, sub], its second axis even (re rx0, im rx0, "
            f"...); got {shape}. Is the imaginary part missing?"
        )
    if 0 in shape:
        raise CsiAuditError(
            f"{path}: {name} is empty, shape {shape}. An audit needs at least one user."
        )


def _compact_blocks(path: Path, name: str) -> Iterator[np.ndarray]:
    """Blocks of users; opens the file again, since a generator outlives the caller's block."""
    with _opened(path) as file:
        dataset = file[name]
        for start in range(0, dataset.shape[0], BLOCK):
            part = dataset[start : start + BLOCK]
            part = part.astype(np.result_type(part.dtype, np.float32), copy=False)
            yield part[:, 0::2] + 1j * part[:, 1::2]


def _open_v73(
    path: Path,
    datasets: dict[str, h5py.Dataset],
    variable: str | None,
    axes: str | Sequence[str] | None,
) -> Opened:
    """MATLAB v7.3: axes reversed, complex as {real, imag}, text as uint16."""
    shapes = {name: tuple(d.shape[::-1]) for name, d in datasets.items() if d.dtype.kind != "O"}

    def load(name: str) -> np.ndarray | str:
        return _v73_value(datasets[name])

    return open_matlab(path, shapes, load, variable=variable, axes=axes, format="MATLAB v7.3")


def _v73_value(dataset: h5py.Dataset) -> np.ndarray | str:
    value = dataset[()]
    if value.dtype.names == ("real", "imag"):
        value = value["real"] + 1j * value["imag"]
    if _text(dataset.attrs.get("MATLAB_class")) == "char":
        return "".join(chr(code) for code in np.asarray(value).ravel())
    return np.asarray(value).T
