"""`ChannelSet`, `Grid` and the door to the audit space."""

import dataclasses
from collections.abc import Callable

import pytest
import torch

from channels import ChannelSet, CsiAuditError, Grid, audit_space, from_audit_space

pytestmark = pytest.mark.unit

Make = Callable[..., ChannelSet]


def test_grid_in_physical_units() -> None:
    grid = Grid(carrier_hz=2.655e9, bandwidth_hz=1e7, n_sub=32)
    assert grid.tap_s == pytest.approx(1e-7)
    assert grid.spacing_hz == pytest.approx(312.5e3)
    delays = grid.delays_s()
    assert delays is not None
    assert float(delays[-1]) == pytest.approx(3.1e-6)
    assert grid.sin_azimuth(4).tolist() == [0.0, 0.5, -1.0, -0.5]


def test_unknown_bandwidth_is_none() -> None:
    grid = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=4)
    assert grid.tap_s is None
    assert grid.spacing_hz is None
    assert grid.delays_s() is None


def test_grid_errors() -> None:
    with pytest.raises(CsiAuditError, match="n_sub must be at least 1; got 0"):
        Grid(carrier_hz=None, bandwidth_hz=None, n_sub=0)
    with pytest.raises(CsiAuditError, match=r"bandwidth_hz must be positive, in Hz.*got -1"):
        Grid(carrier_hz=None, bandwidth_hz=-1.0, n_sub=4)


def test_sizes_and_drops(make_channels: Make) -> None:
    channels = make_channels(n=5, n_rx=2, n_tx=3, n_sub=8)
    assert (len(channels), channels.n_rx, channels.n_tx, channels.n_sub) == (5, 2, 3, 8)
    drops = channels.drops
    assert drops is not None
    assert drops.tolist() == [1, 1, 2, 2, 3]
    assert dataclasses.replace(channels, labels={}).drops is None


def test_subset_takes_labels_along(make_channels: Make) -> None:
    channels = make_channels(n=6)
    for index in (torch.tensor([1, 5]), [1, 5], torch.arange(6) % 4 == 1, slice(1, 6, 4)):
        part = channels.subset(index)
        assert torch.equal(part.h, channels.h[[1, 5]])
        assert torch.equal(part.power_db, channels.power_db[[1, 5]])
        assert part.label("drop_seed").tolist() == [1, 3]


def test_subset_errors(make_channels: Make) -> None:
    channels = make_channels(n=6)
    with pytest.raises(CsiAuditError, match="index must lie within the 6 users"):
        channels.subset([6])
    with pytest.raises(CsiAuditError, match="index must select at least one user"):
        channels.subset(torch.zeros(6, dtype=torch.bool))


def test_label_errors(make_channels: Make) -> None:
    with pytest.raises(CsiAuditError, match=r"no label 'is_lo'. Did you mean 'is_los'\?"):
        make_channels().label("is_lo")


def test_invariants_are_checked(make_channels: Make) -> None:
    good = make_channels(n=4)
    with pytest.raises(CsiAuditError, match=r"h must be complex64 .*got torch\.complex128"):
        dataclasses.replace(good, h=good.h.to(torch.complex128))
    with pytest.raises(CsiAuditError, match=r"no empty axis; got torch.complex64 \(0, 1, 4, 8\)"):
        dataclasses.replace(good, h=good.h[:0])
    with pytest.raises(CsiAuditError, match=r"h must have grid\.n_sub = 8 subcarriers; got 4"):
        dataclasses.replace(good, h=good.h.transpose(2, 3))
    with pytest.raises(CsiAuditError, match=r"power_db must have one row .* 4 users; got \(3,\)"):
        dataclasses.replace(good, power_db=good.power_db[:3])
    with pytest.raises(CsiAuditError, match=r"label 'a' must have one row .* 4 users; got \(5,\)"):
        dataclasses.replace(good, labels={"a": torch.zeros(5)})
    with pytest.raises(CsiAuditError, match=r"mean \|h\|\^2 = 1 per user; 4 of 4 .* with 4\b"):
        dataclasses.replace(good, h=2 * good.h)
    with pytest.raises(CsiAuditError, match="4 of 4 users have not, first user 0 with nan"):
        dataclasses.replace(good, h=good.h * float("nan"))


@pytest.mark.parametrize("n_rx", [1, 2])
def test_audit_space_and_back(make_channels: Make, n_rx: int) -> None:
    channels = make_channels(n=5, n_rx=n_rx)
    x = audit_space(channels)
    assert x.shape == (5, 2 * n_rx, 4, 8)
    assert x.dtype == torch.float32
    assert torch.allclose(x.square().sum((1, 2, 3)), torch.full((5,), n_rx * 32.0))
    back = from_audit_space(x, channels.grid, power_db=channels.power_db, labels=channels.labels)
    assert torch.allclose(back.h, channels.h, atol=1e-6)
    assert torch.allclose(back.power_db, channels.power_db, atol=1e-5)
    assert back.label("drop_seed") is channels.label("drop_seed")


def test_samples_off_the_sphere_are_put_onto_it(make_channels: Make) -> None:
    channels = make_channels()
    back = from_audit_space(10 * audit_space(channels), channels.grid)
    assert torch.allclose(back.h, channels.h, atol=1e-6)
    assert torch.allclose(back.power_db, torch.full((6,), 20.0), atol=1e-4)


def test_cropped_samples_are_padded(make_channels: Make) -> None:
    channels = make_channels()
    x = audit_space(channels)[..., :5]
    back = audit_space(from_audit_space(x, channels.grid))
    assert torch.all(back[..., 5:].abs() < 1e-6)
    ratio = back[..., :5] / x
    assert torch.allclose(ratio, ratio[:, :1, :1, :1].expand_as(ratio), rtol=1e-3)
    with pytest.raises(CsiAuditError, match=r"at most grid\.n_sub = 8 delay taps; got"):
        from_audit_space(torch.ones(1, 2, 4, 9), channels.grid)
