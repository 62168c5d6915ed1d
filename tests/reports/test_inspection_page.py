"""What `inspect` says and shows: rows with units, verdicts on shifts, a page that needs nothing."""

import math
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from channels import ChannelSet, CsiAuditError, Grid, load_channels, unit_power, write_channels
from channels.inspection import Inspection, inspect_channels
from channels.opened import ReadOptions
from channels.sample import sample_path
from reports import ks_distance, ks_floor
from reports.inspection_page import inspection_sentence, render_inspection, write_inspection
from reports.inspection_words import (
    Shift,
    facts,
    feature_rows,
    figure_text,
    file_names,
    pair_warnings,
    quantities,
    shift_sentence,
    shifts,
)

unit = pytest.mark.unit
HOSTILE = "<script>alert('$x_1$')&.h5"


@pytest.fixture(scope="module")
def sample() -> ChannelSet:
    return load_channels(sample_path())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("inspected")


def inspected(folder: Path, channels: ChannelSet, name: str) -> Inspection:
    write_channels(folder / name, channels, precision="float32", gzip_level=0)
    return inspect_channels(folder / name)


def half_delays(channels: ChannelSet) -> ChannelSet:
    """The same users with half the delays: h(f/2), interpolated."""
    h, k = channels.h[:].numpy(), np.arange(32)
    re, im = (
        np.apply_along_axis(lambda v: np.interp(k / 2, k, v), 3, part) for part in (h.real, h.imag)
    )
    return replace(
        channels, h=unit_power(torch.complex(torch.from_numpy(re), torch.from_numpy(im)))[0]
    )


@pytest.fixture(scope="module")
def first(sample: ChannelSet, folder: Path) -> Inspection:
    return inspected(folder, sample.subset(slice(0, 400)), "first.h5")


@pytest.fixture(scope="module")
def twin(sample: ChannelSet, folder: Path) -> Inspection:
    """Other users of the same law."""
    return inspected(folder, sample.subset(slice(400, 800)), "twin.h5")


@pytest.fixture(scope="module")
def shifted(sample: ChannelSet, folder: Path) -> Inspection:
    return inspected(folder, half_delays(sample.subset(slice(800, 1200))), HOSTILE)


@pytest.fixture(scope="module")
def bare(folder: Path) -> Inspection:
    """Users of whom little is known, two of them bad."""
    generator = torch.Generator().manual_seed(0)
    h = torch.randn(30, 2, 1, 16, dtype=torch.complex64, generator=generator)
    h[3] = 0
    h[4, 0, 0, 0] = math.nan
    np.save(folder / "bare.npy", h.numpy())
    return inspect_channels(folder / "bare.npy", options=ReadOptions(axes="user,rx,tx,sub"))


# --- Words and rows -------------------------------------------------------------------------------


@unit
@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (-0.0, "0"), (-3.14159, "−3.14"), (99.96, "100"), (1234.6, "1,235"),
     (2.5e7, "2.5e+07"), (0.00123, "0.00123")],
)  # fmt: skip
def test_figures_as_text(value: float, text: str) -> None:
    assert figure_text(value) == text


@unit
def test_facts_of_a_file(first: Inspection) -> None:
    found = dict(facts(first))
    assert found["format"] == "compact HDF5"
    assert found["stored as"].startswith("spatial-frequency, ")
    assert "layout" not in found["stored as"]
    assert (found["users"], found["receive x transmit antennas"]) == ("400", "1 x 32")
    assert (found["carrier"], found["bandwidth"]) == ("2.655 GHz", "10 MHz")
    assert (found["subcarrier spacing"], found["delay tap"]) == ("312.5 kHz", "100 ns")
    assert (found["delay window"], found["panel"]) == ("3.2 us", "one row of 32")
    assert (found["users that are no channels"], found["duplicated users"]) == ("none", "none")
    assert found["sha256"] == first.source.sha256
    loss = first.crop_loss[8].double()
    assert found["crop to 8 of 32 taps"] == (
        f"loses {100 * float(loss.mean()):.2g} % of the energy, "
        f"{100 * float(loss.quantile(0.99)):.2g} % in the worst 1 % of users"
    )


