"""The one training harness of the house: Lightning with EMA, blocks, exact resume and progress.

A block is a fixed number of optimizer steps, run as one Lightning epoch: validation and the
checkpoint stand at its end. Batch indices, augmentation and noise of step s come from a generator
named (seed, s), so a resumed training needs no loader state and ends byte-equal to one that was
never interrupted. What is trained, its loss and its data come from the caller.
"""

import logging
import math
import sys
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, TypedDict

import lightning
import torch
from lightning.pytorch.callbacks import Callback, Checkpoint, WeightAveraging
from lightning.pytorch.plugins.io import TorchCheckpointIO
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from channels.randomness import seeded_generator
from channels.run_folder import claim_folder
from channels.shuffled import ShuffledUsers
from channels.support import CsiAuditError, atomic_write
from compressors.optimizers import build_optimizer
from compressors.plans import Plan
from compressors.progress_training import BlockBar, BlockLines

CHECKPOINT_NAME = "last.ckpt"
BEST_NAME = "best.safetensors"
RISE = 0.005
"""How far, relative, a validation loss must stand above its best for a training to be stopped."""


class Batch(TypedDict):
    """x: training samples (B, ...); step: the optimizer step they belong to."""

    x: Tensor
    step: int


class _StepBatches(IterableDataset[Batch]):
    """Batches of one block of steps from `first` on, a function of (seed, step, rank) alone.

    In memory they are drawn with replacement; a set that streams from its file is passed through.
    """

    def __init__(
        self, data: Tensor | ShuffledUsers, plan: Plan, first: int, rank: int, ranks: int
    ) -> None:
        self.data, self.plan = data, plan
        self.first, self.rank, self.ranks = first, rank, ranks

    def __len__(self) -> int:
        return self.plan.block_steps

    def __iter__(self) -> Iterator[Batch]:
        for step in range(self.first, self.first + self.plan.block_steps):
            yield {"x": self._batch(step), "step": step}

    def _batch(self, step: int) -> Tensor:
        size = self.plan.batch_size
        if isinstance(self.data, ShuffledUsers):
            return self.data.batch(step * self.ranks + self.rank, size)
        generator = seeded_generator(self.plan.seed, "batch", step, self.rank)
        return self.data[torch.randint(len(self.data), (size,), generator=generator)]


class _Batches(lightning.LightningDataModule):
    def __init__(self, train: Tensor | ShuffledUsers, validation: Tensor, plan: Plan) -> None:
        super().__init__()
        self.train_data, self.validation, self.plan = train, validation, plan

    def train_dataloader(self) -> DataLoader[Any]:
        if self.trainer is None:
            raise RuntimeError("the data module runs only inside a Trainer")
        first, rank = self.trainer.global_step, self.trainer.global_rank
        batches = _StepBatches(self.train_data, self.plan, first, rank, self.trainer.world_size)
        return DataLoader(batches, batch_size=None)

    def val_dataloader(self) -> DataLoader[Any]:
        # Batch i of the validation set; i names its noise, so every block sees the same problem.
        pieces = [{"x": x, "step": i} for i, x in enumerate(self.validation.split(256))]
        return DataLoader(pieces, batch_size=None)  # type: ignore[arg-type]


