"""Settings of `csi-audit fit-base`."""

from dataclasses import dataclass
from typing import Literal

from channels.channel_set import ChannelSet
from channels.support import CsiAuditError
from channels.unions import join_channels
from compressors.optimizers import OptimizerName
from csi_audit.configs import BASE_PLAN, Device, ReadingConfig
from csi_audit.error_forecast import Weighting
from csi_audit.setting_checks import at_least, check_rate


@dataclass(frozen=True, kw_only=True)
class FitBaseConfig(ReadingConfig):
    """Settings of a base-model training.

    Attributes:
        data: Training channels; several files make one model of all their users.
        validation: Other channels, for the selection of weights and for figures; none keeps a tenth
            of the drops (of the users, where the files know no drops) out of the training.
        out: Training directory; an interrupted training goes on when it is named again.
        adapt: Base model file to begin with, for a new scenario with few users; its network is
            kept. The base is then trained from scratch too, for at most as many steps, and
            compared.
        scratch: Whether to do so with `adapt`.
        network: "axial_mixer", "tap_transformer", "unet", or "small", an axial mixer of a fifth of
            the weights; None takes the usual one.
        steps: Optimizer steps, rounded to whole blocks where block_steps is not given too; None
            chooses them from the number of users.
        block_steps: Steps between validations and checkpoints; None takes about 1/40 of the steps.
        batch_size: Users a step and device; None chooses.
        learning_rate: Peak learning rate, taken as it is, with `adapt` for both trainings; None
            takes the usual, and a quarter of it for a base that begins with `adapt`.
        optimizer: "muon", or "adamw", which wants a lower learning rate (4e-3).
        weighting: "forecast" lets channels with small and with large errors count alike; "even"
            takes the plain mean.
        patience: Blocks after which to stop when the validation loss has stood 0.5 % above its best
            throughout; None trains all steps. A loss that merely stands still stops nothing.
        fidelity_samples: Base samples that each of the fidelity figures on the way is taken from;
            0 takes none.
        contrast_samples: Base samples that each of up to seven contrasts is judged by after it
            (30 denoiser evaluations a sample). With 0, or under 200 validation users, none is
            chosen, and adapt keeps that of its base.
        precision: "bf16-mixed", twice as fast on GPUs and on CPUs with AVX512-bf16, or "32-true".
        seed: Fixes every random number.
        device: Where the training runs.
        devices: Number of devices; a training goes on only with as many as it was begun with.
        threads: CPU threads of this process; None leaves torch's default.
    """

    data: tuple[str, ...]
    validation: tuple[str, ...] = ()
    out: str = "runs/base"
    adapt: str | None = None
    scratch: bool = True
    network: str | None = None
    steps: int | None = None
    block_steps: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    optimizer: OptimizerName = BASE_PLAN.optimizer
    weighting: Weighting = "forecast"
    patience: int | None = 6
    fidelity_samples: int = 256
    contrast_samples: int = 1000
    precision: Literal["bf16-mixed", "32-true"] = BASE_PLAN.precision
    seed: int = 0
    device: Device = "auto"
    devices: int = 1
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("data", "validation"):
            value = getattr(self, name)
            if isinstance(value, str) or (name == "data" and not value):
                raise CsiAuditError(
                    f"{name} must be a tuple of files; got {value!r}. Write "
                    f"({value or 'channels.h5'!r},)."
                )
        at_least(self, "devices", 1)
        at_least(self, "fidelity_samples", 0)
        at_least(self, "contrast_samples", 0)
        for name in ("steps", "block_steps", "batch_size", "patience"):
            if getattr(self, name) is not None:
                at_least(self, name, 1)
        if self.learning_rate is not None:
            check_rate(self.learning_rate)
        if self.adapt is not None and self.network is not None:
            raise CsiAuditError(
                f"network must be left out with adapt, which keeps its own; got {self.network!r}."
            )

    def read_all(self, paths: tuple[str, ...]) -> ChannelSet:
        """The users of some files as one set."""
        return join_channels([self.read(path) for path in paths])
