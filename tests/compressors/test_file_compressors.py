"""Compressors out of model files and cards: TorchScript, torch.export and ONNX answer the same."""

import struct
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Tuple  # noqa: UP035  TorchScript

import pytest
import torch
from torch import Tensor, nn

from channels import Convention, CsiAuditError
from compressors import Klt, check_compressor, in_audit_space, load_compressor
from compressors.compressor_cards import CompressorCard
from compressors.exported_models import external_data, load_exported, model_format
from compressors.file_compressors import _sha256
from compressors.preflight import check_gradient

pytestmark = pytest.mark.unit

SHAPE = (2, 8, 8)
PEAK = "{scaling: sample_peak, scale: 0.5, offset: 0.5, event_shape: [2, 8, 8]}"
FLAT = "{layout: flat, event_shape: [2, 8, 8]}"


class Encoder(nn.Module):
    """[0, 1] planes to 16 numbers."""

    def __init__(self, basis: Tensor) -> None:
        super().__init__()
        self.basis = nn.Parameter(basis)

    def forward(self, y: Tensor) -> Tensor:
        return (y - 0.5).flatten(1) @ self.basis.T


class Decoder(Encoder):
    def forward(self, z: Tensor) -> Tensor:
        return (z @ self.basis).view(-1, 2, 8, 8) + 0.5


class Whole(nn.Module):
    """Both in one, which leaves no code to be seen."""

    def __init__(self, basis: Tensor) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(basis), Decoder(basis)

    def forward(self, y: Tensor) -> Tensor:
        return self.decoder(self.encoder(y))


class Methods(Whole):
    @torch.jit.export
    def encode(self, y: Tensor) -> Tensor:
        return self.encoder(y)

    @torch.jit.export
    def decode(self, z: Tensor) -> Tensor:
        return self.decoder(z)


class Pair(nn.Module):
    """Returns code and reconstruction."""

    def __init__(self, basis: Tensor) -> None:
        super().__init__()
        self.encoder, self.decoder = Encoder(basis), Decoder(basis)

    def forward(self, y: Tensor) -> Tuple[Tensor, Tensor]:  # noqa: UP006  TorchScript
        z = self.encoder(y)
        return z, self.decoder(z)


@dataclass(frozen=True, kw_only=True)
class Models:
    """Files of one linear compressor, and what it computes in audit space."""

    folder: Path
    basis: Tensor

    def x_hat(self, x: Tensor) -> Tensor:
        """Linear but for the centre: whatever the scale about 0.5, the projection of x."""
        return (x.flatten(1) @ self.basis.T @ self.basis).view_as(x)

    def card(self, text: str, name: str = "mine.yaml") -> str:
        (self.folder / name).write_text(text)
        return str(self.folder / name)


def export(module: nn.Module, example: Tensor, path: Path, *, dynamic: bool = True) -> None:
    sizes = ({0: torch.export.Dim("n")},) if dynamic else None
    torch.export.save(torch.export.export(module.eval(), (example,), dynamic_shapes=sizes), path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory, draw_x: Callable[..., Tensor]) -> Models:
    folder = tmp_path_factory.mktemp("models")
    basis = Klt(16, n_tx=8, n_delay=8).fit(draw_x(200)).real_rows()
    y, z = torch.rand(4, *SHAPE), torch.rand(4, 16)
    export(Encoder(basis), y, folder / "encoder.pt2")
    export(Decoder(basis), z, folder / "decoder.pt2")
    export(Whole(basis), y, folder / "four.pt2", dynamic=False)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        for module, name in ((Whole, "whole.pt"), (Methods, "methods.ts"), (Pair, "pair.pt")):
            torch.jit.script(module(basis)).save(folder / name)
    write_onnx(folder / "encoder.onnx", [("MatMul", basis.T)], 128, 16)
    write_onnx(folder / "decoder.onnx", [("MatMul", basis)], 16, 128)
    write_onnx(folder / "four.onnx", [("MatMul", basis.T), ("MatMul", basis)], 128, 128, batch=4)
    return Models(folder=folder, basis=basis)


# --- Two files ------------------------------------------------------------------------------------


