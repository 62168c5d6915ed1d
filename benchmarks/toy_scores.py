"""A small network that learns the score of a law in the plane from its samples.

The loop is a plain one: fresh samples of p in every step, as the flows of benchmarks.toy_flows have
them, so that the two compare what each learns and not what each was given.
"""

import math

import torch
from torch import Tensor, nn

from benchmarks.toy_flows import Draw
from channels.randomness import seeded_generator
from csi_audit.diffusion import per_sample

FREQUENCIES = (1.0, 2.0, 4.0)


class PlaneDenoiser(nn.Module):
    """D = m + c_skip y + c_out f(c_in y, log sigma) with y = x - m, preconditioned as EDM.

    Args:
        mean: m of the law, (n,).
        deviation: Root mean variance of a coordinate.
        width: Units of each of three hidden layers.
    Source: Karras et al., 2022, arXiv:2206.00364, table 1.
    """

    mean: Tensor
    deviation: Tensor
    event_shape: tuple[int, ...]

    def __init__(self, mean: Tensor, deviation: float, *, width: int = 128) -> None:
        super().__init__()
        n = len(mean)
        self.register_buffer("mean", mean.float())
        self.register_buffer("deviation", torch.tensor(deviation))
        self.event_shape = (n,)
        layers: list[nn.Module] = []
        size = n * (1 + 2 * len(FREQUENCIES)) + 1 + 2 * len(FREQUENCIES)
        for _ in range(3):
            layers += [nn.Linear(size, width), nn.SiLU()]
            size = width
        self.network = nn.Sequential(*layers, nn.Linear(width, n))

    def forward(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        level, v = per_sample(sigma, x), self.deviation**2
        y, total = x - self.mean, v + level**2
        features = torch.cat(
            [_waves(y / total.sqrt()), _waves((level / self.deviation).log() / 4)], 1
        )
        return self.mean + v / total * y + level * (v / total).sqrt() * self.network(features)


def _waves(u: Tensor) -> Tensor:
    """u, and its sines and cosines at a few frequencies."""
    turns = [f * u for f in FREQUENCIES]
    return torch.cat([u, *(t.sin() for t in turns), *(t.cos() for t in turns)], dim=1)


def fit_denoiser(
    draw: Draw,
    *,
    seed: int,
    steps: int = 12_000,
    batch: int = 512,
    learning_rate: float = 6e-3,
    width: int = 128,
) -> PlaneDenoiser:
    """Fit by Adam on a cosine schedule; the last tenth of the steps is averaged.

    log sigma is normal about 0.4 of the law's deviation, with deviation 1.4: from a fiftieth to
    some deviations of the law, where the score is decided.

    Args:
        draw: Samples of p.
        seed: Of the first parameters, batches and noise.
        steps, batch, learning_rate, width: Of the fit.
    """
    generator = seeded_generator(seed, "score")
    pilot = draw(20_000, generator)
    deviation = float(pilot.var(0).mean().sqrt())
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(torch.randint(2**31, (), generator=generator)))
        net = PlaneDenoiser(pilot.mean(0), deviation, width=width)
    average = torch.optim.swa_utils.AveragedModel(net)
    optimiser = torch.optim.Adam(net.parameters(), lr=learning_rate, fused=True)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, steps)
    for step in range(steps):
        x0 = draw(batch, generator)
        log_sigma = math.log(0.4 * deviation) + 1.4 * torch.randn(batch, generator=generator)
        sigma = log_sigma.exp()
        x = x0 + sigma[:, None] * torch.randn(x0.shape, generator=generator)
        scale = sigma**2 * deviation**2 / (sigma**2 + deviation**2)
        loss = ((net(x, sigma) - x0).square().sum(1) / scale).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        schedule.step()
        if step >= 0.9 * steps:
            average.update_parameters(net)
    net.load_state_dict(average.module.state_dict())
    return net.requires_grad_(False).eval()


def parameter_vector(net: nn.Module) -> Tensor:
    """All parameters and buffers in order, (P,)."""
    return torch.cat([t.flatten() for t in net.state_dict().values()])


def restored(vector: Tensor, *, n: int = 2, width: int = 128) -> PlaneDenoiser:
    """The network of `parameter_vector`."""
    with torch.random.fork_rng(devices=[]):  # the first parameters, overwritten at once
        net = PlaneDenoiser(torch.zeros(n), 1.0, width=width)
    state = net.state_dict()
    parts = vector.split([t.numel() for t in state.values()])
    net.load_state_dict(
        {key: part.view_as(t) for (key, t), part in zip(state.items(), parts, strict=True)}
    )
    return net.requires_grad_(False).eval()
