"""`csi-audit fit-base`: what it passes on, prints and writes, on 8 x 8 channels."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

import csi_audit
from channels import ChannelSet, write_channels
from csi_audit import adaptation_training, base_training
from csi_audit.base import Base, load_base
from csi_audit.base_sizes import choose_sizes
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, _parse, main
from csi_audit.configs import BASE_PLAN
from csi_audit.devices import is_first_process
from csi_audit.fit_base_command import _plan

unit = pytest.mark.unit
SMALL = ["--steps", "8", "--block_steps", "2", "--batch_size", "16", "--fidelity_samples", "16"]
SMALL += ["--contrast_samples", "8"]


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `fit_base` is called with, in place of a training."""
    found: dict[str, Any] = {}

    class Fitted:
        card = {  # noqa: RUF012  stands in for a Base
            "validation_loss": 0.5,
            "last_step": 6,
            "selected_step": 2,
            "patience": 2,
            "plan": {"steps": 20},
        }

    def fit_base(channels: ChannelSet, validation: ChannelSet, **named: Any) -> Fitted:
        found.update(channels=channels, validation=validation, **named)
        return Fitted()

    monkeypatch.setattr(base_training, "fit_base", fit_base)
    return found


@unit
def test_its_settings_are_passed_on(
    called: dict[str, Any], tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = ["--steps", "20", "--block_steps", "10", "--batch-size", "8", "--learning_rate", "0.1"]
    words = ["fit-base", str(tiny.data), "--network", "unet", "--out", str(tmp_path), "--seed", "4"]
    more = ["--precision", "32-true", "--device", "cpu", "--patience", "3"]
    assert main([*words, *plan, *more, "--fidelity_samples", "9"]) == EXIT_OK
    recipe = called["recipe"]
    assert (recipe.network.name, recipe.plan.steps, recipe.plan.block_steps) == ("unet", 20, 10)
    assert (recipe.plan.batch_size, recipe.plan.learning_rate) == (8, 0.1)
    assert (recipe.plan.precision, recipe.plan.seed) == ("32-true", 4)
    assert (recipe.patience, recipe.fidelity_samples) == (3, 9)
    assert (called["device"], called["devices"], called["folder"]) == ("cpu", 1, str(tmp_path))
    printed = capsys.readouterr().out
    assert "20 users, 1 whole drop, are kept out for validation." in printed
    assert "80 training users of 2 x 8 x 8: network unet (width 16), 20 steps of 8 users" in printed
    assert "Stopped after step 6: the validation loss had risen for 2 blocks." in printed
    assert "Validation loss 0.5000" in printed
    assert str((tmp_path / "base.safetensors").resolve()) in printed
    train, validation = called["channels"].drops, called["validation"].drops
    assert not set(train.tolist()) & set(validation.tolist())


@unit
def test_sizes_are_chosen_from_the_users(
    called: dict[str, Any], tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["fit-base", str(tiny.bare), "--out", str(tmp_path), "--device", "cpu"]) == EXIT_OK
    plan = called["recipe"].plan
    assert plan == replace(
        BASE_PLAN, steps=plan.steps, block_steps=plan.block_steps, batch_size=plan.batch_size
    )
    assert plan.steps * plan.batch_size < BASE_PLAN.steps * BASE_PLAN.batch_size / 10
    assert called["recipe"].network.options == (("hidden", 128),)
    printed = capsys.readouterr().out
    assert "6 users are kept out for validation." in printed
    assert f"{plan.steps:,} steps of {plan.batch_size} users" in printed
    words = ["fit-base", str(tiny.data), "--validation", str(tiny.bare), "--device", "cpu"]
    assert main([*words, "--out", str(tmp_path)]) == EXIT_OK
    assert (len(called["channels"]), len(called["validation"])) == (100, 60)
    assert "kept out" not in capsys.readouterr().out


@pytest.mark.end_to_end
def test_a_union_of_files_and_its_card(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], seeded_torch: None
) -> None:
    """Drops of both files are kept whole, the card names both with their users."""
    words = ["fit-base", str(tiny.data), str(tiny.bare), "--out", str(tmp_path / "b")]
    assert main([*words, *SMALL, "--device", "cpu"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "One model of 2 files, each user counting alike." in printed
    assert "Block 4/4: val_loss " in printed
    assert ", ks_distortion " in printed
    assert "16 samples against the validation users: KS distance " in printed
    card = load_base(tmp_path / "b" / "base.safetensors").card
    assert card["data"]["name"] == "users.h5 + bare.h5"
    assert [part["name"] for part in card["sources"]] == ["users.h5", "bare.h5"]
    users = [part["users"] for part in card["sources"]]
    assert sum(users) == card["users"]["train"]
    assert sum(users) + card["users"]["validation"] == 160
    assert len(card["fidelity"]["curve"]) == 4
    assert main(["fit-base", str(tiny.data), str(tmp_path / "no.h5")]) == EXIT_BAD_INPUT


@pytest.mark.end_to_end
def test_adapting_prints_a_comparison(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], seeded_torch: None
) -> None:
    words = ["fit-base", str(tiny.data), "--adapt", str(tiny.base), "--out", str(tmp_path / "b")]
    assert main([*words, *SMALL, "--device", "cpu"]) == EXIT_OK
    printed = capsys.readouterr().out
    assert "On the validation users, that selected the weights" in printed
    for name, steps in (("as it was", "-"), ("adapted", "8"), ("from scratch", "8")):
        (row,) = (line for line in printed.splitlines() if line.startswith(f"│ {name} "))
        assert row.split("│")[2].strip() == steps
    assert (tmp_path / "b" / adaptation_training.SCRATCH_NAME / "base.safetensors").is_file()
    assert main([*words, *SMALL, "--device", "cpu", "--network", "unet"]) == EXIT_BAD_INPUT
    assert "network must be left out with adapt" in capsys.readouterr().err


@unit
@pytest.mark.parametrize("given_rate", [None, 3e-4])
def test_a_given_rate_is_taken_as_it_is(
    given_rate: float | None, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With --adapt too, by both trainings; without it the adapting takes a quarter."""
    rates: list[tuple[bool, float]] = []

    card = {"last_step": 8, "plan": {"steps": 8}, "validation_loss": 0.5}

    def fit_base(*users: ChannelSet, recipe: Any, start: Any = None, **named: Any) -> Base:
        rates.append((start is not None, recipe.plan.learning_rate))
        return replace(load_base(tiny.base), card=card)

    monkeypatch.setattr(adaptation_training, "fit_base", fit_base)
    words = ["fit-base", str(tiny.data), "--adapt", str(tiny.base), "--out", str(tmp_path / "b")]
    more = [] if given_rate is None else ["--learning_rate", str(given_rate)]
    assert main([*words, *SMALL, *more, "--device", "cpu"]) == EXIT_OK
    usual = BASE_PLAN.learning_rate
    wanted = (usual / 4, usual) if given_rate is None else (given_rate, given_rate)
    assert rates == [(True, wanted[0]), (False, wanted[1])]


@unit
@pytest.mark.parametrize("variable", ["LOCAL_RANK", "RANK", "SLURM_PROCID"])
def test_only_the_first_process_talks(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"):
        monkeypatch.delenv(name, raising=False)
    assert is_first_process()
    monkeypatch.setenv(variable, "0")
    assert is_first_process()
    monkeypatch.setenv(variable, "1")
    assert not is_first_process()


@pytest.mark.end_to_end
@pytest.mark.slow
def test_two_processes_train_one_base(
    tmp_path: Path,
    draw_users: Callable[..., ChannelSet],
    repository_root: Path,
    seeded_torch: None,
) -> None:
    """Two gloo processes on the CPU: one result and one voice. Each draws batches of its own, so
    the weights are about those of one process and not the same."""
    for seed, (name, n) in enumerate((("train", 80), ("val", 30))):
        write_channels(tmp_path / f"{name}.h5", draw_users(n, seed=seed))
    files = [str(tmp_path / "train.h5"), "--validation", str(tmp_path / "val.h5")]

    def words(devices: str, *, out: str) -> list[str]:
        where = ["--out", str(tmp_path / out), "--devices", devices]
        return ["fit-base", *files, *where, *SMALL, "--device", "cpu"]

    done = subprocess.run(
        [sys.executable, "-m", "csi_audit.command_line", *words("2", out="2")],
        cwd=repository_root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Base model: ") == done.stdout.count("Block 4/4") == 1
    assert main(words("1", out="1")) == EXIT_OK
    cards = [load_base(tmp_path / name / "base.safetensors").card for name in ("1", "2")]
    one, two = (card["validation_loss"] for card in cards)
    assert len(cards[1]["curve"]) == 4
    assert "devices" not in cards[0]
    assert cards[1]["devices"] == 2
    assert [card["samples_seen"] // card["selected_step"] for card in cards] == [16, 32]
    assert main(words("1", out="2")) == EXIT_BAD_INPUT  # another training
    assert two == pytest.approx(one, rel=0.05)
    assert two != one


@pytest.mark.unit
@pytest.mark.parametrize(("size", "added"), [("base", ""), ("small", "--network small")])
def test_the_command_of_the_readme_makes_the_bundled_bases(size: str, added: str) -> None:
    """Plan, network and weighting of their cards; only their users are not at hand here."""
    text = (Path(csi_audit.__file__).parent / "README.md").read_text(encoding="utf-8")
    found = re.search(r"```\ncsi-audit fit-base (umi_train.*?)```", text, re.DOTALL)
    assert found is not None
    assert f"`{added}`" in text
    words = [*found[1].replace("\\", "").split(), *added.split()]
    settings = _parse(["fit-base", *words])[1]
    sizes = choose_sizes(
        16_000,
        (2, 32, 32),
        default=BASE_PLAN,
        network=settings.network,
        steps=settings.steps,
        block_steps=settings.block_steps,
    )
    card = load_base(size).card
    plan = asdict(_plan(settings, sizes))
    assert {key: plan[key] for key in card["plan"]} == card["plan"]
    for name in ("weighting", "patience", "fidelity_samples"):
        assert getattr(settings, name) == card[name]
    assert settings.contrast_samples == card["contrast"]["samples"]
    assert {"name": sizes.network.name, "options": dict(sizes.network.options)} == card["network"]
