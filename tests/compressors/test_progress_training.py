"""What is shown of a training: a line a block without a terminal, the latest figures in the bar."""

from types import SimpleNamespace
from typing import Any

import pytest

from compressors.plans import Plan
from compressors.progress_training import BlockBar, BlockLines

pytestmark = pytest.mark.unit

PLAN = Plan(steps=6, block_steps=2)


class Kept:
    def __init__(self, rows: list[dict[str, float]]) -> None:
        self.curve = rows


def test_a_line_a_block(capsys: pytest.CaptureFixture[str]) -> None:
    end = Kept([])
    lines = BlockLines(PLAN, end)
    trainer: Any = SimpleNamespace(global_step=0, is_global_zero=True)
    module: Any = None
    for step, row in ((0, None), (2, {"val_loss": 0.7}), (4, {"val_loss": 0.65, "ks": 0.125})):
        trainer.global_step = step
        end.curve += [] if row is None else [{"step": float(step), **row}]
        lines.on_train_epoch_start(trainer, module)
        lines.on_train_epoch_start(trainer, module)  # Lightning repeats an epoch after a resume
    lines.on_train_end(trainer, module)
    assert capsys.readouterr().out.splitlines() == [
        "Block 1/3: val_loss 0.7000",
        "Block 2/3: val_loss 0.6500, ks 0.1250",
    ]
    trainer.global_step, trainer.is_global_zero = 6, False
    lines.on_train_end(trainer, module)
    assert capsys.readouterr().out == ""


def test_the_bar_shows_the_latest_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [{"step": 2.0, "val_loss": 0.7, "ks": 0.1234}, {"step": 4.0, "val_loss": 0.6}]
    bar = BlockBar(PLAN, Kept(rows))
    inherited = {"v_num": 3, "train": 0.8, "val_loss": 0.6}
    monkeypatch.setattr(
        "compressors.progress_training.RichProgressBar.get_metrics", lambda *_: dict(inherited)
    )
    trainer: Any = None
    assert bar.get_metrics(trainer, trainer) == {"train": 0.8, "val_loss": 0.6, "ks": "0.123"}
