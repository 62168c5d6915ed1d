"""Movement with the steps and with the seed: exact chances, and what surely moves."""

import numpy as np
import pytest
from scipy import stats

from reports.step_movement import STILL, seed_spread, step_doubling, swapped_quantile

unit, statistical = pytest.mark.unit, pytest.mark.statistical


@unit
def test_what_does_not_move_is_still_and_a_shift_moves() -> None:
    random = np.random.default_rng(0)
    x, real = random.exponential(size=300), random.exponential(size=2000)
    same = step_doubling("a", x, x, real, kind="distortion", label="A")
    assert (same.ks, same.verdict, same.limit, same.n) == (0.0, "still", STILL, 300)
    assert same.beyond == same.beyond_doubled == int((x >= np.sort(real)[-20]).sum())
    moved = step_doubling("a", x, x * 1.3, real, kind="distortion")
    assert (moved.verdict, moved.label) == ("moves", "a")
    assert moved.ks > moved.limit
    assert moved.beyond_doubled is not None
    assert moved.beyond is not None
    assert moved.beyond_doubled > moved.beyond
    feature = step_doubling("a", x, x, real, kind="feature")
    assert (feature.beyond, feature.beyond_doubled) == (None, None)
    few = step_doubling("a", x, x, real[:20], kind="distortion")
    assert few.beyond is None  # 1 % of 20 channels is none


@statistical
def test_jitter_without_direction_moves_no_oftener_than_stated() -> None:
    random, runs = np.random.default_rng(1), 25
    moves = 0
    for i in range(runs):
        x = random.normal(size=80)
        pair = x + random.normal(0, 0.5, 80), x + random.normal(0, 0.5, 80)
        moves += step_doubling("a", *pair, x, kind="feature", seed=i).verdict == "moves"
    assert moves <= stats.binom.ppf(1 - 1e-6, runs, 0.005 + 0.005)
    loose = sum(
        swapped_quantile(x, y, seed=i, level=0.5, swaps=100) < np.abs(x - y).max()
        for i, (x, y) in enumerate([(random.normal(size=50), random.normal(size=50))] * 5)
    )
    assert loose == 5


@statistical
def test_seeds_of_one_law_differ_as_often_as_stated() -> None:
    random, runs = np.random.default_rng(2), 600
    p = [seed_spread("a", list(random.exponential(size=(4, 40)))).p_value for _ in range(runs)]
    low = int((np.array(p) < 0.05).sum())
    assert stats.binom.ppf(1e-6, runs, 0.04) <= low <= stats.binom.ppf(1 - 1e-6, runs, 0.06)


@unit
def test_a_seed_of_its_own_is_found() -> None:
    random = np.random.default_rng(3)
    groups = [random.exponential(size=100) for _ in range(4)]
    fine = seed_spread("a", groups)
    assert (fine.verdict, fine.n, len(fine.mean_db)) == ("within chance", 100, 4)
    assert fine.mean_db[0] == pytest.approx(10 * np.log10(groups[0].mean()))
    assert seed_spread("a", [*groups, groups[0] * 3]).verdict == "seeds differ"
    assert seed_spread("a", [np.ones(5), np.ones(5)]).p_value == 1.0


@unit
def test_bad_values_are_refused() -> None:
    with pytest.raises(ValueError, match=r"once and doubled must be pairs; got 2 and 1 values"):
        step_doubling("a", [1.0, 2.0], [1.0], [1.0], kind="feature")
    with pytest.raises(ValueError, match=r"nmse must hold at least two seeds; got 1"):
        seed_spread("a", [[1.0, 2.0]])
