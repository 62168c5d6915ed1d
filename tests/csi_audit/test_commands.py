"""What the commands print and write, on 8 x 8 channels."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import reports.report
from channels import ChannelSet, audit_space, load_channels, write_channels
from channels.run_folder import AnotherConfigError
from channels.sample import sample_path
from channels.support import CsiAuditError
from compressors import (
    Klt,
    bundled_compressors,
    compressor_training,
    in_audit_space,
    load_compressor,
    nmse,
)
from csi_audit import commands
from csi_audit.base import load_base
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from csi_audit.configs import (
    DemoConfig,
    FitCompressorConfig,
    RunConfig,
    TrainingForm,
)
from csi_audit.sampling import BaseSampler
from reports import load_result

end_to_end = pytest.mark.end_to_end
unit = pytest.mark.unit


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as wide as a path, whatever terminal the tests run in."""
    monkeypatch.setenv("COLUMNS", "200")


@pytest.fixture
def no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports.report, "draw_gallery", lambda result, arrays: [])


def run_words(tiny: Any, out: Path, *more: str) -> list[str]:
    """The words of a small audit of `Half`."""
    files = ["--data", str(tiny.data), "--base", str(tiny.base), "--out", str(out)]
    return ["run", *files, "--compressor", tiny.half, "--n-base", "30", "--steps", "3", *more]


# --- run and report -------------------------------------------------------------------------------


