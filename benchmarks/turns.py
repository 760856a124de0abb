"""Processes that measure in turns: a line on stdin is a command, a line of JSON on stdout the answer.

Compared programs alternate within one run, so that other load on the machine affects all of them.
"""

from __future__ import annotations

import datetime
import json
import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch

from soundbench.machine import settle

HERE = Path(__file__).parent


class Runner:
    """A process that waits for commands."""

    def __init__(self, process: subprocess.Popen[str], log: Path | None) -> None:
        self.process, self.log = process, log

    def ask(self, *command: object) -> Any:
        print(*command, file=self.process.stdin, flush=True)
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit(f"{' '.join(self.process.args)} ended{self.last_line()}")
        return json.loads(answer)

    def last_line(self) -> str:
        """The last line of its log, if it has one."""
        return f": {self.log.read_text().rstrip().rpartition(chr(10))[2]}" if self.log else ""


@contextmanager
def runner(python: str, script: str, *arguments: object, log: Path | None = None) -> Iterator[Runner]:
    """A script of this folder in a separate process; its output besides answers goes to `log`, if given."""
    command = [python, str(HERE / script), *map(str, arguments)]
    environment = {**os.environ, "OMP_WAIT_POLICY": "passive"}  # a waiting process must not use a core
    with (
        open(log, "a") if log else nullcontext() as errors,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        yield Runner(process, log)
        process.stdin.close()


def in_turns(rounds: int, count: int) -> Iterator[int]:
    """Indices of `count` programs: each once per round, in an order that is reversed every round."""
    for number in range(rounds):
        yield from range(count) if number % 2 else reversed(range(count))


def ratio(one: Sequence[float], other: Sequence[float]) -> float:
    """The median of the ratios of neighbouring pairs, the first over the other."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def line(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def machine_info() -> str:
    """A description of the machine and its software."""
    machine = settle(device="cpu")
    bf16 = " with instructions for bf16" if machine.precision == "bf16" else ""
    return (
        f"{machine.threads} cores, {torch.backends.cpu.get_cpu_capability()}{bf16}, PyTorch {torch.__version__}, "
        f"Python {platform.python_version()}; {datetime.date.today():%B %Y}"
    )
