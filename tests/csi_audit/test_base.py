"""The base model as one file, and the constants that sampling needs of it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from channels import CsiAuditError, Grid, file_sha256, flip_array, onto_sphere
from csi_audit.base import (
    Base,
    base_name,
    build_denoiser,
    bundled_base,
    load_base,
    save_base,
    ten_top_deviations,
)
from csi_audit.networks import NetworkSpec

SHAPE = (2, 8, 8)
SMALL = NetworkSpec(options=(("channels", 4), ("hidden", 16), ("depth", 2)))
GRID = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=8, array="uniform linear, 8")


@pytest.fixture
def saved(tmp_path: Path, seeded_torch: None) -> Callable[[], tuple[Path, dict[str, Tensor], str]]:
    """A file with random weights; returns path, weights and hash."""

    def save() -> tuple[Path, dict[str, Tensor], str]:
        denoiser = build_denoiser(SMALL, torch.linspace(0.1, 3, 64).view(8, 8).expand(SHAPE))
        with torch.no_grad():
            for weight in denoiser.parameters():
                weight.add_(0.1 * torch.randn(weight.shape))
        weights = {name: value.clone() for name, value in denoiser.state_dict().items()}
        path = tmp_path / "base.safetensors"
        digest = save_base(
            path,
            weights,
            network=SMALL,
            sigma_min=0.01,
            sigma_max=57.3,
            grid=GRID,
            card={"seed": 4},
        )
        return path, weights, digest

    return save


@pytest.mark.unit
def test_round_trip(saved: Callable[[], tuple[Path, dict[str, Tensor], str]]) -> None:
    path, weights, digest = saved()
    base = load_base(path)
    assert base.sha256 == digest == file_sha256(path)
    assert (base.sigma_min, base.sigma_max, base.grid) == (0.01, 57.3, GRID)
    assert base.card == {"seed": 4}
    assert base.event_shape == SHAPE
    assert torch.equal(base.variance, weights["variance"])  # not rounded
    denoiser = build_denoiser(SMALL, weights["variance"])
    rounded = {n: v if n == "variance" else v.half().float() for n, v in weights.items()}
    denoiser.load_state_dict(rounded)
    denoiser.eval().requires_grad_(False)
    x = torch.randn(3, *SHAPE)
    assert torch.equal(base.denoiser(x, 0.5), denoiser(x, 0.5))
    assert isinstance(base.denoiser, torch.nn.Module)
    assert not base.denoiser.training
    assert not any(p.requires_grad for p in base.denoiser.parameters())


@pytest.mark.unit
def test_equal_bases_are_equal_files(
    saved: Callable[[], tuple[Path, dict[str, Tensor], str]],
) -> None:
    path, weights, digest = saved()
    options: dict[str, Any] = {"sigma_min": 0.01, "sigma_max": 57.3, "grid": GRID}
    for _ in range(10):
        assert digest == save_base(path, weights, network=SMALL, card={"seed": 4}, **options)


@pytest.mark.unit
def test_files_that_are_no_base(
    saved: Callable[[], tuple[Path, dict[str, Tensor], str]], tmp_path: Path
) -> None:
    path, _, _ = saved()
    message = r"base model .*bases\.safetensors does not exist\. Did you mean 'base\.safetensors'\?"
    with pytest.raises(CsiAuditError, match=message):
        load_base(tmp_path / "bases.safetensors")
    with pytest.raises(CsiAuditError, match=r"base model .*b\.safetensors does not exist\.$"):
        load_base(tmp_path / "nowhere" / "b.safetensors")
    whole = path.read_bytes()
    for kept in (0, 6, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:kept])
        message = r"base\.safetensors is no readable safetensors file \(.*\)\. Is it complete\?"
        with pytest.raises(CsiAuditError, match=message):
            load_base(path)
    save_file({"a": torch.zeros(2)}, path, {"kind": "csi-audit compressor 1"})
    message = (
        r"base\.safetensors is not a base model of csi-audit \(kind 'csi-audit compressor 1'\)"
    )
    with pytest.raises(CsiAuditError, match=message):
        load_base(path)


@pytest.mark.unit
def test_weights_that_do_not_fit_their_description(
    saved: Callable[[], tuple[Path, dict[str, Tensor], str]],
) -> None:
    path, _, _ = saved()
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    described = json.loads(metadata["json"])
    described["network"]["options"]["hidden"] = 8
    weights = load_file(path)
    save_file(weights, path, {**metadata, "json": json.dumps(described)})
    with pytest.raises(CsiAuditError, match=r"base\.safetensors is damaged: .*size mismatch.*Make"):
        load_base(path)
    described["network"]["name"] = "axial"
    save_file(weights, path, {**metadata, "json": json.dumps(described)})
    with pytest.raises(CsiAuditError, match=r"network must be a known name; got 'axial'"):
        load_base(path)


OWN_BASE = """
import torch
from channels import Grid
from csi_audit.base import Base
from csi_audit.diffusion import GaussianDenoiser

VARIANCE = torch.full((2, 8, 8), 0.5)

def base():
    law = GaussianDenoiser(0 * VARIANCE, SCALE * VARIANCE)
    grid = Grid(carrier_hz=None, bandwidth_hz=None, n_sub=8)
    return Base(denoiser=law, variance=VARIANCE, sigma_min=0.01, sigma_max=9.0, grid=grid)

