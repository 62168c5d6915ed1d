"""Settings of what an audit does beyond its base samples: rare tails, guided means, step doubling.

They stand flat among those of csi_audit.configs.RunConfig.
"""

from dataclasses import dataclass
from typing import Literal

from channels.support import CsiAuditError
from csi_audit.setting_checks import at_least
from csi_audit.tail import Budget

TailMethod = Literal["auto", "counting", "subset", "off"]
MeanMethod = Literal["auto", "reweighting", "guided"]

LEAST_RUNS = 5
SHARE = 0.1
"""Share of a level of subset simulation that begins the next."""


@dataclass(frozen=True, kw_only=True)
class TailSettings:
    """How tails and the mean under q are estimated.

    Attributes:
        tail_method: How P(NMSE > tau) under the base law is found: "auto" takes subset simulation
            where the base samples show that counting would cost more, "counting" never, "subset"
            always; "off" counts and shows no tail curve.
        tail_runs: Independent runs of subset simulation for each compressor, 5 at least; fewer than
            10 give intervals that are not trusted.
        tail_particles: Particles of a level; below 1000 a rare kind of failure may be missed.
        tail_deepest: Probability that subset simulation goes down to.
        tail_coef_var: Standard error over value wanted at the rarest threshold; more runs are
            made until it is met or a limit ends them. None asks for none.
        tail_evaluations: Denoiser evaluations that subset simulation may spend on a compressor, and
            again with twice the steps; the first run is finished in any case. None sets no limit.
        tail_seconds: Seconds it may spend on a compressor, looked at between runs and counted anew
            after an interruption; None sets no limit.
        mean_method: How E_q[NMSE] is found: "auto" runs guided sampling beside reweighting where
            the base samples show that it pays, "reweighting" never, "guided" always.
        guided_particles: Particles of guided sampling.
        guided_steps: Steps of its chain, two denoiser evaluations each but the last.
        double_steps: Draw the base samples again from the same noise with twice the steps, and say
            how far the figures move. Subset simulation is then repeated too.
    """

    tail_method: TailMethod = "auto"
    tail_runs: int = 10
    tail_particles: int = 1000
    tail_deepest: float = 1e-3
    tail_coef_var: float | None = None
    tail_evaluations: int | None = None
    tail_seconds: float | None = None
    mean_method: MeanMethod = "auto"
    guided_particles: int = 1024
    guided_steps: int = 40
    double_steps: bool = False

    def __post_init__(self) -> None:
        at_least(self, "tail_runs", LEAST_RUNS)
        at_least(self, "tail_particles", 20)
        at_least(self, "guided_particles", 2)
        at_least(self, "guided_steps", 2)
        if not 0 < self.tail_deepest <= SHARE:
            raise CsiAuditError(
                f"tail_deepest must lie in (0, {SHARE:g}]; got {self.tail_deepest}. 0.001 is usual."
            )
        for name in ("tail_coef_var", "tail_evaluations", "tail_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise CsiAuditError(f"{name} must be above 0; got {value}.")
        if self.tail_coef_var is not None and self.tail_evaluations is self.tail_seconds is None:
            raise CsiAuditError(
                "tail_coef_var needs tail_evaluations or tail_seconds: it may never be met."
            )

    def check_level_cost(self, steps: int) -> None:
        """Refuse a budget below one level of one run of subset simulation.

        Args:
            steps: Denoiser evaluations a particle.
        """
        least = self.tail_particles * steps
        if self.tail_evaluations is not None and self.tail_evaluations < least:
            raise CsiAuditError(
                f"tail_evaluations must allow one level, {self.tail_particles} particles x {steps} "
                f"steps = {least:,}; got {self.tail_evaluations:,}."
            )

    @property
    def tail_budget(self) -> Budget:
        """When subset simulation of a compressor ends."""
        return Budget(
            evaluations=self.tail_evaluations,
            seconds=self.tail_seconds,
            coef_var=self.tail_coef_var,
            runs=self.tail_runs,
        )
