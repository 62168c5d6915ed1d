"""CRNet, the multi-resolution convolutional CSI compressor, rebuilt layer by layer.

Source: Lu, Wang, Song, "Multi-resolution CSI Feedback with Deep Learning in Massive MIMO System",
2020, arXiv:1910.14322.
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


def conv_norm(n_in: int, n_out: int, kernel: tuple[int, int], *, groups: int = 1) -> nn.Sequential:
    """Convolution without bias that keeps the size, then batch norm."""
    padding = (kernel[0] // 2, kernel[1] // 2)
    conv = nn.Conv2d(n_in, n_out, kernel, padding=padding, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(n_out))


def leaky() -> nn.LeakyReLU:
    return nn.LeakyReLU(0.3)


class CRBlock(nn.Module):
    """Two resolutions (3x3, 1xR, Rx1 beside 1x5, 5x1), merged and added to the input.

    Args:
        variant: "published", or "linear_trunk" (see compressors.linear_start).
        reach: R, 9 as published; 3 in CLNet.
    """

    def __init__(self, variant: Variant, *, reach: int = 9) -> None:
        super().__init__()
        self.fine = nn.Sequential(
            conv_norm(2, 7, (3, 3)),
            leaky(),
            conv_norm(7, 7, (1, reach)),
            leaky(),
            conv_norm(7, 7, (reach, 1)),
        )
        self.coarse = nn.Sequential(conv_norm(2, 7, (1, 5)), leaky(), conv_norm(7, 7, (5, 1)))
        self.merge = conv_norm(14, 2, (1, 1))
        self.inner = leaky()
        self.activation = trunk_activation(variant)

    def forward(self, y: Tensor) -> Tensor:
        both = self.inner(torch.cat([self.fine(y), self.coarse(y)], dim=1))
        refined: Tensor = self.activation(y + self.merge(both))
        return refined


class CRNet(CompressorNetwork):
    """CRNet for (2, n_tx, n_delay) angular-delay channels.

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
        self.fine = nn.Sequential(
            conv_norm(2, 2, (3, 3)),
            leaky(),
            conv_norm(2, 2, (1, 9)),
            leaky(),
            conv_norm(2, 2, (9, 1)),
        )
        self.coarse = conv_norm(2, 2, (3, 3))
        self.merge = conv_norm(4, 2, (1, 1))
        self.activation = trunk_activation(variant)
        self.to_code = nn.Linear(size, n_code)
        self.from_code = nn.Linear(n_code, size)
        self.entry = conv_norm(2, 2, (5, 5))
        self.blocks = nn.Sequential(CRBlock(variant), CRBlock(variant))
        self.squash = last_activation(variant)

    def encode(self, y: Tensor) -> Tensor:
        """Own-scale channels (N, 2, n_tx, n_delay) -> codewords (N, n_code)."""
        both = self.activation(torch.cat([self.coarse(y), self.fine(y)], dim=1))
        z: Tensor = self.to_code(self.activation(self.merge(both)).flatten(1))
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Codewords (N, n_code) -> own-scale channels (N, 2, n_tx, n_delay)."""
        y = self.activation(self.entry(self.from_code(z).unflatten(1, self.shape)))
        y_hat: Tensor = self.squash(self.blocks(y))
        return y_hat

    @torch.no_grad()
    def start_from(self, start: LinearStart) -> None:
        """Set the weights so that the net computes the linear code of `start` exactly.

        Exact for the variant "linear_trunk".
        """
        delta_(self.coarse[0])
        pass_through_(self.coarse[1], variance=start.variance)
        delta_(self.merge[0])  # takes the two channels of the coarse path
        pass_through_(self.merge[1], variance=start.variance)
        self.to_code.weight.copy_(start.basis)
        self.to_code.bias.zero_()
        self.from_code.weight.copy_(start.basis.T)
        self.from_code.bias.zero_()
        delta_(self.entry[0])
        pass_through_(self.entry[1], variance=start.variance * start.kept)
        for block in self.blocks:
            if isinstance(block, CRBlock):
                silence_(block.merge[1])
