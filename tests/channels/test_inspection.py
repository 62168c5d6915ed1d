"""One pass over a file: facts and features as elsewhere, bad users counted, warnings in words."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from channels import (
    ChannelSet,
    CsiAuditError,
    Grid,
    audit_space,
    crop_delay,
    features,
    load_channels,
    to_angular_delay,
    unit_power,
    write_channels,
)
from channels import inspection as module
from channels.convention import Domain
from channels.inspection import Inspection, inspect_channels, users_in_both
from channels.opened import BLOCK, Opened, ReadOptions
from channels.readers import open_channels
from channels.sample import sample_path
from channels.scale_detection import ScalingFound, detect_scaling

unit = pytest.mark.unit


@pytest.fixture(scope="module")
def whole() -> Inspection:
    """The bundled sample, inspected."""
    return inspect_channels(sample_path())


def written(folder: Path, channels: ChannelSet, name: str = "users.h5") -> Path:
    write_channels(folder / name, channels, precision="float32", gzip_level=0)
    return folder / name


def only_warning(inspection: Inspection) -> str:
    (sentence,) = inspection.warnings
    return sentence


# --- A clean file ---------------------------------------------------------------------------------


@unit
def test_facts_and_features_are_those_of_the_loaded_set(
    sample: ChannelSet, whole: Inspection
) -> None:
    assert whole.shape == (2000, 1, 32, 32)
    assert (whole.n, whole.n_good, whole.n_drops) == (2000, 2000, 8)
    assert whole.grid == sample.grid
    assert whole.source == sample.source
    assert whole.share_los == pytest.approx(float(sample.label("is_los").double().mean()))
    assert whole.labels.keys() == sample.labels.keys()
    assert torch.equal(whole.power_db, sample.power_db)
    expected = features(sample)
    assert list(whole.features) == list(expected)
    for name, values in expected.items():
        torch.testing.assert_close(whole.features[name], values)
    x = audit_space(sample)
    for taps, loss in whole.crop_loss.items():
        torch.testing.assert_close(loss, crop_delay(x, taps)[1].float(), rtol=1e-4, atol=1e-6)
    power = x.double().square().unflatten(1, (1, 2)).sum((1, 2)).mean(0)
    assert whole.mean_power is not None
    torch.testing.assert_close(whole.mean_power, power, rtol=1e-5, atol=1e-9)
    assert whole.users_per_second > 0


@unit
def test_nothing_looks_wrong_with_the_sample(whole: Inspection) -> None:
    assert whole.warnings == ()
    assert whole.duplicates is None
    assert whole.keys is not None
    assert len(whole.keys.unique()) == 2000
    assert not whole.non_finite.any()
    assert not whole.zero.any()


@pytest.mark.parametrize("name", ["umi_val.mat", "umi_val_v73.mat", "umi_native_300.hdf5"])
def test_nothing_looks_wrong_with_quadriga_files(shared_data: Path, name: str) -> None:
    assert inspect_channels(shared_data / name).warnings == ()


@unit
def test_blocks_change_nothing(
    whole: Inspection, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample: ChannelSet
) -> None:
    """Blocks of 7 users, the last one short, give what large blocks give."""
    path = written(tmp_path, sample.subset(slice(0, 100)))
    large = inspect_channels(path)
    monkeypatch.setattr(module, "_VALUES", 7 * 32 * 32)
    told: list[tuple[int, int]] = []
    small = inspect_channels(path, progress=lambda done, n: told.append((done, n)))
    assert told == [*((7 * i, 100) for i in range(1, 15)), (100, 100)]
    for name, values in large.features.items():
        torch.testing.assert_close(small.features[name], values, rtol=1e-4, atol=1e-5)
    assert large.mean_power is not None
    assert small.mean_power is not None
    torch.testing.assert_close(small.mean_power, large.mean_power)
    assert [user.index for user in small.samples] == [user.index for user in large.samples]
    assert (small.warnings, small.source) == (large.warnings, large.source)


@unit
def test_the_file_is_read_once_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every user once, the users shown once more, and never many together."""
    reads: list[tuple[int, int]] = []

    def opening(path: Path, options: ReadOptions) -> Opened:
        opened = replace(open_channels(path, options), scaling="raw")

        def read(start: int, stop: int) -> np.ndarray:
            reads.append((start, stop))
            return opened.read(start, stop)

        return replace(opened, read=read)

    monkeypatch.setattr("channels.user_blocks.open_channels", opening)
    found = inspect_channels(sample_path())
    assert max(stop - start for start, stop in reads) <= BLOCK
    assert 2000 <= sum(stop - start for start, stop in reads) <= 2000 + len(found.samples) + 1


