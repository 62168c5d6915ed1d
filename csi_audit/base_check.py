"""The check of a base model: is its law that of real channels, and does it stay so?

Draws base samples under several seeds and again with twice the steps, sets them beside real
channels and, where there are any, beside the training channels. Each block of samples is saved as
it is made, so a check killed at any moment goes on where it was. The statistics are reports'.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from channels.channel_domain import ChannelDomain
from channels.channel_set import ChannelSet, audit_space
from channels.run_folder import claim_folder
from channels.sample import sample_path
from compressors.loading import NamedCompressor, bundled_compressors, load_compressor
from compressors.preflight import check_panel
from csi_audit import __version__
from csi_audit.base import Base, base_name, load_base
from csi_audit.base_sides import Side, distortions, doubled_steps, law_figures, side_of
from csi_audit.devices import torch_device
from csi_audit.drawing import Tally, draw_in_blocks
from csi_audit.memorisation import (
    nearest_distance,
    spread_rows,
    train_distortion,
    training_copies,
)
from csi_audit.provenance import base_info, base_mismatch, cost_of, data_info, program_versions
from csi_audit.run_state import BlockStore
from csi_audit.samples import WeightedSamples
from csi_audit.sampling import BaseSampler
from reports.check_schema import CHECK_NAME, BaseCheck, load_check
from reports.check_words import check_sentences
from reports.fidelity_items import Memorisation, SeedSpread, StepDoubling, TrainDistortion
from reports.step_movement import seed_spread

if TYPE_CHECKING:
    from csi_audit.base_commands import CheckBaseConfig

QUICK = ("klt-16", "klt-64", "crnet-16")
"""Bundled compressors that a check takes where none is named."""
Progress = Callable[[str, int, int], None]
"""Called with the part of the check, the denoiser evaluations made in it, and its total."""


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What is read before anything is drawn.

    Attributes:
        channels: Real channels that the base was not trained on.
        train: Those that it was trained on; None where none are named.
        base: The base model.
        compressors: Whose distortions are compared.
    """

    channels: ChannelSet
    train: ChannelSet | None
    base: Base
    compressors: tuple[NamedCompressor, ...]

    @classmethod
    def read(cls, config: "CheckBaseConfig") -> "Inputs":
        """The inputs that the settings name.

        Raises:
            CsiAuditError: one cannot be read, or does not go with the others.
        """
        path = config.data or str(sample_path())
        channels, base = config.read(path, lazy=False), load_base(config.base)
        train = None if config.train is None else config.read(config.train)
        for name, users in ((path, channels), (config.train or "", train)):
            if users is not None:
                base.require(tuple(audit_space(users.subset([0])).shape[1:]), name=name)
        compressors = loaded_compressors(config.compressor, channels)
        return cls(channels=channels, train=train, base=base, compressors=compressors)

    @property
    def domain(self) -> ChannelDomain:
        return ChannelDomain.of(self.channels)

    def hashes(self) -> dict[str, Any]:
        """SHA-256 of each."""
        return {
            "data_sha256": self.channels.source.sha256,
            "train_sha256": None if self.train is None else self.train.source.sha256,
            "base_sha256": self.base.sha256,
            "compressor_sha256": [named.sha256 for named in self.compressors],
        }


@dataclass(frozen=True, kw_only=True)
class Draws:
    """Base samples of one check.

    Attributes:
        streams: Of each seed, as the chain left them.
        doubled: The first samples of the first stream again with twice the steps; None where not
            asked.
    """

    streams: tuple[WeightedSamples, ...]
    doubled: WeightedSamples | None

    @property
    def x(self) -> Tensor:
        """All at the stated steps, (N, *event_shape)."""
        return torch.cat([stream.x for stream in self.streams])

    @property
    def spent(self) -> dict[str, int]:
        """Denoiser evaluations by part."""
        found = {"base samples": sum(stream.n_evaluations for stream in self.streams)}
        if self.doubled is not None:
            found["twice the steps"] = self.doubled.n_evaluations
        return found


