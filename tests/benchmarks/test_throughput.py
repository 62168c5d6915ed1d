"""What the benchmark of speed counts and compares, and a run on 8 x 8 channels."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor, nn

from benchmarks import throughput, throughput_tasks
from benchmarks.throughput import Timing, speed_checks, task_row, timed
from benchmarks.throughput_tasks import (
    COMPILED,
    EAGER,
    GUIDED,
    PLAIN,
    PRODUCT,
    Key,
    Task,
    first_line,
    flops,
    matrix_task,
    variant,
    variants,
)
from channels import Grid
from csi_audit.base import Base, build_denoiser, load_base, save_base
from csi_audit.networks import NetworkSpec

unit = pytest.mark.unit

OWN_CODE = """
import torch
from channels import Convention


class Half:
    n_code = 64
    convention = Convention(event_shape=(2, 8, 8))

    def encode(self, y):
        return y[..., :4].flatten(1)

    def decode(self, z):
        return torch.nn.functional.pad(z.unflatten(1, (2, 8, 4)), (0, 4))

    def bits(self, z):
        return None
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """An untrained base of 8 x 8 channels, and a compressor that keeps half of the taps."""
    folder = tmp_path_factory.mktemp("speed")
    network = NetworkSpec(options=(("channels", 2), ("hidden", 8), ("depth", 2)))
    variance = torch.exp(-0.5 * torch.arange(8.0)).expand(2, 8, 8).contiguous()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        weights = build_denoiser(network, variance).state_dict()
    weights["network.head.weight"] += 0.1  # an untrained head is zero
    grid = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=8)
    save_base(folder / "base.safetensors", weights, network=network, sigma_min=0.01,
              sigma_max=20.0, grid=grid, card={})  # fmt: skip
    (folder / "mine.py").write_text(OWN_CODE)
    return SimpleNamespace(
        base=folder / "base.safetensors", compressor=f"{folder / 'mine.py'}:Half"
    )


@pytest.fixture(scope="module")
def base(files: SimpleNamespace) -> Base:
    return load_base(files.base)


@pytest.fixture(scope="module")
def x() -> Tensor:
    return torch.randn(6, 2, 8, 8, generator=torch.Generator().manual_seed(0))


# --- Counting and timing --------------------------------------------------------------------------


