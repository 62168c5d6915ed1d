"""Half of a codec as somebody else wrote it, who has never heard of csi-audit: the terminal."""

from torch import Tensor, nn


class Encoder(nn.Module):
    """Images in [0, 1], centred at 0.5, to 256 numbers: the first four delay taps."""

    def forward(self, image: Tensor) -> Tensor:
        return (2 * image[..., :4] - 1).flatten(1)
