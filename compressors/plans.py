"""How long and how fast to train: `Plan`, and the plan the compressors of the zoo are trained by.

Free of lightning, so that the settings of a command can take their defaults from here.
"""

from dataclasses import dataclass
from typing import Literal

from channels.support import CsiAuditError
from compressors.optimizers import OptimizerName


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How long and how fast to train.

    Attributes:
        steps: Optimizer steps; a multiple of block_steps.
        block_steps: Steps between validations and checkpoints: what an interruption can cost.
        batch_size: Samples a step and device.
        learning_rate: Peak of a cosine schedule with linear warm-up.
        warmup_steps: Steps of the warm-up.
        ema_decay: Decay a step of the exponential moving average of the weights.
        gradient_clip: Largest gradient norm; None clips nothing.
        seed: Fixes initial weights, batches, augmentation and noise.
        optimizer: "adamw", or "muon": see compressors.optimizers.
        precision: Lightning's name, for example "32-true" or "bf16-mixed".
    """

    steps: int
    block_steps: int = 500
    batch_size: int = 128
    learning_rate: float = 2e-3
    warmup_steps: int = 100
    ema_decay: float = 0.999
    gradient_clip: float | None = 1.0
    seed: int = 0
    optimizer: OptimizerName = "adamw"
    precision: Literal["32-true", "bf16-mixed"] = "32-true"

    def __post_init__(self) -> None:
        for name in ("steps", "block_steps", "batch_size"):
            if getattr(self, name) < 1:
                raise CsiAuditError(f"{name} must be at least 1; got {getattr(self, name)}.")
        if self.steps % self.block_steps:
            raise CsiAuditError(
                f"steps must be a multiple of block_steps; got {self.steps} and "
                f"{self.block_steps}. Round steps to {self.steps // self.block_steps + 1} blocks."
            )
        if not 0 < self.ema_decay < 1:
            raise CsiAuditError(f"ema_decay must lie in (0, 1); got {self.ema_decay}.")


COMPRESSOR_PLAN = Plan(
    steps=3_200, block_steps=80, batch_size=200, learning_rate=2e-3, ema_decay=0.995
)
