"""`Workspace`: what messages list, and what lies around an array."""

from pathlib import Path

import numpy as np
import pytest

from channels.support import CsiAuditError
from channels.workspace import Workspace

pytestmark = pytest.mark.unit


def of(*names: str, **texts: str) -> Workspace:
    arrays = {name: np.full((2, 3, 4), i) for i, name in enumerate(names)}
    return Workspace(path=Path("a.npz"), container="npz", arrays=arrays, texts=texts)


def test_long_lists_are_cut() -> None:
    many = of(*(f"h{i:02}" for i in range(40)))
    assert of("a", "b").listed() == "a (2, 3, 4), b (2, 3, 4)"
    assert many.listed().endswith("h11 (2, 3, 4) and 28 more")
    assert many.listed(["h30"]) == "h30 (2, 3, 4)"
    assert of().listed() == "no arrays"
    with pytest.raises(CsiAuditError, match=r"--variable: h00 .*, h11 \(2, 3, 4\) and 28 more\."):
        many.choose(None, ())


def test_no_candidate_lists_a_few() -> None:
    arrays = {f"w{i:02}": np.ones((3, 3)) for i in range(4096)}
    flat = Workspace(path=Path("a.npz"), container="npz", arrays=arrays)
    with pytest.raises(CsiAuditError, match=r"it has: w00 \(3, 3\), .* and 4,084 more\."):
        flat.choose(None, ())


def test_beside_takes_the_nearest() -> None:
    workspace = of("x", "y", "a/x", "a/b/x", "a/b/h", "a/z", "c/x", "c/q", **{"a/b/t": "near"})
    near = workspace.beside("a/b/h")
    assert {name: int(near.value(name)[0, 0, 0]) for name in near.arrays} == {
        **{"y": 1, "x": 3, "h": 4, "z": 5}
    }
    assert near.texts == {"t": "near"}
    assert set(workspace.beside("x").arrays) == {"x", "y"}
    assert workspace.beside("a/x").texts == {}
