"""The log of a run: lines for the user and for `log.txt`, and the command that resumes a run."""

from __future__ import annotations

import multiprocessing
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from soundbench import distributed
from soundbench.messages import escaped
from soundbench.recipe import Recipe, local_files
from soundbench.report import run_directory
from soundbench.report.run_directory import RunDirectory
from soundbench.terminal import report

__all__ = ["Log", "Say", "resume_line", "to_stderr"]

Say = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Print a line of progress to standard error, apart from a command's result."""
    report(line)


def resume_line(
    recipe: Recipe, directory: RunDirectory, device: str | None = None, cache: Path | str | bool = True
) -> str:
    """The command that resumes a run, with the options of this call that the run directory does not keep.

    Args:
        recipe: the run's.
        directory: the run directory.
        device: the device that the run was resumed on, if it is not that of its recipe.
        cache: the folder of decoded sound; True for the user's cache, False for a temporary one.
    """
    words = ["soundbench", "run", "--resume", str(directory.path)]
    if distributed.world() > 1 and multiprocessing.parent_process() is not None:  # not torchrun's or srun's processes
        words += ["--processes", str(distributed.world())]
    words += ["--device", device] if device is not None else []
    words += ["--no-cache"] if cache is False else ["--cache", str(cache)] if cache is not True else []
    words += ["--trust-code"] if local_files(recipe) else []
    return shlex.join(words)


class Log:
    """Shows lines to the user and writes them to the run's `log.txt`; until that exists, it keeps them."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self.directory: RunDirectory | None = None
        self.kept: list[str] = []

    def __call__(self, line: str) -> None:
        """Log a line, in the main process only."""
        if not distributed.is_main():
            return
        line = escaped(line)
        self.say(line)
        self.kept.append(line)
        if self.directory is not None:
            for kept in self.kept:
                run_directory.log(self.directory, kept)
            self.kept.clear()

    def made_anew(self, names: Sequence[str]) -> None:
        """Log that files were missing, damaged or changed, and are made anew."""
        if names:
            self(f"made anew, for missing, damaged or changed: {', '.join(names)}")

    def open(self, directory: RunDirectory) -> None:
        """Begin to write to the `log.txt` of a run."""
        self.directory = directory
        self(f"run: {directory.path}")
