"""Holm's adjustment, and the order that verdicts leave open."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from reports.comparison_tests import holm, rank_bounds, student_p
from reports.estimates import Estimate


@pytest.mark.unit
def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, None, 0.005]) == [
        pytest.approx(0.03),
        pytest.approx(0.08),
        None,
        pytest.approx(0.02),
    ]


@pytest.mark.property
@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_only_raises_and_keeps_the_order(p: list[float]) -> None:
    adjusted = [q for q in holm(p) if q is not None]
    assert all(q >= raw for q, raw in zip(adjusted, p, strict=True))
    order = np.argsort(p, kind="stable")
    assert (np.diff(np.array(adjusted)[order]) >= 0).all()


@pytest.mark.unit
def test_ranks_that_verdicts_leave_open() -> None:
    found = rank_bounds(["a", "b", "c"], [("a", "c")])
    assert found == {"a": (1, 2), "b": (1, 3), "c": (2, 3)}


@pytest.mark.unit
def test_p_values_are_those_of_the_law_of_the_interval() -> None:
    estimate = Estimate(value=-3.0, std_error=1.0, n=9, method="made up")
    assert student_p(estimate, 4) == pytest.approx(2 * stats.t.sf(3, 4))
    assert student_p(estimate, math.inf) == pytest.approx(2 * stats.norm.sf(3))
    assert student_p(Estimate(value=0.0, n=9, method="made up"), 4) == 1.0
    assert student_p(Estimate(value=1.0, n=9, method="made up"), 4) is None
