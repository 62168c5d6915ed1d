"""One door between audit space and a compressor's own scale, so that nothing else rescales."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import get_args

import pytest
import torch
from torch import Tensor

from channels import Convention
from channels.convention import Layout
from compressors import AuditedCompressor, Compressor, Klt, in_audit_space, nmse

SHAPE = (2, 8, 8)


@dataclass
class Shrink:
    """Reconstructs a fixed part of what its input has beyond the offset."""

    convention: Convention
    n_code: int = 128
    kept: float = 0.9

    def encode(self, y: Tensor) -> Tensor:
        return (self.kept * (y - self.convention.offset)).flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.unflatten(1, SHAPE) + self.convention.offset

    def bits(self, z: Tensor) -> None:
        return None


PLAIN = Convention(event_shape=SHAPE)
CONVENTIONS = {
    "plain": PLAIN,
    "global": Convention(event_shape=SHAPE, scaling="global", scale=0.1, offset=0.5),
    "peak": Convention(event_shape=SHAPE, scaling="sample_peak", scale=0.5, offset=0.5),
    "norm": Convention(event_shape=SHAPE, scaling="sample_norm"),
}


@pytest.mark.unit
@pytest.mark.parametrize("name", sorted(CONVENTIONS))
def test_nmse_does_not_depend_on_the_scaling(name: str, draw_x: Callable[..., Tensor]) -> None:
    x = draw_x()
    audited = in_audit_space(Shrink(CONVENTIONS[name]))
    assert isinstance(audited.compressor, Compressor)
    assert isinstance(audited, AuditedCompressor)
    assert audited.n_code == 128
    assert torch.allclose(audited(x), 0.9 * x, atol=1e-5)
    assert torch.allclose(nmse(x, audited(x)), torch.full((12,), 0.01).double(), atol=1e-6)


@pytest.mark.unit
def test_own_error_is_taken_in_the_own_scale(draw_x: Callable[..., Tensor]) -> None:
    """0.01 mean x^2 = 0.005 at unit power, times the square of the scale."""
    x = draw_x()
    expected = {"plain": 0.005, "global": 0.005 * 0.1**2, "norm": 0.01 / 128}
    for name, value in expected.items():
        found = in_audit_space(Shrink(CONVENTIONS[name])).own_mse(x)
        assert found.tolist() == pytest.approx([value] * 12, rel=1e-4)
    # With a scale per sample a flat channel looks worse at the same NMSE.
    peaks = x.abs().amax((1, 2, 3))
    found = in_audit_space(Shrink(CONVENTIONS["peak"])).own_mse(x)
    assert torch.allclose(found, 0.005 * (0.5 / peaks) ** 2)


@dataclass
class Turn(Shrink):
    """Shrinks in any layout: the code is the channel itself, smaller."""

    def encode(self, y: Tensor) -> Tensor:
        return self.kept * (y - self.convention.offset)

    def decode(self, z: Tensor) -> Tensor:
        return z + self.convention.offset


@pytest.mark.unit
@pytest.mark.parametrize("layout", get_args(Layout))
@pytest.mark.parametrize("name", ["plain", "peak"])
def test_own_error_does_not_depend_on_the_layout(
    layout: Layout, name: str, draw_x: Callable[..., Tensor]
) -> None:
    """Squaring a complex error would count its real part for, its imaginary part against it."""
    x = draw_x()
    own = CONVENTIONS[name]
    if layout == "complex" and own.offset:
        own = replace(own, offset=0.0)
    expected = in_audit_space(Turn(own)).own_mse(x)
    found = in_audit_space(Turn(replace(own, layout=layout))).own_mse(x)
    assert not found.is_complex()
    assert bool((found > 0).all())
    torch.testing.assert_close(found, expected)


@pytest.mark.unit
def test_a_network_under_a_scaled_convention(draw_x: Callable[..., Tensor]) -> None:
    """The KLT is homogeneous: any scale without offset leaves its reconstruction alone."""
    x = draw_x(40)
    klt = Klt(16, n_tx=8, n_delay=8, convention=PLAIN).fit(x)
    plain = in_audit_space(klt)(x)
    klt.convention = Convention(event_shape=SHAPE, scaling="global", scale=0.03)
    assert torch.allclose(in_audit_space(klt)(x), plain, atol=1e-5)
    klt.convention = Convention(event_shape=SHAPE, scaling="global", scale=0.03, offset=0.5)
    assert not torch.allclose(in_audit_space(klt)(x), plain, atol=1e-2)
