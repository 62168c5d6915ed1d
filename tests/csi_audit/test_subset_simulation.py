"""Subset simulation against exact tails, its rules one by one, and what a kill leaves behind."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import integrate, special
from torch import Tensor

from channels import CsiAuditError
from csi_audit import subset_simulation
from csi_audit.chain_steps import ACCEPTANCE, gaussian_step
from csi_audit.noise_map import IdentityMap, LimitState, OdeMap
from csi_audit.run_state import BlockStore
from csi_audit.subset_simulation import (
    SubsetSimulation,
    Walk,
    next_threshold,
)
from csi_audit.tail import Budget, ReplicatedTail, TailRun
from csi_audit.toy_laws import MixtureLaw, toy_base

Gate = Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]


class Plane:
    """A linear loss of white noise in two dimensions, one deviation a unit."""

    name, unit = "plane", "1"
    a = torch.tensor([0.6, 0.8])

    def __init__(self, worse: Literal["high", "low"] = "high") -> None:
        self.worse = worse

    def __call__(self, x: Tensor) -> Tensor:
        return x @ self.a


class Stairs(Plane):
    """The same, cut to halves of a deviation and at two deviations: atoms everywhere."""

    def __call__(self, x: Tensor) -> Tensor:
        return ((2 * super().__call__(x)).floor() / 2).clamp_max(2.0)


def tau(p: float) -> float:
    """Loss that a plane exceeds with probability p."""
    return -float(special.ndtri(p))


def simulation(particles: int = 200, kind: Any = SubsetSimulation, **options: Any) -> Any:
    return kind(IdentityMap((2,)), particles=particles, **options)


def runs_of(r: int, t: float, method: Any) -> list[TailRun]:
    curve, _ = method.tail(Plane(), tau=t, budget=Budget(runs=r), seed=0)
    return list(curve.runs)


# --- Rules ----------------------------------------------------------------------------------------


@pytest.mark.unit
def test_threshold_without_ties_leaves_the_share_above() -> None:
    values = torch.randperm(100, generator=torch.Generator().manual_seed(0)).double()
    assert next_threshold(values, 0.1) == 89.0  # 90 to 99 lie above
    assert next_threshold(values, 0.005) == 98.0  # at least one seed
    assert next_threshold(values[:15], 0.1) == values[:15].sort().values[-3]


@pytest.mark.unit
def test_threshold_with_ties() -> None:
    """Ties at the cut are not above; an atom at the top is begun with; equal values end a run."""
    assert next_threshold(torch.tensor([5.0, 4, 3, 3, 3, 3, 2, 1, 1, 1]), 0.3) == 3.0
    assert next_threshold(torch.tensor([5.0, 5, 5, 5, 3, 3, 2, 1, 1, 1]), 0.3) == 3.0
    assert next_threshold(torch.tensor([5.0, 5, 5, 5, 3, 3, 2, 1, 1, 1]), 0.5) == 3.0
    assert next_threshold(torch.full((10,), 5.0), 0.3) is None


@pytest.mark.property
@given(st.lists(st.integers(0, 6), min_size=4, max_size=40), st.floats(0.01, 0.5))
def test_threshold_properties(losses: list[int], share: float) -> None:
    values = torch.tensor(losses, dtype=torch.float64)
    cut, k = next_threshold(values, share), max(1, round(share * len(losses)))
    if cut is None:
        assert len(set(losses)) == 1
        return
    above = values[values > cut]
    assert cut in losses
    assert len(above) >= 1
    assert len(above) <= k or len(above.unique()) == 1  # more only as one atom at the top
    assert int((values >= cut).sum()) > min(k, len(above))


@pytest.mark.unit
@pytest.mark.parametrize("exponent", range(1, 11))
def test_the_step_is_accepted_at_44_percent_beyond_a_plane(exponent: int) -> None:
    """By quadrature over the plane's normal."""
    p = 10.0**-exponent
    b, l = gaussian_step(p), tau(p)

    def density(u: float) -> float:
        inside = special.ndtr((math.sqrt(1 - b * b) * u - l) / b)
        return math.exp(-u * u / 2) / math.sqrt(2 * math.pi) / p * float(inside)

    accepted = integrate.quad(density, l, l + 9)[0]
    assert accepted == pytest.approx(ACCEPTANCE, abs=0.04)


