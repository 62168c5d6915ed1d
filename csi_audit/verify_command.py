"""The command `verify`: published figures of a compressor against those measured here."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from rich.text import Text
from torch import Tensor

from channels.channel_set import ChannelSet, audit_space
from channels.readers import load_channels
from channels.support import CsiAuditError
from compressors.audit_space import in_audit_space
from compressors.checkpoint_reading import is_checkpoint
from compressors.loading import load_compressor
from compressors.published_checkpoints import N_INPUT, load_published
from compressors.published_numbers import PublishedNumber, Scenario, published_for
from compressors.verification import (
    BATCH_SIZE,
    TOLERANCE_DB,
    Verification,
    as_published,
    verify_compressor,
)
from csi_audit.printing import say, show_table

_HT = "COST2100 HT"
_AVERAGED = {"batches": "mean of batch dB", "linear": "linear mean"}


@dataclass(frozen=True, kw_only=True)
class VerifyConfig:
    """Settings of a verification on the COST2100 test set.

    Attributes:
        checkpoint: Published checkpoints (.pth of CRNet, CLNet, ACRNet, TransNet), or any
            compressor that `run` takes. Give the flag once for each.
        data: Test set in angular-delay form, DATA_Htestin.mat or DATA_Htestout.mat.
        data_frequency: The same users in frequency form, DATA_HtestFin_all.mat or
            DATA_HtestFout_all.mat, for the cosine similarity rho.
        arch: Architecture whose published figures count; a published checkpoint tells it, and is
            refused if it is another.
        ratio: Compression ratio 2048 / n_code; checked in the same way.
        scenario: "indoor" or "outdoor"; None takes it from the name of the data.
        batch_size: Channels a batch; published evaluations have 200.
        threads: CPU threads of the command; None leaves torch's default.
    """

    checkpoint: tuple[str, ...]
    data: str
    data_frequency: str | None = None
    arch: str | None = None
    ratio: int | None = None
    scenario: Scenario | None = None
    batch_size: int = BATCH_SIZE
    threads: int | None = None

    def __post_init__(self) -> None:
        if isinstance(self.checkpoint, str) or not self.checkpoint:
            raise CsiAuditError(
                f"checkpoint must be a tuple of at least one file; got {self.checkpoint!r}."
            )
        for name in ("batch_size", "threads"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise CsiAuditError(f"{name} must be at least 1; got {value}.")


@dataclass(frozen=True, kw_only=True)
class Verified:
    """One line of the answer: a compressor, what was measured, and a published figure if any."""

    name: str
    arch: str | None
    ratio: float
    measured: Verification
    published: PublishedNumber | None

    @property
    def difference_db(self) -> float | None:
        """Measured minus published [dB]; None without a published figure."""
        return None if self.published is None else self.measured.against(self.published)

    def verdict(self) -> str:
        """Whether the published figure comes out."""
        if self.difference_db is None:
            return "none published"
        return "reproduced" if abs(self.difference_db) <= TOLERANCE_DB else "not reproduced"


@dataclass(frozen=True, kw_only=True)
class _Subject:
    """What is measured, y -> y_hat, and where its published figures stand."""

    name: str
    arch: str | None
    ratio: float
    variant: str | None
    reconstruct: Callable[[Tensor], Tensor]


def verify(settings: VerifyConfig) -> None:
    """Measure compressors on a COST2100 test set beside their published figures."""
    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    console, rows = Console(), []
    for row in verified(settings):
        say(console, f"{row.name}: measured on {row.measured.n:,} channels.")
        rows.append(row)
    _show(console, settings, rows)


def verified(settings: VerifyConfig) -> Iterator[Verified]:
    """The lines of the answer, one a compressor and published figure.

    Raises:
        CsiAuditError: files that are none of COST2100, an unreadable checkpoint, or one of another
            architecture or ratio than given.
    """
    channels = _test_set(settings.data)  # first: a missing file has no name to take it from
    scenario = _scenario(settings)
    frequency = (
        None
        if settings.data_frequency is None
        else load_channels(settings.data_frequency, variable="HF_all")
    )
    for spec in settings.checkpoint:
        subject = _subject(spec, settings, channels)
        measured = verify_compressor(
            subject.reconstruct, channels, frequency=frequency, batch_size=settings.batch_size
        )
        numbers = (
            published_for(subject.arch, subject.ratio, scenario, variant=subject.variant)
            if subject.arch is not None
            else ()
        )
        for number in numbers or (None,):
            yield Verified(
                name=subject.name,
                arch=subject.arch,
                ratio=subject.ratio,
                measured=measured,
                published=number,
            )


def _subject(spec: str, settings: VerifyConfig, channels: ChannelSet) -> _Subject:
    if not (Path(spec).is_file() and is_checkpoint(Path(spec))):
        return _other_subject(spec, settings, channels)
    found = load_published(Path(spec))
    for name, given, own in (
        ("arch", settings.arch, found.arch),
        ("ratio", settings.ratio, found.ratio),
    ):
        if given not in (None, own):
            raise CsiAuditError(f"{name} must be that of {spec}, {own}; got {given}.")
    return _Subject(
        name=Path(spec).name,
        arch=found.arch,
        ratio=found.ratio,
        variant=None if found.expansion is None else f"{found.expansion}x",
        reconstruct=as_published(found.network),
    )


def _other_subject(spec: str, settings: VerifyConfig, channels: ChannelSet) -> _Subject:
    """Any compressor: it is given unit-power channels, and its answers each user's power again."""
    named = load_compressor(spec, channels=audit_space(channels))
    audited = in_audit_space(named.compressor)
    ratio = N_INPUT / audited.n_code
    if settings.ratio not in (None, ratio):
        raise CsiAuditError(f"ratio must be that of {spec}, {ratio:g}; got {settings.ratio}.")

    def reconstruct(y: Tensor) -> Tensor:
        gain = (y - 0.5).square().sum((1, 2, 3), keepdim=True).div(y[0].numel() / 2).sqrt()
        return gain * audited((y - 0.5) / gain) + 0.5

    return _Subject(
        name=named.name, arch=settings.arch, ratio=ratio, variant=None, reconstruct=reconstruct
    )


