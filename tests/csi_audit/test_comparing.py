"""`csi-audit compare` on files and on finished runs: pairing, cases, resume, refusals."""

import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
import yaml

import csi_audit
from channels import ChannelSet, Grid, Source, write_channels
from channels.support import CsiAuditError
from csi_audit import RunConfig, auditing
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from csi_audit.comparison_settings import CompareConfig
from csi_audit.generalisation import (
    BUNDLED_TRAINING,
    TrainingChannels,
    declared_trainings,
    generalisation_case,
    training_of,
)
from reports.comparison_schema import ComparisonResult

if TYPE_CHECKING:
    from .conftest import TinyFiles

unit, end_to_end = pytest.mark.unit, pytest.mark.end_to_end
SMALL = {"n_base": 20, "steps": 4, "block": 10, "tau_quantile": 0.9}


# --- On files -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def on_files(tiny: "TinyFiles", tmp_path_factory: pytest.TempPathFactory) -> ComparisonResult:
    return csi_audit.compare(files_config(tiny, tmp_path_factory.mktemp("cmp") / "out"))


def files_config(tiny: "TinyFiles", out: Path) -> CompareConfig:
    return CompareConfig(
        data=(str(tiny.data), str(tiny.bare)),
        compressor=(tiny.half, tiny.quarter),
        base=str(tiny.base),
        trained_on=("Half=umi",),
        out=str(out),
        device="cpu",
        **SMALL,  # type: ignore[arg-type]
    )


@end_to_end
def test_every_set_holds_both_compressors(on_files: ComparisonResult) -> None:
    assert [(s.name, s.kind, s.n) for s in on_files.sets] == [
        ("users", "real", 100),
        ("bare", "real", 60),
        ("base.safetensors", "base", 20),
    ]
    assert [(c.compressor, c.set_name) for c in on_files.matrix] == [
        (name, s.name) for s in on_files.sets for name in ("Half", "Quarter")
    ]
    mean = on_files.sets[0].pairs[0].figures[0]
    assert mean.verdict == "first is better"  # Half keeps what Quarter keeps, and more
    assert {c.case for c in on_files.matrix} == {"unknown", "base law"}


@end_to_end
def test_figures_are_those_of_the_compressors(
    on_files: ComparisonResult, tiny: "TinyFiles"
) -> None:
    from channels import audit_space, load_channels
    from compressors import load_compressor, nmse
    from compressors.audit_space import in_audit_space

    x = audit_space(load_channels(tiny.data))
    half, quarter = (
        nmse(x, in_audit_space(load_compressor(spec).compressor)(x)).double()
        for spec in (tiny.half, tiny.quarter)
    )
    cell = on_files.matrix[0]
    assert cell.mean.value == pytest.approx(float(half.mean()), rel=1e-6)
    gap = on_files.sets[0].pairs[0].figures[0].difference
    assert gap is not None
    assert gap.value == pytest.approx(10 * math.log10(half.mean() / quarter.mean()), rel=1e-5)


@end_to_end
def test_a_finished_comparison_is_read_back(tiny: "TinyFiles", tmp_path: Path) -> None:
    config = replace(files_config(tiny, tmp_path / "out"), data=(str(tiny.data),))
    made = csi_audit.compare(config)
    assert not (tmp_path / "out" / "state").exists()
    assert csi_audit.compare(config) == made
    with pytest.raises(CsiAuditError, match="begun with another configuration"):
        csi_audit.compare(replace(config, seed=1))


