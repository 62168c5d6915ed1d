"""`ShuffledUsers`: training batches from a set that is larger than the memory.

Chunks of neighbours are read in random order, and users are shuffled within a buffer of many
chunks. All of it is a function of (seed, step), so a resumed training needs no loader state.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from channels.channel_set import ChannelSet, audit_space
from channels.randomness import seeded_generator
from channels.support import CsiAuditError

__all__ = ["ShuffledUsers", "training_users", "validation_users"]

_READ = 1024  # users read at once
_STATISTICS = 16_384  # users of a large set that its variances are taken from
_VALIDATION = 8192  # users of a large set that a training is validated on


@dataclass(frozen=True)
class _Pass:
    """One pass over all users: the order of the chunks, and the buffers they fill.

    Attributes:
        number: 0, 1, ...
        chunks: Chunk numbers in the order they are read, int64.
        ends: Users read when each buffer is exhausted, int64 (n_buffers,).
    """

    number: int
    chunks: Tensor
    ends: Tensor


class ShuffledUsers:
    """Batches in random order, every user once a pass, pass after pass.

    Args:
        channels: The set; lazy ones are read as they are needed.
        seed: Fixes all orders.
        chunk: Neighbours read together; the compact file's own chunk is 64.
        buffer: Users shuffled among each other: they take buffer * n_rx * n_tx * n_sub * 8 bytes,
            which are kept for the next ones.
    Raises:
        CsiAuditError: chunk or buffer below 1.
    """

    def __init__(
        self, channels: ChannelSet, *, seed: int, chunk: int = 64, buffer: int = 16_384
    ) -> None:
        for name, value in (("chunk", chunk), ("buffer", buffer)):
            if value < 1:
                raise CsiAuditError(f"{name} must be at least 1; got {value}.")
        self.channels, self.seed, self.chunk = channels, seed, chunk
        self.chunks_a_buffer = max(1, buffer // chunk)
        self._pass: _Pass | None = None
        self._held: tuple[int, int] | None = None  # pass and buffer whose users are in memory
        self._users = torch.empty(0)

    def __len__(self) -> int:
        return len(self.channels)

    def batch(self, number: int, size: int) -> Tensor:
        """Batch `number` of `size` users, audit space float32 (size, 2 n_rx, n_tx, n_delay).

        Batches 0, 1, 2 ... run through pass after pass; a batch may lie across two of them.
        """
        found: list[Tensor] = []
        position, wanted = number * size, size
        while wanted:
            pass_number, at = divmod(position, len(self))
            part = self._from(pass_number, at, wanted).clone()  # the buffer is filled again
            found.append(part)
            position, wanted = position + len(part), wanted - len(part)
        return torch.cat(found) if len(found) > 1 else found[0]

    def _from(self, pass_number: int, at: int, most: int) -> Tensor:
        """Up to `most` users from place `at` of a pass on, within one buffer."""
        order = self._order(pass_number)
        buffer = int(torch.searchsorted(order.ends, at, right=True))
        first = int(order.ends[buffer - 1]) if buffer else 0
        users = self._filled(order, buffer)
        return users[at - first : at - first + most]

    def _order(self, number: int) -> _Pass:
        if self._pass is None or self._pass.number != number:
            n_chunks = -(-len(self) // self.chunk)
            generator = seeded_generator(self.seed, "chunks", number)
            chunks = torch.randperm(n_chunks, generator=generator)
            sizes = torch.full((n_chunks,), self.chunk)
            sizes[-1] = len(self) - (n_chunks - 1) * self.chunk
            ends = sizes[chunks].cumsum(0)
            last = torch.arange(n_chunks) + 1
            full = (last % self.chunks_a_buffer == 0) | (last == n_chunks)
            self._pass = _Pass(number, chunks, ends[full])
        return self._pass

    def _filled(self, order: _Pass, buffer: int) -> Tensor:
        """The shuffled users of one buffer, in memory that all buffers share.

        Memory asked for anew with each buffer would not come back: small tensors that a training
        keeps in between hold the allocator's blocks.
        """
        key = (order.number, buffer)
        first = buffer * self.chunks_a_buffer
        chunks = order.chunks[first : first + self.chunks_a_buffer].sort().values
        rows = (chunks[:, None] * self.chunk + torch.arange(self.chunk)).flatten()
        rows = rows[rows < len(self)]
        if self._held != key:
            self._held = None  # should a read fail, the buffer is nobody's
            generator = seeded_generator(self.seed, "buffer", *key)
            self._fill(rows, torch.randperm(len(rows), generator=generator))
            self._held = key
        return self._users[: len(rows)]

    def _fill(self, rows: Tensor, places: Tensor) -> None:
        """Read users `rows`, neighbours together, each to its place in the buffer."""
        if not len(self._users):
            _, n_rx, n_tx, n_sub = self.channels.h.shape
            most = min(len(self), self.chunks_a_buffer * self.chunk)
            self._users = torch.empty(most, 2 * n_rx, n_tx, n_sub)
        for part in torch.arange(len(rows)).split(_READ):
            self._users[places[part]] = audit_space(self.channels.subset(rows[part]))


def training_users(channels: ChannelSet, *, seed: int) -> tuple[Tensor | ShuffledUsers, Tensor]:
    """A set as a training takes it, and users to take its variances from.

    Args:
        channels: In memory or lazy.
        seed: Fixes the order of a lazy set and which of its users are looked at.
    Returns:
        In memory: all of audit space, twice. Lazy: a `ShuffledUsers` and a random 16,384 users.
    """
    if not channels.is_lazy:
        x = audit_space(channels)
        return x, x
    order = torch.randperm(len(channels), generator=seeded_generator(seed, "statistics"))
    some = order[:_STATISTICS].sort().values
    return ShuffledUsers(channels, seed=seed), audit_space(channels.subset(some))


def validation_users(validation: ChannelSet, *, like: Tensor, seed: int) -> Tensor:
    """Users to validate on, audit space: all that are in memory, a random 8,192 of a lazy set.

    Args:
        validation: In memory or lazy.
        like: Training users, (N, 2 n_rx, n_tx, n_delay).
        seed: Fixes which users of a lazy set are taken.
    Raises:
        CsiAuditError: other antennas or subcarriers than in training.
    """
    n, n_rx, n_tx, n_sub = validation.h.shape
    if (2 * n_rx, n_tx, n_sub) != tuple(like.shape[1:]):
        raise CsiAuditError(
            f"validation must hold channels of {tuple(like.shape[1:])}; "
            f"got {(2 * n_rx, n_tx, n_sub)}."
        )
    if validation.is_lazy and n > _VALIDATION:
        order = torch.randperm(n, generator=seeded_generator(seed, "validation"))
        validation = validation.subset(order[:_VALIDATION].sort().values)
    return audit_space(validation)
