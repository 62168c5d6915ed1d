"""Contrast: what is learnt beyond the linear denoiser, taken a little more; and its choice."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from channels import CsiAuditError, Grid, onto_sphere
from csi_audit.base import build_denoiser, load_base, save_base
from csi_audit.contrast_choice import AMOUNTS, STEPS, choose_contrast, with_contrast
from csi_audit.diffusion import Contrast, PreconditionedDenoiser
from csi_audit.networks import NetworkSpec
from csi_audit.quick_fidelity import QuickFidelity

pytestmark = pytest.mark.unit

SHAPE = (2, 8, 8)
GRID = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=8)


def variances(decay: float) -> Tensor:
    """Of each coefficient, falling with delay, the sum that of unit power."""
    falling = torch.exp(-decay * torch.arange(8.0)).expand(SHAPE)
    return (falling / falling.mean()).contiguous()


WRONG, TRUE = variances(0.2), variances(1.5)


class Learnt(nn.Module):
    """A network whose denoiser is that of N(0, TRUE), but for a part of the way that is missing.

    Args:
        missing: Amount of the contrast that makes it whole.
    """

    def __init__(self, missing: float) -> None:
        super().__init__()
        self.unused = nn.Parameter(torch.zeros(1))
        self.contrast = Contrast(amount=missing)

    def forward(self, features: Tensor, log_sigma: Tensor) -> Tensor:
        square = log_sigma.exp().square().view(-1, 1, 1, 1)
        linear, whole = WRONG / (WRONG + square), TRUE / (TRUE + square)
        factor = self.contrast.factor(square.sqrt())
        gate = ((whole - linear) / (1 - linear) / factor)[:, :1]
        return torch.cat([torch.zeros(len(features), *SHAPE), gate], dim=1)


def learnt(missing: float) -> PreconditionedDenoiser:
    return PreconditionedDenoiser(Learnt(missing), WRONG)


@pytest.fixture(scope="module")
def fidelity() -> QuickFidelity:
    generator = torch.Generator().manual_seed(0)
    real = onto_sphere(TRUE.sqrt() * torch.randn(2000, *SHAPE, generator=generator))
    return QuickFidelity(
        real, GRID, WRONG, sigma_min=0.01, sigma_max=80.0, samples=1500, seed=1, steps=STEPS
    )


@given(st.floats(0.01, 100), st.floats(-0.5, 0.5))
def test_it_stretches_what_lies_beyond_the_linear_denoiser(sigma: float, amount: float) -> None:
    denoiser = learnt(0.0)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2))
    linear = WRONG / (WRONG + sigma**2) * x
    w = amount * math.exp(-0.5 * math.log(sigma / 3.0) ** 2)
    expected = linear + (1 + w) * (denoiser(x, sigma) - linear)
    found = with_contrast(denoiser, amount)(x, sigma)
    assert torch.allclose(found, expected, atol=2e-5 * float(x.abs().max()))


def test_none_changes_no_bit() -> None:
    denoiser = learnt(0.3)
    x = torch.randn(3, *SHAPE, generator=torch.Generator().manual_seed(2))
    assert torch.equal(with_contrast(denoiser, 0.0)(x, 2.0), denoiser(x, 2.0))
    assert denoiser.contrast is None


@pytest.mark.parametrize("missing", [0.0, 0.2])
def test_the_missing_part_is_found(fidelity: QuickFidelity, missing: float) -> None:
    chosen = choose_contrast(learnt(missing), fidelity, amounts=(0.0, 0.2))
    assert (0.0 if chosen.contrast is None else chosen.contrast.amount) == missing
    figures = dict(chosen.tried)
    assert figures[missing].features < figures[0.2 - missing].features


def test_what_is_tried(fidelity: QuickFidelity) -> None:
    """All amounts, then half-way to the neighbours of the best; never less than none."""
    none = [amount for amount, _ in choose_contrast(learnt(0.0), fidelity).tried]
    assert none == sorted([*AMOUNTS, 0.025])
    chosen = choose_contrast(learnt(0.2), fidelity, amounts=(0.0, 0.2, 0.4))
    assert [amount for amount, _ in chosen.tried] == [0.0, 0.1, 0.2, 0.3, 0.4]


def test_a_file_keeps_it(tmp_path: Path) -> None:
    spec, path = (
        NetworkSpec(options=(("channels", 2), ("hidden", 8), ("depth", 2))),
        "b.safetensors",
    )
    with torch.random.fork_rng():
        denoiser = build_denoiser(spec, TRUE)

    def stored(contrast: Contrast | None) -> Contrast | None:
        save_base(
            tmp_path / path,
            denoiser.state_dict(),
            network=spec,
            sigma_min=0.01,
            sigma_max=80.0,
            grid=GRID,
            card={},
            contrast=contrast,
        )
        found = load_base(tmp_path / path).denoiser
        assert isinstance(found, PreconditionedDenoiser)
        return found.contrast

    kept = Contrast(amount=0.15, centre=3.0, width=0.5)
    assert stored(kept) == kept
    assert stored(None) is None


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"amount": 1.0}, r"amount must lie in \(-1, 1\); got 1.0. 0.1 is usual"),
        ({"amount": math.nan}, r"amount must lie in \(-1, 1\); got nan"),
        ({"amount": 0.1, "centre": 0.0}, "centre must be finite and above 0; got 0.0"),
        ({"amount": 0.1, "width": -1.0}, r"width must be finite and above 0; got -1.0"),
    ],
)
def test_numbers_out_of_range(wrong: dict[str, float], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        Contrast(**wrong)
