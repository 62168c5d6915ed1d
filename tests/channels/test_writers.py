"""Compact HDF5 out, and the bundled sample with its card."""

import dataclasses
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
import torch

from channels import ChannelSet, CsiAuditError, file_sha256, load_channels, write_channels
from channels.sample import make_sample, sample_path


@pytest.mark.unit
def test_written_channels_come_back(tmp_path: Path, make_channels: Any) -> None:
    channels = make_channels(n=7, n_rx=2)
    write_channels(tmp_path / "a.h5", channels)
    again = load_channels(tmp_path / "a.h5")
    error = (again.h - channels.h).abs().square().sum() / channels.h.abs().square().sum()
    assert float(error) < 1e-6
    assert torch.equal(again.power_db, channels.power_db)
    assert again.grid == channels.grid
    assert again.labels.keys() == channels.labels.keys()
    for name, label in channels.labels.items():
        assert torch.equal(again.label(name), label)
        assert again.label(name).dtype == label.dtype


@pytest.mark.unit
def test_every_label_comes_back(tmp_path: Path, make_channels: Any) -> None:
    channels = make_channels(n=5)
    generator = torch.Generator().manual_seed(0)
    labels = {
        "zone": torch.tensor([3, 1, 2, 2**60, -1]),
        "indoor": torch.arange(5) % 2 == 0,
        "angles_deg": torch.randn(5, 2, 3, generator=generator),
        "time_s": torch.linspace(0, 1, 5, dtype=torch.float64) / 3,
        "ue_pos": torch.randn(5, 3, generator=generator),
        "ue_pos_m": torch.randn(5, 3, generator=generator),
        **channels.labels,
    }
    full = dataclasses.replace(channels, labels=labels)
    write_channels(tmp_path / "a.h5", full)
    again = load_channels(tmp_path / "a.h5")
    assert again.labels.keys() == labels.keys()
    for name, label in labels.items():
        assert torch.equal(again.label(name), label)
        assert again.label(name).dtype == label.dtype
    turned = dataclasses.replace(full, labels=dict(reversed(labels.items())))
    write_channels(tmp_path / "b.h5", turned)
    assert file_sha256(tmp_path / "b.h5") == file_sha256(tmp_path / "a.h5")


@pytest.mark.unit
def test_file_has_the_documented_layout(tmp_path: Path, sample: ChannelSet) -> None:
    write_channels(tmp_path / "a.h5", sample.subset(slice(70)), attributes={"generator": "test"})
    with h5py.File(tmp_path / "a.h5") as file:
        h = file["h"]
        assert (h.dtype, h.shape) == ("<f2", (70, 2, 32, 32))
        assert (h.compression, h.shuffle) == ("gzip", True)
        assert file.attrs["generator"] == "test"
        assert file.attrs["scale"] == "unit mean |h|^2 per user; power_db restores it"
        assert file.attrs["scenario"] == "3GPP_38.901_UMi"
        assert file["is_los"].dtype == "u1"


@pytest.mark.unit
def test_equal_channels_give_equal_bytes(tmp_path: Path, sample: ChannelSet) -> None:
    part = sample.subset(slice(70))
    write_channels(tmp_path / "a.h5", part)
    write_channels(tmp_path / "b.h5", load_channels(tmp_path / "a.h5"))
    assert file_sha256(tmp_path / "a.h5") == file_sha256(tmp_path / "b.h5")


@pytest.mark.unit
@pytest.mark.parametrize("gzip_level", [0, 4])
def test_float32_comes_back_exactly(tmp_path: Path, make_channels: Any, gzip_level: int) -> None:
    """Bit for bit but for the division by a power of 1 + rounding; a panel comes back too."""
    plain = make_channels(n=9, n_rx=2)
    grid = dataclasses.replace(plain.grid, panel=(2, 1, 2))
    channels = dataclasses.replace(plain, grid=grid)
    told: list[tuple[int, int]] = []
    path = tmp_path / "a.h5"
    write_channels(
        path,
        channels,
        precision="float32",
        gzip_level=gzip_level,
        progress=lambda done, n: told.append((done, n)),
    )
    again = load_channels(path)
    assert torch.allclose(again.h, channels.h, rtol=0, atol=3e-7)
    assert again.grid == grid
    assert told == [(9, 9)]
    with pytest.raises(CsiAuditError, match="precision must be float16 or float32; got 'float8'"):
        write_channels(path, channels, precision="float8")  # type: ignore[arg-type]


