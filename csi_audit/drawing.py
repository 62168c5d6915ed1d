"""Drawing many samples in saved blocks, so that an interruption costs one block at most, and on
several processes, which share the blocks among them.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt
import torch

from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from csi_audit.islands import IslandSamples, log_mean
from csi_audit.run_state import BlockStore
from csi_audit.samples import Sampler, WeightedSamples

if TYPE_CHECKING:  # lightning is loaded by whoever launches processes
    from lightning.fabric import Fabric


Array = npt.NDArray[Any]


class Ranks(Protocol):
    """Processes that run the same program side by side.

    Attributes:
        rank: Number of this one, 0 to world - 1.
        world: How many there are.
    """

    @property
    def rank(self) -> int: ...
    @property
    def world(self) -> int: ...
    def gather(self, mine: dict[int, Mapping[str, Array]]) -> list[dict[int, Mapping[str, Array]]]:
        """What each process hands in, to all of them."""
        ...


class FabricRanks:
    """The processes of a launched Lightning Fabric: torchrun, SLURM or `fabric.launch`."""

    def __init__(self, fabric: "Fabric") -> None:
        self.rank, self.world = int(fabric.global_rank), int(fabric.world_size)

    def gather(self, mine: dict[int, Mapping[str, Array]]) -> list[dict[int, Mapping[str, Array]]]:
        found: list[Any] = [mine]
        if self.world > 1:
            found = [None] * self.world
            torch.distributed.all_gather_object(found, mine)
        return found


class Tally:
    """Adds up denoiser evaluations for a progress display; blocks read from disk count too.

    Args:
        show: Told of the evaluations made so far; None shows nothing.
    """

    def __init__(self, show: Callable[[int], None] | None = None) -> None:
        self.show, self.made = show, 0

    def __call__(self, evaluations: int) -> None:
        self.made += evaluations
        if self.show is not None:
            self.show(self.made)


def draw_in_blocks(
    sampler: Sampler,
    n: int,
    *,
    name: str,
    block: int,
    seed: int,
    stream: str | None = None,
    store: BlockStore | None = None,
    tally: Tally | None = None,
    ranks: Ranks | None = None,
) -> WeightedSamples:
    """n samples in blocks, each drawn by the generator named (seed, stream, block number).

    So the samples do not depend on how often the drawing was interrupted, nor on how many
    processes shared it. Where the sampler works in islands, a block holds whole ones.

    Args:
        sampler: Draws a block.
        n: Samples in all.
        name: Of the files.
        block: Samples a block.
        seed: The user's seed.
        stream: Name of the random streams; None takes `name`.
        store: Where blocks are kept; those it holds are not drawn again. None keeps none.
        tally: The one the sampler reports its evaluations to.
        ranks: The processes that share the work; each is given all samples. None is this one alone.
    Raises:
        CsiAuditError: a saved block is damaged or of another size.
    """
    mine: dict[int, Mapping[str, Array]] = {}
    for number in range(-(-n // block)):
        if ranks is None or number % ranks.world == ranks.rank:
            size = min(block, n - number * block)
            make = partial(_drawn, sampler, size, (seed, stream or name, number))
            mine[number] = _block(make, store, name, number, size, tally)
    blocks = (
        mine if ranks is None else {k: v for part in ranks.gather(mine) for k, v in part.items()}
    )
    parts = [blocks[number] for number in sorted(blocks)]
    law = str(parts[0]["law"])
    if law not in ("base", "target"):
        raise ValueError(f"blocks must be of the base or the target law; got {law!r}.")
    joined = WeightedSamples(
        x=torch.from_numpy(np.concatenate([part["x"] for part in parts])),
        log_w=torch.from_numpy(np.concatenate([part["log_w"] for part in parts])),
        law="base" if law == "base" else "target",
        chain=str(parts[0]["chain"]),
        n_evaluations=sum(int(part["n_evaluations"]) for part in parts),
    )
    return joined if "island" not in parts[0] else _with_islands(joined, parts)


def _block(
    make: Callable[[], dict[str, Array]],
    store: BlockStore | None,
    name: str,
    number: int,
    size: int,
    tally: Tally | None,
) -> dict[str, Array]:
    """One block, drawn or from the disk, its evaluations told to the tally in either case."""
    if store is None:
        return make()
    before = 0 if tally is None else tally.made
    part = store.get(name, number, make)
    if len(part["x"]) != size:
        raise CsiAuditError(
            f"{store.path(name, number)} holds {len(part['x'])} samples where {size} are due. "
            "Remove that file to draw the block again."
        )
    if tally is not None and tally.made == before:
        tally(int(part["n_evaluations"]))
    return part


def _with_islands(joined: WeightedSamples, parts: Sequence[Mapping[str, Array]]) -> IslandSamples:
    """The islands of all blocks side by side; their weights are absolute, so nothing is scaled."""
    counts = [0, *(int(part["island"].max()) + 1 for part in parts)]
    firsts = np.cumsum(counts)[:-1]
    island = np.concatenate(
        [part["island"] + first for part, first in zip(parts, firsts, strict=True)]
    )
    ancestors = [part["ancestor"] for part in parts if "ancestor" in part]
    return IslandSamples(
        **{**vars(joined), "log_z": float(log_mean(joined.log_w))},
        island=torch.from_numpy(island),
        ancestor=torch.from_numpy(np.concatenate(ancestors)) if ancestors else None,
    )


def _drawn(sampler: Sampler, n: int, stream: tuple[int, str, int]) -> dict[str, Array]:
    drawn = sampler(n, generator=seeded_generator(*stream))
    islands = {}
    if isinstance(drawn, IslandSamples):
        islands["island"] = drawn.island.numpy()
        if drawn.ancestor is not None:
            islands["ancestor"] = drawn.ancestor.numpy()
    if drawn.log_z is not None and not islands:
        raise ValueError(
            "blocks with a normalising constant each cannot be joined: their weights are relative "
            "to their own. Draw such samples in one block."
        )
    return {
        "x": drawn.x.numpy(),
        "log_w": drawn.log_w.numpy(),
        "law": np.array(drawn.law),
        "chain": np.array(drawn.chain),
        "n_evaluations": np.array(drawn.n_evaluations),
        **islands,
    }
