"""A model's convention by trial: found where one fits, refused where none or two do."""

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional as F

from channels import Convention, CsiAuditError
from compressors.convention_detection import (
    MARGIN_DB,
    N_CHANNELS,
    best_unit_interval,
    detect_convention,
)

SHAPE = (2, 8, 8)
POWER = 64**0.5  # ||x|| of a unit-power channel of this shape
STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "peak": lambda w: w.flatten(1).abs().amax(1),
    "modulus": lambda w: (w[:, 0].square() + w[:, 1].square()).flatten(1).amax(1).sqrt(),
    "norm": lambda w: w.flatten(1).norm(dim=1),
}


def picky(statistic: str, value: float, offset: float = 0.0) -> Callable[[Tensor], Tensor]:
    """Keeps four taps of channels whose statistic has the value; of others the gain is wrong."""

    def model(y: Tensor) -> Tensor:
        w = y - offset
        gain = 1 + 4 * (STATISTICS[statistic](w) / value - 1)
        kept = F.pad(w[..., :4], (0, w.shape[-1] - 4))
        return gain.view(-1, 1, 1, 1) * kept + offset

    return model


CASES: dict[str, tuple[Callable[[Tensor], Tensor], dict[str, Any]]] = {
    "unit power": (picky("norm", POWER), {}),
    "norm": (picky("norm", 1.0), {"scaling": "sample_norm"}),
    "peak": (picky("peak", 1.0), {"scaling": "sample_peak"}),
    "modulus": (picky("modulus", 1.0), {"scaling": "sample_modulus"}),
    "peak, [0, 1]": (
        picky("peak", 0.5, 0.5),
        {"scaling": "sample_peak", "scale": 0.5, "offset": 0.5},
    ),
    "modulus, [0, 1]": (
        picky("modulus", 0.5, 0.5),
        {"scaling": "sample_modulus", "scale": 0.5, "offset": 0.5},
    ),
}


@pytest.mark.unit
@pytest.mark.parametrize("case", sorted(CASES))
def test_each_scaling_is_found(case: str, draw_x: Callable[..., Tensor]) -> None:
    model, scaling = CASES[case]
    found = detect_convention(model, draw_x(40), name="mine.pt2")
    assert found.convention == Convention(event_shape=SHAPE, **scaling)
    assert found.nmse_db < 0
    assert found.margin_db is not None
    assert found.margin_db >= MARGIN_DB
    assert found.sentence().startswith(
        "Its convention was detected on 40 channels, not declared: "
        f"{found.convention.describe()} ({found.nmse_db:.1f} dB, {found.margin_db:.1f} dB ahead"
    )


@pytest.mark.property
@settings(max_examples=8)
@given(scale=st.floats(0.004, 0.04), seed=st.integers(0, 20))
def test_a_global_scale_is_found_to_a_quarter_octave(
    scale: float, seed: int, draw_x: Callable[..., Tensor]
) -> None:
    """y = c x + 0.5: the right family, and the nearest c of a ladder of half octaves."""
    x = draw_x(20, seed=seed)
    model = picky("norm", scale * POWER, 0.5)
    for found in (
        detect_convention(model, x, name="mine"),
        best_unit_interval(model, x, name="mine"),
    ):
        assert (found.convention.scaling, found.convention.offset) == ("global", 0.5)
        assert found.convention.scale is not None
        assert abs(torch.tensor(found.convention.scale / scale).log2()) < 0.3


@pytest.mark.unit
@pytest.mark.parametrize(
    ("layout", "axis"),
    [("planes", 3), ("planes_transposed", 2), ("channels_last", 2), ("complex", 3)],
)
def test_layouts_are_found(layout: Any, axis: int, draw_x: Callable[..., Tensor]) -> None:
    """A model that keeps early taps, along the one axis where they are; 8 x 8 tells no shapes."""

    def model(y: Tensor) -> Tensor:
        if y.is_complex() != (layout == "complex"):
            raise RuntimeError("needs the other kind of numbers")
        if not y.is_complex() and y.shape[-1 if layout == "channels_last" else 1] != 2:
            raise RuntimeError("needs two channels")
        early = torch.arange(y.shape[axis]) < 4
        return y * early.view([-1 if i == axis else 1 for i in range(y.ndim)])

    found = detect_convention(model, draw_x(40), name="mine")
    assert found.convention.layout == layout
    assert found.convention.scaling == "none"  # a linear model knows no scale: the plainest


