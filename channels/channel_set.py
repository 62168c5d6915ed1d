"""Channels in memory: `ChannelSet`, the `Grid` its axes live on, the `Source` it came from.

Also the door to the audit space, the real angular-delay form that samplers and compressors share.
Reading and writing files lives in `readers` and `writers`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from channels.convention import Convention
from channels.domains import (
    Panel,
    stack_real,
    to_angular_delay,
    to_complex,
    to_spatial_frequency,
)
from channels.domains import unit_power as _unit_power
from channels.lazy_rows import LazyRows
from channels.support import CsiAuditError, did_you_mean

__all__ = ["ChannelSet", "Grid", "Source", "audit_space", "from_audit_space"]

_BLOCK = 2048  # users a pass: bounds the transform's copies


@dataclass(frozen=True, kw_only=True)
class Grid:
    """Where antennas and subcarriers lie.

        f_k = k bandwidth / n_sub, k = 0..n_sub-1        tap d at delay d / bandwidth

    Attributes:
        carrier_hz: Carrier frequency [Hz]; None if unknown.
        bandwidth_hz: n_sub times the subcarrier spacing [Hz]; None if unknown.
        n_sub: Number of subcarriers.
        array: Transmit array in words; None if unknown.
        panel: (n_pol, n_rows, n_columns) of the transmit axis, in that (row-major) order; None is
            one row of elements of one polarisation.
    """

    carrier_hz: float | None
    bandwidth_hz: float | None
    n_sub: int
    array: str | None = None
    panel: Panel | None = None

    def __post_init__(self) -> None:
        if self.panel is not None:
            object.__setattr__(self, "panel", tuple(self.panel))  # a list, from JSON
            if len(self.panel) != 3 or not all(isinstance(n, int) and n > 0 for n in self.panel):
                raise CsiAuditError(
                    "panel must be (n_pol, n_rows, n_columns), three whole numbers of at least 1; "
                    f"got {self.panel}."
                )
        if self.n_sub < 1:
            raise CsiAuditError(f"n_sub must be at least 1; got {self.n_sub}.")
        for name in ("carrier_hz", "bandwidth_hz"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise CsiAuditError(
                    f"{name} must be positive, in Hz, or None for unknown; got {value}."
                )

    @property
    def tap_s(self) -> float | None:
        """Delay of one tap [s], 1 / bandwidth; None if the bandwidth is unknown."""
        return None if self.bandwidth_hz is None else 1.0 / self.bandwidth_hz

    @property
    def spacing_hz(self) -> float | None:
        """Subcarrier spacing [Hz], bandwidth / n_sub; None if the bandwidth is unknown."""
        return None if self.bandwidth_hz is None else self.bandwidth_hz / self.n_sub

    def delays_s(self, n_delay: int | None = None) -> Tensor | None:
        """Delay of each tap [s], float64 (n_delay,), default n_sub; None if unknown."""
        if self.tap_s is None:
            return None
        n = self.n_sub if n_delay is None else n_delay
        return torch.arange(n, dtype=torch.float64) * self.tap_s

    @property
    def is_ula(self) -> bool:
        """Whether the transmit axis is one row of elements of one polarisation."""
        return self.panel is None or self.panel[:2] == (1, 1)

    def panel_of(self, n_tx: int) -> Panel:
        """(n_pol, n_rows, n_columns) of n_tx transmit elements; one row if no panel is known.

        Raises:
            CsiAuditError: the panel has another number of elements.
        """
        panel = self.panel or (1, 1, n_tx)
        if math.prod(panel) != n_tx:
            raise CsiAuditError(
                f"panel must multiply to the {n_tx} transmit antennas; got "
                f"{' x '.join(map(str, panel))} (pol x rows x columns)."
            )
        return panel

    def sin_azimuth(self, n_tx: int) -> Tensor:
        """u = sin(az) cos(el) of each beam [1], float64 (n_tx,), FFT storage order.

        u_b = 2 fftfreq(n_columns)[b], for columns half a wavelength apart; the same in every row
        and polarisation.
        """
        n_pol, n_rows, n_columns = self.panel_of(n_tx)
        u: Tensor = 2.0 * torch.fft.fftfreq(n_columns, dtype=torch.float64)
        return u.repeat(n_pol * n_rows)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Where channels came from; None stands for unknown.

    Attributes:
        path: File as it was named, or what made the channels ("memory", "base model").
        sha256: Of the file.
        format: For example "compact HDF5".
        variable: Name of the array in the file, where there could be others.
        scenario: Propagation scenario, for example "3GPP_38.901_UMi".
        convention: Domain, scaling and crop that the file had its channels in.
        notices: What was found or assumed in reading them, a sentence each.
    """

    path: str
    sha256: str | None
    format: str
    scenario: str | None
    convention: Convention | None = None
    notices: tuple[str, ...] = ()
    variable: str | None = None

    def identity(self) -> dict[str, str | None]:
        """File name and hash: what a card says of the data, on any machine."""
        return {"name": Path(self.path).name, "sha256": self.sha256}