@unit
def test_facts_that_are_unknown(bare: Inspection) -> None:
    found = dict(facts(bare))
    unknown = ("scenario", "drops", "line of sight", "carrier", "bandwidth", "delay window")
    assert {found[name] for name in unknown} == {"unknown"}
    assert found["users that are no channels"] == "1 NaN or Inf and 1 all zero"
    assert found["labels"] == "none"
    small = replace(bare, keys=None, power_db=bare.power_db[:0])
    assert dict(facts(small))["duplicated users"] == "unknown"
    assert dict(facts(small))["gain per user"] == "unknown"


@unit
def test_panel_and_duplicates_are_facts(first: Inspection) -> None:
    panel = replace(first, grid=replace(first.grid, panel=(2, 4, 4)))
    assert dict(facts(panel))["panel"] == "2 x 4 x 4 (polarisations x rows x columns)"


@unit
def test_features_are_shown_in_their_units(first: Inspection) -> None:
    rows = {row.name: row for row in feature_rows(first)}
    spread = 1e9 * first.features["delay_spread_s"].double()
    assert (rows["delay_spread_s"].label, rows["delay_spread_s"].unit) == ("delay spread", "ns")
    for q, shown in ((0.01, "low"), (0.5, "median"), (0.99, "high")):
        assert getattr(rows["delay_spread_s"], shown) == pytest.approx(float(spread.quantile(q)))
    assert rows["effective_paths"].unit == ""
    assert rows["power_db"].label == "gain"


@unit
def test_gains_that_the_file_has_taken_out_are_no_quantity(first: Inspection) -> None:
    flat = replace(first, power_db=1e-3 * first.power_db / 20)
    assert "power_db" in quantities(first)
    assert "power_db" not in quantities(flat)


@unit
def test_a_summary_in_one_sentence(first: Inspection, bare: Inspection) -> None:
    assert inspection_sentence("a.h5", first) == (
        "a.h5: 400 users, 1 x 32 antennas, 32 subcarriers. Nothing looks wrong."
    )
    assert inspection_sentence("b", bare).endswith("2 x 1 antennas, 16 subcarriers. 2 warnings.")


@unit
def test_files_of_one_name_keep_their_folders(first: Inspection) -> None:
    paths = ("a/x.h5", "b/x.h5", "b/y.h5")
    found = [replace(first, source=replace(first.source, path=path)) for path in paths]
    assert file_names(found[1:]) == ["x.h5", "y.h5"]
    assert file_names(found) == ["a/x.h5", "b/x.h5", "y.h5"]


# --- Shifts ---------------------------------------------------------------------------------------


@unit
def test_two_draws_of_one_law_are_alike(first: Inspection, twin: Inspection) -> None:
    rows = shifts(first, twin)
    assert {row.verdict for row in rows} <= {"alike", "small shift"}
    assert sum(row.verdict == "alike" for row in rows) >= 9
    assert pair_warnings(("a", "b"), first, twin) == []


@unit
def test_other_delays_are_a_shift(first: Inspection, shifted: Inspection) -> None:
    rows = {row.label: row for row in shifts(first, shifted)}
    row = rows["delay spread"]
    one, two = (found.features["delay_spread_s"].double() for found in (first, shifted))
    assert row.ks == pytest.approx(ks_distance(one, two))
    floor = ks_floor(400, 400)
    assert (row.floor_mean, row.floor_95) == (floor.mean, floor.upper)
    assert (row.unit, row.verdict) == ("ns", "shift")
    assert row.first == pytest.approx(1e9 * float(np.median(one.numpy())))
    assert row.second < 0.8 * row.first
    assert rows["dominant beam"].verdict == "alike"
    distances = [row.ks for row in shifts(first, shifted)]
    assert distances == sorted(distances, reverse=True)


@unit
def test_shifts_in_one_sentence(first: Inspection, bare: Inspection) -> None:
    row = Shift(label="delay spread", unit="ns", first=88.2, second=176.0, ks=0.412,
                floor_mean=0.03, floor_95=0.05, verdict="shift")  # fmt: skip
    little, alike = replace(row, verdict="small shift", ks=0.06), replace(row, verdict="alike")
    names = ("a.h5", "b.h5")
    assert shift_sentence(names, [row, alike]) == (
        "b.h5 is shifted against a.h5 in 1 of 2 quantities, most of all delay spread (median 88.2 "
        "and 176 ns, KS 0.41, by chance up to 0.05)."
    )
    assert shift_sentence(names, [little, alike]).startswith(
        "b.h5 lies close to a.h5: 1 of 2 quantities a little beyond chance, most of all delay"
    )
    assert shift_sentence(names, [alike]) == (
        "b.h5 shows no shift against a.h5: 1 quantity, all within chance."
    )
    nobody = replace(first, features={}, power_db=first.power_db[:0])
    assert shifts(nobody, bare) == shifts(bare, nobody) == []
    assert shift_sentence(names, []) == "b.h5 and a.h5 have no quantity in common."


