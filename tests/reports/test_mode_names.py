"""Names of failure modes say what the figures carry, and no more."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reports.estimates import Estimate, proportion
from reports.mode_names import (
    ModeFacts,
    beam_text,
    condition_words,
    delay_text,
    mode_name,
    mode_verdict,
    rule_words,
    told_apart,
)
from reports.mode_schema import Confirmation, FailureMode, FeatureRange, ModeReport
from reports.mode_space import Axes, Condition
from reports.stratify import feature_display

AXES = Axes(delay_s=np.arange(32) * 1e-7, sin_azimuth=np.asarray(2 * np.fft.fftfreq(32)))
WIDE = Condition(kind="feature", feature="azimuth_spread_deg", limit=31.24)
LATE = Condition(kind="delay", bins=(12, 10), limit=0.22)  # 750 ns to 1,750 ns
BEAMS = Condition(kind="beam", bins=(30, 6), limit=0.3)


def ranges(feature: str, above: Estimate) -> FeatureRange:
    label, unit, _ = feature_display(feature)
    return FeatureRange(feature=feature, label=label, unit=unit, mode=(1, 2, 3),
                        population=(0, 1, 2), above=above)  # fmt: skip


def bump(n: int, first: int, count: int) -> np.ndarray:
    found = np.full(n, -0.01)
    found[np.arange(first, first + count) % n] = 0.2
    return found


def facts(*rule: Condition) -> ModeFacts:
    """A mode about which nothing else is special."""
    return ModeFacts(
        rule=rule, usual=[0.0] * len(rule), features=(), los=proportion(20, 100),
        los_population=0.2, excess_delay=bump(32, 13, 3), excess_beam=bump(32, 0, 3),
        usual_delay=np.exp(-np.abs(np.arange(32) - 4.0)), axes=AXES, delay_known=True,
    )  # fmt: skip


@pytest.mark.unit
def test_the_name_is_made_of_sight_spread_and_place() -> None:
    told = replace(facts(WIDE, LATE), los=proportion(1, 80))
    assert mode_name(told) == "NLOS, wide angular spread, late cluster near 1,000 ns"


@pytest.mark.unit
def test_power_over_many_taps_is_no_cluster() -> None:
    spread = replace(facts(LATE), excess_delay=bump(32, 12, 9))
    assert mode_name(spread) == "Late power at 750 to 1,550 ns"


@pytest.mark.unit
def test_windows_before_and_around_the_strongest_tap() -> None:
    early = Condition(kind="delay", bins=(0, 3), limit=0.5)
    around = Condition(kind="delay", bins=(3, 4), limit=0.9)
    before = replace(facts(early), excess_delay=bump(32, 1, 2))
    assert mode_name(before) == "Early cluster near −250 ns"
    assert mode_name(facts(around)) == "Power held within −150 to 250 ns"


@pytest.mark.unit
def test_beams_are_one_place_or_a_stretch_and_may_wrap() -> None:
    assert mode_name(facts(BEAMS)) == "Beams near sin(azimuth) −0.94"
    wide = replace(facts(BEAMS), excess_beam=bump(32, 30, 6))
    assert mode_name(wide) == "Power at sin(azimuth) 0.84 to −0.84 through ±1"


@pytest.mark.unit
def test_without_a_bandwidth_places_are_taps() -> None:
    axes = Axes(delay_s=np.arange(32.0), sin_azimuth=AXES.sin_azimuth)
    told = replace(facts(LATE), axes=axes, delay_known=False)
    assert mode_name(told) == "Late cluster near tap 10"
    assert rule_words((LATE,), axes, False) == (
        "at least 22 % of the power at delays of 7.5 to 17.5 taps"
    )


@pytest.mark.unit
@pytest.mark.parametrize(
    ("failing", "of", "said"), [(99, 100, True), (85, 100, False), (5, 5, False), (1, 100, True)]
)
def test_a_spread_is_claimed_only_where_it_is_sure(failing: int, of: int, said: bool) -> None:
    """85 of 100 are too few on one side; 5 of 5 may be chance."""
    row = ranges("azimuth_spread_deg", proportion(failing, of))
    name = mode_name(replace(facts(LATE), features=(row,)))
    assert ("angular spread" in name) is said
    assert name.startswith("Narrow") is (failing == 1)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("los", "of", "word"), [(0, 60, "NLOS"), (0, 6, ""), (58, 60, "LOS"), (30, 60, "")]
)
def test_sight_is_claimed_only_where_it_sets_apart(los: int, of: int, word: str) -> None:
    name = mode_name(replace(facts(LATE), los=proportion(los, of)))
    assert name.split(", ")[0] == (word or "Late cluster near 1,000 ns")
    everyone = replace(facts(LATE), los=proportion(los, of), los_population=1.0 if los else 0.0)
    assert mode_name(everyone).startswith("Late")  # the population is no different
    assert mode_name(replace(facts(LATE), los=None, los_population=None)).startswith("Late")


@pytest.mark.unit
def test_a_bound_short_of_the_median_is_no_claim() -> None:
    """At least 31 deg says nothing where half of all channels have 40."""
    dull = replace(facts(WIDE, LATE), usual=[40.0, 0.0])
    assert mode_name(dull) == "Late cluster near 1,000 ns"
    alone = replace(facts(WIDE), usual=[40.0])
    assert mode_name(alone) == "Azimuth spread at least 31.2 deg"  # the rule, where nothing tells
    low = Condition(kind="feature", feature="azimuth_spread_deg", side="at most", limit=9.0)
    assert mode_name(replace(facts(low), usual=[40.0])) == "Narrow angular spread"


@pytest.mark.unit
def test_a_long_rule_leaves_room_for_four_parts() -> None:
    many = Condition(kind="feature", feature="effective_paths", limit=50.0)
    row = ranges("azimuth_spread_deg", proportion(100, 100))
    told = replace(facts(many, LATE, BEAMS), los=proportion(0, 90), features=(row,))
    name = mode_name(told)
    assert name == "NLOS, many paths, late cluster near 1,000 ns, beams near sin(azimuth) −0.94"


@pytest.mark.unit
def test_conditions_that_set_apart_come_first() -> None:
    usual = replace(facts(WIDE, LATE), usual=[40.0, 0.1])  # more than 31.2 deg is nothing special
    assert condition_words(usual) == [
        "at least 22 % of the power at delays of 750 to 1,750 ns",
        "azimuth spread at least 31.2 deg",
    ]


# --- Modes of one name ----------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    ("names", "conditions", "said"),
    [
        ("AB", ["a", "a"], ["A", "B"]),  # nothing to tell apart
        ("AAB", ["ab", "ac", "d"], ["A (b)", "A (c)", "B"]),
        ("AA", ["abc", "acb"], ["A", "A (2)"]),
        ("AA", ["ab", "a"], ["A (b)", "A (the others)"]),
        ("AA", ["a", "ab"], ["A", "A (b)"]),
        ("AAA", ["ab", "a", "a"], ["A (b)", "A (the others)", "A (2)"]),
        ("AAA", ["ab", "bc", "ca"], ["A", "A (2)", "A (3)"]),
        (["A", "A (b)", "A"], ["abc", "d", "a"], ["A (c)", "A (b)", "A (the others)"]),
        (["A", "A (2)", "A"], ["a", "b", "a"], ["A", "A (2)", "A (3)"]),
    ],
)
def test_modes_of_one_name_bear_what_sets_them_apart(
    names: list[str], conditions: list[str], said: list[str]
) -> None:
    """Names and conditions are letters."""
    assert told_apart(names, conditions) == said


@pytest.mark.property
@given(
    modes=st.lists(
        st.tuples(
            st.sampled_from(["A", "B", "A (2)", "A (a)", "A (the others)"]),
            st.lists(st.sampled_from("abc"), max_size=3),
        ),
        max_size=7,
    )
)
def test_names_of_modes_are_distinct(modes: list[tuple[str, list[str]]]) -> None:
    names = [name for name, _ in modes]
    said = told_apart(names, [conditions for _, conditions in modes])
    assert len(set(said)) == len(said) == len(names)
    for before, after in zip(names, said, strict=True):
        assert after.startswith(before)
        assert after == before or names.count(before) > 1


@pytest.mark.unit
def test_rules_are_said_in_full() -> None:
    text = rule_words((WIDE, LATE, BEAMS), AXES, True)
    assert text == (
        "azimuth spread at least 31.2 deg and at least 22 % of the power at delays of 750 to 1,750 "
        "ns and at least 30 % of the power at sin(azimuth) 0.84 to −0.78 through ±1"
    )
    assert beam_text(-0.5, 0.0) == "sin(azimuth) −0.5 to 0"
    assert delay_text(-5e-8, 2.5e-7, True) == "−50 to 250 ns"


@pytest.mark.unit
@pytest.mark.parametrize(
    ("confirmation", "rate", "text"),
    [
        ("confirmed", proportion(30, 50), "Real channels confirm it: 60 % [45, 74] of the 50"),
        ("not confirmed", proportion(0, 300), "Real channels do not confirm it: none of the 300"),
        ("cannot tell", proportion(2, 6), "Real channels cannot tell: 33 % [4, 78] of the 6"),
        ("cannot tell", None, "No real channel is of that kind, so nothing confirms it."),
        ("no real channels", None, "There are no real channels to confirm it."),
    ],
)
def test_the_verdict_of_real_channels_in_words(
    confirmation: Confirmation, rate: Estimate | None, text: str
) -> None:
    mode = FailureMode(
        name="", rule_text="", rule=(), share=proportion(1, 2), population=proportion(1, 2),
        rate_base=None, share_real=None, rate_real=rate, confirmation=confirmation,
        delay_range=None, beam_range=None, los=None, los_population=None, features=(),
    )  # fmt: skip
    report = ModeReport(
        threshold="", nmse_db=-3.0, rate_base=None, rate_real=proportion(5, 100), n_failures=9.0,
        delay_unit="s", criterion="", stability=None, found=(), elsewhere=None, modes=(mode,),
    )  # fmt: skip
    said = mode_verdict(mode, report)
    assert said.startswith(text)
    assert ("5 % of all" in said) is (rate is not None)