MEMORY = Source(path="memory", sha256=None, format="tensor", scenario=None)


@dataclass(frozen=True, kw_only=True, eq=False)
class ChannelSet:
    """Channels of N users, spatial-frequency, each at unit mean power.

    Attributes:
        h: complex64 (N, n_rx, n_tx, n_sub), mean |h_n|^2 = 1. A lazy set has `LazyRows` here, which
            know shape, length and slicing alone and read from the file what is sliced.
        power_db: Gain taken out of h [dB], float32 (N,).
        grid: Carrier, bandwidth, subcarriers, array.
        labels: Per-user facts by name (`is_los`, `delay_spread_s`, `drop_seed` ...), each (N, ...).
        source: File and scenario.
    """

    h: Tensor
    power_db: Tensor
    grid: Grid
    labels: Mapping[str, Tensor] = field(default_factory=dict)
    source: Source = MEMORY

    def __post_init__(self) -> None:
        h = self.h
        if h.dtype != torch.complex64 or h.ndim != 4 or 0 in h.shape:
            raise CsiAuditError(
                "h must be complex64 (N, n_rx, n_tx, n_sub) with no empty axis; "
                f"got {h.dtype} {tuple(h.shape)}."
            )
        if h.shape[-1] != self.grid.n_sub:
            raise CsiAuditError(
                f"h must have grid.n_sub = {self.grid.n_sub} subcarriers; got {h.shape[-1]} in "
                f"{tuple(h.shape)}. Are the axes in the order user, rx, tx, subcarrier?"
            )
        self.grid.panel_of(self.n_tx)  # refuses a panel of another size
        _check_rows("power_db", self.power_db, len(self))
        for name, label in self.labels.items():
            _check_rows(f"label {name!r}", label, len(self))
        if not self.is_lazy:  # rows of a file are brought to unit power as they are read
            _check_unit(h)

    def __len__(self) -> int:
        return self.h.shape[0]

    @property
    def is_lazy(self) -> bool:
        """Whether the channels lie in their file and are read when they are sliced."""
        return isinstance(self.h, LazyRows)

    @property
    def n_rx(self) -> int:
        """Receive antennas."""
        return self.h.shape[1]

    @property
    def n_tx(self) -> int:
        """Transmit antennas."""
        return self.h.shape[2]

    @property
    def n_sub(self) -> int:
        """Subcarriers."""
        return self.h.shape[3]

    @property
    def drops(self) -> Tensor | None:
        """Environment of each user, int (N,); None if the file did not say."""
        return self.labels.get("drop_seed")

    def label(self, name: str) -> Tensor:
        """Label `name` (N, ...).

        Raises:
            CsiAuditError: no such label; lists those present.
        """
        if name not in self.labels:
            raise CsiAuditError(
                f"{self.source.path} has no label {name!r}.{did_you_mean(name, self.labels)}"
            )
        return self.labels[name]

    def read_as(self) -> dict[str, object]:
        """How the channels were taken from their source, in plain values: the same file read
        otherwise is other data."""
        convention = self.source.convention
        return {
            "format": self.source.format,
            "variable": self.source.variable,
            "shape": list(self.h.shape),
            "grid": {**asdict(self.grid), "panel": list(self.grid.panel_of(self.n_tx))},
            "convention": "" if convention is None else convention.describe(),
            "notices": list(self.source.notices),
            "streamed": self.is_lazy,
        }

    def subset(self, index: Tensor | Sequence[int] | slice) -> ChannelSet:
        """The users of `index` (integers, a bool mask or a slice), labels and all.

        Raises:
            CsiAuditError: the index is out of range or selects nobody.
        """
        rows = index if isinstance(index, slice) else torch.as_tensor(index)
        try:
            everyone = torch.arange(len(self))[rows]
        except IndexError as error:
            raise CsiAuditError(f"index must lie within the {len(self)} users: {error}.") from error
        if everyone.ndim != 1 or everyone.numel() == 0:
            raise CsiAuditError("index must select at least one user, along one axis.")
        h = self.h
        return ChannelSet(
            h=h.take(everyone) if isinstance(h, LazyRows) else h[everyone],
            power_db=self.power_db[everyone],
            grid=self.grid,
            labels={name: label[everyone] for name, label in self.labels.items()},
            source=self.source,
        )


