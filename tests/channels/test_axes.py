"""Axes of channel arrays: orders are found by sizes and facts, never guessed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.axes import AxisOrder, axis_order
from channels.support import CsiAuditError

PATH = Path("file.mat")


def _order(shape: tuple[int, ...], axes: str | None = None, **facts: int) -> AxisOrder:
    return axis_order(PATH, "H", shape, axes, known=facts)


@pytest.mark.parametrize(
    ("shape", "names"),
    [
        ((300, 32, 32), ("user", "tx", "sub")),
        ((300, 2, 32, 32), ("user", "rx", "tx", "sub")),
        ((1, 32, 32, 300), ("rx", "tx", "sub", "user")),  # channel.fr of 300 snapshots
        ((2, 32, 64, 300), ("rx", "tx", "sub", "user")),
    ],
)
def test_sizes_alone_decide_where_they_can(shape: tuple[int, ...], names: tuple[str, ...]) -> None:
    assert _order(shape).names == names


def test_one_user_of_one_receive_antenna_is_no_ambiguity() -> None:
    """[user, tx, sub] and fr's [rx, tx, carrier] mean the same at a first axis of 1."""
    assert _order((1, 32, 64)).shape((1, 32, 64)) == (1, 1, 32, 64)


@pytest.mark.parametrize(
    ("shape", "facts", "names"),
    [
        ((4, 4, 32, 500), {"user": 500}, ("rx", "tx", "sub", "user")),
        ((4, 4, 32, 500), {"user": 4}, ("user", "rx", "tx", "sub")),
        ((2, 32, 64), {"user": 1}, ("rx", "tx", "sub")),
        ((32, 64, 40), {"user": 40}, ("tx", "sub", "user")),  # squeeze(channel.fr)
    ],
)
def test_labels_settle_what_sizes_leave_open(
    shape: tuple[int, ...], facts: dict[str, int], names: tuple[str, ...]
) -> None:
    assert axis_order(PATH, "H", shape, None, known=facts).names == names


def test_ambiguity_lists_the_candidates() -> None:
    message = (
        r"H \(4, 4, 32, 500\) can be read in several ways\. Choose: "
        r"--axes user,rx,tx,sub: 4 users, 4 x 32 antennas, 500 subcarriers; "
        r"--axes rx,tx,sub,user: 500 users, 4 x 4 antennas, 32 subcarriers\."
    )
    with pytest.raises(CsiAuditError, match=message):
        _order((4, 4, 32, 500))


def test_a_squeezed_fr_is_an_ambiguity_and_no_32_users() -> None:
    for shape in ((32, 32, 300), (16, 32, 64)):
        with pytest.raises(CsiAuditError, match=rf"--axes tx,sub,user: {shape[2]} users, 1 x"):
            _order(shape)
    assert _order((300, 32, 64)).names == ("user", "tx", "sub")


@pytest.mark.parametrize(
    ("shape", "axes", "facts", "message"),
    [
        ((0, 32, 32), None, {}, r"H is empty, shape \(0, 32, 32\)"),
        ((32, 32), None, {}, r"must be \[user, antenna, subcarrier\].*got \(32, 32\)\. Was it"),
        ((300, 32, 32), None, {"user": 7}, "fits no usual order of axes with the 7 users that"),
        ((300, 32, 32), "user,tx", {}, "axes must name tx .* once each.*got user,tx"),
        ((300, 32, 32), "user,tx,tx", {}, "once each.*got user,tx,tx"),
        ((300, 32, 32), "user,tx,beam", {}, "once each.*got user,tx,beam"),
        ((300, 32, 32), "user,tx,subb", {}, "got 'subb'. Did you mean 'sub'"),
        ((300, 32, 32), "user,rx,tx,sub", {}, r"has 3 axes \(300, 32, 32\), but axes names 4"),
        ((300, 32, 32, 2), "user,tx,sub,reim", {}, "H is complex already; leave reim out"),
        ((300, 3, 32, 32), "user,one,tx,sub", {}, "axis one of H must have length 1; got"),
    ],
)
def test_wrong_axes(
    shape: tuple[int, ...], axes: str | None, facts: dict[str, int], message: str
) -> None:
    with pytest.raises(CsiAuditError, match=message):
        _order(shape, axes, **facts)


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((300, 32, 32), None, "real numbers .* It must be complex. Was only its magnitude"),
        ((300, 32, 32), "user,tx,sub", "must be complex, or have an axis reim of 2"),
        ((300, 32, 32, 2), None, "--axes user,tx,sub,reim; --axes user,beam,delay,reim"),
        ((300, 2, 32, 32), None, "--axes user,reim,tx,sub; --axes user,reim,beam,delay"),
        ((300, 3, 32, 32), "user,reim,tx,sub", "axis reim of H must have length 2; got 3"),
    ],
)
def test_real_numbers_need_a_reim_axis(
    shape: tuple[int, ...], axes: str | None, message: str
) -> None:
    with pytest.raises(CsiAuditError, match=message):
        axis_order(PATH, "H", shape, axes, is_complex=False)


