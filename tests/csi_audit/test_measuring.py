"""What is measured on channels: the losses of each compressor and the features."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from channels import ChannelDomain, ChannelSet, audit_space, features
from channels.support import CsiAuditError
from compressors import Compressor, NamedCompressor, in_audit_space, load_compressor
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


def with_bits(own_code: Path, bits: Callable[[Tensor], Tensor | None]) -> NamedCompressor:
    """The truncation with its codewords counted by `bits`."""
    named = load_compressor(f"{own_code}:Half")
    named.compressor.bits = bits  # type: ignore[method-assign, assignment]
    return named


def strong(z: Tensor) -> Tensor:
    """A variable rate: a bit for each number above 0.5, and one."""
    return 1 + (z > 0.5).sum(1)


def test_bits_are_counted_for_each_channel(
    draw_users: Callable[..., ChannelSet], own_code: Path
) -> None:
    channels = draw_users(1203)  # three blocks
    named, x = with_bits(own_code, strong), audit_space(channels)
    found = measure(x, [named], ChannelDomain.of(channels)).bits["Half"]
    assert found is not None
    np.testing.assert_array_equal(found, strong(x[..., :4].flatten(1)).double())
    assert len(set(found.tolist())) > 3


def test_an_unquantised_code_has_no_bits(
    draw_users: Callable[..., ChannelSet], own_code: Path
) -> None:
    assert measured(draw_users(5), own_code).bits == {"Half": None, "Quarter": None}


def test_bits_that_count_nothing_are_refused(
    draw_users: Callable[..., ChannelSet], own_code: Path
) -> None:
    channels = draw_users(5)
    named: NamedCompressor = with_bits(own_code, lambda z: torch.zeros(len(z)))
    assert isinstance(named.compressor, Compressor)
    with pytest.raises(CsiAuditError, match="compressor Half: bits must be positive and finite"):
        measure(audit_space(channels), [named], ChannelDomain.of(channels))
