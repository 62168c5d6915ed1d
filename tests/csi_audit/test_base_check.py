"""Whole checks of a base on 8 x 8 channels: figures, resuming, verdicts, the command."""

import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

import csi_audit
from channels import ChannelSet, write_channels
from channels.support import CsiAuditError
from csi_audit import base_check
from csi_audit.base import load_base
from csi_audit.base_check import (
    Inputs,
    base_draws,
    check_base,
    data_warnings,
    doubled_size,
    loaded_compressors,
    raw_power,
    stream_sizes,
)
from csi_audit.base_commands import CheckBaseConfig
from csi_audit.command_line import main
from csi_audit.run_state import BlockStore
from csi_audit.sampling import BaseSampler
from reports.check_schema import BaseCheck, load_check
from reports.schema import Verdict

end_to_end, unit = pytest.mark.end_to_end, pytest.mark.unit
Make = Callable[..., CheckBaseConfig]


@pytest.fixture
def make(tiny: Any, tmp_path: Path) -> Make:
    """Settings of a check in a second: 60 samples of two seeds, 20 at twice the steps."""

    def settings(**changes: Any) -> CheckBaseConfig:
        plain: dict[str, Any] = {
            "base": str(tiny.base),
            "data": str(tiny.data),
            "train": str(tiny.bare),
            "compressor": (tiny.half,),
            "out": str(tmp_path / "check"),
            "n_base": 60,
            "steps": 4,
            "seeds": 2,
            "n_double": 20,
            "block": 10,
            "batch_size": 20,
        }
        return CheckBaseConfig(**{**plain, **changes})

    return settings


