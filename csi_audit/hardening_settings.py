"""Settings of `csi-audit harden`."""

from dataclasses import dataclass
from typing import Literal

from channels.support import CsiAuditError
from compressors.optimizers import OptimizerName
from csi_audit.configs import Device, ReadingConfig
from csi_audit.setting_checks import at_least, check_rate
from reports.hardening import MOST_LOST_DB


@dataclass(frozen=True, kw_only=True)
class HardenConfig(ReadingConfig):
    """Settings of the hardening of a compressor: fine-tuning on a mix with importance samples.

    The defaults are for a net of the zoo that was trained to the end: weights on the worst
    twentieth of the users, and enough steps to learn them. What the mean would lose beyond
    `most_lost_db` is taken back by mixing in the weights as they came.

    Attributes:
        compressor: A compressor of the zoo: bundled name or weights file.
        data: Training channels of any known format.
        validation: Other users, for the selection of weights; None keeps a tenth of the drops out.
            Name a file if the compressor was trained on the data: users it knows by heart make
            every change of it look bad.
        holdout: Users that before and after are measured on; None keeps another tenth of the
            drops out of the training. Name a file if the compressor was trained on the data.
        run: Finished run directory whose base samples are weighted by NMSE^power, instead of new
            variants.
        base: Base model file or "small" that makes variants; None takes the bundled one.
        variants: Variants of the worst training users to make: new rare channels, so that the few
            known ones are not learned by heart. 0 takes training users alone.
        variant_sigma: Noise that is put on a user and taken off again by the base model; small
            gives the user back, large forgets what is bad about him.
        variant_steps: Steps of the probability-flow ODE, so denoiser evaluations a variant.
        power: Importance samples are drawn in proportion to the compressor's own NMSE^power. At 1
            they are nearly the training channels themselves.
        mix: Their share among the training channels.
        most_lost_db: What the mean NMSE of the validation users may lose [dB].
        out: Training directory; None makes runs/<compressor>-hardened. What was interrupted goes
            on.
        steps: Optimizer steps.
        block_steps: Steps between validations and checkpoints.
        batch_size: Users a step.
        learning_rate: Peak learning rate.
        optimizer: "muon", or "adamw", which learns rare channels more slowly.
        ema_decay: Decay a step of the average of the weights, which is what is kept.
        precision: "32-true", or "bf16-mixed".
        seed: Fixes every random number.
        device: Where the training runs.
        threads: CPU threads of this process; None leaves torch's default.
    """

    compressor: str
    data: str
    validation: str | None = None
    holdout: str | None = None
    run: str | None = None
    base: str | None = None
    variants: int = 10_000
    variant_sigma: float = 2.0
    variant_steps: int = 10
    power: float = 4.0
    mix: float = 0.6
    most_lost_db: float = MOST_LOST_DB
    out: str | None = None
    steps: int = 1000
    block_steps: int = 200
    batch_size: int = 128
    learning_rate: float = 2e-3
    optimizer: OptimizerName = "muon"
    ema_decay: float = 0.99
    precision: Literal["32-true", "bf16-mixed"] = "32-true"
    seed: int = 0
    device: Device = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        at_least(self, "variants", 0)
        at_least(self, "variant_steps", 2)
        check_rate(self.learning_rate)
        if self.run is not None and self.base is not None:
            raise CsiAuditError("run and base exclude each other: weighted samples, or variants.")
