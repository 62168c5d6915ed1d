"""How many denoiser evaluations does each chain need to be as good as 1000-step DDPM?

Toy laws with closed-form denoisers, so every error is the chain's. "base" draws p; "guided" draws
q = l p / Z with l = |x|^2 and the exact twist, two evaluations a step. A figure is the excess of
the Jensen-Shannon distance over its floor, both against the same true samples, and a chain needs
the smallest number of steps at which its excess is that of 1000-step DDPM within two standard
errors of the paired difference ("equal"), or at which it is surely no more than `MARGIN` above it
("no worse"). Finished replicates are kept; a repeated call goes on where the last one stopped.

    python -m benchmarks.steps
"""

import argparse
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.checks import Check
from benchmarks.divergence import BINNING, Box, js_distance, mean_and_error
from benchmarks.harness import Options, check, parse_arguments, write_result
from channels.randomness import seeded_generator
from csi_audit.base import Base
from csi_audit.diffusion import Denoiser
from csi_audit.evaluating import CountedDenoiser
from csi_audit.run_state import BlockStore
from csi_audit.sampling import VpTimes, euler_maruyama, run_chain, sigma_grid, start
from csi_audit.toy_laws import ExactTwist, MixtureLaw, toy_base, toy_law
from csi_audit.toy_weights import l1
from csi_audit.twists import GuidedDenoiser

Task = Literal["base", "guided"]
Chain = Literal["ode_2m", "sde_2m", "ancestral", "euler_maruyama"]
Array = npt.NDArray[np.float64]

REFERENCES: tuple[Chain, ...] = ("ancestral", "euler_maruyama")
LONGEST = 1000
MARGIN = 0.003
BOX = Box(low=(-1.25, -1.25), high=(1.25, 1.25))
BOOTSTRAP = 1000


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cells", nargs="+", default=["8-gaussians:base", "8-gaussians:guided", "pinwheel:base"])
    add("--steps", nargs="+", type=int, default=[10, 15, 20, 30, 40, 60, 120, 250])
    add("--seeds", type=int, default=10)
    add("--samples", type=int, default=10_000)
    add("--tail", type=float, default=0.01, help="P(x_1 > t) that is looked at, about")
    add("--state", type=Path, default=Path("runs/benchmark-steps"), help="finished replicates")


# --- One replicate --------------------------------------------------------------------------------


def drawn(
    chain: Chain, denoiser: Denoiser, base: Base, steps: int, n: int, generator: torch.Generator
) -> torch.Tensor:
    """n samples of a chain that asks `denoiser` steps - 1 times and the base's once, at the end."""
    x = start(base.variance, base.sigma_max, n, generator=generator)
    if chain != "euler_maruyama":
        sigmas = sigma_grid(base.sigma_max, base.sigma_min, steps)
        return run_chain(chain, denoiser, x, sigmas, generator=generator)
    times = VpTimes(steps=steps - 1, sigma_max=base.sigma_max, sigma_min=base.sigma_min)
    return base.denoiser(euler_maruyama(denoiser, x, times, generator=generator), base.sigma_min)


def plan(steps: Sequence[int]) -> list[tuple[Chain, int]]:
    """Chains and their numbers of steps; only the references run the longest."""
    pairs = [(chain, n) for chain in get_args(Chain) for n in steps]
    return pairs + [(chain, LONGEST) for chain in REFERENCES]


def threshold(law: MixtureLaw, share: float) -> float:
    """t with P(x_1 > t) = share."""
    axis, low, high = torch.tensor([1.0, 0.0], dtype=torch.float64), 0.0, 10.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if law.beyond(axis, middle) > share else (low, middle)
    return high


def replicate(law: MixtureLaw, task: Task, seed: int, options: Options) -> dict[str, Array]:
    """Per chain and number of steps [distance, E[l], share beyond t]; "floor" of true samples."""
    own, weight, base = options.own, l1(), toy_base(law)
    denoiser: Denoiser = CountedDenoiser(law.denoiser, batch_size=2000)
    if task == "guided":
        denoiser = GuidedDenoiser(denoiser, ExactTwist(law, weight))
    stream = partial(seeded_generator, options.seed, "steps", law.name, task, seed)

    def true(name: str) -> torch.Tensor:
        generator = stream(name)
        if task == "guided":
            return law.draw_target(weight, own.samples, generator=generator)
        return law.draw(own.samples, generator=generator)

    truth, t = BOX.histogram(true("truth")), threshold(law, own.tail)

    def figures(x: torch.Tensor) -> Array:
        distance = js_distance(BOX.histogram(x), truth)
        e_l = float(weight.log_l(x.double()).exp().mean())
        return np.array([distance, e_l, float((x[:, 0] > t).double().mean())])

    found = {"floor": figures(true("floor"))}
    for chain, steps in plan(own.steps):
        generator = stream(chain, steps)
        x = drawn(chain, denoiser, base, steps, own.samples, generator)
        found[f"{chain} {steps}"] = figures(x)
    return found


# --- Over replicates ------------------------------------------------------------------------------