SIZES = {"user": 5, "rx": 2, "pol": 2, "row": 3, "tx": 4, "sub": 6, "reim": 2, "one": 1}


@given(
    st.permutations(["user", "tx", "sub"]),
    st.lists(st.sampled_from(["rx", "pol", "row", "reim", "one"]), unique=True),
    st.randoms(use_true_random=False),
)
def test_any_order_reads_the_same_users(names: list[str], more: list[str], random: object) -> None:
    """An array laid out in any order gives back [user, rx, (pol, row, tx), sub]."""
    order = AxisOrder(tuple(_mixed([*names, *more], random)))
    full = ["user", "rx", "pol", "row", "tx", "sub", "reim", "one"]
    rng = np.random.default_rng(0)
    kept = {name: SIZES[name] if name in order.names else 1 for name in full}
    kept["reim"] = 2
    whole = rng.standard_normal([kept[name] for name in full])
    h = whole[..., 0, 0] + 1j * whole[..., 1, 0]  # (user, rx, pol, row, tx, sub)
    truth = h.reshape(5, kept["rx"], -1, 6)
    stored = whole if "reim" in order.names else h[..., None, None]
    axes = full
    picked = [axes.index(name) for name in order.names]
    rest = [i for i in range(len(full)) if i not in picked]
    array = stored.transpose(*picked, *rest).reshape([kept[n] for n in order.names])
    assert order.shape(array.shape) == truth.shape
    np.testing.assert_array_equal(order.read(array, 0, 5), truth)
    np.testing.assert_array_equal(order.read(array, 1, 3), truth[1:3])


def _mixed(names: list[str], random: object) -> list[str]:
    shuffled = list(names)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    return shuffled


def test_panels_are_named_by_their_axes() -> None:
    order = _order((9, 2, 3, 4, 8), "user,pol,row,tx,sub")
    assert order.panel((9, 2, 3, 4, 8)) == (2, 3, 4)
    assert order.shape((9, 2, 3, 4, 8)) == (9, 1, 24, 8)
    assert _order((9, 4, 8)).panel((9, 4, 8)) is None


def test_a_mixed_domain_is_taken_to_spatial_frequency() -> None:
    h = np.random.default_rng(1).standard_normal((3, 4, 8)) + 0j
    beams = np.fft.fft(h, axis=1, norm="ortho")
    taps = np.fft.ifft(h, axis=2, norm="ortho")
    truth = h[:, None]
    for array, axes in ((beams, "user,beam,sub"), (taps, "user,tx,delay")):
        order = _order((3, 4, 8), axes)
        assert order.mixed
        assert order.domain == "spatial-frequency"
        np.testing.assert_allclose(order.read(array, 0, 3), truth, atol=1e-12)
    both = _order((3, 4, 8), "user,beam,delay")
    assert both.domain == "angular-delay"
    assert not both.mixed