@pytest.mark.unit
def test_the_step_is_never_above_one() -> None:
    assert gaussian_step(0.5) == gaussian_step(0.9) == 1.0
    assert gaussian_step(0.01) > gaussian_step(0.001) > 0


@pytest.mark.unit
@pytest.mark.parametrize("n", [10, 12, 37])
def test_a_walk_fills_its_level_and_never_leaves_it(n: int) -> None:
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(2000, 2, generator=generator)
    limit = LimitState(IdentityMap((2,)), Plane())
    seeds = z[limit(z) > 1.0][:10]
    before = limit.evaluations
    walk = simulation().walk(limit, seeds, limit(seeds), 1.0, step=0.5, n=n, generator=generator)
    assert walk.z.shape == (n, 2)
    assert torch.equal(walk.z[:10], seeds)
    assert torch.allclose(walk.values, Plane()(walk.z).double())
    assert float(walk.values.min()) > 1.0
    assert limit.evaluations - before == 10 + (n - 10)
    moved = len(walk.z[:, 0].unique()) - 10
    assert walk.acceptance == (moved / (n - 10) if n > 10 else 1.0)


@pytest.mark.unit
def test_the_step_changes_between_levels_only() -> None:
    """Each level's step is the reference times what the levels before it accepted.

    Beyond a plane no pilot finds anything to change.
    """
    walks: list[tuple[float, Walk]] = []

    class Watched(SubsetSimulation):
        def walk(self, *arguments: Any, step: float, n: int, **options: Any) -> Walk:
            found = super().walk(*arguments, step=step, n=n, **options)
            if n == self.particles:  # a pilot has fewer
                walks.append((step, found))
            return found

    curve, _ = simulation(kind=Watched, deepest=1e-4).tail(Plane(), budget=Budget(runs=1), seed=0)
    assert len(walks) == 3
    (run,) = curve.runs
    assert run.acceptance.tolist() == [walk.acceptance for _, walk in walks]
    factor, p = 1.0, 1.0
    for k, (step, walk) in enumerate(walks):
        p *= 0.1
        assert step == pytest.approx(min(1.0, factor * gaussian_step(p)), rel=0.05)
        factor *= math.exp(1.5 * (walk.acceptance - ACCEPTANCE))
        assert float(walk.values.min()) > run.thresholds[k]


class Ball(Plane):
    """Bad near a point half a deviation out: beyond no plane, so a plane's step misleads."""

    def __call__(self, x: Tensor) -> Tensor:
        return -(x - 0.5 / math.sqrt(x.shape[1])).square().sum(1).sqrt()


@pytest.mark.unit
def test_a_pilot_mends_the_step_where_a_plane_misleads(monkeypatch: pytest.MonkeyPatch) -> None:
    def acceptance() -> list[float]:
        method = SubsetSimulation(IdentityMap((3,)), particles=500, deepest=1e-3)
        curve, _ = method.tail(Ball(), budget=Budget(runs=1), seed=0)
        return list(curve.runs[0].acceptance)

    assert min(acceptance()) > 0.35
    monkeypatch.setattr(subset_simulation, "PILOT_TRIALS", 0)
    assert min(acceptance()) < 0.2


# --- Truth ----------------------------------------------------------------------------------------


class Unchecked(SubsetSimulation):
    """The mutant that accepts every move."""

    def walk(self, limit: Any, z: Any, values: Any, threshold: float, **options: Any) -> Walk:
        return super().walk(limit, z, values, -math.inf, **options)


def one_rank_off(values: Tensor, share: float) -> float | None:
    """The mutant that lets the particle at the threshold in: its own loss does not exceed it."""
    rank = max(1, round(share * len(values)))
    at = values.sort(descending=True).values[rank - 1]
    return None if bool((values >= at).all()) else float(np.nextafter(float(at), -math.inf))


