"""Features against channels of known spread, and against the simulator's labels."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import spearmanr
from torch import Tensor

from channels import (
    FEATURES,
    ChannelSet,
    CsiAuditError,
    Grid,
    audit_space,
    features,
    features_of_maps,
    flip_array,
    load_channels,
    physical_features,
    stack_real,
    to_angular_delay,
)
from channels import feature_formulas as formulas
from channels.randomness import seeded_generator

GRID = Grid(carrier_hz=2.655e9, bandwidth_hz=1e7, n_sub=32)


def path(delay_s: float, u: float) -> Tensor:
    """Audit-space channel of one path, (1, 2, 32, 32)."""
    a, k = torch.arange(32.0)[:, None], torch.arange(32.0)[None]
    phase = math.pi * u * a - 2 * math.pi * k * (1e7 / 32) * delay_s
    return stack_real(to_angular_delay(torch.polar(torch.ones(32, 32), phase)[None, None]))


@pytest.mark.unit
@pytest.mark.parametrize("delay_s", [0.0, 30e-9, 50e-9, 250e-9, 1230e-9])
def test_one_path_has_no_spread(delay_s: float) -> None:
    """Whatever its place between taps and beams: leakage does not count as spread."""
    found = features_of_maps(path(delay_s, 0.33), GRID)
    assert float(found["delay_spread_s"]) < 12e-9
    assert float(found["azimuth_spread_deg"]) < 0.1


@pytest.mark.unit
@pytest.mark.parametrize(("late_s", "power"), [(200e-9, 1.0), (430e-9, 0.5), (1e-6, 0.1)])
def test_delay_spread_of_two_paths(late_s: float, power: float) -> None:
    """Orthogonal in angle: RMS = late sqrt(P) / (1 + P) exactly."""
    x = path(20e-9, 0.0) + math.sqrt(power) * path(20e-9 + late_s, 0.5)
    truth = late_s * math.sqrt(power) / (1 + power)
    assert float(features_of_maps(x, GRID)["delay_spread_s"]) == pytest.approx(truth, rel=0.03)


@pytest.mark.unit
def test_azimuth_spread_of_two_paths() -> None:
    """Equal paths at u = +-1/16, one tap grid apart: |rho| = cos(pi/16)."""
    x = path(0.0, 1 / 16) + path(5e-7, -1 / 16)
    truth = math.degrees(math.sqrt(-2 * math.log(math.cos(math.pi / 16))) / math.pi)
    assert float(features_of_maps(x, GRID)["azimuth_spread_deg"]) == pytest.approx(truth, rel=1e-3)


@pytest.mark.unit
def test_azimuth_spread_grows_off_broadside() -> None:
    """1/cos of the mean azimuth turns the spread of u into degrees."""
    broadside = features_of_maps(path(0.0, 1 / 16) + path(5e-7, -1 / 16), GRID)
    oblique = features_of_maps(path(0.0, 11 / 16) + path(5e-7, 9 / 16), GRID)
    ratio = float(oblique["azimuth_spread_deg"] / broadside["azimuth_spread_deg"])
    assert ratio == pytest.approx(1 / math.sqrt(1 - (10 / 16) ** 2), rel=1e-3)


@pytest.mark.unit
@pytest.mark.parametrize("delay_s", [0.0, 37e-9, 1234e-9, -150e-9])
@pytest.mark.parametrize("u", [0.0, 0.033, -0.71, 0.99])
def test_one_path_is_the_dominant_one(delay_s: float, u: float) -> None:
    """Between taps and beams alike, and nothing beside it."""
    found = features_of_maps(path(delay_s, u), GRID)
    assert float(found["dominant_delay_s"]) == pytest.approx(delay_s, abs=0.3e-9)
    assert float(found["dominant_beam"]) == pytest.approx(u, abs=2e-4)
    assert float(found["spatial_correlation"]) == pytest.approx(1.0, abs=1e-5)
    assert float(found["k_factor_db"]) > 35


@pytest.mark.unit
def test_the_stronger_path_is_the_dominant_one() -> None:
    """And K is the ratio of powers, where another tap apart carries the rest."""
    x = 0.5 * path(110e-9, -0.6) + path(930e-9, 0.4)
    found = features_of_maps(x, GRID)
    assert float(found["dominant_delay_s"]) == pytest.approx(930e-9, abs=5e-9)
    assert float(found["dominant_beam"]) == pytest.approx(0.4, abs=2e-3)
    assert float(found["k_factor_db"]) == pytest.approx(10 * math.log10(4), abs=0.3)


@pytest.mark.unit
def test_spatial_correlation_of_two_paths() -> None:
    """Equal paths at u = +-1/8, orthogonal in delay: |rho| = cos(pi/8)."""
    x = path(0.0, 1 / 8) + path(5e-7, -1 / 8)
    found = float(features_of_maps(x, GRID)["spatial_correlation"])
    assert found == pytest.approx(math.cos(math.pi / 8), rel=1e-5)


@pytest.mark.unit
def test_early_and_edge_energy_count_taps() -> None:
    """Of 32 taps the first 8 are early and the last 4 the edge; of 12 the first 3 and the last."""
    x = torch.zeros(1, 2, 4, 32)
    x[0, 0, 1, [0, 7, 8, 27, 28, 31]] = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    found = features_of_maps(x, GRID)
    assert float(found["early_energy"]) == pytest.approx((1 + 4) / 91)
    assert float(found["edge_energy"]) == pytest.approx((25 + 36) / 91)
    cropped = features_of_maps(x[..., :16], GRID)
    assert float(cropped["early_energy"]) == pytest.approx((1 + 4) / 14)
    assert float(cropped["edge_energy"]) == 0.0
    few = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=12)
    found = features_of_maps(torch.ones(1, 2, 4, 12), few)
    assert float(found["early_energy"]) == pytest.approx(3 / 12)
    assert float(found["edge_energy"]) == pytest.approx(1 / 12)


def in_noise(x: Tensor, snr_db: float) -> Tensor:
    """x with white noise `snr_db` below each user's power."""
    noise = torch.randn(x.shape, generator=seeded_generator(0, f"noise {snr_db}"))
    level = x.square().flatten(1).mean(1).sqrt() * 10 ** (-snr_db / 20)
    return x + level.view(-1, 1, 1, 1) * noise


