"""The published way of measuring, against sums written out; and the published figures."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat
from torch import Tensor

from channels import ChannelSet, CsiAuditError, load_channels
from compressors.published_numbers import PublishedNumber, all_published, published_for
from compressors.verification import Verification, stored_scale, verify_compressor

pytestmark = pytest.mark.unit

N = 23


def stored() -> np.ndarray[Any, np.dtype[np.float32]]:
    """Channels as COST2100 sets hold them: (N, 2, 32, 32) in [0, 1], users of different power."""
    draw = np.random.default_rng(0)
    h = draw.normal(size=(N, 2, 32, 32)) * np.exp(-0.4 * np.arange(32))
    h *= 10 ** draw.uniform(-1, 0, size=(N, 1, 1, 1))
    return (h / (2 * np.abs(h).max()) + 0.5).astype(np.float32)


def in_frequency(y: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """[32 beams, 125 subcarriers] of channels: 32 taps padded to 257, FFT."""
    taps = (y[:, 0] - 0.5) + 1j * (y[:, 1] - 0.5)
    return np.fft.fft(np.pad(taps, ((0, 0), (0, 0), (0, 225))), axis=2)[..., :125]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with both forms of a small test set."""
    folder = tmp_path_factory.mktemp("cost2100")
    y = stored()
    savemat(folder / "DATA_Htestin.mat", {"HT": y.reshape(N, 2048)})
    savemat(folder / "DATA_HtestFin_all.mat", {"HF_all": in_frequency(y).reshape(N, 4000)})
    return folder


@pytest.fixture(scope="module")
def channels(files: Path) -> ChannelSet:
    return load_channels(files / "DATA_Htestin.mat")


@pytest.fixture(scope="module")
def frequency(files: Path) -> ChannelSet:
    return load_channels(files / "DATA_HtestFin_all.mat")


def first_taps(y: Tensor) -> Tensor:
    """Keeps two taps at nine tenths."""
    kept = (torch.arange(32) < 2).float()
    return 0.5 + 0.9 * kept * (y - 0.5)


def test_reading_keeps_the_stored_scale(channels: ChannelSet) -> None:
    assert np.abs(stored_scale(channels).numpy() - stored()).max() < 1e-6
    assert float(channels.power_db.max() - channels.power_db.min()) > 5


@pytest.mark.parametrize("batch_size", [1, 5, 200])
def test_both_averages_and_rho(
    batch_size: int, channels: ChannelSet, frequency: ChannelSet
) -> None:
    """Sums in numpy on the stored numbers; the last batch of 5 has 3 channels."""
    y = stored().astype(np.float64)
    y_hat = first_taps(torch.from_numpy(y)).numpy()
    each = ((y - y_hat) ** 2).sum((1, 2, 3)) / ((y - 0.5) ** 2).sum((1, 2, 3))
    batches = [each[i : i + batch_size] for i in range(0, N, batch_size)]
    f, f_hat = in_frequency(y), in_frequency(y_hat)
    inner = np.abs((f.conj() * f_hat).sum(1))
    rho = inner / np.linalg.norm(f, axis=1) / np.linalg.norm(f_hat, axis=1)

    found = verify_compressor(first_taps, channels, frequency=frequency, batch_size=batch_size)
    assert (found.n, found.batch_size) == (N, batch_size)
    assert found.linear_db == pytest.approx(10 * np.log10(each.mean()), abs=1e-4)
    mean_of_db = np.mean([10 * np.log10(batch.mean()) for batch in batches])
    assert found.batches_db == pytest.approx(mean_of_db, abs=1e-4)
    assert found.rho == pytest.approx(rho.mean(), abs=1e-5)
    if batch_size == 1:  # by Jensen
        assert found.batches_db < found.linear_db - 0.02


def test_a_known_error(channels: ChannelSet) -> None:
    found = verify_compressor(lambda y: 0.5 + 0.9 * (y - 0.5), channels)
    assert found.linear_db == pytest.approx(-20, abs=1e-3)
    assert found.batches_db == pytest.approx(-20, abs=1e-3)
    assert found.rho is None


def test_batches_are_those_of_the_file(channels: ChannelSet) -> None:
    """Order and size, since published TransNet lets the users of a batch attend to each other."""
    seen: list[Tensor] = []

    def reconstruct(y: Tensor) -> Tensor:
        seen.append(y)
        return 0.5 + 0.5 * (y - 0.5)

    verify_compressor(reconstruct, channels, batch_size=10)
    assert [len(y) for y in seen] == [10, 10, 3]
    assert np.abs(torch.cat(seen).numpy() - stored()).max() < 1e-6


