"""Speed on cores that other programs use as well: ways of using threads, on quiet and on busy cores, and under quotas.

    python benchmarks/contention.py [--only NAME ...] [--seconds 4] [--rounds 3] [--write]

Each network with its featurizer, pooling and head scores windows of three seconds, in batches of 20 (`infer`'s), and is
trained on batches of 16 in the precision that `auto` chooses. The ways alternate, each in a process of its own:

- one: one thread;
- eager: as many threads as cores inside each operation, which wait awake, as PyTorch does by itself (before);
- passive: the same, but a thread that waits sleeps at once (`OMP_WAIT_POLICY=passive`);
- short: the same, but it sleeps after 10,000 turns, as soundbench's commands set it;
- rows: scoring alone: each thread scores rows of its own (`soundbench/model/rows.py`).

The neighbours are endless loops in sessions of their own: Linux shares the cores among sessions first, so that their
priority counts for little. Quotas are set in a control group, where the user may make one (version 1, as root).
`--write` saves the table in `benchmarks/results/contention.md`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from turns import Runner, in_turns, line, machine_info

from soundbench.machine import cores, settle

RESULT = Path(__file__).parent / "results" / "contention.md"
GROUP = Path("/sys/fs/cgroup/cpu/soundbench-contention")
WAYS = {
    "one": (1, {}),
    "eager": (0, {}),
    "passive": (0, {"OMP_WAIT_POLICY": "passive"}),
    "short": (0, {"GOMP_SPINCOUNT": "10000"}),
    "rows": (0, {"GOMP_SPINCOUNT": "10000"}),
}
# The number of neighbours, their priority, and the quota in cores.
PLACES = {
    "quiet": (0, 0, None),
    "one neighbour, equal priority": (1, 0, None),
    "one neighbour, lowest priority": (1, 19, None),
    "two neighbours, equal priority": (2, 0, None),
    "two neighbours, lowest priority": (2, 19, None),
    "a quota of one core": (0, 0, 1.0),
    "a quota of half a core": (0, 0, 0.5),
}


class Worker:
    """In a process of its own: a network that scores or is trained for some seconds at a time."""

    def __init__(self, name: str, threads: int, rows: bool) -> None:
        from soundbench import Recipe
        from soundbench.cli import memory
        from soundbench.model import assembly

        memory.keep()
        torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
        recipe = Recipe(dataset="tones", backbone=name)
        self.network, self.rows = assembly.assemble(recipe).network, rows
        self.optimizer = torch.optim.Adam(self.network.parameters(), 1e-4)
        self.low = settle("cpu").precision == "bf16"

    def score(self) -> int:
        from soundbench.model.rows import by_rows

        data, lengths = torch.randn(20, 48_000), torch.full((20,), 48_000)
        self.network.eval()
        if self.rows:
            by_rows(self.network, data, lengths)
        else:
            with torch.inference_mode():
                self.network(data, lengths)
        return len(data)

    def train(self) -> int:
        data, lengths = torch.randn(16, 48_000), torch.full((16,), 48_000)
        self.network.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=self.low):
            logits = self.network(data, lengths)
        torch.nn.functional.cross_entropy(logits.float(), torch.zeros(len(data), dtype=torch.long)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return len(data)

    def serve(self) -> None:
        """Answer each line of standard input, the work and its seconds, with windows/s and processor time a window."""
        for asked in sys.stdin:
            work, seconds = asked.split()
            count, began, used = 0, time.perf_counter(), time.process_time()
            while time.perf_counter() - began < float(seconds):
                count += getattr(self, work)()
            taken, used = time.perf_counter() - began, time.process_time() - used
            print(json.dumps([count / taken, used / count]), flush=True)


@contextmanager
def worker(name: str, way: str, group: Path | None) -> Iterator[Runner]:
    threads, waiting = WAYS[way]
    command = [sys.executable, __file__, "--work", name, str(threads), str(int(way == "rows"))]
    clean = {key: value for key, value in os.environ.items() if key not in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")}
    join = (lambda: (group / "tasks").write_text(str(os.getpid()))) if group else None
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clean | waiting, preexec_fn=join
    ) as process:
        yield Runner(process, None)
        process.stdin.close()


@contextmanager
def neighbours(count: int, priority: int) -> Iterator[None]:
    """Processes that compute without end, each in a session of its own."""
    loop = f"import os; os.nice({priority})\nwhile True: pass"
    running = [subprocess.Popen([sys.executable, "-c", loop], start_new_session=True) for _ in range(count)]
    try:
        yield
    finally:
        for process in running:
            process.kill()
            process.wait()


@contextmanager
def quota(number: float | None) -> Iterator[Path | None]:
    """A control group that gets so many cores; None for no limit."""
    if number is None:
        yield None
        return
    GROUP.mkdir(exist_ok=True)
    (GROUP / "cpu.cfs_quota_us").write_text(str(int(number * 100_000)))
    try:
        yield GROUP
    finally:
        GROUP.rmdir()


def measure(name: str, place: str, work: str, options: argparse.Namespace) -> str:
    """A row of the table: medians of windows/s, and of processor time a window in ms."""
    count, priority, number = PLACES[place]
    ways = [way for way in WAYS if work == "score" or way != "rows"]
    with ExitStack() as stack:
        group = stack.enter_context(quota(number))
        runners = [stack.enter_context(worker(name, way, group)) for way in ways]
        for each in runners:
            each.ask(work, 0.2)
        stack.enter_context(neighbours(count, priority))
        found: list[list[list[float]]] = [[] for _ in ways]
        for turn in in_turns(options.rounds, len(ways)):
            found[turn].append(runners[turn].ask(work, options.seconds))
    cells = [[statistics.median(values) for values in zip(*each, strict=True)] for each in found]
    shown = [f"{rate:.1f} ({1000 * used:.0f})" for rate, used in cells]
    return line([name, work, place, *shown, *([] if work == "score" else ["-"])])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", default=["campplus"])
    parser.add_argument("--places", nargs="+", default=list(PLACES), choices=list(PLACES))
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--work", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        name, threads, rows = options.work
        Worker(name, int(threads), rows == "1").serve()
        return
    head = (
        f"`python benchmarks/contention.py --rounds {options.rounds} --seconds {options.seconds:g}`: {cores()} cores, "
        f"{machine_info().partition(', ')[2]}. Windows/s, in brackets processor time a window in ms."
    )
    lines = [head, "", line(["network", "work", "place", *WAYS]), line(["---"] * (3 + len(WAYS)))]
    print("\n".join(lines), flush=True)
    for name in options.only:
        for work in ("score", "train"):
            for place in options.places:
                lines.append(measure(name, place, work, options))
                print(lines[-1], flush=True)
    if options.write:
        RESULT.write_text("\n".join(["# Cores that other programs use as well", "", *lines, ""]), encoding="utf-8")


if __name__ == "__main__":
    main()
