"""From a file as its reader sees it to unit-power channels: offsets, domains, gains.

The one place where a file's numbers become `ChannelSet.h`, in memory or row by row.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from channels.convention import Convention
from channels.domains import check_power, scale_users, stack_real, to_complex, to_spatial_frequency
from channels.labels import user_rows
from channels.opened import BLOCK, Opened
from channels.scale_detection import ScalingFound, detect_scaling
from channels.support import CsiAuditError

__all__ = ["Reading", "Scan"]

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


class Reading:
    """Users of an opened file in the spatial-frequency domain.

    Args:
        path: For messages.
        opened: The file.
        n_sub: Subcarriers wanted; None takes the file's. Angular-delay files whose late taps were
            cropped may be given more: the missing taps count as 0.
    Raises:
        CsiAuditError: n_sub does not fit, or the scaling is ambiguous.
    """

    def __init__(self, path: Path, opened: Opened, n_sub: int | None = None) -> None:
        self.path, self.opened = path, opened
        opened.read(0, 1)  # refuses a size that is only declared, before memory is taken for it
        self.n_sub = self._subcarriers(n_sub)
        self.found = self._detect() if opened.scaling == "detect" else None

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
        found = detect_scaling(torch.from_numpy(sample[finite]), self.opened.domain)
        if not found.certain and found.alternatives:
            raise CsiAuditError(
                f"{self.path}: the scaling of its numbers can be read in several ways: "
                f"{found.evidence} Store the channels without an offset."
            )
        return found

    @property
    def convention(self) -> Convention:
        """Domain, scaling, offset and crop of the file."""
        if self.found is not None:
            return self.found.convention
        n_rx, n_tx, n_bin = self.opened.shape[1:]
        return Convention(
            domain=self.opened.domain,
            event_shape=(2 * n_rx, n_tx, n_bin),
            panel=self.opened.panel,
        )

    @property
    def notices(self) -> tuple[str, ...]:
        """What was found or assumed, a sentence each."""
        late = self.n_sub - self.opened.shape[3]
        return (
            *self.opened.notices,
            *((self.found.evidence,) if self.found is not None else ()),
            *((f"{late} delay taps that the file does not hold count as 0.",) if late else ()),
        )

    def spatial(self, start: int, stop: int) -> Tensor:
        """Users start..stop-1, complex (n, n_rx, n_tx, n_sub), any scale, offset taken out."""
        h = torch.from_numpy(self.opened.read(start, stop))
        said = None if self.found is None else self.found.convention
        if said is not None and (said.offset or said.mean is not None):
            h = to_complex(said.unscale(stack_real(h)))
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
        return Scan(power_db=self._gain_db(power_db), non_finite=non_finite, zero=zero)

    def _gain_db(self, power_db: Tensor) -> Tensor:
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
