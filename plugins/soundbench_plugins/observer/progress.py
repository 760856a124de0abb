"""The progress of training: a bar on a terminal, plain lines elsewhere, and one line per epoch on both.

Everything goes to standard error; standard output is for machine-readable output. The time left is that of the whole
run, from the steps of this process so far and the time they took, validation included.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from soundbench.contracts import RunInfo, hookimpl
from soundbench.terminal import StatusLine, Throttle, bar, clock, columns, on_terminal

__all__ = ["Progress"]

_OF = "validation_"
_NAMES = {"macro_f1": "macro-F1", "mean_average_precision": "mAP"}


class Progress:
    """Speed, loss, learning rate and time left on standard error.

    Args:
        run: the run.
        every: seconds between lines within an epoch without a terminal; 0 for every report.
        width: width of the bar in characters.
    """

    def __init__(self, run: RunInfo, *, every: float = 10.0, width: int = 24) -> None:
        if every < 0:
            raise ValueError(f"every must be at least 0 seconds, is {every}")
        if width < 1:
            raise ValueError(f"width must be at least 1 character, is {width}")
        self.run, self.every, self.width = run, every, width
        self._line, self._throttle = StatusLine(), Throttle()
        self._began: tuple[float, int] | None = None

    @hookimpl
    def run_started(self) -> None:
        """Start the clock."""
        self._throttle.restart()

    @hookimpl
    def progressed(self, epoch: int, step: int, loss: float, rate: float, clips_per_second: float) -> None:
        """Update the bar, or print a line every few seconds."""
        done = min(1.0, max(0.0, step / self.run.steps_per_epoch - (epoch - 1)))
        figures = (
            f"{done:4.0%}  loss {loss:.4f}  lr {rate:.1e}  {clips_per_second:.0f} clips/s  {self._left(step)} left"
        )
        if on_terminal():
            self._line.show(self._barred(f"{self._epoch(epoch)} ", done, f" {figures}"))
        elif self._throttle.due(self.every):
            self._line.show(f"{self._epoch(epoch)} {figures}")

    @hookimpl
    def epoch_completed(self, epoch: int, row: Mapping[str, float]) -> None:
        """Print the results of the epoch."""
        text = f"{self._epoch(epoch)}  loss {row['train_loss']:.4f}"
        figures = [_figure(name.removeprefix(_OF), value) for name, value in row.items() if name.startswith(_OF)]
        if figures:
            text += f"  validation {', '.join(figures)}"
        text += f"  lr {row['rate']:.1e}  {row['clips_per_second']:.0f} clips/s  {clock(row['seconds'])}"
        self._line.say(text)
        self._throttle.restart()

    @hookimpl
    def run_finished(self) -> None:
        """Erase the bar."""
        self._line.erase()

    @hookimpl
    def run_failed(self) -> None:
        """Leave the bar as it is, and begin a new line."""
        self._line.leave()

    def _epoch(self, epoch: int) -> str:
        return f"epoch {epoch:{len(str(self.run.epochs))}d}/{self.run.epochs}"

    def _left(self, step: int) -> str:
        """Time left of the run; unknown at first."""
        now = time.monotonic()
        if self._began is None:
            self._began = now, step
        began, first = self._began
        if step <= first:
            return "-:--"
        return clock((now - began) / (step - first) * (self.run.epochs * self.run.steps_per_epoch - step))

    def _barred(self, before: str, done: float, after: str) -> str:
        """The bar between two texts, shortened to the terminal's width."""
        width = min(self.width, columns() - 1 - len(before) - len(after) - 2)
        return f"{before}{bar(done, width) if width > 0 else ''}{after}"


def _figure(name: str, value: float) -> str:
    """A figure of the validation set: a metric in percent; the loss, and what is no share, as a number."""
    shown = _NAMES.get(name, name.replace("_", " "))
    if name == "loss":
        return f"{shown} {value:.4f}"
    return f"{shown} {value:.1%}" if 0 <= value <= 1 else f"{shown} {value:.4g}"
