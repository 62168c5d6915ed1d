"""Who is let into an audit: refusals of a preflight, its warnings in the result, other weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import reports.report
from channels import ChannelSet, audit_space
from channels.support import CsiAuditError
from compressors import NamedCompressor, check_compressor, load_compressor
from csi_audit.admitting import PREFLIGHT_USERS, preflight_cautions
from csi_audit.auditing import audit
from csi_audit.configs import RunConfig
from reports import Result

Draw = Callable[..., ChannelSet]


class Clipped:
    """Takes the channels as they are, and answers no more than `limit`."""

    def __init__(self, half: NamedCompressor, limit: float) -> None:
        self.n_code, self.convention = half.compressor.n_code, half.compressor.convention
        self.half, self.limit, self.tried = half.compressor, limit, 0

    def encode(self, y: Tensor) -> Tensor:
        self.tried = max(self.tried, len(y))
        return self.half.encode(y)

    def decode(self, z: Tensor) -> Tensor:
        return self.half.decode(z).clamp(-self.limit, self.limit)

    def bits(self, z: Tensor) -> None:
        return None


def named(own_code: Path, limit: float) -> NamedCompressor:
    return load_compressor(Clipped(load_compressor(f"{own_code}:Half"), limit))


@pytest.mark.unit
def test_warnings_come_back_as_sentences(draw_users: Draw, own_code: Path) -> None:
    x = audit_space(draw_users(100))
    assert preflight_cautions(named(own_code, 1e9), x, guided=False) == ()
    found = preflight_cautions(named(own_code, 0.5), x, guided=False)
    assert any("of the channels go on beyond -0.5 or 0.5." in sentence for sentence in found)


@pytest.mark.unit
@pytest.mark.parametrize("n", [1, 2, 24, 200])
def test_few_users_spread_over_the_file(draw_users: Draw, own_code: Path, n: int) -> None:
    mine = named(own_code, 1e9)
    preflight_cautions(mine, audit_space(draw_users(n)), guided=False)
    assert mine.compressor.tried == min(n, PREFLIGHT_USERS)  # type: ignore[attr-defined]


@pytest.mark.unit
def test_a_fault_beyond_the_first_users_is_seen(draw_users: Draw, own_code: Path) -> None:
    """The last user alone is one that the compressor cannot take."""
    x = audit_space(draw_users(100))
    mine = named(own_code, 1e9)
    last = x[-1, 0, 0, 0]

    def encode(y: Tensor) -> Tensor:
        code = y[..., :4].flatten(1)
        return torch.where((y[:, 0, 0, 0] == last)[:, None], torch.nan, code)

    mine.compressor.encode = encode  # type: ignore[method-assign]
    check_compressor(mine.compressor, x[:4], name="Clipped")
    with pytest.raises(CsiAuditError, match="compressor Clipped returns NaN or infinity"):
        preflight_cautions(mine, x, guided=False)


@pytest.mark.unit
def test_the_users_own_error_stays_behind_the_words(draw_users: Draw, own_code: Path) -> None:
    mine = named(own_code, 1e9)
    mine.compressor.decode = lambda z: z.unflatten(1, (3, 5))  # type: ignore
    with pytest.raises(CsiAuditError, match="compressor Clipped fails on channels") as caught:
        preflight_cautions(mine, audit_space(draw_users(30)), guided=False)
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.unit
def test_only_the_guided_one_needs_a_gradient(draw_users: Draw, own_code: Path) -> None:
    x, mine = audit_space(draw_users(30)), named(own_code, 1e9)
    half = mine.compressor
    mine.compressor.decode = lambda z: Clipped.decode(half, z.detach())  # type: ignore
    assert preflight_cautions(mine, x, guided=False) == ()
    with pytest.raises(CsiAuditError, match="compressor Clipped has no usable gradient"):
        preflight_cautions(mine, x, guided=True)


HELD = """
import torch
from channels import Convention


class Held:
    n_code, convention = 64, Convention(event_shape=(2, 8, 8))

    def __init__(self):
        with torch.random.fork_rng(devices=[]):
            self.net = torch.nn.Linear(1, 1, bias=False)
        self.net.load_state_dict(torch.load({path!r}))

    def encode(self, y):
        return y[..., :4].flatten(1) * self.net.weight

    def decode(self, z):
        return torch.nn.functional.pad(z.unflatten(1, (2, 8, 4)).clamp(-0.5, 0.5), (0, 4))

    def bits(self, z):
        return None
"""


@pytest.mark.end_to_end
def test_a_retrained_compressor_is_another_audit(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plain class that loads weights: with others the finished run must not come back."""
    monkeypatch.setattr(reports.report, "draw_gallery", lambda result, arrays: [])
    file, weights = tmp_path / "held.py", tmp_path / "w.pth"
    file.write_text(HELD.format(path=str(weights)))
    config = RunConfig(
        data=str(tiny.data), compressor=(f"{file}:Held",), base=str(tiny.base),
        out=str(tmp_path / "run"), n_base=4, steps=2,
    )  # fmt: skip

    def run(weight: float) -> Result:
        torch.save({"weight": torch.tensor([[weight]])}, weights)
        return audit(config)

    first = run(1.0)
    assert run(1.0) == first
    assert any("Held: " in text and "go on beyond" in text for text in first.warnings)
    with pytest.raises(CsiAuditError, match=r"another configuration \(compressor_sha256 differ"):
        run(0.5)
