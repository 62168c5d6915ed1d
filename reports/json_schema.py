"""The published schemas of `result.json` and `comparison.json`, made from the dataclasses.

`python -m reports.json_schema` writes both beside this file; a test compares them with what the
dataclasses say, so they are never behind. Every key bears the sentence of `KEYS`.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from channels.support import write_text_atomic
from reports.comparison_keys import COMPARISON_KEYS
from reports.comparison_schema import ComparisonResult
from reports.estimates import Estimate
from reports.keys import ESTIMATE_KEYS, KEYS
from reports.schema import Result

SCHEMAS = {
    "result.schema.json": (Result, KEYS),
    "comparison.schema.json": (ComparisonResult, COMPARISON_KEYS),
}
"""File name -> the dataclass and the sentences of its keys."""

_SIMPLE = {float: "number", int: "integer", str: "string", bool: "boolean"}


def schema_of(cls: type[Any], keys: Mapping[str, str], *, title: str) -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a dataclass as `reports.plain` writes it.

    Args:
        cls: The dataclass.
        keys: A sentence by dotted path, as in `KEYS`.
        title: Of the schema.
    """
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **_object(cls, keys, ""),
        "$defs": {"Estimate": _object(Estimate, ESTIMATE_KEYS, "")},
    }


def schema_texts() -> dict[str, str]:
    """The text of each published schema by file name."""
    return {
        name: json.dumps(
            schema_of(cls, keys, title=f"csi-audit {name.removesuffix('.schema.json')}"),
            indent=1,
            ensure_ascii=False,
        )
        + "\n"
        for name, (cls, keys) in SCHEMAS.items()
    }


def _object(cls: type[Any], keys: Mapping[str, str], prefix: str) -> dict[str, Any]:
    hints = typing.get_type_hints(cls)
    none = dataclasses.MISSING
    fields = dataclasses.fields(cls)
    return {
        "type": "object",
        "additionalProperties": False,
        "required": [f.name for f in fields if f.default is none and f.default_factory is none],
        "properties": {
            f.name: {
                "description": keys[f"{prefix}{f.name}"],
                **_of(hints[f.name], keys, f"{prefix}{f.name}"),
            }
            for f in fields
        },
    }


def _of(hint: Any, keys: Mapping[str, str], path: str) -> dict[str, Any]:
    """Schema of one annotated type."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return {}
    if origin in (typing.Union, types.UnionType):
        inner = _of(next(arg for arg in args if arg is not type(None)), keys, path)
        return {"anyOf": [inner, {"type": "null"}]} if type(None) in args else inner
    if hint is Estimate:
        return {"$ref": "#/$defs/Estimate"}
    if dataclasses.is_dataclass(hint):
        return _object(typing.cast("type[Any]", hint), keys, f"{path}.")
    if origin is typing.Literal:
        return {"enum": list(args)}
    if origin is tuple and args[-1] is Ellipsis:
        return {"type": "array", "items": _of(args[0], keys, f"{path}[]")}
    if origin is tuple:
        items = [_of(arg, keys, path) for arg in args]
        return {
            "type": "array",
            "prefixItems": items,
            "minItems": len(items),
            "maxItems": len(items),
        }
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _of(args[1], keys, f"{path}.<name>")}
    return {"type": _SIMPLE[hint]}


def write_schemas() -> None:
    """Write the schemas beside this file."""
    for name, text in schema_texts().items():
        write_text_atomic(Path(__file__).parent / name, text)


if __name__ == "__main__":
    write_schemas()
