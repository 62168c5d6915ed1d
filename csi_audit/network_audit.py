"""The audit of a cell network: a card in, a run directory with its report out.

Where do the users stand when the network fails, and how often do they? The base law of placements
is given or trained in the run directory; from there on all goes as for compressors: base samples,
what they call for beyond (csi_audit.deepening), realism against the real side, one result.
"""

import time
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from channels.placement_cards import NetworkCard, read_network_card
from channels.placement_domain import PlacementDomain
from channels.run_folder import claim_folder
from channels.support import CsiAuditError
from csi_audit import __version__
from csi_audit.auditing import finish_run, stamped_directory
from csi_audit.base import Base
from csi_audit.base_drawing import Progress, audited_samples
from csi_audit.deepening import Deepening
from csi_audit.network_base import BASE_NAME, check_trainable, given_base, trained_base
from csi_audit.network_losses import OutageAsked, asked_losses, usual_at_least
from csi_audit.network_measuring import RealPlacements, measured_placements, real_placements
from csi_audit.network_settings import NetworkRunConfig
from csi_audit.network_summary import (
    NetworkEvidence,
    common_thresholds,
    levels_of,
    network_info,
    network_realism,
    outage_row,
    outage_tail_ratios,
    outage_thresholds,
    placement_arrays,
)
from csi_audit.provenance import base_info, cost_of, program_versions
from csi_audit.run_state import BlockStore
from reports.network_page import write_network_report
from reports.placement_arrays import PlacementArrays
from reports.placement_modes import modes_of_placements
from reports.schema import Result, load_result

TRAINING = "training of the base law"
"""The step that a progress display is told of, with 0 of 0 evaluations, when a training begins."""

_TIMED = 500  # samples; a few are no measure of so small a denoiser


def audit_network(config: NetworkRunConfig, *, progress: Progress | None = None) -> Result:
    """Audit the outages of a cell network.

    Writes `config.yaml` first, then the base law (where none is given) and blocks of samples, and
    at the end `samples.h5`, `result.json`, `report.html` and `figures/` into the run directory. A
    finished directory of the same settings is returned as it is.

    Args:
        config: Everything that fixes the audit, and where it is written.
        progress: Told of denoiser evaluations as they are made; without it the training of the
            base law is silent too.
    Returns:
        The result, as written.
    Raises:
        CsiAuditError: bad input; the message names file, value and way out.
    """
    began = time.monotonic()
    case = _case(config)
    base = given_base(config.base, case.card.n_users)
    if base is None:
        check_trainable(case.sides)
    folder = claim_folder(network_run_directory(config), _fixing(case, base))
    store = BlockStore(folder)
    if (folder / "report.html").is_file():
        store.remove()  # left over where a kill came between the report and this line
        return load_result(folder)
    if base is None:
        base = _trained(case, folder, progress)
    evidence = _gather(case, base, store, progress)
    result, arrays = _result(config, evidence, base)
    columns = _samples(config, evidence, arrays)
    return finish_run(
        result,
        columns,
        store,
        began=began,
        page=lambda done: write_network_report(done, arrays, folder),
    )


def network_run_directory(config: NetworkRunConfig) -> Path:
    """The run directory: `out`, or runs/<UTC time>-<card>."""
    return stamped_directory(config.out, f"network-{Path(config.network).stem}")


@dataclass(frozen=True, kw_only=True)
class _Case:
    """What is asked of which network.

    Attributes:
        config: The settings.
        card: Law, number of users, network.
        at_least: m of the joint outage.
        asked: The losses.
        sides: The real side.
    """

    config: NetworkRunConfig
    card: NetworkCard
    at_least: int
    asked: tuple[OutageAsked, ...]
    sides: RealPlacements


def _case(config: NetworkRunConfig) -> _Case:
    """Card and placements read, the losses made; an m that no placement can reach is refused."""
    card = read_network_card(config.network)
    at_least = usual_at_least(card.n_users) if config.at_least is None else config.at_least
    if at_least > card.n_users:
        raise CsiAuditError(
            f"at_least must be at most the {card.n_users} users of the card; got {at_least}."
        )
    asked = asked_losses(
        config.loss,
        card.network,
        n_users=card.n_users,
        at_least=at_least,
        tau_db=max(config.tau_db, default=0.0),
        floor=config.floor,
    )
    sides = real_placements(config, card)
    return _Case(config=config, card=card, at_least=at_least, asked=asked, sides=sides)


