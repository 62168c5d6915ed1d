"""Frozen dataclasses to JSON types and back, with the key named in every complaint.

One door for `result.json` in both directions. Unknown keys, missing keys and wrong types are
errors here; versions and files are the business of schema.py.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from channels.support import did_you_mean

T = TypeVar("T")


def json_text(value: Any, where: str = "result") -> str:
    """The text of a JSON file: keys in order, two spaces, a newline at the end.

    Raises:
        ValueError: a figure is NaN or infinite (names the key).
    """
    return json.dumps(to_plain(value, where), indent=2, ensure_ascii=False, allow_nan=False) + "\n"


def to_plain(value: Any, where: str = "result") -> Any:
    """Dataclasses, tuples and mappings as dicts, lists and scalars that JSON can hold.

    Raises:
        ValueError: a number is NaN or infinite (unknown is None), or a type has no JSON form.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name), f"{where}.{field.name}")
            for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item, f"{where}[{i}]") for i, item in enumerate(value)]
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"{where} must be finite; got {value}. Unknown is None.")
        return float(value)
    raise ValueError(f"{where} must be a JSON type; got {type(value).__name__}.")


def from_plain(cls: type[T], plain: Any, where: str = "result") -> T:
    """Rebuild the dataclass `cls` from what `to_plain` gave.

    Raises:
        ValueError: an unknown key (with the nearest known one), a missing key, a wrong type.
    """
    if not isinstance(plain, Mapping):
        raise ValueError(f"{where} must be an object; got {type(plain).__name__}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    for key in plain:
        if key not in fields:
            raise ValueError(f"{where} has an unknown key {key!r}.{did_you_mean(str(key), fields)}")
    hints = typing.get_type_hints(cls)
    found = {}
    for name, field in fields.items():
        if name in plain:
            found[name] = _read(hints[name], plain[name], f"{where}.{name}")
        elif _required(field):
            raise ValueError(f"{where} lacks the key {name!r}.")
    return cls(**found)


def _required(field: "dataclasses.Field[Any]") -> bool:
    none = dataclasses.MISSING
    return field.default is none and field.default_factory is none


def _read(hint: Any, plain: Any, where: str) -> Any:
    """One value read as the annotated type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return plain
    if origin in (typing.Union, types.UnionType):
        inner = [arg for arg in args if arg is not type(None)]
        return None if plain is None else _read(inner[0], plain, where)
    if dataclasses.is_dataclass(hint):
        return from_plain(typing.cast("type[Any]", hint), plain, where)
    if origin is typing.Literal:
        return _checked(plain in args, plain, where, f"one of {', '.join(map(str, args))}")
    if origin is tuple:
        return _read_tuple(args, plain, where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        _checked(isinstance(plain, Mapping), plain, where, "an object")
        return {str(key): _read(args[1], item, f"{where}.{key}") for key, item in plain.items()}
    if hint is float:
        number = isinstance(plain, int | float) and not isinstance(plain, bool)
        return float(_checked(number, plain, where, "a number"))
    if hint is int:
        whole = isinstance(plain, int) and not isinstance(plain, bool)
        return _checked(whole, plain, where, "a whole number")
    return _checked(isinstance(plain, hint), plain, where, f"of type {hint.__name__}")


def _read_tuple(args: tuple[Any, ...], plain: Any, where: str) -> tuple[Any, ...]:
    """A list read as tuple[X, ...] or as a tuple of fixed length."""
    _checked(isinstance(plain, list | tuple), plain, where, "a list")
    if len(args) == 2 and args[1] is Ellipsis:
        return tuple(_read(args[0], item, f"{where}[{i}]") for i, item in enumerate(plain))
    _checked(len(plain) == len(args), plain, where, f"a list of {len(args)}")
    pairs = zip(args, plain, strict=True)
    return tuple(_read(arg, item, f"{where}[{i}]") for i, (arg, item) in enumerate(pairs))


def _checked(good: bool, plain: Any, where: str, rule: str) -> Any:
    if not good:
        raise ValueError(f"{where} must be {rule}; got {plain!r:.60}.")
    return plain
