"""Compressors that cannot be audited are refused in words, before any figure is computed."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from channels import Convention, Grid, audit_space, load_channels, stack_real, to_angular_delay
from channels.domains import Panel
from channels.sample import sample_path
from channels.support import CsiAuditError
from compressors import bundled_compressors, check_compressor, load_compressor
from compressors.preflight import check_gradient, check_panel

pytestmark = pytest.mark.unit

EVENT_SHAPE = (2, 8, 8)


class Truncating:
    """Keeps the first four delay taps: everything in order."""

    n_code = 64
    convention = Convention(event_shape=EVENT_SHAPE)

    def encode(self, y: Tensor) -> Tensor:
        return y[..., :4].flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return F.pad(z.unflatten(1, (2, 8, 4)), (0, 4))

    def bits(self, z: Tensor) -> Tensor | None:
        return None


class Dropping(Truncating):
    def encode(self, y: Tensor) -> Tensor:
        return F.dropout(super().encode(y), 0.2, training=True)


class WrongLayout(Truncating):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).flatten(1)


class TooLong(Convention):
    """A user's convention that forgets to crop."""

    def from_own(self, y_hat: Tensor, side: Tensor | None = None) -> Tensor:
        return F.pad(super().from_own(y_hat, side), (0, 1))


class WrongShape(Truncating):
    convention = TooLong(event_shape=EVENT_SHAPE)


class BatchNormalising(Truncating):
    def encode(self, y: Tensor) -> Tensor:
        z = super().encode(y)
        return (z - z.mean(0)) / (z.std(0, correction=0) + 0.1)


class StillTraining(Truncating):
    """A network inside that nobody put into evaluation: it refuses a batch of one."""

    def __init__(self) -> None:
        self.norm = nn.BatchNorm1d(64)

    def encode(self, y: Tensor) -> Tensor:
        normalised: Tensor = self.norm(super().encode(y))
        return normalised


class BatchAttending(Truncating):
    """Attention whose tokens are the users of a batch, for want of an axis."""

    def encode(self, y: Tensor) -> Tensor:
        z = super().encode(y)
        return F.scaled_dot_product_attention(z[None], z[None], z[None])[0]


class PeakOfBatch(Truncating):
    """Clips at half the largest entry of the whole batch."""

    def encode(self, y: Tensor) -> Tensor:
        limit = float(y.abs().max()) / 2
        return super().encode(y.clamp(-limit, limit))


class Lossless(Truncating):
    n_code = 128

    def encode(self, y: Tensor) -> Tensor:
        return y.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return z.unflatten(1, EVENT_SHAPE)


class Spoilt(Truncating):
    """One entry of one user is `value`."""

    def __init__(self, value: float) -> None:
        self.value = value

    def decode(self, z: Tensor) -> Tensor:
        y = super().decode(z).clone()
        y[1 % len(y), 0, 0, 0] = self.value
        return y


class Raising(Truncating):
    def __init__(self, error: Exception) -> None:
        self.error = error

    def encode(self, y: Tensor) -> Tensor:
        raise self.error


def test_a_sound_compressor_passes(draw_x: Callable[..., Tensor]) -> None:
    check_compressor(Truncating(), draw_x(4), name="mine")
    check_compressor(Truncating(), draw_x(1), name="mine")


@pytest.mark.parametrize("spec", sorted(bundled_compressors()))
def test_bundled_compressors_pass(spec: str) -> None:
    x = audit_space(load_channels(sample_path()).subset(slice(0, 4)))
    check_compressor(load_compressor(spec).compressor, x, name=spec)