def test_two_files_and_a_card(models: Models, draw_x: Callable[..., Tensor]) -> None:
    card = f"encoder: encoder.pt2\ndecoder: decoder.pt2\nname: ours\nconvention: {PEAK}\n"
    named = load_compressor(models.card(card))
    compressor, x = named.compressor, draw_x(6)
    assert torch.allclose(in_audit_space(compressor)(x), models.x_hat(x), atol=1e-4)
    assert compressor.n_code == 16  # counted
    assert compressor.convention == Convention(
        scaling="sample_peak", scale=0.5, offset=0.5, event_shape=SHAPE
    )
    assert (named.name, named.notices) == ("ours", ())
    assert named.card == {
        "files": ["encoder.pt2", "decoder.pt2"],
        "convention_is": "declared",
        "format": "torch.export",
        "differentiable": True,
        "hides_code": False,
    }
    assert compressor.bits(x) is None
    check_compressor(compressor, x, name="ours")
    check_gradient(compressor, x, name="ours")


def test_the_hash_is_of_all_files(models: Models, tmp_path: Path) -> None:
    card = tmp_path / "mine.yaml"

    def digest(model: str, text: str) -> str | None:
        (tmp_path / "model.pt").write_bytes((models.folder / model).read_bytes())
        card.write_text(f"model: model.pt\n{text}convention: {PEAK}\n")
        return load_compressor(str(card)).sha256

    first = digest("whole.pt", "n_code: 16\n")
    assert digest("whole.pt", "n_code: 16\n") == first
    others = {digest("whole.pt", "n_code: 17\n"), digest("methods.ts", "n_code: 16\n")}
    assert len(others | {first}) == 3


def test_an_undeclared_convention_is_detected(
    models: Models, draw_x: Callable[..., Tensor]
) -> None:
    """Linear about 0.5: every form with that offset reconstructs the same, the first is taken."""
    card = models.card("encoder: encoder.pt2\ndecoder: decoder.pt2\n")
    named = load_compressor(card, channels=draw_x(20))
    convention = named.compressor.convention
    assert (convention.scaling, convention.scale, convention.offset) == ("sample_peak", 0.5, 0.5)
    assert convention.event_shape == SHAPE
    assert named.card["convention_is"] == "detected"
    (notice,) = named.notices
    assert notice.startswith("Its convention was detected on 20 channels, not declared: angular-d")
    with pytest.raises(CsiAuditError, match=r"mine\.yaml does not say its convention, and there"):
        load_compressor(card)


def test_a_declared_convention_takes_the_shape_of_the_channels(
    models: Models, draw_x: Callable[..., Tensor]
) -> None:
    card = "encoder: encoder.pt2\ndecoder: decoder.pt2\nconvention: {offset: 0.5, scaling: global, "
    named = load_compressor(models.card(card + "scale: 0.01}"), channels=draw_x(2))
    assert named.compressor.convention.event_shape == SHAPE


# --- One file -------------------------------------------------------------------------------------


@pytest.mark.parametrize("file", ["four.pt2", "whole.pt"])
def test_one_file_from_channel_to_reconstruction(
    file: str, models: Models, draw_x: Callable[..., Tensor]
) -> None:
    """Its code is hidden, so the card declares its length; any batch size does, whatever size the
    file was exported for."""
    named = load_compressor(models.card(f"model: {file}\nn_code: 16\nconvention: {PEAK}\n"))
    (notice,) = named.notices
    assert notice.startswith("n_code is declared, not counted: its model goes from channel to re")
    assert notice.endswith("its 16 numbers.")
    x = draw_x(9)
    for part in (x, x[:1], x[:4]):
        x_hat = in_audit_space(named.compressor)(part)
        assert torch.allclose(x_hat, models.x_hat(part), atol=1e-4)
    assert named.card["hides_code"]
    assert named.compressor.n_code == 16
    check_gradient(named.compressor, x, name="mine")


@pytest.mark.parametrize("file", ["four.pt2", "whole.pt"])
def test_a_hidden_code_length_must_be_declared(
    file: str, models: Models, draw_x: Callable[..., Tensor]
) -> None:
    message = (
        rf"{file} goes from channel to reconstruction and hides its code: n_code must be declared"
        rf"\. Write a card, mine\.yaml, of two lines \(model: {file}, n_code: 128\) and name that"
    )
    with pytest.raises(CsiAuditError, match=message):
        load_compressor(str(models.folder / file), channels=draw_x(9))


def test_torchscript_with_both_methods(models: Models, draw_x: Callable[..., Tensor]) -> None:
    x = draw_x(12)
    named = load_compressor(str(models.folder / "methods.ts"), channels=x)
    assert (named.name, named.card["format"]) == ("methods", "TorchScript")
    assert (named.compressor.n_code, named.card["hides_code"]) == (16, False)
    assert torch.allclose(in_audit_space(named.compressor)(x), models.x_hat(x), atol=1e-4)
    check_compressor(named.compressor, x, name="methods")


