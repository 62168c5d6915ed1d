"""Is Z of twisted SMC unbiased, and how much less does it scatter than reweighting at equal cost?

Truth is E[l] under the same discretised chain, by many plain draws; its gap to E_p[l] of the law
itself, which no correction removes, stands in a column of its own. Each island is one repeat. A
repeat of twisted SMC and one of reweighting spend the same number of denoiser evaluations. The
plain Tweedie twist stands beside the others as the warning: look at its effective sample size, then
at its Z. Finished parts are kept; a repeated call goes on where the last one stopped.

    python -m benchmarks.normalising_constant
"""

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.checks import Check
from benchmarks.divergence import mean_and_error
from benchmarks.harness import Options, check, parse_arguments, write_result
from benchmarks.toy_cells import rare_weight
from channels.randomness import seeded_generator
from csi_audit.base import Base
from csi_audit.calibration import (
    FEATURE_SETS,
    fit_calibrated_twist,
    resolved_features,
    tweedie_features,
)
from csi_audit.run_state import BlockStore
from csi_audit.sampling import BaseSampler, sigma_grid
from csi_audit.toy_laws import ExactTwist, MixtureLaw, toy_base, toy_law
from csi_audit.toy_weights import TiltingWeight, l1
from csi_audit.twisted_smc import StochasticChain, TwistedSmcSampler
from csi_audit.twists import SmoothedTwist, TweedieTwist, Twist

Array = npt.NDArray[np.float64]

CELLS = ("8-gaussians |x|^2", "pinwheel |x|^2", "64-d |x|^8", "8-gaussians rare")
TWISTS = ("exact", "calibrated", "calibrated 1", "calibrated 4", "smoothed", "Tweedie")
WARNING = "Tweedie"
CHAIN: StochasticChain = "sde_2m"
BLOCK = 50_000
PARTS = 4  # in which the repeats are saved
PILOT = 500
PILOT_EVENTS = 20  # a rare weight needs a pilot that has seen it: PILOT_EVENTS / E_p[l] draws


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--cells", nargs="+", default=list(CELLS), choices=CELLS, metavar="CELL")
    add("--twists", nargs="+", default=list(TWISTS), choices=TWISTS, metavar="TWIST")
    add("--steps", type=int, default=40)
    add("--draws", type=int, default=1_000_000, help="plain draws for the truth")
    add("--repeats", type=int, default=200)
    add("--particles", type=int, default=250, help="of one repeat")
    add("--state", type=Path, default=Path("runs/benchmark-normalising-constant"))


# --- Laws and weights -----------------------------------------------------------------------------


@dataclass(frozen=True)
class FourthPower:
    """l(x) = (|x|^2 / n)^4: sharp, and far above its value at a mean that is near 0.

    Against N(m, s^2 I), |x|^2 / s^2 is a non-central chi-square of n degrees, lam = |m|^2 / s^2,
    with cumulants k_j = 2^(j-1) (j-1)! (n + j lam) and fourth moment
    k4 + 4 k3 k1 + 3 k2^2 + 6 k2 k1^2 + k1^4.
    """

    def log_l(self, x: Tensor) -> Tensor:
        return 4 * x.square().mean(1).clamp_min(1e-12).log()

    def log_mean(self, mean: Tensor, deviation: Tensor) -> Tensor:
        """log E[l] of each Gaussian, means (..., n), deviations (...)."""
        n, s2 = mean.shape[-1], deviation.square()
        lam = mean.square().sum(-1) / s2
        k1, k2, k3, k4 = (
            2 ** (j - 1) * math.factorial(j - 1) * (n + j * lam) for j in (1, 2, 3, 4)
        )
        moment = k4 + 4 * k3 * k1 + 3 * k2**2 + 6 * k2 * k1**2 + k1**4
        return 4 * (s2 / n).log() + moment.log()


class _ExactFourthPower:
    """E[l(x0) | x_sigma] of a mixture."""

    name = "exact twist"

    def __init__(self, law: MixtureLaw) -> None:
        self.law = law

    def log_h(self, x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        log_r, means, deviations = self.law.denoiser.posterior(x, sigma)
        return (log_r + FourthPower().log_mean(means, deviations)).logsumexp(1)


def scale_mixture(n: int = 64) -> MixtureLaw:
    """Four Gaussians of unlike deviations about unlike means: CV(l) about 2.6 for |x|^8."""
    generator = seeded_generator(0, "scale mixture")
    means = torch.randn(4, n, generator=generator, dtype=torch.float64)
    return MixtureLaw(
        name=f"{n}-d",
        probabilities=torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=torch.float64),
        means=2 * means / means.norm(dim=1, keepdim=True),
        deviations=torch.tensor([0.7, 0.8, 0.9, 1.2], dtype=torch.float64),
    )


