"""How often do real compressors fail badly: by counting, by subset simulation, on real users?

Every bundled compressor (or those named) and a KLT at ratio 4, fitted here on the training users.
Thresholds are the NMSE that 1 in 10, 100, 1,000 of the training users exceed. P(NMSE > tau) under
the base law by subset simulation in the noise of the 2M ODE, by counting draws of the same chain
for about as many evaluations, and counted on the users of the split, each with its interval. The
gain is the variance that counting would have after the evaluations of all runs, over that of the
mean of the runs; its interval comes from their number. Several --steps show what step doubling
moves. Levels, draws and fits are kept by base model; a repeated call goes on where the last one
stopped.

    python -m benchmarks.csi_tail
    python -m benchmarks.csi_tail --device cuda --steps 30 60 --deepest 1e-5 --particles 2000
"""

import argparse
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy import special
from torch import Tensor

from benchmarks.checks import Check
from benchmarks.harness import Options, check, parse_arguments, write_result
from benchmarks.zoo_entries import BaselineFits, fitted_klt
from channels import ChannelSet, audit_space, load_channels, onto_sphere
from compressors import Compressor, bundled_compressors, in_audit_space, load_compressor
from csi_audit.base import Base, load_base
from csi_audit.compressor_hash import code_sha256
from csi_audit.devices import torch_device
from csi_audit.drawing import draw_in_blocks
from csi_audit.losses import NmseLoss, in_blocks
from csi_audit.noise_map import OdeMap
from csi_audit.plain_monte_carlo import CountedTail
from csi_audit.run_state import BlockStore
from csi_audit.sampling import BaseSampler
from csi_audit.subset_simulation import SubsetSimulation
from csi_audit.tail import Budget, ReplicatedTail
from reports.estimates import Estimate, agree, proportion

Array = npt.NDArray[np.float64]

KLT_RATIO = 4
SHARE = 0.1
BLOCK = 250
GAIN_AT, GAIN_WANTED = 1e-3, 2.0
FOLD_AT, FOLD_WANTED = 1e-2, 2.0


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--compressors", nargs="+", metavar="SPEC", help="default: all bundled, and the KLT")
    add("--no-klt", action="store_true", help="without the KLT at ratio 4")
    add("--base", default=None, help="base model file (default: the bundled one)")
    add("--particles", type=int, default=500, help="of a level")
    add("--runs", type=int, default=5)
    add("--steps", type=int, nargs="+", default=[30], help="of the 2M ODE")
    add("--deepest", type=float, default=1e-3)
    add("--draws", type=int, default=7_000, help="counted, for all compressors together")
    add("--batch-size", type=int, default=256)
    add("--device", default="cpu")
    add("--state", type=Path, default=Path("runs/benchmark-csi-tail"), help="finished parts")


@dataclass(frozen=True, kw_only=True)
class Audited:
    """A compressor under test: its name, itself, and what its answers depend on."""

    name: str
    compressor: Compressor
    key: str


class ClockedStore(BlockStore):
    """Blocks that keep the seconds they took, added up over all that were asked for.

    Args:
        folder: Of the state.
        what: Printed with every block that is made.
    """

    def __init__(self, folder: Path, what: str) -> None:
        super().__init__(folder)
        self.what, self.seconds = what, 0.0

    def get(
        self, name: str, block: int, make: Callable[[], Mapping[str, npt.NDArray[Any]]]
    ) -> dict[str, npt.NDArray[Any]]:
        def clocked() -> dict[str, npt.NDArray[Any]]:
            began = time.perf_counter()
            made = dict(make())
            seconds = time.perf_counter() - began
            print(f"{self.what}: {name}, block {block}, {seconds:.0f} s", flush=True)
            return made | {"clock": np.array(seconds)}

        found = super().get(name, block, clocked)
        self.seconds += float(found["clock"])
        return found


# --- What is measured -----------------------------------------------------------------------------


