"""Settings of an audit of a network: from words to fields, what fixes a run, and refusals."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from channels.support import CsiAuditError
from csi_audit import commands
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from csi_audit.configs import RunConfig
from csi_audit.network_settings import LOSS_NAMES, NetworkRunConfig

pytestmark = pytest.mark.unit


@contextmanager
def caught() -> Iterator[list[Any]]:
    """Settings that reach `run`, which does nothing with them."""
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(commands, "run", found.append)
        yield found


def parsed(*words: str) -> Any:
    with caught() as found:
        assert main(["run", *words]) == EXIT_OK
    (settings,) = found
    return settings


def refused(capsys: pytest.CaptureFixture[str], *words: str) -> str:
    with caught() as found:
        assert main(["run", *words]) == EXIT_BAD_INPUT
    assert found == []
    (line,) = capsys.readouterr().err.splitlines()
    return line


# --- Words ----------------------------------------------------------------------------------------


def test_network_takes_the_settings_of_a_network() -> None:
    assert parsed("--network", "default") == NetworkRunConfig(network="default")
    assert parsed("--network=card.yaml", "--seed", "3") == NetworkRunConfig(
        network="card.yaml", seed=3
    )
    audit = parsed("--data", "users.h5", "--compressor", "klt-16")
    assert audit == RunConfig(data="users.h5", compressor=("klt-16",))


def test_flags_are_repeated() -> None:
    found = parsed(
        "--network", "default", "--loss", "shortfall", "--loss=joint_outage",
        "--tau_db", "0", "--tau-db=1.5", "--tau_db", "-2", "--tau", "0.25", "--tau=0.75",
        "--double-steps",
    )  # fmt: skip
    assert found.loss == ("shortfall", "joint_outage")
    assert (found.tau_db, found.tau) == ((0.0, 1.5, -2.0), (0.25, 0.75))
    assert found.double_steps is True


def test_a_yaml_file_may_name_the_network(tmp_path: Path) -> None:
    path = tmp_path / "settings.yaml"
    path.write_text("network: default\nn_base: 50\nloss: [shortfall]\n")
    wanted = NetworkRunConfig(network="default", n_base=50, loss=("shortfall",))
    assert parsed("--config", str(path)) == wanted
    assert parsed(f"--config={path}", "--seed", "1").seed == 1
    path.write_text("data: users.h5\ncompressor: [klt-16]\n")
    assert isinstance(parsed("--config", str(path)), RunConfig)


def test_words_that_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "--network", "default", "--compressor", "klt-16")
    assert line == (
        "csi-audit: --network audits a cell network and --compressor compressors: give one of the "
        "two."
    )
    line = refused(capsys, "--network", "default", "--loss", "outage")
    assert "loss" in line
    assert "expected_outage" in line
    assert "--n_bse" in refused(capsys, "--network", "default", "--n_bse", "3")
    assert refused(capsys, "--network", "default", "--tau", "2").endswith(
        "tau must lie in (0, 1), of a share or a probability; got 2.0. Levels of the shortfall "
        "are tau_db."
    )
    missing = refused(capsys, "--config", str(tmp_path / "none.yaml"))
    assert "none.yaml" in missing


def test_help_of_both(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["run", "--network", "default", "--help"])
    assert "--train_steps" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["run", "--help"])
    assert "--compressor" in capsys.readouterr().out


# --- Fields ---------------------------------------------------------------------------------------


def test_what_only_places_the_work_fixes_nothing() -> None:
    config = NetworkRunConfig(network="default")
    placed: dict[str, Any] = {
        "network": "a.yaml", "data": "u.npy", "base": "b.safetensors", "out": "x",
        "device": "cpu", "batch_size": 7, "threads": 1,
    }  # fmt: skip
    assert NetworkRunConfig(**placed).fixing() == config.fixing()
    others: tuple[dict[str, Any], ...] = (
        {"seed": 1}, {"loss": ("shortfall",)}, {"tau": ()}, {"tau_db": (1.0,)}, {"floor": 0.1},
        {"train_steps": 500}, {"n_base": 9}, {"tail_runs": 7}, {"at_least": 2}, {"law_draws": 200},
    )  # fmt: skip
    for changed in others:
        assert NetworkRunConfig(network="default", **changed).fixing() != config.fixing()
    assert config.fixing()["loss"] == list(LOSS_NAMES)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loss": ()}, r"loss must be a tuple of at least one value"),
        ({"loss": ("shortfall", "shortfall")}, r"loss 'shortfall' is named twice"),
        ({"at_least": 0}, r"at_least must be at least 1; got 0"),
        ({"tau": (0.0,)}, r"tau must lie in \(0, 1\), of a share or a probability; got 0\.0"),
        ({"tau": (float("nan"),)}, r"tau must lie in \(0, 1\).*got nan"),
        ({"tau": (0.5, 0.5)}, r"tau must hold levels that differ as they are shown; got 0\.5, 0\."),
        ({"tau_db": (300.0,)}, r"tau_db must lie in \[-200, 200\] dB; got 300\.0"),
        ({"tau_db": (1.0, 1.001)}, r"tau_db must hold levels that differ.*got 1 dB, 1 dB"),
        ({"tau_quantile": 1.0}, r"tau_quantile must lie in \(0, 1\); got 1\.0"),
        ({"floor": 0.0}, r"floor must lie in \(0, 1\); got 0\.0"),
        ({"train_steps": 750}, r"train_steps must be a multiple of 500, or less; got 750"),
        ({"train_draws": 5}, r"train_draws must be at least 100; got 5"),
        ({"n_failures": -1}, r"n_failures must be at least 0; got -1"),
        ({"tail_runs": 4}, r"tail_runs must be at least 5; got 4"),
        ({"tail_evaluations": 100}, r"tail_evaluations must allow one level"),
    ],
)
def test_refusals(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        NetworkRunConfig(network="default", **changes)
