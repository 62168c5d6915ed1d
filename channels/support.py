"""What every package of the house leans on: the user-facing error, whole-or-nothing file writes,
the loader of `package.module:attr` and `file.py:attr`, and "did you mean".

Nothing here knows what a channel is, and nothing here imports another module of ours.
"""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.util
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType
from typing import Any

__all__ = [
    "CsiAuditError",
    "atomic_write",
    "check_target",
    "did_you_mean",
    "file_sha256",
    "load_object",
    "write_text_atomic",
]


class CsiAuditError(ValueError):
    """Bad input of the user. The command line prints the message alone and exits with code 2."""


def did_you_mean(name: str, choices: Iterable[str]) -> str:
    """Sentence that helps after an unknown name, with a leading space; "" without choices.

    >>> did_you_mean("umi_tran.h5", ["umi_train.h5", "umi_test.h5"])
    " Did you mean 'umi_train.h5'?"
    >>> did_you_mean("xyz", ["b", "a"])
    ' Choose from: a, b.'
    """
    known = sorted({str(choice) for choice in choices})
    if not known:
        return ""
    lowered = {choice.lower(): choice for choice in reversed(known)}
    close = difflib.get_close_matches(str(name).lower(), lowered, n=1, cutoff=0.6)
    if close:
        return f" Did you mean {lowered[close[0]]!r}?"
    shown = ", ".join(known[:12]) + (f", ... ({len(known)} in all)" if len(known) > 12 else "")
    return f" Choose from: {shown}."


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits.

    Raises:
        CsiAuditError: the file cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise CsiAuditError(f"{path} cannot be read: {error.strerror or error}.") from error
    return digest.hexdigest()


def _sync(path: Path) -> None:
    """Ask the system to put the file's bytes on the disk before the rename shows them."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_target(target: Path) -> None:
    """Refuse a file that could not be written, before the work that would fill it.

    Raises:
        CsiAuditError: its folder is missing or not writable, or it is a folder itself.
    """
    folder = target.parent
    if not folder.is_dir():
        raise CsiAuditError(
            f"{target} cannot be written: the folder {folder} does not exist. "
            "Create it or choose another path."
        )
    if target.is_dir():
        raise CsiAuditError(f"{target} is a folder; give the name of a file to write.")
    if not os.access(folder, os.W_OK | os.X_OK):
        raise CsiAuditError(
            f"{target} cannot be written: no permission in the folder {folder}. "
            "Choose another path or change the folder's permissions."
        )


@contextmanager
def atomic_write(path: str | os.PathLike[str]) -> Iterator[Path]:
    """File that appears whole or not at all: yields a temporary path beside the target.

    The temporary lies in the target's folder (`.name.pid.tmp`), so the final rename stays on one
    file system. Leaving the block syncs and renames; an exception removes the temporary and leaves
    an older target untouched.

    Args:
        path: Target file.
    Yields:
        Path to write to. The block must create it.
    Raises:
        CsiAuditError: the folder is missing or not writable, or the disk refuses (full, read-only).
    """
    target = Path(path)
    check_target(target)
    temporary = target.parent / f".{target.name}.{os.getpid()}.tmp"
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise CsiAuditError(
            f"{target} cannot be written: {error.strerror or error}. "
            "Free some space or choose another path."
        ) from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def write_text_atomic(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` in UTF-8 with `\\n` line ends, whole or not at all (see `atomic_write`)."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def _load_file(file: Path, spec: str) -> ModuleType:
    """Run a Python file under a name of its own, kept in sys.modules so that its classes pickle."""
    if not file.is_file():
        folder = file.parent
        names = [p.name for p in folder.glob("*.py")] if folder.is_dir() else []
        raise CsiAuditError(f"{spec!r}: there is no file {file}.{did_you_mean(file.name, names)}")
    digest = hashlib.sha256(str(file.resolve()).encode()).hexdigest()[:12]
    name = f"csi_audit_user_{file.stem}_{digest}"
    module_spec = importlib.util.spec_from_file_location(name, file)
    if module_spec is None or module_spec.loader is None:
        raise CsiAuditError(f"{spec!r}: {file} is not a Python file.")
    module = importlib.util.module_from_spec(module_spec)
    sys.modules[name] = module
    try:
        module_spec.loader.exec_module(module)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    return module


def _load_module(name: str, spec: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # A module missing INSIDE the user's module is his bug to see, not a wrong spec.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        raise CsiAuditError(
            f"{spec!r}: there is no module {error.name!r}. Is its folder on PYTHONPATH? "
            "A file is named as path/to/file.py:attr."
        ) from error


def load_object(spec: str) -> Any:
    """Object named by `package.module:attr` or `path/to/file.py:attr`.

    Runs the named module or file: pass only what the user wrote on the command line or in his
    configuration. `attr` may be dotted (`Class.method`).

    >>> load_object("math:sqrt")(4.0)
    2.0

    Args:
        spec: Module or file, a colon, an attribute.
    Returns:
        The object as it stands: it is not called.
    Raises:
        CsiAuditError: no colon, no such file or module, no such attribute.
    """
    place, colon, attribute = str(spec).rpartition(":")
    if not (colon and place and attribute):
        raise CsiAuditError(
            f"spec must be package.module:attr or file.py:attr; got {spec!r}. "
            "Put a colon before the name of the object."
        )
    is_file = place.endswith(".py") or "/" in place or os.sep in place
    found: Any = _load_file(Path(place), spec) if is_file else _load_module(place, spec)
    for part in attribute.split("."):
        if not hasattr(found, part):
            public = [name for name in vars(found) if not name.startswith("_")]
            raise CsiAuditError(
                f"{spec!r}: {place} has no attribute {part!r}.{did_you_mean(part, public)}"
            )
        found = getattr(found, part)
    return found
