"""Models in files that need no code of their own: TorchScript, torch.export, ONNX.

Each becomes a function of a batch, y -> tensor. Such a file is a program: it is loaded only where
the user names it, and one of unknown origin should not be.
"""

import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from channels.support import CsiAuditError

ModelFormat = Literal["TorchScript", "torch.export", "ONNX"]
_SEEN = "Is it complete, and written by no newer version than the one that reads it?"


def model_format(path: Path) -> ModelFormat | None:
    """What kind of exported model a file holds, by its content (ONNX by its name); None if none."""
    if path.suffix.lower() == ".onnx":
        return "ONNX"
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as archive:
        within = {name.partition("/")[2] or name for name in archive.namelist()}
    if "archive_format" in within or "serialized_exported_program.json" in within:
        return "torch.export"
    return "TorchScript" if {"constants.pkl", "data.pkl"} <= within else None


class ExportedModel:
    """One exported model: a function of a batch, whatever batch size it was exported for.

    Attributes:
        path: The file.
        format: Its kind.
        differentiable: Whether autograd sees through it; ONNX knows no gradients.
        batch_size: The only batch size it takes; None for any. Others are split, and the last part
            filled up with its first channel.
    """

    def __init__(
        self,
        path: Path,
        kind: ModelFormat,
        run: Callable[[Tensor], Any],
        *,
        batch_size: int | None = None,
    ) -> None:
        self.path = path
        self.format = kind
        self.differentiable = kind != "ONNX"
        self.batch_size = batch_size
        self._run = run

    def __call__(self, y: Tensor) -> Tensor:
        """The model's answer to a batch (N, ...).

        Raises:
            CsiAuditError: a gradient is asked of ONNX, or it returns anything but one tensor of a
                row for each channel.
        """
        if not self.differentiable and y.requires_grad and torch.is_grad_enabled():
            raise CsiAuditError(
                f"{self.path} is an ONNX model, which has no gradients, and guided sampling "
                "(issgm) follows them. Audit it without issgm, or export it with torch.export."
            )
        if self.batch_size is None or len(y) == self.batch_size:
            return self._checked(y)
        return torch.cat([self._filled(part, self.batch_size) for part in y.split(self.batch_size)])

    def _filled(self, y: Tensor, size: int) -> Tensor:
        fill = y[:1].expand(size - len(y), *y.shape[1:])
        return self._checked(torch.cat([y, fill]))[: len(y)]

    def _checked(self, y: Tensor) -> Tensor:
        answer = self._run(y)
        if isinstance(answer, tuple | list) and len(answer) == 1:
            answer = answer[0]
        if not isinstance(answer, Tensor) or answer.ndim == 0 or len(answer) != len(y):
            got = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise CsiAuditError(
                f"{self.path} must return one tensor with a row for each of the {len(y)} channels; "
                f"got {got}. Export encoder and decoder apart, each with one input and one output."
            )
        return answer


def load_exported(path: Path) -> ExportedModel:
    """An exported model as a function.

    Args:
        path: TorchScript (torch.jit.save), torch.export (torch.export.save) or .onnx.
    Raises:
        CsiAuditError: none of these, damaged, of more than one input, or onnxruntime is missing.
    """
    kind = model_format(path)
    if kind is None:
        raise CsiAuditError(
            f"{path} is no exported model: known are {', '.join(get_args(ModelFormat))}. Weights "
            "alone need their class: name it as file.py:Class."
        )
    if kind == "ONNX":
        return _load_onnx(path)
    return _load_torchscript(path) if kind == "TorchScript" else _load_export(path)


def torchscript_methods(path: Path) -> tuple[ExportedModel, ExportedModel] | None:
    """encode and decode of a TorchScript module that has both as methods; None if it has not."""
    module = _torchscript(path)
    if not (hasattr(module, "encode") and hasattr(module, "decode")):
        return None
    halves = (ExportedModel(path, "TorchScript", half) for half in (module.encode, module.decode))
    encode, decode = halves
    return encode, decode


# --- The formats ----------------------------------------------------------------------------------


def _load_torchscript(path: Path) -> ExportedModel:
    return ExportedModel(path, "TorchScript", _torchscript(path))


def _torchscript(path: Path) -> Any:
    with warnings.catch_warnings(), _in_words(path, "TorchScript"):
        # Old files stay readable as long as torch reads them.
        warnings.filterwarnings("ignore", r".*torch\.jit.* is deprecated", DeprecationWarning)
        return _still(torch.jit.load(path, map_location="cpu"))


def _load_export(path: Path) -> ExportedModel:
    with _in_words(path, "torch.export"), _quiet("torch.export"):
        program = torch.export.load(path)
        inputs = [
            node.meta["val"]
            for node in program.graph.nodes
            if node.op == "placeholder" and node.name in program.graph_signature.user_inputs
        ]
        module = program.module().requires_grad_(False)  # as it was exported: it has no eval()
    _one_input(path, len(inputs))
    size = inputs[0].shape[0]
    return ExportedModel(
        path, "torch.export", module, batch_size=size if isinstance(size, int) else None
    )


def _load_onnx(path: Path) -> ExportedModel:
    try:
        import onnxruntime
    except ImportError as error:
        raise CsiAuditError(
            f"{path} needs onnxruntime, which is not installed: pip install 'csi-audit[onnx]'."
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with _in_words(path, "ONNX"):
        session = onnxruntime.InferenceSession(
            str(path), sess_options=options, providers=["CPUExecutionProvider"]
        )
    _one_input(path, len(session.get_inputs()))
    source = session.get_inputs()[0]
    if source.type != "tensor(float)":
        raise CsiAuditError(
            f"{path} must take float32; its input {source.name!r} is {source.type}. Export it in "
            "single precision."
        )

    def run(y: Tensor) -> list[Tensor]:
        fed = y.detach().cpu().contiguous().numpy()
        return [torch.from_numpy(part) for part in session.run(None, {source.name: fed})]

    size = source.shape[0] if source.shape else None
    return ExportedModel(path, "ONNX", run, batch_size=size if isinstance(size, int) else None)


def _still(module: Any) -> Any:
    """In evaluation mode, without gradients in the weights."""
    module.eval()
    for weight in module.parameters():
        weight.requires_grad_(False)
    return module


def _one_input(path: Path, n: int) -> None:
    if n != 1:
        raise CsiAuditError(
            f"{path} must take one input, a batch of channels or of codewords; it takes {n}."
        )


@contextmanager
def _in_words(path: Path, kind: ModelFormat) -> Iterator[None]:
    """Whatever a loader raises, as one line."""
    try:
        yield
    except CsiAuditError:
        raise
    except Exception as error:  # three loaders, each with errors of its own
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CsiAuditError(
            f"{path} is no readable {kind} model ({first[:200]}). {_SEEN}"
        ) from error


@contextmanager
def _quiet(name: str) -> Iterator[None]:
    """Without what a logger writes beside the exception that it raises."""
    logger = logging.getLogger(name)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before
