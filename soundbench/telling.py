"""What is told of a run: aloud, in its log, and how to go on with it."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable

from soundbench import distributed, rundir
from soundbench.recipe import Recipe, local_files
from soundbench.rundir import RunDirectory

__all__ = ["Log", "Say", "resume_line", "to_stderr"]

Say = Callable[[str], None]


def to_stderr(line: str) -> None:
    """Tell the user of the work, apart from its result."""
    print(line, file=sys.stderr, flush=True)


def resume_line(recipe: Recipe, directory: RunDirectory) -> str:
    """The command that goes on with a run."""
    trust = " --trust-code" if local_files(recipe) else ""
    return f"soundbench run --resume {shlex.quote(str(directory.path))}{trust}"


class Log:
    """Tells the user and, as soon as there is one, the run's log; what was said before that is kept for it."""

    def __init__(self, aloud: Say) -> None:
        self.aloud = aloud
        self.directory: RunDirectory | None = None
        self.kept: list[str] = []

    def __call__(self, line: str) -> None:
        """Tell a line; only the main process does."""
        if not distributed.is_main():
            return
        self.aloud(line)
        self.kept.append(line)
        if self.directory is not None:
            for kept in self.kept:
                rundir.log(self.directory, kept)
            self.kept.clear()
