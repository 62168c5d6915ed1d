"""The rules that choose methods: where they turn, what they say, what they cost."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from csi_audit.dispatch import (
    CHOSEN,
    COUNTING,
    CV2_BREAKS,
    GAIN_NEEDED,
    GUIDED,
    REWEIGHTING,
    SUBSET,
    MeanQuestion,
    Prices,
    TailQuestion,
    after_refusal,
    decide_mean,
    decide_tail,
    squared_variation,
)
from reports.reweighting import effective_sample_size
from reports.tail_schema import Candidate, Decision

pytestmark = pytest.mark.unit


def mean(cv2: float, **changed: Any) -> MeanQuestion:
    plain = {"quantity": "E_q[NMSE]", "cv2": cv2, "n": 800, "steps": 30, "guided_steps": 40}
    return MeanQuestion(**{**plain, **changed})


def tail(k: int, n: int = 800, **changed: Any) -> TailQuestion:
    return TailQuestion(**{"quantity": "P", "k": k, "n": n, "steps": 30, **changed})


def of(decision: Decision, method: str) -> Candidate:
    (found,) = (c for c in decision.candidates if c.method == method)
    return found


CHEAP = Prices(evaluation=1e-3, guided=2e-3, loss=0.0)
"""A guided step costs as much as two evaluations."""
DEAR = Prices(evaluation=1e-3, guided=8e-3, loss=0.0)


@pytest.mark.property
@given(st.lists(st.floats(0.01, 100), min_size=2, max_size=40))
def test_variation_is_what_reweighting_loses(l: list[float]) -> None:
    """ESS / N = 1 / (1 + CV^2)."""
    share = effective_sample_size(np.log(l)) / len(l)
    assert 1 / (1 + squared_variation(l)) == pytest.approx(share)
    assert squared_variation([0.0, 0.0]) == 0.0


# --- E_q ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("question", "chosen", "words"),
    [
        (mean(0.6, prices=CHEAP), REWEIGHTING, "makes 62 % of them count; guided sampling pays fr"),
        (mean(1.99, prices=CHEAP), REWEIGHTING, "guided sampling pays from CV^2 = 2 on"),
        (mean(2.0, prices=CHEAP), GUIDED, "guided, as many cost 1 times less in measured seconds"),
        (mean(4.0, prices=CHEAP), GUIDED, "cost 1.7 times less in measured seconds"),
        (mean(4.0, prices=DEAR), REWEIGHTING, "cost 2.3 times more in measured seconds"),
        (mean(4.0), GUIDED, "cost 1.7 times less in evaluations"),
        (mean(CV2_BREAKS, prices=DEAR), GUIDED, "beyond CV^2 = 6.25 its interval cannot be trus"),
        (mean(9.0, refused="X has no usable gradient"), REWEIGHTING, "X has no usable gradient"),
    ],
)
def test_how_e_q_is_found(question: MeanQuestion, chosen: str, words: str) -> None:
    decision = decide_mean("auto", question)
    assert decision.chosen == chosen
    assert words in decision.reason
    assert "over 800 base samples" in decision.reason
    assert of(decision, chosen).verdict == CHOSEN
    assert [c.method for c in decision.candidates] == [REWEIGHTING, GUIDED, SUBSET]
    assert sum(c.verdict == CHOSEN for c in decision.candidates) == 1
    assert of(decision, SUBSET).verdict == "finds tails, not means under q"


def test_prices_of_e_q() -> None:
    """Of 1,000 effective samples: 1000 (1 + CV^2) x steps, and 1000 / 0.9 x (2 steps - 1)."""
    decision = decide_mean("auto", mean(3.0, prices=CHEAP))
    plain, guided = of(decision, REWEIGHTING), of(decision, GUIDED)
    assert plain.evaluations == pytest.approx(120_000)
    assert guided.evaluations == pytest.approx(79_000 / 0.9)
    assert plain.seconds == pytest.approx(120.0)
    assert guided.seconds == pytest.approx(79.0 / 0.9)
    blind = decide_mean("auto", mean(3.0))
    assert (of(blind, REWEIGHTING).seconds, of(blind, GUIDED).seconds) == (None, None)
    flat = decide_mean("auto", mean(3.0, refused="no", prices=replace(CHEAP, guided=None)))
    assert (of(flat, GUIDED).evaluations, of(flat, GUIDED).seconds) == (None, None)
    assert of(flat, GUIDED).verdict == "no"


def test_what_is_asked_for_is_done() -> None:
    assert decide_mean("guided", mean(0.1)).chosen == GUIDED
    forced = decide_mean("reweighting", mean(20.0))
    assert (forced.chosen, of(forced, GUIDED).verdict) == (REWEIGHTING, "not asked for")
    assert forced.reason.startswith("asked for; CV^2 of l is 20")
    assert decide_tail("subset", tail(400)).chosen == SUBSET
    for asked in ("counting", "off"):
        assert decide_tail(asked, tail(0)).chosen == COUNTING


def test_a_refusal_puts_reweighting_in_its_place() -> None:
    decision = after_refusal(decide_mean("auto", mean(9.0)), "l is the same everywhere")
    assert decision.chosen == REWEIGHTING
    assert decision.reason.endswith("but guided sampling was refused: l is the same everywhere")
    assert of(decision, GUIDED).verdict == "refused: l is the same everywhere"
    assert of(decision, REWEIGHTING).verdict == CHOSEN


# --- Tails ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("k", "n", "chosen"),
    [(0, 800, SUBSET), (1, 800, SUBSET), (2, 800, COUNTING), (8, 800, COUNTING),
     (300, 800, COUNTING), (0, 200, COUNTING), (20, 10_000, SUBSET), (60, 10_000, COUNTING)],
)  # fmt: skip
def test_how_a_tail_is_found(k: int, n: int, chosen: str) -> None:
    """Subset simulation below P of about 0.005; few base samples cannot show that it is rare."""
    decision = decide_tail("auto", tail(k, n))
    assert decision.chosen == chosen
    assert f"{k:,} of {n:,} base samples lie beyond" in decision.reason
    assert of(decision, chosen).verdict == CHOSEN
    assert of(decision, GUIDED).verdict == "its twist explains too little of a rare event"


@pytest.mark.property
@given(st.integers(1, 2000), st.integers(2000, 10**6))
def test_the_gain_of_subset_simulation_grows_with_rarity(k: int, n: int) -> None:
    here, rarer = tail(k, n), tail(k - 1, n)
    assert rarer.gain > here.gain
    assert (decide_tail("auto", here).chosen == SUBSET) == (here.gain >= GAIN_NEEDED)


def test_a_threshold_below_everything_is_counted() -> None:
    decision = decide_tail("auto", tail(800, 800))
    assert decision.chosen == COUNTING
    assert decision.reason == "800 of 800 base samples lie beyond: nothing is rare about it"


def test_forecast_gains_are_those_that_were_measured() -> None:
    """benchmarks.rare_events, planes: 27 at 1e-4 and 1,100 at 1e-6."""
    assert tail(10**4, 10**8).gain == pytest.approx(27, rel=0.1)
    assert tail(10**4, 10**10).gain == pytest.approx(1100, rel=0.1)


def test_prices_of_a_tail() -> None:
    question = tail(10**6, 10**8, prices=Prices(evaluation=1e-3, guided=None, loss=3e-3))
    assert question.p == pytest.approx(0.01, rel=1e-3)
    decision = decide_tail("auto", question)
    counting, subset = of(decision, COUNTING), of(decision, SUBSET)
    assert counting.evaluations == pytest.approx(99 * 100 * 30, rel=1e-3)
    assert subset.evaluations == pytest.approx(30 * 5400 * 1.9, rel=1e-3)
    assert counting.seconds == pytest.approx(99 * 100 * (0.03 + 0.003), rel=1e-3)
    assert "about 1 times dearer than counting, and 1.5 times cheaper is wanted" in decision.reason
    rare = decide_tail("auto", tail(0, 10**5)).reason
    assert "subset simulation is about" in rare
    assert "wanted" not in rare