@pytest.mark.statistical
def test_noise_leaves_the_delay_spread_alone(
    sample: ChannelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At 20 dB nine users in ten keep theirs within 10 %; without the floor the median doubles."""
    x = audit_space(sample.subset(slice(0, 2000, 5)))
    clean = features_of_maps(x, GRID)["delay_spread_s"]
    ratio = features_of_maps(in_noise(x, 20), GRID)["delay_spread_s"] / clean
    assert float(ratio.median()) == pytest.approx(1.0, abs=0.02)
    assert float(((ratio - 1).abs() < 0.1).double().mean()) > 0.9
    monkeypatch.setattr(formulas, "_noise_floor", lambda p, looks: torch.zeros(len(p), 1))
    bare = features_of_maps(x, GRID)["delay_spread_s"]
    lost = 1 - clean / bare  # what the floor takes from channels without noise
    assert float(lost.quantile(0.95)) < 0.03
    assert float(lost.max()) < 0.15
    assert float((features_of_maps(in_noise(x, 20), GRID)["delay_spread_s"] / bare).median()) > 1.6


@pytest.mark.unit
def test_effective_paths_and_peak_count_coefficients() -> None:
    x = torch.zeros(2, 2, 32, 32)
    x[0, 0, 3, 3] = 7.0
    x[1, 1, :4, :4] = 0.1
    found = features_of_maps(x, GRID)
    assert found["effective_paths"].tolist() == pytest.approx([1.0, 16.0], rel=1e-5)
    decibel = [10 * math.log10(1024), 10 * math.log10(1024 / 16)]
    assert found["peak_to_average_db"].tolist() == pytest.approx(decibel, rel=1e-5)


@pytest.mark.unit
def test_features_ignore_scale_phase_and_flip(sample: ChannelSet) -> None:
    x = audit_space(sample.subset(slice(50)))
    plain, other = features_of_maps(x, GRID), features_of_maps(-3 * flip_array(x), GRID)
    turned = (plain["dominant_beam"] + other["dominant_beam"] + 1) % 2 - 1
    assert float(turned.abs().max()) < 1e-4  # the flip mirrors the array
    for name in plain.keys() - {"dominant_beam"}:
        assert torch.allclose(plain[name], other[name], rtol=1e-3), name
    tiny = features_of_maps(1e-30 * x, GRID)
    for name in plain:
        assert torch.allclose(plain[name], tiny[name], rtol=1e-4), name


@pytest.mark.unit
def test_features_of_a_set_are_those_of_its_maps(sample: ChannelSet) -> None:
    part = sample.subset(slice(20))
    found, of_maps = features(part), features_of_maps(audit_space(part), part.grid)
    assert found.keys() == FEATURES.keys()
    for name, value in found.items():
        assert value.shape == (20,)
        assert value.dtype == torch.float32
        assert torch.equal(value, of_maps[name])
        assert FEATURES[name].definition.endswith(".")
        assert FEATURES[name].source


@pytest.mark.unit
def test_a_set_is_taken_piece_by_piece(sample: ChannelSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Never the audit space of more users than `_READ` coefficients hold; same values."""
    part, lengths = sample.subset(slice(50)), []

    def spy(channels: ChannelSet) -> Tensor:
        lengths.append(len(channels))
        return audit_space(channels)

    whole = features(part)
    monkeypatch.setattr(physical_features, "audit_space", spy)
    monkeypatch.setattr(physical_features, "_READ", 20 * 1024)
    pieces = features(part)
    assert lengths == [20, 20, 10]
    for name, value in whole.items():
        assert torch.allclose(value, pieces[name], rtol=1e-5, atol=1e-12), name


@pytest.mark.unit
def test_batch_size_changes_nothing(sample: ChannelSet) -> None:
    x = audit_space(sample.subset(slice(9)))
    together, alone = features_of_maps(x, GRID), features_of_maps(x[4:5], GRID)
    for name, value in together.items():
        assert torch.allclose(value[4:5], alone[name], rtol=1e-5, atol=1e-12), name


ALWAYS = {"effective_paths", "peak_to_average_db"}
ANGLES = {"azimuth_spread_deg", "dominant_beam", "spatial_correlation"}


@pytest.mark.unit
def test_what_cannot_be_known_is_left_out() -> None:
    def names(n_tx: int, n_sub: int, bandwidth_hz: float | None = 1e6) -> set[str]:
        grid = Grid(carrier_hz=None, bandwidth_hz=bandwidth_hz, n_sub=n_sub)
        return set(features_of_maps(torch.ones(1, 2, n_tx, n_sub), grid))

    assert names(32, 32) == FEATURES.keys()
    assert names(1, 8, None) == ALWAYS | {"early_energy", "edge_energy", "k_factor_db"}
    assert names(1, 7) == ALWAYS
    assert names(2, 3) == ALWAYS | ANGLES
    assert names(8, 1) == ALWAYS | ANGLES | {"k_factor_db"}
    column = Grid(carrier_hz=None, bandwidth_hz=1e6, n_sub=4, panel=(1, 8, 1))
    assert set(features_of_maps(torch.ones(1, 2, 8, 4), column)) == ALWAYS | {"k_factor_db"}


@pytest.mark.property
@settings(deadline=None)
@given(
    n_rx=st.integers(1, 3),
    n_tx=st.integers(1, 9),
    n_sub=st.integers(1, 17),
    kind=st.sampled_from(["constant map", "constant channel", "one coefficient", "noise"]),
    scale=st.sampled_from([1e-25, 1.0, 1e15]),
)
def test_no_channel_gives_nan(n_rx: int, n_tx: int, n_sub: int, kind: str, scale: float) -> None:
    grid = Grid(carrier_hz=None, bandwidth_hz=1e6, n_sub=n_sub)
    if kind == "constant channel":
        h = torch.ones(2, n_rx, n_tx, n_sub, dtype=torch.complex64)
        x = stack_real(to_angular_delay(h))
    elif kind == "noise":
        x = torch.randn(2, 2 * n_rx, n_tx, n_sub, generator=seeded_generator(0, "any"))
    else:
        x = torch.ones(2, 2 * n_rx, n_tx, n_sub)
        x[:, :, 1:, 1:] *= kind == "constant map"
    for name, value in features_of_maps(scale * x, grid).items():
        assert value.shape == (2,)
        assert value.isfinite().all(), name


@pytest.mark.unit
def test_receive_antennas_are_pooled(sample: ChannelSet) -> None:
    """A second antenna that sees the same, at another gain and phase, tells nothing new."""
    x = audit_space(sample.subset(slice(40)))
    turned = torch.stack([-0.5 * x[:, 1], 0.5 * x[:, 0]], 1)  # times j/2
    one, two = features_of_maps(x, GRID), features_of_maps(torch.cat([x, turned], 1), GRID)
    shared = one.keys() - {"effective_paths", "peak_to_average_db", "delay_spread_s"}
    for name in shared:
        assert torch.allclose(one[name], two[name], rtol=1e-3), name
    assert torch.allclose(one["delay_spread_s"], two["delay_spread_s"], rtol=0.05)  # lower floor
    ratio = (1 + 0.25) ** 2 / (1 + 0.25**2)
    assert torch.allclose(two["effective_paths"], ratio * one["effective_paths"], rtol=1e-4)


@pytest.mark.unit
def test_a_panel_sees_azimuth_along_its_columns(sample: ChannelSet) -> None:
    """Two polarisations of three rows, each the same line of antennas turned in phase."""
    h = sample.h[:40]
    turn = torch.polar(torch.ones(6), torch.tensor([0.0, 0.9, 1.8, 2.0, 2.9, 3.8]))
    panel = (turn[:, None, None] * h).unsqueeze(1).flatten(2, 3)  # (N, 1, 6 * 32, n_sub)
    grid = Grid(carrier_hz=2.655e9, bandwidth_hz=1e7, n_sub=32, panel=(2, 3, 32))
    whole = features_of_maps(stack_real(to_angular_delay(panel, grid.panel)), grid)
    line = features_of_maps(stack_real(to_angular_delay(h)), GRID)
    for name in line.keys() - {"effective_paths", "peak_to_average_db", "delay_spread_s"}:
        assert torch.allclose(line[name], whole[name], rtol=1e-3, atol=1e-10), name
    assert torch.allclose(line["delay_spread_s"], whole["delay_spread_s"], rtol=0.05)


@pytest.mark.unit
def test_the_modulus_of_a_wave_may_differ_between_polarisations() -> None:
    """K takes the moments within each polarisation: a slanted single wave is still one wave."""
    a = torch.arange(8.0).view(8, 1)
    wave = torch.polar(torch.ones(8, 16), 0.7 * a - 2 * math.pi * 3.3 / 16 * torch.arange(16.0))
    h = torch.cat([wave, 0.3 * wave])[None, None]
    known = Grid(carrier_hz=None, bandwidth_hz=1e6, n_sub=16, panel=(2, 1, 8))
    unknown = Grid(carrier_hz=None, bandwidth_hz=1e6, n_sub=16)
    found = features_of_maps(stack_real(to_angular_delay(h, known.panel)), known)
    assert float(found["k_factor_db"]) > 35
    assert float(features_of_maps(stack_real(to_angular_delay(h)), unknown)["k_factor_db"]) < 10


@pytest.mark.unit
def test_cropped_maps_count_as_zero() -> None:
    full = path(1e-7, 0.25)
    cropped = features_of_maps(full[..., :16], GRID)
    assert float(cropped["effective_paths"]) == pytest.approx(1.0, abs=1e-3)
    assert float(cropped["peak_to_average_db"]) == pytest.approx(10 * math.log10(1024), abs=1e-3)


@pytest.mark.unit
def test_wrong_inputs() -> None:
    with pytest.raises(CsiAuditError, match=r"at most grid\.n_sub = 32 delay taps; got"):
        features_of_maps(torch.ones(1, 2, 4, 33), GRID)
    with pytest.raises(CsiAuditError, match=r"x must have power.*1 of 1 users \(index 0\)"):
        features_of_maps(torch.zeros(1, 2, 4, 32), GRID)
    with pytest.raises(CsiAuditError, match="x must be finite; 1 of 1 users"):
        features_of_maps(torch.full((1, 2, 4, 32), float("inf")), GRID)


def follow_the_labels(channels: ChannelSet) -> None:
    found, is_los = features(channels), channels.label("is_los").bool()
    delay = spearmanr(found["delay_spread_s"], channels.label("delay_spread_s")).statistic
    azimuth = spearmanr(found["azimuth_spread_deg"], channels.label("asd_deg")).statistic
    assert delay > 0.98
    assert azimuth > 0.78
    ratio = found["delay_spread_s"].median() / channels.label("delay_spread_s").median()
    assert float(ratio) == pytest.approx(1.0, abs=0.05)
    found_k, label_k = found["k_factor_db"][is_los], channels.label("k_factor_db")[is_los]
    assert spearmanr(found_k, label_k).statistic > 0.90
    assert abs(float((found_k - label_k).median())) < 2.0
    ranks = found["k_factor_db"][~is_los]  # P(LOS above NLOS)
    assert float((found_k[:, None] > ranks).double().mean()) > 0.97


@pytest.mark.statistical
def test_features_follow_the_simulators_labels(sample: ChannelSet) -> None:
    """Rank correlations on real channels; `python -m benchmarks.features` measures them."""
    follow_the_labels(sample)


@pytest.mark.statistical
def test_features_follow_the_labels_of_validation(shared_data: Path) -> None:
    """And where users and base station stand: the dominant beam of line-of-sight users."""
    channels = load_channels(shared_data / "umi_val.mat").subset(slice(500))
    follow_the_labels(channels)
    los = channels.label("is_los").bool()
    place = channels.label("ue_pos_m")[los] - torch.tensor([0.0, 0.0, 10.0])
    truth = place[:, 1] / place.norm(dim=1)
    found = features(channels)
    error = (found["dominant_beam"][los] - truth + 1) % 2 - 1
    assert float(error.abs().quantile(0.9)) < 0.01  # a beam is 1/16 wide
    assert float(found["dominant_delay_s"][los].abs().quantile(0.9)) < 20e-9
