"""The check of declared bits, on codes of one number and of few codewords."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from channels import Convention
from compressors.preflight import run_preflight
from compressors.quantised_klt import QuantisedKlt

pytestmark = pytest.mark.unit

Draw = Callable[..., Tensor]


class FlatCode:
    """One number a codeword, of 4 bits, in a tensor (N,)."""

    n_code = 1
    convention = Convention(event_shape=(2, 8, 8))

    def encode(self, y: Tensor) -> Tensor:
        return (7 * y[:, 0, 0, 0] / y[:, 0, 0, 0].abs().max()).round().clamp(-8, 7)

    def decode(self, z: Tensor) -> Tensor:
        return F.pad(z.reshape(-1, 1, 1, 1), (0, 7, 0, 7, 0, 1))

    def bits(self, z: Tensor) -> Any:
        return torch.full((len(z),), 4)


def test_bits_of_a_code_without_an_axis_of_numbers(draw_x: Draw) -> None:
    found = run_preflight(FlatCode(), draw_x(24), name="mine")
    assert found.verdict("code length").outcome == "pass"
    assert (found.verdict("bits").outcome, found.verdict("bits").measured) == ("pass", 4)


@pytest.mark.parametrize("bits", [1, 3])
def test_as_many_codewords_as_bits_name_are_none_too_many(bits: int, draw_x: Draw) -> None:
    found = run_preflight(QuantisedKlt.for_bits(draw_x(64), bits), draw_x(64), name="mine")
    assert found.verdict("bits").outcome == "pass"
