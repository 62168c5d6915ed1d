"""How large is the error of a denoiser going to be? A forecast from the noisy input alone.

Channels differ: with one path nearly all noise can be removed, with forty it cannot, so a plain
mean of errors is decided by the rich ones. Dividing each error r_n by its forecast u_n lets both
kinds count alike,

    loss = mean_n w_n r_n,   w_n = 1/u_n over its mean,

and leaves the minimiser where it was: u is a function of x_sigma and sigma alone, given which the
posterior mean E[x0 | x_sigma] is best under any positive weight.
"""

from typing import Literal

import torch
from torch import Tensor, nn

Weighting = Literal["forecast", "even"]

_LEAST, _MOST = -5.0, 1.0  # of log u inside a weight


class ErrorForecast(nn.Module):
    """log u(x_sigma, sigma), a small MLP on five numbers that describe D(x_sigma, sigma).

    Fitted beside the denoiser by mean(r/u + log u), which is least at u = E[r | x_sigma].

    Source: Karras et al., 2024, arXiv:2312.02696, section 2.4, for a weight that follows sigma;
    here it follows the input too.
    """

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        last = nn.Linear(width, 1)
        self.mlp = nn.Sequential(
            nn.Linear(5, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU(), last
        )
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, x0_hat: Tensor, sigma: Tensor) -> Tensor:
        log_u: Tensor = self.mlp(_descriptors(x0_hat.detach().float(), sigma))[:, 0]
        return log_u

    def losses(self, error: Tensor, x0_hat: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
        """The weighted mean of the errors, and the forecast's own loss.

        Args:
            error: r, relative errors of a batch (N,).
            x0_hat: D(x_sigma, sigma), (N, ...); no gradient reaches it from the forecast.
            sigma: (N,).
        """
        log_u = self(x0_hat, sigma)
        weight = (-log_u.detach().clamp(_LEAST, _MOST)).exp()
        own = (error.detach() / log_u.exp() + log_u).mean()
        return (weight / weight.mean() * error).mean(), own


def _descriptors(x0_hat: Tensor, sigma: Tensor) -> Tensor:
    """Noise level, energy, absolute sum, number of large coefficients by two measures; (N, 5)."""
    d = x0_hat.flatten(1)
    energy = d.square().sum(1) + 1e-6
    above = (d.abs() > sigma[:, None]).float().sum(1)
    return torch.stack(
        [
            sigma.log() / 2,
            energy.log() / 4 - 1.5,
            (d.abs().sum(1) + 1e-6).log() - 6,
            (energy.square() / (d.pow(4).sum(1) + 1e-9)).log() / 2 - 2,
            (above + 1).log() / 4,
        ],
        dim=1,
    )
