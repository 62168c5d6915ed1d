"""Compressor cards: the kinds of what they say."""

from pathlib import Path

import pytest

from channels import Convention, CsiAuditError
from compressors.compressor_cards import CompressorCard, read_card

pytestmark = pytest.mark.unit


def written(folder: Path, text: str) -> CompressorCard:
    """A card of one model file and the text."""
    (folder / "m.pt").touch()
    (folder / "mine.yaml").write_text(f"model: m.pt\n{text}\n")
    return read_card(folder / "mine.yaml")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "scale: 2e-2",
            r"scale of convention must be a number; got '2e-2'\. Write 0\.02, not 2e-2",
        ),
        ("scale: 1/2", r"scale of .* must be a number; got '1/2'\. Write 0\.5, not 1/2\."),
        ("offset: '0.5'", r"offset of .* must be a number; got '0\.5'\. Write it without quotes"),
        ("offset:", r"offset of convention must be a number; got None\.$"),
        ("offset: .nan", r"offset of convention must be a number; got nan\.$"),
        ("scale: true", r"scale of convention must be a number; got True\.$"),
        ("crop_delay: 16.0", r"crop_delay of .* must be a whole number; got 16\.0\. Write 16, not"),
        (
            "crop_delay: '16'",
            r"crop_delay of .* must be a whole number; got '16'\. Write it without q",
        ),
        ("crop_delay: 1/3", r"crop_delay of .* must be a whole number; got '1/3'\.$"),
        ("mean: ['a']", r"mean of convention must be a list of numbers; got \['a'\]\.$"),
        ("std: 1", r"std of convention must be a list of numbers; got 1\.$"),
        ("event_shape: 2x32x32", r"event_shape of .* must be a list of whole numbers; got '2x32"),
        ("panel: [1, 4.0, 8]", r"panel of .* must be a list of whole numbers; got \[1, 4\.0, 8\]"),
        ("layout: 3", r"layout of convention must be one of planes, .*; got 3\.$"),
        ("event_shape: [2, 32]", r"event_shape must be \(2 n_rx, n_tx, n_delay\); got \(2, 32\)"),
    ],
)
def test_fields_of_a_convention_have_kinds(text: str, message: str, tmp_path: Path) -> None:
    card = written(tmp_path, f"convention: {{{text}}}")
    with pytest.raises(CsiAuditError, match=rf"mine\.yaml: {message}"):
        card.declared(None)


def test_all_fields_of_a_convention(tmp_path: Path) -> None:
    """Whole numbers are numbers, null is what a field allows."""
    text = "{scaling: zscore, mean: [0, 0.5], std: [1], crop_delay: null, event_shape: [2, 4, 8]}"
    wanted = Convention(scaling="zscore", mean=(0, 0.5), std=(1,), event_shape=(2, 4, 8))
    assert written(tmp_path, f"convention: {text}").declared((2, 32, 32)) == wanted
    text = "{domain: spatial-frequency, scaling: global, scale: 2, offset: 0, panel: [2, 2, 8]}"
    declared = written(tmp_path, f"convention: {text}").declared(None)
    assert declared is not None
    assert (declared.scale, declared.panel) == (2, (2, 2, 8))


@pytest.mark.parametrize(("text", "got"), [("123", "123"), ("[a, b]", r"\['a', 'b'\]")])
def test_a_name_is_text(text: str, got: str, tmp_path: Path) -> None:
    message = rf"mine\.yaml: name must be text; got {got}\. Put it in quotes\."
    with pytest.raises(CsiAuditError, match=message):
        written(tmp_path, f"name: {text}")
    assert written(tmp_path, f"name: '{text}'").name == text