@end_to_end
def test_run_and_report_with_figures(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`report` writes the same bytes again, also when page and figures are gone."""
    folder = tmp_path / "run"
    assert main(run_words(tiny, folder, "--tau_db", "-3", "--tau_db", "-5")) == EXIT_OK
    page = folder / "report.html"
    printed = capsys.readouterr()
    assert printed.err == ""
    assert printed.out.splitlines()[-1] == f"Report: {page.resolve()}"
    for words in ("csi-audit", "Half", "90 denoiser evaluations", "P(NMSE > −5 dB)"):
        assert words in printed.out
    assert page.stat().st_size > 100_000
    before = page.read_bytes()
    figures = {path.name: path.read_bytes() for path in (folder / "figures").iterdir()}
    assert len(figures) > 4
    page.unlink()
    shutil.rmtree(folder / "figures")
    assert main(["report", str(folder)]) == EXIT_OK
    assert capsys.readouterr().out == f"Report: {page.resolve()}\n"
    assert page.read_bytes() == before
    assert {p.name: p.read_bytes() for p in (folder / "figures").iterdir()} == figures


@end_to_end
@pytest.mark.usefixtures("no_figures")
def test_a_second_run_says_that_it_was_finished(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = run_words(tiny, tmp_path / "run")
    assert main(words) == EXIT_OK
    first = capsys.readouterr().out
    assert "finished before" not in first
    assert main(words) == EXIT_OK
    again = capsys.readouterr().out
    assert f"This audit was finished before; remove {tmp_path / 'run'} to make it" in again
    assert again.splitlines()[-1] == first.splitlines()[-1]


@end_to_end
@pytest.mark.usefixtures("no_figures")
def test_run_without_out_names_its_folder(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = run_words(tiny, tmp_path)
    cut = words.index("--out")
    assert main(words[:cut] + words[cut + 2 :]) == EXIT_OK
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{8}T\d{6}Z-users", folder.name)
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == f"Report: {(folder / 'report.html').resolve()}"


@end_to_end
@pytest.mark.usefixtures("no_figures")
def test_report_of_an_unfinished_run_is_refused(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    assert main(run_words(tiny, folder)) == EXIT_OK
    capsys.readouterr()
    (folder / "samples.h5").unlink()
    assert main(["report", str(folder)]) == EXIT_BAD_INPUT
    assert "samples.h5 cannot be read" in capsys.readouterr().err
    (folder / "result.json").unlink()
    assert main(["report", str(folder)]) == EXIT_BAD_INPUT
    assert "result.json does not exist" in capsys.readouterr().err


@unit
def test_threads_are_checked(tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(run_words(tiny, tmp_path / "run", "--threads", "0")) == EXIT_BAD_INPUT
    assert capsys.readouterr().err == "csi-audit: threads must be at least 1; got 0.\n"


@unit
def test_threads_are_set(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[int] = []
    monkeypatch.setattr(torch, "set_num_threads", found.append)
    monkeypatch.setattr(commands, "audit", interrupt)
    for threads in (3, None):
        config = RunConfig(data="a.h5", compressor=("klt-16",), threads=threads)
        with pytest.raises(KeyboardInterrupt):
            commands.run(config)
    assert found == [3]


def interrupt(*values: Any, **named: Any) -> None:
    raise KeyboardInterrupt


@unit
def test_demo_is_a_run_of_what_is_bundled(monkeypatch: pytest.MonkeyPatch) -> None:
    found: list[RunConfig] = []
    monkeypatch.setattr(commands, "run", found.append)
    commands.demo(DemoConfig(seed=3, threads=1))
    (config,) = found
    assert config.data == str(sample_path())
    assert set(config.compressor) == {n for n in bundled_compressors() if n.endswith("-16")}
    assert (config.out, config.seed, config.threads, config.base) == ("runs/demo", 3, 1, None)
    spent = config.n_base * config.steps + config.n_issgm * (2 * config.issgm_steps + 1)
    assert spent <= 45_000
    assert config.issgm in config.compressor


# --- Trainings ------------------------------------------------------------------------------------


@end_to_end
@pytest.mark.usefixtures("no_figures")
def test_a_fitted_klt_is_audited(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "klt-4"
    words = ["fit-compressor", str(tiny.data), "--arch", "klt", "--ratio", "4", "--out", str(out)]
    assert main(words) == EXIT_OK
    printed = capsys.readouterr().out
    path = out / "compressor.safetensors"
    assert printed.splitlines()[-1] == f"Compressor: {path.resolve()}"
    assert re.search(r"Validation NMSE (-[\d.]+) dB; KLT of equal code length \1 dB\.", printed)
    assert main(run_words(tiny, tmp_path / "run", "--compressor", str(path))) == EXIT_OK
    half, klt = load_result(tmp_path / "run").compressors
    assert (klt.name, klt.n_code) == ("klt-4", 32)
    assert klt.against_klt.startswith("klt-4 is a KLT itself")
    assert isinstance(load_compressor(str(path)).compressor, Klt)
    assert half.mean_db("real") is not None


def fit_words(tiny: Any, out: Path, *more: str) -> list[str]:
    """The words of a training on 40 samples of the tiny base."""
    draw = ["--base", str(tiny.base), "--base-samples", "40", "--base-steps", "3", "--seed", "5"]
    return ["fit-compressor", "--data", "base", *draw, "--out", str(out), *more]


@end_to_end
def test_a_klt_is_fitted_to_base_samples(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The card says of which base; a second call draws nothing and writes the same."""
    words = fit_words(tiny, tmp_path / "klt", "--arch", "klt", "--ratio", "4")
    assert main(words) == EXIT_OK
    path = tmp_path / "klt" / "compressor.safetensors"
    made = path.read_bytes()
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == f"Compressor: {path.resolve()}"
    assert f"Base samples are kept in {tmp_path / 'klt' / '.base-users'}" in printed
    card = load_compressor(str(path)).card
    base = load_base(tiny.base)
    users = "40 samples of base.safetensors, probability-flow ODE (2M), 3 steps, seed 5"
    assert card["data"] == card["validation"] == {"name": users, "sha256": base.sha256}
    assert card["users"] == {"train": 36, "validation": 4}
    assert card["read_as"]["grid"]["bandwidth_hz"] == base.grid.bandwidth_hz
    monkeypatch.setattr(BaseSampler, "__call__", None)
    assert main(words) == EXIT_OK
    assert path.read_bytes() == made


@end_to_end
def test_every_combination_is_fitted_and_one_may_fail(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At ratio 128 one real number is left, which no KLT can have."""
    ratios = [f"--ratio={ratio}" for ratio in (4, 128, 8)]
    words = fit_words(tiny, tmp_path, "--arch", "klt", *ratios)
    assert main(words) == EXIT_BAD_INPUT
    printed = capsys.readouterr()
    assert "1 of 3 trainings failed: klt-128. The others are done" in printed.err
    assert "klt-128 (2 of 3)" in printed.out
    assert "klt-128 failed: n_code of a KLT must be even" in printed.out
    cards = {
        name: load_compressor(str(tmp_path / name / "compressor.safetensors")).card
        for name in ("klt-4", "klt-8")
    }
    assert not (tmp_path / "klt-128").exists()
    assert cards["klt-4"]["data"] == cards["klt-8"]["data"]
    rows = [line.split("│")[1:9] for line in printed.out.splitlines() if line.startswith("│ klt")]
    shown = {row[0].strip(): [cell.strip() for cell in row[1:]] for row in rows}
    for name, n_code in (("klt-4", "32"), ("klt-8", "16")):
        level = f"{cards[name]['validation_nmse_db']:.2f}"
        same = [level, level, "+0.00", "KLT of equal code length"]
        assert shown[name] == [n_code, "-", "0", *same]  # a basis is no parameter
    assert shown["klt-128"] == ["failed", "", "", "", "", "", ""]
    assert "validation NMSE [dB]" in printed.out


@unit
def test_fit_compressor_passes_its_settings_on(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Architectures by ratios, each in its folder, from one set of samples."""
    found: list[dict[str, Any]] = []

    def fit(channels: ChannelSet, validation: ChannelSet, **named: Any) -> Path:
        found.append({"channels": channels, "validation": validation, **named})
        raise CsiAuditError("diverged")

    monkeypatch.setattr(compressor_training, "fit_compressor", fit)
    both = ["--arch", "crnet", "--arch=csinet", "--ratio", "4", "--ratio", "16"]
    plan = ["--steps", "20", "--block_steps", "10", "--batch-size", "8", "--precision=bf16-mixed"]
    words = fit_words(tiny, tmp_path, *both, *plan, "--device", "cpu")
    assert main([*words, "--validation", str(tiny.bare)]) == EXIT_BAD_INPUT
    names = ["crnet-4", "crnet-16", "csinet-4", "csinet-16"]
    assert [each["folder"] for each in found] == [tmp_path / name for name in names]
    assert [f"{e['recipe'].arch}-{e['recipe'].ratio}" for e in found] == names
    for each in found:
        plan_of = each["recipe"].plan
        assert (plan_of.steps, plan_of.block_steps, plan_of.batch_size) == (20, 10, 8)
        assert (plan_of.precision, plan_of.seed, each["device"]) == ("bf16-mixed", 5, "cpu")
        assert (len(each["channels"]), len(each["validation"])) == (40, 60)


@unit
def test_one_failing_training_ends_with_its_own_words(
    tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["fit-compressor", str(tiny.data), "--arch", "klt", "--ratio", "128"]
    assert main([*words, "--out", str(tmp_path / "klt")]) == EXIT_BAD_INPUT
    assert capsys.readouterr().err.startswith("csi-audit: n_code of a KLT must be even")


@unit
@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--arch", "klt", "--arch", "crnt"], "Did you mean 'crnet'?"),
        (["--ratio", "16", "--ratio", "7"], "ratio must divide the 128 real numbers"),
    ],
)
def test_wrong_forms_are_refused_before_anything_is_drawn(
    tiny: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    more: list[str],
    message: str,
) -> None:
    monkeypatch.setattr(commands, "draw_base_users", interrupt)
    assert main(fit_words(tiny, tmp_path / "out", *more)) == EXIT_BAD_INPUT
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@unit
@pytest.mark.parametrize("arch", ["klt-quantised", "top-taps", "top-taps-oracle", "beam-codebook"])
def test_a_compressor_fitted_to_bits(
    arch: str, tiny: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "fitted"
    assert main(fit_words(tiny, out, "--arch", arch, "--bits", "120")) == 0
    named = load_compressor(str(out / "compressor.safetensors"))
    x = audit_space(load_channels(tiny.data))
    audited = in_audit_space(named.compressor)
    bits = named.compressor.bits(audited.codeword(x))
    assert bits is not None
    assert named.card["bits"] <= 120
    assert int(bits.max()) <= 120
    assert named.card["validation_nmse_db"] < 0
    assert float(nmse(x, audited(x)).mean()) < 1
    printed = capsys.readouterr().out
    assert "Compressor: " in printed
    assert "KLT of equal code length" not in printed
    assert ("; quantised KLT of equal bits -" in printed) == (arch != "klt-quantised")


@unit
def test_folders_of_trainings(tmp_path: Path) -> None:
    """One training takes `out` itself, several have a folder each in it."""
    crnet, coarse = TrainingForm("crnet", ratio=16), TrainingForm("crnet", ratio=4)
    one = FitCompressorConfig(data="a.h5", out="x")
    assert one.folders() == {crnet: Path("x")}
    assert replace(one, out=None).folders() == {crnet: Path("runs/crnet-16")}
    two = replace(one, ratio=(4, 16))
    assert two.folders() == {coarse: Path("x/crnet-4"), crnet: Path("x/crnet-16")}
    assert next(iter(replace(two, out=None).folders().values())) == Path("runs/crnet-4")
    matched = replace(one, arch=("crnet", "top-taps"), bits=(256,))
    taps = TrainingForm("top-taps", bits=256)
    assert matched.folders() == {crnet: Path("x/crnet-16"), taps: Path("x/top-taps-256b")}


@unit
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"base": "b.safetensors"}, "base names the model that --data base draws from; got data"),
        ({"base_samples": 9}, "base_samples must be at least 10; got 9"),
        ({"base_steps": 1}, "base_steps must be at least 2; got 1"),
        ({"arch": "klt"}, r"arch must be a tuple of at least one value; got 'klt'. Write \('crnet"),
        ({"arch": ()}, "arch must be a tuple of at least one value"),
        ({"ratio": (4, 16, 4)}, "ratio 4 is named twice. Name each one once"),
        ({"bits": (8,)}, r"bits must go with an architecture that is fitted to bits \(klt-qu"),
        ({"arch": ("top-taps",)}, "bits must be given for top-taps. Example: --bits 512"),
        ({"arch": ("top-taps",), "bits": (8, 8)}, "bits 8 is named twice"),
    ],
)
def test_settings_of_a_training_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        FitCompressorConfig(**{"data": "users.h5", **settings})


