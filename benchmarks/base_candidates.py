"""Which network for the base model, and how trained? Candidates at equal wall time on one thread.

Each candidate differs in one thing from what fit-base takes. It is timed for a few steps, then
trained by the real harness for the number of steps that fills the time, and compared by validation
loss, evaluations per second and KS distances to the validation users: of the KLT's distortion and
of the physical features on average. No contrast is chosen for any. The validation loss is measured
against the Wiener filter of the candidate's own domain, so that of another domain is another unit.

    python -m benchmarks.base_candidates
"""

import argparse
import tempfile
import time
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.harness import Options, parse_arguments, write_result
from channels import (
    ChannelSet,
    Grid,
    audit_space,
    from_audit_space,
    load_channels,
    onto_sphere,
    stack_real,
    to_angular_delay,
    to_complex,
)
from channels.physical_features import features_of_maps
from channels.randomness import seeded_generator
from compressors import in_audit_space, load_compressor
from compressors.optimizers import OptimizerName, build_optimizer
from compressors.plans import Plan
from csi_audit.base import Base, build_denoiser, coefficient_variance, ten_top_deviations
from csi_audit.base_sizes import SMALL
from csi_audit.base_training import BaseRecipe, fit_base
from csi_audit.configs import BASE_PLAN
from csi_audit.denoising_training import NoiseRange
from csi_audit.error_forecast import Weighting
from csi_audit.losses import NmseLoss, in_blocks
from csi_audit.networks import NetworkSpec
from csi_audit.sampling import BaseSampler
from reports.estimates import ks_distance, ks_floor

