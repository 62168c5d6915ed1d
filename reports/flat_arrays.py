"""Arrays of figures as a flat mapping of path to array, ready for HDF5, and back again.

What is shared by the containers that figures are drawn from: names as bytes, the checks that let
nothing through which would fail later in a figure, and the one line said of damaged files.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from channels.support import CsiAuditError

Array = npt.NDArray[Any]

DAMAGES = (LookupError, TypeError, ValueError, OSError, RuntimeError)
"""What reading damaged or foreign arrays may raise."""


def text_codes(names: Sequence[str]) -> Array:
    """Names as one uint8 vector, so that any file format can hold them (null-separated)."""
    return np.frombuffer("\0".join(names).encode("utf-8"), dtype=np.uint8)


def coded_text(codes: Array) -> list[str]:
    """Inverse of `text_codes`; [] of an empty vector."""
    text = codes.astype(np.uint8).tobytes().decode("utf-8")
    return text.split("\0") if text else []


def flat_mapping(key: str, values: Mapping[str, npt.ArrayLike]) -> dict[str, Array]:
    """Arrays by name as "<key>/<i>", the names in "<key>/names"."""
    named = {f"{key}/{i}": np.asarray(value) for i, value in enumerate(values.values())}
    return {f"{key}/names": text_codes(list(values)), **named}


def read_mapping(
    data: Mapping[str, Array], key: str, *, ndim: int, log: bool = False
) -> dict[str, Array]:
    """Inverse of `flat_mapping`, every array checked by `finite_array`; {} where there is none."""
    names = coded_text(data[f"{key}/names"]) if f"{key}/names" in data else []
    stored = {name: data[f"{key}/{i}"] for i, name in enumerate(names)}
    return {name: finite_array(key, value, ndim=ndim, log=log) for name, value in stored.items()}


def finite_array(key: str, values: Array, *, ndim: int, log: bool = False) -> Array:
    """Numbers of `ndim` axes, none empty or NaN; a log weight (`log`) may be -inf.

    Raises:
        ValueError: they are not (names the key).
    """
    if values.dtype.kind not in "biuf" or values.ndim != ndim or values.size == 0:
        raise ValueError(f"{key} must hold numbers, {ndim} axes; got {values.dtype} {values.shape}")
    if not (np.isfinite(values) | log & np.isneginf(values)).all():
        raise ValueError(f"{key} must be finite")
    return values


def damaged_arrays(error: Exception) -> CsiAuditError:
    """What is said of arrays that cannot be read back, in one line."""
    what = "lack" if isinstance(error, KeyError) else "are damaged or foreign:"
    text = error.args[0] if isinstance(error, KeyError) else error  # else in quotes
    reason = " ".join(str(text).split())[:160]
    return CsiAuditError(
        f"report arrays {what} {reason.rstrip('.')}. Is the file complete, and of this "
        "version? Run the audit again."
    )
