"""SIGKILL at random moments: the next start goes on and ends where an uninterrupted one ends."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from multiprocessing.context import ForkServerContext
from pathlib import Path

import numpy as np
import pytest
import torch

from channels import ChannelSet, Grid, from_audit_space, write_channels
from channels.domains import onto_sphere
from channels.randomness import seeded_generator
from csi_audit.base import save_base
from csi_audit.base_training import coefficient_variance
from csi_audit.command_line import main
from csi_audit.diffusion import PreconditionedDenoiser
from csi_audit.networks import NetworkSpec
from csi_audit.run_state import read_arrays

pytestmark = pytest.mark.end_to_end

KILLS = 5


@pytest.fixture(scope="module")
def processes() -> Iterator[ForkServerContext]:
    """Processes that start with the heavy imports done, so a kill hits the work itself."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["csi_audit.commands", "csi_audit.base_training"])
    yield context


def users(n: int) -> ChannelSet:
    """Random sparse channels of 8 antennas and 8 taps."""
    generator = seeded_generator(0, "users", n)
    x = torch.randn(n, 2, 8, 8, generator=generator)
    x = x * torch.rand(n, 1, 8, 8, generator=generator) ** 4
    return from_audit_space(onto_sphere(x), Grid(carrier_hz=1e9, bandwidth_hz=1e7, n_sub=8))


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
        if now != self.last:
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


def test_fit_base_survives_kills(tmp_path: Path, processes: ForkServerContext) -> None:
    for name, n in (("train", 200), ("val", 60)):
        write_channels(tmp_path / f"{name}.h5", users(n))

    def arguments(out: str) -> list[str]:
        settings = ["--steps", "100", "--block_steps", "5", "--batch_size", "16", "--device", "cpu"]
        data = [str(tmp_path / "train.h5"), "--validation", str(tmp_path / "val.h5")]
        return ["fit-base", *data, "--out", str(tmp_path / out), *settings]

    finish(processes, arguments("whole"))
    chance, folder = random.Random(1), tmp_path / "killed"
    killed = 0
    for changes in range(KILLS):  # the first kill comes before any checkpoint
        moment = Moment(
            lambda: written(folder / "last.ckpt"), min(changes, 2), chance.uniform(0.0, 0.1)
        )
        killed += kill_when(processes, arguments("killed"), moment)
    mid_write = kill_when(processes, arguments("killed"), lambda: writing(folder, "last.ckpt"))
    finish(processes, arguments("killed"))
    assert killed == KILLS, "a kill came too late to test anything"
    assert mid_write, "no kill hit the writing of a checkpoint"
    for name in ("best.safetensors", "base.safetensors"):
        assert (tmp_path / "whole" / name).read_bytes() == (folder / name).read_bytes()


def tiny_base(path: Path) -> None:
    """An untrained base of 8 x 8 channels: the Wiener filter."""
    variance = coefficient_variance(torch.randn(64, 2, 8, 8, generator=seeded_generator(0, "v")))
    with torch.random.fork_rng(devices=[]):
        network = NetworkSpec().build(5, 3, 8, 8)
    denoiser = PreconditionedDenoiser(network, variance)
    grid = Grid(carrier_hz=1e9, bandwidth_hz=1e7, n_sub=8)
    save_base(
        path,
        denoiser.state_dict(),
        network=NetworkSpec(),
        sigma_min=0.01,
        sigma_max=20.0,
        grid=grid,
        card={},
    )


def test_run_survives_kills(tmp_path: Path, processes: ForkServerContext) -> None:
    write_channels(tmp_path / "users.h5", users(100))
    tiny_base(tmp_path / "base.safetensors")
    own = tmp_path / "half.py"
    own.write_text(
        "from channels import Convention\n\n\n"
        "class Half:\n"
        "    n_code = 64\n"
        "    convention = Convention(event_shape=(2, 8, 8))\n\n"
        "    def encode(self, y):\n        return y[..., :4].flatten(1)\n\n"
        "    def decode(self, z):\n"
        "        y = z.unflatten(1, (2, 8, 4))\n"
        "        return __import__('torch').nn.functional.pad(y, (0, 4))\n\n"
        "    def bits(self, z):\n        return None\n"
    )

    def arguments(out: str) -> list[str]:
        spec = f"{own}:Half"
        files = ["--data", str(tmp_path / "users.h5"), "--base", str(tmp_path / "base.safetensors")]
        sizes = ["--n_base", "400", "--block", "20", "--steps", "30", "--batch_size", "20"]
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
        moment = Moment(blocks, min(changes, 2), chance.uniform(0.0, 0.1))
        killed += kill_when(processes, arguments("killed"), moment)
        kept.append({p.name for p in (folder / "state").glob("*.npz")})
    mid_write = kill_when(processes, arguments("killed"), lambda: writing(folder / "state", "base"))
    assert killed == KILLS, "a kill came too late to test anything"
    finish(processes, arguments("killed"))
    assert mid_write, "no kill hit the writing of a block"
    assert all(a <= b for a, b in zip(kept, kept[1:], strict=False)), "a whole block was lost"
    assert kept[-1], "the kills came too early to test a resume"
    whole, killed = (read_arrays(tmp_path / out / "samples.h5") for out in ("whole", "killed"))
    assert whole.keys() == killed.keys()
    for name, values in whole.items():
        np.testing.assert_array_equal(values, killed[name], err_msg=name)
    assert (folder / "report.html").is_file()
    assert not (folder / "state").exists()
