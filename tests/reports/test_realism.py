"""The realism gate: its thresholds, its verdict and its words."""

from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from reports import base_verdict, fidelity_summary, ks_floor, realism_item
from reports.realism import DISTORTION_LIMIT, FEATURE_LIMIT, base_item
from reports.report import render_page
from reports.schema import RealismItem, Result
from reports.tail_ratios import tail_ratio
from reports.words import base_rule, base_sentence, realism_phrase

unit, statistical = pytest.mark.unit, pytest.mark.statistical
Array = npt.NDArray[np.float64]


def apart(ks: float, n: int = 2000) -> tuple[Array, Array]:
    """Two evenly spread samples at that KS distance exactly."""
    real = (np.arange(n) + 0.5) / n
    return real + ks, real


def distortion(ks: float, n: int = 2000) -> RealismItem:
    base, real = apart(ks, n)
    return base_item("a", base, real, kind="distortion", label="NMSE of a")


@unit
def test_verdicts_follow_the_floor_and_the_limit() -> None:
    rng = np.random.default_rng(0)
    real, n = rng.random(2000), 2000
    same = realism_item("a", rng.random(n), real, kind="distortion")
    near = realism_item("b", rng.random(n) * 0.93, real, kind="distortion")
    far = realism_item("delay_spread_s", rng.random(n) * 0.7, real, kind="feature")
    none = realism_item("c", None, real, kind="distortion")
    words = [item.verdict for item in (same, near, far, none)]
    assert words == ["within chance", "off by little", "off", "not checked"]
    assert far.label == "delay spread"
    assert (none.ks, none.n_base, none.n_real) == (None, 0, 2000)
    assert base_verdict([same, near, far]) == "credible"  # features do not decide
    assert base_verdict([same, realism_item("d", real * 2, real, kind="distortion")]) == "misses"
    assert base_verdict([far, none]) == "not checked"
    assert fidelity_summary([same, near, far, none])["feature_ks"] == far.ks
    assert fidelity_summary([none]) == {"distortion_ks": None, "feature_ks": None}
    assert realism_phrase(none) == "not checked"
    assert realism_phrase(far) == "off (11.0 times a perfect model's mean)"


@unit
def test_few_samples_are_not_called_off_by_chance() -> None:
    """At 30 samples a perfect model reaches 0.25 by chance, above the limit of 0.10."""
    rng = np.random.default_rng(1)
    item = realism_item("a", rng.random(30), rng.random(2000), kind="distortion")
    assert (item.floor_95 or 0) > 0.2
    assert item.verdict == "within chance"


@unit
@pytest.mark.parametrize(
    ("n", "ks", "word", "verdict"),
    [
        (2000, 0.042, "within chance", "credible"),  # chance shows 0.043
        (2000, 0.060, "off by little", "cannot tell"),
        (2000, 0.080, "off", "misses"),  # beyond 0.03 + 0.043
        (40_000, 0.025, "off by little", "credible"),  # chance shows 0.010, the limit is 0.03
        (40_000, 0.035, "off by little", "cannot tell"),
        (40_000, 0.045, "off", "misses"),
    ],
)
def test_a_base_is_judged_by_its_limit_and_by_chance(
    n: int, ks: float, word: str, verdict: str
) -> None:
    item = distortion(ks, n)
    assert (item.verdict, base_verdict([item]), item.limit) == (word, verdict, DISTORTION_LIMIT)
    feature = base_item("delay_spread_s", *apart(ks, n), kind="feature")
    assert feature.limit == FEATURE_LIMIT
    assert base_verdict([distortion(0.0, n), feature]) == "credible"


