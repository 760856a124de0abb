"""One network in a bare PyTorch loop on given features, in a separate process that is controlled on stdin.

    python benchmarks/bare.py soundbench NAME --precision bf16 --batch 16 --threads 2 [--channels-first] [--compile]
                                              [--keep]
    python benchmarks/bare.py macls CLASS ...      with a Python that has macls 1.0.6

`benchmarks/backbones.py` starts these and alternates between them. Each line on stdin is a command, `sizes`, `train N`,
`score N` or `memory`; each answer is a line of JSON. A step of training is forward, cross-entropy, backward and Adam.
"""

from __future__ import annotations

import argparse
import json
import sys
import time

import torch
from resident import resident
from torch import nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

BANDS, FRAMES, CLASSES = 80, 298, 10


class FeatureNetwork(nn.Module):
    """Backbone with its default pooling and head, on features of full rows."""

    def __init__(self, name: str) -> None:
        super().__init__()
        from soundbench.model.network import Head
        from soundbench.recipe.registry import Registry

        registry = Registry()
        self.backbone = registry.get("backbone", name).obj(BANDS)
        options = dict(self.backbone.default_pooling)
        self.pooling = registry.get("pooling", options.pop("use")).obj(self.backbone.channels, **options)
        self.head = Head(self.pooling.features, CLASSES, **self.backbone.default_head)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        lengths = torch.full((features.shape[0],), features.shape[2])
        return self.head(self.pooling(*self.backbone(features, lengths)))


def make(source: str, name: str) -> tuple[nn.Module, tuple[int, int]]:
    """The network, and the shape of its input features."""
    if source == "soundbench":
        return FeatureNetwork(name), (BANDS, FRAMES)
    import macls.models

    return getattr(macls.models, name)(input_size=BANDS, num_class=CLASSES), (FRAMES, BANDS)


class Loop:
    def __init__(self, options: argparse.Namespace) -> None:
        torch.set_num_threads(options.threads)
        torch.manual_seed(0)
        if options.keep:
            from soundbench.cli import memory

            memory.keep()
        self.before = resident("VmRSS")
        network, shape = make(options.source, options.name)
        if options.source == "soundbench" and not options.channels_first:
            network = network.to(memory_format=torch.channels_last)
        self.bare, self.network = network, torch.compile(network) if options.compile else network
        self.bf16 = options.precision == "bf16"
        self.features = torch.randn(options.batch, *shape)
        self.target = torch.randint(0, CLASSES, (options.batch,))
        self.optimizer = torch.optim.Adam(network.parameters())

    def logits(self) -> torch.Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.bf16):
            return self.network(self.features).float()

    def train(self, steps: int) -> float:
        """Seconds per step."""
        self.network.train()
        began = time.perf_counter()
        for _ in range(steps):
            F.cross_entropy(self.logits(), self.target).backward()
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
        return (time.perf_counter() - began) / steps

    def score(self, steps: int) -> float:
        """Seconds per step, in evaluation mode."""
        self.network.eval()
        began = time.perf_counter()
        with torch.no_grad():
            for _ in range(steps):
                self.logits()
        return (time.perf_counter() - began) / steps

    def sizes(self) -> dict[str, int]:
        """Parameters, and multiply-adds of one clip: convolutions and matrix products."""
        self.bare.eval()
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            self.bare(self.features[:1])
        parameters = sum(p.numel() for p in self.bare.parameters() if p.requires_grad)
        return {"parameters": parameters, "macs": counter.get_total_flops() // 2}

    def memory(self) -> int:
        """Peak memory of the process in bytes, minus what it used before the network was made."""
        return resident("VmHWM") - self.before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", choices=["soundbench", "macls"])
    parser.add_argument("name")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--channels-first", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--keep", action="store_true", help="keep freed memory, as soundbench does on a CPU")
    answers, sys.stdout = sys.stdout, sys.stderr  # output of libraries must not mix with the answers
    loop = Loop(parser.parse_args())
    for line in sys.stdin:
        command, *numbers = line.split()
        print(json.dumps(getattr(loop, command)(*map(int, numbers))), file=answers, flush=True)


if __name__ == "__main__":
    main()