@pytest.mark.usefixtures("seeded_torch")
@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Dropping, r"mine answers the same channels differently each time. Is dropout on\?"),
        (WrongLayout, r"compressor mine: y_hat must be \(N, 2, 8, 8\), layout 'planes'; got"),
        (WrongShape, r"mine returns \(4, 2, 8, 9\) for channels \(4, 2, 8, 8\). Check its conv"),
        (BatchNormalising, "mine reconstructs a channel differently alone and in a batch"),
        (
            StillTraining,
            r"fails on channels \(1, 2, 8, 8\): ValueError \(Expected more than 1",
        ),
        (BatchAttending, r"differently alone and in a batch.*Does it attend or normalise over"),
        (PeakOfBatch, "mine reconstructs a channel differently alone and in a batch"),
        (Lossless, "mine returns every channel without error: there is nothing to audit"),
    ],
)
def test_unsound_compressors_are_refused(
    draw_x: Callable[..., Tensor], made: type[Truncating], message: str
) -> None:
    with pytest.raises(CsiAuditError, match=message):
        check_compressor(made(), draw_x(4), name="mine")


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_nan_and_infinity_are_refused(draw_x: Callable[..., Tensor], value: float) -> None:
    with pytest.raises(CsiAuditError, match=r"mine returns NaN or infinity\. Check its scaling"):
        check_compressor(Spoilt(value), draw_x(4), name="mine")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RuntimeError("mat1 and mat2\nshapes"), r"RuntimeError \(mat1 and mat2\)"),
        (KeyError("weight"), r"KeyError \('weight'\)"),
        (AssertionError(), "AssertionError"),
        (AttributeError("no such layer."), r"AttributeError \(no such layer\)"),
    ],
)
def test_an_exception_inside_is_told(
    draw_x: Callable[..., Tensor], error: Exception, words: str
) -> None:
    message = rf"mine fails on channels \(4, 2, 8, 8\): {words}\. Was it built for another"
    with pytest.raises(CsiAuditError, match=message) as caught:
        check_compressor(Raising(error), draw_x(4), name="mine")
    assert caught.value.__cause__ is error


def test_another_array_is_refused(draw_x: Callable[..., Tensor]) -> None:
    with pytest.raises(CsiAuditError, match=r"compressor mine: x must be real \(N, 2, 8, 8\)"):
        check_compressor(Truncating(), draw_x(4, shape=(2, 16, 8)), name="mine")


def test_an_interruption_is_not_an_answer(draw_x: Callable[..., Tensor]) -> None:
    error: Any = KeyboardInterrupt()
    with pytest.raises(KeyboardInterrupt):
        check_compressor(Raising(error), draw_x(4), name="mine")


def noise() -> Tensor:
    return torch.randn(3, 2, 32, 32, generator=torch.Generator().manual_seed(0))


class LongCode(nn.Module):
    """Says two numbers, feeds back all."""

    n_code: int = 2
    convention: Convention = Convention()

    def encode(self, y: Tensor) -> Tensor:
        return y.flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return 0.5 * z.unflatten(1, (2, 32, 32))

    def bits(self, z: Tensor) -> Tensor | None:
        return None


class Rounded(LongCode):
    """Rounds its code: no gradient gets through."""

    n_code = 2048

    def encode(self, y: Tensor) -> Tensor:
        return y.flatten(1).round()


def test_a_codeword_longer_than_declared_is_refused() -> None:
    with pytest.raises(CsiAuditError, match=r"n_code = 2, but encode returns \(3, 2048\)"):
        check_compressor(LongCode(), noise(), name="long")


def test_guidance_needs_a_gradient() -> None:
    x = noise()
    check_gradient(load_compressor("klt-16").compressor, x, name="klt-16")
    with pytest.raises(CsiAuditError, match="compressor rounded has no usable gradient"):
        check_gradient(Rounded(), x, name="rounded")


@pytest.mark.parametrize("data", [None, (1, 1, 8), (2, 2, 2)])
@pytest.mark.parametrize("own", [None, (1, 1, 8), (2, 2, 2), (1, 2, 4)])
def test_antennas_of_another_panel_are_refused(data: Panel | None, own: Panel | None) -> None:
    """What the audit space leads back to is right exactly where the check is passed."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(3, 1, 8, 8, dtype=torch.complex64, generator=generator)
    x = stack_real(to_angular_delay(h, data))
    convention = Convention(domain="spatial-frequency", event_shape=EVENT_SHAPE, panel=own)
    right = torch.allclose(convention.to_own(x)[0], stack_real(h), atol=1e-5)
    assert right == ((own or (1, 1, 8)) == (data or (1, 1, 8)))
    grid = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=8, panel=data)
    beams = replace(convention, domain="angular-delay")
    check_panel(beams, grid, name="mine")  # sees the audit space as it is
    if right:
        check_panel(convention, grid, name="mine")
        return
    wanted, had = data or (1, 1, 8), own or (1, 1, 8)
    message = (
        f"compressor mine must have the data's panel {wanted} (pol, rows, columns), since it works "
        f"on the antennas themselves; its convention has {had}. Set Convention(panel={wanted}), or "
        "give the data the panel it was made for."
    )
    with pytest.raises(CsiAuditError, match=f"^{re.escape(message)}$"):
        check_panel(convention, grid, name="mine")