def _test_set(path: str) -> ChannelSet:
    """The angular-delay test set with each user's power."""
    channels = load_channels(path, variable="HT", offset=0.5)
    if not channels.source.format.startswith(_HT):
        raise CsiAuditError(
            f"data must be a COST2100 set in angular-delay form (HT); {path} is "
            f"{channels.source.format}. DATA_HtestF..._all.mat goes to --data_frequency."
        )
    return channels


def _scenario(settings: VerifyConfig) -> Scenario:
    if settings.scenario is not None:
        return settings.scenario
    found = re.search(r"H(?:train|val|test)(in|out)", Path(settings.data).name)
    if found is None:
        raise CsiAuditError(
            f"scenario must be given (indoor or outdoor): the name of {settings.data} does not "
            "tell it."
        )
    return "indoor" if found[1] == "in" else "outdoor"


def _show(console: Console, settings: VerifyConfig, rows: list[Verified]) -> None:
    size = rows[0].measured.batch_size
    table = Table(title=Text(f"NMSE [dB] on {settings.data}, {_scenario(settings)}"))
    heads = (
        "compressor",
        "arch",
        "ratio",
        "published",
        "averaged as",
        "difference",
        "verdict",
        f"mean of batch dB ({size} a batch)",
        "linear mean",
        "rho",
    )
    for head in heads:
        table.add_column(head)
    for row in rows:
        table.add_row(*map(Text, _cells(row)))
    show_table(console, table)
    say(
        console,
        "The mean of batch dB depends on the batch size and is the lower, the smaller the batches; "
        "the linear mean is the NMSE to expect of a channel.",
    )
    if any(row.arch == "transnet" for row in rows):
        say(
            console,
            "TransNet is measured as its authors' code runs: each user attends to those of his "
            "batch. In an audit each channel is reconstructed alone.",
        )


def _cells(row: Verified) -> tuple[str, ...]:
    number, difference = row.published, row.difference_db
    variant = "" if number is None or not number.variant else f" {number.variant}"
    return (
        row.name,
        (row.arch or "-") + variant,
        f"{row.ratio:g}",
        "-" if number is None else f"{number.nmse_db:.2f}",
        "-" if number is None else _AVERAGED[number.averaging],
        "-" if difference is None else f"{difference:+.2f}",
        row.verdict(),
        f"{row.measured.batches_db:.2f}",
        f"{row.measured.linear_db:.2f}",
        "-" if row.measured.rho is None else f"{row.measured.rho:.4f}",
    )
