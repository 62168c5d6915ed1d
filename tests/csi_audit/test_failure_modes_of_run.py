"""Failure modes in an audit: channels and compressors in, modes, strata and maps out."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from channels import ChannelDomain, ChannelSet, Grid, audit_space
from compressors import NamedCompressor, in_audit_space, load_compressor
from csi_audit.deeper import FailureSample
from csi_audit.failure_modes_of_run import (
    ENOUGH,
    EXEMPLARS,
    mean_maps,
    mode_axes,
    modes_of_compressor,
    with_failure_modes,
)
from csi_audit.measuring import measure
from csi_audit.samples import WeightedSamples
from csi_audit.summary import Evidence, arrays, compressor_row, thresholds
from reports.estimates import agree, proportion
from reports.figure_data import ReportArrays, mean_power
from reports.schema import BaseInfo, DataInfo, Result, Tail

pytestmark = pytest.mark.unit

Draw = Callable[..., ChannelSet]


def samples_of(x: Tensor) -> WeightedSamples:
    log_w = torch.zeros(len(x), dtype=torch.float64)
    return WeightedSamples(x=x, log_w=log_w, law="base", chain="made up", n_evaluations=len(x))


def evidence_of(channels: ChannelSet, base: ChannelSet, pair: list[NamedCompressor]) -> Evidence:
    x, domain = audit_space(base), ChannelDomain.of(channels)
    return Evidence(
        base_samples=samples_of(x), base=measure(x, pair, domain),
        real=measure(audit_space(channels), pair, domain), channels=channels, compressors=pair,
        issgm={},
    )  # fmt: skip


def tail_of(evidence: Evidence, name: str, quantile: float, label: str = "own") -> Tail:
    base, real = evidence.base.nmse(name), evidence.real.nmse(name)
    level = float(np.quantile(real, quantile))
    p, q = (proportion(int((v > level).sum()), len(v)) for v in (base, real))
    return Tail(
        threshold=label, nmse_db=10 * np.log10(level), base=p, real=q, agreement=agree(p, q)
    )


@pytest.fixture
def pair(own_code: Path) -> list[NamedCompressor]:
    """Compressors that keep the first half and the first quarter of the taps."""
    return [load_compressor(f"{own_code}:{name}") for name in ("Half", "Quarter")]


@pytest.fixture
def evidence(draw_users: Draw, pair: list[NamedCompressor]) -> Evidence:
    """300 real users, and 500 others that play the base samples."""
    channels = draw_users(300, seed=1)
    channels = replace(channels, labels={"is_los": torch.arange(300) % 5 == 0})
    return evidence_of(channels, draw_users(500, seed=2), pair)


def test_the_mode_of_a_compressor_without_late_taps_is_late_power(evidence: Evidence) -> None:
    named = evidence.compressors[0]
    found = modes_of_compressor(named, tail_of(evidence, named.name, 0.85), evidence)
    first = found.report.modes[0]
    assert first.rule[0].kind == "delay"
    assert first.rule[0].window is not None
    assert first.rule[0].window[1] <= -5e-8 or first.rule[0].window[1] >= 3.5e-7  # taps 4 to 7
    assert first.confirmation == "confirmed"
    assert first.share.value > 0.6
    assert found.report.delay_unit == "s"
    lost = in_audit_space(named.compressor)(evidence.base.x) - evidence.base.x
    assert found.error == pytest.approx(mean_power(lost), rel=1e-5)
    assert found.maps[0].error[:, 4:].sum() > 1.5 * found.error[:, 4:].sum()


def test_exemplars_are_failing_channels_of_the_mode_with_their_reconstruction(
    evidence: Evidence,
) -> None:
    named = evidence.compressors[0]
    tail = tail_of(evidence, named.name, 0.85)
    shown = modes_of_compressor(named, tail, evidence).exemplars
    mine = [e for e in shown if e.mode == 0]
    assert len(mine) == EXEMPLARS
    assert {e.source for e in mine} == {"real"}
    assert [e.nmse for e in mine] == sorted(e.nmse for e in mine)
    for e in mine:
        assert e.nmse == evidence.real.nmse(named.name)[e.index] > 10 ** (tail.tau_db / 10)
        assert np.square(e.x_hat - e.x).sum() / np.square(e.x).sum() == pytest.approx(e.nmse)


def test_without_real_failures_exemplars_are_base_samples(evidence: Evidence) -> None:
    named = evidence.compressors[0]
    calm = evidence.real.nmse(named.name).argsort()[:200].copy()
    few = replace(
        evidence,
        channels=evidence.channels.subset(torch.from_numpy(calm)),
        real=measure(evidence.real.x[calm], evidence.compressors,
                     ChannelDomain.of(evidence.channels)),
    )  # fmt: skip
    tail = tail_of(evidence, named.name, 0.85)
    found = modes_of_compressor(named, tail, few)
    assert {e.source for e in found.exemplars} == {"base"}
    assert found.report.modes[0].share_real is None
    assert found.report.modes[0].confirmation in ("not confirmed", "cannot tell")


def test_strata_use_the_label_of_real_channels(evidence: Evidence) -> None:
    named = evidence.compressors[0]
    strata = modes_of_compressor(named, tail_of(evidence, named.name, 0.9), evidence).strata
    los = next(row for row in strata if row.name == "LOS")
    assert los.real is not None
    assert los.real.n == 60
    unlabelled = replace(evidence, channels=replace(evidence.channels, labels={}))
    again = modes_of_compressor(named, tail_of(evidence, named.name, 0.9), unlabelled).strata
    assert next(row for row in again if row.name == "LOS").how.startswith("Line of sight by a K")


def test_unknown_bandwidth_and_a_panel(draw_users: Draw, pair: list[NamedCompressor]) -> None:
    grid = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=8, panel=(1, 2, 4))
    real, base = (replace(draw_users(n, seed=n), grid=grid) for n in (200, 400))
    found = evidence_of(real, base, pair)
    name = pair[0].name
    told = modes_of_compressor(pair[0], tail_of(found, name, 0.85), found)
    assert told.report.delay_unit == "taps"
    assert "delay_spread_s" not in {row.feature for row in told.strata}
    assert told.error.shape == (8, 8)
    assert len(mode_axes(grid, 8).sin_azimuth) == 4
    if told.report.modes:
        assert "ns" not in told.report.modes[0].name


@pytest.mark.parametrize(("failing", "note"), [(0.0, "No base sample"), (1.0, "Every base sample")])
def test_none_and_all_failing(evidence: Evidence, failing: float, note: str) -> None:
    named = evidence.compressors[0]
    tail = replace(tail_of(evidence, named.name, 0.9), nmse_db=-90.0 if failing else 90.0)
    found = modes_of_compressor(named, tail, evidence)
    assert found.report.modes == ()
    assert found.report.note.startswith(note)
    assert found.strata
    assert (len(found.maps), len(found.exemplars)) == (0, 0)


def test_a_sample_of_the_failure_law_is_taken_with_its_weights(
    evidence: Evidence, draw_users: Draw
) -> None:
    """Failures of another draw, half of which are weighted away, at a level base samples miss."""
    named = evidence.compressors[0]
    other = audit_space(draw_users(6000, seed=9))
    audited = in_audit_space(named.compressor)
    with torch.inference_mode():
        lost = (audited(other) - other).square().flatten(1).sum(1) / other[0].square().sum()
    tau = float(torch.quantile(lost, 0.99))
    x = other[lost > tau]
    log_w = torch.zeros(len(x), dtype=torch.float64)
    log_w[::2] = -torch.inf
    given = failures_of(x, log_w, tau)
    tail = replace(tail_of(evidence, named.name, 0.9), nmse_db=10 * np.log10(tau))
    found = modes_of_compressor(named, tail, evidence, failures=given)
    count = len(x) - len(x[::2])
    assert found.report.n_failures == pytest.approx(count * 500 / (count + 500))
    assert found.report.modes
    assert found.report.modes[0].share.n == count + len(x[::2])
    power = mean_power(x[1::2]) if len(found.maps) == 1 else None
    inside = found.report.modes[0].share.value
    if power is not None and inside == 1:
        assert found.maps[0].power == pytest.approx(power, rel=1e-4)


def failures_of(x: Tensor, log_w: Tensor, tau: float, families: int | None = None) -> FailureSample:
    samples = WeightedSamples(x=x, log_w=log_w, law="failure", chain="subset simulation", tau=tau)
    return FailureSample(samples=samples, run=np.arange(len(x)) % (families or len(x)))


def test_mean_maps_are_weighted_means_in_blocks(evidence: Evidence) -> None:
    named, x = evidence.compressors[1], evidence.base.x
    w = np.random.default_rng(0).random((2, len(x)))
    w[1, 100:] = 0
    w /= w.sum(1, keepdims=True)
    audited = in_audit_space(named.compressor)
    everyone, mode = mean_maps(audited, x, list(w), "c")
    assert (everyone.mode, mode.mode) == (-1, 0)
    with torch.inference_mode():
        lost = audited(x) - x
    for found, weight in ((everyone, w[0]), (mode, w[1])):
        assert found.power == pytest.approx(mean_power(x, weight), rel=1e-6)
        assert found.error == pytest.approx(mean_power(lost, weight), rel=1e-5, abs=1e-9)


# --- The whole result -----------------------------------------------------------------------------


def whole(evidence: Evidence) -> tuple[Result, ReportArrays]:
    tau = thresholds(0.99, (-12.0,), len(evidence.channels))
    rows = tuple(
        compressor_row(named, evidence, tau=tau, tau_quantile=0.99, issgm=None)
        for named in evidence.compressors
    )
    result = Result(
        created="now", versions={}, seed=3, data=DataInfo(path="d.h5", sha256=None, n=300),
        base=BaseInfo(sha256=None), tau=tau, compressors=rows,
    )  # fmt: skip
    return result, arrays(evidence)


def test_every_compressor_gets_modes_and_the_arrays_their_maps(evidence: Evidence) -> None:
    before, drawn = whole(evidence)
    told, with_maps = with_failure_modes(before, drawn, evidence)
    assert [row.name for row in told.compressors] == [row.name for row in before.compressors]
    for row in told.compressors:
        assert row.modes is not None
        assert row.strata
        assert {s.threshold for s in row.strata} == {row.modes.threshold}
        assert row.name in with_maps.error_base
        maps = [m for m in with_maps.mode_maps if m.compressor == row.name]
        assert len(maps) == len(row.modes.modes)
    assert with_maps.exemplars[: len(drawn.exemplars)] == drawn.exemplars
    assert len(ReportArrays.from_flat(with_maps.to_flat()).mode_maps) == len(with_maps.mode_maps)


def test_the_rarest_threshold_with_enough_failures_is_looked_at(evidence: Evidence) -> None:
    before, drawn = whole(evidence)
    told, _ = with_failure_modes(before, drawn, evidence)
    for row in told.compressors:
        counts = {t.threshold: t.base.value * t.base.n for t in row.estimates.tails if t.base}
        enough = {name: k for name, k in counts.items() if k >= ENOUGH}
        wanted = min(enough, key=enough.__getitem__) if enough else max(
            counts, key=counts.__getitem__
        )  # fmt: skip
        assert row.modes is not None
        assert row.modes.threshold == wanted


def beyond(evidence: Evidence, draw_users: Draw, quantile: float) -> tuple[Tensor, float]:
    """Channels of another draw beyond a quantile of the real ones, and that level."""
    named = evidence.compressors[0]
    tau = float(np.quantile(evidence.real.nmse(named.name), quantile))
    x = audit_space(draw_users(6000, seed=9))
    lost = in_audit_space(named.compressor)(x) - x
    return x[lost.square().flatten(1).sum(1) / x.square().flatten(1).sum(1) > tau], tau


def test_a_failure_sample_decides_the_threshold_where_it_is_worth_more(
    evidence: Evidence, draw_users: Draw
) -> None:
    """At the own 99 % quantile few of 500 base samples fail; a sample of that law has enough."""
    before, drawn = whole(evidence)
    name = evidence.compressors[0].name
    x, tau = beyond(evidence, draw_users, 0.99)
    assert len(x) > ENOUGH > (evidence.base.nmse(name) > tau).sum()
    even = torch.zeros(len(x), dtype=torch.float64)
    told, _ = with_failure_modes(
        before, drawn, evidence, failures={name: failures_of(x, even, tau)}
    )
    first = told.compressors[0].modes
    assert first is not None
    assert first.nmse_db == pytest.approx(10 * np.log10(tau))
    assert first.threshold == "own 99 % quantile"
    assert first.n_failures > ENOUGH
    alone, _ = with_failure_modes(before, drawn, evidence)
    assert told.compressors[1:] == alone.compressors[1:]
    assert alone.compressors[0].modes is not None
    assert alone.compressors[0].modes.threshold != first.threshold


def test_a_failure_sample_finds_the_mode_that_many_base_samples_find(
    evidence: Evidence, draw_users: Draw, pair: list[NamedCompressor]
) -> None:
    """Without its part in the population, small boxes around a few failures would be the modes."""
    named, name = evidence.compressors[0], evidence.compressors[0].name
    x, tau = beyond(evidence, draw_users, 0.95)
    tail = tail_of(evidence, name, 0.95)
    given = failures_of(x, torch.zeros(len(x), dtype=torch.float64), tau)
    report = modes_of_compressor(named, tail, evidence, failures=given).report
    large = evidence_of(evidence.channels, draw_users(6000, seed=9), pair)
    wanted = modes_of_compressor(named, tail_of(large, name, 0.95), large).report.modes[0]
    first = report.modes[0]
    assert first.name == wanted.name
    assert first.share.value == pytest.approx(wanted.share.value, abs=0.15)
    assert first.population.value == pytest.approx(wanted.population.value, abs=0.03)


@pytest.mark.parametrize("families", [ENOUGH - 1, 0])
def test_a_failure_sample_of_few_families_is_left_aside(
    evidence: Evidence, draw_users: Draw, families: int
) -> None:
    before, drawn = whole(evidence)
    name = evidence.compressors[0].name
    x, tau = beyond(evidence, draw_users, 0.99)
    x = x if families else x[:0]
    given = failures_of(x, torch.zeros(len(x), dtype=torch.float64), tau, families)
    told, _ = with_failure_modes(before, drawn, evidence, failures={name: given})
    assert told.compressors == with_failure_modes(before, drawn, evidence)[0].compressors
