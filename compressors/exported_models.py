"""Models in files that need no code of their own: TorchScript, torch.export, ONNX.

Each becomes a function of a batch, y -> tensor. Such a file is a program: its name alone says so
(*.pt2, *.pt, *.ts, *.onnx), never its content, so that a checkpoint of weights (*.pth) cannot bring
one in. One of unknown origin should not be loaded.
"""

import io
import json
import logging
import re
import warnings
import zipfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from channels.support import CsiAuditError
from compressors.checkpoint_reading import program_inside

ModelFormat = Literal["TorchScript", "torch.export", "ONNX"]
_FORMATS: dict[str, ModelFormat] = {
    ".pt": "TorchScript",
    ".ts": "TorchScript",
    ".pt2": "torch.export",
    ".onnx": "ONNX",
}
_SEEN = "Is it complete, and written by no newer version than the one that reads it?"
_RECORDS = ("archive_format", "archive_version", "byteorder", ".data/", "models/", "extra/")
_CONFIGS = re.compile(r"data/(?:weights|constants)/\w+_config\.json")
_PLAIN = re.compile(r"(?:weight|tensor)_\d+")  # raw numbers, which torch reads as such
_LOGGERS = ("torch.export", "torch._export")
# One entry of a TensorProto's external_data: key (field 1) "location", value (field 2).
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x80-\xff]?[\x00-\x7f])")


def model_format(path: Path) -> ModelFormat | None:
    """What kind of exported model a file is by its name, whatever it holds; None if none."""
    return _FORMATS.get(path.suffix.lower())


def external_data(path: Path) -> tuple[Path, ...]:
    """Files beside an ONNX model that hold its weights; none for other formats.

    The messages of protobuf are searched for entries ("location", name) as bytes, which needs no
    library; names of files that are not there are left out.
    """
    if model_format(path) != "ONNX":
        return ()
    data, found = path.read_bytes(), dict[Path, None]()
    for entry in _LOCATION.finditer(data):
        low, *high = entry[1]
        length = (low & 127) + 128 * (high[0] if high else 0)
        name = data[entry.end() : entry.end() + length].decode("utf-8", errors="replace")
        file = path.parent / name.replace("\0", "")
        if file.is_file():
            found[file] = None
    return tuple(sorted(found))


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
        path: TorchScript (.pt or .ts, torch.jit.save), torch.export (.pt2, torch.export.save) or
            ONNX (.onnx).
    Raises:
        CsiAuditError: none of these by its name, of another kind by its content, damaged, with
            Python objects inside, of more than one input, or onnxruntime is missing.
    """
    kind = model_format(path)
    if kind is None:
        known = ", ".join(f"*{suffix} ({kind})" for suffix, kind in _FORMATS.items())
        raise CsiAuditError(
            f"{path} is no exported model by its name: known are {known}. Weights alone need their "
            "class: name it as file.py:Class."
        )
    held = program_inside(path)
    if held not in (None, kind):
        suffix = next(suffix for suffix, name in _FORMATS.items() if name == held)
        raise CsiAuditError(
            f"{path} is named like {kind} and holds {held}: rename it to *{suffix} if you trust it."
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
    # One reading, so that what is loaded is what was checked.
    data = path.read_bytes()
    with _in_words(path, "torch.export"), _quiet(*_LOGGERS):
        _check_no_objects(path, data)
        program = torch.export.load(io.BytesIO(data))
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


def _check_no_objects(path: Path, data: bytes) -> None:
    """Refuse an archive in which torch would unpickle anything but tensors, or load machine code.

    Read with torch's own reader, since another might see other records in the same bytes; but
    torch reads the form before 2.8, pickles at the root of the archive, with Python's.
    """
    with zipfile.ZipFile(io.BytesIO(data)) as older:
        if any("/" not in name for name in older.namelist()):
            raise _refused(path, "pickles in the older form of torch.export")
    archive: Any = torch._C.PyTorchFileReader(io.BytesIO(data))
    for name in archive.get_all_records():
        reason = None
        if _CONFIGS.fullmatch(name):
            reason = _pickled_payload(json.loads(archive.get_record(name)))
        elif name.startswith("data/sample_inputs/"):
            reason = _unsafe_example(archive.get_record(name))
        elif re.fullmatch(r"data/(?:weights|constants)/(?:weight|tensor)_\d+", name) is None and (
            not name.startswith(_RECORDS)
        ):
            reason = f"the record {name}"
        if reason is not None:
            raise _refused(path, reason)


def _refused(path: Path, reason: str) -> CsiAuditError:
    return CsiAuditError(
        f"{path} holds {reason}, which may run any code while it is read: refused, and nothing was "
        "run. Export the model again with torch.export.save of this version, with plain tensors as "
        "weights, or name your own class as file.py:Class."
    )


def _pickled_payload(config: Any) -> str | None:
    """The first of weights or constants that is no raw numbers, in words."""
    for name, payload in config["config"].items():
        if payload.get("use_pickle") is not False:
            return f"a pickled object as {name} (use_pickle)"
        if _PLAIN.fullmatch(str(payload.get("path_name"))) is None:
            return f"an object as {name} ({payload.get('path_name')})"
    return None


def _unsafe_example(pickled: bytes) -> str | None:
    """Example inputs that torch's safe loading refuses, which torch.export.load would unpickle."""
    try:
        if pickled:
            torch.load(io.BytesIO(pickled), weights_only=True)
    except Exception:  # a damaged pickle fails in any way
        return "pickled example inputs that are no plain tensors"
    return None


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
def _quiet(*names: str) -> Iterator[None]:
    """Without what loggers, and all below them, write beside the exception that is raised."""
    with ExitStack() as stack:
        for name in names:
            for logger in (logging.getLogger(name), *_below(name)):
                stack.callback(logger.setLevel, logger.level)
                logger.setLevel(logging.CRITICAL + 1)
        yield


def _below(name: str) -> list[logging.Logger]:
    """Loggers that have a level of their own, and so do not follow their parent's."""
    known = list(logging.root.manager.loggerDict.items())
    return [
        logger
        for child, logger in known
        if isinstance(logger, logging.Logger) and child.startswith(f"{name}.") and logger.level
    ]
