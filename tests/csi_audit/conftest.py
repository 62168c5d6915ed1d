"""Laws with a closed form, the gate through which every statistical test goes, tiny audits."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings
from scipy import stats
from torch import Tensor

from channels import ChannelSet, Grid, Source, load_channels, unit_power, write_channels
from channels.sample import sample_path
from csi_audit.base import Base, build_denoiser, save_base
from csi_audit.diffusion import Denoiser, GaussianDenoiser
from csi_audit.networks import NetworkSpec
from csi_audit.sampling import sigma_grid

# No timed assertions: a busy machine fails no test.
settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=60
)
settings.load_profile("untimed")

ALPHA = 1e-6
GRID = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=1)


def tolerance(replicates: Tensor) -> Tensor:
    """t SE of the mean of replicates (R, ...) at alpha = 1e-6, two-sided."""
    n = len(replicates)
    return stats.t.ppf(1 - ALPHA / 2, n - 1) * replicates.std(0) / math.sqrt(n)


def pass_the_gate(replicates: Tensor, truth: Tensor | float, mutants: Mapping[str, Tensor]) -> None:
    """Assert that a mean of replicates is the truth, that the test could have told, and does.

    Args:
        replicates: Independent estimates (R,) or (R, k), each component of its own.
        truth: Scalar or (k,).
        mutants: Name -> the same estimates from a wrong implementation, which must fail.
    """
    replicates = replicates.double()
    truth = torch.as_tensor(truth, dtype=torch.float64)
    half = tolerance(replicates)
    shifts = torch.stack([(wrong.double().mean(0) - truth).abs() for wrong in mutants.values()])
    assert bool((half <= shifts.amin(0) / 3).all()), f"too few samples: {half}, {shifts}"
    assert bool((half <= 0.2 * truth.abs()).all()), f"tolerance {half} of {truth}"
    gap = (replicates.mean(0) - truth).abs()
    assert bool((gap <= half).all()), f"{replicates.mean(0)} is not {truth} within {half}"
    for name, wrong in mutants.items():
        far = (wrong.double().mean(0) - truth).abs() > tolerance(wrong.double())
        assert bool(far.all()), f"the mutant {name!r} passes"


@pytest.fixture(scope="session")
def gate() -> Callable[[Tensor, Tensor | float, Mapping[str, Tensor]], None]:
    return pass_the_gate


@dataclass(frozen=True, kw_only=True)
class GaussianLaw:
    """N(mean, diag(variance)) as a base model, with ten top deviations of start noise."""

    mean: Tensor
    variance: Tensor
    sigma_max: float = 25.0

    @property
    def base(self) -> Base:
        return self.with_denoiser(GaussianDenoiser(self.mean, self.variance))

    def with_denoiser(self, denoiser: Denoiser, *, sigma_min: float = 0.01) -> Base:
        return Base(
            denoiser=denoiser,
            variance=self.variance,
            sigma_min=sigma_min,
            sigma_max=self.sigma_max,
            grid=GRID,
        )

    def chain_moments(
        self, steps: int, *, second_order: bool, sigma_min: float = 0.01
    ) -> tuple[Tensor, Tensor]:
        """Mean and variance of each coordinate under the discretised stochastic chain, exactly.

        In y = x - mean the step is y' = A (y, y_previous) + noise, linear in two states.
        """
        v = self.variance.double()
        m = torch.stack([-self.mean.double()] * 2)  # of y and of y one step earlier
        c = (v + self.sigma_max**2).expand(2, 2, -1).clone()  # their second moments
        grid, kept_before, h_before = sigma_grid(self.sigma_max, sigma_min, steps), 0 * v, math.inf
        for s, s_next in pairwise(grid.tolist()):
            q, kept, h = 1 - (s_next / s) ** 2, v / (v + s**2), math.log(s / s_next)
            r = h / (2 * h_before) if second_order else 0.0
            gain = torch.stack([1 - q + q * (1 + r) * kept, -q * r * kept_before])
            cross = (gain[:, None] * c).sum(0)  # of y' and the two states
            square = (gain * cross).sum(0) + s_next**2 * q
            c = torch.stack([torch.stack([square, cross[0]]), torch.stack([cross[0], c[0, 0]])])
            m = torch.stack([(gain * m).sum(0), m[0]])
            kept_before, h_before = kept, h
        last = v / (v + sigma_min**2)
        return self.mean.double() + last * m[0], last**2 * c[0, 0]


@pytest.fixture(scope="session")
def gaussian() -> GaussianLaw:
    """Six coordinates of variances 0.05 to 5, each 0.3 deviations off centre."""
    variance = torch.tensor([0.05, 0.2, 0.5, 1.0, 2.0, 5.0])
    return GaussianLaw(mean=0.3 * variance.sqrt(), variance=variance)


@pytest.fixture(scope="session")
def sample() -> ChannelSet:
    """The bundled sample: 2,000 real users."""
    return load_channels(sample_path())


@pytest.fixture(scope="session")
def draw_users() -> Callable[..., ChannelSet]:
    """Users of an 8-antenna, 8-subcarrier array."""

    def draw(n: int = 40, n_tx: int = 8, seed: int = 0) -> ChannelSet:
        generator = torch.Generator().manual_seed(seed)
        h = torch.randn(n, 1, n_tx, 8, dtype=torch.complex64, generator=generator)
        h, power_db = unit_power(h.cumsum(-1).cumsum(-2))  # neighbours alike: few beams and taps
        grid = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=8)
        source = Source(path=f"set{seed}.h5", sha256=str(seed), format="tensor", scenario=None)
        return ChannelSet(h=h, power_db=power_db, grid=grid, source=source)

    return draw


# --- Files of an 8 x 8 audit: seconds instead of minutes ------------------------------------------

OWN_CODE = '''"""Compressors that keep the first delay taps of 8 x 8 channels."""

import torch

from channels import Convention


class Half:
    kept, n_code = 4, 64
    convention = Convention(event_shape=(2, 8, 8))

    def encode(self, y):
        return y[..., : self.kept].flatten(1)

    def decode(self, z):
        y = z.unflatten(1, (2, 8, self.kept))
        return torch.nn.functional.pad(y, (0, 8 - self.kept))

    def bits(self, z):
        return None


class Quarter(Half):
    kept, n_code = 2, 32
'''


@pytest.fixture(scope="session")
def own_code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A user's file with the compressors `Half` and `Quarter`."""
    path = tmp_path_factory.mktemp("own") / "mine.py"
    path.write_text(OWN_CODE)
    return path


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained base of 8 x 8 channels: the Wiener filter of some coefficient variances."""
    network = NetworkSpec(options=(("hidden", 16), ("depth", 2)))
    generator = torch.Generator().manual_seed(0)
    power = torch.rand(8, 8, generator=generator) * torch.exp(-0.5 * torch.arange(8.0))
    with torch.random.fork_rng(devices=[]):
        denoiser = build_denoiser(network, power.expand(2, 8, 8) + 1e-3)
    path = tmp_path_factory.mktemp("base") / "base.safetensors"
    save_base(
        path,
        denoiser.state_dict(),
        network=network,
        sigma_min=0.01,
        sigma_max=20.0,
        grid=Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=8),
        card={},
    )
    return path


@dataclass(frozen=True, kw_only=True)
class TinyFiles:
    """Paths of an 8 x 8 audit: `data` has drops and a bandwidth, `bare` neither."""

    data: Path
    bare: Path
    base: Path
    own_code: Path

    @property
    def half(self) -> str:
        return f"{self.own_code}:Half"

    @property
    def quarter(self) -> str:
        return f"{self.own_code}:Quarter"


@pytest.fixture(scope="session")
def tiny(
    tmp_path_factory: pytest.TempPathFactory,
    draw_users: Callable[..., ChannelSet],
    tiny_base: Path,
    own_code: Path,
) -> TinyFiles:
    """100 users in 5 drops, 60 of which nothing is known, a base and two compressors."""
    folder = tmp_path_factory.mktemp("tiny")
    users, bare = draw_users(100, seed=1), draw_users(60, seed=2)
    labels = {"drop_seed": torch.arange(100) // 20, "is_los": torch.arange(100) % 4 == 0}
    write_channels(folder / "users.h5", replace(users, labels=labels))
    unknown = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=8)
    write_channels(folder / "bare.h5", replace(bare, grid=unknown))
    return TinyFiles(
        data=folder / "users.h5", bare=folder / "bare.h5", base=tiny_base, own_code=own_code
    )
