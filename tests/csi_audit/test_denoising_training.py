"""The denoising loss on events of any shape, where the best denoiser and its error are known."""

import math

import pytest
import torch
from torch import Tensor, nn

from compressors.plans import Plan
from csi_audit.denoising_training import DenoisingModule, NoiseRange, training_levels
from csi_audit.diffusion import per_sample

PLAN = Plan(steps=4, block_steps=2, batch_size=16)
VARIANCE = torch.tensor([0.2, 1.0, 3.0])


class Wiener(nn.Module):
    """v / (v + sigma^2) x, times a factor of its own."""

    def __init__(self, factor: float = 1.0) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))

    def forward(self, x: Tensor, sigma: Tensor) -> Tensor:
        return self.factor * VARIANCE / (VARIANCE + per_sample(sigma, x) ** 2) * x


def module(factor: float = 1.0) -> DenoisingModule:
    return DenoisingModule(Wiener(factor), VARIANCE, PLAN, NoiseRange(), 20.0, (0.1, 1.0, 10.0))


def gaussian(n: int) -> Tensor:
    return VARIANCE.sqrt() * torch.randn(n, 3, generator=torch.Generator().manual_seed(0))


@pytest.mark.unit
def test_levels_are_stratified_and_clipped() -> None:
    """One level in every n-th part of the law; the ends are clipped."""
    noise = NoiseRange(mean=-1.0, deviation=0.5, sigma_min=1e-9)
    n = 200
    sigma = training_levels(n, noise, 1e9, generator=torch.Generator().manual_seed(3))
    share = torch.special.ndtr((sigma.log() - noise.mean) / noise.deviation)
    assert torch.equal((share.double() * n).floor().long(), torch.arange(n))
    wide = NoiseRange(deviation=9.0, sigma_min=0.01)
    ends = training_levels(n, wide, 20.0, generator=torch.Generator().manual_seed(3))
    assert (float(ends.min()), float(ends.max())) == pytest.approx((0.8 * 0.01, 1.2 * 20.0))


@pytest.mark.unit
def test_the_best_denoiser_has_loss_one_at_every_level() -> None:
    """On vectors of three independent Gaussians, which are no channels."""
    generator = torch.Generator().manual_seed(1)
    x = gaussian(30_000)
    with torch.no_grad():
        found = module().validation_loss(x, generator=generator)["loss"]
        assert found.shape == (30_000,)
        for i in range(3):
            level = found[i::3].double()  # level i of the three
            error = float(level.std()) / math.sqrt(len(level))
            assert float(level.mean()) == pytest.approx(1.0, abs=5 * error)
            assert 5 * error < 0.1
        assert float(module().loss(x, generator=generator)) == pytest.approx(1.0, abs=0.05)
        assert float(module(0.5).loss(x, generator=generator)) > 1.2


@pytest.mark.unit
def test_without_a_forecast_the_denoiser_alone_is_trained() -> None:
    """The batch comes without symmetries, the scale is no weight, and a gradient there is."""
    own, x = module(0.5), gaussian(64)
    assert own.augmented(x, generator=torch.Generator()) is x
    assert [name for name, _ in own.named_parameters()] == ["network.factor"]
    assert list(own.state_dict()) == ["network.factor"]
    own.loss(x, generator=torch.Generator().manual_seed(0)).backward()
    gradient = own.network.get_parameter("factor").grad
    assert gradient is not None
    assert float(gradient) < 0  # towards 1
