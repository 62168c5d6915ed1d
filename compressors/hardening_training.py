"""Fine-tuning of a trained compressor on a mix of its channels and of channels it does badly on.

    J(theta) = (1 - m) E_p[L_theta] + m E_q[L_theta],   q(x) = L_0(x)^gamma p(x) / Z

L is the NMSE, L_0 that of the compressor as it came, m the share of importance samples. gamma must
be large: NMSE lies in [0, 1] or so, and with gamma = 1 the worst 1 % of the users are but a few per
cent of q. What the training ends with is then mixed with the weights as they came, as far as the
mean of users kept out allows (compressors.weight_mixing). The loop, its checkpoints and its exact
resume are compressors.harness_training's.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from compressors.audit_space import in_audit_space
from compressors.compressor_training import CompressorModule, round_to_half
from compressors.harness_training import Training, train
from compressors.klt import Klt
from compressors.loading import NamedCompressor
from compressors.metrics import nmse
from compressors.neural import CompressorNetwork
from compressors.plans import Plan
from compressors.weight_mixing import (
    MixedWeights,
    between,
    chosen_share,
    mixed_weights,
    own_nmse,
)
from compressors.zoo import CompressorSpec, save_compressor


@dataclass(frozen=True, kw_only=True)
class HardeningRecipe:
    """How a compressor is hardened.

    Attributes:
        plan: Steps and rates.
        power: gamma of q; 1 prefers channels in proportion to their NMSE, 4 draws mostly from the
            worst twentieth of them.
        mix: m, share of importance samples among the training channels; 0 is plain further
            training, the control.
        generated: Share of the importance samples that the base model made, the rest being training
            users drawn by NMSE^gamma, which are few and soon known by heart.
        flip: Whether the array's flip is a symmetry of the channels: one row of antennas.
        most_lost_db: What the mean NMSE of the validation users may lose [dB], at the upper end of
            its interval, when weights are mixed.
    """

    plan: Plan
    power: float = 4.0
    mix: float = 0.6
    generated: float = 0.75
    flip: bool = True
    most_lost_db: float = 0.1

    def __post_init__(self) -> None:
        if not 0 <= self.mix < 1:
            raise CsiAuditError(f"mix must lie in [0, 1); got {self.mix}. 0.6 is usual.")
        if not 0 < self.power <= 8:
            raise CsiAuditError(f"power must lie in (0, 8]; got {self.power}. 4 is usual.")
        if not 0 <= self.generated <= 1:
            raise CsiAuditError(f"generated must lie in [0, 1]; got {self.generated}.")
        if not 0 <= self.most_lost_db <= 3:
            raise CsiAuditError(
                f"most_lost_db must lie in [0, 3] dB; got {self.most_lost_db}. 0.1 is usual."
            )

    def importance_samples(self, n: int) -> int:
        """m/(1-m) n, how many are mixed with n training channels."""
        return round(self.mix / (1 - self.mix) * n)


class HardeningModule(CompressorModule):
    """The mean NMSE over the mixed channels; selected by J on real users that are kept out.

    Args:
        network: Under training.
        plan: Steps and rates.
        before: The compressor as it came, for the weights of the validation users.
        mean_weight: Mean of L_0^gamma over these.
        recipe: Share and power.
    """

    def __init__(
        self,
        network: CompressorNetwork,
        plan: Plan,
        *,
        before: CompressorNetwork,
        mean_weight: float,
        recipe: HardeningRecipe,
    ) -> None:
        super().__init__(network, plan, augment=True, flip=recipe.flip)
        self.__dict__["before"] = before  # no submodule: neither trained nor saved
        self.mean_weight, self.recipe = mean_weight, recipe

    def validation_loss(self, x: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        error = nmse(x, in_audit_space(self.network)(x))
        before = nmse(x.cpu(), in_audit_space(self.__dict__["before"])(x.cpu())).to(error.device)
        weight = before.pow(self.recipe.power) / self.mean_weight
        mixed = 1 - self.recipe.mix + self.recipe.mix * weight
        return {"loss": (mixed * error).float(), "mean": error.float()}


def zoo_network(named: NamedCompressor) -> tuple[CompressorNetwork, CompressorSpec]:
    """A trainable copy of a compressor of the zoo, and what builds it.

    Raises:
        CsiAuditError: it is none, or a linear code, which is fitted in one go.
    """
    network, described = named.compressor, named.card.get("compressor")
    if not isinstance(network, CompressorNetwork) or not isinstance(described, Mapping):
        raise CsiAuditError(
            f"{named.name} cannot be hardened: it is no network of the zoo. Use its own training "
            "code on exported failures (csi-audit export-failures)."
        )
    spec = CompressorSpec.from_dict(dict(described))
    if isinstance(network, Klt) or not any(p.numel() for p in network.parameters()):
        raise CsiAuditError(
            f"{named.name} cannot be hardened: {spec.arch} is fitted in one go and takes no steps."
        )
    copy = deepcopy(network).requires_grad_(True)
    return copy, spec


def mixed_channels(
    x: Tensor,
    x_q: Tensor | None,
    *,
    before: CompressorNetwork,
    recipe: HardeningRecipe,
) -> Tensor:
    """Training channels with the importance samples behind them, rows to draw evenly from.

    Of m/(1-m) N importance samples, `generated` come from x_q, drawn evenly, and the rest from the
    training channels, drawn by L_0^gamma, both with replacement.

    Args:
        x: Training channels (N, 2 n_rx, n_tx, n_delay).
        x_q: Samples of q that a base model made, same shape; None draws from the training alone.
        before: The compressor as it came.
        recipe: Power, mix and share.
    """
    count = recipe.importance_samples(len(x))
    made = 0 if x_q is None else round(recipe.generated * count)
    parts = [x]
    if count > made:
        weight = own_nmse(before, x).pow(recipe.power)
        generator = seeded_generator(recipe.plan.seed, "harden", "real")
        parts.append(x[torch.multinomial(weight, count - made, True, generator=generator)])
    if x_q is not None and made > 0:
        generator = seeded_generator(recipe.plan.seed, "harden", "generated")
        parts.append(x_q[torch.randint(len(x_q), (made,), generator=generator)])
    return torch.cat(parts)


def harden_network(
    named: NamedCompressor,
    x: Tensor,
    x_validation: Tensor,
    *,
    x_q: Tensor | None,
    folder: str | Path,
    recipe: HardeningRecipe,
    described: Mapping[str, Any],
    device: str = "auto",
    progress: bool = True,
) -> Path:
    """Fine-tune a compressor; resumes from `folder` if that was interrupted there.

    Args:
        named: Of the zoo.
        x: Training channels, audit space, unit power.
        x_validation: Other real users, for the selection of weights.
        x_q: Importance samples that a base model made; None without any.
        folder: Training state and the result, `compressor.safetensors`.
        recipe: How.
        described: What else fixes the result: hashes of the data; goes into the card.
        device: "auto", "cpu" or "cuda".
        progress: Whether to show a progress bar.
    Returns:
        Path of the weights file, to be named as `--compressor`.
    """
    network, spec = zoo_network(named)
    before, _ = zoo_network(named)
    before.eval().requires_grad_(False)
    data = mixed_channels(x, x_q, before=before, recipe=recipe)
    mean_weight = float(own_nmse(before, x_validation).pow(recipe.power).mean())
    said = {
        "what": "hardened compressor",
        "compressor": spec.to_dict(),
        "hardened_from": {"name": named.name, "sha256": named.sha256},
        **described,
        "recipe": {key: value for key, value in asdict(recipe).items() if key != "plan"},
    }
    network.train()
    training = train(
        HardeningModule(
            network, recipe.plan, before=before, mean_weight=mean_weight, recipe=recipe
        ),
        data,
        x_validation,
        folder=folder,
        recipe=said,
        device=device,
        progress=progress,
    )
    steps = mixed_weights(network, before, training.weights, x_validation, recipe.most_lost_db)
    share = chosen_share(steps)
    network.load_state_dict(between(before.state_dict(), training.weights, share))
    network.eval()
    moved = round_to_half(network, x_validation) if share else None
    card = {**said, "plan": asdict(recipe.plan), **_curve(training), **_mixing(steps)}
    card |= {"scenarios": _scenarios(named), "float16_moves_nmse_by_db": moved}
    path = Path(folder) / "compressor.safetensors"
    save_compressor(path, network, spec, card=card, half=moved is not None)
    return path


def _curve(training: Training) -> dict[str, Any]:
    return {
        "curve": [[int(row["step"]), row["val_loss"], row["val_mean"]] for row in training.curve],
        "curve_columns": ["step", "validation objective", "validation mean NMSE"],
        "selected_step": int(training.best["step"]),
    }


def _mixing(steps: Sequence[MixedWeights]) -> dict[str, Any]:
    rows = [(s.share, s.mean_db, s.most_db, s.worst_db) for s in steps]
    return {
        "mixing": [[round(value, 4) for value in row] for row in rows],
        "mixing_columns": [
            "share of the trained weights",
            "validation mean NMSE, after - before [dB]",
            "its upper end",
            "mean of the worst 5 %, after - before [dB]",
        ],
        "trained_share": chosen_share(steps),
    }


def _scenarios(named: NamedCompressor) -> list[str]:
    return list(named.card.get("scenarios") or ())
