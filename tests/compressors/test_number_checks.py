"""Checks on numbers, each on a compressor with the flaw it looks for and on a sound one."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from channels import Convention
from compressors.number_checks import (
    declared_range,
    find_code_saturation,
    find_crop,
    find_distortion,
    find_input_range,
    find_output_range,
    find_output_saturation,
    find_parts,
    find_scale,
)
from compressors.trial import Trial
from compressors.verdicts import Finding

pytestmark = pytest.mark.unit

SHAPE = (2, 8, 8)
Draw = Callable[..., Tensor]


class FirstTaps:
    """Keeps the first four delay taps: everything in order."""

    n_code = 64

    def __init__(self, **convention: Any) -> None:
        self.convention = Convention(event_shape=SHAPE, **convention)

    def encode(self, y: Tensor) -> Tensor:
        return y[..., :4].flatten(1)

    def decode(self, z: Tensor) -> Tensor:
        return F.pad(z.unflatten(1, (2, 8, 4)), (0, 4))

    def bits(self, z: Tensor) -> Tensor | None:
        return None


class TanhCode(FirstTaps):
    def encode(self, y: Tensor) -> Tensor:
        return torch.tanh(50 * super().encode(y))


class OneBit(TanhCode):
    def bits(self, z: Tensor) -> Tensor | None:
        return torch.full((len(z),), 64.0)


class Clipped(FirstTaps):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z.clamp(-1, 1))


class Weak(FirstTaps):
    """A poor code's answers: right in sign, far too small."""

    def decode(self, z: Tensor) -> Tensor:
        return 0.01 * super().decode(z)


