"""What a result says about channels, base model and machine."""

from dataclasses import replace
from typing import Any

import pytest
import torch

from channels import load_channels
from csi_audit.base import load_base
from csi_audit.provenance import base_mismatch, data_info, machine_words

pytestmark = pytest.mark.unit


def test_a_base_of_another_band_is_warned_of(tiny: Any) -> None:
    base = load_base(tiny.base)
    users = load_channels(str(tiny.data))
    assert base_mismatch(users, base) == ()
    wide = replace(base, grid=replace(base.grid, bandwidth_hz=2e7))
    (warning,) = base_mismatch(users, wide)
    assert "bandwidth of 10 MHz" in warning
    assert "20 MHz" in warning
    panel = replace(users, grid=replace(users.grid, panel=(2, 1, 4)))
    (warning,) = base_mismatch(panel, base)
    assert "a transmit array of 2 x 1 x 4 (pol x rows x columns)" in warning
    assert "trained for 1 x 1 x 8" in warning


def test_channels_are_named_with_their_drops(tiny: Any) -> None:
    known, bare = (data_info(load_channels(str(path))) for path in (tiny.data, tiny.bare))
    assert (known.path, known.n, known.drops) == (str(tiny.data), 100, 5)
    assert len(known.sha256 or "") == 64
    assert (bare.n, bare.drops) == (60, None)


def test_the_machine_is_named_with_its_threads() -> None:
    assert machine_words("cpu").startswith("CPU (")
    assert machine_words("cpu").endswith(f"{torch.get_num_threads()} threads")
