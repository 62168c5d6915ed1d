"""How many evaluations does subset simulation save on rare losses, and can its interval be signed?

Limit states of known tail in 64 to 2048 dimensions: one failure region (a plane, a sphere), and a
rare mode that holds all deep failures (see benchmarks.rare_maps). A run goes down to 1e-6 with the
budget given and estimates every probability above on its way. The gain at p is the variance that
plain Monte Carlo has after as many evaluations as the run had made when its estimate at p was
final, over the mean squared error of the runs; it does not depend on the budget, and none is quoted
where the relative RMSE is above 0.5. The part "compared" puts other moves, OpenTURNS and plain
counting beside each other at one smaller budget. Then: does Student's interval over ten runs cover,
and does the status tell when a mode was missed? Finished parts are kept; a repeated call goes on
where the last one stopped.

    python -m benchmarks.rare_events
"""

import argparse
import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.checks import Check
from benchmarks.divergence import mean_and_error
from benchmarks.harness import Options, check, parse_arguments, write_result
from benchmarks.rare_maps import EVENTS, RARE_MODES, RareEvent, rare_event
from benchmarks.rare_moves import SliceSubset, SteeredSubset
from channels.randomness import seeded_generator
from csi_audit.plain_monte_carlo import PlainMonteCarlo
from csi_audit.run_state import BlockStore
from csi_audit.subset_simulation import SubsetSimulation
from csi_audit.tail import Budget, ReplicatedTail, TailRun
from reports.estimates import Estimate, proportion, student

Array = npt.NDArray[np.float64]

DEEPEST, SHARE = 1e-6, 0.1
PROBABILITIES = (1e-2, 1e-3, 1e-4, 1e-5, 1e-6)
RMSE_LIMIT = 0.5
GROUP = 10
BOOTSTRAP = 2000
MOVES = (SubsetSimulation, SliceSubset, SteeredSubset)
OPENTURNS = "OpenTURNS SubsetSampling"


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--events", nargs="+", default=list(EVENTS), choices=EVENTS, metavar="EVENT")
    add("--dimensions", nargs="+", type=int, default=[64, 512, 2048])
    add("--runs", nargs="+", type=int, default=[100, 40, 20], help="one number a dimension")
    add("--budget", type=int, default=120_000, help="evaluations of a run")
    add("--compared-dimension", type=int, default=64)
    add("--compared-budget", type=int, default=12_000)
    add("--compared-runs", type=int, default=60)
    add("--groups", type=int, default=100, help="intervals at each probability, of ten runs each")
    add("--particles", type=int, default=2000, help="of a level, where intervals are looked at")
    add("--state", type=Path, default=Path("runs/benchmark-rare-events"), help="finished parts")


# --- Runs -----------------------------------------------------------------------------------------


def particles(budget: int) -> int:
    """Of a level, so that a run to `DEEPEST` makes about `budget` evaluations."""
    levels = round(math.log(DEEPEST) / math.log(SHARE))
    return max(20, int(budget / (1 + (1 - SHARE) * (levels - 1)) / 10) * 10)


def subset_runs(
    kind: type[SubsetSimulation], event: RareEvent, n: int, seed: int, runs: int
) -> Sequence[TailRun]:
    """Independent runs of n particles a level down to `DEEPEST`."""
    method = kind(event.new_map(), particles=n, share=SHARE, deepest=DEEPEST, kept=0)
    curve, _ = method.tail(event.loss, budget=Budget(runs=runs), seed=seed)
    return curve.runs


def subset_figures(
    kind: type[SubsetSimulation], event: RareEvent, budget: int, seed: int
) -> dict[str, Array]:
    """Estimates of one run over the truth, and the evaluations each took, (P,) each."""
    (run,) = subset_runs(kind, event, particles(budget), seed, 1)
    taus = [event.threshold(p) for p in PROBABILITIES]
    found = [run.beyond(t) / p for t, p in zip(taus, PROBABILITIES, strict=True)]
    return {"ratio": np.array(found),
            "evaluations": np.array([float(run.evaluations_to(t)) for t in taus])}  # fmt: skip


def plain_figures(event: RareEvent, budget: int, seed: int) -> dict[str, Array]:
    """The same of counting."""
    taus = [event.threshold(p) for p in PROBABILITIES]
    curve, _ = PlainMonteCarlo(event.new_map(), kept=0).tail(
        event.loss, tau=taus[-1], budget=Budget(evaluations=budget), seed=seed
    )
    found = [curve.exceedance(t).value / p for t, p in zip(taus, PROBABILITIES, strict=True)]
    return {"ratio": np.array(found), "evaluations": np.full(len(taus), float(budget))}


