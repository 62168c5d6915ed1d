"""What benchmarks.zoo compares: compressors by name, and the baselines that each stands beside.

For every code length there is a KLT, and the strongest taps at as many numbers; for every number of
bits, whatever compressors.bit_matched fits to it. Baselines are fitted on the training channels
once and kept.
"""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from torch import Tensor

from channels import Convention, CsiAuditError, audit_space, file_sha256, load_channels
from channels.randomness import seeded_generator
from compressors import Compressor, CompressorSpec, Klt, NamedCompressor, feedback_bits
from compressors.audit_space import in_audit_space
from compressors.bit_matched import BIT_MATCHED, build_bit_matched, fit_to_bits
from compressors.neural import CompressorNetwork
from compressors.top_taps import TopTaps
from csi_audit.run_state import BlockStore

Shape = tuple[int, int, int]

LINEAR, LINEAR_IN_BITS = "klt", "klt-quantised"
MOST_USERS = 16_384  # training users that baselines are fitted on


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A compressor under comparison.

    Attributes:
        name: Unique.
        role: "named" for those asked for, "baseline" for those fitted here.
        arch: Architecture, or the class of a user's object.
        compressor: The object.
        length: Code length of the KLT it stands beside: its own n_code, of a baseline that of the
            compressors it was fitted for.
        klt: Name of that KLT's entry, None if there is none.
        klt_in_bits: Name of the quantised KLT of as many bits, None if there is none.
        key: What decides its answers, for the state of a run; None if that is unknown.
        card: How it was made, {} if unknown.
        fit_seconds: Of a baseline.
    """

    name: str
    role: Literal["named", "baseline"]
    arch: str
    compressor: Compressor
    length: int
    klt: str | None = None
    klt_in_bits: str | None = None
    key: str | None
    card: Mapping[str, Any] = field(default_factory=dict)
    fit_seconds: float | None = None


# --- Fitting --------------------------------------------------------------------------------------


class BaselineFits:
    """Baselines fitted on one file of training channels, kept as arrays and built again.

    Args:
        path: The file.
        state: Folder of the run's state.
        seed: Fixes which users of a very large file are taken.
    """

    def __init__(self, path: Path, state: Path, *, seed: int) -> None:
        self.path, self.seed = path, seed
        self.sha256 = file_sha256(path)
        self.store = BlockStore(state / f"fits-{self.sha256[:12]}")

    @cached_property
    def x(self) -> Tensor:
        """Training channels in audit space, read when the first baseline needs them."""
        channels = load_channels(str(self.path), lazy=None)
        order = torch.randperm(len(channels), generator=seeded_generator(self.seed, "fits"))
        chosen = order[:MOST_USERS].sort().values
        return audit_space(channels.subset(chosen) if channels.is_lazy else channels)

    def network(
        self,
        name: str,
        fit: Callable[[Tensor], CompressorNetwork],
        build: Callable[[Mapping[str, Any]], CompressorNetwork],
    ) -> tuple[CompressorNetwork, str, float]:
        """The fitted network, its key and the seconds of its fit.

        Args:
            name: For its file.
            fit: Fits it to channels.
            build: Builds it from its `options`, {} if it has none, ready for its weights.
        """

        def made() -> dict[str, Any]:
            x = self.x
            began = time.perf_counter()
            network = fit(x)
            seconds = time.perf_counter() - began
            weights = {key: value.numpy() for key, value in network.state_dict().items()}
            options = json.dumps(getattr(network, "options", {}))
            return {"seconds": np.array(seconds), "options": np.array(options), **weights}

        found = self.store.get(name, 0, made)
        seconds, options = float(found.pop("seconds")), json.loads(str(found.pop("options")))
        network = build(options).eval()
        network.load_state_dict({key: torch.from_numpy(value) for key, value in found.items()})
        return network, file_sha256(self.store.path(name, 0)), seconds


def fitted_klt(fits: BaselineFits, length: int, shape: Shape) -> Entry:
    """The KLT of that code length."""
    spec = CompressorSpec(arch=LINEAR, n_code=length, event_shape=shape)

    def fit(x: Tensor) -> CompressorNetwork:
        return cast(Klt, spec.build()).fit(x)

    name = f"klt ({length} numbers)"
    network, key, seconds = fits.network(f"klt-{length}", fit, lambda _: spec.build())
    return Entry(
        name=name,
        role="baseline",
        arch=LINEAR,
        compressor=network,
        length=length,
        klt=name,
        key=key,
        fit_seconds=seconds,
    )


def strongest_taps(length: int, shape: Shape, klt: str | None) -> Entry:
    """As many unquantised taps as `length` numbers hold: re, im and position are three."""
    channels, n_tx, n_delay = shape
    n_taps = min(max(1, length // 3), channels // 2 * n_tx * n_delay)
    network = TopTaps(
        n_taps,
        n_rx=channels // 2,
        n_tx=n_tx,
        n_delay=n_delay,
        convention=Convention(event_shape=shape),
    )
    return Entry(
        name=f"top-taps ({3 * n_taps} numbers)",
        role="baseline",
        arch="top-taps",
        compressor=network.eval(),
        length=length,
        klt=klt,
        key=f"top-taps-{n_taps}",
    )


def fitted_in_bits(
    fits: BaselineFits, budget: int, length: int, shape: Shape, klt: str | None
) -> list[Entry]:
    """All that compressors.bit_matched fits to that many bits; what it refuses is told and left."""
    found: list[Entry] = []
    for arch in BIT_MATCHED:
        fit = partial(_fit_to_bits, arch, budget)
        build = partial(build_bit_matched, arch, event_shape=shape)
        try:
            network, key, seconds = fits.network(f"{arch}-{budget}", fit, build)
        except CsiAuditError as error:
            print(f"{arch} at {budget} bits is left out: {error}")
            continue
        found.append(
            Entry(
                name=f"{arch} ({budget} bits)",
                role="baseline",
                arch=arch,
                compressor=network,
                length=length,
                klt=klt,
                key=key,
                fit_seconds=seconds,
            )
        )
    reference = next((entry.name for entry in found if entry.arch == LINEAR_IN_BITS), None)
    return [replace(entry, klt_in_bits=reference) for entry in found]


def _fit_to_bits(arch: str, budget: int, x: Tensor) -> CompressorNetwork:
    return fit_to_bits(arch, x, budget)


# --- What stands beside what ----------------------------------------------------------------------


def code_length(named: NamedCompressor, shape: Shape) -> int:
    """Code length of the KLT beside it: its own, the next even one if that is odd."""
    n_code, (channels, n_tx, n_delay) = int(named.compressor.n_code), shape
    return min(n_code + n_code % 2, channels * n_tx * n_delay)


@torch.inference_mode()
def most_bits(compressor: Compressor, x: Tensor) -> int | None:
    """The most bits that it takes for one of these channels, None where it is not quantised."""
    bits = feedback_bits(compressor, in_audit_space(compressor).codeword(x))
    return None if bits is None else int(bits.max())


def described(card: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a card says of the network: apart in our own files, at its top for a checkpoint."""
    found = card.get("compressor")
    return found if isinstance(found, Mapping) else card