@unit
def test_shared_users_and_other_grids_are_told(
    first: Inspection, bare: Inspection, sample: ChannelSet, folder: Path
) -> None:
    overlap = inspected(folder, sample.subset(slice(390, 420)), "overlap.h5")
    assert pair_warnings(("a", "b"), first, overlap) == [
        "At least 10 of the 30 users of b stand in a too, up to scale and phase: one is no test of "
        "what was trained on the other."
    ]
    (sentence,) = pair_warnings(("a", "b"), first, bare)
    assert sentence.startswith(
        "The grids differ (receive antennas 1 and 2, transmit antennas 32 and 1, subcarriers 32 "
        "and 16 and bandwidth [MHz] 10 and unknown): "
    )


# --- The page -------------------------------------------------------------------------------------


def visible(page: str) -> str:
    """The page's text without pictures and style."""
    page = re.sub(r"<style>.*?</style>", "", page, flags=re.S)
    return re.sub(r"data:image/png;base64,[A-Za-z0-9+/=]+", "picture", page)


@pytest.mark.end_to_end
def test_a_page_of_two_files(first: Inspection, shifted: Inspection, tmp_path: Path) -> None:
    path = write_inspection([first, shifted], tmp_path / "page.html")
    page = path.read_text(encoding="utf-8")
    text = visible(page)
    assert "<script" not in page
    assert "&lt;script&gt;" in text
    assert re.findall(r"(?:src|href)=\"(?!picture)", text) == []
    assert "http" not in text
    assert text.count('src="picture"') == 2 + 2 * 2  # distributions; two maps a file
    assert "is shifted against first.h5 in " in text
    for words in ("Shift", "Facts", "Features", "Distributions", "Maps", "delay spread [ns]"):
        assert words in text
    assert page == render_inspection([first, shifted])  # no date, no chance
    assert len(page) < 2_000_000


@pytest.mark.end_to_end
def test_a_page_says_what_is_wrong_first(bare: Inspection) -> None:
    text = visible(render_inspection([bare]))
    assert text.index("holds NaN or Inf (first: user 4)") < text.index("<h2")
    assert "What bare.npy holds" in text
    assert "Shift" not in text
    assert "delay [taps]" not in text


@pytest.mark.end_to_end
def test_a_page_of_no_channel(first: Inspection) -> None:
    nobody = replace(first, features={}, power_db=first.power_db[:0], samples=(), keys=None,
                     mean_power=None, crop_loss={}, duplicates=None)  # fmt: skip
    text = visible(render_inspection([nobody]))
    assert "No user is a channel, so there is nothing to measure." in text
    assert "picture" not in text
    both = visible(render_inspection([first, nobody]))
    assert "have no quantity in common" in both
    assert '<td class="edge" colspan="3">unknown</td>' in both


@unit
def test_pages_that_cannot_be_written(first: Inspection, tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match="inspections must hold at least one; got none"):
        write_inspection([], tmp_path / "page.html")
    with pytest.raises(CsiAuditError, match=r"cannot be written: the folder .* does not exist"):
        write_inspection([first], tmp_path / "no" / "page.html")


# --- Figures --------------------------------------------------------------------------------------


@unit
def test_distributions_sum_to_all_users(first: Inspection, shifted: Inspection) -> None:
    from reports.inspection_figures import histogram_figure

    names = ["delay_spread_s", "effective_paths", "power_db"]
    figure = histogram_figure([first, shifted], ["a", HOSTILE], names)
    axis = figure.axes[0]
    assert axis.get_xlabel() == "delay spread [ns]"
    filled, *outlines = axis.patches
    assert len(outlines) == 2
    for patch in (filled, *outlines):
        shares, _, _ = patch.get_data()  # type: ignore[attr-defined]
        assert 99 < shares.sum() <= 100 + 1e-9
    assert not figure.axes[3].axison
    (legend,) = figure.legends
    assert legend.get_texts()[0].get_text() == "a"


