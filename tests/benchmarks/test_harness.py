"""The shared options, verdicts and result files of the benchmarks."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import harness, surroundings
from benchmarks.harness import Options, check, machine, parse_arguments, versions, write_result
from channels.sample import sample_path
from channels.support import CsiAuditError

pytestmark = pytest.mark.unit

KEYS = ["name", "command", "seed", "sizes", "machine", "versions", "seconds", "rows", "checks"]
CHECK_KEYS = ["id", "value", "interval", "relation", "limit", "floor", "verdict"]


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A results folder of the test's own, with real channels beside an imagined repository."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(harness, "ROOT", tmp_path / "repository")
    (tmp_path / "shared" / "data").mkdir(parents=True)
    return tmp_path / "results"


@pytest.fixture
def options(results: Path) -> Options:
    return parse_arguments("fidelity", argv=["--seed", "3"])


# --- Options --------------------------------------------------------------------------------------


def test_defaults(options: Options, results: Path, tmp_path: Path) -> None:
    assert options.command == "python -m benchmarks.fidelity --seed 3"
    assert (options.split, options.seed, options.threads) == ("val", 3, 1)
    assert options.out == results / "fidelity.json"
    assert options.data_dir == tmp_path / "shared" / "data"
    assert options.channels_path() == tmp_path / "shared" / "data" / "umi_val.mat"
    assert options.channels_path("train").name == "umi_train.h5"
    assert options.data_label == "val"


def test_own_options_come_back(results: Path) -> None:
    options = parse_arguments(
        "issgm", add_own=lambda parser: parser.add_argument("--steps", type=int), argv=["--steps=9"]
    )
    assert vars(options.own) == {"steps": 9}


@pytest.mark.usefixtures("results")
def test_bundled_sample_stands_in_and_is_labelled(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "shared" / "data").rmdir()
    options = parse_arguments("fidelity", argv=[])
    assert options.channels_path() == sample_path()
    with pytest.raises(ValueError, match="training needs --data-dir"):
        options.channels_path("train")
    assert "every row comes from the bundled sample" in capsys.readouterr().out
    write_result(options, sizes={}, rows=[{"data": "val", "ks": 0.1}], checks=[])
    assert json.loads(options.out.read_text())["rows"] == [{"data": "bundled sample", "ks": 0.1}]


@pytest.mark.usefixtures("results")
def test_missing_data_dir_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        parse_arguments("fidelity", argv=["--data-dir", str(tmp_path / "nowhere")])
    assert caught.value.code == 2
    assert "--data-dir must be a folder; got" in capsys.readouterr().err


def test_unknown_split_is_refused(options: Options) -> None:
    with pytest.raises(ValueError, match=r"split must be one of .*; got 'validation'"):
        options.channels_path("validation")


def test_test_split_needs_the_ledger(options: Options, results: Path) -> None:
    with pytest.raises(ValueError, match=r"split must be 'train' or 'val' here.*--split test"):
        options.channels_path("test")
    assert not results.exists()


def test_every_test_run_is_entered_in_the_ledger(results: Path) -> None:
    for _ in range(2):
        options = parse_arguments("fidelity", argv=["--split", "test"])
    assert options.channels_path().name == "umi_test.h5"
    header, *rows = (results / "test_ledger.csv").read_text().splitlines()
    assert header == "utc,benchmark,commit,command"
    assert len(rows) == 2
    assert rows[0].split(",")[1:2] == ["fidelity"]
    assert rows[0].endswith(",python -m benchmarks.fidelity --split test")


def test_commit_outside_a_repository_is_unknown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(surroundings, "ROOT", tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert surroundings.commit() == "unknown"


# --- Verdicts -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "interval", "floor", "verdict"),
    [
        (0.08, None, None, "pass"),
        (0.10, None, None, "pass"),
        (0.11, None, None, "short"),
        (0.08, (0.07, 0.09), None, "pass"),
        (0.08, (0.07, 0.11), None, "cannot tell"),
        (0.12, (0.09, 0.15), None, "cannot tell"),
        (0.13, (0.11, 0.15), None, "short"),
        (None, None, None, "cannot tell"),
        (0.08, None, 0.03, "pass"),
        (0.08, None, 0.12, "cannot tell"),  # a perfect model would break the limit
        (0.11, None, 0.12, "cannot tell"),
        (0.13, None, 0.12, "short"),
    ],
)
def test_verdict(
    value: float | None,
    interval: tuple[float, float] | None,
    floor: float | None,
    verdict: str,
) -> None:
    assert check("ks", value, relation="<=", limit=0.1, interval=interval, floor=floor).verdict == (
        verdict
    )
    # The same turned around: -value >= -limit.
    turned: dict[str, Any] = {
        "value": None if value is None else -value,
        "interval": interval and (-interval[1], -interval[0]),
        "floor": None if floor is None else -floor,
    }
    assert check("ks", relation=">=", limit=-0.1, **turned).verdict == verdict


def test_check_takes_numpy_numbers_and_orders_the_interval() -> None:
    item = check("gain", np.float32(0.5), relation=">=", limit=0, interval=(0.75, np.float64(0.25)))
    assert (item.value, item.interval, item.verdict) == (0.5, (0.25, 0.75), "pass")


@pytest.mark.parametrize("part", ["value", "interval", "limit", "floor"])
def test_check_refuses_numbers_that_are_not_finite(part: str) -> None:
    numbers: dict[str, Any] = {"value": 1.0, "interval": (0.5, 1.5), "limit": 1.0, "floor": 1.0}
    numbers[part] = (0.0, float("inf")) if part == "interval" else float("nan")
    with pytest.raises(ValueError, match=rf"{part} of check 'ks' must be finite; got"):
        check("ks", relation="<=", **numbers)


def test_check_refuses_an_unknown_relation() -> None:
    with pytest.raises(ValueError, match="relation must be '<=' or '>='; got '<'"):
        check("ks", 0.1, relation="<", limit=0.2)  # type: ignore[arg-type]


# --- The file -------------------------------------------------------------------------------------


def test_result_file(options: Options, capsys: pytest.CaptureFixture[str]) -> None:
    target = check("ks", 0.08, relation="<=", limit=0.1, interval=(0.06, 0.09), floor=0.03)
    path = write_result(
        options, sizes={"base": 800}, rows=[{"loss": "nmse", "ks": 0.08}], checks=[target]
    )
    record = json.loads(path.read_text())
    assert list(record) == KEYS
    assert (record["name"], record["seed"], record["sizes"]) == ("fidelity", 3, {"base": 800})
    assert record["rows"] == [{"data": "val", "loss": "nmse", "ks": 0.08}]
    assert list(record["checks"][0]) == CHECK_KEYS
    assert record["checks"][0]["interval"] == [0.06, 0.09]
    assert record["checks"][0]["verdict"] == "pass"
    assert record["seconds"] >= 0
    printed = capsys.readouterr().out
    assert "[0.06, 0.09]" in printed
    assert "pass" in printed


def test_result_refuses_what_json_cannot_hold(options: Options) -> None:
    with pytest.raises(ValueError, match=r"fidelity.rows\[0\].ks must be finite; got nan"):
        write_result(options, sizes={}, rows=[{"ks": float("nan")}], checks=[])
    assert not options.out.exists()


def test_result_refuses_two_checks_of_one_id(options: Options) -> None:
    twice = [check("ks", 0.1, relation="<=", limit=0.2)] * 2
    with pytest.raises(ValueError, match=r"checks must have ids of their own; got \['ks', 'ks'\]"):
        write_result(options, sizes={}, rows=[], checks=twice)


def test_result_into_a_folder_is_refused(options: Options) -> None:
    options.out.mkdir(parents=True)
    with pytest.raises(CsiAuditError, match=r"fidelity.json is a folder"):
        write_result(options, sizes={}, rows=[], checks=[])


def test_machine_and_versions_are_stated() -> None:
    assert set(machine()) == {"cpu", "cores", "threads", "memory_gb", "accelerator"}
    assert machine()["threads"] == 1
    found = versions()
    assert found["csi-audit"] == "0.1.0"
    assert all(found[name] for name in ("python", "torch", "numpy"))


def test_missing_library_has_no_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(surroundings, "PACKAGES", ("no-such-distribution",))
    assert versions()["no-such-distribution"] is None
