"""What a stored result says about where its figures come from: channels, base model, programs,
machine.
"""

from collections.abc import Mapping, Sequence
from importlib.metadata import version
from platform import machine, processor, python_version

import torch

from channels.channel_set import ChannelSet
from csi_audit import __version__
from csi_audit.base import Base
from csi_audit.devices import torch_device
from reports.fidelity_items import TailRatio
from reports.realism import base_verdict, fidelity_summary
from reports.schema import BaseInfo, Cost, DataInfo, RealismItem
from reports.words import base_rule


def data_info(channels: ChannelSet) -> DataInfo:
    """The channels as a result names them."""
    drops, source = channels.drops, channels.source
    known = (source.scenario, channels.grid.array, source.format)
    return DataInfo(
        path=source.path,
        sha256=source.sha256,
        n=len(channels),
        drops=None if drops is None else len(drops.unique()),
        description=", ".join(str(part) for part in known if part),
        convention="" if source.convention is None else source.convention.describe_stored(),
        notices=source.notices,
    )


def base_mismatch(channels: ChannelSet, base: Base) -> tuple[str, ...]:
    """Where the base model was made for another grid or array than that of the channels."""
    found = []
    for name, unit in (("bandwidth_hz", 1e6), ("carrier_hz", 1e6)):
        mine, its = getattr(channels.grid, name), getattr(base.grid, name)
        if mine is not None and its is not None and abs(mine - its) > 1e-6 * its:
            found.append(
                f"The channels have a {name.removesuffix('_hz')} of {mine / unit:g} MHz, the base "
                f"model was trained at {its / unit:g} MHz: train one on such channels "
                "(csi-audit fit-base)."
            )
    mine, its = (set_.grid.panel_of(channels.n_tx) for set_ in (channels, base))
    if mine != its:
        found.append(
            f"The channels have a transmit array of {' x '.join(map(str, mine))} (pol x rows x "
            f"columns), the base model was trained for {' x '.join(map(str, its))}: train one on "
            "such channels (csi-audit fit-base)."
        )
    return tuple(found)


def base_info(
    base: Base,
    name: str,
    realism: Sequence[RealismItem],
    ratios: Sequence[TailRatio],
    *,
    n_samples: int,
) -> BaseInfo:
    """The base model with the verdict on it and the rule of that verdict.

    Args:
        base: The base model.
        name: What reports call it.
        realism: Its samples against the real side.
        ratios: Their shares of bad losses over those of the real side.
        n_samples: Samples that these come from.
    """
    return BaseInfo(
        sha256=base.sha256,
        fidelity=fidelity_summary(realism),
        verdict=base_verdict(realism, ratios),
        rule=base_rule(realism, ratios),
        name=name,
        n_samples=n_samples,
    )


def cost_of(spent: Mapping[str, int], device: str) -> Cost:
    """Denoiser evaluations by part, and the machine of a `--device` setting; no seconds yet."""
    return Cost(
        denoiser_evaluations=sum(spent.values()), parts=spent, machine=machine_words(device)
    )


def program_versions() -> dict[str, str]:
    """Versions of the programs that a figure depends on."""
    return {"csi-audit": __version__, "torch": version("torch"), "python": python_version()}


def machine_words(device: str) -> str:
    """The machine of a `--device` setting."""
    where = torch_device(device)
    if where.type == "cuda":
        return str(torch.cuda.get_device_name(where))
    return f"CPU ({processor() or machine()}), {torch.get_num_threads()} threads"
