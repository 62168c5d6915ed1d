"""Toy sizes: a few real users as train and validation files, an untrained base of their shape."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks import harness
from channels import audit_space, load_channels, write_channels
from channels.sample import sample_path
from csi_audit.base import build_denoiser, coefficient_variance, save_base
from csi_audit.networks import NetworkSpec

USERS = 60


@pytest.fixture(scope="session")
def toy_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """`data`: folder with train.h5 and val.h5 of 60 users each; `base`: a Wiener filter."""
    folder = tmp_path_factory.mktemp("toy")
    users = load_channels(sample_path())
    for i, name in enumerate(("train", "val")):
        write_channels(folder / f"{name}.h5", users.subset(slice(i * USERS, (i + 1) * USERS)))
    with torch.random.fork_rng(devices=[]):
        variance = coefficient_variance(audit_space(users.subset(slice(0, 500))))
        denoiser = build_denoiser(NetworkSpec(), variance)
    base = folder / "base.safetensors"
    save_base(
        base,
        denoiser.state_dict(),
        network=NetworkSpec(),
        sigma_min=0.01,
        sigma_max=100.0,
        grid=users.grid,
        card={},
    )
    return {"data": folder, "base": base}


@pytest.fixture
def start(
    toy_files: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Run a benchmark's main() under a command line; returns what it wrote."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    files = {"train": "train.h5", "val": "val.h5"}
    monkeypatch.setattr(harness, "SPLIT_FILES", files)

    def run(main: Callable[[], None], name: str, *arguments: str) -> dict[str, Any]:
        words = [f"{name}.py", "--data-dir", str(toy_files["data"]), *arguments]
        monkeypatch.setattr(sys, "argv", words)
        main()
        record: dict[str, Any] = json.loads((tmp_path / "results" / f"{name}.json").read_text())
        keys = ["name", "command", "seed", "sizes", "machine", "versions", "seconds"]
        assert list(record) == [*keys, "rows", "checks"]
        assert record["name"] == name
        assert record["command"].startswith(f"python -m benchmarks.{name} --data-dir ")
        assert {row["data"] for row in record["rows"]} == {"val"}
        return record

    return run
