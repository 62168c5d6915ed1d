"""How good is each compressor of the zoo, what does it cost, and is it better than linear?

Every bundled compressor (or those named) over all users of the split, beside the KLT of equal code
length, the strongest taps, and what can be fitted to equal bits: NMSE with its tail, SGCS, bits,
parameters, multiply-accumulates, time, training, and what float16 weights would change. Gains are
paired over users. Times are of this machine, all compressors in turns. What was measured on the
users is kept, so that a repeated call goes on where the last one stopped.

    python -m benchmarks.zoo
    python -m benchmarks.zoo --compressor crnet-16 mine.py:MyNet
"""

import argparse
import re
import time
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from benchmarks.harness import Options, parse_arguments, write_result
from benchmarks.zoo_entries import BaselineFits, Entry, entries_of
from benchmarks.zoo_figures import save_zoo, shown_of
from benchmarks.zoo_rows import checks_of, row_of
from channels import ChannelSet, CsiAuditError, audit_space, load_channels
from channels.domains import to_complex, to_spatial_frequency
from compressors import Compressor, NamedCompressor, bundled_compressors, load_compressor
from compressors.audit_space import in_audit_space
from compressors.half_precision import rounded_to_half
from compressors.metrics import feedback_bits, nmse, sgcs
from compressors.neural import CompressorNetwork
from csi_audit.run_state import BlockStore

Array = npt.NDArray[np.float64]

BLOCK = 500  # users a pass
PROBE = 200  # users that conventions are recognised and bits counted on


