"""What is measured on channels: the losses of each compressor and the features."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from channels import ChannelDomain, ChannelSet, audit_space, features
from compressors import in_audit_space, load_compressor
from csi_audit.losses import NmseLoss, in_blocks
from csi_audit.measuring import LOSSES, Measured, measure

pytestmark = pytest.mark.unit


def measured(channels: ChannelSet, own_code: Path) -> Measured:
    pair = [load_compressor(f"{own_code}:{name}") for name in ("Half", "Quarter")]
    return measure(audit_space(channels), pair, ChannelDomain.of(channels))


def test_losses_of_a_truncation(draw_users: Callable[..., ChannelSet], own_code: Path) -> None:
    """What a truncation loses is the power of the taps it drops."""
    channels = draw_users(30)
    found, x = measured(channels, own_code), audit_space(channels).double()
    assert list(found.losses) == ["Half", "Quarter"]
    for name, kept in (("Half", 4), ("Quarter", 2)):
        lost = x[..., kept:].square().flatten(1).sum(1)
        assert found.losses[name].keys() == LOSSES.keys() == {"nmse", "own_mse", "sgcs"}
        np.testing.assert_allclose(found.nmse(name), lost / 64, rtol=1e-5)
        np.testing.assert_allclose(found.losses[name]["own_mse"], lost / 128, rtol=1e-5)
        similarity = found.losses[name]["sgcs"]
        assert ((similarity > 0) & (similarity <= 1)).all()
    assert (found.nmse("Quarter") > found.nmse("Half")).all()
    assert found.losses["Half"]["sgcs"].mean() > found.losses["Quarter"]["sgcs"].mean()


def test_features_are_those_of_the_channels(
    draw_users: Callable[..., ChannelSet], own_code: Path
) -> None:
    channels = draw_users(30)
    found, expected = measured(channels, own_code), features(channels)
    assert list(found.features) == list(expected)
    for name, value in expected.items():
        assert found.features[name].dtype == np.float64
        np.testing.assert_allclose(found.features[name], value.double(), rtol=1e-4)


def test_order_and_blocks_change_nothing(
    draw_users: Callable[..., ChannelSet], own_code: Path
) -> None:
    channels = draw_users(23)
    order = np.random.default_rng(0).permutation(23)
    whole, moved = (measured(c, own_code) for c in (channels, channels.subset(order.tolist())))
    np.testing.assert_allclose(moved.nmse("Half"), whole.nmse("Half")[order], rtol=1e-6)
    half = in_audit_space(load_compressor(f"{own_code}:Half").compressor)
    pieces = in_blocks(NmseLoss(half), whole.x, block=7)
    np.testing.assert_allclose(pieces, whole.nmse("Half"), rtol=1e-6)
