"""Commands of two processes that torchrun starts, one after the other in one group: torch is imported once for all."""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from soundbench import distributed, files
from soundbench.cli.launch import launch
from soundbench.cli.main import invoke

Then = Callable[[Path], Any]


def in_one_group(lines: dict[str, list[Any]], folder: Path, then: Then | None = None) -> dict[str, list[Any]]:
    """How each command ended in both processes: its exit code, output and errors; as `then`, what that one returned.

    Args:
        lines: the commands, each with a name.
        folder: receives files of theirs.
        then: called in both processes after the commands, with the folder.
    """
    launch(_work, (lines, folder, then), 2)
    ends = [files.read_json(folder / f"rank-{rank}.json") for rank in (0, 1)]
    return {name: [end[name] for end in ends] for name in ends[0]}


def _work(lines: dict[str, list[Any]], folder: Path, then: Then | None) -> None:
    leave, distributed.leave = distributed.leave, lambda: None
    found: dict[str, Any] = {}
    try:
        for name, line in lines.items():
            out, errors = io.StringIO(), io.StringIO()
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
                code = invoke([str(argument) for argument in line])
            found[name] = code, out.getvalue(), errors.getvalue()
        if then:
            found["then"] = then(folder)
    finally:
        leave()
    files.write_json(folder / f"rank-{os.environ['RANK']}.json", found)
