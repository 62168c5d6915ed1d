"""Arrays in another form: slices of users equal slices of the whole."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.opened import ReadOptions
from channels.row_views import Joined, Rows, Sampled, gathered, reshaped, sampled
from channels.support import CsiAuditError
from channels.workspace import Workspace

pytestmark = pytest.mark.unit

FLAT = np.arange(7.0 * 24).reshape(7, 24)


def test_rows_slice_like_an_array() -> None:
    rows = Rows(FLAT.shape, FLAT.dtype, lambda start, stop: FLAT[start:stop])
    for key in (slice(2, 5), slice(4, 2), slice(None), (slice(1, 6, 2), slice(3, 5)), ()):
        np.testing.assert_array_equal(rows[key], FLAT[key])


def test_reshaped() -> None:
    view = reshaped(FLAT, (2, 3, 4))
    assert view.shape == (7, 2, 3, 4)
    np.testing.assert_array_equal(view[2:5, 1:, :, 0:2], FLAT.reshape(7, 2, 3, 4)[2:5, 1:, :, 0:2])


def test_joined() -> None:
    im = (FLAT + 100).astype(np.float32)
    both = Joined(FLAT, im)
    assert both.shape == FLAT.shape
    assert both.dtype == np.dtype(np.complex128)
    for key in (slice(2, 5), (slice(1, 6, 2), slice(3, 5)), (), 3):
        np.testing.assert_array_equal(both[key], (FLAT + 1j * im)[key])


@given(
    kept=st.sets(st.integers(0, 99)).map(sorted),
    start=st.integers(0, 100),
    n=st.integers(0, 100),
)
@pytest.mark.property
def test_gathered(kept: list[int], start: int, n: int) -> None:
    array = np.arange(200).reshape(100, 2)
    index = np.array(kept, dtype=np.int64)
    view = gathered(array, index)
    assert view.shape == (len(kept), 2)
    np.testing.assert_array_equal(view[start : start + n], array[index[start : start + n]])


def test_gathered_reads_little_beside() -> None:
    read = []

    def fetch(start: int, stop: int) -> np.ndarray:
        read.append(stop - start)
        return np.zeros((stop - start, 1))

    array = Rows((10_000, 1), np.dtype(float), fetch)
    gathered(array, np.array([0, 1, 3, 5000, 9999]))[0:5]
    assert read == [4, 1, 1]


# --- Paths ----------------------------------------------------------------------------------------

WORKSPACE = Workspace(path=Path("paths.npz"), container="npz", arrays={})
COEFF = np.array([[[[1.0, 0.5j]]], [[[2.0, np.nan]]]])
DELAY = np.array([[1e-7, 3e-7], [2e-7, np.nan]])


def response(options: ReadOptions, delay: np.ndarray = DELAY, hz: float | None = None) -> Sampled:
    return sampled(
        WORKSPACE,
        options,
        lambda start, stop: (COEFF[start:stop], delay[start:stop]),
        (2, 1, 1),
        bandwidth_hz=hz,
    )


@pytest.mark.parametrize("pairwise", [False, True])
def test_sampled_follows_the_definition(pairwise: bool) -> None:
    delay = DELAY[:, None, None] if pairwise else DELAY
    found = response(ReadOptions(n_sub=8, bandwidth_hz=1e7), delay)
    rows = found.rows
    f = np.arange(8) * 1e7 / 8
    turn = np.exp(-2j * np.pi * f * DELAY[..., None])  # NaN of the absent path stays out of the sum
    truth = np.stack([turn[0, 0] + 0.5j * turn[0, 1], 2 * turn[1, 0]])
    assert (rows.shape, found.bandwidth_hz) == ((2, 1, 1, 8), 1e7)
    assert (found.notices, found.cautions) == ((), ())
    np.testing.assert_allclose(rows[0:2][:, 0, 0], truth, atol=1e-6)
    np.testing.assert_allclose(rows[1:2][:, 0, 0], truth[1:], atol=1e-6)


def test_sampled_defaults_and_window() -> None:
    found = response(ReadOptions(), hz=4e8)
    assert (found.rows.shape[3], found.bandwidth_hz) == (32, 4e8)
    assert found.notices == ("Sampled at 32 subcarriers (default); choose with n_sub=.",)
    assert len(found.cautions) == 1
    assert "lies beyond the delay window n_sub/bandwidth = 0.08 us" in found.cautions[0]
    assert response(ReadOptions(bandwidth_hz=1e7), hz=4e8).bandwidth_hz == 1e7


def test_sampled_without_bandwidth() -> None:
    with pytest.raises(CsiAuditError, match=r"paths\.npz holds paths and no bandwidth"):
        response(ReadOptions())


@pytest.mark.parametrize(("n_sub", "hz"), [(-1, 1e7), (0, 1e7), (8, 0.0), (8, float("nan"))])
def test_sampled_on_no_grid(n_sub: int, hz: float) -> None:
    with pytest.raises(CsiAuditError, match=r"must be a (whole|positive) number"):
        response(ReadOptions(n_sub=n_sub, bandwidth_hz=hz))
