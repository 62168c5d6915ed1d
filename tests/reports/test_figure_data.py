"""Arrays behind the figures: storage, means over the worst channels, domains."""

from dataclasses import fields, replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from channels import stack_real, to_angular_delay
from channels.support import CsiAuditError
from reports import ReportArrays, exemplar_indices, mean_power, worst_features, worst_weight
from reports.figure_data import map_power, to_spatial_map
from reports.stratify import weighted_quantile

unit = pytest.mark.unit
PROPERTY = pytest.mark.property


def same(a: ReportArrays, b: ReportArrays) -> bool:
    """Equality of all arrays, through their flat form."""
    left, right = a.to_flat(), b.to_flat()
    return left.keys() == right.keys() and all(np.array_equal(left[k], right[k]) for k in left)


def small_axes() -> ReportArrays:
    """Eight antennas, four taps, no data."""
    return ReportArrays(
        delay_s=np.arange(4.0), sin_azimuth=np.arange(8.0), frequency_hz=np.arange(4.0)
    )


@unit
def test_arrays_survive_hdf5(fake_arrays: ReportArrays, tmp_path: Path) -> None:
    with h5py.File(tmp_path / "samples.h5", "w") as file:
        for path, value in fake_arrays.to_flat().items():
            file["report/" + path] = value
    found = {}
    with h5py.File(tmp_path / "samples.h5") as file:
        group = file["report"]
        group.visititems(
            lambda path, item: found.update({path: item[()]} if hasattr(item, "shape") else {})
        )
    again = ReportArrays.from_flat(found)
    assert same(again, fake_arrays)
    assert list(again.nmse_base) == list(fake_arrays.nmse_base)  # "CsiNet 1/16": a slash in a name
    assert again.exemplars[0].compressor == fake_arrays.exemplars[0].compressor
    assert (again.worst_share, again.bandwidth_known) == (0.02, True)
    assert again.panel == (1, 1, 32)


@unit
def test_arrays_of_before_panels_are_one_row(fake_arrays: ReportArrays) -> None:
    flat = fake_arrays.to_flat()
    del flat["panel"]
    old = ReportArrays.from_flat(flat)
    assert old.panel is None
    assert len(old.column_sines) == 32


@unit
def test_bare_arrays_survive_and_axes_are_needed(fake_arrays: ReportArrays) -> None:
    bare = small_axes()
    again = ReportArrays.from_flat(bare.to_flat())
    assert same(again, bare)
    assert (again.power_base, again.exemplars, again.nmse_real) == (None, (), {})
    with pytest.raises(CsiAuditError, match=r"report arrays lack delay_s. Is the file complete,"):
        ReportArrays.from_flat({k: v for k, v in fake_arrays.to_flat().items() if k != "delay_s"})


DAMAGE: dict[str, tuple[object, str]] = {
    "nmse_base/1": (None, r"lack nmse_base/1"),
    "nmse_base/0": (np.zeros((2, 3)), r"nmse_base must hold numbers, 1 axes; got float64 \(2, 3\)"),
    "nmse_real/0": (np.zeros(0), r"nmse_real must hold numbers"),
    "nmse_real/names": (np.array([255], np.uint8), r"damaged or foreign: .*"),
    "log_l/0": (np.zeros(3), r"log_l of CsiNet 1/16 does not fit its nmse_base"),
    "log_l/1": (np.full(400, np.inf), r"log_l must be finite"),
    "delay_s": (np.array(3.0), r"delay_s must hold numbers, 1 axes; got float64 \(\)"),
    "sin_azimuth": (np.array([b"a"]), r"sin_azimuth must hold numbers, 1 axes; got \|S1"),
    "frequency_hz": (np.array([np.nan]), r"frequency_hz must be finite"),
    "power_base": (np.zeros((2, 2)), r"power_base must be \[n_tx, n_delay\]"),
    "panel": (np.array([2, 2, 2]), r"panel must multiply to n_tx = 32; got \(2, 2, 2\)"),
    "worst_share": (np.zeros(2), r"worst_share must hold numbers, 0 axes"),
    "worst_real/2": (np.zeros((1, 1)), r"worst_real\[KLT 1/16\] must be"),
    "features_base/0": (np.array([None]), r"features_base must hold numbers"),
    "exemplars/x": (np.zeros((1, 2, 3, 4)), r"exemplars do not fit their reconstructions"),
    "exemplars/index": (None, r"lack exemplars/index"),
    "exemplars/side": (np.zeros(0, np.uint8), r"damaged or foreign: list index out of range"),
}