def _fixing(case: _Case, base: Base | None) -> dict[str, Any]:
    """Settings, the card and file hashes: what a resumed run must share with the one it continues.

    A base law that is yet to be trained is fixed by the settings and the card.
    """
    return {
        **case.config.fixing(),
        "version": __version__,
        "network": case.card.plain(),
        "data_sha256": case.sides.info.sha256,
        "base_sha256": None if base is None else base.sha256,
    }


def _trained(case: _Case, folder: Path, progress: Progress | None) -> Base:
    if progress is not None and not (folder / BASE_NAME).is_file():
        progress(TRAINING, 0, 0)
    shown = progress is not None
    return trained_base(case.config, case.card, case.sides, folder, progress=shown)


def _gather(
    case: _Case, base: Base, store: BlockStore, progress: Progress | None
) -> NetworkEvidence:
    config, card, asked = case.config, case.card, case.asked
    domain = PlacementDomain(n_users=card.n_users, network=card.network)
    losses = [one.audited for one in asked]
    real = measured_placements(case.sides.x, losses, domain)
    samples = audited_samples(config, base, domain, store=store, progress=progress)
    measured = measured_placements(samples.x, losses, domain)
    tau = {
        one.name: outage_thresholds(
            config,
            one,
            card.network,
            at_least=case.at_least,
            n_users=card.n_users,
            real=case.sides,
        )
        for one in asked
    }
    further = Deepening(
        config=config,
        base=base,
        domain=domain,
        losses=losses,
        samples=samples,
        values={one.name: measured.losses[one.name][one.name] for one in asked},
        levels=levels_of(tau, real, config.tau_quantile),
        folder=store.folder.parent,
        progress=progress,
        kept=config.n_failures // config.tail_runs,
        timed=_TIMED,
    )
    return NetworkEvidence(
        domain=domain,
        asked=asked,
        tau=tau,
        base_samples=samples,
        base=measured,
        real=real,
        sides=case.sides,
        at_least=case.at_least,
        deeper=further.run(),
    )


def _result(
    config: NetworkRunConfig, evidence: NetworkEvidence, base: Base
) -> tuple[Result, PlacementArrays]:
    """The result with the modes of every loss, and the arrays of its figures."""
    samples, sides = evidence.base_samples, evidence.sides
    rows = [outage_row(asked, evidence) for asked in evidence.asked]
    arrays = placement_arrays(evidence, rows)
    found = [modes_of_placements(row, arrays, seed=config.seed) for row in rows]
    checked = network_realism(evidence)
    ratios = outage_tail_ratios(evidence, config.tau_quantile)
    spent = {"base samples": samples.n_evaluations} | dict(evidence.deeper.spent)
    name = "trained for this run" if config.base is None else Path(config.base).name
    result = Result(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=program_versions(),
        seed=config.seed,
        data=sides.info,
        base=base_info(base, name, checked, ratios, n_samples=len(samples)),
        tau=common_thresholds(evidence.tau),
        compressors=(),
        realism=checked,
        tail_ratios=ratios,
        cost=cost_of(spent, config.device),
        audited_law=f"base law under the {samples.chain}; users that leave the area are folded "
        "back at its edges",
        warnings=_warnings(config, sides),
        notes=_notes(sides),
        network=network_info(evidence),
        outages=tuple(
            replace(row, modes=modes, strata=strata)
            for row, (modes, strata) in zip(rows, found, strict=True)
        ),
    )
    return result, arrays


def _warnings(config: NetworkRunConfig, sides: RealPlacements) -> tuple[str, ...]:
    if config.base is None and sides.from_file:
        return (
            "The base law was trained on nine tenths of these placements: that it is close to them "
            "says less than closeness to placements it has not seen.",
        )
    return ()


def _notes(sides: RealPlacements) -> tuple[str, ...]:
    shared = (
        f"Intervals of the {sides.whose} count every placement as independent.",
        "The base law does not tell users apart: of placements whose users have different laws it "
        "knows the law of their mixed order, which is all that these losses see.",
    )
    return shared if sides.from_file else shared[:1]


def _samples(
    config: NetworkRunConfig, evidence: NetworkEvidence, arrays: PlacementArrays
) -> dict[str, np.ndarray]:
    """Columns of samples.h5: one row a base sample, and the arrays of the figures."""
    samples = evidence.base_samples
    columns = {
        "x": samples.x.numpy(),
        "law": np.full(len(samples), samples.law, dtype="S8"),
        "log_w": samples.log_w.numpy(),
        "seed": np.full(len(samples), config.seed, dtype=np.int64),
    }
    columns |= {f"loss/{one.name}": evidence.on_base(one.name) for one in evidence.asked}
    columns |= {f"features/{name}": value for name, value in evidence.base.features.items()}
    return columns | {f"report/{key}": value for key, value in arrays.to_flat().items()}
