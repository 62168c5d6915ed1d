"""What a compressor costs to run: multiply-accumulates of its encoder and of its decoder."""

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from compressors.audit_space import Compressor

_aten = torch.ops.aten


@dataclass(frozen=True, kw_only=True)
class ForwardCost:
    """Multiply-accumulates of real numbers for one channel.

    Attributes:
        encoder: Of encode, on the terminal.
        decoder: Of decode, at the base station.
    """

    encoder: int
    decoder: int

    @property
    def total(self) -> int:
        return self.encoder + self.decoder


@torch.no_grad()
def flops(compressor: Compressor, event_shape: tuple[int, int, int]) -> ForwardCost:
    """Multiply-accumulates of one channel through a compressor, encoder and decoder apart.

    The published "FLOPs" of CSI compressors are such counts. Matrix products, convolutions and
    attention count, by shapes; norms, activations and Fourier transforms do not. A product of
    complex numbers counts as four real ones.

    Args:
        compressor: What to count.
        event_shape: (2 n_rx, n_tx, n_delay) of the channel.
    Returns:
        The counts, whatever the weights.
    Raises:
        CsiAuditError: its convention takes another shape.
    """
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, *event_shape, generator=generator)
    y, _ = compressor.convention.to_own(x)
    with _every_layer_seen():
        encoder, z = _counted(compressor.encode, y)
        decoder, _ = _counted(compressor.decode, z)
    return ForwardCost(encoder=encoder, decoder=decoder)


@contextmanager
def _every_layer_seen() -> Iterator[None]:
    """Without torch's fused transformer layer, which the counter takes for one unknown operation;
    a layer that drops or draws leaves the global generator as it was."""
    fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with torch.random.fork_rng(devices=[]):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fused)


def _counted(step: Callable[[Tensor], Tensor], value: Tensor) -> tuple[int, Tensor]:
    with FlopCounterMode(display=False, custom_mapping=dict(_FORMULAS)) as counter:
        result = step(value)
    return counter.get_total_flops() // 2, result


# --- Formulas that torch's counter lacks, in its unit: two operations a multiply-accumulate -------


def _raw(formula: Callable[..., int]) -> Callable[..., int]:
    """Have the counter pass tensors, whose dtype is needed, instead of their shapes."""
    formula._get_raw = True  # type: ignore[attr-defined]
    return formula


@_raw
def _product(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    """(..., m, k) times (..., k, n), or (..., m, k) times (k,): 2 m n k for each matrix."""
    columns = b.shape[-1] if b.ndim > 1 else 1
    return 2 * a.numel() * columns * (4 if a.is_complex() else 1)


@_raw
def _added_product(_bias: Tensor, a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    return _product(a, b)


@_raw
def _attention(q: Tensor, k: Tensor, v: Tensor, *_: Any, **__: Any) -> int:
    """q k^T and its product with v; q (N, heads, n, d), k (N, heads, m, d), v (N, heads, m, e)."""
    return 2 * math.prod(q.shape[:3]) * k.shape[2] * (q.shape[3] + v.shape[3])


_FORMULAS: Mapping[Any, Callable[..., int]] = {
    **dict.fromkeys((_aten.mm, _aten.bmm, _aten.mv, _aten.dot, _aten.vdot), _product),
    **dict.fromkeys((_aten.addmm, _aten.baddbmm, _aten.addmv), _added_product),
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
}
