"""A folder that one configuration owns: claimed by `config.yaml`, refused to any other.

Trainings and audits write their state here and find it again after an interruption.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml

from channels.support import CsiAuditError, write_text_atomic

CONFIG_NAME = "config.yaml"
STATE_NAME = "state"
_TEMPORARY = re.compile(r"\..+\.(\d+)\.tmp")  # what channels.support.atomic_write writes beside


class AnotherConfigError(CsiAuditError):
    """The folder was begun with another configuration."""


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a configuration of plain values."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def claim_folder(folder: str | Path, config: Mapping[str, Any]) -> Path:
    """Make `folder` with `config.yaml` in it, or find it there from the same configuration.

    Half-written files that a killed process left in it or in its `state/` are removed.

    Args:
        folder: Created with its parents if missing.
        config: Plain values (str, int, float, bool, None, lists, mappings) that fix the result.
    Returns:
        The folder.
    Raises:
        CsiAuditError: the folder belongs to another configuration (names the keys that differ),
            holds files without a configuration, or cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # A kill between making the folder and writing its configuration leaves only temporaries.
        foreign = [p.name for p in folder.iterdir() if not p.name.startswith(".")]
    except OSError as error:
        raise CsiAuditError(
            f"{folder} cannot be used as output folder: {error.strerror or error}. "
            "Choose another path."
        ) from error
    path = folder / CONFIG_NAME
    if path.is_file():
        _refuse_other(path, config)
    elif foreign:
        raise CsiAuditError(
            f"{folder} holds {foreign[0]!r} but no {CONFIG_NAME}: it is not a folder of csi-audit. "
            "Choose an empty or new folder."
        )
    else:
        write_text_atomic(path, yaml.safe_dump(dict(config), sort_keys=False))
    for leftover in [*leftovers(folder), *leftovers(folder / STATE_NAME)]:
        with suppress(OSError):  # another process was faster, or it is a folder
            leftover.unlink()
    return folder


def leftovers(folder: Path) -> list[Path]:
    """Temporaries `.name.<pid>.tmp` in `folder` of processes that this machine no longer runs."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:  # no such folder
        return []
    found = [(name, _TEMPORARY.fullmatch(name)) for name in names]
    return [folder / name for name, match in found if match and not _may_live(int(match[1]))]


def _may_live(pid: int) -> bool:
    """False only if this machine certainly runs no process of that number."""
    if os.name != "posix":  # elsewhere, signal 0 would end the process
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process; no process number at all
        return True
    return True


def _refuse_other(path: Path, config: Mapping[str, Any]) -> None:
    try:
        old = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CsiAuditError(f"{path} cannot be read: {reason}. Choose a new folder.") from error
    old = old if isinstance(old, dict) else {}
    if config_hash(old) == config_hash(config):
        return
    keys = sorted(k for k in {*old, *config} if old.get(k) != config.get(k))
    key = keys[0] if keys else "?"
    raise AnotherConfigError(
        f"{path.parent} was begun with another configuration ({', '.join(keys)} differ; "
        f"{key}: {old.get(key)!r} there, {config.get(key)!r} now). "
        "Choose a new folder, or repeat the old configuration to resume it."
    )
