"""Does a base for a new scenario gain by beginning with the bundled one?

500 users of a scenario that the bundled base never saw, simulated by TR 38.901: the base as it is,
adapted to them, and one trained on them from scratch for at most as many steps of the same network,
on 1,000 users of other drops. The law is simulated, as every row says.

    python -m benchmarks.adaptation
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from benchmarks.checks import Check
from benchmarks.harness import Options, check, parse_arguments, write_result
from channels import ChannelSet, SimulatedCell, generate_channels, load_channels, write_channels
from csi_audit.adaptation_training import HeldFigures, adapt_base
from csi_audit.base import load_base
from csi_audit.base_sizes import choose_sizes
from csi_audit.base_training import PATIENCE, BaseRecipe
from csi_audit.configs import BASE_PLAN
from csi_audit.kept_out import drops_kept_out
from reports.estimates import by_drop_mean, ks_floor

USERS_PER_DROP = 50


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--model", default="uma", help="scenario to adapt to (default: uma)")
    add("--users", type=int, default=500, help="a tenth of them selects the weights")
    add("--held", type=int, default=1000, help="users that the figures are taken on")
    add("--steps", type=int, default=1600, help="steps of 64 users of each training")
    add("--samples", type=int, default=1000, help="base samples for the KS distances")
    add("--base", default=None, help="base to begin with (default: the bundled one)")
    add("--state", type=Path, default=Path("runs/benchmark-adaptation"))


def _folder(options: Options) -> Path:
    """Where this run keeps its users and trainings: others have folders of their own."""
    own = options.own
    key = f"{own.model}-{own.users}-{own.held}-{own.steps}-{own.samples}-{options.seed}"
    folder: Path = own.state / key
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _users(options: Options, base_shape: tuple[int, ...], what: str, n: int) -> ChannelSet:
    """n simulated users of the base's array, drawn once."""
    path = _folder(options) / f"{what}.h5"
    if not path.is_file():
        _, n_tx, n_sub = base_shape
        model = options.own.model
        cell = SimulatedCell(model=model, n_tx=n_tx, n_sub=n_sub, users_per_drop=USERS_PER_DROP)
        seed = 2 * options.seed + (what == "held")
        write_channels(path, generate_channels(cell, n=n, seed=seed))
    return load_channels(path)


def figure_rows(figures: Sequence[HeldFigures], drops: Tensor) -> list[dict[str, Any]]:
    """A row a base: mean loss with its 95 % interval over drops, KS distances.

    Args:
        figures: Of every base on the same N users.
        drops: Drop of each user, (N,): users of one share large-scale fields.
    """
    rows = []
    for found in figures:
        ks = found.fidelity
        loss = by_drop_mean(found.losses.double().numpy(), drops.numpy())
        rows.append(
            {
                "base": found.name,
                "steps": found.steps,
                "loss": round(loss.value, 4),
                "loss_interval": loss.interval and [round(end, 4) for end in loss.interval],
                "ks_distortion": None if ks is None else ks.distortion,
                "ks_features": None if ks is None else ks.features,
            }
        )
    return rows


def gain_checks(figures: Sequence[HeldFigures], drops: Tensor) -> list[Check]:
    """Targets: adapting beats leaving the base as it was, and training from scratch.

    A single drop gives no interval and so no verdict: its value is left out.

    Args:
        figures, drops: As for `figure_rows`; gains are paired over users.
    """
    by_name = {found.name: found.losses.double() for found in figures}
    found = []
    for other in ("as it was", "from scratch"):
        gain = by_drop_mean((by_name[other] - by_name["adapted"]).numpy(), drops.numpy())
        found.append(
            check(
                f"loss of the base {other} less that of the adapted one",
                None if gain.interval is None else gain.value,
                relation=">=",
                limit=0.0,
                interval=gain.interval,
            )
        )
    return found


def main() -> None:
    """Simulate, train twice, compare, write `benchmarks/results/adaptation.json`."""
    options = parse_arguments("adaptation", description=__doc__, add_own=_add_own)
    own, start = options.own, load_base(options.own.base)
    users = _users(options, start.event_shape, "users", own.users)
    held = _users(options, start.event_shape, "held", own.held)
    train, validation = drops_kept_out(users, seed=options.seed)
    sizes = choose_sizes(
        len(train), start.event_shape, default=BASE_PLAN, steps=own.steps, batch_size=64
    )
    recipe = BaseRecipe(plan=sizes.plan, patience=PATIENCE, fidelity_samples=own.samples)
    began = time.perf_counter()
    adapted, figures = adapt_base(
        train,
        validation,
        start=start,
        folder=_folder(options) / "fit",
        recipe=recipe,
        held=held,
        device="cpu",
    )
    drops = held.label("drop_seed")
    facts = {
        "train": len(train),
        "validation": len(validation),
        "held": len(held),
        "held_drops": len(drops.unique()),
        "steps": sizes.plan.steps,
        "batch": sizes.plan.batch_size,
        "base_samples": own.samples,
        "base_sha256": start.sha256,
        "adapted_sha256": adapted.sha256,
        "seconds_of_this_call": round(time.perf_counter() - began, 1),
        "ks_of_a_perfect_model": round(ks_floor(own.samples, len(held)).mean, 4),
    }
    write_result(
        options,
        sizes=facts,
        rows=figure_rows(figures, drops),
        checks=gain_checks(figures, drops),
        data=f"{held.source.scenario}, simulated",
    )


if __name__ == "__main__":
    main()
