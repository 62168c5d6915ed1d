"""`inspect_channels`: one pass over a channel file that says what it holds and what looks wrong.

Nothing is kept but a few numbers a user, so a file may be larger than the memory; bad users are
counted, not refused. The checks live in `inspection_checks` and `mixture_checks`, the page in
`reports`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from channels.channel_set import Grid, Source
from channels.domains import Panel, stack_real, to_angular_delay
from channels.inspection_checks import (
    MIN_VALUES,
    DelayTails,
    Saturation,
    Sparsity,
    bad_user_warning,
    channel_keys,
    delay_warning,
    power_of,
    swapped_warning,
)
from channels.mixture_checks import mixture_warnings
from channels.opened import BLOCK, ReadOptions
from channels.physical_features import features_of_maps
from channels.randomness import seeded_generator
from channels.user_blocks import UserBlock, UserBlocks, open_users

__all__ = ["Duplicates", "Inspection", "SampleUser", "inspect_channels", "users_in_both"]

_VALUES = 1 << 20  # coefficients a block
_SAME = 1e-5  # largest ||a - b||^2 / ||a||^2 of one channel stored twice; float16 costs 1e-7
_CHECKED = 16  # pairs of equal keys whose channels are compared
_DRAWN = 3  # users shown at random
_SHOWN_BY = ("delay_spread_s", "effective_paths")  # the first that is known
_QUANTILES = (0.01, 0.5, 0.99)

Progress = Callable[[int, int], None]


@dataclass(frozen=True, kw_only=True)
class SampleUser:
    """A user to look at.

    Attributes:
        index: Row in the file.
        quantile: Place among all users by `feature`; None for users drawn at random.
        feature: Name of the feature; None if none is known.
        value: Of the feature, as stored.
        power: |x|^2 summed over receive antennas, angular-delay, (n_tx, n_sub), mean 1, FFT order.
    """

    index: int
    quantile: float | None
    feature: str | None
    value: float | None
    power: Tensor


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """Users whose channel, up to scale and phase, stands in the file before.

    Attributes:
        count: How many repeat an earlier one.
        first: (user, the earlier user it repeats), the first of them.
    """

    count: int
    first: tuple[int, int]


@dataclass(frozen=True, kw_only=True, eq=False)
class Inspection:
    """What one pass over N users found; M of them are channels, the rest NaN, Inf or all zero.

    Attributes:
        source: File, hash, format, stored form and what was assumed in reading it.
        shape: (N, n_rx, n_tx, n_sub).
        grid: Carrier, bandwidth, subcarriers, array, panel.
        labels: By name, (N, ...).
        non_finite, zero: Users that are no channels, bool (N,).
        features: By the names of `FEATURES`, float32 (M,), in the file's order.
        power_db: Gain [dB], float32 (M,).
        crop_loss: Taps kept -> share of each user's energy that is lost, float32 (M,).
        mean_power: Mean of |x|^2 summed over receive antennas, float64 (n_tx, n_sub), FFT order;
            None without a channel.
        samples: Users to look at, in the order to show them.
        keys: `inspection_checks.channel_keys`, int64 (M,); None for channels of few coefficients.
        duplicates: None if there are none, or no keys to tell.
        warnings: What looks wrong, a sentence each.
        seconds: Time of the pass.
    """

    source: Source
    shape: tuple[int, int, int, int]
    grid: Grid
    labels: Mapping[str, Tensor]
    non_finite: Tensor
    zero: Tensor
    features: Mapping[str, Tensor]
    power_db: Tensor
    crop_loss: Mapping[int, Tensor]
    mean_power: Tensor | None
    samples: tuple[SampleUser, ...]
    keys: Tensor | None
    duplicates: Duplicates | None
    warnings: tuple[str, ...]
    seconds: float

    @property
    def n(self) -> int:
        """Users in the file."""
        return self.shape[0]

    @property
    def n_good(self) -> int:
        """Users that are channels."""
        return len(self.power_db)

    @property
    def share_los(self) -> float | None:
        """Share of users in line of sight; None if the file does not say."""
        los = self.labels.get("is_los")
        return None if los is None else float(los.double().mean())

    @property
    def n_drops(self) -> int | None:
        """Environments; None if the file does not say."""
        drops = self.labels.get("drop_seed")
        return None if drops is None else len(drops.unique())

    @property
    def users_per_second(self) -> float:
        """Speed of the pass."""
        return self.n / max(self.seconds, 1e-9)


def inspect_channels(
    path: str | os.PathLike[str],
    *,
    options: ReadOptions | None = None,
    panel: Panel | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Inspection:
    """Look at every user of a channel file.

    Args:
        path: As for `load_channels`: a file, or a loader as `file.py:function`.
        options: What the user says of the file; None leaves all to it.
        panel: (n_pol, n_rows, n_columns) of the transmit axis, if it is no single row.
        seed: Fixes which users are drawn for display.
        progress: Told (users done, users) after each block.
    Returns:
        Facts, features, warnings. Memory: about 100 bytes a user and some 0.5 GB.
    Raises:
        CsiAuditError: the file cannot be read, or the scaling of its numbers is ambiguous. Bad
            users of a file do not raise; those of a loader do, since it hands over a ChannelSet,
            which holds none.
    """
    began = time.monotonic()
    users = open_users(os.fspath(path), options or ReadOptions(), panel)
    passed = _Pass(users)
    step = max(1, min(BLOCK, _VALUES // int(np.prod(users.shape[1:]))))
    for start in range(0, users.shape[0], step):
        passed.add(users.read(start, min(start + step, users.shape[0])))
        if progress is not None:
            progress(min(start + step, users.shape[0]), users.shape[0])
    return passed.finish(seed, began)


def users_in_both(one: Inspection, other: Inspection) -> int | None:
    """Users of `other` whose channel stands in `one` too; None if the shapes rule out a comparison.

    A test file that shares users with a training file measures memory.
    """
    if one.keys is None or other.keys is None or one.shape[1:] != other.shape[1:]:
        return None
    return int(np.isin(other.keys.numpy(), one.keys.numpy()).sum())


# --- The pass -------------------------------------------------------------------------------------


class _Columns:
    """One value a user by name, in memory taken once: many small pieces, kept between the large
    ones of each block, would keep the allocator from giving those back."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._held: dict[str, Tensor] = {}
        self._used: dict[str, int] = {}

    def add(self, values: Mapping[str, Tensor]) -> None:
        """The values (m,) of the next m users."""
        for name, value in values.items():
            if name not in self._held:
                self._held[name], self._used[name] = torch.empty(self._n, dtype=value.dtype), 0
            start = self._used[name]
            self._used[name] = start + len(value)
            self._held[name][start : self._used[name]] = value

    def take(self, name: str) -> Tensor:
        """Values of all users that were added."""
        return self._held.pop(name)[: self._used.pop(name)]

    def take_all(self) -> dict[str, Tensor]:
        """What is left, in the order it came."""
        return {name: self.take(name) for name in list(self._held)}


