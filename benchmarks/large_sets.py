"""Does a set far larger than the memory stream: a look at it, and a shuffled pass of the training
loader, within 2 GiB?

Synthetic users (a few plane waves each) are written to a temporary folder, which is removed
afterwards. Each part runs in a process of its own, whose largest resident memory is read at its
end. The named alternative for the loader is h5py, asked for the same batches of random users one
batch at a time.

    python -m benchmarks.large_sets
"""

import argparse
import json
import math
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import h5py
import numpy as np
import torch
from torch import Tensor

from benchmarks.harness import Options, check, parse_arguments, write_result
from channels import load_channels
from channels.opened import COMPACT_GRID, COMPACT_SCALE
from channels.randomness import seeded_generator
from channels.shuffled import ShuffledUsers
from channels.support import CsiAuditError

GIB = 1 << 30
LIMIT_GIB = 2.0
N_TX, N_SUB, N_PATHS, BLOCK = 32, 32, 6, 8192
BATCH = 128


def _add_own(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--users", type=int, default=1_000_000, help="default: 1,000,000")
    parser.add_argument("--part", choices=("loader", "inspect", "h5py"), help=argparse.SUPPRESS)
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)


def _plane_waves(n: int, generator: torch.Generator) -> Tensor:
    """n users of six plane waves, real planes (n, 2, n_tx, n_sub) at unit mean power."""
    u = 2 * torch.rand(n, N_PATHS, 1, generator=generator) - 1
    tap = -2 * torch.rand(n, N_PATHS, 1, generator=generator).clamp_min(1e-6).log()
    gain = torch.randn(n, N_PATHS, 1, dtype=torch.complex64, generator=generator) * (-tap / 4).exp()
    across = torch.polar(torch.ones(()), math.pi * u * torch.arange(N_TX))
    along = torch.polar(torch.ones(()), -2 * math.pi / N_SUB * tap * torch.arange(N_SUB))
    h = (gain * across).transpose(1, 2) @ along
    h = h / h.abs().square().mean((1, 2), keepdim=True).sqrt()
    return torch.stack((h.real, h.imag), dim=1)


def _write(path: Path, n: int, seed: int) -> None:
    """Compact HDF5, float16, stored plainly: h is 4 GB for a million users."""
    with h5py.File(path, "w") as file:
        file.attrs.update({"bandwidth_hz": 10e6, "carrier_hz": 2.655e9, "n_sub": N_SUB})
        file.attrs.update({"grid": COMPACT_GRID, "scale": COMPACT_SCALE})
        h = file.create_dataset("h", (n, 2, N_TX, N_SUB), "<f2", chunks=(64, 2, N_TX, N_SUB))
        for start in range(0, n, BLOCK):
            size = min(BLOCK, n - start)
            generator = seeded_generator(seed, "users", start)
            h[start : start + size] = _plane_waves(size, generator).half().numpy()
        file["power_db"] = np.zeros(n, dtype=np.float32)


def _peak_gib() -> float:
    """Largest resident memory of this process since it began [GiB]."""
    status = Path("/proc/self/status")
    if not status.is_file():
        raise CsiAuditError("the resident memory is read from /proc, which this system has not.")
    line = next(row for row in status.read_text().splitlines() if row.startswith("VmHWM"))
    return float(line.split()[1]) * 1024 / GIB


def _mark(x: Tensor) -> Tensor:
    """A figure of each user that tells users apart, (N,); x is (N, ...)."""
    return x.flatten(1).double().abs().sum(1)


def _loader(path: Path, seed: int) -> dict[str, float]:
    """One shuffled pass: how long it took, and how many different users came."""
    users = ShuffledUsers(load_channels(path, lazy=True), seed=seed)
    began, marks = time.perf_counter(), torch.empty(len(users), dtype=torch.float64)
    for start in range(0, len(users), BATCH):
        batch = users.batch(start // BATCH, BATCH)
        last = min(start + BATCH, len(users))  # the last batch reaches into the next pass
        marks[start:last] = _mark(batch[: last - start])
    seconds = time.perf_counter() - began
    return {
        "users": float(len(marks)),
        "seconds": seconds,
        "distinct": float(len(marks.unique())),
    }


def _h5py(path: Path, seed: int) -> dict[str, float]:
    """Random batches straight from h5py, for a fiftieth of a pass."""
    began, read = time.perf_counter(), 0
    with h5py.File(path, "r") as file:
        h = file["h"]
        order = torch.randperm(len(h), generator=seeded_generator(seed, "plain"))
        for number in range(max(1, len(h) // BATCH // 50)):
            rows = order[number * BATCH : (number + 1) * BATCH].sort().values.numpy()
            read += len(h[rows])
    return {"users": float(read), "seconds": time.perf_counter() - began}


def _inspect(path: Path) -> dict[str, float]:
    from csi_audit.command_line import main

    began = time.perf_counter()
    code = main(["inspect", str(path)])
    if code:
        raise CsiAuditError(f"inspect ended with code {code}.")
    with h5py.File(path, "r") as file:
        return {"users": float(len(file["h"])), "seconds": time.perf_counter() - began}


def _part(options: Options) -> None:
    """One part in this process; its figures are the last line printed."""
    path, seed = options.own.file, options.seed
    parts = {
        "loader": lambda: _loader(path, seed),
        "inspect": lambda: _inspect(path),
        "h5py": lambda: _h5py(path, seed),
    }
    print(json.dumps({**parts[options.own.part](), "peak_gib": _peak_gib()}))


def _run(part: str, path: Path, options: Options) -> dict[str, float]:
    words = ["--part", part, "--file", str(path), "--seed", str(options.seed)]
    words += ["--threads", str(options.threads)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.large_sets", *words],
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    print("\n".join(done.stdout.splitlines()[:-1]))
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    options = parse_arguments("large_sets", description=__doc__, add_own=_add_own)
    if options.own.part is not None:
        _part(options)
        return
    n = options.own.users
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "users.h5"
        _write(path, n, options.seed)
        size = path.stat().st_size / 1e9
        found = {part: _run(part, path, options) for part in ("inspect", "loader", "h5py")}
    rate = {part: row["users"] / row["seconds"] for part, row in found.items()}
    rows = [
        {
            "part": part,
            "users": int(row["users"]),
            "seconds": round(row["seconds"], 1),
            "users_per_second": round(rate[part]),
            "peak_resident_gib": round(row["peak_gib"], 3),
        }
        for part, row in found.items()
    ]
    loader = found["loader"]
    missed = loader["users"] - loader["distinct"]
    checks = [
        check(f"{part}_peak_gib", found[part]["peak_gib"], relation="<=", limit=LIMIT_GIB)
        for part in ("inspect", "loader")
    ]
    checks += [
        check("loader_users_seen_twice", missed, relation="<=", limit=0),
        check("loader_over_h5py_rate", rate["loader"] / rate["h5py"], relation=">=", limit=1.0),
    ]
    sizes = {"users": n, "file_gb": round(size, 2), "batch": BATCH, "compression": "none"}
    write_result(options, sizes=sizes, rows=rows, checks=checks, data="synthetic")


if __name__ == "__main__":
    main()
