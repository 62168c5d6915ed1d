"""Figures: the shift of the maps, marks of empty tails, bytes that do not change."""

from dataclasses import replace

import numpy as np
import pytest

from reports import Estimate, ReportArrays, Result, mean_estimate, proportion
from reports.figure_data import to_spatial_map

pytestmark = pytest.mark.unit


def only_axes(arrays: ReportArrays) -> ReportArrays:
    """The axes alone."""
    return ReportArrays(
        delay_s=arrays.delay_s, sin_azimuth=arrays.sin_azimuth, frequency_hz=arrays.frequency_hz
    )


def test_a_beam_of_negative_angle_is_drawn_at_its_angle(fake_arrays: ReportArrays) -> None:
    from matplotlib.figure import Figure

    from reports.plotting import angular_axes

    power = np.full((32, 32), 1e-6)
    power[30, 5] = 1.0  # FFT order: sin(azimuth) = -2/16, delay 500 ns
    image = angular_axes(Figure().subplots(), fake_arrays, power, 1.0)
    shown = np.asarray(image.get_array())
    row, column = np.unravel_index(int(shown.argmax()), shown.shape)
    left, right, bottom, top = image.get_extent()
    assert left + (column + 0.5) * (right - left) / 32 == pytest.approx(500.0)
    assert bottom + (row + 0.5) * (top - bottom) / 32 == pytest.approx(-0.125)
    assert (image.origin, shown.max()) == ("lower", 0.0)


def test_maps_of_a_panel_are_drawn_over_its_columns(fake_arrays: ReportArrays) -> None:
    """Four column beams at -1, -0.5, 0 and 0.5; the antennas keep an axis of 32."""
    from reports.figures import exemplar_figure, worst_figure
    from reports.gallery import exemplar_pair

    arrays = replace(fake_arrays, panel=(2, 4, 4), sin_azimuth=np.tile(np.fft.fftfreq(4, 0.5), 8))
    pair = exemplar_pair(arrays, "KLT 1/16", "real")
    assert pair is not None
    low, high = pair
    images = [axis.images[0] for axis in exemplar_figure(arrays, low, high).axes[:6]]
    shapes = [np.asarray(image.get_array()).shape[0] for image in images]
    assert shapes == [32, 32, 4, 4, 4, 4]
    power = np.square(low.x).sum(0).reshape(8, 4, 32).sum(0)
    shown = np.asarray(images[2].get_array())
    np.testing.assert_allclose(shown, 10 * np.log10(power / power.max())[[2, 3, 0, 1]], atol=1e-9)
    assert images[2].get_extent()[2:] == pytest.approx((-1.25, 0.75))
    spatial = to_spatial_map(low.x, 32, (2, 4, 4))
    np.testing.assert_allclose(
        np.asarray(images[0].get_array()), 10 * np.log10(spatial / spatial.max()), atol=1e-9
    )
    assert arrays.power_base is not None
    total = arrays.power_base.reshape(8, 4, 32).sum(0)
    everything = np.asarray(worst_figure(arrays, "KLT 1/16").axes[0].images[0].get_array())
    np.testing.assert_allclose(everything, 10 * np.log10(total / total.max())[[2, 3, 0, 1]])


def test_captions_say_what_a_panels_maps_sum(
    fake_arrays: ReportArrays, fake_result: Result
) -> None:
    from reports.gallery import _plans

    row = replace(fake_arrays, panel=(1, 1, 32))
    panel = replace(fake_arrays, panel=(2, 4, 4))
    for arrays, told in ((row, 0), (panel, 9)):
        captions = [plan.caption for plan in _plans(fake_result, arrays)]
        assert sum("rows and polarisations are summed" in text for text in captions) == told


def test_delays_count_taps_where_no_bandwidth_is_known(fake_arrays: ReportArrays) -> None:
    from reports.figures import exemplar_figure, worst_figure

    arrays = replace(fake_arrays, bandwidth_known=False, delay_s=np.arange(32.0))
    low, high = arrays.exemplars[:2]
    labels = {axis.get_xlabel() for axis in exemplar_figure(arrays, low, high).axes}
    assert {"subcarrier", "delay [taps]"} <= labels
    assert worst_figure(arrays, "KLT 1/16").get_supxlabel() == "delay [taps]"
    known = worst_figure(fake_arrays, "KLT 1/16")
    assert known.get_supxlabel() == "delay [ns]"


