"""Whole audits of 8 x 8 channels: the run directory, resuming, what fixes the figures."""

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import reports.report
from channels import ChannelDomain, audit_space, load_channels, write_channels
from channels.support import CsiAuditError
from compressors import NamedCompressor, in_audit_space, load_compressor
from csi_audit import auditing
from csi_audit.auditing import audit, full_issgm_figures, run_directory
from csi_audit.configs import RunConfig
from csi_audit.devices import torch_device
from csi_audit.losses import NmseLoss
from csi_audit.run_state import read_arrays
from reports import Result, load_result

pytestmark = pytest.mark.end_to_end

Make = Callable[..., RunConfig]


@pytest.fixture(autouse=True)
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures take most of a small audit's time, and tests/reports has them."""
    monkeypatch.setattr(reports.report, "draw_gallery", lambda result, arrays: [])


@pytest.fixture
def make(tiny: Any, tmp_path: Path) -> Make:
    """Settings of an audit in seconds: 50 samples in blocks of 20, 10 guided ones."""

    def settings(**changes: Any) -> RunConfig:
        plain: dict[str, Any] = {
            "data": str(tiny.data),
            "compressor": (tiny.half, tiny.quarter),
            "base": str(tiny.base),
            "out": str(tmp_path / "run"),
            "n_base": 50,
            "steps": 4,
            "block": 20,
            "issgm": tiny.quarter,
            "n_issgm": 10,
            "issgm_steps": 4,
            "batch_size": 20,
        }
        return RunConfig(**{**plain, **changes})

    return settings


def timeless(result: Result) -> dict[str, Any]:
    """A result without what no two audits share."""
    plain: dict[str, Any] = json.loads(result.to_json())
    del plain["created"], plain["cost"]["seconds"]
    return plain


def columns(folder: str | Path) -> dict[str, Any]:
    return read_arrays(Path(folder) / "samples.h5")


# --- The run directory ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(
    tiny: Any, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Result, list[tuple[str, int, int]]]:
    """A finished audit that several tests read: folder, result, calls of the progress display."""
    folder = tmp_path_factory.mktemp("finished") / "deep" / "run"
    calls: list[tuple[str, int, int]] = []
    config = RunConfig(
        data=str(tiny.data),
        compressor=(tiny.half, tiny.quarter),
        base=str(tiny.base),
        out=str(folder),
        n_base=50,
        steps=4,
        block=20,
        issgm=tiny.quarter,
        n_issgm=10,
        issgm_steps=4,
        seed=7,
        tau_db=(-3.0, 40.0),
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reports.report, "draw_gallery", lambda result, arrays: [])
        result = audit(config, progress=lambda *call: calls.append(call))
    return folder, result, calls


def test_run_directory_is_complete(finished: tuple[Path, Result, Any]) -> None:
    folder, result, _ = finished
    entries = {path.name for path in folder.iterdir()}
    assert entries == {"config.yaml", "samples.h5", "result.json", "report.html", "figures"}
    assert load_result(folder) == result
    assert load_result(folder / "result.json") == result


def test_result_says_what_was_done(finished: tuple[Path, Result, Any], tiny: Any) -> None:
    _, result, _ = finished
    assert (result.schema_version, result.seed) == (1, 7)
    assert (result.data.path, result.data.n, result.data.drops) == (str(tiny.data), 100, 5)
    assert result.data.sha256 == load_channels(tiny.data).source.sha256
    assert (result.base.name, result.base.n_samples) == ("base.safetensors", 50)
    assert [row.name for row in result.compressors] == ["Half", "Quarter"]
    assert [row.spec for row in result.compressors] == [tiny.half, tiny.quarter]
    assert [tau.nmse_db for tau in result.tau] == [None, -3.0, 40.0]
    assert [item.label for item in result.realism[:2]] == ["NMSE of Half", "NMSE of Quarter"]
    assert [ratio.name for ratio in result.tail_ratios] == ["Half", "Quarter"]
    assert result.base.rule.startswith("Accepted is a KS distance of at most")
    assert "probability-flow ODE (2M), 4 steps" in result.audited_law
    assert "Design effect of the 5 drops" in result.notes[0]
    assert result.cost.parts == {"base samples": 200, "issgm for Quarter": 90}
    assert result.cost.denoiser_evaluations == 290
    assert result.cost.seconds is not None
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", result.created)


