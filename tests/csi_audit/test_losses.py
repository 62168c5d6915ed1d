"""Losses of a channel, the weights made of them, and what may not be a weight."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from channels import (
    Convention,
    onto_sphere,
    stack_real,
    to_angular_delay,
    to_complex,
    to_spatial_frequency,
)
from channels.support import CsiAuditError
from compressors import Klt, in_audit_space, nmse, sgcs
from csi_audit.losses import (
    NmseLoss,
    OwnMseLoss,
    RateLoss,
    RhoLoss,
    SgcsLoss,
    SquaredErrorLoss,
    in_blocks,
)
from csi_audit.weights import LinearWeight, LossWeight

LOSSES: list[Any] = [NmseLoss, SquaredErrorLoss, OwnMseLoss, SgcsLoss, RhoLoss, RateLoss]


def channels(n: int = 30, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return onto_sphere(torch.randn(n, 2, 8, 8, generator=generator))


@pytest.fixture(scope="module")
def compressor() -> Klt:
    scaled = Convention(event_shape=(2, 8, 8), scaling="global", scale=0.1)
    return Klt(32, n_tx=8, n_delay=8, convention=scaled).fit(channels())


@pytest.mark.unit
def test_losses_are_what_they_are_called(compressor: Klt) -> None:
    audited, x = in_audit_space(compressor), channels(seed=1)
    x_hat = audited(x)
    assert torch.equal(NmseLoss(audited)(x), nmse(x, x_hat))
    assert torch.allclose(SquaredErrorLoss(audited)(x), nmse(x, x_hat).float(), rtol=1e-4)
    own = 0.1**2 * (x - x_hat).square().mean((1, 2, 3))
    assert torch.allclose(OwnMseLoss(audited)(x), own, rtol=1e-4)
    h, h_hat = (to_spatial_frequency(to_complex(part)) for part in (x, x_hat))
    assert torch.equal(SgcsLoss(audited)(x), sgcs(h, h_hat))
    assert torch.allclose(SgcsLoss(audited)(x), SgcsLoss(audited)(3 * x))
    named = [(loss(audited).name, loss(audited).worse, loss(audited).unit) for loss in LOSSES]
    assert named == [
        ("nmse", "high", "1"),
        ("squared_error", "high", "1"),
        ("own_mse", "high", "own scale squared"),
        ("sgcs", "low", "1"),
        ("rho", "low", "1"),
        ("rate_loss", "high", "bit/s/Hz"),
    ]


@pytest.mark.unit
def test_rho_and_rate_by_hand(compressor: Klt) -> None:
    """One receive antenna, subcarrier by subcarrier."""
    audited, x = in_audit_space(compressor), channels(n=3, seed=1)
    h, h_hat = (
        to_spatial_frequency(to_complex(part)).numpy().astype(complex)[:, 0]
        for part in (x, audited(x))
    )
    for n in range(3):
        cosines, lost = [], []
        for a, b in zip(h[n].T, h_hat[n].T, strict=True):
            inner, power = abs(np.vdot(a, b)) / np.linalg.norm(b), np.vdot(a, a).real
            cosines.append(inner / power**0.5)
            lost.append(np.log2(1 + 100 * power) - np.log2(1 + 100 * inner**2))
        assert float(RhoLoss(audited)(x)[n]) == pytest.approx(np.mean(cosines), rel=1e-5)
        assert float(RateLoss(audited, 20.0)(x)[n]) == pytest.approx(np.mean(lost), rel=1e-5)
    assert RateLoss(audited).snr_db == 10.0


@pytest.mark.property
@pytest.mark.parametrize("kind", [SgcsLoss, RhoLoss, RateLoss])
def test_precoding_losses_know_no_panel(kind: Any, compressor: Klt) -> None:
    """The audit space of a panel has another array transform; its inner products are the same."""
    x = channels(seed=3)
    h, h_hat = (to_spatial_frequency(to_complex(part)) for part in (x, compressor(x)))
    panel = (2, 2, 2)

    class Known:
        """Reconstructs h as h_hat, in the audit space of the panel."""

        def __call__(self, x: Tensor) -> Tensor:
            return stack_real(to_angular_delay(h_hat, panel))

    same = kind(Known())(stack_real(to_angular_delay(h, panel)))
    assert torch.allclose(same, kind(compressor)(x), rtol=1e-4)


@pytest.mark.unit
@pytest.mark.parametrize("snr_db", [float("nan"), float("inf")])
def test_an_snr_is_a_number(snr_db: float, compressor: Klt) -> None:
    with pytest.raises(CsiAuditError, match=f"snr_db must be finite; got {snr_db}"):
        RateLoss(in_audit_space(compressor), snr_db)


@pytest.mark.unit
def test_squared_error_is_defined_where_nmse_is_not(compressor: Klt) -> None:
    """A denoised mean at high noise is nearly zero; off the sphere the two part."""
    audited, x = in_audit_space(compressor), channels(seed=1)
    loss = SquaredErrorLoss(audited)
    assert torch.count_nonzero(loss(0 * x)) == 0
    assert torch.allclose(loss(0.1 * x), 0.01 * loss(x), rtol=1e-3)
    with pytest.raises(ValueError, match=r"h must have positive power; channel 0 is all zeros"):
        NmseLoss(audited)(0 * x)


@pytest.mark.unit
@pytest.mark.parametrize("kind", LOSSES)
def test_blocks_change_nothing(kind: Any, compressor: Klt) -> None:
    loss, x = kind(in_audit_space(compressor)), channels(seed=2)
    whole = in_blocks(loss, x, block=100)
    assert whole.dtype == torch.float64
    assert torch.allclose(whole, loss(x).double(), rtol=1e-4)
    assert torch.allclose(in_blocks(loss, x, block=7), whole, rtol=1e-4)


@pytest.mark.unit
def test_powers_of_a_loss(compressor: Klt) -> None:
    loss, x = SquaredErrorLoss(in_audit_space(compressor)), channels(seed=1)
    plain = LossWeight(loss).log_l(x)
    assert torch.allclose(plain.exp(), loss(x))
    assert torch.allclose(LossWeight(loss, power=4.0).log_l(x), 4 * plain)
    floored = LossWeight(loss, floor=0.5, power=2.0).log_l(0 * x)
    assert floored.tolist() == pytest.approx([2 * -0.693147] * 30, rel=1e-5)


@pytest.mark.unit
def test_a_loss_that_is_worse_when_low_is_no_weight(compressor: Klt) -> None:
    message = r"loss must be worse when high .*; 'sgcs' is worse when low\. Weigh 1 - L instead"
    with pytest.raises(ValueError, match=message):
        LossWeight(SgcsLoss(in_audit_space(compressor)))


@pytest.mark.unit
def test_linear_weight() -> None:
    weight = LinearWeight(torch.tensor([1.0, 0.0, -2.0, 0.0]), 0.5)
    x = torch.tensor([[[1.0, 2.0], [0.0, 1.0]], [[0.0, 0.0], [9.0, 0.0]]])
    # 1 + 1 + 0.5 * 6 / 4, and 1 - 18 + 0.5 * 81 / 4 < 0, which is clamped
    assert weight.log_l(x).exp().tolist() == pytest.approx([2.75, 1e-6])
