"""A convolutional autoencoder whose codeword is quantised: what it feeds back has real bits.

Each code number is squashed by tanh, rounded to one of a few levels and stretched again, as finite
scalar quantisation does; the squash gives rare large coefficients wide cells instead of clipping
them. There are no batch norms, so training and audit see the same function of a sample.

Source of the quantiser: Mentzer, Minnen, Agustsson, Tschannen, "Finite Scalar Quantization: VQ-VAE
Made Simple", 2023, arXiv:2309.15505. The autoencoder is of this package, not of a paper.
"""

import torch
from torch import Tensor, nn

from channels.convention import Convention
from channels.support import CsiAuditError
from compressors.linear_start import LinearStart, linear_code_
from compressors.neural import CompressorNetwork

SPREAD = 2.0  # in deviations; 1.5 and less or a uniform grid lose more on coefficients of channels


def companded(u: Tensor, levels: int) -> Tensor:
    """The nearest of `levels` values after a squash by tanh.

        q_k = (2k + 1)/levels - 1,   u_hat = 2 atanh(q_k),   k: the q_k nearest to tanh(u/2)

    The gradient is that of both functions, straight through the rounding between them.

    >>> companded(torch.tensor([-30.0, -0.1, 0.4, 30.0]), 4)
    tensor([-1.9459, -0.5108,  0.5108,  1.9459])
    """
    g = torch.tanh(u / SPREAD)
    k = ((g.detach() + 1) * (levels / 2)).floor().clamp(0, levels - 1).nan_to_num(0.0).long()
    q = (2 * torch.arange(levels, dtype=u.dtype, device=u.device) + 1) / levels - 1
    followed = SPREAD * torch.atanh(q[k] + _without_value(g))
    return (SPREAD * torch.atanh(q))[k] + _without_value(followed)  # a level to the last bit


def _without_value(g: Tensor) -> Tensor:
    """0 with the gradient of g; NaN where g is."""
    return g - g.detach()


class ResidualPath(nn.Module):
    """y + path(y): conv3 2->8, 1x9, 9x1, conv3 8->2 with LeakyReLU 0.3 between."""

    def __init__(self) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            nn.LeakyReLU(0.3),
            nn.Conv2d(8, 8, (1, 9), padding=(0, 4)),
            nn.LeakyReLU(0.3),
            nn.Conv2d(8, 8, (9, 1), padding=(4, 0)),
            nn.LeakyReLU(0.3),
            nn.Conv2d(8, 2, 3, padding=1),
        )

    def forward(self, y: Tensor) -> Tensor:
        refined: Tensor = y + self.path(y)
        return refined

    def silence_(self) -> None:
        """Make the path return zero."""
        for weight in self.path[-1].parameters():
            weight.zero_()


class QuantisedAutoencoder(CompressorNetwork):
    """One residual path, a linear code, its quantiser, three residual paths.

        z_i = d_i companded(u_i),   u_i = (linear code)_i / d_i

    The deviations d_i of the code numbers are weights: known to both ends, and learned. One of
    `levels`^n_code codewords is fed back.

    Args:
        n_code: Code numbers M.
        levels: Values that a code number can take, at least 2.
        convention: How audit-space channels become the net's own input.
    Raises:
        CsiAuditError: levels below 2.
    """

    def __init__(
        self,
        n_code: int,
        *,
        n_tx: int = 32,
        n_delay: int = 32,
        levels: int = 8,
        convention: Convention | None = None,
    ) -> None:
        if levels < 2:
            raise CsiAuditError(f"levels must be at least 2, one bit a code number; got {levels}.")
        super().__init__(n_code, convention)
        self.levels = levels
        self.shape = (2, n_tx, n_delay)
        size = 2 * n_tx * n_delay
        self.entry = ResidualPath()
        self.to_code = nn.Linear(size, n_code)
        self.log_deviation = nn.Parameter(torch.zeros(n_code))
        self.from_code = nn.Linear(n_code, size)
        self.refine = nn.Sequential(ResidualPath(), ResidualPath(), ResidualPath())

    def quantised(self, z: Tensor) -> Tensor:
        """What the decoder knows of a linear code (N, n_code): z_i above, same shape."""
        deviation = self.log_deviation.exp()
        u = z.to(deviation.dtype) / deviation  # levels lie too close for half precision
        return deviation * companded(u, self.levels)

    def encode(self, y: Tensor) -> Tensor:
        """Own-scale channels (N, 2, n_tx, n_delay) -> quantised codewords (N, n_code)."""
        return self.quantised(self.to_code(self.entry(y).flatten(1)))

    def decode(self, z: Tensor) -> Tensor:
        """Codewords (N, n_code) -> own-scale channels (N, 2, n_tx, n_delay)."""
        y_hat: Tensor = self.refine(self.from_code(z).unflatten(1, self.shape))
        return y_hat

    def bits(self, z: Tensor) -> Tensor:
        """Bits of each codeword, int64 (N,): ceil(n_code log2 levels), numbers packed together."""
        whole = (self.levels**self.n_code - 1).bit_length()
        return torch.full((len(z),), whole, dtype=torch.int64, device=z.device)

    @torch.no_grad()
    def start_from(self, start: LinearStart) -> None:
        """Set the weights so that the net computes the linear code of `start`, quantised.

        The levels of each code number are laid over SPREAD of its deviations on the channels.
        """
        for path in (self.entry, *self.refine):
            if isinstance(path, ResidualPath):
                path.silence_()
        linear_code_(self.to_code, self.from_code, start)
        self.log_deviation.copy_(start.code_deviation().log())