def test_issgm_runs_for_the_named_compressor(finished: tuple[Path, Result, Any]) -> None:
    _, result, _ = finished
    half, quarter = result.compressors
    assert half.estimates.issgm is None
    entry = quarter.estimates.issgm
    assert entry is not None
    assert (entry.label, entry.n, entry.steps) == ("short run", 10, 4)
    assert entry.e_q.method == "issgm, 4 steps, finite difference 0.005 sigma"
    assert entry.full is None
    assert entry.note


def test_no_failure_gives_a_bound(finished: tuple[Path, Result, Any]) -> None:
    _, result, _ = finished
    for row in result.compressors:
        never = row.estimates.tails[2]
        for estimate, n in ((never.base, 50), (never.real, 100)):
            assert estimate is not None
            assert estimate.value == 0
            assert estimate.interval == pytest.approx((0.0, 1 - 0.025 ** (1 / n)))
            assert estimate.status == "none seen: upper bound only"
        assert never.agreement in ("agree", "cannot tell")


def test_progress_reaches_its_totals(finished: tuple[Path, Result, Any]) -> None:
    *_, calls = finished
    made = {what: [call for call in calls if call[0] == what] for what, *_ in calls}
    assert list(made) == ["base samples", "issgm for Quarter"]
    for rows, total in zip(made.values(), (200, 90), strict=True):
        counts = [count for _, count, _ in rows]
        assert counts == sorted(counts)
        assert counts[-1] == total
        assert {row[2] for row in rows} == {total}


def test_samples_file_has_its_columns(finished: tuple[Path, Result, Any], tiny: Any) -> None:
    folder, *_ = finished
    found = columns(folder)
    n, names = 60, ("Half", "Quarter")
    users = load_channels(tiny.data)
    of_users = ChannelDomain.of(users).features(audit_space(users))
    features = {f"features/{name}" for name in of_users}
    losses = {f"loss/{name}/{loss}" for name in names for loss in ("nmse", "own_mse", "sgcs")}
    exemplars = {f"x_hat/{name}" for name in names}
    own = {"x", "law", "log_w", "seed", "drop"}
    assert {k for k in found if not k.startswith("report/")} == own | losses | features | exemplars
    for name in own | losses | features:
        assert len(found[name]) == n, name
    for name in exemplars:
        assert found[name].shape == (4, 2, 8, 8)
    assert found["law"].tolist() == [b"base"] * 50 + [b"target"] * 10
    assert set(found["law"].tolist()) <= {b"base", b"target", b"failure"}
    assert (found["log_w"] == 0).all()
    assert (found["seed"] == 7).all()
    assert (found["drop"] == -1).all()
    assert found["x"].dtype == np.float16
    power = np.square(found["x"].astype(np.float64)).sum((1, 2, 3)) / 64
    np.testing.assert_allclose(power, 1, rtol=2e-3)


def test_samples_file_agrees_with_the_result(finished: tuple[Path, Result, Any]) -> None:
    folder, result, _ = finished
    found = columns(folder)
    for row in result.compressors:
        nmse = found[f"loss/{row.name}/nmse"][:50]
        assert row.losses["nmse"].base is not None
        assert row.losses["nmse"].base.value == pytest.approx(nmse.mean())
        again = NmseLoss(in_audit_space(load_compressor(row.spec).compressor))
        x = torch.from_numpy(found["x"][:50]).float()
        np.testing.assert_allclose(again(x), nmse, rtol=1e-2)  # x was rounded to float16