@dataclass(frozen=True)
class Cell:
    """A law with a weight, E_p[l] and E[l | x_sigma] known."""

    law: MixtureLaw
    weight: TiltingWeight | FourthPower
    e_p: float
    exact: Twist


def cell(name: str) -> Cell:
    """The cell of that name."""
    if name == "64-d |x|^8":
        law = scale_mixture()
        means = FourthPower().log_mean(law.means, law.deviations).exp()
        return Cell(law, FourthPower(), float(law.probabilities @ means), _ExactFourthPower(law))
    law = toy_law("pinwheel" if name.startswith("pinwheel") else "8-gaussians")
    weight: TiltingWeight = rare_weight() if name.endswith("rare") else l1()
    return Cell(law, weight, law.e_p(weight), ExactTwist(law, weight))


def twist(kind: str, cell: Cell, base: Base, steps: int, generator: torch.Generator) -> Twist:
    """The twist of that kind; a calibrated one is fitted to draws of the chain."""
    if kind == "exact":
        return cell.exact
    if kind == "Tweedie":
        return TweedieTwist(cell.weight)
    if kind == "smoothed":
        return SmoothedTwist(cell.weight, cell.law.variance, generator=generator)
    chosen = {"calibrated 1": tweedie_features, "calibrated 4": resolved_features}
    features = chosen.get(kind, FEATURE_SETS)  # the simplest that does, unless told
    sampler = BaseSampler(base, steps=steps, chain=CHAIN, batch_size=2000)
    pilot = sampler(pilot_size(cell), generator=generator)
    sigmas = sigma_grid(base.sigma_max, base.sigma_min, steps)
    return fit_calibrated_twist(
        base.denoiser,
        cell.weight,
        pilot.x,
        sigmas,
        generator=generator,
        features=features,
    )


def pilot_size(cell: Cell) -> int:
    """Pilot draws: `PILOT`, or more where l is a rare event."""
    return max(PILOT, round(PILOT_EVENTS / cell.e_p)) if cell.e_p < 0.01 else PILOT


# --- Measuring ------------------------------------------------------------------------------------


