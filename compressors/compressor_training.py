"""Training of neural compressors: start at the KLT, minimise the NMSE of each channel.

The loop, its checkpoints and its exact resume are compressors.harness_training's.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels.channel_set import ChannelSet
from channels.run_folder import claim_folder
from channels.shuffled import training_users, validation_users
from channels.symmetry import random_symmetry
from compressors.audit_space import in_audit_space
from compressors.harness_training import TrainedModule, Training, train
from compressors.klt import Klt
from compressors.linear_start import LinearStart
from compressors.metrics import nmse, nmse_db
from compressors.neural import CompressorNetwork
from compressors.plans import COMPRESSOR_PLAN, Plan
from compressors.zoo import CompressorSpec, save_compressor


@dataclass(frozen=True, kw_only=True)
class CompressorRecipe:
    """Everything that fixes a compressor besides its data.

    Attributes:
        arch: "csinet", "crnet", "clnet", "acrnet", "transnet", "conv-fsq" or "klt".
        ratio: Compression ratio 2 n_rx n_tx n_delay / n_code.
        plan: Steps and rates; not used by the KLT.
        augment: Whether to train under the symmetries of the law (phase, array flip).
        options: Of the architecture: expansion of acrnet, levels of conv-fsq.
    """

    arch: str
    ratio: int = 16
    plan: Plan = COMPRESSOR_PLAN
    augment: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)


class CompressorModule(TrainedModule):
    """loss = mean_n ||x_n - x_hat_n||^2 / ||x_n||^2 on unit-power channels, linear."""

    network: CompressorNetwork

    def __init__(
        self, network: CompressorNetwork, plan: Plan, *, augment: bool, flip: bool = True
    ) -> None:
        super().__init__(network, plan)
        self.augment, self.flip = augment, flip

    def loss(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        x = random_symmetry(x, generator=generator, flip=self.flip) if self.augment else x
        return nmse(x, in_audit_space(self.network)(x)).mean().float()

    def validation_loss(self, x: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        return {"loss": nmse(x, in_audit_space(self.network)(x)).float()}


def fit_compressor(
    channels: ChannelSet,
    validation: ChannelSet,
    *,
    folder: str | Path,
    recipe: CompressorRecipe,
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Train a compressor; resumes from `folder` if a training was interrupted there.

    Args:
        channels: Training users.
        validation: Other users, for the selection of weights.
        folder: Training state and the result, `compressor.safetensors`.
        recipe: Architecture, ratio, steps.
        device: "auto", "cpu" or "cuda".
        progress: Whether to show a progress bar.
    Returns:
        Path of the weights file, to be named as `--compressor`.
    Raises:
        CsiAuditError: unknown architecture or ratio, or the folder belongs to another recipe.
    """
    users, x = training_users(channels, seed=recipe.plan.seed)
    x_validation = validation_users(validation, like=x, seed=recipe.plan.seed)
    spec = CompressorSpec.for_ratio(
        recipe.arch,
        recipe.ratio,
        event_shape=(x.shape[1], x.shape[2], x.shape[3]),
        options=recipe.options,
    )
    network = _started(spec, x, recipe.plan.seed)
    described = _describe(spec, recipe, channels, validation)
    folder = Path(folder)
    if isinstance(network, Klt):
        claim_folder(folder, described)
        training = None
    else:
        training = train(
            CompressorModule(
                network, recipe.plan, augment=recipe.augment, flip=channels.grid.is_ula
            ),
            users,
            x_validation,
            folder=folder,
            recipe=described,
            device=device,
            progress=progress,
        )
        network.load_state_dict(training.weights)
    described["users"] = {"train": len(channels), "validation": len(x_validation)}
    card = _card(described, network, training, x, x_validation)
    path = folder / "compressor.safetensors"
    save_compressor(path, network, spec, card=card)
    return path


def _started(spec: CompressorSpec, x: Tensor, seed: int) -> CompressorNetwork:
    """The network at its start: the KLT itself, or a net that computes it."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = spec.build()
    if isinstance(network, Klt):
        return network.fit(x)
    _, channels, n_tx, n_delay = x.shape
    klt = Klt(spec.n_code, n_tx=n_tx, n_delay=n_delay, n_rx=channels // 2).fit(x)
    network.start_from(_klt_start(klt, x))
    return network


def _klt_start(klt: Klt, x: Tensor) -> LinearStart:
    """The KLT with the figures of unit-power channels x that nets start by."""
    z = klt.encode(x[:2000])
    kept = 1.0 - float(nmse(x[:2000], klt.decode(z)).mean())
    deviation = z.square().mean(dim=0).sqrt().clamp_min(1e-6)  # 0 where x has few directions
    return LinearStart(basis=klt.real_rows(), variance=0.5, kept=kept, deviation=deviation)


def _describe(
    spec: CompressorSpec, recipe: CompressorRecipe, data: ChannelSet, validation: ChannelSet
) -> dict[str, Any]:
    return {
        "what": "compressor",
        "compressor": spec.to_dict(),
        "ratio": recipe.ratio,
        "data": data.source.identity(),
        "validation": validation.source.identity(),
        "read_as": data.read_as(),
        "augment": recipe.augment,
        "plan": asdict(recipe.plan),
    }


@torch.inference_mode()
def _card(
    described: dict[str, Any],
    network: CompressorNetwork,
    training: Training | None,
    x: Tensor,
    x_validation: Tensor,
) -> dict[str, Any]:
    """Recipe, curve and validation figures, with the KLT of equal code length beside them."""
    network.eval()
    error = nmse(x_validation, in_audit_space(network)(x_validation))
    n_rx, n_tx, n_delay = x.shape[1] // 2, x.shape[2], x.shape[3]
    linear = Klt(network.n_code, n_tx=n_tx, n_delay=n_delay, n_rx=n_rx).fit(x)
    reference = nmse(x_validation, linear(x_validation))
    card: dict[str, Any] = {
        **described,
        "validation_nmse_db": round(float(nmse_db(error.mean())), 3),
        "validation_nmse_db_quantiles": {
            str(q): round(float(nmse_db(error.quantile(q))), 3) for q in (0.5, 0.9, 0.95, 0.99)
        },
        "klt_same_code_length_nmse_db": round(float(nmse_db(reference.mean())), 3),
        "parameters": sum(p.numel() for p in network.parameters()),
    }
    card["beats_klt"] = card["validation_nmse_db"] < card["klt_same_code_length_nmse_db"] - 0.01
    if training is None:
        return {k: v for k, v in card.items() if k not in ("plan", "augment")}
    batch = described["plan"]["batch_size"]
    card["curve"] = [
        [int(row["step"]) * batch, round(10 * _log10(row["val_loss"]), 4)] for row in training.curve
    ]
    card["curve_columns"] = ["sample passes", "validation NMSE [dB]"]
    card["selected_step"] = int(training.best["step"])
    return card


def _log10(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).log10())
