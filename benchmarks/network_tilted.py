"""Placements under q(x) = l(x) p(x) / Z for two outage weights, every method against the truth.

The truth is accepted and rejected draws of the data law itself, so what a method misses is the
base law's error and its own together; reweighted draws of the base law show the first alone.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.divergence import Box, js_distance
from benchmarks.harness import Options
from benchmarks.network_laws import part_key
from channels.network import CellNetwork
from channels.placement_domain import PlacementDomain
from channels.placements import PlacementLaw
from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from csi_audit.base import Base
from csi_audit.calibration import fit_calibrated_twist
from csi_audit.estimate import expectation
from csi_audit.islands import IslandSamples
from csi_audit.outage_losses import (
    ExpectedOutageLoss,
    JointOutageLoss,
    OutageWeight,
    SoftOutage,
)
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import BaseSampler, IssgmSampler, rejection, reweighted
from csi_audit.twisted_smc import TwistedSmcSampler
from csi_audit.twists import SmoothedTwist, Twist
from csi_audit.weights import NormalisedWeight, log_l_in_blocks
from reports.estimates import Estimate, mean_estimate

Array = npt.NDArray[np.float64]

SQUARE = Box(low=(-1.0, -1.0), high=(1.0, 1.0))
FLOORS = {"expected outage": 1e-3, "joint outage": 1e-2}
SMOOTHING = 32
METHODS = ("reweighted", "issgm", "calibrated SMC", "smoothed SMC")


class RefusedPilotError(Exception):
    """A method needs more of l than its pilot samples hold."""


def add_tilted_options(parser: argparse.ArgumentParser) -> None:
    """Options of the part on E_q[l]."""
    add = parser.add_argument
    add("--tilted", type=int, default=2_000, help="samples of q a method draws; 0 leaves it out")
    add("--tilted-users", nargs="*", type=int, default=[5], help="numbers of users it is done for")
    add("--tilted-draws", type=int, default=400_000, help="draws of the law, accepted or rejected")
    add("--pilot", type=int, default=2_000, help="samples the twist is calibrated on")
    add("--island", type=int, default=100, help="particles of an island")
    add("--issgm-steps", type=int, default=300)


def outage_weights(network: CellNetwork, m: int) -> dict[str, OutageWeight]:
    """l by name: linear in the share of unserved users, and sharp in their number."""
    losses: dict[str, SoftOutage] = {
        "expected outage": ExpectedOutageLoss(network),
        "joint outage": JointOutageLoss(network, at_least=m),
    }
    return {name: OutageWeight(loss, floor=FLOORS[name]) for name, loss in losses.items()}


@dataclass(frozen=True, kw_only=True)
class Tilted:
    """One law, base and weight, and what to spend on them."""

    law: PlacementLaw
    base: Base
    domain: PlacementDomain
    weight: OutageWeight
    own: argparse.Namespace

    @property
    def counting(self) -> NormalisedWeight:
        """l of the placement brought back into the square, as it counts at the end."""
        return NormalisedWeight(self.weight, self.domain.onto_law)

    def plain(self) -> BaseSampler:
        """The unguided chain whose law is p."""
        return BaseSampler(
            self.base, steps=self.own.steps, chain="sde_2m", device=self.own.device, batch_size=2000
        )

    def twisted(self, twist: Twist) -> TwistedSmcSampler:
        return TwistedSmcSampler(
            self.base, self.counting, twist, steps=self.own.steps, island=self.own.island,
            device=self.own.device, batch_size=2000,
        )  # fmt: skip


def draw_tilted(case: Tilted, method: str, generator: torch.Generator) -> WeightedSamples:
    """Samples of q by one method, not yet brought back into the square."""
    own = case.own
    if method == "issgm":
        issgm = IssgmSampler(
            case.base, case.weight, steps=own.issgm_steps, device=own.device, batch_size=2000
        )
        return issgm(own.tilted, generator=generator)
    plain = case.plain()
    pilot = plain(own.tilted if method == "reweighted" else own.pilot, generator=generator)
    if method == "reweighted":
        return reweighted(pilot, case.counting)
    twist: Twist = SmoothedTwist(
        case.weight, case.base.variance, draws=SMOOTHING, generator=generator
    )
    if method == "calibrated SMC":
        twist = fit_twist(case, pilot.x, generator)
    samples = case.twisted(twist)(own.tilted, generator=generator)
    e_p = mean_estimate(log_l_in_blocks(case.counting, pilot.x).exp().numpy())
    return samples.compared_with(e_p)


def fit_twist(case: Tilted, pilot_x0: Tensor, generator: torch.Generator) -> Twist:
    """The twist fitted to the pilot.

    Raises:
        RefusedPilotError: l cannot be regressed on this pilot.
    """
    plain = case.plain()
    try:
        return fit_calibrated_twist(
            plain.denoiser, case.weight, pilot_x0, plain.sigmas, generator=generator,
            target=case.counting,
        )  # fmt: skip
    except CsiAuditError as error:
        raise RefusedPilotError(str(error)) from error


def truth_of(case: Tilted, generator: torch.Generator) -> dict[str, Array]:
    """E_q[l] with its standard error, the map of q, and the floor of a map from few samples."""
    x = case.law.draw(case.own.tilted_draws, generator=generator)
    drawn = WeightedSamples(
        x=x, log_w=torch.zeros(len(x), dtype=torch.float64), law="base", chain="data law"
    )
    kept = rejection(drawn, case.weight, log_bound=0.0, generator=generator).x
    few, rest = kept[: case.own.tilted], kept[case.own.tilted :]
    if len(rest) < len(few):
        few, rest = kept[: len(kept) // 4], kept[len(kept) // 4 :]
    found = mean_estimate(log_l_in_blocks(case.weight, kept).exp().numpy())
    return {
        "e_q": np.array([found.value, found.std_error or 0.0]),
        "kept": np.array(len(kept)),
        "map": _map_of(rest),
        "js_floor": np.array(js_distance(_map_of(few), _map_of(rest))),
    }


def method_figures(case: Tilted, method: str, truth_map: Array, seed: int) -> dict[str, Array]:
    """E_q[l] with interval, distance of the map to the truth, cost; or the words of a refusal."""
    began = time.monotonic()
    generator = seeded_generator(seed, "tilted", method)
    try:
        samples = draw_tilted(case, method, generator)
    except RefusedPilotError as error:  # a finding; any other error is none
        return {"status": np.array(f"refused: {error}")}
    samples = samples.moved(case.domain.onto_law(samples.x))
    values = log_l_in_blocks(case.weight, samples.x).exp().numpy()
    found: Estimate = expectation(samples, values)
    low, high = found.interval or (found.value, found.value)
    log_w = samples.log_share() if isinstance(samples, IslandSamples) else samples.log_w
    return {
        "e_q": np.array([found.value, low, high]),
        "js": np.array(js_distance(_map_of(samples.x, log_w), truth_map)),
        "cost": np.array([samples.n_evaluations, time.monotonic() - began]),
        "status": np.array(found.status),
    }


def tilted_rows(
    label: Mapping[str, Any],
    law: PlacementLaw,
    base: Base,
    network: CellNetwork,
    m: int,
    options: Options,
    store: BlockStore,
) -> list[dict[str, Any]]:
    """One row a weight and method."""
    own, rows = options.own, []
    if not own.tilted:
        return []
    domain = PlacementDomain(n_users=law.n_users, network=network)
    spent = (own.tilted, own.tilted_draws, own.pilot, own.island, own.issgm_steps)
    for name, weight in outage_weights(network, m).items():
        case = Tilted(law=law, base=base, domain=domain, weight=weight, own=own)
        parts = ("tilted", part_key(law, network, base), name.replace(" ", "_"), *spent)
        key = "-".join(str(part) for part in parts)
        generator = seeded_generator(options.seed, "tilted truth", key)
        truth = store.get(f"{key}-truth", 0, partial(truth_of, case, generator))
        for method in METHODS:
            make: Callable[[], Mapping[str, Array]] = partial(
                method_figures, case, method, truth["map"], options.seed
            )
            found = store.get(f"{key}-{method.replace(' ', '_')}", 0, make)
            rows.append({**label, "part": "tilted", "weight": name, "method": method,
                         **_row(truth, found)})  # fmt: skip
            print(f"  {name}, {method}: {rows[-1].get('e_q')}", flush=True)
    return rows


def _row(truth: Mapping[str, Array], found: Mapping[str, Array]) -> dict[str, Any]:
    e_q, se = truth["e_q"].tolist()
    row: dict[str, Any] = {"e_q_truth": e_q, "js_floor": float(truth["js_floor"]),
                           "detail": {"e_q_truth_se": se, "kept": int(truth["kept"]),
                                      "status": str(found["status"])}}  # fmt: skip
    if "e_q" not in found:
        return row
    value, low, high = found["e_q"].tolist()
    evaluations, seconds = found["cost"].tolist()
    row |= {"e_q": value, "e_q_interval": (low, high), "e_q_over_truth": value / e_q}
    return row | {"js": float(found["js"]), "evaluations": int(evaluations), "seconds": seconds}


def _map_of(x: Tensor, log_w: Tensor | None = None) -> Array:
    """Where all users of the placements stand, each with the weight of its placement."""
    each = None if log_w is None else log_w.repeat_interleave(x.shape[1])
    return SQUARE.histogram(x.flatten(0, 1), each)
