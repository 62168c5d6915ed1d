"""From draws of other chains and runs of subset simulation to entries of a result."""

import math
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest

from csi_audit.deeper import ChainDraws, Deeper, threshold_levels
from csi_audit.dispatch import TailQuestion, decide_tail
from csi_audit.tail import ReplicatedTail, TailRun
from csi_audit.tail_summary import (
    MEAN,
    chain_figures,
    in_decibel,
    loss_tail,
    rare_agreement,
    rare_estimate,
    step_status,
)
from reports.estimates import Estimate, mean_estimate, proportion
from reports.schema import Threshold
from reports.tail_schema import ChainFigures

pytestmark = pytest.mark.unit

Kind = Literal["guided chain", "doubled steps"]
N = 400
BASE = np.random.default_rng(0).gamma(2.0, 0.1, N)
REAL = np.random.default_rng(1).gamma(2.0, 0.1, 1000)
LEVELS = {"own": 0.5, "−3 dB": 0.2}


def run(scale: float = 1.0, particles: int = 1000) -> TailRun:
    """One run, two levels, on NMSE = 0.1 E of an exponential E."""
    above = (np.arange(particles) + 0.5) / particles
    first, second = -0.1 * np.log(above), 0.1 * (math.log(10) - np.log(above))
    first = first[above > 0.1]
    mass = [1 / particles] * len(first) + [0.1 * scale / particles] * particles
    values = np.concatenate([first, second])
    return TailRun(
        values=values, mass=np.array(mass), thresholds=np.array([0.1 * math.log(10)]),
        acceptance=np.array([0.44]), seeds=np.array([100.0]), reach=0.01, particles=particles,
        spent=np.array([4000.0, 3600.0]),
    )  # fmt: skip


def deeper(*chains: ChainDraws, subset: bool = False, **changed: Any) -> Deeper:
    asked: Literal["subset", "counting"] = "subset" if subset else "counting"
    question = TailQuestion(quantity="P", k=1, n=N, steps=4)
    first = decide_tail("counting", question)  # stands for that of E_q
    runs = tuple(run(scale) for scale in np.linspace(0.9, 1.1, 10))
    curve = ReplicatedTail(runs=runs, worse="high", method="runs")
    plain: dict[str, Any] = {
        "curves": True,
        "levels": {"net": LEVELS},
        "decisions": {"net": (first, decide_tail(asked, question), first)},
        "tails": {"net": curve} if subset else {},
        "chains": chains,
    }
    return Deeper(**{**plain, **changed})


def draws(kind: Kind, nmse: Any) -> ChainDraws:
    return ChainDraws(kind=kind, chain="other", values={"net": nmse}, n_evaluations=77)


def figures(found: Deeper) -> tuple[ChainFigures, ...]:
    tails = {
        label: proportion(int((level < BASE).sum()), N)
        for label, level in found.levels["net"].items()
    }
    tails |= {k: e for k in tails if (e := rare_estimate(found, "net", k)) is not None}
    return chain_figures(
        found, "net", base=BASE, chain="audited", e_p=mean_estimate(BASE), tails=tails
    )


# --- Step doubling --------------------------------------------------------------------------------


def test_one_chain_makes_no_table() -> None:
    assert figures(deeper()) == ()


def test_doubling_that_moves_nothing() -> None:
    audited, doubled = figures(deeper(draws("doubled steps", BASE)))
    assert (audited.label, audited.chain) == ("audited law", "audited")
    assert doubled.moved == ()
    assert {k: s.value for k, s in doubled.shifts.items()} == {MEAN: 0.0, "own": 0.0, "−3 dB": 0.0}
    assert step_status(audited.e_p, MEAN, (audited, doubled)) == audited.e_p
    assert doubled.e_p.n_evaluations == doubled.tails["own"].n_evaluations == 77


def test_doubling_beyond_the_interval_is_said() -> None:
    """Every NMSE 20 % higher: far beyond the interval of the mean, of the tails perhaps not."""
    chains = figures(deeper(draws("doubled steps", 1.2 * BASE)))
    audited, doubled = chains
    shift = doubled.shifts[MEAN]
    assert shift.value == pytest.approx(0.2 * BASE.mean())
    assert shift.interval is not None
    assert shift.interval[0] > 0
    assert MEAN in doubled.moved
    status = step_status(audited.e_p, MEAN, chains).status
    assert status == (
        f"step doubling moves the figure ({BASE.mean():.3g} to {1.2 * BASE.mean():.3g})"
    )
    for label, level in LEVELS.items():
        p = float((level < 1.2 * BASE).mean())
        assert doubled.tails[label].value == p
        low, high = audited.tails[label].interval or (0, 1)
        assert (label in doubled.moved) == (not low <= p <= high)
    odd = replace(audited.e_p, status="few")
    assert step_status(odd, MEAN, chains).status.startswith("few; step doubling moves")


