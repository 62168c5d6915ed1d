"""Settings of `csi-audit compare`, behind Python, YAML and the command line alike."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from channels.support import CsiAuditError
from csi_audit.configs import Device, ReadingConfig
from csi_audit.setting_checks import at_least, check_names
from reports.words import decibel


@dataclass(frozen=True, kw_only=True)
class CompareConfig(ReadingConfig):
    """Settings of a comparison of compressors on the same channels.

    Attributes:
        runs: Finished run directories, to compare what they audited without running anything; they
            must share channels, and for base samples the base model, seed and sizes.
        data: Channel files of any known format, instead of runs. Several make a matrix: trained
            on A, audited on B. Give the flag once for each.
        compressor: Compressors, with data. Give the flag once for each.
        trained_on: What a compressor was trained on, where its card does not say: NAME=SCENARIO,
            or NAME=A+B for a mixture. Give the flag once for each.
        base: Base model file or "small"; None takes the bundled one.
        out: Folder of the comparison; None makes runs/<UTC time>-compare. An interrupted
            comparison goes on when its folder is named again.
        n_base: Base samples, shared by all compressors; 0 compares on the files alone.
        steps: Steps of the probability-flow ODE, so denoiser evaluations a base sample.
        tau_db: Failure thresholds common to all compressors [dB]; -3 dB loses half the power.
        tau_quantile: Level of the tail figures; 0.99 looks at the worst 1 %. It also gives each
            compressor a threshold of its own, on the first file.
        block: Samples between two saved states: what an interruption can cost.
        seed: Fixes every random number.
        device: Where the denoiser runs.
        batch_size: Samples a denoiser call; changes nothing but rounding.
        threads: CPU threads of the command; None leaves torch's default.
    """

    runs: tuple[str, ...] = ()
    data: tuple[str, ...] = ()
    compressor: tuple[str, ...] = ()
    trained_on: tuple[str, ...] = ()
    base: str | None = None
    out: str | None = None
    n_base: int = 800
    steps: int = 30
    tau_db: tuple[float, ...] = (-3.0,)
    tau_quantile: float = 0.99
    block: int = 100
    seed: int = 0
    device: Device = "auto"
    batch_size: int = 128
    threads: int | None = None

    def __post_init__(self) -> None:
        if self.runs and (self.data or self.compressor):
            raise CsiAuditError(
                "runs must stand alone: they already name their channels and compressors; got "
                f"data {list(self.data)} and compressor {list(self.compressor)}."
            )
        if self.runs:
            self._refuse_idle()
        else:
            if isinstance(self.data, str) or not self.data:
                raise CsiAuditError(
                    f"data must name at least one channel file; got {self.data!r}. Example: csi-"
                    "audit compare --data channels.mat --compressor csinet-16 --compressor klt-16, "
                    "or name finished runs: csi-audit compare runs/a runs/b."
                )
            check_names(self.compressor)
        for name, values in (("runs", self.runs), ("data", self.data)):
            if len({Path(value) for value in values}) < len(values):
                raise CsiAuditError(f"{name} must name each one once; got {', '.join(values)}.")
        at_least(self, "n_base", 0)
        at_least(self, "steps", 2)
        at_least(self, "block", 1)
        at_least(self, "batch_size", 1)
        if self.n_base == 1:
            raise CsiAuditError("n_base must be 0 or at least 2; got 1.")
        if not 0 < self.tau_quantile < 1:
            raise CsiAuditError(f"tau_quantile must lie in (0, 1); got {self.tau_quantile}.")
        for level in self.tau_db:
            if not abs(level) <= 200:  # NaN is wrong too
                raise CsiAuditError(f"tau_db must lie in [-200, 200] dB; got {level}.")
        shown = [decibel(level) for level in self.tau_db]
        if len(set(shown)) < len(shown):
            raise CsiAuditError(
                f"tau_db must hold levels that differ in two digits; got {', '.join(shown)}."
            )

    def _refuse_idle(self) -> None:
        """Refuse settings that finished runs leave without effect."""
        idle = {"variable", "axes", "n_sub", "bandwidth_hz", "panel", "offset", "base", "n_base"}
        idle |= {"steps", "block", "seed", "device", "batch_size"}
        given = sorted(f.name for f in fields(self)
                       if f.name in idle and getattr(self, f.name) != f.default)  # fmt: skip
        if given:
            raise CsiAuditError(
                f"{given[0]} has no effect on finished runs, which were read and drawn already; "
                f"got {getattr(self, given[0])!r}. Leave it out, or name --data and --compressor."
            )

    def fixing(self) -> dict[str, Any]:
        """The settings that fix the figures as plain values."""
        free = {"out", "device", "batch_size", "threads"}
        plain = {key: value for key, value in asdict(self).items() if key not in free}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items()}