def architecture(named: NamedCompressor) -> str:
    """As its card says, or the class of the object."""
    return str(described(named.card).get("arch") or type(named.compressor).__name__)


def entries_of(
    named: Sequence[NamedCompressor],
    fits: BaselineFits | None,
    probe: Tensor,
    *,
    bits_a_number: int,
) -> list[Entry]:
    """The compressors, longest codes first, each after the baselines of its code length.

    A KLT among them that was fitted on the same training file is the KLT of its length; others are
    fitted. The bits are those of the quantised compressors, or, at a code length without one,
    `bits_a_number` times the length.

    Args:
        named: The compressors asked for, names unique.
        fits: None without training channels: then nothing is fitted.
        probe: Some channels (N, 2 n_rx, n_tx, n_delay), to count bits on.
        bits_a_number: See above; 0 for none.
    """
    shape = (probe.shape[1], probe.shape[2], probe.shape[3])
    bits = {item.name: most_bits(item.compressor, probe) for item in named}
    found: list[Entry] = []
    in_bits: dict[int, str] = {}  # bits -> entry of the quantised KLT
    for length in sorted({code_length(item, shape) for item in named}, reverse=True):
        own = [item for item in named if code_length(item, shape) == length]
        klt = next((item.name for item in own if _is_klt_of(item, fits)), None)
        if fits is not None:
            fitted = [] if klt else [fitted_klt(fits, length, shape)]
            klt = klt or fitted[0].name
            found += [*fitted, strongest_taps(length, shape, klt)]
            paid = {b for item in own if (b := bits[item.name]) is not None}
            for budget in sorted((paid or {bits_a_number * length}) - {0, *in_bits}):
                baselines = fitted_in_bits(fits, budget, length, shape, klt)
                found += baselines
                if baselines and baselines[0].klt_in_bits is not None:
                    in_bits[budget] = baselines[0].klt_in_bits
        found += [
            Entry(
                name=item.name,
                role="named",
                arch=architecture(item),
                compressor=item.compressor,
                length=length,
                klt=klt,
                klt_in_bits=in_bits.get(bits[item.name] or 0),
                key=item.sha256,
                card=item.card,
            )
            for item in own
        ]
    return found


def _is_klt_of(named: NamedCompressor, fits: BaselineFits | None) -> bool:
    """Whether it is a KLT, of the training file if there is one."""
    if not isinstance(named.compressor, Klt):
        return False
    data = named.card.get("data")
    return fits is None or (isinstance(data, Mapping) and data.get("sha256") == fits.sha256)