def _add_own(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--compressor", nargs="+", action="extend", metavar="SPEC", help="default: all bundled")
    add("--bits-a-number", type=int, default=3,
        help="of baselines at code lengths without a quantised compressor; 0 for none")  # fmt: skip
    add("--timed-users", type=int, default=250, help="channels of a timed round")
    add("--rounds", type=int, default=5)
    add("--state", type=Path, default=Path("runs/benchmark-zoo"), help="what was measured so far")


# --- Users ----------------------------------------------------------------------------------------


@torch.inference_mode()
def answers(compressor: Compressor, x: Tensor) -> tuple[Tensor, Tensor | None]:
    """Reconstructions of audit-space channels x (N, 2 n_rx, n_tx, n_delay), and bits (N,)."""
    y, side = compressor.convention.to_own(x)
    z = compressor.encode(y)
    return compressor.convention.from_own(compressor.decode(z), side), feedback_bits(compressor, z)


def in_float16(compressor: Compressor) -> CompressorNetwork | None:
    """A copy whose weights went through float16, as a file of half the size would hold them.

    None for what is no network of the zoo, or where a weight is too large for float16.
    """
    if not isinstance(compressor, CompressorNetwork):
        return None
    rounded = rounded_to_half(compressor.state_dict())
    if rounded is None:
        return None
    copy = deepcopy(compressor)
    copy.load_state_dict(rounded)
    return copy


def measured_users(entry: Entry, channels: ChannelSet) -> dict[str, Array]:
    """NMSE, SGCS and, where there are, bits and NMSE with float16 weights of each user, (N,).

    Raises:
        CsiAuditError: the compressor fails on some channel (names it).
    """
    float16 = in_float16(entry.compressor) if entry.role == "named" else None
    parts: dict[str, list[Tensor]] = {}
    for start in range(0, len(channels), BLOCK):
        x = audit_space(channels.subset(slice(start, start + BLOCK)))
        try:
            found = _block(entry.compressor, float16, x, channels)
        except (ValueError, RuntimeError) as error:
            raise CsiAuditError(f"compressor {entry.name}: {error}") from error
        for name, values in found.items():
            parts.setdefault(name, []).append(values)
    return {name: torch.cat(values).double().numpy() for name, values in parts.items()}


def _block(
    compressor: Compressor, float16: nn.Module | None, x: Tensor, channels: ChannelSet
) -> dict[str, Tensor]:
    x_hat, bits = answers(compressor, x)
    h, h_hat = (to_spatial_frequency(to_complex(v), channels.grid.panel) for v in (x, x_hat))
    found = {"nmse": nmse(x, x_hat), "sgcs": sgcs(h, h_hat)}
    if bits is not None:
        found["bits"] = bits
    if isinstance(float16, CompressorNetwork):
        found["nmse_float16"] = nmse(x, answers(float16, x)[0])
    return found


def measured_once(entry: Entry, channels: ChannelSet, store: BlockStore) -> dict[str, Array]:
    """`measured_users`, from the state where it is known what decides the answers."""
    if entry.key is None:
        return measured_users(entry, channels)
    name = re.sub(r"[^\w.-]+", "_", entry.name) + f"-{entry.role}-{entry.key[:16]}"
    return store.get(name, 0, lambda: measured_users(entry, channels))


# --- Time -----------------------------------------------------------------------------------------


@torch.inference_mode()
def seconds_by_round(entries: Sequence[Entry], x: Tensor, rounds: int) -> dict[str, Array]:
    """Seconds of encoder and decoder for channels x, all in turns after one round that does not
    count, (R,) each."""
    found: dict[str, list[float]] = {entry.name: [] for entry in entries}
    for number in range(rounds + 1):
        for entry in entries:
            audited = in_audit_space(entry.compressor)
            began = time.perf_counter()
            audited(x)
            took = time.perf_counter() - began
            if number:
                found[entry.name].append(took)
    return {name: np.array(values) for name, values in found.items()}


# --- The run --------------------------------------------------------------------------------------


def named_compressors(specs: Sequence[str], probe: Tensor) -> list[NamedCompressor]:
    """The compressors asked for; prints what was found or assumed in loading them.

    Raises:
        CsiAuditError: as `load_compressor`, or two have one name.
    """
    found = [load_compressor(spec, channels=probe) for spec in specs]
    names = [item.name for item in found]
    if len(set(names)) < len(names):
        raise CsiAuditError(
            f"compressors must have names of their own; got {', '.join(names)}. "
            "Name each once, and rename files that share a name."
        )
    for item in found:
        for notice in item.notices:
            print(f"{item.name}: {notice}")
    return found


def compared(options: Options, probe: Tensor) -> tuple[list[Entry], BaselineFits | None]:
    """Compressors and baselines; no baseline is fitted without training channels."""
    own = options.own
    named = named_compressors(own.compressor or list(bundled_compressors()), probe)
    fits = None
    if options.data_dir is not None:
        fits = BaselineFits(options.channels_path("train"), own.state, seed=options.seed)
    return entries_of(named, fits, probe, bits_a_number=own.bits_a_number), fits


def main() -> None:
    """Measure what is missing; write `benchmarks/results/zoo.json` and the figure beside it."""
    options = parse_arguments("zoo", description=__doc__, add_own=_add_own)
    own = options.own
    users = load_channels(str(options.channels_path()), lazy=None)
    # Never of the test split: conventions are recognised and bits counted on these.
    probed = users if options.split == "val" else load_channels(str(options.channels_path("val")))
    entries, fits = compared(options, audit_space(probed.subset(slice(0, PROBE))))
    store = BlockStore(own.state / f"users-{(users.source.sha256 or '')[:12]}")
    measured: dict[str, Mapping[str, Array]] = {}
    for entry in entries:
        measured[entry.name] = measured_once(entry, users, store)
        print(f"{entry.name}: {len(users):,} users", flush=True)
    x = audit_space(users.subset(slice(0, own.timed_users)))
    seconds = seconds_by_round(entries, x, own.rounds)
    shape = (x.shape[1], x.shape[2], x.shape[3])
    rows = [row_of(entry, measured, seconds, timed_users=len(x), shape=shape) for entry in entries]
    sizes: dict[str, Any] = {
        "users": len(users),
        "users_sha256": users.source.sha256,
        "fitted_on_sha256": None if fits is None else fits.sha256,
        "bits_a_number": own.bits_a_number,
        "timed_users": len(x),
        "rounds": own.rounds,
    }
    write_result(options, sizes=sizes, rows=rows, checks=checks_of(rows))
    shown = [shown_of(entry, measured[entry.name]["nmse"]) for entry in entries]
    save_zoo(options.out.with_suffix(".png"), shown)


if __name__ == "__main__":
    main()
