"""Failure modes and strata as rows and sentences, for page, terminal and Markdown.

Built from a `Result`; nothing is computed beyond choosing what to say. Text is plain: escaping is
the page's business.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reports.estimates import Estimate, format_estimate, format_parts
from reports.mode_names import beam_text, delay_text, mode_verdict
from reports.mode_schema import Confirmation, FailureMode, ModeReport, Stratum
from reports.nouns import CHANNELS, Nouns
from reports.words import UNKNOWN, decibel, joined, number

_TONES: dict[Confirmation, str] = {
    "confirmed": "good",
    "not confirmed": "bad",
    "cannot tell": "unsure",
    "no real channels": "unsure",
}
_NUMBERS = ("No", "One", "Two", "Three", "Four")


class ModeRow(Protocol):
    """What has failure modes: a compressor, or a loss of a network."""

    @property
    def name(self) -> str: ...
    @property
    def modes(self) -> ModeReport | None: ...
    @property
    def strata(self) -> tuple[Stratum, ...]: ...


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


def mode_section(row: ModeRow, nouns: Nouns = CHANNELS, failure: str = "") -> ModeSection:
    """Of one compressor or loss; empty parts are not shown.

    Args:
        row: With its modes.
        nouns: What the samples are called.
        failure: When it fails; "" for an NMSE above its threshold.
    """
    report = row.modes
    modes = () if report is None else report.modes
    return ModeSection(
        lines=[] if report is None else mode_lines(report, nouns, failure),
        titles=["Mode", "Share of failures, base", f"Share of failures, {nouns.short}",
                "Fail inside, base", f"Fail inside, {nouns.short}", nouns.title, nouns.where],
        rows=[(_cells(mode, report, nouns), _TONES[mode.confirmation]) for mode in modes if report],
        ranges=[(mode.name, _range_rows(mode)) for mode in modes],
        strata=[_stratum_row(stratum) for stratum in row.strata],
        how=next((s.how for s in row.strata if s.how), ""),
    )  # fmt: skip


def _outside(elsewhere: Estimate | None) -> str:
    """How many failures no mode holds, at the end of a sentence."""
    if elsewhere is None:
        return ""
    share, ends = format_parts(elsewhere, percent=True)
    if not elsewhere.value:
        return f"; none of them lies outside ({ends})" if ends else "; none of them lies outside"
    return f"; {share} {ends}".rstrip() + " of the failures lie outside"


def mode_lines(report: ModeReport, nouns: Nouns = CHANNELS, failure: str = "") -> list[str]:
    """What failed, how many modes there are, and how firmly; see `mode_section`."""
    deep = report.rate_base is not None and "subset simulation" in report.rate_base.method
    rates = [
        f"{format_estimate(estimate, percent=True)} of {whose}"
        for estimate, whose in (
            (report.rate_real, f"the {nouns.real}"),
            (report.rate_base, "the base law" if deep else "the base samples"),
        )
        if estimate is not None
    ]
    lines = [f"Failure here: {failure or _nmse_above(report)}, {joined(rates)}."]
    if report.note:
        return [*lines, report.note]
    count = len(report.modes)
    noun = "mode" if count == 1 else "modes"
    among = f"among {report.n_failures:,.0f} failures{_outside(report.elsewhere)}"
    lines.append(f"{_NUMBERS[count]} {noun} found {among}.")
    if report.stability is not None:
        again = f"{count} each time"
        if set(report.found) != {count}:
            again = f"{joined([str(n) for n in report.found])} modes"
        lines.append(
            f"The search in {len(report.found)} resamples of the {nouns.things} finds {again}; "
            f"adjusted Rand index with the division here: {number(report.stability)} (1 is the "
            "same)."
        )
    return lines


def mode_line(row: ModeRow, nouns: Nouns = CHANNELS, failure: str = "") -> str:
    """One line on the first mode: for terminal and Markdown; "" where modes were not looked for.

    Arguments as of `mode_section`.
    """
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
    when = f"{row.name} ({_nmse_above(report)})"
    what = f"{failure[:1].upper()}{failure[1:] or when}: {first.name}"
    return f"{what}; {share} of its failures. {mode_verdict(first, report, nouns)}{others}"


def _nmse_above(report: ModeReport) -> str:
    return f"NMSE above {decibel(report.nmse_db)}"


def _cells(mode: FailureMode, report: ModeReport, nouns: Nouns) -> list[tuple[str, str]]:
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
        _place_cell(mode) if mode.places else (", ".join(places) or "all over", ""),
    ]


def _place_cell(mode: FailureMode) -> tuple[str, str]:
    """Where most unserved users stand, and where others do."""
    words = [f"{100 * p.share:.0f} % {p.name}, around ({p.centre_m[0]:.0f}, {p.centre_m[1]:.0f}) m"
             for p in mode.places]  # fmt: skip
    return words[0], "; ".join(words[1:])


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
    base, real = (format_estimate(e, percent=True) for e in (stratum.base, stratum.real))
    return f"{stratum.label}{unit}", _span(stratum).replace("-", "−"), base, real


def _span(stratum: Stratum) -> str:
    """What of the feature a stratum holds."""
    low, high = stratum.low, stratum.high
    if stratum.name or (low is None and high is None):
        return stratum.name or "all"
    if low is not None and high is not None:
        return f"{low:.3g} to {high:.3g}"
    return f"below {high:.3g}" if low is None else f"from {low:.3g}"
