"""A comparison in words and tables: the answer, the terminal's tables, the cells of the page.

`answer_sentences` and `comparison_tables` decide what is said; page, terminal and Markdown only
print it. rich is imported when a terminal table is asked for.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from reports.comparison import BY_DEFINITION, cvar_name, quantile_name
from reports.comparison_estimates import unpaired_ratio_db
from reports.comparison_schema import (
    OWN_FILE,
    ComparedCompressor,
    ComparedPair,
    ComparedSet,
    ComparisonResult,
    FailureOverlap,
    MatrixCell,
    PairedFigure,
)
from reports.estimates import Estimate, format_estimate, format_parts
from reports.tables import Cell, Tone, estimate_cell
from reports.words import joined, number

if TYPE_CHECKING:
    from rich.table import Table

MANY_PAIRS = 15
"""Pairs from which only those with the leading compressor are shown; all are in the file."""

MANY_AMOUNTS = 4
"""Different code lengths up to which the answer names each."""


@dataclass(frozen=True, kw_only=True)
class WordTable:
    """A table: a title, what to read out of it, column heads, rows of cells."""

    title: str
    remark: str
    heads: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]


# --- The answer -----------------------------------------------------------------------------------


def answer_sentences(result: ComparisonResult) -> list[str]:
    """Who is best and where, whether the failures are the same channels, what a scenario costs."""
    first, *others = result.sets
    where = f"On {_whose(first)}: "
    budgets = amounts_sentence(result.compressors)
    sentences = [where + first.rankings[0].sentence + budgets]
    tail = next((r for r in first.rankings if r.quantity == cvar_name(result.prob)), None)
    if tail is not None and len(result.compressors) > 1:
        sentences.append(where + tail.sentence)
        sentences += _elsewhere_sentences(first, others)
    overlap = _closest(first)
    if overlap is not None:
        sentences.append(_overlap_sentence(overlap))
    shift = scenario_sentence(result)
    return sentences + ([shift] if shift else [])


def _elsewhere_sentences(first: ComparedSet, others: Sequence[ComparedSet]) -> list[str]:
    """What the other sets say of the means: the same in one sentence, else each in its own."""
    said = first.rankings[0].sentence
    same = [_whose(other) for other in others if other.rankings[0].sentence == said]
    differing = [other for other in others if other.rankings[0].sentence != said]
    found = [f"The same of the means can be said on {joined(same)}."] if same else []
    return found + [f"On {_whose(o)}: {o.rankings[0].sentence}" for o in differing]


def amounts_sentence(compressors: Sequence[ComparedCompressor]) -> str:
    """Says so, after a space, where compressors feed back different amounts; "" otherwise."""
    found: dict[str, list[str]] = {}
    for compressor in compressors:
        found.setdefault(fed_back(compressor), []).append(compressor.name)
    if len(found) < 2:
        return ""
    if len(found) > MANY_AMOUNTS:
        return f" They feed back {len(found)} different amounts: see Provenance."
    parts = [f"{amount} ({joined(names)})" for amount, names in found.items()]
    return f" They do not feed back the same amount: {joined(parts)}."


def fed_back(compressor: ComparedCompressor) -> str:
    """What a codeword feeds back: `256 bits`, or `128 reals + 1 scale`."""
    bits, n_code, side = compressor.bits_mean, compressor.n_code, compressor.n_side
    if bits is None and n_code is None:
        return "an unknown amount"
    amount = f"{n_code:,} reals" if bits is None else f"{number(bits, 0)} bits"
    return f"{amount} + {side} scale{'' if side == 1 else 's'}" if side else amount


def _whose(compared: ComparedSet) -> str:
    kind = "real channels of" if compared.kind == "real" else "samples of"
    return f"{compared.n:,} {kind} {compared.name}"


def _closest(compared: ComparedSet) -> FailureOverlap | None:
    """The overlap of the two leading compressors at the first threshold."""
    names = [entry.name for entry in compared.rankings[0].entries[:2]]
    pairs = (o for o in compared.overlaps if {o.first, o.second} == set(names))
    return next(pairs, None)


def _overlap_sentence(overlap: FailureOverlap) -> str:
    if overlap.shared is None:
        return f"Neither {overlap.first} nor {overlap.second} fails at {overlap.threshold}."
    share = format_estimate(overlap.shared, percent=True)
    return (
        f"Of the channels that {overlap.first} or {overlap.second} fails on ({overlap.threshold}), "
        f"both fail on {share}."
    )


def scenario_sentence(result: ComparisonResult) -> str:
    """The largest loss of one compressor from its own scenario to another; "" without any.

    Intervals hold together for all such changes (Bonferroni).
    """
    moves = [
        (own, other)
        for own in result.matrix
        for other in result.matrix
        if own.compressor == other.compressor
        and (own.case, other.case) == ("case 1", "case 2")
        and own.reason != OWN_FILE  # figures on the training file are no ground to stand on
        and min(own.mean.value, other.mean.value) > 0
    ]
    if not moves:
        return ""
    level = 1 - 0.05 / len(moves)
    changes = [unpaired_ratio_db(other.mean, own.mean, level=level) for own, other in moves]
    told = [i for i, change in enumerate(changes) if _lies_above_zero(change)]
    worst = max(told or range(len(moves)), key=lambda i: changes[i].value)
    own, other = moves[worst]
    change = f"{_signed(changes[worst].value)} dB{_interval(changes[worst])}"
    move = f"from {own.set_name} to {other.set_name}"
    several = f", the most of {len(moves)} such changes" if len(moves) > 1 else ""
    if told:
        return (
            f"Away from the scenario it was trained on, {own.compressor} loses: {change} in mean "
            f"NMSE, {move}{several}."
        )
    return (
        "Cannot tell that any compressor loses mean NMSE away from the scenario it was trained on; "
        f"largest change: {own.compressor}, {change}, {move}."
    )


def _lies_above_zero(change: Estimate) -> bool:
    return change.status == "ok" and change.interval is not None and change.interval[0] > 0


def _interval(change: Estimate) -> str:
    if change.interval is None:
        return ""
    return f" [{', '.join(_signed(end) for end in change.interval)}]"


# --- Tables ---------------------------------------------------------------------------------------


def comparison_tables(result: ComparisonResult) -> list[WordTable]:
    """The matrix, then for each set the order, the pairs and the shared failures."""
    tables = [matrix_table(result)]
    for compared in result.sets:
        if compared.pairs:
            tables += [order_table(compared), pair_table(compared), overlap_table(compared)]
    return tables


def matrix_table(result: ComparisonResult) -> WordTable:
    """Every compressor on every set."""
    several = sum(compared.kind == "real" for compared in result.sets) > 1
    told = [t for t in result.thresholds if any(_is_found(cell, t) for cell in result.matrix)]
    heads = [
        "Compressor",
        "Audited on",
        "Case",
        "Mean NMSE [dB]",
        *(f"P(NMSE > {threshold})" for threshold in told),
        f"{quantile_name(result.prob)} [dB]",
        f"{cvar_name(result.prob)} [dB]",
    ]
    return WordTable(
        title="Trained on A, audited on B" if several else "Each compressor",
        remark="Case: generalisation case of 3GPP TR 38.843. 1: trained on the scenario and "
        "configuration it is audited on; 2: on others; 3: on a mixture that holds them.",
        heads=tuple(heads),
        rows=tuple(_matrix_row(cell, told) for cell in result.matrix),
    )


def _is_found(cell: MatrixCell, threshold: str) -> bool:
    """Whether a probability is there, and is no mere consequence of how its threshold was set."""
    return threshold in cell.p_fail and cell.p_fail[threshold].status != BY_DEFINITION


def _matrix_row(cell: MatrixCell, thresholds: Sequence[str]) -> tuple[Cell, ...]:
    tone: Tone = "unsure" if cell.case == "unknown" else ""
    return (
        Cell(text=cell.compressor),
        Cell(text=cell.set_name),
        Cell(text=cell.case, detail=cell.reason, tone=tone),
        decibel_cell(cell.mean),
        *(_share_cell(cell.p_fail.get(t)) for t in thresholds),
        decibel_cell(cell.quantile),
        decibel_cell(cell.cvar),
    )


def _share_cell(estimate: Estimate | None) -> Cell:
    """A probability; one that is fixed by its threshold says so."""
    cell = estimate_cell(estimate, percent=True)
    if estimate is not None and estimate.status == BY_DEFINITION:
        return Cell(text=cell.text, detail=BY_DEFINITION)
    return cell


def order_table(compared: ComparedSet) -> WordTable:
    """Ranks that the verdicts leave open, a row a compressor in the order of the mean."""
    names = [entry.name for entry in compared.rankings[0].entries]
    ranks = {
        ranking.quantity: {entry.name: (entry.best, entry.worst) for entry in ranking.entries}
        for ranking in compared.rankings
    }
    rows = [
        (Cell(text=name), *(_rank_cell(found[name], len(names)) for found in ranks.values()))
        for name in names
    ]
    return WordTable(
        title=f"Order on {_whose(compared)}",
        remark="Ranks that remain possible once only differences beyond chance count (paired "
        "tests, Holm over all pairs, 5 %). A range reads: cannot tell within it. "
        + " ".join(compared.notes),
        heads=("Compressor", *ranks),
        rows=tuple(rows),
    )


def _rank_cell(bounds: tuple[int, int], count: int) -> Cell:
    best, worst = bounds
    if best == worst:
        return Cell(text=str(best))
    if (best, worst) == (1, count):
        return Cell(text="cannot tell", tone="unsure")
    return Cell(text=f"{best} to {worst}", tone="unsure")


def shown_pairs(compared: ComparedSet) -> list[ComparedPair]:
    """All pairs, or those with the leading compressor where they are many."""
    if len(compared.pairs) <= MANY_PAIRS:
        return list(compared.pairs)
    leader = compared.rankings[0].entries[0].name
    return [pair for pair in compared.pairs if leader in (pair.first, pair.second)]


def pair_table(compared: ComparedSet) -> WordTable:
    """Paired differences, first minus second."""
    shown = shown_pairs(compared)
    fewer = "" if len(shown) == len(compared.pairs) else (
        f" Shown are {len(shown)} of {len(compared.pairs)} pairs, those with the leading "
        "compressor; comparison.json has all."
    )  # fmt: skip
    heads = [f"{figure.quantity} [{_unit(figure)}]" for figure in compared.pairs[0].figures]
    return WordTable(
        title=f"Paired differences on {_whose(compared)}",
        remark="First minus second on the same channels; below zero the first is better. "
        f"Intervals are 95 % for each pair alone; colour where the pair can be told.{fewer}",
        heads=("First", "Second", *heads),
        rows=tuple(
            (Cell(text=pair.first), Cell(text=pair.second), *map(figure_cell, pair.figures))
            for pair in shown
        ),
    )


def _unit(figure: PairedFigure) -> str:
    return "points of %" if figure.unit == "1" else figure.unit


def figure_cell(figure: PairedFigure) -> Cell:
    """A paired difference, coloured where it can be told."""
    if figure.difference is None:
        return Cell(text="unknown", tone="unsure")
    percent = figure.unit == "1"
    text, detail = format_parts(figure.difference, percent=percent)
    text, detail = (t.replace("-", "−") for t in (text.removesuffix(" %"), detail))
    tones: dict[str, Tone] = {"first is better": "good", "second is better": "bad"}
    status = figure.difference.status
    if status != "ok" and not detail:
        detail = status
    return Cell(text=text, detail=detail, tone=tones.get(figure.verdict, "unsure"))


def overlap_table(compared: ComparedSet) -> WordTable:
    """Which channels two compressors fail on: the same ones, or each its own."""
    shown = {(pair.first, pair.second) for pair in shown_pairs(compared)}
    rows = [
        (
            Cell(text=overlap.first),
            Cell(text=overlap.second),
            Cell(text=overlap.threshold),
            *(
                estimate_cell(estimate, percent=True)
                for estimate in (overlap.both, overlap.only_first, overlap.only_second)
            ),
            estimate_cell(overlap.shared, percent=True)
            if overlap.shared
            else Cell(text="none fails"),
            Cell(text=f"{100 * overlap.by_chance:.2g} %"),
        )
        for overlap in compared.overlaps
        if (overlap.first, overlap.second) in shown
    ]
    return WordTable(
        title=f"Shared and separate failures on {_whose(compared)}",
        remark="Shared: of the channels that either fails on, those that both do. By chance: how "
        "often both would fail were failures independent.",
        heads=("First", "Second", "NMSE above", "Both fail", "Only first", "Only second",
               "Shared", "Both, by chance"),
        rows=tuple(rows),
    )  # fmt: skip


def decibel_cell(estimate: Estimate) -> Cell:
    """A linear figure with its interval, both in dB."""
    if estimate.value <= 0:
        return Cell(text="no error")
    text = number(_db(estimate.value))
    if estimate.interval is None:
        return Cell(text=text, detail=estimate.status if estimate.status != "ok" else "")
    lo, hi = estimate.interval
    low = number(_db(lo)) if lo > 0 else "−∞"
    return Cell(text=text, detail=f"[{low}, {number(_db(hi))}]")


def _db(value: float) -> float:
    return 10 * math.log10(value)


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else '−'}{number(abs(value))}"


# --- Terminal -------------------------------------------------------------------------------------


def terminal_table(table: WordTable) -> "Table":
    """A table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    styles = {"": "", "good": "green", "bad": "red", "unsure": "yellow"}
    shown = Table(title=Text(table.title), title_justify="left")
    for head in table.heads:
        shown.add_column(Text(head), overflow="fold")
    for row in table.rows:
        cells = []
        for cell in row:
            text = Text(cell.text, style=styles[cell.tone])
            cells.append(text.append(f" {cell.detail}", style="dim") if cell.detail else text)
        shown.add_row(*cells)
    return shown


def short_names(names: Sequence[str]) -> str:
    """Names in a title: all of a few, else how many."""
    return joined(list(names)) if len(names) <= 4 else f"{len(names)} compressors"