def _check_rows(name: str, value: Tensor, n: int) -> None:
    if value.ndim < 1 or value.shape[0] != n:
        raise CsiAuditError(
            f"{name} must have one row for each of the {n} users; got {tuple(value.shape)}."
        )


def _check_unit(h: Tensor) -> None:
    power = torch.linalg.vector_norm(h.flatten(1), dim=1).double().square() / h[0].numel()
    wrong = ~((power - 1).abs() < 1e-3)  # NaN is wrong too
    if wrong.any():
        first = int(wrong.nonzero()[0])
        raise CsiAuditError(
            f"h must have mean |h|^2 = 1 per user; {int(wrong.sum())} of {h.shape[0]} users have "
            f"not, first user {first} with {float(power[first]):.3g}. See channels.unit_power."
        )


def audit_space(channels: ChannelSet) -> Tensor:
    """Channels as samplers and compressors see them.

        x = stack_real(to_angular_delay(h)),   ||x_n||^2 = n_rx n_tx n_delay

    Args:
        channels: N users.
    Returns:
        float32 (N, 2 n_rx, n_tx, n_delay), all n_delay = n_sub taps, FFT storage order; channel
        axis re rx0, im rx0, re rx1, ...
    """
    n, n_rx, n_tx, n_sub = channels.h.shape
    x = torch.empty(n, 2 * n_rx, n_tx, n_sub, device=channels.h.device)
    for start in range(0, n, _BLOCK):
        part = slice(start, start + _BLOCK)
        x[part] = stack_real(to_angular_delay(channels.h[part], channels.grid.panel))
    return x


def from_audit_space(
    x: Tensor,
    grid: Grid,
    *,
    power_db: Tensor | None = None,
    labels: Mapping[str, Tensor] | None = None,
    source: Source = MEMORY,
) -> ChannelSet:
    """Channels from audit-space samples: inverse of `audit_space`.

    Samples off the unit-power sphere are put onto it; what that takes goes to power_db.

    Args:
        x: Real (N, 2 n_rx, n_tx, n_delay), n_delay <= grid.n_sub; missing late taps count as 0.
        grid: Grid of the result.
        power_db: Gain of each user on top of x's own [dB], (N,); default 0.
        labels: Per-user facts.
        source: Where x came from.
    Returns:
        ChannelSet with n_sub = grid.n_sub.
    Raises:
        CsiAuditError: wrong shape, more taps than subcarriers, users without power.
    """
    late = grid.n_sub - x.shape[-1]
    if late < 0:
        raise CsiAuditError(
            f"x must have at most grid.n_sub = {grid.n_sub} delay taps; got {tuple(x.shape)}."
        )
    padded = torch.nn.functional.pad(to_complex(x), (0, late)) if late else to_complex(x)
    h, own_db = _unit_power(to_spatial_frequency(padded, grid.panel))
    gain_db = own_db if power_db is None else own_db + power_db
    return ChannelSet(h=h, power_db=gain_db, grid=grid, labels=dict(labels or {}), source=source)
