"""Settings of `csi-audit run --network`, behind Python, YAML and the command line alike."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from channels.support import CsiAuditError
from csi_audit.configs import Device
from csi_audit.setting_checks import at_least, check_listed
from csi_audit.tail_settings import TailSettings
from reports.words import decibel

LossName = Literal["expected_outage", "joint_outage", "shortfall"]
LOSS_NAMES: tuple[LossName, ...] = ("expected_outage", "joint_outage", "shortfall")
TRAIN_BLOCK = 500
_MAX_DB = 200
_PLACED = {"network", "data", "base", "out", "device", "batch_size", "threads"}


@dataclass(frozen=True, kw_only=True)
class NetworkRunConfig(TailSettings):
    """Settings of an audit of a cell network: where its users stand when it fails, how often.

    Of subset simulation 15 runs are made: independent ones are what failure modes of a rare
    threshold are told by, and 10 of them are needed. They end at the rarest threshold, unless
    `n_failures` is 0, so `tail_deepest` lies far below.

    Attributes:
        network: Network card (.yaml): users, law, stations and propagation; see
            channels/placement_cards.py. The word default takes three stations and five users
            anywhere in a square of 100 m.
        data: Real placements in metres (.npy, .npz, HDF5, .mat, .csv), users by two, or flat as x1,
            y1, x2, ...; they then stand in the place of the card's law. None takes draws of it.
        variable: Name of their array in the file, if several fit.
        loss: What is looked into: expected_outage, joint_outage, shortfall. Give the flag once for
            each; by default all.
        at_least: Users below the SINR threshold that make a joint outage; None takes more than two
            fifths of them.
        tau: Failure thresholds of the expected outage and of the joint outage, in (0, 1).
        tau_db: Failure thresholds of the shortfall [dB]; 0 is the joint outage at the network's
            SINR threshold, 3 that at 3 dB less.
        tau_quantile: One more for each loss, as a quantile of it over the real placements or the
            draws of the law.
        floor: Of the importance weight, which rises from it to 1: the share of q that does not
            look at the loss.
        base: Base law of placements to take (base.safetensors of another run with as many users);
            None trains one in the run directory.
        train_steps: Steps of that training: a multiple of 500, or less.
        train_draws: Draws of the law it is taught by.
        law_draws: Draws of the law that stand for real placements where there is no data.
        out: Run directory; None makes runs/<UTC time>-<card>. An interrupted run goes on when its
            directory is named again.
        n_base: Base samples, shared by all losses.
        steps: Steps of the probability-flow ODE, so denoiser evaluations a base sample.
        n_failures: Placements that subset simulation keeps of a failure law.
        block: Samples between two saved states: what an interruption can cost.
        seed: Fixes every random number.
        device: Where training and denoiser run.
        batch_size: Samples a denoiser call; changes nothing but rounding.
        threads: CPU threads of the command; None leaves torch's default. From Python, set torch's.
    """

    network: str
    data: str | None = None
    variable: str | None = None
    loss: tuple[LossName, ...] = LOSS_NAMES
    at_least: int | None = None
    tau: tuple[float, ...] = (0.5,)
    tau_db: tuple[float, ...] = (0.0,)
    tau_quantile: float = 0.99
    floor: float = 0.01
    base: str | None = None
    train_steps: int = 2_000
    train_draws: int = 100_000
    law_draws: int = 100_000
    out: str | None = None
    n_base: int = 10_000
    steps: int = 30
    n_failures: int = 2_000
    block: int = 1_000
    seed: int = 0
    device: Device = "auto"
    batch_size: int = 2_000
    threads: int | None = None
    guided_particles: int = 2_048
    tail_runs: int = 15
    tail_deepest: float = 1e-6

    def __post_init__(self) -> None:
        super().__post_init__()
        check_listed("loss", self.loss, "shortfall")
        for name, least in {"n_base": 2, "steps": 2, "block": 1, "batch_size": 1, "train_steps": 1,
                            "train_draws": 100, "law_draws": 100,
                            "n_failures": 0}.items():  # fmt: skip
            at_least(self, name, least)
        if self.at_least is not None:
            at_least(self, "at_least", 1)
        if self.train_steps > TRAIN_BLOCK and self.train_steps % TRAIN_BLOCK:
            raise CsiAuditError(
                f"train_steps must be a multiple of {TRAIN_BLOCK}, or less; got {self.train_steps}."
            )
        self._check_thresholds()
        self.check_level_cost((2 if self.double_steps else 1) * self.steps)

    def _check_thresholds(self) -> None:
        for name in ("tau_quantile", "floor"):
            if not 0 < getattr(self, name) < 1:
                raise CsiAuditError(f"{name} must lie in (0, 1); got {getattr(self, name)}.")
        for level in self.tau:
            if not 0 < level < 1:  # NaN is wrong too
                raise CsiAuditError(
                    f"tau must lie in (0, 1), of a share or a probability; got {level}. Levels of "
                    "the shortfall are tau_db."
                )
        for level in self.tau_db:
            if not abs(level) <= _MAX_DB:
                raise CsiAuditError(f"tau_db must lie in [-{_MAX_DB}, {_MAX_DB}] dB; got {level}.")
        for name, shown in {
            "tau": [f"{level:g}" for level in self.tau],
            "tau_db": [decibel(level) for level in self.tau_db],
        }.items():
            if len(set(shown)) < len(shown):
                raise CsiAuditError(
                    f"{name} must hold levels that differ as they are shown; got "
                    f"{', '.join(shown)}."
                )

    def fixing(self) -> dict[str, Any]:
        """The settings that fix the figures as plain values.

        Neither those that only place the work nor names of files, whose contents count.
        """
        plain = {key: value for key, value in asdict(self).items() if key not in _PLACED}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items()}
