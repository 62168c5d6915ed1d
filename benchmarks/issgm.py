"""Does the paper's guided sampler reach q? E_q[L] by rejection, by reweighting and by `issgm`.

L is the NMSE and the weight l = L. Rejection and reweighting each have one half of the base samples
of the audited law, so they are two independent estimates of one truth; the mutant weight l^0.95,
on the same samples, must move both. `issgm` runs the published chain.

Blocks of samples are saved as they are made. Two processes share the work when each is started for
one compressor (with an --out of its own) and a last call for both gathers the blocks:

    python -m benchmarks.issgm
"""

import argparse
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.checks import Check
from benchmarks.harness import Options, check, parse_arguments, write_result
from channels import onto_sphere
from channels.randomness import seeded_generator
from compressors import NamedCompressor, in_audit_space, load_compressor
from csi_audit.base import Base, load_base
from csi_audit.drawing import Tally, draw_in_blocks
from csi_audit.estimate import expectation
from csi_audit.losses import NmseLoss, SquaredErrorLoss, in_blocks
from csi_audit.run_state import BlockStore
from csi_audit.samples import Sampler, WeightedSamples
from csi_audit.sampling import BaseSampler, IssgmSampler, rejection, reweighted
from csi_audit.weights import LossWeight
from reports.estimates import Estimate

Array = npt.NDArray[np.float64]

BOUND = 1.2  # on the NMSE: that of a net may pass 1; the sampler refuses more
MUTANT_POWER = 0.95
BOOTSTRAP = 400
PASSES = 8


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--compressors", nargs="+", default=["klt-16", "crnet-16"])
    add("--samples", type=int, default=500, help="guided samples for each compressor")
    add("--steps", type=int, default=1000, help="Euler-Maruyama steps")
    add("--base-samples", type=int, default=6_000, help="half for each reference method")
    add("--ode-steps", type=int, default=30, help="steps of the 2M ODE, the audited law")
    add("--block", type=int, default=125, help="samples a saved block")
    add("--state", type=Path, default=Path("runs/benchmark-issgm"), help="blocks in progress")
    add("--base", default=None, help="base model file (default: the bundled one)")


def _drawn(
    sampler: Sampler, n: int, name: str, options: Options, store: BlockStore
) -> WeightedSamples:
    """n samples at unit power, in blocks that an interrupted run does not draw again."""
    tally = Tally(lambda made: print(f"{name}: {made:,} evaluations", flush=True))
    own = options.own
    drawn = draw_in_blocks(
        sampler, n, name=name, block=own.block, seed=options.seed, store=store, tally=tally
    )
    return drawn.moved(onto_sphere(drawn.x))


def _halves(samples: WeightedSamples) -> tuple[WeightedSamples, WeightedSamples]:
    cut, spent = len(samples) // 2, samples.n_evaluations // 2
    first, second = (
        replace(samples, x=samples.x[part], log_w=samples.log_w[part], n_evaluations=spent)
        for part in (slice(cut), slice(cut, None))
    )
    return first, second


class _Method:
    """One reference estimate of E_q[L] on given base samples, as a function of the weight."""

    def __init__(self, name: str, samples: WeightedSamples, loss: NmseLoss, seed: int) -> None:
        self.name, self.samples, self.loss, self.seed = name, samples, loss, seed

    def estimate(self, power: float) -> Estimate:
        """By the samplers of csi_audit."""
        weight = LossWeight(self.loss, power=power)
        if self.name == "reweighting":
            drawn = reweighted(self.samples, weight)
        else:
            generator = seeded_generator(self.seed, "rejection")
            bound = power * math.log(BOUND)
            drawn = rejection(self.samples, weight, log_bound=bound, generator=generator)
        return expectation(drawn, in_blocks(self.loss, drawn.x).numpy())

    def mutant_shift(self) -> tuple[float, float]:
        """Estimate(l) - estimate(l^0.95) and its bootstrap standard error over base samples.

        Both use the same samples and, for rejection, the same uniform draws: the mean of PASSES
        passes over the samples, since one pass keeps too few that only the mutant accepts.
        """
        value = in_blocks(self.loss, self.samples.x).numpy()
        generator = seeded_generator(self.seed, "mutant")
        u = torch.rand(PASSES, len(value), generator=generator, dtype=torch.float64).numpy()
        rows = [self._weights(value, u, power) for power in (1.0, MUTANT_POWER)]

        def shift(index: npt.NDArray[np.int64]) -> float:
            means = [np.average(value[index], weights=w[index]) for w in rows]
            return float(means[0] - means[1])

        random = np.random.default_rng(self.seed)
        n = len(value)
        redrawn = [shift(random.integers(0, n, n)) for _ in range(BOOTSTRAP)]
        return shift(np.arange(n)), float(np.std(redrawn, ddof=1))

    def _weights(self, value: Array, u: Array, power: float) -> Array:
        """Weight of each sample (n,): l itself, or how many passes accept it."""
        l = value**power
        return l if self.name == "reweighting" else (u < l / BOUND**power).sum(0).astype(float)


