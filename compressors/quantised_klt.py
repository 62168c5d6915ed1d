"""The KLT with real quantisers: the linear yardstick at a number of bits instead of a length."""

from typing import Any, Self

import torch
from torch import Tensor

from channels.convention import Convention
from channels.domains import stack_real, to_complex
from channels.support import CsiAuditError
from compressors.bit_allocation import allocate_bits, water_level
from compressors.klt import Klt
from compressors.neural import CompressorNetwork
from compressors.quantisers import (
    MAX_BITS,
    VALUES_A_LEVEL,
    ScalarQuantiser,
    nearest_level,
    straight_through,
)

_BLOCK = 2048  # users a pass: bounds the float64 copies


class QuantisedKlt(CompressorNetwork):
    """Projection on leading eigenvectors, each real coefficient sent in whole bits.

        c = U^H x,   z_i = nearest level of c_i among 2^(b_i),   x_hat = U z,   sum_i b_i <= bits

    Levels are trained on each coefficient of the training channels (their tails are far heavier
    than a Gaussian's), bits allocated on the error those levels leave there. The codeword holds
    the levels sent, so that it is a point of the code that a decoder can use as it is; `indices`
    gives the whole numbers. `n_code` counts the coefficients that are fed back, `bits` is the
    truth. The gradient passes a quantiser as the identity within its outermost levels.

    Args:
        n_code: Real code numbers, even: coefficients that may get bits.
        budget: Bits of a codeword at most. Basis, levels and bits are zero until `fit` or a
            weights file sets them.
        deepest: Bits of a coefficient at most; `fit` lowers it to those of the finest quantiser.
    Raises:
        CsiAuditError: n_code does not suit a KLT, budget is below 1, or deepest not in 0..8.
    """

    levels: Tensor
    depth: Tensor

    def __init__(
        self,
        n_code: int,
        *,
        budget: int,
        deepest: int = MAX_BITS,
        n_tx: int = 32,
        n_delay: int = 32,
        n_rx: int = 1,
        convention: Convention | None = None,
    ) -> None:
        _check_budget(budget)
        if not 0 <= deepest <= MAX_BITS:
            raise CsiAuditError(f"deepest must lie in 0..{MAX_BITS} bits; got {deepest}.")
        super().__init__(n_code, convention)
        self.budget, self.deepest = budget, deepest
        self.klt = Klt(n_code, n_tx=n_tx, n_delay=n_delay, n_rx=n_rx, convention=convention)
        # Row i: the 2^depth_i levels of coefficient i, then +inf.
        self.register_buffer("levels", torch.zeros(n_code, 2**deepest))
        self.register_buffer("depth", torch.zeros(n_code, dtype=torch.int64))

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments that build it again, besides its shape."""
        return {"n_code": self.n_code, "budget": self.budget, "deepest": self.deepest}

    @classmethod
    @torch.no_grad()
    def for_bits(cls, x: Tensor, bits: int, *, n_code: int | None = None) -> Self:
        """The best quantised KLT of at most `bits` bits for training channels.

        As many coefficients as pay for themselves: those above the Gaussian water level are given
        quantisers, and those that get no bits in the end are left out.

        Args:
            x: Training channels (N, 2 n_rx, n_tx, n_delay).
            bits: Budget of a codeword.
            n_code: Real code numbers at most, even; None sets no limit.
        Raises:
            CsiAuditError: bits is below 1, or n_code does not suit a KLT.
        """
        _check_budget(bits)
        n_rx, n_tx, n_delay = x.shape[1] // 2, x.shape[2], x.shape[3]
        longest = x[0].numel() if n_code is None else n_code
        klt = Klt(longest, n_tx=n_tx, n_delay=n_delay, n_rx=n_rx).fit(x)
        variances = torch.stack([klt.encode(part).square().sum(0) for part in x.split(_BLOCK)])
        variances = variances.sum(0) / len(x)
        deserving = _pairs(variances > water_level(variances, bits))
        wide = cls._of_basis(klt.basis[deserving], bits)
        wide._fit_code(x)
        used = _pairs(wide.depth > 0)
        network = cls._of_basis(wide.klt.basis[used], bits, deepest=wide.deepest)
        network.levels.copy_(wide.levels[used.repeat_interleave(2)])
        network.depth.copy_(wide.depth[used.repeat_interleave(2)])
        return network

    @classmethod
    def _of_basis(cls, basis: Tensor, budget: int, *, deepest: int = MAX_BITS) -> Self:
        """With these eigenvectors (k, n_rx, n_tx, n_delay, re/im), without levels and bits yet."""
        k, n_rx, n_tx, n_delay = basis.shape[:4]
        network = cls(
            2 * k,
            budget=budget,
            deepest=deepest,
            n_rx=n_rx,
            n_tx=n_tx,
            n_delay=n_delay,
            convention=Convention(event_shape=(2 * n_rx, n_tx, n_delay)),
        )
        network.klt.basis.copy_(basis)
        return network

    def fit(self, x: Tensor) -> Self:
        """Basis, levels and bits from training channels x (N, 2 n_rx, n_tx, n_delay).

        Raises:
            CsiAuditError: x has another shape than the basis.
        """
        self.klt.fit(x)
        self._fit_code(x)
        return self

    def encode(self, y: Tensor) -> Tensor:
        """Channels (N, 2 n_rx, n_tx, n_delay) -> quantised coefficients (N, n_code)."""
        c = _project(self.klt.basis, y)
        levels = self.levels.double()
        sent = levels.gather(1, nearest_level(c, levels).mT).mT  # (N, n_code)
        last = levels.masked_fill(levels.isinf(), -torch.inf).amax(1)
        return straight_through(c.clamp(levels[:, 0], last), sent).to(y.dtype)

    def decode(self, z: Tensor) -> Tensor:
        """Quantised coefficients (N, n_code) -> channels (N, 2 n_rx, n_tx, n_delay)."""
        rows = torch.view_as_complex(self.klt.basis)
        code = torch.view_as_complex(z.unflatten(1, (-1, 2)).contiguous())
        return stack_real((code @ rows.flatten(1).conj()).unflatten(1, rows.shape[1:]))

    def indices(self, z: Tensor) -> Tensor:
        """What is sent: index of each coefficient's level, int64 (N, n_code), below 2^depth."""
        return nearest_level(z.double(), self.levels.double())

    def bits(self, z: Tensor) -> Tensor:
        """Bits of each codeword, the same for all, int64 (N,)."""
        return self.depth.sum().expand(len(z))

    @torch.no_grad()
    def _fit_code(self, x: Tensor) -> None:
        """Levels and bits for the basis at hand."""
        c = torch.cat([_project(self.klt.basis, part) for part in x.split(_BLOCK)])
        variances = c.square().mean(0).unflatten(0, (-1, 2)).mean(1)
        trained = (4 * len(x) // VALUES_A_LEVEL).bit_length() - 1
        deepest = _deepest(variances, self.budget).clamp(max=min(self.deepest, max(1, trained)))
        tables = [
            _quantisers(pair, int(bits))
            for pair, bits in zip(c.split(2, dim=1), deepest, strict=True)
        ]
        error = torch.full((self.n_code, MAX_BITS + 1), torch.inf, dtype=torch.float64)
        for i in range(self.n_code):
            for quantiser in tables[i // 2]:
                error[i, quantiser.bits] = quantiser.mse(c[:, i])
        self.depth.copy_(allocate_bits(error, self.budget))
        self.deepest = int(self.depth.max())
        self.levels = self.levels.new_full((self.n_code, 2**self.deepest), torch.inf)
        for i, bits in enumerate(self.depth.tolist()):
            self.levels[i, : 2**bits] = tables[i // 2][bits].levels


def _check_budget(budget: int) -> None:
    if budget < 1:
        raise CsiAuditError(f"budget must be at least 1 bit; got {budget}.")


def _quantisers(pair: Tensor, deepest: int) -> list[ScalarQuantiser]:
    """Quantisers of 0..deepest bits for the two parts (N, 2) of a complex coefficient.

    The law does not know the global phase: both parts, and their negatives, are one distribution.
    """
    values = torch.cat((pair, -pair))
    nothing = ScalarQuantiser(levels=torch.zeros(1, dtype=torch.float64))
    return [nothing, *(ScalarQuantiser.fit(values, bits) for bits in range(1, deepest + 1))]


def _deepest(variances: Tensor, budget: int) -> Tensor:
    """Bits that no coefficient will exceed: two above the Gaussian share of its real parts."""
    level = water_level(variances.repeat_interleave(2), budget)
    return (0.5 * (variances / level).log2()).ceil().clamp_min(0).long() + 2


def _project(basis: Tensor, y: Tensor) -> Tensor:
    """Coefficients of y, float64 (N, n_code), (re, im) pairs.

    In double, since the rounding of a product depends on the size of the batch: in single it would
    carry one coefficient in a million over to the next level.
    """
    rows = torch.view_as_complex(basis.double()).flatten(1)  # (n_code/2, size)
    return torch.view_as_real(to_complex(y.double()).flatten(1) @ rows.mT).flatten(1)


def _pairs(flags: Tensor) -> Tensor:
    """Complex coefficients of which a part is flagged, bool (n_code/2,); the first if none is."""
    found = flags.unflatten(0, (-1, 2)).any(1)
    found[0] |= not bool(found.any())
    return found
