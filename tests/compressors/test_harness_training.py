"""The training loop: a resumed training ends byte-equal, and what it refuses.

An interruption is an exception raised inside a step; kills of whole processes are tested by
end-to-end tests of the commands.
"""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from channels import Convention, CsiAuditError
from compressors.compressor_training import CompressorModule
from compressors.csinet import CsiNet
from compressors.harness_training import Training, has_risen, train
from compressors.plans import Plan

PLAN = Plan(steps=6, block_steps=2, batch_size=8, warmup_steps=1, ema_decay=0.9)
RECIPE = {"what": "test", "ratio": 16}
STATE = ["best.safetensors", "config.yaml", "last.ckpt"]


class Interrupted(Exception):
    """What a kill is to the test."""


class Watched(CompressorModule):
    """A tiny CsiNet that can be stopped and notes its weights after each step."""

    def __init__(self, plan: Plan, *, stop: int | None, stop_validation: int | None) -> None:
        convention = Convention(event_shape=(2, 8, 8))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(plan.seed)
            net = CsiNet(8, n_tx=8, n_delay=8, variant="linear_trunk", convention=convention)
        super().__init__(net, plan, augment=True)
        self.stop, self.stop_validation = stop, stop_validation
        self.steps: list[int] = []
        self.past: list[dict[str, Tensor]] = []

    def loss(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
        if self.global_step == self.stop:
            raise Interrupted
        self.steps.append(self.global_step)
        return super().loss(x, generator=generator)

    def validation_loss(self, x: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        if self.global_step == self.stop_validation:
            raise Interrupted
        return super().validation_loss(x, generator=generator)

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        state = self.network.state_dict()
        self.past.append({name: value.detach().clone() for name, value in state.items()})


class Falling(Watched):
    """Its validation loss falls at every block, so the last weights are the best."""

    def validation_loss(self, x: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        return {"loss": torch.full((len(x),), -float(self.global_step))}


@dataclasses.dataclass
class Trained:
    """A training that ran to its end."""

    training: Training
    module: Watched
    folder: Path


@pytest.fixture
def run(
    tmp_path: Path, draw_x: Callable[..., Tensor], seeded_torch: None
) -> Callable[..., Trained]:
    """Train in a folder of tmp_path. Lightning draws from torch's global generator."""
    x = draw_x(40)

    def go(
        name: str,
        plan: Plan = PLAN,
        *,
        kind: type[Watched] = Watched,
        stop: int | None = None,
        stop_validation: int | None = None,
        recipe: dict[str, Any] = RECIPE,
        patience: int | None = None,
    ) -> Trained:
        module = kind(plan, stop=stop, stop_validation=stop_validation)
        folder = tmp_path / name
        training = train(
            module,
            x,
            x[:16],
            folder=folder,
            recipe=recipe,
            device="cpu",
            progress=False,
            patience=patience,
        )
        return Trained(training, module, folder)

    return go


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# --- A training that nothing disturbs -------------------------------------------------------------


@pytest.mark.unit
def test_one_row_a_block_and_the_best_weights(run: Callable[..., Trained]) -> None:
    done = run("a")
    curve = done.training.curve
    assert [row["step"] for row in curve] == [2, 4, 6]
    assert all(set(row) == {"step", "val_loss"} for row in curve)
    assert done.training.best == min(curve, key=lambda row: row["val_loss"])
    assert files(done.folder) == STATE
    assert done.module.steps == list(range(6))
    weights = load_file(done.folder / "best.safetensors")
    assert set(weights) == set(done.module.network.state_dict())
    assert all(torch.equal(weights[name], done.training.weights[name]) for name in weights)


@pytest.mark.unit
def test_the_weights_are_averaged_over_steps(run: Callable[..., Trained]) -> None:
    """w <- d w + (1 - d) w_n with d = min(decay, (1 + n)/(10 + n)), buffers too; counts as are."""
    done = run("a", kind=Falling)
    averaged = {name: value.double() for name, value in done.module.past[0].items()}
    for n, now in enumerate(done.module.past[1:], start=1):
        d = min(PLAN.ema_decay, (1 + n) / (10 + n))
        averaged = {name: d * averaged[name] + (1 - d) * now[name].double() for name in now}
    for name, value in done.training.weights.items():
        if value.is_floating_point():
            assert torch.allclose(value.double(), averaged[name], atol=1e-6), name
        else:
            assert torch.equal(value, done.module.past[-1][name])
    last = done.module.past[-1]["to_code.weight"]
    assert not torch.allclose(done.training.weights["to_code.weight"], last, atol=1e-6)


@pytest.mark.unit
def test_blocks_do_not_change_the_stream(run: Callable[..., Trained]) -> None:
    """Batches, noise and rates belong to steps: three blocks of two or two of three, all alike."""
    two = run("a", kind=Falling)
    three = run("b", dataclasses.replace(PLAN, block_steps=3), kind=Falling)
    for name, value in two.training.weights.items():
        assert torch.equal(value, three.training.weights[name]), name
    assert [row["step"] for row in three.training.curve] == [3, 6]


@pytest.mark.unit
def test_another_seed_is_another_training(run: Callable[..., Trained]) -> None:
    first, second = run("a"), run("b", dataclasses.replace(PLAN, seed=1))
    assert first.training.curve != second.training.curve


@pytest.mark.unit
def test_a_finished_training_is_read_not_repeated(run: Callable[..., Trained]) -> None:
    done = run("a")
    before = {name: (done.folder / name).read_bytes() for name in STATE}
    again = run("a")
    assert again.module.steps == []
    assert again.training.curve == done.training.curve
    assert {name: (done.folder / name).read_bytes() for name in STATE} == before


# --- Interruptions --------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    ("stops", "repeated"),
    [
        ([{"stop": 1}], [0]),
        ([{"stop": 3}], [2]),
        ([{"stop": 4}], []),
        ([{"stop_validation": 4}], [2, 3]),
        ([{"stop": 3}, {"stop": 3}, {"stop": 5}], [2, 2, 4]),
        ([{"stop": 1}, {"stop_validation": 4}, {"stop_validation": 6}], [0, 2, 3, 4, 5]),
    ],
)
def test_a_resumed_training_ends_byte_equal(
    stops: Sequence[dict[str, int]],
    repeated: list[int],
    run: Callable[..., Trained],
    tmp_path: Path,
) -> None:
    """And repeats no more than the block it was stopped in."""
    whole = run("whole")
    seen: list[int] = []
    for stop in stops:
        with pytest.raises(Interrupted):
            run("parts", kind=noting(seen), **stop)
    resumed = run("parts", kind=noting(seen))
    assert resumed.training.curve == whole.training.curve
    assert sorted(seen) == sorted([*range(6), *repeated])
    best = [done.folder / "best.safetensors" for done in (whole, resumed)]
    assert best[0].read_bytes() == best[1].read_bytes()
    assert files(resumed.folder) == STATE


def noting(seen: list[int]) -> type[Watched]:
    """A module whose steps are noted across interruptions."""

    class Noting(Watched):
        def __init__(self, plan: Plan, **options: Any) -> None:
            super().__init__(plan, **options)
            self.steps = seen

    return Noting


@pytest.mark.unit
def test_a_kill_between_weights_and_checkpoint(
    run: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The best weights of a block whose checkpoint was never written: the block is repeated."""
    whole = run("whole")

    def refuse(*_: Any, **__: Any) -> None:
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr("compressors.harness_training._AtomicCheckpointIO.save_checkpoint", refuse)
        with pytest.raises(Interrupted):
            run("parts")
    assert files(tmp_path / "parts") == ["best.safetensors", "config.yaml"]
    resumed = run("parts")
    assert resumed.training.curve == whole.training.curve
    name = "best.safetensors"
    assert (resumed.folder / name).read_bytes() == (whole.folder / name).read_bytes()


@pytest.mark.unit
@pytest.mark.parametrize("writer", ["torch.save", "save_file"])
def test_a_full_disk_is_said_and_costs_one_block(
    writer: str, run: Callable[..., Trained], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Checkpoint or weights: what was whole before stays, and the training goes on from there."""
    whole = run("whole", kind=Measured)
    with pytest.raises(Interrupted):
        run("parts", kind=Measured, stop=3)
    before = {name: (tmp_path / "parts" / name).read_bytes() for name in STATE}

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(f"compressors.harness_training.{writer}", full)
        with pytest.raises(CsiAuditError, match=r"cannot be written: No space left.* Free some"):
            run("parts", kind=Measured)
    names = ["last.ckpt", "config.yaml"]  # the better weights of a repeated block may be there
    assert all((tmp_path / "parts" / name).read_bytes() == before[name] for name in names)
    resumed = run("parts", kind=Measured)
    assert resumed.training.curve == whole.training.curve
    best = [done.folder / "best.safetensors" for done in (whole, resumed)]
    assert best[0].read_bytes() == best[1].read_bytes()
    assert files(resumed.folder) == STATE


# --- Figures of a block, and an early end ---------------------------------------------------------


class Measured(Falling):
    """A figure of the averaged weights after every second block."""

    def block_figures(self, network: torch.nn.Module, step: int) -> dict[str, float]:
        assert network is not self.network
        return (
            {"sum": sum(float(p.detach().sum()) for p in network.parameters())} if step % 4 else {}
        )


class Rising(Watched):
    """Its best validation loss is that of step 4; from step 8 on it stands far above."""

    def validation_loss(self, x: Tensor, *, generator: torch.Generator) -> dict[str, Tensor]:
        losses = {2: 0.6, 4: 0.5, 6: 0.502, 8: 0.51, 10: 0.52}
        return {"loss": torch.full((len(x),), losses.get(self.global_step, 0.53))}


@pytest.mark.unit
def test_figures_of_a_block_stand_in_the_curve(run: Callable[..., Trained]) -> None:
    done = run("a", kind=Measured)
    assert [set(row) - {"step", "val_loss"} for row in done.training.curve] == [
        {"sum"},
        set(),
        {"sum"},
    ]
    weights = {k: v for k, v in done.training.weights.items() if v.is_floating_point()}
    names = dict(done.module.network.named_parameters())
    total = sum(float(weights[name].sum()) for name in names)
    assert done.training.curve[-1]["sum"] == pytest.approx(total, rel=1e-6)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("losses", "patience", "risen"),
    [
        ([0.5, 0.51, 0.52], 2, True),
        ([0.5, 0.51, 0.52], 3, False),  # too few to say
        ([0.5, 0.51, 0.52], None, False),
        ([0.6, 0.5, 0.51, 0.5024, 0.51], 3, False),  # once within 0.5 % of the best
        ([0.6, 0.5, 0.51, 0.5026, 0.51], 3, True),
        ([0.6, 0.5, 0.5, 0.5, 0.5, 0.5], 2, False),  # flat
        ([0.6, 0.55, 0.52, 0.5195, 0.5194], 2, False),
        ([-0.5, -0.49, -0.48], 2, True),
    ],
)
def test_when_a_loss_has_risen(losses: list[float], patience: int | None, risen: bool) -> None:
    assert has_risen([{"val_loss": loss} for loss in losses], patience) is risen


@pytest.mark.unit
@pytest.mark.parametrize("stop", [None, 5, 9])
def test_a_training_that_only_gets_worse_is_ended(
    stop: int | None, run: Callable[..., Trained]
) -> None:
    """By its own best weights, interrupted or not; asked again, it is read."""
    plan = dataclasses.replace(PLAN, steps=20)
    if stop is not None:
        with pytest.raises(Interrupted):
            run("a", plan, kind=Rising, patience=2, stop=stop)
    done = run("a", plan, kind=Rising, patience=2)
    assert [row["step"] for row in done.training.curve] == [2, 4, 6, 8, 10]
    assert done.training.best["step"] == 4
    again = run("a", plan, kind=Rising, patience=2)
    assert again.module.steps == []
    assert again.training.curve == done.training.curve
    patient = run("b", plan, kind=Rising)
    assert patient.training.curve[-1]["step"] == 20


# --- Refusals -------------------------------------------------------------------------------------


@pytest.mark.unit
def test_a_folder_keeps_its_recipe(run: Callable[..., Trained]) -> None:
    run("a", Plan(steps=1, block_steps=1, batch_size=8))
    message = (
        r"a was begun with another configuration \(ratio differ; ratio: 16 there, 4 now\)\. "
        r"Choose a new folder"
    )
    with pytest.raises(CsiAuditError, match=message):
        run("a", Plan(steps=1, block_steps=1, batch_size=8), recipe={**RECIPE, "ratio": 4})
    with pytest.raises(
        CsiAuditError, match=r"another configuration \(plan differ; plan: .*'seed': 0"
    ):
        run("a", Plan(steps=1, block_steps=1, batch_size=8, seed=1))


@pytest.mark.unit
@pytest.mark.parametrize("damage", ["half", "start", "empty", "text"])
def test_a_damaged_checkpoint(damage: str, run: Callable[..., Trained]) -> None:
    plan = dataclasses.replace(PLAN, steps=2)
    path = run("a", plan).folder / "last.ckpt"
    data = path.read_bytes()
    damaged = {"half": data[: len(data) // 2], "start": data[:100], "empty": b"", "text": b"x" * 99}
    path.write_bytes(damaged[damage])
    with pytest.raises(
        CsiAuditError, match=r"last\.ckpt cannot be read \(.+\)\. Remove it"
    ) as caught:
        run("a", plan)
    assert "\n" not in str(caught.value)
    path.unlink()
    assert [row["step"] for row in run("a", plan).training.curve] == [2]


@pytest.mark.unit
@pytest.mark.parametrize("finished", [False, True])
def test_an_error_of_the_loss_is_not_blamed_on_the_checkpoint(
    finished: bool, run: Callable[..., Trained]
) -> None:
    class Broken(Watched):
        def loss(self, x: Tensor, *, generator: torch.Generator) -> Tensor:
            raise RuntimeError("shapes do not match")

    if finished:
        with pytest.raises(Interrupted):
            run("a", stop=2)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        run("a", kind=Broken)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"steps": 0}, r"steps must be at least 1; got 0\."),
        ({"steps": 500, "batch_size": 0}, r"batch_size must be at least 1; got 0\."),
        ({"steps": 500, "block_steps": 0}, r"block_steps must be at least 1; got 0\."),
        (
            {"steps": 1200, "block_steps": 500},
            r"steps must be a multiple of block_steps; got 1200 and 500\. Round steps to 3 blocks",
        ),
        ({"steps": 500, "ema_decay": 1.0}, r"ema_decay must lie in \(0, 1\); got 1\.0\."),
    ],
)
def test_bad_plans(options: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        Plan(**options)
