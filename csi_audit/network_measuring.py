"""What an audit of a network has before it measures anything: the placements on the real side.

They are those of a file, or draws of the card's law, which are cheap, so many are taken.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from channels.placement_cards import NetworkCard
from channels.placement_domain import PlacementDomain
from channels.placement_files import load_placements
from channels.placements import HotspotUsers, PlacementLaw, StreetUsers, UniformUsers
from channels.randomness import seeded_generator
from csi_audit.audited_losses import AuditedLoss
from csi_audit.losses import in_blocks
from csi_audit.measuring import Measured
from csi_audit.network_settings import NetworkRunConfig
from reports.schema import DataInfo

_BLOCK = 5_000


@dataclass(frozen=True, kw_only=True)
class RealPlacements:
    """The real side of an audit of a network.

    Attributes:
        x: In the square, (N, n_users, 2).
        info: Where they come from, as a result says it.
        whose: The same in two or three words.
        law: Their law in words.
    """

    x: Tensor
    info: DataInfo
    whose: str
    law: str

    @property
    def from_file(self) -> bool:
        return self.info.sha256 is not None


def real_placements(config: NetworkRunConfig, card: NetworkCard) -> RealPlacements:
    """Those of the file, or draws of the card's law.

    Raises:
        CsiAuditError: the file cannot be read, or does not fit the card.
    """
    if config.data is not None:
        found = load_placements(
            config.data, network=card.network, n_users=card.n_users, variable=config.variable
        )
        info = DataInfo(
            path=found.path,
            sha256=found.sha256,
            n=len(found),
            description=f"placements of {card.n_users} users, {found.format}",
            convention="positions in metres from the lower left corner of the area",
            notices=found.notices,
        )
        law = f"that of {len(found):,} placements in a file"
        return RealPlacements(x=found.x, info=info, whose="real placements", law=law)
    x = card.law.draw(config.law_draws, generator=seeded_generator(config.seed, "law"))
    law = law_words(card.law)
    info = DataInfo(
        path=f"law: {card.law.name}",
        sha256=None,
        n=len(x),
        description=f"{len(x):,} draws of the law ({law}), which stand for real placements",
        convention="positions in metres from the lower left corner of the area",
        notices=(
            "No placements were measured: the real side is brute force, draws of the card's own "
            "law counted one by one.",
        ),
    )
    return RealPlacements(x=x, info=info, whose="draws of the law", law=law)


def law_words(law: PlacementLaw) -> str:
    """A law of placements in words; lengths are in half sides of the area."""
    if isinstance(law, UniformUsers):
        return "uniform"
    if isinstance(law, HotspotUsers):
        return (
            f"hotspots, {law.hotspots:g} on average, users spread by {law.spread:g} half sides "
            "about them"
        )
    if isinstance(law, StreetUsers):
        return f"{law.streets} streets along each axis, of half width {law.half_width:g} half sides"
    return law.name


def measured_placements(
    x: Tensor, losses: Sequence[AuditedLoss], domain: PlacementDomain
) -> Measured:
    """Every loss and feature of placements x (N, n_users, 2) in the square."""
    features: dict[str, list[Tensor]] = {name: [] for name in domain.labels}
    for part in x.split(_BLOCK):
        for name, value in domain.features(part).items():
            features[name].append(value.double())
    return Measured(
        x=x,
        losses={a.name: {a.name: in_blocks(a.loss, x).numpy()} for a in losses},
        features={name: _joined(parts) for name, parts in features.items()},
    )


def _joined(parts: Sequence[Tensor]) -> npt.NDArray[np.float64]:
    return np.asarray(torch.cat(list(parts)).numpy(), dtype=np.float64)
