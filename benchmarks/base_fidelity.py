"""Is the law of the base model that of real channels?

KS distance of each bundled compressor's distortion and of each feature, base samples against real
users, beside what a perfect model would show at these sizes.

    python -m benchmarks.base_fidelity
"""

import argparse

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.harness import Options, check, parse_arguments, write_result
from channels import ChannelDomain, audit_space, load_channels
from channels.randomness import seeded_generator
from compressors import bundled_compressors, load_compressor
from csi_audit.base import load_base
from csi_audit.measuring import Measured, measure
from csi_audit.sampling import BaseSampler
from reports.estimates import ks_distance, ks_floor

Array = npt.NDArray[np.float64]

DISTORTION_LIMIT = 0.10
BOOTSTRAP = 300


def _add_own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--samples", type=int, default=2000, help="base samples (default: 2000)")
    parser.add_argument("--steps", type=int, default=30, help="steps of the 2M ODE (default: 30)")
    parser.add_argument("--chain", choices=("ode_2m", "ancestral"), default="ode_2m")
    parser.add_argument("--base", default=None, help="base model file (default: the bundled one)")


def _measure(options: Options) -> tuple[Measured, Measured, dict[str, object]]:
    """Base samples and real users under every bundled compressor."""
    base = load_base(options.own.base)
    channels = load_channels(str(options.channels_path()))
    domain = ChannelDomain.of(channels)
    compressors = [load_compressor(name) for name in bundled_compressors()]
    sampler = BaseSampler(base, steps=options.own.steps, chain=options.own.chain)
    drawn = sampler(options.own.samples, generator=seeded_generator(options.seed, "fidelity"))
    power = drawn.x.square().flatten(1).mean(1) * 2  # 1 where the model has learned unit power
    ranks = torch.quantile(power, torch.tensor([0.01, 0.5, 0.99])).tolist()
    facts = {
        "base_sha256": base.sha256,
        "chain": sampler.name,
        "evaluations": drawn.n_evaluations,
        "raw_power_1_50_99_percent": [round(value, 3) for value in ranks],
    }
    found = measure(domain.onto_law(drawn.x), compressors, domain)
    return found, measure(audit_space(channels), compressors, domain), facts


def _interval(a: Array, b: Array, seed: int) -> tuple[float, float]:
    """Basic bootstrap 95 % interval of the KS distance, 2 D - D*(97.5 %), 2 D - D*(2.5 %).

    Resampling adds noise of its own to a KS distance; the basic interval reflects it back.
    """
    random, found = np.random.default_rng(seed), ks_distance(a, b)
    redrawn = [
        ks_distance(random.choice(a, len(a)), random.choice(b, len(b))) for _ in range(BOOTSTRAP)
    ]
    low, high = np.quantile(redrawn, [0.025, 0.975])
    return round(max(0.0, 2 * found - high), 4), round(max(found, 2 * found - low), 4)


def main() -> None:
    """Draw, compare, write `benchmarks/results/base_fidelity.json`."""
    options = parse_arguments("base_fidelity", description=__doc__, add_own=_add_own)
    base, real, facts = _measure(options)
    n, m = len(base.x), len(real.x)
    floor = ks_floor(n, m)
    pairs = [(f"NMSE of {name}", base.nmse(name), real.nmse(name)) for name in real.losses]
    pairs += [(name, base.features[name], values) for name, values in real.features.items()]
    rows, checks = [], []
    for name, a, b in pairs:
        ks, interval = ks_distance(a, b), _interval(a, b, options.seed)
        rows.append(
            {
                "quantity": name,
                "ks": round(ks, 4),
                "ks_interval": interval,
                "perfect_mean": round(floor.mean, 4),
                "perfect_95": round(floor.upper, 4),
                "median_base": float(np.median(a)),
                "median_real": float(np.median(b)),
            }
        )
        if name.startswith("NMSE"):
            checks.append(
                check(f"KS {name}", ks, relation="<=", limit=DISTORTION_LIMIT, interval=interval,
                      floor=floor.upper)
            )  # fmt: skip
    sizes = {"base_samples": n, "real_users": m, "steps": options.own.steps, **facts}
    write_result(options, sizes=sizes, rows=rows, checks=checks)
    print(f"chain {facts['chain']}; raw power {facts['raw_power_1_50_99_percent']}")


if __name__ == "__main__":
    main()
