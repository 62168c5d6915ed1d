"""A compressor without gradients, two ONNX files and a card, through the whole audit."""

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import reports.report
from csi_audit import deepening, dispatch
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from reports import Result, load_result

pytest.importorskip("onnxruntime", reason="the extra onnx is not installed")
pytestmark = pytest.mark.end_to_end

N, N_CODE = 128, 32
Audit = Callable[..., tuple[int, Result | None]]


def field(number: int, value: int | bytes | str) -> bytes:
    """One protobuf field: a number below 128, or bytes with their length."""
    if isinstance(value, int):
        return bytes([number << 3]) + _varint(value)
    data = value.encode() if isinstance(value, str) else value
    return bytes([number << 3 | 2]) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    low, high = value & 127, value >> 7
    return bytes([low | 128]) + _varint(high) if high else bytes([low])


def write_matrix(path: Path, matrix: Tensor) -> None:
    """x -> x @ matrix on float32 (n, rows), as ONNX of IR version 8, opset 13."""

    def value(name: str, width: int) -> bytes:
        dims = field(1, field(2, "n")) + field(1, field(1, width))
        return field(1, name) + field(2, field(1, field(1, 1) + field(2, dims)))

    numbers = matrix.contiguous().flatten().tolist()
    sizes = b"".join(field(1, size) for size in matrix.shape)
    raw = struct.pack(f"<{len(numbers)}f", *numbers)
    node = field(1, "x") + field(1, "c") + field(2, "y") + field(4, "MatMul")
    graph = field(1, node) + field(2, "graph")
    graph += field(5, sizes + field(2, 1) + field(8, "c") + field(9, raw))
    graph += field(11, value("x", matrix.shape[0])) + field(12, value("y", matrix.shape[1]))
    opset = field(8, field(1, "") + field(2, 13))
    path.write_bytes(field(1, 8) + field(7, graph) + opset)


@pytest.fixture
def card(tmp_path: Path) -> str:
    """A compressor that keeps the first of 8 delay taps, as a user exports it."""
    kept = torch.eye(N)[torch.arange(N) % 8 < 2]  # (re, im) x beam x delay, delay last
    write_matrix(tmp_path / "encoder.onnx", kept.T)
    write_matrix(tmp_path / "decoder.onnx", kept)
    text = (
        "encoder: encoder.onnx\ndecoder: decoder.onnx\nname: ours\n"
        "convention: {layout: flat, event_shape: [2, 8, 8]}\n"
    )
    (tmp_path / "ours.yaml").write_text(text)
    return str(tmp_path / "ours.yaml")


@pytest.fixture
def audited(tiny: Any, card: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Audit:
    """`csi-audit run` of the ONNX compressor beside one with gradients: exit code and result."""
    monkeypatch.setattr(reports.report, "draw_gallery", lambda result, arrays: [])

    def run(*more: str) -> tuple[int, Result | None]:
        out = tmp_path / "run"
        files = ["--data", str(tiny.data), "--base", str(tiny.base), "--out", str(out)]
        names = ["--compressor", card, "--compressor", tiny.half]
        sizes = [
            "--n-base",
            "60",
            "--steps",
            "4",
            "--guided-steps",
            "5",
            "--guided-particles",
            "64",
        ]
        tails = ["--tail-runs", "5", "--tail-particles", "20", "--tail-deepest", "0.01"]
        code = main(["run", *files, *names, *sizes, *tails, *more])
        return code, load_result(out) if code == EXIT_OK else None

    return run


def test_everything_that_needs_no_gradient(audited: Audit, tmp_path: Path) -> None:
    """Counting, subset simulation with step doubling, reweighting; from the command line."""
    code, result = audited("--tail-method", "subset", "--double-steps")
    assert code == EXIT_OK
    assert result is not None
    ours, half = result.compressors
    assert (ours.name, ours.n_code, half.name) == ("ours", N_CODE, "Half")
    for tail in ours.estimates.tails:
        assert tail.base is not None
        assert tail.base.method.startswith("subset simulation, 5 runs of 20 particles")
        assert tail.counted is not None
        assert tail.real is not None
    assert ours.estimates.curve is not None
    assert [p.probability for p in ours.estimates.curve.points] == pytest.approx([0.1, 0.01])
    assert [entry.label for entry in ours.estimates.chains] == ["audited law", "doubled steps"]
    assert ours.estimates.decisions[0].chosen == "reweighting"
    page = (tmp_path / "run" / "report.html").read_text()
    for words in ("Why these methods", "NMSE [dB] exceeded by", "Twice the steps from the same"):
        assert words in page


def test_the_choice_falls_back_on_reweighting(
    audited: Audit, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where weights are uneven, guided sampling runs for the other compressor alone."""
    for module in (deepening, dispatch):
        monkeypatch.setattr(module, "CV2_LIMIT", 0.0)
    monkeypatch.setattr(dispatch, "CV2_BREAKS", 0.0)
    _, result = audited()
    assert result is not None
    ours, half = result.compressors
    (first, *_), (other, *_) = ours.estimates.decisions, half.estimates.decisions
    assert first.chosen == "reweighting"
    assert first.reason.endswith("impossible: ours has no usable gradient")
    assert [c.verdict for c in first.candidates][:2] == ["chosen", "ours has no usable gradient"]
    assert first.candidates[0].seconds is not None
    assert first.candidates[1].evaluations is None
    assert other.chosen == "guided SMC"
    assert ours.estimates.guided is None
    assert half.estimates.guided is not None
    assert {"guided SMC for Half", "plain draws, guided chain"} <= result.cost.parts.keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["--mean-method", "guided"],
            "compressor ours has no usable gradient, which guided sampling",
        ),
        (["--issgm", "CARD"], "compressor ours has no usable gradient, which guided sampling"),
    ],
)
def test_guided_methods_are_refused_in_words(
    audited: Audit,
    card: str,
    words: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    code, _ = audited(*(card if word == "CARD" else word for word in words))
    assert code == EXIT_BAD_INPUT
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1
