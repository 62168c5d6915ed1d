"""Exported models run nothing while they are read, and write nothing beside an error."""

import contextlib
import io
import json
import logging
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from channels import CsiAuditError
from compressors import load_compressor
from compressors.exported_models import _LOGGERS, _quiet, load_exported

pytestmark = pytest.mark.unit

WEIGHTS, CONSTANTS = (f"data/{kind}/model_{kind}_config.json" for kind in ("weights", "constants"))
INPUTS = "data/sample_inputs/model.pt"


class Net(nn.Module):
    """With a weight to replace."""

    def __init__(self) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(1))

    def forward(self, y: Tensor) -> Tensor:
        return self.gain * y


class Attack:
    """Makes a folder when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return os.mkdir, (str(self.target),)


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What an honest archive holds, by name without its folder."""
    path = tmp_path_factory.mktemp("honest") / "net.pt2"
    torch.export.save(torch.export.export(Net(), (torch.ones(3, 4),)), path)
    with zipfile.ZipFile(path) as archive:
        return {name.partition("/")[2]: archive.read(name) for name in archive.namelist()}


def write(path: Path, records: dict[str, bytes]) -> Path:
    """An archive again; a name that begins with a slash lies at its root."""
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in records.items():
            archive.writestr(name[1:] if name.startswith("/") else f"net/{name}", content)
    return path


def pickled_by_torch(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def pickled_weight(records: dict[str, bytes], attack: Attack) -> dict[str, bytes]:
    config = json.loads(records[WEIGHTS])
    config["config"]["gain"]["use_pickle"] = True
    place = f"data/weights/{config['config']['gain']['path_name']}"
    return {WEIGHTS: json.dumps(config).encode(), place: pickled_by_torch(attack)}


def opaque_constant(records: dict[str, bytes], attack: Attack) -> dict[str, bytes]:
    payload = json.loads(records[WEIGHTS])["config"]["gain"]
    config = {"config": {"c": {**payload, "path_name": "opaque_obj_0", "is_param": False}}}
    return {
        CONSTANTS: json.dumps(config).encode(),
        "data/constants/opaque_obj_0": pickle.dumps(attack),
    }


def example_inputs(records: dict[str, bytes], attack: Attack) -> dict[str, bytes]:
    return {INPUTS: pickled_by_torch(((attack,), {}))}


def older_weights(records: dict[str, bytes], attack: Attack) -> dict[str, bytes]:
    return {"data/weights/model.pt": pickled_by_torch({"gain": attack})}


ATTACKS = pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (pickled_weight, r"a pickled object as gain \(use_pickle\)"),
        (opaque_constant, r"an object as c \(opaque_obj_0\)"),
        (example_inputs, "pickled example inputs that are no plain tensors"),
        (older_weights, r"the record data/weights/model\.pt"),
    ],
)


@ATTACKS
def test_an_archive_with_objects_is_refused_and_not_run(
    attack: Callable[..., dict[str, bytes]],
    reason: str,
    records: dict[str, bytes],
    tmp_path: Path,
) -> None:
    target = tmp_path / "pwned"
    path = write(tmp_path / "net.pt2", {**records, **attack(records, Attack(target))})
    message = rf"net\.pt2 holds {reason}, which may run any code .*: refused, and nothing was run"
    for load in (load_exported, lambda path: load_compressor(str(path))):
        with pytest.raises(CsiAuditError, match=message):
            load(path)
    named_like_weights = write(
        tmp_path / "in_04.pth", {**records, **attack(records, Attack(target))}
    )
    with pytest.raises(
        CsiAuditError, match=r"in_04\.pth holds an exported model \(torch\.export\)"
    ):
        load_compressor(str(named_like_weights))
    assert not target.exists()


@pytest.mark.parametrize("name", ["data/aotinductor/model/run.so", "data/other", "/version"])
def test_unknown_records_are_refused(name: str, records: dict[str, bytes], tmp_path: Path) -> None:
    """Machine code, what a later torch may add, and the older form: pickles at the root."""
    path = write(tmp_path / "net.pt2", {**records, name: b"5.0"})
    with pytest.raises(CsiAuditError, match=r"net\.pt2 holds (the record data/|pickles in the ol)"):
        load_exported(path)


def test_an_attack_works_where_nobody_guards(records: dict[str, bytes], tmp_path: Path) -> None:
    target = tmp_path / "pwned"
    attacked = {**records, **pickled_weight(records, Attack(target))}
    path = write(tmp_path / "net.pt2", attacked)
    with contextlib.suppress(Exception):  # what it makes is no weight
        torch.export.load(path)
    assert target.exists()


def test_an_honest_archive_of_any_writer(records: dict[str, bytes], tmp_path: Path) -> None:
    y = torch.arange(12.0).view(3, 4)
    assert torch.equal(load_exported(write(tmp_path / "net.pt2", records))(y), y)


def test_loggers_below_are_silent_and_as_before_afterwards(
    caplog: pytest.LogCaptureFixture,
) -> None:
    parents = [logging.getLogger(name) for name in _LOGGERS]
    children = [logging.getLogger(f"{name}.below.it") for name in _LOGGERS]
    children[0].setLevel(logging.INFO)
    before = [logger.level for logger in (*parents, *children)]
    with contextlib.suppress(ValueError), _quiet(*_LOGGERS):
        for logger in (*parents, *children):
            logger.error("unseen")
        raise ValueError
    assert [logger.level for logger in (*parents, *children)] == before
    assert not caplog.records
    children[0].error("seen")
    children[0].setLevel(logging.NOTSET)
    assert children[0].isEnabledFor(logging.ERROR)
