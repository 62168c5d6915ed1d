"""Noise in, samples and losses out: the same law as the sampler's, counted, and never silent."""

from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from channels import CsiAuditError
from csi_audit.base import load_base
from csi_audit.noise_map import IdentityMap, LimitState, OdeMap
from csi_audit.sampling import BaseSampler
from csi_audit.toy_laws import toy_base, toy_law

pytestmark = pytest.mark.unit


class First:
    """The first coordinate, high or low being bad."""

    name, unit = "first", "1"

    def __init__(self, worse: Literal["high", "low"] = "high") -> None:
        self.worse = worse

    def __call__(self, x: Tensor) -> Tensor:
        return x.flatten(1)[:, 0]


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("batch_size", [3, 100])
def test_the_map_is_the_audited_law(batch_size: int) -> None:
    """The noise that the sampler draws gives the sampler's samples, at the same cost."""
    base, told = toy_base(toy_law("pinwheel")), list[int]()
    sampler = BaseSampler(base, steps=12)
    noise_map = OdeMap(base, steps=12, batch_size=batch_size, progress=told.append)
    limit = LimitState(noise_map, First())
    x, values = limit.with_samples(limit.noise(10, generator=seeded()))
    drawn = sampler(10, generator=seeded())
    assert torch.allclose(x, drawn.x, atol=1e-5)
    assert torch.allclose(values, drawn.x[:, 0].double(), atol=1e-5)
    assert noise_map.evaluations == drawn.n_evaluations == sum(told) == 10 * noise_map.price
    assert noise_map.name == sampler.name
    assert not values.is_inference()


def test_channels_end_on_the_law(tiny_base: Any) -> None:
    """`onto_law` is the last thing that happens to a sample; shapes are those of the base."""

    def onto(x: Tensor) -> Tensor:
        return x / x.flatten(1).norm(dim=1).view(-1, 1, 1, 1)

    base = load_base(tiny_base)
    plain, normalised = OdeMap(base, steps=4), OdeMap(base, steps=4, onto_law=onto)
    assert normalised.event_shape == (2, 8, 8)
    z = torch.randn(3, 2, 8, 8, generator=seeded())
    x = normalised(z)
    assert torch.allclose(x.flatten(1).norm(dim=1), torch.ones(3))
    assert torch.allclose(onto(plain(z)), x, atol=1e-6)
    assert float(plain(z).flatten(1).norm(dim=1).min()) > 1.5


def test_high_is_bad_inside() -> None:
    z = torch.randn(5, 2, generator=seeded())
    high, low = (LimitState(IdentityMap((2,)), First(side)) for side in ("high", "low"))
    assert torch.equal(high(z), z[:, 0].double())
    assert torch.equal(low(z), -z[:, 0].double())
    assert (high.sign, low.sign) == (1.0, -1.0)
    high(z)
    assert (high.evaluations, low.evaluations) == (10, 5)


@pytest.mark.parametrize(("bad", "shown"), [(float("nan"), "nan"), (float("inf"), "-?inf")])
def test_a_loss_without_a_value_is_refused(bad: float, shown: str) -> None:
    z = torch.zeros(4, 2)
    z[2, 0] = bad
    message = rf"first must be finite on every sample of the base model; sample 2 has {shown}\."
    for worse in ("high", "low"):
        with pytest.raises(CsiAuditError, match=message):
            LimitState(IdentityMap((2,)), First(worse))(z)
