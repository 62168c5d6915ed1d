"""Published figures against measured ones, on a small stand-in of the COST2100 test set."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.io import savemat

from channels import CsiAuditError
from compressors import build_compressor
from compressors.published_checkpoints import _LAYOUTS
from compressors.published_numbers import published_for
from csi_audit import command_line, verify_command
from csi_audit.verify_command import Verified, VerifyConfig, verified, verify

N = 20

OWN_CODE = """
from channels import Convention

class FirstTaps:
    n_code = 512
    convention = Convention(scaling="sample_peak", scale=0.5, offset=0.5)

    def encode(self, y):
        return y[..., :8].flatten(1)

    def decode(self, z):
        y_hat = z.new_full((len(z), 2, 32, 32), 0.5)
        y_hat[..., :8] = z.unflatten(1, (2, 32, 8))
        return y_hat

    def bits(self, z):
        return None
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the test set in both forms and a class of one's own."""
    folder = tmp_path_factory.mktemp("cost2100")
    draw = np.random.default_rng(0)
    h = draw.normal(size=(N, 2, 32, 32)) * np.exp(-0.3 * np.arange(32))
    h *= 10 ** draw.uniform(-1, 0, size=(N, 1, 1, 1))
    y = (h / (2 * np.abs(h).max()) + 0.5).astype(np.float32)
    savemat(folder / "DATA_Htestin.mat", {"HT": y.reshape(N, 2048)})
    savemat(folder / "renamed.mat", {"HT": y.reshape(N, 2048)})
    taps = np.pad((y[:, 0] - 0.5) + 1j * (y[:, 1] - 0.5), ((0, 0), (0, 0), (0, 225)))
    f = np.fft.fft(taps, axis=2)[..., :125]
    savemat(folder / "DATA_HtestFin_all.mat", {"HF_all": f.reshape(N, 4000)})
    (folder / "own.py").write_text(OWN_CODE)
    return folder


@pytest.fixture
def checkpoint(files: Path, seeded_torch: None) -> Callable[..., str]:
    """A checkpoint of untrained weights in the layout of an architecture's authors."""

    def save(arch: str, **options: Any) -> str:
        own = build_compressor(arch, ratio=64, **options).state_dict()
        theirs = {_LAYOUTS[arch].theirs(name): value for name, value in own.items()}
        torch.save({"epoch": 1, "state_dict": theirs}, files / f"{arch}.pth")
        return str(files / f"{arch}.pth")

    return save


def settings(files: Path, *checkpoints: str, **others: Any) -> VerifyConfig:
    return VerifyConfig(
        **{"data": str(files / "DATA_Htestin.mat"), "checkpoint": checkpoints, **others}
    )


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arch", "options", "variants"),
    [
        ("crnet", {}, [""]),
        ("acrnet", {"expansion": 10}, ["10x"]),
        ("transnet", {}, ["400 epochs", "1000 epochs"]),
    ],
)
def test_a_checkpoint_tells_what_it_is_compared_with(
    arch: str,
    options: dict[str, Any],
    variants: list[str],
    files: Path,
    checkpoint: Callable[..., str],
) -> None:
    """Architecture, ratio and width from the file, the scenario from the name of the data."""
    rows = list(verified(settings(files, checkpoint(arch, **options), batch_size=8)))
    assert [row.published.variant for row in rows if row.published is not None] == variants
    for row in rows:
        assert (row.name, row.arch, row.ratio) == (f"{arch}.pth", arch, 64)
        assert row.published in published_for(arch, 64, "indoor")
        assert (row.measured.n, row.measured.batch_size) == (N, 8)
        assert row.measured.rho is None
        assert row.verdict() == "not reproduced"  # nobody has trained it


@pytest.mark.unit
def test_the_verdict_follows_the_difference(files: Path, checkpoint: Callable[..., str]) -> None:
    (row,) = verified(settings(files, checkpoint("crnet")))
    assert row.published is not None
    assert row.difference_db == row.measured.batches_db - row.published.nmse_db

    def moved(by: float) -> Verified:
        assert row.published is not None
        level = row.measured.batches_db - by
        return replace(row, published=replace(row.published, nmse_db=level))

    assert [moved(by).verdict() for by in (0.04, -0.04)] == ["reproduced"] * 2
    assert [moved(by).verdict() for by in (0.06, -0.06)] == ["not reproduced"] * 2
    assert replace(row, published=None).verdict() == "none published"
    linear = replace(row, published=replace(row.published, averaging="linear"))
    assert linear.difference_db == row.measured.linear_db - row.published.nmse_db


