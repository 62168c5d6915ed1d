"""The command line: `csi-audit COMMAND ...`, one frozen dataclass of settings behind each command.

Bad input prints one line and exits with code 2; `--debug` before the command shows the traceback.
"""

import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, get_args, get_origin, get_type_hints

from channels.support import CsiAuditError, did_you_mean
from csi_audit.base_settings import FitBaseConfig
from csi_audit.comparison_settings import CompareConfig
from csi_audit.configs import (
    ConvertConfig,
    DemoConfig,
    FitCompressorConfig,
    GenerateConfig,
    InspectConfig,
    ReportConfig,
    RunConfig,
)
from csi_audit.hardening_settings import HardenConfig
from csi_audit.network_settings import NetworkRunConfig

EXIT_OK, EXIT_BAD_INPUT, EXIT_INTERRUPTED = 0, 2, 130
_RESUMABLE = ("demo", "run", "fit-base", "fit-compressor", "check-base", "compare", "harden")
_NUMBERS = ("panel", "tau", "tau_db", "ratio", "bits")  # lists of numbers; all others are names


@dataclass(frozen=True)
class _Command:
    """A command.

    Attributes:
        settings: Dataclass of its flags.
        run: What it does; returns the exit code, None for 0.
        positional: Flag that may stand bare.
        help: One line.
    """

    settings: type[Any]
    run: Callable[[Any], int | None]
    positional: str | None
    help: str


