"""Weights made of losses and of other weights."""

from dataclasses import dataclass
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from csi_audit.twists import gradient_log_l
from csi_audit.weights import (
    LinearWeight,
    NormalisedWeight,
    ProductWeight,
    SumWeight,
    ThresholdWeight,
    Weight,
    log_l_in_blocks,
)


@dataclass
class Length:
    """L(x) = |x| as a loss."""

    worse: Literal["high", "low"] = "high"
    name: str = "length"
    unit: str = "1"

    def __call__(self, x: Tensor) -> Tensor:
        return x.norm(dim=1)


@dataclass(frozen=True)
class Tilt:
    """l(x) = exp(a . x)."""

    a: Tensor

    def log_l(self, x: Tensor) -> Tensor:
        return x @ self.a


X = torch.tensor([[0.0, 1.0], [3.0, 4.0], [0.6, 0.8], [6.0, 8.0]], dtype=torch.float64)
TILT = Tilt(torch.tensor([0.3, -0.2], dtype=torch.float64))
LINEAR = LinearWeight(torch.tensor([0.5, 0.25], dtype=torch.float64), 1.0, 2.0)


@pytest.mark.unit
def test_soft_threshold() -> None:
    l = ThresholdWeight(Length(), tau=5.0, width=0.5, floor=0.01).log_l(X).exp()
    assert l.tolist() == pytest.approx([0.01033, 0.505, 0.01033, 0.99996], rel=1e-3)
    low = ThresholdWeight(Length("low"), tau=5.0, width=0.5, floor=0.01).log_l(X).exp()
    assert low.tolist() == pytest.approx([0.99967, 0.505, 0.99967, 0.010045], rel=1e-3)


@pytest.mark.unit
def test_soft_threshold_far_from_its_rise() -> None:
    """No NaN and no dead gradient where exp(-(L - tau) / width) leaves the range of a float."""
    weight = ThresholdWeight(Length(), tau=5.0, width=1e-3, floor=1e-4)
    assert weight.log_l(X).exp().tolist() == pytest.approx([1e-4, 0.50005, 1e-4, 1.0])
    assert bool(gradient_log_l(weight, X[1:]).isfinite().all())
    assert float(gradient_log_l(weight, X[1:2]).norm()) == pytest.approx(500, rel=1e-3)


@pytest.mark.unit
def test_products_and_sums() -> None:
    product = ProductWeight((TILT, LINEAR))
    assert torch.allclose(product.log_l(X), TILT.log_l(X) + LINEAR.log_l(X))
    total = SumWeight((TILT, LINEAR), (2.0, 0.5))
    expected = 2 * TILT.log_l(X).exp() + 0.5 * LINEAR.log_l(X).exp()
    assert torch.allclose(total.log_l(X).exp(), expected)
    both: tuple[Weight, ...] = (product, total)
    for weight in both:
        x = X + 1e-6 * torch.eye(2).repeat(2, 1)
        slope = (weight.log_l(x) - weight.log_l(X)) / 1e-6
        g = (gradient_log_l(weight, X) * torch.eye(2).repeat(2, 1)).sum(1)
        assert torch.allclose(slope, g, rtol=1e-4)


@pytest.mark.unit
def test_constant_of_a_linear_weight() -> None:
    # 2 + 0.5 a + 0.25 b + |x|^2 / 2
    assert LINEAR.log_l(X).exp().tolist() == pytest.approx([2.75, 17.0, 3.0, 57.0])


@pytest.mark.unit
@pytest.mark.parametrize("block", [1, 3, 500])
def test_blocks_change_nothing(block: int) -> None:
    found = log_l_in_blocks(TILT, X.requires_grad_(False), block=block)
    assert found.dtype == torch.float64
    assert not found.requires_grad
    assert torch.allclose(found, TILT.log_l(X))


@pytest.mark.unit
def test_refusals() -> None:
    def threshold(**options: Any) -> ThresholdWeight:
        return ThresholdWeight(Length(), **{"tau": 1.0, "width": 0.1, **options})

    for width in (0.0, -1.0, float("nan")):
        message = rf"width must be positive, in the unit of the loss; got {width}\."
        with pytest.raises(ValueError, match=message):
            threshold(width=width)
    for floor in (0.0, 1.0, -0.1):
        message = rf"floor must lie in \(0, 1\), the top of l; got {floor}\."
        with pytest.raises(ValueError, match=message):
            threshold(floor=floor)
    for factors in ((1.0,), (1.0, 0.0), (1.0, -2.0)):
        message = r"factors must be 2 positive numbers, one a weight; got \(1\.0"
        with pytest.raises(ValueError, match=message):
            SumWeight((TILT, LINEAR), factors)


@pytest.mark.unit
def test_normalised_weight_sees_samples_of_the_law() -> None:
    """A loss that depends on the scale counts as on the sphere, whatever the sample's own power."""

    def onto_circle(x: Tensor) -> Tensor:
        return 5 * x / x.norm(dim=1, keepdim=True)

    weight = NormalisedWeight(LINEAR, onto_circle)
    assert torch.allclose(weight.log_l(X), LINEAR.log_l(onto_circle(X)))
    assert torch.allclose(weight.log_l(7 * X), weight.log_l(X))
    assert not torch.allclose(LINEAR.log_l(7 * X), LINEAR.log_l(X))