class Positive(FirstTaps):
    """A rectifier at the end."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z).relu()


class Shifted(FirstTaps):
    """Answers about zero, whatever its convention says."""

    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) - 1.0


class Imaginary(FirstTaps):
    def decode(self, z: Tensor) -> Tensor:
        return super().decode(z) * torch.tensor([0.0, 1.0]).view(2, 1, 1)


class Scaled(FirstTaps):
    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = factor

    def decode(self, z: Tensor) -> Tensor:
        return self.factor * super().decode(z)


class Unscaled(Convention):
    """Says that it scales each user, and keeps the power."""

    def to_own(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        return x, torch.ones(len(x))

    def from_own(self, y_hat: Tensor, side: Tensor | None = None) -> Tensor:
        return y_hat


class Soft(FirstTaps):
    """What it loses depends on the power of its input."""

    def encode(self, y: Tensor) -> Tensor:
        return torch.tanh(super().encode(y))


@pytest.fixture
def x(draw_x: Draw) -> Tensor:
    return draw_x(24)


def found(find: Callable[[Trial], Finding], compressor: FirstTaps, x: Tensor) -> Finding:
    return find(Trial(compressor, x, name="mine"))


# --- Ranges ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("convention", "bounds"),
    [
        ({}, None),
        ({"scaling": "sample_norm"}, None),
        ({"scaling": "global", "scale": 2.0}, None),
        ({"scaling": "global", "scale": 2.0, "offset": 0.5}, (0.0, 1.0)),
        ({"scaling": "sample_peak"}, (-1.0, 1.0)),
        ({"scaling": "sample_peak", "scale": 0.5, "offset": 0.5}, (0.0, 1.0)),
        ({"scaling": "sample_modulus", "scale": 0.25, "offset": 0.5}, (0.25, 0.75)),
    ],
)
def test_the_range_that_a_convention_means(
    convention: dict[str, Any], bounds: tuple[float, float] | None, x: Tensor
) -> None:
    compressor = FirstTaps(**convention)
    assert declared_range(compressor.convention) == bounds
    finding = found(find_input_range, compressor, x)
    if bounds is None:
        assert finding.outcome == "not applicable"
    elif convention["scaling"] != "global":
        assert finding == Finding(
            "pass", f"0 % of the energy lies outside [{bounds[0]:g}, {bounds[1]:g}]", 0.0, "%"
        )


@pytest.mark.parametrize(("scale", "outcome"), [(1.0, "pass"), (1.2, "warn"), (5.0, "fail")])
def test_a_scale_of_other_channels(scale: float, outcome: str, x: Tensor) -> None:
    """`scale` times what fills [0, 1] with these channels."""
    own = 0.5 * scale / float(x.abs().max())
    compressor = FirstTaps(scaling="global", scale=own, offset=0.5)
    finding = found(find_input_range, compressor, x)
    assert finding.outcome == outcome
    energy = x.square()
    share = 100 * float(energy[own * x.abs() > 0.5].sum() / energy.sum())
    assert finding.measured == pytest.approx(share, rel=1e-3, abs=1e-6)
    if outcome == "fail":
        assert re.search(
            r"compressor mine is given numbers that its convention does not mean: \d+\S* % of the "
            r"energy lies outside \[0, 1\]\. Set its scale by Convention\.unit_interval on its ",
            finding.words,
        )


def test_answers_of_one_sign(x: Tensor) -> None:
    finding = found(find_output_range, Positive(), x)
    assert finding.outcome == "fail"
    assert finding.measured == pytest.approx(100 * float((x < 0).float().mean()))
    assert re.search(r"but \d+ % of its input lies below\. Does it expect \[0, 1\]", finding.words)
    mirrored = found(find_output_range, Positive(), -x)
    assert mirrored.outcome == "fail"
    for sound in (FirstTaps(), Weak(), Clipped()):
        assert found(find_output_range, sound, x).outcome == "pass"


def test_answers_about_zero_of_a_convention_about_a_half(x: Tensor) -> None:
    """The way out is no convention that it has already."""
    compressor = Shifted(scaling="sample_peak", scale=0.5, offset=0.5)
    finding = found(find_output_range, compressor, x)
    assert finding.outcome == "fail"
    assert "of its input lies above. Its convention has offset 0.5 already" in finding.words
    assert "set offset 0." in finding.words
    assert "Does it expect" not in finding.words


def test_both_parts_must_come_back(x: Tensor) -> None:
    finding = found(find_parts, Imaginary(), x)
    assert finding.outcome == "fail"
    assert "compressor mine returns no real part. Does it take complex numbers" in finding.words
    assert found(find_parts, FirstTaps(), x).outcome == "pass"
    nothing = found(find_parts, Scaled(0.0), x)  # a part is missing only beside the other
    assert nothing.outcome == "pass"


# --- Crop -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("late", "outcome", "words"),
    [
        (0.0, "pass", "0 % of the energy lies beyond crop_delay = 4"),
        (0.1, "warn", "10 % of the energy lies beyond crop_delay = 4"),
        (
            0.9,
            "fail",
            "compressor mine never sees most of a channel: 90 % of the energy lies beyond "
            "crop_delay = 4. Is the first path at tap 0, and the grid that of its training?",
        ),
    ],
)
def test_a_wrong_crop_is_found(x: Tensor, late: float, outcome: str, words: str) -> None:
    parts = x[..., :4], x[..., 4:]
    unit = [part / part.square().sum((1, 2, 3), True).sqrt() for part in parts]
    x = 8 * torch.cat([(1 - late) ** 0.5 * unit[0], late**0.5 * unit[1]], dim=3)
    finding = found(find_crop, FirstTaps(crop_delay=4), x)
    assert (finding.outcome, finding.words) == (outcome, words)
    assert finding.measured == pytest.approx(100 * late, abs=1e-4)
    assert found(find_crop, FirstTaps(), x).outcome == "not applicable"


# --- Saturation -----------------------------------------------------------------------------------


def test_a_code_at_its_ends(x: Tensor) -> None:
    finding = found(find_code_saturation, TanhCode(), x)
    at_ends = float((torch.tanh(50 * x[..., :4]).abs() >= 0.998).float().mean())
    assert finding.outcome == "warn"
    assert finding.measured == pytest.approx(100 * at_ends, rel=1e-3)
    assert re.search(r"\d+\S* % of the code numbers lie at -1 or 1", finding.words)
    assert found(find_code_saturation, FirstTaps(), x).outcome == "pass"
    assert found(find_code_saturation, OneBit(), x).outcome == "not applicable"


def test_clipped_answers(x: Tensor) -> None:
    finding = found(find_output_saturation, Clipped(), x)
    assert finding == Finding("warn", "100 % of the channels go on beyond -1 or 1", 100.0, "%")
    assert found(find_output_saturation, FirstTaps(), x).outcome == "pass"
    assert found(find_output_saturation, Clipped(), 1e-3 * x).outcome == "pass"
    assert found(find_output_saturation, Clipped(), x[:19]).outcome == "not applicable"


# --- Power and distortion -------------------------------------------------------------------------


def test_input_power_does_not_matter_to_a_scaling_of_each_user(x: Tensor) -> None:
    lying = Soft()
    lying.convention = Unscaled(event_shape=SHAPE, scaling="sample_norm")
    finding = found(find_scale, lying, x)
    assert finding.outcome == "warn"
    assert finding.words.endswith("amplitude, though scaling 'sample_norm' should undo it")
    for scaling in ("sample_peak", "sample_norm", "sample_modulus"):
        assert found(find_scale, Soft(scaling=scaling), x).outcome == "pass"
    plain = found(find_scale, Soft(), x)
    assert plain.outcome == "not applicable"
    assert plain.measured is not None
    assert plain.measured > 0.01


@pytest.mark.parametrize(
    ("factor", "outcome"), [(1.0, "pass"), (0.1, "pass"), (0.0, "warn"), (-1.0, "warn")]
)
def test_distortion_is_compared_with_zeros(factor: float, outcome: str, x: Tensor) -> None:
    finding = found(find_distortion, Scaled(factor), x)
    kept = x[..., :4].square().sum((1, 2, 3)) / x.square().sum((1, 2, 3))
    nmse = 1 - kept + (1 - factor) ** 2 * kept
    assert finding.outcome == outcome
    assert finding.measured == pytest.approx(10 * float(nmse.mean().log10()), abs=1e-4)
    if outcome == "warn":
        assert finding.words.startswith("an answer of all zeros would do as well. Is it trained")
