"""Compressors by name: bundled, from weights files, and a user's own code."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from channels import Convention, CsiAuditError, load_channels
from channels.channel_set import audit_space
from channels.sample import sample_path
from compressors import (
    CompressorSpec,
    Klt,
    bundled_compressors,
    check_compressor,
    in_audit_space,
    load_compressor,
    loading,
    nmse,
    save_compressor,
)

SPEC = CompressorSpec(arch="csinet", n_code=16, event_shape=(2, 8, 8))
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
    """A weights file with a random net."""

    def save(name: str = "mine-16.safetensors") -> Path:
        save_compressor(tmp_path / name, SPEC.build(), SPEC, card={"seed": 3})
        return tmp_path / name

    return save


def rewrite(path: Path, change: Callable[[dict[str, Tensor], dict[str, str]], None]) -> None:
    """Write a weights file again with other tensors or metadata."""
    described = {"compressor": SPEC.to_dict(), "card": {}}
    weights = load_file(path)
    metadata = {"kind": "csi-audit compressor 1", "json": json.dumps(described)}
    change(weights, metadata)
    save_file(weights, path, metadata)


# --- Weights files and names ----------------------------------------------------------------------


@pytest.mark.unit
def test_a_training_folder_gives_its_name(saved: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "tuned").mkdir()
    path = saved("tuned/compressor.safetensors")
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
    path = saved()
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
        path = saved()
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
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def FirstTaps(n): pass", r"TypeError: .*missing 1 required positional argument: 'n'"),
        ("class FirstTaps:\n  def __init__(self, n): pass", r"TypeError: .*positional argument"),
        ("class FirstTaps:\n  def __init__(self): 1 / 0", "ZeroDivisionError: division by zero"),
    ],
)
def test_code_that_cannot_be_called(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(text)
    wanted = (
        r"own\.py:FirstTaps' is called without arguments: load your weights there\. It fails \("
    )
    with pytest.raises(CsiAuditError, match=f"{wanted}{message}"):
        load_compressor(f"{tmp_path / 'own.py'}:FirstTaps")


@pytest.mark.unit
@pytest.mark.parametrize("value", ["None", "0", "True", "1.5", "'16'"])
def test_a_code_length_that_is_none(value: str, tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(USERS_OWN.replace("2 * 8 * 3", value))
    message = rf"own\.py:FirstTaps': n_code must be a positive whole number, .*; got {value}\."
    with pytest.raises(CsiAuditError, match=message):
        load_compressor(f"{tmp_path / 'own.py'}:FirstTaps")


@pytest.mark.unit
def test_a_convention_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(USERS_OWN.replace("Convention(event_shape=(2, 8, 8))", "{}"))
    message = r"own\.py:FirstTaps': convention must be a channels\.Convention; got \{\}\."
    with pytest.raises(CsiAuditError, match=message):
        load_compressor(f"{tmp_path / 'own.py'}:FirstTaps")


@pytest.mark.unit
@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("bad.py", r"bad\.py is Python code: .* Name it .*bad\.py:Class\."),
        ("a.npy", r"a\.npy is a file of channels by its name, not a compressor\. Did you mean --d"),
        ("a.bin", r"a\.bin is no compressor by its name: known are weights of csi-audit \(\.safet"),
        ("a.pth", r"a\.pth is no readable checkpoint \(.*\)\. Is it complete\?"),
        ("a.pth.tar", r"a\.pth\.tar is no readable checkpoint \(.*\)\. Is it complete\?"),
        ("a.pt2", r"a\.pt2 is no readable torch\.export model \(.*\)\. Is it complete"),
        ("a.ts", r"a\.ts is no readable TorchScript model \(.*\)\. Is it complete"),
    ],
)
def test_a_file_is_told_by_its_name(name: str, message: str, tmp_path: Path) -> None:
    for content in (b"", b"PK\x03\x04" + bytes(1000)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(CsiAuditError, match=message):
            load_compressor(str(tmp_path / name))


@pytest.mark.unit
def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"there is no file .*nowhere\.py"):
        load_compressor(f"{tmp_path / 'nowhere.py'}:FirstTaps")


@pytest.mark.unit
def test_an_object_itself(draw_x: Callable[..., Tensor]) -> None:
    klt = Klt(16, n_tx=8, n_delay=8, convention=Convention(event_shape=(2, 8, 8)))
    klt.fit(draw_x(200))
    named = load_compressor(klt)
    assert named.compressor is klt
    assert (named.name, named.spec, named.sha256, named.notices) == ("Klt", "Klt object", None, ())
    check_compressor(named.compressor, draw_x(4), name=named.name)
    with pytest.raises(CsiAuditError, match=r"'list object' lacks n_code, convention, encode, dec"):
        load_compressor([1, 2])  # type: ignore[arg-type]
