"""Training of neural compressors: start at the KLT, minimise the NMSE of each channel.

The loop, its checkpoints and its exact resume are compressors.harness_training's.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels.channel_set import ChannelSet, Source
from channels.run_folder import claim_folder
from channels.shuffled import training_users, validation_users
from channels.support import CsiAuditError
from channels.symmetry import random_symmetry
from channels.unions import JoinedSource
from compressors.audit_space import in_audit_space
from compressors.bit_matched import BIT_MATCHED, fit_to_bits
from compressors.half_precision import rounded_to_half
from compressors.harness_training import TrainedModule, Training, train
from compressors.klt import Klt
from compressors.linear_reference import SAME_BITS, SAME_LENGTH, klt_beside
from compressors.linear_start import LinearStart
from compressors.metrics import feedback_bits, nmse, nmse_db
from compressors.neural import CompressorNetwork
from compressors.plans import COMPRESSOR_PLAN, Plan
from compressors.quantised_klt import QuantisedKlt
from compressors.zoo import CompressorSpec, save_compressor

HALF_LIMIT_DB = 0.01
"""Weights are shipped as float16 where that moves the validation NMSE by less."""


@dataclass(frozen=True, kw_only=True)
class CompressorRecipe:
    """Everything that fixes a compressor besides its data.

    Attributes:
        arch: "csinet", "crnet", "clnet", "acrnet", "transnet", "conv-fsq", "klt", or a name of
            `bit_matched.BIT_MATCHED`.
        ratio: Compression ratio 2 n_rx n_tx n_delay / n_code; not used by those fitted to bits.
        bits: Budget of a codeword, for those of `BIT_MATCHED` and for these alone.
        plan: Steps and rates; not used by what is fitted in one go.
        augment: Whether to train under the symmetries of the law (phase, array flip).
        options: Of the architecture: expansion of acrnet, levels of conv-fsq.
    """

    arch: str
    ratio: int = 16
    bits: int | None = None
    plan: Plan = COMPRESSOR_PLAN
    augment: bool = True
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if (self.bits is not None) != (self.arch in BIT_MATCHED):
            raise CsiAuditError(
                f"bits must be given for {', '.join(BIT_MATCHED)}, and for these alone; got "
                f"{self.bits} for {self.arch}."
            )

    @property
    def trained(self) -> bool:
        """Whether steps are taken; linear codes and codebooks are fitted in one go."""
        return self.arch != "klt" and self.bits is None


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
    if recipe.arch == "beam-codebook" and not channels.grid.is_ula:
        raise CsiAuditError("beam-codebook is for a single row of antennas; these have a panel.")
    network, spec = _started(recipe, x)
    described = _describe(spec, recipe, channels, validation)
    folder = Path(folder)
    training = None
    if recipe.trained:
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
    else:
        claim_folder(folder, described)
    described["users"] = {"train": len(channels), "validation": len(x_validation)}
    described["scenarios"] = known_scenarios(channels.source)
    moved_db = round_to_half(network, x_validation)
    described["float16_moves_nmse_by_db"] = moved_db
    card = _card(described, network, training, x, x_validation)
    path = folder / "compressor.safetensors"
    seconds = None if training is None else training.seconds
    spent = {} if seconds is None else {"training_seconds": round(seconds), "device": device}
    half = moved_db is not None
    save_compressor(path, network, spec, card=card, circumstances=spent, half=half)
    return path


def known_scenarios(source: Source) -> list[str]:
    """Scenarios that training channels are of, as far as their files say; several of a mixture."""
    parts = source.parts if isinstance(source, JoinedSource) else (source,)
    return sorted({part.scenario for part in parts if part.scenario})


@torch.inference_mode()
def round_to_half(network: CompressorNetwork, x: Tensor) -> float | None:
    """Round all weights to float16, if the mean NMSE on x moves by less than HALF_LIMIT_DB.

    Returns:
        By how much it moved [dB]; None where the weights were left as they are.
    """
    network.eval()
    before = nmse(x, in_audit_space(network)(x)).mean()
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    rounded = rounded_to_half(kept)
    if rounded is not None:
        network.load_state_dict(rounded)
        moved = float(nmse_db(nmse(x, in_audit_space(network)(x)).mean() / before))
        if abs(moved) < HALF_LIMIT_DB:
            return round(moved, 5)
        network.load_state_dict(kept)
    return None


def _started(recipe: CompressorRecipe, x: Tensor) -> tuple[CompressorNetwork, CompressorSpec]:
    """The network at its start: fitted in one go, or a net that computes the KLT."""
    event_shape = (x.shape[1], x.shape[2], x.shape[3])
    if recipe.bits is not None:
        fitted = fit_to_bits(recipe.arch, x, recipe.bits)
        options = tuple(fitted.options.items())
        return fitted, CompressorSpec(
            arch=recipe.arch, n_code=fitted.n_code, event_shape=event_shape, options=options
        )
    spec = CompressorSpec.for_ratio(
        recipe.arch, recipe.ratio, event_shape=event_shape, options=recipe.options
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.plan.seed)
        network = spec.build()
    if isinstance(network, Klt):
        return network.fit(x), spec
    network.start_from(_klt_start(_klt_of(spec.n_code, x), x))
    return network, spec


def _klt_of(n_code: int, x: Tensor) -> Klt:
    """The KLT of that code length, or of the next shorter one that is even, fitted to x."""
    n_rx, n_tx, n_delay = x.shape[1] // 2, x.shape[2], x.shape[3]
    even = max(2, min(n_code - n_code % 2, x[0].numel()))
    return Klt(even, n_tx=n_tx, n_delay=n_delay, n_rx=n_rx).fit(x)


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
        **({"ratio": recipe.ratio} if recipe.bits is None else {"budget_bits": recipe.bits}),
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
    """Recipe, curve and validation figures, with the KLT of equal length or bits beside them."""
    network.eval()
    error = nmse(x_validation, in_audit_space(network)(x_validation))
    bits = _bits(network, x_validation)
    card: dict[str, Any] = {
        **described,
        "validation_nmse_db": round(float(nmse_db(error.mean())), 3),
        "validation_nmse_db_quantiles": {
            str(q): round(float(nmse_db(error.quantile(q))), 3) for q in (0.5, 0.9, 0.95, 0.99)
        },
        **_linear_figure(described, network, bits, x, x_validation),
        "parameters": sum(p.numel() for p in network.parameters()),
        "bits": bits,
    }
    reference = klt_beside(card)
    if reference is not None:
        card["beats_klt"] = card["validation_nmse_db"] < reference[1] - 0.01
    if training is None:
        return {k: v for k, v in card.items() if k not in ("plan", "augment")}
    batch = described["plan"]["batch_size"]
    card["curve"] = [
        [int(row["step"]) * batch, round(10 * _log10(row["val_loss"]), 4)] for row in training.curve
    ]
    card["curve_columns"] = ["sample passes", "validation NMSE [dB]"]
    card["selected_step"] = int(training.best["step"])
    return card


def _linear_figure(
    described: dict[str, Any],
    network: CompressorNetwork,
    bits: int | None,
    x: Tensor,
    x_validation: Tensor,
) -> dict[str, float]:
    """NMSE [dB] of the KLT fitted to x, by its key: of as many bits where the code has bits.

    The bits are the budget, or what a codeword takes at most; a quantised KLT stands alone.
    """
    if isinstance(network, QuantisedKlt):
        return {}
    if bits is None:
        key, reference = SAME_LENGTH, _klt_of(network.n_code, x)(x_validation)
    else:
        budget = described.get("budget_bits", bits)
        key, reference = SAME_BITS, fit_to_bits("klt-quantised", x, budget)(x_validation)
    return {key: round(float(nmse_db(nmse(x_validation, reference).mean())), 3)}


def _bits(network: CompressorNetwork, x: Tensor) -> int | None:
    """Most bits of a codeword; None where the code is not quantised."""
    bits = feedback_bits(network, in_audit_space(network).codeword(x))
    return None if bits is None else int(bits.max())


def _log10(value: float) -> float:
    return float(torch.tensor(value, dtype=torch.float64).log10())
