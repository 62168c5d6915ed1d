"""Compressors by name: built, saved, loaded again from a file, the package or a user's code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from channels import CsiAuditError, file_sha256, load_channels
from channels.channel_set import audit_space
from channels.sample import sample_path
from compressors import (
    CompressorSpec,
    Klt,
    build_compressor,
    bundled_compressors,
    in_audit_space,
    load_compressor,
    loading,
    nmse,
    save_compressor,
)

SHAPE = (2, 8, 8)
GLOBAL = (("scaling", "global"), ("scale", 0.1), ("offset", 0.5))
SPECS = {
    "csinet": CompressorSpec(arch="csinet", n_code=16, event_shape=SHAPE, convention=GLOBAL),
    "crnet": CompressorSpec.for_ratio("crnet", 8, event_shape=SHAPE),
    "klt": CompressorSpec(arch="klt", n_code=16, event_shape=(4, 4, 8)),
}
USERS_OWN = """
import torch
from channels import Convention

class FirstTaps:
    n_code = 2 * 8 * 3
    convention = Convention(event_shape=(2, 8, 8))

    def encode(self, y):
        return y[..., :3].flatten(1)

    def decode(self, z):
        return torch.nn.functional.pad(z.unflatten(1, (2, 8, 3)), (0, 5))

    def bits(self, z):
        return None
"""
NO_BITS = USERS_OWN.partition("    def bits")[0]


@pytest.fixture
def saved(tmp_path: Path, seeded_torch: None) -> Callable[..., Path]:
    """A weights file with a random net of one architecture."""

    def save(arch: str, name: str = "mine-16.safetensors") -> Path:
        net = SPECS[arch].build()
        if isinstance(net, Klt):
            net.basis.normal_()
        save_compressor(tmp_path / name, net, SPECS[arch], card={"seed": 3})
        return tmp_path / name

    return save


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
    """Write a weights file again with other tensors or metadata."""
    described = {"compressor": SPECS["csinet"].to_dict(), "card": {}}
    weights = load_file(path)
    metadata = {"kind": "csi-audit compressor 1", "json": json.dumps(described)}
    change(weights, metadata)
    save_file(weights, path, metadata)


# --- Build ----------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("crnett", r"arch must be a known architecture; got 'crnett'\. Did you mean 'crnet'\?"),
        ("CsiNet", r"got 'CsiNet'\. Did you mean 'csinet'\?"),
        ("xyz", r"got 'xyz'\. Choose from: crnet, csinet, klt\."),
    ],
)
def test_unknown_architecture(arch: str, message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        build_compressor(arch)


@pytest.mark.unit
@pytest.mark.parametrize("ratio", [0, -4, 3])
def test_ratio_must_divide_the_channel(ratio: int) -> None:
    message = rf"ratio must divide the 2048 real numbers of a channel; got {ratio}\. Usual ratios"
    with pytest.raises(CsiAuditError, match=message):
        build_compressor("klt", ratio=ratio)


@pytest.mark.unit
@pytest.mark.parametrize("arch", ["csinet", "crnet"])
def test_neural_nets_read_one_antenna(arch: str) -> None:
    message = f"{arch} reads one receive antenna; got channels with 2. Split the antennas into"
    with pytest.raises(CsiAuditError, match=message):
        CompressorSpec.for_ratio(arch, 4, event_shape=(4, 8, 8))
    assert CompressorSpec.for_ratio("klt", 4, event_shape=(4, 8, 8)).n_code == 64


@pytest.mark.unit
@pytest.mark.parametrize("arch", sorted(SPECS))
def test_specs_survive_json(arch: str) -> None:
    described = json.loads(json.dumps(SPECS[arch].to_dict()))
    assert CompressorSpec.from_dict(described) == SPECS[arch]


# --- Save and load --------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize("arch", sorted(SPECS))
def test_a_saved_compressor_answers_the_same(
    arch: str, saved: Callable[..., Path], draw_x: Callable[..., Tensor]
) -> None:
    """Byte for byte, in eval mode, without gradients in the weights."""
    path = saved(arch)
    loaded = load_compressor(str(path))
    assert (loaded.name, loaded.spec, loaded.card) == ("mine-16", str(path), {"seed": 3})
    assert loaded.sha256 == file_sha256(path)
    again = SPECS[arch].build().eval()
    again.load_state_dict(load_file(path))
    x = draw_x(5, SPECS[arch].event_shape)
    first, second = in_audit_space(loaded.compressor)(x), in_audit_space(again)(x)
    assert first.numpy().tobytes() == second.detach().numpy().tobytes()
    assert isinstance(loaded.compressor, torch.nn.Module)
    assert not loaded.compressor.training
    assert not any(p.requires_grad for p in loaded.compressor.parameters())


@pytest.mark.unit
def test_equal_weights_give_equal_files(saved: Callable[..., Path]) -> None:
    """safetensors alone puts the metadata in a random order; ten times in one order is no luck."""
    path = saved("crnet")
    first = path.read_bytes()
    loaded = load_compressor(str(path))
    assert isinstance(loaded.compressor, torch.nn.Module)
    for _ in range(10):
        digest = save_compressor(path, loaded.compressor, SPECS["crnet"], card=loaded.card)
        assert path.read_bytes() == first
        assert digest == loaded.sha256
    assert int.from_bytes(first[:8], "little") % 8 == 0  # tensors aligned, as safetensors asks


@pytest.mark.unit
def test_a_training_folder_gives_its_name(saved: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    path = saved("klt", "tuned/compressor.safetensors")
    assert load_compressor(str(path)).name == "tuned"


@pytest.mark.unit
def test_bundled_compressors_load_and_keep_their_promise() -> None:
    """Each bundled net, on bundled channels that none has seen, near its card's figure."""
    x = audit_space(load_channels(sample_path()).subset(slice(0, 2000, 8)))
    assert bundled_compressors()
    for name in bundled_compressors():
        loaded = load_compressor(name)
        assert loaded.name == name
        error = nmse(x, in_audit_space(loaded.compressor)(x)).mean()
        promised = loaded.card["validation_nmse_db"]
        assert float(10 * error.log10()) == pytest.approx(promised, abs=1.5)


