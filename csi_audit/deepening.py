"""What an audit does once its base samples are drawn: decide, then rare tails, guided samples and
draws of other chains. Every step is kept by block and told to the progress display.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor

from channels.channel_domain import ChannelDomain
from channels.support import CsiAuditError
from compressors.audit_space import in_audit_space
from compressors.loading import NamedCompressor
from csi_audit.base import Base
from csi_audit.calibration import RefusedPilotError
from csi_audit.configs import RunConfig
from csi_audit.deeper import ChainDraws, Deeper, GuidedRun, threshold_levels
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
from csi_audit.drawing import Tally, draw_in_blocks
from csi_audit.guided_means import GuidedMean
from csi_audit.losses import NmseLoss, in_blocks
from csi_audit.measuring import Measured
from csi_audit.pilot import gradient_refusal, measured_prices
from csi_audit.rare_tails import expected_evaluations, rare_tail
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import BaseSampler, ChainName
from csi_audit.tail import ReplicatedTail
from csi_audit.twists import GradientError
from reports.reweighting import CV2_LIMIT
from reports.schema import Threshold
from reports.tail_schema import Decision

Progress = Callable[[str, int, int], None]
Decisions = dict[str, tuple[Decision, ...]]
Levels = Mapping[str, Mapping[str, float]]


def block_key(name: str) -> str:
    """A compressor's name as one level of a path, in HDF5 and on disk."""
    return name.replace("/", "|")


@dataclass(frozen=True, kw_only=True)
class Deepening:
    """What the steps beyond the base samples share.

    Attributes:
        config: The audit's settings.
        base: The base model.
        domain: Of the channels.
        compressors: Under audit.
        samples: Base samples at unit power.
        measured: What was measured on them.
        real: What was measured on the real channels.
        tau: Thresholds.
        folder: Run directory.
        progress: Told of denoiser evaluations.
        spent: Evaluations by step, filled as they are made.
    """

    config: RunConfig
    base: Base
    domain: ChannelDomain
    compressors: Sequence[NamedCompressor]
    samples: WeightedSamples
    measured: Measured
    real: Measured
    tau: Sequence[Threshold]
    folder: Path
    progress: Progress | None = None
    spent: dict[str, int] = field(default_factory=dict)

    def run(self) -> Deeper:
        """Everything that the settings and the base samples call for."""
        names, doubled = [named.name for named in self.compressors], self.config.double_steps
        quantile = self.config.tau_quantile
        levels = {n: threshold_levels(self.tau, self.real.nmse(n), quantile) for n in names}
        decisions = {c.name: self._decided(c, levels[c.name]) for c in self.compressors}
        tails = self._tails(decisions, levels, self.config.steps)
        twice = self._tails(decisions, levels, 2 * self.config.steps) if doubled else {}
        guided, chains = self._guided(decisions)
        if doubled:
            chains.append(self._draws("doubled steps")[0])
        return Deeper(
            curves=self.config.tail_method != "off",
            levels=levels,
            decisions=decisions,
            tails=tails,
            doubled_tails=twice,
            guided=guided,
            chains=chains,
            spent=self.spent,
        )

    # --- Decisions --------------------------------------------------------------------------------

    def _decided(self, named: NamedCompressor, levels: Mapping[str, float]) -> tuple[Decision, ...]:
        """Of E_q[NMSE], then of P(NMSE > tau) for each threshold."""
        config, nmse = self.config, self.measured.nmse(named.name)
        cv2, asked = squared_variation(nmse), config.mean_method
        tails = [self._tail_question(label, nmse > level) for label, level in levels.items()]
        steep = cv2 >= CV2_LIMIT
        refused = gradient_refusal(named, self.samples.x[:8]) if steep or asked != "auto" else ""
        if refused and asked == "guided":
            raise CsiAuditError(f"mean_method guided follows gradients: {refused}. Take auto.")
        rare = any(question.gain >= GAIN_NEEDED for question in tails)
        prices = None
        if (steep and asked == "auto") or (rare and config.tail_method == "auto"):
            prices = self._prices(named, gradient=steep and not refused)
        mean = MeanQuestion(
            quantity="E_q[NMSE]",
            cv2=cv2,
            n=len(nmse),
            steps=config.steps,
            guided_steps=config.guided_steps,
            refused=refused,
            prices=prices,
        )
        found = [decide_tail(config.tail_method, replace(q, prices=prices)) for q in tails]
        return (decide_mean(asked, mean), *found)

    def _tail_question(self, label: str, beyond: npt.NDArray[np.bool_]) -> TailQuestion:
        return TailQuestion(
            quantity=f"P(NMSE > {label})",
            k=int(beyond.sum()),
            n=len(beyond),
            steps=self.config.steps,
        )

    def _prices(self, named: NamedCompressor, *, gradient: bool) -> Prices:
        prices, evaluations = measured_prices(
            self.base,
            named,
            self.samples.x,
            gradient=gradient,
            name=f"prices-{block_key(named.name)}",
            store=BlockStore(self.folder),
            **self._where,
        )
        self._add("speeds", evaluations)
        return prices

    # --- Rare tails -------------------------------------------------------------------------------

    def _tails(self, decisions: Decisions, levels: Levels, steps: int) -> dict[str, ReplicatedTail]:
        """Subset simulation of every compressor that has a threshold decided so."""
        found = {}
        for named in self.compressors:
            _, *tails = decisions[named.name]
            rare = [
                level
                for level, decision in zip(levels[named.name].values(), tails, strict=True)
                if decision.chosen == SUBSET
            ]
            if rare:
                found[named.name] = self._rare_tail(named, max(rare), steps)
        return found

    def _rare_tail(self, named: NamedCompressor, rarest: float, steps: int) -> ReplicatedTail:
        what = f"subset simulation for {named.name}"
        what += "" if steps == self.config.steps else ", doubled steps"
        curve = rare_tail(
            self.config,
            self.base,
            NmseLoss(in_audit_space(named.compressor)),
            steps=steps,
            onto_law=self.domain.onto_law,
            rarest=rarest,
            name=f"subset-{steps}-{block_key(named.name)}",
            seed=self.config.seed,
            folder=self.folder,
            tally=self._tally(what, expected_evaluations(self.config, steps)),
            **self._where,
        )
        self._add(what, curve.evaluations)
        return curve

    # --- Other chains -----------------------------------------------------------------------------

    def _guided(self, decisions: Decisions) -> tuple[dict[str, GuidedRun], list[ChainDraws]]:
        """Guided samples where they were chosen, and the plain draws of their chain.

        Where the twist is refused, so is the decision.
        """
        chosen = [c for c in self.compressors if decisions[c.name][0].chosen == GUIDED]
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
        for named in chosen:
            what, key = f"guided SMC for {named.name}", block_key(named.name)
            tally = self._tally(what, sampler.evaluations)
            try:
                found[named.name] = sampler.run(
                    in_audit_space(named.compressor), name=f"guided-{key}", tally=tally
                )
            except (RefusedPilotError, GradientError) as error:  # findings; anything else is none
                first, *rest = decisions[named.name]
                decisions[named.name] = (after_refusal(first, str(error).rstrip(".")), *rest)
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
        losses = {c.name: NmseLoss(in_audit_space(c.compressor)) for c in self.compressors}
        nmse = {name: in_blocks(loss, x).numpy() for name, loss in losses.items()}
        self._add(f"plain draws, {kind}", drawn.n_evaluations)
        found = ChainDraws(
            kind="guided chain" if guided else "doubled steps",
            chain=drawn.chain,
            nmse=nmse,
            n_evaluations=drawn.n_evaluations,
        )
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