def openturns_figures(event: RareEvent, budget: int, seed: int) -> dict[str, Array]:
    """The same of OpenTURNS, with its own coefficient of variation at the deepest probability."""
    import openturns as ot

    noise_map, taus = event.new_map(), [event.threshold(p) for p in PROBABILITIES]
    n = particles(budget)

    def values(z: Any) -> Array:
        x = noise_map(torch.from_numpy(np.array(z)))
        return event.loss(x).numpy()[:, None]

    d = noise_map.event_shape[0]
    function = ot.PythonFunction(d, 1, func_sample=values)
    output = ot.CompositeRandomVector(function, ot.RandomVector(ot.Normal(d)))
    ot.RandomGenerator.SetSeed(seed)
    method = ot.SubsetSampling(ot.ThresholdEvent(output, ot.Greater(), taus[-1]), 2.0, SHARE)
    method.setMaximumOuterSampling(n // 10)
    method.setBlockSize(10)
    method.setKeepSample(True)
    method.run()
    ends = np.array(method.getThresholdPerStep())
    before = np.append(1.0, np.array(method.getProbabilityEstimatePerStep()))
    steps = [int(np.searchsorted(ends[:-1], t)) for t in taus]
    found = [
        before[k] * float((np.array(method.getOutputSample(k)) > t).mean()) / p
        for k, t, p in zip(steps, taus, PROBABILITIES, strict=True)
    ]
    return {"ratio": np.array(found), "evaluations": n * (1.0 + np.array(steps)),
            "coef_var": np.array(method.getResult().getCoefficientOfVariation())}  # fmt: skip


def compared_methods() -> dict[str, Callable[[RareEvent, int, int], dict[str, Array]]]:
    """Name -> what one run of it says."""
    found: dict[str, Callable[[RareEvent, int, int], dict[str, Array]]] = {
        kind.name: partial(subset_figures, kind) for kind in MOVES
    }
    return found | {OPENTURNS: openturns_figures, PlainMonteCarlo.name: plain_figures}


def _repeated(
    make: Callable[[RareEvent, int, int], dict[str, Array]],
    event: RareEvent,
    n: int,
    budget: int,
    runs: int,
    name: str,
    options: Options,
    store: BlockStore,
) -> dict[str, Array]:
    """The figures of all runs of a method, (R, P)."""
    key = "".join(c if c.isalnum() else "_" for c in f"{event.name} {n} {name} {budget}")
    seeds = [_seed(options, event.name, n, name, budget, run) for run in range(runs)]
    parts = [
        store.get(key, run, partial(make, event, budget, seed)) for run, seed in enumerate(seeds)
    ]
    print(f"{event.name}, {n} dimensions, {name}: {runs} runs of {budget:,} done", flush=True)
    return {k: np.stack([part[k] for part in parts]) for k in parts[0]}


def _seed(options: Options, *names: str | int) -> int:
    generator = seeded_generator(options.seed, "rare events", *names)
    return int(torch.randint(2**31, (), generator=generator))


# --- Figures over runs ----------------------------------------------------------------------------


def gain(ratio: Array, evaluations: Array, p: float) -> float | None:
    """Variance of counting at equal evaluations over the mean squared error, both over p^2.

        gain = (1 - p) / (p n) / mean((P / p - 1)^2)

    None where the relative RMSE is above `RMSE_LIMIT`: an estimator that says 0 has a fine MSE.
    """
    square = float(np.square(ratio - 1).mean())
    if not 0 < square <= RMSE_LIMIT**2:
        return None
    return (1 - p) / (p * float(evaluations.mean())) / square


def gain_interval(
    ratio: Array, evaluations: Array, p: float, seed: int
) -> tuple[float, float] | None:
    """95 % of the gain, runs drawn anew."""
    if gain(ratio, evaluations, p) is None:
        return None
    random = np.random.default_rng(seed)
    index = random.integers(0, len(ratio), (BOOTSTRAP, len(ratio)))
    squares = np.square(ratio - 1)[index].mean(1)
    low, high = np.quantile(1 / squares[squares > 0], [0.025, 0.975])
    scale = (1 - p) / (p * float(evaluations.mean()))
    return float(scale * low), float(scale * high)


def group_error(ratio: Array, size: int = GROUP) -> float:
    """Relative RMSE of the mean of `size` runs: sqrt(bias^2 + var / size)."""
    spread = float(ratio.var(ddof=1)) if len(ratio) > 1 else 0.0
    return math.sqrt(float(ratio.mean() - 1) ** 2 + spread / size)


def _rows(label: Mapping[str, Any], found: Mapping[str, Array], seed: int) -> list[dict[str, Any]]:
    """One row a probability."""
    rows = []
    for k, p in enumerate(PROBABILITIES):
        ratio, evaluations = found["ratio"][:, k], found["evaluations"][:, k]
        bias, bias_se = mean_and_error(100 * (ratio - 1))
        row = {**label, "p": p, "evaluations": float(evaluations.mean())}
        row |= {"bias_percent": bias, "bias_se_percent": bias_se}
        row |= {"relative_rmse": float(np.sqrt(np.square(ratio - 1).mean()))}
        row |= {"ten_run_rmse": group_error(ratio), "gain": gain(ratio, evaluations, p)}
        rows.append(row | {"gain_interval": gain_interval(ratio, evaluations, p, seed)})
    return rows


def _gain_checks(event: str, pooled: Mapping[str, Array], seed: int) -> list[Check]:
    """The targets of a kind of event, runs of all dimensions together."""
    wanted = ((1e-5, 30.0),) if event in RARE_MODES else ((1e-4, 20.0), (1e-6, 300.0))
    found = []
    for p, limit in wanted:
        k = PROBABILITIES.index(p)
        ratio, evaluations = pooled["ratio"][:, k], pooled["evaluations"][:, k]
        found.append(
            check(f"{event}: gain at {p:g}", gain(ratio, evaluations, p),
                  interval=gain_interval(ratio, evaluations, p, seed), relation=">=", limit=limit)
        )  # fmt: skip
    ratio = pooled["ratio"][:, -1]
    random = np.random.default_rng(seed)
    again = [group_error(random.choice(ratio, len(ratio))) for _ in range(BOOTSTRAP)]
    low, high = (float(q) for q in np.quantile(again, [0.025, 0.975]))
    name = f"{event}: relative RMSE of the mean of {GROUP} runs at {PROBABILITIES[-1]:g}"
    value = group_error(ratio)
    ends = (min(low, value), max(high, value))
    return [*found, check(name, value, interval=ends, relation="<=", limit=0.3)]


def _measured(options: Options, store: BlockStore) -> tuple[list[dict[str, Any]], list[Check]]:
    """Every event in every dimension at the full budget, then the compared methods."""
    own = options.own
    rows: list[dict[str, Any]] = []
    checks: list[Check] = []
    for name in own.events:
        parts = []
        for n, runs in zip(own.dimensions, own.runs, strict=True):
            found = _repeated(partial(subset_figures, SubsetSimulation), rare_event(name, n), n,
                              own.budget, runs, SubsetSimulation.name, options, store)  # fmt: skip
            label = {"part": "full budget", "event": name, "dimension": n}
            label |= {"method": SubsetSimulation.name, "budget": own.budget, "runs": runs}
            rows += _rows(label, found, options.seed)
            parts.append(found)
        pooled = {k: np.concatenate([part[k] for part in parts]) for k in parts[0]}
        checks += _gain_checks(name, pooled, options.seed)
        rows += _compared(name, options, store)
    return rows, checks


def _compared(name: str, options: Options, store: BlockStore) -> list[dict[str, Any]]:
    own, rows = options.own, []
    n, event = own.compared_dimension, rare_event(name, own.compared_dimension)
    for method, make in compared_methods().items():
        label = {"part": "compared", "event": name, "dimension": n, "method": method}
        label |= {"budget": own.compared_budget, "runs": own.compared_runs}
        try:
            found = _repeated(make, event, n, own.compared_budget, own.compared_runs, method,
                              options, store)  # fmt: skip
        except ModuleNotFoundError as error:
            rows.append({**label, "status": f"not measured: {error}"})
            continue
        rows += _rows(label, found, options.seed)
        if "coef_var" in found:
            half = 1.96 * found["coef_var"] * found["ratio"][:, -1]
            covered = int((np.abs(found["ratio"][:, -1] - 1) <= half).sum())
            rows[-1]["covers"] = covered / len(half)  # its own interval, within one run
    return rows


# --- Intervals and status -------------------------------------------------------------------------


def _estimates(
    event: RareEvent, n: int, name: str, options: Options, store: BlockStore
) -> list[list[Estimate]]:
    """Of each group of ten runs, the estimate at every probability."""
    taus = [event.threshold(p) for p in PROBABILITIES]

    def make(seed: int) -> dict[str, Array]:
        runs = subset_runs(SubsetSimulation, event, n, seed, GROUP)
        curve = ReplicatedTail(runs=runs, worse="high", method=SubsetSimulation.name)
        found = [curve.exceedance(t) for t in taus]
        ends = [(e.value, *(e.interval or (e.value, e.value))) for e in found]
        return {"figures": np.array(ends), "status": np.array([e.status for e in found])}

    groups = []
    for group in range(options.own.groups):
        seed = _seed(options, name, n, group)
        part = store.get(f"{name}-{n}", group, partial(make, seed))
        groups.append(
            [
                Estimate(value=v, interval=(lo, hi), n=GROUP, status=str(status), method="")
                for (v, lo, hi), status in zip(part["figures"], part["status"], strict=True)
            ]
        )
    return groups


def _coverage(options: Options, store: BlockStore) -> tuple[list[dict[str, Any]], list[Check]]:
    """How often the 95 % interval of ten runs holds the truth, on planes."""
    own = options.own
    event = rare_event("plane", own.compared_dimension)
    groups = _estimates(event, own.particles, "coverage", options, store)
    held = np.array([[_covers(e, p) for e, p in zip(group, PROBABILITIES, strict=True)]
                     for group in groups], dtype=np.float64)  # fmt: skip
    label = {"part": "intervals", "event": "plane", "dimension": own.compared_dimension}
    label |= {"runs": GROUP}
    label |= {"method": SubsetSimulation.name, "particles": own.particles}
    rows = [{**label, "p": p, "intervals": len(groups), "covers": float(held[:, k].mean())}
            for k, p in enumerate(PROBABILITIES)]  # fmt: skip
    mean, se = mean_and_error(held.mean(1))  # the intervals of a group share their runs
    low, high = student(mean, se, len(groups) - 1, 0.95) if se else (mean, mean)
    rows.append({**label, "p": None, "intervals": held.size, "covers": mean})
    name = f"plane: coverage of the 95 % interval of {GROUP} runs, {held.size} intervals"
    return rows, [
        check(f"{name}, at least", mean, interval=(low, high), relation=">=", limit=0.90),
        check(f"{name}, at most", mean, interval=(low, high), relation="<=", limit=0.99),
    ]


def _covers(estimate: Estimate, p: float) -> bool:
    low, high = estimate.interval or (math.nan, math.nan)
    return low <= p <= high


def _missed(options: Options, store: BlockStore) -> tuple[list[dict[str, Any]], list[Check]]:
    """Estimates that are far off at a mode aside: does the status say so?"""
    own, p = options.own, 1e-5
    event, k = rare_event("mode aside", own.compared_dimension), PROBABILITIES.index(p)
    rows, checks = [], []
    for n in (own.particles // 2, own.particles):
        found = [group[k] for group in _estimates(event, n, "missed", options, store)]
        off = [abs(e.value / p - 1) > 0.5 for e in found]
        fine = [e.status == "ok" for e in found]
        silent = proportion(sum(a and b for a, b in zip(off, fine, strict=True)), len(found))
        trusted = [e for e in found if e.status == "ok"]
        covers = [_covers(e, p) for e in trusted]
        rows.append(
            {"part": "missed modes", "event": event.name, "dimension": own.compared_dimension,
             "p": p, "runs": GROUP, "method": SubsetSimulation.name, "particles": n,
             "intervals": len(found), "far_off": float(np.mean(off)),
             "far_off_but_ok": silent.value, "status_ok": float(np.mean(fine)),
             "covers": float(np.mean([_covers(e, p) for e in found])),
             "covers_if_ok": float(np.mean(covers)) if covers else None}
        )  # fmt: skip
        checks.append(
            check(f"mode aside, {n} particles: more than half off at {p:g} with status ok",
                  silent.value, interval=silent.interval, relation="<=", limit=0.05)
        )  # fmt: skip
    return rows, checks


def main() -> None:
    """Run what is missing, write `benchmarks/results/rare_events.json`."""
    options = parse_arguments("rare_events", description=__doc__, add_own=_add_own)
    own = options.own
    if len(own.runs) != len(own.dimensions):
        raise SystemExit("--runs takes one number for each of --dimensions")
    fixed = (own.groups, own.particles, options.seed)
    store = BlockStore(own.state / "-".join(str(part) for part in fixed))
    rows, checks = _measured(options, store)
    for part in (_coverage, _missed):
        more_rows, more_checks = part(options, store)
        rows += more_rows
        checks += more_checks
    sizes = {"budget": own.budget, "particles_at_budget": particles(own.budget),
             "dimensions": own.dimensions, "runs": own.runs, "share": SHARE,
             "compared_budget": own.compared_budget, "compared_runs": own.compared_runs,
             "groups": own.groups, "group": GROUP, "particles": own.particles}  # fmt: skip
    write_result(options, sizes=sizes, rows=rows, checks=checks, data="closed forms")


if __name__ == "__main__":
    main()
