"""`ChannelDomain`: what an audit asks about its samples without knowing that they are channels.

The shape of a sample, its features and the way onto the audited law; a network placement has its
own.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from channels.channel_set import ChannelSet, Grid
from channels.domains import onto_sphere
from channels.physical_features import features_of_maps
from channels.support import CsiAuditError

__all__ = ["ChannelDomain"]


@dataclass(frozen=True, kw_only=True)
class ChannelDomain:
    """Channels as the engine sees them: audit-space tensors of one grid and antenna count.

    Attributes:
        grid: Carrier, bandwidth, subcarriers.
        n_rx: Receive antennas.
        n_tx: Transmit antennas.
    """

    grid: Grid
    n_rx: int
    n_tx: int

    def __post_init__(self) -> None:
        for name in ("n_rx", "n_tx"):
            if getattr(self, name) < 1:
                raise CsiAuditError(f"{name} must be at least 1; got {getattr(self, name)}.")

    @classmethod
    def of(cls, channels: ChannelSet) -> ChannelDomain:
        """Domain of a channel set."""
        return cls(grid=channels.grid, n_rx=channels.n_rx, n_tx=channels.n_tx)

    @property
    def event_shape(self) -> tuple[int, int, int]:
        """(2 n_rx, n_tx, n_delay) of one user."""
        return 2 * self.n_rx, self.n_tx, self.grid.n_sub

    def _check(self, x: Tensor) -> None:
        if tuple(x.shape[1:]) != self.event_shape:
            raise CsiAuditError(
                f"x must be (N, {', '.join(map(str, self.event_shape))}) angular-delay; "
                f"got {tuple(x.shape)}. Is this another array or number of subcarriers?"
            )

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Features float32 (N,) by name of x (N, 2 n_rx, n_tx, n_delay)."""
        self._check(x)
        return features_of_maps(x, self.grid)

    def onto_law(self, x: Tensor) -> Tensor:
        """x at unit mean power per user: the support of the audited law."""
        self._check(x)
        return onto_sphere(x)
