"""What a person sees of a training: a bar with the latest figures, or a line a block.

The loop lives in compressors.harness_training; nothing here changes it.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import lightning
from lightning.pytorch.callbacks import Callback, RichProgressBar

from compressors.plans import Plan


class Curve(Protocol):
    """Holds the curve of a training: a row a block with `step`, `val_loss` and other figures."""

    curve: list[dict[str, float]]


def latest_figures(curve: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The latest value of each figure; some are taken every few blocks only.

    >>> latest_figures([{"step": 5, "val_loss": 0.8, "ks": 0.2}, {"step": 10, "val_loss": 0.7}])
    {'val_loss': 0.7, 'ks': 0.2}
    """
    found = {name: value for row in curve for name, value in row.items()}
    return {name: value for name, value in found.items() if name != "step"}


class BlockBar(RichProgressBar):
    """Lightning's progress bar, counting blocks of the plan, with the latest figures of a block."""

    def __init__(self, plan: Plan, end: Curve) -> None:
        super().__init__(leave=True)
        self.plan, self.end = plan, end

    def get_metrics(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> dict[str, Any]:
        found = super().get_metrics(trainer, pl_module)
        own = {k: f"{v:.3f}" for k, v in latest_figures(self.end.curve).items() if "val_" not in k}
        return {**{k: v for k, v in found.items() if k != "v_num"}, **own}

    def _get_train_description(self, current_epoch: int) -> str:
        done = self.trainer.global_step // self.plan.block_steps
        return f"Block {done + 1}/{self.plan.steps // self.plan.block_steps}"


class BlockLines(Callback):
    """In place of the bar where no terminal is: a line a block."""

    def __init__(self, plan: Plan, end: Curve) -> None:
        self.plan, self.end = plan, end
        self._said = 0

    def on_train_epoch_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._say(trainer)

    def on_train_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._say(trainer)

    def _say(self, trainer: lightning.Trainer) -> None:
        done = trainer.global_step // self.plan.block_steps
        if not trainer.is_global_zero or not self.end.curve or done == self._said:
            return
        self._said = done
        words = ", ".join(f"{k} {v:.4f}" for k, v in self.end.curve[-1].items() if k != "step")
        print(f"Block {done}/{self.plan.steps // self.plan.block_steps}: {words}", flush=True)
