"""What `auto` means for a machine's cores: nobody computes with more of them than there are."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from soundbench import machine


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """Settling sets this process's threads."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("cores", "processes", "workers"), [(16, 1, 0), (16, 1, 3), (16, 4, 2), (9, 2, 1), (64, 8, 0)])
def test_processes_and_their_workers_share_the_cores(
    monkeypatch: pytest.MonkeyPatch, cores: int, processes: int, workers: int
) -> None:
    monkeypatch.setattr(machine, "_cores", lambda: cores)
    settled = machine.settle("cpu", workers=workers, local_world=processes)
    assert settled.threads == torch.get_num_threads() == cores // processes - workers
    assert cores - processes < processes * (settled.threads + workers) <= cores


def test_a_machine_with_fewer_cores_than_work_computes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cores", lambda: 2)
    assert machine.settle("cpu", workers=4, local_world=3).threads == 1


def test_threads_that_were_asked_for_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_cores", lambda: 2)
    assert machine.settle("cpu", threads=5).threads == 5
