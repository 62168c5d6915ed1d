"""The losses of a cell network that an audit looks into, with their weights and in words."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor

from channels.network import CellNetwork
from csi_audit.audited_losses import AuditedLoss
from csi_audit.losses import Loss
from csi_audit.network_settings import LossName
from csi_audit.outage_losses import (
    ExpectedOutageLoss,
    JointOutageLoss,
    OutageWeight,
    ShortfallLoss,
)
from csi_audit.weights import ThresholdWeight, Weight
from reports.words import decibel

WIDTH_DB = 1.0
"""Over which the weight of a shortfall rises."""


@dataclass(frozen=True, kw_only=True)
class OutageAsked:
    """A loss of the network as the report names it.

    Attributes:
        audited: What the engine looks into.
        label: What a reader calls it.
        unit: Of the loss, "1" or "dB".
        definition: A sentence.
        weight: l in words.
    """

    audited: AuditedLoss
    label: str
    unit: str
    definition: str
    weight: str

    @property
    def name(self) -> str:
        return self.audited.name


def usual_at_least(n_users: int) -> int:
    """m of a joint outage by default: more than two fifths of the users, 3 of 5, 9 of 20."""
    return 2 * n_users // 5 + 1


def asked_losses(
    names: Sequence[LossName],
    network: CellNetwork,
    *,
    n_users: int,
    at_least: int,
    tau_db: float,
    floor: float,
) -> tuple[OutageAsked, ...]:
    """The losses by name.

    Args:
        names: Which.
        network: Says who is served.
        n_users: N.
        at_least: m of the joint outage, and rank of the shortfall.
        tau_db: Where the weight of the shortfall is half way up [dB].
        floor: Of every weight.
    """
    gamma, count = decibel(network.threshold_db), f"{at_least} or more of {n_users} users"
    expected = ExpectedOutageLoss(network)
    joint = JointOutageLoss(network, at_least=at_least)
    shortfall = ShortfallLoss(network, rank=at_least)
    step = ThresholdWeight(shortfall, tau=tau_db, width=WIDTH_DB, floor=floor)
    around = f"each with its soft indicator around an SINR of {gamma}."
    found: dict[LossName, OutageAsked] = {
        "expected_outage": OutageAsked(
            audited=_audited("expected_outage", expected, OutageWeight(expected, floor=floor)),
            label="expected outage",
            unit="1",
            definition=f"Expected share of the users that are not served, {around}",
            weight=f"{floor:g} + {1 - floor:g} x expected outage",
        ),
        "joint_outage": OutageAsked(
            audited=_audited("joint_outage", joint, OutageWeight(joint, floor=floor)),
            label=f"joint outage of {count}",
            unit="1",
            definition=f"Probability that {count} are not served, {around}",
            weight=f"{floor:g} + {1 - floor:g} x joint outage",
        ),
        "shortfall": OutageAsked(
            audited=_audited("shortfall_db", shortfall, step),
            label=f"shortfall of the {_worst(at_least)}",
            unit="dB",
            definition=f"By how much the SINR of the {_worst(at_least)} misses {gamma}: above 0 dB "
            f"where {count} are in outage.",
            weight=f"a soft step of the shortfall at {decibel(tau_db)}, {WIDTH_DB:g} dB wide, from "
            f"{floor:g} to 1",
        ),
    }
    return tuple(found[name] for name in names)


def _audited(name: str, loss: Loss, weight: Weight) -> AuditedLoss:
    return AuditedLoss(
        name=name,
        symbol=name.removesuffix("_db").replace("_", " "),
        loss=loss,
        guiding=weight,
        counting=weight,
        is_weight=False,
        refusal=_never,
    )


def _never(x: Tensor) -> str:
    """The simulator has a gradient everywhere."""
    return ""


def _worst(m: int) -> str:
    if m == 1:
        return "worst user"
    ends = {} if m % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}
    return f"{m}{ends.get(m % 10, 'th')} worst user"
