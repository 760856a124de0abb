"""Every installed backbone in a bare loop: size, operations, speed and memory, and speed compared with `macls` 1.0.6.

    python benchmarks/backbones.py [--only NAME ...] [--rounds 7] [--steps 2] [--batch 16] [--compile]
                                   [--macls PYTHON] [--write]

Each network, with its default pooling and head, is trained (forward, cross-entropy, backward, Adam) and evaluated on
given features of three-second clips (298 frames, 80 bands), in alternating processes; medians over the rounds.
`--macls` (or $MACLS_PYTHON) is the Python of an environment with macls 1.0.6; without it the macls columns are empty.
Ratios are medians of the ratios of alternating pairs: above one, soundbench is faster. `--write` saves the table in
`benchmarks/results/backbones.md`.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from turns import Runner, in_turns, line, machine_info, ratio, runner

from soundbench.machine import Machine, settle
from soundbench.recipe.registry import Registry

RESULT = Path(__file__).parent / "results" / "backbones.md"

NAMESAKES = {
    "campplus": "CAMPPlus",
    "ecapa-tdnn": "EcapaTdnn",
    "eres2net": "ERes2Net",
    "eres2netv2": "ERes2NetV2",
    "panns-cnn10": "PANNS_CNN10",
    "panns-cnn14": "PANNS_CNN14",
    "panns-cnn6": "PANNS_CNN6",
    "res2net": "Res2Net",
    "resnet-se": "ResNetSE",
    "tdnn": "TDNN",
}

COLUMNS = (
    "backbone",
    "parameters, M",
    "multiply-adds, M",
    "trained, fp32",
    "trained, bf16",
    "scored, fp32",
    "scored, bf16",
    "peak MB, fp32",
    "peak MB, bf16",
    "bf16 over fp32",
    "channels last over first",
    "compiled over not",
    "macls: parameters, M",
    "macls: multiply-adds, M",
    "over macls, fp32",
    "over macls, bf16",
)


def turns(runners: Sequence[Runner], command: str, options: argparse.Namespace) -> list[list[float]]:
    """Seconds per step of each, round by round, in an order that is reversed every round."""
    for each in runners:
        each.ask(command, 1)
    seconds: list[list[float]] = [[] for _ in runners]
    for place in in_turns(options.rounds, len(runners)):
        seconds[place].append(runners[place].ask(command, options.steps))
    return seconds


def faster(one: list[float], other: list[float]) -> str:
    """The speed of the first relative to the other, median of the rounds."""
    return f"{ratio(other, one):.2f}"


def million(count: int, digits: int) -> str:
    return f"{count / 1e6:,.{digits}f}"


def measure(name: str, machine: Machine, options: argparse.Namespace) -> dict[str, str]:
    """A row of the table."""
    common = ("--batch", str(options.batch), "--threads", str(machine.threads))
    row = {"backbone": name}
    for precision in ("fp32", "bf16"):
        with ExitStack() as stack:
            setting = (*common, "--precision", precision)
            ours = stack.enter_context(runner(sys.executable, "bare.py", "soundbench", name, *setting))
            theirs = []
            if options.macls and name in NAMESAKES:
                theirs = [stack.enter_context(runner(options.macls, "bare.py", "macls", NAMESAKES[name], *setting))]
            trained, *others = turns([ours, *theirs], "train", options)
            row[f"peak MB, {precision}"] = f"{ours.ask('memory') / 1e6:,.0f}"
            (scored,) = turns([ours], "score", options)
            for other, seconds in zip(theirs, others, strict=True):
                row[f"over macls, {precision}"] = faster(trained, seconds)
                fill_sizes(row, "macls: ", other.ask("sizes"))
            fill_sizes(row, "", ours.ask("sizes"))
        for doing, seconds in (("trained", trained), ("scored", scored)):
            row[f"{doing}, {precision}"] = f"{options.batch / statistics.median(seconds):.1f}"
    half, single = ([*common, "--precision", precision] for precision in ("bf16", "fp32"))
    row["bf16 over fp32"] = versus(name, half, single, options)
    setting = [*common, "--precision", machine.precision]
    row["channels last over first"] = versus(name, setting, [*setting, "--channels-first"], options)
    if options.compile:
        row["compiled over not"] = versus(name, [*setting, "--compile"], setting, options)
    return row


def fill_sizes(row: dict[str, str], whose: str, sizes: dict[str, int]) -> None:
    row[f"{whose}parameters, M"] = million(sizes["parameters"], 2)
    row[f"{whose}multiply-adds, M"] = million(sizes["macs"], 0)


def versus(name: str, one: Sequence[str], other: Sequence[str], options: argparse.Namespace) -> str:
    """The training speed of a backbone in one setting relative to another."""
    with ExitStack() as stack:
        runners = [
            stack.enter_context(runner(sys.executable, "bare.py", "soundbench", name, *each)) for each in (one, other)
        ]
        return faster(*turns(runners, "train", options))


def heading(machine: Machine, options: argparse.Namespace) -> str:
    layout = "last" if machine.channels_last else "first"
    return (
        f"`python benchmarks/backbones.py --rounds {options.rounds} --steps {options.steps} --batch {options.batch}`: "
        f"{machine_info()}. Clips/s of three-second clips (298 frames of 80 bands, 10 classes); multiply-adds of one. "
        f"Peak memory is the growth of the process: weights, gradients, Adam, and the activations of {options.batch} "
        f"clips. `auto` chooses {machine.precision}, channels {layout}, {machine.threads} threads; the columns for "
        f"layout and compiling are in {machine.precision}."
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--only", nargs="+", help="backbones to measure (default: all)")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=2, help="steps per turn")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--compile", action="store_true", help="also compiled networks, which takes minutes each")
    parser.add_argument("--macls", default=os.environ.get("MACLS_PYTHON"), help="a Python with macls 1.0.6 installed")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    machine = settle(device="cpu")
    machine.use()
    names = options.only or [listing.name for listing in Registry().listings("backbone")]
    lines = [heading(machine, options), "", line(COLUMNS), line(["---"] * len(COLUMNS))]
    print("\n".join(lines), flush=True)
    for name in names:
        row = measure(name, machine, options)
        lines.append(line([row.get(column, "") for column in COLUMNS]))
        print(lines[-1], flush=True)
    if options.write:
        RESULT.write_text("# Backbones\n\n" + "\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