def check_base(config: "CheckBaseConfig", *, progress: Progress | None = None) -> BaseCheck:
    """Check a base model against real channels.

    Writes `config.yaml` first, then blocks of samples, and at the end `check.json` into the folder.
    A finished folder of the same settings is returned as it is.

    Args:
        config: Everything that fixes the check, and where it is written.
        progress: Told of denoiser evaluations as they are made.
    Returns:
        The check, as written.
    Raises:
        CsiAuditError: bad input; the message names file, value and way out.
    """
    began = time.monotonic()
    inputs = Inputs.read(config)
    fixing = {**config.fixing(), "version": __version__, **inputs.hashes()}
    folder = claim_folder(config.folder(), fixing)
    store = BlockStore(folder)
    if (folder / CHECK_NAME).is_file():
        store.remove()
        return load_check(folder)
    draws = base_draws(config, inputs.base, store, progress=progress)
    side, real = base_side(inputs, draws), real_side(inputs)
    found = checked(config, inputs, draws, side=side, real=real)
    cost = replace(found.cost, seconds=round(time.monotonic() - began, 1))
    found = replace(found, cost=cost, words=check_sentences(found))
    found.save(folder)
    store.remove()
    return found


def loaded_compressors(specs: Sequence[str], channels: ChannelSet) -> tuple[NamedCompressor, ...]:
    """The compressors named, or of the bundled `QUICK` ones those for such channels.

    Raises:
        CsiAuditError: one cannot be loaded, or is made for another array.
    """
    x = audit_space(channels)
    if not specs:
        here = [load_compressor(name) for name in QUICK if name in bundled_compressors()]
        shape = tuple(x.shape[1:])
        fitting = (c for c in here if tuple(c.compressor.convention.event_shape) == shape)
        return tuple(fitting) if channels.grid.is_ula else ()
    found: list[NamedCompressor] = []
    for spec in specs:
        named = load_compressor(spec, channels=x)
        if any(other.name == named.name for other in found):
            named = replace(named, name=f"{named.name} ({spec})")
        check_panel(named.compressor.convention, channels.grid, name=named.name)
        found.append(named)
    return tuple(found)


