"""What a report says of failure modes: shares, ranges, confirmation, strata, survival."""

import math
import re

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from reports.estimates import proportion
from reports.failure_modes import WeightedChannels, failure_cases, found_modes
from reports.figure_data import ModeMaps
from reports.mode_description import confirmation, describe_modes
from reports.mode_schema import ModeReport
from reports.mode_space import Axes, Described, mode_labels
from reports.strata import SIGHT, by_label, failure_strata
from reports.survival import LEAST_BEYOND, survival_curve

Array = npt.NDArray[np.float64]
AXES = Axes(delay_s=np.arange(16) * 1e-7, sin_azimuth=np.asarray(2 * np.fft.fftfreq(8)))


def channels(n: int, seed: int) -> Described:
    random = np.random.default_rng(seed)
    return Described(
        features={
            "azimuth_spread_deg": random.gamma(4.0, 6.0, n),
            "k_factor_db": random.normal(0.0, 6.0, n),
        },
        delay_power=random.dirichlet(np.full(16, 0.4), n),
        beam_power=random.dirichlet(np.full(8, 0.4), n),
    )


def weighted(found: Described, limit: float, log_w: Array | None = None) -> WeightedChannels:
    fails = found.features["azimuth_spread_deg"] > limit
    return WeightedChannels(
        channels=found, fails=fails, log_w=np.zeros(len(found)) if log_w is None else log_w
    )


def maps(where: tuple[slice, slice], extra: float) -> ModeMaps:
    error = np.full((8, 16), 0.01)
    error[where] += extra
    return ModeMaps(compressor="c", mode=0, power=np.ones((8, 16)), error=error)


def report_of(
    base: WeightedChannels, real: WeightedChannels | None, error: ModeMaps | None = None
) -> ModeReport:
    modes = found_modes(failure_cases(base))
    own = maps((slice(2, 4), slice(5, 8)), 0.5) if error is None else error
    return describe_modes(
        modes, base=base, real=real, maps=[own] * len(modes.rules),
        population=maps((slice(0, 8), slice(0, 16)), 0.0), axes=AXES, threshold="fixed",
        nmse_db=-3.0,
    )  # fmt: skip


@pytest.mark.unit
def test_a_mode_is_measured_and_confirmed() -> None:
    base, real = weighted(channels(800, 0), 42.0), weighted(channels(2000, 1), 42.0)
    found = report_of(base, real)
    (mode,) = found.modes
    assert mode.name.startswith("Wide angular spread")
    assert mode.share.value > 0.85
    assert mode.share_real is not None
    assert mode.share.interval is not None
    assert mode.share.interval[0] <= mode.share_real.value <= mode.share.interval[1]
    assert (mode.confirmation, found.note) == ("confirmed", "")
    assert found.elsewhere is not None
    assert found.elsewhere.value + mode.share.value == pytest.approx(1)
    assert mode.delay_range == pytest.approx((4.5e-7, 7.5e-7))  # taps 5 to 7
    assert mode.beam_range == pytest.approx((0.375, 0.875))  # beams 0.5 and 0.75
    spread = next(row for row in mode.features if row.feature == "azimuth_spread_deg")
    assert spread.mode[0] > spread.population[2]
    assert spread.above.value == 1


@pytest.mark.unit
def test_modes_of_one_name_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("reports.mode_description.mode_name", lambda facts: "Alike")
    some = channels(2000, 0)
    fails = (some.features["azimuth_spread_deg"] > 45) | (some.features["k_factor_db"] > 12)
    base = WeightedChannels(channels=some, fails=fails, log_w=np.zeros(2000))
    names = sorted(mode.name for mode in report_of(base, None).modes)
    assert [re.sub(r"[\d.]+", "#", name) for name in names] == [
        "Alike (K-factor at least # dB)", "Alike (azimuth spread at least # deg)",
    ]  # fmt: skip


@pytest.mark.unit
def test_a_range_of_half_the_axis_is_none() -> None:
    base = weighted(channels(800, 0), 42.0)
    (mode,) = report_of(base, None, maps((slice(0, 8), slice(0, 10)), 0.5)).modes
    assert mode.delay_range is None
    assert mode.beam_range is None
    assert mode.confirmation == "no real channels"
    assert mode.rate_real is mode.share_real is None


@pytest.mark.unit
def test_a_mode_that_real_channels_do_not_share_is_not_confirmed() -> None:
    base, found = weighted(channels(800, 0), 42.0), channels(3000, 2)
    other = found.features["k_factor_db"] < -8  # what fails in reality
    calm = other & (found.features["azimuth_spread_deg"] < 30)
    real = WeightedChannels(channels=found, fails=calm, log_w=np.zeros(3000))
    assert report_of(base, real).modes[0].confirmation == "not confirmed"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("failed", "inside", "everywhere", "verdict"),
    [
        (9, 9, 0.05, "cannot tell"),  # fewer than 10
        (10, 10, 0.05, "confirmed"),
        (3, 30, 0.05, "cannot tell"),
        (0, 200, 0.05, "not confirmed"),
    ],
)
def test_confirmation_needs_users_and_an_interval_above(
    failed: int, inside: int, everywhere: float, verdict: str
) -> None:
    assert confirmation(proportion(failed, inside), everywhere) == verdict
    assert confirmation(None, everywhere) == "cannot tell"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("limit", "note"),
    [
        (1e9, "No base sample fails at this threshold."),
        (62.0, "too few to tell modes"),
        (-1.0, "Every base sample fails at this threshold"),
    ],
)
def test_without_modes_the_report_says_why(limit: float, note: str) -> None:
    found = report_of(weighted(channels(800, 0), limit), weighted(channels(500, 1), limit))
    assert (found.modes, found.elsewhere, found.stability) == ((), None, None)
    assert note in found.note
    assert found.rate_base is not None