# --- The same settings, the same figures ----------------------------------------------------------


def test_repeating_gives_the_same(make: Make, tmp_path: Path) -> None:
    first, second = (audit(make(out=str(tmp_path / name))) for name in ("a", "b"))
    assert timeless(first) == timeless(second)
    a, b = columns(tmp_path / "a"), columns(tmp_path / "b")
    assert a.keys() == b.keys()
    for name, values in a.items():
        np.testing.assert_array_equal(values, b[name], err_msg=name)
    other = audit(make(out=str(tmp_path / "c"), seed=1))
    assert timeless(other) != timeless(first)


def test_a_finished_run_is_returned_at_once(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    first = audit(make())
    page = Path(make().out or "") / "report.html"
    before = page.stat().st_mtime_ns
    monkeypatch.setattr(auditing, "_gather", None)  # any use of it would raise
    # Where and in what pieces it was computed is free.
    for changes in ({}, {"batch_size": 3}, {"device": "cpu"}, {"threads": 1}):
        assert audit(make(**changes)) == first
    assert page.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("changes", "keys"),
    [
        ({"steps": 5}, "steps differ; steps: 4 there, 5 now"),
        ({"seed": 1, "n_base": 60}, r"n_base, seed differ; n_base: 4 there, 60 now"),
        ({"tau_db": (-4.0,)}, r"tau_db differ; tau_db: \[-3.0\] there, \[-4.0\] now"),
        ({"issgm": None}, "issgm differ"),
    ],
)
def test_other_settings_are_refused(make: Make, changes: dict[str, Any], keys: str) -> None:
    config = make(n_base=4, n_issgm=2)
    audit(config)
    with pytest.raises(CsiAuditError, match=rf"begun with another configuration \({keys}"):
        audit(replace(config, **changes))


@pytest.mark.parametrize("what", ["data", "base", "own_code"])
def test_other_files_are_refused(make: Make, tiny: Any, tmp_path: Path, what: str) -> None:
    """The same paths with another content are another audit."""
    mine = {name: tmp_path / getattr(tiny, name).name for name in ("data", "base", "own_code")}
    for name, path in mine.items():
        shutil.copy(getattr(tiny, name), path)
    spec = f"{mine['own_code']}:Half"
    changes = {"data": str(mine["data"]), "base": str(mine["base"]), "compressor": (spec,)}
    config = make(**changes, issgm=None, n_base=4)
    audit(config)
    if what == "data":
        shutil.copy(tiny.bare, mine["data"])
    elif what == "own_code":
        text = mine["own_code"].read_text()
        mine["own_code"].write_text(text.replace("kept, n_code = 4, 64", "kept, n_code = 3, 48"))
    else:
        mine["base"].write_bytes(another_base(tiny.base))
    key = {"data": "data_sha256", "base": "base_sha256", "own_code": "compressor_sha256"}[what]
    with pytest.raises(CsiAuditError, match=rf"another configuration \({key} differ"):
        audit(config)


def another_base(path: Path) -> bytes:
    """The file with its last weight changed."""
    data = bytearray(path.read_bytes())
    data[-2] ^= 1
    return bytes(data)


def test_batch_size_changes_rounding_only(make: Make, tmp_path: Path) -> None:
    small, large = (
        audit(make(out=str(tmp_path / str(size)), batch_size=size)) for size in (7, 100)
    )
    assert [row.name for row in small.compressors] == ["Half", "Quarter"]
    for a, b in zip(numbers(timeless(small)), numbers(timeless(large)), strict=True):
        assert a == pytest.approx(b, rel=1e-4, abs=1e-6)


def numbers(plain: Any) -> Iterator[float]:
    """All numbers of a nested structure, in order."""
    if isinstance(plain, dict):
        for value in plain.values():
            yield from numbers(value)
    elif isinstance(plain, list):
        for value in plain:
            yield from numbers(value)
    elif isinstance(plain, int | float):
        yield plain


