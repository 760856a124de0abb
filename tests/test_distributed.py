"""Processes: what connects them."""

from __future__ import annotations

import ignite.distributed as idist
import pytest
import torch

from soundbench import distributed


@pytest.mark.parametrize(
    ("device", "there", "backend"),
    [
        ("auto", True, "nccl"),
        ("cuda", True, "nccl"),
        ("cuda:1", True, "nccl"),
        ("cpu", True, "gloo"),
        ("auto", False, "gloo"),
    ],
)
def test_processes_on_gpus_are_joined_by_nccl(
    device: str, there: bool, backend: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    chosen: list[str] = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: there)
    monkeypatch.setattr(idist, "initialize", chosen.append)
    distributed.join(device)
    assert chosen == [backend]


def test_one_process_joins_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    distributed.join("cpu")
    assert (distributed.rank(), distributed.world(), distributed.is_main()) == (0, 1, True)