# --- Users to look at -----------------------------------------------------------------------------


@unit
def test_sample_users_stand_at_their_quantiles(sample: ChannelSet, whole: Inspection) -> None:
    spread = whole.features["delay_spread_s"]
    ranked, drawn = whole.samples[:3], whole.samples[3:]
    assert [user.quantile for user in ranked] == [0.01, 0.5, 0.99]
    for user in ranked:
        assert user.feature == "delay_spread_s"
        assert user.value == float(spread[user.index])
        assert float((spread < user.value).double().mean()) == pytest.approx(
            user.quantile, abs=0.01
        )
        power = to_angular_delay(sample.h[user.index]).abs().square().sum(0)
        torch.testing.assert_close(user.power, power / power.mean())
    assert [user.quantile for user in drawn] == [None] * 3
    assert len({user.index for user in whole.samples}) == 6


@unit
def test_the_seed_draws_other_users(sample: ChannelSet, tmp_path: Path) -> None:
    path = written(tmp_path, sample.subset(slice(0, 200)))
    found = [inspect_channels(path, seed=seed) for seed in (0, 0, 1)]
    one, again, other = ([user.index for user in f.samples] for f in found)
    assert one == again
    assert one[:3] == other[:3]
    assert not set(one[3:]) & set(other[3:])


@unit
def test_a_lone_user_of_one_coefficient(tmp_path: Path) -> None:
    np.save(tmp_path / "one.npy", np.full((1, 1, 1, 1), 3 + 4j))
    found = inspect_channels(tmp_path / "one.npy", options=ReadOptions(axes="user,rx,tx,sub"))
    assert found.shape == (1, 1, 1, 1)
    assert [user.index for user in found.samples] == [0]
    assert found.keys is None
    assert found.duplicates is None
    assert found.crop_loss == {}


# --- Bad users ------------------------------------------------------------------------------------


