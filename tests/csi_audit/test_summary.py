"""From measurements to the rows of a report."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from channels import ChannelDomain, ChannelSet, Grid, audit_space
from compressors import (
    CompressorSpec,
    Klt,
    NamedCompressor,
    in_audit_space,
    load_compressor,
    nmse,
    save_compressor,
)
from csi_audit import summary
from csi_audit.measuring import measure
from csi_audit.samples import WeightedSamples
from csi_audit.summary import (
    Evidence,
    against_klt,
    arrays,
    compressor_row,
    drop_notes,
    issgm_entry,
    realism,
    tail_ratios,
    thresholds,
)
from reports.schema import CompressorRow

pytestmark = pytest.mark.unit

N_BASE, N_REAL = 60, 80


def samples_of(x: Tensor) -> WeightedSamples:
    return WeightedSamples(
        x=x,
        log_w=torch.zeros(len(x), dtype=torch.float64),
        law="base",
        chain="made up",
        n_evaluations=7 * len(x),
    )


@pytest.fixture
def evidence(draw_users: Callable[..., ChannelSet], own_code: Path) -> Evidence:
    """Two compressors, 80 real users in 4 drops, and 60 others that play the base samples."""
    channels = draw_users(N_REAL, seed=1)
    channels = replace(channels, labels={"drop_seed": torch.arange(N_REAL) // 20})
    x, domain = audit_space(draw_users(N_BASE, seed=2)), ChannelDomain.of(channels)
    pair = [load_compressor(f"{own_code}:{name}") for name in ("Half", "Quarter")]
    return Evidence(
        base_samples=samples_of(x),
        base=measure(x, pair, domain),
        real=measure(audit_space(channels), pair, domain),
        channels=channels,
        compressors=pair,
        issgm={},
    )


# --- Thresholds and tails -------------------------------------------------------------------------


def test_thresholds_say_what_they_are() -> None:
    own, low, high = thresholds(0.99, (-3.0, 2.5), 2000)
    assert (own.label, own.nmse_db) == ("own 99 % quantile", None)
    assert own.origin == "each compressor's own 99 % quantile of NMSE over the 2,000 real channels"
    assert [t.nmse_db for t in (low, high)] == [-3.0, 2.5]
    assert low.label.endswith("3 dB")
    assert high.label == "2.5 dB"
    assert "for all compressors" in low.origin
    assert thresholds(0.995, (), 10)[0].label == "own 99.5 % quantile"
    assert len(thresholds(0.995, (), 10)) == 1


def row_of(evidence: Evidence, name: str) -> CompressorRow:
    named = next(item for item in evidence.compressors if item.name == name)
    tau = thresholds(0.9, (-3.0, 60.0), N_REAL)
    return compressor_row(named, evidence, tau=tau, tau_quantile=0.9, issgm=None)


@pytest.mark.parametrize("name", ["Half", "Quarter"])
def test_tails_are_counted_on_both_sides(evidence: Evidence, name: str) -> None:
    base, real = evidence.base.nmse(name), evidence.real.nmse(name)
    own, fixed, never = row_of(evidence, name).estimates.tails
    level = float(np.quantile(real, 0.9))
    assert own.nmse_db == pytest.approx(10 * math.log10(level))
    assert own.real is not None
    assert own.base is not None
    assert own.real.value == pytest.approx(0.1)
    assert own.base.value == (base > level).mean()
    assert (own.base.n, own.base.n_evaluations) == (N_BASE, 7 * N_BASE)
    assert fixed.nmse_db == pytest.approx(-3.0)
    assert fixed.real is not None
    assert fixed.real.value == (real > 10**-0.3).mean()
    for estimate, n in ((never.base, N_BASE), (never.real, N_REAL)):
        assert estimate is not None
        assert estimate.interval == pytest.approx((0.0, 1 - 0.025 ** (1 / n)))
        assert estimate.status == "none seen: upper bound only"


def test_row_holds_means_and_the_tilted_mean(evidence: Evidence) -> None:
    row = row_of(evidence, "Half")
    base, real = evidence.base.nmse("Half"), evidence.real.nmse("Half")
    assert (row.name, row.n_code) == ("Half", 64)
    assert row.spec.endswith("mine.py:Half")
    assert row.convention.startswith("angular-delay, 8 of 8 taps, unscaled")
    e_p, e_q = row.estimates.e_p, row.estimates.e_q
    assert e_p is not None
    assert e_q is not None
    assert e_p.value == pytest.approx(base.mean())
    assert e_q.value == pytest.approx((base**2).sum() / base.sum())
    assert {name: loss.worse for name, loss in row.losses.items()} == {
        "nmse": "high",
        "own_mse": "high",
        "sgcs": "low",
    }
    nmse_loss = row.losses["nmse"]
    assert nmse_loss.real is not None
    assert nmse_loss.real.value == pytest.approx(real.mean())
    assert (nmse_loss.real.n, nmse_loss.real.method) == (N_REAL, "real channels")
    assert {item.source for item in row.worst} == {"real"}


# --- Against the KLT ------------------------------------------------------------------------------


def bundle(
    folder: Path, evidence: Evidence, n_code: int, patch: pytest.MonkeyPatch
) -> NamedCompressor:
    """A KLT of the real channels as the only bundled compressor."""
    spec = CompressorSpec(arch="klt", n_code=n_code, event_shape=(2, 8, 8))
    klt = spec.build()
    assert isinstance(klt, Klt)
    path = folder / "klt.safetensors"
    save_compressor(path, klt.fit(evidence.real.x), spec, card={})
    loaded = load_compressor(str(path))
    patch.setattr(summary, "bundled_klts", lambda: (loaded.compressor,))
    return loaded


def test_the_klt_of_equal_code_length_is_the_yardstick(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    klt = bundle(tmp_path, evidence, 64, monkeypatch)
    half, quarter = evidence.compressors
    linear = nmse(evidence.real.x, in_audit_space(klt.compressor)(evidence.real.x)).mean()
    gain, sentence = against_klt(half, evidence.real)
    expected = 10 * math.log10(float(linear) / evidence.real.nmse("Half").mean())
    assert gain == pytest.approx(expected, rel=1e-5)
    assert gain is not None
    assert gain < 0  # the KLT is the best linear code, a truncation a linear one
    assert sentence == ""
    assert row_of(evidence, "Half").against_klt_db == gain
    nothing, why = against_klt(quarter, evidence.real)  # another code length
    assert nothing is None
    assert why == (
        "Quarter: no KLT of 32 real numbers is bundled. Fit one to your channels (csi-audit "
        "fit-compressor --arch klt --ratio 4) and audit it beside."
    )
    itself = against_klt(klt, evidence.real)
    assert itself == (
        None,
        f"{klt.name} is a KLT itself, the best linear code of the data it fits.",
    )


def test_a_klt_under_audit_is_the_yardstick(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the advice to fit one leads to; it stands for the bundled one of that length."""
    klt = bundle(tmp_path, evidence, 32, monkeypatch)
    monkeypatch.setattr(summary, "bundled_klts", lambda: ())
    both = [*evidence.compressors, klt]
    real = measure(evidence.real.x, both, ChannelDomain.of(evidence.channels))
    half, quarter, _ = both
    gain, sentence = against_klt(quarter, real, both)
    assert gain == pytest.approx(
        10 * math.log10(real.nmse(klt.name).mean() / real.nmse("Quarter").mean())
    )
    assert sentence == ""
    assert against_klt(half, real, both)[0] is None  # another code length
    row = row_of(replace(evidence, compressors=both, real=real), "Quarter")
    assert row.against_klt_db == gain