def smallest(
    excess: Mapping[int, Array], reference: Array, *, margin: float | None = None
) -> int | None:
    """Fewest steps at which a chain is as good as the reference; None if none are enough.

    Args:
        excess: By number of steps, a figure a seed (R,).
        reference: That of the reference, paired (R,).
        margin: None asks that the mean difference be at most 2 SE; a number that the difference
            + 2 SE be at most that.
    """
    for steps in sorted(excess):
        d, se = mean_and_error(excess[steps] - reference)
        spread = 2 * (se or 0.0)
        if d <= spread if margin is None else d + spread <= margin:
            return steps
    return None


def _ratio_interval(
    excess: Mapping[int, Array], reference: Array, margin: float | None, seed: int
) -> tuple[float, float]:
    """95 % of LONGEST over smallest, seeds drawn anew; 0 where no number of steps is enough."""
    random, r = np.random.default_rng(seed), len(reference)
    ratios = []
    for _ in range(BOOTSTRAP):
        index = random.integers(0, r, r)
        found = smallest({n: e[index] for n, e in excess.items()}, reference[index], margin=margin)
        ratios.append(0.0 if found is None else LONGEST / found)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)


def _figure_rows(
    law: MixtureLaw, task: Task, found: Sequence[Mapping[str, Array]], tail: float
) -> list[dict[str, Any]]:
    """One row a chain and number of steps, and one for the floor."""
    true_l = law.e_q(l1()) if task == "guided" else law.e_p(l1())
    floor = np.array([f["floor"][0] for f in found])
    rows = []
    for name in found[0]:
        figures = np.array([f[name] for f in found])  # (R, 3)
        chain, _, steps = name.partition(" ")
        excess, excess_se = mean_and_error(figures[:, 0] - floor)
        e_l, e_l_se = mean_and_error(100 * (figures[:, 1] / true_l - 1))
        beyond, beyond_se = mean_and_error(100 * (figures[:, 2] / tail - 1))
        row: dict[str, Any] = {"law": law.name, "task": task, "chain": chain}
        n = int(steps) if steps else None
        row |= {"steps": n, "evaluations": None if n is None else evaluations(task, n)}
        row |= {"distance": float(figures[:, 0].mean()), "excess": excess, "excess_se": excess_se}
        row |= {"e_l_error_percent": e_l, "e_l_error_se": e_l_se}
        if task == "base":
            row |= {"tail_error_percent": beyond, "tail_error_se": beyond_se}
        rows.append(row)
    return rows


def evaluations(task: Task, steps: int) -> int:
    """Denoiser evaluations a sample: a guided step counts as two, the last is unguided."""
    return steps if task == "base" else 2 * steps - 1


def _comparison(
    law: MixtureLaw, task: Task, found: Sequence[Mapping[str, Array]], options: Options
) -> tuple[list[dict[str, Any]], list[Check]]:
    """Each chain against each reference, by either rule; checks for the second-order chains."""
    distance = {name: np.array([f[name][0] for f in found]) for name in found[0]}
    rows, checks = [], []
    for reference in REFERENCES:
        against = distance[f"{reference} {LONGEST}"]
        for chain in get_args(Chain):
            counts = [n for c, n in plan(options.own.steps) if c == chain]
            by_steps = {n: distance[f"{chain} {n}"] for n in counts}
            for rule, margin in (("equal", None), ("no worse", MARGIN)):
                n = smallest(by_steps, against, margin=margin)
                interval = _ratio_interval(by_steps, against, margin, options.seed)
                ratio = 0.0 if n is None else LONGEST / n
                row: dict[str, Any] = {"law": law.name, "task": task, "chain": chain, "steps": n}
                row |= {"against": f"{reference} {LONGEST}", "rule": rule}
                rows.append(row | {"times_fewer": ratio, "times_fewer_interval": interval})
                if chain in ("ode_2m", "sde_2m"):
                    checks.append(
                        check(f"{law.name}, {task}: {chain} {rule} to {reference} {LONGEST}, "
                              "times fewer", ratio, interval=interval, relation=">=", limit=30)
                    )  # fmt: skip
    return rows, checks


def main() -> None:
    """Run what is missing, write `benchmarks/results/steps.json`."""
    options = parse_arguments("steps", description=__doc__, add_own=_add_own)
    own = options.own
    fixed = (own.samples, own.tail, *own.steps, options.seed)
    store = BlockStore(own.state / "-".join(str(part) for part in fixed))
    figures: list[dict[str, Any]] = []
    compared: list[dict[str, Any]] = []
    checks: list[Check] = []
    for cell in own.cells:
        name, _, task = cell.partition(":")
        law, found = toy_law(name), []
        for seed in range(own.seeds):
            make = partial(replicate, law, task, seed, options)
            found.append(store.get(f"{name}-{task}", seed, make))
            print(f"{cell}: seed {seed} done", flush=True)
        figures += _figure_rows(law, task, found, own.tail)
        rows, more = _comparison(law, task, found, options)
        compared += rows
        checks += more
    sizes = {"samples": own.samples, "seeds": own.seeds, "placement": "centred",
             "weight": "|x|^2", "tail_probability": own.tail, "binning": BINNING,
             "box": [BOX.low, BOX.high], "margin": MARGIN}  # fmt: skip
    write_result(options, sizes=sizes, rows=figures + compared, checks=checks, data="toy laws")


if __name__ == "__main__":
    main()
