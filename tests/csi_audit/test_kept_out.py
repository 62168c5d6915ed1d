"""Users kept out: whole drops, never the greater part of the users, in words where that fails."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from channels import ChannelSet, CsiAuditError
from csi_audit.kept_out import NO_SMALL_DROP, drops_kept_out


@pytest.fixture(scope="module")
def in_drops(draw_users: Callable[..., ChannelSet]) -> Callable[[list[int]], ChannelSet]:
    """Users in drops of some sizes, numbered 0, 1, ..."""
    everyone = draw_users(1100)

    def of(sizes: list[int]) -> ChannelSet:
        drops = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
        users = everyone.subset(slice(0, len(drops)))
        return replace(users, labels={"drop_seed": drops, "user": torch.arange(len(drops))})

    return of


def held_drops(held: ChannelSet) -> list[int]:
    assert held.drops is not None
    return sorted(set(held.drops.tolist()))


@pytest.mark.property
@given(st.lists(st.integers(1, 40), min_size=1, max_size=25), st.integers(0, 10))
def test_a_fifth_of_the_users_at_most_and_whole_drops(
    in_drops: Callable[[list[int]], ChannelSet], sizes: list[int], seed: int
) -> None:
    if sum(sizes) < 2:
        sizes = [2]
    users = in_drops(sizes)
    train, held = drops_kept_out(users, seed=seed)
    both = train.label("user").tolist() + held.label("user").tolist()
    assert sorted(both) == list(range(len(users)))
    small = [n for n in sizes if n <= 0.2 * len(users)]
    assert train.source == held.source
    assert (NO_SMALL_DROP in train.source.notices) == (not small)
    if small:
        assert len(held) <= 0.2 * len(users)
        assert not set(held_drops(train)) & set(held_drops(held))
        assert len(held_drops(held)) <= max(1, len(sizes) // 10)
    else:
        assert len(held) == max(1, len(users) // 10)


@pytest.mark.unit
def test_two_uneven_drops(in_drops: Callable[[list[int]], ChannelSet]) -> None:
    """The training keeps the 950 users, whichever drop is drawn first."""
    users = in_drops([50, 950])
    for seed in range(6):
        train, held = drops_kept_out(users, seed=seed)
        assert (len(train), held_drops(held)) == (950, [0])


@pytest.mark.unit
def test_even_drops(in_drops: Callable[[list[int]], ChannelSet]) -> None:
    """A tenth of many; one of five; users of two, which the notice says."""
    assert len(held_drops(drops_kept_out(in_drops([10] * 40), seed=0)[1])) == 4
    assert len(held_drops(drops_kept_out(in_drops([20] * 5), seed=0)[1])) == 1
    train, held = drops_kept_out(in_drops([50, 50]), seed=0)
    assert (len(train), len(held)) == (90, 10)
    assert train.source.notices == held.source.notices == (NO_SMALL_DROP,)
    again, _ = drops_kept_out(train, seed=1)
    assert again.source.notices == (NO_SMALL_DROP,)


@pytest.mark.unit
def test_users_without_drops(draw_users: Callable[..., ChannelSet]) -> None:
    train, held = drops_kept_out(draw_users(60), seed=0)
    assert (len(train), len(held)) == (54, 6)
    assert train.source.notices == ()
    assert [len(part) for part in drops_kept_out(draw_users(2), seed=0)] == [1, 1]
    with pytest.raises(CsiAuditError, match=r"set0\.h5 holds one user; a training needs at least"):
        drops_kept_out(draw_users(1), seed=0)


@pytest.mark.unit
def test_users_of_a_large_set(
    in_drops: Callable[[list[int]], ChannelSet],
    draw_users: Callable[..., ChannelSet],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No more than a bound, but at least one drop."""
    monkeypatch.setattr("csi_audit.kept_out._MOST_HELD_OUT", 4)
    assert len(drops_kept_out(in_drops([2] * 30), seed=0)[1]) == 4
    assert len(drops_kept_out(in_drops([5] * 30), seed=0)[1]) == 5
    assert len(drops_kept_out(draw_users(60), seed=0)[1]) == 4
