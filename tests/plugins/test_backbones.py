"""What every installed backbone promises beyond its own tests: processes that share a step, and compilation."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed
import torch.multiprocessing
from soundbench_plugins.backbone.campplus import CAMPPlus
from torch import nn

from soundbench.model.network import Head
from soundbench.recipe.registry import Registry

NAMES = [listing.name for listing in Registry().listings("backbone")]


class Whole(nn.Module):
    """A backbone with its paper's pooling and head."""

    def __init__(self, name: str, bands: int = 40) -> None:
        super().__init__()
        registry = Registry()
        self.backbone = registry.get("backbone", name).obj(bands)
        table = dict(self.backbone.default_pooling)
        self.pooling = registry.get("pooling", table.pop("use")).obj(self.backbone.channels, **table)
        self.head = Head(self.pooling.features, 3, **{**self.backbone.default_head, "dropout": 0.0})

    def forward(self, features: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        frames, lengths = self.backbone(features, lengths)
        logits: torch.Tensor = self.head(self.pooling(frames, lengths))
        return logits


def _share_steps(rank: int, port: int, out: Path) -> None:
    """Two steps of each backbone, as one of two processes; a parameter left out of the first stops the second."""
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    digests = {}
    for name in NAMES:
        torch.manual_seed(0)
        network = Whole(name).train()
        if not any(True for _ in network.backbone.parameters()):
            continue
        shared = nn.parallel.DistributedDataParallel(network)
        torch.manual_seed(1 + rank)
        for _ in range(2):
            features = torch.randn(3, 40, 48)
            shared(features, torch.tensor([48, 40, 20])).square().mean().backward()
        digests[name] = sum(float(p.grad.double().abs().sum()) for p in network.parameters())  # type: ignore[union-attr]
        del shared, network
    torch.save(digests, out / f"{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.slow
def test_two_processes_share_the_steps_of_every_backbone(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    torch.multiprocessing.spawn(_share_steps, (port, tmp_path), nprocs=2)
    one, other = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert set(one) >= set(NAMES) - {"identity"}
    for name in one:
        assert one[name] == pytest.approx(other[name], rel=1e-9), name
        assert one[name] > 0


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["aot_eager", "inductor"])
def test_campplus_is_compiled(backend: str) -> None:
    """In float64, where a batch norm over few frames amplifies no rounding."""
    if backend == "inductor" and shutil.which("c++") is None:
        pytest.skip("Inductor needs a C++ compiler, and there is none here")
    torch.manual_seed(0)
    network = CAMPPlus(40, growth=8, width=16, front=8, layers=[2, 2]).double().train()
    x, lengths = torch.randn(3, 40, 130, dtype=torch.float64), torch.tensor([130, 70, 9])
    wanted, _ = network(x, lengths)
    wanted.square().mean().backward()
    gradients = [parameter.grad for parameter in network.parameters()]
    network.zero_grad()
    try:
        got, counts = torch.compile(network, backend=backend)(x, lengths)
        got.square().mean().backward()
    finally:
        torch._dynamo.reset()
    assert counts.tolist() == [65, 35, 5]
    torch.testing.assert_close(got, wanted, rtol=1e-8, atol=1e-8)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-6, atol=1e-9)
