"""Batches, counts and gradients of denoisers: nothing depends on how the work is split."""

from typing import Any

import pytest
import torch
from torch import Tensor

from csi_audit.base import build_denoiser
from csi_audit.diffusion import GaussianDenoiser, MixtureDenoiser
from csi_audit.evaluating import CountedDenoiser, value_and_gradient
from csi_audit.networks import NetworkSpec

MIXTURE = MixtureDenoiser(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0, 0.5], [1.5, 0.0]], dtype=torch.float64),
    torch.tensor([0.4, 0.7], dtype=torch.float64),
)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def points(n: int = 10) -> tuple[Tensor, Tensor]:
    """x (n, 2) at noise levels from 0.05 to 20."""
    sigma = torch.logspace(-1.3, 1.3, n, dtype=torch.float64)
    x = torch.randn(n, 2, generator=seeded(0), dtype=torch.float64)
    return (1 + sigma[:, None] ** 2).sqrt() * x, sigma


def both(x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
    """A function of all three."""
    return (x0_hat.square().sum(1) + 1).log() + 0.1 * sigma * x.sin().prod(1)


def mean_alone(x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
    return x0_hat.exp().sum(1)


def noise_alone(x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
    return x.exp().sum(1)


def nothing(x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
    return torch.zeros(len(x), dtype=x.dtype)


@pytest.mark.unit
def test_counted_denoiser_splits_counts_and_tells(gaussian: Any) -> None:
    told: list[int] = []
    plain = gaussian.base.denoiser
    counted = CountedDenoiser(plain, batch_size=4, progress=told.append)
    x, sigma = torch.randn(10, 6, generator=seeded(0)), torch.linspace(0.1, 5, 10)
    assert torch.allclose(counted(x, sigma), plain(x, sigma))
    assert torch.allclose(counted(x, 2.0), plain(x, 2.0))
    assert told == [4, 4, 2, 4, 4, 2]
    assert counted.evaluations == 20
    assert counted.event_shape == (6,)
    assert not counted(x, 2.0).is_inference()  # or nothing downstream could work in place


class Cramped:
    """A denoiser whose device holds no more than `room` samples."""

    def __init__(self, plain: Any, room: int) -> None:
        self.plain, self.room, self.event_shape = plain, room, plain.event_shape
        self.tried: list[int] = []

    def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        self.tried.append(len(x))
        if len(x) > self.room:
            raise torch.OutOfMemoryError(f"no room for {len(x)}")
        out: Tensor = self.plain(x, sigma)
        return out


@pytest.mark.unit
def test_a_batch_that_does_not_fit_is_halved_for_good() -> None:
    cramped, told = Cramped(MIXTURE, room=3), list[int]()
    counted = CountedDenoiser(cramped, batch_size=256, progress=told.append)
    x, sigma = points(10)
    assert torch.allclose(counted(x, sigma), MIXTURE(x, sigma))
    assert cramped.tried == [10, 5, 2, 2, 2, 2, 2]
    assert told == [2] * 5  # what failed is not counted
    cramped.tried.clear()
    found = counted.value_and_gradient(x, sigma, both)
    expected = value_and_gradient(MIXTURE, x, sigma, both)
    assert torch.allclose(found.gradient, expected.gradient)
    assert cramped.tried == [2] * 5
    assert counted.evaluations == 30


@pytest.mark.unit
def test_a_single_sample_that_does_not_fit_is_an_error() -> None:
    x, sigma = points(4)
    with pytest.raises(torch.OutOfMemoryError, match="no room for 1"):
        CountedDenoiser(Cramped(MIXTURE, room=0))(x, sigma)


@pytest.mark.unit
def test_no_samples_make_no_evaluations() -> None:
    counted = CountedDenoiser(MIXTURE)
    assert counted(torch.zeros(0, 2, dtype=torch.float64), 1.0).shape == (0, 2)
    assert counted.evaluations == 0


@pytest.mark.unit
def test_a_network_runs_without_gradients(gaussian: Any, seeded_torch: None) -> None:
    class Net(torch.nn.Linear):
        event_shape: tuple[int, ...] = (6,)

        def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
            assert torch.is_inference_mode_enabled()
            out: Tensor = self.forward(x)
            return out

    out = CountedDenoiser(Net(6, 6))(torch.ones(2, 6), 1.0)
    assert not out.requires_grad


# --- The gradient ---------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("f", [both, mean_alone, noise_alone, nothing])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_gradient_through_the_denoiser(f: Any, mode: Any) -> None:
    """Against central differences of f(x, sigma, D(x, sigma)), in any mode."""
    x, sigma = points()
    x = 0.3 * x
    direction = torch.randn(x.shape, generator=seeded(1), dtype=torch.float64)
    with mode():
        found = value_and_gradient(MIXTURE, 1.0 * x, 1.0 * sigma, f)
    assert torch.allclose(found.x0_hat, MIXTURE(x, sigma))
    assert torch.allclose(found.value, f(x, sigma, MIXTURE(x, sigma)))
    h = 1e-5
    ahead, behind = (
        f(x + s * h * direction, sigma, MIXTURE(x + s * h * direction, sigma)) for s in (1, -1)
    )
    slope = (ahead - behind) / (2 * h)
    assert torch.allclose((found.gradient * direction).sum(1), slope, rtol=1e-6, atol=1e-8)
    assert not any(part.requires_grad or part.is_inference() for part in found)


@pytest.mark.unit
def test_counted_gradient_splits_counts_and_tells() -> None:
    told: list[int] = []
    counted = CountedDenoiser(MIXTURE, batch_size=4, progress=told.append)
    x, sigma = points()
    whole = value_and_gradient(MIXTURE, x, sigma, both)
    split = value_and_gradient(counted, x, sigma, both)
    assert all(torch.allclose(a, b) for a, b in zip(split, whole, strict=True))
    assert told == [8, 8, 4]  # a backward pass costs as much as an evaluation
    assert counted.evaluations == 20
    value_and_gradient(counted, x, 2.0, both)
    assert counted.evaluations == 40


@pytest.mark.unit
def test_memory_is_that_of_a_batch() -> None:
    """The denoiser and f see one batch at a time."""
    seen: list[int] = []

    class Watched:
        event_shape: tuple[int, ...] = (2,)

        def __call__(self, x: Tensor, sigma: Tensor | float) -> Tensor:
            seen.append(len(x))
            return MIXTURE(x, sigma)

    def f(x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        seen.append(len(x0_hat))
        return both(x, sigma, x0_hat)

    CountedDenoiser(Watched(), batch_size=3).value_and_gradient(*points(7), f)
    assert seen == [3, 3, 3, 3, 1, 1]


@pytest.mark.unit
def test_no_gradient_of_a_parameter(seeded_torch: None) -> None:
    """A network in training keeps its own gradients, and none is added."""
    denoiser = build_denoiser(NetworkSpec(), torch.ones(2, 8, 8))
    before = [weight.requires_grad for weight in denoiser.parameters()]
    x = torch.randn(3, 2, 8, 8)
    found = value_and_gradient(CountedDenoiser(denoiser), x, 1.0, lambda x, s, d: d.sum((1, 2, 3)))
    assert torch.allclose(found.gradient, torch.full_like(x, 0.5))  # the Wiener filter of v = 1
    assert all(weight.grad is None for weight in denoiser.parameters())
    assert [weight.requires_grad for weight in denoiser.parameters()] == before


@pytest.mark.unit
def test_f_runs_in_full_precision_under_autocast() -> None:
    weight = torch.randn(2, 2, generator=seeded(2))
    denoiser, x = (
        GaussianDenoiser(torch.zeros(2), torch.ones(2)),
        torch.randn(6, 2, generator=seeded(3)),
    )

    def f(x: Tensor, sigma: Tensor | float, x0_hat: Tensor) -> Tensor:
        return (x0_hat @ weight).square().sum(1)

    exact = value_and_gradient(denoiser, x, 0.5, f)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = value_and_gradient(denoiser, x, 0.5, f)
        assert f(x, 0.5, x).dtype == torch.bfloat16
    assert rounded.value.dtype == rounded.gradient.dtype == torch.float32
    assert torch.equal(rounded.value, exact.value)
    assert torch.equal(rounded.gradient, exact.gradient)