@pytest.mark.unit
def test_a_name_that_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "bundled_compressors", lambda: {"crnet-16": Path("crnet-16")})
    message = (
        r"compressor 'crnet16' is neither bundled nor a file\. Did you mean 'crnet-16'\? "
        r"Your own code is named as file\.py:Class\."
    )
    with pytest.raises(CsiAuditError, match=message):
        load_compressor("crnet16")


@pytest.mark.unit
@pytest.mark.parametrize("kept", [0, 6, 100, -1])
def test_a_truncated_file(kept: int, saved: Callable[..., Path]) -> None:
    path = saved("csinet")
    path.write_bytes(path.read_bytes()[:kept])
    message = r"mine-16\.safetensors is no readable safetensors file \(.*\)\. Is it complete\?"
    with pytest.raises(CsiAuditError, match=message):
        load_compressor(str(path))


@pytest.mark.unit
def test_a_file_of_something_else(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    message = r"other\.safetensors is no readable safetensors file"
    path.write_bytes(b"PK\x03\x04" + bytes(1000))
    with pytest.raises(CsiAuditError, match=message):
        load_compressor(str(path))
    for metadata, kind in (({}, "None"), ({"kind": "csi-audit base model 1"}, "'csi-audit base")):
        save_file({"a": torch.zeros(3)}, path, metadata)
        message = rf"other\.safetensors is not a compressor of csi-audit \(kind {kind}.*file\.py"
        with pytest.raises(CsiAuditError, match=message):
            load_compressor(str(path))


@pytest.mark.unit
def test_weights_that_do_not_fit_their_description(saved: Callable[..., Path]) -> None:
    def drop(weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
        del weights["to_code.weight"]

    def undescribed(weights: dict[str, Tensor], metadata: dict[str, str]) -> None:
        metadata["json"] = "{"

    for change in (drop, undescribed):
        path = saved("csinet")
        rewrite(path, change)
        with pytest.raises(
            CsiAuditError, match=r"mine-16\.safetensors is damaged: .*Make it again"
        ):
            load_compressor(str(path))


# --- The user's own code --------------------------------------------------------------------------


@pytest.mark.unit
def test_a_users_class_in_under_fifteen_lines(
    tmp_path: Path, draw_x: Callable[..., Tensor]
) -> None:
    assert sum(bool(line.strip()) for line in USERS_OWN.splitlines()) < 15
    (tmp_path / "own.py").write_text(USERS_OWN + "\n\nready = FirstTaps()\nmake = lambda: ready\n")
    x = draw_x()
    for attribute in ("FirstTaps", "ready", "make"):
        loaded = load_compressor(f"{tmp_path / 'own.py'}:{attribute}")
        assert (loaded.name, loaded.card, loaded.sha256) == (attribute, {}, None)
        x_hat = in_audit_space(loaded.compressor)(x)
        assert torch.equal(x_hat, x * (torch.arange(8) < 3))


@pytest.mark.unit
def test_a_users_network_is_put_into_eval_mode(tmp_path: Path) -> None:
    text = USERS_OWN.replace("class FirstTaps:", "class FirstTaps(torch.nn.Dropout):")
    (tmp_path / "own.py").write_text(text)
    made: Any = load_compressor(f"{tmp_path / 'own.py'}:FirstTaps").compressor
    assert not made.training


@pytest.mark.unit
@pytest.mark.parametrize(
    ("attribute", "message"),
    [
        ("FirstTaps", r"own\.py:FirstTaps' lacks bits: a compressor has n_code, convention, enc"),
        ("net", r"own\.py:net' lacks n_code, convention, encode, decode, bits: a compressor has"),
        ("number", r"own\.py:number' lacks n_code, convention, encode, decode, bits: a compressor"),
        ("FirstTap", r"own\.py has no attribute 'FirstTap'\. Did you mean 'FirstTaps'\?"),
    ],
)
def test_what_is_no_compressor(
    attribute: str, message: str, tmp_path: Path, seeded_torch: None
) -> None:
    (tmp_path / "own.py").write_text(NO_BITS + "\n\nnet = torch.nn.Linear(2, 2)\nnumber = 3\n")
    with pytest.raises(CsiAuditError, match=message):
        load_compressor(f"{tmp_path / 'own.py'}:{attribute}")


@pytest.mark.unit
def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"there is no file .*nowhere\.py"):
        load_compressor(f"{tmp_path / 'nowhere.py'}:FirstTaps")
