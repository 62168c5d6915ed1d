"""Tails, guided samples, chains side by side and the choice of methods, as rows and sentences.

For the page; plain text, escaped by the template. Nothing is computed beyond choosing what to say.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from reports.estimates import Estimate, format_estimate
from reports.schema import CompressorRow, ImportanceEstimates, Result
from reports.tail_schema import Candidate, ChainFigures, Decision, GuidedEntry, LossTail, TailPoint
from reports.words import UNKNOWN, joined

MEAN = "E_p[L]"
_KINDS = {
    "audited law": "audited law",
    "guided chain": "chain of guided sampling",
    "doubled steps": "audited law, twice the steps",
}


@dataclass(frozen=True, kw_only=True)
class TailSection:
    """What the page says of one compressor beyond its row of the main table.

    Attributes:
        method: How the tail curve was found, "" without one.
        points: (share, base, real, remark) of each point of the curve.
        titles: Heads of the table of chains.
        chains: Its rows.
        shifts: What twice the steps change, a sentence each.
        guided: Sentences on guided sampling.
    """

    method: str
    points: Sequence[tuple[str, str, str, str]]
    titles: Sequence[str]
    chains: Sequence[Sequence[str]]
    shifts: Sequence[str]
    guided: Sequence[str]


class TailRow(Protocol):
    """What has tails: a compressor, or a loss of a network."""

    @property
    def name(self) -> str: ...
    @property
    def estimates(self) -> ImportanceEstimates: ...


def tail_section(row: TailRow, *, loss: str = "NMSE", weight: str = "L") -> TailSection:
    """Of one compressor or loss; empty parts are not shown.

    Args:
        row: With its estimates.
        loss: Symbol of the loss in P(loss > tau).
        weight: Symbol of what E_q averages.
    """
    found = row.estimates
    return TailSection(
        method="" if found.curve is None else curve_method(found.curve),
        points=[] if found.curve is None else [_point(p) for p in found.curve.points],
        titles=["Law", *(_title(key, loss) for key in _figures(found.chains))],
        chains=[_chain_row(entry, _figures(found.chains)) for entry in found.chains],
        shifts=[line for entry in found.chains for line in _shift_lines(entry, loss)],
        guided=[] if found.guided is None else guided_lines(row.name, found.guided, found, weight),
    )


def one_in(probability: float) -> str:
    """0.001 as "1 in 1,000"."""
    return f"1 in {1 / probability:,.0f}"


def curve_method(curve: LossTail) -> str:
    """How a curve was found and what it cost."""
    cost = "" if curve.n_evaluations is None else f"; {curve.n_evaluations:,} evaluations"
    return f"{curve.method}{cost}"


def deepest_common(result: Result) -> float | None:
    """The smallest probability that the tail curves of all compressors reach; None without any."""
    shared: set[float] | None = None
    for row in result.compressors:
        curve = row.estimates.curve
        here = set() if curve is None else {p.probability for p in curve.points if p.base}
        shared = here if shared is None else shared & here
    return min(shared) if shared else None


def point_at(row: CompressorRow, probability: float) -> TailPoint | None:
    """The point of a compressor's tail at a probability; None where it has none."""
    points = () if row.estimates.curve is None else row.estimates.curve.points
    return next((point for point in points if point.probability == probability), None)


def guided_lines(
    name: str, entry: GuidedEntry, found: ImportanceEstimates, weight: str = "L"
) -> list[str]:
    """E_q[L] guided beside reweighting on both chains, Z, and what the twist explains."""
    shares = [f"{float(s):.2g}: {round(r2, 2) + 0.0:.2f}" for s, r2 in entry.r2.items()]
    explained = ", ".join(shares)  # + 0.0: no -0.00
    return [
        f"{name}: E_q[{weight}] = {format_estimate(entry.e_q)} by {entry.e_q.method} "
        f"({entry.n:,} samples). Status: {entry.e_q.status}.",
        f"Reweighting of plain draws of the same chain gives {format_estimate(entry.reweighted)} "
        f"(status: {entry.reweighted.status}), of the audited law {format_estimate(found.e_q)}. "
        f"The guided run's own E_p[{weight}] is {format_estimate(entry.z)}.",
        f"Share of the variance of l that the twist explains, by noise level: {explained}.",
    ]


def decision_lines(result: Result) -> list[tuple[str, str, str, str, str]]:
    """(compressor, question, method, why, prices) of every decision."""
    return [cells for row in result.compressors for cells in decisions_of(row.name, row.estimates)]


def decisions_of(name: str, found: ImportanceEstimates) -> list[tuple[str, str, str, str, str]]:
    """The same of one compressor or loss."""
    return [(name, d.quantity, d.chosen, f"{d.reason}.", _prices(d)) for d in found.decisions]


def _prices(decision: Decision) -> str:
    """What each candidate would cost, and why it was rejected."""
    parts = [f"{c.method} {_price(c)}{_why(c, decision)}" for c in decision.candidates]
    return f"For {decision.unit}: {'; '.join(parts)}."


def _price(candidate: Candidate) -> str:
    if candidate.evaluations is None:
        return "no price"
    seconds = "" if candidate.seconds is None else f", {_seconds(candidate.seconds)}"
    return f"{_rounded(candidate.evaluations)} evaluations{seconds}"


def _why(candidate: Candidate, decision: Decision) -> str:
    """The verdict, unless the reason has said it."""
    return "" if candidate.verdict == decision.reason else f" ({candidate.verdict})"


def _rounded(value: float) -> str:
    return f"{float(f'{value:.2g}'):,.0f}"


def _seconds(value: float) -> str:
    return f"{value:.2g} s" if value < 100 else f"{_rounded(value)} s"


def _point(point: TailPoint) -> tuple[str, str, str, str]:
    """Share, base and real level, and what is wrong with the base one."""
    base, real = (format_estimate(e).replace("-", "−") for e in (point.base, point.real))
    status = "" if point.base is None or point.base.status == "ok" else point.base.status
    return one_in(point.probability), base, real, status


def _figures(chains: Sequence[ChainFigures]) -> list[str]:
    """E_p[L] and the threshold labels of a table of chains."""
    return [MEAN, *chains[0].tails] if chains else []


def _title(key: str, loss: str) -> str:
    return key if key == MEAN else f"P({loss} > {key})"


def _chain_row(entry: ChainFigures, keys: Sequence[str]) -> list[str]:
    cells = [f"{_KINDS.get(entry.label, entry.label)}: {entry.chain}"]
    for key in keys:
        estimate: Estimate | None = entry.e_p if key == MEAN else entry.tails.get(key)
        text = UNKNOWN if estimate is None else format_estimate(estimate, percent=key != MEAN)
        cells.append(f"{text} (moved)" if key in entry.moved else text)
    return cells


def _shift_lines(entry: ChainFigures, loss: str) -> list[str]:
    """How far figures move, where both chains went from the same noise."""
    if not entry.shifts:
        return []
    parts = []
    for key, shift in entry.shifts.items():
        percent = key != MEAN
        by = "does not move" if shift.value == 0 else "moves by " + format_estimate(
            shift, percent=percent
        )  # fmt: skip
        parts.append(f"{_title(key, loss)} {by}")
    verdict = (
        f"Beyond the audited law's interval: {joined([_title(k, loss) for k in entry.moved])}."
        if entry.moved
        else "No figure is surely beyond the audited law's interval."
    )
    return [f"Twice the steps from the same noise: {joined(parts)}. {verdict}"]
