"""Recipes of a benchmark, written as sweeps and run several side by side; given again, a sweep goes on.

Each sweep is a process of `soundbench sweep`, which skips what is finished and continues what was stopped, with its
share of the cores. It ends with the script: after Ctrl-C and SIGTERM with a checkpoint of its last step.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from soundbench.machine import cores
from soundbench.studies.cells import cells_of
from soundbench.studies.folder import SweepFolder
from soundbench.studies.processes import Process, Processes
from soundbench.studies.sweep_file import read_sweep

SWEEP = [sys.executable, "-m", "soundbench.cli.cell", "sweep"]  # which ends with the process that started it
STOPPING = 60.0  # seconds for the step that is under way and its checkpoint
ONE_RUN = {"seeds": [1]}  # a sweep of a single run


def write(file: Path, base: Path, changes: Mapping[str, Any]) -> Path:
    """Write a recipe, or with a table `sweep` a sweep file, that changes tables of another; returns its path."""
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(tomli_w.dumps({"extends": str(base.resolve()), **changes}), encoding="utf-8")
    return file


def runs_of(file: Path) -> Path:
    """The folder of the runs of a sweep file."""
    return file.with_suffix("")


def finished(file: Path) -> list[Path]:
    """The run directories of a sweep file's cells, as the recipe is now; none while some are not finished."""
    folder, cells = SweepFolder(runs_of(file)), cells_of(read_sweep(file), lambda recipe: None)
    done = all(folder.state(cell) == "finished" for cell in cells)
    return [folder.run(cell).path for cell in cells] if done else []


def finish(sweeps: Sequence[Path], side_by_side: int) -> list[str]:
    """Train what of these sweeps is not trained yet; as `run`, returns a line about each that has failed."""
    return run(SWEEP, [[str(file), "--out", str(runs_of(file))] for file in sweeps], side_by_side)


def refuse_failed(failed: Sequence[str]) -> None:
    """End the script if anything has failed, with the lines about it."""
    if failed:
        raise SystemExit("\n".join(["failed:", *failed]))


def run(program: Sequence[str], calls: Sequence[Sequence[str]], side_by_side: int) -> list[str]:
    """Run a program with the arguments of each call, some at a time, each with its share of the cores.

    Returns:
        A line about each call that has failed; the others are done all the same.

    Raises:
        SystemExit: this process was ended by SIGTERM.
    """
    threads = {"OMP_NUM_THREADS": str(max(1, cores() // side_by_side))}
    waiting, running, failed = list(calls), dict[str, Process](), list[str]()
    before = signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    with Processes(program, threads) as processes:
        try:
            while waiting or running:
                while waiting and len(running) < side_by_side:
                    call = waiting.pop(0)
                    running[call[0]] = processes.start(call)
                time.sleep(0.1)
                for name, process in [(name, one) for name, one in running.items() if one.code() is not None]:
                    del running[name]
                    failed += [f"{name}: {process.why()}"] * bool(process.code())
                    print(f"{name}: {time.monotonic() - process.began:,.0f} s", file=sys.stderr, flush=True)
        finally:
            for process in running.values():
                process.send(signal.SIGTERM)
            for process in running.values():
                with suppress(subprocess.TimeoutExpired):
                    process.popen.wait(STOPPING)
            signal.signal(signal.SIGTERM, before)
    return failed
