"""Does the engine find rare network outages with a base law that was learned, and how often?

Users stand on a square of three stations by one of three laws (uniform, hotspots, streets). A joint
outage is that at least m of N users have an SINR below gamma; gamma is set so that its probability
is known to be about 1e-2, 1e-4 and 1e-6 under the law itself (benchmarks.network_laws). A small
base law is trained on draws; then two questions are kept apart:

- the sampler's law against the data law: plain draws of the sampler, counted, over the truth;
- the engine against the sampler's law: subset simulation in noise space with its interval against
  that count, and its variance against counting at equal evaluations. For uniform users the law
  itself is a map of noise, where the engine's estimates and intervals meet an exact truth.

Then E_q[l] and the map of where users stand under q, by `issgm`, by the engine (twisted SMC) and by
reweighting, against accepted and rejected draws of the data law. Finished parts are kept; a
repeated call goes on where the last one stopped. About three hours of one idle thread as it
stands, a fifth of it with `--users 5`; `--laws`, `--groups` and `--draws` cut it down too.

    python -m benchmarks.network_truth
"""

import argparse
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.harness import Options, parse_arguments, write_result
from benchmarks.network_laws import (
    UniformMap,
    outage_threshold,
    outage_truth,
    part_key,
)
from benchmarks.network_rows import exact_rows, group_coverage, outage_rows, truth_checks
from benchmarks.network_tilted import add_tilted_options, tilted_rows
from channels.network import CellNetwork
from channels.placement_domain import PlacementDomain
from channels.placements import HotspotUsers, PlacementLaw, StreetUsers, UniformUsers
from channels.randomness import seeded_generator
from csi_audit.base import Base
from csi_audit.losses import in_blocks
from csi_audit.noise_map import OdeMap
from csi_audit.outage_losses import ShortfallLoss
from csi_audit.placement_network import Reference, UserNetworkSpec
from csi_audit.run_state import BlockStore
from csi_audit.subset_simulation import SubsetSimulation
from csi_audit.tail import RUNS_NEEDED, Budget, ReplicatedTail
from reports.estimates import Estimate, ks_distance, ks_floor, proportion

Array = npt.NDArray[np.float64]

PROBABILITIES = (1e-2, 1e-4, 1e-6)
LAWS: dict[str, type[UniformUsers] | type[HotspotUsers] | type[StreetUsers]] = {
    "uniform": UniformUsers,
    "hotspot": HotspotUsers,
    "street": StreetUsers,
}
NETWORK = CellNetwork()


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--laws", nargs="+", default=list(LAWS), choices=tuple(LAWS), metavar="LAW")
    add("--users", nargs="+", type=int, default=[5, 20])
    add("--steps", type=int, default=30, help="of the ODE")
    add("--train-steps", type=int, default=3_000, help="of each base law")
    add("--train-draws", type=int, default=100_000, help="of the law, that its base is taught")
    add("--around", default="box", choices=("box", "gaussian"), help="see UserNetworkSpec")
    add("--draws", type=int, default=200_000, help="plain draws of each sampler")
    add("--groups", type=int, default=3, help="of ten runs of subset simulation each")
    add("--exact-groups", type=int, default=20, help="the same on the uniform law itself")
    add("--particles", type=int, default=4000, help="of a level")
    add("--centres", type=int, default=50_000, help="draws of cluster centres for the truth")
    add("--cells", type=int, default=1000, help="of the quadrature along each side")
    add("--fidelity", type=int, default=20_000, help="samples each law is compared on")
    add("--device", default="cpu", help="where the denoiser runs")
    add("--state", type=Path, default=Path("runs/benchmark-network-truth"), help="finished parts")
    add_tilted_options(parser)


