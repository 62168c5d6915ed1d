"""Phase rotation and array flip: exact against the spatial domain, and against the law."""

import math

import pytest
import torch
from scipy.stats import ks_2samp
from torch import Tensor

from channels import (
    ChannelSet,
    CsiAuditError,
    audit_space,
    flip_array,
    random_symmetry,
    rotate_phase,
    stack_real,
    to_angular_delay,
    to_complex,
    to_spatial_frequency,
)


def draw(n: int = 5, n_rx: int = 2, n_tx: int = 8, n_sub: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(n, 2 * n_rx, n_tx, n_sub, generator=generator)


def flip_without_ramp(x: Tensor) -> Tensor:
    """The mutant: beams mirrored, one antenna torn off the array."""
    return torch.roll(x.flip(2), shifts=1, dims=2)


@pytest.mark.unit
@pytest.mark.parametrize("n_tx", [1, 7, 8, 32])
def test_flip_is_the_spatial_flip(n_tx: int) -> None:
    x = draw(n_tx=n_tx)
    spatial = to_spatial_frequency(to_complex(x)).flip(2)
    assert torch.allclose(flip_array(x), stack_real(to_angular_delay(spatial)), atol=1e-5)


@pytest.mark.unit
def test_flip_on_real_channels(sample: ChannelSet) -> None:
    truth = stack_real(to_angular_delay(sample.h[:200].flip(2)))
    x = audit_space(sample.subset(slice(200)))
    assert torch.allclose(flip_array(x), truth, atol=1e-5)
    assert torch.allclose(flip_array(flip_array(x)), x, atol=1e-5)
    assert not torch.allclose(flip_without_ramp(x), truth, atol=1e-2)


@pytest.mark.unit
def test_flip_takes_only_the_masked_users() -> None:
    x = draw()
    mask = torch.tensor([True, False, True, False, False])
    y = flip_array(x, mask)
    assert torch.equal(y[~mask], x[~mask])
    assert torch.equal(y[mask], flip_array(x)[mask])


@pytest.mark.unit
def test_phase_is_a_complex_factor() -> None:
    x, phase = draw(), torch.linspace(-4, 4, 5)
    turned = to_complex(x) * torch.polar(torch.ones(5), phase).view(-1, 1, 1, 1)
    assert torch.allclose(rotate_phase(x, phase), stack_real(turned), atol=1e-5)


@pytest.mark.unit
def test_random_symmetry_is_one_of_both_families() -> None:
    x = draw(n=64)
    y = random_symmetry(x, generator=torch.Generator().manual_seed(1))
    inner = (to_complex(y) * to_complex(x).conj()).sum((1, 2, 3))
    inner_flipped = (to_complex(y) * to_complex(flip_array(x)).conj()).sum((1, 2, 3))
    energy = x.square().sum((1, 2, 3))
    kept = (inner.abs() / energy - 1).abs() < 1e-4
    flipped = (inner_flipped.abs() / energy - 1).abs() < 1e-4
    assert torch.all(kept ^ flipped)
    assert 16 < int(flipped.sum()) < 48
    angle = torch.where(kept, inner.angle(), inner_flipped.angle())
    assert float(angle.max() - angle.min()) > math.pi


@pytest.mark.unit
def test_random_symmetry_follows_its_generator() -> None:
    x = draw()
    first, again = (random_symmetry(x, generator=torch.Generator().manual_seed(3)) for _ in "ab")
    other = random_symmetry(x, generator=torch.Generator().manual_seed(4))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.unit
def test_symmetries_pass_gradients() -> None:
    x = draw().requires_grad_()
    random_symmetry(x, generator=torch.Generator().manual_seed(0)).square().sum().backward()
    assert x.grad is not None
    assert torch.allclose(x.grad, 2 * x.detach(), atol=1e-5)


@pytest.mark.unit
def test_wrong_inputs() -> None:
    x = draw()
    with pytest.raises(CsiAuditError, match=r"x must be real \(N, 2 n_rx, n_tx, n_delay\); got"):
        flip_array(x[:, :3])
    with pytest.raises(CsiAuditError, match=r"mask must be bool \(5,\); got torch\.int64 \(5,\)"):
        flip_array(x, torch.ones(5, dtype=torch.int64))
    with pytest.raises(CsiAuditError, match=r"phase must be \(5,\), one angle a user; got \(4,\)"):
        rotate_phase(x, torch.zeros(4))
    with pytest.raises(CsiAuditError, match="x must be real"):
        random_symmetry(to_complex(x), generator=torch.Generator())


def coherence(x: Tensor) -> Tensor:
    """Real part of the coherence of antennas 0 and 1 over the subcarriers, (N,)."""
    h = to_spatial_frequency(to_complex(x))[:, 0]
    first, second = h[:, 0], h[:, 1]
    power = first.abs().square().sum(1) * second.abs().square().sum(1)
    return (first * second.conj()).sum(1).real / power.sqrt()


@pytest.mark.statistical
def test_symmetries_keep_the_law_and_the_mutant_does_not(sample: ChannelSet) -> None:
    """KS between real and augmented users, at alpha = 1e-6; the mutant lies three times further."""
    x = audit_space(sample)
    tolerance = math.sqrt(-math.log(1e-6 / 2) / 2) * math.sqrt(2 / len(x))
    drawn = random_symmetry(x, generator=torch.Generator().manual_seed(0))
    for augmented in (flip_array(x), drawn):
        assert ks_2samp(coherence(x), coherence(augmented)).statistic < tolerance
    mutant = ks_2samp(coherence(x), coherence(flip_without_ramp(x))).statistic
    assert mutant > 3 * tolerance