@end_to_end
def test_a_check_from_end_to_end(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    config, told = make(), []
    found = check_base(config, progress=lambda *numbers: told.append(numbers))
    folder = Path(config.out or "")
    assert sorted(path.name for path in folder.iterdir()) == ["check.json", "config.yaml"]
    assert load_check(folder) == found
    assert told[-1] == ("twice the steps", 160, 160)
    assert ("base samples", 240, 240) in told
    assert found.cost.parts == {"base samples": 240, "twice the steps": 160}
    assert (found.base.n_samples, found.data.n, found.data.drops) == (60, 100, 5)
    assert found.base.rule.startswith("Accepted is a KS distance of at most")
    assert found.words[0].startswith(("The base law misses", "Whether", "The base law c"))
    assert found.chain == "probability-flow ODE (2M), 4 steps"
    assert [row.name for row in found.seeds] == [row.name for row in found.train_distortion]
    assert found.seeds[0].n == 30
    assert {row.n for row in found.doubling} == {20}
    assert found.memorisation is not None
    assert found.memorisation.n_train == 60
    assert found.train is not None
    assert found.classifier is not None
    assert found.neighbours is not None
    assert {ratio.share for ratio in found.tail_ratios} == {0.1, 0.05, 0.01, 0.001}
    monkeypatch.setattr(base_check, "base_draws", None)  # a finished check is not made again
    assert check_base(config) == found
    with pytest.raises(CsiAuditError, match="steps"):
        check_base(replace(config, steps=5))


@end_to_end
def test_an_interrupted_check_draws_no_block_twice(
    make: Make, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    whole = check_base(make(out=str(tmp_path / "whole")))
    config = make()

    class Stop(Exception):
        pass

    def interrupt(what: str, made: int, total: int) -> None:
        if what == "twice the steps" and made >= 80:
            raise Stop

    with pytest.raises(Stop):
        check_base(config, progress=interrupt)
    states = sorted(path.name for path in (tmp_path / "check" / "state").iterdir())
    assert len(states) == 6  # both streams; the block that was told of was not yet saved
    drawn: list[int] = []

    class Counting(BaseSampler):
        def __call__(self, n: int, **more: Any) -> Any:
            drawn.append(n)
            return super().__call__(n, **more)

    monkeypatch.setattr(base_check, "BaseSampler", Counting)
    resumed = check_base(config)
    assert drawn == [10, 10]
    assert replace(resumed, created=whole.created, cost=whole.cost) == whole


@end_to_end
def test_twice_the_steps_start_from_the_same_noise(make: Make, tmp_path: Path) -> None:
    """Under a Gaussian base the ODE is nearly exact: samples pair by pair, seeds apart."""
    config = make(steps=40, n_base=40, n_double=15)
    draws = base_draws(config, load_base(config.base), BlockStore(tmp_path / "draws"))
    assert draws.doubled is not None
    assert len(draws.doubled) == 20  # whole blocks
    once, twice = draws.streams[0].x[:20], draws.doubled.x
    assert float((once - twice).norm() / once.norm()) < 0.2
    assert float((draws.streams[1].x[:20] - twice).norm() / once.norm()) > 0.8
    assert draws.x.shape[0] == 40
    again = base_draws(replace(config, batch_size=7), load_base(config.base), BlockStore(tmp_path))
    assert torch.allclose(again.x, draws.x, atol=1e-5)


@end_to_end
def test_bundled_compressors_that_do_not_fit_are_left_out(make: Make) -> None:
    found = check_base(make(compressor=(), train=None, n_double=0, seeds=1))
    assert found.base.verdict == "not checked"
    assert (found.tail_ratios, found.seeds, found.doubling, found.memorisation) == (
        (),
        (),
        (),
        None,
    )
    assert found.words[0].startswith("No distortion was compared")
    assert all(item.kind == "feature" for item in found.realism)


@end_to_end
def test_the_command_prints_and_judges(
    make: Make, tiny: Any, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "220")
    config = make(train=None)
    words = ["check-base", str(config.base), "--data", str(config.data), "--out", str(config.out)]
    words += ["--compressor", tiny.half, "--n-base", "60", "--steps", "4", "--seeds", "2"]
    code = main([*words, "--n-double", "0", "--block", "10"])
    printed = capsys.readouterr().out
    found = load_check(str(config.out))
    assert code == (1 if found.base.verdict == "misses" else 0)
    assert all(sentence in printed for sentence in found.words)
    assert re.search(r"NMSE of Half +│ dB ", printed)
    assert "base over real, at quantiles of the real channels" in printed
    assert f"go on with --out {config.out}" in printed
    shutil.rmtree(str(config.out))
    assert main([*words, "--n-double", "-1"]) == 2
    assert capsys.readouterr().err == "csi-audit: n_double must be at least 0; got -1.\n"


@end_to_end
def test_verdict_decides_the_exit_code(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    from csi_audit.base_commands import check_base_model

    found = check_base(make())
    verdicts: dict[Verdict, int] = {"misses": 1, "credible": 0, "cannot tell": 0, "not checked": 0}
    for verdict, code in verdicts.items():
        judged: BaseCheck = replace(found, base=replace(found.base, verdict=verdict))
        monkeypatch.setattr(base_check, "check_base", lambda *a, found=judged, **k: found)
        assert check_base_model(make()) == code


# --- Parts ----------------------------------------------------------------------------------------


@unit
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_base": 4}, r"n_base must be at least 8; got 4\."),
        ({"seeds": 0}, r"seeds must be at least 1; got 0\."),
        ({"n_base": 10, "seeds": 6}, r"n_base must be at least two samples a seed; got 10 for 6"),
        ({"threads": 0}, r"threads must be at least 1; got 0\."),
        ({"compressor": "klt-16"}, r"compressor must be a tuple of names; got the string 'klt-16'"),
    ],
)
def test_bad_settings_are_refused(make: Make, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        make(**changes)


@unit
def test_settings_that_fix_the_figures(make: Make) -> None:
    config = make()
    assert config.fixing() == replace(config, out="x", device="cpu", batch_size=1).fixing()
    assert config.fixing() != replace(config, steps=5).fixing()
    assert config.fixing()["compressor"] == [config.compressor[0]]
    assert str(CheckBaseConfig().folder()).startswith("runs/check-")
    assert csi_audit.CheckBaseConfig is CheckBaseConfig
    assert csi_audit.check_base is check_base


@unit
def test_sizes_of_streams() -> None:
    assert stream_sizes(11, 3) == [4, 4, 3]
    assert doubled_size(250, 50, 300) == 250
    assert doubled_size(250, 100, 260) == 260


@unit
def test_raw_power_has_its_quantiles() -> None:
    scale = torch.linspace(0.5, 1.5, 101).sqrt().view(-1, 1, 1, 1)
    low, mid, high = raw_power(scale * torch.full((101, 2, 4, 4), 0.5**0.5))
    assert (low, mid, high) == pytest.approx((0.51, 1.0, 1.49), abs=1e-4)


@unit
def test_a_wrong_array_is_refused(
    make: Make, tmp_path: Path, draw_users: Callable[..., ChannelSet]
) -> None:
    write_channels(tmp_path / "other.h5", draw_users(20, n_tx=4))
    for name in ("data", "train"):
        with pytest.raises(CsiAuditError, match=r"other.h5 holds channels of 1 receive x 4"):
            check_base(make(**{name: str(tmp_path / "other.h5")}))


@unit
def test_compressors_of_one_name_are_told_apart(make: Make, tiny: Any) -> None:
    users = Inputs.read(make()).channels
    spec = f"{tiny.own_code.parent}/../{tiny.own_code.parent.name}/mine.py:Half"
    found = loaded_compressors((tiny.half, spec), users)
    assert [named.name for named in found] == ["Half", f"Half ({spec})"]


@unit
def test_channels_the_base_knows_are_warned_of(make: Make) -> None:
    inputs = Inputs.read(make())
    mine, train = inputs.channels.source.sha256, inputs.train
    known = replace(inputs.base, card={"data": {"sha256": mine}, "validation": {"sha256": mine}})
    first, second, third = data_warnings(known, inputs.channels, train)
    assert "trained on these very channels" in first
    assert "selected on these channels" in second
    assert "is not the file that the base was trained on" in third
    assert data_warnings(replace(known, card={}), inputs.channels, train) == ()
    assert data_warnings(replace(known, card={"data": "a name"}), inputs.channels, None) == ()
