"""Bits among the coefficients of a code: the Gaussian water level, and the best whole numbers.

The water level tells which coefficients may deserve a bit at all; how many each gets is decided on
the measured distortion of real quantisers, never on a bound.
"""

import torch
from torch import Tensor

from channels.support import CsiAuditError


def water_level(variances: Tensor, bits: float) -> float:
    """Distortion of every coefficient that reverse water-filling codes.

        sum_i max(0, 1/2 log2(v_i / theta)) = bits,    D_i = min(v_i, theta)

    Args:
        variances: v_i of real coefficients, (n,), not negative.
        bits: In all, >= 0.
    Returns:
        theta: max v_i for no bits. sum_i D_i bounds what Gaussians of these variances allow; a
        heavier tail codes better or worse.
    Raises:
        CsiAuditError: bits is negative, or no variance is positive.
    Source: Cover and Thomas, "Elements of Information Theory", section 10.3.3.
    """
    v = variances.double().flatten()
    v = v[v > 0].sort(descending=True).values
    if bits < 0 or not len(v):
        raise CsiAuditError(
            f"bits must be >= 0, and some variance positive; got {bits} bits for {len(v)} positive "
            "variances."
        )
    count = torch.arange(1, len(v) + 1)
    # theta where exactly the `count` largest are coded; the right count has v[count] <= theta
    theta = torch.exp2((v.log2().cumsum(0) - 2 * bits) / count)
    beneath = torch.cat((v[1:], v.new_zeros(1)))
    return float(theta[torch.nonzero(beneath <= theta)[0, 0]])


def allocate_bits(distortion: Tensor, bits: int) -> Tensor:
    """Whole bits of each coefficient with the least total distortion.

        min sum_i D_i(b_i)   subject to   sum_i b_i <= bits

    Exact, by dynamic programming over the coefficients. Giving each bit where it helps most would
    do for convex D_i; a measured D_i of a heavy-tailed coefficient need not be convex.

    Args:
        distortion: D_i(b) for b = 0..b_max, (n, b_max + 1); +inf where i has no such quantiser,
            never for b = 0.
        bits: Budget, >= 0.
    Returns:
        b_i, int64 (n,).
    Raises:
        CsiAuditError: bits is negative, or a distortion is NaN or infinite at b = 0.
    """
    if bits < 0:
        raise CsiAuditError(f"bits must be >= 0; got {bits}.")
    if bool(distortion.isnan().any()) or not bool(torch.isfinite(distortion[:, 0]).all()):
        raise CsiAuditError(
            "distortion must hold no NaN, and be finite without bits; got "
            f"{int(distortion.isnan().sum())} NaN. Clean the training channels."
        )
    best = torch.zeros(bits + 1, dtype=torch.float64)  # least total with at most 0..bits bits
    chosen: list[Tensor] = []
    for row in distortion.double():
        totals = torch.full((len(row), bits + 1), float("inf"), dtype=torch.float64)
        for b in range(min(len(row), bits + 1)):
            totals[b, b:] = best[: bits + 1 - b] + row[b]
        least = totals.min(0)
        best = least.values
        chosen.append(least.indices)
    found, left = [], bits
    for options in reversed(chosen):
        found.append(int(options[left]))
        left -= found[-1]
    return torch.tensor(found[::-1], dtype=torch.int64)
