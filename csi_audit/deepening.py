"""What an audit does once its base samples are drawn: decide, then rare tails, guided samples and
draws of other chains. Every step is kept by block and told to the progress display.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from channels.support import CsiAuditError
from csi_audit.audited_losses import AuditedLoss
from csi_audit.base import Base
from csi_audit.base_drawing import Progress
from csi_audit.calibration import RefusedPilotError
from csi_audit.configs import RunConfig
from csi_audit.deeper import ChainDraws, Deeper, FailureSample, GuidedRun
from csi_audit.devices import torch_device
from csi_audit.dispatch import (
    GAIN_NEEDED,
    GUIDED,
    SUBSET,
    MeanQuestion,
    Prices,
    TailQuestion,
    after_refusal,
    decide_mean,
    decide_tail,
    squared_variation,
)
from csi_audit.domain import Domain
from csi_audit.drawing import Tally, draw_in_blocks
from csi_audit.guided_means import GuidedMean
from csi_audit.losses import in_blocks
from csi_audit.network_settings import NetworkRunConfig
from csi_audit.pilot import TIMED, measured_prices
from csi_audit.rare_tails import expected_evaluations, rare_tail
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import BaseSampler, ChainName
from csi_audit.tail import ReplicatedTail
from csi_audit.twists import GradientError
from reports.reweighting import CV2_LIMIT
from reports.tail_schema import Decision

Decisions = dict[str, tuple[Decision, ...]]
RareTail = tuple[ReplicatedTail, FailureSample | None]
Levels = Mapping[str, Mapping[str, float]]
"""The loss at each threshold, by its label, by compressor or loss."""


def block_key(name: str) -> str:
    """A compressor's or loss's name as one level of a path, in HDF5 and on disk."""
    return name.replace("/", "|")


@dataclass(frozen=True, kw_only=True)
class Deepening:
    """What the steps beyond the base samples share.

    Attributes:
        config: The audit's settings.
        base: The base model.
        domain: Of the samples.
        losses: Under audit, each with a name of its own.
        samples: Base samples on the audited law.
        values: Each loss of these, (N,), by its name.
        levels: Thresholds of each.
        folder: Run directory.
        progress: Told of denoiser evaluations.
        kept: Samples of the failure law that a run of subset simulation hands back at most, ending
            at the rarest threshold; 0 lets runs go on.
        timed: Samples that speeds are measured on.
        spent: Evaluations by step, filled as they are made.
    """

    config: RunConfig | NetworkRunConfig
    base: Base
    domain: Domain
    losses: Sequence[AuditedLoss]
    samples: WeightedSamples
    values: Mapping[str, npt.NDArray[np.float64]]
    levels: Levels
    folder: Path
    progress: Progress | None = None
    kept: int = 0
    timed: int = TIMED
    spent: dict[str, int] = field(default_factory=dict)

    def run(self) -> Deeper:
        """Everything that the settings and the base samples call for."""
        doubled, steps = self.config.double_steps, self.config.steps
        decisions = {audited.name: self._decided(audited) for audited in self.losses}
        tails = self._tails(decisions, steps)
        twice = self._tails(decisions, 2 * steps) if doubled else {}
        guided, chains = self._guided(decisions)
        if doubled:
            chains.append(self._draws("doubled steps")[0])
        return Deeper(
            curves=self.config.tail_method != "off",
            levels=self.levels,
            decisions=decisions,
            tails={name: curve for name, (curve, _) in tails.items()},
            failures={name: found for name, (_, found) in tails.items() if found is not None},
            doubled_tails={name: curve for name, (curve, _) in twice.items()},
            guided=guided,
            chains=chains,
            spent=self.spent,
        )

    # --- Decisions --------------------------------------------------------------------------------

    def _decided(self, audited: AuditedLoss) -> tuple[Decision, ...]:
        """Of E_q[l], then of P(L > tau) for each threshold."""
        config, values = self.config, self.values[audited.name]
        weights = audited.weights_of(self.samples.x, values)
        cv2, asked = squared_variation(weights), config.mean_method
        tails = [
            self._tail_question(f"P({audited.symbol} > {label})", values > level)
            for label, level in self.levels[audited.name].items()
        ]
        steep = cv2 >= CV2_LIMIT
        refused = audited.refusal(self.samples.x[:8]) if steep or asked != "auto" else ""
        if refused and asked == "guided":
            raise CsiAuditError(f"mean_method guided follows gradients: {refused}. Take auto.")
        rare = any(question.gain >= GAIN_NEEDED for question in tails)
        prices = None
        if (steep and asked == "auto") or (rare and config.tail_method == "auto"):
            prices = self._prices(audited, gradient=steep and not refused)
        mean = MeanQuestion(
            quantity=audited.mean_quantity,
            cv2=cv2,
            n=len(values),
            steps=config.steps,
            guided_steps=config.guided_steps,
            refused=refused,
            prices=prices,
        )
        found = [decide_tail(config.tail_method, replace(q, prices=prices)) for q in tails]
        return (decide_mean(asked, mean), *found)

    def _tail_question(self, quantity: str, beyond: npt.NDArray[np.bool_]) -> TailQuestion:
        return TailQuestion(
            quantity=quantity,
            k=int(beyond.sum()),
            n=len(beyond),
            steps=self.config.steps,
        )

    def _prices(self, audited: AuditedLoss, *, gradient: bool) -> Prices:
        prices, evaluations = measured_prices(
            self.base,
            audited,
            self.samples.x,
            gradient=gradient,
            name=f"prices-{block_key(audited.name)}",
            store=BlockStore(self.folder),
            timed=self.timed,
            **self._where,
        )
        self._add("speeds", evaluations)
        return prices

    # --- Rare tails -------------------------------------------------------------------------------

    def _tails(self, decisions: Decisions, steps: int) -> dict[str, RareTail]:
        """Subset simulation of every loss that has a threshold decided so."""
        found = {}
        for audited in self.losses:
            _, *tails = decisions[audited.name]
            levels = self.levels[audited.name].values()
            pairs = zip(levels, tails, strict=True)
            rare = [level for level, decision in pairs if decision.chosen == SUBSET]
            if rare:
                found[audited.name] = self._rare_tail(audited, max(rare), steps)
        return found

    def _rare_tail(self, audited: AuditedLoss, rarest: float, steps: int) -> RareTail:
        what = f"subset simulation for {audited.name}"
        doubled = steps != self.config.steps
        what += ", doubled steps" if doubled else ""
        seen = self._tail_question("", self.values[audited.name] > rarest).p if self.kept else 0.0
        tally = self._tally(what, expected_evaluations(self.config, steps, seen))
        curve, failures = rare_tail(
            self.config,
            self.base,
            audited.loss,
            steps=steps,
            onto_law=self.domain.onto_law,
            rarest=rarest,
            name=f"subset-{steps}-{block_key(audited.name)}",
            seed=self.config.seed,
            folder=self.folder,
            tally=tally,
            kept=self.kept,
            sampled=not doubled,
            **self._where,
        )
        mapped = 0 if failures is None or self.kept else failures.samples.n_evaluations
        self._add(what, curve.evaluations + mapped)
        return curve, failures

    # --- Other chains -----------------------------------------------------------------------------

    def _guided(self, decisions: Decisions) -> tuple[dict[str, GuidedRun], list[ChainDraws]]:
        """Guided samples where they were chosen, and the plain draws of their chain.

        Where the twist is refused, so is the decision.
        """
        chosen = [audited for audited in self.losses if decisions[audited.name][0].chosen == GUIDED]
        found: dict[str, GuidedRun] = {}
        if not chosen:
            return found, []
        draws, x = self._draws("guided chain")
        sampler = GuidedMean(
            self.base,
            self.domain,
            x,
            particles=self.config.guided_particles,
            steps=self.config.guided_steps,
            seed=self.config.seed,
            folder=self.folder,
            **self._where,
        )
        for audited in chosen:
            what, key = f"guided SMC for {audited.name}", block_key(audited.name)
            tally = self._tally(what, sampler.evaluations)
            try:
                found[audited.name] = sampler.run(audited, name=f"guided-{key}", tally=tally)
            except (RefusedPilotError, GradientError) as error:  # findings; anything else is none
                first, *rest = decisions[audited.name]
                decisions[audited.name] = (after_refusal(first, str(error).rstrip(".")), *rest)
            self._add(what, tally.made)
        return found, [draws]

    def _draws(self, kind: str) -> tuple[ChainDraws, Tensor]:
        """As many plain draws of another chain as base samples, and as the chain gives them."""
        config, guided = self.config, kind == "guided chain"
        chain: ChainName = "sde_2m" if guided else "ode_2m"
        steps = config.guided_steps if guided else 2 * config.steps
        tally = self._tally(f"plain draws, {kind}", config.n_base * steps)
        sampler = BaseSampler(self.base, steps=steps, chain=chain, progress=tally, **self._where)
        drawn = draw_in_blocks(
            sampler,
            config.n_base,
            name="sde" if guided else "base-doubled",
            block=config.block,
            seed=config.seed,
            stream="sde" if guided else "base",
            store=BlockStore(self.folder),
            tally=tally,
        )
        x = self.domain.onto_law(drawn.x)
        values = {a.name: in_blocks(a.loss, x).numpy() for a in self.losses}
        self._add(f"plain draws, {kind}", drawn.n_evaluations)
        found = ChainDraws(
            kind="guided chain" if guided else "doubled steps",
            chain=drawn.chain,
            values=values,
            n_evaluations=drawn.n_evaluations,
            weights={a.name: a.weights_of(x, values[a.name])
                     for a in self.losses if not a.is_weight},
        )  # fmt: skip
        return found, drawn.x

    # --- Bookkeeping ------------------------------------------------------------------------------

    @property
    def _where(self) -> dict[str, Any]:
        """Where the denoiser runs."""
        return {"device": torch_device(self.config.device), "batch_size": self.config.batch_size}

    def _tally(self, what: str, total: int) -> Tally:
        told = self.progress
        return Tally(None if told is None else lambda made: told(what, made, max(total, made)))

    def _add(self, what: str, evaluations: int) -> None:
        self.spent[what] = self.spent.get(what, 0) + evaluations
