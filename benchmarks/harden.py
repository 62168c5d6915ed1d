"""Does hardening help the users a compressor serves worst, and is it the importance samples?

Fine-tunes each compressor twice from the same weights for the same steps: once on training channels
alone (the control), once on a mix with importance samples of q ~ NMSE^power p, drawn of the base
model and of the training channels. Before, control and hardened are measured on the users of the
split, which no training and no selection of these runs saw; differences are paired over users. What
was trained is kept, so that a repeated call goes on where the last one stopped.

    python -m benchmarks.harden
    python -m benchmarks.harden --compressor crnet-16 transnet-16 --precision bf16-mixed
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.checks import Check
from benchmarks.harness import Options, check, parse_arguments, write_result
from channels import ChannelSet, audit_space, load_channels
from channels.support import file_sha256
from compressors import load_compressor
from compressors.hardening_training import own_nmse
from compressors.neural import CompressorNetwork
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

PAIRS = (("control", "before"), ("hardened", "before"), ("hardened", "control"))


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--compressor", nargs="+", action="extend", metavar="SPEC", help="default: transnet-16")
    add("--base", type=Path, help="base model (default: the bundled one)")
    add("--base-samples", type=int, default=4000)
    add("--base-steps", type=int, default=30)
    add("--power", type=float, default=2.0, help="of the NMSE in q")
    add("--mix", type=float, default=0.3, help="share of importance samples")
    add("--steps", type=int, default=1200)
    add("--block-steps", type=int, default=100)
    add("--learning-rate", type=float, default=5e-4)
    add("--precision", choices=("32-true", "bf16-mixed"), default="32-true")
    add("--device", choices=("auto", "cpu", "cuda"), default="cpu")
    add("--state", type=Path, default=Path("runs/benchmark-harden"))


def settings_of(options: Options, spec: str, *, control: bool, base_sha256: str) -> HardenConfig:
    """One training; its folder is named by everything that changes it."""
    own = options.own
    key = f"{Path(spec).stem}-{base_sha256[:8]}-{own.base_samples}x{own.base_steps}"
    key += f"-{own.steps}-{own.learning_rate:g}-{own.precision}-{options.seed}"
    key += "-control" if control else f"-p{own.power:g}-m{own.mix:g}"
    return HardenConfig(
        compressor=spec,
        data=str(options.channels_path("train")),
        holdout=str(options.channels_path()),
        base=None if own.base is None else str(own.base),
        base_samples=0 if control else own.base_samples,
        base_steps=own.base_steps,
        power=own.power,
        mix=0.0 if control else own.mix,
        out=str(own.state / options.split / key),
        steps=own.steps,
        block_steps=own.block_steps,
        learning_rate=own.learning_rate,
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
    wanted: list[tuple[str, Estimate, float]] = [
        ("loss of mean NMSE [dB]", after["mean NMSE"], MOST_LOST_DB),
        ("95 % quantile, after - before [dB]", after["95 % quantile"], 0.0),
        ("99 % quantile, after - before [dB]", after["99 % quantile"], 0.0),
        ("worst 1 %, after - before [dB]", after["mean of the worst 1 %"], 0.0),
        ("worst 1 %, hardened - control [dB]", beside["mean of the worst 1 %"], 0.0),
    ]
    return [
        check(f"{name}: {what}", e.value, interval=e.interval, relation="<=", limit=limit)
        for what, e, limit in wanted
    ]


def main() -> None:
    """Train what is missing; write `benchmarks/results/harden.json`."""
    options = parse_arguments("harden", description=__doc__, add_own=_add_own)
    own = options.own
    users = load_channels(str(options.channels_path()), lazy=None)
    base = load_base(None if own.base is None else str(own.base))
    specs = own.compressor or ["transnet-16"]
    rows: list[Row] = []
    checks: list[Check] = []
    for spec in specs:
        states = {"before": spec}
        for state, control in (("control", True), ("hardened", False)):
            settings = settings_of(options, spec, control=control, base_sha256=base.sha256)
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
        "trained_on_sha256": file_sha256(options.channels_path("train")),
        "base_sha256": base.sha256,
        "base_samples": own.base_samples,
        "power": own.power,
        "mix": own.mix,
        "steps": own.steps,
        "learning_rate": own.learning_rate,
    }
    write_result(options, sizes=sizes, rows=rows, checks=checks)


if __name__ == "__main__":
    main()
