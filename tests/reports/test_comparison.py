"""What a comparison says of made-up distortions whose order and overlap are known."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from channels.support import CsiAuditError
from reports.comparison import ComparedLosses, compared_set, matrix_cell, ranking_sentence
from reports.comparison_keys import COMPARISON_KEYS
from reports.comparison_page import (
    ComparisonArrays,
    comparison_pictures,
    render_comparison,
    write_comparison,
)
from reports.comparison_schema import (
    ComparedCompressor,
    ComparisonResult,
    load_comparison,
)
from reports.comparison_words import (
    answer_sentences,
    comparison_tables,
    decibel_cell,
    scenario_sentence,
    shown_pairs,
)
from reports.estimates import Estimate
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


def test_shift_names_the_largest_loss() -> None:
    home, away = made_up(), replace(made_up(), name="elsewhere")
    away = replace(away, nmse={k: v * (2 if k == "bad" else 1) for k, v in away.nmse.items()})
    result = comparison(home, away)
    cases = {"users": "case 1", "elsewhere": "case 2"}
    cells = tuple(cell.told(cases[cell.set_name], "") for cell in result.matrix)  # type: ignore[arg-type]
    assert scenario_sentence(replace(result, matrix=cells)) == (
        "Away from the scenario it was trained on, bad changes by +3.01 dB in mean NMSE (from "
        "users to elsewhere), the most of all."
    )
    assert scenario_sentence(result) == ""


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
