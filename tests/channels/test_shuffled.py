"""Shuffled passes over a lazy set: every user once a pass, any batch known from its number."""

import itertools
from typing import cast

import pytest
import torch
from torch import Tensor

from channels.channel_set import ChannelSet, Grid, audit_space
from channels.domains import unit_power
from channels.lazy_rows import LazyRows
from channels.shuffled import ShuffledUsers, training_users, validation_users
from channels.support import CsiAuditError

N = 103  # neither a multiple of the chunk nor of the batch


def _channels(n: int = N, reads: list[tuple[int, int]] | None = None) -> ChannelSet:
    h, _ = unit_power(
        torch.randn(n, 1, 2, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(1))
    )

    def read(start: int, stop: int) -> Tensor:
        if reads is not None:
            reads.append((start, stop))
        return h[start:stop]

    grid = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=3)
    rows = cast(Tensor, LazyRows(read, (n, 1, 2, 3)))
    return ChannelSet(h=rows, power_db=torch.zeros(n), grid=grid)


def _ranks(channels: ChannelSet, batch: Tensor) -> list[int]:
    """Which users a batch holds."""
    x = audit_space(channels)
    same = (batch[:, None] == x[None]).flatten(2).all(2)
    assert bool((same.sum(1) == 1).all())
    return same.int().argmax(1).tolist()


@pytest.mark.parametrize(("chunk", "buffer"), [(8, 24), (8, 1000), (1, 1), (200, 50)])
def test_every_user_once_a_pass(chunk: int, buffer: int) -> None:
    channels = _channels()
    users = ShuffledUsers(channels, seed=3, chunk=chunk, buffer=buffer)
    seen: list[int] = []
    for number in range(-(-3 * N // 10)):
        seen += _ranks(channels, users.batch(number, 10))
    passes = [seen[i * N : (i + 1) * N] for i in range(3)]
    assert all(sorted(one) == list(range(N)) for one in passes)
    assert passes[0] != passes[1]


def test_a_batch_is_known_from_its_number_alone() -> None:
    """A resumed training needs no loader state; seeds and passes differ."""
    first = ShuffledUsers(_channels(), seed=3, chunk=8, buffer=24)
    run = [first.batch(number, 16) for number in range(14)]
    fresh = ShuffledUsers(_channels(), seed=3, chunk=8, buffer=24)
    assert torch.equal(fresh.batch(13, 16), run[13])
    assert torch.equal(fresh.batch(2, 16), run[2])
    other = ShuffledUsers(_channels(), seed=4, chunk=8, buffer=24)
    assert not torch.equal(other.batch(2, 16), run[2])


def test_users_of_a_buffer_mix_across_its_chunks() -> None:
    """Without the shuffle inside a buffer a batch would be one run of neighbours of the file."""
    channels = _channels(96)
    order = _ranks(channels, ShuffledUsers(channels, seed=0, chunk=8, buffer=96).batch(0, 96))
    steps = [b - a for a, b in itertools.pairwise(order)]
    assert sum(step == 1 for step in steps) < 10
    chunks = [user // 8 for user in order[:16]]
    assert len(set(chunks)) > 5


def test_chunks_are_read_whole_and_buffers_once() -> None:
    reads: list[tuple[int, int]] = []
    users = ShuffledUsers(_channels(96, reads), seed=0, chunk=8, buffer=24)
    for number in range(12):
        users.batch(number, 8)
    assert sum(stop - start for start, stop in reads) == 96
    assert all(start % 8 == 0 and stop % 8 == 0 for start, stop in reads)


def test_sets_in_memory_are_taken_as_they_are() -> None:
    lazy = _channels()
    held = ChannelSet(h=lazy.h[:], power_db=lazy.power_db, grid=lazy.grid)
    users, x = training_users(held, seed=0)
    assert users is x
    assert torch.equal(x, audit_space(held))
    streamed, some = training_users(lazy, seed=0)
    assert isinstance(streamed, ShuffledUsers)
    assert len(streamed) == N
    assert torch.equal(some, audit_space(held))  # fewer than the statistics want: all, in order


@pytest.mark.parametrize("name", ["chunk", "buffer"])
def test_sizes_below_one(name: str) -> None:
    with pytest.raises(CsiAuditError, match=f"{name} must be at least 1; got 0"):
        ShuffledUsers(_channels(), seed=0, **{name: 0})


def test_validation_of_a_lazy_set_is_a_part_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    channels = _channels()
    x = audit_space(channels)
    assert torch.equal(validation_users(channels, like=x, seed=0), x)
    monkeypatch.setattr("channels.shuffled._VALIDATION", 20)
    some = validation_users(channels, like=x, seed=0)
    ranks = _ranks(channels, some)
    assert len(ranks) == 20
    assert ranks == sorted(set(ranks))
    assert torch.equal(validation_users(channels, like=x, seed=0), some)
    held = ChannelSet(h=channels.h[:], power_db=channels.power_db, grid=channels.grid)
    assert torch.equal(validation_users(held, like=x, seed=0), x)
    with pytest.raises(CsiAuditError, match=r"validation must hold channels of \(2, 4, 3\); got"):
        validation_users(channels, like=torch.zeros(5, 2, 4, 3), seed=0)
