"""What a comparison measures on channels: every compressor's NMSE, and where its error lies."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.channel_set import Grid
from channels.support import CsiAuditError
from compressors.audit_space import AuditedCompressor, in_audit_space
from compressors.loading import NamedCompressor
from compressors.metrics import feedback_bits, nmse
from reports.figure_data import ReportArrays
from reports.words import decibel, share_text

Array = npt.NDArray[np.float64]

_BLOCK = 250  # channels in memory with their reconstructions


@torch.inference_mode()
def measured_together(
    x: Tensor, compressors: Sequence[NamedCompressor]
) -> tuple[dict[str, Array], dict[str, Array], Array]:
    """NMSE of every compressor on channels x, mean power of its error, mean power of x.

    Args:
        x: Audit space (N, 2 n_rx, n_tx, n_delay), unit power.
        compressors: All of them.
    Returns:
        NMSE (N,) by name, maps [n_tx, n_delay] by name, map of x.
    Raises:
        CsiAuditError: a compressor fails on some channel, or returns NaN (names it).
    """
    power = torch.zeros(*x.shape[2:], dtype=torch.float64)
    for part in x.split(_BLOCK):
        power += part.double().square().sum((0, 1))
    losses: dict[str, Array] = {}
    maps: dict[str, Array] = {}
    for named in compressors:
        try:
            losses[named.name], maps[named.name] = _one(in_audit_space(named.compressor), x)
        except (ValueError, RuntimeError) as error:
            raise CsiAuditError(f"compressor {named.name}: {error}") from error
    return losses, maps, (power / len(x)).numpy()


def _one(audited: AuditedCompressor, x: Tensor) -> tuple[Array, Array]:
    error = torch.zeros(*x.shape[2:], dtype=torch.float64)
    found = []
    for part in x.split(_BLOCK):
        x_hat = audited(part)
        found.append(nmse(part, x_hat))
        error += (part - x_hat).double().square().sum((0, 1))
    values = torch.cat(found).double().numpy()
    if not np.isfinite(values).all():
        raise ValueError(
            f"NMSE of user {int(np.flatnonzero(~np.isfinite(values))[0])} is no number"
        )
    return values, (error / len(x)).numpy()


@torch.inference_mode()
def mean_bits(named: NamedCompressor, x: Tensor) -> float | None:
    """Mean bits of the codewords of channels x, as `measured_together` takes them; None for reals.

    Raises:
        CsiAuditError: the compressor's count of bits is of no use (names it).
    """
    audited = in_audit_space(named.compressor)
    total = 0.0
    for part in x.split(_BLOCK):
        try:
            bits = feedback_bits(audited.compressor, audited.codeword(part))
        except (ValueError, RuntimeError) as error:
            raise CsiAuditError(f"compressor {named.name}: {error}") from error
        if bits is None:
            return None
        total += float(bits.double().sum())
    return total / len(x)


def own_label(tau_quantile: float) -> str:
    """What the threshold is called that each compressor has for itself."""
    return f"own {share_text(round(tau_quantile, 6))} quantile"


def failure_levels(
    losses: Mapping[str, Array], tau_db: Sequence[float], tau_quantile: float
) -> dict[str, dict[str, float]]:
    """Failure levels (linear) by label: the common ones, then each compressor's own quantile."""
    found = {decibel(level): dict.fromkeys(losses, 10 ** (level / 10)) for level in tau_db}
    found[own_label(tau_quantile)] = {
        name: float(np.quantile(v, tau_quantile)) for name, v in losses.items()
    }
    return found


def map_axes(grid: Grid, n_tx: int) -> ReportArrays:
    """Axes of angular-delay maps of a grid, without any figures."""
    taps, tones = grid.delays_s(), np.arange(grid.n_sub, dtype=np.float64)
    return ReportArrays(
        delay_s=tones if taps is None else taps.numpy(),
        sin_azimuth=grid.sin_azimuth(n_tx).numpy(),
        frequency_hz=tones * (1.0 if grid.spacing_hz is None else grid.spacing_hz),
        bandwidth_known=grid.bandwidth_hz is not None,
        panel=grid.panel,
    )
