"""The bundled sample, loaded once, and tiny channels made on the fly."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, settings

from channels import ChannelSet, Grid, load_channels, unit_power
from channels.sample import sample_path

# No timed assertions: a busy machine fails no test.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def sample() -> ChannelSet:
    """The bundled sample: 2,000 real users."""
    return load_channels(sample_path())


@pytest.fixture
def make_channels() -> Callable[..., ChannelSet]:
    """Random channels of any size, with labels."""

    def make(n: int = 6, n_rx: int = 1, n_tx: int = 4, n_sub: int = 8) -> ChannelSet:
        generator = torch.Generator().manual_seed(n * n_rx * n_tx * n_sub)
        h = torch.randn(n, n_rx, n_tx, n_sub, dtype=torch.complex64, generator=generator)
        unit, power_db = unit_power(h * 1e-5)
        labels = {"is_los": torch.arange(n) % 2 == 0, "drop_seed": 1 + torch.arange(n) // 2}
        grid = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=n_sub, array=None)
        return ChannelSet(h=unit, power_db=power_db, grid=grid, labels=labels)

    return make
