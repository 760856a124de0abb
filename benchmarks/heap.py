"""Speed gained by keeping freed memory (`soundbench/cli/memory.py`): clips/s of a bare loop with and without.

    python benchmarks/heap.py [--only NAME ...] [--rounds 5] [--batch 16] [--write]

Each backbone, with its default pooling and head, on given features of three-second clips, in two alternating processes:
trained (forward, backward, Adam) in the precision that `auto` chooses, and evaluated in float32. Ratios are medians of
the ratios of pairs. `--write` saves the table in `benchmarks/results/heap.md`.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from contextlib import ExitStack
from pathlib import Path

from turns import in_turns, line, machine_info, ratio, runner

from soundbench.machine import settle
from soundbench.recipe.registry import Registry

RESULT = Path(__file__).parent / "results" / "heap.md"
COLUMNS = ("backbone", "operation", "clips/s without", "with", "ratio", "peak MB without", "with")


def measure(name: str, command: str, precision: str, options: argparse.Namespace) -> str:
    """A row of the table."""
    setting = ("--precision", precision, "--batch", options.batch, "--threads", settle(device="cpu").threads)
    with ExitStack() as stack:
        runners = [
            stack.enter_context(runner(sys.executable, "bare.py", "soundbench", name, *setting, *keep))
            for keep in ([], ["--keep"])
        ]
        for each in runners:
            each.ask(command, 1)
        seconds: list[list[float]] = [[], []]
        for place in in_turns(options.rounds, 2):
            seconds[place].append(runners[place].ask(command, 1))
        peaks = [f"{each.ask('memory') / 1e6:,.0f}" for each in runners]
    speeds = [f"{options.batch / statistics.median(each):.1f}" for each in seconds]
    return line([name, f"{command}, {precision}", *speeds, f"{ratio(*seconds):.2f}", *peaks])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [listing.name for listing in Registry().listings("backbone") if listing.name != "identity"]
    parser.add_argument("--only", nargs="+", default=names)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    head = f"`python benchmarks/heap.py --rounds {options.rounds} --batch {options.batch}`: {machine_info()}."
    lines = [head, "", line(COLUMNS), line(["---"] * len(COLUMNS))]
    print("\n".join(lines), flush=True)
    for name in options.only:
        for command, precision in (("train", settle(device="cpu").precision), ("score", "fp32")):
            lines.append(measure(name, command, precision, options))
            print(lines[-1], flush=True)
    if options.write:
        RESULT.write_text("\n".join(["# Freed memory kept", "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
