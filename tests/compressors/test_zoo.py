"""Compressors by architecture: built, described, saved and loaded again."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from channels import CsiAuditError, file_sha256
from compressors import (
    CompressorSpec,
    Klt,
    build_compressor,
    in_audit_space,
    load_compressor,
    save_compressor,
)

SHAPE = (2, 8, 8)
GLOBAL = (("scaling", "global"), ("scale", 0.1), ("offset", 0.5))
SPECS = {
    "csinet": CompressorSpec(arch="csinet", n_code=16, event_shape=SHAPE, convention=GLOBAL),
    "crnet": CompressorSpec.for_ratio("crnet", 8, event_shape=SHAPE),
    "clnet": CompressorSpec.for_ratio("clnet", 8, event_shape=SHAPE),
    "acrnet": CompressorSpec.for_ratio("acrnet", 8, event_shape=SHAPE, options={"expansion": 2}),
    "transnet": CompressorSpec.for_ratio("transnet", 8, event_shape=SHAPE),
    "conv-fsq": CompressorSpec.for_ratio("conv-fsq", 8, event_shape=SHAPE, options={"levels": 5}),
    "klt": CompressorSpec(arch="klt", n_code=16, event_shape=(4, 4, 8)),
}


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


# --- Build ----------------------------------------------------------------------------------------


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("crnett", r"arch must be a known architecture; got 'crnett'\. Did you mean 'crnet'\?"),
        ("CsiNet", r"got 'CsiNet'\. Did you mean 'csinet'\?"),
        ("conv_fsq", r"got 'conv_fsq'\. Did you mean 'conv-fsq'\?"),
        (
            "xyz",
            r"'xyz'\. Choose from: acrnet, beam-codebook, clnet, conv-fsq, crnet, csinet, klt,",
        ),
        ("top-taps", r"top-taps is fitted to a number of bits and has no ratio\."),
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
@pytest.mark.parametrize("arch", sorted(set(SPECS) - {"klt"}))
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


@pytest.mark.unit
def test_specs_of_files_older_than_options_are_read() -> None:
    """And an architecture without options is described as it always was."""
    older = {"arch": "crnet", "n_code": 128, "event_shape": [2, 32, 32], "variant": "linear_trunk"}
    spec = CompressorSpec.from_dict({**older, "convention": {}})
    assert spec == CompressorSpec.for_ratio("crnet", 16)
    assert spec.to_dict() == {**older, "convention": {}}


@pytest.mark.unit
def test_options_are_kept_with_their_defaults() -> None:
    """A later default must not change what a file holds."""
    assert CompressorSpec.for_ratio("conv-fsq", 16).to_dict()["options"] == {"levels": 8}
    assert CompressorSpec.for_ratio("acrnet", 16).to_dict()["options"] == {"expansion": 1}
    with torch.device("meta"):  # where nothing is drawn
        wide = build_compressor("acrnet", ratio=64, expansion=2)
        narrow = build_compressor("acrnet", ratio=64)
    more = sum(p.numel() for p in wide.parameters()) - sum(p.numel() for p in narrow.parameters())
    # 2 blocks, each 8 channels more: CB1x9, PReLU, CB7x7 of two channels a group, PReLU, CB9x1.
    assert more == 2 * (8 * (2 * 9 + 2) + 8 + 8 * (2 * 49 + 2) + 8 + 8 * 2 * 9)


@pytest.mark.unit
@pytest.mark.parametrize(
    ("arch", "options", "message"),
    [
        (
            "acrnet",
            {"expantion": 2},
            r"acrnet must .*'expantion'\. Did you mean 'expansion'\?",
        ),
        ("csinet", {"levels": 4}, r"options of csinet must be known ones; got 'levels'\. It has n"),
        ("acrnet", {"expansion": 0}, r"expansion must be at least 1; got 0\."),
        ("conv-fsq", {"levels": 1}, r"levels must be at least 2, one bit a code number; got 1\."),
    ],
)
def test_options_that_do_not_exist_or_fit(arch: str, options: dict[str, int], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        build_compressor(arch, **options)


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