@unit
def test_missing_gpu_is_refused_before_training(
    tiny: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for command in ("fit-base", "fit-compressor"):
        assert main([command, str(tiny.data), "--device", "cuda"]) == EXIT_BAD_INPUT
        assert "device cuda is not available here" in capsys.readouterr().err


# --- Keeping users for validation -----------------------------------------------------------------


def written(folder: Path, channels: ChannelSet, drops: torch.Tensor | None) -> str:
    """A file of the users, `power_db` numbering them."""
    labels = {} if drops is None else {"drop_seed": drops}
    numbered = torch.arange(len(channels), dtype=torch.float32)
    write_channels(folder / "users.h5", replace(channels, labels=labels, power_db=numbered))
    return str(folder / "users.h5")


def split(data: str, seed: int = 0) -> tuple[set[int], set[int], ChannelSet, ChannelSet]:
    train, validation = commands._split(FitCompressorConfig(data=data, seed=seed))
    rows = [{int(number) for number in part.power_db} for part in (train, validation)]
    return rows[0], rows[1], train, validation


@unit
def test_split_keeps_drops_whole(draw_users: Callable[..., ChannelSet], tmp_path: Path) -> None:
    """Drops of 3 to 7 users, in no order: a tenth of the 20 drops, no drop on both sides."""
    generator = torch.Generator().manual_seed(0)
    drops = torch.randint(0, 20, (100,), generator=generator) * 7 + 5
    data = written(tmp_path, draw_users(100), drops)
    one, other, train, validation = split(data)
    assert one | other == set(range(100))
    assert not one & other
    assert train.drops is not None
    assert validation.drops is not None
    kept, held = set(train.drops.tolist()), set(validation.drops.tolist())
    assert not kept & held
    assert len(held) == 2
    assert split(data)[1] == other  # a resumed training meets the same users
    assert any(split(data, seed)[1] != other for seed in range(1, 5))


@unit
@pytest.mark.parametrize("drops", [None, torch.full((30,), 4)])
def test_split_without_drops_is_by_user(
    draw_users: Callable[..., ChannelSet], tmp_path: Path, drops: torch.Tensor | None
) -> None:
    """Unknown drops, or one alone, which cannot be on one side."""
    one, other, *_ = split(written(tmp_path, draw_users(30), drops))
    assert (len(one), len(other)) == (27, 3)
    assert one | other == set(range(30))


@unit
def test_two_drops_are_too_few_to_keep_one_out(
    draw_users: Callable[..., ChannelSet], tmp_path: Path
) -> None:
    one, other, *_ = split(written(tmp_path, draw_users(10), torch.arange(10) // 7))
    assert sorted([len(one), len(other)]) == [1, 9]  # one user, whichever drop it is of


@unit
def test_one_user_cannot_be_split(draw_users: Callable[..., ChannelSet], tmp_path: Path) -> None:
    data = written(tmp_path, draw_users(1), None)
    with pytest.raises(CsiAuditError, match="holds one user; a training needs at least two"):
        split(data)


@unit
def test_a_validation_file_leaves_the_training_whole(tiny: Any) -> None:
    train, validation = commands._split(
        FitCompressorConfig(data=str(tiny.data), validation=str(tiny.bare))
    )
    assert (len(train), len(validation)) == (100, 60)


def test_demo_sets_a_folder_of_another_version_aside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "demo"
    calls: list[str] = []

    def run(settings: RunConfig) -> None:
        calls.append(str(settings.out))
        if folder.exists():
            raise AnotherConfigError("begun with another configuration")

    monkeypatch.setattr(commands, "run", run)
    folder.mkdir()
    (folder / "report.html").write_text("old")
    commands.demo(DemoConfig(out=str(folder)))
    (aside,) = tmp_path.iterdir()
    assert calls == [str(folder)] * 2
    assert aside.name.startswith("demo-")
    assert (aside / "report.html").read_text() == "old"
    assert f"moved to {aside}" in capsys.readouterr().out
