"""Compressor cards: a YAML file that says which model files make a compressor, and its convention.

encoder: encoder.pt2            # or, for one file from channel to reconstruction,  model: ...
decoder: decoder.pt2
n_code: 128                     # needed with `model`, checked with `encoder`
convention: {scaling: sample_peak, scale: 0.5, offset: 0.5}     # detected if left out
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from fractions import Fraction
from math import isfinite
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import yaml

from channels.convention import Convention
from channels.support import CsiAuditError, did_you_mean

SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True, kw_only=True)
class CompressorCard:
    """What a card says.

    Attributes:
        path: The card; files are named relative to its folder.
        model: File from channel to reconstruction, or a published checkpoint; None with two files.
        encoder, decoder: Files from channel to code and from code to reconstruction.
        n_code: Real numbers in a codeword; None if the encoder shows it.
        convention: Fields of channels.Convention; None to have it detected.
        name: In tables; None takes the card's file name.
    """

    path: Path
    model: Path | None = None
    encoder: Path | None = None
    decoder: Path | None = None
    n_code: int | None = None
    convention: Mapping[str, Any] | None = None
    name: str | None = None

    def __post_init__(self) -> None:
        pair = (self.encoder is None, self.decoder is None)
        if pair[0] != pair[1] or (self.model is None) == pair[0]:
            raise CsiAuditError(
                f"{self.path} must name either model, or encoder and decoder. See "
                "compressors/README.md."
            )
        if self.n_code is not None and not (_is_int(self.n_code) and self.n_code > 0):
            raise CsiAuditError(
                f"{self.path}: n_code must be a positive whole number; got {self.n_code!r}."
            )
        if self.name is not None and not isinstance(self.name, str):
            raise CsiAuditError(
                f"{self.path}: name must be text; got {self.name!r}. Put it in quotes."
            )

    @property
    def files(self) -> tuple[Path, ...]:
        """The model files."""
        return tuple(p for p in (self.model, self.encoder, self.decoder) if p is not None)

    def declared(self, event_shape: tuple[int, int, int] | None) -> Convention | None:
        """The convention that the card declares; None if it leaves it out.

        Args:
            event_shape: Of the channels; the card's own wins, None takes Convention's default.
        Raises:
            CsiAuditError: unknown fields, or values of a wrong kind or range.
        """
        if self.convention is None:
            return None
        kinds = get_type_hints(Convention)
        known = [field.name for field in fields(Convention)]
        for key, value in self.convention.items():
            if key not in known:
                hint = did_you_mean(str(key), known)
                raise CsiAuditError(f"{self.path}: convention has no field {key!r}.{hint}")
            if not _fits(value, kinds[key]):
                raise CsiAuditError(
                    f"{self.path}: {key} of convention must be {_in_words(kinds[key])}; got "
                    f"{value!r}.{_better(value, kinds[key])}"
                )
        shape = {} if event_shape is None else {"event_shape": event_shape}
        try:
            return Convention(**{**shape, **self.convention})
        except CsiAuditError as error:
            raise CsiAuditError(f"{self.path}: {error}") from error


def read_card(path: Path) -> CompressorCard:
    """A card from its file.

    Raises:
        CsiAuditError: no YAML, unknown fields, or a model file that is not there.
    """
    try:
        said = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())
        raise CsiAuditError(f"{path} is no readable YAML ({reason[:200]}).") from error
    known = [field.name for field in fields(CompressorCard) if field.name != "path"]
    if not isinstance(said, dict):
        raise CsiAuditError(f"{path} must hold fields of a card ({', '.join(known)}).")
    for key in said:
        if key not in known:
            raise CsiAuditError(f"{path} has a field {key!r}.{did_you_mean(str(key), known)}")
    if said.get("convention") is not None and not isinstance(said["convention"], dict):
        raise CsiAuditError(f"{path}: convention must hold fields of channels.Convention.")
    for key in ("model", "encoder", "decoder"):
        if said.get(key) is not None:
            said[key] = _file(path, key, said[key])
    return CompressorCard(path=path, **said)


def _file(card: Path, key: str, named: Any) -> Path:
    """A file that the card names."""
    file = card.parent / str(named)
    if not file.is_file():
        near = [p.name for p in file.parent.glob("*")] if file.parent.is_dir() else []
        hint = did_you_mean(file.name, near)
        raise CsiAuditError(f"{card}: {key} must be a file; there is no {file}.{hint}")
    return file


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- Kinds of values, by the annotations of Convention --------------------------------------------


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value of YAML is of an annotated type; lengths and ranges are Convention's."""
    parts = get_args(kind)
    if get_origin(kind) is Literal:
        return isinstance(value, str)
    if get_origin(kind) is tuple:
        return isinstance(value, list | tuple) and all(_fits(v, parts[0]) for v in value)
    if parts:  # a union
        return any(_fits(value, part) for part in parts)
    if kind is float:
        return (_is_int(value) or isinstance(value, float)) and isfinite(value)
    return _is_int(value) if kind is int else value is None


def _in_words(kind: Any) -> str:
    parts = [part for part in get_args(kind) if part is not type(None)]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(parts)
    if get_origin(kind) is tuple:
        return f"a list of {'whole ' if parts[0] is int else ''}numbers"
    if parts:
        return _in_words(parts[0])
    return "a whole number" if kind is int else "a number"


def _better(value: Any, kind: Any) -> str:
    """How to write what was meant, as far as that shows: YAML takes 2e-2, 1/2 and '0.5' as text."""
    try:
        meant = float(Fraction(str(value)))
    except (ValueError, ZeroDivisionError, OverflowError):
        return ""
    number = int(meant) if meant.is_integer() else meant
    if not _fits(number, kind):
        return ""
    quoted = str(number) == value
    return " Write it without quotes." if quoted else f" Write {number}, not {value}."
