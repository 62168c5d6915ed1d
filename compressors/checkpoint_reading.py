"""Weights out of other people's training checkpoints, without running anything in them.

A checkpoint is a pickle, which may call any function while it is read. torch's safe loading refuses
that, and with it most honest checkpoints: trainers save a named tuple of their own project beside
the weights. Here such names become an empty shell; names of Python or torch are never replaced, so
that what torch does not allow stays refused.
"""

import io
import pickle
import pickletools
import re
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Literal

import torch
from torch import Tensor

from channels.support import CsiAuditError

_SUFFIXES = (".pth", ".pth.tar")
_NESTED = ("state_dict", "model_state_dict", "model", "net", "network", "weights")
_COUNTERS = ("total_ops", "total_params")  # left by a FLOP counter
_WRAPPERS = ("module.", "_orig_mod.")  # left by DataParallel and by torch.compile
_LEGACY_PICKLES = 4  # before torch 1.6: magic number, version, system, then the object
_LEGACY_START = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."


class Shell(tuple[Any, ...]):
    """In place of a class or function of the checkpoint's own project: it keeps what it is given
    and does nothing."""

    def __new__(cls, *values: Any) -> "Shell":
        return super().__new__(cls, values)

    def __setstate__(self, state: Any) -> None:
        """What was inside is not needed."""


def is_checkpoint(path: Path) -> bool:
    """Whether to read a file as weights: *.pth and *.pth.tar whatever they hold, others if they
    are what torch.save writes, in its present or its older form."""
    if path.name.lower().endswith(_SUFFIXES):
        return True
    if zipfile.is_zipfile(path):
        return "data.pkl" in _records(path) and program_inside(path) is None
    with path.open("rb") as file:
        return file.read(len(_LEGACY_START)) == _LEGACY_START


def program_inside(path: Path) -> Literal["TorchScript", "torch.export"] | None:
    """Which exported model of torch a file looks like by its content; None if neither."""
    within = _records(path) if zipfile.is_zipfile(path) else set[str]()
    if {"archive_format", "serialized_exported_program.json"} & within:
        return "torch.export"
    return "TorchScript" if {"constants.pkl", "data.pkl"} <= within else None


def _records(path: Path) -> set[str]:
    """Names in a zip archive, without the folder that torch puts them in."""
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.partition("/")[2] or name for name in archive.namelist()}
    except (zipfile.BadZipFile, ValueError, NotImplementedError):
        return set()


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint by name; nothing in the file is run.

    A dictionary of weights, or one that holds such a dictionary as `state_dict` (`model`, ...).
    Counters that thop leaves and the prefix `module.` of DataParallel go.

    Args:
        path: What torch.save wrote: .pth, .pt, .pth.tar.
    Returns:
        Weights on the CPU.
    Raises:
        CsiAuditError: unreadable, damaged, asks to run something, or holds no weights.
    """
    program = program_inside(path)
    if program is not None:
        suffix = "pt2" if program == "torch.export" else "ts"
        raise CsiAuditError(
            f"{path} holds an exported model ({program}), which is a program; a file of this name "
            f"is read as weights alone, and nothing was run. Rename it to *.{suffix} if you trust "
            "it."
        )
    try:
        found = _load(path)
    except CsiAuditError:
        raise
    except pickle.UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except Exception as error:  # a damaged pickle fails in any way
        raise _unreadable(path, str(error) or type(error).__name__) from error
    return _stripped(_weights(found, path))


def _load(path: Path) -> Any:
    """torch's safe loading, with a shell for every name of a foreign project."""
    named = sorted(_globals(path))
    modules = [name for name in named if name.startswith("torch.nn.modules.")]
    if modules:
        raise CsiAuditError(
            f"{path} holds a whole pickled module ({modules[0]}), which only its own code can "
            "read. Save model.state_dict(), export it with torch.export, or name the class as "
            "file.py:Class."
        )
    shells = [name for name in named if _is_foreign(name)]
    with torch.serialization.safe_globals([(Shell, name) for name in shells]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _globals(path: Path) -> set[str]:
    """Every `module.name` that the pickles of a checkpoint refer to; reads, runs nothing."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            data = next(name for name in archive.namelist() if name.endswith("data.pkl"))
            return set(_named(io.BytesIO(archive.read(data))))
    with path.open("rb") as file:
        return {name for _ in range(_LEGACY_PICKLES) for name in _named(file)}


def _named(stream: BinaryIO | io.BytesIO) -> Iterator[str]:
    """References of one pickle."""
    for opcode, argument, _ in pickletools.genops(stream):
        if opcode.name in ("GLOBAL", "INST"):
            yield str(argument).replace(" ", ".")


def _is_foreign(name: str) -> bool:
    """Whether a name belongs to neither Python nor torch, but to the project of the checkpoint."""
    package = name.partition(".")[0]
    return package not in sys.stdlib_module_names and package not in ("torch", "__builtin__")


def _refused(path: Path, message: str) -> CsiAuditError:
    named = re.search(r"(?:GLOBAL|function) ([\w.]+)", message)
    if named is None:
        return _unreadable(path, message.strip().splitlines()[-1])
    return CsiAuditError(
        f"{path} asks to call {named[1]} while it is read, which no checkpoint of weights needs: "
        "refused, and nothing was run. Ask its author for model.state_dict() alone."
    )


def _unreadable(path: Path, reason: str) -> CsiAuditError:
    words = " ".join(reason.split())[:200].rstrip(".")
    return CsiAuditError(f"{path} is no readable checkpoint ({words}). Is it complete?")


def _weights(found: Any, path: Path) -> Mapping[str, Tensor]:
    inner = [found]
    if isinstance(found, Mapping):
        inner += [found[key] for key in _NESTED if isinstance(found.get(key), Mapping)]
    for candidate in inner:
        if (
            isinstance(candidate, Mapping)
            and candidate
            and all(isinstance(k, str) for k in candidate)
            and all(isinstance(value, Tensor) for value in candidate.values())
        ):
            return candidate
    held = ", ".join(map(str, list(found)[:8])) if isinstance(found, Mapping) else type(found)
    raise CsiAuditError(
        f"{path} must hold a dictionary of weights, at best as 'state_dict'; it holds {held}."
    )


def _stripped(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Without counters, and without a prefix that all names share."""
    kept = {
        name: value for name, value in weights.items() if name.rpartition(".")[2] not in _COUNTERS
    }
    for prefix in _WRAPPERS:
        if kept and all(name.startswith(prefix) for name in kept):
            kept = {name.removeprefix(prefix): value for name, value in kept.items()}
    return kept
