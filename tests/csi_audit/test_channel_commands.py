"""What the commands on channel files print and write, on 8 x 8 channels."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import h5py
import pytest

from channels import ChannelSet, CsiAuditError, load_channels, write_channels
from csi_audit import channel_commands
from csi_audit.command_line import EXIT_BAD_INPUT, EXIT_OK, main
from csi_audit.configs import InspectConfig

end_to_end = pytest.mark.end_to_end
unit = pytest.mark.unit


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables as wide as a path, whatever terminal the tests run in."""
    monkeypatch.setenv("COLUMNS", "200")


def printed(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Lines of a successful `inspect`."""
    assert main(["inspect", *words]) == EXIT_OK
    captured = capsys.readouterr()
    assert captured.err == ""
    return captured.out.splitlines()


def cells(lines: list[str]) -> dict[str, str]:
    """Fact or feature -> its line, cells parted by a bar; the last of a name counts."""
    rows = [re.split(r"\s*[│┃|]\s*", line.strip("│┃ ")) for line in lines]
    return {row[0]: " | ".join(row[1:]) for row in rows if len(row) > 1}


@end_to_end
def test_inspect_prints_the_facts(tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, str(tiny.data))
    found = cells(lines)
    assert found["users"] == "100"
    assert found["drops"] == "5"
    assert found["line of sight"] == "25.0 %"
    assert found["receive x transmit antennas"] == "1 x 8"
    assert found["subcarriers"] == "8"
    assert (found["carrier"], found["bandwidth"]) == ("2.6 GHz", "10 MHz")
    assert found["delay tap"] == "100 ns"
    assert found["labels"] == "drop_seed, is_los"
    assert found["sha256"] == load_channels(tiny.data).source.sha256
    assert found["delay spread"].startswith("ns | ")
    assert len(found["effective paths"].split(" | ")) == 4
    assert any("users/s" in line for line in lines)
    assert lines[-1] == "Maps and distributions come as a page with --html inspection.html"


@end_to_end
def test_inspect_says_what_is_unknown(tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = cells(printed(capsys, str(tiny.bare)))
    unknown = ("drops", "carrier", "bandwidth", "delay tap", "array", "line of sight")
    assert {found[name] for name in unknown} == {"unknown"}
    assert found["labels"] == "none"


@end_to_end
def test_inspect_reads_as_it_is_told(tiny: Any, capsys: pytest.CaptureFixture[str]) -> None:
    found = cells(printed(capsys, str(tiny.bare), "--bandwidth-hz", "2e7", "--panel", "2,2,2"))
    assert (found["bandwidth"], found["delay tap"]) == ("20 MHz", "50 ns")
    assert found["panel"] == "2 x 2 x 2 (polarisations x rows x columns)"
    assert main(["inspect", str(tiny.bare), "--panel", "2,2,3"]) == EXIT_BAD_INPUT
    assert "bare.h5: panel must multiply to the 8 transmit" in capsys.readouterr().err
    assert main(["inspect", str(tiny.bare), "--n-sub", "16"]) == EXIT_BAD_INPUT
    assert "n_sub must be 8" in capsys.readouterr().err
    assert main(["inspect", str(tiny.bare), "--variable", "g"]) == EXIT_BAD_INPUT
    assert "g" in capsys.readouterr().err


@end_to_end
def test_two_files_are_compared_and_shown_on_a_page(
    tiny: Any, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    page = tmp_path / "look.html"
    lines = printed(capsys, str(tiny.data), str(tiny.bare), "--html", str(page), "--seed", "4")
    assert "bare.h5 against users.h5" in "\n".join(lines)
    assert len(cells(lines)["effective paths"].split(" | ")) == 7
    assert any(
        line.startswith(("bare.h5 is shifted", "bare.h5 lies", "bare.h5 shows")) for line in lines
    )
    assert any(
        line.startswith("Warning: The grids differ (bandwidth [MHz] 10 and") for line in lines
    )
    assert lines[-1] == f"Page: {page.resolve()}"
    text = page.read_text()
    assert text.startswith("<!DOCTYPE html>")
    assert "bare.h5 against users.h5" in text
    assert list(tmp_path.iterdir()) == [page]


@end_to_end
def test_shared_users_are_told(
    draw_users: Callable[..., ChannelSet], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    users = draw_users(60)
    write_channels(tmp_path / "a.h5", users)
    write_channels(tmp_path / "b.h5", users.subset(slice(40, 60)))
    lines = printed(capsys, str(tmp_path / "a.h5"), str(tmp_path / "b.h5"))
    assert any(
        line.startswith("Warning: At least 20 of the 20 users of b.h5 stand in a.h5 too")
        for line in lines
    )


@end_to_end
def test_bad_users_do_not_stop_the_look(
    draw_users: Callable[..., ChannelSet], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_channels(tmp_path / "a.h5", draw_users(30))
    with h5py.File(tmp_path / "a.h5", "r+") as file:
        file["h"][2] = 0
    lines = printed(capsys, str(tmp_path / "a.h5"))
    assert cells(lines)["users that are no channels"] == "1 all zero"
    assert any(line.startswith("Warning: Of 30 users, 1 holds zeros alone") for line in lines)


@unit
def test_a_page_that_cannot_be_is_refused_before_any_work(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(channel_commands, "inspect_channels", None)
    settings = InspectConfig(data=(str(tiny.data),))
    with pytest.raises(CsiAuditError, match=r"x\.html cannot be written: the folder .*no does not"):
        channel_commands.inspect(replace(settings, html=str(tmp_path / "no" / "x.html")))
    with pytest.raises(CsiAuditError, match="html must not be one of the channel files; got"):
        channel_commands.inspect(replace(settings, html=str(tiny.data)))


@unit
@pytest.mark.parametrize("data", [(), "a.h5"])
def test_data_is_a_tuple_of_files(data: Any) -> None:
    with pytest.raises(CsiAuditError, match="data must be a tuple of at least one file; got"):
        InspectConfig(data=data)


@end_to_end
def test_names_are_no_markup(
    draw_users: Callable[..., ChannelSet], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    name = "[bold]a [red].h5"
    write_channels(tmp_path / name, draw_users(30))
    lines = printed(capsys, str(tmp_path / name), str(tmp_path / name))
    assert any(line.startswith(f"{tmp_path / name}: 30 users") for line in lines)
