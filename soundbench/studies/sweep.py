"""Run the cells of a sweep that are not finished, side by side, and pass over those that fail."""

from __future__ import annotations

import signal
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import attrs

from soundbench import files
from soundbench.errors import RunError
from soundbench.machine import auto_threads, cores
from soundbench.report import lock
from soundbench.report.metrics import metric_of
from soundbench.signals import Stop
from soundbench.studies.cells import Cell
from soundbench.studies.folder import State, SweepFolder
from soundbench.studies.processes import Process, Processes
from soundbench.terminal import clock

__all__ = ["Listed", "Queue", "Standing", "run_cells", "standing_of"]

_POLL = 0.1  # seconds between two looks at the processes
_STOPPING = 15.0  # seconds in which a process whose sweep has gone ends, see `cli/cell.py`

Say = Callable[[str], None]


@attrs.define
class Standing:
    """Where the cells of a sweep stand.

    Attributes:
        states: of each cell, by its name.
        failures: why a cell failed, by its name.
        early: the names of those that a search has stopped early.
    """

    states: dict[str, State]
    failures: dict[str, str] = attrs.field(factory=dict)
    early: set[str] = attrs.field(factory=set)

    def of(self, state: State) -> list[str]:
        """The names of the cells in a state that have not failed, nor were stopped early."""
        others = self.failures.keys() | self.early
        return [name for name, own in self.states.items() if own == state and name not in others]

    def summary(self) -> str:
        """The counts in one line."""
        parts = [f"{len(self.of(state))} {state}" for state in ("finished", "stopped", "new") if self.of(state)]
        parts += [f"{len(self.early)} stopped early"] * bool(self.early)
        parts += [f"{len(self.failures)} failed"] * bool(self.failures)
        return f"{len(self.states)} cells: {', '.join(parts)}"


def standing_of(folder: SweepFolder, cells: Sequence[Cell]) -> Standing:
    """Look at the run directory of each cell; one that holds another run counts as failed."""
    found = Standing({cell.name: "new" for cell in cells})
    for cell in cells:
        try:
            found.states[cell.name] = folder.state(cell)
        except RunError as error:
            found.failures[cell.name] = str(error)
    return found


class Queue(Protocol):
    """Which cells are run, and in which order."""

    standing: Standing

    def title(self, cell: Cell) -> str:
        """The number of a cell, for messages."""

    def take(self) -> Cell | None:
        """The next cell to run or to go on with; None if there is none for now."""

    def look(self, cell: Cell) -> bool:
        """Look at a cell that runs; returns whether to stop it early."""

    def ended(self, cell: Cell) -> None:
        """Note that a cell has ended, in whichever way; `standing` has how."""


class Listed:
    """The cells of lists of values, in order: those that are not finished.

    Args:
        cells: all cells of the sweep.
        standing: where they stand.
    """

    def __init__(self, cells: Sequence[Cell], standing: Standing) -> None:
        self.standing = standing
        self._titles = {cell.name: f"cell {place} of {len(cells)}" for place, cell in enumerate(cells, start=1)}
        left = {*standing.of("new"), *standing.of("stopped")}
        self._waiting = deque(cell for cell in cells if cell.name in left)

    def title(self, cell: Cell) -> str:
        """See `Queue`."""
        return self._titles[cell.name]

    def take(self) -> Cell | None:
        """See `Queue`."""
        return self._waiting.popleft() if self._waiting else None

    def look(self, cell: Cell) -> bool:
        """See `Queue`: no cell is stopped early."""
        return False

    def ended(self, cell: Cell) -> None:
        """See `Queue`."""


def run_cells(
    folder: SweepFolder, queue: Queue, *, program: Sequence[str], more: Sequence[str], jobs: int, say: Say
) -> None:
    """Run or go on with each cell of a queue, whose `standing` is kept up to date.

    Args:
        folder: the folder of the sweep, which this process holds.
        queue: the cells.
        program: the command that takes the arguments of `soundbench` and ends with this process.
        more: further options of each run.
        jobs: how many run side by side; they share the cores.
        say: receives each line of progress.

    Raises:
        KeyboardInterrupt: stopped by Ctrl-C, once the cells have written a checkpoint.
        SystemExit: stopped by SIGTERM, likewise.
    """
    standing, running = queue.standing, dict[str, tuple[Cell, Process]]()
    stop, passed_on = Stop(), False
    with stop.handling(), Processes(program, _threads(jobs)) as processes, stop.deferred():
        while True:
            if stop.signal and not passed_on:
                passed_on = True
                for _, process in running.values():
                    process.send(stop.signal)
            while not stop.signal and len(running) < jobs and (cell := queue.take()) is not None:
                say(f"{queue.title(cell)}: {cell.label}; in {folder.run(cell).path}")
                _wait_for_the_one_before(folder.run(cell).path)
                arguments = folder.arguments(cell, standing.states[cell.name], more)
                running[cell.name] = cell, processes.start(arguments)
            if not running:
                break
            for name, (cell, process) in list(running.items()):
                if process.code() is not None:
                    del running[name]
                    said = _ended(folder, cell, process, standing, passed_on)
                    queue.ended(cell)
                    say(f"{queue.title(cell)}: {said}")
                elif name not in standing.early and queue.look(cell):
                    standing.early.add(name)
                    process.send(signal.SIGTERM)
            time.sleep(_POLL)


def _wait_for_the_one_before(run: Path) -> None:
    """Wait until a process of a killed sweep has stopped its run; of any other that works there, the run says which."""
    deadline = time.monotonic() + _STOPPING
    while run.exists() and time.monotonic() < deadline:
        try:
            with lock.held(run):
                return
        except RunError:
            time.sleep(_POLL)


def _threads(jobs: int) -> Mapping[str, str]:
    """The cores shared out; a run that goes on keeps the threads that it began with."""
    return {"OMP_NUM_THREADS": str(min(auto_threads(), max(1, cores() // jobs)))} if jobs > 1 else {}


def _ended(folder: SweepFolder, cell: Cell, process: Process, standing: Standing, stopping: bool) -> str:
    """Note how a cell ended; the line about it."""
    try:
        standing.states[cell.name] = folder.state(cell)
        if standing.states[cell.name] == "finished" and not process.popen.returncode:
            standing.early.discard(cell.name)
            return f"{_result(folder, cell)}, {clock(time.monotonic() - process.began)}"
        if stopping or cell.name in standing.early:
            return "stopped early" if cell.name in standing.early else "stopped"
        reason = process.why()
    except RunError as error:
        reason = str(error)
    standing.failures[cell.name] = reason
    return f"failed: {reason}"


def _result(folder: SweepFolder, cell: Cell) -> str:
    """The first metric of a finished cell."""
    metrics = files.read_json(folder.run(cell).report_json, "metrics")["metrics"]
    name, figure = next(iter(metrics.items()))
    return f"{metric_of(name).title} {figure['value']:.1%}"
