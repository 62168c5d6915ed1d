"""Does hardening help the users a compressor serves worst, and is it the importance samples?

Fine-tunes each compressor twice from the same weights for the same steps: once on training channels
alone (the control), once on a mix with importance samples of q ~ NMSE^power p, most of which the
base model makes as variants of the worst training users. Before, control and hardened are measured
on users that no training and no selection of these runs saw; differences are paired over users.
Every other drop of the validation users selects; the rest of them measure, or with `--split test`
the test users (the bundled weights were selected on all validation users, which flatters their
figures before). What was trained is kept, so that a repeated call goes on where the last one
stopped, and a call on the test split measures what one on the validation split trained.

    python -m benchmarks.harden
    python -m benchmarks.harden --split test --compressor transnet-16 crnet-16
"""

import argparse
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.checks import Check
from benchmarks.harness import Options, check, parse_arguments, write_result
from channels import ChannelSet, audit_space, load_channels, write_channels
from channels.support import file_sha256
from compressors import load_compressor
from compressors.neural import CompressorNetwork
from compressors.weight_mixing import own_nmse
from csi_audit.base import load_base
from csi_audit.hardening_command import hardened
from csi_audit.hardening_settings import HardenConfig
from reports.estimates import Estimate
from reports.hardening import (
    MOST_LOST_DB,
    HardeningChange,
    hardening_changes,
    hardening_verdict,
)

Array = npt.NDArray[np.float64]
Row = dict[str, Any]

IMPROVED_DB = -0.001
"""The upper end of a change must lie below, so that a compressor as it came passes nothing."""

PAIRS = (("control", "before"), ("hardened", "before"), ("hardened", "control"))


