"""Several files as one set: users, labels and drops stay what they are, others are refused."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from channels import ChannelSet, CsiAuditError, Grid, Source, load_channels, unit_power
from channels import write_channels as write
from channels.shuffled import ShuffledUsers, training_users
from channels.unions import FILE_LABEL, JoinedSource, join_channels

pytestmark = pytest.mark.unit


def users(n: int, seed: int, *, n_tx: int = 4, n_sub: int = 4, **grid: object) -> ChannelSet:
    generator = torch.Generator().manual_seed(seed)
    h, power_db = unit_power(
        torch.randn(n, 1, n_tx, n_sub, dtype=torch.complex64, generator=generator)
    )
    known = {"carrier_hz": 2.6e9, "bandwidth_hz": 1e7, "array": "ULA", **grid}
    source = Source(
        path=f"set{seed}.h5",
        sha256=f"hash{seed}",
        format="tensor",
        scenario="UMi",
        notices=(f"notice {seed}",),
    )
    return ChannelSet(
        h=h,
        power_db=power_db,
        grid=Grid(n_sub=n_sub, **known),  # type: ignore[arg-type]
        labels={"is_los": torch.arange(n) % 2 == 0, "drop_seed": torch.arange(n) // 3},
        source=source,
    )


def test_users_and_labels_follow_each_other() -> None:
    one, other = users(6, 1), users(9, 2, carrier_hz=3.5e9, array=None)
    both = join_channels([one, other])
    assert torch.equal(both.h, torch.cat([one.h, other.h]))
    assert torch.equal(both.power_db, torch.cat([one.power_db, other.power_db]))
    assert torch.equal(
        both.label("is_los"), torch.cat([one.label("is_los")] * 1 + [other.label("is_los")])
    )
    assert both.label(FILE_LABEL).tolist() == [0] * 6 + [1] * 9
    assert both.drops is not None
    assert both.drops.tolist() == [0] * 3 + [1] * 3 + [2] * 3 + [3] * 3 + [4] * 3
    assert (both.grid.bandwidth_hz, both.grid.carrier_hz, both.grid.array) == (1e7, None, None)
    assert isinstance(both.source, JoinedSource)
    assert both.source.path == "set1.h5 + set2.h5"
    assert both.source.scenario == "UMi"
    assert both.source.notices == ("set1.h5: notice 1", "set2.h5: notice 2")
    assert [part.sha256 for part in both.source.parts] == ["hash1", "hash2"]
    folder = replace(other, source=replace(other.source, path="far/away/set2.h5"))
    assert join_channels([one, folder]).source.identity() == {
        "name": "set1.h5 + set2.h5",
        "sha256": both.source.sha256,
    }
    three = join_channels([both, users(3, 3)]).source.identity()
    assert three["name"] == "set1.h5 + set2.h5 + set3.h5"
    again = join_channels([other, one]).source.sha256
    assert both.source.sha256 is not None
    assert both.source.sha256 != again
    assert join_channels([one]) is one


def test_what_only_one_file_knows() -> None:
    """A label of one file is dropped; users of a file without drops are a drop each."""
    one, other = users(6, 1), users(4, 2, bandwidth_hz=None)
    bare = replace(
        other, labels={"is_los": torch.ones(4)}, source=replace(other.source, sha256=None)
    )
    both = join_channels([one, bare])
    assert set(both.labels) == {FILE_LABEL, "drop_seed"}  # is_los: bool there, a number here
    assert both.drops is not None
    assert both.drops.tolist() == [0, 0, 0, 1, 1, 1, 2, 3, 4, 5]
    assert both.grid.bandwidth_hz == 1e7
    taken = "set2.h5: knows no bandwidth; taken to be the 10 MHz of the files it is joined with."
    assert both.source.notices == ("set1.h5: notice 1", "set2.h5: notice 2", taken)
    turned = join_channels([bare, one])
    assert (turned.grid.bandwidth_hz, turned.source.notices[-1]) == (1e7, taken)
    unknown = [replace(part, grid=bare.grid) for part in (one, bare)]
    assert join_channels(unknown).source.notices == ("set1.h5: notice 1", "set2.h5: notice 2")
    assert both.source.sha256 is None
    neither = join_channels([replace(one, labels={}), bare])
    assert neither.drops is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (users(3, 2, n_tx=8), r"set1\.h5 has 4 transmit antennas and set2\.h5 has 8: one model is"),
        (users(3, 2, n_sub=8), r"set1\.h5 has 4 subcarriers and set2\.h5 has 8"),
        (users(3, 2, panel=(2, 1, 2)), r"has a panel of 1 x 1 x 4 and set2\.h5 of 2 x 1 x 2"),
        (
            users(3, 2, bandwidth_hz=2e7),
            r"set2\.h5 has a bandwidth of 20 MHz, the files before it 10 MHz: their delay taps",
        ),
    ],
)
def test_unlike_files_are_refused(other: ChannelSet, message: str) -> None:
    with pytest.raises(CsiAuditError, match=message):
        join_channels([users(3, 1), other])


def test_nothing_to_join() -> None:
    with pytest.raises(CsiAuditError, match=r"at least one set of channels; got none"):
        join_channels([])


def test_files_that_stay_on_the_disk(tmp_path: Path) -> None:
    """Lazy and in memory, whole, sliced, by index, and as a training reads them."""
    parts = [users(70, 1), users(50, 2), users(30, 3)]
    for part in parts:
        write(tmp_path / str(part.source.path), part)
    lazy = [load_channels(tmp_path / f"set{i}.h5", lazy=i != 2) for i in (1, 2, 3)]
    both, plain = (
        join_channels(lazy),
        join_channels([load_channels(tmp_path / f"set{i}.h5", lazy=False) for i in (1, 2, 3)]),
    )
    assert both.is_lazy
    assert not plain.is_lazy
    assert both.h.shape == plain.h.shape
    for rows in (slice(None), slice(60, 130), slice(70, 120), slice(0, 0)):
        assert torch.equal(both.h[rows], plain.h[rows])
    index = torch.randperm(150, generator=torch.Generator().manual_seed(0))[:40]
    assert torch.equal(both.subset(index).h[:], plain.h[index])
    stream, _ = training_users(both, seed=0)
    assert isinstance(stream, ShuffledUsers)
    drawn = torch.cat([stream.batch(i, 50) for i in range(3)]).flatten(1)  # one pass
    wanted: Tensor = training_users(plain, seed=0)[1].flatten(1)
    assert torch.allclose(drawn.sum(0), wanted.sum(0), atol=1e-3)
    assert torch.equal(drawn[:, 0].sort().values, wanted[:, 0].sort().values)
