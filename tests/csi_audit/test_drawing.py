"""Samples drawn in blocks: the same whatever was interrupted, and no block drawn twice."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from channels.support import CsiAuditError
from csi_audit.drawing import Tally, draw_in_blocks
from csi_audit.islands import IslandSamples, log_mean
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples

pytestmark = pytest.mark.unit


class Noise:
    """White noise at three evaluations a sample, with weights; stops after `calls` calls."""

    def __init__(self, tally: Tally | None = None, *, calls: int = 99) -> None:
        self.tally, self.calls, self.sizes = tally, calls, list[int]()

    def __call__(self, n: int, *, generator: torch.Generator) -> WeightedSamples:
        if len(self.sizes) == self.calls:
            raise KeyboardInterrupt
        self.sizes.append(n)
        if self.tally is not None:
            self.tally(3 * n)
        x = torch.randn(n, 2, generator=generator)
        log_w = x[:, 0].double()
        return WeightedSamples(x=x, log_w=log_w, law="target", chain="noise", n_evaluations=3 * n)


def draw(
    folder: Path,
    n: int,
    sampler: Noise,
    *,
    name: str = "base",
    seed: int = 0,
    tally: Tally | None = None,
) -> WeightedSamples:
    store = BlockStore(folder)
    return draw_in_blocks(sampler, n, name=name, block=4, seed=seed, store=store, tally=tally)


def test_last_block_is_what_is_left(tmp_path: Path) -> None:
    sampler = Noise()
    found = draw(tmp_path, 10, sampler)
    assert sampler.sizes == [4, 4, 2]
    assert len(found) == 10
    assert (found.law, found.chain, found.n_evaluations) == ("target", "noise", 30)
    assert torch.equal(found.log_w, found.x[:, 0].double())
    assert len(found.x.unique()) == 20  # every block has random numbers of its own


def test_another_name_may_share_the_random_streams(tmp_path: Path) -> None:
    first = draw(tmp_path, 10, Noise())
    again = draw_in_blocks(
        Noise(), 10, name="other", block=4, seed=0, stream="base", store=BlockStore(tmp_path)
    )
    assert torch.equal(again.x, first.x)
    assert (tmp_path / "state" / "other-0002.npz").is_file()
    assert not torch.equal(draw(tmp_path, 10, Noise(), name="third").x, first.x)


def test_nothing_is_drawn_twice(tmp_path: Path) -> None:
    first, again = draw(tmp_path, 10, Noise()), Noise()
    assert torch.equal(draw(tmp_path, 10, again).x, first.x)
    assert again.sizes == []


def test_an_interrupted_drawing_goes_on(tmp_path: Path) -> None:
    whole = draw(tmp_path / "whole", 10, Noise())
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path / "cut", 10, Noise(calls=2))
    rest = Noise()
    found = draw(tmp_path / "cut", 10, rest)
    assert rest.sizes == [2]
    assert torch.equal(found.x, whole.x)
    assert found.n_evaluations == whole.n_evaluations


def test_names_and_seeds_are_streams_of_their_own(tmp_path: Path) -> None:
    base = draw(tmp_path / "a", 4, Noise()).x
    assert torch.equal(draw(tmp_path / "b", 4, Noise()).x, base)
    assert torch.equal(draw(tmp_path / "c", 8, Noise()).x[:4], base)
    assert not torch.equal(draw(tmp_path / "a", 4, Noise(), name="issgm").x, base)
    assert not torch.equal(draw(tmp_path / "d", 4, Noise(), seed=1).x, base)


def test_progress_counts_saved_blocks_once(tmp_path: Path) -> None:
    shown: list[int] = []
    tally = Tally(shown.append)
    draw(tmp_path, 10, Noise(tally), tally=tally)
    assert shown == [12, 24, 30]
    (tmp_path / "state" / "base-0001.npz").unlink()
    shown.clear()
    tally = Tally(shown.append)
    draw(tmp_path, 10, Noise(tally), tally=tally)
    assert shown == [12, 24, 30]
    quiet = Tally()
    quiet(5)
    assert quiet.made == 5


def test_a_block_of_another_size_is_refused(tmp_path: Path) -> None:
    """The last block of a shorter run is no whole block of a longer one."""
    draw(tmp_path, 6, Noise())
    message = r"base-0001.npz holds 2 samples where 4 are due\. Remove that file to draw"
    with pytest.raises(CsiAuditError, match=message):
        draw(tmp_path, 8, Noise())


class IslandSampler:
    """Two islands a draw, with weights that tell them apart."""

    def __call__(self, n: int, *, generator: torch.Generator) -> IslandSamples:
        log_w = torch.rand(n, generator=generator, dtype=torch.float64)
        return IslandSamples(
            x=torch.rand(n, 3, generator=generator),
            log_w=log_w,
            law="target",
            chain="islands",
            log_z=float(log_mean(log_w)),
            n_evaluations=n,
            island=(torch.arange(n) >= n // 2).long(),
        )


def test_islands_of_all_blocks_stand_side_by_side(tmp_path: Path) -> None:
    store = BlockStore(tmp_path)
    made = draw_in_blocks(IslandSampler(), 10, name="smc", block=4, seed=0, store=store)
    assert isinstance(made, IslandSamples)
    assert made.island.tolist() == [0, 0, 1, 1, 2, 2, 3, 3, 4, 5]
    assert made.log_z == pytest.approx(float(made.log_w.exp().mean().log()))
    again = draw_in_blocks(IslandSampler(), 10, name="smc", block=4, seed=0, store=store)
    assert isinstance(again, IslandSamples)
    assert torch.equal(again.x, made.x)
    assert torch.equal(again.island, made.island)
    assert made.n_evaluations == 10


def test_weights_relative_to_a_constant_of_their_own_are_not_joined(tmp_path: Path) -> None:
    def sampler(n: int, *, generator: torch.Generator) -> WeightedSamples:
        x = torch.rand(n, 3, generator=generator)
        log_w = torch.zeros(n, dtype=torch.float64)
        return WeightedSamples(x=x, log_w=log_w, law="target", chain="c", log_z=1.0)

    with pytest.raises(ValueError, match="a normalising constant each cannot be joined"):
        draw_in_blocks(sampler, 4, name="a", block=2, seed=0, store=BlockStore(tmp_path))


_TWO_PROCESSES = """
import sys
import numpy as np
import torch
from lightning.fabric import Fabric
from csi_audit.drawing import FabricRanks, draw_in_blocks
from csi_audit.islands import normalising_constant
from csi_audit.toy_laws import toy_base, toy_law
from csi_audit.toy_weights import l1
from csi_audit.twisted_smc import TwistedSmcSampler
from csi_audit.twists import TweedieTwist

