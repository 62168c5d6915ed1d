"""The commands that write channel files."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from channels import ChannelSet, load_channels
from channels.generation import SimulatedCell
from csi_audit import channel_commands
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main

pytestmark = pytest.mark.end_to_end


@pytest.fixture
def fr(tmp_path: Path) -> tuple[Path, np.ndarray]:
    """QuaDRiGa's channel.fr without labels: [rx, tx, carrier, snapshot]."""
    rng = np.random.default_rng(0)
    h = rng.standard_normal((2, 4, 8, 30, 2)) @ np.array([1, 1j])
    np.save(tmp_path / "fr.npy", h)
    return tmp_path / "fr.npy", h.transpose(3, 0, 1, 2)


def test_convert_writes_what_was_read(
    fr: tuple[Path, np.ndarray], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    path, h = fr
    out = tmp_path / "out.h5"
    words = ["--out", str(out), "--axes", "rx,tx,sub,user", "--bandwidth_hz", "2e7"]
    assert main(["convert", str(path), *words, "--precision", "float32"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "Note: " in printed
    assert "30 users, 2 x 4 antennas, 8 subcarriers" in printed
    assert str(out.resolve()) in printed
    again = load_channels(out)
    gain = 10 ** (again.power_db.double().numpy() / 20)
    np.testing.assert_allclose(again.h.numpy() * gain[:, None, None, None], h, atol=1e-5)
    assert again.grid.bandwidth_hz == 2e7
    (notice,) = again.source.notices
    assert notice.startswith("Converted from fr.npy (npy, [rx, tx, sub, user]). The centre of")
    assert again.source.convention is not None
    assert "unit power per user" in again.source.convention.describe_stored()
    with h5py.File(out) as file:
        assert file.attrs["converted_from_name"] == "fr.npy"
        assert len(file.attrs["converted_from_sha256"]) == 64
        assert "[rx, tx, sub, user]" in file.attrs["converted_as"]
        assert "no offset" in file.attrs["converted_notices"]


def test_convert_never_replaces_what_it_reads(
    fr: tuple[Path, np.ndarray], capsys: pytest.CaptureFixture[str]
) -> None:
    path, before = fr[0], fr[0].read_bytes()
    words = ["convert", str(path), "--out", str(path.parent / "." / path.name)]
    assert main([*words, "--axes", "rx,tx,sub,user"]) == EXIT_BAD_INPUT
    assert "out must not be the file that is read" in capsys.readouterr().err
    assert path.read_bytes() == before


def test_convert_clears_what_a_killed_one_left(fr: tuple[Path, np.ndarray], tmp_path: Path) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    stale, other = tmp_path / f".out.h5.{gone.pid}.tmp", tmp_path / f".out2.h5.{gone.pid}.tmp"
    mine = tmp_path / f".out.h5.{os.getppid()}.tmp"  # of a process that lives
    for path in (stale, other, mine):
        path.touch()
    words = ["convert", str(fr[0]), "--out", str(tmp_path / "out.h5")]
    assert main([*words, "--axes", "rx,tx,sub,user"]) == EXIT_OK
    assert not stale.exists()
    assert other.exists()
    assert mine.exists()


def test_convert_refuses_before_it_reads(
    fr: tuple[Path, np.ndarray],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: Any, **__: Any) -> ChannelSet:
        raise AssertionError("read before the target was looked at")

    monkeypatch.setattr("csi_audit.configs.load_channels", never)
    words = ["convert", str(fr[0]), "--out", str(tmp_path / "no" / "out.h5")]
    assert main(words) == EXIT_BAD_INPUT
    assert "the folder" in capsys.readouterr().err


def test_a_failed_conversion_leaves_the_old_file(
    fr: tuple[Path, np.ndarray], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "out.h5"
    out.write_bytes(b"precious")
    assert main(["convert", str(fr[0]), "--out", str(out), "--axes", "user,tx"]) == EXIT_BAD_INPUT
    assert "axes must name" in capsys.readouterr().err
    assert out.read_bytes() == b"precious"


def test_generate_writes_the_simulated_channels(
    draw_users: Any,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sionna's part is tested in tests/channels/test_generation.py."""
    asked: dict[str, Any] = {}

    def simulated(cell: SimulatedCell, **given: Any) -> ChannelSet:
        asked.update(given, cell=cell)
        given["progress"](given["n"], given["n"])
        users: ChannelSet = draw_users(given["n"])
        notices = ("Simulated.",)
        return replace(users, source=replace(users.source, scenario="UMi", notices=notices))

    monkeypatch.setattr(channel_commands, "generate_channels", simulated)
    out = tmp_path / "umi.h5"
    words = ["--model", "UMi", "--n", "12", "--seed", "3", "--panel", "2,1,4", "--device", "cpu"]
    assert main(["generate", *words, "--out", str(out)]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "Note: Simulated." in printed
    assert "12 users" in printed
    assert (asked["n"], asked["seed"], asked["device"]) == (12, 3, torch.device("cpu"))
    assert (asked["cell"].model, asked["cell"].panel) == ("umi", (2, 1, 4))
    again = load_channels(out)
    assert len(again) == 12
    assert again.source.scenario == "UMi"
    with h5py.File(out) as file:
        assert file.attrs["generated_seed"] == "3"
        assert file.attrs["generated_model"] == "umi"
        assert file.attrs["generated_panel"] == "(2, 1, 4)"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--model", "umi", "--n", "0"], "n must be at least 1; got 0"),
        (["--model", "umx"], "Did you mean 'umi'"),
        (["--model", "umi", "--panel", "3,1,4"], "panel must have 1 or 2 polarisations"),
        (["--n", "5"], "model"),
    ],
)
def test_bad_settings_of_generate(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["generate", *words, "--out", str(tmp_path / "a.h5")]) == EXIT_BAD_INPUT
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
