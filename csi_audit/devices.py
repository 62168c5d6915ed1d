"""Where the work runs: the torch device behind `--device`, the CPU threads behind `--threads`."""

import os

import torch
from torch import distributed

from channels.support import CsiAuditError


def torch_device(name: str) -> torch.device:
    """The device of a setting; "auto" takes a GPU where there is one.

    Raises:
        CsiAuditError: a GPU is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise CsiAuditError("device cuda is not available here. Choose --device auto or cpu.")
    return torch.device("cuda" if available and name != "cpu" else "cpu")


def set_threads(threads: int | None) -> None:
    """CPU threads of this process; None leaves torch's default.

    Raises:
        CsiAuditError: threads < 1.
    """
    if threads is None:
        return
    if threads < 1:
        raise CsiAuditError(f"threads must be at least 1; got {threads}.")
    torch.set_num_threads(threads)


def is_first_process() -> bool:
    """Whether this process is the one that talks, of those that a training on several devices has.

    Lightning and torchrun number the processes of a machine in LOCAL_RANK, SLURM all in
    SLURM_PROCID.
    """
    ranks = (os.environ.get(name, "0") for name in ("LOCAL_RANK", "RANK", "SLURM_PROCID"))
    return all(rank in ("", "0") for rank in ranks)


def is_writing_process() -> bool:
    """Whether this process writes what a training on several devices gives; alone, it does.

    Unlike `is_first_process` it asks the processes themselves: tasks of one SLURM step that train
    each on its own write each.
    """
    return not _with_others() or distributed.get_rank() == 0


def wait_for_all() -> None:
    """Return when all processes of a training on several devices have come here; alone, at once."""
    if _with_others():
        distributed.barrier()


def _with_others() -> bool:
    return distributed.is_available() and distributed.is_initialized()
