"""The fidelity figure of a progress line: near the floor for the true law, far for others."""

import pytest
import torch
from torch import Tensor, nn

from channels import Grid, onto_sphere
from csi_audit.diffusion import GaussianDenoiser
from csi_audit.quick_fidelity import QuickFidelity

pytestmark = pytest.mark.unit

SHAPE = (2, 8, 8)
GRID = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=8)
VARIANCE = torch.exp(-0.6 * torch.arange(8.0)).expand(SHAPE).contiguous()


class Law(nn.Module):
    """N(0, v) as a network."""

    def __init__(self, variance: Tensor) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.inner = GaussianDenoiser(torch.zeros(SHAPE), variance)
        self.event_shape = SHAPE

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        return self.inner(x, sigma)


@pytest.fixture(scope="module")
def fidelity() -> QuickFidelity:
    generator = torch.Generator().manual_seed(0)
    real = onto_sphere(VARIANCE.sqrt() * torch.randn(1000, *SHAPE, generator=generator))
    return QuickFidelity(real, GRID, VARIANCE, sigma_min=0.01, sigma_max=20.0, samples=400, seed=3)


def test_the_true_law_is_near_the_floor_and_another_far(fidelity: QuickFidelity) -> None:
    true, wrong = fidelity(Law(VARIANCE)), fidelity(Law(VARIANCE**0.7))
    assert 0.02 < fidelity.floor < 0.08
    assert max(true.distortion, true.features) < 2.5 * fidelity.floor
    assert min(wrong.distortion, wrong.features) > 2 * max(true.distortion, true.features)


def test_it_changes_with_the_denoiser_alone(fidelity: QuickFidelity) -> None:
    law = Law(VARIANCE)
    first = fidelity(law)
    assert fidelity(Law(VARIANCE**0.9)) != first
    assert fidelity(law) == first


def test_samples_that_are_no_numbers_count_as_wholly_off(fidelity: QuickFidelity) -> None:
    found = fidelity(Law(VARIANCE * float("nan")))
    assert (found.distortion, found.features) == (1.0, 1.0)