def _commands() -> dict[str, _Command]:
    from csi_audit import (
        base_commands,
        channel_commands,
        commands,
        comparison_command,
        compressor_commands,
        export_command,
        fit_base_command,
        gate_command,
        hardening_command,
        verify_command,
    )

    return {
        "demo": _Command(
            DemoConfig, commands.demo, None, "audit the bundled compressors on bundled channels"
        ),
        "inspect": _Command(
            InspectConfig,
            channel_commands.inspect,
            "data",
            "say what channel files hold, and how far they lie apart",
        ),
        "convert": _Command(
            ConvertConfig,
            channel_commands.convert,
            "data",
            "write any readable channel file as compact HDF5",
        ),
        "generate": _Command(
            GenerateConfig, channel_commands.generate, None, "simulate channels by 3GPP TR 38.901"
        ),
        "fit-base": _Command(
            FitBaseConfig,
            fit_base_command.fit_base_model,
            "data",
            "train the base model of channels",
        ),
        "fit-compressor": _Command(
            FitCompressorConfig, commands.fit_neural_compressor, "data", "train a compressor"
        ),
        "check-base": _Command(
            base_commands.CheckBaseConfig,
            base_commands.check_base_model,
            "base",
            "say how close a base model's law is to that of real channels",
        ),
        "check-compressor": _Command(
            compressor_commands.CheckCompressorConfig,
            compressor_commands.check,
            "compressor",
            "say whether an audit of a compressor would mean anything",
        ),
        "verify": _Command(
            verify_command.VerifyConfig,
            verify_command.verify,
            "checkpoint",
            "measure published checkpoints beside their published figures",
        ),
        "run": _Command(
            RunConfig,
            commands.run,
            None,
            "audit compressors on a channel file, or with --network a cell network",
        ),
        "compare": _Command(
            CompareConfig,
            comparison_command.compare_compressors,
            "runs",
            "set several compressors side by side on the same channels",
        ),
        "gate": _Command(
            gate_command.GateConfig,
            gate_command.gate_result,
            "result",
            "pass or fail a result against limits, or against an older one, for CI",
        ),
        "export-failures": _Command(
            export_command.ExportConfig,
            export_command.export_failures,
            "run",
            "write the failure channels of a run with their weights",
        ),
        "harden": _Command(
            HardenConfig,
            hardening_command.harden,
            "compressor",
            "fine-tune a compressor on channels it does badly on",
        ),
        "report": _Command(
            ReportConfig, commands.report, "run", "write the report of a finished run again"
        ),
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in given[:1]
    given = given[1:] if debug else given
    try:
        command, settings = _parse(given)
        return command.run(settings) or EXIT_OK
    except CsiAuditError as error:
        if debug:
            raise
        print(f"csi-audit: {error}", file=sys.stderr)
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        resumes = any(name in given[:1] for name in _RESUMABLE)
        hint = "name the same --out to go on" if resumes else "nothing was written"
        print(f"csi-audit: interrupted; {hint}.", file=sys.stderr)
        return EXIT_INTERRUPTED


def _parse(given: list[str]) -> tuple[_Command, Any]:
    commands = _commands()
    if not given or given[0] in ("-h", "--help", "help"):
        _print_help(commands)
        raise SystemExit(EXIT_OK)
    if given[0] == "--version":
        from csi_audit import __version__

        print(f"csi-audit {__version__}")
        raise SystemExit(EXIT_OK)
    name, rest = given[0], given[1:]
    if name not in commands:
        raise CsiAuditError(f"there is no command {name!r}.{did_you_mean(name, commands)}")
    command = commands[name]
    if name == "run" and _is_of_network(rest):
        command = replace(command, settings=NetworkRunConfig)
    return command, _settings(name, command, rest)


def _is_of_network(rest: Sequence[str]) -> bool:
    """Whether the flags of `run`, or the YAML file that --config names, speak of a network.

    Raises:
        CsiAuditError: they speak of compressors too.
    """
    flags = [word.partition("=")[0] for word in rest if word.startswith("--")]
    if "--network" not in flags and not _config_has(rest, "network"):
        return False
    if "--compressor" in flags:
        raise CsiAuditError(
            "--network audits a cell network and --compressor compressors: give one of the two."
        )
    return True


def _config_has(rest: Sequence[str], key: str) -> bool:
    """Whether the YAML file behind --config has a key; a file that cannot be read has none."""
    import yaml

    for i, word in enumerate(rest):
        flag, equals, value = word.partition("=")
        if flag == "--config" and (equals or i + 1 < len(rest)):
            try:
                with open(value if equals else rest[i + 1], encoding="utf-8") as file:
                    said = yaml.safe_load(file)
            except (OSError, ValueError, yaml.YAMLError):
                return False  # the parser says what is wrong with it
            return isinstance(said, dict) and key in said
    return False


def _settings(name: str, command: _Command, rest: list[str]) -> Any:
    """The command's dataclass from its flags and, with --config, a YAML file."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(
        prog=f"csi-audit {name}", description=command.help, exit_on_error=False
    )
    parser.add_argument("--config", action="config", help="YAML file with any of these settings")
    parser.add_class_arguments(command.settings)
    try:
        parsed = parser.parse_args(_rewritten(rest, command))
    except jsonargparse.ArgumentError as error:
        raise CsiAuditError(_plain(str(error), name, command)) from error
    values = {key: value for key, value in vars(parsed).items() if key != "config"}
    return command.settings(**values)


def _rewritten(rest: list[str], command: _Command) -> list[str]:
    """Bare first words become the positional flag, bare switches true, repeated flags one list."""
    words = list(rest)
    lists: dict[str, list[str]] = {name: [] for name in _list_fields(command.settings)}
    switches = [name for name, kind in get_type_hints(command.settings).items() if kind is bool]
    bare: list[str] = []
    while command.positional is not None and words and not words[0].startswith("-"):
        bare.append(f"--{command.positional}={words.pop(0)}")
        if command.positional not in lists:
            break
    words = [*bare, *words]
    kept: list[str] = []
    while words:
        word = words.pop(0)
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("--").replace("-", "_")
        if name in switches and not equals and not (words and not words[0].startswith("--")):
            kept.append(f"--{name}=true")
        elif not (flag.startswith("--") and name in lists):
            kept.append(word.replace(flag, f"--{name}", 1) if flag.startswith("--") else word)
        elif equals:
            lists[name].append(value)
        elif words and not words[0].startswith("--"):
            lists[name].append(words.pop(0))
        else:
            raise CsiAuditError(f"{flag} needs a value.")
    for name, values in lists.items():
        if values:
            kept.append(f"--{name}=[{', '.join(_quoted(v, name) for v in values)}]")
    return kept


def _list_fields(settings: type[Any]) -> list[str]:
    """Settings that hold several values: tuples, or None."""
    hints = get_type_hints(settings)
    return [
        name
        for name in settings.__dataclass_fields__
        if any(get_origin(kind) is tuple for kind in (hints[name], *get_args(hints[name])))
    ]


def _quoted(value: str, name: str) -> str:
    """Numbers as they stand, a name as a YAML string of plain ASCII."""
    if name in _NUMBERS:
        return value.strip().removeprefix("[").removesuffix("]")
    plain = (c.isascii() and c.isprintable() and c not in '"\\' for c in value)
    pairs = zip(value, plain, strict=True)
    return '"' + "".join(c if as_is else f"\\U{ord(c):08X}" for c, as_is in pairs) + '"'


def _plain(message: str, name: str, command: _Command) -> str:
    """jsonargparse's message in one line, with a hint at the flag that was meant."""
    line = " ".join(message.split()).rstrip(".")
    value = re.match(r'Parser key "(\w+)": .*?(?:Given value|Got value): (.*)$', line)
    if value is not None and value[1] in command.settings.__dataclass_fields__:
        kind = _kind(get_type_hints(command.settings)[value[1]])
        given = value[2].rsplit("Given value: ", 1)[-1]
        return f"--{value[1]} must be {kind}; got {given}. See csi-audit {name} --help."
    fields = list(command.settings.__dataclass_fields__)
    flags = [f"--{field}" for field in fields]
    words = [w for w in line.replace("=", " ").split() if w.startswith("--")]
    unknown = [w for w in words if w not in flags]
    key = re.match(r"Option '(.*)' is not accepted", line)  # of a YAML file
    hint = did_you_mean(unknown[0], flags) if "nrecognized" in line and unknown else ""
    hint = did_you_mean(key[1], fields) if key else hint
    return f"{line}.{hint} See csi-audit {name} --help."


def _kind(hint: Any) -> str:
    """A type in words: what a flag must be."""
    kinds = [kind for kind in get_args(hint) if kind is not type(None)] or [hint]
    if get_origin(hint) is Literal:
        return f"one of {', '.join(map(str, get_args(hint)))}"
    if get_origin(hint) is tuple:
        inner = [kind for kind in get_args(hint) if kind is not Ellipsis]
        count = "several" if Ellipsis in get_args(hint) else str(len(inner))
        return f"{count} values, each {_kind(inner[0])}"
    if len(kinds) == 1 and kinds[0] is not hint:
        return _kind(kinds[0])
    return {int: "a whole number", float: "a number", str: "a word"}.get(hint, str(hint))


def _print_help(commands: dict[str, _Command]) -> None:
    print("usage: csi-audit [--debug] COMMAND [settings]\n")
    print("Finds the channels on which a neural CSI compressor fails, how badly, and how often.\n")
    for name, command in commands.items():
        print(f"  {name:<15} {command.help}")
    print("\ncsi-audit COMMAND --help lists the settings; --config FILE.yaml reads them.")
    print("csi-audit run --network default --help lists those of a network.")


if __name__ == "__main__":
    sys.exit(main())
