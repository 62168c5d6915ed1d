"""Tables of a check of a base law for the terminal.

rich is imported when a table is asked for, since its import draws from Python's global random
generator.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from reports.check_schema import BaseCheck
from reports.estimates import format_estimate
from reports.fidelity_items import StepDoubling, TailRatio, TrainDistortion, WassersteinItem
from reports.schema import RealismItem
from reports.words import decibel, number, ratio_level, share_text

if TYPE_CHECKING:
    from rich.table import Table

_STYLES = {
    "within chance": "green", "pass": "green", "still": "green", "alike": "green", "off": "red",
    "moves": "red", "off by little": "yellow", "cannot tell": "yellow",
}  # fmt: skip


def tables_of_check(check: BaseCheck) -> "Iterator[Table]":
    """Distances, tail ratios, and what the steps and the training users change."""
    heads: tuple[str, ...] = ("quantity", "unit", "KS", "perfect: mean", "95 %", "limit", "W1",
                              "perfect: mean", "95 %", "verdict")  # fmt: skip
    yield _table(f"{check.chain}; {check.base.n_samples} samples, {check.data.n} real channels",
                 heads, [_distance(*pair) for pair in _pairs(check)])  # fmt: skip
    if check.tail_ratios:
        heads = ("tail of", "worst", "from", "base", "real", "ratio", "perfect: 95 %", "verdict")
        yield _table("base over real, at quantiles of the real channels", heads,
                     [ratio_cells(ratio) for ratio in check.tail_ratios])  # fmt: skip
    if check.doubling:
        heads = ("quantity", "KS moved", "none up to", "KS to real", "at twice the steps",
                 "worst 1 %", "at twice", "verdict")  # fmt: skip
        yield _table("twice the steps, the same initial noise", heads,
                     [_doubled(row) for row in check.doubling])  # fmt: skip
    if check.train_distortion:
        heads = ("NMSE [dB]", "base", "training", "held out", "KS to training", "KS to held out",
                 "verdict")  # fmt: skip
        yield _table("training users and held-out users", heads,
                     [_trained(row) for row in check.train_distortion])  # fmt: skip


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left")
    for head in heads:
        table.add_column(head)
    for row in rows:
        table.add_row(*(Text(cell) for cell in row[:-1]), Text(row[-1], _STYLES.get(row[-1], "")))
    return table


def _pairs(check: BaseCheck) -> list[tuple[RealismItem, WassersteinItem]]:
    by_name = {item.name: item for item in check.wasserstein}
    return [(item, by_name[item.name]) for item in check.realism if item.name in by_name]


def _distance(item: RealismItem, other: WassersteinItem) -> tuple[str, ...]:
    moved = (f"{value:.3g}" for value in (other.distance, other.floor_mean, other.floor_95))
    known = (number(value, 3) for value in (item.ks, item.floor_mean, item.floor_95, item.limit))
    return (item.label, other.unit, *known, *moved, item.verdict)


def ratio_cells(ratio: TailRatio, units: Mapping[str, str] | None = None) -> tuple[str, ...]:
    """A row: loss, share, threshold, counts on both sides, ratio, a perfect model's, verdict.

    Args:
        ratio: The row.
        units: Of losses other than the NMSE, by name.
    """
    if units is not None and ratio.name in units:
        level = ratio_level(ratio, units)
    else:
        level = "-" if not ratio.tau or ratio.tau <= 0 else decibel(10 * math.log10(ratio.tau))
    perfect = "-" if ratio.perfect is None else "[{:.2f}, {:.2f}]".format(*ratio.perfect)
    return (
        ratio.label, share_text(ratio.share), level, f"{ratio.base_beyond} of {ratio.n_base:,}",
        f"{ratio.real_beyond} of {ratio.n_real:,}", format_estimate(ratio.ratio), perfect,
        ratio.verdict,
    )  # fmt: skip


def _doubled(row: StepDoubling) -> tuple[str, ...]:
    counts = ("-" if n is None else str(n) for n in (row.beyond, row.beyond_doubled))
    known = (f"{v:.3f}" for v in (row.ks, row.limit, row.ks_real, row.ks_real_doubled))
    return (row.label, *known, *counts, row.verdict)


def _trained(row: TrainDistortion) -> tuple[str, ...]:
    levels = (number(value) for value in (row.base_db, row.train_db, row.held_out_db))
    return (row.name, *levels, f"{row.ks_train:.3f}", f"{row.ks_held_out:.3f}", row.verdict)