@pytest.mark.unit
def test_failures_like_the_population_have_no_mode() -> None:
    base = channels(600, 3)
    fails = np.zeros(600, dtype=bool)
    fails[::12] = True
    told = report_of(WeightedChannels(channels=base, fails=fails, log_w=np.zeros(600)), None)
    assert told.note == "The 50 failures are spread like the population: no rule stands out."


@pytest.mark.unit
def test_a_single_column_and_few_taps_without_a_k_factor_are_enough() -> None:
    random = np.random.default_rng(4)
    few = Described(features={"effective_paths": random.exponential(5.0, 400)},
                    delay_power=random.dirichlet(np.ones(4), 400),
                    beam_power=np.ones((400, 1)))  # fmt: skip
    fails = few.features["effective_paths"] > 12
    base = WeightedChannels(channels=few, fails=fails, log_w=np.zeros(400))
    modes = found_modes(failure_cases(base))
    flat = ModeMaps(compressor="c", mode=0, power=np.ones((1, 4)), error=np.ones((1, 4)))
    found = describe_modes(
        modes, base=base, real=None, maps=[flat] * len(modes.rules), population=flat,
        axes=Axes(delay_s=np.arange(4.0), sin_azimuth=np.zeros(1)), delay_known=False,
        threshold="t", nmse_db=-3.0,
    )  # fmt: skip
    assert found.modes[0].name == "Many paths"
    assert found.modes[0].los is None
    assert found.delay_unit == "taps"


FLAT = ModeMaps(compressor="c", mode=0, power=np.ones((8, 16)), error=np.ones((8, 16)))


def blurred(n: int, seed: int) -> WeightedChannels:
    """Failures that four features and chance decide together."""
    random = np.random.default_rng(seed)
    names = ("delay_spread_s", "azimuth_spread_deg", "effective_paths", "k_factor_db")
    some = Described(
        features={name: random.normal(0, 1, n) for name in names},
        delay_power=random.dirichlet(np.full(16, 0.4), n),
        beam_power=random.dirichlet(np.full(8, 0.4), n),
    )
    score = np.sum(list(some.features.values()), axis=0) / 2 + random.normal(0, 0.6, n)
    return WeightedChannels(channels=some, fails=score > 1.5, log_w=np.zeros(n))


# --- Weights --------------------------------------------------------------------------------------


def drawn_share(n: int, seed: int, *, keep_weights: bool = True) -> float:
    """Share of failures with u >= 0.8 among those above 0.5, p = 2u, drawn from a flat law."""
    u = np.random.default_rng(seed).random(n)
    log_w = np.log(u) if keep_weights else np.zeros(n)
    some = Described(features={"u": u}, delay_power=np.ones((n, 1)), beam_power=np.ones((n, 1)))
    law = WeightedChannels(channels=some, fails=u > 0.5, log_w=log_w)
    share = law.share(u >= 0.8, law.fails, method="test")
    assert share is not None
    return share.value


@pytest.mark.statistical
def test_shares_are_those_of_the_weighted_law() -> None:
    """Truth (1 - 0.64) / (1 - 0.25); without weights it is 0.4: the mutant."""
    truth, flat, runs = 0.36 / 0.75, 0.4, 100
    values = np.array([drawn_share(500, seed) for seed in range(runs)])
    reach = stats.t.ppf(1 - 5e-7, runs - 1) * values.std(ddof=1) / math.sqrt(runs)
    assert reach <= (truth - flat) / 3
    assert abs(values.mean() - truth) <= reach
    dropped = np.array([drawn_share(500, seed, keep_weights=False) for seed in range(runs)])
    assert abs(dropped.mean() - truth) > reach


@pytest.mark.unit
def test_weights_of_failures_set_their_share_and_effective_count() -> None:
    base = channels(400, 5)
    fails = base.features["azimuth_spread_deg"] > 35
    log_w = np.where(base.features["k_factor_db"] > 0, 0.0, -np.inf)
    cases = failure_cases(WeightedChannels(channels=base, fails=fails, log_w=log_w))
    counted = int((fails & (base.features["k_factor_db"] > 0)).sum())
    assert cases.n_failures == pytest.approx(counted)
    assert cases.failures.sum() == pytest.approx(1)


