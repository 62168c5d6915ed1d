"""Table 1 of the paper made again: how close are the samples of each method to q?

Four densities with l1 = |x|^2 and l2 = sum(x) + 2, a Weibull law, and a rare event. A figure is the
root of the Jensen-Shannon divergence to true samples of q, on a stated binning (the paper's is
unknown), beside its floor: the same between two sets of true samples. The excess over the floor is
paired by seed. Methods that weigh their particles draw so many that their effective number is that
of the true samples.

- `issgm`: the paper's chain as published, 1000 steps.
- ours: twisted SMC and the guided second-order SDE with the calibrated twist at 60 steps,
  reweighting at 35; the guided ODE at 35 steps stands beside them.
- flows fitted to each l by weighted maximum likelihood (see benchmarks.toy_flows).
- The score is the closed form, or one learned from samples of p alone ("learned"), anew for every
  seed; one network serves every l. `issgm` on the learned score runs with `--methods`.

Replicates are kept one by one; a repeated call goes on where the last one stopped, and `--report`
shows what is there. Each row says how many seeds it has.

    python -m benchmarks.toy_densities
"""

import argparse
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.checks import Check
from benchmarks.divergence import BINNING, js_distance, mean_and_error
from benchmarks.harness import Options, check, parse_arguments, write_result
from benchmarks.toy_cells import CELLS, RARE, Cell, cell
from benchmarks.toy_evolution import save_evolution
from benchmarks.toy_flows import FlowName, fit_flow
from benchmarks.toy_scores import fit_denoiser, parameter_vector, restored
from channels.randomness import seeded_generator
from csi_audit.base import Base
from csi_audit.calibration import CalibratedTwist, fit_calibrated_twist
from csi_audit.run_state import BlockStore
from csi_audit.samples import Sampler, WeightedSamples
from csi_audit.sampling import (
    BaseSampler,
    ChainName,
    GuidedSampler,
    IssgmSampler,
    reweighted,
    sigma_grid,
)
from csi_audit.toy_laws import ExactTwist, MixtureLaw, toy_base
from csi_audit.twisted_smc import TwistedSmcSampler
from csi_audit.twists import Twist

Array = npt.NDArray[np.float64]

CHAINS = ("no guidance", "issgm", "guided ODE", "reweighting", "guided", "twisted SMC")
FLOWS: tuple[FlowName, ...] = ("MAF", "NSF", "autoregressive")
OURS = ("guided", "twisted SMC")
LEARNED = ", learned"
EXACT = "twisted SMC, exact twist"  # on the rare event alone, where no pilot sees what counts
METHODS = (*CHAINS, EXACT, *FLOWS, *(name + LEARNED for name in CHAINS[3:]))
MARGIN = 0.003
E_L_LIMIT = 1.5  # per cent
MOST = 20  # times the wanted number of particles, where weights are uneven
BATCH = 2000


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cells", nargs="+", default=list(CELLS), choices=CELLS, metavar="CELL")
    add("--methods", nargs="+", default=list(METHODS), metavar="METHOD",
        choices=(*METHODS, *(name + LEARNED for name in CHAINS[:3])))  # fmt: skip
    add("--placement", choices=("centred", "unit square"), default="centred")
    add("--seeds", type=int, default=10)
    add("--samples", type=int, default=10_000)
    add("--issgm-steps", type=int, default=1000)
    add("--ode-steps", type=int, default=35, help="reweighting and the guided ODE")
    add("--sde-steps", type=int, default=60, help="twisted SMC and the guided SDE")
    add("--pilot", type=int, default=500)
    add("--flow-steps", type=int, default=1000)
    add("--score-steps", type=int, default=12_000)
    add("--no-figure", action="store_true", help="leave the spiral's evolution out")
    add("--report", action="store_true", help="run nothing, report the replicates at hand")
    add("--state", type=Path, default=Path("runs/benchmark-toy-densities"))