torch.set_num_threads(1)
fabric = Fabric(accelerator="cpu", devices=int(sys.argv[2]), strategy=sys.argv[3])
fabric.launch()
law = toy_law("8-gaussians", placement="unit square")
sampler = TwistedSmcSampler(toy_base(law), l1(), TweedieTwist(l1()), steps=20, island=50)
found = draw_in_blocks(sampler, 400, name="smc", block=100, seed=0, ranks=FabricRanks(fabric))
z = normalising_constant(found)
np.savez(
    f"{sys.argv[1]}-{fabric.world_size}-{fabric.global_rank}.npz",
    x=found.x, log_w=found.log_w, island=found.island, z=z.value, se=z.std_error, n=z.n,
    truth=law.e_p(l1()),
)
"""


@pytest.mark.end_to_end
def test_two_processes_draw_what_one_draws(tmp_path: Path) -> None:
    """Two gloo processes share the blocks; both hold all islands, equal to those of one process."""
    script = tmp_path / "two.py"
    script.write_text(_TWO_PROCESSES)
    for devices, strategy in (("1", "auto"), ("2", "ddp")):
        words = [sys.executable, str(script), str(tmp_path / "found"), devices, strategy]
        done = subprocess.run(words, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stderr
    alone, first, second = (
        np.load(tmp_path / f"found-{name}.npz") for name in ("1-0", "2-0", "2-1")
    )
    for name in ("x", "log_w", "island", "z", "se"):
        np.testing.assert_array_equal(first[name], alone[name])
        np.testing.assert_array_equal(second[name], alone[name])
    assert int(alone["n"]) == 8
    assert abs(alone["z"] - alone["truth"]) < 5 * alone["se"]
    assert alone["se"] < 0.1 * alone["truth"]
