"""`soundbench sweep`: run the recipes of a sweep file, and summarize their results."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from soundbench.cli import options, output

if TYPE_CHECKING:
    from soundbench.studies.cells import Cell
    from soundbench.studies.folder import SweepFolder
    from soundbench.studies.sweep import Queue
    from soundbench.studies.sweep_file import Sweep

_PROGRAM = (sys.executable, "-m", "soundbench.cli.cell")


@click.command()
@click.argument("file")
@click.option(
    "--out",
    type=options.PATH,
    metavar="DIR",
    help="Folder of the sweep, new, empty or that of an earlier call, which is continued. Default: sweeps/NAME, after "
    "FILE.",
)
@click.option(
    "--jobs",
    type=click.IntRange(1),
    default=1,
    metavar="N",
    help="Number of runs side by side; they share the cores. Default: 1.",
)
@click.option(
    "--list", "as_list", is_flag=True, help="Print the commands of the runs that are not finished, and run none."
)
@options.device(None)
@options.cache
@options.no_cache
def command(
    file: str,
    out: Path | None,
    jobs: int,
    as_list: bool,
    device: str | None,
    cache: Path | None,
    no_cache: bool,
) -> int:
    """Run every combination of the values in FILE, and compare them.

    FILE is a recipe, or extends one, with a table [sweep] of lists. Runs that are finished are skipped, and those that
    were stopped go on: to continue a sweep, give the same command. The last line printed is the folder of the sweep.
    """
    from soundbench.errors import CallError
    from soundbench.machine import started_by
    from soundbench.report import lock
    from soundbench.studies.folder import SweepFolder
    from soundbench.studies.sweep_file import read_sweep

    if (starter := started_by()) is not None:
        raise CallError(f"a sweep starts processes itself, but {starter} has started this one; leave {starter} out")
    sweep = read_sweep(file)
    folder = SweepFolder.create(out or Path("sweeps") / sweep.path.stem)
    more = ["--device", device] if device is not None else []
    more += ["--no-cache"] if no_cache else ["--cache", str(cache)] if cache else []
    with lock.held(folder.path):
        if sweep.ranges:
            return _search(file, sweep, folder, more, jobs, as_list, device)
        cells = _cells(file, sweep, folder, device, as_list)
        return _list(folder, cells, more) if as_list else _run(folder, cells, more, jobs)


def _cells(file: str, sweep: Sweep, folder: SweepFolder, device: str | None, as_list: bool) -> list[Cell]:
    """The cells: as they were written where all are finished; else resolved anew, in a process that imports plugins."""
    from soundbench.cli.launch import launch
    from soundbench.studies.sweep import standing_of

    cells = folder.known(sweep)
    if cells is None or len(standing_of(folder, cells).of("finished")) < len(cells):
        cells = launch(_resolved, (file, sweep.axes, device, as_list), 1)
        folder.write(sweep, cells)
    return cells


# Keys of `train` with which a recipe can be checked on every machine.
_ANYWHERE = {"device": "auto", "precision": "auto", "compile": "auto", "tf32": False, "cudnn_benchmark": False}


def _resolved(file: str, axes: Mapping[str, Sequence[Any]], device: str | None, as_list: bool) -> list[Cell]:
    """The cells of a sweep over lists, each as certain to begin as a run can be before it reads any sound.

    Those of a list are for other machines: whether this one has their device, and what is of a device, does not matter.
    """
    from soundbench.recipe import Recipe
    from soundbench.studies.cells import cells_of
    from soundbench.studies.sweep_file import read_sweep
    from soundbench.training.run import device_set
    from soundbench.training.stages import prepare

    device_set(device)  # refuses what is none
    own: dict[str, Any] = {} if device is None else {"device": device}
    own |= _ANYWHERE if as_list else {}

    def check(recipe: Recipe) -> None:
        prepare(recipe.with_tables(train=attrs.evolve(recipe.train, **own)))

    return cells_of(attrs.evolve(read_sweep(file), axes=axes, ranges={}), check)


def _list(folder: SweepFolder, cells: Sequence[Cell], more: Sequence[str]) -> int:
    from soundbench.studies.sweep import standing_of

    standing = standing_of(folder, cells)
    for cell in cells:
        if standing.states[cell.name] != "finished" and cell.name not in standing.failures:
            output.result(shlex.join(["soundbench", *folder.arguments(cell, standing.states[cell.name], more)]))
    output.say(standing.summary())
    return _failures(cells, standing.failures)


def _run(folder: SweepFolder, cells: Sequence[Cell], more: Sequence[str], jobs: int) -> int:
    from soundbench.studies.sweep import Listed, standing_of

    return _work(folder, Listed(cells, standing_of(folder, cells)), cells, more, jobs)


def _search(
    file: str,
    sweep: Sweep,
    folder: SweepFolder,
    more: Sequence[str],
    jobs: int,
    as_list: bool,
    device: str | None,
) -> int:
    from soundbench.cli.launch import launch
    from soundbench.errors import CallError
    from soundbench.studies.search import Search

    if as_list:
        raise CallError("--list: a search has no list; the results of its runs decide which values are next")

    def resolve(values: Mapping[str, Any]) -> Cell:
        (cell,) = launch(_resolved, (file, {key: [value] for key, value in values.items()}, device, False), 1)
        return cell

    search = Search(folder, sweep, resolve)
    if not search.cells:
        for end in ("low", "high"):  # a mistake is told before any run begins
            ends = {key: [getattr(one, end)] for key, one in sweep.ranges.items()}
            launch(_resolved, (file, {**sweep.axes, **ends}, device, False), 1)
        folder.write(sweep, [])
    code = _work(folder, search, search.cells, more, jobs)
    output.say(search.best())
    return code


def _work(folder: SweepFolder, queue: Queue, cells: Sequence[Cell], more: Sequence[str], jobs: int) -> int:
    """Run what is not finished, and write and print the summary; the exit code."""
    from soundbench.errors import SoundbenchError
    from soundbench.studies.summary_pages import summarize
    from soundbench.studies.sweep import run_cells

    standing = queue.standing
    output.say(f"{standing.summary()}; in {folder.path}")
    try:
        run_cells(folder, queue, program=_PROGRAM, more=more, jobs=jobs, say=output.say)
    except BaseException:
        output.say(f"stopped, {standing.summary()}; the same command goes on")
        with suppress(SoundbenchError):  # such as a full disk; the reason for the stop is what matters
            summarize(folder, cells, standing)
        raise
    output.result(summarize(folder, cells, standing))
    output.result(folder.path)
    return _failures(cells, standing.failures)


def _failures(cells: Sequence[Cell], failures: dict[str, str]) -> int:
    """Name the cells that failed; the exit code."""
    for cell in cells:
        if cell.name in failures:
            output.say(f"failed: {cell.label}: {failures[cell.name]}")
    return 1 if failures else 0
