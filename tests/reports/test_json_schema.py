"""The published schemas: current, and true of what is written."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from reports import Result
from reports.json_schema import SCHEMAS, schema_texts

pytestmark = pytest.mark.unit
_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "boolean": (bool,),
    "integer": (int,),
    "number": (int, float),
    "null": (type(None),),
}


def complaint(plain: Any, schema: Mapping[str, Any], root: Mapping[str, Any]) -> str | None:
    """What is wrong with a value under the part of JSON Schema that ours use; None if nothing."""
    if "$ref" in schema:
        return complaint(plain, root["$defs"][schema["$ref"].rpartition("/")[2]], root)
    if "anyOf" in schema:
        found = [complaint(plain, option, root) for option in schema["anyOf"]]
        return None if None in found else found[0]
    if "enum" in schema and plain not in schema["enum"]:
        return f"{plain!r} is none of {schema['enum']}"
    kinds = _TYPES.get(schema.get("type", ""))
    if kinds and (not isinstance(plain, kinds) or (isinstance(plain, bool) and bool not in kinds)):
        return f"{plain!r:.40} is no {schema['type']}"
    if isinstance(plain, dict) and "type" in schema:
        return _of_object(plain, schema, root)
    if isinstance(plain, list):
        parts = schema.get("prefixItems", [schema.get("items", {})] * len(plain))
        if len(parts) != len(plain):
            return f"{len(plain)} items"
        found = [complaint(item, part, root) for item, part in zip(plain, parts, strict=True)]
        return next((one for one in found if one), None)
    return None


def _of_object(
    plain: dict[str, Any], schema: Mapping[str, Any], root: Mapping[str, Any]
) -> str | None:
    known, more = schema.get("properties", {}), schema.get("additionalProperties", {})
    missing = set(schema.get("required", [])) - set(plain)
    if missing:
        return f"lacks {missing}"
    for key, value in plain.items():
        if key not in known and more is False:
            return f"unknown key {key}"
        found = complaint(value, known.get(key, more or {}), root)
        if found:
            return f"{key}: {found}"
    return None


@pytest.mark.golden
@pytest.mark.parametrize("name", SCHEMAS)
def test_published_schema_is_current(name: str, repository_root: Path) -> None:
    stored = (repository_root / "reports" / name).read_text(encoding="utf-8")
    assert stored == schema_texts()[name], "write it again: python -m reports.json_schema"


def test_a_result_is_valid_and_a_wrong_one_is_not(fake_result: Result) -> None:
    schema = json.loads(schema_texts()["result.schema.json"])
    plain = json.loads(fake_result.to_json())
    assert complaint(plain, schema, schema) is None
    assert complaint({**plain, "seed": "seven"}, schema, schema) == "seed: 'seven' is no integer"
    assert complaint({**plain, "sead": 7}, schema, schema) == "unknown key sead"
    plain["compressors"][0]["estimates"]["e_p"]["value"] = None
    assert "e_p: value: None is no number" in str(complaint(plain, schema, schema))


def test_every_key_has_its_sentence_in_the_schema() -> None:
    schema = json.loads(schema_texts()["result.schema.json"])
    tau = schema["properties"]["tau"]["items"]["properties"]["nmse_db"]
    assert tau["description"].startswith("The threshold [dB]; null where each")