def test_formats_are_told_by_name(models: Models, tmp_path: Path) -> None:
    """A file is a program where its name says so; content of another kind is refused."""
    names = {"a.pt2": "torch.export", "a.PT": "TorchScript", "a.ts": "TorchScript"}
    for name, kind in {**names, "a.onnx": "ONNX", "a.pth": None, "a.bin": None}.items():
        assert model_format(tmp_path / name) == kind
    export, script = (models.folder / name for name in ("four.pt2", "whole.pt"))
    for source, name, message in (
        (export, "a.bin", r"a\.bin is no exported model by its name: known are \*\.pt \(TorchSc"),
        (export, "a.pt", r"a\.pt is named like TorchScript and holds torch\.export: rename it to"),
        (script, "a.pt2", r"a\.pt2 is named like torch\.export and holds TorchScript: .*\*\.pt if"),
        (models.folder / "encoder.onnx", "b.pt", r"b\.pt is no readable TorchScript model"),
    ):
        (tmp_path / name).write_bytes(source.read_bytes())
        with pytest.raises(CsiAuditError, match=message):
            load_exported(tmp_path / name)


# --- ONNX -----------------------------------------------------------------------------------------


def test_onnx_without_its_extra(models: Models, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    message = r"encoder\.onnx needs onnxruntime, which is not installed: pip install 'csi-audit\["
    with pytest.raises(CsiAuditError, match=message):
        load_exported(models.folder / "encoder.onnx")


def test_onnx_has_no_gradients(models: Models, draw_x: Callable[..., Tensor]) -> None:
    """Base sampling works, guided sampling is refused in words."""
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    card = f"encoder: encoder.onnx\ndecoder: decoder.onnx\nconvention: {FLAT}\n"
    named = load_compressor(models.card(card))
    x = draw_x(7)
    assert torch.allclose(in_audit_space(named.compressor)(x), models.x_hat(x), atol=1e-4)
    assert (named.compressor.n_code, named.card["differentiable"]) == (16, False)
    check_compressor(named.compressor, x, name="mine")
    message = r"no gradients, and guided sampling \(issgm\) follows them|no usable gradient, which"
    with pytest.raises(CsiAuditError, match=message):
        check_gradient(named.compressor, x, name="mine")
    with pytest.raises(CsiAuditError, match=r"encoder\.onnx is an ONNX model, which has no gradi"):
        in_audit_space(named.compressor)(x.clone().requires_grad_(True))


def test_onnx_of_one_batch_size(models: Models, draw_x: Callable[..., Tensor]) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    named = load_compressor(models.card(f"model: four.onnx\nn_code: 16\nconvention: {FLAT}\n"))
    x = draw_x(10)
    assert torch.allclose(in_audit_space(named.compressor)(x), models.x_hat(x), atol=1e-4)


def test_a_damaged_onnx(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
    (tmp_path / "a.onnx").write_bytes(b"\x08\x08 nothing")
    with pytest.raises(
        CsiAuditError, match=r"a\.onnx is no readable ONNX model \(.*\)\. Is it com"
    ):
        load_exported(tmp_path / "a.onnx")


def test_the_hash_is_of_external_weights_too(tmp_path: Path) -> None:
    """A location of two bytes' length, as protobuf writes it; a missing file is left out."""
    name = "w" * 150 + ".data"
    (tmp_path / name).write_bytes(b"1")
    entries = [field(13, field(1, "location") + field(2, n)) for n in (name, "gone.data")]
    path = tmp_path / "a.onnx"
    path.write_bytes(field(7, b"".join(field(5, field(8, "c0") + entry) for entry in entries)))
    assert external_data(path) == (tmp_path / name,)
    assert external_data(tmp_path / "a.pt") == ()
    card = CompressorCard(path=path, model=path)
    before = _sha256(card)
    (tmp_path / name).write_bytes(b"2")
    assert _sha256(card) != before


# --- What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("encoder: encoder.pt2\n", "must name either model, or encoder and decoder"),
        (
            "model: whole.pt\nencoder: encoder.pt2\ndecoder: decoder.pt2\n",
            "must name either model, or",
        ),
        ("n_code: 3\n", "must name either model, or encoder and decoder"),
        ("modell: whole.pt\n", r"has a field 'modell'\. Did you mean 'model'\?"),
        (
            "model: whole.ptt\n",
            r"model must be a file; there is no .*whole\.ptt\. Did you mean 'wh",
        ),
        ("model: whole.pt\nn_code: 0\n", "n_code must be a positive whole number; got 0"),
        ("model: whole.pt\nn_code: 1.5\n", "n_code must be a positive whole number; got 1.5"),
        ("model: whole.pt\nconvention: 3\n", "convention must hold fields of channels.Conv"),
        (
            "model: whole.pt\nconvention: {scalling: none}\n",
            r"convention has no field 'scalling'\. Did you mean 'scaling'\?",
        ),
        (
            "model: whole.pt\nconvention: {scaling: globl}\n",
            r"scaling must be a known one; got 'gl",
        ),
        (
            "model: whole.pt\nconvention: {scaling: global, scale: a}\n",
            "scale of convention must be",
        ),
        ("just words", "must hold fields of a card"),
        ("a: [", "is no readable YAML"),
    ],
)
def test_bad_cards(text: str, message: str, models: Models) -> None:
    with pytest.raises(CsiAuditError, match=rf"mine\.yaml.*{message}"):
        load_compressor(models.card(text))


