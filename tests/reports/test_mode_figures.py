"""Failure modes on the page, in figures, in files and in one line."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from channels.support import CsiAuditError
from reports.estimates import Estimate, proportion
from reports.figure_data import Exemplar, ModeMaps, ReportArrays
from reports.figures import png_bytes
from reports.gallery import draw_gallery
from reports.mode_figures import mode_exemplar_figure, mode_figure, strata_figure
from reports.mode_schema import (
    FailureMode,
    FeatureRange,
    ModeReport,
    RuleCondition,
    Stratum,
)
from reports.mode_words import mode_line, mode_section
from reports.report import render_page
from reports.schema import Result, load_result
from reports.tables import markdown_summary
from reports.words import answer

pytestmark = pytest.mark.unit


def make_mode(name: str = "NLOS, late cluster near 900 ns") -> FailureMode:
    late = RuleCondition(
        kind="delay", feature="", window=(7.5e-7, 1.25e-6), side="at least", limit=0.2
    )
    spread = FeatureRange(feature="delay_spread_s", label="delay spread", unit="ns",
                          mode=(150.0, 210.0, 320.0), population=(40.0, 95.0, 200.0),
                          above=proportion(57, 60))  # fmt: skip
    return FailureMode(
        name=name, rule_text="at least 20 % of the power at delays of 750 to 1,250 ns",
        rule=(late,), share=proportion(57, 60), population=proportion(40, 400),
        rate_base=proportion(57, 80), share_real=proportion(80, 90),
        rate_real=proportion(80, 130), confirmation="confirmed", delay_range=(6.5e-7, 1.45e-6),
        beam_range=None, los=proportion(1, 57), los_population=0.2, features=(spread,),
    )  # fmt: skip


def make_report(*modes: FailureMode, note: str = "") -> ModeReport:
    return ModeReport(
        threshold="fixed", nmse_db=-11.0, rate_base=proportion(60, 400),
        rate_real=proportion(90, 600), n_failures=60.0, delay_unit="s", criterion="a criterion",
        stability=0.93 if modes else None, found=(1, 1, 2, 1, 1) if modes else (),
        elsewhere=proportion(3, 60) if modes else None, modes=modes, note=note,
    )  # fmt: skip


def make_strata(real: bool = True) -> tuple[Stratum, ...]:
    def row(low: float | None, high: float | None, k: int, name: str = "") -> Stratum:
        sight = bool(name)
        counted: Estimate | None = proportion(2 * k, 200) if real else None
        return Stratum(
            threshold="fixed", feature="line_of_sight" if sight else "delay_spread_s",
            label="line of sight" if sight else "delay spread", unit="" if sight else "ns",
            low=low, high=high, base=proportion(k, 100), real=counted, name=name,
            how="Line of sight by a rule." if sight else "",
        )  # fmt: skip

    return (
        row(None, 50.0, 0),
        row(50.0, 120.0, 9),
        row(120.0, None, 40),
        row(None, None, 1, "LOS"),
    )


def with_modes(result: Result, *modes: FailureMode, note: str = "") -> Result:
    """The made-up audit with these modes for its first compressor."""
    first, *others = result.compressors
    report = make_report(*modes, note=note)
    return replace(
        result, compressors=(replace(first, modes=report, strata=make_strata()), *others)
    )


def arrays_with_modes(arrays: ReportArrays, name: str) -> ReportArrays:
    """The made-up arrays with a map and three exemplars of one mode."""
    worst = arrays.worst_base[name]
    shown = [replace(e, mode=0) for e in arrays.exemplars if e.compressor == name][:3]
    return replace(
        arrays,
        exemplars=arrays.exemplars + tuple(shown),
        mode_maps=(ModeMaps(compressor=name, mode=0, power=worst, error=0.3 * worst),),
        error_base={name: 0.1 * worst},
    )


# --- Words ----------------------------------------------------------------------------------------


def test_one_line_and_the_third_sentence_tell_the_first_mode(fake_result: Result) -> None:
    told = with_modes(fake_result, make_mode(), make_mode("Beams near sin(azimuth) 0.5"))
    line = mode_line(told.compressors[0])
    assert line.startswith(
        "CsiNet 1/16 (NMSE above −11 dB): NLOS, late cluster near 900 ns; 95.0 %"
    )
    assert (
        "Real channels confirm it: 61.5 % [52.6, 69.9] of the 130 of that kind fail, 15 %" in line
    )
    assert line.endswith("One more mode in the report.")
    sentence = answer(told)[2]
    assert "of the failures of CsiNet 1/16" in sentence
    assert "NLOS, late cluster near 900 ns. Real channels confirm it" in sentence
    assert f"- Failure mode: {line.split(' (')[0]}" in markdown_summary(told)
    assert answer(fake_result)[2].startswith("The worst")


def test_no_mode_is_one_line_too(fake_result: Result) -> None:
    told = with_modes(fake_result, note="No base sample fails at this threshold.")
    row = told.compressors[0]
    assert mode_line(row) == (
        "CsiNet 1/16: no failure mode. No base sample fails at this threshold."
    )
    assert mode_section(row).lines[-1] == "No base sample fails at this threshold."
    assert mode_line(fake_result.compressors[1]) == ""
    assert mode_section(fake_result.compressors[1]).rows == []


def test_the_section_says_how_firm_the_modes_are(fake_result: Result) -> None:
    section = mode_section(with_modes(fake_result, make_mode()).compressors[0])
    assert section.lines[1].startswith("One mode found among 60 failures; 5.0 % [1.0, 13.9] of the")
    assert "finds 1, 1, 2, 1 and 1 modes; adjusted Rand index" in section.lines[2]
    ((cells, tone),) = section.rows
    assert (cells[5], tone) == (("confirmed", "of 130 inside"), "good")
    assert cells[6][0] == "650 to 1,450 ns"
    assert section.ranges[0][1] == [("delay spread [ns]", "150 / 210 / 320", "40 / 95 / 200")]
    assert section.strata[0][:3] == ("delay spread [ns]", "below 50", "none seen, below 3.6 %")
    assert [row[1] for row in section.strata] == ["below 50", "50 to 120", "from 120", "LOS"]
    assert section.how == "Line of sight by a rule."


def test_no_failure_outside_the_modes_is_a_sentence(fake_result: Result) -> None:
    told = with_modes(fake_result, make_mode()).compressors[0]
    assert told.modes is not None
    whole = replace(told, modes=replace(told.modes, elsewhere=proportion(0, 60)))
    lines = mode_section(whole).lines
    assert lines[1] == "One mode found among 60 failures; none of them lies outside (below 6 %)."
    bare = replace(
        told, modes=replace(told.modes, elsewhere=replace(proportion(0, 60), interval=None))
    )
    assert mode_section(bare).lines[1].endswith("60 failures; none of them lies outside.")


# --- The page -------------------------------------------------------------------------------------


def test_the_page_has_the_modes_before_the_evidence(
    fake_result: Result, fake_arrays: ReportArrays
) -> None:
    one = replace(fake_result, compressors=fake_result.compressors[:1], realism=())
    told = with_modes(one, make_mode())
    arrays = arrays_with_modes(fake_arrays, told.compressors[0].name)
    pictures = draw_gallery(told, arrays)
    names = [picture.name for picture in pictures if picture.section == "modes"]
    assert names == [
        "mode-1-1-csinet-1-16",
        "mode-1-exemplars-1-csinet-1-16",
        "strata-1-csinet-1-16",
    ]
    page = render_page(told, pictures)
    assert page.index('id="modes"') < page.index('id="evidence"')
    assert page.count("Mode 1: NLOS, late cluster near 900 ns") >= 2
    assert 'id="modes"' not in render_page(fake_result)


def test_names_from_outside_are_escaped(fake_result: Result) -> None:
    evil = "<script>alert(1)</script> $x$ ü"
    first = replace(fake_result.compressors[0], name=evil)
    told = with_modes(replace(fake_result, compressors=(first,)), make_mode(evil))
    page = render_page(told)
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)") >= 3
    assert "<script>" not in markdown_summary(told)


# --- Figures --------------------------------------------------------------------------------------


def test_figures_are_drawn_without_base_power_and_bandwidth(fake_arrays: ReportArrays) -> None:
    arrays = arrays_with_modes(fake_arrays, "KLT 1/16")
    bare = replace(arrays, power_base=None, features_base={}, bandwidth_known=False)
    for one in (arrays, bare):
        figure = mode_figure(one, make_mode(), one.mode_maps[0])
        assert png_bytes(figure, 40)
        assert [axis.get_title() for axis in figure.axes[:3]] == [
            "its failures", "their error", "failures − all",
        ]  # fmt: skip


@pytest.mark.parametrize("count", [0, 1, 3])
def test_exemplars_are_a_column_each(fake_arrays: ReportArrays, count: int) -> None:
    shown = list(fake_arrays.exemplars[:count])
    figure = mode_exemplar_figure(fake_arrays, shown)
    assert len([axis for axis in figure.axes if axis.images]) == 4 * count
    assert png_bytes(figure, 40)


def test_a_panel_is_drawn_over_its_columns() -> None:
    random = np.random.default_rng(0)
    arrays = ReportArrays(
        delay_s=np.arange(8) * 1e-7, sin_azimuth=np.tile(2 * np.fft.fftfreq(4), 4),
        frequency_hz=np.arange(8) * 1e5, panel=(2, 2, 4), power_base=random.random((16, 8)),
        features_base={"delay_spread_s": random.random(30) * 4e-7},
    )  # fmt: skip
    maps = ModeMaps(compressor="c", mode=0, power=random.random((16, 8)), error=np.zeros((16, 8)))
    x = random.normal(size=(2, 16, 8))
    shown = Exemplar(
        compressor="c", source="base", side="high", index=3, nmse=0.7, x=x, x_hat=0 * x
    )
    drawn = mode_figure(arrays, make_mode(), maps).axes[0].images[0].get_array()
    assert drawn is not None
    assert drawn.shape == (4, 8)
    assert png_bytes(mode_exemplar_figure(arrays, [shown]), 40)


def test_strata_are_drawn_with_and_without_real_channels() -> None:
    for real in (True, False):
        figure = strata_figure(make_strata(real))
        assert figure.axes[0].get_xlabel() == "delay spread [ns]"
        assert [t.get_text() for t in figure.axes[1].get_xticklabels()] == ["LOS"]
        assert png_bytes(figure, 40)
    assert png_bytes(strata_figure(()), 40)


# --- Files ----------------------------------------------------------------------------------------


def test_modes_go_through_result_json_and_old_files_lack_them(
    fake_result: Result, tmp_path: Path
) -> None:
    told = with_modes(fake_result, make_mode())
    told.save(tmp_path)
    assert load_result(tmp_path) == told
    file = tmp_path / "result.json"
    plain = json.loads(file.read_text())
    for row in plain["compressors"]:
        del row["modes"], row["strata"]
    file.write_text(json.dumps(plain))
    old = load_result(tmp_path)
    assert (old.compressors[0].modes, old.compressors[0].strata) == (None, ())
    assert render_page(old)


def test_maps_and_exemplars_go_through_flat_arrays(fake_arrays: ReportArrays) -> None:
    arrays = arrays_with_modes(fake_arrays, "CsiNet 1/16")
    flat = arrays.to_flat()
    again = ReportArrays.from_flat(flat)
    assert [(m.compressor, m.mode) for m in again.mode_maps] == [("CsiNet 1/16", 0)]
    assert (again.mode_maps[0].error == arrays.mode_maps[0].error).all()
    assert [e.mode for e in again.exemplars] == [e.mode for e in arrays.exemplars]
    assert (again.error_base["CsiNet 1/16"] == arrays.error_base["CsiNet 1/16"]).all()
    old = {key: v for key, v in flat.items() if not key.startswith("mode_maps")}
    del old["exemplars/mode"]
    before = ReportArrays.from_flat(old)
    assert before.mode_maps == ()
    assert {e.mode for e in before.exemplars} == {-1}


def test_damaged_maps_are_one_line(fake_arrays: ReportArrays) -> None:
    flat = arrays_with_modes(fake_arrays, "CsiNet 1/16").to_flat()
    flat["mode_maps/error"] = flat["mode_maps/error"] * np.nan
    with pytest.raises(CsiAuditError, match=r"report arrays are damaged .*error must be finite"):
        ReportArrays.from_flat(flat)
    with pytest.raises(ValueError, match=r"mode_maps\[0\].power must be \[n_tx, n_delay\]"):
        replace(fake_arrays, mode_maps=(
            ModeMaps(compressor="c", mode=0, power=np.ones((2, 2)), error=np.ones((2, 2))),
        ))  # fmt: skip