def with_bad_users(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["h"][3, 0, 1, 2] = np.nan
        file["h"][5] = 0
        file["h"][6] = 0
        file["h"][8, 1] = np.inf


@unit
def test_bad_users_are_counted_and_left_out(sample: ChannelSet, tmp_path: Path) -> None:
    path = written(tmp_path, sample.subset(slice(0, 50)))
    with_bad_users(path)
    found = inspect_channels(path)
    assert found.non_finite.nonzero().flatten().tolist() == [3, 8]
    assert found.zero.nonzero().flatten().tolist() == [5, 6]
    good = [i for i in range(50) if i not in (3, 5, 6, 8)]
    expected = features(sample.subset(good))
    for name, values in expected.items():
        torch.testing.assert_close(found.features[name], values, rtol=1e-4, atol=1e-5)
    assert torch.equal(found.power_db, sample.power_db[good])
    assert {user.index for user in found.samples} <= set(good)
    assert only_warning(found) == (
        "Of 50 users, 2 hold NaN or Inf (first: user 3) and 2 hold zeros alone (first: user 5). "
        "They are left out here; every other command refuses the file until they are taken out."
    )
    refused = pytest.raises(CsiAuditError, match=r"2 of 50 users \(index 3, 8\) hold NaN or Inf")
    with refused, np.errstate(invalid="ignore"):
        load_channels(path)


@unit
def test_a_file_without_any_channel(sample: ChannelSet, tmp_path: Path) -> None:
    path = written(tmp_path, sample.subset(slice(0, 4)))
    with h5py.File(path, "r+") as file:
        file["h"][:] = 0
    found = inspect_channels(path)
    assert (found.n, found.n_good, found.features, found.samples) == (4, 0, {}, ())
    assert (found.mean_power, found.crop_loss, found.keys) == (None, {}, None)
    assert found.warnings[0].startswith("Of 4 users, 4 hold zeros alone (first: user 0).")


# --- Duplicates -----------------------------------------------------------------------------------


def joined(*parts: ChannelSet) -> ChannelSet:
    return ChannelSet(
        h=torch.cat([part.h[:] for part in parts]),
        power_db=torch.cat([part.power_db for part in parts]),
        grid=parts[0].grid,
    )


@unit
def test_duplicates_are_found_up_to_scale(sample: ChannelSet, tmp_path: Path) -> None:
    some = sample.subset(slice(0, 300))
    h = joined(some, some.subset([7, 11, 7])).h[:].numpy()
    h[300:] *= np.array([3.1, 1e-4, 1e3])[:, None, None, None]
    np.save(tmp_path / "h.npy", h)
    found = inspect_channels(tmp_path / "h.npy", options=ReadOptions(axes="user,rx,tx,sub"))
    assert found.duplicates is not None
    assert found.duplicates.count == 3
    assert found.duplicates.first == (300, 7)
    assert only_warning(found) == (
        "3 users repeat the channel of an earlier one, up to scale and phase; the first is user "
        "300, like user 7. Counts and intervals take users for independent: remove them."
    )


@unit
@pytest.mark.parametrize("turn", [3j, complex(math.cos(0.5), math.sin(0.5)), -1])
def test_another_phase_is_the_same_user(sample: ChannelSet, tmp_path: Path, turn: complex) -> None:
    h = sample.h[:300].numpy()
    np.save(tmp_path / "h.npy", np.concatenate((h, turn * h[7:8])))
    found = inspect_channels(tmp_path / "h.npy", options=ReadOptions(axes="user,rx,tx,sub"))
    assert found.duplicates is not None
    assert (found.duplicates.count, found.duplicates.first) == (1, (300, 7))


@unit
def test_a_mirrored_array_is_another_user(sample: ChannelSet, tmp_path: Path) -> None:
    some = sample.subset(slice(0, 300))
    mirrored = replace(some, h=some.h[:].flip(2))
    assert inspect_channels(written(tmp_path, joined(some, mirrored))).duplicates is None


@unit
def test_equal_keys_of_different_channels_are_no_duplicates(
    sample: ChannelSet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "channel_keys", lambda h: torch.arange(len(h)) // 2)
    assert inspect_channels(written(tmp_path, sample.subset(slice(0, 100)))).duplicates is None


@unit
def test_users_of_two_files_are_matched(
    whole: Inspection, sample: ChannelSet, tmp_path: Path
) -> None:
    part = inspect_channels(written(tmp_path, sample.subset(slice(100, 350))))
    assert users_in_both(whole, part) == 250
    assert users_in_both(part, whole) == 250
    cropped = replace(
        sample, h=unit_power(sample.h[..., :16])[0], grid=replace(sample.grid, n_sub=16)
    )
    other = inspect_channels(written(tmp_path, cropped, "cropped.h5"))
    assert users_in_both(whole, other) is None


def test_users_are_known_again_in_another_format(shared_data: Path) -> None:
    """Users computed from float32 paths are those of the simulator's own matrix."""
    one, two = (
        inspect_channels(shared_data / name)
        for name in ("umi_native_300_fr.mat", "umi_native_300.hdf5")
    )
    assert users_in_both(one, two) == pytest.approx(300, abs=3)


# --- Domains and axes -----------------------------------------------------------------------------


@unit
@pytest.mark.parametrize("axes", ["user,rx,tx,sub", "user,rx,beam,delay"])
def test_channels_of_another_domain_are_told(sample: ChannelSet, tmp_path: Path, axes: str) -> None:
    """Beams and taps read as antennas and subcarriers, and the other way round."""
    h = sample.h[:400]
    spatial = axes.endswith("sub")
    np.save(tmp_path / "h.npy", (to_angular_delay(h) if spatial else h).numpy())
    found = only_warning(inspect_channels(tmp_path / "h.npy", options=ReadOptions(axes=axes)))
    other = "beam,delay" if spatial else "tx,sub"
    assert found.startswith("These look like ")
    assert f"--axes user,{other} or alike" in found
    said = ReadOptions(axes=f"user,rx,{other}")
    assert inspect_channels(tmp_path / "h.npy", options=said).warnings == ()


@unit
def test_swapped_axes_are_told(sample: ChannelSet, tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", sample.h[:400].mT.numpy())
    wrong, right = (
        inspect_channels(tmp_path / "h.npy", options=ReadOptions(axes=axes))
        for axes in ("user,rx,tx,sub", "user,rx,sub,tx")
    )
    assert "are antennas and subcarriers swapped? Name the axes" in only_warning(wrong)
    assert right.warnings == ()


@unit
def test_noise_is_in_no_other_domain(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.save(tmp_path / "h.npy", rng.normal(size=(300, 1, 32, 64)).view(complex))
    found = inspect_channels(tmp_path / "h.npy", options=ReadOptions(axes="user,rx,tx,sub"))
    assert only_warning(found).endswith("Name the axes (--axes). Noise looks alike.")


# --- What else looks wrong ------------------------------------------------------------------------


@unit
def test_conjugated_channels_run_backwards(sample: ChannelSet, tmp_path: Path) -> None:
    h = sample.h[:500].conj().resolve_conj()
    found = inspect_channels(written(tmp_path, replace(sample.subset(slice(0, 500)), h=h)))
    assert "do delays run backwards (conjugated channels" in only_warning(found)


@unit
def test_clipped_channels_are_told(sample: ChannelSet, tmp_path: Path) -> None:
    planes = np.stack((sample.h[:500].real.numpy(), sample.h[:500].imag.numpy()))
    clipped = planes.clip(-1.5, 1.5)
    for name, (re, im) in {"clipped": clipped, "plain": planes}.items():
        np.save(tmp_path / f"{name}.npy", re + 1j * im)
    axes = ReadOptions(axes="user,rx,tx,sub")
    assert inspect_channels(tmp_path / "plain.npy", options=axes).warnings == ()
    found = only_warning(inspect_channels(tmp_path / "clipped.npy", options=axes))
    assert "are exactly 1.5 or -1.5, with next to none close by: clipped?" in found


def faded(sample: ChannelSet, index: slice) -> ChannelSet:
    """The same users with half the delays: h(f/2), interpolated."""
    some = sample.subset(index)
    k = np.arange(32)
    h = some.h[:].numpy()
    re, im = (
        np.apply_along_axis(lambda v: np.interp(k / 2, k, v), 3, part) for part in (h.real, h.imag)
    )
    unit_h = unit_power(torch.complex(torch.from_numpy(re), torch.from_numpy(im)))[0]
    return replace(some, h=unit_h)


@unit
def test_two_scenarios_one_after_the_other(sample: ChannelSet, tmp_path: Path) -> None:
    both = joined(sample.subset(slice(0, 400)), faded(sample, slice(400, 700)))
    sentence = only_warning(inspect_channels(written(tmp_path, both)))
    assert sentence.startswith("Users before and after about number ")
    place = int(sentence.split()[6])
    assert abs(place - 400) < 60
    assert "look like different scenarios: median " in sentence


@unit
def test_an_uncertain_scaling_is_a_warning(
    tmp_path: Path, sample: ChannelSet, monkeypatch: pytest.MonkeyPatch
) -> None:
    def doubtful(values: torch.Tensor, domain: Domain) -> ScalingFound:
        return replace(detect_scaling(values, domain), certain=False, evidence="Who knows.")

    monkeypatch.setattr("channels.reading.detect_scaling", doubtful)
    np.save(tmp_path / "h.npy", sample.h[:400].numpy())
    found = inspect_channels(tmp_path / "h.npy", options=ReadOptions(axes="user,rx,tx,sub"))
    assert only_warning(found) == "The scaling is not certain. Who knows."
    assert "Who knows." in found.source.notices


@unit
def test_what_the_reader_saw_is_a_warning_and_no_note(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sample: ChannelSet
) -> None:
    def opening(path: Path, options: ReadOptions) -> Opened:
        opened = open_channels(path, options)
        return replace(opened, notices=("A note.",), cautions=("Delays have wrapped.",))

    monkeypatch.setattr("channels.user_blocks.open_channels", opening)
    found = inspect_channels(written(tmp_path, sample.subset(slice(0, 100))))
    assert only_warning(found) == "Delays have wrapped."
    assert "A note." in found.source.notices
    assert "Delays have wrapped." not in found.source.notices


@unit
def test_magnitudes_are_a_warning(tmp_path: Path, sample: ChannelSet) -> None:
    np.save(tmp_path / "h.npy", sample.h[:400].abs().to(torch.complex64).numpy())
    found = inspect_channels(tmp_path / "h.npy", options=ReadOptions(axes="user,rx,tx,sub"))
    assert any(line.startswith("Every imaginary part is 0") for line in found.warnings)


# --- Options and errors ---------------------------------------------------------------------------


@unit
def test_options_and_panel_reach_the_reader(sample: ChannelSet, tmp_path: Path) -> None:
    np.save(tmp_path / "h.npy", sample.h[:60].numpy())
    options = ReadOptions(axes="user,rx,tx,sub", bandwidth_hz=2e7)
    found = inspect_channels(tmp_path / "h.npy", options=options, panel=(2, 1, 16))
    assert (found.grid.bandwidth_hz, found.grid.panel) == (2e7, (2, 1, 16))
    loaded = load_channels(
        tmp_path / "h.npy", axes="user,rx,tx,sub", bandwidth_hz=2e7, panel=(2, 1, 16)
    )
    for name, values in features(loaded).items():
        torch.testing.assert_close(found.features[name], values, rtol=1e-4, atol=1e-5)
    with pytest.raises(CsiAuditError, match=r"h\.npy: panel must multiply to the 32 transmit"):
        inspect_channels(tmp_path / "h.npy", options=options, panel=(2, 2, 2))


@unit
def test_a_loader_is_inspected_too(tmp_path: Path) -> None:
    code = (
        "from channels import load_channels\n"
        "from channels.sample import sample_path\n"
        "def some():\n    return load_channels(sample_path()).subset(slice(0, 80))\n"
    )
    (tmp_path / "mine.py").write_text(code)
    found = inspect_channels(f"{tmp_path / 'mine.py'}:some")
    assert (found.n, found.n_good, found.warnings) == (80, 80, ())
    assert len(found.samples) == 6


@unit
def test_what_names_a_loader_is_told_as_in_reading(
    monkeypatch: pytest.MonkeyPatch, sample: ChannelSet
) -> None:
    """A path with a colon is a file that is not there, and a module's name is a loader."""
    with pytest.raises(CsiAuditError, match=r"C:/a b\.h5 does not exist"):
        inspect_channels("C:/a b.h5")
    monkeypatch.setattr("channels.user_blocks.load_channels", lambda spec, **_: sample)
    assert inspect_channels("my.module:users").source == sample.source


@unit
def test_bad_users_of_a_loader_are_refused(tmp_path: Path) -> None:
    code = "import numpy as np\ndef some():\n    return np.zeros((3, 4, 8), complex)\n"
    (tmp_path / "mine.py").write_text(code)
    with pytest.raises(CsiAuditError, match=r"3 of 3 users .* are all zero"):
        inspect_channels(f"{tmp_path / 'mine.py'}:some")


@unit
def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"no\.h5 does not exist"):
        inspect_channels(tmp_path / "no.h5")


@unit
def test_several_receive_antennas(make_channels: Callable[..., ChannelSet], tmp_path: Path) -> None:
    channels = make_channels(n=20, n_rx=2, n_tx=8, n_sub=16)
    found = inspect_channels(written(tmp_path, channels))
    assert found.shape == (20, 2, 8, 16)
    assert found.samples[0].power.shape == (8, 16)
    assert found.mean_power is not None
    assert float(found.mean_power.sum()) == pytest.approx(2 * 8 * 16, rel=1e-4)


@unit
def test_unknown_bandwidth_shows_users_by_effective_paths(
    make_channels: Callable[..., ChannelSet], tmp_path: Path
) -> None:
    unknown = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=16)
    channels = replace(make_channels(n=20, n_tx=8, n_sub=16), grid=unknown)
    found = inspect_channels(written(tmp_path, channels))
    assert {user.feature for user in found.samples} == {"effective_paths"}
