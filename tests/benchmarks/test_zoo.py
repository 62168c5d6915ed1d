"""The benchmark of the zoo: what stands beside what, what is kept, and a run on 8 x 8 channels."""

import csv
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from benchmarks import harness, zoo, zoo_entries
from benchmarks.zoo import in_float16, measured_users, named_compressors, seconds_by_round
from benchmarks.zoo_entries import BaselineFits, Entry, code_length, entries_of
from channels import (
    ChannelSet,
    Convention,
    CsiAuditError,
    Grid,
    audit_space,
    file_sha256,
    from_audit_space,
    load_channels,
    write_channels,
)
from compressors import (
    CompressorSpec,
    Klt,
    NamedCompressor,
    in_audit_space,
    load_compressor,
    nmse,
    save_compressor,
)
from compressors.bit_matched import BIT_MATCHED

statistical, unit = pytest.mark.statistical, pytest.mark.unit

ALPHA = 1e-6
SHAPE = (2, 8, 8)
USERS = 120

OWN_CODE = """
import torch
from channels import Convention


class Half:
    n_code = 64
    convention = Convention(event_shape=(2, 8, 8))

    def encode(self, y):
        return y[..., :4].flatten(1)

    def decode(self, z):
        return torch.nn.functional.pad(z.unflatten(1, (2, 8, 4)), (0, 4))

    def bits(self, z):
        return None


class Broken(Half):
    def decode(self, z):
        return torch.full((len(z), 2, 8, 8), torch.nan)
"""


def entry_of(compressor: Any, arch: str, **more: Any) -> Entry:
    given = {"name": arch, "role": "named", "length": compressor.n_code, "key": None, **more}
    return Entry(compressor=compressor, arch=arch, **given)


# --- Files ----------------------------------------------------------------------------------------


def channels_of(seed: int, users: int = USERS) -> ChannelSet:
    """Few strong taps and beams, with random powers, so that users differ."""
    fall = torch.exp(-0.7 * torch.arange(8.0))
    generator = torch.Generator().manual_seed(seed)
    scale = torch.exp(torch.randn(users, 2, 8, 8, generator=generator))
    x = torch.randn(users, 2, 8, 8, generator=generator) * scale * (fall[:, None] * fall)
    return from_audit_space(x, Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=8))


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Three splits, weights of a KLT, a CRNet and a quantised net at ratio 8, and own code."""
    folder = tmp_path_factory.mktemp("zoo")
    for i, name in enumerate(("train", "val", "test")):
        write_channels(folder / f"{name}.h5", channels_of(i, 2 * USERS if i == 0 else USERS))
    x = audit_space(load_channels(folder / "train.h5"))
    data = {"name": "train.h5", "sha256": file_sha256(folder / "train.h5")}
    paths: dict[str, Path] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for arch in ("klt", "crnet", "conv-fsq"):
            spec = CompressorSpec.for_ratio(arch, 8, event_shape=SHAPE)
            net = spec.build()
            card: dict[str, Any] = {"compressor": spec.to_dict(), "data": data}
            if isinstance(net, Klt):
                net.fit(x)
            if arch == "crnet":
                card |= {"curve": [[400, -1.0], [800, -2.0]], "selected_step": 8}
                card |= {"klt_same_code_length_nmse_db": -3.0, "training_seconds": 12.5}
            paths[arch] = folder / f"{arch}-8.safetensors"
            save_compressor(paths[arch], net, spec, card=card)
    (folder / "mine.py").write_text(OWN_CODE)
    return SimpleNamespace(folder=folder, mine=f"{folder / 'mine.py'}:", **paths,
                           fsq=paths["conv-fsq"])  # fmt: skip


@pytest.fixture
def fits(files: SimpleNamespace, tmp_path: Path) -> BaselineFits:
    return BaselineFits(files.folder / "train.h5", tmp_path, seed=0)


# --- What stands beside what ----------------------------------------------------------------------


def probe() -> Tensor:
    return audit_space(channels_of(1, 20))


def loaded(*specs: Path | str) -> list[NamedCompressor]:
    return [load_compressor(str(spec)) for spec in specs]


def stub(fits: BaselineFits, budget: int, length: int, *_: Any) -> list[Entry]:
    klt = Klt(length, n_tx=8, n_delay=8)
    return [entry_of(klt, "klt-quantised", name=f"q{budget}", role="baseline", length=length,
                     klt_in_bits=f"q{budget}")]  # fmt: skip


@unit
def test_klt_of_the_same_training_file_is_the_reference(
    files: SimpleNamespace, fits: BaselineFits, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bits are those of the quantised net; at other lengths three a number."""
    monkeypatch.setattr(zoo_entries, "fitted_in_bits", stub)
    named = loaded(files.klt, files.fsq, f"{files.mine}Half")
    found = {e.name: e for e in entries_of(named, fits, probe(), bits_a_number=3)}
    names = ["klt (64 numbers)", "top-taps (63 numbers)", "q192", "Half"]
    assert list(found) == [*names, "top-taps (15 numbers)", "q48", "klt-8", "conv-fsq-8"]
    assert {found[name].klt for name in names[:2] + names[3:]} == {"klt (64 numbers)"}
    assert found["klt-8"].klt == found["conv-fsq-8"].klt == "klt-8"
    assert found["conv-fsq-8"].klt_in_bits == "q48"
    assert found["klt-8"].klt_in_bits is None
    assert (found["Half"].key, found["Half"].arch) == (None, "Half")
    assert found["klt (64 numbers)"].compressor.n_code == 64
    bare = entries_of(named[:1], fits, probe(), bits_a_number=0)
    assert [entry.name for entry in bare] == ["top-taps (15 numbers)", "klt-8"]