def test_a_quantised_code_has_no_unquantised_yardstick(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    klt = bundle(tmp_path, evidence, 64, monkeypatch)
    bits = {"Half": np.full(N_REAL, 128.0), "Quarter": None, klt.name: None}
    real = replace(evidence.real, bits=bits)
    gain, sentence = against_klt(evidence.compressors[0], real, [klt])
    assert gain is None
    assert sentence == (
        "Half is not compared with a KLT: its code is quantised, the numbers of a KLT are not."
    )


@pytest.mark.parametrize(("n_code", "advice"), [(33, False), (1, False), (48, False), (16, True)])
def test_no_advice_that_cannot_be_followed(evidence: Evidence, n_code: int, advice: bool) -> None:
    """fit-compressor takes whole ratios, and the code of a KLT is complex."""

    class Other:
        convention = evidence.compressors[0].compressor.convention

    Other.n_code = n_code  # type: ignore[attr-defined]
    named = replace(evidence.compressors[0], compressor=Other())  # type: ignore[arg-type]
    _, sentence = against_klt(named, evidence.real)
    assert ("fit-compressor" in sentence) == advice
    if advice:
        spec = CompressorSpec.for_ratio("klt", 8, event_shape=(2, 8, 8))
        assert spec.n_code == n_code
        assert "--ratio 8)" in sentence
    else:
        assert sentence == f"Half is not compared: csi-audit fits no KLT of {n_code} real numbers."


def test_row_says_what_is_fed_back(evidence: Evidence) -> None:
    row = row_of(evidence, "Half")
    assert (row.bits_mean, row.bits_max, row.n_side, row.n_channel) == (None, None, 0, 128)
    counted = {"Half": np.arange(1.0, N_REAL + 1), "Quarter": None}
    half, quarter = evidence.compressors
    own = half.compressor
    scaled = replace(own.convention, scaling="sample_peak")

    class Scaled:
        n_code, convention = own.n_code, scaled

    named = replace(half, compressor=Scaled())  # type: ignore[arg-type]
    found = replace(
        evidence, real=replace(evidence.real, bits=counted), compressors=[named, quarter]
    )
    row = row_of(found, "Half")
    assert (row.bits_mean, row.bits_max, row.n_side) == ((N_REAL + 1) / 2, N_REAL, 1)


def test_a_klt_of_another_array_is_no_yardstick(evidence: Evidence, own_code: Path) -> None:
    """The bundled one is of 32 x 32 channels."""

    class SameLength:
        n_code = 128
        convention = evidence.compressors[0].compressor.convention

    named = replace(evidence.compressors[0], compressor=SameLength())  # type: ignore[arg-type]
    assert against_klt(named, evidence.real)[0] is None


# --- Realism and drops ----------------------------------------------------------------------------


def test_realism_lists_distortions_then_features(evidence: Evidence) -> None:
    rows = realism(evidence)
    kinds = [item.kind for item in rows]
    assert kinds == ["distortion"] * 2 + ["feature"] * len(evidence.real.features)
    assert [item.label for item in rows[:2]] == ["NMSE of Half", "NMSE of Quarter"]
    assert {item.name for item in rows[2:]} == evidence.real.features.keys()
    assert all((item.n_base, item.n_real) == (N_BASE, N_REAL) for item in rows)
    assert all(item.ks is not None and item.ks > 0 for item in rows)


def test_realism_of_the_same_channels_is_perfect(evidence: Evidence) -> None:
    rows = realism(replace(evidence, base=evidence.real))
    assert [(item.ks, item.verdict) for item in rows] == [(0.0, "within chance")] * len(rows)


def test_realism_names_a_base_that_is_off(evidence: Evidence) -> None:
    worse = {
        name: {**losses, "nmse": losses["nmse"] + 1}
        for name, losses in evidence.base.losses.items()
    }
    rows = realism(replace(evidence, base=replace(evidence.base, losses=worse)))
    assert [(item.ks, item.verdict) for item in rows[:2]] == [(1.0, "off")] * 2


def test_tail_ratios_stand_at_each_compressors_own_threshold(
    evidence: Evidence, draw_users: Callable[..., ChannelSet]
) -> None:
    for channels, dropped in ((evidence.channels, True), (draw_users(N_REAL, seed=1), False)):
        rows = tail_ratios(replace(evidence, channels=channels), 0.9)
        assert [row.label for row in rows] == ["NMSE of Half", "NMSE of Quarter"]
        assert [row.real_beyond for row in rows] == [N_REAL // 10] * 2
        own = np.sort(evidence.real.nmse("Half"))[-(N_REAL // 10)]
        assert rows[0].tau == own
        assert rows[0].base_beyond == (evidence.base.nmse("Half") >= own).sum()
        assert (rows[0].design_effect is not None) is dropped


def test_drop_notes_without_drops(
    evidence: Evidence, draw_users: Callable[..., ChannelSet]
) -> None:
    (note,) = drop_notes(replace(evidence, channels=draw_users(N_REAL, seed=1)), 0.9)
    assert note.startswith("The file does not say which users share a drop")


def test_drop_notes_give_the_design_effect(evidence: Evidence) -> None:
    (note,) = drop_notes(evidence, 0.9)
    assert "Design effect of the 4 drops on failures beyond the 90 % quantile: Half " in note
    assert ", Quarter " in note
    assert "unknown" not in note
    alike = {name: {"nmse": np.repeat([1.0, 2.0, 3.0, 4.0], 20)} for name in ("Half", "Quarter")}
    (note,) = drop_notes(replace(evidence, real=replace(evidence.real, losses=alike)), 0.7)
    # One whole drop of 20 fails: users are worth far less than their number.
    effect = float(note.split("Half ")[1].split(",")[0])
    assert effect == pytest.approx(20 * 4 / 3 * 79 / 80, abs=0.02)


def test_one_drop_has_no_design_effect(evidence: Evidence) -> None:
    one = replace(evidence.channels, labels={"drop_seed": torch.zeros(N_REAL)})
    (note,) = drop_notes(replace(evidence, channels=one), 0.9)
    assert "Half unknown, Quarter unknown" in note


# --- Arrays ---------------------------------------------------------------------------------------


def test_arrays_of_the_figures(evidence: Evidence) -> None:
    found = arrays(evidence)
    assert found.bandwidth_known
    np.testing.assert_allclose(found.delay_s, np.arange(8) / 1e7)
    np.testing.assert_allclose(found.frequency_hz, np.arange(8) * 1e7 / 8)
    np.testing.assert_allclose(found.log_l["Half"], np.log(evidence.base.nmse("Half")))
    assert found.power_base is not None
    assert found.power_real is not None
    assert found.power_real.sum() == pytest.approx(64, rel=1e-5)
    assert found.nmse_issgm == {}
    order = [(e.compressor, e.source, e.side) for e in found.exemplars]
    pairs = [("base", "low"), ("base", "high"), ("real", "low"), ("real", "high")]
    assert order == [(name, *pair) for name in ("Half", "Quarter") for pair in pairs]
    hardest = found.exemplars[3]
    real = evidence.real.nmse("Half")
    assert (hardest.index, hardest.nmse) == (int(real.argmax()), real.max())
    assert (hardest.x_hat[..., 4:] == 0).all()
    np.testing.assert_array_equal(hardest.x, evidence.real.x[hardest.index])


def test_the_panel_reaches_the_figures(evidence: Evidence) -> None:
    assert arrays(evidence).panel is None
    channels = evidence.channels
    panel = replace(channels, grid=replace(channels.grid, panel=(2, 1, 4)))
    found = arrays(replace(evidence, channels=panel))
    assert found.panel == (2, 1, 4)
    np.testing.assert_allclose(found.sin_azimuth, np.tile(np.fft.fftfreq(4, 0.5), 2))
    np.testing.assert_allclose(found.column_sines, np.fft.fftfreq(4, 0.5))


def test_worst_maps_are_those_of_the_worst_channels(evidence: Evidence) -> None:
    """One per cent of 80 channels is less than one: the worst alone."""
    found = arrays(evidence)
    worst = evidence.real.x[int(evidence.real.nmse("Half").argmax())]
    np.testing.assert_allclose(found.worst_real["Half"], worst.square().sum(0), rtol=1e-5)


def test_arrays_without_a_bandwidth_count_taps(evidence: Evidence) -> None:
    unknown = replace(evidence.channels, grid=Grid(carrier_hz=None, bandwidth_hz=None, n_sub=8))
    found = arrays(replace(evidence, channels=unknown))
    assert not found.bandwidth_known
    np.testing.assert_array_equal(found.delay_s, np.arange(8))
    np.testing.assert_array_equal(found.frequency_hz, np.arange(8))


def test_issgm_entry_is_a_short_run(evidence: Evidence) -> None:
    guided = replace(evidence.base_samples, law="target", chain="issgm, 9 steps")
    values = evidence.base.nmse("Half")
    entry = issgm_entry(guided, values, steps=9, full=None, note="why not")
    assert (entry.label, entry.steps, entry.n, entry.full) == ("short run", 9, N_BASE, None)
    assert entry.e_q.value == pytest.approx(values.mean())
    assert (entry.e_q.method, entry.note) == ("issgm, 9 steps", "why not")
