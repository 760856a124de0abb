"""What the processes of `cli/test_launch.py` do; without torch, so that they begin at once."""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from types import ModuleType

from soundbench.cli import launch as launching
from soundbench.cli.launch import launch
from soundbench.errors import LostProcess, RunError, SoundError


def rank() -> int:
    return int(os.environ["RANK"])


def environment() -> dict[str, str]:
    names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR")
    return {name: os.environ[name] for name in names}


def sizes(folder: Path) -> int:
    (folder / str(rank())).touch()
    return len(os.environ["WORLD_SIZE"]) + 40


def all_refuse() -> None:
    raise SoundError("a.wav", "is empty")


class Stubborn(Exception):
    """Cannot be taken to another process."""

    def __init__(self, one: str, other: str) -> None:
        super().__init__(f"{one} and {other}")


def one_raises(what: str) -> None:
    """The second fails at its work; the first, which waits for it, notices, and has a word on how to go on."""
    if rank() == 1:
        raise {"known": RunError, "stubborn": Stubborn, "elsewhere": _elsewhere}[what](*MESSAGES[what])
    _notice()


MESSAGES = {
    "known": ("the loss is no longer finite",),
    "stubborn": ("this", "that"),
    "elsewhere": ("rows differ",),
}


def _elsewhere(message: str) -> Exception:
    """An error of a file that a recipe names: whoever has started the processes has not imported it."""
    module = ModuleType("soundbench_file_mine")
    sys.modules[module.__name__] = module
    exec("class Odd(Exception): pass", vars(module))
    error: Exception = module.Odd(message)
    return error


def _notice() -> None:
    time.sleep(0.3)
    lost = LostProcess("lost the connection to another process")
    lost.add_note("stopped; to resume: soundbench run --resume runs/a")
    raise lost


def one_dies(which: int, how: str) -> None:
    if rank() == which:
        if how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        os._exit(7)
    _notice()


def one_dies_and_the_other_hangs(folder: Path) -> None:
    (folder / f"{rank()}.pid").write_text(str(os.getpid()))
    if rank() == 1:
        while not (folder / "0.pid").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)


def works_until_told(folder: Path, deaf: bool) -> None:
    """Ends at a signal, having written which; `deaf` hears the second one alone."""
    heard: list[int] = []

    def hear(number: int, _frame: object) -> None:
        heard.append(number)
        (folder / f"{rank()}.heard").write_text(" ".join(map(str, heard)))
        if deaf and len(heard) == 1:
            return
        if number == signal.SIGTERM:
            sys.exit(143)
        raise KeyboardInterrupt

    signal.signal(signal.SIGINT, hear)
    signal.signal(signal.SIGTERM, hear)
    (folder / f"{rank()}.pid").write_text(str(os.getpid()))
    while True:
        time.sleep(0.05)


def hangs(folder: Path) -> None:
    """Hears nothing."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    (folder / f"{rank()}.pid").write_text(str(os.getpid()))
    time.sleep(600)


def is_done_when_told(folder: Path) -> None:
    """Returns at a signal, as if it had been about to."""
    heard: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    (folder / f"{rank()}.pid").write_text(str(os.getpid()))
    while not heard:
        time.sleep(0.05)


if __name__ == "__main__":
    if sys.argv[2] == "done":
        launch(is_done_when_told, (Path(sys.argv[1]),), 2)
        sys.exit(0)
    if sys.argv[2] == "hung":
        launching._GRACE = 0.5
        launch(hangs, (Path(sys.argv[1]),), 2)
    launch(works_until_told, (Path(sys.argv[1]), sys.argv[2] == "deaf"), 2)