class TrainedModule(lightning.LightningModule):
    """A network under training. Subclasses define the two losses.

    Args:
        network: What is trained and shipped.
        plan: Steps, rates, seed.
    """

    network: nn.Module

    def __init__(self, network: nn.Module, plan: Plan) -> None:
        super().__init__()
        self.network, self.plan = network, plan

    def loss(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        """Training loss of a batch, a scalar; draws augmentation and noise from `generator`."""
        raise NotImplementedError("abstract")

    def validation_loss(self, x: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        """Per-sample figures (B,) of a validation batch; "loss" is the one selected on."""
        raise NotImplementedError("abstract")

    def block_figures(self, network: nn.Module, step: int) -> dict[str, float]:
        """More figures of the averaged network after a block, for the curve and the progress line.

        A function of weights and step alone, so that a resumed training repeats it; none here.
        """
        return {}

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        generator = seeded_generator(self.plan.seed, "noise", batch["step"], self.global_rank)
        loss = self.loss(batch["x"], generator=generator)
        self.log("train", loss.detach(), prog_bar=True, batch_size=len(batch["x"]))
        return loss

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        generator = seeded_generator(self.plan.seed, "validation", batch["step"])
        figures = self.validation_loss(batch["x"], generator=generator)
        for name, value in figures.items():
            self.log(
                f"val_{name}",
                value.mean(),
                prog_bar=name == "loss",
                batch_size=len(value),
                on_epoch=True,
                sync_dist=True,
            )

    def configure_optimizers(self) -> Any:
        plan = self.plan
        optimizer = build_optimizer(plan.optimizer, self, plan.learning_rate)

        def rate(step: int) -> float:
            warm = min(1.0, (step + 1) / max(1, plan.warmup_steps))
            return warm * (0.5 * (1 + math.cos(math.pi * min(1.0, step / plan.steps))) + 1e-3)

        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": schedule, "interval": "step"},
        }


class _Ema(WeightAveraging):
    """w_ema <- d w_ema + (1 - d) w with d = min(decay, (1 + n)/(10 + n)) after n updates."""

    def __init__(self, decay: float) -> None:
        def average(averaged: Tensor, current: Tensor, n: Tensor | int) -> Tensor:
            d = min(decay, (1 + int(n)) / (10 + int(n)))
            if not averaged.is_floating_point():
                return current
            return averaged.lerp(current.to(averaged.device), 1 - d)

        super().__init__(avg_fn=average)

    def averaged_network(self) -> nn.Module:
        if self._average_model is None:
            raise RuntimeError("weight averaging has not begun")
        module = self._average_model.module
        if not isinstance(module, TrainedModule):
            raise TypeError(f"only a TrainedModule is averaged; got {type(module).__name__}")
        return module.network


class _AtomicCheckpointIO(TorchCheckpointIO):
    """A checkpoint appears whole or not at all, so a kill while writing costs one block."""

    def save_checkpoint(self, checkpoint: Any, path: Any, storage_options: Any = None) -> None:
        with atomic_write(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class _BlockEnd(Checkpoint):
    """At the end of each block: curve, best weights so far, checkpoint; in this order, so that a
    repeated block writes the same files again. Keeps the time spent on blocks that count, and ends
    a training whose validation loss has risen for `patience` blocks."""

    def __init__(self, folder: Path, averaged: _Ema, patience: int | None) -> None:
        self.folder, self.averaged, self.patience = folder, averaged, patience
        self.curve: list[dict[str, float]] = []
        self.seconds: float | None = 0.0
        self._since = time.monotonic()

    def on_train_start(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        self._since = time.monotonic()

    def on_train_epoch_end(
        self, trainer: lightning.Trainer, pl_module: lightning.LightningModule
    ) -> None:
        # On a resume Lightning ends the checkpoint's own block once more, without its figures.
        if self.curve and self.curve[-1]["step"] == trainer.global_step:
            trainer.should_stop = has_risen(self.curve, self.patience)
            return
        figures = {k: float(v) for k, v in trainer.callback_metrics.items() if "val_" in k}
        if not all(math.isfinite(value) for value in figures.values()):
            raise CsiAuditError(
                f"the training diverged: {figures} at step {trainer.global_step}. "
                "Start in a new folder with a lower learning rate."
            )
        self.curve.append({"step": float(trainer.global_step), **figures})
        if isinstance(pl_module, TrainedModule):
            network = self.averaged.averaged_network()
            self.curve[-1].update(pl_module.block_figures(network, trainer.global_step))
        if min(self.curve, key=lambda row: row["val_loss"]) is self.curve[-1]:
            self._save_best(trainer)
        now = time.monotonic()
        if self.seconds is not None:
            self.seconds += now - self._since
        self._since = now
        trainer.save_checkpoint(self.folder / CHECKPOINT_NAME, weights_only=False)
        trainer.should_stop = has_risen(self.curve, self.patience)

    def _save_best(self, trainer: lightning.Trainer) -> None:
        if not trainer.is_global_zero:
            return
        state = self.averaged.averaged_network().state_dict()
        weights = {name: value.detach().cpu().clone() for name, value in state.items()}
        with atomic_write(self.folder / BEST_NAME) as temporary:
            save_file(weights, temporary)

    def state_dict(self) -> dict[str, Any]:
        return {"curve": self.curve, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.curve = list(state_dict["curve"])
        self.seconds = state_dict.get("seconds")  # unknown of a training begun before it was kept


def has_risen(curve: Sequence[Mapping[str, float]], patience: int | None) -> bool:
    """Whether a training only gets worse: every one of the last `patience` blocks has a validation
    loss 0.5 % above the best there was.

    A flat stretch is no reason to stop: under a cosine schedule the loss falls again as the rate
    does. A loss that rises is one of learning the training users by heart, which no lower rate
    undoes, and the best weights are kept anyway.

    Args:
        curve: Rows with `val_loss`.
        patience: Blocks; None never stops.
    """
    if patience is None or len(curve) <= patience:
        return False
    losses = [row["val_loss"] for row in curve]
    limit = min(losses) + RISE * abs(min(losses))
    return all(loss > limit for loss in losses[-patience:])


@dataclass(frozen=True, kw_only=True)
class Training:
    """What a finished training gives.

    Attributes:
        weights: The selected ones.
        curve: Validation, a row a block with step and figures.
        seconds: Time spent on it [s], over all its processes; None if not all of it is known.
    """

    weights: dict[str, Tensor]
    curve: list[dict[str, float]]
    seconds: float | None

    @property
    def best(self) -> dict[str, float]:
        """The row of the curve whose weights were selected."""
        return min(self.curve, key=lambda row: row["val_loss"])


def train(
    module: TrainedModule,
    train_data: Tensor | ShuffledUsers,
    validation: Tensor,
    *,
    folder: str | Path,
    recipe: dict[str, Any],
    device: str = "auto",
    devices: int = 1,
    progress: bool = True,
    patience: int | None = None,
) -> Training:
    """Train to the end of the plan, from the folder's last checkpoint if there is one.

    Args:
        module: Network and losses.
        train_data: Audit-space samples (N, ...), float32, on the CPU; or users of a large file.
        validation: The same, for selection only.
        folder: Training state: `config.yaml`, `last.ckpt`, `best.safetensors`.
        recipe: Plain values that fix the result; a folder begun under others is refused.
        device: "auto", "cpu" or "cuda".
        devices: Number of devices; more than one runs Lightning's data-parallel strategy.
        progress: Whether to show the progress bar; without a terminal, a line a block.
        patience: Blocks with a risen validation loss after which to stop (`has_risen`); None stops
            at the end of the plan only.
    Returns:
        Weights with the lowest validation loss among the block ends, averaged over steps (EMA).
    Raises:
        CsiAuditError: the folder cannot be used, or its checkpoint cannot be read.
    """
    plan = module.plan
    folder = claim_folder(folder, {**recipe, "plan": asdict(plan)})
    averaged = _Ema(plan.ema_decay)
    end = _BlockEnd(folder, averaged, patience)
    checkpoint = folder / CHECKPOINT_NAME
    with _quiet():
        trainer = _trainer(plan, averaged, end, device, devices, progress)
    data = _Batches(train_data, validation, plan)
    resumed = checkpoint if checkpoint.is_file() else None
    try:
        with _quiet():
            trainer.fit(module, data, ckpt_path=resumed, weights_only=True)
    except (RuntimeError, EOFError, KeyError, UnpicklingError) as error:
        if resumed is not None and trainer.global_step == 0:
            reason = (str(error).splitlines() or ["it is empty"])[0]
            raise CsiAuditError(
                f"{checkpoint} cannot be read ({reason}). Remove it to start this training anew."
            ) from error
        raise
    return Training(weights=load_file(folder / BEST_NAME), curve=end.curve, seconds=end.seconds)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning without its notices on devices and precision, and one warning about itself."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.WARNING)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*treespec.*", category=FutureWarning)
            for notice in (".*does not have many workers.*", ".*`__len__` defined.*"):
                warnings.filterwarnings("ignore", message=notice)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)


def _trainer(
    plan: Plan, averaged: _Ema, end: _BlockEnd, device: str, devices: int, progress: bool
) -> lightning.Trainer:
    terminal = progress and sys.stdout.isatty()
    shown: list[Callback] = []
    if progress:
        shown = [BlockBar(plan, end) if terminal else BlockLines(plan, end)]
    return lightning.Trainer(
        accelerator=device,
        devices=devices,
        precision=plan.precision,
        max_steps=plan.steps,
        max_epochs=-1,  # after a resume Lightning counts one epoch too many; steps decide
        gradient_clip_val=plan.gradient_clip,
        reload_dataloaders_every_n_epochs=1,
        num_sanity_val_steps=0,
        log_every_n_steps=1_000_000,
        logger=False,
        enable_checkpointing=True,
        enable_progress_bar=terminal,
        enable_model_summary=False,
        callbacks=[averaged, end, *shown],
        plugins=[_AtomicCheckpointIO()],
    )