@end_to_end
def test_base_of_another_shape_is_left_out_in_words(
    tiny: "TinyFiles", tmp_path: Path, own_code: Path, draw_users: Callable[..., ChannelSet]
) -> None:
    wide = tmp_path / "wide.h5"
    write_channels(wide, draw_users(30, n_tx=16))
    code = tmp_path / "wide.py"
    code.write_text(own_code.read_text().replace("(2, 8, 8)", "(2, 16, 8)"))
    text = code.read_text().replace("(2, 8, self.kept)", "(2, 16, self.kept)")
    code.write_text(text.replace("kept, n_code = 4, 64", "kept, n_code = 4, 128"))
    result = csi_audit.compare(
        CompareConfig(
            data=(str(wide),),
            compressor=(f"{code}:Half",),
            base=str(tiny.base),
            out=str(tmp_path / "out"),
            **SMALL,  # type: ignore[arg-type]
        )
    )
    assert [s.kind for s in result.sets] == ["real"]
    assert any("compared on the files alone" in warning for warning in result.warnings)


@end_to_end
def test_command_prints_tables_and_the_page(
    tiny: "TinyFiles", tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    words = ["compare", "--data", str(tiny.data), "--compressor", tiny.half]
    words += ["--compressor", tiny.quarter, "--n_base", "0", "--out", str(out)]
    assert main(words) == EXIT_OK
    said = capsys.readouterr().out
    assert "Half is best in mean NMSE" in said
    assert "Shared and separate failures" in said
    assert (out / "comparison.html").is_file()
    assert (out / "comparison.json").is_file()


# --- On finished runs -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def runs(tiny: "TinyFiles", tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Audits of one file, without figures: two that pair, one of another seed, one of another
    file, the last two by their settings alone."""
    folder = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(auditing, "write_report", lambda result, arrays, where: None)
        for name, compressor in (("half", tiny.half), ("quarter", tiny.quarter)):
            csi_audit.audit(
                RunConfig(
                    data=str(tiny.data),
                    compressor=(compressor,),
                    base=str(tiny.base),
                    out=str(folder / name),
                    tail_method="counting",
                    mean_method="reweighting",
                    **SMALL,  # type: ignore[arg-type]
                )
            )
    for name, setting in (("seed", {"seed": 1}), ("other", {"data_sha256": "00"})):
        shutil.copytree(folder / "quarter", folder / name)
        file = folder / name / "config.yaml"
        file.write_text(yaml.safe_dump({**yaml.safe_load(file.read_text()), **setting}))
    return {name: folder / name for name in ("half", "quarter", "seed", "other")}


def of_runs(runs: dict[str, Path], out: Path, *names: str) -> ComparisonResult:
    config = CompareConfig(
        runs=tuple(str(runs[name]) for name in names), out=str(out), tau_quantile=0.9
    )
    return csi_audit.compare(config)


@end_to_end
def test_runs_pair_as_if_measured_together(
    runs: dict[str, Path], on_files: ComparisonResult, tmp_path: Path
) -> None:
    result = of_runs(runs, tmp_path / "out", "half", "quarter")
    assert [s.kind for s in result.sets] == ["real", "base"]
    for mine, its in ((result.sets[0], on_files.sets[0]), (result.sets[1], on_files.sets[2])):
        one, other = mine.pairs[0].figures[0].difference, its.pairs[0].figures[0].difference
        assert one is not None
        assert other is not None
        assert one.value == pytest.approx(other.value, rel=1e-5)
        assert one.interval == pytest.approx(other.interval, rel=1e-4)
    assert any(file.name.startswith("lost-") for file in (tmp_path / "out" / "figures").iterdir())


@end_to_end
def test_runs_of_another_seed_pair_on_users_alone(runs: dict[str, Path], tmp_path: Path) -> None:
    result = of_runs(runs, tmp_path / "out", "half", "seed")
    assert [s.kind for s in result.sets] == ["real"]
    assert any("(seed differ), so they do not pair" in w for w in result.warnings)


@end_to_end
def test_runs_of_other_channels_are_refused(runs: dict[str, Path], tmp_path: Path) -> None:
    with pytest.raises(
        CsiAuditError, match=r"audited other channels \(data_sha256 differ;.*--data"
    ):
        of_runs(runs, tmp_path / "out", "half", "other")


@end_to_end
def test_what_is_no_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["compare", "nowhere"]) == EXIT_BAD_INPUT
    assert "nowhere is no folder. Name a finished run" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()  # what is refused leaves nothing behind


@end_to_end
def test_the_audit_of_a_network_is_refused(
    runs: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from csi_audit import comparison_runs
    from reports.schema import load_result

    network = replace(load_result(runs["half"]), network="a network")  # type: ignore[arg-type]
    monkeypatch.setattr(comparison_runs, "load_result", lambda path: network)
    with pytest.raises(CsiAuditError, match="is the audit of a cell network; compare sets"):
        of_runs(runs, tmp_path / "out", "half", "quarter")


@end_to_end
def test_one_file_under_two_paths_is_refused(tiny: "TinyFiles", tmp_path: Path) -> None:
    twin = tmp_path / "twin.h5"
    shutil.copy(tiny.data, twin)
    config = replace(files_config(tiny, tmp_path / "out"), data=(str(tiny.data), str(twin)))
    with pytest.raises(CsiAuditError, match=r"twin\.h5 and .* hold the same channels: name one"):
        csi_audit.compare(config)


@end_to_end
def test_runs_ask_their_file_again_and_say_where_it_is_gone(
    runs: dict[str, Path], tmp_path: Path
) -> None:
    known = of_runs(runs, tmp_path / "known", "half", "quarter")
    assert known.sets[0].notes[0].startswith("Design effect of ")
    assert not any("not at hand" in warning for warning in known.warnings)
    gone = tmp_path / "gone"
    shutil.copytree(runs["half"], gone)
    result = (gone / "result.json").read_text().replace('users.h5"', 'moved.h5"')
    (gone / "result.json").write_text(result)
    told = of_runs({**runs, "gone": gone}, tmp_path / "told", "gone", "quarter")
    assert any("moved.h5 is not at hand any more" in warning for warning in told.warnings)
    assert told.sets[0].notes == (
        "Which users share a drop is not known: intervals count per user.",
    )
    assert told.sets[0].pairs[0].figures[0] == known.sets[0].pairs[0].figures[0]


# --- Settings and cases ---------------------------------------------------------------------------


@unit
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "data must name at least one channel file"),
        ({"data": ("a.h5",)}, "compressor must name at least one"),
        ({"runs": ("a",), "data": ("b",)}, "runs must stand alone"),
        ({"runs": ("a", "a")}, "runs must name each one once; got a, a"),
        ({"data": ("a",), "compressor": ("b",), "n_base": 1}, "n_base must be 0 or at least 2"),
        ({"data": ("a",), "compressor": ("b",), "tau_quantile": 2}, "tau_quantile must lie in"),
        ({"data": ("a",), "compressor": ("b",), "tau_db": (999.0,)}, "tau_db must lie in"),
        (
            {"data": ("a",), "compressor": ("b",), "tau_db": (-3.0, -3.001)},
            "levels that differ in two digits; got −3 dB, −3 dB",
        ),
        ({"runs": ("a", "a/")}, "runs must name each one once"),
        ({"runs": ("a",), "n_base": 7}, "n_base has no effect on finished runs, .*; got 7"),
        ({"runs": ("a",), "axes": "rx"}, "axes has no effect on finished runs"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        CompareConfig(**settings)  # type: ignore[arg-type]


GRID = Grid(carrier_hz=2.6e9, bandwidth_hz=1e7, n_sub=8)


def audited(scenario: str | None = "3GPP_38.901_UMi", sha256: str = "aa") -> Source:
    return Source(path="b.h5", sha256=sha256, format="", scenario=scenario)


@unit
@pytest.mark.parametrize(
    ("training", "source", "case", "reason"),
    [
        (TrainingChannels(scenarios=("UMi",)), audited(), "case 1", "trained and audited on"),
        (TrainingChannels(scenarios=("UMa",)), audited(), "case 2", "trained on UMa, audited on"),
        (TrainingChannels(scenarios=("UMa", "UMi")), audited(), "case 3", "UMa + UMi, which holds"),
        (TrainingChannels(scenarios=("UMa", "InH")), audited(), "case 2", "UMa + InH, audited on"),
        (
            TrainingChannels(scenarios=("UMa", "UMi"), grid={"bandwidth_hz": 2e7}),
            audited(),
            "case 2",
            "other bandwidth: 20 and 10 MHz",
        ),
        (
            TrainingChannels(scenarios=("3GPP_38.901_UMi_LOS", "UMi-Street Canyon NLOS")),
            audited(),
            "case 1",
            "trained and audited on",
        ),
        (
            TrainingChannels(scenarios=("UMi",)),
            audited("3GPP_38.901_UMi_LOS, 3GPP_38.901_UMi_NLOS"),
            "case 1",
            "trained and audited on",
        ),
        (
            TrainingChannels(scenarios=("UMi",)),
            audited("3GPP_38.901_UMa_LOS, 3GPP_38.901_UMi_NLOS"),
            "case 2",
            "trained on UMi, audited on",
        ),
        (
            TrainingChannels(sha256="aa", scenarios=("UMa", "UMi")),
            audited(),
            "case 3",
            "its own training file",
        ),
        (TrainingChannels(), audited(), "unknown", "card does not say"),
        (TrainingChannels(scenarios=("UMi",)), audited(None), "unknown", "file does not say"),
        (TrainingChannels(sha256="aa"), audited(None), "case 1", "its own training file"),
        (
            TrainingChannels(scenarios=("UMi",), grid={"carrier_hz": 28e9}),
            audited(),
            "case 2",
            "other carrier: 28000 and 2600 MHz",
        ),
    ],
)
def test_generalisation_case(
    training: TrainingChannels, source: Source, case: str, reason: str
) -> None:
    found = generalisation_case(training, source, GRID)
    assert found[0] == case
    assert reason in found[1]


@unit
def test_training_from_a_card() -> None:
    sha = next(iter(BUNDLED_TRAINING))
    found = training_of({"data": {"name": "umi_train.h5", "sha256": sha}})
    assert found.words() == "trained on umi_train.h5, 3GPP_38.901_UMi"
    assert training_of({}).words() == "training channels unknown"
    card = {"scenarios": ["A", "B"], "read_as": {"grid": {"carrier_hz": 1e9}}}
    assert training_of(card).scenarios == ("A", "B")
    assert training_of(card).grid == {"carrier_hz": 1e9}
    assert training_of(card, "C+D").words() == "trained on C + D (as declared)"


@unit
def test_declarations_are_checked() -> None:
    assert declared_trainings(["a=UMi+UMa"], ["a"]) == {"a": "UMi+UMa"}
    with pytest.raises(CsiAuditError, match="trained_on must be NAME=SCENARIO"):
        declared_trainings(["a"], ["a"])
    with pytest.raises(CsiAuditError, match=r"names 'crnet', which is .* Did you mean 'crnet-16'"):
        declared_trainings(["crnet=UMi"], ["crnet-16"])
    with pytest.raises(CsiAuditError, match="names 'a' twice"):
        declared_trainings(["a=UMi", "a=UMa"], ["a"])


@end_to_end
def test_a_compressor_that_returns_nan_is_named(tiny: "TinyFiles", tmp_path: Path) -> None:
    from compressors import load_compressor
    from csi_audit.comparison_measuring import measured_together

    named = load_compressor(tiny.half)

    class Broken(type(named.compressor)):  # type: ignore[misc]
        def decode(self, z: torch.Tensor) -> torch.Tensor:
            y = super().decode(z)
            y[1] = float("nan")
            return y

    broken = replace(named, name="Broken", compressor=Broken())
    with pytest.raises(CsiAuditError, match="compressor Broken: "):
        measured_together(torch.randn(4, 2, 8, 8, generator=torch.Generator()), [broken])