@unit
def test_klt_of_other_data_is_no_reference(files: SimpleNamespace, tmp_path: Path) -> None:
    other = BaselineFits(files.folder / "val.h5", tmp_path, seed=0)
    found = {e.name: e for e in entries_of(loaded(files.klt), other, probe(), bits_a_number=0)}
    fitted = found["klt (16 numbers)"]
    assert found["klt-8"].klt == fitted.klt == "klt (16 numbers)"
    best = Klt(16, n_tx=8, n_delay=8).fit(audit_space(load_channels(files.folder / "val.h5")))
    y = probe()
    assert isinstance(fitted.compressor, Klt)
    torch.testing.assert_close(fitted.compressor(y), best(y))
    # Kept: the second object builds it from its file.
    again = BaselineFits(files.folder / "val.h5", tmp_path, seed=0)
    kept = entries_of(loaded(files.klt), again, probe(), bits_a_number=0)[0]
    assert (kept.key, kept.fit_seconds) == (fitted.key, fitted.fit_seconds)
    assert "x" not in vars(again)  # no training channel was read


@unit
def test_nothing_is_fitted_without_training_channels(files: SimpleNamespace) -> None:
    found = entries_of(loaded(files.klt, files.crnet), None, probe(), bits_a_number=3)
    assert [(entry.name, entry.klt) for entry in found] == [
        ("klt-8", "klt-8"),
        ("crnet-8", "klt-8"),
    ]


@unit
@pytest.mark.parametrize(("n_code", "length"), [(16, 16), (15, 16), (128, 128), (300, 128)])
def test_code_length_of_the_klt_beside(n_code: int, length: int) -> None:
    named = NamedCompressor(
        name="a", spec="a", card={}, sha256=None,
        compressor=SimpleNamespace(n_code=n_code),
    )  # fmt: skip
    assert code_length(named, SHAPE) == length


