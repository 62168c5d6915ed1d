"""`csi-audit harden`: a few steps on real channels, with base samples of a run and without."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from channels import (
    ChannelSet,
    Grid,
    audit_space,
    load_channels,
    unit_power,
    write_channels,
)
from channels.sample import sample_path
from channels.support import CsiAuditError
from compressors import load_compressor
from compressors.hardening_training import zoo_network
from compressors.weight_mixing import own_nmse
from csi_audit import hardening_command
from csi_audit.base import Base
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from csi_audit.hardening_command import hardened, hardening_folder
from csi_audit.hardening_settings import HardenConfig

pytestmark = pytest.mark.end_to_end
QUICK = ["--steps=2", "--block_steps=2", "--batch_size=8", "--device=cpu"]


@pytest.fixture(scope="module")
def users(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 real users in 12 drops."""
    path = tmp_path_factory.mktemp("users") / "users.h5"
    some = load_channels(sample_path()).subset(torch.arange(0, 1800, 15))
    write_channels(path, replace(some, labels={"drop_seed": torch.arange(120) // 10}))
    return path


def test_weights_verdict_and_table_are_written(
    users: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["harden", "crnet-64", "--data", str(users), "--variants=0", "--out", str(out)]
    with torch.random.fork_rng(devices=[]):
        assert main([*words, *QUICK]) == EXIT_OK
    said = capsys.readouterr().out
    assert "crnet-64 on 10 users of users.h5 kept out of training" in said
    assert "mean of the worst 1 %" in said
    plain = json.loads((out / "harden.json").read_text())
    assert plain["n"] == 10
    assert plain["n_trained"] == 100  # one drop of twelve measures, one of eleven selects
    assert plain["n_importance"] == 150  # 0.6 of all
    assert plain["verdict"] in ("did not work", "cannot tell")  # 10 users tell nothing
    assert (out / "compressor.safetensors").is_file()


def test_held_out_drops_are_in_no_training(users: Path) -> None:
    config = HardenConfig(compressor="crnet-64", data=str(users))
    parts = hardening_command._users(config)
    drops = [set(part.label("drop_seed").tolist()) for part in parts]
    assert not drops[0] & drops[1]
    assert not drops[0] & drops[2]
    assert not drops[1] & drops[2]
    assert sum(map(len, drops)) == 12


def test_figures_before_are_those_of_the_compressor(users: Path, tmp_path: Path) -> None:
    from compressors import nmse
    from compressors.audit_space import in_audit_space

    config = HardenConfig(
        compressor="crnet-64",
        data=str(users),
        holdout=str(users),
        variants=0,
        steps=2,
        block_steps=2,
        batch_size=8,
        device="cpu",
        out=str(tmp_path / "out"),
    )
    with torch.random.fork_rng(devices=[]):
        result = hardened(config)
    x = audit_space(load_channels(users))
    expected = nmse(x, in_audit_space(load_compressor("crnet-64").compressor)(x))
    assert result.changes[0].before_db == pytest.approx(10 * np.log10(float(expected.mean())))


def test_base_samples_of_a_run_are_weighted(
    users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    x = audit_space(load_channels(users))
    stored = {
        "x": x[:10].half().numpy(),
        "law": np.array([b"base"] * 8 + [b"target"] * 2),
    }

    class Run:
        folder = tmp_path
        result = type("R", (), {"base": type("B", (), {"sha256": "ab"}), "seed": 3})

    monkeypatch.setattr(hardening_command, "finished_run", lambda folder: Run)
    monkeypatch.setattr(hardening_command, "read_arrays", lambda path: stored)
    before = zoo_network(load_compressor("crnet-64"))[0]
    config = HardenConfig(compressor="crnet-64", data=str(users), run="runs/a", power=8.0)
    found = hardening_command._generated(config, x, before, "", None)
    assert found.x is not None
    assert found.x.shape == (8, 2, 32, 32)
    error = own_nmse(before, x[:8])
    assert float(own_nmse(before, found.x).mean()) > float(error.mean())  # as many of the worst
    assert found.described == {"importance_samples": {"n": 8, "base_sha256": "ab", "seed": 3}}
    with pytest.raises(CsiAuditError, match=r"runs/a holds samples of \(2, 32, 32\), the data has"):
        hardening_command._generated(config, x[..., :8], before, "", None)


def test_variants_are_made_of_the_worst_users(
    users: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a base that keeps what it is given, and with one that forgets it."""
    x = audit_space(load_channels(users))
    before = zoo_network(load_compressor("crnet-64"))[0]
    config = HardenConfig(
        compressor="crnet-64", data="a.h5", variants=6, variant_steps=2, out=str(tmp_path / "out")
    )

    def made(denoise: Callable[[torch.Tensor], torch.Tensor], known_by: str) -> tuple[str, ...]:
        base = Base(
            denoiser=Denoiser(denoise),
            variance=torch.ones(2, 32, 32),
            sigma_min=0.01,
            sigma_max=50.0,
            grid=load_channels(users).grid,
            sha256=known_by,
        )
        monkeypatch.setattr(hardening_command, "load_base", lambda path: base)
        found = hardening_command._generated(config, x, before, known_by, None)
        assert found.x is not None
        assert found.x.shape == (6, 2, 32, 32)
        assert found.described["importance_samples"]["power"] == config.power
        return found.notes

    worst = x[own_nmse(before, x).argmax()]
    easy = x[own_nmse(before, x).argmin()]
    assert made(lambda y: worst.expand_as(y), "a") == ()
    (note,) = made(lambda y: easy.expand_as(y), "b")
    assert "Variants keep only 0% of what makes the drawn users bad" in note


class Denoiser:
    """Any function of x as a denoiser of 32 x 32 channels."""

    event_shape: tuple[int, ...] = (2, 32, 32)

    def __init__(self, function: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.function = function

    def __call__(self, x: torch.Tensor, sigma: torch.Tensor | float) -> torch.Tensor:
        return self.function(x)


def test_a_base_of_other_channels_is_refused(users: Path) -> None:
    x = audit_space(load_channels(users))[..., :8]
    before = zoo_network(load_compressor("crnet-64"))[0]
    config = HardenConfig(compressor="crnet-64", data=str(users))
    with pytest.raises(CsiAuditError, match=r"base model is for channels of .*--variants 0"):
        hardening_command._generated(config, x, before, "", None)


KNOWN = {"data": {"sha256": "a"}, "validation": {"sha256": "b"}}


def notes_of(config: HardenConfig, *files: str) -> str:
    """Notes on training, validation and holdout users of files with these hashes, joined; the
    compressor was trained on "a" and selected on "b"."""
    named = replace(load_compressor("crnet-64"), card=KNOWN)
    h, power_db = unit_power(torch.ones(2, 1, 4, 4, dtype=torch.complex64))
    users = ChannelSet(
        h=h, power_db=power_db, grid=Grid(carrier_hz=None, bandwidth_hz=None, n_sub=4)
    )
    training, validation, holdout = (
        replace(users, source=replace(users.source, path=f"{sha256}.h5", sha256=sha256))
        for sha256 in files
    )
    return " ".join(hardening_command._notes(config, named, training, validation, holdout))


@pytest.mark.parametrize(
    ("validation", "holdout", "files", "words"),
    [
        (None, None, "aaa", ("was trained on this file", "little change was selected")),
        (None, "c.h5", "aac", ("little change was selected",)),
        ("c.h5", "b.h5", "acb", ("trained or selected on b.h5: figures before",)),
        ("c.h5", "c.h5", "acc", ("figures after are flattered",)),
        ("d.h5", "c.h5", "adc", ()),
        (None, None, "eee", ()),
    ],
)
def test_known_users_are_told(
    validation: str | None, holdout: str | None, files: str, words: tuple[str, ...]
) -> None:
    config = HardenConfig(
        compressor="crnet-64", data="a.h5", validation=validation, holdout=holdout
    )
    notes = notes_of(config, *files)
    assert all(text in notes for text in words)
    assert notes.count("Name other users") == len(words)


def test_settings_reach_the_training(users: Path) -> None:
    config = HardenConfig(compressor="crnet-64", data=str(users), optimizer="adamw", steps=200)
    plan = hardening_command._plan(config)
    assert (plan.optimizer, plan.steps, plan.learning_rate) == ("adamw", 200, config.learning_rate)


def test_default_folders() -> None:
    def folder(spec: str) -> Path:
        return hardening_folder(HardenConfig(compressor=spec, data="a.h5"))

    assert folder("crnet-16") == Path("runs/crnet-16-hardened")
    assert folder("runs/mine/compressor.safetensors") == Path("runs/mine-hardened")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["klt-16"], "klt-16 cannot be hardened: klt is fitted in one go"),
        (["crnet-64", "--mix", "1"], "mix must lie in [0, 1); got 1.0"),
        (["crnet-64", "--most_lost_db", "9"], "most_lost_db must lie in [0, 3] dB; got 9.0"),
        (["crnet-64", "--run", "a", "--base", "b"], "run and base exclude each other"),
        (["crnet-64", "--run", "nowhere"], "nowhere is no folder"),
        (["crnet-64", "--steps", "3"], "steps must be a multiple of block_steps"),
    ],
)
def test_bad_input_is_one_line(
    users: Path,
    tmp_path: Path,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ["harden", words[0], "--data", str(users), "--variants=0", *words[1:]]
    assert main(given) == EXIT_BAD_INPUT
    assert message in capsys.readouterr().err
