"""A comparison of compressors as it is stored: `comparison.json`, version 1.

Frozen dataclasses like schema.py's; a sentence for every key is in comparison_keys.py.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from channels.support import CsiAuditError, write_text_atomic
from reports.estimates import Estimate
from reports.plain import from_plain, json_text

COMPARISON_VERSION = 1
COMPARISON_NAME = "comparison.json"

PairVerdict = Literal["first is better", "second is better", "cannot tell"]
Case = Literal["case 1", "case 2", "case 3", "unknown", "base law"]
OWN_FILE = "audited on its own training file: flatters it"
"""Reason of a cell whose figures are no better than training figures."""


@dataclass(frozen=True, kw_only=True)
class ComparedCompressor:
    """A compressor under comparison; `trained_on` says what its card knows of its training data.

    A codeword is `n_code` reals, or bits where it is quantised (on the first set), and `n_side`
    scales that go along.
    """

    name: str
    spec: str
    sha256: str | None
    n_code: int | None
    trained_on: str
    n_side: int | None = None
    bits_mean: float | None = None


@dataclass(frozen=True, kw_only=True)
class PairedFigure:
    """One figure of the first compressor minus that of the second, on the same channels.

    `p_value` tests "no difference" by the law of the interval; `p_holm` is adjusted for all pairs
    of the set in this quantity and decides the verdict at 5 %. Lower is better in every quantity.
    `design_effect` is that of drops which interval and test allow for; None where channels count
    one by one.
    """

    quantity: str
    unit: str
    difference: Estimate | None
    p_value: float | None
    p_holm: float | None
    verdict: PairVerdict
    design_effect: float | None = None


@dataclass(frozen=True, kw_only=True)
class ComparedPair:
    """Two compressors on one set of channels."""

    first: str
    second: str
    figures: tuple[PairedFigure, ...]


@dataclass(frozen=True, kw_only=True)
class RankEntry:
    """Where a compressor may stand: ranks that the verdicts leave open, 1 is best."""

    name: str
    value: Estimate | None
    best: int
    worst: int


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """All compressors in one quantity on one set, lowest value first, and a sentence about it."""

    quantity: str
    unit: str
    entries: tuple[RankEntry, ...]
    sentence: str


@dataclass(frozen=True, kw_only=True)
class FailureOverlap:
    """Which channels two compressors fail on: together, alone, and what chance would give."""

    first: str
    second: str
    threshold: str
    both: Estimate
    only_first: Estimate
    only_second: Estimate
    shared: Estimate | None
    by_chance: float


@dataclass(frozen=True, kw_only=True)
class ComparedSet:
    """One set of channels with all that was compared on it."""

    name: str
    kind: Literal["real", "base"]
    n: int
    sha256: str | None
    description: str
    pairs: tuple[ComparedPair, ...]
    rankings: tuple[Ranking, ...]
    overlaps: tuple[FailureOverlap, ...]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MatrixCell:
    """One compressor on one set: trained there, audited here.

    `case` is the generalisation case of 3GPP TR 38.843, `reason` how it was told.
    """

    compressor: str
    set_name: str
    case: Case
    reason: str
    mean: Estimate
    mean_db: float | None
    p_fail: Mapping[str, Estimate]
    quantile: Estimate
    cvar: Estimate

    def told(self, case: Case, reason: str) -> "MatrixCell":
        """The same cell with its case."""
        return replace(self, case=case, reason=reason)


@dataclass(frozen=True, kw_only=True)
class ComparisonResult:
    """Compressors side by side. `COMPARISON_KEYS` says in a sentence what each key holds."""

    created: str
    versions: Mapping[str, str]
    seed: int | None
    prob: float
    thresholds: tuple[str, ...]
    compressors: tuple[ComparedCompressor, ...]
    sets: tuple[ComparedSet, ...]
    matrix: tuple[MatrixCell, ...]
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    comparison_version: int = COMPARISON_VERSION

    def to_json(self) -> str:
        """The text of `comparison.json`.

        Raises:
            ValueError: a figure is NaN or infinite (names the key).
        """
        return json_text(self, "comparison")

    def save(self, folder: str | Path) -> Path:
        """Write `comparison.json` into a folder, whole or not at all."""
        target = Path(folder) / COMPARISON_NAME
        write_text_atomic(target, self.to_json())
        return target


def load_comparison(path: str | Path) -> ComparisonResult:
    """Read a `comparison.json`, given itself or its folder.

    Raises:
        CsiAuditError: one line naming the file: missing, damaged, or of another version.
    """
    file = Path(path)
    file = file / COMPARISON_NAME if file.is_dir() else file
    try:
        plain: Any = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CsiAuditError(f"{file} cannot be read as a comparison ({reason}).") from error
    version = plain.get("comparison_version") if isinstance(plain, Mapping) else None
    if version != COMPARISON_VERSION:
        raise CsiAuditError(
            f"{file}: comparison_version must be {COMPARISON_VERSION}; got {version!r}. Is it of "
            "another version of csi-audit, or a result.json? Compare again."
        )
    try:
        return from_plain(ComparisonResult, plain, "comparison")
    except (ValueError, TypeError) as error:
        raise CsiAuditError(f"{file} is not a valid comparison: {error}") from error
