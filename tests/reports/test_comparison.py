"""What a comparison says of made-up distortions whose order and overlap are known."""

import json
import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

from channels.support import CsiAuditError
from reports.comparison import ComparedLosses, compared_set, matrix_cell, ranking_sentence
from reports.comparison_estimates import DECIBELS
from reports.comparison_keys import COMPARISON_KEYS
from reports.comparison_page import (
    ComparisonArrays,
    comparison_pictures,
    render_comparison,
    write_comparison,
)
from reports.comparison_schema import (
    OWN_FILE,
    ComparedCompressor,
    ComparisonResult,
    load_comparison,
)
from reports.comparison_words import (
    amounts_sentence,
    answer_sentences,
    comparison_tables,
    decibel_cell,
    scenario_sentence,
    shown_pairs,
)
from reports.estimates import Estimate, mean_estimate
from reports.figure_data import ReportArrays
from reports.keys import schema_paths

pytestmark = pytest.mark.unit
Array = npt.NDArray[np.float64]
N = 600
HOSTILE = '<script>alert("x")</script> $\\alpha$ Größe & |'


def made_up(
    names: tuple[str, ...] = ("good", "twin", "bad"), *, kind: str = "real"
) -> ComparedLosses:
    """`twin` is as good as `good` up to noise, `bad` loses 2 dB more on every channel."""
    rng = np.random.default_rng(0)
    common = np.exp(rng.standard_normal(N))
    nmse = {
        name: 0.1 * common * np.exp(0.05 * rng.standard_normal(N)) * 10 ** (0.2 * (k >= 2))
        for k, name in enumerate(names)
    }
    nmse[names[0]] /= nmse[names[0]].mean() / nmse[names[min(1, len(names) - 1)]].mean()
    return ComparedLosses(
        name="users",
        kind="real" if kind == "real" else "base",
        nmse=nmse,
        levels={
            "−3 dB": dict.fromkeys(names, 0.5),
            "own 99 % quantile": {n: float(np.quantile(v, 0.99)) for n, v in nmse.items()},
        },
        drops=np.arange(N) // 50,
    )


def comparison(losses: ComparedLosses, *others: ComparedLosses) -> ComparisonResult:
    sets = (losses, *others)
    return ComparisonResult(
        created="2026-01-02T03:04:05+00:00",
        versions={"csi-audit": "0"},
        seed=0,
        prob=0.99,
        thresholds=tuple(losses.levels),
        compressors=tuple(
            ComparedCompressor(name=n, spec=n, sha256=None, n_code=None, trained_on="unknown")
            for n in losses.names
        ),
        sets=tuple(compared_set(one) for one in sets),
        matrix=tuple(matrix_cell(one, n) for one in sets for n in one.names),
    )


def test_order_is_told_where_it_can_be() -> None:
    found = compared_set(made_up())
    mean = found.rankings[0]
    bounds = {entry.name: (entry.best, entry.worst) for entry in mean.entries}
    assert bounds == {"good": (1, 2), "twin": (1, 2), "bad": (3, 3)}
    assert mean.sentence.startswith("Cannot tell which of ")
    assert mean.sentence.endswith("is best in mean NMSE; bad is worst.")
    verdicts = {(p.first, p.second): p.figures[0].verdict for p in found.pairs}
    assert verdicts == {
        ("good", "twin"): "cannot tell",
        ("good", "bad"): "first is better",
        ("twin", "bad"): "first is better",
    }
    assert "Design effect of 12 drops" in found.notes[0]


def test_overlap_counts_channels() -> None:
    losses = made_up()
    x, y = losses.fails("−3 dB", "good"), losses.fails("−3 dB", "bad")
    overlap = next(
        o
        for o in compared_set(losses).overlaps
        if (o.first, o.second, o.threshold) == ("good", "bad", "−3 dB")
    )
    assert overlap.both.value == pytest.approx((x & y).mean())
    assert overlap.only_first.value == pytest.approx((x & ~y).mean())
    assert overlap.only_second.value == pytest.approx((~x & y).mean())
    assert overlap.shared is not None
    assert overlap.shared.value == pytest.approx((x & y).sum() / (x | y).sum())
    assert overlap.by_chance == pytest.approx(x.mean() * y.mean())


def test_own_thresholds_rank_nobody() -> None:
    quantities = [ranking.quantity for ranking in compared_set(made_up()).rankings]
    assert "P(NMSE > −3 dB)" in quantities
    assert not any("own" in quantity for quantity in quantities)


def test_without_any_failure_there_is_a_bound_and_no_verdict() -> None:
    losses = replace(made_up(), levels={"20 dB": dict.fromkeys(("good", "twin", "bad"), 100.0)})
    result = comparison(losses)
    overlap = result.sets[0].overlaps[0]
    assert overlap.shared is None
    assert overlap.both.interval is not None
    assert overlap.both.interval[1] > 0
    probability = result.sets[0].pairs[0].figures[-1]
    assert (probability.quantity, probability.verdict) == ("P(NMSE > 20 dB)", "cannot tell")
    (last,) = answer_sentences(result)[2:]
    assert last.startswith("Neither ")
    assert last.endswith(" fails at 20 dB.")