@pytest.mark.unit
def test_a_linear_model_takes_the_plainest_form(draw_x: Callable[..., Tensor]) -> None:
    """All scalings without offset reconstruct the same: no rival, whatever the figures."""
    found = detect_convention(lambda y: 0.8 * y, draw_x(30), name="mine")
    assert found.convention == Convention(event_shape=SHAPE)
    assert found.margin_db is not None  # to the forms with an offset
    assert found.nmse_db == pytest.approx(20 * torch.tensor(0.2).log10().item(), abs=1e-4)


@pytest.mark.unit
def test_no_more_channels_than_needed(draw_x: Callable[..., Tensor]) -> None:
    seen: list[int] = []

    def model(y: Tensor) -> Tensor:
        seen.append(len(y))
        return 0.5 * y

    found = detect_convention(model, draw_x(500), name="mine")
    assert max(seen) == found.n == N_CHANNELS
    for n, used in ((1, 1), (3, 3), (N_CHANNELS + 1, N_CHANNELS), (2 * N_CHANNELS - 1, N_CHANNELS)):
        assert detect_convention(model, draw_x(n), name="mine").n == used


@pytest.mark.unit
def test_no_channels_at_all(draw_x: Callable[..., Tensor]) -> None:
    for detect in (detect_convention, best_unit_interval):
        with pytest.raises(CsiAuditError, match=r"x must hold at least one channel .*; got none\."):
            detect(lambda y: y, draw_x(2)[:0], name="mine")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (lambda y: y.flatten(1)[:, :16].abs(), r"It returns \(N, 16\), no channel\. Is it an enc"),
        (lambda y: torch.cat([y.abs(), y.abs()], -1), r"It returns \(N, .*\), no channel\. Was it"),
        (lambda y: (y, y), r"It returns a tuple, no tensor\."),
        (lambda y: y / 0, r"It returns NaN or infinity\."),
        (lambda y: y @ torch.ones(5, 5), r"It fails \(.*mat.*\)\."),
    ],
)
def test_why_nothing_runs(
    answer: Callable[[Tensor], Any], reason: str, draw_x: Callable[..., Tensor]
) -> None:
    message = rf"mine runs on no layout of channels \(9, 2, 8, 8\) that was tried: .*\. {reason}"
    with pytest.raises(CsiAuditError, match=message):
        detect_convention(answer, draw_x(9), name="mine")


@pytest.mark.unit
def test_nothing_fits(draw_x: Callable[..., Tensor]) -> None:
    """An untrained net; the message lists the forms with their figures."""
    with pytest.raises(CsiAuditError) as refused:
        detect_convention(lambda y: 0 * y + 7.0, draw_x(30), name="mine.pt2")
    message = str(refused.value)
    assert re.match(
        r"mine\.pt2 fits no convention clearly: the best must lie below 0 dB and 0\.5 dB ahead of "
        r"all others\. Tried on 30 channels: ",
        message,
    )
    assert len(re.findall(r"layout planes[^;]*: -?[\d.]+ dB", message)) == 14
    assert message.endswith(
        "Declare its convention in a compressor card. See compressors/README.md."
    )


@pytest.mark.unit
def test_two_forms_that_fit_alike_are_refused(draw_x: Callable[..., Tensor]) -> None:
    """Its gain depends on the scale in a way that no form is better at than another."""

    def model(y: Tensor) -> Tensor:
        phase = 50 * STATISTICS["norm"](y) * STATISTICS["peak"](y)
        gain = (1 + 0.3 * phase.sin()).view(-1, 1, 1, 1)
        return gain * F.pad(y[..., :2], (0, y.shape[-1] - 2))

    with pytest.raises(CsiAuditError, match=r"mine fits no convention clearly: .* Tried on 40"):
        detect_convention(model, draw_x(40), name="mine")


@pytest.mark.unit
def test_a_model_for_another_array(draw_x: Callable[..., Tensor]) -> None:
    def model(y: Tensor) -> Tensor:
        raise ValueError(f"needs (N, 2, 32, 32); got {tuple(y.shape)}")

    with pytest.raises(CsiAuditError, match=r"mine runs on no layout of channels \(9, 2, 8, 8\)"):
        detect_convention(model, draw_x(9), name="mine")
    with pytest.raises(CsiAuditError, match=r"mine does not run on channels \(9, 2, 8, 8\)"):
        best_unit_interval(model, draw_x(9), name="mine")


@pytest.mark.unit
def test_nan_is_no_answer(draw_x: Callable[..., Tensor]) -> None:
    with pytest.raises(CsiAuditError, match="mine runs on no layout"):
        detect_convention(lambda y: y * float("nan"), draw_x(9), name="mine")


@pytest.mark.unit
def test_an_interruption_stops_the_trials(draw_x: Callable[..., Tensor]) -> None:
    def model(y: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        detect_convention(model, draw_x(9), name="mine")
