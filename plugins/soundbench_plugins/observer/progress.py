"""What a run says while it trains: a bar on a terminal, plain lines elsewhere, and a line an epoch on both.

Everything goes to standard error; standard output is for what a program reads. The time left is that of the whole run,
from the steps done since this process began to count and the time they took, validation included.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from time import monotonic

from soundbench.contracts import RunInfo, hookimpl

__all__ = ["Progress"]


class Progress:
    """Speed, loss, learning rate and time left on standard error.

    Args:
        run: the run.
        every: seconds between lines within an epoch where there is no terminal; 0 for every one.
        width: characters of the bar.
    """

    def __init__(self, run: RunInfo, *, every: float = 10.0, width: int = 24) -> None:
        if every < 0:
            raise ValueError(f"every must be at least 0 seconds, is {every}")
        if width < 1:
            raise ValueError(f"width must be at least 1 character, is {width}")
        self.run, self.every, self.width = run, every, width
        self._drawn = 0
        self._spoken = monotonic()
        self._began: tuple[float, int] | None = None

    @hookimpl
    def run_started(self) -> None:
        """Time counts from here."""
        self._spoken = monotonic()

    @hookimpl
    def progressed(self, epoch: int, step: int, loss: float, rate: float, clips_per_second: float) -> None:
        """Draw the bar anew, or say a line now and then."""
        done = min(1.0, max(0.0, step / self.run.steps_per_epoch - (epoch - 1)))
        figures = (
            f"{done:4.0%}  loss {loss:.4f}  rate {rate:.1e}  {clips_per_second:.0f} clips/s  {self._left(step)} left"
        )
        if _on_terminal():
            self._draw(f"{self._epoch(epoch)} ", done, f" {figures}")
        elif monotonic() - self._spoken >= self.every:
            self._say(f"{self._epoch(epoch)} {figures}")

    @hookimpl
    def epoch_completed(self, epoch: int, row: Mapping[str, float]) -> None:
        """Say how the epoch went."""
        text = f"{self._epoch(epoch)}  loss {row['train_loss']:.4f}"
        if "validation_accuracy" in row:
            text += f"  validation {row['validation_accuracy']:.1%}, macro-F1 {row['validation_macro_f1']:.1%}"
        text += f"  rate {row['rate']:.1e}  {row['clips_per_second']:.0f} clips/s  {_time(row['seconds'])}"
        self._say(text)

    @hookimpl
    def run_finished(self) -> None:
        """Leave a clean line."""
        self._clear()

    @hookimpl
    def run_failed(self) -> None:
        """Leave the bar where it stopped, and what comes next a line of its own."""
        if self._drawn:
            _write("\n")
            self._drawn = 0

    def _epoch(self, epoch: int) -> str:
        return f"epoch {epoch:{len(str(self.run.epochs))}d}/{self.run.epochs}"

    def _left(self, step: int) -> str:
        """Time left of the run; unknown at first."""
        now = monotonic()
        if self._began is None:
            self._began = now, step
        began, first = self._began
        if step <= first:
            return "-:--"
        return _time((now - began) / (step - first) * (self.run.epochs * self.run.steps_per_epoch - step))

    def _draw(self, before: str, done: float, after: str) -> None:
        """The bar's line over the last one, within the terminal's width; the bar gives way to the figures."""
        columns = _columns() - 1
        width = min(self.width, columns - len(before) - len(after) - 2)
        bar = f"[{'#' * round(width * done):-<{width}}]" if width > 0 else ""
        line = f"{before}{bar}{after}"[:columns]
        _write("\r" + line.ljust(min(self._drawn, columns)))
        self._drawn = len(line)

    def _clear(self) -> None:
        if self._drawn:
            _write("\r" + " " * min(self._drawn, _columns() - 1) + "\r")
            self._drawn = 0

    def _say(self, line: str) -> None:
        self._clear()
        _write(line + "\n")
        self._spoken = monotonic()


def _on_terminal() -> bool:
    return sys.stderr is not None and sys.stderr.isatty()


def _columns() -> int:
    """The width of the terminal behind standard error; some report none."""
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns or 80
    except (OSError, ValueError):
        return 80


def _write(text: str) -> None:
    if sys.stderr is not None:
        sys.stderr.write(text)
        sys.stderr.flush()


def _time(seconds: float) -> str:
    """`0:42`, `12:34` or `1:02:03`."""
    minutes, rest = divmod(round(max(0.0, seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
