"""Runs as processes of their own, side by side, which end when the process that started them has gone.

Their standard input is a pipe that only the starter holds open: its end, in whichever way, is the end of the file, and
`cli/cell.py` watches for that. Each is the leader of a session, so that signals from a terminal reach it only once.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import IO

import attrs

from soundbench import signals
from soundbench.messages import printable

__all__ = ["Process", "Processes"]

_LINES = 50  # of a process's messages that are kept
_CLOSING = 2.0  # seconds to read the rest of them
_NOTE = "stopped; to resume:"  # what a run says before the message of its error


@attrs.define(eq=False)
class Process:
    """A process, and the last lines that it wrote to standard error.

    Attributes:
        began: when, by `time.monotonic`.
    """

    popen: subprocess.Popen[str]
    lines: deque[str] = attrs.field(factory=lambda: deque(maxlen=_LINES))
    began: float = attrs.field(factory=time.monotonic)
    reader: threading.Thread | None = None

    def read(self) -> None:
        """Keep the last lines, so that the process never waits for a reader."""
        stream: IO[str] | None = self.popen.stderr
        assert stream is not None
        self.lines.extend(line for line in stream if line.strip())

    def code(self) -> int | None:
        """The exit code; None while it works."""
        code = self.popen.poll()
        if code is not None and self.reader is not None:
            self.reader.join(_CLOSING)
        return code

    def send(self, number: int) -> None:
        """Send it a signal, if it still works."""
        if self.popen.poll() is None:
            signals.send(self.popen.pid, number)

    def why(self) -> str:
        """Why it failed, in one line: its last message."""
        code = self.popen.returncode
        if code < 0:
            return signals.death(code)
        lines = [line.strip() for line in self.lines]
        notes = [number for number, line in enumerate(lines, start=1) if line.startswith(_NOTE)]
        message = lines[notes[-1] :] if notes else lines[-1:]  # which may have several lines after the run's note
        return printable("; ".join(message).replace(":; ", ": ")) or signals.death(code)


class Processes:
    """The processes that this one has started; as a context, none is left when it ends.

    Args:
        program: the command that each begins with.
        environment: further environment variables.
    """

    def __init__(self, program: Sequence[str], environment: Mapping[str, str]) -> None:
        self._program, self._environment = list(program), os.environ | environment
        self._started: list[Process] = []
        self._watched, self._held = os.pipe()

    def __enter__(self) -> Processes:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for one in self._started:
            if one.popen.poll() is None:
                signals.kill(one.popen.pid)
                one.popen.wait()
        os.close(self._held)
        os.close(self._watched)

    def start(self, arguments: Sequence[str]) -> Process:
        """Start one."""
        made = Process(
            subprocess.Popen(
                [*self._program, *arguments],
                env=self._environment,
                stdin=self._watched,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="backslashreplace",
                start_new_session=True,
            )
        )
        self._started.append(made)
        made.reader = threading.Thread(target=made.read, daemon=True)
        made.reader.start()
        return made
