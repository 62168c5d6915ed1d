"""The search for failure modes, on populations whose modes are known."""

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.failure_modes import WeightedChannels, failure_cases, found_modes, rand_index
from reports.mode_search import CHANCE, Cases, concentration, falling, find_rules, levelled
from reports.mode_space import (
    Axes,
    Condition,
    Described,
    beam_windows,
    delay_windows,
    described_channels,
    inside_rule,
    mode_labels,
    shortest_stretch,
)

Array = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]


def population(n: int, seed: int, *, n_delay: int = 16, n_beam: int = 16) -> Described:
    """Channels whose features and power shares know nothing of each other."""
    random = np.random.default_rng(seed)
    return Described(
        features={
            "delay_spread_s": random.exponential(1e-7, n),
            "azimuth_spread_deg": random.gamma(4.0, 6.0, n),
            "effective_paths": random.lognormal(3.0, 0.6, n),
            "k_factor_db": random.normal(0.0, 6.0, n),
        },
        delay_power=random.dirichlet(np.full(n_delay, 0.4), n),
        beam_power=random.dirichlet(np.full(n_beam, 0.4), n),
    )


def cases_of(channels: Described, fails: Bool) -> Cases:
    return failure_cases(
        WeightedChannels(channels=channels, fails=fails, log_w=np.zeros(len(channels)))
    )


def jaccard(a: Bool, b: Bool) -> float:
    return float((a & b).sum() / (a | b).sum())


# --- Planted modes --------------------------------------------------------------------------------


@pytest.mark.unit
def test_a_mode_in_one_feature_is_found_as_it_is() -> None:
    channels = population(1500, 0)
    fails = channels.features["azimuth_spread_deg"] > 45
    (rule,) = find_rules(cases_of(channels, fails))
    assert [(c.feature, c.side) for c in rule] == [("azimuth_spread_deg", "at least")]
    assert jaccard(inside_rule(rule, channels), fails) > 0.9


@pytest.mark.unit
def test_a_low_feature_is_found_from_its_own_side() -> None:
    channels = population(1500, 1)
    fails = channels.features["k_factor_db"] < -9
    (rule,) = find_rules(cases_of(channels, fails))
    assert [(c.feature, c.side) for c in rule] == [("k_factor_db", "at most")]
    assert jaccard(inside_rule(rule, channels), fails) > 0.85


@pytest.mark.unit
def test_a_window_of_delay_and_one_of_beams_are_two_modes() -> None:
    channels = population(2000, 2)
    late = channels.delay_power[:, 9:12].sum(1) > 0.5
    beam = channels.beam_power[:, [15, 0, 1]].sum(1) > 0.55  # through the end of the axis
    rules = find_rules(cases_of(channels, late | beam))
    assert sorted(rule[0].kind for rule in rules) == ["beam", "delay"]
    found = {rule[0].kind: inside_rule(rule, channels) for rule in rules}
    assert jaccard(found["delay"], late) > 0.75
    assert jaccard(found["beam"], beam) > 0.75


@pytest.mark.unit
def test_a_mode_of_two_bounds_takes_both() -> None:
    channels = population(3000, 3)
    wide, many = (
        channels.features["azimuth_spread_deg"] > 30,
        channels.features["effective_paths"] > 30,
    )
    (rule,) = find_rules(cases_of(channels, wide & many))
    assert {c.feature for c in rule} == {"azimuth_spread_deg", "effective_paths"}
    assert jaccard(inside_rule(rule, channels), wide & many) > 0.85


@pytest.mark.unit
def test_surroundings_of_a_mode_are_no_mode_of_their_own() -> None:
    channels = population(6000, 4)
    rise = (np.log(channels.features["effective_paths"]) - 4.0) / 0.25
    fails = np.random.default_rng(4).random(6000) < 1 / (1 + np.exp(-rise))
    assert len(find_rules(cases_of(channels, fails))) == 1


@pytest.mark.unit
@pytest.mark.parametrize("planted", ["none", "one", "all"])
def test_few_and_all_failures_give_no_mode(planted: str) -> None:
    channels, fails = population(300, 5), np.zeros(300, dtype=bool)
    fails[: {"none": 0, "one": 1, "all": 300}[planted]] = True
    modes = found_modes(cases_of(channels, fails))
    assert (modes.rules, modes.stability) == ((), None)
    assert set(modes.labels) == {-1}


@pytest.mark.statistical
def test_failures_without_a_reason_give_modes_no_more_often_than_stated() -> None:
    """At most `CHANCE` a run: four of 24 would be a 1e-4, five a 1e-6 event."""
    channels, random = population(400, 6), np.random.default_rng(6)
    found = 0
    for _ in range(24):
        fails = np.zeros(400, dtype=bool)
        fails[random.choice(400, 30, replace=False)] = True
        found += bool(find_rules(cases_of(channels, fails)))
    assert CHANCE == 0.01
    assert found < 5


