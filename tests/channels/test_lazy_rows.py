"""LazyRows behave as the tensor they stand for, and read no more than is asked."""

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from channels.lazy_rows import LazyRows, read_runs
from channels.opened import BLOCK

WHOLE = torch.randn(40, 1, 2, 3, dtype=torch.complex64, generator=torch.Generator().manual_seed(0))


def _lazy(reads: list[tuple[int, int]] | None = None) -> LazyRows:
    def read(start: int, stop: int) -> torch.Tensor:
        if reads is not None:
            reads.append((start, stop))
        return WHOLE[start:stop]

    return LazyRows(read, (40, 1, 2, 3))


@given(st.lists(st.integers(0, 39), min_size=1, max_size=60))
def test_any_index_gives_the_tensors_rows(index: list[int]) -> None:
    rows = torch.tensor(index)
    assert torch.equal(_lazy()[rows], WHOLE[rows])
    assert torch.equal(_lazy().take(rows)[:], WHOLE[rows])
    assert torch.equal(_lazy().take(rows)[rows % len(rows)], WHOLE[rows][rows % len(rows)])


@given(st.slices(40))
@example(slice(1, 0, 2))  # an empty range with a step
def test_any_slice_gives_the_tensors_rows(part: slice) -> None:
    if part.step is None or part.step > 0:  # torch knows no other
        assert torch.equal(_lazy()[part], WHOLE[part])


def test_a_mask_and_negative_positions() -> None:
    mask = torch.arange(40) % 3 == 0
    assert torch.equal(_lazy()[mask], WHOLE[mask])
    assert torch.equal(_lazy()[[-1, 2]], WHOLE[[-1, 2]])
    with pytest.raises(IndexError):
        _lazy()[[40]]


def test_shape_is_that_of_the_users_meant() -> None:
    some = _lazy().take(torch.tensor([4, 9]))
    assert tuple(some.shape) == (2, 1, 2, 3)
    assert len(some) == 2
    assert some.dtype == torch.complex64
    assert some.ndim == 4


@given(st.sets(st.integers(0, 5000), max_size=200).map(sorted))
def test_runs_hold_every_row_once_and_little_else(rows: list[int]) -> None:
    runs = read_runs(np.array(rows, dtype=np.int64))
    assert [row for run in runs for row in run.tolist()] == rows
    assert all(len(run) and run[-1] - run[0] < BLOCK and (np.diff(run) <= 8).all() for run in runs)


def test_long_runs_are_read_in_blocks() -> None:
    runs = read_runs(np.arange(0, 10 * BLOCK, 8))
    assert [(int(run[0]), int(run[-1])) for run in runs] == [
        (start, start + BLOCK - 8) for start in range(0, 10 * BLOCK, BLOCK)
    ]


def test_neighbours_are_read_together_and_nothing_twice() -> None:
    reads: list[tuple[int, int]] = []
    _lazy(reads)[torch.tensor([7, 5, 6, 20, 5])]
    assert reads == [(5, 8), (20, 21)]
    reads.clear()
    _lazy(reads)[torch.tensor([0, 8, 16, 25])]  # seven in between are read along, eight are not
    assert reads == [(0, 17), (25, 26)]
    reads.clear()
    _lazy(reads).take(torch.tensor([1, 2, 3]))
    assert reads == []
