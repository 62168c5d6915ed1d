"""ACRNet, a CSI compressor of aggregated residual blocks with learned slopes, layer by layer.

In the variant "linear_trunk" the PReLUs between the residual blocks start at slope 1, which is the
identity, and learn to bend; no layer is left out but the last sigmoid.

Source: Lu, Zhang, He, Wang, Song, "Binarized Aggregated Network with Quantization: Flexible Deep
Learning Deployment for CSI Feedback in Massive MIMO System", 2021, arXiv:2105.00354.
"""

import torch
from torch import Tensor, nn

from channels.convention import Convention
from channels.support import CsiAuditError
from compressors.crnet import conv_norm
from compressors.linear_start import (
    LinearStart,
    Variant,
    delta_,
    last_activation,
    linear_code_,
    pass_through_,
)
from compressors.neural import CompressorNetwork, silence_


def sloped(width: int) -> nn.PReLU:
    """PReLU with a slope a channel, 0.3 at the start."""
    return nn.PReLU(width, init=0.3)


def trunk_slope(variant: Variant) -> nn.PReLU:
    """PReLU of the two trunk channels: slope 0.3 as published, or 1, the identity."""
    return nn.PReLU(2, init=0.3 if variant == "published" else 1.0)


class ResidualBlock(nn.Module):
    """A path added to the input, then PReLU."""

    def __init__(self, path: nn.Sequential, variant: Variant) -> None:
        super().__init__()
        self.path = path
        self.slope = trunk_slope(variant)

    def forward(self, y: Tensor) -> Tensor:
        refined: Tensor = self.slope(y + self.path(y))
        return refined


def encoder_block(variant: Variant) -> ResidualBlock:
    """CB1x9, PReLU, CB9x1."""
    path = nn.Sequential(conv_norm(2, 2, (1, 9)), sloped(2), conv_norm(2, 2, (9, 1)))
    return ResidualBlock(path, variant)


def decoder_block(variant: Variant, expansion: int) -> ResidualBlock:
    """CB1x9 2->8e, PReLU, CB7x7 in 4e groups, PReLU, CB9x1 8e->2."""
    width = 8 * expansion
    path = nn.Sequential(
        conv_norm(2, width, (1, 9)),
        sloped(width),
        conv_norm(width, width, (7, 7), groups=4 * expansion),
        sloped(width),
        conv_norm(width, 2, (9, 1)),
    )
    return ResidualBlock(path, variant)


class ACRNet(CompressorNetwork):
    """ACRNet for (2, n_tx, n_delay) angular-delay channels.

    Args:
        n_code: Real code numbers M; the published ratio is 2 n_tx n_delay / M.
        expansion: e, the width of the decoder's blocks is 8e; "ACRNet-1x" has 1.
        variant: "published", or "linear_trunk" (see above and compressors.linear_start).
        convention: How audit-space channels become the net's own input.
    Raises:
        CsiAuditError: expansion below 1.
    """

    def __init__(
        self,
        n_code: int,
        *,
        n_tx: int = 32,
        n_delay: int = 32,
        expansion: int = 1,
        variant: Variant = "published",
        convention: Convention | None = None,
    ) -> None:
        if expansion < 1:
            raise CsiAuditError(f"expansion must be at least 1; got {expansion}.")
        super().__init__(n_code, convention)
        self.shape = (2, n_tx, n_delay)
        size = 2 * n_tx * n_delay
        self.encoder = nn.Sequential(
            conv_norm(2, 2, (5, 5)),
            trunk_slope(variant),
            encoder_block(variant),
            encoder_block(variant),
        )
        self.to_code = nn.Linear(size, n_code)
        self.from_code = nn.Linear(n_code, size)
        self.decoder = nn.Sequential(
            conv_norm(2, 2, (5, 5)),
            trunk_slope(variant),
            decoder_block(variant, expansion),
            decoder_block(variant, expansion),
        )
        self.squash = last_activation(variant)

    def encode(self, y: Tensor) -> Tensor:
        """Own-scale channels (N, 2, n_tx, n_delay) -> codewords (N, n_code)."""
        z: Tensor = self.to_code(self.encoder(y).flatten(1))
        return z

    def decode(self, z: Tensor) -> Tensor:
        """Codewords (N, n_code) -> own-scale channels (N, 2, n_tx, n_delay)."""
        y = self.from_code(z).unflatten(1, self.shape)
        y_hat: Tensor = self.squash(self.decoder(y))
        return y_hat

    @torch.no_grad()
    def start_from(self, start: LinearStart) -> None:
        """Set the weights so that the net computes the linear code of `start` exactly.

        Exact for the variant "linear_trunk".
        """
        linear_code_(self.to_code, self.from_code, start)
        kept = start.variance * start.kept
        for half, variance in ((self.encoder, start.variance), (self.decoder, kept)):
            entry = half[0]
            if isinstance(entry, nn.Sequential):
                delta_(entry[0])
                pass_through_(entry[1], variance=variance)
            for block in half:
                if isinstance(block, ResidualBlock):
                    silence_([m for m in block.path.modules() if isinstance(m, nn.BatchNorm2d)][-1])
