"""The log of a run: lines for the user and for `log.txt`, and the command that resumes a run."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence

from soundbench import distributed
from soundbench.recipe import Recipe, local_files
from soundbench.report import run_directory
from soundbench.report.run_directory import RunDirectory

__all__ = ["Log", "Say", "resume_line", "to_stderr"]

Say = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Print a line of progress to standard error, apart from a command's result."""
    print(line, file=sys.stderr, flush=True)


def resume_line(recipe: Recipe, directory: RunDirectory) -> str:
    """The command that resumes a run."""
    trust = " --trust-code" if local_files(recipe) else ""
    return f"soundbench run --resume {shlex.quote(str(directory.path))}{trust}"


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