@unit
def test_long_names_lose_their_middle(first: Inspection) -> None:
    from reports.inspection_figures import histogram_figure

    figure = histogram_figure([first, first], ["a" * 50 + ".h5", "$b$"], ["effective_paths"])
    (legend,) = figure.legends
    long, short = (text.get_text() for text in legend.get_texts())
    assert len(long) == 34
    assert long.endswith("aa.h5")
    assert "…" in long
    assert short == r"\$b\$"


@unit
def test_a_constant_is_drawn(first: Inspection) -> None:
    from reports.figures import png_bytes
    from reports.inspection_figures import histogram_figure

    constant = replace(first, features={"effective_paths": torch.full((400,), 3.0)})
    figure = histogram_figure([constant], ["a"], ["effective_paths"])
    shares, _, _ = figure.axes[0].patches[0].get_data()  # type: ignore[attr-defined]
    assert shares.max() == 100
    assert png_bytes(figure, dpi=40).startswith(b"\x89PNG")


@unit
def test_maps_show_beams_at_their_angles(first: Inspection) -> None:
    from reports.inspection_figures import mean_figure, sample_figure

    power = torch.full((32, 32), 1e-6, dtype=torch.float64)
    power[30, 5] = 1.0  # FFT order: sin(azimuth) = -2/16, delay 500 ns
    figure = mean_figure(replace(first, mean_power=power))
    image = figure.axes[0].images[0]
    shown = np.asarray(image.get_array())
    row, column = np.unravel_index(int(shown.argmax()), shown.shape)
    left, right, bottom, top = image.get_extent()
    assert left + (column + 0.5) * (right - left) / 32 == pytest.approx(500.0)
    assert bottom + (row + 0.5) * (top - bottom) / 32 == pytest.approx(-0.125)
    titles = [axis.get_title() for axis in sample_figure(first).axes[:6]]
    user = first.samples[0]
    assert user.value is not None
    spread = figure_text(1e9 * user.value)
    assert titles[0] == f"1 %, user {user.index}:\ndelay spread {spread} ns"
    assert titles[1].startswith(f"drawn, user {first.samples[3].index}:\n")


@unit
def test_panels_are_summed_to_columns(first: Inspection) -> None:
    from reports.inspection_figures import mean_figure

    grid = replace(first.grid, panel=(2, 4, 4))
    power = torch.zeros(32, 32, dtype=torch.float64)
    power[[1, 17], 3] = torch.tensor([0.75, 0.25], dtype=torch.float64)  # column 1 of two rows
    power[2, 0] = 0.1
    figure = mean_figure(replace(first, grid=grid, mean_power=power))
    shown = np.asarray(figure.axes[0].images[0].get_array())
    assert shown.shape == (4, 32)
    assert figure.axes[0].images[0].get_extent()[2:] == pytest.approx((-1.25, 0.75))
    assert float(shown.max()) == 0.0
    assert float(shown[:, 0].max()) == pytest.approx(-10.0)
    summed = "Rows and polarisations of the panel are summed."
    assert summed in render_inspection([replace(first, grid=grid)])
    assert summed not in render_inspection([first])


@unit
def test_a_lone_antenna_has_a_profile_for_a_map(bare: Inspection) -> None:
    from reports.inspection_figures import mean_figure, sample_figure

    axis = mean_figure(bare).axes[0]
    assert (axis.get_xlabel(), axis.get_ylabel()) == ("delay [taps]", "power [dB]")
    assert np.asarray(axis.lines[0].get_ydata()).max() == 0
    assert sample_figure(bare).get_supylabel() == "power [dB]"


@unit
def test_no_channel_no_map(first: Inspection) -> None:
    from reports.inspection_figures import mean_figure, sample_figure

    nobody = replace(first, samples=(), mean_power=None)
    for figure in (mean_figure(nobody), sample_figure(nobody)):
        assert figure.texts
        assert not figure.axes


@unit
def test_a_grid_without_a_bandwidth_counts_taps(first: Inspection) -> None:
    from reports.inspection_figures import mean_figure

    unknown = replace(first, grid=Grid(carrier_hz=None, bandwidth_hz=None, n_sub=32))
    assert mean_figure(unknown).axes[0].get_xlabel() == "delay [taps]"