def broken():
    raise OSError("no weights here")

MADE, number = base(), 4
"""


@pytest.mark.unit
def test_a_base_of_own_code(tmp_path: Path) -> None:
    """Hashed by its file and its numbers: a finished audit is not taken for another base's."""
    path = tmp_path / "mine.py"
    path.write_text("SCALE = 1.0" + OWN_BASE)
    base = load_base(f"{path}:base")
    assert base.event_shape == SHAPE
    x = torch.ones(1, *SHAPE)
    assert torch.allclose(base.denoiser(x, 0.5), 2 / 3 * x)
    assert len(base.sha256) == 64
    assert load_base(f"{path}:base").sha256 == load_base(f"{path}:MADE").sha256 == base.sha256
    path.write_text("SCALE = 2.0" + OWN_BASE)
    changed = load_base(f"{path}:base").sha256
    path.write_text("import os\nSCALE = float(os.sep == '/') + 1" + OWN_BASE)
    same_numbers = load_base(f"{path}:base").sha256
    assert len({base.sha256, changed, same_numbers}) == 3
    weights = tmp_path / "scale.txt"
    read = f"from pathlib import Path\nSCALE = float(Path({str(weights)!r}).read_text())"
    path.write_text(read + OWN_BASE)
    found = set()
    for scale in ("1.0", "2.0"):
        weights.write_text(scale)
        found.add(load_base(f"{path}:base").sha256)
    assert len(found) == 2


@pytest.mark.unit
def test_own_code_that_is_no_base(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("SCALE = 1.0" + OWN_BASE)
    message = (
        r"mine\.py:number' must be a csi_audit\.base\.Base or a function that returns one; got"
    )
    with pytest.raises(CsiAuditError, match=message):
        load_base(f"{path}:number")
    message = r"is called without arguments: .* It fails \(OSError: no weights here\)\."
    with pytest.raises(CsiAuditError, match=message):
        load_base(f"{path}:broken")
    with pytest.raises(CsiAuditError, match=r"has no attribute 'brokn'\. Did you mean 'broken'"):
        load_base(f"{path}:brokn")


@pytest.mark.unit
def test_channels_of_another_array_are_refused(gaussian: Any, seeded_torch: None) -> None:
    denoiser = build_denoiser(SMALL, torch.ones(SHAPE))
    base = Base(
        denoiser=denoiser, variance=torch.ones(SHAPE), sigma_min=0.01, sigma_max=9.0, grid=GRID
    )
    base.require(SHAPE, name="mine.h5")
    message = (
        r"mine\.h5 holds channels of 1 receive x 64 transmit antennas x 8 delay taps, the base "
        r"model is for 1 receive x 8 transmit antennas x 8 delay taps\. Train a base on such "
        r"channels: csi-audit fit-base\."
    )
    with pytest.raises(CsiAuditError, match=message):
        base.require((2, 64, 8), name="mine.h5")
    message = r"x holds channels of \(7,\), the base model is for \(6,\)\."
    with pytest.raises(CsiAuditError, match=message):
        gaussian.base.require((7,), name="x")


@pytest.mark.unit
def test_ten_top_deviations_against_eigenvalues() -> None:
    generator = torch.Generator().manual_seed(0)
    scale = torch.exp(-0.3 * torch.arange(8))
    x = onto_sphere(scale * torch.randn(200, *SHAPE, generator=generator) + 0.2)
    for data in (x, torch.cat([x, flip_array(x)]), 1e-3 * x):
        rows = data.flatten(1).double().numpy()
        top = np.linalg.eigvalsh(rows.T @ rows / len(rows))[-1]
        assert ten_top_deviations(data) == pytest.approx(10 * np.sqrt(top), rel=1e-3)


@pytest.mark.parametrize("size", ["base", "small"])
def test_the_bundled_bases_carry_their_cards(size: str) -> None:
    base = load_base(size)
    beside = json.loads(bundled_base(size).with_suffix(".card.json").read_text(encoding="utf-8"))
    assert base.card == beside
    assert base.event_shape == (2, 32, 32)
    assert 40 <= base.sigma_max <= 60
    assert {"data", "validation", "plan", "validation_loss", "curve"} <= base.card.keys()
    assert base.card["data"]["name"] == "umi_train.h5"
    assert base.card["validation"]["name"] == "umi_val.mat"
    best = min(loss for _, loss in base.card["curve"])
    assert base.card["validation_loss"] == pytest.approx(best, abs=1e-5)


@pytest.mark.unit
def test_bundled_bases_go_by_name(tmp_path: Path) -> None:
    """A bare name is a bundled base; anything else is a file, called by its name in reports."""
    assert load_base().sha256 == load_base("base").sha256 != load_base("small").sha256
    assert base_name(None) == base_name("base") == "bundled UMi base"
    assert base_name("small") == "bundled small UMi base"
    assert base_name("runs/small/base.safetensors") == "base.safetensors"
    assert base_name(tmp_path / "small") == "small"
    with pytest.raises(CsiAuditError, match=r"smal does not exist\. Did you mean 'small'\?"):
        load_base("smal")
