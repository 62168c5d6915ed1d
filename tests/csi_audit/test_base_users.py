"""Samples of a base model as users of a training, on 8 x 8 channels."""

from pathlib import Path
from typing import Any

import pytest
import torch

from channels import audit_space, onto_sphere
from channels.randomness import seeded_generator
from channels.support import CsiAuditError
from csi_audit import base_users
from csi_audit.base import Base, load_base
from csi_audit.base_users import BaseDraw, draw_base_users, tenth_kept_out
from csi_audit.sampling import BaseSampler

pytestmark = pytest.mark.unit

DRAW = BaseDraw(n=25, steps=3, seed=2)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_users, "BLOCK", 10)


@pytest.fixture(scope="session")
def base(tiny_base: Path) -> Base:
    return load_base(tiny_base)


def test_users_are_the_audited_law(base: Base, tmp_path: Path) -> None:
    """The samples of the audit's own sampler, normalised, on the grid of the base."""
    told: list[int] = []
    users = draw_base_users(base, DRAW, parent=tmp_path, name="b.safetensors", progress=told.append)
    first = BaseSampler(base, steps=3)(10, generator=seeded_generator(2, base_users.STREAM, 0))
    assert torch.allclose(audit_space(users)[:10], onto_sphere(first.x), atol=1e-5)
    assert (len(users), users.grid) == (25, base.grid)
    assert told[-1] == DRAW.evaluations == 75
    assert told == sorted(told)
    words = "25 samples of b.safetensors, probability-flow ODE (2M), 3 steps, seed 2"
    assert users.source.identity() == {"name": words, "sha256": base.sha256}
    assert users.source.notices == (
        f"The users are {words}, each normalised to unit power: as real as that model, no more.",
    )


def test_nothing_is_drawn_twice(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call goes on at the block where the last one was stopped."""
    draw, drawn = BaseSampler.__call__, 0

    def twice(self: BaseSampler, n: int, **named: Any) -> Any:
        nonlocal drawn
        drawn += 1
        if drawn > 2:
            raise KeyboardInterrupt
        return draw(self, n, **named)

    monkeypatch.setattr(BaseSampler, "__call__", twice)
    with pytest.raises(KeyboardInterrupt):
        draw_base_users(base, DRAW, parent=tmp_path)
    drawn = 1
    users = draw_base_users(base, DRAW, parent=tmp_path)
    assert drawn == 2
    monkeypatch.undo()
    monkeypatch.setattr(base_users, "BLOCK", 10)
    whole = draw_base_users(base, DRAW, parent=tmp_path / "other")
    assert torch.equal(users.h, whole.h)


@pytest.mark.parametrize(
    "other", [BaseDraw(n=12, steps=3, seed=2), BaseDraw(n=25, steps=2, seed=2), BaseDraw(n=25)]
)
def test_other_settings_have_blocks_of_their_own(
    base: Base, tmp_path: Path, other: BaseDraw
) -> None:
    assert DRAW.folder(tmp_path, base) != other.folder(tmp_path, base)
    draw_base_users(base, DRAW, parent=tmp_path)
    assert len(draw_base_users(base, other, parent=tmp_path)) == other.n


def test_the_folder_is_hidden(base: Base, tmp_path: Path) -> None:
    draw_base_users(base, DRAW, parent=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [".base-users"]


def test_a_tenth_is_kept_out(base: Base, tmp_path: Path) -> None:
    users = draw_base_users(base, DRAW, parent=tmp_path)
    train, validation = tenth_kept_out(users)
    assert torch.equal(torch.cat([train.h, validation.h]), users.h)
    assert len(validation) == 2
    assert [len(part) for part in tenth_kept_out(users.subset([0, 1, 2]))] == [2, 1]
    with pytest.raises(CsiAuditError, match="users must be at least two, to keep one out; got 1"):
        tenth_kept_out(users.subset([0]))
