"""Cost of masking: each backbone trained on full rows, and on rows of unequal length in batches of the same size.

    python benchmarks/masking.py [--only NAME ...] [--rounds 5] [--batch 8] [--write]

Forward, cross-entropy and backward in float32 on given features (298 frames, 80 bands), with default pooling and head;
unequal rows have from half of the frames to all, evenly spaced. The two alternate in one process; the ratio is the
median of the pairs. Full rows need no masks. `--write` saves the table in `benchmarks/results/masking.md`.
"""

from __future__ import annotations

import argparse
import platform
import statistics
import time
from pathlib import Path

import torch
from bare import BANDS, FRAMES, FeatureNetwork
from torch.nn import functional as F

from soundbench.machine import settle
from soundbench.recipe.registry import Registry

RESULT = Path(__file__).parent / "results" / "masking.md"


def seconds(network: FeatureNetwork, features: torch.Tensor, lengths: torch.Tensor) -> float:
    target = torch.zeros(len(features), dtype=torch.int64)
    began = time.perf_counter()
    logits = network.head(network.pooling(*network.backbone(features, lengths)))
    F.cross_entropy(logits, target).backward()
    network.zero_grad(set_to_none=True)
    return time.perf_counter() - began


def measure(name: str, rounds: int, batch: int) -> str:
    torch.manual_seed(0)
    network = FeatureNetwork(name).to(memory_format=torch.channels_last).train()
    features = torch.randn(batch, BANDS, FRAMES)
    full = torch.full((batch,), FRAMES)
    unequal = torch.linspace(FRAMES // 2, FRAMES, batch).long()
    seconds(network, features, full), seconds(network, features, unequal)
    pairs = [(seconds(network, features, full), seconds(network, features, unequal)) for _ in range(rounds)]
    one, other = (statistics.median(part) for part in zip(*pairs, strict=True))
    ratio = statistics.median(slow / fast for fast, slow in pairs)
    return f"| {name} | {batch / one:.1f} | {batch / other:.1f} | {ratio - 1:+.0%} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [listing.name for listing in Registry().listings("backbone") if listing.name != "identity"]
    parser.add_argument("--only", nargs="*", default=names)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--write", action="store_true")
    arguments = parser.parse_args()
    machine = settle(device="cpu")
    machine.use()
    lines = [
        "# Cost of masking",
        "",
        f"`python benchmarks/masking.py --rounds {arguments.rounds} --batch {arguments.batch}`, "
        f"{machine.threads} threads, PyTorch {torch.__version__}, Python {platform.python_version()}; "
        "clips/s trained in float32.",
        "",
        "| backbone | full rows | unequal rows | cost |",
        "|---|---|---|---|",
    ]
    for name in arguments.only:
        lines.append(measure(name, arguments.rounds, arguments.batch))
        print(lines[-1], flush=True)
    if arguments.write:
        RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