@unit
def test_what_cannot_be_fitted_is_told(
    fits: BaselineFits, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three bits pay for no tap; the KLT takes any."""
    found = zoo_entries.fitted_in_bits(fits, 3, 16, SHAPE, None)
    assert "klt-quantised (3 bits)" in [entry.name for entry in found]
    assert {entry.klt_in_bits for entry in found} == {"klt-quantised (3 bits)"}
    said = capsys.readouterr().out
    assert "top-taps at 3 bits is left out: bits must pay for one tap of 64" in said


@unit
def test_names_must_differ(files: SimpleNamespace) -> None:
    message = r"compressors must have names of their own; got klt-8, klt-8\. Name each once"
    with pytest.raises(CsiAuditError, match=message):
        named_compressors([str(files.klt)] * 2, probe())


# --- Measuring ------------------------------------------------------------------------------------


@unit
def test_float16_weights_are_rounded_in_a_copy(files: SimpleNamespace) -> None:
    net = load_compressor(str(files.crnet)).compressor
    before = {key: value.clone() for key, value in net.state_dict().items()}  # type: ignore[attr-defined]
    rounded = in_float16(net)
    assert rounded is not None
    for key, value in rounded.state_dict().items():
        expected = before[key].half().to(value.dtype) if value.is_floating_point() else value
        assert torch.equal(value, expected)
        assert torch.equal(before[key], net.state_dict()[key])  # type: ignore[attr-defined]
    klt = Klt(16, n_tx=8, n_delay=8)
    klt.basis[0, 0, 0, 0, 0] = 1e5
    assert in_float16(klt) is None  # beyond 65504
    assert in_float16(load_compressor(f"{files.mine}Half").compressor) is None


@unit
def test_users_are_measured_in_blocks(
    files: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = channels_of(1)
    named = loaded(files.fsq)[0]
    entry = entry_of(named.compressor, "conv-fsq")
    whole = measured_users(entry, users)
    monkeypatch.setattr(zoo, "BLOCK", 7)
    parts = measured_users(entry, users)
    assert list(whole) == ["nmse", "sgcs", "bits", "nmse_float16"]
    for name, values in whole.items():
        assert values.shape == (USERS,)
        np.testing.assert_allclose(parts[name], values, rtol=1e-4)
    x = audit_space(users)
    x_hat = in_audit_space(named.compressor)(x)
    torch.testing.assert_close(torch.from_numpy(whole["nmse"]), nmse(x, x_hat))
    assert set(whole["bits"]) == {16 * 3.0}
    assert "nmse_float16" not in measured_users(
        entry_of(named.compressor, "conv-fsq", role="baseline"), users
    )


@unit
def test_a_compressor_that_fails_is_named(files: SimpleNamespace) -> None:
    broken = load_compressor(f"{files.mine}Broken").compressor
    with pytest.raises(CsiAuditError, match=r"compressor Broken: h and h_hat must be finite"):
        measured_users(entry_of(broken, "Broken"), channels_of(1, 5))


@unit
def test_rounds_take_turns_and_the_first_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = iter([*[0.0, 9.0] * 2, 0.0, 1.0, 0.0, 2.0, 0.0, 3.0, 0.0, 4.0])
    monkeypatch.setattr("benchmarks.zoo.time.perf_counter", lambda: next(ticks))
    klt = Klt(16, n_tx=8, n_delay=8, convention=Convention(event_shape=SHAPE))
    entries = [entry_of(klt, "klt", name=name) for name in "ab"]
    found = seconds_by_round(entries, torch.ones(3, *SHAPE), rounds=2)
    assert {name: values.tolist() for name, values in found.items()} == {"a": [1, 3], "b": [2, 4]}


# --- A run ----------------------------------------------------------------------------------------


@pytest.fixture
def start(
    files: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., dict[str, Any]]:
    """Run the benchmark at toy size; returns what it wrote."""
    monkeypatch.setattr(harness, "RESULTS", tmp_path / "results")
    names = {"train": "train.h5", "val": "val.h5", "test": "test.h5"}
    monkeypatch.setattr(harness, "SPLIT_FILES", names)
    bundled = {"klt-8": files.klt, "crnet-8": files.crnet, "conv-fsq-8": files.fsq}
    monkeypatch.setattr("compressors.loading.bundled_compressors", lambda: bundled)
    monkeypatch.setattr(zoo, "bundled_compressors", lambda: bundled)

    def run(*more: str) -> dict[str, Any]:
        given = ["--data-dir", str(files.folder), "--state", str(tmp_path / "state")]
        sizes = ["--timed-users", "10", "--rounds", "2"]
        monkeypatch.setattr(sys, "argv", ["zoo.py", *given, *sizes, *more])
        zoo.main()
        found: dict[str, Any] = json.loads((tmp_path / "results" / "zoo.json").read_text())
        return found

    return run


def without_times(found: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Rows but for what the clock decides."""
    rows = []
    for row in found["rows"]:
        figures = {k: v for k, v in row["figures"].items() if "time" not in k and "sec" not in k}
        kept = {k: v for k, v in row.items() if k not in ("s_per_1000", "over_klt")}
        rows.append({**kept, "figures": figures})
    return rows


@pytest.mark.end_to_end
def test_a_run(
    start: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = start()
    rows = {row["compressor"]: row for row in found["rows"]}
    baselines = [f"{arch} (48 bits)" for arch in BIT_MATCHED]
    named = ["klt-8", "crnet-8", "conv-fsq-8"]
    assert list(rows) == ["top-taps (15 numbers)", *baselines, *named]
    klt, crnet, fsq = (rows[name] for name in named)
    assert {row["data"] for row in rows.values()} == {"val"}
    assert klt["gain_db"] is None
    assert (klt["over_klt"], klt["ratio"], klt["code"]) == (1.0, 8, 16)
    gain = crnet["figures"]["gain"]
    assert crnet["gain_db"] == pytest.approx(klt["nmse_db"] - crnet["nmse_db"])
    assert gain["interval"][0] < gain["value"] < gain["interval"][1]
    of_bits = rows["klt-quantised (48 bits)"]
    assert fsq["in_bits_db"] == pytest.approx(of_bits["nmse_db"] - fsq["nmse_db"])
    assert fsq["bits"] == 48
    assert all(rows[name]["about"]["most_bits"] <= 48 for name in baselines)
    assert crnet["bits"] is crnet["in_bits_db"] is None
    assert (crnet["about"]["sample_passes"], crnet["about"]["training_seconds"]) == (800, 12.5)
    assert (fsq["about"]["sample_passes"], fsq["about"]["training_seconds"]) == (None, None)
    assert of_bits["about"]["training_seconds"] > 0
    for row in rows.values():
        low, high = row["figures"]["nmse"]["interval_db"]
        assert low < row["nmse_db"] < high
        assert row["nmse_db"] < row["figures"]["nmse_q95"]["db"] < row["cvar99_db"]
        assert 0 < row["sgcs"] < 1
    assert klt["macs"] == 2 * 4 * 8 * 64  # 8 complex rows of 64, forth and back
    assert (tmp_path / "results" / "zoo.png").read_bytes().startswith(b"\x89PNG")
    assert found["sizes"]["users"] == USERS
    # What was measured is kept: a second call measures and fits nothing and says the same.
    monkeypatch.setattr(zoo, "measured_users", None)
    monkeypatch.setattr(zoo_entries, "fit_to_bits", None)
    assert without_times(start()) == without_times(found)


@pytest.mark.end_to_end
def test_the_test_split_is_entered_and_only_reported(
    start: Callable[..., dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    files: SimpleNamespace,
) -> None:  # fmt: skip
    """Conventions and bits are told on validation users."""
    probes: list[Tensor] = []
    inner = zoo.compared

    def compared(options: harness.Options, probe: Tensor) -> Any:
        probes.append(probe)
        return inner(options, probe)

    monkeypatch.setattr(zoo, "compared", compared)
    found = start("--split", "test", "--bits-a-number", "0", "--compressor", "klt-8",
                  f"{files.mine}Half")  # fmt: skip
    assert torch.equal(probes[0], audit_space(load_channels(files.folder / "val.h5")))
    assert found["sizes"]["users_sha256"] == file_sha256(files.folder / "test.h5")
    assert {row["data"] for row in found["rows"]} == {"test"}
    with (tmp_path / "results" / "test_ledger.csv").open() as ledger:
        lines = list(csv.DictReader(ledger))
    assert [line["benchmark"] for line in lines] == ["zoo"]
    kept = [path.name for path in (tmp_path / "state").rglob("*.npz")]
    assert any("klt-8" in name for name in kept)
    assert not any("Half" in name for name in kept)  # whose code may change
