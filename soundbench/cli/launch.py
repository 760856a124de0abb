"""`--processes N`: work done by several processes of this machine, watched by the process that started them.

Each gets the environment variables that `torchrun` would set. If one fails, all end, and its error is raised once,
here; errors of processes that only noticed that another had gone are not the cause. A process whose starter has gone
ends too.
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

from soundbench import signals
from soundbench.cli import output
from soundbench.errors import CallError, LostProcess, RunError
from soundbench.machine import started_by
from soundbench.messages import escaped

__all__ = ["launch"]

T = TypeVar("T")

# Seconds that the others have to end on their own after one has failed, or after a second signal.
_GRACE = 10.0
_SIGNALS = {signal.SIGINT, signal.SIGTERM}


@attrs.define(eq=False)
class _Process:
    """One of the processes, and its report of how it ended."""

    process: SpawnProcess
    pipe: Any  # a `Connection`; on Windows a `PipeConnection`
    reported: bool = False
    result: Any = None
    error: BaseException | None = None

    def poll(self) -> bool:
        """Receive its report, if there is one; returns whether the process has ended."""
        dead = not self.process.is_alive()  # checked first: its report is then in the pipe
        with contextlib.suppress(EOFError, OSError):
            if not self.reported and self.pipe.poll():
                self.result, self.error, text = pickle.loads(self.pipe.recv_bytes())
                self.reported = True
                if self.error is not None:
                    self.error.__cause__ = _Elsewhere(text)
        return dead

    @property
    def failed(self) -> bool:
        return self.error is not None or not (self.reported or self.process.is_alive())


class _Elsewhere(Exception):
    """The traceback of another process, for `--debug`."""

    def __init__(self, text: str) -> None:
        super().__init__(f"\n{text}")


def launch(work: Callable[..., T], arguments: Sequence[Any], count: int) -> T:
    """Do work in `count` processes; returns the result of the first.

    Args:
        work: a function of a module.
        arguments: its arguments, which can be pickled.
        count: number of processes.

    Raises:
        CallError: this process is one of several already, or the system supports only one.
        RunError: a process died.
        BaseException: the error that ended a process first, and therefore all of them.
    """
    if (starter := started_by()) is not None:
        raise CallError(
            f"--processes starts processes itself, but {starter} has already started this process; use only one of them"
        )
    if count > 1 and not signals.POSIX:
        raise CallError("--processes needs Linux or macOS; leave it out to use one process")
    with _started(work, arguments, count) as processes:
        failed = _watch(processes)
    if not failed:
        result: T = processes[0].result
        return result
    if not processes[0].reported:  # it tells the user how to continue; if it died, another has a note of it
        for note in dict.fromkeys(note for one in failed for note in getattr(one.error, "__notes__", ())):
            print(escaped(note), file=sys.stderr)
    raise _cause(failed, processes)


def _cause(failed: Sequence[_Process], processes: Sequence[_Process]) -> BaseException:
    """The error that ended the processes: the first that is not only about another process."""
    one = next((one for one in failed if not isinstance(one.error, LostProcess)), failed[0])
    if one.error is not None:
        return one.error
    place = f"process {processes.index(one) + 1} of {len(processes)}"
    return RunError(f"{place} {signals.death(one.process.exitcode or 0)}")


@contextlib.contextmanager
def _started(work: Callable[..., Any], arguments: Sequence[Any], count: int) -> Iterator[list[_Process]]:
    """Start the processes; none is left running afterwards."""
    spawn = multiprocessing.get_context("spawn")
    both = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1"}
    both["MASTER_PORT"] = str(_free_port())
    processes: list[_Process] = []
    try:
        # Signals wait until a process can handle them: one that arrived during its start would show a traceback.
        with signals.held_back():
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
            if one.process.pid is not None and one.process.exitcode is None:
                signals.kill(one.process.pid)  # with the processes that load data for it
            one.process.join()
            one.pipe.close()


def _watch(processes: Sequence[_Process]) -> list[_Process]:
    """Wait for all to end; returns those that failed, in the order of their failures.

    Signals are passed on. After a failure, or a second signal, the others have little time to end.
    """
    failed: list[_Process] = []
    living, deadline = list(processes), float("inf")
    with _passing_on(processes) as received:
        while living:
            # With a timeout: a child of a dead process may still hold its sentinel.
            ends = [one.process.sentinel for one in living]
            wait([*ends, *(one.pipe for one in living if not one.reported)], timeout=0.2)
            living = [one for one in living if not one.poll()]
            failed += [one for one in processes if one.failed and one not in failed]
            if deadline == float("inf") and (failed or len(received) > 1):
                deadline = time.monotonic() + _GRACE
            if time.monotonic() >= deadline:
                break
    if received and not failed:  # they hang, or were done already: a caller that has more to do stops here
        raise KeyboardInterrupt if received[-1] == signal.SIGINT else SystemExit(128 + received[-1])
    return failed


@contextlib.contextmanager
def _passing_on(processes: Sequence[_Process]) -> Iterator[list[int]]:
    """Pass Ctrl-C and SIGTERM on to the processes, which the terminal does not reach; gives the signals so far."""
    received: list[int] = []

    def pass_on(number: int, _frame: Any) -> None:
        received.append(number)
        for one in processes:
            if one.process.pid is not None and one.process.exitcode is None:
                signals.send(one.process.pid, number)

    if threading.current_thread() is not threading.main_thread():
        yield received
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}
    for number in before:
        signal.signal(number, pass_on)
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


# -- in each process -----------------------------------------------------------------------------------------------


def _work(work: Callable[..., Any], arguments: Sequence[Any], environment: Mapping[str, str], pipe: Connection) -> None:
    """Do the work, and report to the starter how it ended."""
    signals.lead_a_session()  # the starter passes on signals from the terminal, so each process gets one once
    os.environ.update(environment)
    threading.Thread(target=_end_with_the_starter, daemon=True).start()
    end: tuple[Any, BaseException | None, str]
    try:
        signal.signal(signal.SIGTERM, _terminated)
        signals.let_through()
        output.prepare()
        end = work(*arguments), None, ""
    except BaseException as error:
        end = None, error, traceback.format_exc()
    with contextlib.suppress(BrokenPipeError):  # the starter has gone
        pipe.send_bytes(_pickled(*end))


def _pickled(result: Any, error: BaseException | None, text: str) -> bytes:
    """How a process ended, in bytes that the starter can read without the modules that a recipe names."""
    if error is None or type(error).__module__ in ("builtins", RunError.__module__):
        with contextlib.suppress(Exception):
            data = pickle.dumps((result, error, text))
            pickle.loads(data)
            return data
    plain = RunError(f"{type(error).__name__}: {' '.join(str(error).split())} (--debug shows the traceback)")
    for note in getattr(error, "__notes__", ()):
        plain.add_note(note)
    return pickle.dumps((None, plain, text))


def _terminated(number: int, _frame: Any) -> NoReturn:
    raise SystemExit(128 + number)


def _end_with_the_starter() -> None:
    """Stop as by SIGTERM when the process that started this one has gone."""
    starter = multiprocessing.parent_process()
    assert starter is not None
    wait([starter.sentinel])
    signals.stop_this_process()