@pytest.mark.statistical
def test_a_search_that_ignored_its_price_would_be_noticed() -> None:
    """The mutant: any concentration counts, so that failures without a reason give modes."""
    channels, random = population(400, 6), np.random.default_rng(6)
    fails = np.zeros(400, dtype=bool)
    fails[random.choice(400, 30, replace=False)] = True
    cases = cases_of(channels, fails)
    boosted = Cases(channels=channels, population=cases.population, failures=cases.failures,
                    n_failures=20 * cases.n_failures)  # fmt: skip
    assert find_rules(boosted)


# --- Weights --------------------------------------------------------------------------------------


def tilted(n: int, seed: int) -> tuple[Described, Array]:
    """Channels drawn with twice the azimuth spread they should have, and their log weights."""
    channels = population(n, seed)
    wide = channels.features["azimuth_spread_deg"] * 1.6
    log_w = -3 * wide / 6 + 3 * wide / 9.6 + np.log(1.0)  # gamma(4, 6) over gamma(4, 9.6)
    features = {**channels.features, "azimuth_spread_deg": wide}
    return Described(features=features, delay_power=channels.delay_power,
                     beam_power=channels.beam_power), log_w / 3  # fmt: skip


@pytest.mark.unit
def test_weights_decide_which_mode_comes_first() -> None:
    """Most failing samples are wide; by weight, most failures are late."""
    channels, log_w = tilted(3000, 7)
    wide = channels.features["azimuth_spread_deg"] > 75
    late = channels.delay_power[:, 12:].sum(1) > 0.75
    fails = wide | late
    assert wide.sum() > 1.3 * late.sum()
    weighted = WeightedChannels(channels=channels, fails=fails, log_w=log_w)
    assert find_rules(failure_cases(weighted))[0][0].kind == "delay"
    assert find_rules(cases_of(channels, fails))[0][0].feature == "azimuth_spread_deg"  # the mutant


@pytest.mark.unit
def test_a_sample_of_the_failure_law_finds_what_base_samples_cannot() -> None:
    """Failures of probability 2e-4 come from a sampler of their own, against the same base."""
    base, other = population(800, 8), population(200_000, 9)
    rare = (other.features["k_factor_db"] > 14) & (other.features["delay_spread_s"] > 4e-7)
    failing = other.rows(np.flatnonzero(rare)[:40])
    n = len(failing.delay_power)
    assert n >= 20
    nothing = WeightedChannels(channels=base, fails=np.zeros(800, bool), log_w=np.zeros(800))
    assert found_modes(failure_cases(nothing)).rules == ()
    given = WeightedChannels(channels=failing, fails=np.ones(n, bool), log_w=np.zeros(n))
    cases = failure_cases(nothing, given)
    assert cases.n_failures < n
    rules = found_modes(cases).rules
    assert {c.feature for c in rules[0]} == {"k_factor_db", "delay_spread_s"}


@pytest.mark.unit
def test_failures_of_their_own_have_their_part_in_the_population() -> None:
    channels = population(400, 10)
    fails = channels.features["azimuth_spread_deg"] > 40
    base = WeightedChannels(channels=channels, fails=fails, log_w=np.zeros(400))
    cases = failure_cases(base, base, rate=0.05)
    assert cases.population.sum() == pytest.approx(1)
    assert cases.population[400:].sum() == pytest.approx(0.05)
    assert not cases.population[:400][fails].any()
    own = failure_cases(base, base)
    assert own.population[400:].sum() == pytest.approx(fails.mean())


@pytest.mark.unit
def test_clusters_count_as_one_failure_each() -> None:
    channels = population(400, 10)
    fails = channels.features["azimuth_spread_deg"] > 40
    alike = WeightedChannels(channels=channels, fails=fails, log_w=np.zeros(400),
                             clusters=np.arange(400) % 4)  # fmt: skip
    assert failure_cases(alike).n_failures <= 4
    assert cases_of(channels, fails).n_failures == pytest.approx(fails.sum())


# --- Stability ------------------------------------------------------------------------------------


@pytest.mark.unit
def test_a_clear_mode_is_stable_and_the_same_seed_gives_the_same() -> None:
    channels = population(800, 11)
    cases = cases_of(channels, channels.features["azimuth_spread_deg"] > 42)
    first, again = found_modes(cases, seed=3), found_modes(cases, seed=3)
    assert first.stability is not None
    assert first.stability > 0.8
    assert (first.stability, first.found) == (again.stability, again.found)
    assert first.found == (1, 1, 1, 1, 1)


