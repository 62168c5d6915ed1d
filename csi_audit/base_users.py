"""Samples of a base model as users: compressors can be trained on the audited law itself.

Drawing goes block by block, so an interruption costs one block, and what was drawn is kept.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from channels.channel_set import ChannelSet, Source, from_audit_space
from channels.domains import onto_sphere
from channels.support import CsiAuditError
from csi_audit.base import Base
from csi_audit.drawing import Tally, draw_in_blocks
from csi_audit.run_state import BlockStore
from csi_audit.sampling import BaseSampler

BLOCK = 200
STREAM = "users"


@dataclass(frozen=True, kw_only=True)
class BaseDraw:
    """Which users to draw: everything that fixes them besides the base model.

    Attributes:
        n: Users.
        steps: Steps of the probability-flow ODE (2M), the chain of the audited law.
        seed: Fixes every random number.
    """

    n: int
    steps: int = 30
    seed: int = 0

    @property
    def evaluations(self) -> int:
        """Denoiser evaluations that the users cost."""
        return self.n * self.steps

    def folder(self, parent: str | Path, base: Base) -> Path:
        """Where the users of this base are kept below `parent`: hidden, since a training directory
        holds nothing visible before its settings."""
        key = f"{base.sha256[:12]}-{self.n}-{self.steps}-{self.seed}"
        return Path(parent) / ".base-users" / key


def draw_base_users(
    base: Base,
    draw: BaseDraw,
    *,
    parent: str | Path,
    name: str = "base model",
    device: torch.device | str = "cpu",
    batch_size: int = 64,
    progress: Callable[[int], None] | None = None,
) -> ChannelSet:
    """Users of the base law, each normalised to unit power: independent draws of the audited law.

    Args:
        base: Base model.
        draw: How many users, by how many steps, by which seed.
        parent: Folder to keep blocks in (`BaseDraw.folder`); those there are not drawn again.
        name: Of the base model, for cards and reports.
        device, batch_size: See `csi_audit.evaluating.CountedDenoiser`.
        progress: Told of the denoiser evaluations made so far, of `draw.evaluations`.
    Returns:
        n users on the grid of the base. Their source names base, its hash, n, chain and seed.
    Raises:
        CsiAuditError: the folder cannot be written, or a block in it is damaged.
    """
    tally = Tally(progress)
    sampler = BaseSampler(
        base, steps=draw.steps, device=device, batch_size=batch_size, progress=tally
    )
    samples = draw_in_blocks(
        sampler,
        draw.n,
        name=STREAM,
        block=BLOCK,
        seed=draw.seed,
        store=BlockStore(draw.folder(parent, base)),
        tally=tally,
    )
    words = f"{draw.n} samples of {name}, {samples.chain}, seed {draw.seed}"
    notice = (
        f"The users are {words}, each normalised to unit power: as real as that model, no more."
    )
    source = Source(
        path=words, sha256=base.sha256, format="base samples", scenario=None, notices=(notice,)
    )
    return from_audit_space(onto_sphere(samples.x), base.grid, source=source)


def tenth_kept_out(users: ChannelSet) -> tuple[ChannelSet, ChannelSet]:
    """All but the last tenth, and that tenth: of independent draws any will do.

    Raises:
        CsiAuditError: fewer than two users.
    """
    if len(users) < 2:
        raise CsiAuditError(f"users must be at least two, to keep one out; got {len(users)}.")
    cut = len(users) - max(1, len(users) // 10)
    return users.subset(slice(0, cut)), users.subset(slice(cut, None))
