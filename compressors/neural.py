"""What every compressor of the zoo is: a torch module with a code length and a convention."""

import torch
from torch import Tensor, nn

from channels.convention import Convention
from compressors.linear_start import LinearStart


class CompressorNetwork(nn.Module):
    """A compressor as a torch module; satisfies compressors.audit_space.Compressor.

    Args:
        n_code: Real numbers in a codeword.
        convention: How audit-space channels become the module's own input; None takes them as
            they are.
    """

    def __init__(self, n_code: int, convention: Convention | None) -> None:
        super().__init__()
        self.n_code = n_code
        self.convention = Convention() if convention is None else convention

    def encode(self, y: Tensor) -> Tensor:
        """Own-scale channels (N, ...) -> codewords (N, n_code)."""
        raise NotImplementedError("abstract")

    def decode(self, z: Tensor) -> Tensor:
        """Codewords (N, n_code) -> own-scale channels (N, ...)."""
        raise NotImplementedError("abstract")

    def bits(self, z: Tensor) -> Tensor | None:
        """Bits of each codeword; None since the code is not quantised."""
        return None

    def start_from(self, start: LinearStart) -> None:
        """Set the weights so that the net computes the linear code of `start`.

        Exactly in the variant "linear_trunk". The KLT needs no start: it is fitted.
        """
        raise NotImplementedError("abstract")

    def forward(self, y: Tensor) -> Tensor:
        return self.decode(self.encode(y))


@torch.no_grad()
def silence_(norm: nn.Module) -> None:
    """Make a residual path's last batch norm return zero, so that the block is its skip alone."""
    if not isinstance(norm, nn.BatchNorm2d):
        raise TypeError(f"norm must be a BatchNorm2d; got {type(norm).__name__}.")
    norm.weight.zero_()