@pytest.mark.unit
def test_lazy_channels_are_written_as_those_in_memory(tmp_path: Path, sample: ChannelSet) -> None:
    write_channels(tmp_path / "a.h5", sample.subset(slice(1500)))
    lazy = load_channels(tmp_path / "a.h5", lazy=True)
    write_channels(tmp_path / "b.h5", lazy)
    write_channels(tmp_path / "a.h5", lazy)  # onto the very file that it is read from
    assert file_sha256(tmp_path / "a.h5") == file_sha256(tmp_path / "b.h5")


_FULL_DISK = """
import resource, sys
import torch
from channels import CsiAuditError, load_channels, write_channels

channels = load_channels(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
try:
    write_channels(sys.argv[2], channels, gzip_level=0)
except CsiAuditError as error:
    print(error)
"""


@pytest.mark.end_to_end
@pytest.mark.parametrize("limit", [3_000, 300_000])
def test_a_full_disk_leaves_the_old_output(tmp_path: Path, sample: ChannelSet, limit: int) -> None:
    """A file-size limit in a process of its own stands for the full disk."""
    source, target = tmp_path / "new.h5", tmp_path / "out" / "old.h5"
    target.parent.mkdir()
    write_channels(source, sample.subset(slice(400)))
    write_channels(target, sample.subset(slice(3)))
    before = target.read_bytes()
    words = [sys.executable, "-c", _FULL_DISK, str(source), str(target), str(limit)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert re.fullmatch(r".*old\.h5 cannot be written: .*Free some space or.*\n", done.stdout)
    assert target.read_bytes() == before
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.unit
def test_errors(tmp_path: Path, make_channels: Any) -> None:
    channels = make_channels()
    with pytest.raises(CsiAuditError, match=r"gzip_level must lie in 0\.\.9; got 10"):
        write_channels(tmp_path / "a.h5", channels, gzip_level=10)
    named = dataclasses.replace(channels, labels={"h": torch.zeros(6)})
    with pytest.raises(CsiAuditError, match=r"labels must not be named \['h'\]"):
        write_channels(tmp_path / "a.h5", named)
    for name in ("a/b", "", "."):
        named = dataclasses.replace(channels, labels={name: torch.zeros(6)})
        with pytest.raises(CsiAuditError, match=rf"no '/'; got '{name}'"):
            write_channels(tmp_path / "a.h5", named)
    named = dataclasses.replace(channels, labels={"gain": torch.zeros(6, dtype=torch.complex64)})
    with pytest.raises(CsiAuditError, match=r"label 'gain' must hold real numbers; got torch\.com"):
        write_channels(tmp_path / "a.h5", named)
    with pytest.raises(CsiAuditError, match=r"x/a\.h5 cannot be written: the folder"):
        write_channels(tmp_path / "x" / "a.h5", channels)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.golden
def test_card_describes_the_sample(sample: ChannelSet) -> None:
    card = json.loads(sample_path().with_suffix(".card.json").read_text())
    assert card["sha256"] == sample.source.sha256 == file_sha256(sample_path())
    assert card["bytes"] == sample_path().stat().st_size <= 7_000_000
    assert card["drop_seeds"] == sorted(set(sample.label("drop_seed").tolist()))
    assert card["statistics"]["share_los"] == float(sample.label("is_los").double().mean())
    assert card["generator"] == "QuaDRiGa 2.8.1"
    assert "non-commercial" in card["licence"]
    assert "reporting only" in card["use"].lower()


@pytest.mark.golden
def test_sample_can_be_made_again(shared_data: Path, tmp_path: Path) -> None:
    make_sample(shared_data, tmp_path / "umi_sample.h5")
    for suffix in (".h5", ".card.json"):
        made = tmp_path / f"umi_sample{suffix}"
        assert made.read_bytes() == sample_path().with_suffix(suffix).read_bytes()


@pytest.mark.unit
def test_sample_needs_whole_drops(tmp_path: Path, make_channels: Any) -> None:
    write_channels(tmp_path / "umi_test.h5", make_channels(n=6))
    with pytest.raises(CsiAuditError, match=r"must hold at least 8 drops; got 3"):
        make_sample(tmp_path, tmp_path / "a.h5")
    plain = dataclasses.replace(make_channels(n=6), labels={})
    write_channels(tmp_path / "umi_test.h5", plain)
    with pytest.raises(CsiAuditError, match="has no drop_seed: drops cannot be kept whole"):
        make_sample(tmp_path, tmp_path / "a.h5")


@pytest.mark.end_to_end
def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["sample", "--data-dir", str(tmp_path / "x")])
    monkeypatch.delitem(sys.modules, "channels.sample")  # runpy warns of a module run twice
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("channels.sample", run_name="__main__")
    assert caught.value.code == 2
    assert "umi_test.h5 does not exist: there is no folder" in capsys.readouterr().err