def test_a_little_is_within_the_interval() -> None:
    _, doubled = figures(deeper(draws("doubled steps", 1.005 * BASE)))
    assert MEAN not in doubled.moved
    assert doubled.shifts[MEAN].value == pytest.approx(0.005 * BASE.mean())


def test_a_guided_chain_has_no_pairs() -> None:
    _, guided = figures(deeper(draws("guided chain", 2 * BASE)))
    assert (guided.shifts, guided.moved) == ({}, ())
    assert guided.e_p.value == pytest.approx(2 * BASE.mean())
    assert guided.e_p.method == "other"


def test_doubled_runs_of_subset_simulation_are_compared_as_independent_ones() -> None:
    def moved(scale: float) -> tuple[str, ...]:
        runs = tuple(run(scale * s) for s in np.linspace(0.9, 1.1, 10))
        curve = ReplicatedTail(runs=runs, worse="high", method="doubled runs")
        found = deeper(draws("doubled steps", BASE), subset=True, doubled_tails={"net": curve})
        audited, doubled = figures(found)
        assert audited.tails["own"].method == "runs"
        assert doubled.tails["own"].method == "doubled runs"
        assert "own" not in doubled.shifts
        return doubled.moved

    assert moved(1.0) == ()
    assert moved(1.5) == ("own",)


# --- Tails ----------------------------------------------------------------------------------------


def test_only_thresholds_decided_so_are_found_by_subset_simulation() -> None:
    found = deeper(subset=True)
    rare = rare_estimate(found, "net", "own")
    assert rare is not None
    assert rare.method == "runs"
    assert rare.value == pytest.approx(math.exp(-5.0), rel=0.02)
    assert rare_estimate(found, "net", "−3 dB") is None
    assert rare_estimate(deeper(), "net", "own") is None


def test_the_curve_by_subset_simulation() -> None:
    curve = loss_tail(
        deeper(subset=True), "net", base=BASE, real=REAL, chain="audited", n_evaluations=5
    )
    assert curve is not None
    assert (curve.method, curve.runs, curve.n_evaluations) == ("runs", 10, 76_000)
    assert [p.probability for p in curve.points] == pytest.approx([0.1, 0.01])
    for point in curve.points:
        assert point.base is not None
        exact = 10 * math.log10(-0.1 * math.log(point.probability))
        assert point.base.value == pytest.approx(exact, abs=0.1)
        assert point.base.std_error is None
        assert point.real is not None
        level = float(np.quantile(REAL, 1 - point.probability))
        assert point.real.value == pytest.approx(10 * math.log10(level))


def test_the_curve_by_counting_ends_where_samples_do() -> None:
    curve = loss_tail(deeper(), "net", base=BASE, real=REAL[:50], chain="audited", n_evaluations=5)
    assert curve is not None
    assert (curve.method, curve.runs, curve.n_evaluations) == ("audited, counted", None, 5)
    assert [p.probability for p in curve.points] == pytest.approx([0.1, 0.01])  # 400 samples
    assert [p.real is None for p in curve.points] == [False, True]  # 50 users
    off = deeper(curves=False)
    assert loss_tail(off, "net", base=BASE, real=REAL, chain="audited", n_evaluations=5) is None


def test_untrusted_runs_agree_and_differ_with_nothing() -> None:
    real = proportion(100, 1000)
    rare = Estimate(value=0.001, interval=(0.0005, 0.0015), n=10, method="runs")
    assert rare_agreement(rare, real) == "differ"
    assert rare_agreement(replace(rare, status="runs disagree"), real) == "cannot tell"
    none = replace(rare, value=0.0, interval=(0.0, 1e-3), status="none seen: upper bound only")
    assert rare_agreement(none, real) == "differ"
    unsure = replace(none, status=f"{none.status}, itself to be read with care (chains stuck)")
    assert rare_agreement(unsure, real) == "cannot tell"


def test_decibels() -> None:
    found = in_decibel(Estimate(value=0.1, interval=(0.01, 1.0), std_error=0.1, n=3, method="m"))
    assert (found.value, found.interval, found.std_error) == (-10.0, (-20.0, 0.0), None)
    assert in_decibel(Estimate(value=0.0, n=3, method="m")).value == -120.0


def test_levels_of_thresholds() -> None:
    tau = (
        Threshold(label="own", nmse_db=None, origin=""),
        Threshold(label="−3 dB", nmse_db=-3.0, origin=""),
    )
    found = threshold_levels(tau, REAL, 0.9)
    assert found == {"own": pytest.approx(np.quantile(REAL, 0.9)), "−3 dB": 10**-0.3}
