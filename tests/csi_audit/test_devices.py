"""Which of several processes writes, and where they meet; both of one process."""

import multiprocessing
from pathlib import Path

import pytest
from torch import distributed

from csi_audit.devices import is_writing_process, wait_for_all


def _go(rank: int, folder: Path) -> None:
    store = f"file://{folder / 'store'}"
    distributed.init_process_group("gloo", init_method=store, rank=rank, world_size=2)
    if is_writing_process():
        (folder / "written").write_text(str(rank))
    wait_for_all()
    (folder / f"read-{rank}").write_text((folder / "written").read_text())
    distributed.destroy_process_group()


@pytest.mark.unit
def test_a_process_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes, though SLURM may number it among others of its step."""
    monkeypatch.setenv("SLURM_PROCID", "3")
    assert is_writing_process()
    wait_for_all()


@pytest.mark.end_to_end
@pytest.mark.slow
def test_two_processes(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_go, args=(rank, tmp_path)) for rank in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0, 0]
    assert [(tmp_path / f"read-{rank}").read_text() for rank in range(2)] == ["0", "0"]
