"""The Karhunen-Loeve transform, the best linear code: the yardstick of every neural compressor."""

import torch
from torch import Tensor

from channels.convention import Convention
from channels.domains import stack_real, to_complex
from channels.support import CsiAuditError
from compressors.neural import CompressorNetwork


class Klt(CompressorNetwork):
    """Projection on the leading eigenvectors of the channels' covariance.

        z = U^H x,  x_hat = U z,     U: n_code/2 leading eigenvectors of E[x x^H], complex

    A complex coefficient counts as two real code numbers.

    Args:
        n_code: Real code numbers, even. The basis is zero until `fit` or a weights file sets it.
    Raises:
        CsiAuditError: n_code is odd or larger than the channel.
    """

    basis: Tensor

    def __init__(
        self,
        n_code: int,
        *,
        n_tx: int = 32,
        n_delay: int = 32,
        n_rx: int = 1,
        convention: Convention | None = None,
    ) -> None:
        size = n_rx * n_tx * n_delay
        if n_code < 2 or n_code % 2 or n_code // 2 > size:
            raise CsiAuditError(
                f"n_code of a KLT must be even and at most {2 * size}, since a complex coefficient "
                f"is two real numbers; got {n_code}."
            )
        super().__init__(n_code, convention)
        basis = torch.zeros(n_code // 2, n_rx, n_tx, n_delay, 2)
        self.register_buffer("basis", basis)  # (k, n_rx, n_tx, n_delay, re/im)

    def encode(self, y: Tensor) -> Tensor:
        """Channels (N, 2 n_rx, n_tx, n_delay) -> coefficients (N, n_code), (re, im) pairs."""
        rows = torch.view_as_complex(self.basis).flatten(1)  # (k, size)
        z = to_complex(y).flatten(1) @ rows.T
        return torch.view_as_real(z).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        """Coefficients (N, n_code) -> channels (N, 2 n_rx, n_tx, n_delay)."""
        rows = torch.view_as_complex(self.basis)
        code = torch.view_as_complex(z.unflatten(1, (-1, 2)).contiguous())
        y = (code @ rows.flatten(1).conj()).unflatten(1, rows.shape[1:])
        return stack_real(y)

    @torch.no_grad()
    def fit(self, x: Tensor) -> "Klt":
        """Take the eigenvectors of the second moment of x (N, 2 n_rx, n_tx, n_delay); returns self.

        Raises:
            CsiAuditError: x has another shape than the basis.
        """
        shape = tuple(self.basis.shape[1:-1])
        if tuple(to_complex(x[:1]).shape[1:]) != shape:
            raise CsiAuditError(f"x must be channels of {shape}; got {tuple(x.shape[1:])}.")
        size = self.basis[0, ..., 0].numel()
        moment = torch.zeros(size, size, dtype=torch.complex128)
        for block in x.split(2048):
            rows = to_complex(block).flatten(1)
            moment += (rows.mT @ rows.conj()).to(torch.complex128)
        vectors = torch.linalg.eigh(moment)[1].flip(1)[:, : len(self.basis)]  # (size, k)
        rows = vectors.mH.to(torch.complex64).reshape(len(self.basis), *shape)
        self.basis.copy_(torch.view_as_real(rows.resolve_conj()))
        return self

    def real_rows(self) -> Tensor:
        """The same code as real orthonormal rows (n_code, 2 n_rx n_tx n_delay)."""
        size = 2 * self.basis[0, ..., 0].numel()
        identity = torch.eye(self.n_code)
        return self.decode(identity).reshape(self.n_code, size)
