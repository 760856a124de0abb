"""What the only rank of a group does with itself, in any process that has torchrun's environment, or as a program."""

from __future__ import annotations

import json
import sys
from typing import Any

import ignite.distributed as idist
import torch

from soundbench import distributed
from soundbench.machine import settle

WHOLE = {
    "world": 1,
    "gathered": ["own"],
    "broadcast": "own",
    "from_main": 3,
    "wrapped": "DistributedDataParallel",
    "same": [True] * 4,
}
"""What it finds, besides the backend."""


def only_rank(device: str) -> dict[str, Any]:
    try:
        distributed.join(device)
        place = settle(device, "fp32", local_rank=distributed.local_rank()).device
        torch.manual_seed(0)
        plain = torch.nn.Sequential(torch.nn.Linear(7, 5), torch.nn.BatchNorm1d(5)).to(place)
        wrapped = distributed.wrap(plain, place)
        rows, found = torch.randn(9, 7, device=place), []
        for module in (plain, wrapped):
            plain.zero_grad()
            module(rows).square().sum().backward()
            found.append([parameter.grad.clone() for parameter in plain.parameters()])
        distributed.barrier()
        return {
            "backend": idist.backend(),
            "world": distributed.world(),
            "gathered": distributed.gather("own"),
            "broadcast": distributed.broadcast("own"),
            "from_main": distributed.from_main(lambda: 3),
            "wrapped": type(wrapped).__name__,
            "same": [torch.equal(one, other) for one, other in zip(*found, strict=True)],
        }
    finally:
        distributed.leave()


if __name__ == "__main__":
    print(json.dumps(only_rank(sys.argv[1])))