def stream_sizes(n: int, seeds: int) -> list[int]:
    """n samples over the seeds as evenly as can be, the first ones larger.

    >>> stream_sizes(10, 4)
    [3, 3, 2, 2]
    """
    return [n // seeds + (i < n % seeds) for i in range(seeds)]


def doubled_size(n: int, block: int, stream: int) -> int:
    """n samples in whole blocks, since the noise of a block depends on its size; at most a stream.

    >>> doubled_size(70, 50, 250), doubled_size(70, 50, 80), doubled_size(0, 50, 80)
    (100, 80, 0)
    """
    return min(-(-n // block) * block, stream)


def base_draws(
    config: "CheckBaseConfig", base: Base, store: BlockStore, *, progress: Progress | None = None
) -> Draws:
    """All base samples: a stream for each seed, and some of the first one with twice the steps."""
    sizes = stream_sizes(config.n_base, config.seeds)

    def draw(seed: int, n: int, steps: int, name: str, tally: Tally) -> WeightedSamples:
        sampler = BaseSampler(
            base, steps=steps, device=torch_device(config.device), batch_size=config.batch_size,
            progress=tally,
        )  # fmt: skip
        return draw_in_blocks(
            sampler, n, name=name, stream="check", block=config.block, seed=seed, store=store,
            tally=tally,
        )  # fmt: skip

    tally = _tally(progress, "base samples", config.n_base * config.steps)
    streams = tuple(
        draw(config.seed + i, n, config.steps, f"base{i}", tally) for i, n in enumerate(sizes)
    )
    again, steps = doubled_size(config.n_double, config.block, sizes[0]), 2 * config.steps
    if not again:
        return Draws(streams=streams, doubled=None)
    tally = _tally(progress, "twice the steps", again * steps)
    return Draws(streams=streams, doubled=draw(config.seed, again, steps, "doubled", tally))


def _tally(progress: Progress | None, what: str, total: int) -> Tally:
    return Tally(None if progress is None else lambda made: progress(what, made, total))


def base_side(inputs: Inputs, draws: Draws) -> Side:
    """The samples at the stated steps, as a comparison sees them."""
    return side_of(inputs.domain.onto_law(draws.x), inputs.compressors, inputs.domain)


def real_side(inputs: Inputs) -> Side:
    """The real channels, as a comparison sees them."""
    x, drops = audit_space(inputs.channels), inputs.channels.drops
    return side_of(x, inputs.compressors, inputs.domain, drops=drops)


def checked(
    config: "CheckBaseConfig", inputs: Inputs, draws: Draws, *, side: Side, real: Side
) -> BaseCheck:
    """Every figure of the check; its sentences and seconds are the caller's."""
    channels, train, base = inputs.channels, inputs.train, inputs.base
    found = law_figures(side, real, seed=config.seed)
    return BaseCheck(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions=program_versions(),
        seed=config.seed,
        base=base_info(
            base, base_name(config.base), found.realism, found.tail_ratios, n_samples=len(side)
        ),
        chain=draws.streams[0].chain,
        raw_power=raw_power(draws.x),
        data=data_info(channels),
        train=None if train is None else data_info(train),
        realism=found.realism,
        wasserstein=found.wasserstein,
        tail_ratios=found.tail_ratios,
        classifier=found.classifier,
        neighbours=found.neighbours,
        memorisation=memory_of(inputs, draws.x),
        train_distortion=train_distortions(inputs, side, real),
        doubling=_doubling(inputs, draws, side, real, seed=config.seed),
        seeds=_seeds(draws, side),
        warnings=base_mismatch(channels, base) + data_warnings(base, channels, train),
        cost=cost_of(draws.spent, config.device),
    )


def _doubling(
    inputs: Inputs, draws: Draws, side: Side, real: Side, *, seed: int
) -> tuple[StepDoubling, ...]:
    """The first samples at twice the steps beside themselves."""
    if draws.doubled is None:
        return ()
    x = inputs.domain.onto_law(draws.doubled.x)
    twice = side_of(x, inputs.compressors, inputs.domain)
    return doubled_steps(side.first(len(twice)), twice, real, seed=seed)


def _seeds(draws: Draws, side: Side) -> tuple[SeedSpread, ...]:
    """Each compressor's distortion under each seed; nothing of one seed."""
    if len(draws.streams) < 2:
        return ()
    ends = np.cumsum([len(stream) for stream in draws.streams])[:-1]
    return tuple(seed_spread(name, np.split(values, ends)) for name, values in side.nmse.items())


def raw_power(x: Tensor) -> tuple[float, float, float]:
    """1, 50 and 99 % quantile of the mean power of samples (N, ...); 1 is unit power."""
    power = 2 * x.double().square().flatten(1).mean(1)
    low, mid, high = torch.quantile(power, power.new_tensor([0.01, 0.5, 0.99])).tolist()
    return low, mid, high


def parts_of(channels: ChannelSet, *, users: int = 2000) -> Iterator[Tensor]:
    """Audit-space channels piece by piece, so that a set may stay in its file."""
    for begin in range(0, len(channels), users):
        yield audit_space(channels.subset(slice(begin, begin + users)))


def memory_of(inputs: Inputs, raw: Tensor) -> Memorisation | None:
    """Nearest training channels of base samples and of held-out users; None without any."""
    train, drops = inputs.train, inputs.channels.drops
    if train is None:
        return None
    x = torch.cat([inputs.domain.onto_law(raw), audit_space(inputs.channels)])
    both = nearest_distance(x, parts_of(train), flip=train.grid.is_ula).numpy()
    labels = None if drops is None else drops.numpy()
    return training_copies(both[: len(raw)], both[len(raw) :], n_train=len(train), drops=labels)


def train_distortions(inputs: Inputs, side: Side, real: Side) -> tuple[TrainDistortion, ...]:
    """Each compressor on as many training users as there are held-out ones."""
    if inputs.train is None:
        return ()
    rows = spread_rows(len(inputs.train), len(real))
    on_train = distortions(audit_space(inputs.train.subset(rows)), inputs.compressors)
    return tuple(
        train_distortion(name, side.nmse[name], values, real.nmse[name])
        for name, values in on_train.items()
    )


def data_warnings(base: Base, channels: ChannelSet, train: ChannelSet | None) -> tuple[str, ...]:
    """Where the channels are none that the base was kept from, by the hashes in its card."""
    found = []
    known = {
        key: base.card[key].get("sha256") for key in ("data", "validation")
        if isinstance(base.card.get(key), dict)
    }  # fmt: skip
    mine = channels.source.sha256
    if mine is not None and mine == known.get("data"):
        found.append(
            "The base was trained on these very channels: a base that learned them by heart would "
            "look perfect. Give channels of other drops."
        )
    if mine is not None and mine == known.get("validation"):
        found.append("The weights of the base were selected on these channels.")
    if train is not None and known.get("data") not in (None, train.source.sha256):
        found.append(
            f"{train.source.path} is not the file that the base was trained on: its hash differs "
            "from the one in the base's card."
        )
    return tuple(found)