def test_samples_do_not_depend_on_how_many(make: Make, tmp_path: Path) -> None:
    """50 samples in blocks of 20 begin with the 40 of a shorter audit."""
    long = audit(make(issgm=None))
    audit(make(out=str(tmp_path / "short"), issgm=None, n_base=40))
    assert long.base.n_samples == 50
    x, shorter = (columns(tmp_path / name)["x"] for name in ("run", "short"))
    assert len(x) == 50
    np.testing.assert_array_equal(x[:40], shorter)
    assert len(np.unique(x.reshape(50, -1), axis=0)) == 50


def test_an_interrupted_audit_goes_on(make: Make, tmp_path: Path) -> None:
    whole = audit(make(out=str(tmp_path / "whole")))

    def interrupt(what: str, made: int, total: int) -> None:
        if what == "base samples" and made > 170:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        audit(make(), progress=interrupt)
    folder = tmp_path / "run"
    assert [path.name for path in sorted((folder / "state").iterdir())] == [
        "base-0000.npz",
        "base-0001.npz",
    ]
    assert not (folder / "report.html").exists()
    with pytest.raises(CsiAuditError, match="steps differ"):
        audit(make(steps=5))
    calls: list[int] = []
    resumed = audit(make(), progress=lambda what, made, total: calls.append(made))
    assert calls[:2] == [80, 160]  # two whole blocks, read from disk
    assert timeless(resumed) == timeless(whole)
    assert not (folder / "state").exists()


# --- Odd inputs -----------------------------------------------------------------------------------


def test_file_without_drops_and_bandwidth(make: Make, tiny: Any, tmp_path: Path) -> None:
    result = audit(make(data=str(tiny.bare), issgm=None))
    assert (result.data.n, result.data.drops) == (60, None)
    assert result.notes[0].startswith("The file does not say which users share a drop")
    found = read_arrays(tmp_path / "run" / "samples.h5", group="report")
    assert not found["bandwidth_known"]
    np.testing.assert_array_equal(found["delay_s"], np.arange(8))
    known = audit(
        make(data=str(tiny.bare), issgm=None, bandwidth_hz=2e7, out=str(tmp_path / "known"))
    )
    found = read_arrays(tmp_path / "known" / "samples.h5", group="report")
    np.testing.assert_allclose(found["delay_s"], np.arange(8) / 2e7)
    assert known.compressors[0].losses == result.compressors[0].losses


def test_compressors_of_one_name_are_told_apart(make: Make, tiny: Any, tmp_path: Path) -> None:
    """The longer name has slashes: it must do as a file name and as an HDF5 path."""
    other = tmp_path / "other.py"
    other.write_text(tiny.own_code.read_text().replace("4, 64", "3, 48"))
    spec = f"{other}:Half"
    result = audit(make(compressor=(tiny.half, spec), issgm=spec))
    first, second = result.compressors
    assert (first.name, second.name) == ("Half", f"Half ({spec})")
    assert (first.n_code, second.n_code) == (64, 48)
    assert first.estimates.issgm is None
    assert second.estimates.issgm is not None
    key = second.name.replace("/", "|")
    assert len(columns(tmp_path / "run")[f"loss/{key}/nmse"]) == 60


