"""Tails, chains and decisions on the page: words, rows and a figure."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from reports import CompressorRow, Estimate, ReportArrays, Result, proportion
from reports.report import render_page
from reports.tables import plain_title, result_table
from reports.tail_schema import (
    Candidate,
    ChainFigures,
    Decision,
    GuidedEntry,
    LossTail,
    TailPoint,
)
from reports.tail_words import (
    decision_lines,
    deepest_common,
    one_in,
    tail_section,
)
from reports.words import failure_sentence

pytestmark = pytest.mark.unit


def level(value: float, status: str = "ok") -> Estimate:
    return Estimate(
        value=value, interval=(value - 1, value + 1), n=10, status=status, method="runs"
    )


def curve(*probabilities: float, runs: int | None = 10) -> LossTail:
    points = tuple(
        TailPoint(
            probability=p,
            base=level(10 * np.log10(p) / 4, "ok" if p > 0.01 else "runs disagree"),
            real=level(-5.0) if p > 0.01 else None,
        )
        for p in probabilities
    )
    return LossTail(method="runs", runs=runs, n_evaluations=12_345, points=points)


def with_estimates(result: Result, **changes: Any) -> Result:
    """Every compressor with these entries among its estimates."""
    rows = tuple(
        replace(row, estimates=replace(row.estimates, **changes)) for row in result.compressors
    )
    return replace(result, compressors=rows)


@pytest.fixture
def deep(fake_result: Result) -> Result:
    """With a tail curve, guided samples, three chains and two decisions for each compressor."""
    first = fake_result.compressors[0].estimates
    labels = [tail.threshold for tail in first.tails]
    tails = {label: proportion(3, 400) for label in labels}
    e = level(0.2)
    chains = (
        ChainFigures(label="audited law", chain="ODE, 30 steps", e_p=e, tails=tails),
        ChainFigures(label="guided chain", chain="SDE, 40 steps", e_p=e, tails=tails),
        ChainFigures(
            label="doubled steps",
            chain="ODE, 60 steps",
            e_p=e,
            tails=tails,
            shifts={"E_p[L]": level(0.01), labels[0]: replace(level(0.0), interval=None)},
            moved=("E_p[L]",),
        ),
    )
    candidates = (
        Candidate(
            method="reweighting", evaluations=204_321.0, seconds=250.0, verdict="shown beside"
        ),
        Candidate(method="guided SMC", evaluations=87_777.0, seconds=3.21, verdict="chosen"),
        Candidate(method="subset simulation", evaluations=None, seconds=None, verdict="no means"),
    )
    decision = Decision(
        quantity="E_q[NMSE]", chosen="guided SMC", reason="CV^2 is <b>5.8</b>",
        unit="1,000 samples", candidates=candidates,
    )  # fmt: skip
    guided = GuidedEntry(e_q=e, z=e, reweighted=e, n=640, steps=40, r2={"57.5": -0.01, "0.01": 1.0})
    return with_estimates(
        fake_result,
        curve=curve(0.1, 0.01, 0.001),
        guided=guided,
        chains=chains,
        decisions=(decision,),
    )


def test_shares() -> None:
    assert [one_in(10.0**-k) for k in (1, 3, 6)] == [
        "1 in 10",
        "1 in 1,000",
        "1 in 1,000,000",
    ]


def test_a_section_has_every_part(deep: Result) -> None:
    found = tail_section(deep.compressors[0])
    assert found.method == "runs; 12,345 evaluations"
    assert [point[0] for point in found.points] == ["1 in 10", "1 in 100", "1 in 1,000"]
    assert found.points[0][1] == "−2.5 [−3.5, −1.5]"
    assert [point[3] for point in found.points] == ["", "runs disagree", "runs disagree"]
    assert found.points[2][2] == "unknown"
    assert found.titles[:2] == ["Law", "E_p[L]"]
    assert [row[0] for row in found.chains] == [
        "audited law: ODE, 30 steps",
        "chain of guided sampling: SDE, 40 steps",
        "audited law, twice the steps: ODE, 60 steps",
    ]
    assert [row[1].endswith("(moved)") for row in found.chains] == [False, False, True]
    (line,) = found.shifts
    assert line.startswith("Twice the steps from the same noise: E_p[L] moves by 0.0 [-1.0, 1.0]")
    assert "does not move" in line
    assert line.endswith("Beyond the audited law's interval: E_p[L].")
    first, _, explained = found.guided
    assert "by runs (640 samples). Status: ok." in first
    assert explained.endswith("58: -0.01, 0.01: 1.00.")


def test_an_older_result_has_no_section(fake_result: Result) -> None:
    found = tail_section(fake_result.compressors[0])
    assert (found.method, found.points, found.chains, found.shifts, found.guided) == (
        "", [], [], [], [],
    )  # fmt: skip
    assert decision_lines(fake_result) == []


def test_prices_are_said_with_every_decision(deep: Result) -> None:
    name, question, method, why, prices = decision_lines(deep)[0]
    assert (name, question, method) == (deep.compressors[0].name, "E_q[NMSE]", "guided SMC")
    assert why == "CV^2 is <b>5.8</b>."
    assert prices == (
        "For 1,000 samples: reweighting 200,000 evaluations, 250 s (shown beside); guided SMC "
        "88,000 evaluations, 3.2 s (chosen); subset simulation no price (no means)."
    )


def test_the_page_shows_it_escaped(deep: Result) -> None:
    page = render_page(deep)
    for words in ("Why these methods", "1 in 1,000", "chain of guided sampling", "&lt;b&gt;5.8"):
        assert words in page
    assert "<b>5.8" not in page


def test_the_table_has_the_deepest_level_that_all_reach(deep: Result) -> None:
    assert deepest_common(deep) == 0.001
    first, *rest = deep.compressors
    short = replace(first, estimates=replace(first.estimates, curve=curve(0.1, 0.01, runs=None)))
    mixed = replace(deep, compressors=(short, *rest))
    assert deepest_common(mixed) == 0.01
    columns, rows = result_table(mixed)
    at = [plain_title(column) for column in columns].index("NMSE exceeded by, 1 in 100 [dB]")
    assert [row[at].text for row in rows] == ["−5.0"] * len(rows)
    assert {len(row) for row in rows} == {len(columns)}
    none = replace(first, estimates=replace(first.estimates, curve=None))
    assert deepest_common(replace(deep, compressors=(none, *rest))) is None
    assert len(result_table(replace(deep, compressors=(none, *rest)))[0]) == len(columns) - 1


def test_a_figure_by_subset_simulation_is_marked(fake_result: Result) -> None:
    """A dagger in the table with its note, and no number of base samples in the answer."""

    found = Estimate(value=1e-4, interval=(5e-5, 2e-4), n=10, method="runs")

    def rare(row: CompressorRow) -> CompressorRow:
        tails = tuple(replace(tail, base=found, counted=tail.base) for tail in row.estimates.tails)
        return replace(row, estimates=replace(row.estimates, tails=tails))

    marked = replace(fake_result, compressors=tuple(rare(row) for row in fake_result.compressors))
    page = render_page(marked)
    assert " % †" in page
    assert "† by subset simulation" in page
    assert "of the base law" in failure_sentence(marked)
    assert "of 10 base samples" not in failure_sentence(marked)
    assert "by subset simulation, not counted" not in render_page(fake_result)


def test_the_curve_is_drawn(fake_arrays: ReportArrays) -> None:
    from matplotlib.figure import Figure

    from reports.figures import distortion_figure
    from reports.tail_figures import draw_tail

    axis = Figure().subplots()
    reach = draw_tail(axis, curve(0.1, 0.01))
    assert reach is not None
    assert reach == pytest.approx((-1.5, 0.01))
    ((line, _, bars),) = axis.containers
    np.testing.assert_allclose(line.get_xydata(), [[-2.5, 0.1], [-5.0, 0.01]])
    ends = [segment[:, 0] for segment in bars[0].get_segments()]
    np.testing.assert_allclose(ends, [[-3.5, -1.5], [-6.0, -4.0]])
    assert draw_tail(axis, replace(curve(), points=())) is None
    name = next(iter(fake_arrays.nmse_base))
    _, bottom = distortion_figure(fake_arrays, name, None, curve(0.1, 1e-6)).axes
    assert bottom.get_ylim()[0] < 1e-6
    legend = bottom.get_legend()
    assert legend is not None
    assert "base law, subset simulation" in [text.get_text() for text in legend.get_texts()]
