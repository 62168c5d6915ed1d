"""Small random channels for compressors, and the linear code that neural nets start from."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, settings
from torch import Tensor

from channels import ChannelSet, Grid, Source, onto_sphere, unit_power
from compressors import Klt
from compressors.linear_start import LinearStart

# No timed assertions: a busy machine fails no test.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def draw_x() -> Callable[..., Tensor]:
    """Audit-space channels (n, *shape) on the unit-power sphere, early delay taps strongest."""

    def draw(n: int = 12, shape: tuple[int, int, int] = (2, 8, 8), seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        decay = torch.exp(-0.4 * torch.arange(shape[2]))
        return onto_sphere(decay * torch.randn(n, *shape, generator=generator))

    return draw


@pytest.fixture(scope="session")
def draw_channels() -> Callable[..., ChannelSet]:
    """Users of an 8-antenna, 8-subcarrier array whose file hash is `seed`."""

    def draw(n: int = 40, n_tx: int = 8, n_sub: int = 8, seed: int = 0) -> ChannelSet:
        generator = torch.Generator().manual_seed(seed)
        h = torch.randn(n, 1, n_tx, n_sub, dtype=torch.complex64, generator=generator)
        h, power_db = unit_power(h.cumsum(-1).cumsum(-2))  # neighbours alike: few beams and taps
        grid = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=n_sub)
        source = Source(path=f"set{seed}.h5", sha256=str(seed), format="tensor", scenario=None)
        return ChannelSet(h=h, power_db=power_db, grid=grid, source=source)

    return draw


@pytest.fixture(scope="session")
def linear_start() -> Callable[..., tuple[Klt, LinearStart]]:
    """The KLT of some channels with n_code reals, and itself as a start."""

    def fit(x: Tensor, n_code: int) -> tuple[Klt, LinearStart]:
        _, pairs, n_tx, n_delay = x.shape
        klt = Klt(n_code, n_tx=n_tx, n_delay=n_delay, n_rx=pairs // 2).fit(x)
        return klt, LinearStart(basis=klt.real_rows(), kept=0.9)

    return fit