def test_a_compressor_without_error_has_no_decibels() -> None:
    losses = made_up()
    losses = replace(losses, nmse={**losses.nmse, "good": np.zeros(N)})
    found = comparison(losses)
    cell = next(cell for cell in found.matrix if cell.compressor == "good")
    assert cell.mean_db is None
    assert found.sets[0].pairs[0].figures[0].difference is None
    assert decibel_cell(cell.mean).text == "no error"
    render_comparison(found)


def test_one_compressor_is_a_sensible_page() -> None:
    result = comparison(made_up(("alone",)))
    assert answer_sentences(result) == [
        "On 600 real channels of users: There is one compressor, so nothing to rank."
    ]
    assert len(comparison_tables(result)) == 1
    assert "alone" in render_comparison(result)


def test_twenty_compressors_stay_usable() -> None:
    names = tuple(f"net {k}" for k in range(20))
    result = comparison(made_up(names))
    compared = result.sets[0]
    assert len(compared.pairs) == 190
    assert len(shown_pairs(compared)) == 19
    page = render_comparison(result)
    assert "Shown are 19 of 190 pairs" in page
    assert len(page) < 200_000


def test_names_are_escaped(tmp_path: Path) -> None:
    losses = made_up((HOSTILE, "twin", "bad"))
    arrays = ComparisonArrays(nmse={"users": losses.nmse}, level_db=-3.0)
    page = write_comparison(comparison(losses), arrays, tmp_path / "out").read_text()
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    assert "Größe" in page
    assert all(file.stat().st_size > 1000 for file in (tmp_path / "out" / "figures").iterdir())


def test_maps_are_drawn_for_each_set_that_has_them() -> None:
    losses, shape = made_up(), (8, 4)
    axes = ReportArrays(
        delay_s=np.arange(4) * 1e-7,
        sin_azimuth=np.fft.fftfreq(8, 0.5),
        frequency_hz=np.arange(4.0),
    )
    arrays = ComparisonArrays(
        nmse={"users": losses.nmse},
        axes={"users": axes},
        power={"users": np.ones(shape)},
        error={"users": {name: np.full(shape, 0.1) for name in losses.names}},
    )
    names = [picture.name for picture in comparison_pictures(comparison(losses), arrays)]
    assert names == ["beyond-1-users", "differences-1-users", "cloud-1-users", "lost-1-users"]


def moved(factor: float, reason: str = "") -> ComparisonResult:
    """Users at home, and others elsewhere on which `bad` loses by a factor."""
    home, away = made_up(), replace(made_up(), name="elsewhere")
    away = replace(away, nmse={k: v * (factor if k == "bad" else 1) for k, v in away.nmse.items()})
    result = comparison(home, away)
    cases = {"users": "case 1", "elsewhere": "case 2"}
    cells = tuple(
        cell.told(cases[cell.set_name], reason if cell.set_name == "users" else "")  # type: ignore[arg-type]
        for cell in result.matrix
    )
    return replace(result, matrix=cells)


def test_shift_names_the_largest_loss_with_an_interval_for_all() -> None:
    said = scenario_sentence(moved(2.0))
    found = re.fullmatch(
        r"Away from the scenario it was trained on, bad loses: \+3\.01 dB \[\+(.*), \+(.*)\] in "
        r"mean NMSE, from users to elsewhere, the most of 3 such changes\.",
        said,
    )
    assert found is not None, said
    low, high = float(found[1]), float(found[2])
    own = mean_estimate(made_up().nmse["bad"])
    assert own.std_error is not None
    se = DECIBELS * math.sqrt(2) * own.std_error / own.value
    wide = 2 * stats.t.isf(0.05 / 6, 2 * (N - 1)) * se  # of three intervals together
    assert high - low == pytest.approx(wide, abs=0.02)


def test_shift_within_chance_is_not_told() -> None:
    said = scenario_sentence(moved(1.02))
    assert said.startswith("Cannot tell that any compressor loses mean NMSE away from the scenario")
    assert "largest change: bad, +0.09 dB [−" in said
    assert scenario_sentence(comparison(made_up())) == ""


def test_figures_on_the_training_file_are_no_home() -> None:
    assert scenario_sentence(moved(2.0, OWN_FILE)) == ""


def test_other_sets_are_told_where_they_differ() -> None:
    first = made_up()
    turned = dict(zip(first.nmse, reversed(list(first.nmse.values())), strict=True))
    other = replace(first, name="elsewhere", nmse=turned)
    said = answer_sentences(comparison(first, replace(first, name="there"), other))
    assert "The same of the means can be said on 600 real channels of there." in said
    assert any(sentence.startswith("On 600 real channels of elsewhere: ") for sentence in said)


