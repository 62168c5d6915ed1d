"""The settings of each command, as frozen dataclasses behind Python, YAML and the command line."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

from channels.channel_set import ChannelSet
from channels.generation import SimulatedCell
from channels.readers import load_channels
from channels.support import CsiAuditError
from compressors.bit_matched import BIT_MATCHED
from compressors.plans import COMPRESSOR_PLAN, Plan
from csi_audit.setting_checks import at_least, check_listed, check_names, check_rate
from csi_audit.tail_settings import TailSettings
from reports.words import decibel

BASE_PLAN = Plan(
    steps=20_000,
    block_steps=500,
    batch_size=128,
    learning_rate=1e-2,
    ema_decay=0.999,
    optimizer="muon",
    precision="bf16-mixed",
)
"""What fit-base takes for 16,000 users. The card of the bundled base says how that was made."""

Device = Literal["auto", "cpu", "cuda"]
_MAX_DB = 200


@dataclass(frozen=True, kw_only=True)
class ReadingConfig:
    """How to read a channel file that does not say everything itself.

    Attributes:
        variable: Name of the channel matrix in the file, if several fit.
        axes: Names of its axes in the file's order, if they are not clear: rx,tx,sub,user for
            QuaDRiGa's channel.fr; also reim, beam, delay, pol, row.
        n_sub: Subcarriers to sample path-level files at (default 32); of other files a check.
        bandwidth_hz: Bandwidth [Hz], instead of what the file says.
        panel: Polarisations, rows and columns of the transmit array, if it is no single row:
            [2, 4, 8].
        offset: What was added to every real number of the file, 0 for nothing; by default the
            numbers tell.
    """

    variable: str | None = None
    axes: str | None = None
    n_sub: int | None = None
    bandwidth_hz: float | None = None
    panel: tuple[int, int, int] | None = None
    offset: float | None = None

    def read(self, path: str, *, lazy: bool | None = None) -> ChannelSet:
        """Channels of a file; by default large ones stay in it."""
        return load_channels(
            path,
            variable=self.variable,
            axes=self.axes,
            n_sub=self.n_sub,
            bandwidth_hz=self.bandwidth_hz,
            panel=self.panel,
            offset=self.offset,
            lazy=lazy,
        )


@dataclass(frozen=True, kw_only=True)
class RunConfig(TailSettings, ReadingConfig):
    """Settings of an audit.

    Attributes:
        data: Channel file of any known format (compact or other HDF5, MATLAB `.mat` of QuaDRiGa or
            COST2100, DeepMIMO, numpy, PyTorch), or your own loader as file.py:function.
        compressor: Compressors under audit: bundled names (such as crnet-16), weights
            files, compressor cards (.yaml), exported models (TorchScript, torch.export, ONNX),
            published checkpoints (.pth), or your own code as file.py:Class. Give the flag once for
            each.
        base: Base model file, "small" for the small bundled one, which is quicker and less true, or
            your own as file.py:attr; None takes the bundled one.
        out: Run directory; None makes runs/<UTC time>-<data name>. An interrupted run goes on when
            its directory is named again.
        n_base: Base samples, shared by all compressors.
        steps: Steps of the probability-flow ODE, so denoiser evaluations a base sample.
        issgm: Compressor for which the paper's guided sampler runs live; None runs it for none.
        n_issgm: Its samples.
        issgm_steps: Its Euler-Maruyama steps; two denoiser evaluations each.
        tau_quantile: Failure threshold as a quantile of each compressor's NMSE on the real
            channels.
        tau_db: Failure thresholds common to all compressors [dB]; -3 dB loses half the power.
        block: Samples between two saved states: what an interruption can cost.
        seed: Fixes every random number.
        device: Where the denoiser runs.
        batch_size: Samples a denoiser call; changes nothing but rounding.
        threads: CPU threads of the command; None leaves torch's default. From Python, set torch's.
    """

    data: str
    compressor: tuple[str, ...]
    base: str | None = None
    out: str | None = None
    n_base: int = 800
    steps: int = 30
    issgm: str | None = None
    n_issgm: int = 64
    issgm_steps: int = 100
    tau_quantile: float = 0.99
    tau_db: tuple[float, ...] = (-3.0,)
    block: int = 100
    seed: int = 0
    device: Device = "auto"
    batch_size: int = 128
    threads: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        check_names(self.compressor)
        at_least(self, "n_base", 2)
        at_least(self, "steps", 2)
        at_least(self, "n_issgm", 2)
        at_least(self, "issgm_steps", 2)
        at_least(self, "block", 1)
        at_least(self, "batch_size", 1)
        if not 0 < self.tau_quantile < 1:
            raise CsiAuditError(
                f"tau_quantile must lie in (0, 1); got {self.tau_quantile}. The worst 1 % is 0.99."
            )
        for level in self.tau_db:
            if not abs(level) <= _MAX_DB:  # NaN is wrong too
                raise CsiAuditError(
                    f"tau_db must lie in [-{_MAX_DB}, {_MAX_DB}] dB; got {level}. Half the power "
                    "lost is -3."
                )
        shown = [decibel(level) for level in self.tau_db]
        if len(set(shown)) < len(shown):
            raise CsiAuditError(
                f"tau_db must hold levels that differ in two digits; got {', '.join(shown)}."
            )
        if self.issgm is not None and self.issgm not in self.compressor:
            raise CsiAuditError(
                f"issgm must name one of the audited compressors; got {self.issgm!r}. "
                f"Choose from: {', '.join(self.compressor)}."
            )
        self.check_level_cost((2 if self.double_steps else 1) * self.steps)

    def fixing(self) -> dict[str, Any]:
        """The settings that fix the figures as plain values, without those that only place work."""
        free = {"out", "device", "batch_size", "threads"}
        plain = {key: value for key, value in asdict(self).items() if key not in free}
        return {key: list(v) if isinstance(v, tuple) else v for key, v in plain.items()}


@dataclass(frozen=True, kw_only=True)
class FitCompressorConfig(ReadingConfig):
    """Settings of one compressor training, or of several: every architecture at every ratio.

    Attributes:
        data: Training channels. The word base stands for samples of the base model, so that no
            file is needed; a file of that name is ./base.
        validation: Other channels, for the selection of weights; None keeps a tenth of the drops
            (of the users, where there are no drops) out of the training.
        arch: Architectures: csinet, crnet, clnet, acrnet, transnet, conv-fsq, klt; and, fitted to
            bits, klt-quantised, top-taps, top-taps-oracle, beam-codebook. Give the flag once for
            each.
        ratio: Compression ratios 2 n_rx n_tx n_delay / n_code. Give the flag once for each.
        bits: Bits of a codeword at most, for architectures fitted to bits, which have no ratio.
            Give the flag once for each.
        out: Training directory; None makes runs/<arch>-<ratio>, or runs/<arch>-<bits>b. Of several
            trainings the folder in which each has its own; None takes runs. What was interrupted
            goes on.
        base: Base model file or "small", with data base; None takes the bundled one.
        base_samples: Samples to draw of it. They are kept beside the trainings and drawn once.
        base_steps: Steps of the probability-flow ODE, so denoiser evaluations a sample.
        steps: Optimizer steps.
        block_steps: Steps between validations and checkpoints.
        batch_size: Users a step.
        learning_rate: Peak learning rate.
        ema_decay: Decay a step of the average of the weights, which is what is kept.
        precision: "32-true", or "bf16-mixed", faster on GPUs and, for transnet, on CPUs with
            AVX512-bf16.
        seed: Fixes every random number.
        device: Where the training runs.
        threads: CPU threads of this process; None leaves torch's default.
    """

    data: str
    validation: str | None = None
    arch: tuple[str, ...] = ("crnet",)
    ratio: tuple[int, ...] = (16,)
    bits: tuple[int, ...] = ()
    out: str | None = None
    base: str | None = None
    base_samples: int = 8000
    base_steps: int = 30
    steps: int = COMPRESSOR_PLAN.steps
    block_steps: int = COMPRESSOR_PLAN.block_steps
    batch_size: int = COMPRESSOR_PLAN.batch_size
    learning_rate: float = COMPRESSOR_PLAN.learning_rate
    ema_decay: float = COMPRESSOR_PLAN.ema_decay
    precision: Literal["32-true", "bf16-mixed"] = COMPRESSOR_PLAN.precision
    seed: int = 0
    device: Device = "auto"
    threads: int | None = None

    def __post_init__(self) -> None:
        check_listed("arch", self.arch, "crnet")
        check_listed("ratio", self.ratio, 16)
        matched = [arch for arch in self.arch if arch in BIT_MATCHED]
        if matched and not self.bits:
            raise CsiAuditError(f"bits must be given for {matched[0]}. Example: --bits 512.")
        if self.bits and not matched:
            raise CsiAuditError(
                f"bits must go with an architecture that is fitted to bits "
                f"({', '.join(BIT_MATCHED)}); got {', '.join(self.arch)}."
            )
        if matched:
            check_listed("bits", self.bits, 512)
        at_least(self, "base_samples", 10)
        at_least(self, "base_steps", 2)
        check_rate(self.learning_rate)
        if self.base is not None and not self.on_base:
            raise CsiAuditError(
                f"base names the model that --data base draws from; got data {self.data!r}. "
                "Choose one of the two."
            )

    @property
    def on_base(self) -> bool:
        """Whether the training channels are samples of the base model."""
        return self.data == "base"

    @property
    def parent(self) -> Path:
        """Where the trainings, or the one, and the base samples lie."""
        return Path("runs" if self.out is None else self.out)

    def folders(self) -> "dict[TrainingForm, Path]":
        """Training directory of every architecture in every size."""
        forms = [form for arch in self.arch for form in self._forms(arch)]
        if len(forms) == 1 and self.out is not None:
            return {forms[0]: self.parent}
        return {form: self.parent / form.name for form in forms}

    def _forms(self, arch: str) -> "list[TrainingForm]":
        if arch in BIT_MATCHED:
            return [TrainingForm(arch, bits=bits) for bits in self.bits]
        return [TrainingForm(arch, ratio=ratio) for ratio in self.ratio]


class TrainingForm(NamedTuple):
    """One compressor to train: its architecture with a ratio, or fitted to bits."""

    arch: str
    ratio: int | None = None
    bits: int | None = None

    @property
    def name(self) -> str:
        return f"{self.arch}-{self.ratio}" if self.bits is None else f"{self.arch}-{self.bits}b"


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Settings of the demonstration: the bundled compressors of ratio 16 on the bundled channels.

    Attributes:
        out: Run directory.
        seed: Fixes every random number.
        device: Where the denoiser runs.
        threads: CPU threads of this process; None leaves torch's default.
    """

    out: str = "runs/demo"
    seed: int = 0
    device: Device = "auto"
    threads: int | None = None