def _add_own(parser: argparse.ArgumentParser) -> None:
    add, default = parser.add_argument, HardenConfig(compressor="", data="")
    add("--compressor", nargs="+", action="extend", metavar="SPEC", help="default: transnet-16")
    add("--base", type=Path, help="base model (default: the bundled one)")
    add("--variants", type=int, default=default.variants)
    add("--variant-sigma", type=float, default=default.variant_sigma)
    add("--variant-steps", type=int, default=default.variant_steps)
    add("--power", type=float, default=default.power, help="of the NMSE in q")
    add("--mix", type=float, default=default.mix, help="share of importance samples")
    add("--steps", type=int, default=default.steps)
    add("--block-steps", type=int, default=default.block_steps)
    add("--learning-rate", type=float, default=default.learning_rate)
    add("--optimizer", choices=("muon", "adamw"), default=default.optimizer)
    add("--precision", choices=("32-true", "bf16-mixed"), default="bf16-mixed")
    add("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    add("--state", type=Path, default=Path("runs/benchmark-harden"))


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Validation users that select, those that do not, and users that measure."""

    selects: Path
    rest: Path
    users: ChannelSet


def sides_of(options: Options) -> Sides:
    """Two halves of the validation users by drop; the second measures, or the test users do."""
    both = load_channels(str(options.channels_path("val")))
    folder = options.own.state / f"users-{str(both.source.sha256)[:12]}"
    folder.mkdir(parents=True, exist_ok=True)
    first = every_other_drop(both)
    selects, rest = folder / "selects.h5", folder / "rest.h5"
    for path, rows in ((selects, first), (rest, ~first)):
        if not path.is_file():
            write_channels(path, both.subset(rows), precision="float32")
    measures = options.channels_path() if options.split == "test" else rest
    return Sides(selects=selects, rest=rest, users=load_channels(str(measures), lazy=None))


def every_other_drop(users: ChannelSet) -> Tensor:
    """Users of the first, third, ... drop, bool (N,); every other user where drops are unknown or
    there is one."""
    if users.drops is None or len(users.drops.unique()) < 2:
        return torch.arange(len(users)) % 2 == 0
    _, number = users.drops.unique(return_inverse=True)
    return number % 2 == 0


def settings_of(
    options: Options, spec: str, sides: Sides, *, control: bool, base_sha256: str
) -> HardenConfig:
    """One training; its folder is named by everything that changes it."""
    own, train = options.own, options.channels_path("train")
    weights = load_compressor(spec).sha256
    files = (weights, file_sha256(train), file_sha256(sides.selects))
    digest = hashlib.sha256(" ".join(map(str, files)).encode()).hexdigest()
    key = f"{Path(spec).stem}-{digest[:12]}-{own.steps}x{own.block_steps}-{own.optimizer}"
    key += f"-{own.learning_rate:g}-{own.precision}-{options.seed}"
    varied = f"{own.variants}x{own.variant_steps}-s{own.variant_sigma:g}-{base_sha256[:8]}"
    key += "-control" if control else f"-p{own.power:g}-m{own.mix:g}-{varied}"
    return HardenConfig(
        compressor=spec,
        data=str(train),
        validation=str(sides.selects),
        holdout=str(sides.rest),
        base=None if own.base is None else str(own.base),
        variants=0 if control else own.variants,
        variant_sigma=own.variant_sigma,
        variant_steps=own.variant_steps,
        power=own.power,
        mix=0.0 if control else own.mix,
        out=str(own.state / key),
        steps=own.steps,
        block_steps=own.block_steps,
        learning_rate=own.learning_rate,
        optimizer=own.optimizer,
        precision=own.precision,
        seed=options.seed,
        device=own.device,
    )


def nmse_on(spec: str, users: ChannelSet) -> Array:
    """NMSE of each user under a compressor, (N,)."""
    network = load_compressor(spec).compressor
    if not isinstance(network, CompressorNetwork):
        raise ValueError(f"compressor must be a network of the zoo; got {spec}.")
    parts = torch.arange(len(users)).split(2048)
    return np.concatenate(
        [own_nmse(network, audit_space(users.subset(rows))).numpy() for rows in parts]
    )


def rows_of(name: str, found: Mapping[str, Array]) -> list[Row]:
    """Rows of one compressor: each pair of states, each figure."""
    rows = []
    for after, before in PAIRS:
        changes = hardening_changes(found[before], found[after])
        verdict, _ = hardening_verdict(changes)
        rows += [_row(name, f"{after} - {before}", item, verdict) for item in changes]
    return rows


def _row(name: str, what: str, item: HardeningChange, verdict: str) -> Row:
    return {
        "compressor": name,
        "change": what,
        "figure": item.quantity,
        "first_db": item.before_db,
        "second_db": item.after_db,
        "difference_db": item.change.value,
        "interval_db": None if item.change.interval is None else list(item.change.interval),
        "n": item.change.n,
        "verdict": verdict,
        "estimate": item.change.to_dict(),
    }


def checks_of(name: str, found: Mapping[str, Array]) -> list[Check]:
    """The mean is kept, and the tail improves, over what it was and over the control."""
    after = {
        item.quantity: item.change for item in hardening_changes(found["before"], found["hardened"])
    }
    beside = {
        item.quantity: item.change
        for item in hardening_changes(found["control"], found["hardened"])
    }
    tail = ("95 % quantile", "99 % quantile", "mean of the worst 1 %")
    wanted = [("loss of mean NMSE [dB]", after["mean NMSE"], MOST_LOST_DB)]
    wanted += [(f"{what}, after - before [dB]", after[what], IMPROVED_DB) for what in tail]
    wanted += [(f"{tail[2]}, hardened - control [dB]", beside[tail[2]], IMPROVED_DB)]
    return [
        check(f"{name}: {what}", _told(e), interval=e.interval, relation="<=", limit=limit)
        for what, e, limit in wanted
    ]


def _told(change: Estimate) -> float | None:
    """A change of 0 for every user is one; without an interval for another reason nothing is."""
    return change.value if change.interval is not None or change.value == 0 else None


def main() -> None:
    """Train what is missing; write `benchmarks/results/harden.json`."""
    options = parse_arguments("harden", description=__doc__, add_own=_add_own)
    own = options.own
    sides = sides_of(options)
    users = sides.users
    base = load_base(None if own.base is None else str(own.base))
    specs = own.compressor or ["transnet-16"]
    rows: list[Row] = []
    checks: list[Check] = []
    for spec in specs:
        states = {"before": spec}
        for state, control in (("control", True), ("hardened", False)):
            settings = settings_of(options, spec, sides, control=control, base_sha256=base.sha256)
            weights = Path(str(settings.out)) / "compressor.safetensors"
            if not (weights.parent / "harden.json").is_file():
                hardened(settings)
            states[state] = str(weights)
            print(f"{spec}: {state} is trained", flush=True)
        found = {state: nmse_on(named, users) for state, named in states.items()}
        rows += rows_of(spec, found)
        checks += checks_of(spec, found)
    sizes: dict[str, Any] = {
        "users": len(users),
        "users_sha256": users.source.sha256,
        "selected_on_sha256": file_sha256(sides.selects),
        "trained_on_sha256": file_sha256(options.channels_path("train")),
        "base_sha256": base.sha256,
        "variants": own.variants,
        "variant_sigma": own.variant_sigma,
        "power": own.power,
        "mix": own.mix,
        "steps": own.steps,
        "learning_rate": own.learning_rate,
        "optimizer": own.optimizer,
    }
    write_result(options, sizes=sizes, rows=rows, checks=checks)


if __name__ == "__main__":
    main()
