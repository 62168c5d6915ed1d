"""What is fed back, in the tables and in the first sentence: unequal budgets never silently."""

from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from reports import Result, answer, markdown_summary, summary_table
from reports.report import render_page
from reports.tables import Cell, result_table

pytestmark = pytest.mark.unit

UNQUANTISED: dict[str, Any] = {"n_side": 0, "n_channel": 2048}
BITS_256: dict[str, Any] = {"bits_mean": 256.0, "bits_max": 256.0, **UNQUANTISED}


def changed(result: Result, *changes: dict[str, Any]) -> Result:
    """The result with its compressors changed in order, the last change for all that follow."""
    all_of = [*changes, *[changes[-1]] * (len(result.compressors) - len(changes))]
    rows = [replace(row, **new) for row, new in zip(result.compressors, all_of, strict=True)]
    return replace(result, compressors=tuple(rows))


def code_cell(result: Result) -> Cell:
    columns, rows = result_table(result)
    return rows[0][[column.title for column in columns].index("Code length")]


@pytest.mark.parametrize(
    ("changes", "text", "detail"),
    [
        ({}, "128 reals", ""),  # an older result
        (UNQUANTISED, "128 reals", "unquantised, 1/16"),
        ({**UNQUANTISED, "n_channel": None}, "128 reals", "unquantised"),
        ({**UNQUANTISED, "n_code": 300}, "300 reals", "unquantised, 1/6.83"),
        ({**UNQUANTISED, "n_code": 256, "n_side": 1}, "256 + 1 reals", "unquantised, 1/8"),
        (BITS_256, "256 bits", ""),
        ({**BITS_256, "n_side": 1}, "256 bits", "+ 1 scale uncounted in bits"),
        (
            {**BITS_256, "bits_max": 300.0, "n_side": 1},
            "256 bits on average",
            "at most 300, + 1 scale uncounted in bits",
        ),
    ],
)
def test_code_length_is_what_is_fed_back(
    fake_result: Result, changes: dict[str, Any], text: str, detail: str
) -> None:
    result = changed(fake_result, changes, UNQUANTISED)
    assert code_cell(result) == Cell(text=text, detail=detail)
    assert f"{text} {detail}".strip().replace("|", "") in markdown_summary(result)
    console = Console(width=240, force_terminal=False, color_system=None)
    with console.capture() as capture:
        console.print(summary_table(result))
    assert f"{text} {detail}".strip() in capture.get()
    page = render_page(result)
    assert f"; {text}{', ' if detail else ''}{detail}</dd>" in page  # provenance
    assert page.count(text) >= 2


def test_equal_budgets_need_no_word(fake_result: Result) -> None:
    for same in ({}, UNQUANTISED, BITS_256):
        assert "feed back" not in answer(changed(fake_result, same))[0]


@pytest.mark.parametrize(
    ("first", "text"),
    [
        (BITS_256, "256 bits (CsiNet 1/16)"),
        ({**UNQUANTISED, "n_side": 1}, "128 + 1 reals (CsiNet 1/16)"),
        ({**UNQUANTISED, "n_code": 64}, "64 reals (CsiNet 1/16)"),
    ],
)
def test_unequal_budgets_are_said_in_the_first_sentence(
    fake_result: Result, first: dict[str, Any], text: str
) -> None:
    result = changed(fake_result, first, UNQUANTISED)
    sentence = answer(result)[0]
    rest = "128 reals (CRNet 1/16 and KLT 1/16)"
    assert sentence.startswith("CsiNet 1/16 fails most often")
    assert sentence.endswith(f" They do not feed back the same amount: {text} and {rest}.")
    assert sentence in render_page(result)


def test_a_scale_beside_bits_is_another_budget(fake_result: Result) -> None:
    result = changed(fake_result, {**BITS_256, "n_side": 1}, BITS_256)
    assert "256 bits + 1 scale (CsiNet 1/16) and 256 bits (" in answer(result)[0]


def test_budgets_are_told_where_nothing_fails_more_often(fake_result: Result) -> None:
    rows = []
    for row in changed(fake_result, BITS_256, UNQUANTISED).compressors:
        tails = fake_result.compressors[0].estimates.tails
        rows.append(replace(row, estimates=replace(row.estimates, tails=tails)))
    sentence = answer(replace(fake_result, compressors=tuple(rows)))[0]
    assert sentence.startswith("No compressor clearly fails more often")
    assert "They do not feed back the same amount: 256 bits" in sentence