def at_least(n_users: int) -> int:
    """m: three of five, nine of twenty."""
    return max(1, (2 * n_users + 5) // 5)


# --- Parts ----------------------------------------------------------------------------------------


def thresholds(law: PlacementLaw, options: Options, store: BlockStore) -> list[dict[str, float]]:
    """gamma at each probability, and the exact P there with its standard error."""
    own = options.own

    def make() -> dict[str, Array]:
        truth = outage_truth(
            law, NETWORK, at_least=at_least(law.n_users), draws=own.centres, seed=options.seed,
            cells=own.cells,
        )  # fmt: skip
        gammas = [outage_threshold(truth, p) for p in PROBABILITIES]
        found = [truth.below(gamma) for gamma in gammas]
        errors = [e.std_error or 0.0 for e in found]
        return {"gamma_db": np.array(gammas), "p": np.array([e.value for e in found]),
                "se": np.array(errors)}  # fmt: skip

    part = store.get(f"truth-{part_key(law, NETWORK)}", 0, make)
    return [{k: float(v[i]) for k, v in part.items()} for i in range(len(PROBABILITIES))]


def trained_base(law: PlacementLaw, options: Options) -> Base:
    """The base law taught by draws of `law`; training goes on where it stopped."""
    from csi_audit.placement_training import (
        PLACEMENT_PLAN,
        PlacementRecipe,
        fit_placement_base,
    )

    own = options.own
    around: Reference = own.around
    plan = replace(PLACEMENT_PLAN, steps=own.train_steps,
                   block_steps=math.gcd(own.train_steps, PLACEMENT_PLAN.block_steps))  # fmt: skip
    recipe = PlacementRecipe(
        plan=plan, network=UserNetworkSpec(around=around), n_train=own.train_draws
    )
    folder = (
        own.state / f"base-{law.name}-{law.n_users}-{around}-{own.train_steps}-{own.train_draws}"
    )
    return fit_placement_base(law, folder=folder, recipe=recipe, device=own.device, progress=False)


def _map(base: Base, law: PlacementLaw, options: Options) -> OdeMap:
    domain = PlacementDomain(n_users=law.n_users, network=NETWORK)
    own = options.own
    return OdeMap(
        base, steps=own.steps, onto_law=domain.onto_law, device=own.device, batch_size=2000
    )


def _loss(law: PlacementLaw) -> ShortfallLoss:
    """Beyond tau where at least m users lie below gamma_0 - tau, gamma_0 that of the network."""
    return ShortfallLoss(NETWORK, rank=at_least(law.n_users))


def counts(
    law: PlacementLaw, base: Base, taus: Sequence[float], options: Options, store: BlockStore
) -> list[Estimate]:
    """P(L > tau) of the sampler at each tau, counted, with Clopper and Pearson's interval."""
    own, block, key = options.own, 10_000, f"plain-{part_key(law, NETWORK, base)}"
    noise_map, loss = _map(base, law, options), _loss(law)

    def make(number: int, n: int) -> dict[str, Array]:
        z = torch.randn(
            n, *noise_map.event_shape, generator=seeded_generator(options.seed, key, number)
        )
        values = in_blocks(loss, noise_map(z)).numpy()
        return {"n": np.array(n), "beyond": np.array([(values > t).sum() for t in taus])}

    sizes = [min(block, own.draws - start) for start in range(0, own.draws, block)]
    parts = [store.get(key, i, partial(make, i, n)) for i, n in enumerate(sizes)]
    total = sum(int(part["n"]) for part in parts)
    beyond = np.sum([part["beyond"] for part in parts], axis=0)
    return [proportion(int(k), total, method="plain draws of the sampler") for k in beyond]


def subset_groups(
    law: PlacementLaw, base: Base, taus: Sequence[float], options: Options, store: BlockStore
) -> list[dict[str, Array]]:
    """Of each group of ten runs: every run's estimate and cost, and the interval, at each tau."""
    own, key = options.own, f"subset-{part_key(law, NETWORK, base)}"

    def make(group: int) -> dict[str, Array]:
        method = SubsetSimulation(
            _map(base, law, options),
            particles=own.particles,
            deepest=PROBABILITIES[-1] / 10,
            kept=0,
        )
        curve, _ = method.tail(
            _loss(law), tau=taus[-1], budget=Budget(runs=RUNS_NEEDED),
            seed=_seed(options, key, group), name=f"{key}-{group}", store=store,
        )  # fmt: skip
        return _group_figures(curve, taus)

    return [store.get(f"group-{key}", g, partial(make, g)) for g in range(own.groups)]


def exact_groups(
    law: PlacementLaw, taus: Sequence[float], options: Options, store: BlockStore
) -> list[dict[str, Array]]:
    """The same of uniform users without any base law; none for other laws."""
    own, key = options.own, f"exact-{part_key(law, NETWORK)}"

    def make(group: int) -> dict[str, Array]:
        exact = UniformMap((law.n_users, 2))
        method = SubsetSimulation(
            exact, particles=own.particles, deepest=PROBABILITIES[-1] / 10, kept=0
        )
        curve, _ = method.tail(
            _loss(law), tau=taus[-1], budget=Budget(runs=RUNS_NEEDED),
            seed=_seed(options, key, group),
        )  # fmt: skip
        return _group_figures(curve, taus)

    count = own.exact_groups if isinstance(law, UniformUsers) else 0
    return [store.get(key, g, partial(make, g)) for g in range(count)]


def _group_figures(curve: ReplicatedTail, taus: Sequence[float]) -> dict[str, Array]:
    found = [curve.exceedance(t) for t in taus]
    ends = [e.interval or (e.value, e.value) for e in found]
    return {
        "runs": np.array([[run.beyond(t) for t in taus] for run in curve.runs]),
        "evaluations": np.array([[run.evaluations_to(t) for t in taus] for run in curve.runs]),
        "value": np.array([e.value for e in found]),
        "interval": np.array(ends),
        "status": np.array([e.status for e in found]),
    }


def _seed(options: Options, *names: str | int) -> int:
    generator = seeded_generator(options.seed, "network truth", *names)
    return int(torch.randint(2**31, (), generator=generator))


# --- Rows -----------------------------------------------------------------------------------------


def fidelity_rows(
    label: Mapping[str, Any], law: PlacementLaw, base: Base, options: Options, store: BlockStore
) -> list[dict[str, Any]]:
    """KS distance of each feature and of the loss between the sampler and the data law."""
    n, key = options.own.fidelity, f"fidelity-{part_key(law, NETWORK, base)}"
    domain = PlacementDomain(n_users=law.n_users, network=NETWORK)

    def make() -> dict[str, Array]:
        noise_map = _map(base, law, options)
        z = torch.randn(n, *noise_map.event_shape,
                        generator=seeded_generator(options.seed, key, "noise"))  # fmt: skip
        drawn = law.draw(n, generator=seeded_generator(options.seed, key, "data"))
        pairs = [_described(domain, law, x) for x in (noise_map(z), drawn)]
        return {name: np.array(ks_distance(pairs[0][name], pairs[1][name])) for name in pairs[0]}

    floor = ks_floor(n, n)
    return [
        {**label, "part": "sampler against data law", "figure": name, "ks": float(value),
         "ks_perfect": floor.mean, "ks_perfect_95": floor.upper}
        for name, value in store.get(key, 0, make).items()
    ]  # fmt: skip


def _described(domain: PlacementDomain, law: PlacementLaw, x: torch.Tensor) -> dict[str, Array]:
    found = {name: value.double().numpy() for name, value in domain.features(x).items()}
    found["shortfall_db"] = in_blocks(_loss(law), x).numpy()
    found["edge_distance"] = (1 - x.abs()).flatten(1).min(1).values.double().numpy()
    return found


def _of_cell(
    kind: str, n_users: int, options: Options, store: BlockStore
) -> tuple[list[dict[str, Any]], list[float]]:
    """All rows of one law and number of users, and the coverage of each group."""
    law = LAWS[kind](n_users=n_users)
    label = {"law": kind, "users": n_users, "at_least": at_least(n_users)}
    exact = thresholds(law, options, store)
    taus = [NETWORK.threshold_db - row["gamma_db"] for row in exact]
    base = trained_base(law, options)
    print(f"{kind}, {n_users} users: base of loss {base.card['validation_loss']:.4f}", flush=True)
    counted = counts(law, base, taus, options, store)
    groups = subset_groups(law, base, taus, options, store)
    rows = outage_rows(label, exact, counted, groups, options.own.steps)
    held = [group_coverage(group, counted, groups) for group in groups]
    for row in rows:
        print(f"  P {row['p']:.3g}, sampler {row['sampler_p']:.3g}, engine {row['engine_p']:.3g} "
              f"{row['engine_interval']}, gain {row['gain']}", flush=True)  # fmt: skip
    alone = exact_groups(law, taus, options, store)
    rows += exact_rows(label, exact, alone) if alone else []
    rows += fidelity_rows(label, law, base, options, store)
    if n_users in options.own.tilted_users:
        rows += tilted_rows(label, law, base, NETWORK, at_least(n_users), options, store)
    return rows, [h for h in held if h is not None]


def main() -> None:
    """Run what is missing, write `benchmarks/results/network_truth.json`."""
    options = parse_arguments("network_truth", description=__doc__, add_own=_add_own)
    own = options.own
    fixed = (own.around, own.train_steps, own.train_draws, own.steps, own.draws, own.particles,
             own.centres, own.cells, own.fidelity, options.seed)  # fmt: skip
    store = BlockStore(own.state / "-".join(str(part) for part in fixed))
    rows: list[dict[str, Any]] = []
    held: list[float] = []
    for kind in own.laws:
        for n_users in own.users:
            more, covered = _of_cell(kind, n_users, options, store)
            rows += more
            held += covered
    sizes = {"steps": own.steps, "train_steps": own.train_steps, "train_draws": own.train_draws,
             "around": own.around, "draws": own.draws, "groups": own.groups,
             "exact_groups": own.exact_groups, "runs": RUNS_NEEDED,
             "particles": own.particles, "centres": own.centres, "cells": own.cells,
             "fidelity": own.fidelity, "tilted": own.tilted}  # fmt: skip
    write_result(
        options, sizes=sizes, rows=rows, checks=truth_checks(rows, held), data="placements"
    )


if __name__ == "__main__":
    main()