@dataclass(frozen=True, kw_only=True)
class InspectConfig(ReadingConfig):
    """Settings of a look at channel files.

    Attributes:
        data: Channel files, or your own loader as file.py:function. Several are compared with the
            first.
        html: Page to write, with maps and distributions; None writes none.
        seed: Fixes which users are drawn for the maps.
    """

    data: tuple[str, ...]
    html: str | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if isinstance(self.data, str) or not self.data:
            raise CsiAuditError(
                f"data must be a tuple of at least one file; got {self.data!r}. Write "
                f"({self.data or 'channels.h5'!r},)."
            )


@dataclass(frozen=True, kw_only=True)
class ConvertConfig(ReadingConfig):
    """Settings of a conversion to compact HDF5, which every other command reads fastest.

    Attributes:
        data: Channel file of any known format, or your own loader as file.py:function.
        out: File to write; one that is there is replaced only when the new one is whole.
        precision: "float16" (error about -72 dB) or "float32".
        gzip_level: 0 to 9; 0 stores plainly.
    """

    data: str
    out: str
    precision: Literal["float16", "float32"] = "float16"
    gzip_level: int = 4


@dataclass(frozen=True, kw_only=True)
class GenerateConfig(SimulatedCell):
    """Settings of a simulation through Sionna (extra `sim`), TR 38.901.

    Attributes:
        out: Compact HDF5 file to write.
        n: Users.
        seed: Fixes every random number; fewer users of a seed are the first of more.
        device: Where the simulation runs.
    """

    out: str
    n: int = 2000
    seed: int = 0
    device: Device = "auto"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, "n", 1)


@dataclass(frozen=True, kw_only=True)
class ReportConfig:
    """Settings of a report written again from a finished run.

    Attributes:
        run: Run directory.
        format: What to write beside the page: "md" (Markdown for pull requests), "csv" (a row a
            channel, or a placement of a cell network), "svg" or "png" (single figures in journal
            size). Give the flag once for each.
        width_in: Width of single figures [in]; a journal's column is 3.5, its page 7.16.
    """

    run: str
    format: tuple[Literal["md", "csv", "svg", "png"], ...] = ()
    width_in: float = 3.5