@unit
def test_flops_are_those_of_the_linear_layers(base: Base, x: Tensor) -> None:
    """2 n_in n_out a row; a gradient in x passes back through all that x went through."""
    counted = {"of x": 0, "of the noise level": 0}

    def hook(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        which = "of the noise level" if "level" in name or "modulation" in name else "of x"

        def count(layer: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> None:
            assert isinstance(layer, nn.Linear)
            counted[which] += 2 * layer.in_features * out.numel()

        return count

    assert isinstance(base.denoiser, nn.Module)
    hooks = [
        layer.register_forward_hook(hook(name))
        for name, layer in base.denoiser.named_modules()
        if isinstance(layer, nn.Linear)
    ]
    base.denoiser(x, 1.0)
    for each in hooks:
        each.remove()
    found = flops(base, x)
    assert counted["of x"] > 0
    assert found[PLAIN] == sum(counted.values()) / len(x)
    assert found[GUIDED] == found[PLAIN] + counted["of x"] / len(x)


@unit
def test_variants_agree_with_the_network(base: Base, x: Tensor) -> None:
    """bf16 differs from float32 by its rounding, and the base itself stays where it was."""
    made, failed = variants(base, {"cpu": x}, modes=(EAGER,))
    assert not failed
    assert [v.key("a") for v in made] == [
        ("cpu", dtype, EAGER, "a") for dtype in ("float32", "bf16")
    ]
    apart = throughput.differences(made, {"cpu": x})
    assert apart[made[0].key(PLAIN)] == 0
    assert 1e-5 < apart[made[1].key(PLAIN)] < 2e-2
    assert torch.equal(made[0].base.denoiser(x, 1.0), base.denoiser(x, 1.0))
    assert made[0].base.denoiser is not base.denoiser


@unit
def test_compiled_variants_are_compiled_at_once(
    base: Base, x: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[nn.Module] = []

    def noted(module: nn.Module) -> nn.Module:
        calls.append(module)
        return module

    monkeypatch.setattr(torch, "compile", noted)
    made = variant(base, "cpu", "bf16", COMPILED, x)
    assert len(calls) == 1
    assert made.compile_seconds is not None
    assert made.compile_seconds > 0
    assert variant(base, "cpu", "bf16", EAGER, x).compile_seconds is None


@unit
@pytest.mark.parametrize("error", [RuntimeError, OSError, ImportError])
def test_a_missing_compiler_is_a_row(
    base: Base, x: Tensor, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    def fail(module: nn.Module) -> nn.Module:
        raise error("no C++ compiler\nand much more")

    monkeypatch.setattr(torch, "compile", fail)
    made, failed = variants(base, {"cpu": x}, modes=(EAGER, COMPILED))
    assert [v.mode for v in made] == [EAGER, EAGER]
    assert [row["mode"] for row in failed] == [COMPILED, COMPILED]
    assert failed[0]["status"] == f"not available: {error.__name__}: no C++ compiler"
    verdicts = {c.verdict for c in speed_checks(failed)}
    assert verdicts == {"cannot tell"}


@unit
def test_first_line_of_an_error_without_words() -> None:
    assert first_line(ValueError()) == "ValueError: "
    assert len(first_line(ValueError("x" * 999))) == 160


@unit
def test_matrix_products_are_counted_and_made() -> None:
    task = matrix_task(16, "cpu", "bf16")
    assert task.samples == 2 * 16**3
    assert task.run() == 0


@unit
def test_tasks_take_turns_and_failures_stay_out(capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def work(name: str, broken_at: int = -1) -> Callable[[], int]:
        def run() -> int:
            order.append(name)
            if order.count(name) == broken_at:
                raise RuntimeError("out of memory")
            return 3

        return run

    keys: list[Key] = [("cpu", "float32", EAGER, name) for name in ("a", "b")]
    tasks = {keys[0]: Task(run=work("a"), samples=1), keys[1]: Task(run=work("b", 2), samples=1)}
    found = timed(tasks, 2)
    assert order == ["a", "b", "a", "b", "a"]
    assert (len(found[keys[0]].seconds), found[keys[0]].evaluations) == (2, 3)
    assert found[keys[1]].status == "failed: RuntimeError: out of memory"
    row = task_row(keys[1], tasks, found, 1.0)
    assert row == {"device": "cpu", "dtype": "float32", "mode": EAGER, "task": "b",
                   "status": "failed: RuntimeError: out of memory"}  # fmt: skip
    assert "round 2 of 2" in capsys.readouterr().out


# --- Rows -----------------------------------------------------------------------------------------


def nothing() -> int:
    return 0


@unit
def test_rates_ratios_and_shares() -> None:
    """Ratios are taken within a round: here always 2, though the rates of rounds differ tenfold."""
    mine: Key = ("cpu", "bf16", EAGER, "issgm")
    eager: Key = ("cpu", "float32", EAGER, "issgm")
    matrix: Key = ("cpu", "bf16", EAGER, PRODUCT)
    task = Task(run=nothing, samples=10, scale=100.0, steps=1000, timed_steps=10)
    tasks = {mine: task, eager: task, matrix: Task(run=nothing, samples=2_000_000)}
    found = {
        mine: Timing(seconds=[1.0, 10.0, 2.0], evaluations=210),
        eager: Timing(seconds=[2.0, 20.0, 4.0], evaluations=210),
        matrix: Timing(seconds=[0.1, 1.0, 0.2]),
    }
    row = task_row(mine, tasks, found, 1e4)
    assert row["samples_per_s"] == pytest.approx(10 / 200)
    assert row["spread"]["samples_per_s"] == pytest.approx([10 / 1000, 10 / 100])
    assert row["evaluations_per_s"] == pytest.approx(105)
    assert row["gflop_per_s"] == pytest.approx(210e4 / 2 / 1e9)
    assert row["spread"]["over_eager_float32"] == pytest.approx([2.0, 2.0])
    assert row["spread"]["share_of_product"] == pytest.approx([0.105, 0.105])
    assert (row["steps"], row["timed_steps"], row["status"]) == (1000, 10, "ok")
    own = task_row(matrix, tasks, found | {("cpu", "float32", EAGER, PRODUCT): found[matrix]}, 1e4)
    assert own["gflop_per_s"] == pytest.approx(0.01)
    assert own["share_of_product"] == pytest.approx(1.0)
    assert "samples_per_s" not in own


@unit
def test_checks_of_speed() -> None:
    row = {"device": "cpu", "dtype": "bf16", "mode": EAGER, "task": PLAIN,
           "over_eager_float32": 1.5, "spread": {"over_eager_float32": [1.2, 1.9]}}  # fmt: skip
    slow = row | {"mode": COMPILED, "over_eager_float32": 1.1,
                  "spread": {"over_eager_float32": [0.9, 1.3]}}  # fmt: skip
    others = [row | {"task": GUIDED}, row | {"dtype": "float32"}]
    verdicts = [c.verdict for c in speed_checks([row, slow, *others])]
    assert verdicts == ["pass", "cannot tell"]


# --- A run ----------------------------------------------------------------------------------------


@pytest.mark.end_to_end
def test_a_run(files: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(module: nn.Module) -> nn.Module:
        raise RuntimeError("no compiler")

    monkeypatch.setattr(torch, "compile", fail)
    out = tmp_path / "speed.json"
    sizes = ["--samples", "4", "--rounds", "2", "--ode-steps", "2", "--guided-steps", "3"]
    sizes += ["--issgm-steps", "2", "--pilot", "50", "--matrix", "8", "--devices", "cpu"]
    inputs = ["--base", str(files.base), "--compressor", files.compressor, "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["throughput.py", *sizes, *inputs])
    throughput.main()
    found = json.loads(out.read_text())
    rows = {(r["dtype"], r["mode"], r["task"]): r for r in found["rows"]}
    assert {r["data"] for r in found["rows"]} == {"base model"}
    methods = ["base, 2M ODE", "reweighting, 2M ODE", "guided, 2M SDE", "twisted SMC, 2M SDE"]
    for dtype in ("float32", "bf16"):
        for task in (PRODUCT, PLAIN, GUIDED, *methods):
            row = rows[dtype, EAGER, task]
            assert row["status"] == "ok"
            assert row["share_of_product"] > 0
        assert rows[dtype, COMPILED, PLAIN]["status"] == "not available: RuntimeError: no compiler"
    assert ("bf16", EAGER, "issgm") not in rows  # its finite difference is noise there
    issgm = rows["float32", EAGER, "issgm"]
    assert (issgm["steps"], issgm["timed_steps"]) == (throughput_tasks.ISSGM_STEPS, 2)
    per_sample = issgm["evaluations_per_s"] / issgm["samples_per_s"]
    assert per_sample == pytest.approx(2 * throughput_tasks.ISSGM_STEPS + 1)
    for name, evaluations in zip(methods, (2, 2, 5, 5), strict=True):
        row = rows["float32", EAGER, name]
        assert row["evaluations_per_s"] / row["samples_per_s"] == pytest.approx(evaluations)
        assert row["spread"]["over_eager_float32"] == [1.0, 1.0]
    assert rows["bf16", EAGER, PLAIN]["relative_difference"] > 0
    assert [c["verdict"] for c in found["checks"]].count("cannot tell") >= 2
    assert found["sizes"]["flop_an_evaluation"] > 0