@pytest.mark.statistical
def test_shares_allow_for_the_choice_of_their_rules() -> None:
    """Failures without a clear edge: the raw interval covers the truth half of the time.

    Of 14 intervals that cover 90 % of the time, 7 or fewer do with a probability of 1e-5.
    """
    raw = allowed = runs = 0
    for seed in range(40):
        some = blurred(300, seed)
        modes = found_modes(failure_cases(some), seed=seed)
        if not modes.rules or runs == 14:
            continue
        many = blurred(20_000, 1000 + seed)
        inside = mode_labels(modes.rules, many.channels)[many.fails] >= 0
        counted = some.share(modes.labels >= 0, some.fails, method="test")
        told = describe_modes(
            modes, base=some, real=None, maps=[FLAT] * len(modes.rules), population=FLAT, axes=AXES,
            threshold="t", nmse_db=-3.0,
        ).elsewhere  # fmt: skip
        assert counted is not None
        assert told is not None
        assert counted.interval is not None
        assert told.interval is not None
        raw += counted.interval[0] <= inside.mean() <= counted.interval[1]
        allowed += told.interval[0] <= 1 - inside.mean() <= told.interval[1]
        runs += 1
    assert runs == 14
    assert allowed > 7
    assert raw < allowed


# --- Strata ---------------------------------------------------------------------------------------


@pytest.mark.unit
def test_strata_hold_every_channel_once_and_count_right() -> None:
    base, real = weighted(channels(500, 6), 30.0), weighted(channels(1000, 7), 30.0)
    strata = failure_strata(base, real, threshold="t", names=("azimuth_spread_deg",))
    rows = [row for row in strata if row.feature != SIGHT]
    assert len(rows) == 5
    assert sum(row.real.n for row in rows if row.real) == 1000
    assert sum(row.base.n for row in rows if row.base) == 500
    assert (rows[0].low, rows[-1].high) == (None, None)
    assert [a.high for a in rows[:-1]] == [b.low for b in rows[1:]]
    top = rows[-1]
    inside = real.channels.features["azimuth_spread_deg"] >= (top.low or 0)
    assert top.real == proportion(int(real.fails[inside].sum()), int(inside.sum()),
                                  method="counted in the stratum")  # fmt: skip
    assert rows[0].real is not None
    assert rows[0].real.value == 0
    assert rows[0].real.interval is not None
    assert rows[0].real.interval[1] > 0


@pytest.mark.unit
def test_sight_is_told_by_the_label_where_there_is_one() -> None:
    base, real = weighted(channels(300, 8), 30.0), weighted(channels(400, 9), 30.0)
    label = np.arange(400) < 90
    told = {row.name: row for row in failure_strata(base, real, threshold="t", is_los=label)
            if row.feature == SIGHT}  # fmt: skip
    assert told["LOS"].real is not None
    assert told["LOS"].real.n == 90
    assert "by the file's label, of base samples by a K-factor estimate" in told["LOS"].how
    unsaid = failure_strata(base, real, threshold="t")[-2:]
    guessed = int((real.channels.features["k_factor_db"] >= 3).sum())
    assert unsaid[0].real is not None
    assert unsaid[0].real.n == guessed
    assert unsaid[0].how == "Line of sight by a K-factor estimate of at least 3 dB."


@pytest.mark.unit
def test_strata_without_real_channels_or_features() -> None:
    base = weighted(channels(300, 8), 30.0)
    alone = failure_strata(base, None, threshold="t")
    assert {row.real for row in alone} == {None}
    assert set(by_label(alone)) == {"azimuth spread", "K-factor", "line of sight"}
    bare = Described(features={}, delay_power=np.ones((9, 1)), beam_power=np.ones((9, 1)))
    nothing = WeightedChannels(channels=bare, fails=np.ones(9, bool), log_w=np.zeros(9))
    assert failure_strata(nothing, None, threshold="t") == ()


@pytest.mark.unit
def test_a_feature_of_one_value_is_one_stratum() -> None:
    flat = Described(features={"effective_paths": np.ones(50)}, delay_power=np.ones((50, 1)),
                     beam_power=np.ones((50, 1)))  # fmt: skip
    side = WeightedChannels(channels=flat, fails=np.ones(50, bool), log_w=np.zeros(50))
    (row,) = failure_strata(side, None, threshold="t")
    assert (row.low, row.high) == (None, None)


# --- Survival -------------------------------------------------------------------------------------


@pytest.mark.unit
def test_the_survival_curve_ends_where_ten_samples_are_left() -> None:
    curve = survival_curve(np.arange(1000.0))
    assert curve.share[0] == 1
    assert curve.share[-1] == pytest.approx(LEAST_BEYOND / 1000)
    assert curve.low is not None
    assert curve.high is not None
    assert (curve.low <= curve.share).all()
    assert (curve.share <= curve.high).all()
    assert len(survival_curve(np.arange(4.0)).level) == 1  # too few for more than the first


@pytest.mark.unit
def test_weights_shorten_the_curve_to_what_they_support() -> None:
    w = np.full(1000, 1e-9)
    w[:20], w[990:] = 1.0, 0.05
    curve = survival_curve(np.arange(1000.0), w / w.sum())
    assert curve.low is None
    assert curve.share[0] == pytest.approx(1)
    assert curve.level[-1] == 990  # ten equal weights are ten effective samples
