"""Scalar quantisers: levels, the index that is sent, and the gradient that passes them.

A quantiser is its reconstruction levels in ascending order; a value is sent as the index of the
nearest one. How many bits each coefficient of a code deserves is compressors.bit_allocation's.
"""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from channels.support import CsiAuditError

MAX_BITS = 8
VALUES_A_LEVEL = 16  # training values for each level; fewer describe the sample, not the law
_VALUES_A_CELL = 8  # of the cells from which Lloyd's start takes the density
_ITERATIONS = 200
_TOLERANCE = 1e-5  # relative fall of the distortion that ends Lloyd's iteration


@dataclass(frozen=True, kw_only=True)
class ScalarQuantiser:
    """A fixed-rate scalar quantiser of 2^bits levels.

        index = argmin_j |v - r_j|,   v_hat = r_index

    Attributes:
        levels: r_0 < r_1 < ..., float64 (2^bits,).
    """

    levels: Tensor

    @classmethod
    def fit(cls, values: Tensor, bits: int) -> "ScalarQuantiser":
        """The quantiser that Lloyd's iteration finds on training values.

        A local optimum, from a start at the levels that are optimal for many bits (spread as the
        cube root of the density). A level that no value is nearest to stays where it is.

        Args:
            values: Real, any shape.
            bits: 0..8.
        Raises:
            CsiAuditError: bits is out of range, or a value is not finite, or there is none.
        Source: Lloyd, 1982, doi:10.1109/TIT.1982.1056489; the start: Panter and Dite, 1951,
            doi:10.1109/JRPROC.1951.230419.
        """
        _check_bits(bits)
        if not values.numel() or not bool(torch.isfinite(values).all()):
            raise CsiAuditError(
                f"values must be finite, and at least one; got {values.numel()}"
                f"{' with NaN or infinity' if values.numel() else ''}. Clean the training channels."
            )
        plain = values.detach().flatten().double().cpu().numpy()
        v = torch.from_numpy(np.sort(plain))  # several times as fast as torch's
        sums = torch.cat((v.new_zeros(1), v.cumsum(0)))
        levels, last, power = _spread(v, 2**bits), float("inf"), float(v.square().sum())
        for _ in range(_ITERATIONS):
            levels, explained = _centroids(v, sums, levels)
            error = power - explained
            if last - error <= _TOLERANCE * error:
                break
            last = error
        return cls(levels=levels)

    @property
    def bits(self) -> int:
        return len(self.levels).bit_length() - 1

    def encode(self, values: Tensor) -> Tensor:
        """What is sent: the index of the nearest level, int64, shape of values."""
        return nearest_level(values, self.levels)

    def decode(self, indices: Tensor) -> Tensor:
        """The levels of these indices, float64, shape of indices."""
        return self.levels.to(indices.device)[indices]

    def mse(self, values: Tensor) -> float:
        """Mean squared error on values."""
        return float((values.double() - self.decode(self.encode(values))).square().mean())


def nearest_level(values: Tensor, levels: Tensor) -> Tensor:
    """Index of the level nearest to each value.

    Args:
        values: Real, any shape with one table of levels, or (N, n) with n of them.
        levels: Ascending, (K,) or (n, K); a short table ends in +inf, which is nearest to nothing.
    Returns:
        int64, shape of values.
    """
    levels = levels.to(values)
    ends = (levels[..., 1:] + levels[..., :-1]) / 2  # cells meet half way between levels
    if levels.ndim == 1:
        return torch.searchsorted(ends, values.detach().contiguous())
    return torch.searchsorted(ends.contiguous(), values.detach().mT.contiguous()).mT


def nearest_phase(v: Tensor, bits: int) -> Tensor:
    """Unit vector of the nearest phase of 2^bits-PSK, complex, shape of v.

    exp(j 2 pi m / 2^bits),   m = round(2^bits arg v / 2 pi)
    """
    step = 2 * torch.pi / 2**bits
    phase = torch.round(v.detach().angle() / step) * step
    return torch.polar(torch.ones_like(phase), phase)


def straight_through(value: Tensor, quantised: Tensor) -> Tensor:
    """`quantised` forward, the gradient of `value` backward.

    The gradient of a quantiser is 0 wherever it exists. What a small move of the channel does on
    average over the cells is the gradient of the value itself, and that is what can be followed.
    """
    return quantised.detach() + (value - value.detach())  # the levels to the last bit


def _check_bits(bits: int) -> None:
    if not 0 <= bits <= MAX_BITS:
        raise CsiAuditError(f"bits must lie in 0..{MAX_BITS}; got {bits}.")


def _spread(v: Tensor, n_levels: int) -> Tensor:
    """n_levels points on sorted values with a density proportional to the cube root of theirs."""
    n_cells = max(1, len(v) // _VALUES_A_CELL)
    places = torch.linspace(0, len(v) - 1, n_cells + 1, dtype=torch.float64)
    ends = v[places.long()]  # of cells of equal mass, whose density is 1/width
    share = torch.cat((v.new_zeros(1), ends.diff().clamp_min(1e-300).pow(2 / 3))).cumsum(0)
    wanted = (torch.arange(n_levels) + 0.5) / n_levels * share[-1]
    cell = torch.searchsorted(share, wanted).clamp(1, len(ends) - 1)
    within = (wanted - share[cell - 1]) / (share[cell] - share[cell - 1])
    return ends[cell - 1] + within.clamp(0, 1) * (ends[cell] - ends[cell - 1])


def _centroids(v: Tensor, sums: Tensor, levels: Tensor) -> tuple[Tensor, float]:
    """Mean of the sorted values nearest to each level, and their power that these explain."""
    ends = torch.searchsorted(v, (levels[1:] + levels[:-1]) / 2, right=True)
    edges = torch.cat((ends.new_zeros(1), ends, ends.new_tensor([len(v)])))
    count, total = edges.diff(), sums[edges].diff()
    levels = torch.where(count > 0, total / count.clamp_min(1), levels)
    return levels, float((total.square() / count.clamp_min(1)).sum())