@pytest.mark.unit
def test_any_compressor_can_be_measured(files: Path) -> None:
    """A class of one's own beside the figures of an architecture; each user keeps his power."""
    spec = f"{files / 'own.py'}:FirstTaps"
    frequency = str(files / "DATA_HtestFin_all.mat")
    (row,) = verified(settings(files, spec, arch="csinet", ratio=4, data_frequency=frequency))
    kept = 1 - np.exp(-0.6 * 8)  # of the taps' mean power
    assert row.measured.linear_db == pytest.approx(10 * np.log10(1 - kept), abs=0.3)
    assert row.measured.rho is not None
    assert 0.98 < row.measured.rho < 1
    assert row.published in published_for("csinet", 4, "indoor")
    (row,) = verified(settings(files, spec))
    assert (row.arch, row.ratio, row.published) == (None, 4, None)


@pytest.mark.end_to_end
def test_the_table_is_printed(
    files: Path,
    checkpoint: Callable[..., str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    both = checkpoint("crnet"), checkpoint("transnet")
    frequency = str(files / "DATA_HtestFin_all.mat")
    verify(settings(files, *both, scenario="outdoor", data_frequency=frequency))
    out = capsys.readouterr().out
    lines = out.splitlines()
    assert "crnet.pth: measured on 20 channels." in lines
    assert "DATA_Htestin.mat, outdoor" in out
    assert "mean of batch dB (200 a batch)" in out
    rows = [line for line in lines if "not reproduced" in line]
    published = ("-2.22", "-2.20", "-2.62")
    assert all(figure in row for figure, row in zip(published, rows, strict=True))
    assert "TransNet is measured as its authors' code runs" in out


@pytest.mark.unit
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"arch": "clnet"}, r"arch must be that of .*crnet\.pth, crnet; got clnet"),
        ({"ratio": 4}, r"ratio must be that of .*crnet\.pth, 64(\.0)?; got 4"),
        ({"data": "renamed.mat"}, r"scenario must be given \(indoor or outdoor\): the name of"),
        (
            {"data": "DATA_HtestFin_all.mat", "scenario": "indoor"},
            r"has no variable 'HT'\. Choose from: HF_all",
        ),
        ({"data_frequency": "DATA_Htestin.mat"}, r"has no variable 'HF_all'\. Choose from: HT"),
        ({"data": "missing_Htestin.mat"}, r"missing_Htestin\.mat"),
        ({"data": "nope.mat"}, r"nope\.mat does not exist\."),
    ],
)
def test_what_does_not_fit(
    changed: dict[str, Any], message: str, files: Path, checkpoint: Callable[..., str]
) -> None:
    places = {
        name: str(files / value) if name.startswith("data") else value
        for name, value in changed.items()
    }
    with pytest.raises(CsiAuditError, match=message):
        list(verified(settings(files, checkpoint("crnet"), **places)))


@pytest.mark.unit
def test_ratio_of_ones_own(files: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"ratio must be that of .*own\.py:FirstTaps, 4; got 8"):
        list(verified(settings(files, f"{files / 'own.py'}:FirstTaps", ratio=8)))


@pytest.mark.unit
@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"checkpoint": ()}, r"checkpoint must be a tuple of at least one file; got \(\)"),
        ({"checkpoint": "a.pth"}, r"checkpoint must be a tuple of at least one file; got 'a\.pth'"),
        ({"batch_size": 0}, "batch_size must be at least 1; got 0"),
        ({"threads": 0}, "threads must be at least 1; got 0"),
    ],
)
def test_settings_are_checked(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        VerifyConfig(**{"data": "a.mat", "checkpoint": ("a.pth",), **changed})


@pytest.mark.unit
def test_settings_from_the_command_line() -> None:
    """Several files bare or by flag; everything else by flag."""
    command = command_line._Command(VerifyConfig, verify_command.verify, "checkpoint", "verify")
    words = ["in_04.pth", "in_08.pth", "--data", "DATA_Htestin.mat", "--data-frequency=f.mat"]
    words += ["--arch", "crnet", "--ratio", "4", "--scenario", "indoor", "--batch-size", "100"]
    assert command_line._settings("verify", command, words) == VerifyConfig(
        checkpoint=("in_04.pth", "in_08.pth"),
        data="DATA_Htestin.mat",
        data_frequency="f.mat",
        arch="crnet",
        ratio=4,
        scenario="indoor",
        batch_size=100,
    )
    by_flag = ["--checkpoint", "a.pth", "--checkpoint", "b.pth", "--data", "d.mat"]
    read = command_line._settings("verify", command, by_flag)
    assert read.checkpoint == ("a.pth", "b.pth")
    with pytest.raises(CsiAuditError, match="--scenario must be one of indoor, outdoor; got in"):
        command_line._settings("verify", command, [*by_flag, "--scenario", "in"])
