"""The KLT is the best linear code: an orthonormal projection, equal to the SVD's."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from channels import CsiAuditError, rotate_phase, to_complex
from compressors import Klt, nmse


def fitted(x: Tensor, n_code: int) -> Klt:
    _, pairs, n_tx, n_delay = x.shape
    return Klt(n_code, n_tx=n_tx, n_delay=n_delay, n_rx=pairs // 2).fit(x)


@pytest.mark.unit
@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 4, 8)])
def test_rows_are_orthonormal_and_project(
    shape: tuple[int, int, int], draw_x: Callable[..., Tensor]
) -> None:
    x = draw_x(50, shape)
    klt = fitted(x, 24)
    rows = klt.real_rows()
    assert torch.allclose(rows @ rows.T, torch.eye(24), atol=1e-5)
    assert torch.allclose(klt.encode(x), x.flatten(1) @ rows.T, atol=1e-4)
    x_hat = klt(x)
    assert torch.allclose(klt(x_hat), x_hat, atol=1e-4)
    assert torch.allclose(klt.encode(x).norm(dim=1), x_hat.flatten(1).norm(dim=1), atol=1e-4)
    residual = ((x - x_hat) * x_hat).flatten(1).sum(1)
    assert torch.allclose(residual, torch.zeros(50), atol=1e-3)


@pytest.mark.unit
@pytest.mark.parametrize("shape", [(2, 8, 8), (4, 4, 8)])
def test_equal_to_the_singular_value_decomposition(
    shape: tuple[int, int, int], draw_x: Callable[..., Tensor]
) -> None:
    x = draw_x(50, shape)
    rows = to_complex(x).flatten(1).numpy().astype(complex)
    _, values, right = np.linalg.svd(rows, full_matrices=False)
    projector = right[:12].conj().T @ right[:12]  # rows of right are v^H
    expected = rows @ projector
    klt = fitted(x, 24)
    assert np.allclose(to_complex(klt(x)).flatten(1).numpy(), expected, atol=1e-3)
    lost = np.square(values[12:]).sum() / np.square(values).sum()
    power = x.flatten(1).square().sum(1).double()
    assert float((nmse(x, klt(x)) * power).sum() / power.sum()) == pytest.approx(lost, rel=1e-4)


@pytest.mark.unit
def test_no_other_code_of_that_length_is_better(draw_x: Callable[..., Tensor]) -> None:
    """Random orthonormal rows, and the leading taps, lose more on the fitted channels."""
    x = draw_x(50)
    best = float(nmse(x, fitted(x, 16)(x)).mean())
    rows, _ = torch.linalg.qr(torch.randn(128, 16, generator=torch.Generator().manual_seed(0)))
    x_random = (x.flatten(1) @ rows @ rows.T).view_as(x)
    x_taps = x * (torch.arange(8) < 1)
    assert best < 0.9 * float(nmse(x, x_taps).mean()) < float(nmse(x, x_random).mean())


@pytest.mark.unit
def test_longer_codes_lose_less_and_the_longest_nothing(draw_x: Callable[..., Tensor]) -> None:
    x = draw_x(200)
    errors = [float(nmse(x, fitted(x, n)(x)).mean()) for n in (2, 16, 64, 126, 128)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-2] > 1e-5 > 1e-9 > errors[-1]


@pytest.mark.unit
def test_global_phase_changes_nothing(draw_x: Callable[..., Tensor]) -> None:
    """A complex code, fitted and used under any phase: the law has that symmetry."""
    x = draw_x(50)
    turned = rotate_phase(x, torch.linspace(0, 6, 50))
    klt = fitted(turned, 16)
    assert torch.allclose(nmse(turned, klt(turned)), nmse(x, klt(x)), atol=1e-5)
    assert torch.allclose(klt(turned), fitted(x, 16)(turned), atol=1e-3)


@pytest.mark.unit
@pytest.mark.parametrize("n_code", [0, 7, -2, 130])
def test_code_length_is_even_and_fits(n_code: int) -> None:
    message = rf"n_code of a KLT must be even and at most 128, .*; got {n_code}\."
    with pytest.raises(CsiAuditError, match=message):
        Klt(n_code, n_tx=8, n_delay=8)


@pytest.mark.unit
def test_channels_of_another_shape(draw_x: Callable[..., Tensor]) -> None:
    message = r"x must be channels of \(1, 8, 8\); got \(2, 4, 8\)\."
    with pytest.raises(CsiAuditError, match=message):
        Klt(8, n_tx=8, n_delay=8).fit(draw_x(3, (2, 4, 8)))
