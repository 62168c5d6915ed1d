"""Bits of a beam-delay report, counted by hand from the tables of TS 38.214."""

import itertools
import math

import pytest

from channels import CsiAuditError
from compressors.beam_report import CHANNEL_ITEMS, BeamReport


@pytest.mark.unit
def test_bits_of_a_windowed_report() -> None:
    """C(32, 2) = 496, C(15, 7) = 6435, 16 windows, 4 coefficients of a bitmap of 16."""
    report = BeamReport(n_beams=2, n_delays=8, n_kept=4)
    assert report.is_windowed
    assert report.bit_items(4) == {
        "rotation (i1,1)": 2,
        "beams (i1,2)": 9,
        "delay window (i1,5)": 4,
        "delays (i1,6)": 13,
        "bitmap (i1,7)": 16,
        "strongest (i1,8)": 2,
        "amplitudes (i2,4)": 9,
        "phases (i2,5)": 12,
        "count of coefficients": 2,
        "gain amplitude": 6,
        "gain phase": 6,
        "delay of the strongest": 5,
    }
    assert report.most_bits == 86
    assert set(CHANNEL_ITEMS) < set(report.bit_items(4))


@pytest.mark.unit
def test_bits_where_delays_are_free() -> None:
    """M = 16 of 32: a window would be all delays. C(32, 4) = 35,960, C(31, 15) = 300,540,195."""
    report = BeamReport(n_beams=4, n_delays=16, n_kept=32)
    items = report.bit_items(32)
    assert not report.is_windowed
    assert (items["delay window (i1,5)"], items["delays (i1,6)"]) == (0, 29)
    assert (items["beams (i1,2)"], items["bitmap (i1,7)"]) == (16, 64)
    assert report.most_bits == 355
    few = BeamReport(n_beams=1, n_delays=4, n_kept=4, n_delay=19)
    assert few.bit_items(1)["delays (i1,6)"] == math.ceil(math.log2(math.comb(18, 3)))
    assert BeamReport(n_beams=1, n_delays=4, n_kept=4, n_delay=20).is_windowed


@pytest.mark.unit
def test_a_dropped_coefficient_saves_seven_bits() -> None:
    report = BeamReport(n_beams=4, n_delays=8, n_kept=20)
    totals = [sum(report.bit_items(n).values()) for n in (17, 18, 19, 20)]
    assert [b - a for a, b in itertools.pairwise(totals)] == [7, 7, 7]
    one = report.bit_items(1)
    assert one["amplitudes (i2,4)"] == one["phases (i2,5)"] == one["strongest (i1,8)"] == 0


@pytest.mark.unit
@pytest.mark.parametrize("budget", [40, 256, 1024])
def test_the_fullest_reports_within_a_budget(budget: int) -> None:
    found = list(BeamReport.within(budget))
    assert len({(r.n_beams, r.n_delays) for r in found}) == len(found) > 0
    for report in found:
        assert report.most_bits <= budget
        if report.n_kept < report.n_beams * report.n_delays:
            more = BeamReport(
                n_beams=report.n_beams, n_delays=report.n_delays, n_kept=report.n_kept + 1
            )
            assert more.most_bits > budget
    assert list(BeamReport.within(10)) == []


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "value", "most"),
    [("n_beams", 33, 32), ("n_delays", 0, 32), ("n_kept", 9, 8), ("oversampling", 17, 16)],
)
def test_counts_out_of_range(name: str, value: int, most: int) -> None:
    counts = {"n_beams": 2, "n_delays": 4, "n_kept": 5, name: value}
    with pytest.raises(CsiAuditError, match=rf"{name} must lie in 1\.\.{most}; got {value}\."):
        BeamReport(**counts)
