"""A folder belongs to one configuration: claimed once, found again, refused to any other."""

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from channels import CsiAuditError
from channels.run_folder import _may_live, claim_folder, config_hash

CONFIG: dict[str, Any] = {
    "what": "base model",
    "data": {"name": "a.h5", "sha256": "12"},
    "rate": 4e-5,
    "steps": [1, 2.5, None, True],
}
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=8,
)


@pytest.mark.unit
def test_claimed_and_found_again(tmp_path: Path) -> None:
    folder = claim_folder(tmp_path / "a" / "b", CONFIG)
    assert folder == tmp_path / "a" / "b"
    assert yaml.safe_load((folder / "config.yaml").read_text()) == CONFIG
    written = (folder / "config.yaml").read_bytes()
    (folder / "last.ckpt").write_bytes(b"state")
    assert claim_folder(str(folder), dict(reversed(CONFIG.items()))) == folder
    assert (folder / "config.yaml").read_bytes() == written


@pytest.mark.property
@given(config=st.dictionaries(st.text(max_size=4), PLAIN, max_size=4))
def test_every_plain_configuration_survives_its_file(
    config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("run")
    claim_folder(folder, config)
    claim_folder(folder, config)
    other = {**config, "one more key": 1}
    with pytest.raises(CsiAuditError, match=r"one more key: None there, 1 now"):
        claim_folder(folder, other)


@pytest.mark.unit
def test_another_configuration_is_refused_by_its_keys(tmp_path: Path) -> None:
    claim_folder(tmp_path / "a", CONFIG)
    message = (
        r"a was begun with another configuration \(rate, what differ; rate: 4e-05 there, 0\.1 now\)"
        r"\. Choose a new folder, or repeat the old configuration to resume it\."
    )
    with pytest.raises(CsiAuditError, match=message):
        claim_folder(tmp_path / "a", {**CONFIG, "rate": 0.1, "what": "else"})
    fewer = {key: value for key, value in CONFIG.items() if key != "steps"}
    with pytest.raises(
        CsiAuditError, match=r"\(steps differ; steps: \[1, 2\.5, None, True\] there"
    ):
        claim_folder(tmp_path / "a", fewer)


@pytest.mark.unit
def test_the_hash_knows_values_not_their_order() -> None:
    assert config_hash({"a": 1, "b": (1, 2)}) == config_hash({"b": [1, 2], "a": 1})
    assert config_hash({"a": 1}) != config_hash({"a": 2})
    assert config_hash({"a": 1}) != config_hash({"a": "1"})


@pytest.mark.unit
def test_a_folder_of_something_else(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("...")
    message = (
        r"holds 'thesis\.tex' but no config\.yaml: it is not a folder of csi-audit\. Choose an"
    )
    with pytest.raises(CsiAuditError, match=message):
        claim_folder(tmp_path, CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.unit
def test_what_a_kill_may_leave(tmp_path: Path) -> None:
    """The folder without its configuration, and a temporary of that."""
    (tmp_path / ".config.yaml.123.tmp").write_text("wha")
    claim_folder(tmp_path, CONFIG)
    claim_folder(tmp_path, CONFIG)


@pytest.mark.unit
def test_half_written_files_of_dead_processes_go(tmp_path: Path, dead_process: int) -> None:
    claim_folder(tmp_path, CONFIG)
    (tmp_path / "state").mkdir()
    (tmp_path / "deeper").mkdir()
    (tmp_path / f".folder.{dead_process}.tmp").mkdir()
    dead = [f".samples.h5.{dead_process}.tmp", f"state/.base-0001.npz.{dead_process}.tmp"]
    kept = [
        f".samples.h5.{os.getpid()}.tmp",
        f".samples.h5.{os.getppid()}.tmp",
        f".samples.h5.{10**30}.tmp",
        f"samples.h5.{dead_process}.tmp",
        f".samples.h5.{dead_process}.tmp.old",
        f"deeper/.samples.h5.{dead_process}.tmp",
        "state/base-0001.npz",
    ]
    for name in dead + kept:
        (tmp_path / name).write_text("")
    claim_folder(tmp_path, CONFIG)
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left == {"config.yaml", *kept}


@pytest.mark.unit
def test_nothing_goes_from_the_folder_of_another(tmp_path: Path, dead_process: int) -> None:
    claim_folder(tmp_path / "a", CONFIG)
    left = tmp_path / "a" / f".samples.h5.{dead_process}.tmp"
    left.write_text("")
    with pytest.raises(CsiAuditError, match="another configuration"):
        claim_folder(tmp_path / "a", {**CONFIG, "rate": 1.0})
    assert left.is_file()


@pytest.mark.unit
def test_processes_that_may_live(monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(pid: int, signal: int) -> None:
        raise {1: PermissionError, 2: ProcessLookupError}[pid]

    with monkeypatch.context() as patch:
        patch.setattr(os, "kill", kill)
        found = [_may_live(pid) for pid in (1, 2)]
        patch.setattr(os, "name", "nt")
        found.append(_may_live(2))
    assert found == [True, False, True]


@pytest.mark.unit
def test_a_path_that_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        message = r"file.* cannot be used as output folder: .*\. Choose another path\."
        with pytest.raises(CsiAuditError, match=message):
            claim_folder(path, CONFIG)


@pytest.mark.unit
@pytest.mark.parametrize("text", [b"a: [1", b"\xff\xfe\x00"])
def test_a_configuration_that_cannot_be_read(text: bytes, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_bytes(text)
    with pytest.raises(CsiAuditError, match=r"(?s)config\.yaml cannot be read: .*Choose a new"):
        claim_folder(tmp_path, CONFIG)


@pytest.mark.unit
def test_a_configuration_that_is_no_mapping(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("- 1\n")
    with pytest.raises(
        CsiAuditError, match=r"another configuration \(data, rate, steps, what diff"
    ):
        claim_folder(tmp_path, CONFIG)
