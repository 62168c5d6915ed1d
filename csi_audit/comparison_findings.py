"""What a comparison is made of, whether it was measured now or read from finished runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from reports.comparison import ComparedLosses
from reports.comparison_schema import Case, ComparedCompressor
from reports.figure_data import ReportArrays

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class SetFound:
    """One set of channels with what was measured on it.

    Attributes:
        losses: Distortions of all compressors.
        cases: Generalisation case and reason, by compressor.
        axes: Of the maps; None where none are known.
        power: Mean power of the channels, [n_tx, n_delay].
        error: Mean power of each compressor's error.
    """

    losses: ComparedLosses
    cases: Mapping[str, tuple[Case, str]]
    axes: ReportArrays | None = None
    power: Array | None = None
    error: Mapping[str, Array] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Gathered:
    """Everything a comparison is made of, wherever it came from."""

    compressors: tuple[ComparedCompressor, ...]
    sets: tuple[SetFound, ...]
    warnings: tuple[str, ...] = ()
