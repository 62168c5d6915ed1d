"""Figures that authors publish for their compressors on COST2100, with what they averaged."""

import json
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Literal

from channels.support import CsiAuditError

Scenario = Literal["indoor", "outdoor"]
Averaging = Literal["batches", "linear"]


@dataclass(frozen=True, kw_only=True)
class PublishedNumber:
    """One published NMSE.

    Attributes:
        arch: Of the zoo.
        variant: Which of several of one architecture ("10x", "400 epochs"); "" if there is one.
        ratio: Compression ratio 2048 / n_code.
        scenario: "indoor" or "outdoor" of COST2100.
        nmse_db: NMSE [dB] on the test set.
        averaging: "batches": mean of decibels over batches of 200 (`crnet_nmse_db`); "linear": mean
            of linear NMSE over channels, then decibels.
        source: Paper and repository.
    """

    arch: str
    variant: str
    ratio: int
    scenario: Scenario
    nmse_db: float
    averaging: Averaging
    source: str


@cache
def all_published() -> tuple[PublishedNumber, ...]:
    """Every figure that the package carries."""
    text = (resources.files("compressors") / "published_numbers.json").read_text(encoding="utf-8")
    found = []
    for row in json.loads(text)["rows"]:
        figures = row.pop("nmse_db")
        found += [PublishedNumber(**row, ratio=int(r), nmse_db=v) for r, v in figures.items()]
    return tuple(found)


def published_for(
    arch: str, ratio: float, scenario: Scenario, *, variant: str | None = None
) -> tuple[PublishedNumber, ...]:
    """Published figures of one compressor, () if there are none.

    Args:
        arch: Of the zoo.
        ratio: 2048 / n_code.
        scenario: "indoor" or "outdoor".
        variant: One of several; None takes all.
    Raises:
        CsiAuditError: the scenario is neither.
    """
    if scenario not in ("indoor", "outdoor"):
        raise CsiAuditError(f"scenario must be indoor or outdoor; got {scenario!r}.")
    return tuple(
        number
        for number in all_published()
        if (number.arch, number.ratio, number.scenario) == (arch, ratio, scenario)
        and variant in (None, number.variant)
    )
