"""The real channels that travel with the package: 2,000 users in 8 whole drops, for reporting only.

`python -m channels.sample --data-dir ../shared/data` makes the file and its card again, byte for
byte. They are the first 8 drops of the test split: train and select on nothing of it.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import torch

from channels.channel_set import ChannelSet, audit_space
from channels.domains import crop_delay, to_complex
from channels.readers import load_channels
from channels.support import CsiAuditError, file_sha256, write_text_atomic
from channels.writers import write_channels

__all__ = ["make_sample", "sample_path"]

N_DROPS = 8
MAX_BYTES = 7_000_000
GENERATOR = "QuaDRiGa 2.8.1"
LICENCE = (
    "QuaDRiGa's licence is for non-commercial use (science, education, standardisation) and says "
    "nothing about generated data. These channels are its output: keep this note with them."
)


def sample_path() -> Path:
    """Path of the bundled sample, compact HDF5; its card lies beside it as `.card.json`."""
    return Path(__file__).resolve().parent / "data" / "umi_sample.h5"


def _first_drops(channels: ChannelSet, n_drops: int) -> ChannelSet:
    """Users of the first `n_drops` environments, in the file's order."""
    drops = channels.drops
    if drops is None:
        raise CsiAuditError(f"{channels.source.path} has no drop_seed: drops cannot be kept whole.")
    seen = list(dict.fromkeys(drops.tolist()))
    if len(seen) < n_drops:
        raise CsiAuditError(
            f"{channels.source.path} must hold at least {n_drops} drops; got {len(seen)}."
        )
    return channels.subset(torch.isin(drops, torch.tensor(seen[:n_drops])))


def _statistics(channels: ChannelSet) -> dict[str, float]:
    """Figures that tell at a glance whether a file is this one."""
    x = to_complex(audit_space(channels))
    kept = {n: float(1 - crop_delay(x, n)[1].mean()) for n in (8, 16)}
    figures = {
        "share_los": float(channels.label("is_los").double().mean()),
        "median_delay_spread_s": float(channels.label("delay_spread_s").median()),
        "median_asd_deg": float(channels.label("asd_deg").median()),
        "median_power_db": float(channels.power_db.median()),
        "energy_in_first_8_taps": kept[8],
        "energy_in_first_16_taps": kept[16],
    }
    return {name: float(f"{value:.6g}") for name, value in figures.items()}


def _card(channels: ChannelSet, made: Path) -> dict[str, object]:
    grid, source = channels.grid, channels.source
    drops = sorted(set(channels.label("drop_seed").tolist()))
    return {
        "what": f"{len(channels)} users, {len(drops)} whole drops of a 3GPP UMi cell",
        "use": "Reporting only: never for training or for selecting a model.",
        "file": made.name,
        "sha256": file_sha256(made),
        "bytes": made.stat().st_size,
        "from": {"file": Path(source.path).name, "sha256": source.sha256},
        "command": "python -m channels.sample --data-dir ../shared/data",
        "generator": GENERATOR,
        "licence": LICENCE,
        "scenario": source.scenario,
        "carrier_hz": grid.carrier_hz,
        "bandwidth_hz": grid.bandwidth_hz,
        "n_sub": grid.n_sub,
        "array": grid.array,
        "drop_seeds": drops,
        "layout": "h float16 [user, re/im, antenna, subcarrier], unit mean |h|^2 per user",
        "statistics": _statistics(channels),
    }


def make_sample(data_dir: Path, target: Path) -> None:
    """Write the sample and its card from the test split in `data_dir`.

    Args:
        data_dir: Folder that holds umi_test.h5.
        target: HDF5 file to write; the card goes beside it.
    Raises:
        CsiAuditError: no such data, too few drops, or the file outgrows its 7 MB.
    """
    channels = _first_drops(load_channels(data_dir / "umi_test.h5"), N_DROPS)
    facts = {"generator": GENERATOR, "licence": LICENCE, "use": "reporting only"}
    write_channels(target, channels, attributes=facts, gzip_level=9)
    if target.stat().st_size > MAX_BYTES:
        raise CsiAuditError(f"{target} must stay below 7 MB; got {target.stat().st_size} bytes.")
    card = json.dumps(_card(channels, target), indent=2) + "\n"
    write_text_atomic(target.with_suffix(".card.json"), card)


def _main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m channels.sample", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True, help="folder with umi_test.h5")
    parser.add_argument("--out", type=Path, default=sample_path(), help="HDF5 file to write")
    options = parser.parse_args(arguments)
    try:
        make_sample(options.data_dir, options.out)
    except CsiAuditError as error:
        print(error, file=sys.stderr)
        return 2
    print(f"wrote {options.out} ({options.out.stat().st_size / 1e6:.2f} MB) and its card")
    return 0


if __name__ == "__main__":
    raise SystemExit(_main())
