"""How fast is each method, and how much of the machine does it use?

Denoiser evaluations a second, plain and guided, and samples a second of every method, in eager
float32 (the named alternative), under bf16 autocast and compiled, on the CPU and on a GPU where
there is one. Beside each rate stands the share of the device's matrix-product rate in the same
dtype on the same threads, measured in the same run with torch.mm; the work of an evaluation is
counted by torch's own counter. All variants take turns, round by round; a figure is the median of
the rounds with the slowest and the fastest, and the ratio to eager float32 is taken within a round.

Samples count as they come: guided ones are weighted, reweighted ones too.

    python -m benchmarks.throughput
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from benchmarks.checks import Check
from benchmarks.harness import check, parse_arguments, write_result
from benchmarks.throughput_tasks import (
    COMPILED,
    DTYPES,
    EAGER,
    GUIDED,
    ISSGM_STEPS,
    LEVEL,
    PLAIN,
    PRODUCT,
    Key,
    Task,
    Variant,
    evaluations,
    first_line,
    flops,
    matrix_task,
    methods,
    variants,
)
from channels import onto_sphere
from channels.randomness import seeded_generator
from compressors import in_audit_space, load_compressor
from csi_audit.base import Base, load_base
from csi_audit.calibration import fit_calibrated_twist
from csi_audit.evaluating import CountedDenoiser
from csi_audit.losses import SquaredErrorLoss
from csi_audit.sampling import BaseSampler, sigma_grid
from csi_audit.weights import LossWeight, NormalisedWeight

Array = npt.NDArray[np.float64]


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--compressor", default="csinet-16", help="its squared error is l")
    add("--base", default=None, help="base model file (default: the bundled one)")
    add("--devices", nargs="+", choices=("cpu", "cuda"), help="default: those at hand")
    add("--samples", type=int, default=64, help="of a method and round, and the batch, on the CPU")
    add("--cuda-samples", type=int, default=4096, help="the same on a GPU")
    add("--rounds", type=int, default=5)
    add("--ode-steps", type=int, default=30)
    add("--guided-steps", type=int, default=40)
    add("--issgm-steps", type=int, default=10, help=f"measured, for {ISSGM_STEPS}")
    add("--pilot", type=int, default=100, help="samples the twist is calibrated on")
    add("--matrix", type=int, default=2048, help="size of the square matrix product on the CPU")
    add("--cuda-matrix", type=int, default=8192)
    add("--no-compile", action="store_true", help="leave the compiled variants out")


# --- Timing ---------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class Timing:
    """Seconds of a task, a number a round, the denoiser evaluations of a run, and what went wrong.

    A task that failed once is not tried again, and its seconds are not used.
    """

    seconds: list[float] = field(default_factory=list)
    evaluations: int = 0
    status: str = "ok"


def timed(tasks: Mapping[Key, Task], rounds: int) -> dict[Key, Timing]:
    """Time all tasks in turns, round by round, after one round that does not count."""
    found = {key: Timing() for key in tasks}
    for number in range(rounds + 1):
        for key, task in tasks.items():
            timing = found[key]
            if timing.status != "ok":
                continue
            try:
                seconds, timing.evaluations = _seconds_of(task, key[0])
            except (RuntimeError, ValueError) as error:  # a variant that fails is a row
                timing.status = f"failed: {first_line(error)}"
                continue
            if number:
                timing.seconds.append(seconds)
        print(f"round {number} of {rounds}", flush=True)
    return found


def _seconds_of(task: Task, device: str) -> tuple[float, int]:
    """Seconds of one run and its denoiser evaluations."""
    _wait(device)
    began = time.perf_counter()
    made = task.run()
    _wait(device)
    return time.perf_counter() - began, made


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def over_rounds(figures: Mapping[str, Array]) -> dict[str, Any]:
    """Median of the rounds (R,) of each figure, and under "spread" the smallest and largest."""
    medians = {name: float(np.median(values)) for name, values in figures.items()}
    ends = {name: [float(v.min()), float(v.max())] for name, v in figures.items()}
    return {**medians, "spread": ends}


def task_row(
    key: Key, tasks: Mapping[Key, Task], found: Mapping[Key, Timing], work: float
) -> dict[str, Any]:
    """Rates of one task, beside the matrix products and eager float32 of the same rounds.

        share of product = (evaluations work / seconds) / (operations of torch.mm / its seconds)

    Args:
        key: Of the task.
        tasks, found: All tasks and their timings.
        work: Floating-point operations of one denoiser evaluation.
    """
    device, dtype, _, name = key
    task, mine = tasks[key], found[key]
    row: dict[str, Any] = dict(zip(("device", "dtype", "mode", "task"), key, strict=True))
    if mine.status != "ok":
        return row | {"status": mine.status}
    operations = task.samples if name == PRODUCT else mine.evaluations * work
    seconds = np.array(mine.seconds)
    figures: dict[str, Array] = {"gflop_per_s": operations / seconds / 1e9}
    if name != PRODUCT:
        row |= {"steps": task.steps, "timed_steps": task.timed_steps}
        figures["samples_per_s"] = task.samples / (seconds * task.scale)
        figures["evaluations_per_s"] = mine.evaluations / seconds
    eager, matrix = (device, "float32", EAGER, name), (device, dtype, EAGER, PRODUCT)
    if found[eager].status == "ok":
        figures["over_eager_float32"] = np.array(found[eager].seconds) / seconds
    if found[matrix].status == "ok":
        rate = tasks[matrix].samples / np.array(found[matrix].seconds)
        figures["share_of_product"] = operations / seconds / rate
    return row | over_rounds(figures) | {"status": "ok"}


# --- The run --------------------------------------------------------------------------------------


def all_tasks(
    made: Sequence[Variant], x: Mapping[str, Tensor], own: argparse.Namespace, seed: int
) -> dict[Key, Task]:
    """Matrix products, evaluations and methods of every variant."""
    loss = SquaredErrorLoss(in_audit_space(load_compressor(own.compressor).compressor))
    weight, generator = LossWeight(loss), seeded_generator(seed, "throughput")
    base = load_base(own.base)
    pilot = BaseSampler(base, steps=10, batch_size=own.samples)(own.pilot, generator=generator)
    twist = fit_calibrated_twist(
        base.denoiser,
        weight,
        pilot.x,
        sigma_grid(base.sigma_max, base.sigma_min, own.guided_steps),
        generator=generator,
        target=NormalisedWeight(weight, onto_sphere),
    )
    tasks: dict[Key, Task] = {}
    for device, dtype in product(x, DTYPES):
        size = own.cuda_matrix if device == "cuda" else own.matrix
        tasks[device, dtype, EAGER, PRODUCT] = matrix_task(size, device, dtype)
    for each in made:
        named = evaluations(each, x[each.device]) | methods(each, own, weight, twist, generator)
        tasks |= {each.key(name): task for name, task in named.items()}
    return tasks


def differences(made: Sequence[Variant], x: Mapping[str, Tensor]) -> dict[Key, float]:
    """||D - D_ref|| / ||D_ref|| of every variant; D_ref is eager float32 on the same device."""
    found: dict[Key, float] = {}
    reference: dict[str, Tensor] = {}
    for each in made:  # eager float32 comes first on every device
        batch = x[each.device]
        d = CountedDenoiser(each.base.denoiser, device=each.device)(batch, LEVEL)
        ref = reference.setdefault(each.device, d)
        found[each.key(PLAIN)] = float((d - ref).norm() / ref.norm())
    return found


def speed_checks(rows: Sequence[Mapping[str, Any]]) -> list[Check]:
    """No way to run the denoiser is slower than eager float32; undecided where it fails."""
    checks = []
    for row in rows:
        own = (row["device"], row["dtype"], row["mode"])
        if row["task"] == PLAIN and own[1:] != ("float32", EAGER):
            ratio = row.get("over_eager_float32")
            ends = row.get("spread", {}).get("over_eager_float32")
            name = f"{own[0]}, {own[1]} {own[2]}: evaluations over those of eager float32"
            checks.append(check(name, ratio, interval=ends, relation=">=", limit=1.0))
    return checks


def batches(base: Base, own: argparse.Namespace, seed: int) -> dict[str, Tensor]:
    """A batch of noisy samples for each device, on the CPU, where samples live."""
    devices = own.devices or ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]
    sizes = {"cpu": own.samples, "cuda": own.cuda_samples}
    return {
        device: base.variance.sqrt()
        + LEVEL
        * torch.randn(
            sizes[device], *base.event_shape, generator=seeded_generator(seed, "batch", device)
        )
        for device in devices
    }


def main() -> None:
    """Time everything in turns; write `benchmarks/results/throughput.json`."""
    options = parse_arguments("throughput", description=__doc__, add_own=_add_own)
    own, base = options.own, load_base(options.own.base)
    x = batches(base, own, options.seed)
    work = flops(base, next(iter(x.values()))[:4])
    made, rows = variants(base, x, modes=(EAGER,) if own.no_compile else (EAGER, COMPILED))
    tasks = all_tasks(made, x, own, options.seed)
    apart = differences(made, x)
    found = timed(tasks, own.rounds)
    compile_seconds = {v.key(PLAIN): v.compile_seconds for v in made}
    for key in tasks:
        row = task_row(key, tasks, found, work[PLAIN])
        if key in apart:
            row |= {"relative_difference": apart[key], "compile_s": compile_seconds[key]}
        rows.append(row)
    sizes = {
        **{key: value for key, value in vars(own).items() if key not in ("base", "devices")},
        "base_sha256": base.sha256,
        "flop_an_evaluation": work[PLAIN],
        "flop_a_guided_sample": work[GUIDED],
        "issgm_extrapolated_to": ISSGM_STEPS,
    }
    rows.sort(key=lambda row: (row["device"], row["task"] != PRODUCT))
    write_result(options, sizes=sizes, rows=rows, checks=speed_checks(rows),
                 data="base model")  # fmt: skip


if __name__ == "__main__":
    main()
