"""Start a neural autoencoder at the best linear code instead of at random weights.

Published recipes need hundreds of epochs to reach what the Karhunen-Loeve transform gives at
once. In the variant "linear_trunk" of a net the activations between the code and the residual
blocks, and the sigmoid at the end, are the identity; with delta kernels and pass-through batch
norms such a net computes the KLT exactly on its first step and learns only what is beyond it.
Layers and parameter counts are the published ones. What else a net must change for it (gates,
layer norms) its own module says.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

Variant = Literal["published", "linear_trunk"]


def trunk_activation(variant: Variant) -> nn.Module:
    """LeakyReLU 0.3 as published, or the identity."""
    return nn.LeakyReLU(0.3) if variant == "published" else nn.Identity()


def last_activation(variant: Variant) -> nn.Module:
    """Sigmoid as published (own data in [0, 1] about 0.5), or the identity."""
    return nn.Sigmoid() if variant == "published" else nn.Identity()


@dataclass(frozen=True, kw_only=True)
class LinearStart:
    """A linear code to start from.

    Attributes:
        basis: Orthonormal rows, real (n_code, 2 n_tx n_delay).
        variance: Mean variance of an input number; 0.5 for unit-power channels.
        kept: Share of the power that the code keeps.
        deviation: Root mean square of each code number on the channels, (n_code,), positive;
            None takes the input numbers for uncorrelated.
    """

    basis: Tensor
    variance: float = 0.5
    kept: float = 1.0
    deviation: Tensor | None = None

    def code_deviation(self) -> Tensor:
        """`deviation`, or of uncorrelated input: sqrt(variance) for each code number."""
        if self.deviation is not None:
            return self.deviation
        return torch.full((len(self.basis),), self.variance**0.5)


@torch.no_grad()
def delta_(conv: nn.Module) -> None:
    """Make a convolution copy its first input channels: w[c, c, centre] = 1, all else 0."""
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"conv must be a Conv2d; got {type(conv).__name__}.")
    conv.weight.zero_()
    rows, columns = (int(k) // 2 for k in conv.kernel_size)
    for channel in range(min(conv.out_channels, conv.in_channels)):
        conv.weight[channel, channel, rows, columns] = 1.0
    if conv.bias is not None:
        conv.bias.zero_()


@torch.no_grad()
def linear_code_(to_code: nn.Module, from_code: nn.Module, start: LinearStart) -> None:
    """Make two layers that compute z = B y and y_hat = B^T z, B the basis of `start`.

    Args:
        to_code: Linear, or Conv1d of kernel 1; weight (n_code, size) but for the last axis.
        from_code: Linear with weight (size, n_code), or ConvTranspose1d of kernel 1 with
            weight (n_code, size, 1).
        start: The linear code.
    """
    for layer in (to_code, from_code):
        if not isinstance(layer, nn.Linear | nn.Conv1d | nn.ConvTranspose1d):
            kinds = "a Linear, Conv1d or ConvTranspose1d"
            raise TypeError(f"layer must be {kinds}; got {type(layer).__name__}.")
        turned = layer is from_code and isinstance(layer, nn.Linear)
        basis = start.basis.T if turned else start.basis
        layer.weight.copy_(basis.reshape(layer.weight.shape))
        if layer.bias is not None:
            layer.bias.zero_()


@torch.no_grad()
def pass_through_(norm: nn.Module, *, variance: float) -> None:
    """Make a batch norm return its input, if that has mean zero and the given variance."""
    if not isinstance(norm, nn.BatchNorm2d) or norm.running_var is None:
        raise TypeError(f"norm must be a BatchNorm2d; got {type(norm).__name__}.")
    norm.weight.fill_((variance + norm.eps) ** 0.5)
    norm.bias.zero_()
    norm.running_var.fill_(variance)
