"""How often does a cell network lose three of its five users at once, and where do they stand then?

    python examples/network_outage.py

From a generator (users in hotspots) to a base law learned from its draws, to the probability of a
joint outage under that law with an interval, by subset simulation in noise space. Plain draws of
the generator stand beside it: what lies between the two is the base law's error, not the engine's.
`runs/network-outage/placements.png` shows the SINR with the cells, and where users stand under p
and when the network fails. Two to four minutes on one CPU core.
"""

import math
from dataclasses import replace
from pathlib import Path

from channels.network import CellNetwork
from channels.placement_domain import PlacementDomain
from channels.placements import HotspotUsers
from channels.randomness import seeded_generator
from channels.support import load_object
from csi_audit.losses import in_blocks
from csi_audit.noise_map import OdeMap
from csi_audit.outage_losses import ShortfallLoss
from csi_audit.placement_training import PLACEMENT_PLAN, PlacementRecipe, fit_placement_base
from csi_audit.sampling import BaseSampler
from csi_audit.subset_simulation import SubsetSimulation
from csi_audit.tail import Budget
from reports.estimates import Estimate, proportion
from reports.figures import png_bytes

N_USERS, AT_LEAST = 5, 3


def show(quantity: str, found: Estimate) -> None:
    low, high = found.interval or (math.nan, math.nan)
    print(f"{quantity} = {found.value:.3g} [{low:.3g}, {high:.3g}], {found.status}: {found.method}")


def main(
    folder: Path,
    *,
    train_steps: int,
    n_train: int,
    steps: int,
    particles: int,
    runs: int,
    n_draws: int,
) -> None:
    """Train, estimate, draw; all sizes are arguments so that a test can run it small."""
    law, network = HotspotUsers(n_users=N_USERS), CellNetwork(threshold_db=-1.5)
    domain = PlacementDomain(n_users=N_USERS, network=network)
    loss = ShortfallLoss(network, rank=AT_LEAST)  # above 0 where AT_LEAST users are in outage

    plan = replace(PLACEMENT_PLAN, steps=train_steps, block_steps=math.gcd(train_steps, 500))
    recipe = PlacementRecipe(plan=plan, n_train=n_train, n_validation=n_train // 50)
    base = fit_placement_base(law, folder=folder / "base", recipe=recipe, progress=False)
    noise_map = OdeMap(base, steps=steps, onto_law=domain.onto_law, batch_size=2000)
    engine = SubsetSimulation(noise_map, particles=particles, deepest=1e-7, kept=particles)
    tail, failures = engine.tail(loss, tau=0.0, budget=Budget(runs=runs), seed=0)

    drawn = law.draw(n_draws, generator=seeded_generator(0, "generator"))
    counted = int((in_blocks(loss, drawn) > 0).sum())
    show("P(joint outage), learned base law", tail.exceedance(0.0))
    show("P(joint outage), the generator", proportion(counted, n_draws))

    plain = BaseSampler(base, steps=steps, batch_size=2000)(
        2 * particles, generator=seeded_generator(0, "maps")
    )
    maps = {"base law p": domain.maps(domain.onto_law(plain.x))}
    if len(failures):
        maps["joint outage"] = domain.maps(failures.x, failures.log_w)
        told = domain.features(failures.x)
        for name, usual in domain.features(domain.onto_law(plain.x)).items():
            info = domain.labels[name]
            means = [info.scale * float(found.mean()) for found in (usual, told[name])]
            print(f"{info.label}: {means[0]:.1f} -> {means[1]:.1f} {info.unit} when it fails")
    figure = load_object(domain.figures)(maps, network)
    (folder / "placements.png").write_bytes(png_bytes(figure))
    print(f"Figure: {folder / 'placements.png'}")


if __name__ == "__main__":
    main(
        Path("runs/network-outage"),
        train_steps=2000, n_train=100_000, steps=30, particles=1000, runs=10, n_draws=1_000_000,
    )  # fmt: skip
