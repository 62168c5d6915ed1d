"""What is measured on both sides, and that a comparison tells laws apart and copies not."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from channels import ChannelDomain, ChannelSet, audit_space
from channels.support import CsiAuditError
from compressors import NamedCompressor, in_audit_space, load_compressor, nmse
from csi_audit.base_sides import (
    CELLS,
    Side,
    classifier_columns,
    distortions,
    doubled_steps,
    law_figures,
    realism_items,
    side_of,
    to_float16,
)

unit = pytest.mark.unit
Draw = Callable[..., ChannelSet]


@pytest.fixture(scope="module")
def half(tiny: Any) -> tuple[NamedCompressor, ...]:
    return (load_compressor(tiny.half),)


def side(users: ChannelSet, half: tuple[NamedCompressor, ...], **more: Any) -> Side:
    return side_of(audit_space(users), half, ChannelDomain.of(users), **more)


@unit
def test_a_side_holds_what_was_measured(
    draw_users: Draw, half: tuple[NamedCompressor, ...]
) -> None:
    users = draw_users(30)
    x, domain = audit_space(users), ChannelDomain.of(users)
    found = side(users, half, drops=torch.arange(30) // 10)
    expected = nmse(x, in_audit_space(half[0].compressor)(x)).double().numpy()
    np.testing.assert_allclose(found.nmse["Half"], expected)
    assert found.features.keys() == domain.features(x).keys()
    assert found.columns.shape == (30, len(found.features) + 8 * 8)  # as many cells as there are
    assert len(found) == 30
    part = found.first(7)
    assert (len(part), len(part.nmse["Half"])) == (7, 7)
    assert part.drops is not None
    assert part.drops.tolist() == [0] * 7
    assert CELLS == (16, 8)


@unit
def test_rounding_is_that_of_a_file_and_is_done_once(draw_users: Draw) -> None:
    users = draw_users(20)
    x, domain = audit_space(users), ChannelDomain.of(users)
    rounded = to_float16(x, domain)
    error = (rounded - x).square().flatten(1).mean(1) / x.square().flatten(1).mean(1)
    assert -85 < 10 * float(error.mean().log10()) < -65  # float16 has 11 bits
    columns = classifier_columns(x, domain)
    np.testing.assert_allclose(classifier_columns(rounded, domain), columns, atol=0.02)
    power = x.square().sum(1).flatten(1)  # cells of 8 x 8 channels are their coefficients
    np.testing.assert_allclose(columns[:, -64:], power.log10().numpy(), atol=0.3)


@unit
def test_a_failing_compressor_is_named(draw_users: Draw, tiny: Any) -> None:
    named = load_compressor(tiny.half)
    with pytest.raises(CsiAuditError, match="compressor Half: "):
        distortions(audit_space(draw_users(3, n_tx=4)), (named,))


@unit
def test_the_same_law_passes_and_another_does_not(
    draw_users: Draw, half: tuple[NamedCompressor, ...]
) -> None:
    drops = torch.arange(200) // 20
    real = side(draw_users(200, seed=1), half, drops=drops)
    same = side(draw_users(150, seed=2), half)
    found = law_figures(same, real, seed=0)
    assert {item.verdict for item in found.realism} <= {"within chance", "off by little"}
    kinds = [item.kind for item in found.realism]
    assert kinds == ["distortion"] + ["feature"] * len(real.features)
    assert [item.name for item in found.wasserstein] == [item.name for item in found.realism]
    assert [ratio.share for ratio in found.tail_ratios] == [0.10, 0.05, 0.01, 0.001]
    assert found.classifier is not None
    assert found.classifier.auc.value < 0.65
    assert found.neighbours is not None
    noise = torch.randn(150, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    domain = ChannelDomain.of(draw_users(2))
    other = law_figures(side_of(domain.onto_law(noise), half, domain), real, seed=0)
    assert other.realism[0].verdict == "off"
    assert other.classifier is not None
    assert other.classifier.verdict == "off"
    assert other.neighbours is not None
    assert other.neighbours.coverage.value < 0.2
    few = law_figures(same.first(10), real, seed=0)
    assert (few.classifier, few.neighbours) == (None, None)


@unit
def test_doubling_compares_pair_by_pair(
    draw_users: Draw, half: tuple[NamedCompressor, ...]
) -> None:
    real, base = side(draw_users(60, seed=1), half), side(draw_users(40, seed=2), half)
    rows = doubled_steps(base, base, real, seed=0)
    assert [row.label for row in rows] == [item.label for item in realism_items(base, real)]
    assert {row.verdict for row in rows} == {"still"}
    assert rows[0].kind == "distortion"
