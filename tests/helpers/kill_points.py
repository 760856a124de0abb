"""Runs that are killed before each of their file operations in turn, and resumed.

    python -m helpers.kill_points ORDERS

ORDERS is a JSON file; the answers are one JSON object a line. Everything is imported once, and each run is a fork: the
parent never computes, so that a child has what a process of its own would have.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

NAMED = {"os.rename": 1, "os.remove": 0, "os.rmdir": 0, "os.mkdir": 0, "os.link": 1, "os.truncate": 0, "os.symlink": 1}
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Operations:
    """Counts the operations that change something in a folder, and dies at one of them.

    A write dies half done: the operation after `os.write` is that half of its bytes are written.
    """

    def __init__(self, folder: Path, last: int, note: Path) -> None:
        self.folder, self.last, self.note = f"{folder}/", last, note
        self.count = 0

    def begin(self) -> None:
        write, fsync, ftruncate = os.write, os.fsync, os.ftruncate

        def writes(handle: int, data: Any) -> int:
            if self._inside(os.readlink(f"/proc/self/fd/{handle}")):
                self._one("write", lambda: write(handle, data[: len(data) // 2]))
            return write(handle, data)

        def syncs(handle: int) -> None:
            if self._inside(os.readlink(f"/proc/self/fd/{handle}")):
                self._one("fsync")
            fsync(handle)

        def truncates(handle: int, length: int) -> None:
            if self._inside(os.readlink(f"/proc/self/fd/{handle}")):
                self._one("truncate")
            ftruncate(handle, length)

        os.write, os.fsync, os.ftruncate = writes, syncs, truncates  # type: ignore[assignment]
        sys.addaudithook(self._audit)

    def _audit(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = arguments
            writing = any(sign in mode for sign in "wax+") if isinstance(mode, str) else bool((flags or 0) & WRITING)
            if writing and self._inside(path):
                self._one("open")
        elif event in NAMED and self._inside(arguments[NAMED[event]]):
            self._one(event)

    def _inside(self, path: Any) -> bool:
        return isinstance(path, str | os.PathLike) and f"{Path(path).absolute()}/".startswith(self.folder)

    def _one(self, what: str, before: Callable[[], Any] = lambda: None) -> None:
        self.count += 1
        if self.count == self.last:
            before()
            os.kill(os.getpid(), signal.SIGKILL)
        if not self.last:
            handle = os.open(self.note, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.writev(handle, [f"{what}\n".encode()])
            os.close(handle)


def start(recipe: str, sets: list[str], folder: Path, folds: bool) -> None:
    """The command that a user gives until it is done: run, or resume where there is something to resume."""
    import soundbench
    from soundbench.report.run_directory import RunDirectory
    from soundbench.training.folds import resume_folds

    if not (folder / "recipe.toml").exists():  # as a user would find it
        read = soundbench.read_recipe(recipe, sets)
        (soundbench.run_folds if folds else soundbench.run)(read, out=folder, say=print)
    elif RunDirectory(folder).has_folds:
        resume_folds(folder, trust_code=True, say=print)
    else:
        soundbench.resume(folder, trust_code=True, say=print)


def forked(work: Callable[[], None], log: Path) -> int:
    """The exit code of a fork that does the work; negative for a signal."""
    child = os.fork()
    if not child:
        try:
            handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(handle, 1)
            os.dup2(handle, 2)
            work()
            sys.stdout.flush()
            os._exit(0)
        except BaseException:
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _place(kill: float, orders: list[dict[str, Any]]) -> int:
    """The number of an operation; a share counts those of the first order, which was only counted."""
    if isinstance(kill, int):
        return kill
    return round(kill * len(Path(orders[0]["folder"] + ".operations").read_text().split()))


def main() -> None:
    import matplotlib.pyplot  # noqa: F401 (imported once for all)
    import torch
    import torch._dynamo  # what every optimizer imports

    import soundbench.training.folds  # noqa: F401

    torch.set_num_threads(1)
    orders = json.loads(Path(sys.argv[1]).read_text())
    for order in orders:
        folder, log = Path(order["folder"]), Path(order["folder"] + ".log")
        note = Path(order["folder"] + ".operations")
        codes = []
        for last in [*(_place(kill, orders) for kill in order["kills"]), None]:

            def work(folder: Path = folder, last: int | None = last, order: dict = order, note: Path = note) -> None:
                if last is not None:
                    Operations(folder, last, note).begin()
                start(order["recipe"], order["sets"], folder, order.get("folds", False))

            codes.append(forked(work, log))
        print(json.dumps({"folder": str(folder), "codes": codes}), flush=True)


if __name__ == "__main__":
    main()
