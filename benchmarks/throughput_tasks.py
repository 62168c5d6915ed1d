"""What benchmarks.throughput times: ways to run a denoiser, and the work done with each."""

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from channels import onto_sphere
from channels.randomness import seeded_generator
from csi_audit.base import Base
from csi_audit.calibration import CalibratedTwist
from csi_audit.diffusion import Denoiser
from csi_audit.evaluating import CountedDenoiser
from csi_audit.samples import Sampler, WeightedSamples
from csi_audit.sampling import BaseSampler, GuidedSampler, IssgmSampler, reweighted
from csi_audit.twisted_smc import TwistedSmcSampler
from csi_audit.weights import LossWeight, NormalisedWeight

Key = tuple[str, str, str, str]
"""Device, dtype, mode, task."""

EAGER, COMPILED = "eager", "compiled"
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}
PLAIN, GUIDED, PRODUCT = "evaluation", "guided evaluation", "matrix product"
ISSGM_STEPS = 1000
LEVEL = 1.0  # noise level of the single evaluations


# --- Variants -------------------------------------------------------------------------------------


class InAutocast(nn.Module):
    """A denoiser under bf16 autocast; samples stay float32."""

    def __init__(self, denoiser: nn.Module, event_shape: tuple[int, ...], device: str) -> None:
        super().__init__()
        self.denoiser, self.event_shape, self.device_type = denoiser, event_shape, device

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        with torch.autocast(self.device_type, torch.bfloat16):
            d: Tensor = self.denoiser(x, sigma)
        return d


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A way to run the denoiser on a device.

    Attributes:
        device: "cpu" or "cuda".
        dtype: "float32", or "bf16" under autocast.
        mode: "eager" or "compiled".
        base: The base model with its denoiser so run.
        compile_seconds: Until the first results of a compiled one, else None.
    """

    device: str
    dtype: str
    mode: str
    base: Base
    compile_seconds: float | None = None

    def key(self, task: str) -> Key:
        """Of a task on this variant."""
        return self.device, self.dtype, self.mode, task


def variant(base: Base, device: str, dtype: str, mode: str, x: Tensor) -> Variant:
    """The base model run that way; compiled at once, by a plain and a guided evaluation of x.

    Raises:
        RuntimeError, OSError, ImportError: there is nothing here to compile with.
    """
    began = time.perf_counter()
    runs = deepcopy(_network(base)).to(device)  # a module lives on one device
    if mode == COMPILED:
        runs = cast(nn.Module, torch.compile(runs))
    if dtype == "bf16":
        runs = InAutocast(runs, base.event_shape, device)
    denoiser = cast(Denoiser, runs)
    made = Variant(device=device, dtype=dtype, mode=mode, base=replace(base, denoiser=denoiser))
    if mode == EAGER:
        return made
    for task in evaluations(made, x).values():
        task.run()
    return replace(made, compile_seconds=time.perf_counter() - began)


def _network(base: Base) -> nn.Module:
    if not isinstance(base.denoiser, nn.Module):
        raise TypeError(f"the denoiser must be a network; got {type(base.denoiser).__name__}.")
    return base.denoiser


def variants(
    base: Base, x: Mapping[str, Tensor], *, modes: Sequence[str]
) -> tuple[list[Variant], list[dict[str, Any]]]:
    """Every variant of every device that x has a batch for, and a row for each that fails."""
    made: list[Variant] = []
    failed: list[dict[str, Any]] = []
    for device, batch in x.items():
        for mode, dtype in product(modes, DTYPES):
            try:
                made.append(variant(base, device, dtype, mode, batch))
            except (RuntimeError, OSError, ImportError) as error:
                named = {"device": device, "dtype": dtype, "mode": mode, "task": PLAIN}
                failed.append(named | {"status": f"not available: {first_line(error)}"})
    return made, failed


# --- What is timed --------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Task:
    """Something to time.

    Attributes:
        run: Does it; returns the denoiser evaluations made.
        samples: Samples that one run makes; of a matrix product its floating-point operations.
        scale: Runs that the whole job takes: above 1 where only a part of it is timed.
        steps: Of the whole job, None for a single evaluation.
        timed_steps: Those that are timed.
    """

    run: Callable[[], int]
    samples: int
    scale: float = 1.0
    steps: int | None = None
    timed_steps: int | None = None


def _half_square(x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
    """A functional that costs nothing beside its denoiser."""
    return x0_hat.square().flatten(1).sum(1) / 2


def evaluations(made: Variant, x: Tensor) -> dict[str, Task]:
    """One batch forward, and one forward and backward, which counts as two."""
    counted = CountedDenoiser(made.base.denoiser, device=made.device, batch_size=len(x))

    def plain() -> int:
        counted(x, LEVEL)
        return len(x)

    def guided() -> int:
        counted.value_and_gradient(x, LEVEL, _half_square)
        return 2 * len(x)

    return {
        PLAIN: Task(run=plain, samples=len(x)),
        GUIDED: Task(run=guided, samples=len(x)),
    }


def methods(
    made: Variant,
    own: argparse.Namespace,
    weight: LossWeight,
    twist: CalibratedTwist,
    generator: torch.Generator,
) -> dict[str, Task]:
    """Every method on this variant; the paper's needs float32 for its finite difference."""
    n = own.cuda_samples if made.device == "cuda" else own.samples
    where: dict[str, Any] = {"device": made.device, "batch_size": n}
    counting = NormalisedWeight(weight, onto_sphere)
    ode = BaseSampler(made.base, steps=own.ode_steps, **where)

    def weighed(n: int, *, generator: torch.Generator) -> WeightedSamples:
        return reweighted(ode(n, generator=generator), counting)

    guided = GuidedSampler(made.base, twist, steps=own.guided_steps, **where)
    smc = TwistedSmcSampler(
        made.base, counting, twist, steps=own.guided_steps, island=max(2, n // 2), **where
    )
    chains: dict[str, tuple[Sampler, int]] = {
        "base, 2M ODE": (ode, own.ode_steps),
        "reweighting, 2M ODE": (weighed, own.ode_steps),
        "guided, 2M SDE": (guided, own.guided_steps),
        "twisted SMC, 2M SDE": (smc, own.guided_steps),
    }
    tasks = {
        name: Task(run=_drawing(sampler, n, generator), samples=n, steps=steps, timed_steps=steps)
        for name, (sampler, steps) in chains.items()
    }
    if made.dtype == "float32":
        paper = IssgmSampler(made.base, weight, steps=own.issgm_steps, **where)
        tasks["issgm"] = Task(
            run=_drawing(paper, n, generator),
            samples=n,
            scale=(2 * ISSGM_STEPS + 1) / (2 * own.issgm_steps + 1),
            steps=ISSGM_STEPS,
            timed_steps=own.issgm_steps,
        )
    return tasks


def _drawing(sampler: Sampler, n: int, generator: torch.Generator) -> Callable[[], int]:
    return lambda: sampler(n, generator=generator).n_evaluations


def matrix_task(size: int, device: str, dtype: str) -> Task:
    """One product of square matrices."""
    generator = seeded_generator(0, "matrix")
    a = torch.randn(size, size, generator=generator).to(device, DTYPES[dtype])
    out = torch.empty_like(a)

    def run() -> int:
        torch.mm(a, a, out=out)
        return 0

    return Task(run=run, samples=2 * size**3)


def flops(base: Base, x: Tensor) -> dict[str, float]:
    """Floating-point operations on one sample, plain and guided, as torch counts them: matrix
    products and convolutions, eager, on the CPU."""
    denoiser = base.denoiser
    with torch.no_grad(), FlopCounterMode(display=False) as plain:
        denoiser(x, LEVEL)
    with torch.enable_grad(), FlopCounterMode(display=False) as guided:
        leaf = x.detach().requires_grad_(True)
        torch.autograd.grad(denoiser(leaf + 0, LEVEL).sum(), leaf)  # the counter takes no leaf
    pairs = {PLAIN: plain, GUIDED: guided}
    return {name: counter.get_total_flops() / len(x) for name, counter in pairs.items()}


def first_line(error: BaseException) -> str:
    """What an error says, in a line."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"[:160]
