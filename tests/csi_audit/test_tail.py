"""What may be said of a tail from runs made by hand: every figure and every word."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from channels import CsiAuditError
from csi_audit.tail import Budget, ReplicatedTail, TailRun
from reports.estimates import clopper_pearson, mean_estimate

pytestmark = pytest.mark.unit


def ladder(jump: float = 0.1, *, n: int = 1000, levels: int = 4, **changed: Any) -> TailRun:
    """A run on the exponential law P(L > t) = e^-t as it should go, but for its last jump."""
    ends = -math.log(0.1) * np.arange(levels, dtype=np.float64)
    values, mass = [], []
    for k, end in enumerate(ends):
        above = (np.arange(n) + 0.5) / n  # of the level, worst first
        losses, last = end - np.log(above), k == levels - 1
        p = 10.0**-k * (jump / 0.1 if last else 1.0)
        kept = losses if last else losses[above > 0.1]
        values.append(kept)
        mass.append(np.full(len(kept), p / n))
    made = TailRun(
        values=np.concatenate(values),
        mass=np.concatenate(mass),
        thresholds=ends[1:],
        acceptance=np.full(levels - 1, 0.44),
        seeds=np.full(levels - 1, 0.1 * n),
        reach=0.1**levels,
        particles=n,
        spent=np.array([n, *[0.9 * n] * (levels - 1)]),
    )
    return replace(made, **changed)


def tail(*runs: TailRun, **changed: Any) -> ReplicatedTail:
    return ReplicatedTail(**{"runs": runs, "worse": "high", "method": "by hand", **changed})


def scattered() -> list[TailRun]:
    """Ten runs whose last level is between 0.8 and 1.25 times as probable."""
    return [ladder(jump=0.1 * s) for s in np.geomspace(0.8, 1.25, 10)]


T = math.log(1e3) + 1.0  # in the last level, where P = e^-1 of it


def test_a_run_is_the_law_of_its_particles() -> None:
    run = ladder()
    assert run.mass.sum() == pytest.approx(1.0)
    for p in (0.5, 0.1, 0.03, 1e-3, 3e-4):
        t = -math.log(p)
        assert run.beyond(t) == pytest.approx(p, rel=0.01)
        assert run.excess(t) == pytest.approx(p, rel=0.02)  # E[(L - t)+] = e^-t
    assert run.beyond(run.values.max()) == 0.0
    assert run.beyond(-1.0) == pytest.approx(1.0)
    assert run.counted(run.values.max() - 1e-9) == 1
    assert run.evaluations == 3700
    assert [run.evaluations_to(t) for t in (1.0, 2.31, 5.0, 9.0)] == [1000, 1900, 2800, 3700]


def test_exceedance_is_the_linear_mean_of_the_runs() -> None:
    runs = scattered()
    found = tail(*runs).exceedance(T)
    values = [run.beyond(T) for run in runs]
    expected = mean_estimate(values)
    assert (found.value, found.interval) == (expected.value, expected.interval)
    assert found.std_error == expected.std_error
    assert (found.n, found.status, found.method) == (10, "ok", "by hand")
    assert found.n_evaluations == 37_000
    wider = tail(*runs, level=0.99).exceedance(T)
    assert wider.interval is not None
    assert found.interval is not None
    assert wider.interval[1] > found.interval[1]
    dropped = tail(*runs[:-1]).exceedance(T)  # no run may be left out
    assert dropped.value < 0.98 * found.value


def test_first_draws_are_counted() -> None:
    runs = [ladder() for _ in range(3)]  # too few runs for a Student interval: none is needed
    found = tail(*runs).exceedance(1.0)
    k = round(3000 * runs[0].beyond(1.0))
    assert found.value == k / 3000
    assert found.interval == clopper_pearson(k, 3000, 0.95)
    assert found.status == "ok"
    assert found.method == "by hand, first draws counted"
    everything = tail(ladder(levels=1)).exceedance(99.0)
    assert everything.interval == clopper_pearson(0, 1000, 0.95)
    assert everything.status == "none seen: upper bound only"


def test_nothing_beyond_is_bounded_by_the_depth_reached() -> None:
    runs = scattered()
    shallow = ladder(levels=3)
    found = tail(*runs[:9], shallow).exceedance(99.0)
    depth = tail(*runs[:9], shallow).exceedance(float(shallow.thresholds[-1]))
    assert found.value == 0.0
    assert depth.interval is not None
    assert found.interval == (0.0, depth.interval[1])
    assert found.status.startswith("none seen: upper bound only")
    alone = tail(runs[0]).exceedance(99.0)
    assert alone.interval == (0.0, runs[0].beyond(float(runs[0].thresholds[-1])))
    assert "itself to be read with care (1 independent runs (10 needed)" in alone.status


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"acceptance": np.array([0.4, 0.4, 0.04])}, "chains stuck: 4.0 % of the moves of a level"),
        ({"seeds": np.array([100.0, 19.0, 100.0])}, "a level has 19 distinct seeds (20 needed)"),
        ({"particles": 999}, "999 particles a level (1000 needed)"),
    ],
)
def test_what_makes_a_run_suspect(changed: dict[str, Any], words: str) -> None:
    """One such run among ten is enough."""
    runs = scattered()
    status = tail(*runs[:9], replace(runs[9], **changed)).exceedance(T).status
    assert words in status
    early: dict[str, Any] = {
        "acceptance": np.array([0.4, 0.4, 0.0]),
        "seeds": np.array([100.0, 100.0, 1.0]),
    }
    shallow = tail(*runs[:9], replace(runs[9], **early)).exceedance(5.0)
    assert shallow.status == "ok"  # the bad level begins beyond this threshold


def test_what_makes_runs_suspect() -> None:
    few = tail(*scattered()[:9]).exceedance(T).status
    assert few == "9 independent runs (10 needed): interval may be too short"
    apart = [ladder(jump=0.1 * s) for s in np.geomspace(0.1, 3.0, 10)]
    found = tail(*apart).exceedance(T)
    assert found.status.startswith("runs disagree: one run scatters by 1")
    assert "(limit 50 %)" in found.status
    far = tail(*scattered()).exceedance(math.log(1e3) + 5.0).status
    assert far == "7 particles of a run lie beyond (10 needed)"
    one = tail(ladder()).exceedance(T)
    assert one.interval is None
    assert one.status.startswith("1 independent runs (10 needed)")


def test_unseen_mass() -> None:
    """A region of that mass is missed by all first draws with probability 5 %."""
    unseen = tail(ladder(), ladder()).unseen
    assert (1 - unseen) ** 2000 == pytest.approx(0.05)
    assert unseen == pytest.approx(3.0 / 2000, rel=0.01)


@pytest.mark.parametrize("p", [0.3, 0.02, 3e-4])
def test_quantile_inverts_the_curve(p: float) -> None:
    """q is the least loss beyond which p or less lies; the interval inverts that of the curve."""
    curve = tail(*scattered())
    found = curve.quantile(p)
    assert found.value == pytest.approx(-math.log(p), abs=0.02)
    assert curve.exceedance(found.value).value <= p
    assert curve.exceedance(found.value - 1e-3).value > 0.999 * p
    assert found.interval is not None
    low, high = found.interval
    inside = (curve.exceedance(t).interval for t in (low + 1e-9, high - 1e-9))
    assert all(ends is not None and ends[0] <= p <= ends[1] for ends in inside)
    outside = [curve.exceedance(low - 0.01).interval, curve.exceedance(high + 0.01).interval]
    assert outside[0] is not None
    assert outside[1] is not None
    assert outside[0][0] > p > outside[1][1]
    assert found.status == "ok"


@pytest.mark.parametrize("p", [0.3, 0.02, 3e-4])
def test_cvar(p: float) -> None:
    """The exponential law: the mean loss beyond q is q + 1."""
    curve = tail(*scattered())
    found = curve.cvar(p)
    assert found.value == pytest.approx(1 - math.log(p), abs=0.03)
    q = curve.quantile(p).value
    each = [q + run.excess(q) / p for run in curve.runs]
    assert (found.value, found.interval) == (float(np.mean(each)), mean_estimate(each).interval)


def test_a_figure_deeper_than_the_runs_says_so() -> None:
    curve = tail(*scattered())
    assert curve.quantile(1e-4).status == "ok"
    for figure in (curve.quantile, curve.cvar):
        assert figure(2e-5).status == "deeper than the runs went (0.0001)"
        both = "1 particles of a run lie beyond (10 needed); deeper than the runs went (0.0001)"
        assert figure(1e-6).status == both


def test_low_losses_are_turned() -> None:
    high, low = tail(*scattered()), tail(*scattered(), worse="low")
    assert low.exceedance(-T) == high.exceedance(T)
    for turned, plain in (
        (low.quantile(3e-4), high.quantile(3e-4)),
        (low.cvar(3e-4), high.cvar(3e-4)),
    ):
        assert turned.value == -plain.value
        assert plain.interval is not None
        assert turned.interval == (-plain.interval[1], -plain.interval[0])


def test_refusals() -> None:
    curve = tail(ladder())
    with pytest.raises(CsiAuditError, match=r"tau must be finite; got nan\."):
        curve.exceedance(float("nan"))
    for p in (0.0, 1.0, 5.0):
        for figure in (curve.quantile, curve.cvar):
            with pytest.raises(CsiAuditError, match=rf"p must lie in \(0, 1\); got {p}\. Is this"):
                figure(p)
    with pytest.raises(ValueError, match=r"runs must be at least one; got none\."):
        tail()
    with pytest.raises(ValueError, match=r"level must lie in \(0, 1\); got 95"):
        tail(ladder(), level=95)


def test_budget() -> None:
    for name in ("evaluations", "seconds", "coef_var"):
        wrong: Any = {name: 0}
        with pytest.raises(CsiAuditError, match=rf"{name} must be above 0; got 0\. None sets no"):
            Budget(**wrong)
    with pytest.raises(CsiAuditError, match=r"runs must be at least 1; got 0\. 10 give an"):
        Budget(runs=0)
    assert not Budget(seconds=1e6).clock()()
    assert not Budget().clock()()
    assert Budget(seconds=1e-9).clock()()