BLOCK_STEPS = 50


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A recipe under comparison; what is not said is what fit-base takes.

    Attributes:
        change: What differs, for the table.
        network, noise, optimizer, learning_rate, ema_decay, weighting: See `BaseRecipe`, `Plan`.
        mirrored: Whether arrays are mirrored in training.
        domain: Of the maps that the network sees; the noise is white in both.
        one_variance: Whether the preconditioning knows one variance for all coefficients.
    """

    change: str
    network: NetworkSpec = field(default_factory=NetworkSpec)
    noise: NoiseRange = field(default_factory=NoiseRange)
    optimizer: OptimizerName = BASE_PLAN.optimizer
    learning_rate: float = BASE_PLAN.learning_rate
    ema_decay: float = BASE_PLAN.ema_decay
    weighting: Weighting = "forecast"
    mirrored: bool = True
    domain: Literal["angular-delay", "antenna-frequency"] = "angular-delay"
    one_variance: bool = False

    def seen(self, channels: ChannelSet) -> ChannelSet:
        """The users as this candidate is trained on them."""
        grid = channels.grid
        if not self.mirrored:  # as a column of the same elements, which is left as it stands
            grid = replace(grid, panel=(1, channels.n_tx, 1))
        if self.domain == "angular-delay":
            return replace(channels, grid=grid)
        return from_audit_space(stack_real(channels.h), grid, source=channels.source)

    def drawn(self, x: torch.Tensor) -> torch.Tensor:
        """Samples of its base, as `seen` leaves the users, in audit space."""
        if self.domain == "angular-delay":
            return x
        return stack_real(to_angular_delay(to_complex(x)))


def _mixer(**options: int) -> NetworkSpec:
    return NetworkSpec(name="axial_mixer", options=tuple(options.items()))


CANDIDATES = (
    Candidate(change="none"),
    Candidate(change="even weights", weighting="even"),
    Candidate(change="AdamW", optimizer="adamw", learning_rate=4e-3),
    Candidate(change="AdamW, even weights", optimizer="adamw", learning_rate=4e-3,
              weighting="even"),
    Candidate(change="hidden 128", network=_mixer(hidden=128)),
    Candidate(change="depth 12", network=_mixer(depth=12)),
    Candidate(change="small", network=SMALL),
    Candidate(change="channels 16", network=_mixer(channels=16)),
    Candidate(change="noise around 2", noise=NoiseRange(mean=0.7)),
    Candidate(change="noise deviation 1.2", noise=NoiseRange(deviation=1.2)),
    Candidate(change="averaged over 100 steps", ema_decay=0.99),
    Candidate(change="one variance", one_variance=True),
    Candidate(change="not mirrored", mirrored=False),
    Candidate(change="antenna-frequency, not mirrored", mirrored=False, domain="antenna-frequency"),
    Candidate(change="tap_transformer", network=NetworkSpec(name="tap_transformer")),
    Candidate(change="unet", network=NetworkSpec(name="unet"), optimizer="adamw",
              learning_rate=2e-3),  # its convolutions are none of Muon's matrices
)  # fmt: skip


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--seconds", type=float, default=120.0, help="training time of each candidate")
    names = [c.change for c in CANDIDATES]
    add("--changes", nargs="+", default=names, choices=names, metavar="CHANGE")
    add("--samples", type=int, default=1000, help="base samples for the KS distance")
    add("--steps", type=int, default=30, help="steps of the 2M ODE")


def _rate(
    network: NetworkSpec, x: torch.Tensor, *, bf16: bool, train: OptimizerName | None = None
) -> float:
    """Samples per second in batches of 128: forward, or whole steps of an optimizer."""
    denoiser = build_denoiser(network, coefficient_variance(x))
    optimizer = None if train is None else build_optimizer(train, denoiser, 1e-4)
    batch, sigma, made = x[:128], torch.ones(128), 0
    began = time.perf_counter()
    while made < 3 or time.perf_counter() - began < 3.0:
        with (
            torch.autocast("cpu", torch.bfloat16, enabled=bf16),
            torch.set_grad_enabled(optimizer is not None),
        ):
            error = (denoiser(batch, sigma) - batch).square().mean()
        if optimizer is not None:
            error.backward()
            optimizer.step()
        made += 1
    return 128 * made / (time.perf_counter() - began)


def _row(
    candidate: Candidate, channels: ChannelSet, validation: ChannelSet, options: Options
) -> dict[str, Any]:
    network, seen = candidate.network, candidate.seen(channels)
    x = audit_space(seen.subset(slice(0, 1000)))
    trained = _rate(network, x, train=candidate.optimizer, bf16=True)
    blocks = max(2, round(options.own.seconds * trained / 128 / BLOCK_STEPS))
    plan = Plan(
        steps=blocks * BLOCK_STEPS,
        block_steps=BLOCK_STEPS,
        learning_rate=candidate.learning_rate,
        optimizer=candidate.optimizer,
        ema_decay=candidate.ema_decay,
        precision="bf16-mixed",
        seed=options.seed,
    )
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        base = fit_base(
            seen,
            candidate.seen(validation),
            folder=folder,
            recipe=BaseRecipe(
                network=network,
                noise=candidate.noise,
                plan=plan,
                weighting=candidate.weighting,
            ),
            start=_flat_start(network, x, seen.grid) if candidate.one_variance else None,
            device="cpu",
            progress=False,
        )
    seconds = time.perf_counter() - began
    distortion, features = _ks(base, candidate, validation, options)
    return {
        "change": candidate.change,
        "network": network.name,
        "options": dict(network.options),
        "optimizer": plan.optimizer,
        "weighting": candidate.weighting,
        "parameters": sum(p.numel() for p in base.denoiser.parameters()),  # type: ignore[attr-defined]
        "seconds": round(seconds, 1),
        "steps": plan.steps,
        "learning_rate": plan.learning_rate,
        "evaluations_per_s_float32": round(_rate(network, x, bf16=False)),
        "evaluations_per_s_bf16": round(_rate(network, x, bf16=True)),
        "training_samples_per_s_bf16": round(trained),
        "validation_loss": base.card["validation_loss"],
        "ks_klt_distortion": round(distortion, 4),
        "ks_features": round(features, 4),
    }


def _flat_start(network: NetworkSpec, x: torch.Tensor, grid: Grid) -> Base:
    """Fresh weights behind one variance: the preconditioning of Karras et al., 2022."""
    flat = torch.full_like(x[0], float(x.square().mean()))
    return Base(denoiser=build_denoiser(network, flat), variance=flat, sigma_min=0.01,
                sigma_max=ten_top_deviations(x), grid=grid, network=network)  # fmt: skip


def _ks(
    base: Base, candidate: Candidate, validation: ChannelSet, options: Options
) -> tuple[float, float]:
    """KS distance of the KLT's distortion, and the mean one of the features."""
    sampler = BaseSampler(base, steps=options.own.steps)
    drawn = sampler(options.own.samples, generator=seeded_generator(options.seed, "candidates"))
    pair = (onto_sphere(candidate.drawn(drawn.x)), audit_space(validation))
    loss = NmseLoss(in_audit_space(load_compressor("klt-16").compressor))
    sides = [features_of_maps(x, validation.grid) for x in pair]
    features = [ks_distance(sides[0][name].numpy(), sides[1][name].numpy()) for name in sides[1]]
    return ks_distance(*(in_blocks(loss, x).numpy() for x in pair)), float(np.mean(features))


def main() -> None:
    """Train each candidate, write `benchmarks/results/base_candidates.json`."""
    options = parse_arguments("base_candidates", description=__doc__, add_own=_add_own)
    channels = load_channels(str(options.channels_path("train")))
    # Never the test split: these users select weights and architecture.
    validation = load_channels(str(options.channels_path("val")))
    chosen = [c for c in CANDIDATES if c.change in options.own.changes]
    rows = []
    for candidate in chosen:
        rows.append(_row(candidate, channels, validation, options))
        print(f"{candidate.change}: loss {rows[-1]['validation_loss']:.4f}", flush=True)
    floor = ks_floor(options.own.samples, len(validation))
    sizes = {
        "seconds_each": options.own.seconds,
        "base_samples": options.own.samples,
        "real_users": len(validation),
        "ks_of_a_perfect_model": round(floor.mean, 4),
    }
    write_result(options, sizes=sizes, rows=rows, checks=[])


if __name__ == "__main__":
    main()
