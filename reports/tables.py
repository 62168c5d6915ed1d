"""The one table of the report, a row per compressor, and its forms for terminal and Markdown.

`result_table` decides columns and cells once; the page, the terminal and Markdown only print them.
rich is imported when a terminal table is asked for, since its import draws from Python's global
random generator.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from reports.estimates import Estimate, format_parts
from reports.mode_words import mode_line
from reports.schema import CompressorRow, LossSummary, Result, Tail, Threshold
from reports.tail_words import deepest_common, one_in, point_at
from reports.words import UNKNOWN, answer, budget, decibel, number, scales

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

Tone = Literal["", "good", "bad", "unsure"]
TONES: dict[str, Tone] = {"agree": "good", "differ": "bad", "cannot tell": "unsure"}
_STYLES: dict[Tone, str] = {"": "", "good": "green", "bad": "red", "unsure": "yellow"}
_MARKS = {
    "†": "by subset simulation, not counted on the base samples.",
    "*": "weights too uneven for the interval to be relied on.",
}


@dataclass(frozen=True, kw_only=True)
class Column:
    """A column: the heading it shares with its neighbours, its own title, and what it means."""

    group: str
    title: str
    help: str


@dataclass(frozen=True, kw_only=True)
class Cell:
    """A figure, its interval or a remark in small print, and how it should strike the eye."""

    text: str
    detail: str = ""
    tone: Tone = ""


def result_table(result: Result) -> tuple[list[Column], list[list[Cell]]]:
    """Columns and rows of the main table; None reads "unknown"."""
    rows = [_row(result, row) for row in result.compressors]
    return _columns(result), rows


def summary_table(result: Result) -> "Table":
    """The main table for the terminal, transposed: a column per compressor fits 80 characters."""
    from rich.table import Table
    from rich.text import Text

    columns, rows = result_table(result)
    table = Table(title="csi-audit", title_justify="left", show_lines=False)
    table.add_column(columns[0].title)
    for row in rows:
        table.add_column(Text(row[0].text), justify="right")
    previous = ""
    for i, column in enumerate(columns[1:], start=1):
        if column.group != previous and previous:
            table.add_section()
        previous = column.group
        table.add_row(Text(plain_title(column)), *(_terminal_cell(row[i]) for row in rows))
    return table


def markdown_summary(result: Result) -> str:
    """The answer, the main table and the warnings as Markdown (GitHub flavour)."""
    columns, rows = result_table(result)
    lines = [markdown_text(sentence) for sentence in answer(result)] + [""]
    lines += markdown_table(columns, rows)
    lines += ["", f"Audited law: {markdown_text(result.audited_law or UNKNOWN)}"]
    lines += [f"- {markdown_text(note)}" for note in mark_notes(rows)]
    modes = [mode_line(row) for row in result.compressors]
    lines += [f"- Failure mode: {markdown_text(line)}" for line in modes if line]
    lines += [f"- Warning: {markdown_text(warning)}" for warning in result.warnings]
    return "\n".join(lines) + "\n"


def markdown_table(columns: Sequence[Column], rows: Sequence[Sequence[Cell]]) -> list[str]:
    """The lines of a table in Markdown."""
    heads = [markdown_text(plain_title(column)) for column in columns]
    body = [[markdown_text(f"{c.text} {c.detail}".strip()) for c in row] for row in rows]
    lines = [f"| {' | '.join(cells)} |" for cells in (heads, *body)]
    return [lines[0], "|" + " --- |" * len(columns), *lines[1:]]


def mark_notes(rows: Sequence[Sequence[Cell]]) -> list[str]:
    """What the marks mean that figures of a table bear; names, in the first column, bear none."""
    words = {word for row in rows for cell in row[1:] for word in cell.text.split()}
    return [f"{mark} {meaning}" for mark, meaning in _MARKS.items() if mark in words]


def plain_title(column: Column) -> str:
    """Group and title in one line: "NMSE [dB], real"."""
    return f"{column.group}, {column.title}" if column.group else column.title


def threshold_title(threshold: Threshold) -> str:
    """ "P(NMSE > −5 dB)", or with the label where every compressor has its own threshold."""
    what = threshold.label if threshold.nmse_db is None else decibel(threshold.nmse_db)
    return f"P(NMSE > {what})"


def _columns(result: Result) -> list[Column]:
    columns = [Column(group="", title="Compressor", help="Name of the compressor.")]
    for tau in result.tau:
        group = threshold_title(tau)
        columns += [
            Column(group=group, title="real", help=f"Counted on real channels. {tau.origin}"),
            Column(group=group, title="base", help=f"On samples of the base law. {tau.origin}"),
            Column(group=group, title="agree?", help="Do base samples and real channels agree?"),
        ]
    deep = deepest_common(result)
    if deep is not None:
        title, rule = f"{one_in(deep)} [dB]", "That share of the base law lies beyond."
        columns.append(Column(group="NMSE exceeded by", title=title, help=rule))
    return [
        *columns,
        Column(group="Mean loss L", title="E_p[L]", help="Mean over the base law."),
        Column(group="Mean loss L", title="E_q[L]", help="Mean over the failure-weighted law."),
        Column(group="NMSE [dB]", title="real", help="Mean over real channels, then dB."),
        Column(group="NMSE [dB]", title="base", help="Mean over base samples, then dB."),
        Column(group="SGCS", title="real", help="Mean squared cosine similarity, 1 is perfect."),
        Column(group="SGCS", title="base", help="The same on base samples."),
        Column(group="", title="Code length", help="What one codeword feeds back."),
        Column(
            group="",
            title="Against KLT",
            help="An unquantised KLT with as many reals; + is better.",
        ),
    ]


def _row(result: Result, row: CompressorRow) -> list[Cell]:
    tails = {tail.threshold: tail for tail in row.estimates.tails}
    cells = [Cell(text=row.name)]
    for tau in result.tau:
        cells += _tail_cells(result, tails.get(tau.label), tau)
    deep = deepest_common(result)
    point = None if deep is None else point_at(row, deep)
    if point is not None:
        cells.append(doubtful_cell(result, _level_cell(point.base)))
    several = len({other.estimates.loss for other in result.compressors}) > 1
    loss = f" {row.estimates.loss}" if several else ""
    means = (_named(row.estimates.e_p, loss), _named(row.estimates.e_q, loss))
    cells += [doubtful_cell(result, cell) for cell in means]
    cells += [_decibel_cell(row, "real"), doubtful_cell(result, _decibel_cell(row, "base"))]
    sgcs = row.losses.get("sgcs")
    cells += [_loss_cell(sgcs, "real"), doubtful_cell(result, _loss_cell(sgcs, "base"))]
    return [*cells, _code_cell(row), _klt_cell(row)]


def _tail_cells(result: Result, tail: Tail | None, tau: Threshold) -> list[Cell]:
    if tail is None:
        return [Cell(text=UNKNOWN)] * 3
    at = f"at {decibel(tail.tau_db)}" if tau.nmse_db is None else ""
    verdict = tail.agreement if tail.base and tail.real else UNKNOWN
    return [
        estimate_cell(tail.real, percent=True),
        doubtful_cell(result, _base_cell(tail)),
        Cell(text=verdict, detail=at, tone=TONES.get(verdict, "")),
    ]


def _base_cell(tail: Tail) -> Cell:
    """P under the base law, marked where it was not counted on the base samples."""
    cell = estimate_cell(tail.base, percent=True)
    return cell if tail.counted is None else replace(cell, text=f"{cell.text} †")


def _level_cell(estimate: Estimate | None) -> Cell:
    """A level in dB with true minus signs."""
    cell = estimate_cell(estimate)
    return replace(cell, text=cell.text.replace("-", "−"), detail=cell.detail.replace("-", "−"))


def estimate_cell(estimate: Estimate | None, *, percent: bool = False) -> Cell:
    """An estimate as a cell, its interval in small print; a star where its status is not ok."""
    if estimate is None:
        return Cell(text=UNKNOWN)
    text, detail = format_parts(estimate, percent=percent)
    uneven = estimate.status.startswith("weights too uneven")
    return Cell(
        text=f"{text} *" if uneven else text, detail=detail, tone="unsure" if uneven else ""
    )


def doubtful_cell(result: Result, cell: Cell) -> Cell:
    """A figure on base samples, marked where the base law misses the real channels."""
    doubt = result.base.verdict == "misses" and cell.text != UNKNOWN
    return replace(cell, tone="unsure") if doubt else cell


def _named(estimate: Estimate | None, loss: str) -> Cell:
    """An estimate with the name of its loss behind it, where rows have different losses."""
    cell = estimate_cell(estimate)
    return cell if estimate is None else replace(cell, text=cell.text + loss)


def _loss_cell(loss: LossSummary | None, source: Literal["base", "real"]) -> Cell:
    estimate = None if loss is None else loss.real if source == "real" else loss.base
    return Cell(text=UNKNOWN if estimate is None else f"{estimate.value:.3f}")


def _decibel_cell(row: CompressorRow, source: Literal["base", "real"]) -> Cell:
    return Cell(text=number(row.mean_db(source)))


def _code_cell(row: CompressorRow) -> Cell:
    """`256 bits` with what they leave out, or `128 + 1 reals` with the compression ratio."""
    if row.bits_mean is not None:
        most = f"at most {row.bits_max:,.0f}" if row.bits_max != row.bits_mean else ""
        side = f"+ {scales(row)} uncounted in bits" if row.n_side else ""
        return Cell(text=budget(row), detail=", ".join(part for part in (most, side) if part))
    if row.n_side is None:  # an older result does not say whether the code is quantised
        return Cell(text=budget(row))
    ratio = f", 1/{number(row.n_channel / row.n_code)}" if row.n_channel else ""
    return Cell(text=budget(row), detail=f"unquantised{ratio}")


def _klt_cell(row: CompressorRow) -> Cell:
    gain = row.against_klt_db
    if gain is None:
        return Cell(text="n/a" if row.against_klt else UNKNOWN)
    if abs(gain) < 0.05:
        return Cell(text="level")
    tone: Tone = "good" if gain > 0 else "bad"
    return Cell(text=f"{'+' if gain > 0 else '−'}{abs(gain):.1f} dB", tone=tone,
                detail="better" if gain > 0 else "worse")  # fmt: skip


def _terminal_cell(cell: Cell) -> "Text":
    from rich.text import Text

    text = Text(cell.text, style=_STYLES[cell.tone])
    return text.append(f" {cell.detail}", style="dim") if cell.detail else text


def markdown_text(text: str) -> str:
    """Text that Markdown shows as it stands: no markup, no table breaks, no HTML."""
    for sign in "\\`*_[]|#":
        text = text.replace(sign, "\\" + sign)
    return text.replace("<", "&lt;").replace("\n", " ")