def test_unequal_code_lengths_are_said() -> None:
    result = comparison(made_up())
    assert "feed back" not in " ".join(answer_sentences(result))
    amounts = ({"n_code": 128, "n_side": 1}, {"n_code": 128, "n_side": 0}, {"bits_mean": 512.0})
    told = tuple(
        replace(c, **amount)  # type: ignore[arg-type]
        for c, amount in zip(result.compressors, amounts, strict=True)
    )
    said = answer_sentences(replace(result, compressors=told))[0]
    assert said.endswith(
        "They do not feed back the same amount: 128 reals + 1 scale (good), 128 reals (twin) and "
        "512 bits (bad)."
    )
    assert "128 reals + 1 scale" in render_comparison(replace(result, compressors=told))
    many = [replace(result.compressors[0], n_code=64 + k) for k in range(5)]
    assert amounts_sentence(many) == " They feed back 5 different amounts: see Provenance."


def test_a_threshold_set_on_the_same_channels_finds_nothing() -> None:
    losses = replace(made_up(), set_here=("own 99 % quantile",))
    result = comparison(losses)
    own = result.matrix[0].p_fail["own 99 % quantile"]
    assert (own.interval, own.status) == (None, "by definition")
    assert result.matrix[0].p_fail["−3 dB"].interval is not None
    assert not any("own" in head for head in comparison_tables(result)[0].heads)
    both = comparison_tables(comparison(losses, replace(losses, name="there", set_here=())))[0]
    column = both.heads.index("P(NMSE > own 99 % quantile)")
    assert both.rows[0][column].detail == "by definition"
    assert both.rows[3][column].detail.startswith("[")


def test_drops_that_are_alike_take_the_verdict() -> None:
    """One by one the users tell `bad` from `good`; four drops that disagree do not."""
    losses = made_up(("good", "bad"))
    drops = np.arange(N) % 4
    good = np.sqrt(losses.nmse["good"])
    bad = good * np.array([1.6, 1.0, 1.0, 0.8])[drops]
    losses = replace(losses, nmse={"good": good, "bad": bad}, drops=drops)
    found = compared_set(losses)
    mean = found.pairs[0].figures[0]
    assert mean.verdict == "cannot tell"
    assert mean.design_effect is not None
    assert mean.design_effect > 5
    assert "differences here, interval and test go by drop" in found.notes[0]
    alone = compared_set(replace(losses, drops=None)).pairs[0].figures[0]
    assert (alone.verdict, alone.design_effect) == ("first is better", None)


@pytest.mark.parametrize(
    ("factor", "said"),
    [(1.0, "The base law is credible here."), (3.0, "The base law misses the real channels: ")],
)
def test_samples_of_the_base_law_are_held_against_real_channels(factor: float, said: str) -> None:
    real = made_up()
    base = replace(real, name="base", kind="base", drops=None,
                   nmse={name: factor * values for name, values in real.nmse.items()})  # fmt: skip
    (note,) = compared_set(base, real=real).notes
    assert note.startswith(said)
    assert "distance of a distortion to users" in note


def test_file_comes_back_as_it_was(tmp_path: Path) -> None:
    result = comparison(made_up(), replace(made_up(kind="base"), name="base"))
    result.save(tmp_path)
    assert load_comparison(tmp_path) == result


def test_foreign_files_are_refused_in_a_line(tmp_path: Path) -> None:
    file = tmp_path / "comparison.json"
    with pytest.raises(CsiAuditError, match=r"comparison\.json cannot be read as a comparison"):
        load_comparison(file)
    file.write_text(json.dumps({"schema_version": 1}))
    with pytest.raises(CsiAuditError, match=r"comparison_version must be 1; got None\. Is it of"):
        load_comparison(file)
    plain = json.loads(comparison(made_up()).to_json())
    file.write_text(json.dumps({**plain, "prob": "high"}))
    with pytest.raises(CsiAuditError, match=r"not a valid comparison: .*prob must be a number"):
        load_comparison(file)


def test_every_key_has_its_sentence() -> None:
    assert set(schema_paths(ComparisonResult)) == set(COMPARISON_KEYS)


def test_ranking_words() -> None:
    from reports.comparison_schema import RankEntry

    value = Estimate(value=1.0, n=2, method="made up")

    def entry(name: str, best: int, worst: int) -> RankEntry:
        return RankEntry(name=name, value=value, best=best, worst=worst)

    same = [entry("a", 1, 2), entry("b", 1, 2)]
    assert ranking_sentence("mean NMSE", same) == (
        "Cannot tell which is better in mean NMSE: no pair differs beyond chance."
    )
    told = [entry("a", 1, 1), entry("b", 2, 3), entry("c", 2, 3)]
    assert ranking_sentence("mean NMSE", told) == (
        "a is best in mean NMSE; cannot tell which of b and c is worst."
    )
