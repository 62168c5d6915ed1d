"""What the engine asks of its samples without knowing whether they are channels or placements."""

from typing import Protocol

from torch import Tensor


class Domain(Protocol):
    """`channels.channel_domain.ChannelDomain`, `channels.placement_domain.PlacementDomain`.

    Attributes:
        event_shape: Of one sample.
    """

    @property
    def event_shape(self) -> tuple[int, ...]: ...

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Features float32 (N,) by name of samples x (N, *event_shape)."""
        ...

    def onto_law(self, x: Tensor) -> Tensor:
        """x on the support of the audited law."""
        ...