def test_a_wrong_pair(channels: ChannelSet, frequency: ChannelSet) -> None:
    message = rf"must hold the same users; got 9 of 32 antennas beside {N} of 32\. Both files"
    with pytest.raises(CsiAuditError, match=message):
        verify_compressor(first_taps, channels, frequency=frequency.subset(slice(0, 9)))
    with pytest.raises(CsiAuditError, match="must have 125 subcarriers; got 32"):
        verify_compressor(first_taps, channels, frequency=channels)
    with pytest.raises(CsiAuditError, match="batch_size must be at least 1; got 0"):
        verify_compressor(first_taps, channels, batch_size=0)


# --- Published figures ----------------------------------------------------------------------------


@pytest.mark.golden
@pytest.mark.parametrize(
    ("arch", "variant", "scenario", "figures"),
    [
        ("csinet", "", "indoor", {4: -17.36, 16: -8.65, 32: -6.24, 64: -5.84}),
        ("csinet", "", "outdoor", {4: -8.75, 16: -4.51, 32: -2.81, 64: -1.93}),
        ("crnet", "", "indoor", {4: -26.99, 8: -16.01, 16: -11.35, 32: -8.93, 64: -6.49}),
        ("crnet", "", "outdoor", {4: -12.70, 8: -8.04, 16: -5.44, 32: -3.51, 64: -2.22}),
        ("clnet", "", "indoor", {4: -29.16, 8: -15.60, 16: -11.15, 32: -8.95, 64: -6.34}),
        ("clnet", "", "outdoor", {4: -12.88, 8: -8.29, 16: -5.56, 32: -3.49, 64: -2.19}),
        ("acrnet", "1x", "indoor", {4: -27.16, 8: -15.34, 16: -10.36, 32: -8.60, 64: -6.51}),
        ("acrnet", "1x", "outdoor", {4: -10.71, 8: -7.85, 16: -5.19, 32: -3.31, 64: -2.29}),
        (
            "transnet",
            "400 epochs",
            "indoor",
            {4: -29.22, 8: -21.62, 16: -14.98, 32: -9.83, 64: -5.77},
        ),
        (
            "transnet",
            "400 epochs",
            "outdoor",
            {4: -13.99, 8: -9.57, 16: -6.90, 32: -3.77, 64: -2.20},
        ),
    ],
)
def test_the_published_table(
    arch: str, variant: str, scenario: Any, figures: dict[int, float]
) -> None:
    for ratio in (4, 8, 16, 32, 64):
        found = published_for(arch, ratio, scenario, variant=variant)
        assert [number.nmse_db for number in found] == [figures[r] for r in figures if r == ratio]


def test_the_table_is_consistent() -> None:
    """More bits and more channels never hurt a published figure; each says what it averages."""
    found = {(n.arch, n.variant, n.scenario, n.ratio): n for n in all_published()}
    assert len(found) == len(all_published()) == 78
    for (arch, variant, scenario, ratio), number in found.items():
        finer = found.get((arch, variant, scenario, ratio // 2))
        assert finer is None or finer.nmse_db < number.nmse_db
        if scenario == "indoor":
            assert number.nmse_db < found[arch, variant, "outdoor", ratio].nmse_db
        linear = arch in ("csinet", "acrnet")
        assert number.averaging == ("linear" if linear else "batches")


def test_several_variants_and_none() -> None:
    assert [n.variant for n in published_for("acrnet", 4, "indoor")] == ["1x", "10x", "20x"]
    assert published_for("crnet", 5, "indoor") == published_for("klt", 4, "indoor") == ()
    with pytest.raises(CsiAuditError, match="scenario must be indoor or outdoor; got 'in'"):
        published_for("crnet", 4, "in")  # type: ignore[arg-type]


@pytest.mark.parametrize(("averaging", "difference"), [("batches", -1.0), ("linear", 1.0)])
def test_a_figure_is_compared_with_its_own_average(averaging: Any, difference: float) -> None:
    measured = Verification(n=9, batch_size=3, batches_db=-11.0, linear_db=-9.0, rho=None)
    published = PublishedNumber(
        arch="crnet",
        variant="",
        ratio=4,
        scenario="indoor",
        nmse_db=-10.0,
        averaging=averaging,
        source="",
    )
    assert measured.against(published) == pytest.approx(difference)


def test_the_compressor_runs_in_inference_mode(channels: ChannelSet) -> None:
    """No gradient is kept over a test set."""

    def reconstruct(y: Tensor) -> Tensor:
        assert torch.is_inference_mode_enabled()
        return 0.5 * y + 0.25

    measured: Callable[..., Verification] = verify_compressor
    assert measured(reconstruct, channels).linear_db == pytest.approx(-6.02, abs=0.01)
