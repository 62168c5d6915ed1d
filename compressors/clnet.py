"""CLNet, CRNet with a spatial gate and squeeze-excite in its encoder, rebuilt layer by layer.

In the variant "linear_trunk" the trunk runs through the squeeze-excite path: its gate starts at the
constant sigmoid(0) = 1/2 (last weights zero), and the merging layer takes the path twice.

The published code layers are 1-D convolutions of kernel 1 over a single place: matrix products, and
computed so, several times faster.

Source: Ji, Li, "CLNet: Complex Input Lightweight Neural Network Designed for Massive MIMO CSI
Feedback", 2021, arXiv:2102.07507.
"""

import torch
from torch import Tensor, nn

from channels.convention import Convention
from compressors.crnet import CRBlock, conv_norm, leaky
from compressors.linear_start import (
    LinearStart,
    Variant,
    delta_,
    linear_code_,
    pass_through_,
    trunk_activation,
)
from compressors.neural import CompressorNetwork, silence_

WIDTH = 32  # channels of the squeeze-excite path


class SpatialGate(nn.Module):
    """y sigmoid(BN(conv3([max_c y, mean_c y]))): one gate a place, shared by the channels."""

    def __init__(self) -> None:
        super().__init__()
        self.gate = conv_norm(2, 1, (3, 3))

    def forward(self, y: Tensor) -> Tensor:
        pooled = torch.stack([y.amax(dim=1), y.mean(dim=1)], dim=1)
        return y * torch.sigmoid(self.gate(pooled))


class SqueezeExcite(nn.Module):
    """y_c sigmoid(W2 relu(W1 mean(y)))_c: one gate a channel; no biases.

    Args:
        width: Channels.
        squeezed: Hidden numbers.
    """

    def __init__(self, width: int, squeezed: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(width, squeezed, bias=False)
        self.excite = nn.Linear(squeezed, width, bias=False)

    def forward(self, y: Tensor) -> Tensor:
        gate = self.excite(torch.relu(self.squeeze(y.mean(dim=(2, 3)))))
        return y * torch.sigmoid(gate)[..., None, None]


class CLNet(CompressorNetwork):
    """CLNet for (2, n_tx, n_delay) angular-delay channels.

    Args:
        n_code: Real code numbers M; the published ratio is 2 n_tx n_delay / M.
        variant: "published", or "linear_trunk" (see above and compressors.linear_start).
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
            SpatialGate(),
        )
        self.wide = conv_norm(2, WIDTH, (1, 1))
        self.excite = SqueezeExcite(WIDTH, 2)
        self.merge = conv_norm(2 + WIDTH, 2, (1, 1))
        self.activation = trunk_activation(variant)
        self.to_code = nn.Conv1d(size, n_code, 1)
        self.from_code = nn.ConvTranspose1d(n_code, size, 1)
        self.entry = conv_norm(2, 2, (5, 5))
        self.blocks = nn.Sequential(CRBlock(variant, reach=3), CRBlock(variant, reach=3))
        self.squash = nn.Hardsigmoid() if variant == "published" else nn.Identity()

    def encode(self, y: Tensor) -> Tensor:
        """Own-scale channels (N, 2, n_tx, n_delay) -> codewords (N, n_code)."""
        both = torch.cat([self.excite(self.wide(y)), self.fine(y)], dim=1)
        merged = self.activation(self.merge(self.activation(both)))
        weight, bias = self.to_code.weight.squeeze(2), self.to_code.bias
        return nn.functional.linear(merged.flatten(1), weight, bias)

    def decode(self, z: Tensor) -> Tensor:
        """Codewords (N, n_code) -> own-scale channels (N, 2, n_tx, n_delay)."""
        weight, bias = self.from_code.weight.squeeze(2), self.from_code.bias
        y = nn.functional.linear(z, weight.T, bias).unflatten(1, self.shape)
        y_hat: Tensor = self.squash(self.blocks(self.activation(self.entry(y))))
        return y_hat

    @torch.no_grad()
    def start_from(self, start: LinearStart) -> None:
        """Set the weights so that the net computes the linear code of `start` exactly.

        Exact for the variant "linear_trunk". The other thirty channels of the wide path keep
        random weights, since a zero here and in the merging layer would never learn.
        """
        conv, norm = self.wide
        if not isinstance(conv, nn.Conv2d):
            raise TypeError("the wide path must begin with a convolution")
        conv.weight[:2] = torch.eye(2)[..., None, None]
        pass_through_(norm, variance=start.variance)
        self.excite.excite.weight.zero_()
        delta_(self.merge[0])  # takes the first two channels of the wide path
        self.merge[0].get_parameter("weight").mul_(2.0)
        pass_through_(self.merge[1], variance=start.variance)
        linear_code_(self.to_code, self.from_code, start)
        delta_(self.entry[0])
        pass_through_(self.entry[1], variance=start.variance * start.kept)
        for block in self.blocks:
            if isinstance(block, CRBlock):
                silence_(block.merge[1])
