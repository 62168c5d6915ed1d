"""Compressors fitted to a budget, by name, and built again from what describes them."""

import json
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from channels import CsiAuditError
from compressors.bit_matched import BIT_MATCHED, build_bit_matched, fit_to_bits

Draw = Callable[..., Tensor]


@pytest.mark.unit
@pytest.mark.parametrize("arch", sorted(BIT_MATCHED))
def test_fitted_and_built_again(arch: str, draw_x: Draw) -> None:
    """Within the budget, and the same answers from options that survive JSON and weights."""
    x = draw_x(100)
    network = fit_to_bits(arch, x, 90)
    bits = network.bits(network.encode(x))
    assert bits is not None
    assert bits.shape == (100,)
    assert 60 <= int(bits.max()) <= 90
    options = json.loads(json.dumps(network.options))
    again = build_bit_matched(arch, options, event_shape=(2, 8, 8))
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), network(x))
    assert (again.n_code, again.convention) == (network.n_code, network.convention)


@pytest.mark.unit
@pytest.mark.parametrize("arch", ["klt-quantised", "top-taps"])
def test_several_receive_antennas(arch: str, draw_x: Draw) -> None:
    x = draw_x(100, (4, 4, 8))
    network = fit_to_bits(arch, x, 60)
    again = build_bit_matched(arch, network.options, event_shape=(4, 4, 8))
    again.load_state_dict(network.state_dict())
    assert torch.equal(again(x), network(x))


@pytest.mark.unit
def test_the_oracle_does_not_pay(draw_x: Draw) -> None:
    x = draw_x(100)
    paying, oracle = (fit_to_bits(name, x, 60) for name in ("top-taps", "top-taps-oracle"))
    assert (paying.options["oracle"], oracle.options["oracle"]) == (False, True)
    assert oracle.options["n_taps"] > paying.options["n_taps"]


@pytest.mark.unit
def test_what_is_refused(draw_x: Draw) -> None:
    message = r"arch must be fitted to bits; got 'klt-quantized'\. Did you mean 'klt-quantised'\?"
    with pytest.raises(CsiAuditError, match=message):
        fit_to_bits("klt-quantized", draw_x(), 60)
    with pytest.raises(CsiAuditError, match=r"arch must be fitted to bits; got 'klt'\."):
        build_bit_matched("klt", {}, event_shape=(2, 8, 8))
    message = r"n_code must be left out for top-taps, whose bits decide its length; got 16\."
    with pytest.raises(CsiAuditError, match=message):
        fit_to_bits("top-taps", draw_x(), 60, n_code=16)
    assert fit_to_bits("klt-quantised", draw_x(100), 60, n_code=8).n_code <= 8