class _Pass:
    """What has been seen so far."""

    def __init__(self, users: UserBlocks) -> None:
        n, n_rx, n_tx, n_sub = users.shape
        self.users = users
        self.with_keys = n_rx * n_tx * n_sub >= MIN_VALUES
        self.crops = sorted({n_sub // 4, n_sub // 2} - {0})
        self.columns, self.features = _Columns(n), _Columns(n)
        self.power = torch.zeros(n_tx, n_sub, dtype=torch.float64)
        self.saturation, self.sparsity = Saturation(), Sparsity()

    def add(self, block: UserBlock) -> None:
        good = ~(block.non_finite | block.zero)
        self.columns.add(
            {name: getattr(block, name) for name in ("non_finite", "zero", "power_db")}
        )
        if not good.any():
            return
        if block.stored is not None:
            self.saturation.add(block.stored[good.numpy()])
        h = block.unit[good]
        x = to_angular_delay(h, self.users.grid.panel)
        self.features.add(features_of_maps(stack_real(x), self.users.grid))
        self.sparsity.add(h, x)
        if self.with_keys:
            self.columns.add({"keys": channel_keys(h)})
        power = power_of(x).sum(1)  # (n, n_tx, n_sub)
        self.power += power.sum(0, dtype=torch.float64)
        kept = power.sum(1, dtype=torch.float64).cumsum(1)  # (n, n_sub)
        lost = {f"crop {k}": (1 - kept[:, k - 1] / kept[:, -1]).float() for k in self.crops}
        tails = DelayTails.of(x)
        self.columns.add({**lost, **({} if tails is None else vars(tails))})

    def finish(self, seed: int, began: float) -> Inspection:
        users, columns, features = self.users, self.columns.take_all(), self.features.take_all()
        rows = (~(columns["non_finite"] | columns["zero"])).nonzero().flatten()
        columns["power_db"] = users.gain_db(columns["power_db"])[rows]
        keys = columns.get("keys")
        duplicates = None if keys is None else _duplicates(keys, rows, users)
        return Inspection(
            source=users.source,
            shape=users.shape,
            grid=users.grid,
            labels=users.labels,
            non_finite=columns["non_finite"],
            zero=columns["zero"],
            features=features,
            power_db=columns["power_db"],
            crop_loss={k: columns[f"crop {k}"] for k in self.crops if len(rows)},
            mean_power=self.power / len(rows) if len(rows) else None,
            samples=_samples(users, rows, features, seed),
            keys=keys,
            duplicates=duplicates,
            warnings=self._warnings(columns, features, rows, duplicates),
            seconds=time.monotonic() - began,
        )

    def _warnings(
        self,
        columns: Mapping[str, Tensor],
        features: Mapping[str, Tensor],
        rows: Tensor,
        duplicates: Duplicates | None,
    ) -> tuple[str, ...]:
        """What looks wrong, the worst first."""
        users = self.users
        found = [
            *users.cautions,
            bad_user_warning(columns["non_finite"], columns["zero"]),
            _duplicate_warning(duplicates),
            None if users.doubt is None else f"The scaling is not certain. {users.doubt}",
            *self.saturation.warnings(shifted=users.shifted),
        ]
        found.append(self._axes_warning(columns, len(rows)))
        if len(rows):
            labels = {name: label[rows].numpy() for name, label in users.labels.items()}
            values = {name: value.numpy() for name, value in features.items()}
            found += mixture_warnings(values, columns["power_db"].numpy(), labels)
        return tuple(sentence for sentence in found if sentence is not None)

    def _axes_warning(self, columns: Mapping[str, Tensor], good: int) -> str | None:
        """What the last two axes have against them: the most telling of three causes."""
        users, stored = self.users, self.users.source.convention
        found = self.sparsity.warning("spatial-frequency" if stored is None else stored.domain)
        if found is None and users.grid.is_ula:
            found = swapped_warning(self.power, good)
        if found is None and "late" in columns:
            tails = DelayTails(**{name: columns[name] for name in ("late", "front", "back")})
            found = delay_warning(tails, users.grid)
        return found


def _duplicates(keys: Tensor, rows: Tensor, users: UserBlocks) -> Duplicates | None:
    """Users whose key came before; some pairs are compared, and the count is cut down by the share
    that differ after all."""
    order = torch.argsort(keys, stable=True)  # equal keys in the file's order
    again = (keys[order[1:]] == keys[order[:-1]]).nonzero().flatten() + 1
    if not len(again):
        return None
    pairs = torch.stack((rows[order[again]], rows[order[again - 1]]), 1)
    pairs = pairs[pairs[:, 0].argsort()]
    checked = [(int(a), int(b)) for a, b in pairs[:_CHECKED]]
    true = [pair for pair in checked if _equal(users, *pair)]
    if not true:
        return None
    return Duplicates(count=round(len(pairs) * len(true) / len(checked)), first=true[0])


def _equal(users: UserBlocks, one: int, other: int) -> bool:
    a, b = (users.read(i, i + 1).unit for i in (one, other))
    turn = (a * b.conj()).sum()  # of b onto a
    return float((a - b * turn / turn.abs().clamp_min(1e-30)).abs().square().mean()) <= _SAME


def _duplicate_warning(found: Duplicates | None) -> str | None:
    if found is None:
        return None
    user, earlier = found.first
    return (
        f"{found.count:,} {'user repeats' if found.count == 1 else 'users repeat'} the channel of "
        f"an earlier one, up to scale and phase; the first is user {user:,}, like user "
        f"{earlier:,}. Counts and intervals take users for independent: remove them."
    )


def _samples(
    users: UserBlocks, rows: Tensor, features: Mapping[str, Tensor], seed: int
) -> tuple[SampleUser, ...]:
    """Users at the 1, 50 and 99 % of the delay spread, then some at random, none of them twice."""
    n = len(rows)
    name = next((name for name in _SHOWN_BY if name in features), None)
    picked: dict[int, float | None] = {}
    if name is not None:
        order = features[name].argsort(stable=True)
        picked = {int(order[round(q * (n - 1))]): q for q in _QUANTILES}
    drawn = torch.randperm(n, generator=seeded_generator(seed, "inspect"))
    others = [i for i in drawn[: _DRAWN + len(picked)].tolist() if i not in picked]
    picked |= dict.fromkeys(others[:_DRAWN])
    found = []
    for i, quantile in picked.items():
        index = int(rows[i])
        x = to_angular_delay(users.read(index, index + 1).unit, users.grid.panel)
        power = power_of(x[0]).sum(0)
        value = None if name is None else float(features[name][i])
        found.append(
            SampleUser(
                index=index,
                quantile=quantile,
                feature=name,
                value=value,
                power=power / power.mean(),
            )
        )
    return tuple(found)
