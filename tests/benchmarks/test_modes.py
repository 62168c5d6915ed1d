"""The benchmark of failure modes: damages, overlaps, and a whole run at toy size."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import modes
from benchmarks.modes import CONTROL, NO_BEAMS, NO_DELAY, DamagedTaps, damages, overlap

unit = pytest.mark.unit


@unit
def test_damages_lose_what_they_say() -> None:
    lost = damages(32, 32)
    assert not lost[CONTROL].any()
    assert lost[NO_DELAY][:, 7:].all()
    assert not lost[NO_DELAY][:, :7].any()
    assert lost[NO_BEAMS].any(1).nonzero().flatten().tolist() == [4, 5, 6, 7, 8]
    assert lost[NO_BEAMS][4:9].all()


@unit
def test_a_damaged_compressor_rebuilds_the_rest() -> None:
    shape, generator = (2, 8, 8), torch.Generator().manual_seed(0)
    y = torch.randn(3, *shape, generator=generator)
    lost = damages(8, 8)
    whole, damaged = (DamagedTaps(64, shape, lost[name]) for name in (CONTROL, NO_DELAY))
    assert whole.decode(whole.encode(y)).allclose(y, atol=1e-6)
    rebuilt = damaged.decode(damaged.encode(y))
    assert rebuilt[..., :7].allclose(y[..., :7], atol=1e-6)
    assert not rebuilt[..., 7:].any()
    assert damaged.bits(damaged.encode(y)) is None


@unit
def test_overlap_is_the_share_of_the_range_within_the_damage() -> None:
    lost, edges = np.array([0, 0, 1, 1, 0, 1], dtype=float), np.arange(7.0)
    assert overlap((1.0, 4.0), lost, edges) == pytest.approx(2 / 3)
    assert overlap((5.0, 1.0), lost, edges) == pytest.approx(1 / 2)  # wraps round
    assert overlap(None, lost, edges) == 0
    assert overlap((4.0, 5.0), lost, edges) == 0


@pytest.mark.end_to_end
def test_a_toy_run_states_every_target_and_is_resumed(
    start: Callable[..., dict[str, Any]],
    toy_files: dict[str, Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(modes, "bundled_compressors", lambda: ["klt-16"])
    words = ["--samples", "40", "--seeds", "2", "--steps", "2", "--quantile", "0.6", "--taps",
             "100", "--base", str(toy_files["base"]), "--state", str(tmp_path / "s")]  # fmt: skip
    found = start(modes.main, "modes", *words)
    named = {row["compressor"] for row in found["rows"]}
    assert named == {"klt-16", CONTROL, NO_DELAY, NO_BEAMS}
    assert len(found["checks"]) == 8
    assert found["sizes"]["base_samples"] == 80
    for row in found["rows"]:
        assert len(row["modes_by_seed"]) == 2
        assert row["mode"] is None or row["share_interval"][0] <= row["share"]
    blocks = sorted((tmp_path / "s").rglob("*.npz"))
    assert len([block for block in blocks if block.name.startswith("base-")]) == 2
    assert len(blocks) == 2 + 2 * 4  # and the distortions of four compressors on both sides
    before = [block.stat().st_mtime_ns for block in blocks]
    again = start(modes.main, "modes", *words)
    assert [block.stat().st_mtime_ns for block in blocks] == before
    assert again["rows"] == found["rows"]
