"""The main table of a network's report, a row per loss and threshold, and its Markdown."""

from dataclasses import replace

from reports.level_words import UNKNOWN, level_text
from reports.loss_schema import Tail
from reports.mode_words import mode_line
from reports.network_schema import OutageRow
from reports.network_words import (
    failure_words,
    mode_failure,
    network_answer,
    network_nouns,
)
from reports.nouns import Nouns
from reports.schema import Result
from reports.tables import (
    TONES,
    Cell,
    Column,
    doubtful_cell,
    estimate_cell,
    mark_notes,
    markdown_table,
)
from reports.tables import markdown_text as text


def outage_cells(result: Result) -> tuple[list[Column], list[list[Cell]]]:
    """Columns and rows of the main table; None reads "unknown"."""
    rows = []
    for row in result.outages:
        for i, tail in enumerate(row.estimates.tails or (None,)):
            means = _mean_cells(result, row)
            again = [Cell(text="")] * len(means)  # they are the loss's, not the threshold's
            rows.append([*_tail_cells(result, row, tail), *(again if i else means)])
    return _columns(network_nouns(result)), rows


def network_markdown(result: Result) -> str:
    """The answer, the main table and the warnings as Markdown (GitHub flavour)."""
    nouns = network_nouns(result)
    columns, rows = outage_cells(result)
    lines = [text(sentence) for sentence in network_answer(result)] + [""]
    lines += [*markdown_table(columns, rows), ""]
    lines.append(f"Audited law: {text(result.audited_law or UNKNOWN)}")
    lines += [f"- {text(note)}" for note in mark_notes(rows)]
    modes = [mode_line(row, nouns, mode_failure(row)) for row in result.outages]
    lines += [f"- Failure mode: {text(line)}" for line in modes if line]
    lines += [f"- Warning: {text(warning)}" for warning in result.warnings]
    return "\n".join(lines) + "\n"


def tail_note(row: OutageRow, tail: Tail, result: Result) -> str:
    """A threshold below the table: what it means, and where it comes from."""
    origin = next((t.origin for t in result.tau if t.label == tail.threshold), "")
    return f"{failure_words(row, tail.level)}: {origin or tail.threshold}"


def _columns(nouns: Nouns) -> list[Column]:
    beyond, mean = "P(beyond threshold)", "Mean loss"
    return [
        Column(group="", title="Loss", help="What is looked into; defined below the table."),
        Column(group="", title="Threshold", help="Beyond it the network fails by this loss."),
        Column(group=beyond, title=nouns.short, help=f"Counted on {nouns.real}."),
        Column(group=beyond, title="base", help="Under the base law."),
        Column(group=beyond, title="agree?", help=f"Do base law and {nouns.real} agree?"),
        Column(group=mean, title=nouns.short, help=f"Mean over the {nouns.real}."),
        Column(group=mean, title="E_p[L]", help="Mean over the base law."),
        Column(group="Weight", title="E_q[l]", help="Mean over the failure-weighted law."),
    ]


def _tail_cells(result: Result, row: OutageRow, tail: Tail | None) -> list[Cell]:
    name = Cell(text=row.label)
    if tail is None:
        return [name, *[Cell(text=UNKNOWN)] * 4]
    side = ">" if row.worse == "high" else "<"
    level = UNKNOWN if tail.level is None else f"{side} {level_text(tail.level, row.unit)}"
    own = tail.threshold not in (UNKNOWN, level_text(tail.level or 0.0, row.unit))
    base = estimate_cell(tail.base, percent=True)
    if tail.counted is not None:
        base = Cell(text=f"{base.text} †", detail=base.detail, tone=base.tone)
    verdict = tail.agreement if tail.base and tail.real else UNKNOWN
    return [
        name,
        Cell(text=level, detail=tail.threshold if own else ""),
        estimate_cell(tail.real, percent=True),
        doubtful_cell(result, base),
        Cell(text=verdict, tone=TONES.get(verdict, "")),
    ]


def _mean_cells(result: Result, row: OutageRow) -> list[Cell]:
    loss = row.losses.get(row.name)
    unit = "" if row.unit == "1" else f" {row.unit}"
    cells = [
        estimate_cell(None if loss is None else loss.real),
        doubtful_cell(result, estimate_cell(row.estimates.e_p)),
    ]
    means = [replace(c, text=c.text if c.text == UNKNOWN else f"{c.text}{unit}") for c in cells]
    means.append(doubtful_cell(result, estimate_cell(row.estimates.e_q)))
    return [replace(c, text=_minus(c.text), detail=_minus(c.detail)) for c in means]


def _minus(text: str) -> str:
    return text.replace("-", "−")
