"""Several scenarios in one file: told where the laws differ, silent where they do not."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from channels.mixture_checks import mixture_warnings

unit = pytest.mark.unit
Labels = dict[str, np.ndarray]


def said(
    values: np.ndarray, drops: np.ndarray | None = None, power_db: np.ndarray | None = None
) -> list[str]:
    """Warnings about one feature."""
    labels: Labels = {} if drops is None else {"drop_seed": drops}
    gain = np.zeros(len(values)) if power_db is None else power_db
    return mixture_warnings({"delay_spread_s": values.astype(np.float32)}, gain, labels)


def spreads(n: int, factor: float = 1.0, seed: int = 0) -> np.ndarray:
    """Delay spreads of one scenario [s]: log-normal, a quarter of them in line of sight."""
    rng = np.random.default_rng(seed)
    los = rng.random(n) < 0.25
    return factor * np.where(los, 3e-8, 1e-7) * np.exp(0.6 * rng.normal(size=n))


@pytest.mark.property
@given(st.integers(0, 2**32), st.integers(1, 3000))
def test_one_scenario_is_silent(seed: int, n: int) -> None:
    values = spreads(n, seed=seed)
    drops = np.arange(n) // 250
    gain = -100 + 20 * np.random.default_rng(seed).normal(size=n)
    assert said(values, drops, gain) == []


@unit
@pytest.mark.parametrize("place", [200, 700, 1300])
def test_a_change_along_the_file_is_placed(place: int) -> None:
    values = np.concatenate([spreads(place), spreads(1500 - place, factor=2.5, seed=1)])
    (sentence,) = said(values)
    assert sentence.startswith("Users before and after about number ")
    found = int(sentence.split()[6].replace(",", ""))
    assert abs(found - place) < 60
    assert sentence.endswith("Or the users are in an order (sorted, along a track).")
    assert "median delay spread " in sentence
    assert " ns, KS distance 0." in sentence


@unit
def test_a_change_too_small_to_matter_is_left_alone() -> None:
    """KS of 0.07 between 100,000 users is certain, and no other scenario."""
    assert said(np.concatenate([spreads(50_000), spreads(50_000, factor=1.15, seed=1)])) == []


@unit
def test_drops_of_two_scenarios_are_told_in_any_order() -> None:
    drops = np.arange(3000) // 250
    values = np.where(drops % 2 == 0, spreads(3000), spreads(3000, factor=3.0, seed=1))
    shuffle = np.random.default_rng(2).permutation(3000)
    for order in (np.arange(3000), shuffle):
        (sentence,) = said(values[order], drops[order])
        assert "of the variance of the delay spread lies between drops" in sentence
    assert said(values[shuffle]) == []  # without drops nothing tells


@unit
def test_drops_of_two_scenarios_one_after_the_other_are_a_change() -> None:
    values = np.concatenate([spreads(1500), spreads(1500, factor=3.0, seed=1)])
    (sentence,) = said(values, np.arange(3000) // 250)
    assert sentence.startswith("Users before and after about number 1,")


@unit
def test_a_gap_in_the_gains_is_told() -> None:
    rng = np.random.default_rng(0)
    gain = np.concatenate([-110 + 8 * rng.normal(size=500), -20 + 5 * rng.normal(size=60)])
    gain = gain[rng.permutation(560)]
    sentence = said(spreads(560), power_db=gain)[-1]
    assert sentence.startswith("User gains fall into two groups, with nobody between -")
    few = np.where(gain > -60, -110.0, gain)
    few[:8] = -20
    assert said(spreads(560), power_db=few) == []  # outliers are no group


@unit
def test_gains_count_as_a_feature() -> None:
    gain = np.concatenate([np.full(300, -100.0), np.full(300, -95.0)])
    gain = gain + np.random.default_rng(0).normal(size=600)
    (sentence,) = said(spreads(600), power_db=gain)
    assert "median gain -100 and -95 dB" in sentence
    rounding = np.where(np.arange(600) < 300, 1e-4, -1e-4)
    assert said(spreads(600), power_db=rounding) == []


@unit
def test_a_scenario_label_is_told() -> None:
    values = {"delay_spread_s": spreads(90)}
    labels = {"scenario_id": np.arange(90) % 3, "is_los": np.arange(90) % 2}
    (sentence,) = mixture_warnings(values, np.zeros(90), labels)
    assert sentence.startswith("Label scenario_id has 3 values: 3 scenarios in one file.")
    labels["scenario_id"][:] = 1
    assert mixture_warnings(values, np.zeros(90), labels) == []


@unit
def test_constants_and_lone_users_are_silent() -> None:
    assert said(np.full(500, 1e-7), np.arange(500) // 50) == []
    assert said(np.full(1, 1e-7)) == []
    assert mixture_warnings({}, np.zeros(3), {}) == []
