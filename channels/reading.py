"""From a file as its reader sees it to unit-power channels: offsets, domains, gains.

The one place where a file's numbers become `ChannelSet.h`, in memory or row by row.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from channels.channel_set import Grid, Source
from channels.convention import Convention, Domain
from channels.domains import check_power, scale_users, stack_real, to_complex, to_spatial_frequency
from channels.labels import user_rows
from channels.opened import BLOCK, Opened, ReadOptions
from channels.scale_detection import ScalingFound, detect_scaling
from channels.support import CsiAuditError

__all__ = ["Reading", "Scan", "certain_scaling", "has_offset", "told_offset"]

_LOOKED_AT = 2048  # users whose numbers tell the scaling
_PIECES = 8  # places of the file they come from
ROUNDING_DB = 0.01  # how far float16 storage moves a user's power


@dataclass(frozen=True, kw_only=True)
class Scan:
    """What one pass over all users tells.

    Attributes:
        power_db: Gain that unit power takes out of each user [dB], (N,).
        non_finite, zero: Users that cannot be channels, bool (N,).
    """

    power_db: Tensor
    non_finite: Tensor
    zero: Tensor


def has_offset(convention: Convention) -> bool:
    """Whether something was added to the channels of a file."""
    return bool(convention.offset) or any(convention.mean or ())


def told_offset(offset: float, event_shape: tuple[int, int, int]) -> Convention:
    """Convention of a file of which only its offset is known, as complex numbers."""
    if not offset:
        return Convention(event_shape=event_shape, layout="complex")
    return Convention(
        event_shape=event_shape, layout="complex", scaling="global", scale=1.0, offset=offset
    )


def certain_scaling(path: Path, values: Tensor, domain: Domain) -> ScalingFound:
    """Scaling of the stored numbers of a file (see `detect_scaling`).

    Raises:
        CsiAuditError: two scalings of another offset fit; lists them.
    """
    found = detect_scaling(values, domain)
    if found.alternatives:
        raise CsiAuditError(
            f"{path}: what was added to its numbers can be read in several ways. {found.evidence} "
            f"Also possible: {'; '.join(found.alternatives)}. Say which: offset=VALUE "
            "(--offset VALUE), 0 for nothing."
        )
    return found


class Reading:
    """Users of an opened file in the spatial-frequency domain.

    Args:
        path: For messages.
        opened: The file.
        options: n_sub: subcarriers wanted; angular-delay files whose late taps were cropped may be
            given more, the missing taps count as 0. offset: what was added to every real number;
            None lets the numbers tell.
    Raises:
        CsiAuditError: n_sub does not fit, or the scaling is ambiguous.
    """

    def __init__(self, path: Path, opened: Opened, options: ReadOptions | None = None) -> None:
        options = ReadOptions() if options is None else options
        self.path, self.opened = path, opened
        if opened.panel is not None and math.prod(opened.panel) != opened.shape[2]:
            raise CsiAuditError(
                f"{path}: panel must multiply to the {opened.shape[2]} transmit antennas; got "
                f"{' x '.join(map(str, opened.panel))} (pol x rows x columns)."
            )
        opened.read(0, 1)  # refuses a size that is only declared, before memory is taken for it
        self.n_sub = self._subcarriers(options.n_sub)
        self.found = None
        self._told = options.offset if opened.scaling == "detect" else None
        if options.offset and opened.scaling in ("raw", "unit"):
            raise CsiAuditError(
                f"offset must be left out for {path}: {opened.format} has none by definition; got "
                f"{options.offset}."
            )
        if options.offset is None and opened.scaling == "detect":
            self.found = self._detect()
        self.convention = self._convention(self._told)
        self.grid = self._grid(options.bandwidth_hz)

    def _subcarriers(self, wanted: int | None) -> int:
        held = self.opened.shape[3]
        if wanted is None or wanted == held:
            return held
        if self.opened.domain == "angular-delay" and wanted > held:
            return wanted
        kind = "delay taps" if self.opened.domain == "angular-delay" else "subcarriers"
        raise CsiAuditError(
            f"n_sub must be {held}, the {kind} in {self.path}; got {wanted}. "
            "Only files of paths can be sampled at another count."
        )

    def _detect(self) -> ScalingFound:
        n = self.opened.shape[0]
        if n <= _LOOKED_AT:
            sample = self.opened.read(0, n)
        else:
            size = _LOOKED_AT // _PIECES
            starts = np.linspace(0, n - size, _PIECES).astype(int)
            sample = np.concatenate([self.opened.read(s, s + size) for s in starts])
        finite = np.isfinite(sample).all((1, 2, 3))
        if not finite.any():
            self._check(torch.from_numpy(~finite), torch.zeros(len(finite), dtype=torch.bool))
        return certain_scaling(self.path, torch.from_numpy(sample[finite]), self.opened.domain)

    def _convention(self, offset: float | None) -> Convention:
        """Domain, scaling, offset and crop of the file."""
        if self.found is not None:
            found = self.found.convention
        else:
            n_rx, n_tx, n_bin = self.opened.shape[1:]
            found = told_offset(offset or 0.0, (2 * n_rx, n_tx, n_bin))
            if self.opened.scaling == "unit":
                norm = math.sqrt(n_rx * n_tx * n_bin)
                found = replace(found, scaling="sample_norm", scale=norm)
        return replace(found, domain=self.opened.domain, panel=self.opened.panel)

    def _grid(self, bandwidth_hz: float | None) -> Grid:
        """Grid of the channels; the user's bandwidth goes before the file's."""
        opened = self.opened
        try:
            return Grid(
                carrier_hz=opened.carrier_hz,
                bandwidth_hz=opened.bandwidth_hz if bandwidth_hz is None else float(bandwidth_hz),
                n_sub=self.n_sub,
                array=opened.array,
                panel=opened.panel,
            )
        except CsiAuditError as error:
            raise CsiAuditError(f"{self.path}: {error}") from None

    def source(self, sha256: str) -> Source:
        """Where the channels come from, as a file of this hash."""
        return Source(
            path=str(self.path),
            sha256=sha256,
            format=self.opened.format,
            scenario=self.opened.scenario,
            convention=self.convention,
            notices=self.notices,
            variable=self.opened.variable,
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """What was found or assumed, a sentence each."""
        late = self.n_sub - self.opened.shape[3]
        return (
            *self.opened.notices,
            *self.opened.cautions,
            *((self.found.evidence,) if self.found is not None else ()),
            *((f"An offset of {self._told:g} was taken out, as asked.",) if self._told else ()),
            *((f"{late} delay taps that the file does not hold count as 0.",) if late else ()),
        )

    def spatial(self, start: int, stop: int) -> Tensor:
        """Users start..stop-1, complex (n, n_rx, n_tx, n_sub), any scale, offset taken out."""
        h = torch.from_numpy(self.opened.read(start, stop))
        if has_offset(self.convention):
            h = to_complex(self.convention.unscale(stack_real(h)))
        if self.opened.domain == "angular-delay":
            late = self.n_sub - h.shape[-1]
            h = to_spatial_frequency(torch.nn.functional.pad(h, (0, late)), self.opened.panel)
        return h

    def blocks(self) -> Iterator[slice]:
        """Consecutive users, a block at a time."""
        n = self.opened.shape[0]
        return (slice(start, min(start + BLOCK, n)) for start in range(0, n, BLOCK))

    def unit(self, start: int, stop: int) -> Tensor:
        """Users start..stop-1 at unit mean power, complex64."""
        h, _, non_finite, zero = scale_users(self.spatial(start, stop))
        self._check(non_finite, zero)
        return h

    def scan(self, h: Tensor | None = None) -> Scan:
        """One pass over all users; their unit-power channels go to `h`, if given.

        Bad users are flagged, not refused: see `require`.
        """
        n = self.opened.shape[0]
        power_db = torch.empty(n)
        non_finite, zero = torch.zeros(2, n, dtype=torch.bool)
        for part in self.blocks():
            unit = scale_users(self.spatial(part.start, part.stop))
            if h is not None:
                h[part] = unit[0]
            power_db[part], non_finite[part], zero[part] = unit[1:]
        return Scan(power_db=self.gain_db(power_db), non_finite=non_finite, zero=zero)

    def gain_db(self, power_db: Tensor) -> Tensor:
        """Gain on top of what the file had already taken out."""
        stored = self.opened.power_db
        if stored is None:
            return power_db
        rows = user_rows(self.path, "power_db", stored, len(power_db))
        rounding = power_db.abs() < ROUNDING_DB
        return torch.from_numpy(rows).float() + torch.where(rounding, 0.0, power_db)

    def _check(self, non_finite: Tensor, zero: Tensor) -> None:
        try:
            check_power(non_finite, zero)
        except CsiAuditError as error:
            raise CsiAuditError(f"{self.path}: {error}") from None

    def require(self, scan: Scan) -> None:
        """Raise for users that hold NaN, Inf or nothing.

        Raises:
            CsiAuditError: names count and first indices.
        """
        self._check(scan.non_finite, scan.zero)
