"""Compressors out of model files: which files, which convention, and what is said of both."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from channels.convention import Convention
from channels.support import CsiAuditError, file_sha256
from compressors.audit_space import Compressor
from compressors.checkpoint_reading import is_checkpoint
from compressors.compressor_cards import CompressorCard
from compressors.convention_detection import best_unit_interval, detect_convention
from compressors.exported_models import (
    ExportedModel,
    external_data,
    load_exported,
    torchscript_methods,
)
from compressors.published_checkpoints import load_published

_ACROSS_BATCH = (
    "The published code of TransNet attends across the users of a batch; here each channel is "
    "reconstructed alone, so that it has a distortion of its own, which is not the published one."
)
_DECLARED_CODE = (
    "n_code is declared, not counted: its model goes from channel to reconstruction and does not "
    "show its {} numbers."
)


class FileCompressor:
    """A compressor made of exported models; satisfies compressors.audit_space.Compressor.

    Attributes:
        n_code: Real numbers in a codeword, declared or counted.
        convention: Of its input and output.
        hides_code: Whether one model goes from channel to reconstruction: `encode` then returns
            the channel itself, `decode` does all the work, and n_code is as declared.
        differentiable: Whether guided sampling can follow its gradient.
    """

    def __init__(
        self,
        encoder: ExportedModel | None,
        decoder: ExportedModel,
        *,
        n_code: int,
        convention: Convention,
    ) -> None:
        self.encoder, self.decoder = encoder, decoder
        self.n_code = n_code
        self.convention = convention
        self.hides_code = encoder is None
        self.differentiable = decoder.differentiable and (encoder is None or encoder.differentiable)

    def encode(self, y: Tensor) -> Tensor:
        """Own-scale channels (N, ...) -> codewords (N, ...), or the channels if hides_code."""
        return y if self.encoder is None else self.encoder(y)

    def decode(self, z: Tensor) -> Tensor:
        """Codewords -> own-scale channels (N, ...)."""
        return self.decoder(z)

    def bits(self, z: Tensor) -> Tensor | None:
        """None: a model file does not say how its code is quantised."""
        return None


@dataclass(frozen=True, kw_only=True)
class Assembled:
    """A compressor made of files.

    Attributes:
        compressor: The object under audit.
        facts: Format and files, whether its convention was declared, for the card.
        sha256: Of all files.
        notices: What was found or assumed, a sentence each.
    """

    compressor: Compressor
    facts: dict[str, Any]
    sha256: str
    notices: tuple[str, ...] = field(default=())


def assemble(card: CompressorCard, channels: Tensor | None) -> Assembled:
    """The compressor that a card describes.

    Args:
        card: Read from a file, or made for one model file that stands alone.
        channels: Audit-space channels (N, 2 n_rx, n_tx, n_delay) to detect the convention on; None
            allows declared ones alone.
    Raises:
        CsiAuditError: a file cannot be read, the convention is neither declared nor clear, or the
            code length is hidden and not declared.
    """
    shape = None if channels is None else (channels.shape[1], channels.shape[2], channels.shape[3])
    declared = card.declared(shape)
    if card.model is not None and is_checkpoint(card.model):
        return _published(card, card.model, declared, channels)
    encoder, decoder = _halves(card)
    convention, notices = declared, tuple[str, ...]()
    if convention is None:
        found = detect_convention(
            decoder if encoder is None else lambda y: decoder(encoder(y)),
            _needed(card, channels),
            name=str(card.path),
        )
        convention, notices = found.convention, (found.sentence(),)
    compressor = FileCompressor(
        encoder, decoder, n_code=_code_length(card, encoder, convention), convention=convention
    )
    if compressor.hides_code:
        notices = (*notices, _DECLARED_CODE.format(compressor.n_code))
    facts = {
        "format": " + ".join(dict.fromkeys(m.format for m in (encoder, decoder) if m is not None)),
        "differentiable": compressor.differentiable,
        "hides_code": compressor.hides_code,
    }
    return Assembled(
        compressor=compressor,
        facts={**_facts(card, declared), **facts},
        sha256=_sha256(card),
        notices=notices,
    )


def _published(
    card: CompressorCard, model: Path, declared: Convention | None, channels: Tensor | None
) -> Assembled:
    """A published checkpoint; only the scale of its [0, 1] is not known."""
    checkpoint = load_published(model)
    network, notices = checkpoint.network, tuple[str, ...]()
    if card.n_code not in (None, network.n_code):
        raise CsiAuditError(
            f"{card.path} declares n_code = {card.n_code}, but {model} has {network.n_code}."
        )
    if declared is None:
        x = _needed(card, channels)
        found = best_unit_interval(network, x, name=str(model))
        network.convention, notices = found.convention, (found.sentence(),)
    else:
        network.convention = declared
    if checkpoint.arch == "transnet":
        notices = (*notices, _ACROSS_BATCH)
    facts = {
        "format": "published checkpoint",
        "arch": checkpoint.arch,
        "n_code": network.n_code,
        "options": dict(checkpoint.spec.options),
    }
    return Assembled(
        compressor=network,
        facts={**facts, **_facts(card, declared)},
        sha256=_sha256(card),
        notices=notices,
    )


def _halves(card: CompressorCard) -> tuple[ExportedModel | None, ExportedModel]:
    """Encoder, None where the code is hidden, and decoder."""
    if card.encoder is not None and card.decoder is not None:
        return load_exported(card.encoder), load_exported(card.decoder)
    model = load_exported(card.files[0])
    both = torchscript_methods(card.files[0]) if model.format == "TorchScript" else None
    return both if both is not None else (None, model)


@torch.inference_mode()
def _code_length(
    card: CompressorCard, encoder: ExportedModel | None, convention: Convention
) -> int:
    """As declared, or counted on a channel of zeros."""
    if card.n_code is not None:
        return card.n_code
    if encoder is None:
        raise CsiAuditError(
            f"{card.files[0]} goes from channel to reconstruction and hides its code: n_code must "
            f"be declared. Write a card, mine.yaml, of two lines (model: {card.files[0].name}, "
            "n_code: 128) and name that."
        )
    try:
        z = encoder(convention.to_own(torch.zeros(1, *convention.event_shape))[0])
    except CsiAuditError:
        raise
    except Exception as error:  # the model may raise anything
        first = next(iter(str(error).strip().splitlines()), type(error).__name__)
        raise CsiAuditError(
            f"{encoder.path} fails on a channel {convention.event_shape} ({first[:200]}). Was it "
            "built for another number of antennas or taps, or another convention?"
        ) from error
    return z[0].numel() * (2 if z.is_complex() else 1)


def _needed(card: CompressorCard, channels: Tensor | None) -> Tensor:
    if channels is None:
        raise CsiAuditError(
            f"{card.path} does not say its convention, and there are no channels to detect it on. "
            "Declare it in a compressor card, or give load_compressor channels=."
        )
    return channels


def _facts(card: CompressorCard, declared: Convention | None) -> dict[str, Any]:
    return {
        "files": [path.name for path in card.files],
        "convention_is": "detected" if declared is None else "declared",
    }


def _sha256(card: CompressorCard) -> str:
    """Of the one file, or of the hashes of the card, its files and their external weights."""
    outside = (file for model in card.files for file in external_data(model))
    paths = dict.fromkeys((card.path, *card.files, *outside))
    digests = [file_sha256(path) for path in paths]
    return (
        digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    )