def test_what_loading_found_is_in_the_result(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that does not say its convention is tried on all channels under audit."""
    tried = []

    def detecting(spec: str, *, channels: torch.Tensor) -> NamedCompressor:
        tried.append(len(channels))
        return replace(load_compressor(spec), notices=("Its convention was detected.",))

    monkeypatch.setattr(auditing, "load_compressor", detecting)
    result = audit(make())
    assert "Half: Its convention was detected." in result.warnings
    assert tried == [result.data.n] * 2


def test_unsound_compressors_leave_no_folder(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text(
        "from channels import Convention\n\n\n"
        "class Broken:\n"
        "    n_code, convention = 2, Convention(event_shape=(2, 8, 8))\n\n"
        "    def encode(self, y):\n        return y.missing\n\n"
        "    decode = bits = encode\n"
    )
    with pytest.raises(CsiAuditError, match="compressor Broken fails on channels"):
        audit(make(compressor=(f"{path}:Broken",), issgm=None))
    assert not (tmp_path / "run").exists()


def test_one_user_is_enough(make: Make, tiny: Any, tmp_path: Path) -> None:
    write_channels(tmp_path / "one.h5", load_channels(tiny.data).subset(slice(0, 1)))
    result = audit(make(data=str(tmp_path / "one.h5"), issgm=None))
    assert result.data.n == 1
    loss = result.compressors[0].losses["nmse"].real
    assert loss is not None
    assert (loss.interval, loss.status) == (None, "one value, no interval")


# --- Smaller parts --------------------------------------------------------------------------------


def test_default_run_directory_is_named_by_time_and_data(make: Make) -> None:
    named = run_directory(make(out=None, data="/data/my users.mat"))
    assert re.fullmatch(r"runs/\d{8}T\d{6}Z-my users", named.as_posix())
    assert run_directory(make(out="a/b")) == Path("a/b")


@pytest.mark.parametrize(
    ("name", "gpu", "expected"),
    [("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda", True, "cuda")],
)
def test_device(monkeypatch: pytest.MonkeyPatch, name: str, gpu: bool, expected: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    assert torch_device(name).type == expected


def test_missing_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(CsiAuditError, match=r"device cuda is not available here\. Choose"):
        torch_device("cuda")


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository of the test's own: returns where its issgm.json would be."""
    monkeypatch.setattr(auditing, "__file__", str(tmp_path / "csi_audit" / "auditing.py"))
    folder = tmp_path / "benchmarks" / "results"
    folder.mkdir(parents=True)
    return folder / "issgm.json"


def test_full_figures_are_those_of_the_same_base_and_weights(results: Path) -> None:
    klt, crnet = load_compressor("klt-16"), load_compressor("crnet-16")
    assert full_issgm_figures(klt, "abc")[0] is None
    assert "not in this installation" in full_issgm_figures(klt, "abc")[1]
    estimate = {"value": 0.5, "n": 500, "method": "issgm"}
    row = {
        "compressor": "klt-16",
        "compressor_sha256": klt.sha256,
        "base_sha256": "abc",
        "steps": 1000,
        "estimate": estimate,
    }
    rows = [{**row, "method": "rejection"}, {**row, "method": "issgm"}]
    results.write_text(json.dumps({"rows": rows}))
    full, note = full_issgm_figures(klt, "abc")
    assert full == {"e_q": estimate, "steps": 1000, "samples": 500}
    assert note == ""
    retrained = replace(klt, sha256="other")
    for named, base in ((klt, "other"), (retrained, "abc")):
        assert full_issgm_figures(named, base)[0] is None
        assert "belongs to another base model" in full_issgm_figures(named, base)[1]
    assert full_issgm_figures(crnet, "abc")[1].endswith("holds no run for crnet-16.")


_SPATIAL = """
from channels import Convention


class Spatial:
    n_code = 128
    convention = Convention(domain="spatial-frequency", event_shape=(2, 8, 8))

    def encode(self, y):
        return y.flatten(1)

    def decode(self, z):
        return z.view(-1, 2, 8, 8)

    def bits(self, z):
        return None
"""


def test_a_compressor_of_another_array_is_refused(make: Make, tmp_path: Path) -> None:
    """Its spatial-frequency channels would be those of another array, without a word."""
    (tmp_path / "mine.py").write_text(_SPATIAL)
    mine = f"{tmp_path / 'mine.py'}:Spatial"
    with pytest.raises(CsiAuditError, match=r"Spatial.*panel"):
        audit(make(compressor=(mine,), issgm=None, panel=(2, 1, 4)))
