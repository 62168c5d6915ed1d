"""The result of an audit as it is stored: `result.json`, schema version 1.

Frozen dataclasses, one sentence per key in `keys.py`, whole-or-nothing saving, and loading that
refuses a foreign or damaged file in one line. Unknown is None everywhere. Arrays for figures are
in figure_data.py, words and pages in words.py and report.py.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from channels.support import CsiAuditError, write_text_atomic
from reports.fidelity_items import TailRatio
from reports.loss_schema import (
    ImportanceEstimates,
    IssgmEntry,
    LossSummary,
    Tail,
    Threshold,
    WorstFeature,
)
from reports.mode_schema import ModeReport, Stratum
from reports.network_schema import NetworkInfo, OutageRow
from reports.plain import from_plain, json_text

__all__ = [
    "SCHEMA_VERSION",
    "BaseInfo",
    "CompressorRow",
    "Cost",
    "DataInfo",
    "ImportanceEstimates",
    "IssgmEntry",
    "LossSummary",
    "RealismItem",
    "Result",
    "Tail",
    "Threshold",
    "Verdict",
    "WorstFeature",
    "load_result",
]

SCHEMA_VERSION = 1

Verdict = Literal["credible", "misses", "not checked", "cannot tell"]


@dataclass(frozen=True, kw_only=True)
class DataInfo:
    """The channels that were read; `notices` tell what was found or assumed in reading them.

    Of a network: the file of placements, or the law that stands for it; `path` then names the law.
    """

    path: str
    sha256: str | None
    n: int
    drops: int | None = None
    description: str = ""
    convention: str = ""
    notices: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class BaseInfo:
    """The base law p and whether it passed the realism gate."""

    sha256: str | None
    fidelity: Mapping[str, float | None] = field(default_factory=dict)
    verdict: Verdict = "not checked"
    name: str = ""
    n_samples: int | None = None
    rule: str = ""


@dataclass(frozen=True, kw_only=True)
class CompressorRow:
    """Everything the report says about one compressor.

    `losses` must hold "nmse" (linear) for the NMSE column and may hold "sgcs" and others.
    `against_klt_db` is NMSE_KLT - NMSE in dB on real channels (base samples without them), the KLT
    having the same number of reals: positive means better than the KLT; None when not compared.
    `against_klt` may say it in a sentence of its own, such as "This is the KLT."; "" takes the
    sentence from `klt_sentence`. `bits_mean` and `bits_max` are None where the code is not
    quantised; `n_side` is None in a result that does not say what is fed back beside n_code.
    """

    name: str
    spec: str
    convention: str
    n_code: int
    losses: Mapping[str, LossSummary]
    estimates: ImportanceEstimates
    against_klt_db: float | None = None
    against_klt: str = ""
    worst: tuple[WorstFeature, ...] = ()
    bits_mean: float | None = None
    bits_max: float | None = None
    n_side: int | None = None
    n_channel: int | None = None
    modes: ModeReport | None = None
    strata: tuple[Stratum, ...] = ()

    def mean_db(self, source: Literal["base", "real"]) -> float | None:
        """NMSE [dB]: averaged linearly over samples, then 10 log10; None when unknown."""
        loss = self.losses.get("nmse")
        estimate = None if loss is None else getattr(loss, source)
        if estimate is None or estimate.value <= 0:
            return None
        return 10 * math.log10(estimate.value)

    def mean_sgcs(self, source: Literal["base", "real"]) -> float | None:
        """Mean SGCS in [0, 1]; None when unknown."""
        loss = self.losses.get("sgcs")
        estimate = None if loss is None else getattr(loss, source)
        return None if estimate is None else float(estimate.value)


@dataclass(frozen=True, kw_only=True)
class RealismItem:
    """KS distance of one quantity, base samples against real channels, beside a perfect model's.

    Gated items decide the verdict; the others are shown only.
    """

    name: str
    label: str
    kind: Literal["distortion", "feature"]
    ks: float | None
    floor_mean: float | None
    floor_95: float | None
    n_base: int
    n_real: int
    limit: float | None
    verdict: str


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What the audit spent; `parts` splits the denoiser evaluations by step of the audit."""

    denoiser_evaluations: int | None = None
    seconds: float | None = None
    parts: Mapping[str, int] = field(default_factory=dict)
    machine: str = ""


@dataclass(frozen=True, kw_only=True)
class Result:
    """One audit. `KEYS` in keys.py says in a sentence what each key holds.

    Of compressors, or of the outages of a cell network: then `network` is there, `outages` has a
    row a loss and `compressors` is empty.
    """

    created: str
    versions: Mapping[str, str]
    seed: int | None
    data: DataInfo
    base: BaseInfo
    tau: tuple[Threshold, ...]
    compressors: tuple[CompressorRow, ...]
    realism: tuple[RealismItem, ...] = ()
    tail_ratios: tuple[TailRatio, ...] = ()
    cost: Cost = Cost()
    warnings: tuple[str, ...] = ()
    audited_law: str = ""
    notes: tuple[str, ...] = ()
    network: NetworkInfo | None = None
    outages: tuple[OutageRow, ...] = ()
    schema_version: int = SCHEMA_VERSION

    def to_json(self) -> str:
        """The text of `result.json`: sorted nowhere, two spaces, a newline at the end.

        Raises:
            ValueError: a figure is NaN or infinite (names the key).
        """
        return json_text(self)

    def save(self, path: str | Path) -> Path:
        """Write `result.json`, whole or not at all; a folder stands for its result.json.

        Raises:
            CsiAuditError: the file cannot be written.
        """
        target = _result_file(path)
        write_text_atomic(target, self.to_json())
        return target


def load_result(path: str | Path) -> Result:
    """Read a `result.json`, given itself or its run directory.

    Raises:
        CsiAuditError: one line naming the file: missing, not JSON, another schema version, or a
            key that is missing, unknown or of the wrong type.
    """
    file = _result_file(path)
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CsiAuditError(
            f"{file} does not exist. Is this a run directory of csi-audit, and did the run finish?"
        ) from error
    except (OSError, UnicodeDecodeError) as error:
        raise CsiAuditError(f"{file} cannot be read: {_one_line(error)}.") from error
    except json.JSONDecodeError as error:
        raise CsiAuditError(
            f"{file} is not valid JSON ({_one_line(error)}). Was it cut short? Run the audit again."
        ) from error
    _check_version(file, plain)
    try:
        return from_plain(Result, plain)
    except (ValueError, TypeError) as error:
        raise CsiAuditError(f"{file} is not a valid result: {_one_line(error)}") from error


def _result_file(path: str | Path) -> Path:
    target = Path(path)
    return target / "result.json" if target.is_dir() else target


def _check_version(file: Path, plain: Any) -> None:
    version = plain.get("schema_version") if isinstance(plain, Mapping) else None
    if version != SCHEMA_VERSION:
        found = "none" if version is None else repr(version)
        raise CsiAuditError(
            f"{file}: schema_version must be {SCHEMA_VERSION}; got {found}. "
            "It was written by another version of csi-audit: install that one, or run again."
        )


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())