@unit
def test_a_tail_that_is_off_misses_however_small_the_distance() -> None:
    real = np.random.default_rng(2).exponential(size=20_000)
    cut = np.sort(real)[-200]
    base = np.where((real >= cut) & (np.arange(20_000) % 4 > 0), 0.0, real)  # three in four gone
    item = base_item("a", base, real, kind="distortion", label="NMSE of a")
    ratio = tail_ratio("a", base, real, share=0.01, label="NMSE of a")
    assert item.verdict == "within chance"
    assert (ratio.verdict, base_verdict([item]), base_verdict([item], [ratio])) == (
        "off", "credible", "misses",
    )  # fmt: skip
    said = base_sentence("misses", [item], [ratio])
    assert "times as often among the worst 1 % of real channels for NMSE of a" in said
    assert "leaves out [0.8, 1.25]." in said
    unsure = replace(ratio, verdict="cannot tell")
    assert base_verdict([item], [unsure]) == "credible"  # what cannot be told is no accusation


@statistical
def test_a_base_at_its_limit_is_called_off_once_in_twenty_at_most() -> None:
    """KS distance 0.03 between the laws: uniform on [0, 1], and moved by 0.03."""
    rng, runs, off, perfect = np.random.default_rng(3), 400, 0, 0
    for _ in range(runs):
        real = rng.random(800)
        off += base_item("a", rng.random(500) + 0.03, real, kind="distortion").verdict == "off"
        perfect += base_verdict(
            [base_item("a", rng.random(500), real, kind="distortion")]
        ) != "credible"  # fmt: skip
    assert off <= 0.05 * runs
    assert perfect <= 0.10 * runs
    assert all(
        base_item("a", rng.random(500) + 0.25, rng.random(800), kind="distortion").verdict == "off"
        for _ in range(50)
    )


@unit
def test_the_rule_in_words() -> None:
    real = np.random.default_rng(4).exponential(size=2000)
    ratios = [tail_ratio("a", real, real, share=share) for share in (0.01, 0.001)]
    floor = ks_floor(2000, 2000).upper
    rule = base_rule([distortion(0.0)], ratios)
    assert f"at most {floor:.3f}, the larger of the limit 0.03" in rule
    assert f"beyond {0.03 + floor:.3f}, their sum, it is off, as is a tail ratio" in rule
    assert rule.endswith("leaves out [0.8, 1.25] and [0.5, 2] below 1 %.")
    assert base_rule([]) == ""
    assert base_rule([distortion(0.0)]).endswith("it is off.")


@unit
@pytest.mark.parametrize(
    ("ks", "opening"),
    [
        (0.01, "The base law cannot be told from the real channels: distortions on its samples"),
        (0.06, "Whether the base law is close enough to the real channels cannot be told at these"),
        (0.08, "The base law misses the real channels: distortions on its samples"),
    ],
)
def test_the_verdict_in_words(ks: float, opening: str) -> None:
    item = distortion(ks)
    said = base_sentence(base_verdict([item]), [item])
    assert said.startswith(opening)
    assert f"at most {item.ks:.3f} (NMSE of a), where a perfect model would show 0.027" in said
    assert base_sentence("not checked", []) == (
        "The base law was not checked against real channels."
    )
    near = replace(distortion(0.02, 40_000), label="b")
    assert base_sentence("credible", [near]).startswith("The base law is close to the real chann")
    assert base_sentence("credible", [distortion(0.01)], alike=False).startswith(
        "The base law is close to the real channels but not equal"
    )


@unit
def test_the_page_shows_tail_ratios_and_the_rule(fake_result: Result) -> None:
    real = np.random.default_rng(5).exponential(size=5000)
    ratio = tail_ratio("a", real * 3, real, share=0.01, label="NMSE of a")
    assert "How often base samples reach the tail" not in render_page(fake_result)
    rule = base_rule(fake_result.realism, [ratio])
    judged = replace(fake_result.base, verdict="misses", rule=rule)
    page = render_page(replace(fake_result, tail_ratios=(ratio,), base=judged))
    assert "How often base samples reach the tail" in page
    assert '<td class="bad">off</td>' in page
    first = page.split('<h2 id="evidence">')[0]
    assert "times as often among the worst 1 % of real channels for NMSE of a" in first
    assert page.count("Accepted is a KS distance of at most") == 2  # answer and realism
    unsure = replace(fake_result, base=replace(fake_result.base, verdict="cannot tell"))
    assert "cannot be told at these sizes" in render_page(unsure)
