"""A folder that one configuration owns: claimed by `config.yaml`, refused to any other.

Trainings and audits write their state here and find it again after an interruption.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from channels.support import CsiAuditError, write_text_atomic

CONFIG_NAME = "config.yaml"


def config_hash(config: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a configuration of plain values."""
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()


def claim_folder(folder: str | Path, config: Mapping[str, Any]) -> Path:
    """Make `folder` with `config.yaml` in it, or find it there from the same configuration.

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
    return folder


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
    raise CsiAuditError(
        f"{path.parent} was begun with another configuration ({', '.join(keys)} differ; "
        f"{key}: {old.get(key)!r} there, {config.get(key)!r} now). "
        "Choose a new folder, or repeat the old configuration to resume it."
    )