def _truth(name: str, options: Options, store: BlockStore) -> tuple[float, float, float]:
    """E[l] under the chain, its standard error, and CV(l)."""
    here, own = cell(name), options.own
    sampler = BaseSampler(toy_base(here.law), steps=own.steps, chain=CHAIN, batch_size=2000)

    def make(block: int, n: int) -> dict[str, Array]:
        generator = seeded_generator(options.seed, "truth", name, block)
        l = here.weight.log_l(sampler(n, generator=generator).x.double()).exp()
        return {"moments": np.array([n, float(l.sum()), float(l.square().sum())])}

    total = np.zeros(3)
    for block in range(-(-own.draws // BLOCK)):
        n = min(BLOCK, own.draws - block * BLOCK)
        total += store.get(f"{_file(name)}-truth", block, partial(make, block, n))["moments"]
    n_all, mean, square = total[0], total[1] / total[0], total[2] / total[0]
    coef_var = math.sqrt(square / mean**2 - 1)
    return mean, mean * coef_var / math.sqrt(n_all), coef_var


def _repeats(name: str, kind: str, options: Options, store: BlockStore) -> dict[str, Array]:
    """Z and final ESS over particles of every repeat, (R,), and evaluations a particle."""
    here, own = cell(name), options.own

    def make(part: int, islands: int) -> dict[str, Array]:
        generator = seeded_generator(options.seed, "repeats", name, kind, part)
        base = toy_base(here.law)
        h = twist(kind, here, base, own.steps, generator)
        sampler = TwistedSmcSampler(
            base,
            here.weight,
            h,
            steps=own.steps,
            chain=CHAIN,
            island=own.particles,
            batch_size=2000,
        )
        drawn = sampler(islands * own.particles, generator=generator)
        w = drawn.log_w.view(islands, -1)
        ess = (2 * w.logsumexp(1) - (2 * w).logsumexp(1)).exp() / own.particles
        spent = drawn.n_evaluations / len(drawn)
        return {"z": drawn.log_z_islands().exp().numpy(), "ess": ess.numpy(),
                "evaluations": np.array(spent)}  # fmt: skip

    sizes = [len(part) for part in np.array_split(np.arange(own.repeats), PARTS)]
    parts = [
        store.get(f"{_file(name)}-{_file(kind)}", part, partial(make, part, n))
        for part, n in enumerate(sizes)
        if n
    ]
    joined = {key: np.concatenate([part[key] for part in parts]) for key in ("z", "ess")}
    return joined | {"evaluations": parts[0]["evaluations"]}


def _file(name: str) -> str:
    return "".join(letter if letter.isalnum() else "_" for letter in name)


def figures(
    found: Mapping[str, Array], truth: float, truth_se: float, coef_var: float, steps: int
) -> dict[str, Any]:
    """Bias and scatter of Z over repeats, beside reweighting that spends as many evaluations.

    With n particles of e evaluations each a repeat, reweighting affords n e / steps plain draws,
    and its mean of l has the coefficient of variation CV(l) sqrt(steps / (n e)).
    """
    z, ratio = found["z"], float(found["evaluations"]) / steps
    mean, se = mean_and_error(z)
    error = math.hypot(se or 0.0, truth_se)
    coef_var_z = float(z.std(ddof=1) / z.mean()) if z.any() else None  # 0 scatters not at all
    plain = coef_var / math.sqrt(found["n"].item() * ratio)
    return {
        "z": mean,
        "z_se": se,
        "bias_percent": 100 * (mean / truth - 1),
        "bias_se_percent": 100 * error / truth,
        "bias_in_se": (mean - truth) / error,
        "median_over_truth": float(np.median(z) / truth),
        "final_ess_share": float(found["ess"].mean()),
        "coef_var_z": coef_var_z,
        "coef_var_reweighting": plain,
        "variance_gain": (plain / coef_var_z) ** 2 if coef_var_z else None,
    }


def _cell_rows(
    name: str, options: Options, store: BlockStore
) -> tuple[list[dict[str, Any]], list[Check]]:
    own, here = options.own, cell(name)
    truth, truth_se, coef_var = _truth(name, options, store)
    gap = 100 * (truth / here.e_p - 1)
    fixed = {"cell": name, "e_p": here.e_p, "truth": truth, "truth_se": truth_se}
    fixed |= {"chain_to_p_percent": gap, "coef_var_l": coef_var}
    print(f"{name}: truth {truth:.5g} +- {truth_se:.2g}, {gap:.2f} % from E_p[l]", flush=True)
    rows, checks = [], []
    for kind in own.twists:
        named = {**fixed, "twist": kind}
        if kind.startswith("calibrated"):
            named["pilot"] = pilot_size(here)
        try:
            found = _repeats(name, kind, options, store) | {"n": np.array(own.particles)}
        except ValueError as error:  # a sampler that refuses is a finding
            rows.append(named | {"status": f"refused: {error}"})
            checks += _checks(f"{name}, {kind}", None)
            continue
        row = figures(found, truth, truth_se, coef_var, own.steps)
        rows.append(named | row | {"status": "ok"})
        print(f"{name}, {kind}: bias {row['bias_percent']:.2f} %", flush=True)
        if kind != WARNING:
            checks += _checks(f"{name}, {kind}", row)
    return rows, checks


def _checks(label: str, row: Mapping[str, Any] | None) -> list[Check]:
    """Unbiased within 3 SE and 1 %, and worth its cost; undecided where nothing was measured."""
    ids = [f"{label}: bias of Z, standard errors", f"{label}: bias of Z, %",
           f"{label}: CV of Z over that of reweighting at equal cost"]  # fmt: skip
    limits = (3.0, 1.0, 1.0)
    if row is None:
        pairs = zip(ids, limits, strict=True)
        return [check(name, None, relation="<=", limit=limit) for name, limit in pairs]
    bias, width = row["bias_percent"], 2 * row["bias_se_percent"]
    scatter = row["coef_var_z"] and row["coef_var_z"] / row["coef_var_reweighting"]
    values = (abs(row["bias_in_se"]), abs(bias), scatter)
    intervals = (None, _absolute(bias - width, bias + width), None)
    return [
        check(name, value, interval=interval, relation="<=", limit=limit)
        for name, value, interval, limit in zip(ids, values, intervals, limits, strict=True)
    ]


def _absolute(low: float, high: float) -> tuple[float, float]:
    """The interval of |v| where v lies in [low, high]."""
    ends = sorted((abs(low), abs(high)))
    return (0.0 if low < 0 < high else ends[0]), ends[1]


def main() -> None:
    """Run what is missing, write `benchmarks/results/normalising_constant.json`."""
    options = parse_arguments("normalising_constant", description=__doc__, add_own=_add_own)
    own = options.own
    fixed = (own.steps, own.particles, own.repeats, own.draws, options.seed)
    store = BlockStore(own.state / "-".join(str(part) for part in fixed))
    rows: list[dict[str, Any]] = []
    checks: list[Check] = []
    for name in own.cells:
        more_rows, more_checks = _cell_rows(name, options, store)
        rows += more_rows
        checks += more_checks
    sizes = {"chain": CHAIN, "steps": own.steps, "plain_draws": own.draws, "repeats": own.repeats,
             "particles": own.particles, "pilot": PILOT}  # fmt: skip
    write_result(options, sizes=sizes, rows=rows, checks=checks, data="toy laws")


if __name__ == "__main__":
    main()
