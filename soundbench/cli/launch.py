"""`--processes N`: a piece of work done by several processes of this machine, watched by the one that started them.

Each finds in its environment what `torchrun` would have put there. What ends any of them ends all, and is raised once,
here: processes that only noticed that another was gone are not the cause. A process whose starter is gone ends, too.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from typing import Any, NoReturn, TypeVar

import attrs

from soundbench.errors import CallError, LostProcess, RunError
from soundbench.machine import started_by

__all__ = ["launch"]

T = TypeVar("T")

# Seconds in which the others come to their own end once one has failed, or once a second signal has told them to.
_GRACE = 10.0
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


@attrs.define(eq=False)
class _Process:
    """One of the processes, and what it has said of its end."""

    process: SpawnProcess
    pipe: Connection
    said: bool = False
    result: Any = None
    error: BaseException | None = None

    def listen(self) -> bool:
        """Whether it has ended; what it has to say of that is taken down."""
        dead = not self.process.is_alive()  # before: what it said is then in the pipe
        with contextlib.suppress(EOFError, OSError):
            if not self.said and self.pipe.poll():
                self.result, self.error, text = pickle.loads(self.pipe.recv_bytes())
                self.said = True
                if self.error is not None:
                    self.error.__cause__ = _Elsewhere(text)
        return dead

    @property
    def failed(self) -> bool:
        return self.error is not None or not (self.said or self.process.is_alive())


class _Elsewhere(Exception):
    """The traceback of another process, for `--debug`."""

    def __init__(self, text: str) -> None:
        super().__init__(f"\n{text}")


def launch(work: Callable[..., T], arguments: Sequence[Any], count: int) -> T:
    """Do a piece of work in `count` processes; the first one's result.

    Args:
        work: a function of a module.
        arguments: its own; they can be pickled.
        count: how many processes.

    Raises:
        CallError: this process is one of several already, or the system is not made for it.
        RunError: a process died.
        BaseException: what ended a process first, and therefore all of them.
    """
    if (starter := started_by()) is not None:
        raise CallError(f"--processes starts processes of its own, but {starter} has started this one; leave one out")
    if not hasattr(signal, "pthread_sigmask"):
        raise CallError("--processes is for Linux and macOS; leave it out, and one process does the work")
    with _started(work, arguments, count) as processes:
        failed = _watch(processes)
    if not failed:
        result: T = processes[0].result
        return result
    if not processes[0].said:  # the first tells the user how to go on; where it is dead, another has a note of it
        for note in dict.fromkeys(note for one in failed for note in getattr(one.error, "__notes__", ())):
            print(note, file=sys.stderr)
    raise _cause(failed, processes)


def _cause(failed: Sequence[_Process], processes: Sequence[_Process]) -> BaseException:
    """What ended the processes: the first that did not only notice that another was gone."""
    one = next((one for one in failed if not isinstance(one.error, LostProcess)), failed[0])
    if one.error is not None:
        return one.error
    place = f"process {processes.index(one) + 1} of {len(processes)}"
    return RunError(f"{place} {_death(one.process.exitcode or 0)}")


def _death(code: int) -> str:
    if code == -signal.SIGKILL:
        return "was killed (SIGKILL), as a system does that runs out of memory"
    return f"died of {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}, without a word"


@contextlib.contextmanager
def _started(work: Callable[..., Any], arguments: Sequence[Any], count: int) -> Iterator[list[_Process]]:
    """Processes at work; none is left at the end."""
    spawn = multiprocessing.get_context("spawn")
    both = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    both["MASTER_PORT"] = str(_free_port())
    processes: list[_Process] = []
    try:
        # Signals wait until a process can take them: one that came while it begins would end in a traceback.
        with _blocked():
            for rank in range(count):
                receiving, sending = spawn.Pipe(duplex=False)
                own = {**both, "RANK": str(rank), "LOCAL_RANK": str(rank)}
                process = spawn.Process(target=_work, args=(work, arguments, own, sending), name=f"rank {rank}")
                process.start()
                sending.close()
                processes.append(_Process(process, receiving))
        yield processes
    finally:
        for one in processes:
            _send(one.process, signal.SIGKILL)
            one.process.join()
            one.pipe.close()


def _watch(processes: Sequence[_Process]) -> list[_Process]:
    """Wait for all to end; which of them failed, the first to do so first.

    Signals are passed on. What fails, or a second signal, gives the others little time.
    """
    failed: list[_Process] = []
    living, deadline = list(processes), float("inf")
    with _passing_on(processes) as heard:
        while living:
            # By the clock, too: what a dead process has started may still hold its sentinel.
            ends = [one.process.sentinel for one in living]
            wait([*ends, *(one.pipe for one in living if not one.said)], timeout=0.2)
            living = [one for one in living if not one.listen()]
            failed += [one for one in processes if one.failed and one not in failed]
            if deadline == float("inf") and (failed or len(heard) > 1):
                deadline = time.monotonic() + _GRACE
            if time.monotonic() >= deadline:
                break
    if heard and not failed and living:  # they hang, and will say nothing of their end
        raise KeyboardInterrupt if heard[-1] == signal.SIGINT else SystemExit(128 + heard[-1])
    return failed


@contextlib.contextmanager
def _passing_on(processes: Sequence[_Process]) -> Iterator[list[int]]:
    """While Ctrl-C and SIGTERM go to the processes, which are out of the terminal's reach; what was heard so far."""
    heard: list[int] = []

    def pass_on(number: int, _frame: Any) -> None:
        heard.append(number)
        for one in processes:
            _send(one.process, number)

    if threading.current_thread() is not threading.main_thread():
        yield heard
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, pass_on)
    try:
        yield heard
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _send(process: SpawnProcess, number: int) -> None:
    """Send a process a signal; its end comes to those that load for it, too."""
    if process.pid is None or process.exitcode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        if number != signal.SIGKILL:
            os.kill(process.pid, number)
            return
        try:
            os.killpg(process.pid, number)
        except ProcessLookupError:  # it has not come as far as to have a group of its own
            os.kill(process.pid, number)


