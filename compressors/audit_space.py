"""From a compressor's own input convention to audit space and back: nothing else rescales."""

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from channels.convention import Convention


@runtime_checkable
class Compressor(Protocol):
    """What can be audited: any object with these members; no registration, no base class.

    n_code counts real numbers in a codeword; `convention` says how unit-power angular-delay
    channels become the compressor's own input; `bits` may return None where the code is not
    quantised.
    """

    n_code: int
    convention: Convention

    def encode(self, y: Tensor) -> Tensor: ...
    def decode(self, z: Tensor) -> Tensor: ...
    def bits(self, z: Tensor) -> Tensor | None: ...


class AuditedCompressor:
    """A compressor as a map of audit space, x -> x_hat, with its error in its own scale."""

    def __init__(self, compressor: Compressor) -> None:
        self.compressor = compressor

    @property
    def n_code(self) -> int:
        return int(self.compressor.n_code)

    def __call__(self, x: Tensor) -> Tensor:
        """Reconstruction of audit-space channels x (N, 2 n_rx, n_tx, n_delay), same shape."""
        y, side = self.compressor.convention.to_own(x)
        y_hat = self.compressor.decode(self.compressor.encode(y))
        return self.compressor.convention.from_own(y_hat, side)

    def codeword(self, x: Tensor) -> Tensor:
        """Codewords of audit-space channels, (N, ...)."""
        y, _ = self.compressor.convention.to_own(x)
        return self.compressor.encode(y)

    def own_mse(self, x: Tensor) -> Tensor:
        """Mean squared error a real number in its own scale, (N,); a complex one counts two."""
        y, _ = self.compressor.convention.to_own(x)
        y_hat = self.compressor.decode(self.compressor.encode(y))
        error = y - y_hat
        real = torch.view_as_real(error) if error.is_complex() else error
        return real.square().flatten(1).mean(1)


def in_audit_space(compressor: Compressor) -> AuditedCompressor:
    """Wrap a compressor so that it takes and returns unit-power angular-delay channels."""
    return AuditedCompressor(compressor)