@pytest.mark.unit
def test_rand_index_knows_equal_and_unrelated_divisions() -> None:
    labels = np.arange(90) % 3
    assert rand_index(labels, (labels + 1) % 3) == 1
    assert abs(rand_index(labels, np.arange(90) // 30)) < 0.05


# --- Parts ----------------------------------------------------------------------------------------


@pytest.mark.property
@given(c=st.floats(0, 1), b=st.floats(1e-6, 1 - 1e-6))
def test_concentration_is_the_divergence_of_two_coins(c: float, b: float) -> None:
    found = float(concentration(c, b))
    if c <= b:
        assert found == 0
    else:
        parts = [p * np.log(p / q) for p, q in ((c, b), (1 - c, 1 - b)) if p > 0]
        assert found == pytest.approx(sum(parts), abs=1e-9)


@pytest.mark.property
@given(st.lists(st.tuples(st.floats(0, 9), st.floats(0.1, 3)), min_size=1, max_size=12))
def test_a_falling_fit_falls_and_keeps_the_mean(pairs: list[tuple[float, float]]) -> None:
    values, weight = (np.array(column) for column in zip(*pairs, strict=True))
    fit = falling(values, weight)
    assert (np.diff(fit) <= 1e-12).all()
    assert fit @ weight == pytest.approx(values @ weight)


@pytest.mark.unit
def test_levelled_population_explains_a_gradient_away() -> None:
    """Failures that depend on one feature alone follow the levelled population there."""
    channels = population(20_000, 12)
    x = channels.features["effective_paths"]
    fails = np.random.default_rng(12).random(20_000) < np.clip((x - 20) / 40, 0, 1)
    cases = cases_of(channels, fails)
    rule = (Condition(kind="feature", feature="effective_paths", limit=45.0),)
    outside = ~inside_rule(rule, channels)
    level = levelled(cases, [rule], outside)
    level /= level.sum()
    near = (x > 35) & outside
    share = cases.failures[near].sum() / cases.failures[outside].sum()
    assert level[near].sum() == pytest.approx(share, abs=0.03)
    assert cases.population[near].sum() / cases.population[outside].sum() < 0.6 * share


@pytest.mark.unit
def test_windows_are_runs_of_bands_and_beams_wrap() -> None:
    assert delay_windows(3) == [(0, 1), (0, 2), (1, 1), (1, 2), (2, 1)]
    assert set(beam_windows(4)) == {(0, 1), (0, 2), (1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (3, 2)}
    assert all(count <= 16 for _, count in beam_windows(32))
    assert delay_windows(1) == beam_windows(1) == []
    assert {start % 8 for start, _ in delay_windows(128)} == {0}  # 16 bands of 8


@pytest.mark.unit
def test_channels_are_described_in_rising_order_and_panels_are_summed() -> None:
    axes = Axes(delay_s=np.arange(8) * 1e-7, sin_azimuth=2 * np.fft.fftfreq(4))
    x = np.zeros((2, 2, 8, 8))  # two rows of four columns
    x[0, 0, 1, 3] = x[0, 1, 5, 3] = 2.0  # the same column, both rows
    x[1, 0, 2, 7] = 1.0  # the last tap lies below delay 0
    found = described_channels(x, {}, axes)
    assert found.delay_power[0].argmax() == 4
    assert found.delay_power[1].argmax() == 0
    assert found.beam_power[0, 3] == pytest.approx(1.0)  # u = 0.5
    assert axes.delay_edges()[:2] == pytest.approx([-1.5e-7, -0.5e-7])
    assert axes.beam_edges() == pytest.approx([-1.25, -0.75, -0.25, 0.25, 0.75])


@pytest.mark.unit
def test_a_channel_belongs_to_the_first_mode_it_fits() -> None:
    channels = population(50, 13)
    low = (Condition(kind="feature", feature="k_factor_db", side="at most", limit=0.0),)
    everyone = (Condition(kind="feature", feature="k_factor_db", side="at most", limit=99.0),)
    labels = mode_labels([low, everyone], channels)
    assert ((labels == 0) == (channels.features["k_factor_db"] <= 0)).all()
    assert (labels >= 0).all()
    assert (mode_labels([], channels) == -1).all()


@pytest.mark.unit
def test_shortest_stretch_may_wrap_only_on_a_circle() -> None:
    profile = np.array([3.0, 0, 0, 0, 3.0])
    assert shortest_stretch(profile, 0.9, circular=True) == (4, 2)
    assert shortest_stretch(profile, 0.9, circular=False) == (0, 5)
    assert shortest_stretch(profile, 0.5, circular=False) == (0, 1)
    assert shortest_stretch(np.zeros(4), 0.8, circular=True) is None
