"""The result of `check-base` as it is stored: `check.json`, and one sentence for each key of it.

Frozen dataclasses whose parts are in schema.py and fidelity_items.py. Unknown is None everywhere;
saving is whole or not at all, loading refuses a foreign or damaged file in one line.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from channels.support import CsiAuditError, write_text_atomic
from reports import fidelity_keys
from reports.fidelity_items import (
    ClassifierTest,
    Memorisation,
    NeighbourCoverage,
    SeedSpread,
    StepDoubling,
    TailRatio,
    TrainDistortion,
    WassersteinItem,
)
from reports.fidelity_keys import below
from reports.keys import KEYS
from reports.plain import from_plain, json_text
from reports.schema import BaseInfo, Cost, DataInfo, RealismItem

CHECK_NAME = "check.json"
CHECK_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class BaseCheck:
    """One check of a base law. `CHECK_KEYS` says in a sentence what each key holds.

    `words` gives the verdict first, then what each part says.
    """

    created: str
    versions: Mapping[str, str]
    seed: int
    base: BaseInfo
    chain: str
    raw_power: tuple[float, float, float]
    data: DataInfo
    train: DataInfo | None
    realism: tuple[RealismItem, ...]
    wasserstein: tuple[WassersteinItem, ...]
    tail_ratios: tuple[TailRatio, ...]
    classifier: ClassifierTest | None
    neighbours: NeighbourCoverage | None
    memorisation: Memorisation | None
    train_distortion: tuple[TrainDistortion, ...]
    doubling: tuple[StepDoubling, ...]
    seeds: tuple[SeedSpread, ...]
    words: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    cost: Cost = field(default_factory=Cost)
    check_version: int = CHECK_VERSION

    def to_json(self) -> str:
        """The text of `check.json`.

        Raises:
            ValueError: a figure is NaN or infinite (names the key).
        """
        return json_text(self, "check")

    def save(self, folder: str | Path) -> Path:
        """Write `check.json` into a folder, whole or not at all.

        Raises:
            CsiAuditError: the file cannot be written.
        """
        target = Path(folder) / CHECK_NAME
        write_text_atomic(target, self.to_json())
        return target


def load_check(path: str | Path) -> BaseCheck:
    """Read a `check.json`, given itself or its folder.

    Raises:
        CsiAuditError: one line naming the file: missing, damaged, or of another version.
    """
    file = Path(path) / CHECK_NAME if Path(path).is_dir() else Path(path)
    try:
        plain = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise CsiAuditError(
            f"{file} does not exist. Did csi-audit check-base finish there?"
        ) from error
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise CsiAuditError(f"{file} cannot be read: {reason}. Check the base again.") from error
    version = plain.get("check_version") if isinstance(plain, Mapping) else None
    if version != CHECK_VERSION:
        raise CsiAuditError(
            f"{file}: check_version must be {CHECK_VERSION}; got {version!r}. "
            "It was written by another version of csi-audit: check the base again."
        )
    try:
        return from_plain(BaseCheck, plain, "check")
    except (ValueError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise CsiAuditError(f"{file} is not a valid check: {reason}") from error


_SHARED = ("base", "data", "realism", "tail_ratios", "cost")
_OWN = {
    "check_version": "Version of this layout; readers refuse any other.",
    "created": "UTC time at which the check finished, ISO 8601.",
    "versions": "Version of each package that took part, by name.",
    "seed": "Seed of the check; every block of random numbers derives from it.",
    "chain": "Chain of the base samples with its number of steps.",
    "raw_power": "1, 50 and 99 % quantile of the samples' mean power before they are scaled to 1.",
    "train": "The training channels of the base; null where none were given.",
    "wasserstein": "Wasserstein-1 distance of each quantity; NMSE in dB.",
    "classifier": "Two-sample test by gradient boosting; null where there are too few channels.",
    "neighbours": "Coverage of the real channels; null where there are too few.",
    "memorisation": "Distances to the nearest training channel; null without training channels.",
    "train_distortion": "Each compressor on training users; empty without training channels.",
    "doubling": "What twice the steps change, from the same initial noise; empty where not asked.",
    "seeds": "What the seed changes; empty with one seed.",
    "words": "The verdict and what each part says, a sentence each.",
    "warnings": "What a reader must know before using the figures.",
}

CHECK_KEYS: Mapping[str, str] = {
    **_OWN,
    **{k: v for k, v in KEYS.items() if k.partition(".")[0].removesuffix("[]") in _SHARED},
    **{f"train.{k[5:]}": v for k, v in KEYS.items() if k.startswith("data.")},
    **below("wasserstein[]", fidelity_keys.WASSERSTEIN),
    **below("classifier", fidelity_keys.CLASSIFIER),
    **below("neighbours", fidelity_keys.NEIGHBOURS),
    **below("memorisation", fidelity_keys.MEMORISATION),
    **below("train_distortion[]", fidelity_keys.TRAIN_DISTORTION),
    **below("doubling[]", fidelity_keys.STEP_DOUBLING),
    **below("seeds[]", fidelity_keys.SEED_SPREAD),
}
"""Sentence by dotted path of every key in `check.json`."""