@unit
@pytest.mark.parametrize("key", DAMAGE)
def test_damaged_arrays_are_one_line(fake_arrays: ReportArrays, key: str) -> None:
    value, message = DAMAGE[key]
    flat = fake_arrays.to_flat()
    assert key in flat
    damaged = {k: v for k, v in flat.items() if k != key}
    if value is not None:
        damaged[key] = np.asarray(value)
    with pytest.raises(
        CsiAuditError, match=rf"^report arrays .*{message}.* Run the audit again\.$"
    ):
        ReportArrays.from_flat(damaged)


@unit
def test_minus_infinity_is_a_legal_log_weight(fake_arrays: ReportArrays) -> None:
    flat = fake_arrays.to_flat()
    flat["log_l/0"] = np.where(np.arange(len(flat["log_l/0"])) == 0, -np.inf, flat["log_l/0"])
    assert same(ReportArrays.from_flat(flat), replace(fake_arrays, log_l={
        **fake_arrays.log_l, next(iter(fake_arrays.log_l)): flat["log_l/0"]}))  # fmt: skip


@unit
def test_maps_must_fit_the_axes() -> None:
    message = r"worst_real\[a\] must be \[n_tx, n_delay\] = \(8, 4\); got \(4, 8\)"
    with pytest.raises(ValueError, match=message):
        replace(small_axes(), worst_real={"a": np.zeros((4, 8))})


@unit
def test_flat_form_knows_every_field(fake_arrays: ReportArrays) -> None:
    stored = {path.split("/")[0] for path in fake_arrays.to_flat()}
    assert stored == {field.name for field in fields(ReportArrays)}


@PROPERTY
@given(
    n=st.integers(1, 50),
    share=st.floats(0.01, 1.0),
    seed=st.integers(0, 999),
    weighted=st.booleans(),
)
def test_worst_weights_hold_the_share_and_the_worst(
    n: int, share: float, seed: int, weighted: bool
) -> None:
    rng = np.random.default_rng(seed)
    nmse, log_w = rng.random(n), rng.normal(size=n) if weighted else None
    weight = worst_weight(nmse, share, log_w)
    assert weight.sum() == pytest.approx(share)
    assert (weight >= 0).all()
    kept = weight > 1e-12
    assert nmse[kept].min() >= nmse[~kept].max(initial=-1.0)


@unit
def test_worst_share_must_be_a_share() -> None:
    with pytest.raises(ValueError, match=r"share must lie in \(0, 1\]; got 5. 1 % is written 0.01"):
        worst_weight([1.0, 2.0], 5)


@unit
def test_mean_power_weighs_samples_and_sums_receive_antennas() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4, 5, 6)).astype(np.float32)  # two receive antennas
    weight = np.array([0.0, 1.0, 3.0])
    expected = 0.25 * map_power(x[1]) + 0.75 * map_power(x[2])
    np.testing.assert_allclose(mean_power(x, weight), expected, rtol=1e-6)
    np.testing.assert_allclose(mean_power(x), np.square(x).sum(1).mean(0), rtol=1e-5)
    with pytest.raises(ValueError, match=r"weight must be \[n\] with a positive sum; got shape"):
        mean_power(x, [0.0, 0.0, 0.0])