def audited_compressors(options: Options, x: Tensor) -> list[Audited]:
    """Bundled or named ones, and the KLT at ratio 4 where there are channels to fit it on."""
    specs = options.own.compressors or list(bundled_compressors())
    found = []
    for spec in specs:
        named = load_compressor(spec, channels=x)
        key = named.sha256 or code_sha256(named.compressor)
        found.append(Audited(name=named.name, compressor=named.compressor, key=key))
    if options.own.no_klt:
        return found
    if options.data_dir is None:
        print(f"No KLT at ratio {KLT_RATIO}: the bundled sample is never fitted on.")
        return found
    fits = BaselineFits(options.channels_path("train"), options.own.state, seed=options.seed)
    shape = (x.shape[1], x.shape[2], x.shape[3])
    klt = fitted_klt(fits, math.prod(shape) // KLT_RATIO, shape)
    return [
        *found,
        Audited(name=f"klt-{KLT_RATIO}", compressor=klt.compressor, key=klt.key or klt.name),
    ]


def nmse_of(audited: Audited, x: Tensor) -> Array:
    """NMSE of each channel, (N,)."""
    loss = NmseLoss(in_audit_space(audited.compressor))
    return np.asarray(in_blocks(loss, x).numpy(), dtype=np.float64)


def users_nmse(
    audited: Audited, train: ChannelSet, users: ChannelSet, options: Options
) -> tuple[Array, Array]:
    """NMSE of the training users and of those of the split, kept."""
    found = []
    for channels in (train, users):
        store = BlockStore(options.own.state / f"users-{(channels.source.sha256 or '')[:12]}")
        make = partial(_measured_users, audited, channels)
        found.append(store.get(_file_key(audited), 0, make)["nmse"])
    return found[0], found[1]


def _measured_users(audited: Audited, channels: ChannelSet) -> dict[str, Array]:
    return {"nmse": nmse_of(audited, audit_space(channels))}


def _file_key(audited: Audited) -> str:
    return "".join(c if c.isalnum() else "_" for c in f"{audited.name} {audited.key[:8]}")


def subset_tail(
    audited: Audited, base: Base, steps: int, options: Options
) -> tuple[ReplicatedTail, float]:
    """The runs of subset simulation, and the seconds they took."""
    own = options.own
    noise_map = OdeMap(
        base,
        steps=steps,
        onto_law=onto_sphere,
        device=torch_device(own.device),
        batch_size=own.batch_size,
    )
    method = SubsetSimulation(
        noise_map, particles=own.particles, share=SHARE, deepest=own.deepest, kept=0
    )
    size = f"{steps}x{own.particles}-{own.deepest:g}-{options.seed}"
    store = ClockedStore(own.state / base.sha256[:12] / size, f"{audited.name}, {steps} steps")
    curve, _ = method.tail(
        NmseLoss(in_audit_space(audited.compressor)),
        budget=Budget(runs=own.runs),
        seed=options.seed,
        name=_file_key(audited),
        store=store,
    )
    return curve, store.seconds


def counted_draws(base: Base, steps: int, options: Options) -> tuple[Tensor, int, float]:
    """Draws of the audited law for counting, their evaluations and seconds; kept."""
    own = options.own
    sampler = BaseSampler(
        base, steps=steps, device=torch_device(own.device), batch_size=own.batch_size
    )
    store = ClockedStore(own.state / base.sha256[:12] / f"draws-{options.seed}", f"{steps} steps")
    drawn = draw_in_blocks(
        sampler,
        own.draws,
        name=f"draws-{steps}",
        block=BLOCK,
        seed=options.seed,
        stream="draws",
        store=store,
    )
    return onto_sphere(drawn.x), drawn.n_evaluations, store.seconds


# --- Rows -----------------------------------------------------------------------------------------


def gain_of(
    rare: Estimate, evaluations: int, steps: int
) -> tuple[float, tuple[float, float]] | None:
    """Variance of counting at equal evaluations over that of the mean of R runs, and 95 % of it.

        gain = p (1 - p) / (evaluations / steps) / SE^2,   (R - 1) SE^2 / SE_true^2 ~ chi^2_{R-1}

    None where the runs saw nothing, or scatter by more than half of P each.
    """
    if not rare.std_error or rare.std_error * math.sqrt(rare.n) > 0.5 * rare.value:
        return None
    value = rare.value * (1 - rare.value) / (evaluations / steps) / rare.std_error**2
    low, high = (float(special.chdtri(rare.n - 1, 1 - q)) / (rare.n - 1) for q in (0.025, 0.975))
    return value, (value * low, value * high)


def tail_rows(
    name: str,
    curve: ReplicatedTail,
    counted: CountedTail,
    real: Array,
    thresholds: Mapping[float, float],
    *,
    steps: int,
    seconds: tuple[float, float],
) -> list[dict[str, Any]]:
    """One row a threshold: P by both methods and on the users, prices, gain.

    Args:
        name: The compressor.
        curve: By subset simulation.
        counted: Draws of the same chain.
        real: NMSE of the users, (N,).
        thresholds: NMSE by the share of training users that exceeds it.
        steps: Of the chain.
        seconds: Of all runs, and of all draws.
    """
    rows = []
    for p, tau in thresholds.items():
        rare, plain = curve.exceedance(tau), counted.exceedance(tau)
        users = proportion(int((real > tau).sum()), len(real), method="users")
        evaluations = sum(run.evaluations_to(tau) for run in curve.runs)
        gain = gain_of(rare, evaluations, steps)
        rows.append(
            {
                "compressor": name,
                "steps": steps,
                "p_train": p,
                "tau_db": 10 * math.log10(tau),
                "subset": rare.value,
                "subset_interval": rare.interval,
                "counted": plain.value,
                "counted_interval": plain.interval,
                "users": users.value,
                "users_interval": users.interval,
                "subset_and_users": agree(rare, users),
                "subset_and_counted": agree(rare, plain),
                "subset_evaluations": evaluations,
                "subset_seconds": seconds[0] * evaluations / curve.evaluations,
                "counted_evaluations": counted.evaluations,
                "counted_seconds": seconds[1],
                "gain": None if gain is None else gain[0],
                "gain_interval": None if gain is None else gain[1],
                "trusted": rare.status == "ok",
                "estimates": {
                    "subset": rare.to_dict(),
                    "counted": plain.to_dict(),
                    "users": users.to_dict(),
                },
            }
        )
    return rows


def checks_of(rows: Sequence[Mapping[str, Any]], steps: int) -> list[Check]:
    """The gain at 1e-3 and P against the users at 1e-2, of the chain of that many steps.

    A compressor whose runs allow no gain counts as 0. The interval of the median is that of the
    ends of the compressors' own intervals.
    """
    mine = [row for row in rows if row["steps"] == steps]
    at = [row for row in mine if _at(row, GAIN_AT)]
    spans = np.array([row["gain_interval"] or (0.0, 0.0) for row in at]).reshape(-1, 2)
    found = [
        check(f"median gain over counting at {GAIN_AT:g}",
              np.median([row["gain"] or 0.0 for row in at]) if at else None,
              interval=(np.median(spans[:, 0]), np.median(spans[:, 1])) if at else None,
              relation=">=", limit=GAIN_WANTED)
    ]  # fmt: skip
    for row in mine:
        if _at(row, FOLD_AT):
            name = f"{row['compressor']}: base law against users at {FOLD_AT:g}, factor"
            fold = fold_of(row)
            value, ends = (None, None) if fold is None else fold
            found.append(check(name, value, interval=ends, relation="<=", limit=FOLD_WANTED))
    return found


def fold_of(row: Mapping[str, Any]) -> tuple[float, tuple[float, float]] | None:
    """max(r, 1 / r) of r = P(base) / P(users), with the ends that both intervals allow."""
    (low, high), (least, most) = row["subset_interval"] or (0, 0), row["users_interval"]
    if min(row["subset"], row["users"], low, least) <= 0:
        return None
    ends = [math.log(low / most), math.log(high / least)]
    value = abs(math.log(row["subset"] / row["users"]))
    nearest = 0.0 if ends[0] <= 0 <= ends[1] else min(map(abs, ends))
    return math.exp(value), (math.exp(nearest), math.exp(max(map(abs, ends))))


def _at(row: Mapping[str, Any], p: float) -> bool:
    return math.isclose(row["p_train"], p, rel_tol=1e-6)


# --- The run --------------------------------------------------------------------------------------


def probabilities(deepest: float) -> list[float]:
    """0.1, 0.01, ... down to the deepest."""
    return [10.0**-k for k in range(1, 10) if 10.0**-k >= 0.999 * deepest]


def thresholds_of(nmse: Array, deepest: float) -> dict[float, float]:
    """NMSE exceeded by each share of the training users that is more than one of them."""
    shares = [p for p in probabilities(deepest) if p * len(nmse) >= 1]
    return {p: float(np.quantile(nmse, 1 - p)) for p in shares}


def measured(options: Options) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Rows of every compressor and chain, and sizes."""
    own, base = options.own, load_base(options.own.base)
    users = load_channels(str(options.channels_path()), lazy=False)
    fitted_on = "val" if options.data_dir is None else "train"
    train = load_channels(str(options.channels_path(fitted_on)), lazy=False)
    audited = audited_compressors(options, audit_space(train.subset(slice(0, 200))))
    known = {item.name: users_nmse(item, train, users, options) for item in audited}
    rows: list[dict[str, Any]] = []
    for steps in own.steps:
        x, evaluations, drawn_s = counted_draws(base, steps, options)
        for item in audited:
            curve, seconds = subset_tail(item, base, steps, options)
            counted = CountedTail(
                values=nmse_of(item, x), worse="high", method="counted", evaluations=evaluations
            )
            of_train, of_users = known[item.name]
            rows += tail_rows(
                item.name,
                curve,
                counted,
                of_users,
                thresholds_of(of_train, own.deepest),
                steps=steps,
                seconds=(seconds, drawn_s),
            )
    sizes = {"users": len(users), "users_sha256": users.source.sha256, "training_users": len(train),
             "base_sha256": base.sha256, "particles": own.particles, "runs": own.runs,
             "steps": own.steps, "deepest": own.deepest, "share": SHARE, "draws": own.draws,
             "device": str(torch_device(own.device)),
             "torch_threads": torch.get_num_threads()}  # fmt: skip
    return rows, sizes


def main() -> None:
    """Run what is missing; write `benchmarks/results/csi_tail.json`."""
    options = parse_arguments("csi_tail", description=__doc__, add_own=_add_own)
    rows, sizes = measured(options)
    write_result(options, sizes=sizes, rows=rows, checks=checks_of(rows, options.own.steps[0]))


if __name__ == "__main__":
    main()
