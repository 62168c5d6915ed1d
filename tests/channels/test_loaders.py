"""A user's own loader as the source of channels."""

from pathlib import Path

import numpy as np
import pytest
import torch

from channels.channel_set import ChannelSet
from channels.readers import load_channels, names_code
from channels.support import CsiAuditError

_LOADER = """
import numpy as np
import torch
from channels import ChannelSet, Grid, unit_power

rng = np.random.default_rng(0)
h = rng.standard_normal((9, 2, 4, 8, 2)) @ np.array([1, 1j])


def four():
    return h


def three():
    return torch.from_numpy(h[:, 0])


def planes():
    return np.stack((h.real, h.imag), -1)


def whole():
    unit, power_db = unit_power(torch.from_numpy(h))
    grid = Grid(carrier_hz=None, bandwidth_hz=1e7, n_sub=8)
    return ChannelSet(h=unit, power_db=power_db, grid=grid)


def words():
    return "channels"


number = 3
"""


@pytest.fixture
def loader(tmp_path: Path) -> str:
    (tmp_path / "mine.py").write_text(_LOADER)
    return f"{tmp_path / 'mine.py'}:"


def _truth() -> np.ndarray:
    h: np.ndarray = np.random.default_rng(0).standard_normal((9, 2, 4, 8, 2)) @ np.array([1, 1j])
    return h


def _same(channels: ChannelSet, h: np.ndarray) -> None:
    gain = 10 ** (channels.power_db.double().numpy() / 20)
    np.testing.assert_allclose(channels.h.numpy() * gain[:, None, None, None], h, atol=1e-5)


def test_arrays_and_channel_sets(loader: str) -> None:
    _same(load_channels(loader + "four"), _truth())
    _same(load_channels(loader + "three", bandwidth_hz=2e7), _truth()[:, :1])
    _same(load_channels(loader + "planes", axes="user,rx,tx,sub,reim"), _truth())
    _same(load_channels(loader + "four", axes="user,rx,tx,sub", panel=(2, 1, 2)), _truth())
    whole = load_channels(loader + "whole")
    _same(whole, _truth())
    assert whole.source.path == loader + "whole"
    assert whole.grid.bandwidth_hz == 1e7


def test_a_loader_is_known_again_by_its_numbers(loader: str) -> None:
    first, again = (load_channels(loader + "four").source for _ in range(2))
    assert first.sha256 == again.sha256 is not None
    assert load_channels(loader + "three").source.sha256 != first.sha256
    assert len(load_channels(loader + "whole").source.sha256 or "") == 64


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("whole", {"n_sub": 8}, r"n_sub must be left out for .*whole': it returns a ChannelSet"),
        ("whole", {"axes": "user,rx,tx,sub", "panel": (1, 1, 4)}, "axes, panel must be left out"),
        ("four", {"variable": "h"}, "variable must be left out .* it returns one array"),
        ("four", {"n_sub": 7}, "n_sub must be 8"),
        ("four", {"panel": (2, 2, 2)}, "panel must multiply to the 4 transmit antennas"),
        ("planes", {}, "holds real numbers"),
        ("words", {}, "must return a ChannelSet or a complex array .*; got str"),
        ("number", {}, "must be a function; got int"),
        ("nothing", {}, "has no attribute 'nothing'"),
    ],
)
def test_what_a_loader_cannot_take(
    loader: str, name: str, options: dict[str, object], message: str
) -> None:
    with pytest.raises(CsiAuditError, match=message):
        load_channels(loader + name, **options)  # type: ignore[arg-type]


def test_names_of_code_and_of_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert names_code("mine.py:load")
    assert names_code("package.module:Class.load")
    assert not names_code("channels.h5")
    assert not names_code("C:/data/channels.h5")
    Path("odd:name").write_bytes(b"x")
    assert not names_code("odd:name")


def test_tensors_keep_their_gradient_to_themselves(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "import torch\n\ndef load():\n"
        "    return torch.ones(17, 2, 3, dtype=torch.complex64).requires_grad_()\n"
    )
    channels = load_channels(f"{tmp_path / 'mine.py'}:load")
    assert not channels.h.requires_grad
    assert torch.equal(channels.h.abs(), torch.ones(17, 1, 2, 3))