@pytest.mark.parametrize("file", ["four.pt2", "whole.pt"])
def test_damaged_models(
    file: str, models: Models, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One line, and nothing from torch beside it."""
    import zipfile

    source, target = models.folder / file, tmp_path / file
    with zipfile.ZipFile(source) as whole, zipfile.ZipFile(target, "w") as damaged:
        for name in whole.namelist():
            content = whole.read(name)
            damaged.writestr(name, content[:7] if name.endswith((".json", "data.pkl")) else content)
    kind = "torch.export" if file == "four.pt2" else "TorchScript"
    broken = rf"{file} is no readable {kind} model \(.*\)\. Is it"
    whole_bytes = source.read_bytes()
    for kept in (None, len(whole_bytes) // 2, 0):
        if kept is not None:
            target.write_bytes(whole_bytes[:kept])
        for load in (load_exported, lambda path: load_compressor(str(path))):
            with pytest.raises(CsiAuditError, match=broken):
                load(target)
    assert capfd.readouterr() == ("", "")


def test_several_outputs(models: Models, draw_x: Callable[..., Tensor]) -> None:
    card = models.card(f"model: pair.pt\nn_code: 16\nconvention: {PEAK}\n")
    message = r"pair\.pt must return one tensor with a row for each of the 3 channels; got tuple\."
    with pytest.raises(CsiAuditError, match=message):
        in_audit_space(load_compressor(card).compressor)(draw_x(3))


def test_another_number_of_antennas(models: Models) -> None:
    card = models.card("encoder: encoder.pt2\ndecoder: decoder.pt2\nconvention: {layout: flat}\n")
    with pytest.raises(CsiAuditError, match=r"encoder\.pt2 fails on a channel \(2, 32, 32\) \("):
        load_compressor(card)


# --- A model in ONNX, byte by byte ----------------------------------------------------------------


def varint(value: int) -> bytes:
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number: int, value: int | bytes | str) -> bytes:
    """One protobuf field: a number, or bytes with their length."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def write_onnx(
    path: Path, steps: list[tuple[str, Tensor]], n_in: int, n_out: int, batch: int | None = None
) -> None:
    """Steps with one constant each on float32 (n, n_in), as ONNX of IR version 8, opset 13."""

    def value(name: str, width: int) -> bytes:
        size = field(2, "n") if batch is None else field(1, batch)
        dims = field(1, size) + field(1, field(1, width))
        kind = field(1, field(1, 1) + field(2, dims))
        return field(1, name) + field(2, kind)

    graph = field(2, "graph")
    for i, (operator, matrix) in enumerate(steps):
        names = field(1, f"t{i}") + field(1, f"c{i}") + field(2, f"t{i + 1}")
        graph += field(1, names + field(4, operator))
        numbers = matrix.contiguous().flatten().tolist()
        dims = b"".join(field(1, size) for size in matrix.shape)
        raw = struct.pack(f"<{len(numbers)}f", *numbers)
        graph += field(5, dims + field(2, 1) + field(8, f"c{i}") + field(9, raw))
    graph += field(11, value("t0", n_in)) + field(12, value(f"t{len(steps)}", n_out))
    opset: Any = field(8, field(1, "") + field(2, 13))
    path.write_bytes(field(1, 8) + field(7, graph) + opset)
