"""CsiNet, the first neural CSI compressor, rebuilt layer by layer.

Source: Wen, Shih, Jin, "Deep Learning for Massive MIMO CSI Feedback", 2018, arXiv:1712.08919.
"""

import torch
from torch import Tensor, nn

from channels.convention import Convention
from compressors.linear_start import (
    LinearStart,
    Variant,
    delta_,
    last_activation,
    pass_through_,
    trunk_activation,
)
from compressors.neural import CompressorNetwork, silence_


class RefineNet(nn.Module):
    """conv3 2->8, 8->16, 16->2 with batch norm, added to the input, LeakyReLU 0.3."""

    def __init__(self, variant: Variant) -> None:
        super().__init__()
        self.path = nn.Sequential(
            nn.Conv2d(2, 8, 3, padding=1),
            nn.BatchNorm2d(8),
            nn.LeakyReLU(0.3),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.BatchNorm2d(16),
            nn.LeakyReLU(0.3),
            nn.Conv2d(16, 2, 3, padding=1),
            nn.BatchNorm2d(2),
        )
        self.activation = trunk_activation(variant)

    def forward(self, y: Tensor) -> Tensor:
        refined: Tensor = self.activation(y + self.path(y))
        return refined


class CsiNet(CompressorNetwork):
    """CsiNet for (2, n_tx, n_delay) angular-delay channels.

    Args:
        n_code: Real code numbers M; the published ratio is 2 n_tx n_delay / M.
        variant: "published", or "linear_trunk" (see compressors.linear_start).
        convention: How audit-space channels become the net's own input.
    """

    def __init__(
        self,
        n_code: int,
        *,
        n_tx: int = 32,
        n_delay: int = 32,
        variant: Variant = "published",
        convention: Convention | None = None,
    ) -> None:
        super().__init__(n_code, convention)
        self.shape = (2, n_tx, n_delay)
        size = 2 * n_tx * n_delay
        self.entry = nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.BatchNorm2d(2))
        self.activation = trunk_activation(variant)
        self.to_code = nn.Linear(size, n_code)
        self.from_code = nn.Linear(n_code, size)
        self.refine = nn.Sequential(RefineNet(variant), RefineNet(variant))
        self.exit = nn.Conv2d(2, 2, 3, padding=1)
        self.squash = last_activation(variant)

    def encode(self, y: Tensor) -> Tensor:
        """Own-scale channels (N, 2, n_tx, n_delay) -> codewords (N, n_code)."""
        z: Tensor = self.to_code(self.activation(self.entry(y)).flatten(1))
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Codewords (N, n_code) -> own-scale channels (N, 2, n_tx, n_delay)."""
        y = self.from_code(z).unflatten(1, self.shape)
        y_hat: Tensor = self.squash(self.exit(self.refine(y)))
        return y_hat

    @torch.no_grad()
    def start_from(self, start: LinearStart) -> None:
        """Set the weights so that the net computes the linear code of `start` exactly.

        Exact for the variant "linear_trunk".
        """
        delta_(self.entry[0])
        pass_through_(self.entry[1], variance=start.variance)
        self.to_code.weight.copy_(start.basis)
        self.to_code.bias.zero_()
        self.from_code.weight.copy_(start.basis.T)
        self.from_code.bias.zero_()
        for block in self.refine:
            if isinstance(block, RefineNet):
                silence_(block.path[-1])
        delta_(self.exit)