def _row(
    named: NamedCompressor, method: str, estimate: Estimate, base: Base, steps: int
) -> dict[str, Any]:
    return {
        "compressor": named.name,
        "method": method,
        "steps": steps,
        "e_q": estimate.value,
        "std_error": estimate.std_error,
        "n": estimate.n,
        "evaluations": estimate.n_evaluations,
        "base_sha256": base.sha256,
        "compressor_sha256": named.sha256,
        "estimate": estimate.to_dict(),
    }


def _z(a: Estimate, b: Estimate) -> float:
    return (a.value - b.value) / math.hypot(a.std_error or 0.0, b.std_error or 0.0)


def _guided(
    named: NamedCompressor, base: Base, options: Options, store: BlockStore
) -> WeightedSamples:
    """Samples of the paper's chain."""
    weight = LossWeight(SquaredErrorLoss(in_audit_space(named.compressor)))
    sampler = IssgmSampler(base, weight, steps=options.own.steps)
    label = f"issgm-{named.name}-{(named.sha256 or '')[:8]}"
    return _drawn(sampler, options.own.samples, label, options, store)


def _compare(
    named: NamedCompressor,
    base: Base,
    guided: WeightedSamples,
    drawn: WeightedSamples,
    options: Options,
) -> tuple[list[dict[str, Any]], list[Check]]:
    """All methods on one compressor."""
    own, loss = options.own, NmseLoss(in_audit_space(named.compressor))
    first, second = _halves(drawn)
    methods = [
        _Method("rejection", first, loss, options.seed),
        _Method("reweighting", second, loss, options.seed),
    ]
    found = {method.name: method.estimate(1.0) for method in methods}
    found["issgm"] = expectation(guided, in_blocks(loss, guided.x).numpy())
    e_p = expectation(drawn, in_blocks(loss, drawn.x).numpy())
    rows = [_row(named, "E_p[L], base samples", e_p, base, own.ode_steps)]
    rows += [
        _row(named, name, e, base, own.steps if name == "issgm" else own.ode_steps)
        for name, e in found.items()
    ]
    agreement = abs(_z(found["rejection"], found["reweighting"]))
    checks = [check(f"{named.name}: rejection against reweighting, |z|", agreement,
                    relation="<=", limit=3.0)]  # fmt: skip
    for method in methods:
        shift, error = method.mutant_shift()
        wrong = method.estimate(MUTANT_POWER)
        rows.append(_row(named, f"{method.name}, mutant l^0.95", wrong, base, own.ode_steps))
        checks.append(
            check(f"{named.name}: {method.name} tells l^0.95 apart, z", abs(shift) / error,
                  relation=">=", limit=4.0)
        )  # fmt: skip
    share = (found["issgm"].value - e_p.value) / (found["reweighting"].value - e_p.value)
    rows[3]["share_of_shift"] = share
    return rows, checks


def main() -> None:
    """Draw, estimate, write `benchmarks/results/issgm.json`."""
    options = parse_arguments("issgm", description=__doc__, add_own=_add_own)
    own, base = options.own, load_base(options.own.base)
    fixed = (base.sha256[:12], own.steps, own.ode_steps, own.block, options.seed)
    store = BlockStore(own.state / "-".join(str(part) for part in fixed))
    compressors = [load_compressor(spec) for spec in own.compressors]
    guided = [_guided(named, base, options, store) for named in compressors]
    sampler = BaseSampler(base, steps=own.ode_steps)
    drawn = _drawn(sampler, own.base_samples, "base", options, store)
    rows: list[dict[str, Any]] = []
    checks: list[Check] = []
    for named, samples in zip(compressors, guided, strict=True):
        more_rows, more_checks = _compare(named, base, samples, drawn, options)
        rows += more_rows
        checks += more_checks
    sizes = {
        "guided_samples": own.samples,
        "guided_steps": own.steps,
        "finite_difference_sigma": 0.005,
        "base_samples": own.base_samples,
        "ode_steps": own.ode_steps,
        "base_sha256": base.sha256,
    }
    write_result(options, sizes=sizes, rows=rows, checks=checks)
    for row in rows:
        if "share_of_shift" in row:
            print(f"{row['compressor']}: issgm reaches {100 * row['share_of_shift']:.0f} % of the "
                  "shift from E_p[L] to E_q[L]")  # fmt: skip


if __name__ == "__main__":
    main()