@unit
def test_spatial_map_of_one_path() -> None:
    """A path at beam 3 and tap 2 has constant magnitude; cropping delays keeps the energy."""
    x = np.zeros((2, 8, 4))
    x[0, 3, 2] = 1.0
    power = to_spatial_map(x, 16)
    assert power.shape == (8, 16)
    np.testing.assert_allclose(power, np.full((8, 16), 1 / (8 * 16)))
    two = np.random.default_rng(0).normal(size=(4, 8, 4))
    assert to_spatial_map(two, 4).sum() == pytest.approx(np.square(two).sum())


@unit
def test_spatial_map_of_a_panel_takes_its_own_way_back() -> None:
    rng = np.random.default_rng(0)
    h = torch.from_numpy(rng.normal(size=(2, 8, 4)) + 1j * rng.normal(size=(2, 8, 4)))
    x = stack_real(to_angular_delay(h[None], (2, 2, 2)))[0]
    power = h.abs().square().sum(0).numpy()
    np.testing.assert_allclose(to_spatial_map(x, 4, (2, 2, 2)), power, rtol=1e-9)
    assert np.abs(to_spatial_map(x, 4) - power).max() > 0.1


@unit
def test_rows_and_polarisations_are_summed() -> None:
    panel = replace(small_axes(), panel=(2, 2, 2), sin_azimuth=np.tile([0.0, -1.0], 4))
    assert panel.column_sines.tolist() == [0.0, -1.0]
    power = np.arange(32.0).reshape(8, 4)
    np.testing.assert_array_equal(
        panel.over_columns(power), [power[::2].sum(0), power[1::2].sum(0)]
    )
    np.testing.assert_array_equal(small_axes().over_columns(power), power)


@unit
def test_exemplars_are_the_extremes_in_order() -> None:
    low, high = exemplar_indices([0.3, 0.1, 0.9, 0.5], 2)
    assert (low.tolist(), high.tolist()) == ([1, 0], [2, 3])


# --- What is special about the worst channels -----------------------------------------------------


@unit
def test_worst_features_find_the_cause_and_leave_chance_alone() -> None:
    rng = np.random.default_rng(0)
    cause, chance = rng.gamma(2.0, 50e-9, size=4000), rng.normal(size=4000)
    nmse = cause * np.exp(0.1 * rng.normal(size=4000))
    rows = worst_features(
        nmse, {"chance": chance, "delay_spread_s": cause}, source="real", share=0.01
    )
    assert [row.feature for row in rows] == ["delay_spread_s", "chance"]
    first, second = rows
    assert (first.label, first.unit, first.n_worst) == ("delay spread", "ns", 40)
    assert first.rank > 0.98
    assert abs(second.shift) < 4
    assert first.median_all == pytest.approx(1e9 * float(np.median(cause)), rel=0.01)
    assert first.median_worst > 2 * first.median_all
    with pytest.raises(ValueError, match=r"features\['chance'\] must be \[4000\]; got \(2,\)"):
        worst_features(nmse, {"chance": chance[:2]}, source="real")


@unit
def test_weights_move_the_worst_share() -> None:
    """Doubling a sample's weight is the same as having it twice."""
    x, nmse = np.arange(6.0), np.array([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    log_w = np.log([1.0, 1.0, 1.0, 1.0, 1.0, 3.0])
    twice = np.r_[np.arange(6.0), 5.0, 5.0]
    weighted = worst_features(nmse, {"f": x}, source="base", share=0.5, log_w=log_w)[0]
    repeated = worst_features(np.r_[nmse, 6.0, 6.0], {"f": twice}, source="base", share=0.5)[0]
    assert weighted.rank == pytest.approx(repeated.rank)
    assert weighted.median_all == repeated.median_all == 3.0
    assert weighted_quantile(x, [0, 0, 1, 0, 0, 0], 0.5) == 2.0
