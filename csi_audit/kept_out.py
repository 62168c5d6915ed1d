"""Users kept out of a training, to select its weights by: whole drops where drops are known."""

from dataclasses import replace

import torch
from torch import Tensor

from channels.channel_set import ChannelSet
from channels.randomness import seeded_generator
from channels.support import CsiAuditError

_MOST_HELD_OUT = 8192  # users of a large set
_MOST_SHARE = 0.2  # of all users
NO_SMALL_DROP = (
    f"No drop holds {_MOST_SHARE:.0%} of the users or less: users of one drop are in training and "
    "among those kept out, which flatters figures of the latter."
)
"""Notice on both parts where drops are known and users had to be kept out one by one."""


def drops_kept_out(channels: ChannelSet, *, seed: int) -> tuple[ChannelSet, ChannelSet]:
    """Training and validation users: a tenth of the drops, drawn at random, is kept out whole.

    Users of a drop share their surroundings, so users of one drop on both sides would flatter the
    validation. Kept out are at most a fifth of the users: drops by which they would be more are
    passed over; and at most 8,192 users, unless the first drop alone has more. Without drops a
    tenth of the users is kept out; so it is, with a notice on both parts, where no drop is small
    enough.

    Raises:
        CsiAuditError: a single user.
    """
    if len(channels) < 2:
        raise CsiAuditError(
            f"{channels.source.path} holds one user; a training needs at least two."
        )
    held = None if channels.drops is None else _held(channels.drops, seed)
    if held is None:
        if channels.drops is not None:
            channels = _with_notice(channels)
        order = torch.randperm(len(channels), generator=seeded_generator(seed, "validation split"))
        held = torch.zeros(len(channels), dtype=torch.bool)
        held[order[: max(1, min(_MOST_HELD_OUT, len(channels) // 10))]] = True
    return channels.subset(~held), channels.subset(held)


def _held(drops: Tensor, seed: int) -> Tensor | None:
    """Which users are kept out with their whole drops, bool (N,); None if no drop is small enough.

    Args:
        drops: Drop of each user, (N,).
    """
    kinds, users = drops.unique(return_counts=True)
    order = torch.randperm(len(kinds), generator=seeded_generator(seed, "validation split"))
    most = _MOST_SHARE * len(drops)
    chosen, total = list[int](), 0
    for i in order.tolist():
        n = int(users[i])
        if total + n <= (min(most, _MOST_HELD_OUT) if chosen else most):
            chosen.append(i)
            total += n
        if len(chosen) == max(1, len(kinds) // 10):
            break
    return torch.isin(drops, kinds[chosen]) if chosen else None


def _with_notice(channels: ChannelSet) -> ChannelSet:
    source = channels.source
    if NO_SMALL_DROP in source.notices:
        return channels
    return replace(channels, source=replace(source, notices=(*source.notices, NO_SMALL_DROP)))
