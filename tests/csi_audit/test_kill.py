"""SIGKILL at random moments: the next start goes on and ends where an uninterrupted one ends."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from itertools import pairwise
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
import torch

from channels import ChannelSet, write_channels
from csi_audit.base import load_base
from csi_audit.command_line import main
from csi_audit.run_state import read_arrays

pytestmark = [pytest.mark.end_to_end, pytest.mark.slow]

KILLS = 5


@pytest.fixture(scope="module")
def processes() -> ForkServerContext:
    """Processes that start with the heavy imports done, so a kill hits the work itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["csi_audit.commands", "csi_audit.base_training"])
    return context


def _command(arguments: list[str]) -> None:
    """Run in a child: one thread, and the exit code of the command line."""
    torch.set_num_threads(1)
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os._exit(main(arguments))


def finish(context: ForkServerContext, arguments: list[str]) -> None:
    """Run a command to its end."""
    child = context.Process(target=_command, args=(arguments,))
    child.start()
    child.join(120)
    assert child.exitcode == 0


def kill_when(context: ForkServerContext, arguments: list[str], due: Callable[[], bool]) -> bool:
    """Start a command and SIGKILL it as soon as due(); False if it ended before."""
    child = context.Process(target=_command, args=(arguments,))
    child.start()
    while child.is_alive() and not due():
        time.sleep(0.0003)
    alive = child.is_alive()
    if alive and child.pid is not None:
        os.kill(child.pid, signal.SIGKILL)
    child.join(30)
    return alive


class Moment:
    """True at a random time after `progress()` has changed `changes` times."""

    def __init__(self, progress: Callable[[], object], changes: int, delay: float) -> None:
        self.progress, self.left, self.delay = progress, changes, delay
        self.last, self.since = progress(), time.monotonic()

    def __call__(self) -> bool:
        now = self.progress()
        if self.left > 0 and now != self.last:
            self.last, self.since, self.left = now, time.monotonic(), self.left - 1
        return self.left <= 0 and time.monotonic() - self.since > self.delay


def written(path: Path) -> int:
    """When a file was last replaced [ns]; 0 while it is missing."""
    try:
        return path.stat().st_mtime_ns
    except FileNotFoundError:
        return 0


def writing(folder: Path, part: str) -> bool:
    """Whether a temporary of an atomic write of `part` lies in the folder at this moment."""
    return folder.is_dir() and any(
        name.startswith(".") and part in name for name in os.listdir(folder)
    )


@pytest.mark.parametrize("adapted", [False, True])
def test_fit_base_survives_kills(
    adapted: bool,
    tmp_path: Path,
    processes: ForkServerContext,
    draw_users: Callable[..., ChannelSet],
    tiny_base: Path,
) -> None:
    """The fidelity figures on the way, which the card keeps, are the same too. Adapting trains
    twice: the kills come in both trainings."""
    for seed, (name, n) in enumerate((("train", 200), ("val", 60))):
        write_channels(tmp_path / f"{name}.h5", draw_users(n, seed=seed))

    def arguments(out: str) -> list[str]:
        steps = ["--steps", "60" if adapted else "150", "--block_steps", "5"]
        settings = [*steps, "--batch_size", "16", "--device", "cpu"]
        data = [str(tmp_path / "train.h5"), "--validation", str(tmp_path / "val.h5")]
        more = [
            "--fidelity_samples",
            "16",
            "--contrast_samples",
            "8",
            *(["--adapt", str(tiny_base)] if adapted else []),
        ]
        return ["fit-base", *data, "--out", str(tmp_path / out), *settings, *more]

    finish(processes, arguments("whole"))
    chance, folder = random.Random(1), tmp_path / "killed"
    trainings, kills = (("", "scratch"), 2) if adapted else (("",), KILLS)
    for place in trainings:
        state = folder / place / "last.ckpt"
        killed = 0
        for changes in range(kills):  # the first kill comes before any checkpoint
            moment = Moment(lambda: written(state), min(changes, 2), chance.uniform(0.0, 0.05))  # noqa: B023
            killed += kill_when(processes, arguments("killed"), moment)
        mid_write = kill_when(
            processes,
            arguments("killed"),
            lambda: writing(state.parent, "last.ckpt"),  # noqa: B023
        )
        assert killed == kills, "a kill came too late to test anything"
        assert mid_write, "no kill hit the writing of a checkpoint"
        if place != trainings[-1]:  # on to the next training, which the first kill waits for
            kill_when(processes, arguments("killed"), (folder / trainings[-1]).is_dir)
    finish(processes, arguments("killed"))
    for place in trainings:
        for name in ("best.safetensors", "base.safetensors"):
            whole = (tmp_path / "whole" / place / name).read_bytes()
            assert whole == (folder / place / name).read_bytes()
    card = load_base(folder / "base.safetensors").card
    assert len(card["fidelity"]["curve"]) >= 8
    assert ("adapted_from" in card) is adapted


def test_run_survives_kills(
    tmp_path: Path,
    processes: ForkServerContext,
    draw_users: Callable[..., ChannelSet],
    tiny_base: Path,
    own_code: Path,
) -> None:
    write_channels(tmp_path / "users.h5", draw_users(100))

    def arguments(out: str) -> list[str]:
        spec = f"{own_code}:Half"
        files = ["--data", str(tmp_path / "users.h5"), "--base", str(tiny_base)]
        sizes = ["--n_base", "1600", "--block", "20", "--steps", "30", "--batch_size", "20"]
        sizes += ["--tail_method", "counting"]
        guided = ["--issgm", spec, "--n_issgm", "20", "--issgm_steps", "30"]
        named = ["--compressor", spec, "--out", str(tmp_path / out)]
        return ["run", *files, *named, *sizes, *guided]

    finish(processes, arguments("whole"))
    folder, chance = tmp_path / "killed", random.Random(2)
    kept: list[set[str]] = []

    def blocks() -> int:
        return len(list((folder / "state").glob("*.npz")))

    killed = 0
    for changes in range(KILLS):  # the first kill comes before any block
        moment = Moment(blocks, min(changes, 2), chance.uniform(0.0, 0.05))
        killed += kill_when(processes, arguments("killed"), moment)
        kept.append({p.name for p in (folder / "state").glob("*.npz")})
    mid_write = kill_when(processes, arguments("killed"), lambda: writing(folder / "state", "base"))
    assert killed == KILLS, "a kill came too late to test anything"
    finish(processes, arguments("killed"))
    assert mid_write, "no kill hit the writing of a block"
    assert all(a <= b for a, b in pairwise(kept)), "a whole block was lost"
    assert kept[-1], "the kills came too early to test a resume"
    made, resumed = (read_arrays(tmp_path / out / "samples.h5") for out in ("whole", "killed"))
    assert made.keys() == resumed.keys()
    for name, values in made.items():
        np.testing.assert_array_equal(values, resumed[name], err_msg=name)
    assert (folder / "report.html").is_file()
    assert not (folder / "state").exists()