@contextlib.contextmanager
def _blocked() -> Iterator[None]:
    """While signals wait."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


# -- in each process -----------------------------------------------------------------------------------------------


def _work(work: Callable[..., Any], arguments: Sequence[Any], environment: Mapping[str, str], pipe: Connection) -> None:
    """Work, and tell the starter how it ended."""
    os.setsid()  # the starter passes on what comes from the terminal: all get a signal once
    os.environ.update(environment)
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    end: tuple[Any, BaseException | None, str]
    try:
        signal.signal(signal.SIGTERM, _terminated)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        end = work(*arguments), None, ""
    except BaseException as error:
        end = None, error, traceback.format_exc()
    with contextlib.suppress(BrokenPipeError):  # the starter is gone
        pipe.send_bytes(_pickled(*end))


def _pickled(result: Any, error: BaseException | None, text: str) -> bytes:
    """How a process ended, in bytes that its starter can read, which has not imported what a recipe names."""
    if error is None or type(error).__module__ in ("builtins", RunError.__module__):
        with contextlib.suppress(Exception):
            data = pickle.dumps((result, error, text))
            pickle.loads(data)
            return data
    told = RunError(f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows the traceback)")
    for note in getattr(error, "__notes__", ()):
        told.add_note(note)
    return pickle.dumps((None, told, text))


def _terminated(number: int, _frame: Any) -> NoReturn:
    raise SystemExit(128 + number)


def _end_with_the_starter() -> None:
    """Stop as by SIGTERM when the process that started this one is gone."""
    starter = multiprocessing.parent_process()
    assert starter is not None
    wait([starter.sentinel])
    os.kill(os.getpid(), signal.SIGTERM)
