"""Failure channels of a run: which, with which weights, and back through every format."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np
import pytest
import torch

import csi_audit
from channels import ChannelSet, Grid, load_channels, unit_power, write_channels
from channels.domains import Panel
from channels.readers_hdf5 import hdf5_workspace
from channels.readers_numpy import numpy_workspace
from channels.support import CsiAuditError
from csi_audit import RunConfig, auditing, failure_export
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from csi_audit.comparison_runs import finished_run
from csi_audit.failure_export import (
    FailureChannels,
    audited_file,
    failure_channels,
    panel_words,
    write_failures,
)
from csi_audit.run_state import read_arrays

if TYPE_CHECKING:
    from .conftest import TinyFiles

pytestmark = pytest.mark.end_to_end


@pytest.fixture(scope="module")
def run(tiny: "TinyFiles", tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit of two compressors, without its page."""
    folder = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auditing, "write_report", lambda result, arrays, where: None)
        csi_audit.audit(
            RunConfig(
                data=str(tiny.data),
                compressor=(tiny.half, tiny.quarter),
                base=str(tiny.base),
                out=str(folder),
                n_base=40,
                steps=4,
                block=20,
                issgm=tiny.half,
                n_issgm=4,
                issgm_steps=3,
                tail_method="counting",
                mean_method="reweighting",
            )
        )
    return folder


def level(run: Path, share: float = 0.5) -> float:
    """A threshold [dB] that some base samples exceed."""
    nmse = read_arrays(run / "samples.h5")["loss/Quarter/nmse"][:40]
    return float(10 * np.log10(np.quantile(nmse, share)))


@pytest.mark.parametrize("ending", ["h5", "mat", "npz"])
def test_failures_come_back_with_their_weights(run: Path, tmp_path: Path, ending: str) -> None:
    file, tau = tmp_path / f"failures.{ending}", level(run)
    words = ["--compressor", "Quarter", f"--tau_db={tau}", "--out", str(file), "--source", "both"]
    assert main(["export-failures", str(run), *words]) == EXIT_OK
    found = load_channels(file)
    expected = failure_channels(run, "Quarter", tau_db=tau, source="both").channels
    assert len(found) == len(expected)
    error = (found.h - expected.h).abs().square().mean() / expected.h.abs().square().mean()
    assert float(error) < 1e-6
    for name in ("log_weight", "nmse", "is_real"):
        assert np.allclose(found.label(name), expected.label(name))
    assert bool((found.label("nmse") > 10 ** (tau / 10)).all())
    weight, real = np.exp(found.label("log_weight").numpy()), found.label("is_real").numpy() == 1
    assert weight[real].sum() == pytest.approx(1)
    assert weight[~real].sum() == pytest.approx(1)


def test_every_format_says_the_same(run: Path, tmp_path: Path) -> None:
    words = ["--compressor", "Quarter", f"--tau_db={level(run)}", "--source", "real"]
    for ending in ("h5", "mat", "npz"):
        file = str(tmp_path / f"a.{ending}")
        assert main(["export-failures", str(run), *words, "--out", file]) == EXIT_OK
    with h5py.File(tmp_path / "a.h5") as stored:
        said = {name: value for name, value in stored.attrs.items() if isinstance(value, str)}
    assert said["generator"] == f"csi-audit {csi_audit.__version__} export-failures"
    assert said["failures_of"] == "Quarter"
    assert said["law"].startswith("p(x | NMSE > ")
    assert hdf5_workspace(tmp_path / "a.mat").texts == said
    assert numpy_workspace(tmp_path / "a.npz").texts == said


@pytest.mark.parametrize("ending", ["h5", "mat", "npz"])
def test_a_lone_failure_keeps_its_weight(run: Path, tmp_path: Path, ending: str) -> None:
    """Nothing but the weight labels a base sample, and one user's weight is but a number."""
    nmse, file = read_arrays(run / "samples.h5")["loss/Quarter/nmse"][:40], tmp_path / "a"
    tau = float(10 * np.log10(np.sort(nmse)[-2:].mean()))
    write_failures(
        file.with_suffix(f".{ending}"), failure_channels(run, "Quarter", tau_db=tau), attributes={}
    )
    found = load_channels(file.with_suffix(f".{ending}"))
    assert len(found) == 1
    assert found.label("log_weight").tolist() == [0.0]
    assert found.label("nmse").tolist() == [nmse.max()]
    assert found.label("is_real").tolist() == [0]


def test_base_failures_are_those_of_the_run(run: Path) -> None:
    stored, tau = read_arrays(run / "samples.h5"), level(run)
    nmse = stored["loss/Quarter/nmse"][:40]  # the last four rows are the guided run's
    found = failure_channels(run, "Quarter", tau_db=tau)
    assert sorted(found.channels.label("nmse")) == sorted(nmse[nmse > 10 ** (tau / 10)])
    assert found.ess == pytest.approx(len(found.channels))
    assert found.channels.grid.bandwidth_hz == pytest.approx(1e7)


def test_samples_of_q_are_all_base_samples_weighted(run: Path) -> None:
    found = failure_channels(run, "Quarter", power=2.0)
    assert len(found.channels) == 40
    nmse = found.channels.label("nmse").numpy()
    weight = np.exp(found.channels.label("log_weight").numpy())
    assert weight == pytest.approx(nmse**2 / (nmse**2).sum())
    assert found.ess < 40
    assert found.law == "q(x) ~ NMSE^2 p(x)"


def test_real_failures_keep_their_labels(run: Path) -> None:
    found = failure_channels(run, "Quarter", tau_db=level(run), source="real").channels
    assert found.drops is not None
    assert bool((found.label("is_real") == 1).all())
    assert found.grid.carrier_hz == 2.6e9


