"""Islands: resampling, weights that stay absolute, and intervals that count islands."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from torch import Tensor

from channels import CsiAuditError
from csi_audit.islands import (
    Islands,
    IslandSamples,
    IslandWeights,
    island_expectation,
    normalising_constant,
    systematic,
)

MINUS_INFINITY = -float("inf")


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def samples(log_w: Tensor, island: Tensor, x: Tensor | None = None) -> IslandSamples:
    return IslandSamples(
        x=torch.zeros(len(log_w), 1) if x is None else x,
        log_w=log_w,
        law="target",
        chain="by hand",
        n_evaluations=7,
        island=island,
    )


# --- Resampling -----------------------------------------------------------------------------------


@pytest.mark.property
@given(
    st.lists(st.floats(-30, 30) | st.just(MINUS_INFINITY), min_size=1, max_size=40),
    st.integers(0, 9),
)
def test_systematic_resampling(log_w: list[float], seed: int) -> None:
    """Row i is kept floor(N W_i) or ceil(N W_i) times, in order; weight 0 never."""
    w = torch.tensor(log_w, dtype=torch.float64)
    if bool(w.isneginf().all()):
        w[0] = 0.0
    kept = systematic(w, generator=seeded(seed))
    expected = len(w) * w.softmax(0)
    counts = torch.bincount(kept, minlength=len(w))
    assert len(kept) == len(w)
    assert bool((counts >= (expected - 1e-9).floor()).all())
    assert bool((counts <= (expected + 1e-9).ceil()).all())
    assert bool((kept.diff() >= 0).all())
    assert bool((counts[w.isneginf()] == 0).all())


@pytest.mark.statistical
def test_systematic_resampling_is_unbiased() -> None:
    """Mean count of each row is N W_i, over many draws."""
    w = torch.tensor([0.0, 1.0, -1.0, 0.5, MINUS_INFINITY], dtype=torch.float64)
    generator, draws = seeded(0), 20_000
    counts = sum(
        torch.bincount(systematic(w, generator=generator), minlength=5) for _ in range(draws)
    )
    assert isinstance(counts, Tensor)
    expected = 5 * w.softmax(0)
    error = torch.full((5,), 0.5 / math.sqrt(draws))  # a count is one of two neighbours
    assert bool(((counts / draws - expected).abs() < 5 * error).all())


# --- Weights --------------------------------------------------------------------------------------


@pytest.mark.unit
def test_sizes_and_streams() -> None:
    islands = Islands(11, 4, generator=seeded(0))
    assert islands.sizes == [6, 5]
    assert torch.bincount(islands.index).tolist() == [6, 5]
    assert Islands(3, 4, generator=seeded(0)).sizes == [3]
    assert Islands(12, 4, generator=seeded(0)).sizes == [4, 4, 4]

    def noise(n: int, generator: torch.Generator) -> Tensor:
        return torch.randn(n, 2, generator=generator)

    first, second = Islands(8, 4, generator=seeded(1)), Islands(8, 4, generator=seeded(1))
    drawn = first.draw(noise)
    assert torch.equal(second.draw(noise), drawn)
    assert not torch.allclose(first.draw(noise), drawn)  # the streams move on
    assert not torch.allclose(drawn[:4], drawn[4:])  # and differ between islands
    assert not torch.allclose(Islands(8, 4, generator=seeded(2)).draw(noise), drawn)


@pytest.mark.unit
def test_resampling_keeps_the_mean_weight_of_an_island() -> None:
    """Island 0 is uneven and resampled, island 1 is even and left alone."""
    islands = Islands(8, 4, generator=seeded(0))
    log_w = torch.tensor([3.0, 0.0, -9.0, -9.0, 0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    weights = IslandWeights(islands, log_w)
    kept = weights.resample(0.5)
    assert kept is not None
    assert set(kept[:4].tolist()) <= {0, 1}
    assert kept[4:].tolist() == [4, 5, 6, 7]
    mean = math.log((math.exp(3) + 1 + 2 * math.exp(-9)) / 4)
    assert weights.absolute()[:4].tolist() == pytest.approx([mean] * 4)
    assert torch.equal(weights.absolute()[4:], log_w[4:])
    weights.add(torch.ones(8, dtype=torch.float64))
    assert weights.absolute()[:4].tolist() == pytest.approx([mean + 1] * 4)
    assert weights.resample(0.5) is None


@pytest.mark.unit
@pytest.mark.parametrize(("below", "kept"), [(0.0, False), (0.4, False), (0.6, True), (1.0, True)])
def test_when_an_island_is_resampled(below: float, kept: bool) -> None:
    """ESS of weights 1, 1, 0, 0 is half of the island."""
    log_w = torch.tensor([0.0, 0.0, MINUS_INFINITY, MINUS_INFINITY], dtype=torch.float64)
    weights = IslandWeights(Islands(4, 4, generator=seeded(0)), log_w)
    assert (weights.resample(below) is not None) is kept


@pytest.mark.unit
def test_an_island_without_weight_stays_so() -> None:
    log_w = torch.full((4,), MINUS_INFINITY, dtype=torch.float64)
    weights = IslandWeights(Islands(4, 4, generator=seeded(0)), log_w)
    assert weights.resample(1.0) is None
    weights.add(torch.ones(4, dtype=torch.float64))
    assert bool(weights.absolute().isneginf().all())


@pytest.mark.unit
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_weights_that_are_no_weights(bad: float) -> None:
    weights = IslandWeights(Islands(3, 3, generator=seeded(0)), torch.zeros(3).double())
    message = rf"log weights must be finite or -inf; particle 1 has {bad}\. Is l finite on every"
    with pytest.raises(CsiAuditError, match=message):
        weights.add(torch.tensor([0.0, bad, 0.0]))


# --- Estimates ------------------------------------------------------------------------------------


@pytest.mark.unit
def test_figures_of_islands() -> None:
    w = torch.tensor([1.0, 3.0, 2.0, 2.0, 4.0, 0.0], dtype=torch.float64)
    found = samples(w.log(), torch.tensor([0, 0, 1, 1, 2, 2]))
    assert found.log_z_islands().exp().tolist() == pytest.approx([2.0, 2.0, 2.0])
    assert found.sizes().tolist() == [2, 2, 2]
    z = normalising_constant(found)
    assert (z.value, z.n, z.interval, z.status) == (2.0, 3, None, "all values equal")
    assert (z.n_evaluations, z.ess, z.method) == (7, None, "by hand")
    mean = island_expectation(found, [1.0, 2.0, 3.0, 5.0, 0.0, 9.0])
    # sums of w f over two: 3.5, 8, 0; ratios to 2 are 1.75, 4 and 0
    assert mean.value == pytest.approx(11.5 / 6)
    deviation = torch.tensor([1.75, 4.0, 0.0]).std()
    assert mean.std_error == pytest.approx(float(deviation) / math.sqrt(3))
    assert (mean.n, mean.status, mean.n_evaluations) == (3, "ok", 7)
    moved = found.moved(torch.ones(6, 1))
    assert isinstance(moved, IslandSamples)
    assert normalising_constant(moved) == z


@pytest.mark.unit
def test_what_the_status_says() -> None:
    w = torch.tensor([1.0, 1.0, 9.0, 9.0], dtype=torch.float64)
    found = samples(w.log(), torch.tensor([0, 0, 1, 1]))
    words = r"islands disagree: the standard error of Z is 80 % of it (limit 20 %): interval may"
    for estimate in (normalising_constant(found), island_expectation(found, [1.0, 2.0, 3.0, 4.0])):
        assert estimate.status.startswith(words)
    one = samples(w.log(), torch.zeros(4, dtype=torch.int64))
    assert normalising_constant(one).status == "one value, no interval"
    alone = island_expectation(one, [1.0, 2.0, 3.0, 4.0])
    assert (alone.interval, alone.std_error) == (None, None)
    assert alone.status == "1 island(s) without spread: no interval"
    with pytest.raises(ValueError, match=r"values must be 4, one a sample; got 3\."):
        island_expectation(one, [1.0, 2.0, 3.0])


@pytest.mark.statistical
def test_intervals_cover() -> None:
    """Both estimates on ten islands of reweighted Gaussian draws, l = exp(x): Z = exp(1/2) and
    E_q[x] = 1. Ten skewed islands cover 92 to 95 % (two-sided binomial bounds at 1e-6 about 90 and
    95 %); the mutant that counts particles, four of each draw, must not."""
    runs, j, m = 400, 10, 240
    x = torch.randn(runs, j, m // 4, generator=seeded(3), dtype=torch.float64)
    x = x.repeat_interleave(4, dim=2)  # particles of one island share ancestors
    island = torch.arange(j).repeat_interleave(m)
    hits: dict[str, int] = {"z": 0, "mean": 0, "by particle": 0}
    for run in x.flatten(1):
        found: Any = samples(run, island)
        for name, estimate, truth in (
            ("z", normalising_constant(found), math.exp(0.5)),
            ("mean", island_expectation(found, run.numpy()), 1.0),
            (
                "by particle",
                island_expectation(replace(found, island=torch.arange(j * m)), run.numpy()),
                1.0,
            ),
        ):
            assert estimate.interval is not None
            low, high = estimate.interval
            hits[name] += low <= truth <= high
    least, most = stats.binom.ppf(5e-7, runs, 0.90), stats.binom.ppf(1 - 5e-7, runs, 0.95)
    assert least <= hits["z"] <= most
    assert least <= hits["mean"] <= most
    assert hits["by particle"] < least
