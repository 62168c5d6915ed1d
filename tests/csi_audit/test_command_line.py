"""From words on the command line to settings; codes and words on the way out."""

import contextlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import csi_audit
from channels.support import CsiAuditError
from csi_audit import channel_commands, commands, fit_base_command
from csi_audit.base_settings import FitBaseConfig
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_INTERRUPTED, EXIT_OK, main
from csi_audit.configs import FitCompressorConfig, InspectConfig, RunConfig

unit = pytest.mark.unit

FUNCTIONS = {
    "demo": "demo",
    "inspect": "inspect",
    "convert": "convert",
    "generate": "generate",
    "fit-base": "fit_base_model",
    "fit-compressor": "fit_neural_compressor",
    "run": "run",
    "report": "report",
}
NAMES = tuple(FUNCTIONS)


@contextlib.contextmanager
def caught() -> Iterator[list[Any]]:
    """Settings that reach a command, which does nothing with them."""
    found: list[Any] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in FUNCTIONS.values():
            homes = (channel_commands, fit_base_command, commands)
            home = next(module for module in homes if hasattr(module, name))
            patch.setattr(home, name, found.append)
        yield found


def parsed(*arguments: str) -> Any:
    """The settings behind a command line."""
    with caught() as found:
        assert main(arguments) == EXIT_OK
    (settings,) = found
    return settings


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command prints."""
    with caught() as found:
        assert main(arguments) == EXIT_BAD_INPUT
    assert found == []
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("csi-audit: ")
    return line


def run(*arguments: str) -> Any:
    return parsed("run", "--data", "users.h5", *arguments)


# --- Flags ----------------------------------------------------------------------------------------


@unit
def test_a_bare_switch_is_on() -> None:
    words = ["--compressor", "klt-16"]
    assert run(*words).double_steps is False
    for switch in (["--double-steps"], ["--double_steps", "true"], ["--double-steps=true"]):
        assert run(*switch, *words).double_steps is True
        assert run(*words, *switch).double_steps is True
    assert run("--double-steps", "false", *words).double_steps is False


@unit
def test_defaults_are_those_of_the_dataclass() -> None:
    assert run("--compressor", "klt-16") == RunConfig(data="users.h5", compressor=("klt-16",))
    assert parsed("fit-base", "users.h5") == FitBaseConfig(data=("users.h5",))
    assert parsed("fit-compressor", "users.h5") == FitCompressorConfig(data="users.h5")


@unit
def test_several_files_make_one_base() -> None:
    found = parsed("fit-base", "a.h5", "b c.mat", "--validation", "v.h5", "--steps", "64")
    wanted = FitBaseConfig(data=("a.h5", "b c.mat"), validation=("v.h5",), steps=64)
    assert found == wanted
    assert parsed("fit-base", "a.h5", "--adapt", "b.safetensors").adapt == "b.safetensors"


@unit
def test_compressor_is_repeated() -> None:
    found = run("--compressor", "klt-16", "--seed", "3", "--compressor=a.py:B", "--compressor", "c")
    assert found.compressor == ("klt-16", "a.py:B", "c")
    assert found.seed == 3


@unit
@pytest.mark.parametrize(
    "name",
    [
        "my nets/a b.py:Net",
        "a,b.py:Net",
        "it's.py:Net",
        'the "best".py:Net',
        "[a].py:Net",
        "{x: 1}.py:Net",
        "16",
        "null",
        "a=b.py:Net",
        "--odd.py:Net",
        "#7.py:Net",
        r"C:\nets\a.py:Net",
        "réseau.py:Net",
        "📡.py:Net",
    ],
)
def test_names_survive_as_they_are(name: str) -> None:
    assert run(f"--compressor={name}").compressor == (name,)
    if not name.startswith("--"):
        assert run("--compressor", name, "--compressor", "x").compressor == (name, "x")


@pytest.mark.property
@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True))
def test_any_names_survive(names: list[str]) -> None:
    assert run(*(f"--compressor={name}" for name in names)).compressor == tuple(names)


@unit
def test_negative_thresholds_are_repeated() -> None:
    found = run("--compressor", "a", "--tau_db", "-3", "--tau_db", "-5.5", "--tau-db=-1e1")
    assert found.tau_db == (-3.0, -5.5, -10.0)


@unit
def test_hyphens_and_underscores_mean_the_same() -> None:
    hyphens = run("--compressor", "a", "--n-base", "9", "--tau-quantile=0.9", "--issgm-steps", "7")
    scores = run("--compressor", "a", "--n_base", "9", "--tau_quantile=0.9", "--issgm_steps", "7")
    assert hyphens == scores
    assert (hyphens.n_base, hyphens.tau_quantile, hyphens.issgm_steps) == (9, 0.9, 7)


@unit
def test_hyphens_in_values_stay() -> None:
    found = run("--compressor", "my-net", "--out", "my-run", "--base=--odd-name", "--variable=a-b")
    assert (found.compressor, found.out, found.base) == (("my-net",), "my-run", "--odd-name")
    assert found.variable == "a-b"


@unit
def test_a_bare_first_word_is_the_data() -> None:
    found = parsed("inspect", "a b.h5", "--n-sub", "32")
    assert found == InspectConfig(data=("a b.h5",), n_sub=32)
    assert parsed("inspect", "--data", "a.h5") == InspectConfig(data=("a.h5",))
    assert parsed("report", "runs/demo").run == "runs/demo"
    assert parsed("fit-compressor", "a.h5", "--arch", "klt").arch == ("klt",)


@unit
def test_several_bare_words_are_several_files() -> None:
    found = parsed("inspect", "a.h5", "b,c [1].mat", "--data", "d.h5", "--data=e.py:f", "--seed=3")
    assert found == InspectConfig(data=("a.h5", "b,c [1].mat", "d.h5", "e.py:f"), seed=3)


@unit
@pytest.mark.parametrize("panel", [["--panel", "2,1,16"], ["--panel=[2, 1, 16]"]])
def test_panel_is_a_list_with_or_without_brackets(panel: list[str]) -> None:
    assert parsed("inspect", "a.h5", *panel) == InspectConfig(data=("a.h5",), panel=(2, 1, 16))


@unit
@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "--data", "u.h5", "--compressor"], "--compressor needs a value."),
        (["run", "--data", "u.h5", "--compressor", "--seed", "1"], "--compressor needs a value."),
        (["run", "--data", "u.h5"], "the following arguments are required: compressor"),
        (["run", "u.h5", "--compressor", "a"], "unrecognized arguments: u.h5"),
        (["run", "--data", "u", "--compressor", "a", "--sed", "1"], "Did you mean '--seed'?"),
        (
            ["run", "--data", "u", "--compressor", "a", "--n_base", "many"],
            "n_base must be a whole number; got many",
        ),
        (["run", "--data", "u", "--compressor", "a", "--n_base", "1"], "n_base must be at least 2"),
        (["run", "--data", "u", "--compressor", "a", "--tau_db", "x"], "several values, each a"),
        (["run", "--data", "u", "--compressor", "a", "--tau_db", "nan"], "tau_db must be several"),
        (
            ["run", "--data", "u", "--compressor", "a", "--device", "gpu"],
            "device must be one of auto, cpu, cuda",
        ),
        (["fit-base", "u", "--device", "tpu"], "device must be one of auto, cpu, cuda"),
        (["fit-base", "u", "--precision", "64"], "one of bf16-mixed, 32-true"),
        (["inspect"], "the following arguments are required: data"),
        (["inspect", "a", "--panel", "2,x,16"], "panel must be 3 values, each a whole number; got"),
        (["inspect", "a", "--panel"], "--panel needs a value."),
        (["fit-compressor", "a.h5", "b.h5"], "unrecognized arguments: b.h5"),
        (["report"], "the following arguments are required: run"),
        (["fit_base", "u"], "there is no command 'fit_base'. Did you mean 'fit-base'?"),
        (
            ["xyz"],
            "there is no command 'xyz'. Choose from: check-base, check-compressor, ",
        ),
    ],
)
def test_refused_words(
    capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    assert words in refused(capsys, *arguments)


# --- YAML -----------------------------------------------------------------------------------------


def yaml_file(folder: Path, text: str) -> str:
    path = folder / "settings.yaml"
    path.write_text(text)
    return str(path)


@unit
def test_yaml_is_read_and_flags_override_it(tmp_path: Path) -> None:
    text = "data: a.h5\ncompressor: [klt-16, 'b c.py:D']\nsteps: 12\ntau_db: [-7, -8.5]\nseed: 5\n"
    file = yaml_file(tmp_path, text)
    found = parsed("run", "--config", file)
    assert found == RunConfig(
        data="a.h5",
        compressor=("klt-16", "b c.py:D"),
        steps=12,
        tau_db=(-7.0, -8.5),
        seed=5,
    )
    flags = ["--steps", "13", "--compressor", "e", "--tau-db", "-1"]
    over = parsed("run", f"--config={file}", *flags)
    assert (over.steps, over.compressor, over.tau_db, over.seed) == (13, ("e",), (-1.0,), 5)


@unit
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("stepz: 4\n", "Option 'stepz' is not accepted. Did you mean 'steps'?"),
        ("steps: [1\n", "while parsing a flow sequence"),
        ("steps: many\n", "steps must be a whole number; got many"),
        ("- 1\n", "Unexpected config: - 1"),
    ],
)
def test_bad_yaml_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, words: str
) -> None:
    file = yaml_file(tmp_path, text)
    line = refused(capsys, "run", "--data", "u", "--compressor", "a", "--config", file)
    assert words in line
    assert line.endswith("See csi-audit run --help.")


@unit
def test_missing_yaml_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = refused(capsys, "inspect", "a.h5", "--config", str(tmp_path / "no.yaml"))
    assert "File does not exist" in line
    assert "no.yaml" in line


# --- Help, version, codes -------------------------------------------------------------------------


@unit
@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"], ["--debug"]])
def test_help_lists_every_command(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert stopped.value.code == EXIT_OK
    printed = capsys.readouterr().out
    assert all(f"  {name} " in printed for name in NAMES)


@unit
@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_describes_its_flags(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == EXIT_OK
    printed = capsys.readouterr().out
    assert f"csi-audit {name}" in printed
    settings = {"run": RunConfig, "fit-base": FitBaseConfig, "fit-compressor": FitCompressorConfig}
    for field in getattr(settings.get(name), "__dataclass_fields__", ()):
        assert f"--{field} " in printed
    assert "--config" in printed


@unit
def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["--version"])
    assert stopped.value.code == EXIT_OK
    assert capsys.readouterr().out == f"csi-audit {csi_audit.__version__}\n"


def raising(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    """Let `inspect` and `fit-base` end in `error`."""

    def stopped(settings: object) -> None:
        raise error

    monkeypatch.setattr(channel_commands, "inspect", stopped)
    monkeypatch.setattr(fit_base_command, "fit_base_model", stopped)


@unit
def test_debug_shows_the_exception(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, CsiAuditError("a.h5 is bad."))
    assert main(["inspect", "a.h5"]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err == "csi-audit: a.h5 is bad.\n"
    with pytest.raises(CsiAuditError, match=r"a\.h5 is bad"):
        main(["--debug", "inspect", "a.h5"])
    with pytest.raises(CsiAuditError, match="there is no command 'inspct'"):
        main(["--debug", "inspct"])


@unit
def test_interruption_says_how_to_go_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(monkeypatch, KeyboardInterrupt())
    assert main(["fit-base", "a.h5"]) == EXIT_INTERRUPTED == 130
    assert capsys.readouterr().err == "csi-audit: interrupted; name the same --out to go on.\n"
    assert main(["inspect", "a.h5"]) == EXIT_INTERRUPTED
    assert capsys.readouterr().err == "csi-audit: interrupted; nothing was written.\n"


@unit
@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--bandwidth_hz", "10M"], "--bandwidth_hz must be a number; got 10M."),
        (["--panel", "2,x,4"], "--panel must be 3 values, each a whole number; got [2, 'x', 4]."),
        (["--n_sub", "3.5"], "--n_sub must be a whole number; got 3.5."),
        (["--device", "gpu"], "--device must be one of auto, cpu, cuda; got gpu."),
    ],
)
def test_values_of_another_kind(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    line = refused(capsys, "fit-base", "a.h5", *words)
    assert message in line


@unit
def test_bugs_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    raising(monkeypatch, ZeroDivisionError("ours"))
    with pytest.raises(ZeroDivisionError, match="ours"):
        main(["inspect", "a.h5"])


@pytest.mark.end_to_end
def test_the_process_ends_with_the_code(repository_root: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "csi_audit.command_line", "inspect", str(tmp_path / "no.h5")]
    done = subprocess.run(command, cwd=repository_root, capture_output=True, text=True)
    assert done.returncode == EXIT_BAD_INPUT
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("csi-audit: ")
    assert "no.h5" in line