# --- Methods --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """What a method gave, and at what price.

    Attributes:
        samples: Of q, weighted.
        training_s: Seconds spent on training for this l, 0 where none is needed.
        pilot_evaluations: Denoiser evaluations before the first sample.
    """

    samples: WeightedSamples
    training_s: float = 0.0
    pilot_evaluations: int = 0


def topped_up(sampler: Sampler, n: int, generator: torch.Generator) -> WeightedSamples:
    """Samples whose effective number is about n: n, then as many more as their weights ask for.

    Their weights must be absolute, so that the two parts can be joined.
    """
    first = sampler(n, generator=generator)
    more = min(math.ceil(n * (n / effective(first.log_w) - 1)), (MOST - 1) * n)
    if more < 2:
        return first
    second = sampler(more, generator=generator)
    return replace(
        WeightedSamples(
            x=torch.cat([first.x, second.x]),
            log_w=torch.cat([first.log_w, second.log_w]),
            law=first.law,
            chain=first.chain,
        ),
        n_evaluations=first.n_evaluations + second.n_evaluations,
    )


def effective(log_w: Tensor) -> float:
    """(sum w)^2 / sum w^2."""
    return float((2 * log_w.logsumexp(0) - (2 * log_w).logsumexp(0)).exp())


def _calibrated(
    here: Cell, base: Base, steps: int, options: Options, generator: torch.Generator
) -> tuple[CalibratedTwist, int]:
    """The twist fitted to draws of the base itself, and the evaluations that took."""
    pilot = BaseSampler(base, steps=options.own.ode_steps, batch_size=BATCH)(
        options.own.pilot, generator=generator
    )
    sigmas = sigma_grid(base.sigma_max, base.sigma_min, steps)
    twist = fit_calibrated_twist(
        base.denoiser, here.weight, pilot.x, sigmas, generator=generator, features=here.features
    )
    return twist, pilot.n_evaluations + len(pilot) * steps


def by_chain(
    method: str, here: Cell, base: Base, options: Options, generator: torch.Generator
) -> Drawn:
    """Samples of q by one of `CHAINS`."""
    own, n = options.own, options.own.samples
    plain = BaseSampler(base, steps=own.ode_steps, batch_size=BATCH)
    if method == "no guidance":
        return Drawn(plain(n, generator=generator))
    if method == "issgm":
        paper = IssgmSampler(base, here.weight, steps=own.issgm_steps, batch_size=BATCH)
        return Drawn(paper(n, generator=generator))
    if method == "reweighting":

        def weighed(n: int, *, generator: torch.Generator) -> WeightedSamples:
            return reweighted(plain(n, generator=generator), here.weight)

        return Drawn(topped_up(weighed, n, generator))
    if method in ("guided", "guided ODE"):
        chain: ChainName = "sde_2m" if method == "guided" else "ode_2m"
        steps = own.sde_steps if method == "guided" else own.ode_steps
        fitted, spent = _calibrated(here, base, steps, options, generator)
        guided = GuidedSampler(base, fitted, steps=steps, chain=chain, batch_size=BATCH)
        return Drawn(guided(n, generator=generator), pilot_evaluations=spent)
    twist: Twist
    if method == EXACT and isinstance(here.law, MixtureLaw):
        twist, spent = ExactTwist(here.law, here.weight), 0
    else:
        twist, spent = _calibrated(here, base, own.sde_steps, options, generator)
    smc = TwistedSmcSampler(base, here.weight, twist, steps=own.sde_steps, batch_size=BATCH)
    return Drawn(topped_up(smc, n, generator), pilot_evaluations=spent)


def by_flow(name: FlowName, here: Cell, options: Options, seed: int) -> Drawn:
    """Samples of a flow fitted to l."""
    began = time.perf_counter()

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return here.law.draw(n, generator=generator)

    flow = fit_flow(name, draw, here.weight, seed=seed, steps=options.own.flow_steps)
    trained = time.perf_counter() - began
    n = options.own.samples
    x = flow.draw(n, generator=_stream(here, name, options, seed)("samples"))
    log_w = torch.zeros(n, dtype=torch.float64)
    return Drawn(WeightedSamples(x=x, log_w=log_w, law="target", chain=name), training_s=trained)


def learned_base(here: Cell, options: Options, seed: int, store: BlockStore) -> Base:
    """The law of the cell with a score learned from its samples; one network for every l."""

    def draw(n: int, generator: torch.Generator) -> Tensor:
        return here.law.draw(n, generator=generator)

    def make() -> dict[str, npt.NDArray[Any]]:
        net = fit_denoiser(draw, seed=seed, steps=options.own.score_steps)
        return {"parameters": parameter_vector(net).numpy()}

    vector = torch.from_numpy(store.get(f"{here.law_name}-score", seed, make)["parameters"])
    return replace(toy_base(here.law), denoiser=restored(vector))


def _stream(here: Cell, purpose: str, options: Options, seed: int) -> Any:
    return partial(seeded_generator, options.seed, "toy densities", here.name, seed, purpose)


# --- One replicate --------------------------------------------------------------------------------


def _true(here: Cell, name: str, options: Options, seed: int) -> Array:
    """Histogram of true samples of q."""
    generator = _stream(here, "true", options, seed)(name)
    return here.box.histogram(here.draw_target(options.own.samples, generator))


def replicate(
    here: Cell, method: str, seed: int, options: Options, store: BlockStore
) -> dict[str, Array]:
    """Distance to true samples, floor, E_q[l] and costs of one method and seed.

    A method that refuses (a ValueError that says why) gives its words instead.
    """
    began = time.perf_counter()
    truth = _true(here, "first", options, seed)
    try:
        if method in FLOWS:
            drawn = by_flow(method, here, options, seed)
        else:
            learned = method.endswith(LEARNED)
            base = learned_base(here, options, seed, store) if learned else toy_base(here.law)
            name, generator = method.removesuffix(LEARNED), _stream(here, method, options, seed)()
            drawn = by_chain(name, here, base, options, generator)
    except ValueError as error:
        return {"refused": np.array(str(error))}
    samples, w = drawn.samples, (drawn.samples.log_w - drawn.samples.log_w.max()).exp().numpy()
    l = here.weight.log_l(samples.x.double()).exp().numpy()
    figures = {
        "seed": float(seed),
        "distance": js_distance(here.box.histogram(samples.x, samples.log_w), truth),
        "floor": js_distance(_true(here, "second", options, seed), truth),
        "e_l": float(np.average(l, weights=w)),
        "particles": float(len(samples)),
        "ess": effective(samples.log_w),
        "evaluations": float(samples.n_evaluations),
        "pilot_evaluations": float(drawn.pilot_evaluations),
        "training_s": drawn.training_s,
        "seconds": time.perf_counter() - began,
    }
    return {key: np.array(value) for key, value in figures.items()}


# --- Over replicates ------------------------------------------------------------------------------


Found = Mapping[tuple[str, str], Sequence[Mapping[str, Array]]]
"""Replicates by (cell, method)."""


def row(here: Cell, method: str, found: Sequence[Mapping[str, Array]]) -> dict[str, Any]:
    """Mean and standard error over seeds of one cell and method; medians of clock times."""
    head: dict[str, Any] = {"cell": here.name, "method": method}
    head["score"] = None if method in FLOWS else "learned" if LEARNED in method else "closed form"
    refused = [str(f["refused"]) for f in found if "refused" in f]
    kept = {key: np.array([f[key] for f in found if key in f]) for key in _KEYS}
    head |= {"seeds": len(kept["distance"]), "refused": len(refused)}
    if refused:
        head["refusal"] = refused[0]
    if not len(kept["distance"]):
        return head
    distance, distance_se = mean_and_error(kept["distance"])
    floor, floor_se = mean_and_error(kept["floor"])
    excess, excess_se = mean_and_error(kept["distance"] - kept["floor"])
    error, error_se = mean_and_error(100 * (kept["e_l"] / here.e_q - 1))
    per_sample = kept["evaluations"].sum() / kept["ess"].sum()
    return head | {
        "distance": distance, "distance_se": distance_se, "floor": floor, "floor_se": floor_se,
        "excess": excess, "excess_se": excess_se, "e_q_error_percent": error,
        "e_q_error_se": error_se, "e_q_true": here.e_q, "ess_share":
        float((kept["ess"] / kept["particles"]).mean()), "evaluations_per_effective_sample":
        float(per_sample), "pilot_evaluations": float(kept["pilot_evaluations"].mean()),
        "training_s": float(np.median(kept["training_s"])),
        "seconds": float(np.median(kept["seconds"])),
    }  # fmt: skip


_KEYS = ("distance", "floor", "e_l", "particles", "ess", "evaluations", "pilot_evaluations",
         "training_s", "seconds")  # fmt: skip


def closed_form_checks(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """Excess - 2 SE at most `MARGIN` and E_q[l] within `E_L_LIMIT` per cent."""
    checks = []
    for r in rows:
        if r["method"] not in OURS:
            continue
        name = f"{r['cell']}: {r['method']}"
        excess, se, error, error_se = (
            r.get(key) for key in ("excess", "excess_se", "e_q_error_percent", "e_q_error_se")
        )
        low = None if excess is None else excess - 2 * (se or 0.0)
        checks.append(check(f"{name}, excess - 2 SE", low, relation="<=", limit=MARGIN))
        interval = None
        if error is not None and error_se is not None:
            interval = _absolute(error - 2 * error_se, error + 2 * error_se)
        checks.append(
            check(f"{name}, error of E_q[l], %", None if error is None else abs(error),
                  interval=interval, relation="<=", limit=E_L_LIMIT)
        )  # fmt: skip
    return checks


def _absolute(low: float, high: float) -> tuple[float, float]:
    """The interval of |v| where v lies in [low, high]."""
    ends = sorted((abs(low), abs(high)))
    return (0.0 if low < 0 < high else ends[0]), ends[1]


def learned_checks(cells: Sequence[str], found: Found) -> list[Check]:
    """Distance on the learned score less that of the cell's best flow, less 2 SE, at most 0.

    Seeds that both have; a single one decides nothing.
    """
    checks = []
    for name in cells:
        flows = {flow: _distances(found.get((name, flow), ())) for flow in FLOWS}
        fitted = {flow: d for flow, d in flows.items() if d}
        for method in OURS:
            ours = _distances(found.get((name, method + LEARNED), ()))
            if not fitted or not ours:
                continue
            best = min(fitted, key=lambda flow: float(np.mean(list(fitted[flow].values()))))
            seeds = sorted(ours.keys() & fitted[best].keys())
            value = None
            if len(seeds) > 1:
                d, se = mean_and_error([ours[s] - fitted[best][s] for s in seeds])
                value = d - 2 * (se or 0.0)
            label = f"{name}: {method}{LEARNED}, distance less that of {best}, less 2 SE"
            checks.append(check(label, value, relation="<=", limit=0.0))
    return checks


def _distances(found: Sequence[Mapping[str, Array]]) -> dict[int, float]:
    return {int(f["seed"]): float(f["distance"]) for f in found if "distance" in f}


def plan(
    methods: Sequence[str], cells: Sequence[str], seeds: int
) -> Iterator[tuple[int, str, str]]:
    """(seed, cell, method), what is quick before what is slow, a seed of all cells at a time."""
    groups = ([m for m in CHAINS if m != "issgm"] + [EXACT], ["issgm"])
    rest = [m for m in methods if not any(m in group for group in groups)]
    for group in (*groups, rest):
        for seed in range(seeds):
            for name in cells:
                for method in methods:
                    if method in group and (method != EXACT or name == RARE):
                        yield seed, name, method


def main() -> None:
    """Run what is missing, write `benchmarks/results/toy_densities.json` and the figure."""
    options = parse_arguments("toy_densities", description=__doc__, add_own=_add_own)
    own = options.own
    fixed = (own.placement.replace(" ", "_"), own.samples, own.issgm_steps, own.ode_steps,
             own.sde_steps, own.pilot, own.flow_steps, own.score_steps, options.seed)  # fmt: skip
    store = BlockStore(own.state / "-".join(str(part) for part in fixed))
    cells = {name: cell(name, own.placement) for name in own.cells}
    found: dict[tuple[str, str], list[dict[str, Array]]] = {}
    for seed, name, method in plan(own.methods, own.cells, own.seeds):
        label = "".join(c if c.isalnum() else "_" for c in f"{name} {method}")
        if own.report and not store.path(label, seed).is_file():
            continue
        make = partial(replicate, cells[name], method, seed, options, store)
        found.setdefault((name, method), []).append(store.get(label, seed, make))
        print(f"seed {seed}: {name}, {method}", flush=True)
    rows = [row(cells[name], method, parts) for (name, method), parts in found.items()]
    checks = closed_form_checks(rows) + learned_checks(own.cells, found)
    sizes = {"samples": own.samples, "seeds_at_most": own.seeds, "placement": own.placement,
             "binning": BINNING, "issgm_steps": own.issgm_steps, "ode_steps": own.ode_steps,
             "sde_steps": own.sde_steps, "pilot": own.pilot, "flow_steps": own.flow_steps,
             "score_steps": own.score_steps,
             "boxes": {name: [here.box.low, here.box.high] for name, here in cells.items()},
             }  # fmt: skip
    if not own.no_figure:
        save_evolution(options.out.with_name("toy_densities_spiral.png"), seed=options.seed)
    write_result(options, sizes=sizes, rows=rows, checks=checks, data="toy laws")


if __name__ == "__main__":
    main()
