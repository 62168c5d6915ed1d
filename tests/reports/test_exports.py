"""Rows of samples as CSV, single figures in journal size."""

import csv
import io
import struct
from dataclasses import replace

import numpy as np
import pytest

from channels.network import CellNetwork
from channels.support import CsiAuditError
from reports import ReportArrays, Result
from reports.exports import placement_rows, sample_rows, single_figures
from reports.gallery import named_figures
from reports.placement_arrays import PlacementArrays

pytestmark = pytest.mark.unit


def test_rows_hold_every_channel_once(fake_arrays: ReportArrays) -> None:
    rows = list(csv.DictReader(io.StringIO(sample_rows(fake_arrays))))
    name = next(iter(fake_arrays.nmse_base))
    base, real = (len(side[name]) for side in (fake_arrays.nmse_base, fake_arrays.nmse_real))
    assert [row["source"] for row in rows] == ["base"] * base + ["real"] * real
    assert float(rows[3][f"nmse/{name}"]) == pytest.approx(fake_arrays.nmse_base[name][3])
    last = rows[-1]
    assert last["index"] == str(real - 1)
    spread = fake_arrays.features_real["delay_spread_s"][-1]
    assert float(last["delay_spread_s"]) == pytest.approx(spread)


def test_names_with_commas_and_quotes_stay_one_column(fake_arrays: ReportArrays) -> None:
    name = 'a, "b"\nc'
    arrays = replace(fake_arrays, nmse_base={name: np.array([0.5])}, nmse_real={})
    (row, *_) = csv.DictReader(io.StringIO(sample_rows(arrays)))
    assert row[f"nmse/{name}"] == "0.5"


def test_a_side_without_channels_has_no_rows(fake_arrays: ReportArrays) -> None:
    arrays = replace(fake_arrays, nmse_real={}, features_real={})
    assert ",real," not in sample_rows(arrays)
    assert not any(line.startswith("real,") for line in sample_rows(arrays).splitlines())


def test_rows_of_a_network_hold_every_placement_with_its_losses() -> None:
    arrays = PlacementArrays(
        network=CellNetwork(), x_base=np.zeros((2, 5, 2)), log_w=np.zeros(2),
        x_real=np.zeros((1, 5, 2)), losses_base={"shortfall_db": np.array([-1.5, 2.0])},
        losses_real={"shortfall_db": np.array([0.25])},
        features_base={"edge_users": np.array([1.0, 4.0])},
        features_real={"edge_users": np.array([3.0])},
    )  # fmt: skip
    assert placement_rows(arrays) == (
        "source,index,loss/shortfall_db,edge_users\nbase,0,-1.5,1\nbase,1,2,4\nreal,0,0.25,3\n"
    )
    bare = replace(arrays, x_real=arrays.x_real[:0], losses_real={}, features_real={})
    assert "real" not in placement_rows(bare)


@pytest.mark.slow
def test_figures_are_as_wide_as_asked_and_bear_no_date(
    fake_result: Result, fake_arrays: ReportArrays
) -> None:
    one = replace(fake_result, compressors=fake_result.compressors[:1], realism=())
    figures = dict(single_figures(named_figures(one, fake_arrays), "svg"))
    assert "overview.svg" in figures
    for name, data in figures.items():
        text = data.decode()
        assert 'width="252pt"' in text, name  # 3.5 in
        assert "<dc:date>" not in text
    again = dict(single_figures(named_figures(one, fake_arrays), "svg"))
    assert figures == again


def test_png_is_for_print(fake_result: Result) -> None:
    (name, data), *_ = single_figures(named_figures(fake_result, None), "png", width_in=7.16)
    assert name == "overview.png"
    assert struct.unpack(">I", data[16:20])[0] == round(7.16 * 600)


@pytest.mark.parametrize("width", [1.0, 30.0])
def test_unreadable_widths_are_refused(fake_result: Result, width: float) -> None:
    with pytest.raises(CsiAuditError, match=r"width_in must lie in \[2\.5, 12\.0\] in; got"):
        next(single_figures(named_figures(fake_result, None), "svg", width_in=width))
