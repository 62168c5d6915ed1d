"""`result.json`: round trip, one sentence per key, and refusals in one line."""

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from channels.support import CsiAuditError
from reports import KEYS, Cost, Result, load_result
from reports.keys import schema_paths

pytestmark = pytest.mark.unit


def test_result_survives_the_file(fake_result: Result, tmp_path: Path) -> None:
    assert fake_result.save(tmp_path) == tmp_path / "result.json"
    assert load_result(tmp_path) == fake_result
    assert load_result(tmp_path / "result.json") == fake_result
    assert [file.name for file in tmp_path.iterdir()] == ["result.json"]


def test_file_has_the_keys_of_the_design(fake_result: Result) -> None:
    plain = json.loads(fake_result.to_json())
    assert plain["schema_version"] == 1
    assert {"path", "sha256", "n", "drops"} <= set(plain["data"])
    assert {"sha256", "fidelity", "verdict"} <= set(plain["base"])
    row = plain["compressors"][0]
    assert {"name", "spec", "convention", "n_code", "losses", "estimates"} <= set(row)
    assert isinstance(row["estimates"]["tails"][0]["base"]["interval"], list)


def test_every_key_has_a_sentence_and_every_sentence_a_key() -> None:
    assert set(schema_paths()) == set(KEYS)
    assert all(re.fullmatch(r"\S.+[.]", sentence, re.DOTALL) for sentence in KEYS.values())


def test_results_from_before_the_bits_still_load(fake_result: Result, tmp_path: Path) -> None:
    plain = json.loads(fake_result.to_json())
    for row in plain["compressors"]:
        for key in ("bits_mean", "bits_max", "n_side", "n_channel"):
            del row[key]
    (tmp_path / "result.json").write_text(json.dumps(plain))
    row = load_result(tmp_path).compressors[0]
    assert (row.bits_mean, row.bits_max, row.n_side, row.n_channel) == (None,) * 4


def test_loss_means_in_db_and_unknown(fake_result: Result) -> None:
    row = fake_result.compressors[0]
    nmse = row.losses["nmse"].real
    assert nmse is not None
    assert row.mean_db("real") == pytest.approx(-13.15, abs=0.05)
    assert row.mean_sgcs("real") == pytest.approx(1 - nmse.value)
    bare = replace(row, losses={})
    assert (bare.mean_db("base"), bare.mean_sgcs("base")) == (None, None)


def test_nan_is_not_written(fake_result: Result, tmp_path: Path) -> None:
    bad = replace(fake_result, cost=Cost(seconds=float("nan")))
    with pytest.raises(ValueError, match=r"result.cost.seconds must be finite; got nan"):
        bad.save(tmp_path)
    odd = replace(fake_result, versions={"torch": object()})  # type: ignore[dict-item]
    with pytest.raises(ValueError, match=r"result.versions.torch must be a JSON type; got object"):
        odd.to_json()
    assert list(tmp_path.iterdir()) == []


def test_missing_folder_is_an_error_of_the_user(fake_result: Result, tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"cannot be written: the folder .* does not exist"):
        fake_result.save(tmp_path / "nowhere" / "result.json")


def _set(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """A change to the plain result: the value at a dotted path; None as `value` deletes."""
    *parents, last = path.split(".")

    def change(plain: Any) -> None:
        for key in parents:
            plain = plain[int(key)] if isinstance(plain, list) else plain[key]
        if value is None:
            del plain[last]
        else:
            plain[last] = value

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            _set("schema_version", 99),
            r"schema_version must be 1; got 99. It was written by another",
        ),
        (_set("schema_version", None), r"schema_version must be 1; got none."),
        (_set("seeds", 1), r"unknown key 'seeds'. Did you mean 'seed'"),
        (_set("base.verdict", "fine"), r"base.verdict must be one of credible, misses, not check"),
        (_set("data.n", "many"), r"result.data.n must be a whole number; got 'many'"),
        (_set("data.n", None), r"result.data lacks the key 'n'"),
        (_set("cost.seconds", "long"), r"result.cost.seconds must be a number; got 'long'"),
        (_set("tau", {}), r"result.tau must be a list; got {}"),
        (_set("versions", []), r"result.versions must be an object; got \[\]"),
        (_set("created", 3), r"result.created must be of type str; got 3"),
        (
            _set("compressors.0.estimates.e_p.interval", [1]),
            r"compressors\[0\].estimates.e_p.interval must be a list of 2; got \[1\]",
        ),
        (_set("compressors.0.estimates.e_p.value", -9.0), r"interval must hold the value -9.0"),
        (_set("base", 1), r"result.base must be an object; got int"),
    ],
)
def test_foreign_results_are_refused_in_one_line(
    fake_result: Result, tmp_path: Path, change: Callable[[Any], None], message: str
) -> None:
    plain = json.loads(fake_result.to_json())
    change(plain)
    file = tmp_path / "result.json"
    file.write_text(json.dumps(plain))
    with pytest.raises(CsiAuditError, match=message) as caught:
        load_result(tmp_path)
    assert str(caught.value).startswith(str(file))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema_version": 1, "cre', r"is not valid JSON .* Was it cut short\?"),
        (b"\xff\xfe\x00", r"cannot be read: 'utf-8' codec"),
        (b"[1, 2]", r"schema_version must be 1; got none"),
    ],
)
def test_damaged_files_are_refused_in_one_line(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "result.json").write_bytes(content)
    with pytest.raises(CsiAuditError, match=message) as caught:
        load_result(tmp_path)
    assert "\n" not in str(caught.value)


def test_missing_result_names_the_file(tmp_path: Path) -> None:
    with pytest.raises(CsiAuditError, match=r"result.json does not exist. Is this a run directory"):
        load_result(tmp_path)