def test_nothing_to_export_is_said(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--compressor", "Half", "--tau_db", "100", "--out", str(tmp_path / "a.h5")]
    assert main(["export-failures", str(run), *words]) == EXIT_BAD_INPUT
    said = capsys.readouterr().err
    assert "Half fails on no channel" in said
    assert "NMSE above 100 dB; the worst has" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--compressor", "Halve", "--out", "a.h5"], "Did you mean 'Half'?"),
        (["--compressor", "Half", "--out", "a.csv"], "out must end in .h5, .hdf5, .mat, .npz"),
        (
            ["--compressor", "Half", "--out", "a.h5", "--tau_db=-3", "--power=1"],
            "tau_db and power exclude each other",
        ),
        (["--compressor", "Half", "--out", "nowhere/a.h5"], "the folder nowhere does not exist"),
        (["--compressor", "Half", "--out", "a.h5", "--tau_db=300"], "tau_db must lie in"),
        (["--compressor", "Half", "--out", "a.h5", "--power=-1"], "power must lie in (0, 8]; got"),
        (["--compressor", "Half", "--out", "a.h5", "--power=9"], "power must lie in (0, 8]; got"),
    ],
)
def test_bad_input_is_one_line(
    run: Path,
    words: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["export-failures", str(run), *words]) == EXIT_BAD_INPUT
    assert message in capsys.readouterr().err


def found_channels(labels: tuple[str, ...] = (), panel: Panel | None = None) -> FailureChannels:
    """Six channels of eight antennas, with further labels of these names."""
    h, power_db = unit_power(
        torch.randn(6, 1, 8, 4, generator=torch.Generator().manual_seed(0)) + 0j
    )
    grid = Grid(carrier_hz=2e9, bandwidth_hz=1e7, n_sub=4, panel=panel)
    own = {"log_weight": torch.zeros(6).double()} | {n: torch.arange(6) for n in labels}
    channels = ChannelSet(h=h, power_db=power_db, grid=grid, labels=own)
    return FailureChannels(channels=channels, law="a law", ess=6.0)


@pytest.mark.parametrize("label", ["h", "power_db", "law", "carrier_hz", "scale", "file"])
def test_a_label_never_takes_the_place_of_the_channels(label: str, tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=rf"labels must not be named {label}: .*\.h5"):
        write_failures(tmp_path / "a.npz", found_channels((label,)), attributes={"law": "a law"})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("ending", ["mat", "npz"])
def test_a_panel_that_the_format_cannot_say_is_said(ending: str, tmp_path: Path) -> None:
    file, found = tmp_path / f"a.{ending}", found_channels(panel=(2, 2, 2))
    write_failures(file, found, attributes={})
    assert panel_words(file, found.channels) == (
        f".{ending} does not say that the array is a panel: read it with --panel=[2,2,2], or write "
        ".h5, which does."
    )
    assert load_channels(file).grid.panel is None
    assert load_channels(file, panel=(2, 2, 2)).grid.panel == (2, 2, 2)
    assert panel_words(file, found_channels().channels) == ""


def test_compact_hdf5_keeps_the_panel(tmp_path: Path) -> None:
    file, found = tmp_path / "a.h5", found_channels(panel=(2, 2, 2))
    write_failures(file, found, attributes={})
    assert load_channels(file).grid.panel == (2, 2, 2)
    assert panel_words(file, found.channels) == ""


def test_npz_says_what_it_holds(tmp_path: Path) -> None:
    write_failures(tmp_path / "a.npz", found_channels(panel=(2, 2, 2)), attributes={"law": "a law"})
    with np.load(tmp_path / "a.npz", allow_pickle=False) as found:
        assert found["panel"].tolist() == [2, 2, 2]
        assert str(found["law"]) == "a law"


def test_a_loader_that_changed_is_told(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fewer = audited_file(finished_run(run)).subset(slice(0, 3))
    monkeypatch.setattr(failure_export, "audited_file", lambda run: fewer)
    with pytest.raises(CsiAuditError, match=r"gives 3 users, the run audited \d+\. Is it a loader"):
        failure_channels(run, "Quarter", tau_db=level(run), source="real")


def test_real_failures_give_up_labels_of_the_export(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """power_db comes back as a label of .mat and .npz, and an export may be audited again."""
    users = audited_file(finished_run(run))
    worn = {name: torch.full((len(users),), -7.0) for name in ("power_db", "nmse", "log_weight")}
    users = dataclasses.replace(users, labels={**users.labels, **worn})
    monkeypatch.setattr(failure_export, "audited_file", lambda run: users)
    found = failure_channels(run, "Quarter", tau_db=level(run), source="real")
    assert "power_db" not in found.channels.labels
    assert bool((found.channels.label("nmse") > 0).all())
    assert float(found.channels.label("log_weight").exp().sum()) == pytest.approx(1)
    write_failures(tmp_path / "a.h5", found, attributes={})
    assert torch.equal(load_channels(tmp_path / "a.h5").power_db, found.channels.power_db)


def test_another_file_in_its_place_is_refused(run: Path, tiny: "TinyFiles", tmp_path: Path) -> None:
    found = finished_run(run)
    other = tmp_path / "users.h5"
    write_channels(other, load_channels(tiny.bare))
    data = dataclasses.replace(found.result.data, path=str(other))
    with pytest.raises(CsiAuditError, match=r"users\.h5 is not the file that .* audited"):
        audited_file(
            dataclasses.replace(found, result=dataclasses.replace(found.result, data=data))
        )
