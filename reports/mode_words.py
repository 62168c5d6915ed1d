"""Failure modes and strata as rows and sentences, for page, terminal and Markdown.

Built from a `Result`; nothing is computed beyond choosing what to say. Text is plain: escaping is
the page's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from reports.estimates import Estimate, format_estimate
from reports.mode_names import beam_text, delay_text, mode_verdict
from reports.mode_schema import Confirmation, FailureMode, ModeReport, Stratum
from reports.schema import CompressorRow
from reports.words import UNKNOWN, decibel, joined, number

_TONES: dict[Confirmation, str] = {
    "confirmed": "good",
    "not confirmed": "bad",
    "cannot tell": "unsure",
    "no real channels": "unsure",
}
_NUMBERS = ("No", "One", "Two", "Three", "Four")


@dataclass(frozen=True, kw_only=True)
class ModeSection:
    """What the page says of one compressor's modes and strata.

    Attributes:
        lines: Sentences above the table.
        rows: (cells, tone of the last cell) of each mode, under `titles`.
        ranges: For each mode its name and (feature, its range, that of all) rows.
        strata: (feature, range, base, real) rows.
        how: What line of sight was told by.
    """

    lines: Sequence[str]
    titles: Sequence[str]
    rows: Sequence[tuple[Sequence[tuple[str, str]], str]]
    ranges: Sequence[tuple[str, Sequence[tuple[str, str, str]]]]
    strata: Sequence[tuple[str, str, str, str]]
    how: str


def mode_section(row: CompressorRow) -> ModeSection:
    """Of one compressor; empty parts are not shown."""
    report = row.modes
    modes = () if report is None else report.modes
    return ModeSection(
        lines=[] if report is None else mode_lines(report),
        titles=["Mode", "Share of failures, base", "Share of failures, real", "Fail inside, base",
                "Fail inside, real", "Real channels", "Where the error lies"],
        rows=[(_cells(mode, report), _TONES[mode.confirmation]) for mode in modes if report],
        ranges=[(mode.name, _range_rows(mode)) for mode in modes],
        strata=[_stratum_row(stratum) for stratum in row.strata],
        how=next((s.how for s in row.strata if s.how), ""),
    )  # fmt: skip


def mode_lines(report: ModeReport) -> list[str]:
    """What failed, how many modes there are, and how firmly."""
    rates = [
        f"{format_estimate(estimate, percent=True)} of {whose}"
        for estimate, whose in (
            (report.rate_real, "the real channels"),
            (report.rate_base, "the base samples"),
        )
        if estimate is not None
    ]
    lines = [f"Failure here: NMSE above {decibel(report.nmse_db)}, {joined(rates)}."]
    if report.note:
        return [*lines, report.note]
    count = len(report.modes)
    held = "" if report.elsewhere is None else (
        f"; {format_estimate(report.elsewhere, percent=True)} of the failures lie outside"
    )  # fmt: skip
    noun = "mode" if count == 1 else "modes"
    lines.append(f"{_NUMBERS[count]} {noun} found among {report.n_failures:,.0f} failures{held}.")
    if report.stability is not None:
        again = f"{count} each time"
        if set(report.found) != {count}:
            again = f"{joined([str(n) for n in report.found])} modes"
        lines.append(
            f"The search in {len(report.found)} resamples of the channels finds {again}; adjusted "
            f"Rand index with the division here: {number(report.stability)} (1 is the same)."
        )
    return lines


def mode_line(row: CompressorRow) -> str:
    """One line on the first mode: for terminal and Markdown; "" where modes were not looked for."""
    report = row.modes
    if report is None:
        return ""
    if not report.modes:
        return f"{row.name}: no failure mode. {report.note}".strip()
    first, more = report.modes[0], len(report.modes) - 1
    others = (
        f" {_NUMBERS[more]} more {'mode' if more == 1 else 'modes'} in the report." if more else ""
    )
    share = format_estimate(first.share, percent=True)
    what = f"{row.name} (NMSE above {decibel(report.nmse_db)}): {first.name}"
    return f"{what}; {share} of its failures. {mode_verdict(first, report)}{others}"


def _cells(mode: FailureMode, report: ModeReport) -> list[tuple[str, str]]:
    """(text, small print) of each cell of a mode's row."""
    inside = "none inside" if mode.rate_real is None else f"of {mode.rate_real.n:,} inside"
    known = report.delay_unit == "s"
    places = []
    if mode.delay_range is not None:
        places.append(delay_text(*mode.delay_range, known))
    if mode.beam_range is not None:
        places.append(beam_text(*mode.beam_range))
    return [
        (mode.name, f"Rule: {mode.rule_text}."),
        _parted(mode.share),
        _parted(mode.share_real),
        _parted(mode.rate_base),
        _parted(mode.rate_real),
        (mode.confirmation, inside),
        (", ".join(places) or "all over", ""),
    ]


def _parted(estimate: Estimate | None) -> tuple[str, str]:
    if estimate is None:
        return UNKNOWN, ""
    value, _, interval = format_estimate(estimate, percent=True).partition(" [")
    return value, f"[{interval}" if interval else ""


def _range_rows(mode: FailureMode) -> list[tuple[str, str, str]]:
    """10, 50 and 90 % of each feature among the mode's failures and among all."""
    return [
        (
            f"{row.label} [{row.unit}]" if row.unit else row.label,
            " / ".join(f"{value:.3g}" for value in row.mode).replace("-", "−"),
            " / ".join(f"{value:.3g}" for value in row.population).replace("-", "−"),
        )
        for row in mode.features
    ]


def _stratum_row(stratum: Stratum) -> tuple[str, str, str, str]:
    unit = f" [{stratum.unit}]" if stratum.unit else ""
    low, high = stratum.low, stratum.high
    span = stratum.name or "all"
    if low is not None and high is not None:
        span = f"{low:.3g} to {high:.3g}"
    elif high is not None:
        span = f"below {high:.3g}"
    elif low is not None:
        span = f"from {low:.3g}"
    base, real = (format_estimate(e, percent=True) for e in (stratum.base, stratum.real))
    return f"{stratum.label}{unit}", span.replace("-", "−"), base, real