@pytest.mark.statistical
def test_probabilities_are_unbiased(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    """P(L > tau) = 0.01 from runs of 20 particles, two seeds a level, so that one rank tells."""
    p = 0.01

    def ratios(r: int, kind: Any = SubsetSimulation) -> Tensor:
        method = simulation(20, kind, deepest=1e-4, kept=0)
        return torch.tensor([run.beyond(tau(p)) / p for run in runs_of(r, tau(p), method)])

    right, unchecked = ratios(1200), ratios(60, Unchecked)
    with monkeypatch.context() as patched:
        patched.setattr(subset_simulation, "next_threshold", one_rank_off)
        off = ratios(700)
    gate(right, 1.0, {"no level check": unchecked, "a rank too few": off})


@pytest.mark.statistical
def test_runs_that_found_nothing_count(gate: Gate) -> None:
    """A run that ends before tau may say 0; the mean without such runs is far too high."""
    p, method = 5e-3, simulation(40, share=0.2, deepest=0.1, kept=0)
    values = torch.tensor([run.beyond(tau(p)) / p for run in runs_of(1500, tau(p), method)])
    assert 0.2 < float((values == 0).double().mean()) < 0.7
    gate(values, 1.0, {"zeros dropped": values[values > 0]})


@pytest.mark.statistical
def test_the_interval_of_ten_runs_covers(gate: Gate) -> None:
    """Share of 95 % intervals that hold the truth, 60 groups of ten runs at three levels."""
    ps, particles = (0.03, 3e-3, 3e-4), 200
    all_runs = runs_of(600, tau(ps[-1]), simulation(particles, kept=0))

    def coverage(group: list[TailRun], narrowed: float = 1.0) -> float:
        curve, held = ReplicatedTail(runs=group, worse="high", method=""), []
        for p in ps:
            found = curve.exceedance(tau(p))
            assert found.interval is not None
            low, high = (found.value + narrowed * (end - found.value) for end in found.interval)
            held.append(low <= p <= high)
        return float(np.mean(held))

    groups = [all_runs[i : i + 10] for i in range(0, 600, 10)]
    right, narrow = (
        torch.tensor([coverage(g, s) for g in groups]) for s in (1.0, 1 / math.sqrt(10))
    )
    gate(right, 0.95, {"the deviation of a run over ten": narrow})


@pytest.mark.statistical
def test_failure_samples_follow_the_law_beyond_tau(gate: Gate) -> None:
    """E[L | L > tau] is phi(tau) / P; samples of a level twice as likely are not it."""
    p, r = 3e-3, 40
    means, shallow = [], []
    for seed in range(r):
        generator = torch.Generator().manual_seed(seed)
        _, failures = simulation(100)(Plane(), tau(p), budget=Budget(runs=4), generator=generator)
        w = failures.log_w.exp()
        means.append(float((w * Plane()(failures.x)).sum() / w.sum()))
        _, early = simulation(100)(Plane(), tau(2 * p), budget=Budget(runs=4), generator=generator)
        shallow.append(float(Plane()(early.x).mean()))
    truth = math.exp(-(tau(p) ** 2) / 2) / math.sqrt(2 * math.pi) / p
    gate(torch.tensor(means), truth, {"twice as likely": torch.tensor(shallow)})


@pytest.mark.statistical
def test_the_ode_of_a_mixture(gate: Gate) -> None:
    """Through the map of a base model: the same as counting draws of the same map."""
    law = MixtureLaw(
        name="pair",
        probabilities=torch.tensor([0.9, 0.1]).double(),
        means=torch.tensor([[0.0, 0.0], [3.0, 0.0]]).double(),
        deviations=torch.tensor([1.0, 0.5]).double(),
    )

    class Across:
        name, unit = "across", "1"
        worse: Literal["high", "low"] = "high"

        def __call__(self, x: Tensor) -> Tensor:
            return x[:, 1] + 0.5 * x[:, 0]

    noise_map = OdeMap(toy_base(law), steps=8, batch_size=5000)
    many = Across()(noise_map(torch.randn(200_000, 2, generator=torch.Generator().manual_seed(0))))
    p = 0.02
    t = float(many.quantile(1 - p))
    method = SubsetSimulation(noise_map, particles=1000, kept=0)
    curve, _ = method.tail(Across(), tau=t, budget=Budget(runs=24), seed=0)
    found = torch.tensor([run.beyond(t) / p for run in curve.runs])
    gate(found, 1.0, {"a level lost": found * 10})


# --- Atoms ----------------------------------------------------------------------------------------


@pytest.mark.unit
def test_a_loss_in_steps_that_saturates() -> None:
    """Every atom is met, runs end at the largest loss, and nothing lies beyond it."""
    method = simulation(1000, deepest=1e-6)
    curve, _ = method.tail(Stairs(), budget=Budget(runs=20), seed=0)
    for t in (-0.5, 0.75, 1.5, 1.75):
        exact = float(special.ndtr(-(math.floor(2 * t + 1) / 2)))
        found = curve.exceedance(t)
        assert found.interval is not None
        assert found.value == pytest.approx(exact, rel=0.15)
        assert found.interval[0] < exact < found.interval[1]
    assert curve.runs[0].reach == 0.0
    last = curve.quantile(1e-5)
    assert last.value == 2.0  # P(L >= 2) is 0.023: the worst of all
    assert last.status == "ok"
    assert curve.cvar(1e-5).value == pytest.approx(2.0)
    none = curve.exceedance(2.0)
    assert none.status == "none seen: upper bound only"
    assert none.interval is not None
    assert none.interval[0] == 0.0
    assert 0.02 < none.interval[1] < 0.1


@pytest.mark.unit
def test_a_constant_loss_is_one_level() -> None:
    class Constant(Plane):
        def __call__(self, x: Tensor) -> Tensor:
            return torch.ones(len(x))

    curve, _ = simulation().tail(Constant(), budget=Budget(runs=2), seed=0)
    assert [len(run.thresholds) for run in curve.runs] == [0, 0]
    assert curve.exceedance(0.5).value == 1.0
    assert curve.exceedance(1.0).status == "none seen: upper bound only"
    assert curve.quantile(0.1).value == 1.0


# --- Runs, budgets, blocks ------------------------------------------------------------------------


@pytest.mark.unit
def test_what_comes_back() -> None:
    generator = torch.Generator().manual_seed(0)
    t = tau(1e-3)
    method = simulation(1000, kept=20)
    found, failures = method(Plane(), t, budget=Budget(), generator=generator)
    assert found.method == (
        "subset simulation, 10 runs of 1000 particles a level, share 0.1, white noise"
    )
    assert (found.n, found.status) == (10, "ok")
    assert found.n_evaluations == failures.n_evaluations == method.noise_map.evaluations
    assert (failures.law, failures.tau, failures.chain) == ("failure", t, found.method)
    assert len(failures) == 200
    assert float(Plane()(failures.x).min()) > t
    assert float(failures.log_w.exp().sum()) / 10 == pytest.approx(found.value)
    assert failures.log_z == pytest.approx(math.log(found.value))


@pytest.mark.unit
def test_low_is_bad() -> None:
    high, _ = simulation().tail(Plane(), tau=2.5, budget=Budget(runs=3), seed=0)
    low, failures = simulation().tail(Plane("low"), tau=-2.5, budget=Budget(runs=3), seed=0)
    assert low.worse == "low"
    assert low.exceedance(-2.5).value == pytest.approx(0.006, rel=0.5)
    assert bool((failures.x @ Plane.a < -2.5).all())
    assert low.quantile(0.01).value == pytest.approx(-high.quantile(0.01).value, abs=0.3)


@pytest.mark.unit
def test_tau_out_of_reach() -> None:
    """Runs end at `deepest`; nothing seen is a bound, not a zero."""
    generator = torch.Generator().manual_seed(0)
    method = simulation(1000, deepest=1e-3)
    found, failures = method(Plane(), 9.0, budget=Budget(), generator=generator)
    assert found.interval is not None
    assert 0.005 < found.interval[1] < 0.02
    assert found.status == "none seen: upper bound only"
    assert (len(failures), failures.log_z, failures.x.shape) == (0, None, (0, 2))


@pytest.mark.unit
def test_a_run_does_not_depend_on_those_beside_it() -> None:
    one, three = (
        simulation().tail(Plane(), tau=2.5, budget=Budget(runs=r), seed=0)[0].runs for r in (1, 3)
    )
    assert np.array_equal(one[0].values, three[0].values)
    assert not np.array_equal(three[0].values[:50], three[1].values[:50])
    for changed in ({"seed": 1}, {"seed": 0, "name": "other"}):
        other = simulation().tail(Plane(), tau=2.5, budget=Budget(runs=1), **changed)[0].runs
        assert not np.array_equal(other[0].values[:50], one[0].values[:50])


@pytest.mark.unit
def test_budgets_end_the_work() -> None:
    def made(budget: Budget) -> ReplicatedTail:
        curve: ReplicatedTail = simulation().tail(Plane(), tau=2.5, budget=budget, seed=0)[0]
        return curve

    cost = made(Budget(runs=1)).evaluations
    assert len(made(Budget(runs=4)).runs) == 4
    some = made(Budget(evaluations=3 * cost + cost // 2))
    assert 2 <= len(some.runs) <= 3
    assert some.evaluations <= 3 * cost + cost // 2
    assert len(made(Budget(seconds=1e-9)).runs) == 1
    precise = made(Budget(runs=2, coef_var=0.1))
    found = precise.exceedance(2.5)
    assert found.std_error is not None
    assert found.std_error <= 0.1 * found.value
    assert len(precise.runs) > 2


@pytest.mark.unit
def test_precision_may_be_judged_at_another_threshold() -> None:
    """Runs go to `deepest`, and more are made until P at the judged threshold is precise enough."""

    def runs(judged: float) -> ReplicatedTail:
        budget = Budget(runs=2, coef_var=0.1, evaluations=10**6)
        curve: ReplicatedTail = simulation(deepest=1e-4).tail(
            Plane(), judged=judged, budget=budget, seed=0
        )[0]
        return curve

    near, far = runs(tau(0.1)), runs(tau(1e-3))
    assert len(near.runs) < len(far.runs)
    for curve in (near, far):
        assert curve.runs[0].reach == pytest.approx(1e-4, rel=0.01)
    found = far.exceedance(tau(1e-3))
    assert found.std_error is not None
    assert found.std_error <= 0.1 * found.value


@pytest.mark.unit
def test_a_killed_run_goes_on_from_its_last_level(tmp_path: Path) -> None:
    def work(folder: str, *, levels: int = 99) -> tuple[ReplicatedTail, Tensor, int]:
        class Killed(SubsetSimulation):
            filled = 0

            def walk(self, *arguments: Any, n: int, **options: Any) -> Walk:
                if n == self.particles:  # a pilot has fewer
                    if self.filled == levels:
                        raise KeyboardInterrupt
                    self.filled += 1
                return super().walk(*arguments, n=n, **options)

        method = simulation(kind=Killed, kept=5)
        store = BlockStore(tmp_path / folder)
        curve, failures = method.tail(Plane(), tau=tau(3e-4), budget=Budget(runs=2), seed=0,
                                      store=store)  # fmt: skip
        return curve, failures.x, method.filled

    whole = work("whole")
    first = len(whole[0].runs[0].thresholds)
    with pytest.raises(KeyboardInterrupt):
        work("cut", levels=first + 1)  # one run, and two levels of the second
    names = sorted(path.name for path in (tmp_path / "cut" / "state").iterdir())
    assert names == [f"subset-000-{k:04d}.npz" for k in range(first + 1)] + [
        "subset-001-0000.npz",
        "subset-001-0001.npz",
    ]
    rest = work("cut")
    assert (rest[2], work("cut")[2]) == (whole[2] - first - 1, 0)
    assert torch.equal(rest[1], whole[1])
    for a, b in zip(rest[0].runs, whole[0].runs, strict=True):
        assert np.array_equal(a.values, b.values)
        assert a.evaluations == b.evaluations


@pytest.mark.unit
def test_levels_of_other_settings_are_refused(tmp_path: Path) -> None:
    def work(particles: int, t: float) -> None:
        store = BlockStore(tmp_path)
        simulation(particles).tail(Plane(), tau=t, budget=Budget(runs=1), seed=0, store=store)

    work(200, 2.0)
    message = r"subset-000-0000.npz holds a level of 200 particles towards 2; 300 towards 2 are"
    with pytest.raises(CsiAuditError, match=message):
        work(300, 2.0)
    with pytest.raises(CsiAuditError, match=r"towards 2; 200 towards 3 are due\. Remove that file"):
        work(200, 3.0)


@pytest.mark.unit
def test_refusals() -> None:
    for share in (0.0, 0.6):
        with pytest.raises(CsiAuditError, match=rf"share must lie in \(0, 0\.5\]; got {share}\."):
            simulation(share=share)
    message = r"particles must leave at least 2 seeds a level; got 15 x 0\.1\. 2000 are usual\."
    with pytest.raises(CsiAuditError, match=message):
        simulation(15)
    with pytest.raises(CsiAuditError, match=r"deepest must lie in \(0, 1\); got 1\.5\."):
        simulation(deepest=1.5)
    with pytest.raises(CsiAuditError, match=r"tau must be finite; got inf\."):
        simulation().tail(Plane(), tau=math.inf, budget=Budget(), seed=0)
    message = r"budget must allow the 200 evaluations of a run's first level; got 199\. Take fewer"
    with pytest.raises(CsiAuditError, match=message):
        simulation().tail(Plane(), tau=2.5, budget=Budget(evaluations=199), seed=0)