def test_error_map_uses_the_scale_of_its_channel(fake_arrays: ReportArrays) -> None:
    from reports.figures import exemplar_figure

    low, high = fake_arrays.exemplars[:2]
    perfect = replace(low, x_hat=low.x, nmse=0.0)
    figure = exemplar_figure(fake_arrays, perfect, replace(high, x_hat=0 * high.x))
    _, _, channel_low, channel_high, error_low, error_high = (a.images for a in figure.axes[:6])
    assert np.asarray(error_low[0].get_array()).max() <= -60
    left, right = (np.asarray(images[0].get_array()) for images in (error_high, channel_high))
    assert np.array_equal(left, right)
    assert np.asarray(channel_low[0].get_array()).max() == 0
    assert figure.axes[0].get_title() == "real, low distortion: −100 dB".replace("real", low.source)


def test_distortions_weigh_q_and_mark_thresholds(fake_arrays: ReportArrays) -> None:
    """Areas are 1 for every law, and q lies to the right of p."""
    from reports.figures import distortion_figure

    figure = distortion_figure(fake_arrays, "CsiNet 1/16", {"fixed": -11.0})
    top, bottom = figure.axes
    laws = ["base law p", "failure-weighted law q", "real channels", "issgm samples"]
    assert [label for label in top.get_legend_handles_labels()[1] if "dB" not in label] == laws
    assert bottom.get_legend_handles_labels()[1] == ["fixed: −11 dB"]
    means = {}
    for patch in top.patches:
        values, edges, _ = patch.get_data()  # type: ignore[attr-defined]
        mass = values * np.diff(edges)
        means[patch.get_label()] = float(mass @ (edges[1:] + edges[:-1]) / 2)
        assert 0.99 < mass.sum() <= 1 + 1e-9
    assert means["failure-weighted law q"] > means["base law p"] + 0.3


def test_missing_data_give_a_sentence_instead_of_a_figure(
    fake_arrays: ReportArrays, fake_result: Result
) -> None:
    from reports import figures

    bare = only_axes(fake_arrays)
    empty = [
        figures.distortion_figure(bare, "nobody"),
        figures.worst_figure(bare, "nobody"),
        figures.realism_figure({}, {}, fake_result.realism),
        figures.overview_figure(replace(fake_result, compressors=())),
    ]
    for figure in empty:
        assert figure.texts
        assert not figure.axes


@pytest.mark.parametrize(
    ("estimate", "lines"),
    [(None, 0), (proportion(0, 100), 2), (proportion(3, 100), 2), (mean_estimate([0.2]), 2)],
)
def test_dots_arrows_and_nothing(estimate: Estimate | None, lines: int) -> None:
    from matplotlib.figure import Figure

    from reports.plotting import dot

    axis = Figure().subplots()
    dot(axis, estimate, 0.0, "black", "o", "white")
    assert len(axis.lines) == lines


def test_same_input_same_bytes(fake_result: Result) -> None:
    from reports.figures import overview_figure, png_bytes

    first, second = (png_bytes(overview_figure(fake_result), dpi=60) for _ in range(2))
    assert first == second
    assert first.startswith(b"\x89PNG")
    assert b"Software" not in first
    assert b"tEXt" not in first


def test_a_long_label_stays_below_its_panel(fake_result: Result) -> None:
    from reports.figures import png_bytes, realism_figure

    label = "joint outage of 3 or more of 5 users"
    items = [replace(fake_result.realism[0], name=name, label=name) for name in ("short", label)]
    values = {item.name: np.linspace(0.1, 0.2, 20) for item in items}
    figure = realism_figure(values, values, items, scales=dict.fromkeys(values, (1.0, "1")))
    png_bytes(figure, dpi=100)  # lays it out
    left, right = figure.axes[:2]
    assert left.get_xlabel() == "short [1]"
    assert right.get_xlabel().replace("\n", " ") == f"{label} [1]"
    assert right.xaxis.label.get_window_extent().x1 <= figure.bbox.x1


def test_names_that_look_like_mathematics_are_drawn_as_they_stand(
    fake_arrays: ReportArrays, fake_result: Result
) -> None:
    from reports import figures

    name = r"$\frac{$ x_1 $$"
    arrays = replace(
        only_axes(fake_arrays),
        nmse_base={name: fake_arrays.nmse_base["KLT 1/16"]},
        nmse_real={name: fake_arrays.nmse_real["KLT 1/16"]},
    )
    item = replace(fake_result.realism[0], name=name, label=name)
    row = replace(fake_result.compressors[0], name=name)
    tau = (replace(fake_result.tau[0], label=name), fake_result.tau[1])
    for figure in (
        figures.distortion_figure(arrays, name, {name: -9.0}),
        figures.realism_figure(arrays.nmse_base, arrays.nmse_real, [item]),
        figures.overview_figure(replace(fake_result, compressors=(row,), tau=tau)),
    ):
        assert figures.png_bytes(figure, dpi=40).startswith(b"\x89PNG")
